"""Whose a network address is, as far as anybody can tell: pure, without a look-up."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

#: What one customer of an IPv6 network is given at least (RFC 6177): who has one address has all.
IPV6_PREFIX = 64


def holder(address: str | None) -> str:
    """Return what stands for whoever uses the address: itself, or the /64 of an IPv6 address.

    Empty when the address is unknown or none: behind a Unix socket nobody can be told from another.
    """
    try:
        found = ip_address((address or "").partition("%")[0])
    except ValueError:
        return ""
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is None:
            return str(ip_network((found, IPV6_PREFIX), strict=False))
        return str(found.ipv4_mapped)
    return str(found)
