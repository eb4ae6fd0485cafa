"""One side of whatever stands between two TCP connections: its queue, its events, its splitter.

A leg is the machine of a wire, or what a tunnel carries. What becomes of the octets is decided by
what stands between: a relay of the gateway, a screen of the firewall.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from powertcp.machine import Buffer, Event
from powertcp.reclaim.track import End
from powertcp.registry import Refusal
from powertcp.units import Instant
from powertcp.wire.frames import DEFAULT_MSP, MAX_MSP, Splitter

# octets that data_to_send gives out at once
SEND_MAX: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Hung(Event):
    """One side is gone, or ended the connection: so is the other, after what is queued for it."""

    end: End
    refusal: Refusal | None


class Between(Protocol):
    """What stands between two legs."""

    is_over: bool

    def receive(self, leg: "Leg", data: Buffer, splitter: Splitter, now: Instant) -> None:
        """Take octets of one side."""

    def cut(self, end: End, refusal: Refusal | None, now: Instant) -> None:
        """One side is gone, for `refusal` of whoever carries it."""

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline."""

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`."""


class Leg:
    """One side: a StreamMachine for a wire or inside a tunnel."""

    __slots__ = (
        "_gates",
        "_out",
        "_relay",
        "_splitter",
        "end",
        "events",
        "party",
        "peer_msp",
        "queued",
    )

    def __init__(self, relay: Between, end: End) -> None:
        """Begin with nothing queued. end: who is at the other end of it."""
        self.end = end
        self.events: deque[Event] = deque()
        self.peer_msp = DEFAULT_MSP
        self.party = b""
        # octets that data_to_send has not yet given out
        self.queued = 0
        self._relay = relay
        self._out: deque[bytes] = deque()
        # what waits behind something that is being written, by its number
        self._gates: dict[int, list[bytes]] = {}
        self._splitter = Splitter(MAX_MSP)

    @property
    def is_terminated(self) -> bool:
        """Whether the connection is over; octets may remain to be sent."""
        return self._relay.is_over

    def receive_data(self, data: Buffer, now: Instant) -> None:
        """Take octets of this side; never raises on their content."""
        self._relay.receive(self, data, self._splitter, now)

    def receive_eof(self, now: Instant) -> None:
        """This side is gone."""
        self.cut(None, now)

    def cut(self, refusal: Refusal | None, now: Instant) -> None:
        """This side is gone, for `refusal` of whoever carries it."""
        self._relay.cut(self.end, refusal, now)

    def send(self, octets: bytes) -> None:
        """Queue a whole segment for this side."""
        if self._gates:
            next(reversed(self._gates.values())).append(octets)
        else:
            self._out.append(octets)
        self.queued += len(octets)

    def hold(self, number: int) -> None:
        """Let what is sent from now on wait for `release`."""
        self._gates[number] = []

    def release(self, number: int) -> None:
        """Let go what waited for `number`, as far as it waits for nothing else."""
        waited = self._gates.pop(number, None)
        if waited is None:
            return
        before = next((key for key in reversed(self._gates) if key < number), None)
        (self._out if before is None else self._gates[before]).extend(waited)

    def drop(self) -> None:
        """Forget what waits for `release`: its connection is over, and nothing of it may pass."""
        self.queued -= sum(len(octets) for waited in self._gates.values() for octets in waited)
        self._gates.clear()

    def drop_all(self) -> None:
        """Forget all that was not yet given out."""
        self.drop()
        self._out.clear()
        self.queued = 0

    def unsend(self, given: Iterable[bytes]) -> None:
        """Take back what data_to_send gave out, in that order: it is said before the rest."""
        octets = list(given)
        self._out.extendleft(reversed(octets))
        self.queued += sum(map(len, octets))

    @property
    def is_held(self) -> bool:
        """Whether something waits for `release`."""
        return bool(self._gates)

    def data_to_send(self) -> bytes:
        """Drain whole segments, at most 256 KiB and one segment; b"" when there are none."""
        out, found, size = self._out, [], 0
        while out and size < SEND_MAX:
            found.append(out.popleft())
            size += len(found[-1])
        self.queued -= size
        return found[0] if len(found) == 1 else b"".join(found)

    def next_event(self) -> Event | None:
        """Drain one event; None when there are no more."""
        return self.events.popleft() if self.events else None

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline of the relay, which the device's side keeps."""
        return self._relay.get_timer() if self.end is End.CLIENT else None

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`."""
        if self.end is End.CLIENT:
            self._relay.handle_timer(now)
