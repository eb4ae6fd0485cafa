"""Trace events as octets: qlog's main schema as JSON-SEQ, one event a record.

A record is the octet 0x1E, one JSON object, a line feed. The first one describes the trace, each
later one is {"time": milliseconds since, "name": "room:past_tense", "data": {..}}.
"""

import json
from collections.abc import Mapping

from powertcp.errors import DecodeError
from powertcp.registry import Flag, Refusal, SegmentType
from powertcp.units import NS_PER_MS, Duration
from powertcp.wire.frames import RawSegment, decode_segment
from powertcp.wire.options import Options

RECORD = b"\x1e"
# of an option or a field: what opens doors or is too long to be read
_SECRET = frozenset({"ticket", "cookie", "payload", "page", "options"})
_FLAGS = tuple(Flag)


def record(value: Mapping[str, object]) -> bytes:
    """Return one JSON-SEQ record."""
    return RECORD + json.dumps(value, separators=(",", ":")).encode() + b"\n"


def opening(version: str, vantage: str, reference_ms: int) -> bytes:
    """Return the first record. vantage: sink, source, ..; reference_ms: Unix time of time 0."""
    return record(
        {
            "qlog_version": "0.3",
            "qlog_format": "JSON-SEQ",
            "title": f"powertcp {version}",
            "trace": {
                "vantage_point": {"type": vantage},
                "common_fields": {"time_format": "relative", "reference_time": reference_ms},
            },
        }
    )


def event(since_ns: Duration, name: str, data: Mapping[str, object]) -> bytes:
    """Return the record of one event, `since_ns` after the reference time."""
    ms, ns = divmod(since_ns, NS_PER_MS)
    body = json.dumps({"name": name, "data": data}, separators=(",", ":"))
    # six decimals of a millisecond, from integers
    return RECORD + f'{{"time":{ms}.{ns:06d},{body[1:]}\n'.encode()


def segment_data(raw: RawSegment) -> dict[str, object]:
    """Return what is traced of a segment: header, numbers, powers, reasons; never a secret."""
    kind, flags, flow, esn, options, payload = raw
    data: dict[str, object] = {
        "type": SegmentType(kind).name if kind in _TYPES else kind,
        "flags": [flag.name for flag in _FLAGS if flags & flag],
        "flow": flow,
        "esn_uj": esn,
        "octets": 20 + len(options) + len(payload),
    }
    if kind == SegmentType.DATA:
        # v and i are summarised: a file of samples is what a capture is for
        return data | {
            "counter": int.from_bytes(payload[:4], "big"),
            "count": int.from_bytes(payload[6:8], "big"),
        }
    try:
        segment = decode_segment(raw)
    except DecodeError as error:
        return data | {"refused": error.code, "offset": error.offset}
    for name in getattr(segment, "__slots__", ()):
        value = getattr(segment, name)
        if name not in _SECRET and name not in data and name != "esn" and isinstance(value, int):
            data[name] = value
    said = getattr(segment, "options", None)
    return data | option_data(said) if isinstance(said, Options) else data


def option_data(options: Options) -> dict[str, object]:
    """Return the options that say something about power."""
    data: dict[str, object] = {}
    if options.contract is not None:
        data["contract"] = options.contract
    if options.profiles:
        data["profiles"] = [f"{one.type.name} {one.format()}" for one in options.profiles]
    if options.sampling is not None:
        data["rate_hz"] = options.sampling.rate_hz
    if options.maintain is not None:
        data["interval_ms"] = options.maintain.interval_ms
        data["misses"] = options.maintain.misses
    if options.reason is not None:
        data |= refusal_data(options.reason)
    if options.ticket is not None:
        data["ticket_octets"] = len(options.ticket)
    return data


def refusal_data(refusal: Refusal) -> dict[str, object]:
    """Return a refusal with its numbers and its sentence."""
    return {
        "code": refusal.code,
        "value": refusal.value,
        "limit": refusal.limit,
        "sentence": refusal.sentence(),
    }


_TYPES = frozenset(int(one) for one in SegmentType)
