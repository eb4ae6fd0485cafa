"""What links do to discovery: they come and go, change addresses, have no route, and hosts sleep."""

# ruff: noqa: SIM117 - one `async with` for each process reads better

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.drivers.processes import Facts, running
from tests.drivers.spaces import AVAHI, Peer, avahi, check_spaces, inside, ip, pair, peer, spaces
from tests.drivers.test_finder import WISH, offering
from tests.full import size

pytestmark = [pytest.mark.kernel, pytest.mark.interop]
LEASE_S = 5
# how much longer than is promised it may take on a machine with other work
SLOW = size(3, 1)
LEASE = ("--lease", f"{LEASE_S}s")
PROVIDER = ("provider", "--listen", "[::]:3251", "--supply", "12V/5A", *LEASE)


@pytest.fixture(scope="module", autouse=True)
def _allowed() -> None:
    """Skip with the reason: an async test would lose it."""
    check_spaces(AVAHI)


async def saw(other: Peer, is_there: Callable[[str], bool], within_s: float = 20) -> str:
    return await trio.to_thread.run_sync(other.until, is_there, within_s)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def cable(one: str, first: str, other: str, second: str) -> None:
    """Lay a cable between two namespaces; its ends are down."""
    words = ("link", "add", first, "type", "veth", "peer", "name", second, "netns", other)
    ip("-n", one, *words)
    for space, end in ((one, first), (other, second)):
        ip("netns", "exec", space, "sysctl", "-q", f"net.ipv6.conf.{end}.accept_dad=0")


@pytest.mark.requirement("DPDP-8-04")
async def test_an_interface_that_is_added_is_served_within_two_seconds(tmp_path: Path) -> None:
    with spaces(3) as (here, there, other):
        # somebody listens on a bridge that is up all the time, and we are on another network
        ip("-n", there, "link", "add", "b0", "type", "bridge", "mcast_snooping", "0")
        ip("-n", there, "addr", "add", "10.8.0.1/24", "dev", "b0")
        ip("-n", there, "link", "set", "b0", "up")
        cable(here, "e0", other, "e0")
        ip("-n", here, "addr", "add", "10.9.0.2/24", "dev", "e0")
        ip("-n", here, "link", "set", "e0", "up")
        ip("-n", other, "link", "set", "e0", "up")
        cable(other, "e1", there, "p0")
        ip("-n", other, "link", "set", "e1", "up")
        ip("-n", there, "link", "set", "p0", "master", "b0", "up")
        async with running(tmp_path, *PROVIDER, before=inside(here)) as source:
            await source.until_logged("announced as")
            async with running(tmp_path, "discover", "--watch", before=inside(there)) as watch:
                await trio.sleep(2)
                cable(here, "e1", there, "p1")
                ip("-n", there, "link", "set", "p1", "master", "b0", "up")
                ip("-n", here, "addr", "add", "10.8.0.2/24", "dev", "e1")
                began = time.monotonic()
                ip("-n", here, "link", "set", "e1", "up")
                new = await watch.until("new")
                took_s = time.monotonic() - began
                assert "10.8.0.2:3251" in new["addresses"]
                say(f"served {took_s:.2f} s after the interface came")
                assert took_s < 2 * SLOW


@pytest.mark.requirement("DPDP-8-04")
async def test_another_address_is_followed_within_three_seconds(tmp_path: Path) -> None:
    with pair() as (there, here), avahi(tmp_path, there) as bus:
        async with running(tmp_path, *PROVIDER, before=inside(here)) as source:
            await source.until_logged("announced as")
            with peer(tmp_path, bus.words("avahi-browse", "-rp", "_powertcp._tcp")) as browse:
                text = await saw(browse, lambda text: "=;e0;IPv4" in text)
                host = next(line for line in text.splitlines() if "=;e0;" in line).split(";")[6]
            async with running(tmp_path, "discover", "--watch", before=inside(there)) as watch:
                await watch.until("new")
                began = time.monotonic()
                ip("-n", here, "addr", "del", "10.9.0.2/24", "dev", "e0")
                ip("-n", here, "addr", "add", "10.9.0.77/24", "dev", "e0")
                resolve = bus.words("avahi-resolve", "-4", "-n", host)

                def followed() -> float:
                    while (
                        "10.9.0.77"
                        not in subprocess.run(resolve, capture_output=True, text=True).stdout
                    ):
                        assert time.monotonic() < began + 20
                        time.sleep(0.1)
                    return time.monotonic() - began

                avahi_s = await trio.to_thread.run_sync(followed)
                after = await watch.until(
                    "changed",
                    when=lambda one: (
                        "10.9.0.77:3251" in one["addresses"]
                        and "10.9.0.2:3251" not in one["addresses"]
                    ),
                )
                ours_s = time.monotonic() - began
                say(f"avahi has it after {avahi_s:.2f} s, we after {ours_s:.2f} s")
                assert len(after["addresses"]) == 2
                assert max(avahi_s, ours_s) < 3 * SLOW


@pytest.mark.requirement("DPDP-5-04", "DPDP-8-04")
async def test_a_link_that_goes_down_and_up_gives_power_again_over_its_link_local_address(
    tmp_path: Path,
) -> None:
    with pair() as (there, here):
        async with running(tmp_path,  *PROVIDER, before=inside(here)) as source:  # fmt: skip
            await source.until_logged("announced as")
            async with running(
                tmp_path, "consumer", *WISH, "--run", "sleep 600", before=inside(there)
            ) as sink:
                found = await sink.until("found")
                assert re.fullmatch(r"\[fe80::[0-9a-f:]+%e0\]:3251", found["address"])
                await sink.until("ready")
                ip("-n", here, "link", "set", "e0", "down")
                await sink.until("lease over")
                ip("-n", here, "link", "set", "e0", "up")
                began = time.monotonic()
                await sink.until("ready", 2, within_s=90)
                say(f"power again {time.monotonic() - began:.2f} s after the link")
                assert "load ended" not in sink.names()
                async with running(tmp_path, "discover", "--one", before=inside(there)) as look:
                    assert await look.end() == 0
                assert sink.process.returncode is None
            source.signal(signal.SIGTERM)
            assert await source.end() == 0


@pytest.mark.requirement("DPDP-8-01")
async def test_an_interface_without_a_route_for_multicast_is_announced_on(tmp_path: Path) -> None:
    with pair() as (there, here):
        ip("netns", "exec", here, "sysctl", "-q", "net.ipv6.conf.e0.disable_ipv6=1")
        ip("-n", here, "addr", "flush", "dev", "e0")
        ip("-n", here, "addr", "add", "10.9.0.2/32", "dev", "e0")
        words = [*inside(here), "ip", "route", "get", "224.0.0.251"]
        routes = await trio.run_process(words, capture_stderr=True, check=False)
        assert b"Network is unreachable" in routes.stderr
        async with running(tmp_path, *PROVIDER, before=inside(here)) as source:
            await source.until("listening")
            await source.until_logged("announced as")
            async with running(tmp_path, "discover", "--one", before=inside(there)) as look:
                assert await look.end() == 0
                await look.until_closed()
                assert look.events[0]["addresses"] == ["10.9.0.2:3251"]
            assert "cannot" not in source.log


async def test_who_sleeps_for_longer_than_the_lease_wakes_up_and_finds_who_is_there(
    tmp_path: Path,
) -> None:
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Half", "12V/0.5A", *LEASE):
            async with offering(tmp_path, space, "Full", "12V/5A", *LEASE) as best:
                async with running(
                    tmp_path, "consumer", *WISH, "--run", "sleep 600", before=inside(space)
                ) as sink:
                    await sink.until("ready")
                    sink.signal(signal.SIGSTOP)
                    best.process.kill()
                    await trio.sleep(LEASE_S + 2)
                    sink.signal(signal.SIGCONT)
                    began = time.monotonic()
                    await sink.until("ready", 2)
                    say(f"power again {time.monotonic() - began:.2f} s after it woke up")
                    assert sink.all("found")[-1]["provider"] == "Half"
                    assert "load ended" not in sink.names()


async def test_a_provider_that_slept_is_found_again(tmp_path: Path) -> None:
    # in a long run for longer than its addresses are remembered, 120 s
    asleep_s = size(LEASE_S + 2, 130)
    with pair() as (there, here):
        async with running(tmp_path, *PROVIDER, before=inside(here)) as source:
            await source.until_logged("announced as")
            async with (
                running(tmp_path, "discover", "--watch", before=inside(there)) as watch,
                running(
                    tmp_path, "consumer", *WISH, "--run", "sleep 600", before=inside(there)
                ) as sink,
            ):
                await watch.until("new")
                await sink.until("ready")
                source.signal(signal.SIGSTOP)
                await sink.until("lease over")
                await trio.sleep(asleep_s - LEASE_S)
                source.signal(signal.SIGCONT)
                began = time.monotonic()
                await sink.until("ready", 2, within_s=90)
                say(f"power again {time.monotonic() - began:.2f} s after it woke up")
                status, adverts = await looked(tmp_path, there)
                assert (status, len(adverts)) == (0, 1)
                assert watch.all("gone") == []


async def looked(folder: Path, space: str) -> tuple[int, list[Facts]]:
    async with running(folder, "discover", before=inside(space)) as one:
        status = await one.end()
        await one.until_closed()
        return status, list(one.events)
