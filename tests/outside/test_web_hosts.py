"""Which hosts may be called, by table."""

from __future__ import annotations

import subprocess

import pytest

from rpcbroker.outside import web_hosts
from rpcbroker.outside.web_hosts import WebHosts

PUBLIC = ("93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::8.8.8.8", "2002:808:808::1")
NOT_PUBLIC = (
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "192.0.0.192",
    "168.63.129.16",
    "224.0.0.1",
    "239.1.2.3",
    "240.0.0.1",
    "255.255.255.255",
    "198.18.0.1",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:0:808:808:0:0:80ff:fffe",
    "fe80::1",
    "fe80::1%2",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "100::1",
)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_empty_list_is_all_that_is_public(address: str) -> None:
    assert WebHosts([]).allows(address, 80)
    assert WebHosts(["*:443"]).allows(address, 443)
    assert not WebHosts(["*:443"]).allows(address, 80)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_nothing_else_is_public(address: str) -> None:
    assert not WebHosts([]).allows(address, 80)
    assert not WebHosts(["*"]).allows(address, 443)


def test_an_address_of_this_machine_is_not_public_whatever_it_looks_like() -> None:
    addresses = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()
    for address in ["127.0.0.1", *addresses]:
        assert web_hosts._is_here(web_hosts.ip_address(address))
    assert not web_hosts._is_here(web_hosts.ip_address("8.8.8.8"))


@pytest.mark.parametrize(
    ("listed", "address", "port"),
    [
        ("127.0.0.1", "127.0.0.1", 8080),
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("10.0.0.0/8", "10.1.2.3", 80),
        ("10.0.0.0/8", "::ffff:10.1.2.3", 80),
        ("fd00::/8", "fd12::1", 80),
        ("[fd00::/8]:80", "fd12::1", 80),
        ("::1", "::1", 1),
        ("[::1]", "::1", 1),
    ],
)
def test_what_is_listed_as_a_network_may_be_at_home(listed: str, address: str, port: int) -> None:
    hosts = WebHosts([listed])
    assert hosts.allows(address, port)
    assert hosts.may_allow(port)
    assert not hosts.allows("8.8.8.8", port)
    assert not hosts.allows("127.0.0.2", port)
    assert not hosts.lists(address, port)
    assert hosts.allows(address, 4711) is (":8" not in listed)


@pytest.mark.parametrize(
    ("listed", "host", "port", "is_listed"),
    [
        ("api.example.com", "api.example.com", 443, True),
        ("api.example.com", "API.Example.com.", 443, True),
        ("API.example.com.", "api.example.com", 443, True),
        ("api.example.com", "xapi.example.com", 443, False),
        ("api.example.com", "api.example.com.evil.test", 443, False),
        ("api.example.com:443", "api.example.com", 443, True),
        ("api.example.com:443", "api.example.com", 80, False),
        ("*.example.com", "a.b.example.com", 80, True),
        ("*.example.com", "example.com", 80, False),
        ("*.example.com", "badexample.com", 80, False),
        ("localhost:8080", "localhost", 8080, True),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", 80, True),
    ],
)
def test_names_are_compared_as_names(listed: str, host: str, port: int, is_listed: bool) -> None:
    hosts = WebHosts([listed])
    assert hosts.lists(host, port) is is_listed
    assert not hosts.may_allow(port)
    assert not hosts.allows("8.8.8.8", port)


def test_a_list_may_say_all_that_is_public_and_more() -> None:
    hosts = WebHosts(["*", "192.168.0.0/16", "box.local:80"])
    assert hosts.allows("8.8.8.8", 80)
    assert hosts.allows("192.168.7.7", 80)
    assert hosts.lists("box.local", 80)
    assert not hosts.allows("10.0.0.1", 80)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        " ",
        ":80",
        "http://x",
        "x/",
        "x:0",
        "x:65536",
        "x:http",
        "10.0.0.1/8",
        "10.0.0",
        "300.1.2.3",
        "2130706433",
        "a..b",
        "-a.b",
        "**.b",
        "a.*.b",
        "*b",
        "[::1",
        "[x]:80:80",
        "ü.example",
        "user@x",
        "::1::",
    ],
)
def test_what_is_no_host_is_refused_by_name(entry: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        WebHosts(["*", entry])
