"""authorized_watts as an operator has it: real provider, real consumers, SIGHUP and a restart."""

# ruff: noqa: SIM117 - one `async with` for each process reads better

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from powertcp.registry import Reason
from tests.drivers.processes import asked, provider, running

SUPPLY = ("--supply", "20V/10A")


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join([*lines, ""]))
    path.chmod(0o644)
    return str(path)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "powertcp", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.requirement("VPPN-5-02")
async def test_65_w_are_powered_and_66_w_refused_by_a_line_that_explain_names(
    tmp_path: Path,
) -> None:
    file = write(tmp_path / "authorized_watts", "# ours", "clear max-power=65W voltage=5V-20V")
    async with provider(tmp_path, *SUPPLY, "--authorized", file) as (source, address):
        async with running(
            tmp_path, "consumer", "--connect", address, "--request", "20V/3.25A", "--for", "500ms"
        ) as sink:
            assert await sink.end() == 0
        async with running(
            tmp_path, "consumer", "--connect", address, "--request", "20V/3.3A", "--give-up", "1s"
        ) as sink:
            refused = await sink.until("refused")
            assert (refused["code"], refused["value"], refused["limit"]) == (204, 66_000, 65_000)
            assert await sink.end() == 1
        await source.until_logged(f"asked 66,000 mW, this peer may have 65,000 mW ({file}:2 clear)")
        found = await asked(tmp_path, f"provider-{source.pid}.sock", op="explain")
        rows = found["explanations"]
        assert isinstance(rows, list)
        assert [row["rule"] for row in rows if row["code"] == 204] == [f"{file}:2 clear"]


@pytest.mark.requirement("VPPN-5-03")
async def test_sighup_takes_a_file_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "authorized_watts"
    file = write(path, "clear max-power=65W")
    async with provider(tmp_path, *SUPPLY, "--authorized", file) as (source, address):
        async with running(
            tmp_path, "consumer", "--connect", address, "--request", "20V/3A"
        ) as sink:
            await sink.until("ready")
            await source.until_logged(f"clear by {file}:1 clear")
            write(path, "clear deny", "clear max-powr=1W")
            source.signal(signal.SIGHUP)
            await source.until_logged(f'configuration kept: {file}:2:7: unknown word "max-powr"')
            facts = await sink.until("readings", len(sink.all("readings")) + 2)
            assert facts["energy_uj"] > 0
            assert "shed" not in sink.names()
            write(path, "clear deny")
            source.signal(signal.SIGHUP)
            shed = await sink.until("shed")
            assert (shed["limit_mw"], shed["code"]) == (0, Reason.AUTH_REQUIRED)
            await source.until_logged("closed")
            assert (await sink.until("refused"))["code"] == Reason.AUTH_REQUIRED


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("clear max-pover=65W", ':1:7: unknown word "max-pover"'),
        ("clear tariff=staff", ':1:7: no price list here is named "staff": there is none'),
        ("clear max-power=65W quota=1kWh/day", ":1:21: a quota needs the ledger"),
    ],
)
def test_a_file_that_cannot_be_kept_ends_the_start(tmp_path: Path, line: str, said: str) -> None:
    file = write(tmp_path / "authorized_watts", line)
    for more in ((), ("--check",)):
        ran = run("provider", *SUPPLY, "--no-ledger", "--authorized", file, *more)
        assert ran.returncode == 2
        assert f"{file}{said}" in ran.stderr
        assert ran.stderr.count("\n") == 1


def test_what_is_about_a_file_needs_one(tmp_path: Path) -> None:
    ran = run("provider", *SUPPLY, "--krl", str(tmp_path / "krl"))
    assert ran.returncode == 2
    assert "it is about --authorized FILE" in ran.stderr
    missing = str(tmp_path / "nowhere")
    ran = run("provider", *SUPPLY, "--authorized", missing)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert f"{missing}:1:1: No such file or directory" in ran.stderr


@pytest.mark.requirement("VPPN-5-09", "VPPN-5-10")
async def test_a_restart_gives_no_quota_back(tmp_path: Path) -> None:
    file = write(tmp_path / "authorized_watts", "clear quota=30J/day")
    state = tmp_path / "books"
    words = (*SUPPLY, "--authorized", file, "--state-dir", str(state))
    wish = ("--request", "20V/1A")
    async with provider(tmp_path, *words) as (source, address):
        async with running(tmp_path, "consumer", "--connect", address, *wish) as sink:
            shed = await sink.until("shed")
            assert (shed["limit_mw"], shed["code"], shed["limit"]) == (0, 205, 30_000_000)
            assert shed["retry_ms"] > 0
            sink.signal(signal.SIGTERM)
            assert await sink.end() == 0
        source.signal(signal.SIGTERM)
        assert await source.end() == 0
    ran = run("ledger", "show", "journal", "--state-dir", str(state), "--json")
    memos = [str(json.loads(line).get("memo", "")) for line in ran.stdout.splitlines()]
    assert any(memo.startswith("flow ") and memo.endswith(" by clear") for memo in memos)
    assert run("ledger", "verify", "--full", "--state-dir", str(state)).returncode == 0
    async with provider(tmp_path, *words) as (source, address):
        async with running(tmp_path, "consumer", "--connect", address, *wish) as sink:
            refused = await sink.until("refused")
            assert (refused["code"], refused["limit"]) == (205, 30_000_000)
            # it is wanted again when the quota is renewed
            assert refused["again"]
            sink.signal(signal.SIGTERM)
            await sink.end()
        await source.until_logged(
            f"used 30,000,000 uJ of a quota of 30,000,000 uJ ({file}:1 clear)"
        )
