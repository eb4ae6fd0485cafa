"""Flows that whoever is in the middle ends: FIN upstream, the last page, FIN to the device.

To the provider it speaks as the sink, to the device as the source. VPPN-6-05.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from powertcp.reclaim.track import End, TrackedFlow, Tracker
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_S, Duration, Instant
from powertcp.wire.frames import RawSegment, whole_segment
from powertcp.wire.options import Options
from powertcp.wire.segments import Control, Segment

# T_DRAIN, which the provider may take for the last page, and once more for its answer
DRAIN_NS: Final[Duration] = 5 * NS_PER_S
_FIN_ACK: Final = Flag.FIN | Flag.ACK
_DEVICE: Final = End.CLIENT
_PROVIDER: Final = End.SERVER


@dataclass(slots=True)
class _Ending:
    """A flow that we end. until: when patience is over. is_asked: FIN of ours waits upstream.

    device_said, provider_said: a FIN of theirs crossed ours. device_done: it answered that one.
    """

    flow: TrackedFlow
    refusal: Refusal
    until: Instant
    is_asked: bool = True
    device_said: bool = False
    provider_said: bool = False
    device_done: bool = False


class Endings:
    """What is being ended on one connection. Bound: the flows of its tracker, twice.

    say: sends to a side, octets as they are. left: a flow is over, by what that side said or did not say.
    """

    __slots__ = ("_by_number", "_left", "_say", "_tracker")

    def __init__(
        self,
        tracker: Tracker,
        say: Callable[[End, Control | bytes], None],
        left: Callable[[End, TrackedFlow, Refusal], None],
    ) -> None:
        """Begin with nothing to end."""
        self._tracker, self._say, self._left = tracker, say, left
        self._by_number: dict[int, _Ending] = {}

    def __contains__(self, number: object) -> bool:
        """Say whether the flow of that identifier is being ended."""
        return number in self._by_number

    def __len__(self) -> int:
        """Return how many flows are being ended."""
        return len(self._by_number)

    # VPPN-6-05
    def begin(self, flow: TrackedFlow, refusal: Refusal, now: Instant) -> None:
        """Say FIN upstream; the answer is waited for."""
        # without receipts nobody signs what the device verified: we say what we did
        esn_uj = flow.acked_uj if flow.is_metered else flow.verified_uj
        # VPPN-6-05
        self._say(_PROVIDER, Control(flow.number, Flag.FIN, esn_uj, Options(reason=refusal)))
        self._by_number[flow.number] = _Ending(flow, refusal, now + 2 * DRAIN_NS)

    def drop(self, flow: TrackedFlow) -> None:
        """A flow is over by something else."""
        self._by_number.pop(flow.number, None)

    def clear(self) -> list[tuple[TrackedFlow, Refusal]]:
        """The connection is over: return the flows of which only a goodbye was missing, and why."""
        endings, self._by_number = self._by_number, {}
        return [(one.flow, one.refusal) for one in endings.values() if not one.is_asked]

    # VPPN-6-05
    def take(self, sender: End, raw: RawSegment, segment: Segment | None, now: Instant) -> bool:
        """Take a segment of a flow that is being ended; return whether that was all."""
        ending = self._by_number[raw[2]]
        flags = segment.flags if isinstance(segment, Control) else 0
        if flags == Flag.RST:
            del self._by_number[raw[2]]
            if ending.is_asked:
                return False
            self._left(sender, ending.flow, ending.refusal)
            return True
        if not ending.is_asked:
            # all that is upstream is over; of the device only its goodbye is missing
            if sender is _DEVICE and flags in (Flag.FIN, _FIN_ACK):
                if flags == Flag.FIN:
                    self._say(_DEVICE, Control(raw[2], _FIN_ACK, ending.flow.verified_uj))
                del self._by_number[raw[2]]
                self._left(sender, ending.flow, ending.refusal)
            return True
        if sender is _DEVICE:
            ending.device_said = ending.device_said or flags == Flag.FIN
            ending.device_done = ending.device_done or flags == _FIN_ACK
            return flags in (Flag.FIN, _FIN_ACK)
        if flags == Flag.FIN:
            ending.provider_said = True
        if flags != _FIN_ACK:
            return False
        self._say_goodbye(whole_segment(raw), ending, now)
        return True

    def _say_goodbye(self, answer: bytes, ending: _Ending, now: Instant) -> None:
        """The provider is done with a flow: the device is told."""
        flow = ending.flow
        self._tracker.forget(flow)
        if ending.device_said or ending.device_done:
            if ending.device_said:
                self._say(_DEVICE, answer)
            del self._by_number[flow.number]
            self._left(_PROVIDER, flow, ending.refusal)
            return
        if not ending.provider_said:
            options = Options(reason=ending.refusal)
            self._say(_DEVICE, Control(flow.number, Flag.FIN, flow.verified_uj, options))
        ending.is_asked, ending.until = False, now + DRAIN_NS

    def get_timer(self) -> Instant | None:
        """Return when patience with the next ending is over."""
        return min((ending.until for ending in self._by_number.values()), default=None)

    def handle_timer(self, now: Instant) -> None:
        """Reset what does not end by itself."""
        for number, ending in tuple(self._by_number.items()):
            if now < ending.until:
                continue
            flow = ending.flow
            late = Options(
                reason=Refusal(Reason.TIMEOUT, DRAIN_NS // 1_000_000, DRAIN_NS // 1_000_000)
            )
            if ending.is_asked:
                self._say(_PROVIDER, Control(number, Flag.RST, flow.acked_uj, late))
                self._tracker.forget(flow)
                fin = Control(number, Flag.FIN, flow.verified_uj, Options(reason=ending.refusal))
                self._say(_DEVICE, fin)
                ending.is_asked, ending.until = False, now + DRAIN_NS
                continue
            self._say(_DEVICE, Control(number, Flag.RST, 0, late))
            del self._by_number[number]
            self._left(_DEVICE, flow, ending.refusal)
