"""Power over TCP in the circuits of a simulation: sources that make blocks, lamps that bank them.

A lamp asks in its circuit for what the circuit was granted, and is lit when its first block is
verified. What a source has sent must be what its lamp has verified, to the microjoule: also of a
circuit that was cut, of which the blocks that did not arrive are added up one by one.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from powertcp.errors import known
from powertcp.machine import Buffer, Entropy, Event
from powertcp.mplamps.attachment import Attachment
from powertcp.mplamps.engine import Engine
from powertcp.mplamps.node import (
    LampChanged,
    LampState,
    Node,
    NodeEvent,
    StreamCut,
    StreamOpened,
    SupplierChanged,
)
from powertcp.mplamps.scenario import CANDLE_NS
from powertcp.mplamps.tcp import Ended, Endpoint, Opened, PeerFinished
from powertcp.mplamps.wires import Dice
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import (
    Ask,
    FlowClosed,
    FlowCut,
    FlowRefused,
    PowerAccepted,
    PowerReady,
    PowerRequested,
    RenegotiationRequested,
    SamplesReceived,
)
from powertcp.potcp.tickets import TicketOffice
from powertcp.profile import PowerProfile, ProfileType, named_profiles
from powertcp.registry import Reason
from powertcp.sources.generator import Generator
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant

# a block of a circuit fills a packet at most
MSP = 1_280
# how long an inner connection has to end, until its circuit is given up
DRAIN_NS: Duration = 5 * NS_PER_S
# after which pause a lamp connects again when its connection was lost and its circuit was not
RETRY_NS: Duration = NS_PER_S
# MPLampS section 1: none for 2 block times
_FLICKER_BLOCKS = 2
_CONFIG = ConnectionConfig(msp=MSP)
_CLOSED_CIRCUIT = (LampState.SIGNALLED, LampState.LIT, LampState.FLICKER)


class Supply(NamedTuple):
    """Energies of the inner connections of one lamp: what sources sent, and the lamp verified.

    cut_uj: the blocks that were sent in flows that have not ended as they should, and come after
    the last sample that was verified: they are under way, or were in a circuit that was cut.
    """

    sent_uj: int
    banked_uj: int
    cut_uj: int = 0


class _Block(NamedTuple):
    """A block that was sent: its samples, and by how much it has raised the ESN of its source."""

    samples: int
    energy_uj: int


class _End:
    """A stream machine: that of a connection, and what an end does with it."""

    def __init__(self, connection: PowerConnection) -> None:
        self.connection = connection

    def receive_data(self, data: Buffer, now: Instant) -> None:
        self.connection.receive_data(data, now)

    def receive_eof(self, now: Instant) -> None:
        self.connection.receive_eof(now)

    def data_to_send(self) -> bytes:
        return self.connection.data_to_send()

    def next_event(self) -> Event | None:
        return self.connection.next_event()


class _Source(_End):
    """The end of a source: grants what it is asked for, and makes a block in each block time."""

    def __init__(self, connection: PowerConnection, now: Instant) -> None:
        super().__init__(connection)
        self.sent_uj = 0
        # what it had sent when both ends closed the flow, None before, and if they never did
        self.final_uj: int | None = None
        # those that are not verified yet
        self.blocks: deque[_Block] = deque()
        self._flow: int | None = None
        self._generator: Generator | None = None
        self._terms: PowerProfile | None = None
        self._counter = 0
        self._due: Instant | None = None
        connection.start(now)

    @property
    def esn_uj(self) -> int:
        """What has been sent so far, also of the flow that is open."""
        if self._flow is None or self._flow not in self.connection.flows:
            return self.sent_uj
        return self.sent_uj + self.connection.status(self._flow).esn_uj

    def get_timer(self) -> Instant | None:
        times = (self.connection.get_timer(), self._due)
        return min((at for at in times if at is not None), default=None)

    def handle_timer(self, now: Instant) -> None:
        self.connection.handle_timer(now)
        if self._due is not None and now >= self._due:
            self._send(now)

    def take(self, event: Event, now: Instant) -> None:
        """Answer what the lamp wants."""
        connection = self.connection
        match event:
            case PowerRequested(flow=flow, asks=asks):
                connection.grant(flow, asks[0].desired, now=now)
            case PowerAccepted(flow=flow):
                self._flow, self._due, self._counter = flow, now, 0
                connection.ready(flow, now=now)
            case RenegotiationRequested(flow=flow, asks=asks):
                connection.answer(flow, accept=True, profile=asks[0].desired, now=now)
            case FlowCut():
                # nothing is sent in a flow that is held; none is resumed here
                self._due = None
            case FlowClosed(esn_uj=esn_uj, truncated=is_cut):
                self.sent_uj += esn_uj
                self.final_uj = None if is_cut else esn_uj
                self._flow = self._due = None

    def _send(self, now: Instant) -> None:
        flow = known(self._flow, "blocks are of a flow")
        if flow not in self.connection.flows:
            self._due = None
            return
        status = self.connection.status(flow)
        terms, sampling = status.profile, status.sampling
        if terms is None or sampling is None:
            self._due = now + NS_PER_MS
            return
        if terms != self._terms or self._generator is None:
            self._terms = terms
            self._generator = Generator(terms, sampling, msp=MSP)
        generator = self._generator
        tick = generator.block(self._counter, self.connection.demand_mw(flow))
        before_uj = self.esn_uj
        if self.connection.send_block(flow, tick.payload, tick.sums, now=now):
            self._counter += tick.n
            self.blocks.append(_Block(tick.n, self.esn_uj - before_uj))
        self._due = known(self._due, "a block was due") + generator.period_ns


class _Sink(_End):
    """The end of a lamp: asks for what was granted, banks blocks, and sees when none come."""

    def __init__(
        self, connection: PowerConnection, request: PowerProfile, tell: Callable[[bool, Instant], None]
    ) -> None:  # fmt: skip
        super().__init__(connection)
        self.banked_uj = 0
        # samples that were verified, less those of blocks that were taken off the source's
        self.samples = 0
        self.request = self._wish = request
        self.is_over = False
        # what it had verified when both ends closed the flow, None before, and if they never did
        self.final_uj: int | None = None
        self._is_ready = False
        self._tell = tell
        self._flow: int | None = None
        self._block_ns: Duration = 0
        self._late_at: Instant | None = None

    def open(self, now: Instant) -> None:
        """Ask for power."""
        self._flow = self.connection.open_flow([Ask(self.request)], now=now)

    def change(self, request: PowerProfile, now: Instant) -> None:
        """Ask for other terms as soon as the flow may."""
        self._wish = request
        self._propose(now)

    def _propose(self, now: Instant) -> None:
        flow = self._flow
        if flow is None or self._wish == self.request or not self.connection.may_propose(flow):
            return
        self.request = self._wish
        self.connection.renegotiate(flow, [Ask(self._wish)], now=now)

    def close(self, now: Instant) -> None:
        """Close the flow, whatever has become of it."""
        self._late_at = None
        if self._flow is not None and self._flow in self.connection.flows:
            self.connection.close_flow(self._flow, now=now)
        else:
            self.is_over = True

    def get_timer(self) -> Instant | None:
        times = (self.connection.get_timer(), self._late_at)
        return min((at for at in times if at is not None), default=None)

    def handle_timer(self, now: Instant) -> None:
        self.connection.handle_timer(now)
        if self._late_at is not None and now >= self._late_at:
            self._late_at = None
            self._tell(False, now)  # noqa: FBT003 - of a callable

    def take(self, event: Event, now: Instant) -> None:
        """Bank what was verified."""
        match event:
            case PowerReady(flow=flow):
                self._is_ready = True
                status = self.connection.status(flow)
                if status.profile is not None and status.sampling is not None:
                    self._block_ns = Generator(status.profile, status.sampling, msp=MSP).period_ns
                self._propose(now)
            case SamplesReceived(energy_uj=energy_uj, count=count):
                self.banked_uj += energy_uj
                self.samples += count
                self._late_at = now + _FLICKER_BLOCKS * self._block_ns
                self._tell(True, now)  # noqa: FBT003 - of a callable
            case FlowClosed(refusal=why, truncated=is_cut, esn_uj=esn_uj):
                self._late_at, self.is_over = None, True
                # what comes in a flow that was closed before it was ready is not verified
                is_lost = is_cut or why is None or why.code != Reason.NORMAL
                self.final_uj = esn_uj if self._is_ready and not is_lost else None
            case FlowRefused():
                self._late_at, self.is_over = None, True


@dataclass(slots=True, eq=False)
class _Stream:
    """An inner connection at its lamp."""

    name: str
    tunnel: int
    node: Node
    sink: _Sink
    line: Attachment
    is_leaving: bool = False


@dataclass(slots=True, eq=False)
class _Pair:
    """Both ends of an inner connection."""

    name: str
    sink: _Sink
    source: _Source | None = None

    @property
    def is_cut(self) -> bool:
        """Whether the ends have not yet closed their flow with the same energy, or never will."""
        final_uj = self.source.final_uj if self.source is not None else None
        return final_uj is None or final_uj != self.sink.final_uj

    def match(self) -> None:
        """Take off the source's blocks those whose samples were verified."""
        blocks = self.source.blocks if self.source is not None else ()
        while blocks and blocks[0].samples <= self.sink.samples:
            self.sink.samples -= blocks.popleft().samples

    @property
    def cut_uj(self) -> int:
        """The blocks of a flow that was cut of which no sample was verified, in uJ."""
        self.match()
        if self.source is None or not self.is_cut:
            return 0
        return sum(block.energy_uj for block in self.source.blocks)


class PoweredLamps:
    """Power over TCP for each lamp that is signalled. Put it on an engine before it runs."""

    def __init__(self, engine: Engine, seed: int) -> None:
        """Watch `engine`."""
        # the table of named profiles is a file: read once
        named_profiles()
        self._engine = engine
        engine.patience_ns = CANDLE_NS
        self._is_finishing = False
        self._seed = seed
        self._opened = 0
        self._office = TicketOffice(self._dice("office"))
        self._streams: dict[tuple[str, int], _Stream] = {}
        self._ends: dict[Endpoint, tuple[str, _Sink | _Source, _Stream | None]] = {}
        self._pairs: list[_Pair] = []
        # by both ends: lamp and its port, and the source
        self._open: dict[tuple[str, int, str], _Pair] = {}
        engine.watch = self._watch
        engine.release = self._release

    def _dice(self, purpose: str) -> Entropy:
        self._opened += 1
        return Dice(self._seed, f"power {purpose} {self._opened}")

    # ---- what nodes say -----------------------------------------------------------------------

    def _watch(self, name: str, event: NodeEvent, now: Instant) -> None:
        match event:
            case LampChanged(state=LampState.SIGNALLED | LampState.LIT, grant=grant):
                if grant is not None:
                    self._power(name, event.tunnel, grant, now)
            case StreamOpened(end=end):
                self._serve(name, end, now)
            case StreamCut(end=end) if end in self._ends:
                self._cut(end, now)
            case SupplierChanged(old=old):
                self._leave(name, old, now)

    def _power(self, name: str, tunnel: int, grant: PowerProfile, now: Instant) -> None:
        """Open the inner connection of a tunnel, or let the one that is open have other terms."""
        if self._is_finishing:
            return
        request = grant.with_type(ProfileType.REQUEST, lease_s=0)
        before = self._stream_of(name, tunnel)
        if before is not None:
            before.sink.change(request, now)
            return
        engine = self._engine
        node = known(engine.node(name), "a lamp that is signalled is up")
        end = node.open_stream(tunnel, now)
        dice = self._dice(f"sink {name}")
        connection = PowerConnection(client=True, config=_CONFIG, entropy=dice)

        def tell(is_banked: bool, at: Instant) -> None:
            if self._streams.get((name, tunnel)) is not stream:
                # the circuit was given up before its connection had ended
                return
            if is_banked:
                node.lamp_banked(tunnel, at)
            else:
                node.lamp_flickered(tunnel, at)

        sink = _Sink(connection, request, tell)

        def take(event: Event, at: Instant) -> None:
            match event:
                case Opened():
                    sink.open(at)
                case Ended():
                    self._ended(stream, at)
                case _:
                    sink.take(event, at)
                    pair.match()
            if sink.is_over:
                line.close()

        line = engine.attach(name, end, sink, take)
        stream = self._streams[name, tunnel] = _Stream(name, tunnel, node, sink, line)
        self._ends[end] = name, sink, stream
        source = known(engine.topology.at(end.peer), "a lamp asks a source").name
        pair = self._open[name, end.local_port, source] = _Pair(name, sink)
        self._pairs.append(pair)

    def _serve(self, name: str, end: Endpoint, now: Instant) -> None:
        """Answer the connection of a lamp at a source."""
        engine = self._engine
        lamp = known(engine.topology.at(end.peer), "an inner connection comes from a lamp").name
        connection = PowerConnection(
            client=False, config=_CONFIG, entropy=self._dice(f"source {lamp}"),
            office=self._office, peer=end.peer.packed,
        )  # fmt: skip
        source = _Source(connection, now)

        def take(event: Event, at: Instant) -> None:
            match event:
                case PeerFinished():
                    # who closes first keeps its port for a while: that is the lamp, which has many
                    line.close()
                case Ended():
                    self._ends.pop(end, None)
                case _:
                    source.take(event, at)

        line = engine.attach(name, end, source, take)
        self._ends[end] = name, source, None
        self._open[lamp, end.peer_port, name].source = source

    # ---- ends ---------------------------------------------------------------------------------

    def _cut(self, end: Endpoint, now: Instant) -> None:
        """The circuit of a connection is gone: so is the connection."""
        name, machine, stream = self._ends.pop(end)
        machine.receive_eof(now)
        while (event := machine.next_event()) is not None:
            machine.take(event, now)
        self._engine.detach(name, end)
        if stream is not None:
            self._ended(stream, now)

    def _ended(self, stream: _Stream, now: Instant) -> None:
        self._forget(stream)
        if stream.is_leaving:
            self._switch_off(stream, now)
        elif self._has_tunnel(stream):
            stream.node.lamp_flickered(stream.tunnel, now)
            self._engine.settle_later(stream.name)
            self._engine.at(now + RETRY_NS, lambda at: self._connect_again(stream, at))

    def _connect_again(self, stream: _Stream, now: Instant) -> None:
        """Open another inner connection if the circuit of one that has ended is still there."""
        if self._engine.node(stream.name) is not stream.node:
            return
        for row in tuple(stream.node.tunnels()):
            if row.number == stream.tunnel and row.state in _CLOSED_CIRCUIT and row.grant:
                self._power(stream.name, stream.tunnel, row.grant, now)
                self._engine.settle(stream.name)

    def _stream_of(self, name: str, tunnel: int) -> _Stream | None:
        """Return the inner connection of a tunnel; one of a lamp that has crashed is none."""
        stream = self._streams.get((name, tunnel))
        if stream is not None and self._engine.node(name) is not stream.node:
            self._forget(stream)
            return None
        return stream

    def _forget(self, stream: _Stream) -> bool:
        """Forget an inner connection; return whether it was the one of its tunnel."""
        key = stream.name, stream.tunnel
        is_known = self._streams.get(key) is stream
        if is_known:
            del self._streams[key]
        self._ends.pop(stream.line.end, None)
        return is_known

    def _leave(self, name: str, tunnel: int, now: Instant) -> bool:
        """End an inner connection, then its circuit; return whether there is one."""
        stream = self._stream_of(name, tunnel)
        if stream is None:
            return False
        if not stream.is_leaving:
            stream.is_leaving = True
            stream.sink.close(now)
            if stream.sink.is_over:
                stream.line.close()
            # at the latest
            self._engine.at(now + DRAIN_NS, lambda at: self._give_up(stream, at))
            self._engine.settle_later(name)
        return True

    def _give_up(self, stream: _Stream, now: Instant) -> None:
        if self._forget(stream):
            stream.line.end.abort()
            stream.node.flush_ends(now, stream.line.end)
            self._engine.detach(stream.name, stream.line.end)
            self._switch_off(stream, now)

    def _switch_off(self, stream: _Stream, now: Instant) -> None:
        if self._has_tunnel(stream):
            stream.node.switch_off(stream.tunnel, now)
            self._engine.settle_later(stream.name)

    def _has_tunnel(self, stream: _Stream) -> bool:
        """Whether the lamp is up that a connection was of, and wants its tunnel."""
        if self._engine.node(stream.name) is not stream.node:
            return False
        return any(row.number == stream.tunnel for row in stream.node.tunnels())

    def _release(self, name: str, tunnel: int) -> bool:
        """A lamp is switched off: its flow ends before its circuit."""
        return self._leave(name, tunnel, self._engine.now)

    def finish(self) -> None:
        """End all flows, then all circuits, and let the network come to rest; no act is done."""
        engine = self._engine
        self._is_finishing = True
        engine.drop_acts()
        for name in engine.lamps:
            node = engine.node(name)
            if node is None:
                continue
            for row in tuple(node.tunnels()):
                if not self._leave(name, row.number, engine.now):
                    node.switch_off(row.number, engine.now)
                    engine.settle_later(name)
        engine.run(engine.now + 2 * DRAIN_NS)

    # ---- books --------------------------------------------------------------------------------

    def supplies(self) -> dict[str, Supply]:
        """Return by lamp what was sent to it, and what it has verified, in uJ."""
        found: dict[str, Supply] = {}
        for pair in self._pairs:
            sent_uj = pair.source.esn_uj if pair.source is not None else 0
            banked_uj = pair.sink.banked_uj
            before = found.get(pair.name, Supply(0, 0))
            found[pair.name] = Supply(
                before.sent_uj + sent_uj, before.banked_uj + banked_uj, before.cut_uj + pair.cut_uj
            )
        return found

    def residual_uj(self) -> int:
        """Return what sources have sent, less what lamps have verified, less what was cut off.

        0 if each lamp has verified, sample by sample, the first blocks of its sources and no more.
        """
        return sum(one.sent_uj - one.banked_uj - one.cut_uj for one in self.supplies().values())
