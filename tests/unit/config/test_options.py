"""The options of `up`."""

import argparse

import pytest

from config.stack import options


def parsed(*arguments):
    parser = argparse.ArgumentParser(exit_on_error=False)
    options.declare(parser)
    return parser.parse_args(arguments)


def test_ports__shift_together():
    ports = options.Ports(shift=parsed("--ports", "+100").ports)
    assert (ports.web, ports.manager, ports.flower, ports.redis) == (8100, 8180, 5655, 6479)
    assert [ports.worker_metrics(instance) for instance in (0, 1)] == [8190, 8191]


@pytest.mark.parametrize("text", ["x", "60000", "-7000", "1.5"])
def test_ports__outside_the_range_are_refused(text):
    with pytest.raises(argparse.ArgumentError, match="--ports"):
        parsed(f"--ports={text}")


@pytest.mark.parametrize("flag", ["--workers", "--concurrency"])
def test_counts__below_one_are_refused(flag):
    with pytest.raises(argparse.ArgumentError, match=flag):
        parsed(flag, "0")


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "soon"])
def test_grace__that_no_worker_would_take_is_refused(text):
    with pytest.raises(argparse.ArgumentError, match="--grace"):
        parsed(f"--grace={text}")


def test_grace__comes_from_the_setting_of_workers(monkeypatch):
    assert parsed().grace == options.DEFAULT_GRACE_SECONDS
    monkeypatch.setenv("WORKER_GRACE_SECONDS", "7")
    assert parsed().grace == 7


def test_concurrency__is_at_least_two():
    assert parsed().concurrency >= 2
