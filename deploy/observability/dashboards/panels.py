"""The vocabulary of all dashboards: numbers, lines and bars that look and read alike.

A limit is drawn where it is judged: a number changes its colour at it, a graph shows it as a line.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models

if TYPE_CHECKING:
    from collections.abc import Sequence

    Limit = tuple[float, str]
    Query = tuple[str, str]

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
#: A choice at the top of each dashboard, so that an import asks for no address.
DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
#: Units of Grafana.
SECONDS, SHARE, COUNT = "s", "percentunit", "short"
REQUESTS, PER_SECOND, PER_MINUTE, DOLLARS = "reqps", "suffix:/s", "suffix:/min", "currencyUSD"
#: Of the grid of 24 columns.
HALF, THIRD, FULL = 12, 8, 24
NUMBER_HEIGHT, GRAPH_HEIGHT = 4, 8
#: All dashboards carry it: the menu of links finds them by it.
TAG = "ai-business-engine"


def dashboard(*, uid: str, title: str, description: str, since: str) -> builders.Dashboard:
    """Return an empty dashboard; since: the range it opens with, as `now-6h`."""
    links = builders.DashboardLink("Dashboards").type(models.DashboardLinkType.DASHBOARDS)
    return (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time(since, "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(links.tags([TAG]).as_dropdown(False).include_vars(False).keep_time(True))
        .with_variable(
            builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
    )


def choice(name: str, *, label: str, metric: str) -> builders.QueryVariable:
    """Return a choice of any of the values that a metric's label has; at first all."""
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(f"label_values({metric}, {name})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(text="All", value="$__all", selected=True))
    )


def number(
    title: str,
    query: str,
    *,
    unit: str = COUNT,
    limits: Sequence[Limit] = (),
    base: str = GREEN,
    span: int = 4,
    decimals: int | None = None,
    explain: str,
) -> stat.Panel:
    """Return one number with its recent course; its colour is that of the last limit it reached."""
    panel = (
        stat.Panel()
        .title(title)
        .description(explain)
        .datasource(DATASOURCE)
        .with_target(_target("A", query, ""))
        .unit(unit)
        .thresholds(_thresholds(limits, base))
        .color_mode(kinds.BigValueColorMode.VALUE)
        .graph_mode(kinds.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .span(span)
        .height(NUMBER_HEIGHT)
        .no_value("none")
    )
    return panel if decimals is None else panel.decimals(decimals)


def lines(
    title: str,
    *queries: Query,
    unit: str = COUNT,
    limits: Sequence[Limit] = (),
    span: int = HALF,
    stacked: bool = False,
    highest: float | None = None,
    explain: str,
) -> timeseries.Panel:
    """Return a graph of (PromQL, legend) pairs; limits are drawn as dashed lines."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(explain)
        .datasource(DATASOURCE)
        .unit(unit)
        .min(0)
        .span(span)
        .height(GRAPH_HEIGHT)
        .line_width(1)
        .fill_opacity(40 if stacked else 8)
        .show_points(kinds.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.TABLE)
            .placement(kinds.LegendPlacement.RIGHT)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(kinds.TooltipDisplayMode.MULTI)
            .sort(kinds.SortOrder.DESCENDING)
        )
    )
    for position, (query, legend) in enumerate(queries):
        panel.with_target(_target(chr(ord("A") + position), query, legend))
    if stacked:
        panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))
    if highest is not None:
        panel.max(highest)
    if limits:
        dashed = common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(_thresholds(limits, GREEN)).thresholds_style(dashed)
    return panel


def bars(
    title: str,
    query: str,
    legend: str,
    *,
    unit: str = COUNT,
    limits: Sequence[Limit] = (),
    base: str = GREEN,
    highest: float | None = None,
    span: int = THIRD,
    explain: str,
) -> bargauge.Panel:
    """Return the present value of each series as a bar."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(explain)
        .datasource(DATASOURCE)
        .with_target(_target("A", query, legend).instant())
        .unit(unit)
        .min(0)
        .thresholds(_thresholds(limits, base))
        .display_mode(kinds.BarGaugeDisplayMode.BASIC)
        .orientation(kinds.VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .span(span)
        .height(GRAPH_HEIGHT)
    )
    return panel if highest is None else panel.max(highest)


def row(title: str) -> builders.Row:
    """Return the heading of the panels that follow."""
    return builders.Row(title)


def quantile(share: float, histogram: str, *, by: str = "", where: str = "") -> str:
    """Return PromQL for a quantile of a histogram over the graph's resolution."""
    labels = ", ".join(["le", *by.split()])
    rate = f"rate({histogram}_bucket{{{where}}}[$__rate_interval])"
    return f"histogram_quantile({share:g}, sum by ({labels}) ({rate}))"


def written(found: builders.Dashboard) -> str:
    """Return the file of a dashboard: the same bytes for the same code."""
    built = found.build()
    for identity, panel in enumerate(built.panels or [], start=1):
        panel.id_val = identity
    return json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _target(ref: str, query: str, legend: str) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .ref_id(ref)
        .expr(query)
        .range()
        .legend_format(legend or "__auto")
        .datasource(DATASOURCE)
    )


def _thresholds(limits: Sequence[Limit], base: str) -> builders.ThresholdsConfig:
    steps = [models.Threshold(value=None, color=base)]
    steps += [models.Threshold(value=value, color=color) for value, color in limits]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
