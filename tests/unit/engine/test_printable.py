"""What others wrote stays on its line and moves nothing on a terminal."""

from __future__ import annotations

import json

from engine import printable

#: Clears the screen, renames the window, the same in one character of C1, and turns the direction.
NASTY = "a\x1b[2J\x1b]0;x\x07b\x9b2J\u202ec\r\nforged\u2028\ud800"


def test_line__obeys_nothing_and_says_all():
    said = printable.line(NASTY)
    assert said.isprintable()
    assert said.startswith("a\\x1b[2J\\x1b]0;x\\x07b\\x9b2J\\u202ec\\x0d\\x0aforged")
    assert printable.line("Zürich, 東京: “ok” – 5 €") == "Zürich, 東京: “ok” – 5 €"


def test_lines__keep_their_breaks():
    assert printable.lines("a\n\x1bb") == "a\n\\x1bb"


def test_document__says_the_same_and_obeys_nothing():
    given = {NASTY: [NASTY]}
    said = printable.document(json.dumps(given, indent=1, ensure_ascii=False))
    assert said.replace("\n", "").isprintable()
    assert json.loads(said) == given
