"""Trace records: framing, times, what is said of a segment and what is never said."""

import json

import pytest

from powertcp.profile import PowerProfile
from powertcp.registry import Flag, Reason, Refusal
from powertcp.wire.frames import Splitter, credit_segment, data_header, encode_segment
from powertcp.wire.options import Maintain, Options, Sampling
from powertcp.wire.segments import Control, CookieSegment, Segment, Shed, Ticket
from powertcp.wire.trace import event, opening, segment_data

SECRET = b"\xaa" * 32
# the table of named profiles is a file: read once, at import
PROFILE = PowerProfile.parse("12V/1A")


def said(segment: Segment | bytes) -> dict[str, object]:
    octets = segment if isinstance(segment, bytes) else encode_segment(segment)
    [raw] = Splitter().receive(octets)
    return segment_data(raw)


def test_a_record_is_a_separator_one_object_and_a_line_feed() -> None:
    octets = event(12_345_678, "potcp:shed", {"limit_mw": 7})
    assert octets == b'\x1e{"time":12.345678,"name":"potcp:shed","data":{"limit_mw":7}}\n'
    assert list(json.loads(octets[1:])) == ["time", "name", "data"]
    assert b'"time":0.000005,' in event(5, "a:b", {})


def test_the_first_record_names_version_side_and_wall_time() -> None:
    first = json.loads(opening("0.1.0", "sink", 1_700_000_000_000)[1:])
    assert first["qlog_version"] == "0.3"
    assert first["qlog_format"] == "JSON-SEQ"
    assert first["title"] == "powertcp 0.1.0"
    assert first["trace"]["vantage_point"] == {"type": "sink"}
    assert first["trace"]["common_fields"]["reference_time"] == 1_700_000_000_000


def test_header_numbers_and_options_are_said_with_their_units() -> None:
    options = Options(
        contract=3,
        profiles=(PROFILE,),
        sampling=Sampling(1000),
        maintain=Maintain(500, 4),
        reason=Refusal(Reason.BUDGET, 18_000, 9_000),
    )
    data = said(Control(1, Flag.SYN, 5, options))
    assert data["type"] == "CTL"
    assert data["flags"] == ["SYN"]
    assert (data["flow"], data["esn_uj"], data["contract"]) == (1, 5, 3)
    assert data["profiles"] == ["REQUEST 12V/1A"]
    assert (data["rate_hz"], data["interval_ms"], data["misses"]) == (1000, 500, 4)
    assert (data["code"], data["value"], data["limit"]) == (309, 18_000, 9_000)
    shed = said(Shed(1, 0, urgent=False, deadline_ms=1000, restore_s=5))
    assert (shed["deadline_ms"], shed["restore_s"], shed["urgent"]) == (1000, 5, False)
    credit = said(credit_segment(1, 7, 24_000, 12))
    assert (credit["limit_uj"], credit["demand_mw"], credit["esn_uj"]) == (24_000, 12, 7)


@pytest.mark.parametrize(
    "segment",
    [
        Ticket(1, 0, 3600, SECRET),
        CookieSegment(1, 0, SECRET),
        Control(1, Flag.SYN, 0, Options(ticket=SECRET, cookie=SECRET)),
    ],
)
def test_tickets_and_cookies_are_never_said(segment: Segment) -> None:
    line = event(0, "potcp:segment_sent", said(segment)).decode()
    assert SECRET.hex() not in line
    assert "aaaa" not in line
    assert "\\u00aa" not in line


def test_samples_are_counted_not_copied() -> None:
    block = (40).to_bytes(4, "big") + b"\x80\x01" + (2).to_bytes(2, "big") + b"\x07" * 16
    data = said(data_header(1, 9, len(block)) + block)
    assert data["type"] == "DATA"
    assert (data["counter"], data["count"], data["esn_uj"]) == (40, 2, 9)
    assert set(data) == {"type", "flags", "flow", "esn_uj", "octets", "counter", "count"}


def test_what_does_not_decode_and_what_is_unknown_are_still_said() -> None:
    octets = bytearray(encode_segment(Shed(1, 0, urgent=False, deadline_ms=1000)))
    octets[6:8] = (len(octets) - 20 - 1).to_bytes(2, "big")
    data = said(bytes(octets[:-1]))
    assert data["refused"] == 502
    later = bytearray(octets)
    later[4] = 0xE0
    assert said(bytes(later[:-1]))["type"] == 0xE0
