"""Read `deploy/RUNBOOK.md` exactly: its sections, its commands, and what each is to show.

Three kinds of block stand in it, and no other is accepted:

- `bash`: commands. Behind it stands, alone or after the one line "Within N s:", its `text`; or the
  line "Nothing is seen." Before it stands "**Destructive:**" and what is lost or ended, where the
  commands do that.
- `text`: what is seen, line by line, standard error included. A `…` stands for anything in a line,
  a line that is only `…` for any number of lines. Any number of spaces counts as one.
- `sh`: commands that only another machine has (systemctl, docker); nobody runs them here, so each
  of their lines must be among those the test knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ANYTHING = "…"
KINDS = frozenset({"bash", "text", "sh"})
FENCE = re.compile(r"^\s*(`{3,}|~{3,})(.*)$")
HEADING = re.compile(r"^(#{1,6}) (.+)$")
WITHIN = re.compile(r"^Within (\d+) s:$")
NOTHING = "Nothing is seen."
#: Begins the paragraph before commands that end or lose something.
DESTRUCTIVE = "**Destructive:**"
#: The words that lead into the parts of a section, in this order.
PARTS = ("What it means.", "Find the cause.", "End it.")
CHAPTER_LEVEL = 2


class RunbookError(Exception):
    """Say what in the document is not as it must be, and in which line."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Commands and what they show; `within` is for how long they are repeated until they do."""

    line: int
    commands: str
    shows: tuple[str, ...]
    within: float
    part: str
    destructive: bool = False


@dataclass(kw_only=True)
class Section:
    """What stands below one heading, down to the next."""

    line: int
    level: int
    title: str
    chapter: str
    parts: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    #: Commands of other machines, by line.
    elsewhere: list[str] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """Return the name of the heading in links, as GitHub makes it."""
        return re.sub(r"[^\w\- ]", "", self.title.lower()).strip().replace(" ", "-")


@dataclass(frozen=True, kw_only=True)
class _Fence:
    kind: str
    line: int
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Commands of which it is not known yet what they show."""

    fence: _Fence
    within: float = 0.0
    destructive: bool = False


def sections(text: str) -> list[Section]:
    """Return the sections in their order; raise RunbookError for what is none of the three."""
    found: list[Section] = []
    chapter = ""
    asked: _Asked | None = None
    warned = False
    for line, item in _items(text):
        if asked is not None:
            asked = _answered(asked, item, section=found[-1])
        elif isinstance(item, _Fence):
            if not found:
                raise RunbookError(f"line {line}: before the first heading")
            asked = _begun(item, section=found[-1], destructive=warned)
            warned = False
        elif heading := HEADING.match(item):
            level = len(heading[1])
            chapter = heading[2] if level <= CHAPTER_LEVEL else chapter
            found.append(Section(line=line, level=level, title=heading[2], chapter=chapter))
            warned = False
        elif found:
            found[-1].parts += [part for part in PARTS if item.startswith(f"**{part}**")]
            warned = warned or DESTRUCTIVE in item
    if asked is not None:
        raise RunbookError(f"line {asked.fence.line}: it is not said what these commands show")
    return found


def _begun(fence: _Fence, *, section: Section, destructive: bool) -> _Asked | None:
    """Take a block that follows prose; return commands that wait for what they show."""
    if fence.kind == "text":
        raise RunbookError(f"line {fence.line}: shown by no commands")
    if fence.kind == "bash":
        return _Asked(fence=fence, destructive=destructive)
    section.elsewhere += [command for command in fence.lines if command.strip()]
    return None


def _answered(asked: _Asked, item: _Fence | str, *, section: Section) -> _Asked | None:
    """Take what follows commands: how long they may take, or what they show."""
    if isinstance(item, str) and (said := WITHIN.match(item)) and not asked.within:
        return replace(asked, within=float(said[1]))
    if item == NOTHING:
        item = _Fence(kind="text", line=asked.fence.line, lines=())
    elif not isinstance(item, _Fence) or item.kind != "text":
        raise RunbookError(f"line {asked.fence.line}: it is not said what these commands show")
    elif not "".join(item.lines).strip(f" {ANYTHING}"):
        raise RunbookError(f"line {item.line}: nothing, or anything at all, may be seen")
    section.blocks.append(
        Block(
            line=asked.fence.line,
            commands="\n".join(asked.fence.lines),
            shows=item.lines,
            within=asked.within,
            part=section.parts[-1] if section.parts else "",
            destructive=asked.destructive,
        )
    )
    return None


def _items(text: str) -> Iterator[tuple[int, _Fence | str]]:
    """Yield each line that is not empty, and each fenced block as one."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        number, line = at + 1, lines[at]
        at += 1
        if not (opening := FENCE.match(line)):
            if line.startswith(("    ", "\t")) and not line.lstrip().startswith(("-", "*")):
                # Markdown shows it as code as well, and nobody would run it.
                raise RunbookError(f"line {number}: indented by four; use a fenced block")
            if "<pre" in line or "<code" in line:
                raise RunbookError(f"line {number}: code as HTML; use a fenced block")
            if line.strip():
                yield number, line
            continue
        kind = opening[2].strip()
        if kind not in KINDS or line.startswith((" ", "\t")):
            raise RunbookError(f"line {number}: no block of ours: {line.strip()}")
        inside = []
        while at < len(lines) and lines[at].strip() != opening[1]:
            inside.append(lines[at])
            at += 1
        if at == len(lines):
            raise RunbookError(f"line {number}: the block has no end")
        at += 1
        yield number, _Fence(kind=kind, line=number, lines=tuple(inside))


def difference(shows: Sequence[str], seen: str) -> str:
    """Return the first line that was to be seen and was not, or that was not to be; "" for none."""
    found = [_plain(line) for line in seen.splitlines()]
    while found and not found[-1]:
        found.pop()
    # How many of the found lines the wanted ones up to now may stand for.
    reach = {0}
    for line in map(_plain, shows):
        if line == ANYTHING:
            reach = set(range(min(reach), len(found) + 1))
            continue
        pattern = re.compile(".*".join(re.escape(piece) for piece in line.split(ANYTHING)))
        fits = {at + 1 for at in reach if at < len(found) and pattern.fullmatch(found[at])}
        if not fits:
            return f"not seen: {line}"
        reach = fits
    return "" if len(found) in reach else f"not to be seen: {found[max(reach)]}"


def _plain(line: str) -> str:
    return " ".join(line.split())
