"""What web says of itself: its health, and how fast and how well it has answered."""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from config.doctor.checks import ERROR_RATIO, LATENCY_SECONDS, Measured
from config.telemetry import SERVER_ERROR

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How long one answer may take, in seconds.
ANSWER_SECONDS = 3.0
#: How long requests are counted for the figures of this moment, in seconds.
WINDOW_SECONDS = 2.0
#: Fewer requests than this in the window say nothing of this moment.
ENOUGH_REQUESTS = 20
#: Probes and scrapes are many, fast, and 503 on purpose (as in the alerts).
PROBES = ("/health", "/livez", "/readyz", "/metrics")
THIS_MACHINE = frozenset({"127.0.0.1", "localhost", "::1"})
_CLIENT_ERROR = 400


@dataclass(slots=True)
class Counts:
    """What /metrics has counted: requests by status, and by the bound of their latency."""

    statuses: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    buckets: dict[float, float] = field(default_factory=lambda: defaultdict(float))

    def since(self, before: Counts) -> Counts | None:
        """Return what came in between; None after a restart."""
        found = Counts()
        for name in ("statuses", "buckets"):
            now, then = getattr(self, name), getattr(before, name)
            if any(now[key] < count for key, count in then.items()):
                return None
            getattr(found, name).update({key: now[key] - then[key] for key in now})
        return found

    @property
    def requests(self) -> float:
        """Return how many requests were answered."""
        return sum(self.statuses.values())

    def share(self, first: int, last: int) -> float:
        """Return the share of answers with a status from `first` to `last`."""
        those = sum(n for status, n in self.statuses.items() if first <= int(status) <= last)
        return those / self.requests if self.requests else 0.0


def health(url: str) -> dict[str, Measured]:
    """Ask /health; any answer is an answer, a 503 says what is wrong."""
    try:
        body = json.loads(_get(f"{url}/health"))
        said = str(body["status"])
    except (ValueError, TypeError, KeyError):
        raise ConnectionError(f"what answers at {url} is not this platform's web") from None
    return {"web": Measured(said, said == "healthy", note=str(body.get("reason", "")))}


def speed(url: str) -> dict[str, Measured]:
    """Read /metrics twice: this moment where it tells enough, else since web was started."""
    before = parsed(_get(f"{url}/metrics"))
    time.sleep(WINDOW_SECONDS)
    now = parsed(_get(f"{url}/metrics"))
    lately = now.since(before)
    if lately is not None and lately.requests >= ENOUGH_REQUESTS:
        return judged(lately, f"{lately.requests:.0f} requests in {WINDOW_SECONDS:.0f} s")
    return judged(now, f"{now.requests:,.0f} requests since web was started")


def judged(counts: Counts, of: str) -> dict[str, Measured]:
    """Hold what was counted to the limits."""
    if not counts.requests:
        nothing = Measured("no requests", ok=True, note="since web was started")
        return {"api_latency": nothing, "api_errors": nothing}
    seconds = quantile(counts.buckets, 0.95)
    failed, refused = counts.share(SERVER_ERROR, 599), counts.share(_CLIENT_ERROR, 499)
    return {
        "api_latency": Measured(
            f"{seconds * 1000:.0f} ms" if math.isfinite(seconds) else "unknown",
            seconds < LATENCY_SECONDS,
            number=round(seconds, 4),
            note=of,
        ),
        "api_errors": Measured(
            f"{failed:.2%}",
            failed < ERROR_RATIO,
            number=round(failed, 6),
            note=f"{refused:.1%} refused (4xx), {of}",
        ),
    }


def parsed(text: str) -> Counts:
    """Return what a scrape of web has counted, without probes."""
    found = Counts()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("route", "").startswith(PROBES):
                continue
            if sample.name == "api_requests_total":
                found.statuses[sample.labels["status"]] += sample.value
            elif sample.name == "api_request_latency_seconds_bucket":
                found.buckets[float(sample.labels["le"])] += sample.value
    return found


def quantile(buckets: Mapping[float, float], share: float) -> float:
    """Return the quantile of a cumulative histogram as Prometheus computes it, in seconds.

    Within a bucket it lies on a straight line; beyond the last bound it is that bound.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if not total:
        return 0.0
    wanted, low, below = share * total, 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= wanted:
            if math.isinf(bound):
                return low
            within = count - below
            return low + (bound - low) * ((wanted - below) / within if within else 0.0)
        low, below = bound, count
    return low


def _opener(address: str) -> urllib.request.OpenerDirector:
    """Return what opens an address: no proxy (`http_proxy`) knows the way to this machine."""
    if urlsplit(address).hostname in THIS_MACHINE:
        return urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener()


def _get(address: str) -> str:
    # Behind a proxy that speaks HTTPS web would send us there.
    request = urllib.request.Request(address, headers={"X-Forwarded-Proto": "https"})  # noqa: S310 - http(s) only, the command sees to it
    try:
        with _opener(address).open(request, timeout=ANSWER_SECONDS) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.read().decode(errors="replace")
    except urllib.error.URLError as exc:
        raise ConnectionError(f"nothing answers at {address}: {exc.reason}") from exc
