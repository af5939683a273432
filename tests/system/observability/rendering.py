"""The committed configuration for a test: its own ports, and an hour in a minute."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from tests.acceptance.stack import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = ROOT / "deploy" / "observability"
FASTER = 60
#: A scrape each quarter of a second would measure the scraping; 15 s become this.
SCRAPE_SECONDS = 1
#: What must last, lasts at least for as many scrapes as in a minute of 15 s: a busy machine that
#: misses one of them is not down.
LAST_SECONDS = 4 * SCRAPE_SECONDS
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: Where PromQL holds a duration: a range, or an offset.
IN_QUERY = re.compile(r"(?<=\[)(\d+)([smhd])(?=\])|(?<=offset )(\d+)([smhd])")
SCRAPED = {8000: "web", 8080: "manager", 8090: "worker", 9090: "prometheus"}


def shorter(number: str, unit: str, *, least: int = SCRAPE_SECONDS) -> str:
    """Return a 60th of a duration, but at least so many seconds."""
    return f"{max(int(number) * UNITS[unit] // FASTER, least)}s"


def rules(text: str) -> str:
    """Return a file of rules with every window at a 60th; limits of values stay what they are."""
    found = yaml.safe_load(text)
    for group in found["groups"]:
        if "interval" in group:
            group["interval"] = f"{SCRAPE_SECONDS}s"
        for rule in group["rules"]:
            rule["expr"] = IN_QUERY.sub(
                lambda match: shorter(*(part for part in match.groups() if part)), rule["expr"]
            )
            if "for" in rule:
                rule["for"] = shorter(rule["for"][:-1], rule["for"][-1], least=LAST_SECONDS)
    return yaml.safe_dump(found)


def prometheus(text: str, *, ports: dict[int, int]) -> str:
    """Return Prometheus' configuration; ports: what stands in for each default port."""
    found: dict[str, Any] = yaml.safe_load(text)
    found["global"] |= {
        "scrape_interval": f"{SCRAPE_SECONDS}s",
        "scrape_timeout": f"{SCRAPE_SECONDS}s",
        "evaluation_interval": f"{SCRAPE_SECONDS}s",
    }
    told = yaml.safe_dump(found)
    return re.sub(r"127\.0\.0\.1:(\d+)", lambda at: f"127.0.0.1:{ports[int(at[1])]}", told)


def write(folder: Path, *, ports: dict[int, int]) -> None:
    """Write everything that Prometheus and Alertmanager read into a folder."""
    place = SOURCE / "prometheus"
    (folder / "prometheus.yml").write_text(
        prometheus((place / "prometheus.yml").read_text(), ports=ports)
    )
    for name in ("rules.yml", "alerts.yml"):
        (folder / name).write_text(rules((place / name).read_text()))
    alertmanager = SOURCE / "alertmanager" / "alertmanager.yml"
    (folder / "alertmanager.yml").write_text(alertmanager.read_text())
