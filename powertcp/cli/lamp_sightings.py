"""What a capture or a trace of a network of lamps shows: messages with time, way and link.

Captures are pcapng of raw IPv4 (MPLampS section 10), traces JSON-SEQ or a JSON object a line. Both
are read piece by piece: nothing is kept but the names of nodes and connections that are open.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address
from struct import Struct
from typing import BinaryIO, Final, NamedTuple, TypeAlias

from powertcp.cli.lamp_streams import Streams
from powertcp.errors import ConfigError, DecodeError
from powertcp.mplamps import cops, rsvp
from powertcp.mplamps.topology import Topology
from powertcp.units import NS_PER_MS, Instant
from powertcp.wire.capture import MAX_BLOCK, UDP, CaptureReader, Packet

MPLS_PORT: Final = 6635
MAX_LINE: Final = 1 << 20
# nodes of a grid of 37,000, and room
MAX_NAMES: Final = 1 << 17
_CHUNK: Final = 1 << 18
_SECTION: Final = b"\x0a\x0d\x0d\x0a"
_OLD: Final = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d")
_RECORD: Final = b"\x1e"
_IPV4 = Struct(">BBHHHBBHII")
_UDP = Struct(">HHHH")
_TCP: Final = 6
_FRAGMENT: Final = 0x3FFF
_ADDRESS = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")


class Sighting(NamedTuple):
    """A message between two nodes, or why there is none. link: "" where it is not known."""

    at_ns: Instant
    source: str
    target: str
    link: str
    said: rsvp.Message | cops.Message | DecodeError
    is_cops: bool = False


class Told(NamedTuple):
    """An event of a trace that is no message."""

    at_ns: Instant
    name: str
    data: Mapping[str, object]


class Other(NamedTuple):
    """A packet that is no message: of a circuit, or of something else."""

    is_labelled: bool


Seen: TypeAlias = Sighting | Told | Other


class Names:
    """Names of nodes: of a topology, or by which links of a capture an address is seen on."""

    def __init__(self, topology: Topology | None = None) -> None:
        """Begin with the names of a topology, or with none."""
        self.known: dict[IPv4Address, str] = {}
        self._links: dict[str, set[IPv4Address]] = {}
        self._given: set[str] = set()
        if topology is not None:
            self.known = {node.address: node.name for node in topology.nodes}
            self._given = set(self.known.values())

    def of(self, address: IPv4Address) -> str:
        """Return the name of a node, its address where that is not known."""
        return self.known.get(address) or str(address)

    def call(self, address: IPv4Address, name: str) -> None:
        """Take the name by which a message calls a node, if neither is known by another one."""
        if address in self.known or len(self.known) >= MAX_NAMES or name in self._given:
            return
        if _NAME.fullmatch(name):
            self.known[address] = name
            self._given.add(name)

    def note(self, link: str, source: int, target: int) -> None:
        """Take that two addresses speak over a link, `a--b`."""
        seen = self._links.setdefault(link, set())
        if len(seen) < 2 and len(self._links) <= MAX_NAMES:
            seen.update((IPv4Address(source), IPv4Address(target)))

    def settle(self) -> None:
        """Name each address by the one end that all of its links have, or the one that is left."""
        ends = {link: link.split("--") for link in self._links}
        ends = {link: pair for link, pair in ends.items() if len(pair) == 2}
        may: dict[IPv4Address, set[str]] = {}
        for link, pair in ends.items():
            for address in self._links[link]:
                may[address] = may.get(address, set(pair)) & set(pair)
        ready = [address for address, names in may.items() if len(names) == 1]
        beside: dict[IPv4Address, list[IPv4Address]] = {}
        for link in ends:
            for one in self._links[link]:
                beside.setdefault(one, []).extend(self._links[link] - {one})
        while ready:
            address = ready.pop()
            (name,) = may[address]
            self.call(address, name)
            for other in beside[address]:
                if name in may[other] and len(may[other]) == 2:
                    may[other].discard(name)
                    ready.append(other)


def read_file(file: BinaryIO, name: str, names: Names, *, is_named: bool) -> Iterator[Seen]:
    """Yield what a file shows, from its beginning. is_named: the names are those of a topology.

    Raises ConfigError for what is neither a capture nor a trace, or ends too early: after all
    that came before.
    """
    head = file.read(4)
    file.seek(0)
    if head in _OLD:
        text = "a capture in the format pcap; pcapng is read: tshark -F pcapng -r OLD -w NEW"
        raise ConfigError(name, "octet 0", text)
    if head == _SECTION:
        if not is_named:
            _find_names(file, names)
        yield from _read_capture(file, name, names)
    elif head[:1] in (_RECORD, b"{"):
        if not is_named:
            _find_callers(file, name, names)
        yield from _read_trace(file, name, names)
    else:
        raise ConfigError(name, "octet 0", "neither a capture (pcapng) nor a trace (JSON lines)")


# ---- captures -----------------------------------------------------------------------------------


def _packets(file: BinaryIO) -> Iterator[Packet]:
    reader = CaptureReader()
    while octets := file.read(_CHUNK):
        yield from reader.receive(octets)
    reader.finish()


def _find_names(file: BinaryIO, names: Names) -> None:
    """Read a capture once for who is at which end of a link; go back to its beginning."""
    # a fault is told where it is met a second time, after what came before
    with suppress(DecodeError):
        for packet in _packets(file):
            if len(packet.octets) >= _IPV4.size:
                names.note(packet.interface, *_IPV4.unpack_from(packet.octets)[8:])
    names.settle()
    file.seek(0)


def _read_capture(file: BinaryIO, name: str, names: Names) -> Iterator[Seen]:
    streams = Streams()
    try:
        for packet in _packets(file):
            yield from _of_packet(packet, names, streams)
    except DecodeError as error:
        raise ConfigError(name, f"octet {error.offset:,}", _said_of(error)) from error


def _said_of(error: DecodeError) -> str:
    if error.field == "link type":
        return f"link type {error.value}, only raw IPv4 (101) is read"
    if error.limit == MAX_BLOCK and error.value > MAX_BLOCK:
        return f"a block of {error.value:,} octets, at most {MAX_BLOCK:,} are read"
    if error.field in ("block", "block length") and error.value > error.limit:
        return (
            f"the capture ends within a block of {error.value:,} octets: {error.limit:,} are left"
        )
    if error.field == "block":
        return f"the capture ends within a block: {error.value} octets are left"
    return f"no capture: {error.field} is {error.value:,}"


def _of_packet(packet: Packet, names: Names, streams: Streams) -> Iterator[Seen]:
    octets = packet.octets
    if len(octets) < _IPV4.size:
        yield Other(is_labelled=False)
        return
    version, _, total, _, fragment, _, protocol, _, source, target = _IPV4.unpack_from(octets)
    body = (version & 15) << 2
    is_whole = _IPV4.size <= body <= total <= len(octets) and not fragment & _FRAGMENT
    if version >> 4 == 4 and is_whole and protocol == UDP and body + _UDP.size <= total:
        from_port, to_port, _, _ = _UDP.unpack_from(octets, body)
        if rsvp.PORT in (from_port, to_port):
            payload = octets[body + _UDP.size : total]
            ends = names.of(IPv4Address(source)), names.of(IPv4Address(target))
            yield from _of_rsvp(packet.at_ns, *ends, packet.interface, payload, names)
            return
        yield Other(is_labelled=MPLS_PORT in (from_port, to_port))
        return
    if protocol == _TCP and is_whole:
        yield from _of_segment(packet, names, streams)
        return
    yield Other(is_labelled=False)


def _of_segment(packet: Packet, names: Names, streams: Streams) -> Iterator[Seen]:
    try:
        pieces = list(streams.take(packet.octets))
    except DecodeError:
        yield Other(is_labelled=False)
        return
    for piece in pieces:
        ends = names.of(piece.source), names.of(piece.target)
        said = piece.fault or _cops(piece.octets)
        yield Sighting(packet.at_ns, *ends, packet.interface, said, is_cops=True)


def _cops(octets: bytes) -> cops.Message | DecodeError:
    try:
        return cops.decode_message(octets)
    except DecodeError as error:
        return error


def _of_rsvp(
    at_ns: Instant, source: str, target: str, link: str, octets: bytes, names: Names
) -> Iterator[Sighting]:
    try:
        message = rsvp.decode_message(octets).message
    except DecodeError as error:
        yield Sighting(at_ns, source, target, link, error)
        return
    if isinstance(message, rsvp.Bundle):
        inner = [one.message for one in message.received]
    else:
        inner = [message]
    for one in inner:
        if isinstance(one, rsvp.Path):
            names.call(one.sender.lamp, one.attribute.name)
        yield Sighting(at_ns, source, target, link, one)


# ---- traces -------------------------------------------------------------------------------------


def _find_callers(file: BinaryIO, name: str, names: Names) -> None:
    """Read a trace once for the addresses of nodes, of which it has the names; go back."""
    # a fault is told where it is met a second time, after what came before
    with suppress(ConfigError):
        for _ in _read_trace(file, name, names):
            pass
    file.seek(0)


def _read_trace(file: BinaryIO, name: str, names: Names) -> Iterator[Seen]:
    begin_ns = number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        text = line.strip(b"\x1e\r\n\t ")
        if not text:
            continue
        value = _object(line, text, name, number)
        if "qlog_version" in value:
            begin_ns = _reference_ns(value)
            continue
        try:
            time, what, data = value["time"], value["name"], value["data"]
            at_ns = begin_ns + _ns(time)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            text_of = "no event: an event has time (ms), name and data"
            raise ConfigError(name, f"line {number:,}", text_of) from error
        if not isinstance(what, str) or not isinstance(data, dict):
            raise ConfigError(name, f"line {number:,}", "no event: name is a text, data an object")
        yield from _of_event(at_ns, what, data, names)


def _object(line: bytes, text: bytes, name: str, number: int) -> dict[str, object]:
    """Return the object of a line. Raises ConfigError."""
    where = f"line {number:,}"
    if len(line) > MAX_LINE:
        raise ConfigError(name, where, f"more than {MAX_LINE:,} octets")
    try:
        # times have six decimals, and a float has not all of them
        value = json.loads(text, parse_float=str)
    except (ValueError, RecursionError) as error:
        said = "the trace ends within a record" if not line.endswith(b"\n") else "no JSON"
        raise ConfigError(name, where, said) from error
    if not isinstance(value, dict):
        raise ConfigError(name, where, "no event: not an object")
    return value


def _ns(time: object) -> int:
    """Return ns of ms with decimals. Raises ValueError."""
    text = str(time)
    whole, _, part = text.removeprefix("-").partition(".")
    ns = int(whole) * NS_PER_MS + int(part.ljust(6, "0")[:6])
    return -ns if text.startswith("-") else ns


def _reference_ns(value: Mapping[str, object]) -> Instant:
    """Return the Unix time of time 0, 0 where a trace does not say it."""
    try:
        reference = value["trace"]["common_fields"]["reference_time"]  # type: ignore[index]
        return int(reference) * NS_PER_MS
    except (KeyError, TypeError, ValueError):
        return 0


def _of_event(
    at_ns: Instant, name: str, data: Mapping[str, object], names: Names
) -> Iterator[Seen]:
    octets = _octets(data)
    source, target = str(data.get("node", "")), str(data.get("to", ""))
    if name == "rsvp:message_sent" and octets is not None:
        for seen in _of_rsvp(at_ns, source, target, "", octets, names):
            hop = getattr(seen.said, "hop", None)
            if isinstance(hop, rsvp.Hop):
                names.call(hop.node, source)
            yield seen
    elif name == "cops:message_sent" and octets is not None:
        said = _cops(octets)
        if isinstance(said, cops.ClientOpen) and _ADDRESS.fullmatch(said.pep_id):
            with suppress(ValueError):
                names.call(IPv4Address(said.pep_id), source)
        yield Sighting(at_ns, source, target, "", said, is_cops=True)
    else:
        yield Told(at_ns, name, {key: _named(value, names) for key, value in data.items()})


def _named(value: object, names: Names) -> object:
    """Return the name of a node for its address, and anything else as it is."""
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        return value
    try:
        return names.of(IPv4Address(value))
    except ValueError:
        return value


def _octets(data: Mapping[str, object]) -> bytes | None:
    try:
        return bytes.fromhex(str(data["hex"]))
    except (KeyError, ValueError):
        return None
