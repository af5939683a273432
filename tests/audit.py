"""`make audit`: is any required package known to be vulnerable? Silence is not taken for a no.

pip-audit says "No known vulnerabilities found" and exits with 0 also when it could ask about no
package at all; here a package that was skipped fails as one that is vulnerable does. It is not part
of CI, which may have no advisory service.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def findings(report: dict[str, Any]) -> list[str]:
    """Return a line for each package that is vulnerable or was not looked at."""
    found = []
    for package in report["dependencies"]:
        name = package["name"]
        if "skip_reason" in package:
            found.append(f"{name}: skipped, nothing is known of it: {package['skip_reason']}")
        for hole in package.get("vulns", []):
            mended = ", ".join(hole["fix_versions"]) or "no version"
            found.append(f"{name} {package['version']}: {hole['id']}, mended in {mended}")
    return found


def audit(path: str) -> tuple[int, list[str]]:
    """Return how many packages a requirements file names, and the findings."""
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json",
         "--require-hashes", "--disable-pip", "--requirement", path],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    try:
        report = json.loads(done.stdout)
        if not report["dependencies"]:
            return 0, [f"{path}: no package was looked at"]
        return len(report["dependencies"]), findings(report)
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return 0, [f"{path}: pip-audit failed: {last}"]


def main(paths: list[str]) -> int:
    """Audit the files; print what was found; return the exit code."""
    code = 0
    for path in paths:
        number, found = audit(path)
        print(f"{path}: {number} packages, {len(found)} findings")
        for line in found:
            print(f"  {line}")
        code = code or int(bool(found))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
