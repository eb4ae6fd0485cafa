"""The maintain-power signature: probes, answers, STALE (protocol section 5)."""

from collections import OrderedDict
from typing import Final, Protocol

from powertcp.machine import Entropy, Event
from powertcp.potcp.events import (
    ConnectionFresh,
    ConnectionStale,
    LeaseRenewed,
)
from powertcp.units import NS_PER_MS, Duration, Instant
from powertcp.wire.frames import maintain_segment
from powertcp.wire.segments import MaintainProbe

# unanswered probes remembered: the newest renews the lease most
PROBES_MAX: Final = 64


class Line(Protocol):
    """What probing asks of its connection."""

    entropy: Entropy
    unix_offset_ns: Duration

    def send_control(self, octets: bytes) -> None:
        """Queue a segment."""

    def emit(self, event: Event) -> None:
        """Report an event."""


class Liveness:
    """Probes of one connection.

    interval_ms: between probes. misses: unanswered probes that make the connection STALE.
    probe_at: when the next probe is due.
    """

    __slots__ = ("_interval", "_misses", "_sent", "is_stale", "missed", "probe_at")

    def __init__(self, interval_ms: int, misses: int, now: Instant) -> None:
        self._interval: Duration = interval_ms * NS_PER_MS
        self._misses = misses
        self._sent: OrderedDict[int, Instant] | None = None
        self.missed = 0
        self.is_stale = False
        self.probe_at: Instant = now + self._interval

    # PTCP-5-01
    def probe(self, line: Line, now: Instant) -> None:
        """Send a probe; count those before it that nobody answered. PTCP-5-03."""
        sent = self._sent
        if sent is None:
            sent = self._sent = OrderedDict()
        self.missed = len(sent)
        # PTCP-5-03
        if self.missed >= self._misses and not self.is_stale:
            self.is_stale = True
            line.emit(ConnectionStale())
        nonce = int.from_bytes(line.entropy(4), "big") or 1
        sent[nonce] = now
        if len(sent) > PROBES_MAX:
            sent.popitem(last=False)
        self.probe_at = max(self.probe_at + self._interval, now + self._interval // 2)
        line.send_control(maintain_segment(nonce, 0, now + line.unix_offset_ns))

    def idle(self, now: Instant) -> None:
        """No flow is open: nothing to keep alive."""
        self._sent = None
        self.missed = 0
        self.probe_at = now + self._interval

    def answer(self, line: Line, probe: MaintainProbe) -> None:
        """Answer a probe of the peer at once."""
        line.send_control(maintain_segment(0, probe.nonce, probe.time_ns))

    def echoed(self, line: Line, nonce: int) -> Instant | None:
        """Take an answer; returns when its probe was sent, None for one we never sent."""
        sent = self._sent
        if sent is None or nonce not in sent:
            return None
        instant, oldest = sent[nonce], 0
        while oldest != nonce:
            oldest, _ = sent.popitem(last=False)
        self.missed = 0
        if self.is_stale:
            self.is_stale = False
            line.emit(ConnectionFresh())
        line.emit(LeaseRenewed(sent_ns=instant))
        return instant
