"""Multicast groups on the loopback, IPv4 and IPv6."""

import errno
import socket

import pytest
import trio

from powertcp.drivers.groups import (
    FEED_GROUPS,
    GroupSender,
    find_interface,
    hear_groups,
    is_group,
    parse_group,
)
from powertcp.errors import ConfigError
from tests.drivers.feeding import free_port


async def receive(sock: socket.socket) -> bytes:
    with trio.fail_after(10):
        await trio.lowlevel.wait_readable(sock)
    return sock.recv(2048)


@pytest.mark.requirement("PTCP-12-04")
async def test_all_receivers_of_a_host_hear_one_datagram() -> None:
    group = ("239.255.80.84", free_port())
    first, second = (hear_groups([group], interface="lo") for _ in range(2))
    sender = GroupSender([group], interface="lo")
    try:
        sender.send([b"one", b"two"])
        for [sock] in (first, second):
            assert await receive(sock) == b"one"
            assert await receive(sock) == b"two"
    finally:
        sender.close()
        for sock in first + second:
            sock.close()
    assert sender.groups == []
    assert sender.dropped == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_that_is_no_group_is_sent_to_as_it_is(host: str) -> None:
    [sock] = hear_groups([(host, 0)])
    where = (host, sock.getsockname()[1])
    sender = GroupSender([where])
    try:
        sender.send([b"one"])
        assert await receive(sock) == b"one"
    finally:
        sender.close()
        sock.close()


async def test_what_nobody_takes_is_dropped_and_counted() -> None:
    group = ("127.0.0.1", free_port())
    sender = GroupSender([group])
    try:
        sender.send([b"one"])
        sender.send([b"two"])
        assert sender.dropped == 1, "nobody listens, and the kernel says so at the second"
    finally:
        sender.close()


async def test_a_group_that_no_route_leads_to_is_left_out() -> None:
    group = ("127.0.0.1", free_port())
    sender = GroupSender([("2001:db8::1", 9), group])
    try:
        # a host with a route to everywhere sends to both
        assert sender.groups[-1] == f"127.0.0.1:{group[1]}"
    finally:
        sender.close()
    with pytest.raises(OSError, match=r"."):
        GroupSender([("255.255.255.255", 9)])


async def test_a_receiver_needs_one_group_at_least() -> None:
    [sock] = hear_groups([("203.0.113.9", 9), ("127.0.0.1", 0)])
    sock.close()
    with pytest.raises(OSError, match="assign"):
        hear_groups([("203.0.113.9", 9)])


async def test_groups_and_interfaces_are_named_right() -> None:
    assert [is_group(host) for host, _ in FEED_GROUPS] == [True, True]
    assert not is_group("provider.example")
    assert parse_group("239.1.2.3") == ("239.1.2.3", 3251)
    assert parse_group("[ff15::5054]:9") == ("ff15::5054", 9)
    with pytest.raises(ConfigError, match="a group is an IPv4 or IPv6 address"):
        parse_group("provider.example")
    assert find_interface("") == 0
    assert find_interface("lo") > 0
    with pytest.raises(ConfigError, match=r"no such interface, there are .*lo"):
        find_interface("nosuch0")


async def test_a_group_of_ipv6_is_heard_where_a_route_leads_to_it() -> None:
    # interface-local: it never leaves the host, whatever the interface
    group = ("ff11::5054", free_port())
    refused: list[OSError] = []
    for _, name in socket.if_nameindex():
        try:
            sender = GroupSender([group], interface=name)
        except OSError as error:
            refused.append(error)
            continue
        [sock] = hear_groups([group], interface=name)
        try:
            sender.send([b"one"])
            assert await receive(sock) == b"one"
        finally:
            sender.close()
            sock.close()
    assert {error.errno for error in refused} <= {errno.ENETUNREACH, errno.EADDRNOTAVAIL}
