"""The firewall between real providers and real consumers, each a process of its own."""

import signal
from pathlib import Path

import pytest

from tests.drivers.firewalls import Fire, firewall
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
