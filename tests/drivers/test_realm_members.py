"""Providers of a realm in one process: a ticket is good once, wherever it is shown."""

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import pytest
import trio

from powertcp.drivers.dial import listen
from powertcp.drivers.provider import Provider, ProviderConfig
from powertcp.drivers.realm import RealmMember, open_realm
from powertcp.drivers.realm_file import Realm
from powertcp.potcp import ConnectionConfig, TicketOffice
from powertcp.potcp.events import (
    Alerted,
    FlowClosed,
    PowerOffered,
    PowerReady,
    SamplesReceived,
    TicketReceived,
)
from powertcp.registry import Reason
from powertcp.sources import parse_supply
from tests.drivers.test_provider import Client, client

GRACE_S = 2


@dataclass
class Place:
    """A provider of the realm, and where consumers find it."""

    provider: Provider
    realm: RealmMember
    address: str

    def flows_of(self, place: int) -> int:
        """Return how many flows of another member are honoured, by its place among the others."""
        members: Any = self.realm.facts()["members"]
        found = members[place]["flows"]
        assert isinstance(found, int)
        return found

    @property
    def held_mw(self) -> int:
        return self.provider.breaker.held_mw


def free_port(hosts: list[str]) -> int:
    """Return a port that is free on every one of `hosts`."""
    while True:
        with BoundSockets() as socks:
            first = socks.bind(hosts[0], 0)
            try:
                for host in hosts[1:]:
                    socks.bind(host, first)
            except OSError:
                continue
            return first


class BoundSockets:
    """Sockets that are bound and closed together."""

    def __init__(self) -> None:
        self._all: list[socket.socket] = []

    def bind(self, host: str, port: int) -> int:
        sock = socket.socket()
        self._all.append(sock)
        sock.bind((host, port))
        found = sock.getsockname()[1]
        assert isinstance(found, int)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._all:
            sock.close()


async def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(500):
        if holds():
            return
        await trio.sleep(0.02)  # what is polled has no event of its own
    raise AssertionError


@asynccontextmanager
async def realm_of(count: int, **options: Any) -> AsyncIterator[list[Place]]:
    """Serve as all members of a realm; `options` are those of the second one."""
    hosts = [f"127.0.1.{number}" for number in range(1, count + 1)]
    port = free_port(hosts)
    realm = Realm("hall", bytes(range(32)), tuple((host, port) for host in hosts))
    places: list[Place] = []
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        for number in range(1, count + 1):
            config = ProviderConfig(
                supplies=[parse_supply("12V/5A")],
                rating_mw=60_000,
                connection=ConnectionConfig(grace_ns=GRACE_S * 10**9),
                **(options if number == 2 else {}),
            )
            office = TicketOffice(os.urandom, key=realm.ticket_key, member=number)
            provider = Provider(config, office=office)
            [where] = await nursery.start(provider.serve, listen([("127.0.0.1", 0)]))
            member = await stack.enter_async_context(open_realm(realm, number, provider))
            places.append(Place(provider, member, where))
        members: Any = [place.realm.facts()["members"] for place in places]
        await eventually(
            lambda: all(
                each["told"]
                for place in places
                for each in place.realm.facts()["members"]  # type: ignore[attr-defined]
            )
        )
        assert len(members) == count
        yield places
        nursery.cancel_scope.cancel()


async def powered(sink: Client) -> tuple[bytes, int]:
    """Ask for power; return a ticket and the ESN after some of it came."""
    sink.ask("12V/1A")
    event = await sink.until(TicketReceived)
    assert isinstance(event, TicketReceived)
    await sink.until(SamplesReceived, 3)
    return event.ticket, sink.machine.status(sink.machine.flows[0]).esn_uj


async def is_resumed(sink: Client, ticket: bytes, esn_uj: int) -> bool:
    """Show a ticket; say whether the contract goes on."""
    sink.ask("12V/1A", ticket=ticket, esn_uj=esn_uj)
    event = await sink.until(PowerReady)
    assert isinstance(event, PowerReady)
    alerts = [event for event in sink.seen if isinstance(event, Alerted) and event.refusal]
    is_void = any(one.refusal and one.refusal.code == Reason.TICKET_INVALID for one in alerts)
    assert event.resumed != is_void
    return event.resumed


@pytest.mark.requirement("DPDP-10-05", "DPDP-10-06", "DPDP-10-07")
async def test_a_ticket_is_good_once_in_all_of_a_realm() -> None:
    async with realm_of(3) as (one, two, three), AsyncExitStack() as stack:
        first, second, third, fourth = [
            await stack.enter_async_context(client(place.address))
            for place in (one, two, three, one)
        ]
        ticket, esn_uj = await powered(first)
        await eventually(lambda: two.flows_of(0) == three.flows_of(0) == 1)
        assert await is_resumed(second, ticket, esn_uj)
        # the first one is told, gives back its power, and so is the third one
        closed = await first.until(FlowClosed)
        assert isinstance(closed, FlowClosed)
        assert closed.refusal is not None
        assert closed.refusal.code == Reason.HANDOVER
        await eventually(lambda: one.held_mw == 0)
        await eventually(lambda: two.flows_of(0) == three.flows_of(0) == 0)
        await eventually(lambda: one.flows_of(0) == three.flows_of(1) == 1)
        assert (one.realm.handed, two.realm.taken, two.held_mw) == (1, 1, 12_000)
        assert not await is_resumed(third, ticket, esn_uj)
        assert not await is_resumed(fourth, ticket, esn_uj)
        assert two.held_mw == 12_000


@pytest.mark.requirement("DPDP-10-07", "PTCP-10-04")
async def test_a_ticket_that_was_used_where_it_came_from_is_void_elsewhere() -> None:
    async with realm_of(2) as (one, two), AsyncExitStack() as stack:
        first, again, other = [
            await stack.enter_async_context(client(place.address)) for place in (one, one, two)
        ]
        ticket, esn_uj = await powered(first)
        await eventually(lambda: two.flows_of(0) == 1)
        [key] = one.provider.admissions.live()
        assert await is_resumed(again, ticket, esn_uj)
        await eventually(lambda: key not in one.provider.admissions.live())
        await eventually(lambda: two.provider.office.find(key) is None)
        await eventually(lambda: two.flows_of(0) == 1)  # the old one goes before the new one comes
        assert not await is_resumed(other, ticket, esn_uj)
        assert (one.realm.handed, one.held_mw, two.held_mw) == (0, 12_000, 12_000)


@pytest.mark.requirement("DPDP-10-05")
@pytest.mark.parametrize("why", ["too much for a peer", "clear where a seal is required"])
async def test_who_may_not_have_the_power_there_goes_on_where_it_was(why: str) -> None:
    options = {"per_peer_mw": 6_000} if why == "too much for a peer" else {}
    async with realm_of(2, **options) as (one, two), AsyncExitStack() as stack:
        two.provider.admissions.needs_seal = not options
        first, other, again = [
            await stack.enter_async_context(client(place.address)) for place in (one, two, one)
        ]
        ticket, esn_uj = await powered(first)
        await eventually(lambda: two.flows_of(0) == 1)
        other.ask("12V/1A", ticket=ticket, esn_uj=esn_uj)
        if options:
            # a plain SYN, and what its peer may have
            offered = await other.until(PowerOffered)
            assert isinstance(offered, PowerOffered)
            assert [most.current_ma for most, _ in offered.offers] == [500]
            assert [event for event in other.seen if isinstance(event, Alerted)]
        else:
            ended = await other.until(FlowClosed)
            assert isinstance(ended, FlowClosed)
            assert ended.refusal is not None
            assert ended.refusal.code == Reason.SEAL_REQUIRED
            assert two.held_mw == 0
        assert not [event for event in other.seen if isinstance(event, PowerReady)]
        assert (two.realm.taken, two.flows_of(0)) == (0, 1)
        assert (one.realm.handed, one.held_mw) == (0, 12_000)
        # its ticket is good there as before
        esn_uj = first.machine.status(first.machine.flows[0]).esn_uj
        assert await is_resumed(again, ticket, esn_uj)
        assert one.held_mw == 12_000
