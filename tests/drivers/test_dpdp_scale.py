"""A crowd on one link: many providers beside avahi, many changes in a minute. POWERTCP_LONG=1: all."""

import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from tests.drivers.processes import asked, running
from tests.drivers.spaces import Peer, avahi, inside, need, pair, peer
from tests.full import LONG, size

pytestmark = [pytest.mark.kernel, pytest.mark.interop]
HOSTS, EACH = 10, size(10, 50)
CHANGES, SECONDS = size(100, 1000), size(6, 60)
RATING_MW = 60_000


async def saw(other: Peer, is_there: Callable[[str], bool], within_s: float = 60) -> str:
    return await trio.to_thread.run_sync(other.until, is_there, within_s)


def resolved(text: str) -> set[str]:
    """Return the names that avahi-browse has resolved."""
    rows = (line.split(";") for line in text.splitlines() if line.startswith("="))
    return {row[3].replace("\\032", " ") for row in rows}


async def test_a_crowd_is_found_whole_and_avahi_lists_the_same(tmp_path: Path) -> None:
    wanted = {f"lamp {number}" for number in range(1, HOSTS * EACH + 1)}
    with pair() as (there, here), ExitStack() as stack:
        words = [*inside(there), sys.executable, "-m", "tests.drivers.responders"]
        hosts = [
            stack.enter_context(peer(tmp_path, [*words, f"{EACH * host + 1}", f"{EACH}", "all"]))
            for host in range(HOSTS)
        ]
        for host in hosts:
            await saw(host, lambda text: "announced" in text)
        for _ in range(size(1, 10)):
            # what they say of their address is not of this link: they are suspect
            look = ("discover", "--all", "--timeout", "10s")
            began = trio.current_time()
            async with running(tmp_path, *look, before=inside(here)) as one:
                assert await one.end() == 0
                took_s = trio.current_time() - began
                await one.until_closed()
                assert {advert["name"] for advert in one.events} == wanted
            sys.stdout.write(f"{len(wanted)} of {len(wanted)}, ended after {took_s:.2f} s\n")
        with avahi(tmp_path, here) as bus:
            words = [*bus.words("avahi-browse", "-rp", "_powertcp._tcp")]
            with peer(tmp_path, words) as browse:
                text = await saw(browse, lambda text: len(resolved(text)) >= len(wanted))
                assert resolved(text) == wanted


@pytest.mark.requirement("DPDP-4-02")
async def test_changes_of_a_minute_are_twelve_announcements_at_most(tmp_path: Path) -> None:
    need({"tshark": "tshark"})
    with pair() as (there, here):
        async with running(
            tmp_path, "provider", "--supply", "12V/5A", "--listen", "[::]:3251", before=inside(here)
        ) as source:
            await source.until_logged("announced as")
            words = [
                *inside(there), "tshark", "-l", "-n", "-i", "e0", "-Y",
                "ip && mdns && dns.flags.response==1 && dns.txt", "-T", "fields",
                "-e", "frame.time_epoch", "-e", "dns.txt",
            ]  # fmt: skip
            with peer(tmp_path, words) as shark:
                await saw(shark, lambda text: "Capturing" in text)
                began, last = trio.current_time(), RATING_MW // 4
                for number in range(1, CHANGES + 1):
                    # to and fro by half of it, never twice the same; less than a tenth is no news
                    rating_mw = RATING_MW - number % 2 * (RATING_MW // 2) - number
                    if number == CHANGES:
                        rating_mw = last
                    await asked(
                        tmp_path, f"provider-{source.pid}.sock", op="set", rating_mw=rating_mw
                    )
                    await trio.sleep_until(began + SECONDS * number / CHANGES)
                said = announcements(shark.text)
                assert 0 < len(said) <= (12 if LONG else 3 + SECONDS // 6)
                await saw(shark, lambda text: f"cap={last}" in text)
                assert announcements(shark.text)[-1] == last
                sys.stdout.write(f"{len(said)} announcements of {CHANGES} changes\n")


def announcements(text: str) -> list[int]:
    """Return what was announced, each once: an announcement is repeated for those who miss it."""
    return [int(cap) for cap in dict.fromkeys(re.findall(r"cap=(\d+)", text))]
