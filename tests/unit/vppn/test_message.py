"""Messages of the handshake: one form only, whatever somebody on the path alters."""

import pytest

from powertcp.errors import DecodeError
from powertcp.registry import OptionKind, SegmentType
from powertcp.vppn.certificate import MAX_OCTETS
from powertcp.vppn.message import (
    MESSAGE_1,
    MESSAGE_2,
    MESSAGE_3,
    Message,
    Payload,
    decode_message,
    decode_payload,
    encode_message,
    split_first,
)
from powertcp.vppn.noise import PatternId
from powertcp.wire.frames import (
    RawSegment,
    Splitter,
    credit_segment,
    maintain_segment,
    pack_segment,
)
from powertcp.wire.options import Options, Seal, encode_options
from tests.sealed import raw_of

COOKIE = bytes(range(32))
OCTETS = bytes(range(96))
SYN = bytes.fromhex("504f010501020000 00000001 0000000000000000")
CREDIT = credit_segment(1, 7, 9)


def refused(octets: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_message(raw_of(octets))
    assert caught.value.code == 509


def outcome(raw: RawSegment) -> tuple[Message | None, int]:
    """Return the message, or why there is none."""
    try:
        return decode_message(raw), 0
    except DecodeError as error:
        return None, error.code


# ---- the segment --------------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-2.2-05")
@pytest.mark.parametrize("cookie", [None, COOKIE])
@pytest.mark.parametrize("flags", [MESSAGE_1, MESSAGE_2, MESSAGE_3])
def test_a_message_is_a_sealed_segment_with_its_flags(flags: int, cookie: bytes | None) -> None:
    raw = raw_of(encode_message(flags, 5, OCTETS, cookie))
    assert raw[:4] == (SegmentType.SEALED, flags, 0, 0)
    assert bytes(raw[5]) == OCTETS
    assert decode_message(raw) == (5, cookie, OCTETS)
    assert (MESSAGE_1, MESSAGE_2, MESSAGE_3) == (0x02, 0x12, 0x10)


@pytest.mark.requirement("VPPN-2.2-05")
@pytest.mark.parametrize("cookie", [None, COOKIE])
def test_no_clear_octet_of_it_is_free(cookie: bytes | None) -> None:
    """Type and flags are looked at before; payload and, if it is asked for, cookie after."""
    octets = encode_message(MESSAGE_1, 1, OCTETS, cookie)
    clear = len(octets) - len(OCTETS)
    said = decode_message(raw_of(octets))
    taken = set()
    for bit in range(8 * clear):
        at = bit >> 3
        bent = octets[:at] + bytes([octets[at] ^ 0x80 >> (bit & 7)]) + octets[at + 1 :]
        splitter = Splitter(65535)
        found = splitter.receive(bent)
        if splitter.error is not None or not found or splitter.pending:
            continue
        other, code = outcome(found[0])
        if other is None:
            assert code == 509
        else:
            # an octet that is taken says something else
            assert at in (4, 5) or other != said
            taken.add(at)
    epoch = range(clear - 14, clear - 10) if cookie is None else range(20 + 34 + 2, 20 + 34 + 6)
    assert taken <= {4, 5, *epoch, *(range(22, 54) if cookie else ())}
    assert taken >= set(epoch)


@pytest.mark.requirement("VPPN-2.2-05")
def test_other_options_than_seal_and_cookie_are_refused() -> None:
    for options in (
        Options(),
        Options(cookie=COOKIE),
        Options(seal=Seal(0, 1)),
        Options(seal=Seal(0, 0), msp=1024),
        Options(seal=Seal(0, 0), unknown=((OptionKind.EXPERIMENT_1, b"abcd"),)),
        Options(seal=Seal(0, 0), unknown=((0x7E, b"abcd"),)),
    ):
        refused(pack_segment(SegmentType.SEALED, MESSAGE_1, 0, 0, encode_options(options), OCTETS))
    seal, cookie = encode_options(Options(seal=Seal(0, 0))), encode_options(Options(cookie=COOKIE))
    for area in (
        seal[:14] + cookie[:34],  # in another order
        seal + bytes(4),
        seal[:14] + b"\1\0",
        seal[:14] + b"\0\1",
        b"\1\1" + seal[:14],
        seal[:14] + seal[:14],
    ):
        padded = area.ljust(-(-len(area) // 4) * 4, b"\0")
        refused(pack_segment(SegmentType.SEALED, MESSAGE_1, 0, 0, padded, OCTETS))


@pytest.mark.requirement("VPPN-2.2-05")
def test_flow_and_esn_are_0() -> None:
    area = encode_options(Options(seal=Seal(0, 0)))
    for flow, esn in ((1, 0), (0, 1), (0, (1 << 64) - 1), ((1 << 32) - 1, 0)):
        refused(pack_segment(SegmentType.SEALED, MESSAGE_2, flow, esn, area, OCTETS))


# ---- message 1 ----------------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-2.1-01", "VPPN-2.2-05")
def test_message_1_begins_with_a_pattern_and_a_zero() -> None:
    for pattern in PatternId:
        assert split_first(bytes([pattern, 0]) + OCTETS) == (pattern, OCTETS)
    known = {int(pattern) for pattern in PatternId}
    for octets in (
        b"",
        b"\1",
        *(bytes([number, 0]) + OCTETS for number in range(256) if number not in known),
        *(bytes([1, number]) + OCTETS for number in range(1, 256)),
    ):
        with pytest.raises(DecodeError) as caught:
            split_first(octets)
        assert caught.value.code == 509


# ---- what messages carry ------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-2.2-07")
@pytest.mark.parametrize("certificate", [b"", b"c", bytes(MAX_OCTETS)], ids=len)
@pytest.mark.parametrize("plain", [b"", SYN, SYN + CREDIT], ids=len)
def test_time_certificate_and_whole_segments(certificate: bytes, plain: bytes) -> None:
    said = Payload(1_763_700_000_000_000_000, certificate, plain)
    octets = said.encode()
    assert octets[:10] == said.time_ns.to_bytes(8, "big") + len(certificate).to_bytes(2, "big")
    assert octets[10:] == certificate + plain
    assert decode_payload(octets) == said


@pytest.mark.requirement("VPPN-2.2-07")
@pytest.mark.parametrize("plain", [SYN, CREDIT + maintain_segment(1, 2, 3), b""], ids=len)
def test_every_part_of_what_is_carried_is_needed(plain: bytes) -> None:
    octets = Payload(1, b"certificate", plain).encode()
    whole = {len(octets) - len(plain), len(octets) - 36 * (len(plain) > 36), len(octets)}
    for size in range(len(octets)):
        if size in whole:
            continue
        with pytest.raises(DecodeError) as caught:
            decode_payload(octets[:size])
        assert caught.value.code == 509


@pytest.mark.requirement("VPPN-2.2-07")
@pytest.mark.parametrize(
    "octets",
    [
        Payload(1, bytes(MAX_OCTETS + 1)).encode(),
        Payload(1, b"", bytes(1)).encode(),
        Payload(1, b"", bytes(40)).encode(),
        Payload(1, b"", SYN + bytes(1)).encode(),
        Payload(1, b"", SYN + bytes(20)).encode(),
        Payload(1, b"", b"text").encode(),
        Payload(1, b"c", CREDIT + SYN[:19]).encode(),
        bytes(8) + b"\0\5cert",
        Payload(1, b"", encode_message(MESSAGE_1, 1, OCTETS)).encode(),
        Payload(1, b"", SYN + encode_message(0, 1, OCTETS)).encode(),
    ],
    ids=range(10),
)
def test_anything_else_is_refused(octets: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_payload(octets)
    assert caught.value.code == 509
