"""Embedded PostgreSQL and Redis: their lifetime follows their users, whatever dies."""

import json
import os
import signal
import socket
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from config.embedded import layout, servers
from config.embedded.errors import EmbeddedError
from tests.eventually import eventually
from tests.integration.embedded.conftest import alive_in

USE = """
import pathlib, sys
from config.embedded import servers
with servers.session(var_dir=pathlib.Path(sys.argv[1]), durable=False) as urls:
    print(urls.database_url)
    sys.stdin.readline()
"""


def record(var_dir, name):
    return json.loads((var_dir / "run" / f"{name}.json").read_text())


def ask(url, sql):
    with psycopg.connect(url, autocommit=True) as link:
        return link.execute(sql).fetchone()[0]


def test_session__gives_both_servers_and_takes_them_away(var_dir):
    with servers.session(var_dir=var_dir, durable=False) as urls:
        assert ask(urls.database_url, "SHOW server_version").startswith("18.")
        with redis.Redis.from_url(urls.redis_url) as client:
            assert client.ping()
    assert alive_in(var_dir) == []


def test_session__is_durable_unless_told_otherwise(var_dir):
    with servers.session(var_dir=var_dir) as urls:
        kept = ["fsync", "full_page_writes", "synchronous_commit", "listen_addresses"]
        settings = [ask(urls.database_url, f"SHOW {name}") for name in kept]
        with redis.Redis.from_url(urls.redis_url) as client:
            wanted = "maxmemory-policy", "appendonly", "appendfsync", "save", "bind"
            configuration = [client.config_get(name)[name] for name in wanted]
    assert settings == ["on", "on", "on", ""]
    assert configuration == ["noeviction", "yes", "everysec", "", "127.0.0.1"]


def test_redis__refuses_who_does_not_know_the_password(var_dir):
    with servers.session(var_dir=var_dir, durable=False) as urls:
        port = redis.connection.parse_url(urls.redis_url)["port"]
        with redis.Redis(port=port) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_session__the_last_user_out_stops_the_servers(var_dir, script):
    with servers.session(var_dir=var_dir, durable=False):
        other = script(USE, var_dir)
        url = other.stdout.readline().strip()
    assert ask(url, "SELECT 1") == 1
    other.stdin.write("\n")
    other.stdin.flush()
    assert other.wait(20) == 0
    assert alive_in(var_dir) == []


def test_session__servers_stop_when_their_only_user_is_killed(var_dir, script):
    user = script(USE, var_dir)
    user.stdout.readline()
    user.kill()
    eventually(lambda: not alive_in(var_dir), within=15, what="servers outlived their user")


def test_keeper__starts_a_killed_server_again_with_its_data(var_dir):
    with servers.session(var_dir=var_dir) as urls:
        with psycopg.connect(urls.database_url) as link:
            link.execute("CREATE TABLE kept AS SELECT 7 AS n")
        before = record(var_dir, "postgres")["server"]["pid"]
        os.kill(before, signal.SIGKILL)

        def again():
            found = record(var_dir, "postgres")
            return found["ready"] and found["server"]["pid"] != before

        eventually(again, within=20)
        assert ask(urls.database_url, "SELECT n FROM kept") == 7


def test_keeper__starts_a_killed_redis_again_on_the_same_port(var_dir):
    with servers.session(var_dir=var_dir, redis_port=7100) as urls:
        before = record(var_dir, "redis")["server"]["pid"]
        os.kill(before, signal.SIGKILL)

        def answers():
            found = record(var_dir, "redis")
            if not found["ready"] or found["server"]["pid"] == before:
                return False
            with redis.Redis.from_url(urls.redis_url) as client:
                return client.ping()

        eventually(answers, within=20)


def test_session__recovers_when_keeper_and_server_were_killed(var_dir):
    with servers.session(var_dir=var_dir, durable=False):
        for name in ("postgres", "redis"):
            found = record(var_dir, name)
            for role in ("keeper", "server"):
                os.kill(found[role]["pid"], signal.SIGKILL)
    with servers.session(var_dir=var_dir, durable=False) as urls:
        assert ask(urls.database_url, "SELECT 1") == 1


@pytest.mark.parametrize("holder", ["stranger", "dead"])
def test_session__believes_no_lock_file_of_a_recycled_pid(var_dir, holder):
    with servers.session(var_dir=var_dir, durable=False):
        pass
    pid = os.getpid() if holder == "stranger" else 2**22 - 7
    (var_dir / "postgres" / "postmaster.pid").write_text(f"{pid}\n{var_dir}/postgres\n1\n5432\n")
    lock = var_dir / "run" / "pg" / f"{layout.POSTGRES_SOCKET_NAME}.lock"
    lock.write_text(f"{pid}\n")
    with servers.session(var_dir=var_dir, durable=False) as urls:
        assert ask(urls.database_url, "SELECT 1") == 1


def test_session__says_what_to_do_with_data_of_another_major_version(var_dir):
    with servers.session(var_dir=var_dir, durable=False):
        pass
    (var_dir / "postgres" / "PG_VERSION").write_text("16\n")
    with (
        pytest.raises(EmbeddedError, match=r"written by PostgreSQL 16 and this is 18: move it"),
        servers.session(var_dir=var_dir, durable=False),
    ):
        pass


def test_session__says_why_postgresql_does_not_start(var_dir):
    with servers.session(var_dir=var_dir, durable=False):
        pass
    (var_dir / "postgres" / "global" / "pg_control").unlink()
    with (
        pytest.raises(EmbeddedError, match=r"PostgreSQL did not start: .*postgresql\.log"),
        servers.session(var_dir=var_dir, durable=False),
    ):
        pass


def test_session__half_made_data_is_made_again(var_dir):
    fresh = var_dir / "postgres.new"
    fresh.mkdir(parents=True)
    (fresh / "PG_VERSION").write_text("18\n")
    with servers.session(var_dir=var_dir, durable=False) as urls:
        assert ask(urls.database_url, "SELECT 1") == 1


def test_session__moves_with_its_folder(var_dir, tmp_path):
    with (
        servers.session(var_dir=var_dir, durable=False) as urls,
        psycopg.connect(urls.database_url) as link,
    ):
        link.execute("CREATE TABLE moved AS SELECT 1 AS n")
    elsewhere = tmp_path / "an other, place"
    var_dir.rename(elsewhere)
    with servers.session(var_dir=elsewhere, durable=False) as urls:
        assert ask(urls.database_url, "SELECT n FROM moved") == 1


def test_session__works_below_a_folder_too_deep_for_a_socket(tmp_path):
    deep = tmp_path / ("d" * 120) / "var"
    with servers.session(var_dir=deep, durable=False) as urls:
        assert ask(urls.database_url, "SELECT 1") == 1
    Path((deep / "run" / "socket_dir").read_text().strip()).rmdir()


def test_redis__takes_the_next_port_and_keeps_it(var_dir):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 7200))
        holder.listen()
        with servers.session(var_dir=var_dir, durable=False, redis_port=7200) as urls:
            assert ":7201/" in urls.redis_url
    with servers.session(var_dir=var_dir, durable=False, redis_port=7200) as urls:
        assert ":7201/" in urls.redis_url


def test_redis__starts_empty_when_its_file_is_broken(var_dir):
    with (
        servers.session(var_dir=var_dir, redis_port=7300) as urls,
        redis.Redis.from_url(urls.redis_url) as client,
    ):
        for number in range(200):
            client.set(f"key{number}", "value" * 10)
    kept = var_dir / "redis" / "appendonly.aof"
    content = bytearray(kept.read_bytes())
    content[1000:1100] = b"\xff" * 100
    kept.write_bytes(content)
    with (
        servers.session(var_dir=var_dir, redis_port=7300) as urls,
        redis.Redis.from_url(urls.redis_url) as client,
    ):
        assert client.dbsize() == 0
    assert list((var_dir / "redis").glob("appendonly.aof.refused-*"))


def test_keeper__children_of_a_user_keep_the_servers_up(var_dir, script):
    """`up` hands its hold on to what it starts, so that a drain outlives its own death."""
    parent = script(
        """
import pathlib, subprocess, sys
from config.embedded import layout, servers
rooms = layout.Layout(var_dir=pathlib.Path(sys.argv[1])); rooms.prepare()
use = servers.Wish(name="postgres", rooms=rooms, durable=False).acquire()
child = subprocess.Popen(["sleep", "60"], pass_fds=[use.descriptor], stdout=subprocess.DEVNULL)
print(child.pid, use.url)
sys.stdin.readline()
""",
        var_dir,
    )
    pid, url = parent.stdout.readline().split(maxsplit=1)
    parent.kill()
    parent.wait()
    lingered = psutil.Process(record(var_dir, "postgres")["keeper"]["pid"])
    with pytest.raises(psutil.TimeoutExpired):
        lingered.wait(timeout=4)
    assert ask(url.strip(), "SELECT 1") == 1
    os.kill(int(pid), signal.SIGKILL)
    eventually(lambda: not alive_in(var_dir), within=15)


def test_postgres__gives_the_application_a_role_that_owns_nothing(var_dir):
    with servers.session(var_dir=var_dir, durable=False) as urls:
        with psycopg.connect(urls.database_url) as owner:
            owner.execute("CREATE TABLE later (n int)")
        with psycopg.connect(urls.application_url, autocommit=True) as application:
            application.execute("INSERT INTO later VALUES (1)")
            for statement in ("TRUNCATE later", "DROP TABLE later", "CREATE TABLE mine (n int)"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    application.execute(statement)


def test_postgres__converts_data_of_before_there_were_two_roles(var_dir):
    """As the version before left it: one role, which owns everything."""
    columns = "actor, source, action, outcome, object_kind, object_id, address, request_id"
    with (
        servers.session(var_dir=var_dir, durable=False) as urls,
        psycopg.connect(urls.database_url) as owner,
    ):
        owner.execute("DROP OWNED BY engine_app")
        owner.execute("DROP ROLE engine_app")
        texts = ", ".join(f"{name} text" for name in columns.split(", "))
        owner.execute(f"CREATE TABLE engine_auditrecord ({texts}, before jsonb, after jsonb)")
        owner.execute("CREATE TABLE kept AS SELECT 7 AS n")
    with (
        servers.session(var_dir=var_dir, durable=False) as urls,
        psycopg.connect(urls.application_url, autocommit=True) as application,
    ):
        assert application.execute("UPDATE kept SET n = n RETURNING n").fetchone() == (7,)
        application.execute("INSERT INTO engine_auditrecord (actor) VALUES ('ann')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            application.execute("UPDATE engine_auditrecord SET actor = 'eve'")
