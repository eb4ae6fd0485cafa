"""Which interfaces mDNS speaks on: messages of rtnetlink, the choice among what they say."""

import ipaddress
import socket
import struct

import pytest

from powertcp.drivers.interfaces import (
    Interface,
    Watch,
    carrier,
    choose,
    is_carried,
    parse_dump,
    read_interfaces,
    served,
    speakers,
)
from powertcp.errors import ConfigError

UP, RUNNING, LOOPBACK, MULTICAST = 0x1, 0x40, 0x8, 0x1000
LINK, ADDRESS = 16, 20
TENTATIVE = 0x40
ANY = str(ipaddress.IPv4Address(0))


def attribute(kind: int, octets: bytes) -> bytes:
    head = struct.pack("=HH", 4 + len(octets), kind)
    return head + octets + bytes(-len(octets) % 4)


def link(index: int, name: str, flags: int) -> tuple[int, bytes]:
    head = struct.pack("=BxHiII", 0, 1, index, flags, 0)
    return LINK, head + attribute(3, name.encode() + b"\0") + attribute(4, struct.pack("=I", 1500))


def address(index: int, text: str, flags: int = 0, *, local: str = "") -> tuple[int, bytes]:
    at = ipaddress.ip_interface(text)
    family = socket.AF_INET if at.version == 4 else socket.AF_INET6
    head = struct.pack("=BBBBI", family, at.network.prefixlen, flags & 0xFF, 0, index)
    own = attribute(2, ipaddress.ip_address(local).packed) if local else b""
    return ADDRESS, head + attribute(1, at.ip.packed) + own + attribute(8, struct.pack("=I", flags))


LO = link(1, "lo", UP | RUNNING | LOOPBACK), address(1, "127.0.0.1/8"), address(1, "::1/128")
ETH = (
    link(2, "eth0", UP | RUNNING | MULTICAST), address(2, "2001:db8::7/64"),
    address(2, "fe80::7/64"), address(2, "10.0.0.7/24"),
)  # fmt: skip


def test_interfaces_are_read_with_their_addresses_ipv4_first_then_the_link_local_one() -> None:
    lo, eth0 = parse_dump([*ETH, *LO])
    assert (lo.name, lo.is_loopback, lo.is_up, lo.is_multicast) == ("lo", True, True, False)
    assert (eth0.name, eth0.index, eth0.is_up, eth0.is_multicast) == ("eth0", 2, True, True)
    texts = [str(each) for each in eth0.addresses]
    assert texts == ["10.0.0.7/24", "fe80::7/64", "2001:db8::7/64"]


def test_our_end_of_a_point_to_point_link_is_ours_not_the_other() -> None:
    found = parse_dump([link(3, "tun0", UP | RUNNING), address(3, "10.8.0.1/32", local="10.8.0.2")])
    assert [str(each) for each in found[0].addresses] == ["10.8.0.2/32"]


def test_an_address_that_is_not_known_to_be_ours_alone_is_left_out() -> None:
    rows = [link(2, "eth0", UP | RUNNING | MULTICAST), address(2, "fe80::7/64", TENTATIVE)]
    assert parse_dump(rows)[0].addresses == ()


@pytest.mark.requirement("DPDP-8-02")
def test_what_is_up_with_multicast_is_spoken_on_and_the_loopback_only_alone() -> None:
    down = link(4, "eth1", UP | MULTICAST), address(4, "10.0.1.7/24")
    plain = link(5, "dummy0", UP | RUNNING), address(5, "10.0.2.7/24")
    found = parse_dump([*LO, *ETH, *down, *plain])
    assert [each.name for each in choose(found)] == ["eth0"]
    assert [each.name for each in choose(found, ("dummy0", "eth0"))] == ["eth0", "dummy0"]
    assert choose(found, ("eth1",)) == ()
    alone = choose(parse_dump([*LO, *down]))
    assert [(each.name, [str(it) for it in each.addresses]) for each in alone] == [
        ("lo", ["127.0.0.1/8"])
    ]


def test_one_address_of_ipv6_stands_for_an_interface_unless_another_has_it_too() -> None:
    twin = link(6, "eth1", UP | RUNNING | MULTICAST), address(6, "fe80::7/64")
    assert speakers(choose(parse_dump(ETH))) == ["10.0.0.7", "fe80::7"]
    assert speakers(choose(parse_dump([*ETH, *twin]))) == ["10.0.0.7", 2, 6]


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (("::", ANY), ["10.0.0.7", "fe80::7", "2001:db8::7"]),
        ((ANY,), ["10.0.0.7"]),
        (("::",), ["fe80::7", "2001:db8::7"]),
        (("10.0.0.7", "fe80::7%eth0"), ["10.0.0.7", "fe80::7"]),
        (("127.0.0.1",), []),
    ],
)
def test_addresses_are_announced_where_somebody_listens(
    hosts: tuple[str, ...], expected: list[str]
) -> None:
    assert served(choose(parse_dump([*LO, *ETH])), hosts) == expected


def test_a_connection_is_carried_by_who_has_its_address_while_there_is_a_link() -> None:
    found = parse_dump([*LO, *ETH])
    lo, eth0 = found
    assert carrier(found, "10.0.0.7") == carrier(found, "fe80::7%eth0") == eth0
    # all of 127/8 is ours
    assert carrier(found, "127.0.0.9") == carrier(found, "::1") == lo
    assert carrier(found, "fe80::7%eth1") is None
    assert carrier(found, "10.0.0.8") is None
    assert is_carried(found, eth0, "10.0.0.7")
    pulled = parse_dump([link(2, "eth0", UP | MULTICAST), address(2, "10.0.0.7/24")])
    elsewhere = parse_dump([link(9, "eth1", UP | RUNNING), address(9, "10.0.0.7/24")])
    for after in (pulled, elsewhere, parse_dump(LO)):
        assert not is_carried(after, eth0, "10.0.0.7")


def test_this_kernel_tells_of_the_loopback() -> None:
    lo = next(each for each in read_interfaces() if each.is_loopback)
    assert isinstance(lo, Interface)
    assert lo.index == socket.if_nametoindex(lo.name)


def test_a_name_that_no_interface_has_is_said_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r'no "nowhere0" here, only .*lo'):
        Watch(("nowhere0",))
