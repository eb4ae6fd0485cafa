"""What the operator of a running firewall asks of it, as commands."""

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from tests.drivers.firewalls import POLICY, attacker, firewall, powertcp
from tests.drivers.gateways import inside
from tests.drivers.processes import process, running

if TYPE_CHECKING:
    import subprocess


async def said(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return await trio.to_thread.run_sync(lambda: powertcp(folder, "firewall", *words))


@pytest.mark.requirement("FWRL-1-02")
async def test_explain_names_rule_values_limit_and_joules_of_three_flows(tmp_path: Path) -> None:
    clamping = POLICY.replace(
        "direction out -> accept", "direction out -> accept limit 20W burst 5J"
    )
    async with (
        inside(tmp_path) as (_, address),
        firewall(tmp_path, policy=clamping) as fire,
        attacker(fire.address, "--for", "60s") as attack,
    ):
        await attack.until("connected")
        big = fire.device(address, "--give-up", "1s", power="12V/5A", name="big")
        async with running(tmp_path, *big) as sink:
            assert await sink.end() == 1
        async with running(tmp_path, *fire.device(address, time="4s")) as sink:
            assert await sink.end() == 0
        rows = [
            json.loads(line)
            for line in (await said(tmp_path, "explain", "--json")).stdout.splitlines()
        ]
        listed = json.loads((await said(tmp_path, "list", "--json")).stdout)
        text = (await said(tmp_path, "list")).stdout
        live = [row for row in listed["flows"] if row["state"] == "intercepted"]
        about = await said(tmp_path, "explain", live[0]["id"], "--json")
        same = await trio.to_thread.run_sync(
            lambda: powertcp(tmp_path, "explain", live[0]["id"], "--json")
        )
        attack.signal(signal.SIGTERM)
        await attack.end()
    (refused,) = [row for row in rows if row["code"] == 204]
    assert (refused["line"], refused["values"]) == (7, {"power": "60 W"})
    assert (refused["value"], refused["limit"]) == (60_000, 50_000)
    intercepted = json.loads(about.stdout)
    assert (intercepted["line"], intercepted["file"]) == (5, str(fire.policy))
    assert intercepted["verdict"] == "reclaim main limit 1kW burst 2kJ"
    assert intercepted["values"] == {"state": "unsolicited"}
    joules = intercepted["joules"]
    assert joules["in_uj"] == joules["reclaimed_uj"] + joules["heat_uj"] > 0
    assert json.loads(same.stdout)["line"] == 5
    assert "rule state unsolicited -> reclaim main" in text
    assert "counter attacks: 1 x" in text
    assert "reservoir main:" in text
    # 24 W through a limit of 20 W: what was held back is no refusal
    assert "clamped" in fire.process.log


@pytest.mark.requirement("FWRL-3-02", "FWRL-1-01")
async def test_a_policy_that_does_not_load_changes_nothing(tmp_path: Path) -> None:
    async with inside(tmp_path) as (_, address), firewall(tmp_path) as fire:
        async with running(tmp_path, *fire.device(address, time="")) as sink:
            await sink.until("ready")
            broken = tmp_path / "broken.policy"
            broken.write_text("policy drop\nrule power > 50V -> accept\n")
            bad = await said(tmp_path, "load", str(broken))
            assert (bad.returncode, bad.stdout) == (2, "")
            assert f"{broken}:2:14: " in bad.stderr
            fire.policy.write_text("policy dorp\n")
            fire.process.signal(signal.SIGHUP)
            await fire.process.until_logged("configuration kept")
            assert f"{fire.policy}: line 1, column 8: " in fire.process.log
            status = await fire.ask(op="status")
            assert (status["flow_count"], status["policy"]) == (1, str(fire.policy))
            good = tmp_path / "good.policy"
            good.write_text("policy reject 206\n")
            loaded = await said(tmp_path, "load", str(good))
            assert (loaded.returncode, loaded.stderr) == (0, "")
            assert "in force, 0 rules, otherwise reject 206" in loaded.stdout
            assert await sink.end() == 1
            # what was loaded last is what is read again
            good.write_text("policy drop\n")
            fire.process.signal(signal.SIGHUP)
            await fire.process.until_logged(f"policy {good}: 0 rules, otherwise drop")
            text = await fire.ask(op="load", text="policy reject 101\n")
            assert (text["loaded"], text["otherwise"]) == (True, "reject 101")
        (gone,) = [one for one in sink.events if one.get("code") == 206][:1]
        assert gone["text"] == "line 1"


async def test_trace_shows_each_rule_and_which_match_failed(tmp_path: Path) -> None:
    async with inside(tmp_path) as (_, address), firewall(tmp_path) as fire:
        command = [sys.executable, "-m", "powertcp", "firewall", "trace", "--peer", "127.0.0.1"]
        other = [*command[:-1], "192.0.2.1"]
        environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
        async with (
            process([*command, "--json"], **environ) as trace,
            process([*other, "--json"], **environ) as silent,
        ):
            # it has subscribed before anything is judged
            await trace.until_logged("watching")
            await silent.until_logged("watching")
            async with running(tmp_path, *fire.device(address, time="1s")) as sink:
                assert await sink.end() == 0
            fire.process.signal(signal.SIGTERM)
            assert await fire.process.end() == 0
            assert await trace.end() == 3
            assert await silent.end() == 3
    first = trace.events[0]
    assert first["facts"]["power"] == "24 W"
    assert [step["line"] for step in first["steps"]] == [3, 4, 5, 6, 7, 8]
    assert first["steps"][0]["failed"] == "state"
    assert first["steps"][-1]["failed"] is None
    assert first["line"] == 8
    assert silent.events == []


async def test_nobody_answers_is_3(tmp_path: Path) -> None:
    for action in ("load", "list", "trace", "explain"):
        ran = await said(tmp_path, action)
        assert (ran.returncode, ran.stdout) == (3, "")
        assert "no running firewall answers" in ran.stderr
    nobody = await said(tmp_path, "trace", "--peer", "nonsense")
    assert nobody.returncode == 2
    assert "'nonsense' does not appear to be" in nobody.stderr


async def test_a_configuration_is_checked_with_its_policy(tmp_path: Path) -> None:
    good = tmp_path / "good.policy"
    good.write_text(POLICY)
    broken = tmp_path / "broken.policy"
    broken.write_text("policy drop\nrule power > 50V -> accept\n")
    (tmp_path / "firewall.toml").write_text(f'policy = "{good}"\nmodus = "explicit"\n')
    cases: list[tuple[tuple[str, ...], int, str]] = [
        ((str(good), "--check"), 0, "command line: ok"),
        ((str(broken), "--check"), 2, f"{broken}: line 2, column 14: "),
        ((str(broken),), 2, f"{broken}: line 2, column 14: "),
        ((str(tmp_path / "none.policy"),), 2, "No such file"),
        ((), 2, "what may pass? name a POLICY"),
        ((str(good), "--mode", "redirect", "--upstream", "10.0.0.1"), 2, "in redirect mode"),
        ((str(good), "--rating", "1kV"), 2, "rating"),
        ((str(good), "--script", str(tmp_path / "none.py"), "--check"), 2, "none.py"),
        ((str(good), "--listen", "127.0.0.1:99999"), 2, "a port is a number"),
        (("--config", str(tmp_path / "firewall.toml")), 2, 'did you mean "mode"'),
        (("--policy-file",), 2, "unknown option"),
    ]
    for words, status, text in cases:
        ran = await said(tmp_path, "run", *words)
        assert (ran.returncode, text in ran.stdout + ran.stderr) == (status, True), (words, ran)


async def test_a_trace_has_a_file_of_each_side(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    folder.mkdir()
    async with inside(tmp_path) as (_, address), firewall(tmp_path, "--trace", str(folder)) as fire:
        async with running(tmp_path, *fire.device(address, time="1s")) as sink:
            assert await sink.end() == 0
        fire.process.signal(signal.SIGTERM)
        assert await fire.process.end() == 0
    files = sorted(folder.glob("*-firewall-*.sqlog"))
    assert len(files) == 2
    for file in files:
        lines = [line.lstrip("\x1e") for line in file.read_text().split("\n") if line]
        names = [json.loads(line).get("name") for line in lines]
        assert "potcp:segment_received" in names
        assert "potcp:segment_sent" in names
