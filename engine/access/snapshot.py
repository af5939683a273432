"""What a process knows about keys and revocations: asked for once a second at most, for all.

A token is judged by what the database said at most BOUND_SECONDS ago. In an idle process nobody
asks; then the first request does. With the database away, the last answer is good for
STALE_SECONDS and then nobody is let in: refused like everything else that needs the database.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from django.db.utils import OperationalError

from engine import sql
from engine.access import keyring, versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.access.tokens import Claims, Keyring

log = structlog.get_logger(__name__)

#: From this age on one thread asks again, beside the others.
FRESH_SECONDS = 0.5
#: From this age on nobody is judged by it: they wait for the answer. The promise is one second.
BOUND_SECONDS = 0.9
#: How old it may get while the database does not answer, and how long a request waits for another's
#: question.
STALE_SECONDS = 5.0

CHANGES = """
SELECT kind, value, version, extract(epoch FROM expires_at)::bigint AS expires
FROM engine_revocation WHERE version > %(known)s AND expires_at > clock_timestamp()"""


@dataclass(frozen=True, slots=True)
class Revocations:
    """What is refused; the numbers are (access version, expiry in seconds of the epoch)."""

    version: int = 0
    token: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    sign_in: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    subject: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    user: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def cover(self, claims: Claims) -> bool:
        """Tell whether a token with these claims is refused."""
        if claims.id in self.token or claims.sign_in in self.sign_in:
            return True
        found = self.subject.get(claims.subject)
        if found is not None and found[0] > claims.version:
            return True
        # Refresh tokens of a user are judged by their sign-in, in the database.
        if claims.user_id is None or claims.kind == "refresh":
            return False
        found = self.user.get(str(claims.user_id))
        return found is not None and found[0] > claims.version

    def brought_up(self, version: int) -> Revocations:
        """Return what is refused at a version, reading only what is new."""
        known = self if self.version <= version else Revocations()
        now = time.time()
        kinds: dict[str, dict[str, tuple[int, int]]] = {
            kind: {value: it for value, it in getattr(known, kind).items() if it[1] > now}
            for kind in ("token", "sign_in", "subject", "user")
        }
        for row in sql.rows(CHANGES, {"known": known.version}):
            kinds[row.kind][row.value] = (row.version, row.expires)
        return Revocations(version, **kinds)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Keys and revocations at one version."""

    keys: Keyring
    revocations: Revocations


class _Process:
    """The snapshot of this process, and when the question was put that it answers (monotonic)."""

    lock = threading.Lock()
    known: tuple[Snapshot | None, float] = (None, float("-inf"))


def current(*, since: float | None = None) -> Snapshot:
    """Return what tokens are judged by now.

    since: a moment of the monotonic clock; the answer was asked for later than that. Raises an
    error of the connection when the database does not answer for longer than STALE_SECONDS.
    """
    came = time.monotonic()
    found, asked = _Process.known
    if since is None and came - asked < FRESH_SECONDS and found is not None:
        return found
    urgent = found is None or since is not None or came - asked >= BOUND_SECONDS
    if not _Process.lock.acquire(timeout=STALE_SECONDS if urgent else 0):
        if found is not None and (not urgent or came - asked < STALE_SECONDS):
            return found
        raise OperationalError("The database did not say in time which tokens are revoked.")
    try:
        return _asked(since=came - FRESH_SECONDS if since is None else since)
    finally:
        _Process.lock.release()


def forget() -> None:
    """Know nothing any more: the next request asks."""
    with _Process.lock:
        _Process.known = (None, float("-inf"))


def _asked(*, since: float) -> Snapshot:
    """Ask the database, unless somebody did since; the caller holds the lock."""
    found, asked = _Process.known
    if found is not None and asked > since:
        return found
    began = time.monotonic()
    try:
        answer = _answer(found)
    except sql.CONNECTION_ERRORS as exc:
        if found is None or began - asked >= STALE_SECONDS:
            raise
        log.warning(
            "revocations_unknown", seconds=round(began - asked, 1), error=type(exc).__name__
        )
        return found
    _Process.known = (answer, began)
    return answer


def _answer(found: Snapshot | None) -> Snapshot:
    version = versions.current()
    if found is not None and found.revocations.version == version:
        return found
    known = found.revocations if found else Revocations()
    keys = keyring.load(found.keys if found else None)
    return Snapshot(keys, known.brought_up(version))
