"""A conversation of two real connections over a lossless wire and a virtual clock."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from powertcp.dve import Synth, encode_block
from powertcp.machine import Event, StreamMachine
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import (
    Ask,
    PowerRequested,
)
from powertcp.potcp.tickets import TicketOffice
from powertcp.profile import PowerProfile, ProfileType, named_profiles
from powertcp.units import NS_PER_MS, NS_PER_S
from powertcp.wire.frames import HEADER, Splitter, decode_segment
from powertcp.wire.segments import Segment

SINK, SOURCE = 0, 1
START = 1_000 * NS_PER_S
# the table of named profiles is a file: read once, at import
named_profiles()
EventT = TypeVar("EventT", bound=Event)
Carrier = StreamMachine[Event]


def counting_entropy(seed: int = 1) -> Callable[[int], bytes]:
    """Return deterministic entropy that never repeats."""
    state = [seed]

    def entropy(count: int) -> bytes:
        state[0] += 1
        return (
            (state[0] * 0x9E3779B97F4A7C15 % (1 << 64))
            .to_bytes(8, "big")
            .ljust(count, b"\7")[:count]
        )

    return entropy


def profile(text: str, kind: ProfileType = ProfileType.REQUEST) -> PowerProfile:
    return PowerProfile.parse(text, kind)


def ask(text: str, minimum: str | None = None) -> Ask:
    return Ask(profile(text), profile(minimum, ProfileType.MINIMUM) if minimum else None)


def segments(octets: bytes) -> list[Segment]:
    found = (decode_segment(raw) for raw in Splitter(65535).receive(octets))
    return [segment for segment in found if segment is not None]


class Pair:
    """Both ends, the clock, and every event and segment so far.

    Octets travel only in `exchange`; `cut` loses what is under way.
    """

    def __init__(
        self,
        *,
        office: TicketOffice | None = None,
        now: int = START,
        chunk: Callable[[bytes], Sequence[bytes]] | None = None,
        **config: Any,
    ) -> None:
        self.now = now
        self.config = ConnectionConfig(**config)
        self.office = office or TicketOffice(counting_entropy(77))
        self.sink = PowerConnection(
            client=True, config=self.config, entropy=counting_entropy(now + 1)
        )
        self.source = PowerConnection(
            client=False,
            config=self.config,
            entropy=counting_entropy(now + 2),
            office=self.office,
            peer=b"peer",
        )
        self.source.start(now)
        self.chunk = chunk or (lambda octets: [octets])
        self.events: tuple[list[Event], list[Event]] = ([], [])
        self.sent: tuple[list[Segment], list[Segment]] = ([], [])
        self.counters: dict[int, int] = {}
        self.synths: dict[tuple[int, PowerProfile], Synth] = {}

    @property
    def ends(self) -> tuple[PowerConnection, PowerConnection]:
        return self.sink, self.source

    @property
    def carriers(self) -> tuple[Carrier, Carrier]:
        """What takes and gives the octets on the wire: the ends themselves."""
        return self.ends

    def collect(self) -> None:
        for side, carrier in enumerate(self.carriers):
            while (event := carrier.next_event()) is not None:
                self.events[side].append(event)

    def pump(self, side: int) -> bytes:
        """Carry what `side` has to say to the other end; returns it."""
        octets = self.carriers[side].data_to_send()
        self.sent[side].extend(segments(octets))
        for part in self.chunk(octets):
            self.carriers[1 - side].receive_data(part, self.now)
        self.collect()
        return octets

    def exchange(self) -> None:
        """Carry octets both ways until both ends are silent."""
        while self.pump(SINK) + self.pump(SOURCE):
            pass

    def advance(self, seconds: float, step_ms: int = 100) -> None:
        """Let time pass in steps, timers first, then the wire."""
        end = self.now + round(seconds * NS_PER_S)
        while self.now < end:
            self.now = min(self.now + step_ms * NS_PER_MS, end)
            for one in self.carriers:
                one.handle_timer(self.now)
            self.exchange()

    def pass_at(self, side: int, seconds: float) -> None:
        """Let time pass for one end only: the other is frozen."""
        self.now += round(seconds * NS_PER_S)
        self.carriers[side].handle_timer(self.now)
        self.collect()

    def take(self, side: int, kind: type[EventT]) -> list[EventT]:
        """Remove and return the events of one kind."""
        found = [event for event in self.events[side] if isinstance(event, kind)]
        kept = [event for event in self.events[side] if not isinstance(event, kind)]
        self.events[side][:] = kept
        return found

    def one(self, side: int, kind: type[EventT]) -> EventT:
        (event,) = self.take(side, kind)
        return event

    def said(self, side: int, kind: type[Segment]) -> list[Segment]:
        """Remove and return the segments of one kind that a side sent."""
        found = [segment for segment in self.sent[side] if isinstance(segment, kind)]
        self.sent[side][:] = [one for one in self.sent[side] if not isinstance(one, kind)]
        return found

    def inject(self, side: int, octets: bytes) -> None:
        """Hand octets to `side` as if the other end had sent them, then exchange."""
        self.carriers[side].receive_data(octets, self.now)
        self.collect()
        self.exchange()

    def request(self, *asks: Ask, **options: object) -> int:
        flow = self.sink.open_flow(asks, now=self.now, **options)  # type: ignore[arg-type]
        self.exchange()
        return flow

    def energise(
        self,
        text: str = "12V/1.5A",
        minimum: str | None = None,
        *,
        fallback: str | None = None,
        grant: str | None = None,
        **options: object,
    ) -> int:
        """Open a flow and bring it to READY at both ends."""
        floor = profile(fallback, ProfileType.FALLBACK) if fallback else None
        flow = self.request(ask(text, minimum), fallback=floor, **options)
        self.take(SOURCE, PowerRequested)
        terms = profile(grant or text)
        self.source.grant(flow, terms, fallback=floor, now=self.now)
        self.exchange()
        self.source.ready(flow, now=self.now)
        self.exchange()
        return flow

    def block(self, flow: int, samples: int, demand_mw: int | None = None) -> bytes:
        """Return the next block of a flow, and count its samples."""
        status = self.source.status(flow)
        terms, sampling = status.profile, status.sampling
        if terms is None or sampling is None:
            raise LookupError(f"flow {flow} has no terms")
        synth = self.synths.setdefault((flow, terms), Synth(terms, sampling))
        counter = self.counters.get(flow, 0)
        power = terms.power_mw if demand_mw is None else demand_mw
        return encode_block(counter, synth.block(counter, samples, power))

    def deliver(self, flow: int, samples: int = 100, demand_mw: int | None = None) -> int:
        """Send one block and exchange; returns the blocks taken."""
        block = self.block(flow, samples, demand_mw)
        taken = self.source.send_samples(flow, [block], now=self.now)
        if taken:
            self.counters[flow] = self.counters.get(flow, 0) + samples
        self.exchange()
        return taken

    def cut(self) -> None:
        """Cut the wire: what is under way is lost."""
        for end in self.carriers:
            end.data_to_send()
            end.receive_eof(self.now)
        self.collect()


def words_of(octets: bytes) -> tuple[int, ...]:
    """Return the header fields of the first segment in `octets`."""
    return HEADER.unpack_from(octets)
