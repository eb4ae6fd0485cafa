"""Scripts in a firewall of its own process: read again, failing, and never letting go."""

import signal
from pathlib import Path
from textwrap import dedent

import pytest

from tests.drivers.firewalls import Fire, firewall
from tests.drivers.gateways import inside
from tests.drivers.processes import running

POLICY = "policy drop\nrule state invalid -> reject 506\nrule direction out -> accept\n"


def write(folder: Path, text: str) -> str:
    path = folder / "night.py"
    path.write_text(dedent(text))
    path.chmod(0o644)
    return str(path)


def failed(fire: Fire) -> list[tuple[object, object, object]]:
    """Return what the audit log says that failed: why, file and line."""
    facts = [row["facts"] for row in fire.events() if row["kind"] == "firewall failed"]
    return [(one["rule"], one["file"], one["line"]) for one in facts]


@pytest.mark.requirement("FWRL-3-09", "FWRL-3-02", "FWRL-1-01")
async def test_a_script_is_read_again_whole_and_drops_what_it_fails_at(tmp_path: Path) -> None:
    script = write(tmp_path, "def on_flow_judged(asked):\n    print(asked.decision.verdict)\n")
    async with (
        inside(tmp_path) as (source, address),
        firewall(tmp_path, "--script", script, "--script-limit", "1s", policy=POLICY) as fire,
    ):
        async with running(tmp_path, *fire.device(address, time="")) as sink:
            await sink.until("ready")
            await fire.process.until_logged("night.py: accept")
            # a word that nobody knows: the script in force stays
            write(tmp_path, "def on_flow_judge(asked): pass")
            fire.process.signal(signal.SIGHUP)
            await fire.process.until_logged('unknown hook "on_flow_judge"')
            assert (await fire.ask(op="status"))["flow_count"] == 1
            # one that fails: the flow that was judged again is dropped, and named
            write(tmp_path, "def on_flow_judged(asked):\n    return 1 / 0\n")
            fire.process.signal(signal.SIGHUP)
            await fire.process.until_logged("ZeroDivisionError: division by zero, at ")
            status = await fire.ask(op="status")
            assert (status["flow_count"], status["residual_uj"]) == (0, 0)
            assert status["scripts"] == [script]
            # one that is good again: who was dropped comes back
            write(tmp_path, "def on_flow_judged(asked):\n    print('back')\n")
            fire.process.signal(signal.SIGHUP)
            await fire.process.until_logged("night.py: back")
            sink.signal(signal.SIGTERM)
            assert await sink.end() == 0, sink.log
        fire.process.signal(signal.SIGTERM)
        assert await fire.process.end() == 0, fire.process.log
        source.signal(signal.SIGTERM)
        assert await source.end() == 0, source.log
    reasons = failed(fire)
    assert reasons
    assert set(reasons) == {("ZeroDivisionError: division by zero", script, 2)}
    [first, *_] = [row for row in fire.events() if row["kind"] == "firewall policy"]
    assert first["facts"]["scripts"] == [script]


@pytest.mark.requirement("FWRL-3-09", "FWRL-1-01")
async def test_one_flow_that_a_script_does_not_answer_for_costs_no_other_one(
    tmp_path: Path,
) -> None:
    script = write(tmp_path, """\
        def on_flow_judged(asked):
            while asked.facts.power_mw and asked.facts.power_mw > 30_000:
                pass
    """)  # fmt: skip
    async with (
        inside(tmp_path) as (source, address),
        firewall(tmp_path, "--script", script, "--script-limit", "700ms", policy=POLICY) as fire,
    ):
        async with running(tmp_path, *fire.device(address, time="3s")) as good:
            await good.until("ready")
            words = fire.device(address, "--give-up", "1s", power="12V/5A", name="bad")
            async with running(tmp_path, *words) as bad:
                assert await bad.end() == 3, bad.log
            assert await good.end() == 0, good.log
        (done,) = good.all("done")
        for one in (fire.process, source):
            one.signal(signal.SIGTERM)
            assert await one.end() == 0, one.log
    assert done["energy_uj"] == 72_000_000
    assert set(failed(fire)) == {("on_flow_judged took more than 700 ms", script, 1)}


@pytest.mark.requirement("FWRL-3-09", "FWRL-1-01")
async def test_a_script_that_never_lets_go_ends_the_daemon(tmp_path: Path) -> None:
    script = write(tmp_path, """\
        import time

        def on_second_passed(second):
            while second.joules.authorised_uj:
                try:
                    while True: time.sleep(9)
                except BaseException: pass
    """)  # fmt: skip
    async with (
        inside(tmp_path) as (source, address),
        firewall(tmp_path, "--script", script, policy=POLICY) as fire,
        running(tmp_path, *fire.device(address, "--give-up", "1s", time="30s")) as sink,
    ):
        await sink.until("ready")
        assert await fire.process.end() == 70, fire.process.log
        assert "a script holds everything up for 1." in fire.process.log
        # with the firewall gone nothing passes
        assert await sink.end() == 3, sink.log
        source.signal(signal.SIGTERM)
        assert await source.end() == 0, source.log
