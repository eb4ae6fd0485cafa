"""What a load is told about its power: the Supply events, and the line that carries them.

The line never makes its sender wait. `SupplySender.send` is synchronous: control events always
enter the line; Delivered events that meet a full line are merged into the next one that finds
room, and a Lease that meets a full line is dropped, because a newer one follows each MAINTAIN
interval and a missing one can only end power early. A load that has left MAX_PENDING events
unread is cut off: its line is closed, and a closed line means the same to a load as Ended.
"""

import math
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import trio

from powertcp.profile import PowerProfile
from powertcp.registry import Refusal
from powertcp.units import Instant
from powertcp.wire.options import Sampling

# Delivered and Lease events wait here at most; ten seconds of wake-ups at 10 Hz fit
CAPACITY = 128
# control events are rare (PTCP-7-07: 6 changes a minute); a load this far behind is not reading
MAX_PENDING = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Powered:
    """Power is on: the first READY, or power that returned; a Ceiling before it is void.

    profile: the contract of that READY. READY after a shed, a restore or a renegotiation is a
    Ceiling against the rating, not another Powered. until_ns: end of the lease, as in Lease: a
    consumer that was stopped meanwhile lends nothing. fallback_mw: what stays granted when the
    lease lapses; 0 = the load stops. rated_mw: what the load is built for, 0 = the power of `profile`; less
    than that was granted where a Ceiling follows at once.
    """

    profile: PowerProfile
    until_ns: Instant
    fallback_mw: int = 0
    rated_mw: int = 0

    @property
    def full_mw(self) -> int:
        """The power at which the load runs unthrottled."""
        return self.rated_mw or self.profile.power_mw


@dataclass(slots=True, kw_only=True)
class Delivered:
    """Energy that was verified and banked.

    power_mw: mean power over the time this event covers; energy_uj: energy of that time;
    total_uj: energy since the flow opened; samples: DVE sample words of one or more blocks
    (int32 big-endian, v and i in turn for each pair), None unless the load wants_samples.
    """

    power_mw: int
    energy_uj: int
    total_uj: int
    samples: bytes | None = None
    sampling: Sampling | None = None
    sim: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The load may draw at most limit_mw of its rated_mw: shed, restored or renegotiated."""

    limit_mw: int
    rated_mw: int
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Power is leased until `until_ns` of the clock of `trio.current_time()`, in ns."""

    until_ns: Instant


@dataclass(frozen=True, slots=True)
class Stale:
    """The provider does not answer; the load keeps running on its lease."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """The provider answers again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Power is off. returning: the consumer is trying to get it back, the load only pauses."""

    refusal: Refusal | None = None
    returning: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The flow is closed for good; the load cleans up and returns."""

    refusal: Refusal | None = None


SupplyEvent = Powered | Delivered | Ceiling | Lease | Stale | Fresh | Lost | Ended
SupplyChannel = trio.MemoryReceiveChannel[SupplyEvent]


class Load(Protocol):
    """What a consumer does with power.

    name: for status lines, at most 32 characters. wants_samples: Delivered carries the samples.
    """

    name: str
    wants_samples: bool

    async def run(self, supply: SupplyChannel) -> int:
        """Use power as `supply` tells, until Ended, the end of the channel, or its own end.

        Returns the exit status. Raises HostError when this machine cannot do what was asked.
        After cancellation the host is as it was found: no process, no cap, no escape sequence.
        """


@runtime_checkable
class Hasty(Protocol):
    """A load that takes its time to end, and can be told not to."""

    def hurry(self) -> None:
        """End at once; `run` returns soon."""


def merge_delivered(earlier: Delivered, later: Delivered) -> Delivered:
    """Return one event for two that follow each other; samples of the later one are kept."""
    return replace(later, energy_uj=earlier.energy_uj + later.energy_uj)


class SupplySender:
    """The consumer's end of the line to one load; no method waits."""

    def __init__(
        self, channel: trio.MemorySendChannel[SupplyEvent], capacity: int = CAPACITY
    ) -> None:
        """Send into `channel`, which holds `capacity` Delivered and Lease events."""
        self._channel = channel
        self._capacity = capacity
        self._held: Delivered | None = None
        self.merged = 0

    def send(self, event: SupplyEvent) -> bool:
        """Tell the load; False when it is gone or was cut off for not reading."""
        waiting = self.waiting
        if isinstance(event, Delivered):
            if self._held is not None:
                event = merge_delivered(self._held, event)
                self._held = None
            if waiting >= self._capacity:
                self._held = event
                self.merged += 1
                return True
        elif isinstance(event, Lease) and waiting >= self._capacity:
            return True
        if waiting >= MAX_PENDING:
            self._channel.close()
            return False
        try:
            self._channel.send_nowait(event)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return True

    @property
    def capacity(self) -> int:
        """Events above which Delivered events are merged."""
        return self._capacity

    @property
    def waiting(self) -> int:
        """Events that the load has not taken yet."""
        return self._channel.statistics().current_buffer_used

    def close(self) -> None:
        """Close the line; the load ends as if told Ended."""
        self._channel.close()


def supply_line(capacity: int = CAPACITY) -> tuple[SupplySender, SupplyChannel]:
    """Open a line to one load: the sender for the consumer, the channel for `Load.run`."""
    send, receive = trio.open_memory_channel[SupplyEvent](math.inf)
    return SupplySender(send, capacity), receive
