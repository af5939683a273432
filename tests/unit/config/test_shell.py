"""What `manage.py env` prints."""

import shlex
import subprocess
from pathlib import Path

import pytest

from config.embedded import layout
from config.stack import options, shell

DATABASE = "postgresql://engine@/engine?host=/a%20b/run/pg"


def evaluated(lines, *, show, path="/usr/bin:/bin"):
    """Return what a plain POSIX shell prints after evaluating the lines."""
    script = "\n".join([*lines, show])
    return subprocess.run(
        ["/bin/sh", "-euc", script],
        env={"PATH": path, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.fixture
def rooms(tmp_path):
    found = layout.Layout(var_dir=tmp_path / "it's var")
    found.prepare()
    return found


def lines_for(rooms, *, shift=0, redis_url="redis://:p@127.0.0.1:6379/0", database_url=DATABASE):
    return shell.exports(
        rooms=rooms,
        ports=options.Ports(shift=shift),
        database_url=database_url,
        redis_url=redis_url,
    )


def test_exports__survive_hostile_characters(rooms):
    password = "a'b$(touch /tmp/owned)\"c"
    url = f"redis://:{password.replace('/', '%2F')}@127.0.0.1:6379/0"
    shown = evaluated(lines_for(rooms, redis_url=url), show='printf %s "$REDISCLI_AUTH"')
    assert shown == password


def test_exports__give_libpq_socket_user_and_database(rooms):
    shown = evaluated(lines_for(rooms), show='echo "$PGHOST|$PGUSER|$PGDATABASE"')
    assert shown == "/a b/run/pg|engine|engine"


def test_exports__lead_redis_cli_to_an_unusual_port(rooms):
    lines = lines_for(rooms, redis_url="redis://:p@127.0.0.1:7000/2")
    wrapper = evaluated(lines, show="command -v redis-cli")
    assert wrapper == str(rooms.run_dir / "bin" / "redis-cli")
    assert '-p 7000 -n 2 "$@"' in (rooms.run_dir / "bin" / "redis-cli").read_text()


def test_exports__lead_curl_to_shifted_ports(rooms):
    home = evaluated(lines_for(rooms, shift=100), show='echo "$CURL_HOME"')
    assert 'connect-to = "localhost:8000:127.0.0.1:8100"' in Path(home, ".curlrc").read_text()


def test_exports__leave_curl_alone_on_the_usual_ports(rooms):
    assert not any("CURL_HOME" in line for line in lines_for(rooms))


@pytest.mark.parametrize(
    ("url", "flags"),
    [
        ("redis://:p@127.0.0.1:6379/0", ""),
        ("redis://:p@127.0.0.1:6400", "-p 6400"),
        ("redis://:p@cache.example:6379/3", "-h cache.example -n 3"),
        ("rediss://me:p@cache.example:6380/0", "-h cache.example -p 6380 --user me --tls"),
        ("unix:///run/redis.sock", "-s /run/redis.sock"),
    ],
)
def test_redis_flags__say_what_the_client_takes_from_its_command_line(url, flags):
    assert shlex.join(shell.redis_flags(url)) == flags


def test_postgres_variables__read_a_full_url():
    found = shell.postgres_variables("postgresql://me:p%40ss@db.example:5433/books?sslmode=require")
    assert {name: value for name, value in found.items() if value} == {
        "PGHOST": "db.example",
        "PGPORT": "5433",
        "PGUSER": "me",
        "PGPASSWORD": "p@ss",
        "PGDATABASE": "books",
        "PGSSLMODE": "require",
    }
