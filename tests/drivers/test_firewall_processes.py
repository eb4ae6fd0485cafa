"""The firewall between real providers and real consumers, each a process of its own."""

import signal
import socket
from pathlib import Path

import pytest

from tests.drivers.firewalls import POLICY, Fire, attacker, firewall
from tests.drivers.gateways import books, inside
from tests.drivers.processes import Running, running


async def ended(*daemons: Running | Fire) -> None:
    """Let daemons drain, and see that they end well."""
    for one in daemons:
        process = one.process if isinstance(one, Fire) else one
        process.signal(signal.SIGTERM)
        assert await process.end() == 0, process.log


@pytest.mark.requirement("FWRL-1-03", "FWRL-2-03", "FWRL-5-01")
async def test_what_is_accepted_passes_to_the_microjoule(tmp_path: Path) -> None:
    async with inside(tmp_path) as (source, address), firewall(tmp_path) as fire:
        words = fire.device(address, "--receipts", "1s", time="3500ms")
        async with running(tmp_path, *words) as sink:
            assert await sink.end() == 0, sink.log
        (done,) = sink.all("done")
        status = await fire.ask(op="status", flows=True)
        await ended(fire, source)
    assert done["energy_uj"] == done["signed_uj"] == 84_000_000
    assert status["in_uj"] == status["authorised_uj"] == 84_000_000
    assert (status["heat_uj"], status["residual_uj"], status["bugs"]) == (0, 0, 0)
    # the provider's books: what was owed is what came
    rows = {
        row["account"]: row["debit"] - row["credit"] for row in books(tmp_path / "inside", "show")
    }
    assert 84_000_000 in rows.values()


@pytest.mark.requirement("FWRL-2-03", "FWRL-3-06")
async def test_refusals_name_the_rule_and_leave_the_provider_alone(tmp_path: Path) -> None:
    async with inside(tmp_path) as (source, address), firewall(tmp_path) as fire:
        words = fire.device(address, "--give-up", "1s", power="12V/5A")
        async with running(tmp_path, *words) as sink:
            assert await sink.end() == 1, sink.log
        (refused,) = sink.all("refused")
        assert (refused["code"], refused["value"], refused["limit"]) == (204, 60_000, 50_000)
        assert refused["text"] == "line 7"
        nobody = fire.device("127.0.0.1:1", "--give-up", "1s", name="nobody")
        async with running(tmp_path, *nobody) as sink:
            assert await sink.end() == 1, sink.log
        assert sink.all("refused")[0]["code"] == 100
        itself = fire.device(fire.address, "--give-up", "1s", name="loop")
        async with running(tmp_path, *itself) as sink:
            assert await sink.end() == 1, sink.log
        assert "is the firewall itself" in sink.all("refused")[0]["text"]
        explained = await fire.ask(op="explain")
        await ended(fire, source)
    rows = explained["explanations"]
    assert isinstance(rows, list)
    # the newest first; whoever has no room is asked again
    assert list(dict.fromkeys(row["code"] for row in rows)) == [206, 100, 204]
    assert rows[-1]["rule"].startswith(f"{fire.policy}:7 rule power > 50W")
    assert rows[-1]["values"] == {"power": "60 W"}
    kinds = [(row["kind"], row["facts"].get("line")) for row in fire.events()]
    assert kinds[:2] == [("firewall policy", None), ("firewall refused", 7)]


@pytest.mark.requirement("FWRL-4-04", "FWRL-5-01", "FWRL-1-04")
async def test_what_attacks_it_powers_a_device_inside(tmp_path: Path) -> None:
    with_lender = POLICY + (
        'lend from main offer 12V/5A,prio=5 above 0% listen 127.0.0.1:0 announce "reclaimed power"\n'
        "infrastructure from main power 40W share 50%\n"
    )
    async with firewall(tmp_path, "--no-mdns", policy=with_lender) as fire:
        await fire.process.until_logged("lending 12V/5A")
        where = fire.process.log.split(" at 127.0.0.1:")[1].split()[0]
        async with attacker(fire.address, "--power", "1kW", "--for", "60s") as attack:
            await attack.until("connected")
            words = ["consumer", "--connect", f"127.0.0.1:{where}", "--request", "12V/2A"]
            words += ["--for", "4s", "--state-dir", str(tmp_path / "dev")]
            async with running(tmp_path, *words) as sink:
                assert await sink.end() == 0, sink.log
            attack.signal(signal.SIGTERM)
            assert await attack.end() == 0
        (done,), (sent,) = sink.all("done"), attack.all("done")
        status = await fire.ask(op="status")
        listed = await fire.ask(op="list")
        await ended(fire)
    accounts, name = fire.accounts(), socket.gethostname()
    assert done["energy_uj"] == 96_000_000
    assert accounts["lent:127.0.0.1"] == 96_000_000
    came = -accounts["intercepted:127.0.0.1"]
    # what was under way as it ended is lost
    assert 0 <= sent["sent_uj"] - came <= 100_000_000
    # in = stored + heat + out, to the microjoule
    used = accounts["lent:127.0.0.1"] + accounts[f"infrastructure:{name}"]
    assert came == accounts["reservoir:main"] + accounts[f"heat:{name}"] + used
    assert status["residual_uj"] == 0
    assert accounts[f"host:{name}"] == -accounts["wall:declared"] > 0
    counters = listed["counters"]
    assert isinstance(counters, dict)
    assert counters["attacks"]["hits"] >= 1
    assert [row["kind"] for row in fire.events() if "intercepted" in row["kind"]]


@pytest.mark.requirement("FWRL-1-01", "FWRL-1-03")
async def test_a_firewall_that_stands_still_lets_nothing_pass_and_goes_on(tmp_path: Path) -> None:
    async with inside(tmp_path) as (source, address), firewall(tmp_path) as fire:
        async with running(tmp_path, *fire.device(address, time="8s")) as sink:
            await sink.until("readings", count=2)
            fire.process.signal(signal.SIGSTOP)
            await sink.until("stale")
            stale_uj = sink.all("readings")[-1]["energy_uj"]
            fire.process.signal(signal.SIGCONT)
            await sink.until("fresh")
            assert await sink.end() == 0, sink.log
        (done,) = sink.all("done")
        status = await fire.ask(op="status")
        await ended(fire, source)
    assert done["energy_uj"] > stale_uj
    assert status["authorised_uj"] == done["energy_uj"]
    assert (status["heat_uj"], status["residual_uj"], status["bugs"]) == (0, 0, 0)
