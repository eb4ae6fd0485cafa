"""The objects of RSVP with Tariff Extensions, declared in construct: the oracle of their codec.

Shares no code with what it checks: numbers, layouts and rules are written down here a second time.
MPLampS sections 2.2 and 4.1 to 4.4. A rule with a code of 500 and above drops the message, for that
reason; the code of one below is the error of RSVP, with its value, with which it is answered.
"""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import NamedTuple

from construct import (
    BitsInteger,
    BitStruct,
    Bytes,
    Const,
    ExprAdapter,
    Float32b,
    GreedyBytes,
    GreedyRange,
    If,
    Int8ub,
    Int16ub,
    Int24ub,
    Int32ub,
    Int64sb,
    Int64ub,
    Padding,
    Struct,
    this,
)

from powertcp.wire import values as plain
from powertcp.wire.schema import Fields, Rejected, Values

ENTERPRISE = 32473
MOST = 4096
MAX_LABEL = 2**20 - 1

ADDRESS = ExprAdapter(
    Bytes(4),
    lambda octets, _: ".".join(str(octet) for octet in octets),
    lambda text, _: bytes(int(part) for part in text.split(".")),
)

# RFC 3032; MPLA-2.2-02
LABEL_ENTRY = BitStruct(
    "label" / BitsInteger(20) * "volts of the link, 0 for the neutral, or the flow",
    "tc" / BitsInteger(3) * "7 less the holding priority",
    "last" / BitsInteger(1) * "S: no entry follows",
    "ttl" / BitsInteger(8) * "64 at the start",
)
HEADER = Struct(
    "version" / Int8ub * "version 1 in the upper half, flags in the lower one",
    "type" / Int8ub * "of the message",
    "checksum" / Int16ub * "one's complement sum of all; 0 = none",
    "ttl" / Int8ub * "Send_TTL",
    Padding(1),
    "length" / Int16ub * "of the message, octets",
)
TYPES = {
    1: "PATH", 2: "RESV", 3: "PATH_ERR", 4: "RESV_ERR", 5: "PATH_TEAR", 6: "RESV_TEAR",
    7: "RESV_CONF", 13: "ACK", 15: "SREFRESH", 20: "HELLO",
}  # fmt: skip


class Declared(NamedTuple):
    """One object: its name, its content, and what of its fields is refused with which error."""

    name: str
    struct: Struct
    rules: Sequence[tuple[int, int, Callable[[Fields], bool]]] = ()
    lengths: tuple[int, ...] = ()


def _not_finite(it: Fields) -> bool:
    return any(not isfinite(rate) or rate < 0 for rate in (it.rate, it.bucket, it.peak))


def _bucket(service: int) -> Struct:
    """Return a token bucket (RFC 2210) of one service."""
    return Struct(
        Const(0, Int8ub),
        Padding(1),
        Const(7, Int16ub),
        Const(service, Int8ub),
        Padding(1),
        Const(6, Int16ub),
        Const(127, Int8ub),
        Const(0, Int8ub),
        Const(5, Int16ub),
        "rate" / Float32b * "octets/s",
        "bucket" / Float32b * "octets",
        "peak" / Float32b * "octets/s",
        "least" / Int32ub * "octets of the smallest packet",
        "greatest" / Int32ub * "octets of the largest packet",
    )


_SENDER = Struct("lamp" / ADDRESS, Padding(2), "lsp" / Int16ub * "a new id is a new circuit")
_LABEL = Struct("label" / Int32ub * "20 bits")
_NUMBER = Struct(Padding(1), "epoch" / Int24ub, "number" / Int32ub)
_HELLO = Struct("source" / Int32ub * "instance", "destination" / Int32ub * "instance, 0 unknown")
_HOP = Struct(
    "kind" / Int8ub * "0x80 loose; 1 address, 3 label",
    "length" / Int8ub,
    "content" / Bytes(4),
    "prefix" / Int8ub,
    Padding(1),
)
_RECORDED = Struct(
    "kind" / Int8ub, "length" / Int8ub, "second" / Int8ub, "third" / Int8ub, "rest" / Bytes(4)
)
_LABEL_RULE = ((503, 0, lambda it: it.label > MAX_LABEL),)
_BUCKET_RULE = ((503, 0, _not_finite),)


def _is_no_route(it: Fields) -> bool:
    kinds = all(hop.kind & 127 == 1 and hop.length == 8 and hop.prefix == 32 for hop in it.hops)
    return not kinds or not 1 <= len(it.hops) <= 32


def recorded(it: Fields) -> list[Values] | None:
    """Return the hops of an RRO with their labels, None if it is malformed."""
    hops: list[Values] = []
    for one in it.hops:
        address, prefix = (one.second, one.third, *one.rest[:2]), one.rest[2]
        label = int.from_bytes(one.rest, "big")
        if one.length != 8:
            return None
        if one.kind == 1 and prefix == 32:
            hops.append({"node": ".".join(map(str, address))})
            continue
        name = "phase" if one.second & 128 else "neutral"
        if one.kind != 3 or one.third != 1 or not hops or name in hops[-1] or label > MAX_LABEL:
            return None
        hops[-1][name] = label
    return hops if 1 <= len(hops) <= 32 else None


# MPLA-4.3-01
OBJECTS: Mapping[tuple[int, int], Declared] = {
    (1, 7): Declared(
        "SESSION", Struct("es" / ADDRESS, Padding(2), "tunnel" / Int16ub, "lamp" / ADDRESS)
    ),
    (3, 1): Declared("HOP", Struct("node" / ADDRESS, "link" / Int32ub * "number, from 1")),
    (4, 1): Declared(
        "INTEGRITY",
        Struct(
            Padding(2),
            "key_id" / Bytes(6),
            "sequence" / Int64ub,
            "digest" / GreedyBytes * "HMAC-SHA-256 or HMAC-MD5",
        ),
        lengths=(32, 48),
    ),
    (5, 1): Declared("TIME_VALUES", Struct("refresh_ms" / Int32ub)),
    (6, 1): Declared(
        "ERROR_SPEC",
        Struct(
            "node" / ADDRESS,
            "flags" / Int8ub * "1 in place, 4 state removed",
            "code" / Int8ub,
            "value" / Int16ub,
            "enterprise" / If(this.code == 252, Int32ub) * "with code 252",
        ),
    ),
    (8, 1): Declared(
        "STYLE",
        Struct("style" / Int32ub * "10 FF, 17 WF, 18 SE"),
        ((503, 0, lambda it: it.style not in (10, 17, 18)),),
    ),
    (9, 2): Declared("FLOWSPEC", _bucket(5), _BUCKET_RULE),
    (10, 7): Declared("FILTER_SPEC", _SENDER),
    (11, 7): Declared("SENDER_TEMPLATE", _SENDER),
    (12, 2): Declared("SENDER_TSPEC", _bucket(1), _BUCKET_RULE),
    (15, 1): Declared("RESV_CONFIRM", Struct("node" / ADDRESS)),
    (16, 1): Declared("LABEL", _LABEL, _LABEL_RULE),
    (19, 1): Declared("LABEL_REQUEST", Struct(Padding(2), "l3pid" / Int16ub)),
    (20, 1): Declared("ERO", Struct("hops" / GreedyRange(_HOP)), ((24, 1, _is_no_route),)),
    (21, 1): Declared(
        "RRO",
        Struct("hops" / GreedyRange(_RECORDED)),
        ((24, 1, lambda it: recorded(it) is None),),
    ),
    (22, 1): Declared("HELLO", _HELLO),
    (22, 2): Declared("HELLO_ACK", _HELLO),
    (23, 1): Declared(
        "MESSAGE_ID", Struct("flags" / Int8ub, "epoch" / Int24ub, "number" / Int32ub)
    ),
    (24, 1): Declared("MESSAGE_ID_ACK", _NUMBER),
    (24, 2): Declared("MESSAGE_ID_NACK", _NUMBER),
    (25, 1): Declared(
        "MESSAGE_ID_LIST",
        Struct(Padding(1), "epoch" / Int24ub, "numbers" / GreedyRange(Int32ub)),
        ((508, 0, lambda it: not 1 <= len(it.numbers) <= 364),),
    ),
    (35, 1): Declared("UPSTREAM_LABEL", _LABEL, _LABEL_RULE),
    (207, 7): Declared(
        "SESSION_ATTRIBUTE",
        Struct(
            "setup" / Int8ub,
            "holding" / Int8ub,
            "flags" / Int8ub * "2 label recording, 4 SE desired",
            "size" / Int8ub,
            "name" / Bytes(this.size) * "UTF-8",
            "rest" / GreedyBytes,
        ),
        ((503, 0, lambda it: max(it.setup, it.holding) > 7 or not _is_text(it.name)),),
    ),
}
_HAS = "enterprise" / Const(ENTERPRISE, Int32ub)
# MPLA-4.4-06
PRIVATE: Mapping[int, Declared] = {
    1: Declared(
        "POWER",
        Struct(_HAS, "profiles" / GreedyRange(Bytes(16))),
        ((252, 503, lambda it: not _are_profiles(it.profiles)),),
        (20, 36),
    ),
    2: Declared(
        "FLOW_LABEL",
        Struct(_HAS, "label" / Int32ub * "upper 12 bits 0"),
        ((252, 503, lambda it: not 16 <= it.label <= MAX_LABEL),),
        (8,),
    ),
    3: Declared(
        "TARIFF",
        Struct(
            _HAS,
            "supplier" / Int32ub * "0 any",
            "source" / ADDRESS * "0.0.0.0 any",
            "currency" / Bytes(3) * "ISO 4217",
            "kind" / Int8ub * "0 LIMIT, 1 QUOTE, 2 OFFER",
            "price" / Int64sb * "millionths of the unit per kWh",
            "tariff_id" / Int32ub,
            "valid_s" / Int32ub,
        ),
        (
            (
                252,
                503,
                lambda it: it.kind > 2 or any(not 65 <= octet <= 90 for octet in it.currency),
            ),
        ),
        (32,),
    ),
    4: Declared(
        "METER",
        Struct(
            _HAS,
            "flags" / Int8ub * "1 estimated, 2 final",
            "zero" / Bytes(3),
            "seconds" / Int32ub,
            "energy_uj" / Int64ub,
            "packets" / Int64ub,
            "octets" / Int64ub,
        ),
        ((252, 503, lambda it: it.flags > 3 or any(it.zero)),),
        (36,),
    ),
}
NUMBERS = {row.name: pair for pair, row in OBJECTS.items()}
NUMBERS |= {row.name: (252, kind) for kind, row in PRIVATE.items()}
KNOWN = {number for number, _ in OBJECTS} | {252}
FORWARDED = {7, 13, 14, 34, 36, 37, 64, 129, 130, 131, 195, 196}
TARIFF_KINDS = ("LIMIT", "QUOTE", "OFFER")


def _is_text(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _are_profiles(profiles: Sequence[bytes]) -> bool:
    try:
        types = [plain.parse("profile", octets)["type"] for octets in profiles]
    except Rejected:
        return False
    allowed = (["REQUEST"], ["REQUEST", "MINIMUM"], ["GRANT"], ["REQUEST", "REFUSE"])
    return types in allowed
