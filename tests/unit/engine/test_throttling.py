"""Rates as they are written down, and whose an address is."""

import pytest

from engine.access import addresses, throttling
from engine.access.throttling import Rate, Verdict


def test_rates__are_read_by_kind():
    found = throttling.parse(["read=600/min", "anonymous=5/s"])
    assert found == {"read": Rate("read", 600, 60), "anonymous": Rate("anonymous", 5, 1)}
    assert throttling.parse([]) == {}


@pytest.mark.parametrize(
    "word",
    ["read", "read=", "read=0/min", "read=5/year", "reads=5/s", "read=-5/s", "read=200000/s"],
)
def test_rate__that_is_none_is_named(word):
    with pytest.raises(ValueError, match=word):
        throttling.parse([word])


def test_rate__given_twice_is_refused():
    with pytest.raises(ValueError, match="once"):
        throttling.parse(["read=5/s", "read=6/s"])


def test_fields__are_those_of_the_draft():
    verdict = Verdict(Rate("read", 600, 60), passes=True, remaining=599, full_in=0.1, retry_in=0.0)
    assert verdict.rate.policy == '"read";q=600;w=60'
    assert verdict.state == '"read";r=599;t=1'


@pytest.mark.parametrize(
    ("address", "holder"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        (None, ""),
        ("unix:", ""),
    ],
)
def test_address__of_ipv6_stands_for_its_network(address, holder):
    assert addresses.holder(address) == holder
