"""What people see of a small simulation: each message as a line, then the label tables."""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

from powertcp.errors import DecodeError
from powertcp.mplamps.engine import Engine
from powertcp.mplamps.label import voltage_of
from powertcp.mplamps.power import PowerObject
from powertcp.mplamps.rsvp import (
    Hello,
    Message,
    Path,
    PathErr,
    PathTear,
    Resv,
    ResvConf,
    ResvErr,
    ResvTear,
    Srefresh,
    decode_message,
)
from powertcp.mplamps.rsvp.errors import sentence_of
from powertcp.mplamps.topology import Topology
from powertcp.mplamps.wires import Wire
from powertcp.units import NS_PER_MS, Instant, format_current, format_power, format_voltage

MAX_LINES = 400
_NAMES = {
    Path: "PATH",
    Resv: "RESV",
    PathErr: "PathErr",
    ResvErr: "ResvErr",
    PathTear: "PathTear",
    ResvTear: "ResvTear",
    ResvConf: "ResvConf",
}


class Ladder:
    """Says what is signalled, as it is sent. left_out: messages beyond the first 400 lines."""

    def __init__(self, topology: Topology, say: Callable[[str], None]) -> None:
        """Call `say` with each line."""
        self._say = say
        self._names = {node.address: node.name for node in topology.nodes}
        self._width = max(len(link.a) + len(link.b) for link in topology.links) + 4
        self._lines = 0
        self.left_out = 0

    def message(self, wire: Wire, octets: bytes, now: Instant) -> None:
        """Say one message; acknowledgements, refreshes and HELLO are nobody's business."""
        try:
            message = decode_message(octets).message
        except DecodeError:
            return
        name = _NAMES.get(type(message))
        if name is None or isinstance(message, Hello | Srefresh):
            return
        if self._lines == MAX_LINES:
            self.left_out += 1
            return
        self._lines += 1
        way = f"{wire.source} -> {wire.target}".ljust(self._width)
        self._say(f"{said_at(now)}  {way}  {name:<8}  {self._details(message)}".rstrip())

    def _details(self, message: Message) -> str:
        match message:
            case Path():
                lamp = self._lamp(message.sender.lamp, message.sender.lsp)
                volts = format_voltage(voltage_of(message.upstream_label))
                labels = (
                    f"phase {volts} = label {message.upstream_label}, flow {message.flow_label}"
                )
                return f"{lamp}: asks for {_said_of_power(message.power)}; {labels}"
            case Resv():
                parts = []
                for one in message.circuits:
                    sender = one.sender
                    lamp = self._lamp(sender.lamp, sender.lsp) if sender else "all lamps"
                    grant = _said_of_power(one.power)
                    labels = f"neutral = label {one.label}, flow {one.flow_label}"
                    parts.append(f"{lamp}: grants {grant}; {labels}")
                return " | ".join(parts)
            case PathErr():
                said = sentence_of(message.error, message.power, message.offers, self._names)
                return f"{self._lamp(message.sender.lamp, message.sender.lsp)}: {said}"
            case ResvErr():
                return sentence_of(message.error, message.power, (), self._names)
            case PathTear():
                return self._lamp(message.sender.lamp, message.sender.lsp)
            case ResvTear() | ResvConf():
                sender = message.sender
                return self._lamp(sender.lamp, sender.lsp) if sender else "all lamps"
        return ""

    def _lamp(self, address: IPv4Address, lsp: int) -> str:
        return f"{self._names.get(address, str(address))}/{lsp}"


def said_at(now: Instant) -> str:
    """Return a time in ms with 6 decimals, in a column."""
    ms, ns = divmod(now, NS_PER_MS)
    return f"{ms:>7,}.{ns:06} ms"


def _said_of_power(power: PowerObject) -> str:
    profile = power.profile
    said = f"{format_voltage(profile.voltage_mv)} {format_current(profile.current_ma)}"
    return f"{said} = {format_power(profile.power_mw)}"


def label_lines(engine: Engine) -> Iterator[str]:
    """Yield the canonical label table of each node that has entries."""
    for node in engine.nodes():
        table = node.label_table()
        if table:
            yield f"{node.name} ({node.kind})"
            yield from (f"  {line}" for line in table)
