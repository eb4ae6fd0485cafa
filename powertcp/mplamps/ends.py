"""All inner connections of one address: which end a packet is for, and what has no end.

MPLampS sections 4.10 and 9.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Final, TypeAlias

from powertcp.errors import DecodeError, PowerRefused
from powertcp.machine import Entropy
from powertcp.mplamps.packet import Packet
from powertcp.mplamps.tcp import Endpoint, State
from powertcp.profile import PowerProfile
from powertcp.registry import DEFAULT_PORT, Flag, Reason, Refusal
from powertcp.units import Instant
from powertcp.wire.buffer import Buffer

# MPLA-4.10-03: a source has one in each circuit
MAX_OF_LAMP: Final = 1_024
MAX_OF_SOURCE: Final = 100_000
# of the lamp: the first of those that nobody is given
FIRST_PORT: Final = 49_152
_LAST_PORT: Final = 65_535
_U32 = 0xFFFF_FFFF
_Key: TypeAlias = tuple[int, IPv4Address, int]


class Ends:
    """The ends of one lamp or source. After each call, also to an end, take its packets.

    malformed, refused: packets that could not be read, and connections beyond the limit.
    """

    __slots__ = (
        "_ends", "_entropy", "_is_source", "_limit", "_out", "_port", "local", "malformed", "refused",
    )  # fmt: skip

    def __init__(self, local: IPv4Address, entropy: Entropy, *, is_source: bool) -> None:
        """Take the own address. is_source: whoever asks at port 3251 is answered."""
        self.local = local
        self._entropy = entropy
        self._is_source = is_source
        self._limit = MAX_OF_SOURCE if is_source else MAX_OF_LAMP
        self._port = FIRST_PORT
        self._ends: dict[_Key, Endpoint] = {}
        self._out: list[bytes] = []
        self.malformed = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(tuple(self._ends.values()))

    def connect(self, peer: IPv4Address, request: PowerProfile, now: Instant) -> Endpoint:
        """Open a connection to a source. Raises PowerRefused 508 beyond the limit."""
        # MPLA-4.10-03
        if self._is_full():
            self.refused += 1
            count = len(self._ends)
            refusal = Refusal(Reason.LIMIT, count + 1, self._limit, requirement="MPLA-4.10-03")
            raise PowerRefused(refusal)
        port = self._port
        while (port, peer, DEFAULT_PORT) in self._ends:
            port = _after(port)
        # who meters on the way tells connections apart by their ports: one is not used again soon
        self._port = _after(port)
        end = self._new(port)
        end.connect(peer, request, now)
        self._ends[port, peer, DEFAULT_PORT] = end
        return end

    def receive_packet(self, octets: Buffer, now: Instant) -> Endpoint | None:
        """Take a packet; return the end that has taken it, a new one for a SYN of a lamp.

        None: it was malformed, of another address, or answered by a reset (`packets_to_send`).
        """
        try:
            packet = Packet.from_wire(octets)
        except DecodeError:
            self.malformed += 1
            return None
        if packet.destination != self.local:
            self.malformed += 1
            return None
        key = packet.destination_port, packet.source, packet.source_port
        end = self._ends.get(key)
        if end is not None and end.gives_way_to(packet):
            del self._ends[key]
        elif end is not None and end.receive(packet, now):
            return end
        is_asked = self._is_source and packet.destination_port == DEFAULT_PORT
        if is_asked and packet.flags & (Flag.SYN | Flag.ACK | Flag.RST) == Flag.SYN:
            if key not in self._ends and self._is_full():
                self.refused += 1
            else:
                end = self._new(DEFAULT_PORT)
                end.listen()
                if end.receive(packet, now):
                    self._ends[key] = end
                    return end
        self._reset(packet)
        return None

    def forget(self, end: Endpoint) -> None:
        """Forget an end that is closed."""
        key = end.local_port, end.peer, end.peer_port
        if self._ends.get(key) is end:
            del self._ends[key]

    def packets_to_send(self) -> list[bytes]:
        """Drain resets for packets that no end has taken; those of an end are its own."""
        out, self._out = self._out, []
        return out

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline of all ends, or None."""
        timers = (end.get_timer() for end in self._ends.values())
        return min((timer for timer in timers if timer is not None), default=None)

    def handle_timer(self, now: Instant) -> None:
        """Do what is due, and forget ends that are closed: who needs one of them has its own."""
        for end in self:
            end.handle_timer(now)
        self._sweep()

    def _new(self, port: int) -> Endpoint:
        return Endpoint(self.local, port, int.from_bytes(self._entropy(4), "big"))

    def _is_full(self) -> bool:
        if len(self._ends) >= self._limit:
            self._sweep()
        return len(self._ends) >= self._limit

    def _sweep(self) -> None:
        """Forget ends that are closed."""
        for key, end in tuple(self._ends.items()):
            if end.state is State.CLOSED:
                del self._ends[key]

    def _reset(self, packet: Packet) -> None:
        """RFC 9293, section 3.10.7.1: there is no such connection."""
        if packet.flags & Flag.RST:
            return
        has_ack = packet.flags & Flag.ACK
        answer = Packet(
            source=self.local,
            source_port=packet.destination_port,
            destination=packet.source,
            destination_port=packet.source_port,
            seq=packet.ack if has_ack else 0,
            ack=0 if has_ack else (packet.seq + packet.length) & _U32,
            flags=Flag.RST if has_ack else Flag.RST | Flag.ACK,
        )
        self._out.append(answer.to_wire())


def _after(port: int) -> int:
    """Return the next port of those that nobody is given."""
    return port + 1 if port < _LAST_PORT else FIRST_PORT
