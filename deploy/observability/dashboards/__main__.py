"""`make dashboards`: write the dashboards that Grafana reads, from the code beside this file."""

from __future__ import annotations

from pathlib import Path

from deploy.observability.dashboards import api_slo, departments, orchestrator, overview, panels

FOLDER = Path(__file__).parents[1] / "grafana"
FILES = {
    "dashboard_ai_business_engine.json": overview.build,
    "dashboard_api_slo.json": api_slo.build,
    "dashboard_departments.json": departments.build,
    "dashboard_orchestrator.json": orchestrator.build,
}


def files() -> dict[str, str]:
    """Return what belongs into each file, by its name."""
    return {name: panels.written(build()) for name, build in FILES.items()}


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text)
