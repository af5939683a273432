"""Say why a statement cannot be used, in words its owner can act on."""

from __future__ import annotations


class RefusedError(Exception):
    """Refuse the whole file: no retry will help, a person has to change something.

    `code` is a stable snake_case word; `message` names what was found, why it cannot be used and
    what to do. It is shown to people, so it quotes at most short cells, never whole rows.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
