#!/usr/bin/env python
"""Run the commands of the AI Business Engine."""

import os
import sys
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

from config.embedded import provision
from config.embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

INTERRUPTED = 130


def main() -> None:
    """Provide the servers, then hand over to Django."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
    try:
        with provided():
            # Settings read the addresses of the servers, so not a line earlier.
            from django.core.management import execute_from_command_line  # noqa: PLC0415

            execute_from_command_line(sys.argv)
    except (EmbeddedError, ImproperlyConfigured) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def provided() -> "AbstractContextManager[None]":
    """Return what surrounds the command: `up` needs more than servers."""
    if sys.argv[1:2] == ["up"] and not provision.ASKING_FLAGS & set(sys.argv):
        from config.stack import startup  # noqa: PLC0415 - only `up` pays for it

        return startup.prepared(sys.argv)
    return provision.provision(sys.argv)


if __name__ == "__main__":
    main()
