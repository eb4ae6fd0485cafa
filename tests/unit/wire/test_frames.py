from typing import Any

import pytest

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.registry import Refusal
from powertcp.wire import (
    NO_OPTIONS,
    Alert,
    Answer,
    Blocked,
    Control,
    CookieSegment,
    Credit,
    Data,
    FeedSegment,
    MaintainProbe,
    Options,
    Ready,
    Receipt,
    Reneg,
    Sealed,
    Segment,
    Shed,
    Splitter,
    Ticket,
    Trip,
    decode_segment,
    encode_segment,
)
from powertcp.wire.frames import read_credit, whole_segment

WHY = Options(contract=3, reason=Refusal(309, 1, 2))
BLOCK = bytes.fromhex("00000000 80 01 0001 00001388 0007a120")
SEGMENTS: list[Segment] = [
    Control(1, 0x02, 0, Options(msp=1024)),
    Control(0, 0x04),
    Data(1, 250_000, True, BLOCK),
    Data(2, 2**64 - 1, False, BLOCK),
    Credit(1, 5, 2**64 - 1, 18_000, cwr=True),
    Credit(1, 5, 0),
    Blocked(1, 5, 6),
    Ready(1, 5, WHY),
    Reneg(1, 5, WHY),
    Answer(1, 5, accepted=True, options=WHY),
    Answer(1, 5, accepted=False),
    Shed(1, 5, urgent=True, deadline_ms=0, options=WHY),
    Shed(1, 5, urgent=False, deadline_ms=1000, restore_s=30),
    Trip(1, 5, WHY),
    Trip(1, 5, urgent=True),
    MaintainProbe(1, 2, 3),
    Receipt(1, 5, bytes(380), WHY),
    Ticket(1, 5, 3600, b"opaque"),
    CookieSegment(1, 5, bytes(32)),
    Alert(1, 5, 3, WHY),
    Sealed(0, 0x12, 0, NO_OPTIONS, b"noise"),
    FeedSegment(0, 0x48, 9, NO_OPTIONS, b""),
]


def raw(kind: int, flags: int = 0, flow: int = 1, area: bytes = b"", payload: bytes = b"") -> Any:
    return (kind, flags, flow, 0, memoryview(area), memoryview(payload))


def refused(given: Any) -> tuple[int, int]:
    with pytest.raises(DecodeError) as caught:
        decode_segment(given)
    return caught.value.code, caught.value.value


@pytest.mark.requirement("PTCP-2.2-03", "PTCP-2.1-02")
@pytest.mark.parametrize("segment", SEGMENTS, ids=lambda it: type(it).__name__)
def test_every_segment_survives(segment: Segment) -> None:
    splitter = Splitter()
    (found,) = splitter.receive(encode_segment(segment))
    assert decode_segment(found) == segment
    assert splitter.pending == 0


@pytest.mark.requirement("PTCP-2.1-04")
def test_flags_not_listed_are_ignored_and_ctl_combinations_are_not() -> None:
    assert decode_segment(raw(1, 0xEA)) == Control(1, 0x02)
    assert decode_segment(raw(5, 0xFF)) == Ready(1, 0)
    assert refused(raw(1, 0x03)) == (506, 0x03)


@pytest.mark.requirement("PTCP-2.2-01")
def test_unknown_types_below_80_are_refused_and_the_others_skipped() -> None:
    assert refused(raw(0x7F)) == (504, 0x7F)
    assert decode_segment(raw(0x80, payload=b"anything")) is None


@pytest.mark.requirement("PTCP-2.2-02")
@pytest.mark.parametrize(
    ("kind", "octets"),
    [(1, 1), (2, 8), (2, 17), (3, 15), (4, 9), (5, 1), (6, 1), (7, 0), (8, 7), (9, 1), (11, 379),
     (12, 4), (12, 235), (13, 33), (14, 2)],
)  # fmt: skip
def test_a_wrong_payload_length_is_refused(kind: int, octets: int) -> None:
    assert refused(raw(kind, 0x10, payload=bytes(octets))) == (502, octets)


@pytest.mark.requirement("PTCP-2.2-03")
def test_values_outside_their_row_are_refused() -> None:
    assert refused(raw(7, payload=b"\x02")) == (506, 2)
    assert refused(raw(14, payload=b"\x00")) == (506, 0)
    assert refused(raw(10, flow=3, payload=bytes(16))) == (506, 3)


@pytest.mark.requirement("PTCP-2.3-01")
@pytest.mark.parametrize(
    ("kind", "flow", "octets"),
    [(2, 1, 16), (3, 1, 16), (4, 1, 8), (10, 0, 16), (12, 1, 5), (13, 1, 32)],
)
def test_options_nobody_looks_at_are_still_checked(kind: int, flow: int, octets: int) -> None:
    payload = bytes(octets)
    assert refused(raw(kind, 0, flow, b"\x83\x02\x00\x00", payload)) == (505, 131)
    assert decode_segment(raw(kind, 0, flow, b"\x0d\x02\x00\x00", payload)) is not None


@pytest.mark.requirement("PTCP-2.1-03")
@pytest.mark.parametrize(
    ("head", "code", "value"),
    [
        ("474554 20", 500, 0x4745),
        ("504f 02 05", 501, 2),
        ("504f 01 04", 502, 4),
        ("504f 01 86", 508, 134),
        ("504f 01 05 0200 4001", 508, 16385),
    ],
)
def test_a_framing_fault_keeps_what_came_before_and_nothing_after(
    head: str, code: int, value: int
) -> None:
    good = encode_segment(SEGMENTS[0])
    bad = bytes.fromhex(head).ljust(20, b"\0")
    for pieces in ([good + bad], [good, *(bytes((octet,)) for octet in bad)]):
        splitter = Splitter()
        found = [it for piece in pieces for it in splitter.receive(piece)]
        assert len(found) == 1
        assert splitter.error is not None
        assert (splitter.error.code, splitter.error.value) == (code, value)
        assert splitter.receive(good) == []
        assert splitter.pending == 0


@pytest.mark.requirement("PTCP-2.3-03", "PTCP-14-01")
def test_the_splitter_keeps_at_most_one_segment() -> None:
    splitter = Splitter(msp=1024)
    longest = encode_segment(Sealed(0, 0, 0, NO_OPTIONS, bytes(1024)))
    assert splitter.receive(longest[:2]) == []
    assert splitter.receive(longest[2:-1]) == []
    assert splitter.pending == len(longest) - 1
    assert len(splitter.receive(longest[-1:] + longest)) == 2
    assert splitter.pending == 0
    assert splitter.receive(encode_segment(Sealed(0, 0, 0, NO_OPTIONS, bytes(1025)))) == []
    assert splitter.error is not None
    assert splitter.error.code == 508
    cut = encode_segment(Control(1, 2, 0, WHY))
    splitter = Splitter()
    assert splitter.receive(cut[:30]) == []
    assert splitter.pending == 30
    splitter = Splitter()
    plain = encode_segment(Data(1, 0, False, BLOCK))
    assert len(splitter.receive(plain + plain[:-1])) == 1
    assert splitter.pending == len(plain) - 1


@pytest.mark.requirement("PTCP-2.2-03")
def test_own_values_that_do_not_fit_are_a_bug() -> None:
    for segment in (Blocked(1, 0, -1), Credit(2**32, 0, 0), MaintainProbe(2**32, 0, 0)):
        with pytest.raises(LocalProtocolError):
            encode_segment(segment)


@pytest.mark.requirement("PTCP-4-09")
@pytest.mark.parametrize("segment", SEGMENTS, ids=lambda one: type(one).__name__)
def test_a_whole_segment_is_the_octets_that_came(segment: Segment) -> None:
    octets = encode_segment(segment)
    (found,) = Splitter(65535).receive(octets)
    assert whole_segment(found) == octets


def test_a_plain_credit_is_read_at_once_and_any_other_the_long_way() -> None:
    body = bytes(7) + b"\x05" + bytes(7) + b"\x09"
    assert read_credit(raw(3, 0x80, 1, b"", body)) == (5, 9, True)
    assert read_credit(raw(3, 0, 1, b"", body)) == (5, 9, False)
    assert read_credit(raw(3, 0, 1, b"\x01\x01\x00\x00", body)) is None
    assert read_credit(raw(3, 0, 1, b"", body[:-1])) is None


# --- lengths: every payload length of every type, by the table of section 2.2 ---------------------

PAYLOADS: dict[int, tuple[bytes, range]] = {
    1: (b"", range(1)),
    3: (bytes(16), range(16, 17)),
    4: (bytes(8), range(8, 9)),
    5: (b"", range(1)),
    6: (b"", range(1)),
    7: (bytes(1), range(1, 2)),
    8: (bytes(8), range(8, 9)),
    9: (b"", range(1)),
    10: (bytes(16), range(16, 17)),
    11: (bytes(380), range(380, 381)),
    12: (bytes(5), range(5, 235)),
    13: (bytes(32), range(32, 33)),
    14: (b"\x01", range(1, 2)),
}


@pytest.mark.requirement("PTCP-2.2-02", "PTCP-2.2-03")
@pytest.mark.parametrize("kind", PAYLOADS)
def test_every_length_of_a_payload_is_taken_or_refused_by_its_row(kind: int) -> None:
    value, lawful = PAYLOADS[kind]
    for length in range(420):
        payload = (value + bytes(420))[:length]
        segment = raw(kind, 2 if kind == 1 else 0, 0 if kind == 10 else 1, b"", payload)
        if length in lawful:
            assert decode_segment(segment) is not None
        else:
            assert refused(segment) == (502, length)


@pytest.mark.requirement("PTCP-2.1-03", "PTCP-2.3-03", "PTCP-14-01")
def test_the_data_offset_is_taken_from_5_to_133() -> None:
    taken = []
    for words in range(256):
        splitter = Splitter()
        octets = b"PO\x01" + bytes((words, 0x90, 0, 0, 0)) + bytes(12 + 4 * max(0, words - 5))
        found = splitter.receive(octets)
        if splitter.error is None:
            assert len(found) == 1
            taken.append(words)
        else:
            assert splitter.error.code == (502 if words < 5 else 508)
            assert found == []
    assert taken == list(range(5, 134))


@pytest.mark.requirement("PTCP-2.1-03", "PTCP-14-01")
@pytest.mark.parametrize("msp", [1024, 16_384, 65_535])
def test_a_payload_is_taken_up_to_our_msp(msp: int) -> None:
    at = encode_segment(Sealed(0, 0, 0, NO_OPTIONS, bytes(msp)))
    for pieces in ([at], [at[:19], at[19:]], [at[:20], at[20:-1], at[-1:]]):
        splitter = Splitter(msp)
        found = [one for piece in pieces for one in splitter.receive(piece)]
        assert len(found) == 1
        assert splitter.pending == 0
    if msp < 65_535:
        above = encode_segment(Sealed(0, 0, 0, NO_OPTIONS, bytes(msp + 1)))
        for first in (20, 21, len(above)):
            splitter = Splitter(msp)
            assert splitter.receive(above[:first]) == []
            # judged by the header alone, before a single octet of it is kept
            assert splitter.error is not None
            assert (splitter.error.code, splitter.error.value) == (508, msp + 1)
            assert splitter.pending == 0


@pytest.mark.requirement("PTCP-2.2-03")
@pytest.mark.parametrize(
    ("at", "above"),
    [
        (Credit(2**32 - 1, 2**64 - 1, 2**64 - 1), Credit(1, 0, 2**64)),
        (Credit(1, 0, 0, 2**64 - 1), Credit(1, 0, 0, 2**64)),
        (Blocked(1, 2**64 - 1, 2**64 - 1), Blocked(1, 2**64, 0)),
        (MaintainProbe(2**32 - 1, 2**32 - 1, 2**64 - 1), MaintainProbe(0, 0, 2**64)),
        (
            Shed(1, 0, urgent=False, deadline_ms=2**32 - 1, restore_s=2**32 - 1),
            Shed(1, 0, urgent=False, deadline_ms=2**32),
        ),
        (Ticket(1, 0, 2**32 - 1, b"t" * 230), Ticket(1, 0, 0, b"t" * 231)),
        (Ticket(1, 0, 0, b"t"), Ticket(1, 0, 0, b"")),
        (Receipt(1, 0, bytes(380)), Receipt(1, 0, bytes(381))),
        (CookieSegment(1, 0, bytes(32)), CookieSegment(1, 0, bytes(33))),
        (Sealed(0, 0, 0, NO_OPTIONS, bytes(65_535)), Sealed(0, 0, 0, NO_OPTIONS, bytes(65_536))),
        (Alert(1, 0, 3), Alert(1, 0, 4)),
        (Alert(1, 0, 1), Alert(1, 0, 0)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_we_write_ourselves_keeps_its_fields(at: Segment, above: Segment) -> None:
    (found,) = Splitter(65_535).receive(encode_segment(at))
    assert decode_segment(found) == at
    with pytest.raises(LocalProtocolError):
        encode_segment(above)
