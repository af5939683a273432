"""Which addresses may be called: the public Internet by https, and what the operator allows.

A webhook's URL is chosen by whoever may write webhooks, and called from inside the network: without
these rules it would reach the cloud's metadata service, databases and neighbours (SSRF).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    Address = IPv4Address | IPv6Address
    Network = IPv4Network | IPv6Network

MAX_URL_CHARACTERS = 2000
PORTS = {"https": 443, "http": 80}
#: Global unicast: outside of it no IPv6 address belongs to anybody on the Internet.
GLOBAL_V6 = IPv6Network("2000::/3")
#: Inside of that: protocol assignments (Teredo among them), 6to4, documentation. RFC 6890, 9637.
SPECIAL_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
#: 6to4 relays: globally routable by name, a way into other networks in fact. RFC 7526.
SPECIAL_V4 = (IPv4Network("192.88.99.0/24"),)
#: IPv6 addresses that lead to the IPv4 address in their last 32 bits: mapped (RFC 4291), NAT64
#: (RFC 6052). They are judged as that one.
CARRIERS = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
#: Hostnames and dotted addresses, after IDNA.
_HOST = re.compile(r"[a-z0-9_]([-a-z0-9_.]{0,251}[a-z0-9_])?\.?", re.IGNORECASE)


class AddressRefusedError(Exception):
    """Refuse an address; the text says why and is safe to show."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads."""

    scheme: str
    host: str
    port: int
    #: Path and query, as they stand in the request line.
    path: str

    @property
    def host_header(self) -> str:
        """Return the value of the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def target(url: str) -> Target:
    """Return where a URL leads; raises AddressRefusedError saying what is wrong with it."""
    if len(url) > MAX_URL_CHARACTERS:
        raise AddressRefusedError(f"at most {MAX_URL_CHARACTERS} characters")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise AddressRefusedError("only visible ASCII; write other characters as punycode or %XX")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise AddressRefusedError("not a URL") from None
    if parts.scheme not in PORTS:
        raise AddressRefusedError("must begin with https://")
    if parts.username is not None or parts.password is not None:
        raise AddressRefusedError("must not hold a user or password; the signature is the proof")
    if parts.fragment:
        raise AddressRefusedError("must not hold a fragment (#…)")
    host = parts.hostname or ""
    if not (_HOST.fullmatch(host) or (literal(host) and "%" not in host)) or port == 0:
        raise AddressRefusedError("names no host")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or PORTS[parts.scheme], path)


def check(found: Target, address: str, *, allowed: Sequence[Network]) -> None:
    """Raise AddressRefusedError unless the address may be called under this scheme."""
    parsed = literal(address)
    if parsed is None:
        raise AddressRefusedError("resolves to no address")
    if any(_within(parsed, network) for network in allowed):
        return
    if not is_public(parsed):
        raise AddressRefusedError(
            f"{found.host} is at {parsed}, which is not a public address; an operator can allow "
            "networks with WEBHOOK_ALLOWED_NETWORKS"
        )
    if found.scheme != "https":
        raise AddressRefusedError("must begin with https://; http is for allowed networks only")


def check_literal(found: Target, *, allowed: Sequence[Network]) -> None:
    """Refuse at once what needs no look-up: addresses as numbers, names of this machine.

    Names are judged each time they are called: what they resolve to may change.
    """
    host = found.host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        check(found, "127.0.0.1", allowed=allowed)
    elif literal(host) is not None:
        check(found, host, allowed=allowed)
    elif found.scheme != "https" and not allowed:
        raise AddressRefusedError("must begin with https://; http is for allowed networks only")


def is_public(address: Address) -> bool:
    """Tell whether an address is somebody's on the Internet (IANA special-purpose registries)."""
    address = _carried(address)
    if isinstance(address, IPv4Address):
        inside = any(address in network for network in SPECIAL_V4)
        return address.is_global and not address.is_multicast and not inside
    return address in GLOBAL_V6 and not any(address in network for network in SPECIAL_V6)


def literal(text: str) -> Address | None:
    """Return the address a text spells in full, or None."""
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def networks(words: Sequence[str]) -> tuple[Network, ...]:
    """Return the networks of a list of CIDRs; raises ValueError naming the one that is none."""
    found: list[Network] = []
    for word in words:
        try:
            found.append(ipaddress.ip_network(word))
        except ValueError as exc:
            raise ValueError(f"{word!r} is not a network such as 10.0.0.0/8: {exc}") from None
    return tuple(found)


def _within(address: Address, network: Network) -> bool:
    """Tell whether an address, or the IPv4 address that it leads to, is in a network."""
    return any(
        candidate in network
        for candidate in (address, _carried(address))
        if candidate.version == network.version
    )


def _carried(address: Address) -> Address:
    if isinstance(address, IPv6Address) and any(address in carrier for carrier in CARRIERS):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
