"""What the reader of the runbook takes, what it refuses, and what it calls seen."""

from __future__ import annotations

import pytest

from tests.acceptance import runbook

DOCUMENT = """\
# Runbook

## Daily Operations

Look.

```bash
curl one
curl two
```

```text
1
```

### ManagerDown

**What it means.** No manager.

**Find the cause.**

```bash
look
```

Within 30 s:

```text
gone
```

**End it.** Start it.

```sh
systemctl start manager
```
"""


def test_sections__are_read_with_their_commands_and_what_they_show():
    _, daily, alert = runbook.sections(DOCUMENT)
    assert (daily.title, daily.anchor, daily.level) == ("Daily Operations", "daily-operations", 2)
    assert daily.blocks == [
        runbook.Block(line=7, commands="curl one\ncurl two", shows=("1",), within=0.0, part="")
    ]
    assert (alert.anchor, alert.chapter) == ("managerdown", "Daily Operations")
    assert alert.parts == list(runbook.PARTS)
    assert [(block.within, block.part) for block in alert.blocks] == [(30.0, "Find the cause.")]
    assert alert.elsewhere == ["systemctl start manager"]


def test_sections__say_in_words_that_nothing_is_seen():
    (section,) = runbook.sections("## Chapter\n\n```bash\nlook\n```\n\nNothing is seen.\n")
    assert [block.shows for block in section.blocks] == [()]


def test_sections__know_which_commands_end_or_lose_something():
    shown = "```bash\n{}\n```\n\n```text\nseen\n```\n\n"
    text = (
        f"## One\n\n{shown.format('look')}Now.\n\n**Destructive:** all of it is\nlost.\n\n"
        f"{shown.format('lose')}Then.\n\n{shown.format('look')}## Two\n\n{shown.format('look')}"
    )
    found = [block.destructive for section in runbook.sections(text) for block in section.blocks]
    assert found == [False, True, False, False]


@pytest.mark.parametrize(
    ("below", "why"),
    [
        ("```bash\nlook\n```\n", "not said what these commands show"),
        ("```bash\nlook\n```\nprose\n```text\nseen\n```\n", "not said what these commands show"),
        ("```bash\nlook\n```\n```bash\nlook\n```\n", "not said what these commands show"),
        ("```text\nseen\n```\n", "by no commands"),
        ("```bash\nlook\n```\n```text\n…\n```\n", "anything"),
        ("```bash\nlook\n```\n```text\n```\n", "nothing"),
        ("```console\nlook\n```\n", "no block of ours"),
        ("```\nlook\n```\n", "no block of ours"),
        ("- item\n  ```bash\n  look\n  ```\n", "no block of ours"),
        ("    python manage.py up\n", "indented"),
        ("<pre>python manage.py up</pre>\n", "HTML"),
        ("```bash\nlook\n", "no end"),
        ("~~~sh x\nlook\n~~~\n", "no block of ours"),
    ],
)
def test_sections__refuse_commands_that_nobody_would_run_or_compare(below, why):
    with pytest.raises(runbook.RunbookError, match=why):
        runbook.sections(f"## Chapter\n\n{below}")


@pytest.mark.parametrize(
    ("shows", "seen"),
    [
        ("", ""),
        ("a\nb", "a\nb\n"),
        ("a  b", "a b   \n\n"),
        ("run … ended", "run 7 of 9 ended"),
        ("a…", "a"),
        ("…\nlast", "last"),
        ("…\nlast", "one\ntwo\nlast"),
        ("first\n…\nlast\n…", "first\nlast\nlast\nmore"),
        ("…\nb\n…\nb", "b\na\nb"),
    ],
)
def test_difference__is_none_when_everything_fits(shows, seen):
    assert runbook.difference(shows.splitlines(), seen) == ""


@pytest.mark.parametrize(
    ("shows", "seen", "told"),
    [
        ("", "a", "not to be seen: a"),
        ("a", "", "not seen: a"),
        ("a", "a\nb", "not to be seen: b"),
        ("a\nb", "b\na", "not seen: a"),
        ("run … ended", "run 7 began", "not seen: run … ended"),
        ("a.c", "abc", "not seen: a.c"),
        ("…\nlast", "last\nmore", "not to be seen: more"),
        ("first\n…\nlast", "first\n1\n2", "not seen: last"),
        ("a", "xa", "not seen: a"),
    ],
)
def test_difference__names_the_first_line_that_does_not_fit(shows, seen, told):
    assert runbook.difference(shows.splitlines(), seen) == told
