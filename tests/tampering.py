"""Sealed conversations that are recorded and held again with what somebody on the path did to them.

A side of the recording is made anew and fed with segments: its answers go nowhere, since whoever
alters what it hears hears what it says. Classic patterns, so that all of it repeats to the octet.
Imported by tests, not collected.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from powertcp.errors import LocalProtocolError
from powertcp.machine import Event
from powertcp.potcp.events import (
    ConnectionTerminated,
    PowerAccepted,
    PowerReady,
    PowerRequested,
    SamplesReceived,
)
from powertcp.registry import Refusal
from powertcp.units import NS_PER_MS, NS_PER_S
from powertcp.vppn.noise import PatternId
from powertcp.vppn.record import Privacy
from powertcp.vppn.tunnel import TunnelBroken, TunnelOpened
from powertcp.wire.frames import Splitter, whole_segment
from tests.conversation import SINK, SOURCE, START, ask, profile
from tests.sealed import SealedPair, device_config, provider_config

# when an owner looks after its connection: at these turns blocks are sent
TURNS, TURN_NS = 6, 400 * NS_PER_MS
TERMS = "12V/1.5A"
Timed = tuple[int, bytes]


@dataclass
class Result:
    """What a side made of what it was fed with."""

    refusals: list[Refusal] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    said: bytes = b""
    # how long it took
    waited_ns: int = 0

    @property
    def codes(self) -> list[int]:
        return [refusal.code for refusal in self.refusals]

    @property
    def banked_uj(self) -> int:
        return sum(one.energy_uj for one in self.events if isinstance(one, SamplesReceived))

    @property
    def is_opened(self) -> bool:
        return any(isinstance(one, TunnelOpened) for one in self.events)

    @property
    def is_over(self) -> bool:
        return any(isinstance(one, ConnectionTerminated) for one in self.events)

    @property
    def is_ready(self) -> bool:
        return any(isinstance(one, PowerReady) for one in self.events)


class Recording:
    """One conversation: SYN to READY, then blocks; `heard` has what each side was told and when."""

    seed = 1000

    def __init__(
        self, pattern: PatternId = PatternId.IK_CLASSIC, privacy: Privacy = Privacy.POLICE,
        **changes: Any,
    ) -> None:  # fmt: skip
        self.pattern, self.privacy, self.changes = pattern, privacy, changes
        self.heard: tuple[list[Timed], list[Timed]] = ([], [])
        pair = self.pair()
        results = Result(), Result()
        self.ask(pair, SINK)
        for turn in range(TURNS):
            pair.now = START + turn * TURN_NS
            for tunnel in pair.tunnels:
                tunnel.handle_timer(pair.now)
            while self._carry(pair, results, SINK) + self._carry(pair, results, SOURCE):
                pass
        self.banked_uj = results[SINK].banked_uj
        self.is_opened = results[SINK].is_opened and results[SOURCE].is_opened

    def pair(self) -> SealedPair:
        """Return both ends as they were at the beginning."""
        return SealedPair(
            device_config(self.pattern, privacy=self.privacy, **self.changes),
            provider_config(privacy=self.privacy, **self.changes),
            seed=self.seed,
        )

    def ask(self, pair: SealedPair, side: int) -> None:
        if side == SINK:
            pair.sink.open_flow([ask(TERMS)], now=START)

    def _carry(self, pair: SealedPair, results: tuple[Result, Result], side: int) -> bool:
        octets = pair.tunnels[side].data_to_send()
        for segment in split(octets):
            self.heard[1 - side].append((pair.now, segment))
            pair.tunnels[1 - side].receive_data(segment, pair.now)
            react(pair, results[1 - side], 1 - side)
        return bool(octets)

    def feed(self, side: int, segments: Iterable[Timed], *, waits: bool = False) -> Result:
        """Tell a side made anew `segments`; waits: then nothing until it is over by itself."""
        pair, result = self.pair(), Result()
        self.ask(pair, side)
        tunnel = pair.tunnels[side]
        result.said += tunnel.data_to_send()
        for now, octets in segments:
            pair.now = max(pair.now, now)
            tunnel.handle_timer(pair.now)
            tunnel.receive_data(octets, pair.now)
            react(pair, result, side)
            result.said += tunnel.data_to_send()
        while waits and not result.is_over and (due := tunnel.get_timer()) is not None:
            pair.now = max(pair.now, due)
            tunnel.handle_timer(pair.now)
            react(pair, result, side)
            result.said += tunnel.data_to_send()
        result.waited_ns = pair.now - START
        return result


def react(pair: SealedPair, result: Result, side: int) -> None:
    """Do what the owner of a side does, and note what it sees."""
    tunnel, end = pair.tunnels[side], pair.ends[side]
    while (event := tunnel.next_event()) is not None:
        result.events.append(event)
        match event:
            case TunnelBroken(refusal=refusal):
                result.refusals.append(refusal)
            case PowerRequested(flow=flow):
                end.grant(flow, profile(TERMS), now=pair.now)
            case PowerAccepted(flow=flow):
                end.ready(flow, now=pair.now)
    if side == SOURCE:
        for flow in end.flows:
            try_to_send(pair, flow)


def try_to_send(pair: SealedPair, flow: int) -> None:
    """Send one block in each turn that has credit."""
    turn = (pair.now - START) // TURN_NS
    if pair.source.status(flow).state != "ENERGISED" or pair.counters.get(flow, 0) > 10 * turn:
        return
    block = pair.block(flow, 10)
    try:
        if pair.source.send_samples(flow, [block], now=pair.now):
            pair.counters[flow] = pair.counters.get(flow, 0) + 10
    except LocalProtocolError:
        return


def split(octets: bytes) -> list[bytes]:
    """Cut octets into whole segments."""
    return [whole_segment(raw) for raw in Splitter(65535).receive(octets)]


def flipped(octets: bytes, every: int = 1) -> Iterator[tuple[int, bytes]]:
    """Yield the octets with one bit turned over, and its number; every: so many bits apart."""
    for bit in range(0, 8 * len(octets), every):
        at, mask = bit >> 3, 0x80 >> (bit & 7)
        yield bit, octets[:at] + bytes([octets[at] ^ mask]) + octets[at + 1 :]


SECONDS_TO_END = 200 * NS_PER_S
