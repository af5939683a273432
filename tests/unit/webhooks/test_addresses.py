import pytest

from engine.webhooks import addresses
from engine.webhooks.addresses import AddressRefusedError

HTTPS = addresses.target("https://hooks.example/x")
HTTP = addresses.target("http://hooks.example/x")

PRIVATE = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255"),  # noqa: S104
    *("192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1"),
    *("198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.255.255.255"),
    *("240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1"),
    *("fd00:ec2::254", "ff02::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1"),
    # IPv4 inside of IPv6: mapped, 6to4, Teredo, NAT64.
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:a00:1", "2002:7f00:1::"),
    *("2002:a9fe:a9fe::1", "2002:808:808::1", "2001:0:808:808::1", "64:ff9b::7f00:1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808"),
]
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "172.32.0.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_check__refuses_what_is_not_public(address):
    with pytest.raises(AddressRefusedError, match="not a public address"):
        addresses.check(HTTPS, address, allowed=())


@pytest.mark.parametrize("address", PUBLIC)
def test_check__lets_public_addresses_pass_by_https_only(address):
    addresses.check(HTTPS, address, allowed=())
    with pytest.raises(AddressRefusedError, match="https"):
        addresses.check(HTTP, address, allowed=())


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "fd00:1::7"])
def test_check__lets_allowed_networks_pass_by_http_too(address):
    allowed = addresses.networks(["10.1.0.0/16", "fd00:1::/64"])
    addresses.check(HTTP, address, allowed=allowed)
    for near in ("10.2.0.1", "fd00:2::7", "127.0.0.1", "::ffff:10.2.0.1"):
        with pytest.raises(AddressRefusedError):
            addresses.check(HTTP, near, allowed=allowed)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("ftp://hooks.example/", "https"),
        ("hooks.example", "https"),
        ("", "https"),
        ("https://", "no host"),
        ("https://user:pass@hooks.example/", "user"),
        ("https://@hooks.example/", "user"),
        ("https://hooks.example/#part", "fragment"),
        ("https://hooks.example/a b", "ASCII"),
        ("https://hooks.example/\r\nHost: x", "ASCII"),
        ("https://hooks.example\\@evil.example/", "ASCII"),
        ("https://bücher.example/", "ASCII"),
        ("https://hooks.example:99999/", "not a URL"),
        ("https://hooks.example:0/", "no host"),
        ("https://[::1/", "not a URL"),
        ("https://[fe80::1%25eth0]/", "no host"),
        ("https://a!b/", "no host"),
        ("https://hooks.example/" + "x" * 2000, "2000"),
    ],
)
def test_target__says_what_is_wrong_with_a_url(url, word):
    with pytest.raises(AddressRefusedError, match=word):
        addresses.target(url)


def test_target__is_where_the_url_leads():
    found = addresses.target("https://Hooks.Example:8443/a/b?c=d")
    assert (found.host, found.port, found.path) == ("hooks.example", 8443, "/a/b?c=d")
    assert found.host_header == "hooks.example:8443"
    assert addresses.target("https://[2606:4700::1]").host_header == "[2606:4700::1]"
    assert addresses.target("https://hooks.example?x=1").path == "/?x=1"


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://localhost/",
        "https://a.LOCALHOST./",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest/meta-data",
        "http://hooks.example/",
    ],
)
def test_check_literal__refuses_at_once_what_needs_no_look_up(url):
    with pytest.raises(AddressRefusedError):
        addresses.check_literal(addresses.target(url), allowed=())


def test_check_literal__leaves_names_to_the_moment_of_sending():
    addresses.check_literal(HTTPS, allowed=())
    addresses.check_literal(HTTP, allowed=addresses.networks(["10.0.0.0/8"]))


@pytest.mark.parametrize("word", ["10.0.0.1/8", "everything", "10.0.0.0/33"])
def test_networks__names_what_is_none(word):
    with pytest.raises(ValueError, match=word):
        addresses.networks(["10.0.0.0/8", word])
