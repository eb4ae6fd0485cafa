"""An employer's gateway between real devices and real providers."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from powertcp.ledger import verify_pages
from powertcp.registry import Reason
from powertcp.vppn.identity import Algorithm, SecretKey
from powertcp.vppn.revocation import issue_revocations
from tests.drivers.gateways import (
    ALICE_LINE,
    BOSS,
    GATE,
    INSIDE,
    Gate,
    books,
    certificate,
    gateway,
    inside,
    write_key,
)
from tests.drivers.processes import Running, asked, running
from tests.drivers.relay import DOWN, relaying

# each is a process; more of them starve what is tested beside it
DEVICES = 20 if "POWERTCP_LONG" in os.environ else 6


async def ended(*daemons: Running | Gate) -> None:
    """Let daemons drain, and see that they end well."""
    for one in daemons:
        process = one.process if isinstance(one, Gate) else one
        process.signal(signal.SIGTERM)
        assert await process.end() == 0, process.log


def employees(state: Path) -> dict[str, int]:
    """Return what each employee had, by the ledger of a gateway, which verifies."""
    books(state, "verify", "--full")
    return {
        str(row["account"]).removeprefix("employee:"): row["debit"] - row["credit"]
        for row in books(state, "show")
        if str(row["account"]).startswith("employee:")
    }


def pages(state: Path) -> bytes:
    """Return the pages in the books of `state`, in order."""
    command = [sys.executable, "-m", "powertcp", "ledger", "export", "pages"]
    ran = subprocess.run(
        [*command, "--state-dir", str(state)], capture_output=True, timeout=60, check=True
    )
    return ran.stdout


def agreed(folder: Path, *names: str) -> int:
    """Return the energy of the pages that all books in `folder` hold alike, octet for octet."""
    found = {name: pages(folder / name) for name in names}
    assert len(set(found.values())) == 1, {name: len(octets) for name, octets in found.items()}
    for name in names:
        books(folder / name, "verify", "--full")
    verdicts = verify_pages([(names[0], found[names[0]])])
    assert all(str(one).startswith("VALID") for one in verdicts), [str(one) for one in verdicts]
    return sum(one.energy_uj for one in verdicts)


@asynccontextmanager
async def mute() -> AsyncIterator[tuple[str, list[str]]]:
    """Accept connections and say nothing; return the address, and itself for each that came."""
    came: list[str] = []
    address = ""

    async def hear(stream: trio.SocketStream) -> None:
        came.append(address)
        with suppress(trio.BrokenResourceError):
            async for _ in stream:
                pass

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, hear, [listener])
        yield address, came
        nursery.cancel_scope.cancel()


@pytest.mark.requirement("VPPN-6-01", "VPPN-6-03")
async def test_receipts_verify_end_to_end_and_the_account_is_their_energy(tmp_path: Path) -> None:
    async with inside(tmp_path) as (source, upstream), gateway(tmp_path, upstream) as gate:
        async with running(tmp_path, *gate.device("--receipts", "1s", time="3500ms")) as sink:
            assert await sink.end() == 0
        (done,) = sink.all("done")
        status = await asked(tmp_path, gate.control, op="status", flows=True)
        assert isinstance(status["ledger"], dict)
        assert status["ledger"]["pages"] >= 3
        await ended(gate, source)
    energy_uj = agreed(tmp_path, "device", "inside", "gate")
    assert energy_uj == done["energy_uj"] == 84_000_000
    assert employees(tmp_path / "gate") == {"alice@lamp": 84_000_000}
    bill = books(tmp_path / "gate", "invoice", "alice@lamp")
    assert "84000000" in json.dumps(bill)


@pytest.mark.requirement("VPPN-6-02")
async def test_65_w_of_a_certificate_are_powered_and_66_w_refused_by_the_gateway(
    tmp_path: Path,
) -> None:
    line = f"issuer {BOSS.public} groups=staff max-power=200W employer\n"
    (tmp_path / "alice.cert").write_bytes(certificate("max-power=65W voltage=5V-20V"))
    words = ("--cert", str(tmp_path / "alice.cert"))
    async with (
        inside(tmp_path, supply="20V/10A") as (source, upstream),
        gateway(tmp_path, upstream, "-v", authorized=line) as gate,
    ):
        async with running(tmp_path, *gate.device(*words, power="20V/3.25A", time="1s")) as sink:
            assert await sink.end() == 0
        device = gate.device(*words, "--give-up", "1s", power="20V/3.3A")
        async with running(tmp_path, *device) as sink:
            refused = await sink.until("refused")
            assert (refused["code"], refused["value"], refused["limit"]) == (204, 66_000, 65_000)
            assert await sink.end() == 1
        place = f"{gate.watts}:1 issuer, certificate 4711:6"
        await gate.process.until_logged(f"may have 65,000 mW ({place})")
        found = await asked(tmp_path, gate.control, op="explain")
        rows = found["explanations"]
        assert isinstance(rows, list)
        assert [row["rule"] for row in rows if row["code"] == Reason.WATT_LIMIT] == [place]
        counts = (await asked(tmp_path, f"provider-{source.pid}.sock", op="status"))["counts"]
        assert isinstance(counts, dict)
        # the provider never heard of it
        assert "refused" not in counts
        await ended(gate, source)
    assert employees(tmp_path / "gate") == {"alice@lamp": 65_000_000}


@pytest.mark.requirement("VPPN-6-03", "VPPN-6-05")
async def test_a_quota_ends_by_the_block_that_crosses_it(tmp_path: Path) -> None:
    line = ALICE_LINE.replace("max-power=200W", "max-power=240W quota=1kJ/day")
    async with (
        inside(tmp_path) as (source, upstream),
        gateway(tmp_path, upstream, authorized=line) as gate,
    ):
        device = gate.device("--receipts", "1s", "--give-up", "2s", power="12V/20A", time="")
        async with running(tmp_path, *device) as sink:
            alert = await sink.until("alert")
            assert alert["code"] == Reason.ENERGY_QUOTA
            assert 900_000_000 <= alert["value"] < 1_000_000_000
            refused = await sink.until("refused")
            assert (refused["code"], refused["limit"]) == (Reason.ENERGY_QUOTA, 1_000_000_000)
            sink.signal(signal.SIGTERM)
            assert await sink.end() in (0, 1)
        await gate.process.until_logged("205 ENERGY_QUOTA")
        await ended(gate, source)
    energy_uj = agreed(tmp_path, "device", "inside", "gate")
    # blocks of 100 ms at 240 W: the one that crosses, and what was on its way by then
    assert 1_000_000_000 <= energy_uj < 1_000_000_000 + 3 * 24_000_000
    assert employees(tmp_path / "gate") == {"alice@lamp": energy_uj}
    # a restart gives nothing back
    async with (
        inside(tmp_path) as (_, upstream),
        gateway(tmp_path, upstream, authorized=line) as gate,
        running(tmp_path, *gate.device("--give-up", "1s", name="again")) as sink,
    ):
        refused = await sink.until("refused")
        assert (refused["code"], refused["value"]) == (Reason.ENERGY_QUOTA, energy_uj)


@pytest.mark.requirement("VPPN-6-05")
async def test_a_certificate_that_ends_is_told_before_and_ends_the_flow(tmp_path: Path) -> None:
    line = f"issuer {BOSS.public} max-power=200W employer\n"
    words = ("--cert", str(tmp_path / "alice.cert"), "--receipts", "1s", "--give-up", "1s")
    async with (
        inside(tmp_path) as (source, upstream),
        gateway(tmp_path, upstream, authorized=line) as gate,
    ):
        # a device may take seconds to start on a busy machine
        (tmp_path / "alice.cert").write_bytes(certificate(ends=timedelta(seconds=15)))
        async with running(tmp_path, *gate.device(*words, time="")) as sink:
            assert (await sink.until("alert"))["code"] == Reason.CERT_EXPIRED
            refused = await sink.until("refused")
            assert refused["code"] == Reason.CERT_EXPIRED
            assert await sink.end() == 1
        await ended(gate, source)
    energy_uj = agreed(tmp_path, "device", "inside", "gate")
    assert employees(tmp_path / "gate") == {"alice@lamp": energy_uj}


@pytest.mark.requirement("VPPN-5-05", "VPPN-6-05")
async def test_a_revoked_device_is_cut_when_the_list_is_read_again(tmp_path: Path) -> None:
    line = f"issuer {BOSS.public} max-power=200W employer\n"
    (tmp_path / "alice.cert").write_bytes(certificate())
    krl = tmp_path / "staff.krl"

    def revoke(*serials: int) -> None:
        begins_s = int(datetime.now(UTC).timestamp())
        krl.write_bytes(issue_revocations(BOSS, begins_s, begins_s + 3600, set(serials), set()))

    revoke()
    async with (
        inside(tmp_path) as (source, upstream),
        gateway(tmp_path, upstream, "--krl", str(krl), authorized=line) as gate,
    ):
        words = ("--cert", str(tmp_path / "alice.cert"), "--give-up", "1s")
        async with running(tmp_path, *gate.device(*words, time="")) as sink:
            await sink.until("ready")
            revoke(4711)
            # no signal: the list is looked at each 10 s
            refused = await sink.until("refused")
            assert refused["code"] == Reason.CERT_REVOKED
            assert await sink.end() == 1
        await gate.process.until_logged(f"is revoked ({krl}:5 serial 4711)")
        await ended(gate, source)
    energy_uj = agreed(tmp_path, "device", "inside", "gate")
    assert employees(tmp_path / "gate") == {"alice@lamp": energy_uj}


@pytest.mark.requirement("VPPN-6-04", "PTCP-10-03")
async def test_an_upstream_that_is_lost_is_a_cut_and_the_ticket_works_again(tmp_path: Path) -> None:
    async with (
        inside(tmp_path) as (source, upstream),
        relaying(upstream) as path,
        gateway(tmp_path, path.address) as gate,
    ):
        cut: list[int] = []

        def once(way: int, at: int, octets: bytes) -> bytes | None:
            if way == DOWN and at > 6_000 and not cut:
                cut.append(at)
                return None
            return octets

        path.alter = once
        async with running(tmp_path, *gate.device("--receipts", "1s", time="5s")) as sink:
            assert await sink.end() == 0
        (done,) = sink.all("done")
        assert len(sink.all("cut")) == 1
        assert path.connections == 2
        assert [one["resumed"] for one in sink.all("ready")] == [False, True]
        await ended(gate, source)
    assert cut
    energy_uj = agreed(tmp_path, "device", "inside", "gate")
    assert energy_uj == done["energy_uj"] == 120_000_000
    assert employees(tmp_path / "gate") == {"alice@lamp": 120_000_000}


@pytest.mark.requirement("VPPN-6-04")
async def test_a_gateway_that_is_killed_costs_no_joule(tmp_path: Path) -> None:
    async with inside(tmp_path) as (source, upstream), AsyncExitStack() as stack:
        gate = await stack.enter_async_context(gateway(tmp_path, upstream))
        words = gate.device("--receipts", "1s", time="8s")
        sink = await stack.enter_async_context(running(tmp_path, *words))
        await sink.until("receipt", 2)
        gate.process.process.kill()
        await gate.process.process.wait()
        await sink.until("cut")
        again = await stack.enter_async_context(gateway(tmp_path, upstream, listen=gate.address))
        assert await sink.end() == 0
        (done,) = sink.all("done")
        await ended(again, source)
    energy_uj = agreed(tmp_path, "device", "inside", "gate")
    assert energy_uj == done["energy_uj"] == 192_000_000
    assert employees(tmp_path / "gate") == {"alice@lamp": 192_000_000}


@pytest.mark.requirement("VPPN-6-03", "LEDG-7-07")
async def test_a_page_that_could_not_be_written_is_shown_to_the_next_gateway(
    tmp_path: Path,
) -> None:
    async with inside(tmp_path) as (source, upstream), AsyncExitStack() as stack:
        gate = await stack.enter_async_context(gateway(tmp_path, upstream))
        words = gate.device("--receipts", "1s", time="6s")
        sink = await stack.enter_async_context(running(tmp_path, *words))
        await sink.until("receipt", 2)
        resource.prlimit(gate.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        await sink.until("cut")
        gate.process.process.kill()
        await gate.process.process.wait()
        # the provider never had the copy that is not on the disk
        again = await stack.enter_async_context(gateway(tmp_path, upstream, listen=gate.address))
        assert await sink.end() == 0
        (done,) = sink.all("done")
        await ended(again, source)
    energy_uj = agreed(tmp_path, "device", "inside", "gate")
    assert energy_uj == done["energy_uj"] == 144_000_000
    assert employees(tmp_path / "gate") == {"alice@lamp": 144_000_000}


@pytest.mark.requirement("VPPN-6-01", "VPPN-6-04")
async def test_two_gateways_with_one_identity_serve_one_device_after_the_other(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        source, upstream = await stack.enter_async_context(inside(tmp_path))
        first = await stack.enter_async_context(gateway(tmp_path, upstream, name="first"))
        second = await stack.enter_async_context(gateway(tmp_path, upstream, name="second"))
        path = await stack.enter_async_context(relaying(first.address))
        first.address = path.address
        words = first.device("--receipts", "1s", time="5s")
        sink = await stack.enter_async_context(running(tmp_path, *words))
        await sink.until("receipt", 2)
        # what has the same identity is the same to a device: it moves within its contract
        host, _, port = second.address.rpartition(":")
        path.upstream = host, int(port)
        path.alter = lambda _way, at, octets: None if at > 20_000 else octets
        await sink.until("cut")
        path.alter = lambda _way, _at, octets: octets
        assert await sink.end() == 0
        (done,) = sink.all("done")
        await ended(first, second, source)
    parts = [employees(tmp_path / name)["alice@lamp"] for name in ("first", "second")]
    assert sum(parts) == done["energy_uj"] == 120_000_000
    assert all(parts)
    assert agreed(tmp_path, "device", "inside") == 120_000_000


@pytest.mark.requirement("VPPN-6-01")
async def test_providers_inside_may_be_sealed_too(tmp_path: Path) -> None:
    watts = tmp_path / "watts"
    watts.write_text(f"key {GATE.public} max-power=200W gate\n")
    watts.chmod(0o644)
    seal = ("--seal", "req", "--key", write_key(tmp_path / "inside.key", INSIDE))
    async with (
        inside(tmp_path, *seal, "--authorized", str(watts)) as (source, upstream),
        relaying(upstream) as path,
        gateway(tmp_path, path.address, "--upstream-peer", str(INSIDE.public)) as gate,
    ):
        async with running(tmp_path, *gate.device()) as sink:
            assert await sink.end() == 0
        await ended(gate, source)
    assert {kind for _, kind, _ in path.raws} == {0x10}
    assert agreed(tmp_path, "device", "inside", "gate") == 48_000_000


@pytest.mark.requirement("VPPN-6-04")
async def test_via_picks_an_upstream_and_an_unknown_name_is_refused(tmp_path: Path) -> None:
    async with (
        inside(tmp_path, name="hall") as (hall, first),
        inside(tmp_path, name="lab") as (lab, second),
        gateway(tmp_path, first, "--via", f"lab={second}") as gate,
    ):
        async with running(tmp_path, *gate.device("--via", "lab")) as sink:
            assert await sink.end() == 0
        async with running(tmp_path, *gate.device("--via", "roof", name="other")) as sink:
            refused = await sink.until("refused")
            assert refused["code"] == Reason.POLICY
            assert refused["text"] == "VIA roof: no such upstream"
            assert await sink.end() == 1
        await ended(gate, hall, lab)
    # transcripts of both ends are those of a SYN without VIA
    assert agreed(tmp_path, "device", "lab", "gate") == 48_000_000
    assert pages(tmp_path / "hall") == b""
    rows = {str(row["account"]) for row in books(tmp_path / "gate", "show")}
    assert "source:lab" in rows


@pytest.mark.requirement("VPPN-6-04")
async def test_a_device_that_must_name_an_upstream_is_told_which(tmp_path: Path) -> None:
    async with (
        inside(tmp_path) as (source, upstream),
        gateway(tmp_path, "", "--via", f"lab={upstream}", "--via", "hall=127.0.0.1:1") as gate,
    ):
        async with running(tmp_path, *gate.device("--give-up", "1s")) as sink:
            refused = await sink.until("refused")
            assert (refused["code"], refused["text"]) == (Reason.POLICY, "name one: VIA lab, hall")
            assert await sink.end() == 1
        async with running(tmp_path, *gate.device("--via", "lab", time="1s")) as sink:
            assert await sink.end() == 0
        status = await asked(tmp_path, gate.control, op="status", flows=True)
        assert (status["flow_count"], status["devices"]) == (0, 0)
        await ended(gate, source)


@pytest.mark.requirement("VPPN-6-04")
async def test_without_via_the_first_upstream_that_accepts_gives(tmp_path: Path) -> None:
    async with (
        inside(tmp_path) as (source, upstream),
        gateway(tmp_path, "127.0.0.1:1", "--upstream", upstream) as gate,
    ):
        async with running(tmp_path, *gate.device(time="1s")) as sink:
            assert await sink.end() == 0
        source.signal(signal.SIGTERM)
        assert await source.end() == 0
        async with running(tmp_path, *gate.device("--give-up", "1s", name="late")) as sink:
            refused = await sink.until("refused")
            assert refused["code"] == Reason.NO_CAPACITY
            sink.signal(signal.SIGTERM)
            await sink.end()
        await ended(gate)


@pytest.mark.requirement("VPPN-6-04")
async def test_an_upstream_that_accepts_and_says_nothing_is_passed_over(tmp_path: Path) -> None:
    async with (
        inside(tmp_path) as (source, upstream),
        mute() as (silent, came),
        gateway(tmp_path, silent, "--upstream", upstream) as gate,
    ):
        async with running(tmp_path, *gate.device(time="1s")) as sink:
            assert await sink.end() == 0
        assert [one["code"] for one in sink.all("refused")] == []
        await gate.process.until_logged(f"power from {upstream}: {silent}: no answer")
        assert came == [silent]
        await ended(gate, source)
    # what the one before was told is what the next one signed
    assert agreed(tmp_path, "device", "inside", "gate") == 24_000_000


@pytest.mark.requirement("VPPN-6-04")
async def test_a_provider_that_takes_no_more_of_an_address_is_told_of(tmp_path: Path) -> None:
    other = SecretKey(Algorithm.X25519, bytes([0x40]) * 32)
    lines = f"{ALICE_LINE}key {other.public} max-power=20W lamp\n"
    async with (
        inside(tmp_path, "--connections", "1") as (source, upstream),
        gateway(tmp_path, upstream, authorized=lines) as gate,
        running(tmp_path, *gate.device(time="")) as first,
    ):
        await first.until("ready")
        key = write_key(tmp_path / "lamp", other)
        words = gate.device("--key", key, "--give-up", "1s", power="12V/1A", name="late", time="")
        async with running(tmp_path, *words) as sink:
            refused = await sink.until("refused")
            assert refused["code"] == Reason.NO_CAPACITY
            await sink.end()
        await gate.process.until_logged("its --connections may be too few for this address")
        assert first.all("lost") == first.all("cut") == []
        first.signal(signal.SIGTERM)
        assert await first.end() == 0
        await ended(gate, source)


@pytest.mark.requirement("VPPN-6-01", "VPPN-6-03")
async def test_many_devices_draw_through_one_gateway(tmp_path: Path) -> None:
    keys = [SecretKey(Algorithm.X25519, bytes([0x40 + number]) * 32) for number in range(DEVICES)]
    lines = [f"key {key.public} max-power=20W lamp-{n}\n" for n, key in enumerate(keys)]
    async with (
        inside(tmp_path, "--connections", "64") as (source, upstream),
        gateway(tmp_path, upstream, authorized="".join(lines)) as gate,
    ):
        drawn: dict[str, int] = {}
        ready, starts = trio.Event(), trio.CapacityLimiter(4)
        waiting = set(range(DEVICES))

        async def draw(number: int) -> None:
            key = write_key(tmp_path / f"lamp-{number}", keys[number])
            words = gate.device("--key", key, power="12V/0.5A", name=f"state-{number}", time="")
            async with AsyncExitStack() as stack:
                async with starts:
                    sink = await stack.enter_async_context(running(tmp_path, *words))
                    await sink.until("ready")
                waiting.discard(number)
                if not waiting:
                    ready.set()
                await ready.wait()
                await sink.until("readings", len(sink.all("readings")) + 2)
                sink.signal(signal.SIGTERM)
                assert await sink.end() == 0
                drawn[f"lamp-{number}"] = sink.all("closed")[-1]["esn_uj"]

        async with trio.open_nursery() as nursery:
            for number in range(DEVICES):
                nursery.start_soon(draw, number)
        await ended(gate, source)
    assert len(drawn) == DEVICES
    assert employees(tmp_path / "gate") == drawn
    assert pages(tmp_path / "gate") == pages(tmp_path / "inside")


async def test_sighup_takes_a_file_whole_or_not_at_all(tmp_path: Path) -> None:
    async with inside(tmp_path) as (source, upstream), gateway(tmp_path, upstream) as gate:
        async with running(tmp_path, *gate.device("--give-up", "1s", time="")) as sink:
            await sink.until("ready")
            gate.watts.write_text("key nonsense\n")
            gate.process.signal(signal.SIGHUP)
            await gate.process.until_logged("configuration kept")
            assert "refused" not in sink.names()
            gate.watts.write_text(ALICE_LINE.replace("max-power=200W alice@lamp", "deny"))
            gate.process.signal(signal.SIGHUP)
            assert (await sink.until("refused"))["code"] == Reason.POLICY
            assert await sink.end() == 1
        await ended(gate, source)


@pytest.mark.requirement("VPPN-5-03", "VPPN-6-04")
async def test_sighup_takes_other_upstreams_and_says_what_needs_a_restart(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('upstream = ["127.0.0.1:1"]\n')
    async with (
        inside(tmp_path) as (source, upstream),
        gateway(tmp_path, "", "--config", str(config)) as gate,
        running(tmp_path, *gate.device("--give-up", "30s", time="1s")) as sink,
    ):
        assert (await sink.until("refused"))["code"] == Reason.NO_CAPACITY
        powers = f'upstream = ["{upstream}"]\nvia = ["lab={upstream}"]\n'
        config.write_text(f'{powers}connections = 5\ntrace = "elsewhere"\n')
        gate.process.signal(signal.SIGHUP)
        await gate.process.until_logged(f"power from {upstream}, lab")
        await gate.process.until_logged("a change needs a restart: connections, trace")
        assert await sink.end() == 0
        status = await asked(tmp_path, gate.control, op="status", flows=False)
        assert (status["upstreams"], status["vias"]) == ([upstream], ["lab"])
        await ended(gate, source)


async def test_sigterm_says_fin_to_both_sides(tmp_path: Path) -> None:
    async with inside(tmp_path) as (source, upstream), gateway(tmp_path, upstream) as gate:
        device = gate.device("--receipts", "1s", "--give-up", "1s", time="")
        async with running(tmp_path, *device) as sink:
            await sink.until("receipt", 2)
            gate.process.signal(signal.SIGTERM)
            assert await gate.process.end() == 0
            await sink.until("lost", when=lambda one: one["code"] == Reason.DRAINING)
            sink.signal(signal.SIGTERM)
            await sink.end()
        await source.until_logged("601 DRAINING")
        await ended(source)
    energy_uj = agreed(tmp_path, "device", "inside", "gate")
    assert employees(tmp_path / "gate") == {"alice@lamp": energy_uj}


async def test_clear_power_is_refused_and_a_missing_file_ends_the_start(tmp_path: Path) -> None:
    async with inside(tmp_path) as (source, upstream), gateway(tmp_path, upstream) as gate:
        words = ("consumer", "--connect", gate.address, "--request", "12V/1A", "--no-ledger")
        async with running(tmp_path, *words) as sink:
            assert await sink.end() in (1, 3)
        assert not sink.all("ready")
        await ended(gate, source)
    async with running(tmp_path, "vppn", "gateway", "--upstream", upstream) as one:
        assert await one.end() == 2
    assert "who may draw what? --authorized FILE" in one.log
