"""Dial: addresses, connecting, listening."""

import socket

import pytest
import trio

from powertcp.drivers.dial import accept, connect, format_address, listen, parse_address
from powertcp.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.7", "10.0.0.7", 3251),
        ("lamp.local:99", "lamp.local", 99),
        ("[::1]:3252", "::1", 3252),
        ("[::1]", "::1", 3251),
        ("::1", "::1", 3251),
        ("[::]:0", "::", 0),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize(
    "text", ["", ":1", "a:", "a:x", "a:65536", "[::1", "[::1]9", "a:-1", "a..b", "a" * 70]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_address(text)


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    assert format_address("::1", 3251) == "[::1]:3251"
    assert format_address("10.0.0.7", 1) == "10.0.0.7:1"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_connect_reaches_a_listener_without_nagle(host: str) -> None:
    (listener,) = listen([(host, 0)])
    with listener:
        sock = await connect(host, listener.getsockname()[1])
        await trio.lowlevel.wait_readable(listener)
        ((peer, address),) = accept(listener)
        with sock, peer:
            assert address == sock.getsockname()[:2]
            for end in (sock, peer):
                assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert end.gettimeout() == 0
        assert accept(listener) == []


async def test_the_unspecified_ipv6_address_serves_ipv4() -> None:
    (listener,) = listen([("::", 0)])
    with listener:
        sock = await connect("127.0.0.1", listener.getsockname()[1])
        sock.close()


async def test_refused_and_cancelled() -> None:
    with pytest.raises(ConnectionRefusedError):
        await connect("127.0.0.1", 1)
    (listener,) = listen([("127.0.0.1", 0)])
    with listener, trio.CancelScope() as scope:
        scope.cancel()
        await connect("127.0.0.1", listener.getsockname()[1])
    assert scope.cancelled_caught


async def test_a_name_with_two_addresses_finds_the_one_that_answers() -> None:
    (listener,) = listen([("127.0.0.1", 0)])
    with listener:
        sock = await connect("localhost", listener.getsockname()[1])
        assert sock.getpeername()[0] == "127.0.0.1"
        sock.close()


def test_all_listeners_or_none() -> None:
    (first,) = listen([("127.0.0.1", 0)])
    with first:
        taken = first.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listen([("127.0.0.1", 0), ("127.0.0.1", taken)])
