"""Messages of RSVP for tests: one of each type, and the two that the draft prints."""

from ipaddress import IPv4Address

from powertcp.mplamps.power import PowerObject, TariffKind, TariffObject
from powertcp.mplamps.rsvp import (
    Ack,
    Acknowledgement,
    Attribute,
    Circuit,
    ErrorSpec,
    Hello,
    Hop,
    MessageId,
    Path,
    PathErr,
    PathTear,
    RecordedHop,
    Resv,
    ResvConf,
    ResvErr,
    ResvTear,
    RouteHop,
    Sendable,
    Sender,
    Session,
    Srefresh,
    Style,
    TokenBucket,
)
from powertcp.profile import PowerProfile, ProfileType, Waveform

GOLDEN_PATH = bytes.fromhex(
    "1101d90240000104000c17010100beef00000001001001070a000001000000010a000005000c03010a00000500000001"
    "00080501000075300024140101080a000004200001080a000003200001080a000002200001080a000001200000081301"
    "00000800"
    "0010cf07040404066c616d702d310000000c0b070a0000050000000100240c0200000007010000067f00000547181c00"
    "44b1000047181c0000000028000005a000082301000000e6000cfc0200007ed9000000100028fc0100007ed944490382"
    "70000104138800000000beef6449038270000064138800000000beef0024fc0300007ed9000000000000000045555200"
    "00000000000493e00000000000000000"
)
GOLDEN_RESV = bytes.fromhex(
    "110252fa400000c0000c17010100cafe00000001001001070a000001000000010a000005000c03010a00000400000001"
    "000805010000753000080801000000120024090200000007050000067f00000547181c0044b1000047181c0000000028"
    "000005a0000c0a070a000005000000010008100100000000000cfc0200007ed9000000100018fc0100007ed954490382"
    "7000010413880000"
    "0035beef0024fc0300007ed9000000070a0000014555520100000000000455c40000000c00000e10"
)


def node(number: int) -> IPv4Address:
    return IPv4Address(f"10.0.0.{number}")


def profile(kind: ProfileType, current_ma: int, lease_s: int = 0) -> PowerProfile:
    return PowerProfile.make(
        kind, voltage_mv=230_000, current_ma=current_ma, waveform=Waveform.SINE, priority=9,
        frequency_chz=5_000, lease_s=lease_s, tag=0xBEEF,
    )  # fmt: skip


REQUEST = profile(ProfileType.REQUEST, 260)
LAMP = Sender(node(5), 1)
SESSION = Session(node(1), 1, node(5))
BUCKET = TokenBucket(38_940, 1_416, 38_940, 40, 1_440)
POWER = PowerObject.make(REQUEST, profile(ProfileType.MINIMUM, 100))
GRANT = PowerObject.make(profile(ProfileType.GRANT, 260, 157))
REFUSED = PowerObject.make(REQUEST, profile(ProfileType.REFUSE, 90))
QUOTE = TariffObject.make(
    TariffKind.QUOTE, 284_100, "EUR", supplier=7, source=node(1), tariff_id=12, valid_s=3_600
)
PATH = Path(
    message_id=MessageId(0xBEEF, 1),
    session=SESSION,
    hop=Hop(node(5), 1),
    refresh_ms=30_000,
    attribute=Attribute(4, 4, 4, "lamp-1"),
    sender=LAMP,
    tspec=BUCKET,
    upstream_label=230,
    flow_label=16,
    power=POWER,
    tariff=TariffObject.make(TariffKind.LIMIT, 300_000, "EUR"),
    route=tuple(RouteHop(node(number)) for number in (4, 3, 2, 1)),
)
CIRCUIT = Circuit(sender=LAMP, flow_label=16, power=GRANT, tariff=QUOTE)
RESV = Resv(
    message_id=MessageId(0xCAFE, 1),
    session=SESSION,
    hop=Hop(node(4), 1),
    refresh_ms=30_000,
    style=Style.SE,
    flowspec=BUCKET,
    circuits=(CIRCUIT,),
)
OFFERS = tuple(
    TariffObject.make(TariffKind.OFFER, price, "EUR", supplier=supplier, source=node(1))
    for supplier, price in ((7, 284_100), (8, -5_000))
)
RECORD = (RecordedHop(node(4), 230, 0), RecordedHop(node(5)))
# one of each type, with what is optional and without
MESSAGES: dict[str, Sendable] = {
    "path": PATH,
    "path-least": Path(
        session=SESSION, hop=Hop(node(5), 1), refresh_ms=30_000, attribute=Attribute(4, 4, 0, ""),
        sender=LAMP, tspec=BUCKET, upstream_label=230, flow_label=16,
        power=PowerObject.make(REQUEST),
    ),
    "path-recorded": Path(
        message_id=MessageId(1, 2, is_ack_desired=False), acks=(Acknowledgement(3, 4),),
        session=SESSION, hop=Hop(node(4), 2), refresh_ms=30_000,
        attribute=Attribute(0, 7, 6, "Küche"), sender=LAMP, tspec=BUCKET, upstream_label=400,
        flow_label=0xF_FFFF, power=POWER, record=RECORD,
        route=(RouteHop(node(3)), RouteHop(node(1), is_loose=True)),
    ),
    "resv": RESV,
    "resv-two": Resv(
        session=SESSION, hop=Hop(node(4), 1), refresh_ms=30_000, style=Style.FF, flowspec=BUCKET,
        circuits=(CIRCUIT, Circuit(sender=Sender(node(5), 2), flow_label=17, power=GRANT,
                                   record=RECORD)),
        confirm=node(1),
    ),
    "resv-shared": Resv(
        session=Session(node(1), 1, IPv4Address(0)), hop=Hop(node(4), 1), refresh_ms=30_000,
        style=Style.WF, flowspec=BUCKET,
        circuits=(Circuit(sender=None, flow_label=16, power=GRANT),),
    ),
    "path-err": PathErr(
        message_id=MessageId(5, 6), session=SESSION, error=ErrorSpec.refusal(node(3), 1, 2),
        sender=LAMP, tspec=BUCKET, power=REFUSED,
    ),
    "path-err-offers": PathErr(
        session=SESSION, error=ErrorSpec.refusal(node(4), 252, 104), sender=LAMP, tspec=BUCKET,
        offers=OFFERS,
    ),
    "resv-err": ResvErr(
        session=SESSION, hop=Hop(node(5), 1), error=ErrorSpec(node(5), 1, 252, 302, 32473),
        style=Style.SE, flowspec=BUCKET, sender=LAMP, power=REFUSED,
    ),
    "resv-err-shared": ResvErr(
        session=SESSION, hop=Hop(node(5), 1), error=ErrorSpec.refusal(node(5), 3, 0),
        style=Style.WF, flowspec=BUCKET,
    ),
    "path-tear": PathTear(
        message_id=MessageId(5, 7), session=SESSION, hop=Hop(node(5), 1), sender=LAMP, tspec=BUCKET,
    ),
    "resv-tear": ResvTear(session=SESSION, hop=Hop(node(4), 1), style=Style.SE, sender=LAMP),
    "resv-tear-shared": ResvTear(session=SESSION, hop=Hop(node(4), 1), style=Style.WF),
    "resv-conf": ResvConf(
        session=SESSION, error=ErrorSpec(node(4), 0, 0, 0), confirm=node(1), style=Style.SE,
        flowspec=BUCKET, sender=LAMP,
    ),
    "ack": Ack(acks=(Acknowledgement(0xBEEF, 1), Acknowledgement(0xBEEF, 9, is_nack=True))),
    "srefresh": Srefresh(
        message_id=MessageId(5, 8), acks=(Acknowledgement(1, 1),), epoch=5, numbers=(1, 2, 7)
    ),
    "hello-request": Hello(source=0x1234, destination=0),
    "hello-ack": Hello(source=0x5678, destination=0x1234, is_ack=True),
}  # fmt: skip


def objects(octets: bytes) -> list[bytes]:
    """Return the objects of a message."""
    found = []
    at = 8
    while at < len(octets):
        length = max(int.from_bytes(octets[at : at + 2], "big"), 4)
        found.append(octets[at : at + length])
        at += length
    return found


def message(kind: int, parts: list[bytes], checksum: int | None = None) -> bytes:
    """Return a message of these objects; its checksum is right, or the one that is given."""
    body = b"".join(parts)
    head = bytes((0x11, kind, 0, 0, 64, 0)) + (8 + len(body)).to_bytes(2, "big")
    total = sum(int.from_bytes((head + body)[at : at + 2], "big")
                for at in range(0, 8 + len(body), 2))  # fmt: skip
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    value = (~total & 0xFFFF) if checksum is None else checksum
    return head[:2] + value.to_bytes(2, "big") + head[4:] + body


def entity(number: int, kind: int, content: bytes) -> bytes:
    """Return an object."""
    return (4 + len(content)).to_bytes(2, "big") + bytes((number, kind)) + content
