"""What a provider and a consumer do to each other as real processes."""

# ruff: noqa: SIM117 - one `async with` for each process reads better

import json
import os
import signal
from pathlib import Path

import pytest
import trio

from tests.drivers.processes import asked, provider, running


@pytest.mark.requirement("PTCP-5-04")
@pytest.mark.requirement("PTCP-5-06")
async def test_a_provider_frozen_beyond_the_lease_leaves_both_ends_at_fallback(
    tmp_path: Path,
) -> None:
    async with provider(tmp_path, "--supply", "12V/5A") as (source, address):
        async with running(
            tmp_path, "consumer", "--connect", address,
            "--request", "12V/1A,lease=5s", "--fallback", "12V/0.1A",
        ) as sink:  # fmt: skip
            ready = await sink.until("ready")
            assert (ready["power_mw"], ready["lease_s"], ready["fallback_mw"]) == (12_000, 5, 1_200)
            source.signal(signal.SIGSTOP)
            await trio.sleep(8)
            over = sink.all("lease over")
            assert [facts["limit_mw"] for facts in over] == [1_200]
            source.signal(signal.SIGCONT)
            shed = await sink.until("shed")
            assert (shed["code"], shed["limit_mw"], shed["deadline_ms"]) == (307, 1_200, 0)
            floor = await sink.until("ready", 2)
            assert floor["power_mw"] == 1_200
            await sink.until("readings", when=lambda facts: 1_100 < facts["power_mw"] < 1_300)
            # and when the path has proved good for a while, everything again
            full = await sink.until("ready", 3)
            assert full["power_mw"] == 12_000
            sink.signal(signal.SIGTERM)
            assert await sink.end() == 0
        source.signal(signal.SIGTERM)
        assert await source.end() == 0


async def test_a_provider_that_stays_silent_is_given_up_after_lease_and_patience(
    tmp_path: Path,
) -> None:
    async with provider(tmp_path, "--supply", "12V/5A") as (source, address):
        async with running(
            tmp_path, "consumer", "--connect", address, "--request", "12V/1A,lease=5s",
            "--give-up", "1s", "--run", "sleep 60",
        ) as sink:  # fmt: skip
            await sink.until("readings")
            source.signal(signal.SIGSTOP)
            assert await sink.end() == 3
            names = sink.names()
            assert names.index("stale") < names.index("lease over") < names.index("unreachable")
            assert f"{address}: no answer for" in sink.all("unreachable")[0]["sentence"]


@pytest.mark.requirement("PTCP-5-03")
@pytest.mark.requirement("PTCP-5-05")
async def test_a_provider_frozen_within_the_lease_is_stale_and_the_command_keeps_running(
    tmp_path: Path,
) -> None:
    async with provider(tmp_path, "--supply", "12V/5A") as (source, address):
        async with running(
            tmp_path, "consumer", "--connect", address, "--request", "12V/1A,lease=60s",
            "--run", "sleep 60",
        ) as sink:  # fmt: skip
            await sink.until("readings", when=lambda facts: facts["load"].startswith("sleep["))
            source.signal(signal.SIGSTOP)
            await sink.until("stale")
            await trio.sleep(1)
            source.signal(signal.SIGCONT)
            await sink.until("fresh")
            await sink.until("readings", when=lambda facts: facts["power_mw"] == 12_000)
            assert sink.names() == ["granted", "ready", "stale", "fresh"]
            sink.signal(signal.SIGTERM)
            assert await sink.end() == 0


@pytest.mark.requirement("PTCP-11-01")
async def test_two_requests_of_one_command_are_two_contracts_on_two_connections(
    tmp_path: Path,
) -> None:
    supplies = ("--supply", "5V/3A", "--supply", "230V/16A@50Hz")
    async with provider(tmp_path, *supplies) as (source, address):
        async with running(
            tmp_path, "consumer", "--connect", address,
            "--request", "5V/1A", "--request", "230V/2A@50Hz",
        ) as sink:  # fmt: skip
            await sink.until("ready", 2)
            assert {facts["power_mw"] for facts in sink.all("ready")} == {5_000, 460_000}
            status = await asked(tmp_path, f"provider-{source.pid}.sock", op="status", flows=True)
            assert status["connections"] == 2
            flows = status["flows"]
            assert isinstance(flows, list)
            assert [flow["state"] for flow in flows] == ["energised", "energised"]
            assert len({flow["id"] for flow in flows}) == 2
            sink.signal(signal.SIGINT)
            assert await sink.end() == 0
        assert (await asked(tmp_path, f"provider-{source.pid}.sock", op="status"))[
            "flow_count"
        ] == 0


@pytest.mark.requirement("PTCP-13-03")
async def test_explain_says_why_a_flow_has_less_on_either_side(tmp_path: Path) -> None:
    async with provider(tmp_path, "--supply", "12V/5A", "--rating", "20W") as (source, address):
        async with running(
            tmp_path, "consumer", "--connect", address,
            "--request", "12V/1.5A", "--minimum", "12V/0.5A",
        ) as sink:  # fmt: skip
            await sink.until("ready")
            async with running(
                tmp_path, "consumer", "--connect", address, "--request", "12V/5A"
            ) as late:
                await late.until("offered")
            status = await asked(tmp_path, f"provider-{source.pid}.sock", op="status", flows=True)
            flows = status["flows"]
            assert isinstance(flows, list)
            name = next(flow["id"] for flow in flows if flow["text"].startswith("12V/1.5A"))
            async with running(tmp_path, "explain", name) as word:
                assert await word.end() == 0
                await word.until_closed()
                assert [one["what"] for one in word.events] == ["has what it asked for"]
            await asked(tmp_path, f"provider-{source.pid}.sock", op="set", rating_mw=9_000)
            await sink.until("ready", 2)
            async with running(tmp_path, "explain", name) as word:
                assert await word.end() == 0
                await word.until_closed()
                found = {(one["role"], one["what"], one["code"]) for one in word.events}
            assert found == {
                ("consumer", "shed", 309),
                ("provider", "has less than it asked for", 309),
                ("provider", "shed", 309),
            }
            async with running(tmp_path, "explain", "flows") as word:
                assert await word.end() == 0
                await word.until_closed()
                refused = [one for one in word.events if one["what"] == "offered"]
            assert refused[0]["code"] == 100
            async with running(tmp_path, "explain", "192.0.2.1:1/1") as word:
                assert await word.end() == 1
    async with running(tmp_path, "explain", name, XDG_STATE_HOME=str(tmp_path)) as word:
        assert await word.end() == 3


async def test_reload_changes_rating_and_supplies_and_no_power_drops(tmp_path: Path) -> None:
    file = tmp_path / "provider.toml"

    def offer(text: str) -> None:
        file.write_text(f'listen = ["127.0.0.1:0"]\n{text}\n', encoding="utf-8")

    offer('supply = ["12V/5A"]\nrating = "20W"')
    async with running(tmp_path, "provider", "--config", str(file)) as source:
        address = (await source.until("listening"))["addresses"][0]
        async with running(
            tmp_path, "consumer", "--connect", address,
            "--request", "12V/1A", "--minimum", "12V/0.2A",
        ) as sink:  # fmt: skip
            await sink.until("ready")
            await sink.until("readings")
            # more rating and another voltage: the flow is not touched
            offer('supply = ["12V/5A", "5V/3A"]\nrating = "30W"')
            source.signal(signal.SIGHUP)
            await source.until_logged("rating 30 W")
            async with running(
                tmp_path, "consumer", "--connect", address, "--request", "5V/1A", "--for", "200ms"
            ) as second:
                assert await second.end() == 0
            # nonsense: all of the old configuration stays
            offer('supply = ["12V/5A"]\nrating = "20 parsec"')
            source.signal(signal.SIGHUP)
            await source.until_logged("configuration kept")
            # less rating than is held: shed, and restored when it rises
            offer('supply = ["12V/5A", "5V/3A"]\nrating = "6W"')
            source.signal(signal.SIGHUP)
            await sink.until("ready", when=lambda facts: facts["power_mw"] == 6_000)
            offer('supply = ["12V/5A", "5V/3A"]\nrating = "30W"')
            source.signal(signal.SIGHUP)
            await sink.until("ready", 2, when=lambda facts: facts["power_mw"] == 12_000)
            assert sink.names() == ["granted", "ready", "shed", "ready", "ready"]
            facts = await sink.until("readings", 1, when=lambda facts: facts["energy_uj"] > 0)
            assert facts["heat_uj"] == 0
            sink.signal(signal.SIGTERM)
            assert await sink.end() == 0


async def test_a_second_ctrl_c_leaves_a_stubborn_command_no_grace(tmp_path: Path) -> None:
    stubborn = "sh -c 'trap \"\" TERM INT; while :; do sleep 1; done'"
    async with provider(tmp_path, "--supply", "12V/5A") as (_, address):
        async with running(
            tmp_path, "consumer", "--connect", address, "--request", "12V/1A", "--run", stubborn
        ) as sink:
            named = await sink.until("readings", when=lambda facts: "[" in facts["load"])
            pid = int(named["load"].partition("[")[2].rstrip("]"))
            sink.signal(signal.SIGINT)
            await sink.until("closed")
            start = trio.current_time()
            sink.signal(signal.SIGINT)
            assert await sink.end() == 0
            assert trio.current_time() - start < 3
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_usr1_logs_a_status_of_either_side(tmp_path: Path) -> None:
    async with provider(tmp_path, "--supply", "12V/5A") as (source, address):
        async with running(
            tmp_path, "consumer", "--connect", address, "--request", "12V/1A"
        ) as sink:
            await sink.until("readings")
            source.signal(signal.SIGUSR1)
            await source.until_logged("status: provider pid")
            await source.until_logged("status:   12V/5A")
            await source.until_logged("energised")
            sink.signal(signal.SIGUSR1)
            await sink.until_logged("status: 12 W for none, asked 12V/1A")
            assert sink.process.returncode is None
            assert source.process.returncode is None


@pytest.mark.requirement("PTCP-13-01")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("role", "state"), [("provider", "draining"), ("consumer", "closing")])
async def test_a_second_signal_is_immediate_on_either_side(
    tmp_path: Path, role: str, state: str, number: signal.Signals
) -> None:
    async with provider(tmp_path, "--supply", "12V/5A") as (source, address):
        words = ("consumer", "--connect", address, "--request", "12V/1A")
        async with running(tmp_path, *words) as sink:
            await sink.until("readings")
            leaver, other = (source, sink) if role == "provider" else (sink, source)
            # the other side is frozen: a goodbye would take T_DRAIN
            other.signal(signal.SIGSTOP)
            start = trio.current_time()
            leaver.signal(number)
            status = f"{role}-{leaver.pid}.sock"
            while (await asked(tmp_path, status, op="status"))["state"] != state:
                pass
            assert leaver.process.returncode is None
            leaver.signal(number)
            assert await leaver.end() == 0
            assert trio.current_time() - start < 3
            other.signal(signal.SIGCONT)


def flags_of(folder: Path, role: str, kind: str) -> list[tuple[int, ...]]:
    """Return (time in ms, whether ECE, whether CWR) of the segments of a kind in a trace."""
    [path] = folder.glob(f"*-{role}-*")
    found = [json.loads(record) for record in path.read_bytes().split(b"\x1e")[1:]]
    sent = [one for one in found if one.get("name") == "potcp:segment_sent"]
    flags = [(one["time"], one["data"]) for one in sent if one["data"]["type"] == kind]
    return [(int(at), "ECE" in data["flags"], data.get("cwr") is True) for at, data in flags]


@pytest.mark.requirement("PTCP-7-01", "PTCP-7-02")
async def test_a_full_feeder_marks_and_the_sink_saves_until_the_load_falls(tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    offered = ("--supply", "12V/5A", "--rating", "13W", "--trace", str(traces))
    async with provider(tmp_path, *offered) as (_, address):
        async with running(
            tmp_path, "consumer", "--connect", address, "--trace", str(traces),
            "--request", "12V/1A", "--minimum", "12V/0.5A", "--for", "4s",
        ) as sink:  # fmt: skip
            await sink.until("readings", when=lambda facts: facts["power_mw"] < 11_700)
            assert await sink.end() == 0
            assert "alert" not in sink.names()
    assert any(ece for _, ece, _ in flags_of(traces, "source", "DATA"))
    assert not all(ece for _, ece, _ in flags_of(traces, "source", "DATA"))
    assert any(cwr for _, _, cwr in flags_of(traces, "sink", "CREDIT"))


@pytest.mark.requirement("PTCP-7-02", "PTCP-7-03", "PTCP-8-07")
@pytest.mark.parametrize(("left", "alerts"), [("95%", 0), ("60%", 1)])
async def test_a_brown_out_is_marked_and_one_below_the_minimum_is_an_alert(
    tmp_path: Path, left: str, alerts: int
) -> None:
    traces = tmp_path / "traces"
    source = f"mains:sag={left}@1s/1500ms"
    offered = ("--supply", "230V/16A@50Hz", "--source", source, "--trace", str(traces))
    async with provider(tmp_path, *offered) as (_, address):
        async with running(
            tmp_path, "consumer", "--connect", address, "--trace", str(traces),
            "--request", "230V/1A@50Hz", "--minimum", "207V/0.5A@50Hz", "--for", "4s",
        ) as sink:  # fmt: skip
            assert await sink.end() == 0
            assert len(sink.all("alert")) >= alerts
            assert all(one["code"] == 301 for one in sink.all("alert"))
            assert bool(sink.all("alert")) == bool(alerts)
            powers = [one["power_mw"] for one in sink.all("readings")]
    marked = [ece for _, ece, _ in flags_of(traces, "source", "DATA")]
    # on a busy machine a block more goes out before the sink's goodbye comes
    assert marked[:200] == [False] * 50 + [True] * 75 + [False] * 75
    assert not any(marked[200:])
    assert sum(cwr for _, _, cwr in flags_of(traces, "sink", "CREDIT")) == 2
    assert min(powers) < 0.95 * 0.875 * 230_000 + 2_000
    assert powers[0] == 229_999 or powers[0] == 230_000
