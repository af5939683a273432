"""The circuit breakers there are: who opens one stops asking Redis for a moment.

`publishing`: the fast path sends nothing for two seconds and leaves it to the dispatcher.
`throttling`: calls of the API pass uncounted for a second. Both close with the first answer.
"""

from prometheus_client import Counter

PUBLISHING, THROTTLING = "publishing", "throttling"

OPENED = Counter("circuit_breakers_opened_total", "How often a breaker has opened", ["breaker"])
