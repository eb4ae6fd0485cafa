"""What a simulation leaves behind: a trace, a capture, their hashes, and how many messages.

The hash of the trace covers each message and packet with its time and wire, and each change of a
lamp, whether or not a trace is written. MPLampS sections 8 and 10.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256
from struct import Struct
from typing import Final

import powertcp
from powertcp.mplamps.rsvp import PORT, Kind
from powertcp.mplamps.topology import Topology
from powertcp.mplamps.wires import Wire
from powertcp.units import NS_PER_MS, Instant
from powertcp.wire.capture import CaptureWriter, Packet, udp_packet
from powertcp.wire.trace import event, opening

# 2002-04-01T00:00:00Z
DUSK_NS: Final[Instant] = 1_017_619_200_000_000_000
MPLS_PORT: Final = 6635
# parts of the trace that are hashed at once
_BATCH: Final = 512
_MARK: Final = Struct(">qiI")
_NAMES: Final = {int(kind): kind.name for kind in Kind}
Write = Callable[[bytes], object]


def policing_interface(edge: str, policeman: str) -> str:
    """Return the name of the interface on which an edge LSR speaks with the policeman."""
    return f"{edge}--{policeman}"


class Recorder:
    """Notes what is sent. capture, trace: take the octets of files, None for no such file."""

    def __init__(
        self, topology: Topology, *, capture: Write | None = None, trace: Write | None = None
    ) -> None:
        """Write the heads of both files. Raises LocalProtocolError for more links than fit one."""
        self._capture = capture
        self._trace = trace
        self._parts: list[bytes] = []
        self._hash = sha256()
        self._capture_hash = sha256()
        self._writer: CaptureWriter | None = None
        self.counts = [0] * 256
        """Messages of RSVP by their type."""
        self.packets = 0
        if capture is not None:
            names = [link.name for link in topology.links]
            policeman = topology.pdp()
            if policeman is not None:
                edges = [node.name for node in topology.nodes if topology.is_edge(node.name)]
                names += [policing_interface(edge, policeman.name) for edge in edges]
            self._writer = CaptureWriter(names)
            self._capture_octets(self._writer.header())
        if trace is not None:
            trace(opening(powertcp.__version__, "network", DUSK_NS // NS_PER_MS))

    # ---- messages and packets -----------------------------------------------------------------

    def message(self, wire: Wire, octets: bytes, now: Instant) -> None:
        """Note a message of RSVP that is sent."""
        self.counts[octets[1]] += 1
        parts = self._parts
        parts.append(_MARK.pack(now, wire.index, PORT))
        parts.append(octets)
        if len(parts) >= _BATCH:
            self._fold()
        if self._writer is not None:
            self._packet(wire.name, udp_packet(
                wire.source_address, wire.target_address, PORT, octets, octets[4]
            ), now)  # fmt: skip
        if self._trace is not None:
            data = {
                "node": wire.source,
                "to": wire.target,
                "link": wire.number,
                "type": _NAMES.get(octets[1], octets[1]),
                "hex": octets.hex(),
            }
            self._trace(event(now, "rsvp:message_sent", data))

    # MPLA-9-05
    def labelled(self, wire: Wire, packet: bytes, now: Instant) -> None:
        """Note a labelled packet that is sent."""
        self.packets += 1
        self._parts += (_MARK.pack(now, wire.index, MPLS_PORT), packet)
        if len(self._parts) >= _BATCH:
            self._fold()
        if self._writer is not None:
            around = wire.source_address, wire.target_address, MPLS_PORT
            self._packet(wire.name, udp_packet(*around, packet), now)

    def segment(self, interface: str, number: int, packet: bytes, now: Instant) -> None:
        """Note a packet of the connection of COPS `number`."""
        self._parts += (_MARK.pack(now, -number - 1, 0), packet)
        if len(self._parts) >= _BATCH:
            self._fold()
        if self._writer is not None:
            self._packet(interface, packet, now)

    def policed(self, source: str, target: str, octets: bytes, now: Instant) -> None:
        """Note messages of COPS, whole, that go into the connection between two nodes."""
        if self._trace is None:
            return
        at = 0
        while at < len(octets):
            size = int.from_bytes(octets[at + 4 : at + 8], "big")
            data = {"node": source, "to": target, "hex": octets[at : at + size].hex()}
            self._trace(event(now, "cops:message_sent", data))
            at += max(size, 1)

    # MPLA-10-01
    def _packet(self, interface: str, octets: bytes, now: Instant) -> None:
        if self._writer is not None:
            self._capture_octets(self._writer.packet(Packet(DUSK_NS + now, interface, octets)))

    def _capture_octets(self, octets: bytes) -> None:
        self._capture_hash.update(octets)
        if self._capture is not None:
            self._capture(octets)

    # ---- what else happens --------------------------------------------------------------------

    def event(self, name: str, data: Mapping[str, object], now: Instant) -> None:
        """Note what is part of the trace in any case: acts, and changes of lamps."""
        self._parts += (_MARK.pack(now, 0, 0), f"{name} {data}".encode())
        self.detail(name, data, now)

    def detail(self, name: str, data: Mapping[str, object], now: Instant) -> None:
        """Note what a node traces: only where a trace is written."""
        if self._trace is not None:
            self._trace(event(now, name, data))

    @property
    def is_traced(self) -> bool:
        """Whether a trace is written: then nodes have something to tell."""
        return self._trace is not None

    def _fold(self) -> None:
        self._hash.update(b"".join(self._parts))
        self._parts.clear()

    # ---- sums ---------------------------------------------------------------------------------

    def messages(self) -> Counter[str]:
        """Return how many messages of each type were sent."""
        return Counter({_NAMES.get(kind, str(kind)): n for kind, n in enumerate(self.counts) if n})

    # MPLA-8-01
    def trace_hash(self) -> str:
        """Return the SHA-256 of all that was noted."""
        self._fold()
        return self._hash.hexdigest()

    def capture_hash(self) -> str | None:
        """Return the SHA-256 of the capture, None if none is written."""
        return None if self._writer is None else self._capture_hash.hexdigest()
