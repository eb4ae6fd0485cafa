"""In-band options of a segment: what they say, and their octets (PoTCP section 2.3).

One dataclass, one decoder and one encoder per option kind; `RULES` holds the lengths.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error
from typing import Any

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.frozen import draft_of
from powertcp.profile import PowerProfile
from powertcp.registry import MAX_TEXT_OCTETS, OptionKind, Reason, Refusal, is_critical
from powertcp.wire.buffer import MAX_AREA, MAX_OPTIONS, Buffer, KindRule, walk

# PTCP-2.3-03: a SYN may ask for 4 pairs and a counter-offer hold 8, so 16 is enough
MAX_PROFILES = 16
MIN_MSP = 1024
MAX_TICKET = 230
MAX_VIA = 96

_MSP = Struct(">H")
_CONTRACT = Struct(">I")
_REASON = Struct(">HIqq")
_SAMPLING = Struct(">IIIBB")
_MAINTAIN = Struct(">HBB")
_METER = Struct(">IQ32s")
_TARIFF = Struct(">32s3sBq")
_ENTITY = Struct(">16sH")
_SEAL = Struct(">IQ")
_FEED = Struct(">16sI")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How samples are coded.

    rate_hz: samples per second. nv_per_lsb, na_per_lsb: one step of a sample, nV and nA.
    pairs: voltage and current pairs per sample, 1..3. encoding: 0.
    """

    rate_hz: int
    nv_per_lsb: int = 1_000_000
    na_per_lsb: int = 1_000
    pairs: int = 1
    encoding: int = 0


@dataclass(frozen=True, slots=True)
class Maintain:
    """How often the maintain-power signature is due: interval, and misses until STALE."""

    interval_ms: int = 1000
    misses: int = 3


@dataclass(frozen=True, slots=True)
class Meter:
    """When receipts are due (0 = not by this measure) and the meter's Ed25519 key, 32 octets."""

    receipt_s: int
    receipt_uj: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Tariff:
    """What energy costs.

    digest: BLAKE2s-256 of the tariff document. currency: ISO 4217, three capital letters.
    price: millionths of the currency unit per kWh, may be negative.
    """

    digest: bytes
    currency: str
    price: int


@dataclass(frozen=True, slots=True)
class Entity:
    """The EMAN entity at this end: UUID, 16 octets, and the index of its inlet or outlet."""

    uuid: bytes
    index: int


@dataclass(frozen=True, slots=True)
class Seal:
    """Epoch and counter of a sealed segment."""

    epoch: int
    counter: int


@dataclass(frozen=True, slots=True)
class Feed:
    """A broadcast feed, 16 octets, and its epoch, new at each restart."""

    feed_id: bytes
    epoch: int


@dataclass(frozen=True)
class Options:
    """The options of one segment; None or empty = absent.

    msp: greatest payload the sender takes, octets. profiles: in the order of the segment.
    contract: contract number. via: `host:port` or a name behind a gateway.
    unknown: (kind, value) of elective kinds which this version does not know, and experiments.
    No slots on purpose: what is absent costs nothing to build, its default is the class's own.
    """

    msp: int | None = None
    profiles: tuple[PowerProfile, ...] = ()
    contract: int | None = None
    reason: Refusal | None = None
    sampling: Sampling | None = None
    maintain: Maintain | None = None
    meter: Meter | None = None
    tariff: Tariff | None = None
    entity: Entity | None = None
    cookie: bytes | None = None
    ticket: bytes | None = None
    seal: Seal | None = None
    feed: Feed | None = None
    via: str | None = None
    unknown: tuple[tuple[int, bytes], ...] = ()


NO_OPTIONS = Options()

_PROFILE = int(OptionKind.PROFILE)
# PTCP-2.3-05
_LENGTHS: Mapping[OptionKind, tuple[int, int, int]] = {
    OptionKind.MSP: (4, 4, 1),
    OptionKind.PROFILE: (18, 18, MAX_PROFILES),
    OptionKind.CONTRACT: (6, 6, 1),
    OptionKind.REASON: (24, 24 + MAX_TEXT_OCTETS, 1),
    OptionKind.SAMPLING: (16, 16, 1),
    OptionKind.MAINTAIN: (6, 6, 1),
    OptionKind.METER: (46, 46, 1),
    OptionKind.TARIFF: (46, 46, 1),
    OptionKind.ENTITY: (20, 20, 1),
    OptionKind.COOKIE: (34, 34, 1),
    OptionKind.TICKET: (3, 2 + MAX_TICKET, 1),
    OptionKind.SEAL: (14, 14, 1),
    OptionKind.FEED: (22, 22, 1),
    OptionKind.VIA: (3, 2 + MAX_VIA, 1),
    OptionKind.EXPERIMENT_1: (4, 255, 1),
    OptionKind.EXPERIMENT_2: (4, 255, 1),
}


def _rule(kind: int) -> KindRule:
    """Return the rule of one kind, known or not."""
    # PTCP-2.3-01
    if kind not in _LENGTHS:
        return KindRule(2, 255, known=False, critical=is_critical(kind))
    shortest, longest, times = _LENGTHS[OptionKind(kind)]
    return KindRule(shortest, longest, times, critical=is_critical(kind))


RULES = tuple(_rule(kind) for kind in range(256))


def _bad(at: int, field: str) -> DecodeError:
    """Return the error of an option whose value is outside its row. PTCP-2.3-05."""
    return DecodeError(at, field, Reason.BAD_OPTION, at)


def _check_msp(value: bytes, at: int) -> None:
    if value < b"\x04\x00":
        raise _bad(at, "msp")


def _check_profile(value: bytes, at: int) -> None:
    if not 0x40 <= value[0] < 0x70:
        raise _bad(at, "profile version and type")


def _check_sampling(value: bytes, at: int) -> None:
    if not 1 <= value[12] <= 3 or value[13]:
        raise _bad(at, "sampling pairs and encoding")
    if b"\0\0\0\0" in (value[4:8], value[8:12]):
        raise _bad(at, "sampling scale")


def _check_maintain(value: bytes, at: int) -> None:
    if value[3]:
        raise _bad(at, "maintain zero")


def _check_tariff(value: bytes, at: int) -> None:
    currency = value[32:35]
    if value[35] or not (currency.isalpha() and currency.isupper()):
        raise _bad(at, "tariff currency and zero")


def _check_via(value: bytes, at: int) -> None:
    if not all(0x21 <= octet <= 0x7E for octet in value):
        raise _bad(at, "via")


# the values that a length alone does not prove right
_CHECKS: Mapping[int, Callable[[bytes, int], None]] = {
    OptionKind.MSP: _check_msp,
    OptionKind.PROFILE: _check_profile,
    OptionKind.SAMPLING: _check_sampling,
    OptionKind.MAINTAIN: _check_maintain,
    OptionKind.TARIFF: _check_tariff,
    OptionKind.VIA: _check_via,
}


def _reason(value: bytes) -> Refusal:
    code, retry_ms, number, limit = _REASON.unpack_from(value)
    # PTCP-2.3-04
    return Refusal(code, number, limit, retry_ms, value[22:].decode(errors="replace"))


def _maintain(value: bytes) -> Maintain:
    interval_ms, misses, _ = _MAINTAIN.unpack(value)
    return Maintain(interval_ms, misses)


def _tariff(value: bytes) -> Tariff:
    digest, currency, _, price = _TARIFF.unpack(value)
    return Tariff(digest, currency.decode("ascii"), price)


# kind: (field of Options, decoder of a value that was checked)
_DECODERS: Mapping[int, tuple[str, Callable[[bytes], object]]] = {
    OptionKind.MSP: ("msp", lambda value: _MSP.unpack(value)[0]),
    OptionKind.CONTRACT: ("contract", lambda value: _CONTRACT.unpack(value)[0]),
    OptionKind.REASON: ("reason", _reason),
    OptionKind.SAMPLING: ("sampling", lambda value: Sampling(*_SAMPLING.unpack(value))),
    OptionKind.MAINTAIN: ("maintain", _maintain),
    OptionKind.METER: ("meter", lambda value: Meter(*_METER.unpack(value))),
    OptionKind.TARIFF: ("tariff", _tariff),
    OptionKind.ENTITY: ("entity", lambda value: Entity(*_ENTITY.unpack(value))),
    OptionKind.COOKIE: ("cookie", bytes),
    OptionKind.TICKET: ("ticket", bytes),
    OptionKind.SEAL: ("seal", lambda value: Seal(*_SEAL.unpack(value))),
    OptionKind.FEED: ("feed", lambda value: Feed(*_FEED.unpack(value))),
    OptionKind.VIA: ("via", lambda value: value.decode("ascii")),
}


_CHECK_OF = {int(kind): check for kind, check in _CHECKS.items()}
_DECODER_OF = {int(kind): row for kind, row in _DECODERS.items()}


def _walk_checked(area: Buffer, base: int) -> list[tuple[int, int, bytes]]:
    """Return (kind, offset, value) of the options of `area`, each proven right."""
    found = walk(area, base, RULES)
    for kind, at, value in found:
        check = _CHECK_OF.get(kind)
        if check is not None:
            check(value, at)
    return found


def walk_options(area: Buffer, base: int = 20) -> None:
    """Make every check of `decode_options` and build nothing; raises as that does."""
    if area:
        _walk_checked(area, base)


def decode_options(area: Buffer, base: int = 20) -> Options:
    """Decode the options area of a segment; values are copied.

    base: offset of the area in the segment, for errors.
    Raises DecodeError: 503 (value = offset of the option), 505 (value = kind), 508 (value = number
    of options). First the structure of the whole area, then the values, both in order.
    """
    if not area:
        return NO_OPTIONS
    fields = _read_common(bytes(area)) if len(area) <= MAX_AREA else None
    return _options(_read_any(area, base) if fields is None else fields)


def _options(fields: dict[str, object]) -> Options:
    """Return the options that have just `fields`."""
    options = Options.__new__(Options)
    object.__setattr__(options, "__dict__", fields)
    return options


def _read_common(octets: bytes) -> dict[str, object] | None:
    """Read an area of whole and right options of `_COMMON` kinds, all but PROFILE once.

    None for any other area: the long way finds out what is the matter, in the order of section 2.3.
    """
    fields: dict[str, object] = {}
    profiles: list[object] = []
    size, at = len(octets), 0
    while at < size:
        kind = octets[at]
        row = _COMMON.get(kind)
        if row is None:
            # END, if only zeros follow it
            if octets.count(0, at) == size - at:
                break
            return None
        length, name, read = row
        end = at + length
        if end > size or octets[at + 1] != length or name in fields:
            return None
        value = read(octets, at + 2)
        if value is None:
            return None
        if kind == _PROFILE:
            profiles.append(value)
        else:
            fields[name] = value
        at = end
    if profiles:
        if len(profiles) > MAX_PROFILES:
            return None
        fields["profiles"] = tuple(profiles)
    return fields


def _read_msp(octets: bytes, at: int) -> int | None:
    msp: int = _unpack_msp(octets, at)[0]
    return msp if msp >= MIN_MSP else None


def _read_profile(octets: bytes, at: int) -> PowerProfile | None:
    return PowerProfile.from_wire(octets, at) if 0x40 <= octets[at] < 0x70 else None


def _read_contract(octets: bytes, at: int) -> int:
    number: int = _unpack_contract(octets, at)[0]
    return number


def _read_sampling(octets: bytes, at: int) -> Sampling | None:
    draft = _SamplingDraft()
    draft.rate_hz, draft.nv_per_lsb, draft.na_per_lsb, draft.pairs, draft.encoding = (
        _unpack_sampling(octets, at)
    )
    if not 1 <= draft.pairs <= 3 or draft.encoding or not draft.nv_per_lsb * draft.na_per_lsb:
        return None
    draft.__class__ = Sampling
    sampling: Sampling = draft
    return sampling


def _read_maintain(octets: bytes, at: int) -> Maintain | None:
    draft = _MaintainDraft()
    draft.interval_ms, draft.misses, zero = _unpack_maintain(octets, at)
    draft.__class__ = Maintain
    maintain: Maintain = draft
    return None if zero else maintain


_unpack_msp, _unpack_contract = _MSP.unpack_from, _CONTRACT.unpack_from
_unpack_sampling, _unpack_maintain = _SAMPLING.unpack_from, _MAINTAIN.unpack_from
_SamplingDraft, _MaintainDraft = draft_of(Sampling), draft_of(Maintain)
# kind: (length octet, field of Options, reader that returns None for a value that is not right)
_COMMON: Mapping[int, tuple[int, str, Callable[[bytes, int], object]]] = {
    2: (4, "msp", _read_msp),
    3: (18, "profile", _read_profile),
    4: (6, "contract", _read_contract),
    6: (16, "sampling", _read_sampling),
    7: (6, "maintain", _read_maintain),
}


def _read_any(area: Buffer, base: int) -> dict[str, object]:
    """Read an area of any options: what `_read_common` must agree with."""
    profiles: list[PowerProfile] = []
    unknown: list[tuple[int, bytes]] = []
    fields: dict[str, object] = {}
    for kind, _, value in _walk_checked(area, base):
        if kind == _PROFILE:
            profiles.append(PowerProfile.from_wire(value))
        elif (row := _DECODER_OF.get(kind)) is not None:
            fields[row[0]] = row[1](value)
        else:  # PTCP-2.3-01
            unknown.append((kind, value))
    if profiles:
        fields["profiles"] = tuple(profiles)
    if unknown:
        fields["unknown"] = tuple(unknown)
    return fields


def shorten_text(text: str) -> bytes:
    """Return UTF-8 of `text`, shortened to 128 octets at a character. PTCP-2.3-03."""
    octets = text.encode(errors="replace")
    if len(octets) <= MAX_TEXT_OCTETS:
        return octets
    return octets[:MAX_TEXT_OCTETS].decode(errors="ignore").encode()


def _saturated(value: int) -> int:
    """Return the nearest i64: an ESN that a peer claims has 64 unsigned bits."""
    return max(-(2**63), min(value, 2**63 - 1))


def _encode_reason(reason: Refusal) -> bytes:
    numbers = _saturated(reason.value), _saturated(reason.limit)
    head = _REASON.pack(reason.code, reason.retry_ms, *numbers)
    return head + shorten_text(reason.text)


def _encode_tariff(tariff: Tariff) -> bytes:
    return _TARIFF.pack(tariff.digest, tariff.currency.encode("ascii"), 0, tariff.price)


def _encode_sampling(sampling: Sampling) -> bytes:
    return _SAMPLING.pack(
        sampling.rate_hz,
        sampling.nv_per_lsb,
        sampling.na_per_lsb,
        sampling.pairs,
        sampling.encoding,
    )


# field of Options: (kind, encoder of its value), in the order of the kinds
_ENCODERS: Mapping[str, tuple[int, Callable[[Any], bytes]]] = {
    "msp": (OptionKind.MSP, _MSP.pack),
    "contract": (OptionKind.CONTRACT, _CONTRACT.pack),
    "reason": (OptionKind.REASON, _encode_reason),
    "sampling": (OptionKind.SAMPLING, _encode_sampling),
    "maintain": (OptionKind.MAINTAIN, lambda it: _MAINTAIN.pack(it.interval_ms, it.misses, 0)),
    "meter": (OptionKind.METER, lambda it: _METER.pack(it.receipt_s, it.receipt_uj, it.key)),
    "tariff": (OptionKind.TARIFF, _encode_tariff),
    "entity": (OptionKind.ENTITY, lambda it: _ENTITY.pack(it.uuid, it.index)),
    "cookie": (OptionKind.COOKIE, bytes),
    "ticket": (OptionKind.TICKET, bytes),
    "seal": (OptionKind.SEAL, lambda it: _SEAL.pack(it.epoch, it.counter)),
    "feed": (OptionKind.FEED, lambda it: _FEED.pack(it.feed_id, it.epoch)),
    "via": (OptionKind.VIA, lambda it: it.encode("ascii")),
}
_PROFILE_HEAD = bytes((OptionKind.PROFILE, 18))
_SAMPLING_HEAD = bytes((OptionKind.SAMPLING, 16))
_COMMON_FIELDS = frozenset({"msp", "profiles", "contract", "sampling", "maintain"})
_PADDING = (b"", bytes(3), bytes(2), bytes(1))
_pack_msp, _pack_contract = Struct(">BBH").pack, Struct(">BBI").pack
_pack_maintain = Struct(">BBHBB").pack


def encode_options(options: Options) -> bytes:
    """Return the options area: in the order of the kinds, zero-padded to a multiple of 4.

    PROFILEs keep their order; a REASON text over 128 octets is shortened.
    Raises LocalProtocolError when a value does not fit its field or the area its caps.
    """
    if options is NO_OPTIONS:
        return b""
    try:
        area = _write_common(vars(options))
    except struct_error as error:
        raise LocalProtocolError(f"an option does not fit its field: {error}") from error
    return _write_any(options) if area is None else area


def _write_common(given: Mapping[str, Any]) -> bytes | None:
    """Return the area of options of `_COMMON` kinds; None when there are others, or too many."""
    profiles: tuple[PowerProfile, ...] = given.get("profiles", ())
    for name, value in given.items():
        if value is not None and name not in _COMMON_FIELDS and value != ():
            return None
    pieces = []
    msp, contract = given.get("msp"), given.get("contract")
    sampling, maintain = given.get("sampling"), given.get("maintain")
    if msp is not None:
        pieces.append(_pack_msp(2, 4, msp))
    for profile in profiles:
        pieces += (_PROFILE_HEAD, profile.to_wire())
    if contract is not None:
        pieces.append(_pack_contract(4, 6, contract))
    if sampling is not None:
        pieces += (_SAMPLING_HEAD, _encode_sampling(sampling))
    if maintain is not None:
        pieces.append(_pack_maintain(7, 6, maintain.interval_ms, maintain.misses, 0))
    area = b"".join(pieces)
    if len(profiles) > MAX_PROFILES or len(area) > MAX_AREA:
        return None
    return area + _PADDING[len(area) & 3] if len(area) & 3 else area


def _write_any(options: Options) -> bytes:
    """Return the area of any options: what `_write_common` must agree with."""
    rows: list[tuple[int, bytes]] = []
    try:
        for name, value in vars(options).items():
            if name in _ENCODERS and value is not None:
                kind, encode = _ENCODERS[name]
                octets = encode(value)
                rows.append((kind, bytes((kind, len(octets) + 2)) + octets))
        rows += [(3, _PROFILE_HEAD + profile.to_wire()) for profile in options.profiles]
        rows += [
            (kind, bytes((kind, len(octets) + 2)) + octets) for kind, octets in options.unknown
        ]
    except (struct_error, ValueError, AttributeError, TypeError) as error:
        raise LocalProtocolError(f"an option does not fit its field: {error}") from error
    rows.sort(key=_kind_of)
    area = b"".join([row[1] for row in rows])
    area += bytes(-len(area) % 4)
    if len(area) > MAX_AREA or len(rows) > MAX_OPTIONS or len(options.profiles) > MAX_PROFILES:
        raise LocalProtocolError(
            f"{len(rows)} options of {len(area)} octets,"
            f" limits {MAX_OPTIONS} options, {MAX_PROFILES} profiles, {MAX_AREA} octets"
        )
    return area


def _kind_of(row: tuple[int, bytes]) -> int:
    return row[0]
