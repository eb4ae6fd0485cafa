"""Providers and those who look for them as processes, in namespaces of their own; avahi as peer."""

# ruff: noqa: SIM117 - one `async with` for each process reads better

import re
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.drivers.processes import Running, asked, running
from tests.drivers.spaces import Peer, avahi, inside, ip, pair, peer, spaces

pytestmark = [pytest.mark.kernel, pytest.mark.interop]

BENCH = (
    "txtvers=1", "id=7f31a2c4d5e60718293a4b5c6d7e8f90",
    "p1=4c00002ee0000bb8000000000000000064000013880000000000000000000000",
    "cap=36000", "src=grid", "tariff=EUR:250000",
)  # fmt: skip


@asynccontextmanager
async def announced(
    folder: Path, space: str, *words: str, listen: str = "[::]:3251"
) -> AsyncIterator[Running]:
    """Run a provider in a namespace until it is announced."""
    async with running(
        folder, "provider", "--listen", listen, "--supply", "12V/5A", *words, before=inside(space)
    ) as one:
        await one.until_logged("announced as")
        yield one


async def found(folder: Path, space: str, *words: str) -> tuple[int, list[Mapping[str, Any]], str]:
    """Run `powertcp discover`; returns its exit status, its objects and its log."""
    async with running(folder, "discover", *words, before=inside(space)) as one:
        status = await one.end()
        await one.until_closed()
        return status, list(one.events), one.log


async def saw(other: Peer, is_there: Callable[[str], bool], within_s: float = 20) -> str:
    return await trio.to_thread.run_sync(other.until, is_there, within_s)


# ---- on the loopback alone ----------------------------------------------------------------------


@pytest.mark.requirement("DPDP-4-03")
async def test_a_provider_without_any_network_is_found_and_says_goodbye(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        async with announced(tmp_path, space, "--name", "Bench PSU") as source:
            status, adverts, _ = await found(tmp_path, space)
            assert status == 0
            (advert,) = adverts
            assert (advert["name"], advert["standing"], advert["cap_mw"]) == ("Bench PSU", "good", 60_000)
            assert advert["offers"][0]["text"] == "12V/5A"
            assert advert["addresses"] == ["127.0.0.1:3251"]
            async with running(tmp_path, "discover", "--watch", before=inside(space)) as watch:
                await watch.until("new")
                source.signal(signal.SIGTERM)
                gone = await watch.until("gone")
                assert gone["id"] == advert["id"]
            assert await source.end() == 0
        status, adverts, log = await found(tmp_path, space, "--timeout", "1s")
        assert (status, adverts) == (3, [])
        assert "nothing found on lo" in log


async def test_a_provider_may_be_silent(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        async with running(
            tmp_path, "provider", "--listen", "127.0.0.1:0", "--supply", "12V/5A", "--no-mdns",
            before=inside(space),
        ) as source:  # fmt: skip
            await source.until("listening")
            status, _, _ = await found(tmp_path, space, "--timeout", "2s")
            assert status == 3
            async with running(tmp_path, "discover", "--timeout", "1h1s") as word:
                assert await word.end() == 2


@pytest.mark.requirement("DPDP-3-05")
async def test_an_id_stays_over_a_restart_with_and_without_a_ledger(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        for words in ([], ["--no-ledger"]):
            ids = []
            for _ in range(2):
                async with announced(tmp_path, space, *words) as source:
                    _, adverts, _ = await found(tmp_path, space, "--one")
                    ids.append(adverts[0]["id"])
                    source.signal(signal.SIGTERM)
                    assert await source.end() == 0
            assert ids[0] == ids[1]


# ---- avahi --------------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-2-01")
@pytest.mark.requirement("DPDP-5-04")
async def test_what_avahi_announces_is_found_over_ipv4_and_link_local_ipv6(tmp_path: Path) -> None:
    with pair() as (there, here), avahi(tmp_path, there) as bus:
        words = bus.words("avahi-publish", "-s", "Bench PSU", "_powertcp._tcp", "3251", *BENCH)
        with peer(tmp_path, words) as publish:
            await saw(publish, lambda text: "Established" in text)
            status, adverts, _ = await found(tmp_path, here)
            assert status == 0
            (advert,) = adverts
            scoped, plain = advert["addresses"]
            assert re.fullmatch(r"\[fe80::[0-9a-f:]+%e0\]:3251", scoped)
            assert plain == "10.9.0.1:3251"
            assert advert["offers"] == [
                {
                    "text": "5-12V/3A", "voltage_mv": 12_000, "current_ma": 3_000,
                    "least_voltage_mv": 5_000, "least_current_ma": 0, "frequency_chz": 0,
                    "waveform": "dc", "phases": "one",
                }
            ]  # fmt: skip
            assert (advert["currency"], advert["price_micro_per_kwh"]) == ("EUR", 250_000)
            assert advert["pairs"]["tariff"] == "EUR:250000"


@pytest.mark.requirement("DPDP-4-01")
@pytest.mark.requirement("DPDP-4-03")
async def test_avahi_sees_what_we_announce_and_that_it_goes(tmp_path: Path) -> None:
    with pair() as (there, here), avahi(tmp_path, there) as bus:
        with peer(tmp_path, bus.words("avahi-browse", "-rp", "_powertcp._tcp")) as browse:
            async with announced(tmp_path, here, "--name", "Hall B") as source:
                text = await saw(browse, lambda text: text.count("=;e0;") >= 2)
                row = next(line for line in text.splitlines() if line.startswith("=;e0;IPv4"))
                assert ";Hall\\032B;_powertcp._tcp;local;" in row
                assert ";10.9.0.2;3251;" in row
                status = await asked(tmp_path, f"provider-{source.pid}.sock", op="status")
                adverts: Any = status["adverts"]
                for pair_ in ('"txtvers=1"', '"cap=60000"', '"src=grid"', '"p1=4c'):
                    assert pair_ in row
                assert adverts[0]["name"] == "Hall B"
                host = row.split(";")[6]
                with peer(tmp_path, bus.words("avahi-resolve", "-4", "-n", host)) as resolve:
                    await saw(resolve, lambda text: "10.9.0.2" in text)
                source.signal(signal.SIGTERM)
                await saw(browse, lambda text: "-;e0;IPv4;Hall\\032B" in text, within_s=1)
                assert await source.end() == 0


# ---- conflicts and changes ----------------------------------------------------------------------


@pytest.mark.requirement("DPDP-5-01")
async def test_the_second_of_a_name_gets_a_number(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        async with announced(tmp_path, space, "--name", "Lamp", listen="127.0.0.1:0"):
            async with announced(
                tmp_path, space, "--name", "Lamp", "--state-dir", str(tmp_path / "two"),
                listen="127.0.0.1:0",
            ) as second:  # fmt: skip
                await second.until_logged('announced as "Lamp (2)"')
                _, adverts, _ = await found(tmp_path, space)
                assert {advert["name"] for advert in adverts} == {"Lamp", "Lamp (2)"}


async def test_an_address_that_comes_and_a_link_that_goes_are_followed(tmp_path: Path) -> None:
    with pair() as (there, here):
        async with announced(tmp_path, here):
            async with running(tmp_path, "discover", "--watch", before=inside(there)) as watch:
                await watch.until("new")
                ip("-n", here, "addr", "add", "10.9.0.77/24", "dev", "e0")
                with trio.fail_after(4):
                    await watch.until(
                        "changed", when=lambda facts: "10.9.0.77:3251" in facts["addresses"]
                    )
