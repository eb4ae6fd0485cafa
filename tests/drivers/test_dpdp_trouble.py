"""What goes wrong on a link: names that clash, ports that are taken, storms, and who means no good."""

# ruff: noqa: SIM117 - one `async with` for each process reads better

import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from powertcp.dpdp.advert import TYPE_TCP, decode_txt
from powertcp.dpdp.engine import MAX_ADVERTS
from tests.drivers.processes import Running, asked, running
from tests.drivers.spaces import Peer, check_spaces, inside, ip, pair, peer, spaces
from tests.full import size

pytestmark = [pytest.mark.kernel, pytest.mark.interop]
TAKEN = f"Lamp (2).{TYPE_TCP.rstrip('.')}"
# a question of any type that says what would be answered
PROBES = "mdns && dns.flags.response==0 && dns.count.auth_rr>0"
PROVIDER = ("provider", "--supply", "12V/5A", "--listen")


@pytest.fixture(scope="module", autouse=True)
def _allowed() -> None:
    """Skip with the reason: an async test would lose it."""
    check_spaces({"tshark": "tshark"})


async def saw(other: Peer, is_there: Callable[[str], bool], within_s: float = 30) -> str:
    return await trio.to_thread.run_sync(other.until, is_there, within_s)


def resident_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1])


@pytest.mark.requirement("DPDP-4-01")
@pytest.mark.requirement("DPDP-8-01")
async def test_a_provider_whose_port_of_mdns_is_taken_serves_and_tries_again(
    tmp_path: Path,
) -> None:
    hold = (
        "import socket,sys\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
        "s.bind(('',5353))\nprint('held',flush=True)\nsys.stdin.read() or __import__('signal').pause()"
    )
    with spaces(1) as (space,):
        with peer(tmp_path, [*inside(space), sys.executable, "-c", hold]) as holder:
            await saw(holder, lambda text: "held" in text)
            async with running(tmp_path, *PROVIDER, "127.0.0.1:0", before=inside(space)) as source:
                listening = await source.until("listening")
                await source.until_logged("cannot speak mDNS: UDP port 5353")
                async with running(
                    tmp_path, "consumer", "--connect", listening["addresses"][0],
                    "--request", "12V/1A", "--run", "sleep 0.1", before=inside(space),
                ) as sink:  # fmt: skip
                    assert await sink.end() == 0
                holder.process.kill()
                await source.until_logged("announced as")
                assert source.log.count("cannot speak mDNS") == 1


@pytest.mark.requirement("DPDP-4-02")
async def test_a_storm_of_changes_is_announced_a_few_times_and_the_last_value_is_right(
    tmp_path: Path,
) -> None:
    with pair() as (there, here):
        async with running(tmp_path, *PROVIDER, "[::]:3251", before=inside(here)) as source:
            await source.until_logged("announced as")
            words = [
                *inside(there), "tshark", "-l", "-n", "-i", "e0", "-Y",
                "mdns && dns.flags.response==1 && dns.txt", "-T", "fields", "-e", "dns.txt",
            ]  # fmt: skip
            with peer(tmp_path, words) as shark:
                await saw(shark, lambda text: "Capturing" in text)
                # the last one is news after each of the others
                values = [60_000 - number % 2 * 30_000 - number for number in range(60)]
                for rating_mw in (*values, 45_000):
                    await asked(
                        tmp_path, f"provider-{source.pid}.sock", op="set", rating_mw=rating_mw
                    )
                    await trio.sleep(0.05)
                text = await saw(shark, lambda text: "cap=45000" in text)
                said = list(dict.fromkeys(re.findall(r"cap=(\d+)", text)))
                # three at once, and one more each 6 s
                assert len(said) <= 3 + 2
                assert said[-1] == "45000"


@pytest.mark.requirement("DPDP-4-05", "DPDP-6-03")
async def test_a_goodbye_that_somebody_else_says_takes_nobody_away_and_ends_no_flow(
    tmp_path: Path,
) -> None:
    with spaces(1) as (space,):
        async with (
            running(
                tmp_path, *PROVIDER, "127.0.0.1:0", "--name", "Lamp", before=inside(space)
            ) as source,
            running(tmp_path, "discover", "--watch", before=inside(space)) as watch,
            running(
                tmp_path, "consumer", "--request", "12V/1A", "--run", "sleep 600",
                before=inside(space),
            ) as sink,
        ):  # fmt: skip
            await watch.until("new")
            await sink.until("ready")
            words = [*inside(space), sys.executable, "-m", "tests.drivers.rogue"]
            with peer(tmp_path, [*words, "goodbye", "Lamp"]) as rogue:
                await saw(rogue, lambda text: "said" in text)
            # it is asked for once more after the last goodbye
            await trio.sleep(2.2)
            assert watch.all("gone") == []
            assert sink.names()[-1] == "ready"
            assert not {"stale", "left", "lease over", "load ended"} & set(sink.names())
            count = len(sink.all("readings"))
            await sink.until("readings", count + 2)
            sink.signal(signal.SIGTERM)
            assert await sink.end() == 0
            source.signal(signal.SIGTERM)
            await watch.until("gone")


@pytest.mark.requirement("DPDP-7-05")
async def test_a_flood_of_adverts_and_broken_ones_is_bounded_and_drives_out_no_pin(
    tmp_path: Path,
) -> None:
    with spaces(1) as (space,):
        async with (
            running(
                tmp_path, *PROVIDER, "127.0.0.1:0", "--name", "Lamp", before=inside(space)
            ) as source,
            running(tmp_path, "discover", "--watch", "--all", before=inside(space)) as first,
        ):
            await source.until_logged("announced as")
            own = await first.until("new")
            words = ("discover", "--pin", own["id"])
            async with running(tmp_path, *words, before=inside(space)) as pin:
                assert await pin.end() == 0
            async with running(
                tmp_path, "discover", "--watch", "--all", before=inside(space)
            ) as watch:
                assert (await watch.until("new"))["trust"] == "pinned"
                before_kib = resident_kib(watch.pid)
                rogues = [*inside(space), sys.executable, "-m", "tests.drivers.rogue"]
                for deed in ("broken", "flood"):
                    with peer(tmp_path, [*rogues, deed]) as rogue:
                        await saw(rogue, lambda text: "said" in text)
                await watch.until_logged("more than anybody needs")
                there = len(watch.all("new")) - len(watch.all("gone"))
                grown_kib = resident_kib(watch.pid) - before_kib
                sys.stdout.write(f"{there} adverts, {grown_kib} KiB more\n")
                assert 0 < there <= MAX_ADVERTS
                assert not [one for one in watch.all("gone") if one["id"] == own["id"]]
                assert grown_kib < 20_000_000 >> 10
                assert "Traceback" not in watch.log


async def test_500_providers_of_10_hosts_are_all_found(tmp_path: Path) -> None:
    with spaces(1) as (space,), ExitStack() as stack:
        words = [*inside(space), sys.executable, "-m", "tests.drivers.responders"]
        for number in range(10):
            host = stack.enter_context(peer(tmp_path, [*words, str(50 * number + 1), "50"]))
            await saw(host, lambda text: "announced" in text)
        async with running(tmp_path, "discover", "--timeout", "10s", before=inside(space)) as one:
            assert await one.end() == 0
            await one.until_closed()
            assert len({advert["id"] for advert in one.events}) == 500


@pytest.mark.requirement("DPDP-8-04")
async def test_a_link_that_comes_later_is_announced_on(tmp_path: Path) -> None:
    with pair() as (there, here):
        ip("-n", here, "link", "set", "e0", "down")
        async with running(tmp_path, *PROVIDER, "[::]:3251", before=inside(here)) as source:
            await source.until_logged("announced as")
            async with running(tmp_path, "discover", "--watch", before=inside(there)) as watch:
                await trio.sleep(1)
                ip("-n", here, "link", "set", "e0", "up")
                found = await watch.until("new")
                assert "10.9.0.2:3251" in found["addresses"]


@pytest.mark.requirement("DPDP-5-02")
async def test_names_that_clash_when_two_segments_are_joined_part_again(tmp_path: Path) -> None:
    with spaces(3) as (one, two, switch):
        for number, (space, bridge) in enumerate(((one, "b0"), (two, "b1")), 1):
            ip("-n", switch, "link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
            ip("-n", switch, "link", "set", bridge, "up")
            port = f"p{number}"
            ip(
                "-n",
                space,
                "link",
                "add",
                "e0",
                "type",
                "veth",
                "peer",
                "name",
                port,
                "netns",
                switch,
            )
            ip("netns", "exec", space, "sysctl", "-q", "net.ipv6.conf.e0.accept_dad=0")
            ip("-n", space, "addr", "add", f"10.9.0.{number}/24", "dev", "e0")
            ip("-n", space, "link", "set", "e0", "up")
            ip("-n", switch, "link", "set", port, "master", bridge, "up")
        async with running(
            tmp_path, *PROVIDER, "[::]:3251", "--name", "Lamp", before=inside(one)
        ) as first:
            await first.until_logged('announced as "Lamp"')
            async with running(
                tmp_path, *PROVIDER, "[::]:3251", "--name", "Lamp", "--state-dir",
                str(tmp_path / "two"), before=inside(two),
            ) as second:  # fmt: skip
                await second.until_logged('announced as "Lamp"')
                ids = [await identity_of(tmp_path, each) for each in (first, second)]
                words = [
                    *inside(one), "tshark", "-l", "-n", "-i", "e0", "-Y", PROBES,
                    "-T", "fields", "-e", "dns.qry.name", "-e", "dns.resp.name", "-e", "dns.ptr.domain_name",
                ]  # fmt: skip
                with peer(tmp_path, words) as shark:
                    await saw(shark, lambda text: "Capturing" in text)
                    ip("-n", switch, "link", "set", "p2", "master", "b0")
                    async with running(
                        tmp_path, "discover", "--watch", before=inside(one)
                    ) as watch:
                        # somebody asks, and they hear each other answer
                        await watch.until("new")
                        began = time.monotonic()
                        new = await watch.until(
                            "new", when=lambda facts: facts["name"] == "Lamp (2)"
                        )
                        sys.stdout.write(f"renamed after {time.monotonic() - began:.1f} s\n")
                        assert time.monotonic() - began < size(20, 10)
                        assert new["id"] == min(ids)
                        async with running(tmp_path, "discover", before=inside(one)) as look:
                            assert await look.end() == 0
                            await look.until_closed()
                            names = {facts["name"]: facts["id"] for facts in look.events}
                            assert names == {"Lamp": max(ids), "Lamp (2)": min(ids)}
                        # one of the two registers anew, once: three probes over IPv4 and IPv6
                        await trio.sleep(size(6, 60))
                        assert re.findall(r"Lamp[^\t\n]*", shark.text) == [TAKEN] * 6
                logs = first.log + second.log
                assert logs.count('"Lamp" is announced as "Lamp (2)"') == 1
                assert logs.count("announced as") == 4


async def identity_of(folder: Path, source: Running) -> str:
    status: Any = await asked(folder, f"provider-{source.pid}.sock", op="status")
    return decode_txt(bytes.fromhex(status["adverts"][0]["txt"])).id.hex()
