"""Traces of a gateway: a file of each side, of what is on its wire and what became of it.

Of a sealed side that is the headers of sealed segments, as anybody on the path sees them. What a
device sends behind its seal stands only in the file of a provider that hears it in clear.
"""

from collections.abc import Sequence

from powertcp.drivers.tracer import TraceFile, Tracer
from powertcp.drivers.wire import SegmentMachine
from powertcp.machine import Buffer, Event, Trace
from powertcp.reclaim.leg import Hung
from powertcp.reclaim.relay import Denied, FlowLeft, UpstreamWanted
from powertcp.reclaim.screen import NameWanted, TargetWanted
from powertcp.reclaim.track import End
from powertcp.units import Instant
from powertcp.vppn.tunnel import TunnelBroken, TunnelOpened, TunnelRekeyed
from powertcp.wire.frames import MAX_MSP, Splitter
from powertcp.wire.trace import refusal_data, segment_data

ROLE = "gateway"


class TracedSide:
    """The machine of one side; it tells `trace` each segment that comes and goes."""

    __slots__ = ("_from_peer", "_machine", "_to_peer", "_trace")

    def __init__(self, machine: SegmentMachine[Event], trace: Trace) -> None:
        """Do what `machine` does."""
        self._machine, self._trace = machine, trace
        self._from_peer, self._to_peer = Splitter(MAX_MSP), Splitter(MAX_MSP)

    @property
    def queued(self) -> int:
        """Octets that data_to_send has not yet given out."""
        return self._machine.queued

    def receive_data(self, data: Buffer, now: Instant) -> None:
        """Take octets of the peer and tell their segments."""
        for raw in self._from_peer.receive(bytes(data)):
            self._trace("potcp:segment_received", segment_data(raw))
        self._machine.receive_data(data, now)

    def receive_eof(self, now: Instant) -> None:
        """Take the end of the stream."""
        self._machine.receive_eof(now)

    def data_to_send(self) -> bytes:
        """Drain whole segments and tell them."""
        octets = self._machine.data_to_send()
        for raw in self._to_peer.receive(octets):
            self._trace("potcp:segment_sent", segment_data(raw))
        return octets

    def next_event(self) -> Event | None:
        """Drain one event."""
        return self._machine.next_event()

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline."""
        return self._machine.get_timer()

    def handle_timer(self, now: Instant) -> None:
        """Do what is due."""
        self._machine.handle_timer(now)


class SideTraces:
    """The files of one device and of its provider; none without a tracer. role: whose they are."""

    def __init__(self, tracer: Tracer | None, role: str = ROLE) -> None:
        """Begin without files."""
        self._tracer, self._role = tracer, role
        self._files: dict[End, TraceFile] = {}

    def follow(self, end: End, name: str, machine: SegmentMachine[Event]) -> SegmentMachine[Event]:
        """Return `machine`, traced if there may be a file for it. name: becomes part of its name."""
        file = self._tracer.open(self._role, name) if self._tracer is not None else None
        if file is None:
            return machine
        if (before := self._files.get(end)) is not None:
            before.close()
        self._files[end] = file
        return TracedSide(machine, file)

    def tell(self, end: End, events: Sequence[Event]) -> None:
        """Tell what happened on one side, in the file of the device as long as that has none."""
        file = self._files.get(end) or self._files.get(End.CLIENT)
        if file is None:
            return
        for event in events:
            if (told := event_data(event)) is not None:
                file(*told)

    def close(self) -> None:
        """Nothing more will come."""
        for file in self._files.values():
            file.close()
        self._files.clear()


def event_data(event: Event) -> tuple[str, dict[str, object]] | None:
    """Return name and data of an event in a trace, None for what its segments say."""
    match event:
        case TunnelOpened(identity=identity):
            return "vppn:handshake_done", {"pattern": identity.pattern.word}
        case TunnelRekeyed(epoch=epoch):
            return "vppn:rekeyed", {"epoch": epoch}
        case TunnelBroken(refusal=refusal):
            return "vppn:rejected", refusal_data(refusal)
        case NameWanted(via=via):
            return "reclaim:name_wanted", {"via": via or ""}
        case TargetWanted():
            return "reclaim:target_wanted", {}
        case UpstreamWanted(via=via, resumes=resumes):
            return "reclaim:upstream_wanted", {"via": via or "", "resumes": resumes}
        case Denied(flow=flow, denial=denial):
            return "reclaim:verdict", {"flow": flow.number, **refusal_data(denial.refusal)}
        case FlowLeft(flow=flow, refusal=refusal, is_cut=is_cut):
            said = refusal_data(refusal) if refusal is not None else {}
            return "reclaim:flow_left", {"flow": flow.number, "is_cut": is_cut, **said}
        case Hung(end=end, refusal=refusal):
            said = refusal_data(refusal) if refusal is not None else {}
            return "reclaim:side_left", {"side": end.name.lower(), **said}
        case _:
            return None
