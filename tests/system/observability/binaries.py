"""Prometheus, promtool, Alertmanager and amtool of this machine, by whatever name they have."""

from __future__ import annotations

import os
import shutil

import pytest

#: Debian's packages call the first ones so; the others are the projects' own names.
NAMES = {
    "prometheus": ("prometheus",),
    "promtool": ("promtool",),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
    "amtool": ("amtool",),
}


def binary(name: str) -> str:
    """Return the path of one of NAMES; without it skip loudly, in CI fail."""
    found = next((path for known in NAMES[name] if (path := shutil.which(known))), None)
    if found is None:
        remedy = f"no {name} on PATH, so no alert was tried: see .ci/run for the packages"
        if os.environ.get("CI"):
            pytest.fail(remedy)
        pytest.skip(remedy)
    return found
