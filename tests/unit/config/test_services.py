"""The processes of an installation on one machine."""

import socket

from config.stack import options, services


def team(**changes):
    wanted = {
        "ports": options.Ports(shift=7),
        "queues": ["finance", "life"],
        "workers": 2,
        "concurrency": 3,
        "flower_login": "operator:s3cret",
    }
    return {service.name: service for service in services.all_of(**{**wanted, **changes})}


def test_services__are_those_of_the_contract():
    assert list(team()) == ["web", "manager", "orchestrator", "worker1", "worker2", "flower"]


def test_services__keep_passwords_off_command_lines():
    flower = team()["flower"]
    assert "s3cret" not in " ".join(flower.command)
    assert flower.environment["FLOWER_BASIC_AUTH"] == "operator:s3cret"


def test_services__listen_on_this_machine_only():
    command = " ".join(team()["web"].command)
    assert "--host 127.0.0.1 --port 8007" in command
    assert "--address=127.0.0.1 --port=5562" in " ".join(team()["flower"].command).replace(
        "  ", " "
    )


def test_worker__serves_every_department():
    command = team()["worker2"].command
    assert command[command.index("-Q") + 1] == "finance,life"
    assert command[command.index("-c") + 1] == "3"


def test_workers__know_the_grace_that_their_supervisor_gives_them():
    found = team(grace_seconds=12.5)
    for name in ("orchestrator", "worker1", "worker2"):
        assert found[name].environment["WORKER_GRACE_SECONDS"] == "12.5"


def test_taken__names_the_service_whose_port_is_used():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        shift = holder.getsockname()[1] - options.MANAGER_PORT
        found = services.taken(list(team(ports=options.Ports(shift=shift)).values()))
    assert "manager" in {service.name for service in found}


def test_workers__stand_back_behind_those_who_answer():
    standing_back = {name for name, service in team().items() if service.niceness}
    assert standing_back == {"orchestrator", "worker1", "worker2"}
