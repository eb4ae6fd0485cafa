"""Addresses: which lie on our links, in what order they are tried, at which nobody can be."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.dpdp.entry import Address
from powertcp.dpdp.links import MAX_ADDRESSES, Links, Subnet

HERE = Links(
    [
        Subnet("eth0", ip_network("10.0.0.0/24")),
        Subnet("eth0", ip_network("2001:db8:1::/64")),
        Subnet("wlan0", ip_network("192.168.7.0/24")),
    ]
)
LOOPBACK = Links([Subnet("lo", ip_network("127.0.0.0/8"))])
UNKNOWN = Links()


def at(host: str, scope: str = "", port: int = 3251) -> Address:
    return Address(host, scope, port)


@pytest.mark.requirement("DPDP-5-04")
def test_the_order_in_which_addresses_are_tried() -> None:
    ordered = (
        at("fe80::1", "eth0"),
        at("10.0.0.7"),
        at("2001:db8:1::7"),
        at("2001:db8:2::7"),
        at("fe80::1", "eth9"),
        at("172.16.0.7"),
    )
    assert HERE.usable(reversed(ordered)) == ordered
    assert HERE.usable((*ordered, *ordered)) == ordered


@given(st.permutations([at(f"10.0.0.{n}") for n in range(1, 6)]))
def test_the_order_does_not_depend_on_how_they_came(addresses: list[Address]) -> None:
    assert HERE.usable(addresses) == HERE.usable(sorted(addresses, key=str))


@pytest.mark.parametrize(
    "address",
    [
        at("0.0.0.0"),  # noqa: S104  what a rogue would have us connect to
        at("::"),
        at("224.0.0.251"),
        at("ff02::fb", "eth0"),
        at("127.0.0.1"),
        at("::1"),
        at("::ffff:127.0.0.1"),
        at("fe80::1"),
        at("fe80::1%eth0"),
        at("10.0.0.7", port=0),
        at("10.0.0.7", port=65_536),
        at("nowhere"),
        at(""),
    ],
)
def test_where_nobody_can_be_we_do_not_go(address: Address) -> None:
    assert HERE.usable([address]) == ()
    assert HERE.ordered([address, at("10.0.0.7")]) == (at("10.0.0.7"), address)


def test_ourselves_are_a_peer_where_the_loopback_is_browsed_or_nothing_is_known() -> None:
    assert LOOPBACK.usable([at("127.0.0.1")]) == (at("127.0.0.1"),)
    assert UNKNOWN.usable([at("127.0.0.1")]) == (at("127.0.0.1"),)
    assert not LOOPBACK.is_off_link([at("127.0.0.1")])


@pytest.mark.requirement("DPDP-7-01")
@pytest.mark.parametrize(
    ("addresses", "is_off"),
    [
        ([], True),
        ([at("10.0.1.7")], True),
        ([at("10.0.1.7"), at("10.0.0.7")], False),
        ([at("192.168.7.255")], False),
        ([at("2001:db8:1:0:ffff::1")], False),
        ([at("2001:db8:2::1")], True),
        ([at("fe80::1", "eth0")], False),
        ([at("fe80::1", "eth9")], True),
        ([at("::ffff:10.0.0.7")], False),
        ([at("nowhere")], True),
    ],
)
def test_who_is_off_link(addresses: list[Address], is_off: bool) -> None:
    assert HERE.is_off_link(addresses) is is_off
    assert not UNKNOWN.is_off_link(addresses)


def test_before_our_links_are_known_a_scope_is_enough_to_be_near() -> None:
    near, far = at("fe80::1", "eth9"), at("10.0.0.7")
    assert UNKNOWN.usable([far, near]) == (near, far)


@pytest.mark.parametrize("count", [MAX_ADDRESSES, MAX_ADDRESSES + 1])
def test_no_more_addresses_than_the_bound(count: int) -> None:
    many = [at(f"172.16.0.{n}") for n in range(1, count)]
    found = HERE.ordered([*many, at("10.0.0.7")])
    assert len(found) == MAX_ADDRESSES
    assert found[0] == at("10.0.0.7")


@given(st.lists(st.builds(Address, st.text(max_size=20), st.text(max_size=4), st.integers())))
def test_any_text_may_be_an_address(addresses: list[Address]) -> None:
    assert set(HERE.usable(addresses)) <= set(HERE.ordered(addresses)) <= set(addresses)
    HERE.is_off_link(addresses)
