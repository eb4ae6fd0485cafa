"""Both ends of a conversation with a relay between them. Not collected."""

from collections.abc import Sequence
from typing import Any, TypeVar

from powertcp.machine import Event
from powertcp.potcp.events import Ask
from powertcp.reclaim.relay import CopyHeld, Denial, Relay
from powertcp.reclaim.track import TrackedFlow, Tracker
from tests.conversation import SINK, SOURCE, segments
from tests.metered import MeteredPair

EventT = TypeVar("EventT", bound=Event)


class MiddlePair(MeteredPair):
    """A device, a relay and a provider. denial: what the relay answers a request with, None: passes.

    is_slow: pages are not written before `write`. told: what the relay reported. asked: what it was
    asked to judge.
    """

    def __init__(self, *, is_proven: bool = True, is_sealed: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.denial: Denial | None = None
        self.asked: list[tuple[tuple[Ask, ...], str | None]] = []
        self.told: list[Event] = []
        self.is_slow = False
        self.relay = Relay(self._judge, lambda: is_sealed)
        # octets as they came in and went out, of each side
        self.heard: list[list[bytes]] = [[], []]
        self.passed: list[list[bytes]] = [[], []]
        if is_proven:
            self.relay.proven(self.now)

    def _judge(self, flow: TrackedFlow, asks: tuple[Ask, ...], via: str | None) -> Denial | None:
        self.asked.append((asks, via))
        return self.denial

    @property
    def tracker(self) -> Tracker:
        return self.relay.tracker

    def pump(self, side: int) -> bytes:
        """Carry what `side` says to the relay, and what the relay says to the other one."""
        octets = self.carriers[side].data_to_send()
        self.sent[side].extend(segments(octets))
        legs = (self.relay.device, self.relay.provider)
        if octets:
            self.heard[side].append(octets)
            for part in self.chunk(octets):
                legs[side].receive_data(part, self.now)
        self.hear()
        for end, leg in enumerate(legs):
            while out := leg.data_to_send():
                self.passed[end].append(out)
                self.carriers[end].receive_data(out, self.now)
                octets += out
        self.collect()
        return octets

    def hear(self) -> None:
        for leg in (self.relay.device, self.relay.provider):
            while (event := leg.next_event()) is not None:
                self.told.append(event)
                if isinstance(event, CopyHeld) and not self.is_slow:
                    self.relay.provider.release(event.number)

    def write(self) -> None:
        """Release every page that waits, and exchange."""
        for event in self.all(CopyHeld):
            self.relay.provider.release(event.number)
        self.exchange()

    def all(self, kind: type[EventT]) -> list[EventT]:
        return [one for one in self.told if isinstance(one, kind)]

    def advance(self, seconds: float, step_ms: int = 100) -> None:
        end = self.now + round(seconds * 1_000_000_000)
        while self.now < end:
            self.now = min(self.now + step_ms * 1_000_000, end)
            for one in (*self.carriers, self.relay.device):
                one.handle_timer(self.now)
            self.exchange()

    @property
    def flow(self) -> TrackedFlow:
        (flow,) = self.tracker.flows
        return flow

    def octets(self, side: int) -> tuple[bytes, bytes]:
        """Return what `side` said, and what the other one was told."""
        return b"".join(self.heard[side]), b"".join(self.passed[1 - side])


def both(pair: MiddlePair) -> Sequence[tuple[bytes, bytes]]:
    return [pair.octets(SINK), pair.octets(SOURCE)]
