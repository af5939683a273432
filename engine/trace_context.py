"""The trace a run belongs to: `traceparent` of W3C Trace Context (Level 2), taken and passed on.

Nothing is traced here: who called and whom a step calls may belong to one trace all the same.
`tracestate`, which the standard lets a participant drop, is not kept.
"""

from __future__ import annotations

import re

HEADER = "traceparent"
#: Characters of `00-<32 hex>-<16 hex>-<2 hex>`.
CHARACTERS = 55

# Zeros are no ids, `ff` is no version; what a later version adds stands behind the flags.
_FORM = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})"
    r"(?P<known>-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})"
    r"(?P<more>-.*)?",
    re.ASCII,
)


def parse(text: str) -> str:
    """Return the header as version 00 writes it, or "" for one the standard says to ignore."""
    found = _FORM.fullmatch(text.strip(" \t"))
    if found is None or (found["version"] == "00" and found["more"] is not None):
        return ""
    return "00" + found["known"]


def trace_id(traceparent: str) -> str:
    """Return the 32 digits that name the trace in logs; "" of ""."""
    return traceparent[3:35]
