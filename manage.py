#!/usr/bin/env python
"""Run the commands of the AI Business Engine."""

import os
import sys

from config.embedded import provision
from config.embedded.errors import EmbeddedError


def main() -> None:
    """Provide the servers, then hand over to Django."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
    try:
        with provision.provision(sys.argv):
            from django.core.management import execute_from_command_line  # noqa: PLC0415 - after the URLs

            execute_from_command_line(sys.argv)
    except EmbeddedError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
