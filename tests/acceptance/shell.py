"""A shell as an operator has it open: variables and functions live on from command to command."""

from __future__ import annotations

import os
import select
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: How long commands may take in all, in seconds: more than any deadline a test sets.
LONGEST_SECONDS = 90.0


class Shell:
    """A bash in a folder; `run` gives what the commands wrote, standard error included."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *, scratch: Path) -> None:
        self._script = scratch / "commands.sh"
        self._output = scratch / "seen.txt"
        self._heard, said = os.pipe()
        self._said = said
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            # Unbuffered: both streams in the order in which a terminal shows them.
            env={**environment, "PYTHONUNBUFFERED": "1", "PS1": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[said],
            start_new_session=True,
            text=True,
        )

    def run(self, commands: str) -> str:
        """Run them as if they were typed; return what is seen on the screen."""
        self._script.write_text(commands + "\n")
        assert self._process.stdin is not None
        # Nobody types an answer; the end is said where no command writes.
        line = f". '{self._script}' </dev/null >'{self._output}' 2>&1; echo . >&{self._said}\n"
        self._process.stdin.write(line)
        self._process.stdin.flush()
        ready, _, _ = select.select([self._heard], [], [], LONGEST_SECONDS)
        seen = self._output.read_text(errors="replace") if self._output.exists() else ""
        if not ready:
            raise AssertionError(f"still at it after {LONGEST_SECONDS} s:\n{commands}\n{seen}")
        os.read(self._heard, 100)
        return seen

    def close(self) -> None:
        """End the shell; what it left in the background goes on."""
        self._process.kill()
        self._process.communicate()
        os.close(self._heard)
        os.close(self._said)
