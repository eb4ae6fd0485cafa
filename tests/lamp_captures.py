"""Captures of a small network of lamps for tests, made message by message."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise

from powertcp.mplamps import cops, rsvp
from powertcp.mplamps.label import stack_octets
from powertcp.mplamps.packet import Packet as TcpPacket
from powertcp.mplamps.power import PowerObject
from powertcp.mplamps.rsvp import Hop, Path, PathErr, PathTear, Resv, ResvTear, Sendable, Style
from powertcp.profile import PowerProfile, ProfileType
from powertcp.units import NS_PER_MS
from powertcp.wire.capture import CaptureWriter, Packet, udp_packet
from tests.rsvp_messages import BUCKET, CIRCUIT, PATH, QUOTE, RESV, SESSION, node

# 2002-04-01T00:00:00Z
DUSK_NS = 1_017_619_200_000_000_000
NODES = ("es1", "s1", "c1", "h1", "lamp-1", "lamp-2", "pdp")
ADDRESSES = {name: node(number) for number, name in enumerate(NODES, 1)}
LINKS = {
    "es1--s1": 110_000, "s1--c1": 20_000, "c1--h1": 400, "h1--lamp-1": 230, "h1--lamp-2": 230,
    "h1--pdp": 0,
}  # fmt: skip
TOPOLOGY = """topology = {name = "small"}
node = [
  {name = "es1", kind = "es"}, {name = "s1", kind = "transformer"},
  {name = "c1", kind = "transformer"}, {name = "h1", kind = "transformer"},
  {name = "lamp-1", kind = "lamp"}, {name = "lamp-2", kind = "lamp"}, {name = "pdp", kind = "pdp"},
]
link = [
  {a = "es1", b = "s1", voltage = "110kV"}, {a = "s1", b = "c1", voltage = "20kV"},
  {a = "c1", b = "h1", voltage = "400V"}, {a = "h1", b = "lamp-1", voltage = "230V"},
  {a = "h1", b = "lamp-2", voltage = "230V"},
]
"""
WAY = ("lamp-1", "h1", "c1", "s1", "es1")


def link_of(one: str, other: str) -> str:
    return next(link for link in LINKS if set(link.split("--")) == {one, other})


def path(lamp: str, source: str, target: str, lsp: int = 1) -> Path:
    address = ADDRESSES[lamp]
    return replace(
        PATH, session=SESSION._replace(lamp=address), sender=PATH.sender._replace(lamp=address, lsp=lsp),
        hop=Hop(ADDRESSES[source], 1), attribute=PATH.attribute._replace(name=lamp),
        upstream_label=LINKS[link_of(source, target)], message_id=None,
    )  # fmt: skip


def resv(lamp: str, source: str, lsp: int = 1) -> Resv:
    sender = PATH.sender._replace(lamp=ADDRESSES[lamp], lsp=lsp)
    circuit = replace(CIRCUIT, sender=sender, tariff=QUOTE)
    return replace(
        RESV, session=SESSION._replace(lamp=ADDRESSES[lamp]), hop=Hop(ADDRESSES[source], 1),
        circuits=(circuit,), message_id=None,
    )  # fmt: skip


def refused(
    lamp: str, refuser: str, code: int = 1, value: int = 2, refuse: str = "230V/43mA@50Hz"
) -> PathErr:
    second = PowerProfile.parse(refuse, ProfileType.REFUSE)
    return PathErr(
        session=SESSION._replace(lamp=ADDRESSES[lamp]), tspec=BUCKET,
        error=rsvp.ErrorSpec.refusal(ADDRESSES[refuser], code, value),
        sender=PATH.sender._replace(lamp=ADDRESSES[lamp]),
        power=PowerObject.make(PATH.power.profile, second),
    )  # fmt: skip


def path_tear(lamp: str, source: str) -> PathTear:
    return PathTear(
        session=SESSION._replace(lamp=ADDRESSES[lamp]), hop=Hop(ADDRESSES[source], 1),
        sender=PATH.sender._replace(lamp=ADDRESSES[lamp]), tspec=BUCKET,
    )  # fmt: skip


def resv_tear(lamp: str, source: str) -> ResvTear:
    return ResvTear(
        session=SESSION._replace(lamp=ADDRESSES[lamp]), hop=Hop(ADDRESSES[source], 1),
        style=Style.SE, sender=PATH.sender._replace(lamp=ADDRESSES[lamp]),
    )  # fmt: skip


class Capture:
    """Packets of 1 ms distance, on the links of the network."""

    def __init__(self, links: Sequence[str] = tuple(LINKS)) -> None:
        self.writer = CaptureWriter(links)
        self.blocks = [self.writer.header()]
        self.at_ns = DUSK_NS
        self._seq: dict[tuple[str, str], int] = {}

    def packet(self, link: str, octets: bytes) -> None:
        self.blocks.append(self.writer.packet(Packet(self.at_ns, link, octets)))
        self.at_ns += NS_PER_MS

    def datagram(self, source: str, target: str, port: int, octets: bytes) -> None:
        ends = ADDRESSES[source], ADDRESSES[target]
        self.packet(link_of(source, target), udp_packet(*ends, port, octets))

    def say(self, source: str, target: str, message: Sendable) -> None:
        self.datagram(source, target, rsvp.PORT, rsvp.encode_message(message))

    def police(self, source: str, target: str, *messages: cops.Message) -> None:
        """Send messages of COPS as one segment."""
        octets = b"".join(map(cops.encode_message, messages))
        ports = (40_000, cops.PORT) if target == "pdp" else (cops.PORT, 40_000)
        seq = self._seq.get((source, target), 1)
        self._seq[source, target] = seq + len(octets)
        ends = ADDRESSES[source], ADDRESSES[target]
        self.packet(link_of(source, target), segment(*ends, *ports, seq, octets))

    def labelled(self, source: str, target: str) -> None:
        inner = udp_packet(ADDRESSES[source], ADDRESSES["es1"], 3251, b"")
        self.datagram(source, target, 6635, stack_octets((0, 16), tc=3) + inner)

    def switch_on(self, lamp: str) -> None:
        """Ask along the way and be granted."""
        way = (lamp, *WAY[1:])
        for source, target in pairwise(way):
            self.say(source, target, path(lamp, source, target))
        for source, target in pairwise(way[::-1]):
            self.say(source, target, resv(lamp, source))

    def refuse(self, lamp: str) -> None:
        """Ask, and be refused by c1 for its link to h1."""
        self.say(lamp, "h1", path(lamp, lamp, "h1"))
        self.say("h1", "c1", path(lamp, "h1", "c1"))
        self.say("c1", "h1", refused(lamp, "c1"))
        self.say("h1", lamp, refused(lamp, "c1"))

    def octets(self) -> bytes:
        return b"".join(self.blocks)


def segment(
    source: IPv4Address, target: IPv4Address, source_port: int, target_port: int, seq: int,
    payload: bytes, flags: int = 0x18,
) -> bytes:  # fmt: skip
    """Return an IPv4 packet with one TCP segment."""
    return TcpPacket(
        source=source, destination=target, source_port=source_port, destination_port=target_port,
        seq=seq, ack=1, flags=flags, payload=payload,
    ).to_wire()  # fmt: skip
