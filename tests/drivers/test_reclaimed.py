"""A lender on the link: found while it lends, with what is left; gone when it does not."""

# ruff: noqa: SIM117 - one `async with` for each end reads better

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from powertcp.dpdp.advert import TYPE_TCP, Advert, decode_txt
from powertcp.drivers import reclaimed
from powertcp.drivers.lending import Lender
from powertcp.drivers.mdns import Mdns, open_mdns
from powertcp.drivers.offers import Identity
from powertcp.errors import HostError
from powertcp.potcp.events import PowerReady
from tests.drivers.test_lending import J, Lent, lend, lending, store
from tests.drivers.test_provider import client, eventually

WHO = Identity(id=bytes(range(16)))


class Link:
    """What somebody else hears of one name."""

    def __init__(self, mdns: Mdns, name: str) -> None:
        self._mdns, self._name = mdns, name

    async def until(self, is_it: Callable[[Advert | None], bool]) -> Advert | None:
        """Wait until its advert, None without one, is as wanted."""
        with trio.fail_after(20):
            while True:
                found, _ = await self._mdns.inbox.take()
                for each in found:
                    if not each.instance.startswith(self._name):
                        continue
                    service = None if each.is_gone else each.service
                    if not each.is_gone and service is None:
                        continue
                    advert = decode_txt(service.txt) if service is not None else None
                    if is_it(advert):
                        return advert


@asynccontextmanager
async def listening(name: str) -> AsyncIterator[Link]:
    async with open_mdns(["lo"]) as mdns:
        await mdns.opened.wait()
        assert mdns.resolver is not None
        mdns.resolver.browse([TYPE_TCP], is_passive=False)
        yield Link(mdns, name)


def name_of(request: pytest.FixtureRequest) -> str:
    return f"reclaimed {os.getpid()} {request.node.name[-20:]}".replace("_", " ")


@pytest.mark.requirement("FWRL-4-04", "DPDP-4-03")
async def test_it_is_found_while_it_lends(request: pytest.FixtureRequest) -> None:
    name, reservoir = name_of(request), store(30_000 * J)
    async with listening(name) as link:
        async with lending(reservoir, lend(announce=name), identity=WHO) as (lender, _, _):
            advert = await link.until(lambda one: one is not None)
            assert advert is not None
            assert (advert.source, advert.soc, advert.cap_mw) == ("reclaimed", 30, 60_000)
            assert advert.offers[0].offer.format() == "12V/5A"
            assert advert.id == WHO.id
            await eventually(lambda: lender.status()["is_announced"] is True)
            # below its threshold nobody new is to come
            reservoir.draw(12_000 * J)
            await link.until(lambda one: one is None)
            reservoir.bank(30_000 * J)
            advert = await link.until(lambda one: one is not None)
            assert advert is not None
            assert advert.soc == reservoir.percent == 45


async def test_what_is_left_is_told_from_time_to_time(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reclaimed, "REFRESH_S", 0.2)
    name, reservoir = name_of(request), store(30_000 * J)
    async with listening(name) as link:
        async with lending(reservoir, lend(announce=name), identity=WHO) as (lender, _, _):
            await eventually(lambda: lender.status()["is_announced"] is True)
            reservoir.bank(10_000 * J)
            assert reservoir.percent == 39
            advert = await link.until(lambda one: one is not None and one.soc == 39)
            assert advert is not None
            # nothing else has changed
            assert advert.cap_mw == 60_000


@pytest.mark.requirement("DPDP-4-03")
async def test_who_drains_says_goodbye_and_does_not_come_back(
    request: pytest.FixtureRequest,
) -> None:
    name = name_of(request)
    async with listening(name) as link, trio.open_nursery() as nursery:
        lender = Lender(lend(announce=name), store(), Lent(), identity=WHO)
        await nursery.start(lender.run)
        await link.until(lambda one: one is not None)
        await eventually(lambda: lender.status()["is_announced"] is True)
        await lender.drain()
        await link.until(lambda one: one is None)
    assert not lender.status()["is_announced"]


async def test_who_is_closed_at_the_start_says_nothing() -> None:
    async with lending(store(0), lend(announce="silent"), identity=WHO) as (lender, _, _):
        assert lender.presence is not None
        assert lender.presence.adverts() == []
        lender.reservoir.bank(60_000 * J)
        lender.look()
        [advert] = lender.presence.adverts()
        assert decode_txt(bytes.fromhex(str(advert["txt"]))).soc == 57


@pytest.mark.requirement("DPDP-8-01")
async def test_that_it_cannot_be_announced_keeps_nobody_from_lending(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise HostError(24, "netlink", "read the interfaces")

    monkeypatch.setattr(reclaimed, "open_mdns", fail)
    async with lending(store(), lend(announce="mute"), identity=WHO) as (lender, address, _):
        await eventually(lambda: "not announced: cannot read the interfaces" in caplog.text)
        async with client(address) as sink:
            sink.ask("12V/1A")
            await sink.until(PowerReady)
        assert not lender.status()["is_announced"]
