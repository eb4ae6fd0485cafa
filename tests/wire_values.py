"""Between the typed values of the hand-written codecs and the JSON values of vectors and schema."""

import json
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from powertcp.ledger import Clock, Flags, Page
from powertcp.profile import Phases, PowerProfile, ProfileType, Waveform
from powertcp.registry import Flag, OptionKind, Refusal, SegmentType
from powertcp.wire import (
    Alert,
    Answer,
    Blocked,
    Control,
    CookieSegment,
    Credit,
    Data,
    Entity,
    Feed,
    FeedSegment,
    Maintain,
    MaintainProbe,
    Meter,
    Options,
    Ready,
    Receipt,
    Reneg,
    Sampling,
    Seal,
    Sealed,
    Segment,
    Shed,
    Tariff,
    Ticket,
    Trip,
)

Values = dict[str, Any]
VECTORS = Path(__file__).resolve().parent.parent / "rfc" / "vectors" / "protocol"


def vectors(bad: bool = False) -> list[tuple[str, Values, bytes]]:
    """Return (name, JSON, octets) of every good or bad vector; read at collection."""
    folder = VECTORS / "bad" if bad else VECTORS
    found = []
    for path in sorted(folder.glob("*.hex")):
        lines = path.read_text(encoding="utf-8").splitlines()
        octets = bytes.fromhex("".join(line.partition(";")[0] for line in lines))
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        found.append((path.stem, about, octets))
    return found


# --- profiles ---------------------------------------------------------------------------------


def profile_values(profile: PowerProfile) -> Values:
    """Return the JSON values of a profile."""
    values = {row.name: getattr(profile, row.name) for row in fields(profile)}
    for name in ("type", "waveform", "phases"):
        values[name] = values[name].name
    return values


def profile_from(values: Values) -> PowerProfile:
    """Return the profile of JSON values."""
    rest = {name: value for name, value in values.items() if name != "option"}
    kind = ProfileType[rest.pop("type")]
    rest["waveform"] = Waveform[rest["waveform"]]
    rest["phases"] = Phases[rest["phases"]]
    return PowerProfile.make(kind, **rest)


# --- pages of receipts ------------------------------------------------------------------------


def page_values(page: Page) -> Values:
    """Return the JSON values of a page."""
    values = {row.name: getattr(page, row.name) for row in fields(page)}
    values = {name: _plain(value) for name, value in values.items()}
    flags = [flag.name for flag in Flags if flag in page.flags]
    return {**values, "flags": flags, "clock": page.clock.value}


def page_from(values: Values) -> Page:
    """Return the page of JSON values."""
    rest = dict(values)
    flags = Flags(sum(Flags[name] for name in rest.pop("flags")))
    clock = Clock(rest.pop("clock"))
    octets = {name: bytes.fromhex(v) for name, v in rest.items() if isinstance(v, str)}
    return Page(flags=flags, clock=clock, **{**rest, **octets})


# --- options ----------------------------------------------------------------------------------

PLAIN: dict[str, type] = {
    "SAMPLING": Sampling,
    "MAINTAIN": Maintain,
    "METER": Meter,
    "TARIFF": Tariff,
    "ENTITY": Entity,
    "SEAL": Seal,
    "FEED": Feed,
}
SINGLE = ("MSP", "CONTRACT", "COOKIE", "TICKET", "VIA")
REASON = ("code", "retry_ms", "value", "limit", "text")


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _kind_name(kind: int) -> str | int:
    return OptionKind(kind).name if kind in list(OptionKind) else kind


def option_values(options: Options) -> list[Values]:
    """Return the JSON values of options, in the order of their kinds."""
    rows: list[tuple[int, Values]] = [
        (OptionKind.PROFILE, {"option": "PROFILE", **profile_values(profile)})
        for profile in options.profiles
    ]
    for name in SINGLE:
        value = getattr(options, name.lower())
        if value is not None:
            rows.append((OptionKind[name], {"option": name, name.lower(): _plain(value)}))
    for name, cls in PLAIN.items():
        value = getattr(options, name.lower())
        if value is not None:
            named = {row.name: _plain(getattr(value, row.name)) for row in fields(cls)}
            rows.append((OptionKind[name], {"option": name, **named}))
    if options.reason is not None:
        named = {name: getattr(options.reason, name) for name in REASON}
        rows.append((OptionKind.REASON, {"option": "REASON", **named}))
    for kind, octets in options.unknown:
        rows.append((kind, {"option": _kind_name(kind), "octets": octets.hex()}))
    return [row for _, row in sorted(rows, key=lambda row: row[0])]


def options_from(rows: list[Values]) -> Options:
    """Return the options of JSON values."""
    made: dict[str, Any] = {}
    profiles, unknown = [], []
    for row in rows:
        name = row["option"]
        rest = {key: value for key, value in row.items() if key != "option"}
        if name == "PROFILE":
            profiles.append(profile_from(rest))
        elif name == "REASON":
            made["reason"] = Refusal(**rest)
        elif name in PLAIN:
            cls: Any = PLAIN[name]
            octets = {row.name for row in fields(cls) if row.type is bytes}
            raw = {k: bytes.fromhex(v) if k in octets else v for k, v in rest.items()}
            made[name.lower()] = cls(**raw)
        elif name in SINGLE:
            (value,) = rest.values()
            hexed = name in ("COOKIE", "TICKET")
            made[name.lower()] = bytes.fromhex(value) if hexed else value
        else:
            kind = OptionKind[name] if isinstance(name, str) else name
            unknown.append((int(kind), bytes.fromhex(rest["octets"])))
    return Options(profiles=tuple(profiles), unknown=tuple(unknown), **made)


# --- segments ---------------------------------------------------------------------------------

BARE: dict[str, Any] = {"READY": Ready, "RENEG": Reneg, "TRIP": Trip}


def flag_names(flags: int) -> list[str]:
    """Return the names of the flags that are set."""
    return [flag.name or "" for flag in Flag if flags & flag]


def _head(kind: str, flags: int, it: Any) -> Values:
    options = getattr(it, "options", Options())
    head = {"type": kind, "flags": flag_names(flags), "flow": getattr(it, "flow", 0)}
    return {**head, "esn": getattr(it, "esn", 0), "options": option_values(options), "payload": {}}


def _block(octets: bytes) -> Values:
    numbers = [int.from_bytes(octets[at : at + 4], "big", signed=True)
               for at in range(8, len(octets), 4)]  # fmt: skip
    counter = int.from_bytes(octets[:4], "big")
    return {"counter": counter, "sync": octets[4], "pairs": octets[5], "samples": numbers}


def _block_octets(values: Values) -> bytes:
    n = len(values["samples"]) // (2 * values["pairs"])
    head = values["counter"].to_bytes(4, "big") + bytes((values["sync"], values["pairs"]))
    body = b"".join(number.to_bytes(4, "big", signed=True) for number in values["samples"])
    return bytes(head + n.to_bytes(2, "big") + body)


def segment_values(it: Segment | None) -> Values | None:  # noqa: C901 - one case per type
    """Return the JSON values of a segment; None for a type that is skipped."""
    match it:
        case None:
            return None
        case Control():
            return _head("CTL", it.flags, it)
        case Data():
            return _head("DATA", 0x40 * it.ece, it) | {"payload": _block(bytes(it.payload))}
        case Credit():
            payload: Values = {"limit_uj": it.limit_uj, "demand_mw": it.demand_mw}
            return _head("CREDIT", 0x80 * it.cwr, it) | {"payload": payload}
        case Blocked():
            return _head("BLOCKED", 0, it) | {"payload": {"limit_uj": it.limit_uj}}
        case Ready():
            return _head("READY", 0, it)
        case Reneg():
            return _head("RENEG", 0, it)
        case Answer():
            return _head("ANSWER", 0, it) | {"payload": {"verdict": int(not it.accepted)}}
        case Shed():
            payload = {"deadline_ms": it.deadline_ms, "restore_s": it.restore_s}
            return _head("SHED", 0x20 * it.urgent, it) | {"payload": payload}
        case Trip():
            return _head("TRIP", 0x20 * it.urgent, it)
        case MaintainProbe():
            names = ("nonce", "echo", "time_ns")
            payload = dict(zip(names, astuple(it), strict=True))
            return _head("MAINTAIN", 0, it) | {"payload": payload}
        case Receipt():
            return _head("RECEIPT", 0, it) | {"payload": {"page": it.page.hex()}}
        case Ticket():
            payload = {"lifetime_s": it.lifetime_s, "ticket": it.ticket.hex()}
            return _head("TICKET", 0, it) | {"payload": payload}
        case CookieSegment():
            return _head("COOKIE", 0, it) | {"payload": {"cookie": it.cookie.hex()}}
        case Alert():
            return _head("ALERT", 0, it) | {"payload": {"severity": it.severity}}
        case Sealed() | FeedSegment():
            kind = "SEALED" if isinstance(it, Sealed) else "FEED"
            return _head(kind, it.flags, it) | {"payload": {"octets": it.payload.hex()}}


def segment_from(values: Values) -> Segment:  # noqa: C901 - one line per type
    """Return the segment of JSON values."""
    kind = SegmentType[values["type"]]
    flags = sum(Flag[name] for name in values["flags"])
    flow, esn, payload = values["flow"], values["esn"], values["payload"]
    options = options_from(values["options"])
    match kind:
        case SegmentType.CTL:
            return Control(flow, flags, esn, options)
        case SegmentType.DATA:
            return Data(flow, esn, bool(flags), _block_octets(payload))
        case SegmentType.CREDIT:
            return Credit(flow, esn, payload["limit_uj"], payload["demand_mw"], bool(flags))
        case SegmentType.BLOCKED:
            return Blocked(flow, esn, payload["limit_uj"])
        case SegmentType.READY:
            return Ready(flow, esn, options)
        case SegmentType.RENEG:
            return Reneg(flow, esn, options)
        case SegmentType.ANSWER:
            return Answer(flow, esn, payload["verdict"] == 0, options)
        case SegmentType.SHED:
            times = payload["deadline_ms"], payload["restore_s"]
            return Shed(flow, esn, bool(flags), *times, options)
        case SegmentType.TRIP:
            return Trip(flow, esn, options, bool(flags))
        case SegmentType.MAINTAIN:
            return MaintainProbe(**payload)
        case SegmentType.RECEIPT:
            return Receipt(flow, esn, bytes.fromhex(payload["page"]), options)
        case SegmentType.TICKET:
            return Ticket(flow, esn, payload["lifetime_s"], bytes.fromhex(payload["ticket"]))
        case SegmentType.COOKIE:
            return CookieSegment(flow, esn, bytes.fromhex(payload["cookie"]))
        case SegmentType.ALERT:
            return Alert(flow, esn, payload["severity"], options)
        case SegmentType.SEALED:
            return Sealed(flow, flags, esn, options, bytes.fromhex(payload["octets"]))
        case SegmentType.FEED:
            return FeedSegment(flow, flags, esn, options, bytes.fromhex(payload["octets"]))


def in_kind_order(values: Values) -> Values:
    """Return segment values with the options in the order of their kinds."""
    rows = sorted(
        values["options"],
        key=lambda row: (
            OptionKind[row["option"]] if isinstance(row["option"], str) else row["option"]
        ),
    )
    return {**values, "options": rows}
