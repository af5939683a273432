"""Which secrets production refuses: unset, short, guessable, published, or used twice."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: `openssl rand -hex 16` has as many, and nothing shorter can be trusted to be random.
MIN_CHARACTERS = 32
#: What the characters of a value tell at least, if each were drawn as often as it is seen, in bits.
#: 32 random hexadecimal digits have 110 to 128 as a rule and one in a million has 90 (half a
#: million were drawn: none below 88); words, repetitions and keyboard rows have less.
MIN_BITS = 75.0
#: A server's password is not always ours to make longer.
MIN_PASSWORD_CHARACTERS = 12
#: Words of placeholders, of examples in documentation, and of our own tests and defaults.
PLACEHOLDERS = (
    "change",
    "default",
    "django-insecure",
    "dont-use",
    "example",
    "only-tests",
    "password",
    "placeholder",
    "replace",
    "secret",
    "your-",
    "your_",
)
#: What servers are shipped or shown with.
DEFAULT_PASSWORDS = frozenset(
    {"admin", "changeme", "engine", "guest", "password", "postgres", "redis", "root", "secret"}
)
MAKE = "make one with: openssl rand -hex 32"


def check(secrets: Mapping[str, Iterable[str]], passwords: Mapping[str, str]) -> None:
    """Raise ImproperlyConfigured with one line: the variable, what is wrong with it, the remedy.

    secrets: variable → its values; one that must be set is given as an empty value.
    passwords: variable → the password in its URL, empty for none. No value is ever repeated.
    """
    given: list[tuple[str, str]] = []
    for name, values in secrets.items():
        for value in values:
            if problem := _weakness(value):
                raise ImproperlyConfigured(f"{name} {problem}; {MAKE}")
            given.append((name, value))
    for name, password in passwords.items():
        if problem := _default(password):
            raise ImproperlyConfigured(f"{name}: its password {problem}; change it on the server")
        if password:
            given.append((name, password))
    for (one, value), (other, same) in combinations(given, 2):
        if value == same:
            raise ImproperlyConfigured(
                f"{one} and {other} have the same secret: who learns one has the other; {MAKE}"
            )


def _weakness(value: str) -> str:
    if not value:
        return "is not set"
    if len(value) < MIN_CHARACTERS:
        return f"has {len(value)} characters, {MIN_CHARACTERS} are needed"
    if any(word in value.lower() for word in PLACEHOLDERS):
        return "is a placeholder or a value that was published"
    if value in (value + value)[1:-1]:
        return "repeats itself"
    if _bits(value) < MIN_BITS:
        return "can be guessed: too few different characters"
    return ""


def _bits(value: str) -> float:
    size = len(value)
    return -sum(times * math.log2(times / size) for times in Counter(value).values())


def _default(password: str) -> str:
    if not password:
        return ""
    if password.lower() in DEFAULT_PASSWORDS:
        return "is one that servers are shipped with"
    if len(password) < MIN_PASSWORD_CHARACTERS:
        return f"has {len(password)} characters, {MIN_PASSWORD_CHARACTERS} are needed"
    return ""
