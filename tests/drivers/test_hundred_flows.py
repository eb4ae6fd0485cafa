"""A hundred live flows go from overlay to peer, and lose nothing: on sockets, and simulated."""

import json
import os
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from powertcp.cli.main import main
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.dial import listen, parse_address
from powertcp.drivers.lsp import LspStream
from powertcp.drivers.lsr_lamp import LiveLamp
from powertcp.drivers.lsr_source import own_supplies
from powertcp.drivers.provider import Provider, ProviderConfig
from powertcp.drivers.session import FlowRecord
from powertcp.dve import block_header
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.node import LampState, Model
from powertcp.mplamps.plans import format_topology, parse_topology
from powertcp.mplamps.topology import NodeKind, Topology
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import Ask, FlowClosed, HeatCounted, PowerReady, SamplesReceived
from powertcp.profile import PowerProfile
from powertcp.registry import Refusal
from powertcp.units import NS_PER_MS, NS_PER_S, Instant
from powertcp.wire.frames import Data, Splitter, decode_segment
from powertcp.wire.options import Maintain, Sampling
from tests.drivers.addresses import base_address
from tests.drivers.live import Town, town, until
from tests.full import size

FLOWS = 100
# direct current: blocks of ten samples, two in a second
REQUEST = PowerProfile.parse("230V/260mA")
SAMPLING = Sampling(rate_hz=20)
BLOCK_NS = 500 * NS_PER_MS
# two hundred nodes in one process and a machine that does other things: none is to seem dead
HELLO_NS = 3 * NS_PER_S
MAINTAIN = Maintain(interval_ms=10_000)
CONFIG = ConnectionConfig(maintain_interval_ms=MAINTAIN.interval_ms)
SIMULATED = size(25, FLOWS)


def direct_street() -> Topology:
    """Return a street of a hundred houses that is supplied with direct current."""
    drawn = generate_topology(f"street:{FLOWS}")
    base = base_address(len(drawn.nodes))
    text = format_topology(generate_topology(f"street:{FLOWS}", base=base))
    return parse_topology(text.replace("@50Hz", ""), "street")


class Books:
    """The provider of a source, and how each of its flows ended: by the address of the lamp."""

    def __init__(self, topology: Topology) -> None:
        [source] = topology.of_kind(NodeKind.ES)
        config = ProviderConfig(
            supplies=own_supplies(topology, source),
            rating_mw=topology.capacity_of(source.name),
            connection=CONFIG,
        )
        self.provider = Provider(config)
        self.provider.admissions.on_closed = self._close
        # energy, and samples
        self.sent: dict[str, tuple[int, int]] = {}
        self.is_any_cut = False

    def _close(self, record: FlowRecord, event: FlowClosed) -> None:
        assert record.host not in self.sent
        self.sent[record.host] = event.esn_uj, record.counter
        self.is_any_cut |= event.truncated


class Sink:
    """A flow of a lamp in a circuit of its own: it numbers and banks blocks until it is closed."""

    def __init__(self, lamp: LiveLamp) -> None:
        self.lamp = lamp
        self.number = lamp.switch_on(REQUEST)
        self.machine = PowerConnection(client=True, config=CONFIG, entropy=os.urandom)
        self.address = str(lamp.node.address)
        # of blocks as they came, and of what was banked of them
        self.counters: list[tuple[int, int]] = []
        self.samples = self.banked_uj = self.heat_uj = 0
        self.times: list[Instant] = []
        self.end: FlowClosed | None = None
        self._splitter = Splitter()
        self._flow = 0
        self._late_at: Instant | None = None
        self._nap = trio.CancelScope()

    @property
    def lsp(self) -> int:
        """The circuit in use, 0 for none."""
        [row] = self.lamp.node.tunnels()
        return row.circuit.sender.lsp if row.circuit is not None else 0

    async def run(self) -> None:
        """Ask, bank and close; return when both ends have finished."""
        answer = await self.lamp.answer(self.number)
        assert not isinstance(answer, Refusal), answer
        now = now_ns()
        end = self.lamp.node.open_stream(self.number, now)
        stream = self.lamp.live.stream(end)
        self.lamp.live.settle(now)
        self._flow = self.machine.open_flow(
            [Ask(REQUEST)], sampling=SAMPLING, maintain=MAINTAIN, now=now
        )
        await stream.send_all(self.machine.data_to_send())
        while self.end is None:
            await self._step(stream)
        await stream.send_eof()
        while await stream.receive_some():
            pass
        await stream.wait_over()
        await stream.aclose()
        self.lamp.switch_off(self.number)

    def close(self) -> None:
        """Say FIN."""
        self._late_at = None
        self.machine.close_flow(self._flow, now=now_ns())
        self._nap.cancel()

    async def _step(self, stream: LspStream) -> None:
        """Wait for octets or a deadline, and do what follows."""
        times = self.machine.get_timer(), self._late_at
        data: bytes | bytearray | None = None
        with trio.CancelScope() as self._nap:
            self._nap.deadline = min(at for at in times if at is not None) / NS_PER_S
            data = await stream.receive_some()
        now = now_ns()
        self._look_late(now)
        self.machine.handle_timer(now)
        if data is not None:
            assert data, "the source has finished first"
            self._number(bytes(data))
            self.machine.receive_data(data, now)
        while (event := self.machine.next_event()) is not None:
            self._take(event, now)
        if octets := self.machine.data_to_send():
            await stream.send_all(octets)

    def _number(self, octets: bytes) -> None:
        """Read the number of each block, beside the machine that verifies it."""
        for raw in self._splitter.receive(octets):
            segment = decode_segment(raw)
            if isinstance(segment, Data):
                counter, _, _, n = block_header(segment.payload)
                self.counters.append((counter, n))

    def _take(self, event: object, now: Instant) -> None:
        match event:
            case PowerReady():
                self._late_at = None
            case SamplesReceived(count=count, energy_uj=energy_uj):
                self.samples += count
                self.banked_uj += energy_uj
                self.times.append(now)
                self._late_at = now + 2 * BLOCK_NS
                self.lamp.node.lamp_banked(self.number, now)
                self.lamp.live.settle(now)
            case HeatCounted(energy_uj=energy_uj):
                self.heat_uj += energy_uj
            case FlowClosed():
                self.end = event

    # MPLA-1-01
    def _look_late(self, now: Instant) -> None:
        """None came for two block times."""
        if self._late_at is not None and now >= self._late_at:
            self._late_at = None
            self.lamp.node.lamp_flickered(self.number, now)
            self.lamp.live.settle(now)

    def longest_ns(self) -> int:
        """Return the longest time between two blocks."""
        return max(later - sooner for sooner, later in pairwise(self.times))


def lsps(made: Town, *names: str) -> list[int]:
    """Return the numbers of the circuits that nodes have, closed ones or not."""
    rows = [row for name in names for row in made.lives[name].node.circuits(now_ns())]
    return [row.owner.sender[1] for row in rows]


async def migrate_all(made: Town, sinks: list[Sink]) -> int:
    """Let all go to peer while power flows; returns how long until the old circuits were torn."""
    before, since = [len(one.times) for one in sinks], now_ns()
    for one in sinks:
        assert one.lamp.migrate(Model.PEER) == 1
        await trio.lowlevel.checkpoint()
    await until(lambda: all(one.lsp == 2 for one in sinks))
    await until(lambda: lsps(made, "es1") == [2] * FLOWS)
    took_ns = now_ns() - since
    # PathTear has come by all of them
    assert lsps(made, "s1", "s2", "c1") == [2] * 2 * FLOWS
    assert lsps(made, *(one.lamp.live.name for one in sinks)) == [2] * FLOWS
    await until(lambda: all(len(o.times) > b + 2 for o, b in zip(sinks, before, strict=True)))
    return took_ns


def check_flow(one: Sink, books: Books) -> None:
    """What its source has sent is what came, once and in order, and what was banked of it."""
    sent_uj, sent = books.sent[one.address]
    assert [counter for counter, _ in one.counters] == list(range(0, sent, 10))
    assert {n for _, n in one.counters} == {10}
    assert one.samples == sent
    assert one.end is not None
    assert not one.end.truncated
    assert one.banked_uj == one.end.esn_uj == sent_uj > 0
    assert one.heat_uj == one.end.heat_uj == 0


def check_town(made: Town, sinks: list[Sink]) -> Counter[str]:
    """Nothing is left, and no lamp was ever refused, shed or dark; returns how often in each state."""
    ends = 0
    for said in made.said:
        assert "sentence" not in said, said
        ends += said["state"] == LampState.DARK
    assert ends == len(sinks)
    for live in made.lives.values():
        assert not len(live.node.lfib)
        assert not sum(live.node.holds().values())
    return Counter(said["state"] for said in made.said)


@pytest.mark.requirement("MPLA-4.9-01")
@pytest.mark.requirement("MPLA-4.9-02")
async def test_a_hundred_live_flows_go_from_overlay_to_peer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Real sockets, two hundred nodes: 100 of 100 migrate, and 0 samples are lost."""
    monkeypatch.setattr("powertcp.drivers.lsr.HELLO_NS", HELLO_NS)
    plan = direct_street()
    books = Books(plan)
    async with trio.open_nursery() as nursery:
        where: list[str] = await nursery.start(books.provider.serve, listen([("127.0.0.1", 0)]))
        async with town(plan, provider=parse_address(where[0])) as made:
            lamps = [made.lamp(f"lamp-{number}") for number in range(1, FLOWS + 1)]
            await made.until_alive()
            sinks = [Sink(lamp) for lamp in lamps]
            async with trio.open_nursery() as flows:
                for one in sinks:
                    flows.start_soon(one.run)
                await until(lambda: all(len(one.times) > 1 for one in sinks))
                assert [one.lsp for one in sinks] == [1] * FLOWS
                took_ns = await migrate_all(made, sinks)
                assert not any(said["state"] == LampState.DARK for said in made.said)
                for one in sinks:
                    one.close()
            await until(lambda: not lsps(made, *made.lives))
            await until(lambda: not any(len(live.node.lfib) for live in made.lives.values()))
            assert len(books.sent) == FLOWS
            assert not books.is_any_cut
            for one in sinks:
                check_flow(one, books)
            counts = check_town(made, sinks)
            assert not books.provider.breaker.holdings
        nursery.cancel_scope.cancel()
    report(sinks, books, took_ns, counts)


def report(sinks: list[Sink], books: Books, took_ns: int, counts: Counter[str]) -> None:
    """Say the figures."""
    sent_uj = sum(esn_uj for esn_uj, _ in books.sent.values())
    lost = sum(sent for _, sent in books.sent.values()) - sum(one.samples for one in sinks)
    longest_ms = max(one.longest_ns() for one in sinks) / NS_PER_MS
    sys.stdout.write(
        f"\n{FLOWS} of {FLOWS} flows migrated in {took_ns / NS_PER_MS:,.0f} ms, {lost} samples lost;"
        f" {sum(len(one.counters) for one in sinks):,} blocks, sent {sent_uj:,} uJ, banked"
        f" {sum(one.banked_uj for one in sinks):,} uJ; longest pause {longest_ms:,.0f} ms at blocks"
        f" of {BLOCK_NS // NS_PER_MS} ms; {counts[LampState.FLICKER]} flickers\n"
    )


@pytest.mark.requirement("MPLA-4.9-01")
@pytest.mark.requirement("MPLA-4.9-02")
def test_simulated_flows_go_from_overlay_to_peer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All at the same moment: sent is banked, nothing is cut, and no lamp flickers."""
    script, trace = tmp_path / "dusk.txt", tmp_path / "dusk.trace"
    script.write_text("0s on *\n1s migrate *\n3s off *\n")
    words = "--power", "--until", "6s", "--json", "--trace", str(trace)
    assert main(["mplamps", "sim", f"street:{SIMULATED}", str(script), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    energy = found["energy_uj"]
    # 59.8 W for nearly three seconds each
    assert energy["sent"] > SIMULATED * 2 * 59_800_000
    assert (energy["banked"], energy["cut"]) == (energy["sent"], 0)
    assert (found["lost"], found["first_law_residual_uj"]) == (0, 0)
    # a circuit of four links for each lamp, and another in its place
    counts = found["messages"]
    assert counts["PATH"] == counts["PATH_TEAR"] == SIMULATED * 2 * 4
    by_lamp: dict[str, list[str]] = {}
    for told in map(json.loads, trace.read_text().split("\x1e")[1:]):
        if told.get("name") == "mplamps:lamp_changed":
            by_lamp.setdefault(told["data"]["lamp"], []).append(told["data"]["state"])
    # told once more that it is lit, by the other circuit
    states = ["requesting", "signalled", "lit", "lit", "dark"]
    assert list(by_lamp.values()) == [states] * SIMULATED
    sys.stdout.write(f"\n{SIMULATED} simulated flows: {energy}\n")
