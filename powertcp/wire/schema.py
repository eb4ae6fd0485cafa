"""Every layout of this project, declared in construct: the oracle of the hand-written codecs.

Shares no code with what it checks: numbers, names and rules are written down here a second time.
A layout is a `Struct` (the octets), a table of rules (what to refuse, with which reason code and
value) and the meaning of each field. PoTCP sections 1, 2 and 3.1, and "Receipts".
"""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

from construct import (
    Array,
    BitsInteger,
    BitStruct,
    Bytes,
    GreedyBytes,
    Int8ub,
    Int16ub,
    Int24ub,
    Int32sb,
    Int32ub,
    Int64sb,
    Int64ub,
    SizeofError,
    StreamError,
    Struct,
    this,
)

Values = dict[str, Any]
Fields = Any  # a construct Container

MAGIC = 0x504F
DEFAULT_MSP = 16384
HEADER_OCTETS = 20
MAX_AREA = 512
MAX_OPTIONS = 32
MAX_PROFILES = 16
MAX_TEXT = 128


class Rejected(Exception):
    """Octets that the specification refuses: reason code, value, offset and field."""

    def __init__(self, code: int, value: int, offset: int, field: str) -> None:
        """Keep the four for the vectors."""
        super().__init__(code, value, offset, field)
        self.code = code
        self.value = value
        self.offset = offset
        self.field = field


class Rule(NamedTuple):
    """One refusal: if `wrong`, the octets are refused with `code` and `value`."""

    field: str
    code: int
    wrong: Callable[[Fields], bool]
    value: Callable[[Fields], int]


class Layout(NamedTuple):
    """Octets, rules and the names of values of one layout. shortest, longest: octets in all."""

    struct: Struct
    shortest: int
    longest: int
    rules: tuple[Rule, ...] = ()


# --- section 1 --------------------------------------------------------------------------------

PROFILE_TYPES = ("REQUEST", "OFFER", "GRANT", "REFUSE", "MINIMUM", "FALLBACK")
WAVEFORMS = ("DC", "SINE", "ARBITRARY", "BY_ID")
PHASES = ("ONE", "SPLIT", "DELTA", "WYE")

# PTCP-1-05
PROFILE = Layout(
    Struct(
        "head"
        / BitStruct(
            "version" / BitsInteger(2) * "1",
            "type" / BitsInteger(3) * "what the profile says",
            "in_band" / BitsInteger(1) * "C: sent as 1, ignored",
            "kilo" / BitsInteger(1) * "K: V and A instead of mV and mA",
            "giveback" / BitsInteger(1) * "G: unused reservation may be reclaimed",
        ),
        "shape"
        / BitStruct(
            "waveform" / BitsInteger(2) * "DC, AC sine, as sampled, as the profile id says",
            "phases" / BitsInteger(2) * "one, split, delta, wye",
            "priority" / BitsInteger(4) * "0 unset, 1 critical .. 15 least",
        ),
        "voltage" / Int24ub * "rms if AC; mV or V",
        "current" / Int24ub * "maximum, rms if AC; mA or A",
        "frequency" / Int16ub * "0.01 Hz; 0 = DC, 0xFFFF = any",
        "energy"
        / BitStruct("exponent" / BitsInteger(3), "mantissa" / BitsInteger(13))
        * "DF16: mantissa * 10^exponent J; 0 = open-ended",
        "profile_id" / Int8ub * "row of the profile table; 0 = none",
        "lease"
        / BitStruct("exponent" / BitsInteger(4), "mantissa" / BitsInteger(4))
        * "m4e4: ((16 + mantissa) << exponent) - 16 s; 0 = not stated",
        "tag" / Int16ub * "random in a REQUEST, echoed by answers",
    ),
    16,
    16,
    (Rule("head", 503, lambda it: it.head.version != 1 or it.head.type > 5, lambda it: _head(it)),),
)


def _head(profile: Fields) -> int:
    head = profile.head
    bits = (head.version, 6), (head.type, 3), (head.in_band, 2), (head.kilo, 1), (head.giveback, 0)
    return sum(value << shift for value, shift in bits)


# --- section 2.3 ------------------------------------------------------------------------------


def _bad(field: str, wrong: Callable[[Fields], bool]) -> Rule:
    """Return a rule whose value is the offset of the option, known only to the walk."""
    return Rule(field, 503, wrong, lambda it: 0)


def _fixed(struct: Struct, *rules: Rule) -> Layout:
    return Layout(struct, struct.sizeof(), struct.sizeof(), rules)


def _opaque(name: str, shortest: int, longest: int) -> Layout:
    return Layout(Struct(name / GreedyBytes), shortest, longest)


# PTCP-2.3-05
OPTIONS: Mapping[int, tuple[str, Layout]] = {
    2: (
        "MSP",
        _fixed(
            Struct("msp" / Int16ub * "greatest payload taken, octets"),
            _bad("msp", lambda it: it.msp < 1024),
        ),
    ),
    3: ("PROFILE", PROFILE),
    4: ("CONTRACT", _fixed(Struct("contract" / Int32ub * "contract number"))),
    5: (
        "REASON",
        Layout(
            Struct(
                "code" / Int16ub * "reason code",
                "retry_ms" / Int32ub * "when to try again, ms; 0 = do not",
                "value" / Int64sb * "offending value",
                "limit" / Int64sb * "its limit",
                "text" / GreedyBytes * "UTF-8, for people only",
            ),
            22,
            22 + MAX_TEXT,
        ),
    ),
    6: (
        "SAMPLING",
        _fixed(
            Struct(
                "rate_hz" / Int32ub * "samples per second",
                "nv_per_lsb" / Int32ub * "nV per step, not 0",
                "na_per_lsb" / Int32ub * "nA per step, not 0",
                "pairs" / Int8ub * "voltage and current pairs, 1..3",
                "encoding" / Int8ub * "0",
            ),
            _bad("nv_per_lsb", lambda it: it.nv_per_lsb == 0),
            _bad("na_per_lsb", lambda it: it.na_per_lsb == 0),
            _bad("pairs", lambda it: it.pairs not in (1, 2, 3)),
            _bad("encoding", lambda it: it.encoding != 0),
        ),
    ),
    7: (
        "MAINTAIN",
        _fixed(
            Struct(
                "interval_ms" / Int16ub * "between two probes, ms",
                "misses" / Int8ub * "probes without answer until STALE",
                "zero" / Int8ub * "0",
            ),
            _bad("zero", lambda it: it.zero != 0),
        ),
    ),
    8: (
        "METER",
        _fixed(
            Struct(
                "receipt_s" / Int32ub * "a receipt every s",
                "receipt_uj" / Int64ub * "a receipt every uJ",
                "key" / Bytes(32) * "Ed25519 key of the meter",
            )
        ),
    ),
    9: (
        "TARIFF",
        _fixed(
            Struct(
                "digest" / Bytes(32) * "BLAKE2s-256 of the tariff document",
                "currency" / Bytes(3) * "ISO 4217",
                "zero" / Int8ub * "0",
                "price" / Int64sb * "millionths of the unit per kWh",
            ),
            _bad("currency", lambda it: any(not 65 <= octet <= 90 for octet in it.currency)),
            _bad("zero", lambda it: it.zero != 0),
        ),
    ),
    10: (
        "ENTITY",
        _fixed(
            Struct(
                "uuid" / Bytes(16) * "UUID of the EMAN entity",
                "index" / Int16ub * "inlet or outlet",
            )
        ),
    ),
    11: ("COOKIE", _fixed(Struct("cookie" / Bytes(32) * "to be repeated in the SYN"))),
    12: ("TICKET", _opaque("ticket", 1, 230)),
    128: (
        "SEAL",
        _fixed(Struct("epoch" / Int32ub * "of the keys", "counter" / Int64ub * "in the epoch")),
    ),
    129: (
        "FEED",
        _fixed(
            Struct(
                "feed_id" / Bytes(16) * "of the broadcast",
                "epoch" / Int32ub * "new at each restart",
            )
        ),
    ),
    130: (
        "VIA",
        Layout(
            Struct("via" / GreedyBytes * "host:port or a name"),
            1,
            96,
            (_bad("via", lambda it: any(not 33 <= octet <= 126 for octet in it.via)),),
        ),
    ),
    253: ("EXPERIMENT_1", _opaque("octets", 2, 253)),
    254: ("EXPERIMENT_2", _opaque("octets", 2, 253)),
}
OPTION_NUMBERS = {name: kind for kind, (name, _) in OPTIONS.items()}
UNKNOWN = _opaque("octets", 0, 253)
_TLV = Struct("kind" / Int8ub, "length" / Int8ub, "value" / Bytes(this.length - 2))


class Option(NamedTuple):
    """One option as it was cut: kind, offset in the segment, value."""

    kind: int
    offset: int
    value: bytes


# PTCP-2.3-01, PTCP-2.3-02, PTCP-2.3-03
def cut_options(area: bytes, base: int) -> list[Option]:
    """Return the options of an area, its structure proven right."""
    if len(area) > MAX_AREA:
        raise Rejected(508, len(area), base, "options")
    found: list[Option] = []
    stream = BytesIO(area)
    number = 0
    while (start := stream.tell()) < len(area):
        here = base + start
        if area[start] == 0:
            dirty = [at for at in range(start, len(area)) if area[at]]
            if dirty:
                raise Rejected(503, here, base + dirty[0], "padding")
            break
        number += 1
        if number > MAX_OPTIONS:
            raise Rejected(508, number, here, "options")
        if area[start] == 1:
            stream.seek(1, 1)
            continue
        try:
            tlv = _TLV.parse_stream(stream)
        except StreamError as error:
            raise Rejected(503, here, here, "length") from error
        option = Option(tlv.kind, here, tlv.value)
        _admit_option(option, found)
        found.append(option)
    return found


def _admit_option(option: Option, before: Sequence[Option]) -> None:
    """Refuse an option for its kind, its length, or for being one too many."""
    kind, here, value = option
    if kind not in OPTIONS and 128 <= kind <= 252:
        raise Rejected(505, kind, here, "kind")
    equal = sum(1 for other in before if other.kind == kind)
    if equal and kind != 3:
        raise Rejected(503, here, here, "kind")
    if equal == MAX_PROFILES:
        raise Rejected(508, equal + 1, here, "kind")
    layout = OPTIONS[kind][1] if kind in OPTIONS else UNKNOWN
    if not layout.shortest <= len(value) <= layout.longest:
        raise Rejected(503, here, here, "length")


def _parse_options(area: bytes, base: int) -> list[tuple[Option, Fields]]:
    """Return (option, fields) of each option of an area."""
    cut = cut_options(area, base)
    found = []
    for option in cut:
        layout = OPTIONS[option.kind][1] if option.kind in OPTIONS else UNKNOWN
        fields = layout.struct.parse(option.value)
        apply(layout.rules, fields, option.offset, option.offset)
        found.append((option, fields))
    return found


# --- sections 2.1, 2.2 and 3.1 ----------------------------------------------------------------

FLAGS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECE": 64, "CWR": 128}
_CTL_FLAGS = (0x02, 0x12, 0x10, 0x01, 0x11, 0x04)


class Type(NamedTuple):
    """One segment type: name, flags listed for it, payload layout and rules of its header."""

    name: str
    flags: int
    payload: Layout
    rules: tuple[Rule, ...] = ()


_EMPTY = Layout(Struct(), 0, 0)

# PTCP-3.1-03
BLOCK = Layout(
    Struct(
        "counter" / Int32ub * "index of the first sample, mod 2^32",
        "sync" / Int8ub * "bits 1-0: none, local, global clock; bit 7: simulated",
        "pairs" / Int8ub * "voltage and current pairs",
        "n" / Int16ub * "samples",
        "samples" / Array(this.n * this.pairs * 2, Int32sb) * "v and i, interleaved",
    ),
    16,
    65535,
)

# PTCP-2.2-03
TYPES: Mapping[int, Type] = {
    0x01: Type(
        "CTL",
        0x17,
        _EMPTY,
        (Rule("flags", 506, lambda it: it.flags & 0x17 not in _CTL_FLAGS, lambda it: it.flags),),
    ),
    0x02: Type("DATA", 0x40, BLOCK),
    0x03: Type(
        "CREDIT",
        0x80,
        _fixed(
            Struct(
                "limit_uj" / Int64ub * "deliver up to this ESN",
                "demand_mw" / Int64ub * "power wanted; all ones = the contract's maximum",
            )
        ),
    ),
    0x04: Type("BLOCKED", 0, _fixed(Struct("limit_uj" / Int64ub * "credit ends at this ESN"))),
    0x05: Type("READY", 0, _EMPTY),
    0x06: Type("RENEG", 0, _EMPTY),
    0x07: Type(
        "ANSWER",
        0,
        _fixed(
            Struct("verdict" / Int8ub * "0 accept, 1 reject"),
            Rule("verdict", 506, lambda it: it.verdict > 1, lambda it: int(it.verdict)),
        ),
    ),
    0x08: Type(
        "SHED",
        0x20,
        _fixed(
            Struct(
                "deadline_ms" / Int32ub * "until the ceiling is enforced",
                "restore_s" / Int32ub * "expected restore; 0 = not known",
            )
        ),
    ),
    0x09: Type("TRIP", 0x20, _EMPTY),
    0x0A: Type(
        "MAINTAIN",
        0,
        _fixed(
            Struct(
                "nonce" / Int32ub * "0 in an answer",
                "echo" / Int32ub * "nonce of the probe answered",
                "time_ns" / Int64ub * "Unix time",
            )
        ),
        (Rule("flow", 506, lambda it: it.flow != 0, lambda it: int(it.flow)),),
    ),
    0x0B: Type("RECEIPT", 0, _fixed(Struct("page" / Bytes(380) * "one page"))),
    0x0C: Type(
        "TICKET",
        0,
        Layout(
            Struct(
                "lifetime_s" / Int32ub * "how long it may be used",
                "ticket" / GreedyBytes * "opaque",
            ),
            5,
            234,
        ),
    ),
    0x0D: Type("COOKIE", 0, _fixed(Struct("cookie" / Bytes(32) * "to be repeated in the SYN"))),
    0x0E: Type(
        "ALERT",
        0,
        _fixed(
            Struct("severity" / Int8ub * "1 info, 2 warning, 3 critical"),
            Rule("severity", 506, lambda it: it.severity not in (1, 2, 3), lambda it: it.severity),
        ),
    ),
    0x10: Type("SEALED", 0x52, _opaque("octets", 0, 65535)),
    0x11: Type("FEED", 0x5B, _opaque("octets", 0, 65535)),
}
TYPE_NUMBERS = {row.name: kind for kind, row in TYPES.items()}
SKIPPED = Type("", 0, _opaque("octets", 0, 65535))

# PTCP-2.1-03
HEADER = Layout(
    Struct(
        "magic" / Int16ub * '0x504F "PO"',
        "version" / Int8ub * "1",
        "offset" / Int8ub * "header and options in 32-bit words, 5..133",
        "type" / Int8ub * "segment type",
        "flags" / Int8ub * "TCP's values",
        "length" / Int16ub * "payload, octets",
        "flow" / Int32ub * "0 = the connection",
        "esn" / Int64ub * "energy sequence number, uJ",
    ),
    20,
    20,
    (
        Rule("magic", 500, lambda it: it.magic != MAGIC, lambda it: it.magic),
        Rule("version", 501, lambda it: it.version != 1, lambda it: it.version),
        Rule("offset", 502, lambda it: it.offset < 5, lambda it: it.offset),
        Rule("offset", 508, lambda it: it.offset > 133, lambda it: it.offset),
        Rule("length", 508, lambda it: it.length > it.msp, lambda it: it.length),
    ),
)
SEGMENT = Struct(
    *HEADER.struct.subcons,
    "area" / Bytes(this.offset * 4 - HEADER_OCTETS),
    "octets" / Bytes(this.length),
)


def size_of(subcon: Any, left: int) -> int:  # noqa: ANN401 - construct has no types
    """Return the octets of a field; one without a fixed size takes what is left."""
    try:
        return int(subcon.sizeof())
    except (SizeofError, KeyError, AttributeError):
        return left


def _offset(struct: Struct, field: str) -> int:
    """Return the offset of a field in a layout of fixed size."""
    names = [subcon.name for subcon in struct.subcons]
    return sum(int(subcon.sizeof()) for subcon in struct.subcons[: names.index(field)])


def type_of(header: Fields) -> Type:
    """Return the type of a header that was parsed; PTCP-2.2-01, PTCP-2.1-04, PTCP-2.2-02."""
    kind = header.type
    if kind not in TYPES:
        if kind < 0x80:
            raise Rejected(504, kind, 4, "type")
        return SKIPPED
    row = TYPES[kind]
    flags = [rule for rule in row.rules if rule.field == "flags"]
    later = [rule for rule in row.rules if rule.field != "flags"]
    apply(flags, header, 5)
    wrong = not row.payload.shortest <= header.length <= row.payload.longest
    if wrong or (kind == 2 and header.length % 8):
        raise Rejected(502, header.length, 6, "length")
    apply(later, header, 8)
    return row


def apply(rules: Sequence[Rule], fields: Fields, offset: int, value: int | None = None) -> None:
    """Raise Rejected for the first rule that `fields` break; value overrides the rule's own."""
    for rule in rules:
        if rule.wrong(fields):
            number = int(rule.value(fields)) if value is None else value
            raise Rejected(rule.code, number, offset, rule.field)


def check_header(octets: bytes, msp: int) -> Fields:
    """Return the header of a whole segment."""
    if len(octets) < HEADER_OCTETS:
        raise Rejected(502, len(octets), 0, "header")
    header = HEADER.struct.parse(octets)
    header.msp = msp
    for rule in HEADER.rules:
        apply([rule], header, _offset(HEADER.struct, rule.field))
    if len(octets) != header.offset * 4 + header.length:
        raise Rejected(502, len(octets), HEADER_OCTETS, "segment")
    return header


def fields_of(layout: Layout, octets: bytes, offset: int) -> Fields:
    """Return the fields of a layout. Raises Rejected for a block that is cut."""
    try:
        return layout.struct.parse(octets)
    except StreamError as error:
        raise Rejected(502, len(octets), offset, "n") from error


def parse_payload(layout: Layout, octets: bytes, offset: int) -> Fields:
    """Return the fields of a payload whose length may be right."""
    fields = fields_of(layout, octets, offset)
    if layout is BLOCK and (not fields.samples or len(octets) != 8 + 4 * len(fields.samples)):
        raise Rejected(502, len(octets), offset, "n")
    apply(layout.rules, fields, offset)
    return fields


# --- section "Receipts" -----------------------------------------------------------------------

RECEIPT_FLAGS = {"FEED": 1, "FINAL": 2, "TRUNCATED": 4, "RESUMED": 8, "SIMULATED": 16}


def _no_receipt(field: str, wrong: Callable[[Fields], bool], value: str = "") -> Rule:
    """Return a rule of pages; its value is that of the field, or of the one named by `value`."""
    return Rule(field, 403, wrong, lambda it: int(it[value or field]))


# LEDG-6-07
RECEIPT = _fixed(
    Struct(
        "version" / Int8ub * "1",
        "flags" / Int8ub * "1 feed, 2 final, 4 truncated by TRIP, 8 resumed, 16 simulated",
        "clock" / Int8ub * "ASCII U unsynchronised, I informative, S synchronised, R relative",
        "zero" / Int8ub * "0",
        "transcript" / Bytes(32) * "of the handshake that began the flow, or of the feed",
        "contract" / Int32ub * "in force at the end",
        "page" / Int32ub * "number of the page, from 0",
        "samples" / Int64ub * "in this page",
        "start_uj" / Int64ub * "energy at the start, ESN",
        "end_uj" / Int64ub * "energy at the end, ESN",
        "start_ns" / Int64ub * "time of the start, Unix ns",
        "end_ns" / Int64ub * "time of the end, Unix ns",
        "cost_micro" / Int64sb * "millionths of the currency unit; negative: the source pays",
        "tariff" / Bytes(32) * "BLAKE2s-256 of the tariff document; 0 = none",
        "previous" / Bytes(32) * "digest of the previous page; page 0: 0",
        "digest" / Bytes(32) * "digest of the waveform of this page",
        "source_key" / Bytes(32) * "Ed25519 key of the source's meter",
        "sink_key" / Bytes(32) * "Ed25519 key of the sink's meter",
        "source_signature" / Bytes(64) * "by the source, over octets 0 to 251; feed: 0",
        "sink_signature" / Bytes(64) * "by the sink, over octets 0 to 315; 0 until it signed",
    ),
    _no_receipt("version", lambda it: it.version != 1),
    _no_receipt("flags", lambda it: it.flags > 31),
    _no_receipt("clock", lambda it: it.clock not in b"UISR"),
    _no_receipt("zero", lambda it: it.zero != 0),
    _no_receipt("end_uj", lambda it: it.end_uj < it.start_uj),
    _no_receipt("previous", lambda it: it.page == 0 and any(it.previous), "page"),
    _no_receipt("source_signature", lambda it: it.flags & 1 and any(it.source_signature), "page"),
)


def parse_receipt(octets: bytes) -> Fields:
    """Return the fields of one page. Raises Rejected with the offset of the field that is wrong."""
    if len(octets) != RECEIPT.shortest:
        raise Rejected(502, len(octets), 0, "page")
    fields = RECEIPT.struct.parse(octets)
    for rule in RECEIPT.rules:
        apply([rule], fields, _offset(RECEIPT.struct, rule.field))
    return fields


class Parsed(NamedTuple):
    """A segment as construct gives it: header, options with their fields, payload."""

    header: Fields
    type: Type
    options: list[tuple[Option, Fields]]
    payload: Fields


def parse_segment(octets: bytes, msp: int = DEFAULT_MSP) -> Parsed:
    """Parse one whole segment. Raises Rejected."""
    header = check_header(octets, msp)
    row = type_of(header)
    start = header.offset * 4
    if row is SKIPPED:
        return Parsed(header, row, [], row.payload.struct.parse(octets[start:]))
    options = _parse_options(octets[HEADER_OCTETS:start], HEADER_OCTETS)
    return Parsed(header, row, options, parse_payload(row.payload, octets[start:], start))
