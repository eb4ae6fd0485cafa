"""Addresses as the kernel tells them: where a diverted connection was going."""

import socket
import struct
from ipaddress import IPv4Address

import pytest

from powertcp.linux.origin import is_own, parse_ipv4, parse_ipv6


@pytest.mark.requirement("FWRL-2-04")
def test_an_ipv4_address_is_read_in_the_order_of_the_network() -> None:
    octets = struct.pack("=H", socket.AF_INET) + bytes.fromhex("0cb3 0a070202") + bytes(8)
    assert parse_ipv4(octets) == ("10.7.2.2", 3251)


@pytest.mark.requirement("FWRL-2-04")
def test_an_ipv6_address_is_read_in_the_order_of_the_network() -> None:
    octets = struct.pack("=H", socket.AF_INET6) + bytes.fromhex("0cb3 00000000")
    octets += bytes.fromhex("fd77000000000000 0000000000000005") + bytes(4)
    assert parse_ipv6(octets) == ("fd77::5", 3251)


@pytest.mark.parametrize(("parse", "size"), [(parse_ipv4, 16), (parse_ipv6, 28)])
def test_less_than_an_address_is_none(parse: object, size: int) -> None:
    assert callable(parse)
    parse(bytes(size))
    for short in range(size):
        with pytest.raises(OSError, match="octets are no address"):
            parse(bytes(short))


@pytest.mark.requirement("FWRL-2-04")
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", str(IPv4Address(0)), "::", "::ffff:0:0"]
)
def test_what_leads_here_by_any_name_is_our_own(host: str) -> None:
    assert is_own(host)
