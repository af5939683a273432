"""Texts that others wrote, made fit for a terminal.

A terminal obeys some characters (it moves its cursor, renames its window, answers as if somebody
had typed), turns the direction of others, and a line break forges a line. They are spelled out.
"""

from __future__ import annotations

_BREAK = ord("\n")
_BYTE = 0x100
#: C0 with DEL, C1, the separators of lines and paragraphs, and what changes the direction.
_OBEYED = (
    *range(0x20),
    *range(0x7F, 0xA0),
    *(0x2028, 0x2029),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    # Halves of a character of UTF-16: no terminal takes them, writing them fails.
    *range(0xD800, 0xE000),
)
_SPELLED = {code: f"\\x{code:02x}" if code < _BYTE else f"\\u{code:04x}" for code in _OBEYED}
_SPELLED_BUT_BREAKS = {code: text for code, text in _SPELLED.items() if code != _BREAK}
_SPELLED_IN_JSON = {code: f"\\u{code:04x}" for code in _OBEYED if code != _BREAK}


def line(text: str) -> str:
    r"""Return a text that stays on its line and moves nothing.

    >>> line("a\x1b[2J\nb")
    'a\\x1b[2J\\x0ab'
    """
    return text.translate(_SPELLED)


def lines(text: str) -> str:
    """Return a text of several lines, which moves nothing."""
    return text.translate(_SPELLED_BUT_BREAKS)


def document(text: str) -> str:
    """Return encoded JSON that says the same; what is spelled out stands in its strings only."""
    return text.translate(_SPELLED_IN_JSON)
