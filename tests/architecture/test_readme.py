"""The commands that README shows are commands that there are, with the arguments they take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand

README = Path(__file__).parents[2] / "README.md"
#: Words of README that stand for what only its reader knows.
STANDS_FOR = {"ID": "1", "RUN": "01a22b78-4f8c-773a-a39d-56b96463ce04"}


def shown() -> list[str]:
    """Return every command line that README shows, those inside of `$(…)` too."""
    text = README.read_text().replace("\\\n", " ")
    found = re.findall(r"python manage\.py ([^\n`)]+)", text)
    return [line.partition(" #")[0].strip() for line in found]


def test_readme__shows_commands():
    assert len(shown()) > 25


@pytest.mark.parametrize("line", shown())
def test_readme__shows_a_command_as_it_is_called(line):
    name, *words = (STANDS_FOR.get(word, word) for word in shlex.split(line))
    found = load_command_class(get_commands()[name], name)
    assert isinstance(found, BaseCommand)
    found.create_parser("manage.py", name).parse_args(words)
