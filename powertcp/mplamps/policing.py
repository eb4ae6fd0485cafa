"""The policeman of a simulation, and the TCP connections on which the edge LSRs ask him.

Octets are under way for 1 ms. Nothing of them is lost: the packets are made for the capture, with
handshake, sequence numbers and checksums. MPLampS sections 6, 8 and 10.
"""

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from powertcp.errors import PowerRefused
from powertcp.mplamps.blotter import PolicemanEvent
from powertcp.mplamps.cops import PORT, ServerAddress
from powertcp.mplamps.node import Node
from powertcp.mplamps.packet import MSS, Packet
from powertcp.mplamps.policeman import Policeman
from powertcp.mplamps.recorder import Recorder, policing_interface
from powertcp.mplamps.wires import Dice
from powertcp.registry import Flag
from powertcp.units import NS_PER_MS, Duration, Instant

DELAY_NS: Final[Duration] = NS_PER_MS
_FIRST_PORT: Final = 49_152
_PORTS: Final = 16_384
_U32 = 0xFFFF_FFFF
_EDGE, _POLICEMAN = 0, 1
_SYN, _ACK, _PSH, _FIN, _RST = (
    int(flag) for flag in (Flag.SYN, Flag.ACK, Flag.PSH, Flag.FIN, Flag.RST)
)
Schedule = Callable[[Instant, Callable[[Instant], None]], None]
Settle = Callable[[str], None]
Listen = Callable[[PolicemanEvent, Instant], None]


class _Line:
    """One connection. known: what each end has received of the other, as its next number."""

    __slots__ = ("connection", "interface", "is_cut", "is_open", "known", "name", "next", "number",
                 "port")  # fmt: skip

    def __init__(self, name: str, interface: str, number: int, port: int, first: list[int]) -> None:
        self.name = name
        self.interface = interface
        self.number = number
        self.port = port
        self.next = first
        self.known = [0, 0]
        self.connection: int | None = None
        self.is_open = False
        self.is_cut = False


class Policing:
    """The policeman, and a line to each edge LSR that has one. listen: is told what he does."""

    def __init__(
        self, address: IPv4Address, name: str, policeman: Policeman, recorder: Recorder,
        schedule: Schedule, settle: Settle, seed: int,
    ) -> None:  # fmt: skip
        """schedule: calls at a time. settle: takes what a node has to say after a call of it."""
        self.policeman = policeman
        self.listen: Listen | None = None
        self.is_up = True
        self._address = address
        self._name = name
        self._recorder = recorder
        self._schedule = schedule
        self._settle = settle
        self._dice = Dice(seed, "policing")
        self._lines: dict[str, _Line] = {}
        self._connections: dict[int, _Line] = {}
        self._nodes: dict[str, Node] = {}
        self._numbers: dict[str, int] = {}
        self._opened = 0
        self._timer_at: Instant | None = None

    # ---- opening ------------------------------------------------------------------------------

    def connect(self, node: Node, now: Instant) -> None:
        """Open a new connection for an edge LSR in place of the one before."""
        name = node.name
        self._close_old(name, now)
        number = self._numbers.setdefault(name, len(self._numbers))
        port = _FIRST_PORT + self._opened % _PORTS
        self._opened += 1
        first = [int.from_bytes(self._dice(4), "big") for _ in (_EDGE, _POLICEMAN)]
        line = _Line(name, policing_interface(name, self._name), number, port, first)
        self._lines[name], self._nodes[name] = line, node
        # what is asked for from here on waits for the answer
        node.cops_connect(ServerAddress(self._address, PORT), now)
        self._say(line, _EDGE, _SYN, b"", now)
        self._schedule(now + DELAY_NS, lambda at: self._accept(line, at))

    def _close_old(self, name: str, now: Instant) -> None:
        line = self._lines.pop(name, None)
        if line is None or line.is_cut:
            return
        # what was said last, such as why
        self._push(line, now)
        self._say(line, _EDGE, _FIN | _ACK, b"", now)
        line.is_cut = True
        self._schedule(now + DELAY_NS, lambda at: self._finish(line, at))

    def _finish(self, line: _Line, now: Instant) -> None:
        """The policeman's end hears that the edge LSR has closed."""
        line.known[_POLICEMAN] = line.next[_EDGE]
        self._say(line, _POLICEMAN, _FIN | _ACK, b"", now)
        self._schedule(now + DELAY_NS, lambda at: self._acknowledge(line, _EDGE, at))
        if line.connection is not None and self.is_up:
            self.policeman.receive_eof(line.connection, now)
            self._serve(now)

    def _accept(self, line: _Line, now: Instant) -> None:
        line.known[_POLICEMAN] = line.next[_EDGE]
        if not self.is_up or line.is_cut:
            line.next[_POLICEMAN] = 0
            self._say(line, _POLICEMAN, _RST | _ACK, b"", now)
            self._schedule(now + DELAY_NS, lambda at: self._lose(line, at))
            return
        self._say(line, _POLICEMAN, _SYN | _ACK, b"", now)
        self._schedule(now + DELAY_NS, lambda at: self._open(line, at))

    def _open(self, line: _Line, now: Instant) -> None:
        if line.is_cut:
            return
        line.known[_EDGE] = line.next[_POLICEMAN]
        self._say(line, _EDGE, _ACK, b"", now)
        line.is_open = True
        self._schedule(now + DELAY_NS, lambda at: self._admit(line, at))
        self._settle(line.name)

    def _admit(self, line: _Line, now: Instant) -> None:
        if not self.is_up or line.is_cut:
            return
        try:
            line.connection = self.policeman.connect(now, self._nodes[line.name].address)
        except PowerRefused:
            self._say(line, _POLICEMAN, _RST | _ACK, b"", now)
            self._lose_later(line, now)
            line.is_cut = True
            return
        self._connections[line.connection] = line
        self._serve(now)

    # ---- octets -------------------------------------------------------------------------------

    def flush(self, node: Node, now: Instant) -> None:
        """Take what an edge LSR says to the policeman."""
        line = self._lines.get(node.name)
        if line is not None and line.is_open and self._nodes[node.name] is node:
            self._push(line, now)

    def _push(self, line: _Line, now: Instant) -> None:
        octets = self._nodes[line.name].cops_to_send()
        if octets and line.is_open:
            self._carry(line, _EDGE, octets, now)

    def _carry(self, line: _Line, side: int, octets: bytes, now: Instant) -> None:
        """Send octets from one side in segments, to come out together."""
        names = line.name, self._name
        self._recorder.policed(names[side], names[1 - side], octets, now)
        for at in range(0, len(octets), MSS):
            part = octets[at : at + MSS]
            flags = _ACK | (_PSH if at + MSS >= len(octets) else 0)
            self._say(line, side, flags, part, now)
        seen = line.next[side]
        self._schedule(now + DELAY_NS, lambda at: self._deliver(line, 1 - side, octets, seen, at))

    def _deliver(self, line: _Line, side: int, octets: bytes, seen: int, now: Instant) -> None:
        """Octets have come to one side, which acknowledges them with its answer or at once."""
        line.known[side] = seen
        if line.is_cut:
            return
        before = line.next[side]
        if side == _EDGE:
            node = self._nodes[line.name]
            node.receive_cops(octets, now)
            self._settle(line.name)
        elif line.connection is not None and self.is_up:
            self.policeman.receive_data(line.connection, octets, now)
            self._serve(now)
        if line.next[side] == before and not line.is_cut:
            self._acknowledge(line, side, now)

    def _acknowledge(self, line: _Line, side: int, now: Instant) -> None:
        line.known[side] = line.next[1 - side]
        self._say(line, side, _ACK, b"", now)

    def _say(self, line: _Line, side: int, flags: int, payload: bytes, now: Instant) -> None:
        """Note a segment of one side, and count its numbers."""
        edge = self._nodes[line.name].address
        ends = (edge, line.port), (self._address, PORT)
        (source, source_port), (destination, port) = ends[side], ends[1 - side]
        packet = Packet(
            source=source,
            destination=destination,
            source_port=source_port,
            destination_port=port,
            seq=line.next[side],
            ack=line.known[side] if flags & _ACK else 0,
            flags=flags,
            mss=MSS if flags & _SYN else None,
            payload=payload,
        )
        line.next[side] = (line.next[side] + packet.length) & _U32
        self._recorder.segment(line.interface, line.number, packet.to_wire(), now)

    # ---- the policeman ------------------------------------------------------------------------

    def _serve(self, now: Instant) -> None:
        """Take what the policeman says on each line, and when he wants to be called again."""
        policeman = self.policeman
        while (event := policeman.next_event()) is not None:
            if self.listen is not None:
                self.listen(event, now)
        for number in policeman.ready():
            octets = policeman.data_to_send(number)
            line = self._connections.get(number)
            is_over = policeman.is_closed(number)
            if is_over:
                self._connections.pop(number, None)
            if line is None or line.is_cut:
                continue
            if octets:
                self._carry(line, _POLICEMAN, octets, now)
            if is_over:
                self._hang_up(line, now)
        # who is down does nothing at his time, and is not called for it again and again
        at = self.policeman.get_timer() if self.is_up else None
        if at is not None and (self._timer_at is None or at < self._timer_at):
            self._timer_at = at
            self._schedule(at, self._wake)

    def _hang_up(self, line: _Line, now: Instant) -> None:
        """The policeman closes a line."""
        self._say(line, _POLICEMAN, _FIN | _ACK, b"", now)
        line.is_cut = True
        self._schedule(now + DELAY_NS, lambda at: self._hear(line, at))

    def _hear(self, line: _Line, now: Instant) -> None:
        self._acknowledge(line, _EDGE, now)
        self._say(line, _EDGE, _FIN | _ACK, b"", now)
        self._schedule(now + DELAY_NS, lambda at: self._acknowledge(line, _POLICEMAN, at))
        self._lose(line, now)

    def _lose(self, line: _Line, now: Instant) -> None:
        line.is_cut, line.is_open = True, False
        if self._lines.get(line.name) is line:
            self._nodes[line.name].cops_eof(now)
            self._settle(line.name)

    def _wake(self, now: Instant) -> None:
        self._timer_at = None
        if self.is_up:
            self.policeman.handle_timer(now)
        self._serve(now)

    # ---- acts ---------------------------------------------------------------------------------

    def take_down(self, now: Instant) -> None:
        """Stop the policeman: his connections are reset, what he knows is kept."""
        if not self.is_up:
            return
        for line in self._lines.values():
            if line.is_cut:
                continue
            if line.connection is not None:
                self.policeman.receive_eof(line.connection, now)
            if line.is_open:
                self._say(line, _POLICEMAN, _RST | _ACK, b"", now)
                self._lose_later(line, now)
            line.is_cut = True
        self.is_up = False
        self._serve(now)

    def _lose_later(self, line: _Line, now: Instant) -> None:
        self._schedule(now + DELAY_NS, lambda at: self._lose(line, at))

    def bring_up(self, now: Instant) -> None:
        """Start the policeman again; the edge LSRs connect when they try next."""
        self.is_up = True
        self._serve(now)

    def set_price(self, supplier: int, price: int, now: Instant) -> None:
        """Change the price of a supplier, in millionths per kWh."""
        self.policeman.set_price(supplier, price, now)
        self._serve(now)

    def forget(self, name: str, now: Instant) -> None:
        """Learn that an edge LSR has crashed: its connection is reset."""
        line = self._lines.pop(name, None)
        if line is None or line.is_cut:
            return
        if line.is_open:
            self._say(line, _EDGE, _RST | _ACK, b"", now)
        line.is_cut = True
        if line.connection is not None and self.is_up:
            self.policeman.receive_eof(line.connection, now)
            self._serve(now)
