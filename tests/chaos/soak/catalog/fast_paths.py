"""Count, in the processes of the soak, how often the engine takes each of its fast paths.

Importing this module, as every process of the soak does, wraps three functions from outside; each
event is one line, appended to a file of the process with one write: it survives kill -9.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from engine.batches import Batch
from engine.transitions import claims
from tests.chaos.soak import marks
from tests.chaos.soak.fast_paths import FOLDER, FastPath

_files: dict[int, int] = {}


def _note(path: FastPath, times: int = 1) -> None:
    pid = os.getpid()
    if pid not in _files:
        name = Path(os.environ[marks.FOLDER]) / FOLDER / f"{pid}.log"
        _files[pid] = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(_files[pid], f"{path.value}\n".encode() * times)


def _install() -> None:
    claim, hand_back, accept = claims.claim, claims.hand_back, Batch.accept

    @functools.wraps(claim)
    def claimed(**values: Any) -> Any:
        found = claim(**values)
        if len(found) > 1:
            _note(FastPath.CHUNK)
        return found

    @functools.wraps(hand_back)
    def handed_back(**values: Any) -> Any:
        found = hand_back(**values)
        if found:
            _note(FastPath.HAND_BACK)
        return found

    @functools.wraps(accept)
    def accepted(self: Batch, completion: Any) -> None:
        # Called when it is committed; what is held goes on in this process.
        if len(completion.done) > 1:
            _note(FastPath.GROUP)
        if completion.held:
            _note(FastPath.STICKY, len(completion.held))
        accept(self, completion)

    claims.claim, claims.hand_back = claimed, handed_back
    Batch.accept = accepted  # type: ignore[method-assign]


if marks.FOLDER in os.environ:
    _install()
