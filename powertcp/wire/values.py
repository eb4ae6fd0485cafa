"""What octets say by the schema: JSON values of a layout, its octets from values, and rows.

The values are those of the test vectors and of `powertcp decode --json`; the rows, one for each
field with offset and meaning, those of `powertcp decode -v`. Like the schema it shares no code
with the hand-written codecs.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from powertcp.wire.schema import (
    BLOCK,
    DEFAULT_MSP,
    FLAGS,
    HEADER,
    HEADER_OCTETS,
    MAGIC,
    OPTION_NUMBERS,
    OPTIONS,
    PHASES,
    PROFILE,
    PROFILE_TYPES,
    RECEIPT,
    RECEIPT_FLAGS,
    SEGMENT,
    SKIPPED,
    TYPE_NUMBERS,
    TYPES,
    UNKNOWN,
    WAVEFORMS,
    Layout,
    Option,
    Parsed,
    Rejected,
    apply,
    check_header,
    cut_options,
    fields_of,
    parse_payload,
    parse_receipt,
    parse_segment,
    size_of,
    type_of,
)

Values = dict[str, Any]
Fields = Any  # a construct Container


class Row(NamedTuple):
    """One line of an explanation; depth is the level in the tree of layouts."""

    offset: int
    octets: bytes
    field: str
    value: str
    meaning: str
    depth: int


class Explanation(NamedTuple):
    """The rows up to the first fault, and the fault, None if there is none."""

    rows: list[Row]
    fault: Rejected | None


def _energy_j(raw: Fields) -> int:
    return int(raw.energy.mantissa * 10**raw.energy.exponent)


def _lease_s(raw: Fields) -> int:
    return int((16 + raw.lease.mantissa) * 2**raw.lease.exponent - 16)


def _profile_values(raw: Fields) -> Values:
    scale = 1000 if raw.head.kilo else 1
    return {
        "type": PROFILE_TYPES[raw.head.type],
        "voltage_mv": raw.voltage * scale,
        "current_ma": raw.current * scale,
        "waveform": WAVEFORMS[raw["shape"].waveform],
        "phases": PHASES[raw["shape"].phases],
        "priority": raw["shape"].priority,
        "frequency_chz": raw.frequency,
        "energy_j": _energy_j(raw),
        "lease_s": _lease_s(raw),
        "profile_id": raw.profile_id,
        "tag": raw.tag,
        "giveback": bool(raw.head.giveback),
    }


def _divide(number: int, divisor: int, up: bool) -> int:
    return number // divisor + (1 if up and number % divisor else 0)


def _profile_raw(values: Values) -> Values:
    """Return the canonical fields, rounded where they do not fit. PTCP-1-01, PTCP-1-02."""
    kind = values["type"]
    volts, amps = values["voltage_mv"], values["current_ma"]
    kilo = int(max(volts, amps) >= 2**24)
    if kilo:
        volts = (2 * volts + 1000) // 2000
        amps = _divide(amps, 1000, up=kind in ("REQUEST", "MINIMUM"))
    up = kind not in ("GRANT", "FALLBACK")
    energies = ((e, _divide(values["energy_j"], 10**e, up)) for e in range(8))
    exponent, mantissa = next((pair for pair in energies if pair[1] < 2**13), (7, 2**13 - 1))
    leases = ((e, _divide(values["lease_s"] + 16, 2**e, up)) for e in range(16))
    lease = next((pair for pair in leases if pair[1] < 32), (15, 31))
    head = {
        "version": 1,
        "type": PROFILE_TYPES.index(kind),
        "in_band": 1,
        "kilo": kilo,
        "giveback": int(values["giveback"]),
    }
    shape = {
        "waveform": WAVEFORMS.index(values["waveform"]),
        "phases": PHASES.index(values["phases"]),
        "priority": values["priority"],
    }
    return {
        "head": head,
        "shape": shape,
        "voltage": min(volts, 2**24 - 1),
        "current": min(amps, 2**24 - 1),
        "frequency": values["frequency_chz"],
        "energy": {"exponent": exponent, "mantissa": mantissa},
        "profile_id": values["profile_id"],
        "lease": {"exponent": lease[0], "mantissa": lease[1] - 16},
        "tag": values["tag"],
    }


# --- values: what vectors and `decode --json` hold --------------------------------------------


def _plain(fields: Fields) -> Values:
    """Return fields as JSON values: octets as hex digits, samples as a list."""
    plain: Values = {}
    for name, value in fields.items():
        if isinstance(value, bytes):
            plain[name] = value.hex()
        elif isinstance(value, list):
            plain[name] = list(value)
        elif name not in ("_io", "zero", "n"):
            plain[name] = value
    return plain


def _option_values(option: Option, fields: Fields) -> Values:
    if option.kind not in OPTIONS:
        return {"option": option.kind, **_plain(fields)}
    name = OPTIONS[option.kind][0]
    if name == "PROFILE":
        return {"option": name, **_profile_values(fields)}
    values = {"option": name, **_plain(fields)}
    for text, codec in (("text", "utf-8"), ("via", "ascii"), ("currency", "ascii")):
        if text in fields:  # PTCP-2.3-04
            values[text] = fields[text].decode(codec, "replace")
    return values


def _kind(values: Values) -> int:
    name = values["option"]
    return OPTION_NUMBERS[name] if name in OPTION_NUMBERS else int(name)


def _option_octets(values: Values) -> bytes:
    rest = dict(values)
    kind = _kind(values)
    del rest["option"]
    layout = OPTIONS[kind][1] if kind in OPTIONS else UNKNOWN
    raw = _profile_raw(rest) if kind == 3 else _raw(rest, layout)
    value = layout.struct.build(raw)
    return bytes((kind, len(value) + 2, *value))


def _raw(values: Values, layout: Layout) -> Values:
    """Return values as construct builds them: texts and hex digits as octets."""
    raw: Values = {"zero": 0, **values}
    if layout is BLOCK:
        raw["n"] = len(raw["samples"]) // (2 * raw["pairs"])
    for name, value in values.items():
        if isinstance(value, str):
            raw[name] = value.encode() if name in ("text", "via", "currency") else _hex(value)
    return raw


def _hex(digits: str) -> bytes:
    return bytes.fromhex(digits)


def _flag_names(flags: int) -> list[str]:
    return [name for name, bit in FLAGS.items() if flags & bit]


def _segment_values(parsed: Parsed) -> Values:
    header, row, options, payload = parsed
    if row is SKIPPED:
        return {"type": header.type, "skipped": True}
    return {
        "type": row.name,
        "flags": _flag_names(header.flags & row.flags),
        "flow": header.flow,
        "esn": header.esn,
        "options": [_option_values(option, fields) for option, fields in options],
        "payload": _plain(payload),
    }


def _segment_octets(values: Values) -> bytes:
    kind = TYPE_NUMBERS[values["type"]]
    layout = TYPES[kind].payload
    ordered = sorted(values["options"], key=_kind)
    area = b"".join(_option_octets(option) for option in ordered)
    area += bytes(-len(area) % 4)
    payload = layout.struct.build(_raw(values["payload"], layout))
    header = {
        "magic": MAGIC,
        "version": 1,
        "offset": 5 + len(area) // 4,
        "type": kind,
        "flags": sum(FLAGS[name] for name in values["flags"]),
        "length": len(payload),
        "flow": values["flow"],
        "esn": values["esn"],
    }
    return bytes(SEGMENT.build({**header, "area": area, "octets": payload}))


def _receipt_values(raw: Fields) -> Values:
    values = _plain(raw)
    del values["version"]
    values["flags"] = [name for name, bit in RECEIPT_FLAGS.items() if raw.flags & bit]
    values["clock"] = chr(raw.clock)
    return values


def _receipt_raw(values: Values) -> Values:
    raw = _raw({**values, "version": 1, "clock": ord(values["clock"])}, RECEIPT)
    return {**raw, "flags": sum(RECEIPT_FLAGS[name] for name in values["flags"])}


def parse(layout: str, octets: bytes, msp: int = DEFAULT_MSP) -> Values:
    """Return the values of a `profile`, `block`, `segment` or `receipt`. Raises Rejected."""
    if layout == "segment":
        return _segment_values(parse_segment(octets, msp))
    if layout == "receipt":
        return _receipt_values(parse_receipt(octets))
    if layout == "block":
        if not 16 <= len(octets) <= 65535:
            raise Rejected(502, len(octets), 0, "block")
        return _plain(parse_payload(BLOCK, octets, 0))
    if len(octets) != 16:
        raise Rejected(503, len(octets), 0, "profile")
    raw = PROFILE.struct.parse(octets)
    apply(PROFILE.rules, raw, 0)
    return _profile_values(raw)


def build(layout: str, values: Values) -> bytes:
    """Return the octets of a `profile`, `block`, `segment` or `receipt` with these values."""
    if layout == "segment":
        return _segment_octets(values)
    if layout == "receipt":
        return bytes(RECEIPT.struct.build(_receipt_raw(values)))
    if layout == "block":
        return bytes(BLOCK.struct.build(_raw(values, BLOCK)))
    return bytes(PROFILE.struct.build(_profile_raw(values)))


# --- rows -------------------------------------------------------------------------------------


def _profile_head(it: Fields) -> str:
    head = it.head
    kind = PROFILE_TYPES[head.type] if head.type < len(PROFILE_TYPES) else f"type {head.type}"
    unit = "V/A" if head.kilo else "mV/mA"
    giveback = ", give-back" if head.giveback else ""
    return f"version {head.version}, {kind}, C={head.in_band}, {unit}{giveback}"


def _profile_shape(it: Fields) -> str:
    shape = it["shape"]
    phases = PHASES[shape.phases].lower() + (" phase" if shape.phases == 0 else "")
    return f"{WAVEFORMS[shape.waveform]}, {phases}, priority {shape.priority}"


def _milli(name: str, unit: str) -> Callable[[Fields], str]:
    """Return the formatter of a voltage or current: thousandths unless K is set."""

    def show(it: Fields) -> str:
        value = it[name] * (1000 if it.head.kilo else 1)
        return f"{value // 1000}.{value % 1000:03} {unit}"

    return show


def _flags_text(it: Fields) -> str:
    names = [name for name, bit in FLAGS.items() if it.flags & bit]
    return "+".join(names) if names else "none"


def _type_text(it: Fields) -> str:
    row = TYPES.get(it.type)
    return f"{it.type:#04x} {row.name}" if row else f"{it.type:#04x}"


def _samples_text(it: Fields) -> str:
    many = len(it.samples)
    shown = ", ".join(str(sample) for sample in it.samples[:4])
    return shown + (f" .. {many} numbers" if many > 4 else "")


_PROFILE_TEXTS: Mapping[str, Callable[[Fields], str]] = {
    "head": _profile_head,
    "shape": _profile_shape,
    "voltage": _milli("voltage", "V"),
    "current": _milli("current", "A"),
    "frequency": lambda it: f"{it.frequency / 100:.2f} Hz" if it.frequency < 65535 else "any",
    "energy": lambda it: f"{_energy_j(it)} J",
    "lease": lambda it: f"{_lease_s(it)} s",
    "tag": lambda it: f"{it.tag:#06x}",
}
_TEXTS: Mapping[str, Callable[[Fields], str]] = {
    "magic": lambda it: f"{it.magic:#06x}",
    "offset": lambda it: f"{it.offset} words",
    "type": _type_text,
    "flags": _flags_text,
    "samples": _samples_text,
    "text": lambda it: repr(it.text.decode(errors="replace")),
    "via": lambda it: it.via.decode(errors="replace"),
    "currency": lambda it: it.currency.decode(errors="replace"),
    "esn": lambda it: f"{it.esn:,} uJ",
    "flow": lambda it: f"{it.flow}",
}


def _receipt_flags_text(it: Fields) -> str:
    names = [name for name, bit in RECEIPT_FLAGS.items() if it.flags & bit]
    return "+".join(names) if names else "none"


def _instant(unix_ns: int) -> str:
    """Return a time as people write it; 64 bits of nanoseconds end in the year 2554."""
    seconds, ns = divmod(unix_ns, 10**9)
    date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return f"{date:%Y-%m-%dT%H:%M:%S}.{ns:09}Z"


def _receipt_clock_text(it: Fields) -> str:
    return chr(it.clock) if chr(it.clock).isprintable() else f"{it.clock:#04x}"


_RECEIPT_TEXTS: Mapping[str, Callable[[Fields], str]] = {
    "flags": _receipt_flags_text,
    "clock": _receipt_clock_text,
    "start_uj": lambda it: f"{it.start_uj:,} uJ",
    "end_uj": lambda it: f"{it.end_uj:,} uJ",
    "start_ns": lambda it: _instant(it.start_ns),
    "end_ns": lambda it: _instant(it.end_ns),
}


def _power(it: Fields) -> str:
    """Return the power of a profile: floor(pairs * V * I / 1000) mW."""
    scale = 1000 if it.head.kilo else 1
    pairs = min(it["shape"].phases + 1, 3)
    power_mw = pairs * it.voltage * it.current * scale**2 // 1000
    return f"power {power_mw // 1000}.{power_mw % 1000:03} W"


def _text(layout: Layout, name: str, fields: Fields) -> str:
    """Return the value of a field as people read it."""
    texts = _TEXTS
    if layout is PROFILE or layout is RECEIPT:
        texts = _PROFILE_TEXTS if layout is PROFILE else _RECEIPT_TEXTS
    if name in texts:
        return texts[name](fields)
    value = fields[name]
    return value.hex() if isinstance(value, bytes) else f"{value:,}"


def _add_rows(rows: list[Row], layout: Layout, octets: bytes, offset: int, depth: int) -> None:
    """Append a row for each field of a layout; a cut layout gives none."""
    fields = fields_of(layout, octets, offset)
    at = 0
    for subcon in layout.struct.subcons:
        size = size_of(subcon, len(octets) - at)
        field = octets[at : at + size]
        value = _text(layout, subcon.name, fields)
        meaning = _power(fields) if layout is PROFILE and subcon.name == "current" else subcon.docs
        rows.append(Row(offset + at, field, subcon.name, value, meaning, depth))
        at += size


def _explain_options(rows: list[Row], area: bytes, base: int) -> None:
    """Append the rows of an options area, each option and below it its fields."""
    end = base
    for option in cut_options(area, base):
        name, layout = OPTIONS.get(option.kind, (f"option {option.kind}", UNKNOWN))
        head = area[option.offset - base : option.offset - base + 2]
        known = "" if option.kind in OPTIONS else "not known, skipped"
        text = f"kind {option.kind}, {len(option.value) + 2} octets"
        rows.append(Row(option.offset, head, name, text, known, 1))
        _add_rows(rows, layout, option.value, option.offset + 2, 2)
        apply(layout.rules, fields_of(layout, option.value, 0), option.offset, option.offset)
        end = option.offset + 2 + len(option.value)
    if end < base + len(area):
        rows.append(Row(end, area[end - base :], "padding", "", "END, NOP or zero", 1))


def _explain_segment(rows: list[Row], octets: bytes, msp: int) -> None:
    if len(octets) >= HEADER_OCTETS:
        _add_rows(rows, HEADER, octets[:HEADER_OCTETS], 0, 0)
    header = check_header(octets, msp)
    row = type_of(header)
    start = header.offset * 4
    if row is not SKIPPED:
        _explain_options(rows, octets[HEADER_OCTETS:start], HEADER_OCTETS)
    elif start > HEADER_OCTETS:
        rows.append(Row(HEADER_OCTETS, octets[HEADER_OCTETS:start], "options", "", "skipped", 1))
    if octets[start:]:
        layout = RECEIPT if row.name == "RECEIPT" else row.payload
        _add_rows(rows, layout, octets[start:], start, 1)
        parse_payload(row.payload, octets[start:], start)


DECLARED = {"profile": PROFILE, "block": BLOCK, "receipt": RECEIPT}


def explain(octets: bytes, layout: str = "segment", msp: int = DEFAULT_MSP) -> Explanation:
    """Explain a `segment`, `profile`, `block` or `receipt` by field, up to the first fault."""
    rows: list[Row] = []
    try:
        if layout == "segment":
            _explain_segment(rows, octets, msp)
        else:
            declared = DECLARED[layout]
            if declared.shortest <= len(octets) <= declared.longest:
                _add_rows(rows, declared, octets, 0, 0)
            parse(layout, octets)
    except Rejected as fault:
        return Explanation(rows, fault)
    return Explanation(rows, None)
