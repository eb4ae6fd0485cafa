"""Consumers without an address as processes: whom they find, choose, leave and do not believe."""

# ruff: noqa: SIM117 - one `async with` for each process reads better

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import trio

from powertcp.dpdp.advert import decode_txt
from tests.drivers.processes import Running, asked, running
from tests.drivers.spaces import check_spaces, inside, spaces

pytestmark = [pytest.mark.kernel, pytest.mark.interop]
WISH = ("--request", "12V/1A", "--minimum", "12V/0.1A")


@pytest.fixture(scope="module", autouse=True)
def _allowed() -> None:
    """Skip with the reason: an async test would lose it."""
    check_spaces({})


@asynccontextmanager
async def offering(
    folder: Path, space: str, name: str, supply: str, *words: str, port: int = 0
) -> AsyncIterator[Running]:
    """Run a provider called `name` in a namespace until it is announced."""
    async with running(
        folder, "provider", "--listen", f"127.0.0.1:{port}", "--supply", supply, "--name", name,
        "--state-dir", str(folder / name), *words, before=inside(space),
    ) as one:  # fmt: skip
        await one.until_logged("announced as")
        yield one


async def id_of(folder: Path, source: Running) -> str:
    """Return the id that a provider announces."""
    status = await asked(folder, f"provider-{source.pid}.sock", op="status")
    announced = cast("list[dict[str, str]]", status["adverts"])[0]
    return decode_txt(bytes.fromhex(announced["txt"])).id.hex()


async def said(*words: str, before: Sequence[str] = ()) -> str:
    """Return what a command prints."""
    done = await trio.run_process(
        [*before, sys.executable, "-m", "powertcp", *words], capture_stdout=True
    )
    return done.stdout.decode()


@asynccontextmanager
async def half_and_full(folder: Path, space: str) -> AsyncIterator[tuple[Running, Running]]:
    """Run a provider that gives half of WISH, and one that gives all of it."""
    async with offering(folder, space, "Half", "12V/0.5A") as other:
        async with offering(folder, space, "Full", "12V/5A") as best:
            yield other, best


async def held(folder: Path, source: Running) -> int:
    """Return the mW that a provider holds for its flows."""
    status = await asked(folder, f"provider-{source.pid}.sock", op="status")
    return int(str(status["reserved_mw"]))


@pytest.mark.requirement("DPDP-7-08")
async def test_a_consumer_with_nothing_configured_finds_power_on_the_loopback(
    tmp_path: Path,
) -> None:
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Bench", "12V/5A"):
            words = ("--request", "12V/1A", "--run", "true")
            async with running(tmp_path, "consumer", *words, before=inside(space)) as sink:
                warned = await sink.until("warning")
                found = await sink.until("found")
                assert await sink.end() == 0
                assert warned["sentence"] == (
                    "no trust configured: taking power from any provider on this link"
                )
                assert "12V/1A in full, any, grid" in found["sentence"]
                assert "ready" in sink.names()
    known = (tmp_path / "state" / "powertcp" / "consumer" / "known_providers").read_text()
    assert found["id"] in known
    assert "meter=ed25519:" in known


async def test_who_finds_nobody_is_told_why_and_gives_up(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        words = (*WISH, "--give-up", "4s")
        async with running(tmp_path, "consumer", *words, before=inside(space)) as sink:
            assert "--connect HOST names one" in (await sink.until("searching"))["sentence"]
            assert "no power found for 4" in (await sink.until("unreachable"))["sentence"]
            assert await sink.end() == 3


async def test_status_and_explain_say_who_was_found_and_why_nobody_is_asked(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Roof", "230V/16A@50Hz"):
            async with offering(tmp_path, space, "Tiny", "12V/0.05A"):
                static = ("--static", "127.0.0.1:1")
                async with running(
                    tmp_path, "consumer", *WISH, *static, before=inside(space)
                ) as sink:
                    hint = (await sink.until("searching"))["sentence"]
                    name = f"consumer-{sink.pid}.sock"
                    status = await asked(tmp_path, name, op="status")
                    told = await asked(tmp_path, name, op="explain", what="")
                    control = ("--control", str(tmp_path / "powertcp" / name))
                    why = ("discover", "--why", *WISH, "--json")
                    judged = await said(*why, before=inside(space))
                    text = await said("status", *control)
                    reason = await said("explain", "flows", *control)
    assert status["state"] == "searching"
    (search,) = cast("list[dict[str, object]]", status["searches"])
    assert search["wanted"] == ["12V/1A"]
    assert int(str(search["looked_ms"])) >= 3000
    rows = {
        row["name"]: (row["verdict"], row["sentence"])
        for row in cast("list[dict[str, str]]", search["found"])
    }
    assert rows.pop("127.0.0.1:1")[0] == "waits"
    lines = [json.loads(line) for line in judged.splitlines()]
    assert rows == {one["name"]: (one["verdict"], one["sentence"]) for one in lines}
    assert {verdict for verdict, _ in rows.values()} == {"voltage", "current"}
    assert "2 providers found, none that would do; " in hint
    assert hint == search["hint"]
    (row, *_) = cast("list[dict[str, object]]", told["explanations"])
    assert (row["what"], row["wanted"]) == ("power is looked for", "12V/1A")
    for sentence in [sentence for _, sentence in rows.values()]:
        assert sentence in text
        assert sentence in reason
    assert ": searching" in text
    assert "12V/1A: looked for " in text


@pytest.mark.requirement("DPDP-8-01")
async def test_who_finds_nobody_asks_whom_it_was_told_by_hand(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        words = ("--listen", "127.0.0.1:0", "--supply", "12V/5A", "--no-mdns")
        async with running(tmp_path, "provider", *words, before=inside(space)) as source:
            (address,) = (await source.until("listening"))["addresses"]
            wish = (*WISH, "--static", "127.0.0.1:1", "--static", address, "--run", "true")
            async with running(tmp_path, "consumer", *wish, before=inside(space)) as sink:
                assert await sink.end() == 0
                found = [one["address"] for one in sink.events if one["event"] == "found"]
                assert found == ["127.0.0.1:1", address]


@pytest.mark.requirement("DPDP-8-01", "DPDP-7-07")
async def test_the_level_of_trust_holds_for_who_is_named_by_hand(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Bench", "12V/5A") as source:
            own = await id_of(tmp_path, source)
        words = ("--listen", "127.0.0.1:0", "--supply", "12V/5A", "--no-mdns")
        state = ("--state-dir", str(tmp_path / "Bench"))
        async with running(tmp_path, "provider", *words, *state, before=inside(space)) as source:
            (address,) = (await source.until("listening"))["addresses"]
            wish = (*WISH, "--static", address, "--run", "true", "--give-up", "2s")
            async with running(
                tmp_path, "consumer", *wish, "--pin", f"id:{own}", before=inside(space)
            ) as sink:
                assert await sink.end() == 0
            async with running(
                tmp_path, "consumer", *wish, "--pin", f"id:{bytes(16).hex()}", before=inside(space)
            ) as sink:
                said = (await sink.until("not trusted"))["sentence"]
                assert said == f"{address}: its meter is that of another id"
                assert await sink.end() == 3
                assert "ready" not in sink.names()


@pytest.mark.requirement("DPDP-6-02")
async def test_who_is_refused_asks_the_next_best(tmp_path: Path) -> None:
    rules = tmp_path / "authorized_watts"
    rules.write_text("clear deny\n")
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Full", "12V/5A", "--authorized", str(rules)):
            async with offering(tmp_path, space, "Half", "12V/0.5A"):
                async with running(
                    tmp_path, "consumer", *WISH, "--run", "sleep 1", before=inside(space)
                ) as sink:
                    assert await sink.end() == 0
                    names = sink.names()
                    said = [one["sentence"] for one in sink.events if one["event"] == "found"]
    assert [one.partition(" ")[0] for one in said] == ["Full", "Half"]
    assert "6 W of 12 W" in said[1] or "0.5A of" in said[1]
    assert names.index("refused") < names.index("ready")


@pytest.mark.requirement("DPDP-10-03")
async def test_who_loses_a_provider_goes_on_with_another_and_the_command_never_ends(
    tmp_path: Path,
) -> None:
    with spaces(1) as (space,):
        async with half_and_full(tmp_path, space) as (other, best):
            async with running(
                tmp_path, "consumer", *WISH, "--run", "sleep 600", before=inside(space)
            ) as sink:
                await sink.until("ready")
                best.process.kill()
                await sink.until("ready", 2)
                await sink.until("readings", 3)
                assert await held(tmp_path, other) == 6000
                assert "load ended" not in sink.names()
                sink.signal(signal.SIGTERM)
                assert await sink.end() == 0


@pytest.mark.requirement("DPDP-4-06")
async def test_a_provider_that_was_killed_is_asked_when_it_announces_itself_again(
    tmp_path: Path,
) -> None:
    with spaces(1) as (space,):
        words = ("--request", "12V/1A", "--run", "sleep 600")
        async with running(tmp_path, "consumer", *words, before=inside(space)) as sink:
            async with offering(tmp_path, space, "Bench", "12V/5A", port=3251) as first:
                await sink.until("ready")
                first.process.kill()
                # nobody listens there: dead for 30 s
                await sink.until("unreachable")
            async with offering(tmp_path, space, "Bench", "12V/5A", port=3251):
                await sink.until("ready", 2, within_s=10)
                assert "load ended" not in sink.names()


@pytest.mark.requirement("DPDP-4-06", "DPDP-6-02")
async def test_a_provider_that_was_restarted_is_asked_when_it_announces_itself_again(
    tmp_path: Path,
) -> None:
    with spaces(1) as (space,):
        words = ("--request", "12V/1A", "--run", "sleep 600")
        async with running(tmp_path, "consumer", *words, before=inside(space)) as sink:
            async with offering(tmp_path, space, "Bench", "12V/5A", port=3251) as first:
                await sink.until("ready")
                first.signal(signal.SIGTERM)
                assert await first.end() == 0
            async with offering(tmp_path, space, "Bench", "12V/5A", port=3251):
                await sink.until("ready", 2, within_s=10)
                assert "load ended" not in sink.names()


async def test_a_drained_provider_is_left_for_another(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        async with half_and_full(tmp_path, space) as (other, best):
            async with running(
                tmp_path, "consumer", *WISH, "--run", "sleep 600", before=inside(space)
            ) as sink:
                await sink.until("ready")
                best.signal(signal.SIGTERM)
                await sink.until("ready", 2)
                assert await best.end() == 0
                await sink.until("readings", 3)
                assert await held(tmp_path, other) == 6000


@pytest.mark.requirement("DPDP-10-03")
async def test_a_provider_that_falls_silent_is_left_while_the_lease_holds(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        async with half_and_full(tmp_path, space) as (other, best):
            async with running(
                tmp_path, "consumer", *WISH, "--run", "sleep 600", before=inside(space)
            ) as sink:
                await sink.until("ready")
                best.signal(signal.SIGSTOP)
                left = await sink.until("left")
                assert "silent, and another provider is there" in left["sentence"]
                await sink.until("ready", 2)
                assert await held(tmp_path, other) == 6000
                assert "lease over" not in sink.names()
                best.signal(signal.SIGCONT)


@pytest.mark.requirement("PTCP-8-03")
async def test_who_sends_too_much_voltage_is_left_for_another(tmp_path: Path) -> None:
    swell = "mains:swell=150%@1s/1s"
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Half", "12V/0.5A"):
            async with offering(tmp_path, space, "Bad", "12V/5A", "--source", swell):
                async with running(tmp_path, "consumer", *WISH, before=inside(space)) as sink:
                    await sink.until("tripped")
                    await sink.until("ready", 2)
                    found = [one["provider"] for one in sink.events if one["event"] == "found"]
                    assert found == ["Bad", "Half"]


@pytest.mark.requirement("DPDP-7-08")
async def test_only_the_pinned_one_is_asked(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Full", "12V/5A"):
            async with offering(tmp_path, space, "Half", "12V/0.5A") as half:
                pin = f"id:{await id_of(tmp_path, half)}"
                async with running(
                    tmp_path, "consumer", *WISH, "--pin", pin, "--run", "true",
                    before=inside(space),
                ) as sink:  # fmt: skip
                    found = await sink.until("found")
                    assert found["provider"] == "Half"
                    assert await sink.end() == 0


def powertcp(*words: str, given: bytes = b"") -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "powertcp", *words], input=given, capture_output=True, check=True
    )
    return done.stdout


def identity(path: Path) -> str:
    """Make a node's keys; returns its X25519 key."""
    powertcp("vppn", "keygen", "--out", str(path))
    return next(
        word
        for word in powertcp("vppn", "show", "--key", str(path)).decode().split()
        if word.startswith("x25519:")
    )


@pytest.mark.requirement("DPDP-7-07", "VPPN-2.2-01")
async def test_power_is_taken_from_whom_the_site_certifies_only(tmp_path: Path) -> None:
    own, ca, device = tmp_path / "own", tmp_path / "ca", tmp_path / "device"
    key = identity(own)
    identity(device)
    site = powertcp("vppn", "keygen", "--ca", "--out", str(ca)).decode().split()
    site_key = next(word for word in site if word.startswith("ed25519:"))
    certificate = tmp_path / "own.cert"
    certificate.write_bytes(
        powertcp("vppn", "sign", "--ca", str(ca), "--subject", key, "--name", "hall-b")
    )
    stranger = tmp_path / "stranger"
    identity(stranger)
    sealed = ("--seal", "--key", str(device), "--site", site_key, "--run", "true")
    with spaces(1) as (space,):
        async with offering(
            tmp_path, space, "Rogue", "12V/5A", "--seal", "req", "--key", str(stranger)
        ):
            async with running(
                tmp_path, "consumer", *WISH, *sealed, "--give-up", "4s", before=inside(space)
            ) as sink:
                said = await sink.until("not trusted")
                assert "it shows no certificate of a site" in said["sentence"]
                assert await sink.end() == 3
                assert "ready" not in sink.names()
            async with offering(
                tmp_path, space, "Own", "12V/0.5A", "--seal", "req", "--key", str(own),
                "--cert", str(certificate),
            ):  # fmt: skip
                async with running(
                    tmp_path, "consumer", *WISH, *sealed, before=inside(space)
                ) as sink:
                    assert await sink.end() == 0
                    found = [one["provider"] for one in sink.events if one["event"] == "found"]
    assert found[-1] == "Own"
