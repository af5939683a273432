"""Give a `manage.py` command its servers: the ones of the environment, embedded ones otherwise."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.embedded import layout, postgres, redis, servers

VARIABLES = {"postgres": "DATABASE_URL", "redis": "REDIS_URL"}
#: How tables are made and changed; what only works with them does not know it.
OWNER_VARIABLE = "DATABASE_OWNER_URL"
# They read no row; they still get URLs, because settings want them.
WITHOUT_SERVERS = frozenset(
    {"help", "version", "env", "doctor", "logs", "diffsettings", "makemessages", "compilemessages"}
)
ASKING_FLAGS = frozenset({"-h", "--help", "--version"})

_absent: list[str] = []
_uses: dict[str, servers.Use] = {}
_wishes: list[servers.Wish] = []


def rooms() -> layout.Layout:
    """Return the folder of this installation (`VAR_DIR`, otherwise `var/` beside the code)."""
    return layout.Layout(
        var_dir=Path(os.environ.get("VAR_DIR") or layout.DEFAULT_VAR_DIR).resolve()
    )


def missing() -> list[str]:
    """Return the servers no variable names; production never falls back to embedded ones."""
    if os.environ.get("DJANGO_SETTINGS_MODULE", "").endswith(".production"):
        return []
    return [
        name
        for name, variable in VARIABLES.items()
        if not os.environ.get(variable) and not os.environ.get(f"{variable}_FILE")
    ]


def descriptors() -> list[int]:
    """Return the descriptors that keep the embedded servers up while any process has them open."""
    return [use.descriptor for use in _uses.values()]


def idle() -> list[str]:
    """Return the embedded servers this installation would use and nobody keeps right now."""
    return [name for name in _absent if not servers.Wish(name=name, rooms=rooms()).kept()]


def revive() -> list[str]:
    """Start the servers this process uses whose keeper is gone; return their names."""
    gone = [wish for wish in _wishes if not wish.kept()]
    for wish in gone:
        wish.revive()
    return [wish.name for wish in gone]


@contextmanager
def provision(
    argv: list[str],
    *,
    redis_port: int = redis.DEFAULT_PORT,
    announce: servers.Announce | None = None,
    wait: bool = False,
) -> Iterator[None]:
    """Put DATABASE_URL and REDIS_URL into the environment; keep embedded servers up meanwhile."""
    absent = missing()
    _absent[:] = absent
    if not absent:
        yield
        return
    place = rooms()
    if not set(argv[1:2]) - WITHOUT_SERVERS or ASKING_FLAGS & set(argv):
        os.environ.update(addresses(place, only=absent))
        yield
        return
    place.prepare()
    _wishes[:] = [
        servers.Wish(name=name, rooms=place, port=redis_port if name == "redis" else None)
        for name in absent
    ]
    with servers.using(_wishes, announce=announce, wait=wait) as used:
        _uses.update(used)
        for name, use in used.items():
            os.environ[VARIABLES[name]] = use.url
            if name == "postgres":
                os.environ[OWNER_VARIABLE] = use.owner_url
        yield


def addresses(place: layout.Layout, *, only: list[str]) -> dict[str, str]:
    """Return where the embedded servers are or will be, without starting them."""
    found = {}
    for name in only:
        record = servers.Wish(name=name, rooms=place).record()
        if record.get("url"):
            found[VARIABLES[name]] = record["url"]
            if record.get("owner_url") and name == "postgres":
                found[OWNER_VARIABLE] = record["owner_url"]
        elif name == "postgres":
            found[VARIABLES[name]] = postgres.url_of(place.run_dir / "pg")
            found[OWNER_VARIABLE] = postgres.url_of(place.run_dir / "pg", user=postgres.USER)
        else:
            port = redis.remembered_port(place) or redis.DEFAULT_PORT
            secret_known = (place.redis_dir / "password").exists()
            found[VARIABLES[name]] = (
                redis.url_of(place, port=port) if secret_known else f"redis://{redis.HOST}:{port}/0"
            )
    return found
