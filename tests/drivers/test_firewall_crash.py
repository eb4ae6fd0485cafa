"""A firewall that is killed, and one whose disk is full: what is in its ledger is what there is."""

import os
import random
import resource
import signal
import socket
from pathlib import Path

import pytest
import trio

from powertcp.drivers.control import Fields
from tests.drivers.firewalls import POLICY, Fire, attacker, firewall
from tests.drivers.gateways import inside
from tests.drivers.processes import running

# POWERTCP_LONG=1: 25 kills, any other number: as many
LONG = int(os.environ.get("POWERTCP_LONG", "0"))
KILLS = {0: 3, 1: 25}.get(LONG, LONG)
POWER_UJ = 1_000_000_000
LENDER = 'lend from main offer 12V/5A above 0% listen 127.0.0.1:0 announce "reclaimed power"\n'


def stored(status: Fields) -> int:
    rows = status["reservoirs"]
    assert isinstance(rows, list)
    return int(rows[0]["stored_uj"])


async def lender_of(fire: Fire) -> str:
    await fire.process.until_logged("lending 12V/5A")
    return "127.0.0.1:" + fire.process.log.split(" at 127.0.0.1:")[1].split()[0]


@pytest.mark.requirement("FWRL-4-01", "FWRL-5-01")
async def test_killed_at_any_time_it_loses_a_second_at_most_and_invents_nothing(
    tmp_path: Path,
) -> None:
    rng, name = random.Random(6), socket.gethostname()
    sent_uj, before = 0, 0
    for _ in range(KILLS):
        async with firewall(tmp_path) as fire:
            # what it begins with is what was in the ledger
            assert stored(await fire.ask(op="status")) == before
            async with attacker(fire.address, "--for", "60s") as attack:
                await attack.until("connected")
                await trio.sleep(rng.uniform(0.2, 3.5))
                fire.process.signal(signal.SIGKILL)
                assert await fire.process.end() == -signal.SIGKILL
                assert await attack.end() == 0
                (sent,) = attack.all("done")
                sent_uj += sent["sent_uj"]
        accounts = fire.accounts()
        before = accounts.get("reservoir:main", 0)
        came = -accounts.get("intercepted:127.0.0.1", 0)
        assert came == before + accounts.get(f"heat:{name}", 0)
        # a second, what was under way, and a host that is busy with other things
        assert 0 <= sent_uj - came <= 2 * POWER_UJ
        sent_uj = came


@pytest.mark.requirement("FWRL-4-04", "FWRL-5-01")
async def test_what_was_lent_as_it_was_killed_is_not_there_again(tmp_path: Path) -> None:
    async with (
        firewall(tmp_path, "--no-mdns", policy=POLICY + LENDER) as fire,
        attacker(fire.address, "--for", "60s") as attack,
    ):
        await attack.until("connected")
        where = await lender_of(fire)
        words = ["consumer", "--connect", where, "--request", "12V/4A", "--give-up", "1s"]
        words += ["--state-dir", str(tmp_path / "dev")]
        async with running(tmp_path, *words) as sink:
            await sink.until("readings", count=3)
            fire.process.signal(signal.SIGKILL)
            await fire.process.end()
            await sink.end()
        (done,) = sink.all("done")
    crashed = fire.accounts()
    async with firewall(tmp_path, "--no-mdns", policy=POLICY + LENDER) as again:
        await again.process.until_logged("may have been lent as it crashed is heat")
        left_uj = stored(await again.ask(op="status"))
        again.process.signal(signal.SIGTERM)
        assert await again.process.end() == 0
    accounts = again.accounts()
    lent_uj = crashed.get("lent:127.0.0.1", 0)
    # what it had that no entry says is taken out all the same
    assert lent_uj <= done["energy_uj"]
    assert accounts["reservoir:main"] == left_uj
    assert crashed["reservoir:main"] - left_uj >= done["energy_uj"] - lent_uj
    assert -accounts["intercepted:127.0.0.1"] == (
        left_uj + lent_uj + accounts[f"heat:{socket.gethostname()}"]
    )


async def test_an_orderly_end_loses_nothing_of_what_was_lent(tmp_path: Path) -> None:
    async with (
        firewall(tmp_path, "--no-mdns", policy=POLICY + LENDER) as fire,
        attacker(fire.address, "--for", "60s") as attack,
    ):
        await attack.until("connected")
        where = await lender_of(fire)
        words = ["consumer", "--connect", where, "--request", "12V/4A", "--give-up", "1s"]
        words += ["--state-dir", str(tmp_path / "dev")]
        async with running(tmp_path, *words) as sink:
            await sink.until("readings", count=2)
            fire.process.signal(signal.SIGTERM)
            assert await fire.process.end() == 0
            await sink.end()
        (done,) = sink.all("done")
    accounts = fire.accounts()
    assert accounts["lent:127.0.0.1"] == done["energy_uj"]
    assert -accounts["intercepted:127.0.0.1"] == (
        accounts["reservoir:main"] + done["energy_uj"] + accounts[f"heat:{socket.gethostname()}"]
    )


@pytest.mark.requirement("FWRL-1-01", "LEDG-7-07")
async def test_on_a_full_disk_nothing_passes_and_good_flows_end_with_602(tmp_path: Path) -> None:
    async with inside(tmp_path) as (_, address), firewall(tmp_path) as fire:
        async with running(tmp_path, *fire.device(address, time="")) as sink:
            await sink.until("readings")
            resource.prlimit(fire.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            async with attacker(fire.address, "--for", "60s") as attack:
                await attack.until("connected")
                lost = await sink.until("lost", when=lambda one: one["code"] == 602)
                assert lost["text"] == "the ledger cannot be written"
                await attack.end()
            sink.signal(signal.SIGTERM)
            await sink.end()
        late = fire.device(address, "--give-up", "1s", name="late")
        async with running(tmp_path, *late) as sink:
            assert await sink.end() == 1
        assert {one["code"] for one in sink.events if one.get("code")} == {602}
        assert not sink.all("ready")
        status = await fire.ask(op="status")
        books = status["books"]
        assert isinstance(books, dict)
        assert books["is_read_only"]
        assert str(status["state"]).startswith("nothing passes: 602")
        resource.prlimit(
            fire.process.pid,
            resource.RLIMIT_FSIZE,
            (resource.RLIM_INFINITY, resource.RLIM_INFINITY),
        )
        fire.process.signal(signal.SIGTERM)
        assert await fire.process.end() == 0
    accounts = fire.accounts()
    async with firewall(tmp_path) as again:
        assert stored(await again.ask(op="status")) == accounts.get("reservoir:main", 0)
