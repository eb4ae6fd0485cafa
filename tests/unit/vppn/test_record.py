"""Sealed segments: what is within, what is in clear, and that nothing else is opened."""

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.profile import ProfileType
from powertcp.registry import Flag, SegmentType
from powertcp.units import NS_PER_S
from powertcp.vppn.noise import COUNTER_LIMIT, Cipher
from powertcp.vppn.record import (
    FLOWS_MAX,
    MAX_PLAIN,
    OTHER_MODE,
    OVERHEAD_OCTETS,
    PAD_OCTETS,
    PRIVATE_ESN,
    SHOW_NS,
    Batcher,
    Opener,
    Privacy,
    Sealer,
    check_inner,
    data_ends,
    inner_segments,
    read_seal,
)
from powertcp.wire.frames import (
    HEADER,
    RawSegment,
    Splitter,
    credit_segment,
    encode_segment,
    maintain_segment,
    pack_segment,
)
from powertcp.wire.options import Options, Seal, decode_options, encode_options
from powertcp.wire.segments import Control, Data, Ready, Trip
from tests.conversation import START, profile
from tests.sealed import raw_of

KEY = bytes(range(32))
GRANT = profile("12V/1A", ProfileType.GRANT)
BLOCK = bytes([0, 0, 0, 0, 0, 1, 0, 1]) + bytes(8)
CREDIT = credit_segment(1, 7, 9)
DATA = encode_segment(Data(1, 5, False, memoryview(BLOCK)))
MARKED = encode_segment(Data(1, 5, True, memoryview(BLOCK)))
TRIP = encode_segment(Trip(3, 0, options=Options()))
POLICE, PRIVATE = Privacy.POLICE, Privacy.PRIVATE


def ready(flow: int) -> bytes:
    return encode_segment(Ready(flow, 0, Options(contract=1, profiles=(GRANT,))))


def opened(octets: bytes, counter: int = 0, privacy: Privacy = POLICE) -> bytes:
    """Open one sealed segment by a fresh opener that has come to `counter`."""
    opener = Opener(0, KEY)
    for _ in range(counter):
        blind = Sealer(0, KEY)
        for _ in range(opener.segments):
            blind.seal(b"", 0, 0)
        opener.open(raw_of(blind.seal(b"", 0, 0)), opener.segments)
    raw = raw_of(octets)
    return check_inner(opener.open(raw, read_seal(raw).counter), raw, privacy)


def sealed(plain: bytes, flow: int = 1, esn: int = 7) -> bytes:
    return Sealer(0, KEY).seal(plain, flow, esn)


def code_of(octets: bytes, privacy: Privacy = POLICE) -> int:
    """Return why a sealed segment is not taken, 0 if it is."""
    splitter = Splitter(65535)
    found = splitter.receive(octets)
    if splitter.error is not None:
        return splitter.error.code
    if not found or splitter.pending:
        return 502
    try:
        for number, raw in enumerate(found):
            opener = Opener(0, KEY)
            seal = read_seal(raw)
            if raw[0] != SegmentType.SEALED or raw[1] & ~Flag.ECE or seal.epoch or number:
                return 509
            check_inner(opener.open(raw, seal.counter), raw, privacy)
    except DecodeError as error:
        return error.code
    return 0


def flipped(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number of the bit, and the octets with it turned over."""
    for bit in range(8 * len(octets)):
        at, mask = bit >> 3, 0x80 >> (bit & 7)
        yield bit, octets[:at] + bytes([octets[at] ^ mask]) + octets[at + 1 :]


# ---- the form -----------------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-3-01", "VPPN-3-04")
def test_a_sealed_segment_costs_52_octets() -> None:
    octets = sealed(CREDIT)
    assert len(octets) == len(CREDIT) + 52 == len(CREDIT) + OVERHEAD_OCTETS
    raw = raw_of(octets)
    assert raw[:4] == (SegmentType.SEALED, 0, 1, 7)
    assert bytes(raw[4]) == encode_options(Options(seal=Seal(0, 0)))
    assert opened(octets) == CREDIT


@pytest.mark.requirement("VPPN-3-02")
def test_the_associated_data_is_every_octet_before_the_ciphertext() -> None:
    for octets in (sealed(CREDIT), Sealer(0, KEY).seal(CREDIT, 1, 7, GRANT)):
        at = len(octets) - len(CREDIT) - 16
        assert Cipher("ChaChaPoly", KEY).unseal(octets[at:], octets[:at]) == CREDIT


@pytest.mark.requirement("VPPN-3-03")
def test_the_nonce_is_the_counter_of_the_seal_and_begins_with_0() -> None:
    sealer, opener = Sealer(3, KEY), Opener(3, KEY)
    for counter in range(4):
        octets = sealer.seal(CREDIT, 1, 7)
        raw = raw_of(octets)
        assert read_seal(raw) == Seal(3, counter)
        at = len(octets) - len(CREDIT) - 16
        assert Cipher("ChaChaPoly", KEY, counter).unseal(octets[at:], octets[:at]) == CREDIT
        assert opener.open(raw, counter) == CREDIT
    assert (sealer.segments, opener.segments) == (4, 4)
    assert sealer.octets == opener.octets == 4 * len(CREDIT)


@pytest.mark.requirement("VPPN-3-03")
def test_the_last_counter_is_never_used() -> None:
    cipher = Cipher("ChaChaPoly", KEY, COUNTER_LIMIT - 1)
    cipher.seal(b"the last text")
    with pytest.raises(LocalProtocolError, match="never used"):
        cipher.seal(b"one more")
    assert COUNTER_LIMIT == 2**64 - 1 == cipher.counter


@pytest.mark.requirement("VPPN-3-03")
def test_any_other_counter_is_refused() -> None:
    sealer = Sealer(0, KEY)
    octets = [sealer.seal(CREDIT, 1, 7) for _ in range(3)]
    for order in ((1,), (2,), (0, 0), (0, 2), (0, 1, 0), (0, 1, 1)):
        opener = Opener(0, KEY)
        *right, wrong = order
        for number in right:
            opener.open(raw_of(octets[number]), number)
        with pytest.raises(DecodeError) as caught:
            opener.open(raw_of(octets[wrong]), wrong)
        assert caught.value.code == 509
        # somebody who lies about the counter
        opener = Opener(0, KEY)
        if wrong:
            with pytest.raises(DecodeError):
                opener.open(raw_of(octets[wrong]), 0)


@pytest.mark.requirement("VPPN-3-03")
def test_a_counter_that_is_not_the_nonce_is_refused() -> None:
    """By somebody who holds the key: everything else is right."""
    for counter, code in ((0, 0), (1, 509), ((1 << 64) - 1, 509)):
        head = HEADER.pack(0x504F, 1, 9, SegmentType.SEALED, 0, len(CREDIT) + 16, 1, 7)
        head += encode_options(Options(seal=Seal(0, counter)))
        assert code_of(head + Cipher("ChaChaPoly", KEY).seal(CREDIT, head)) == code


@pytest.mark.requirement("VPPN-3-02", "VPPN-3-03", "VPPN-3-04")
@pytest.mark.parametrize("shows", [False, True])
def test_every_bit_of_a_sealed_segment_counts_but_ece(*, shows: bool) -> None:
    octets = Sealer(0, KEY).seal(DATA, 1, 5, GRANT if shows else None)
    assert code_of(octets) == 0
    passed = [bit for bit, bent in flipped(octets) if code_of(bent) == 0]
    # of the flags in octet 5, 0x40
    assert passed == [41]
    codes = {code_of(bent) for bit, bent in flipped(octets) if bit != 41}
    assert codes <= {500, 501, 502, 503, 508, 509}


@pytest.mark.requirement("VPPN-3-01", "VPPN-3-02")
def test_no_part_of_a_sealed_segment_is_enough() -> None:
    octets = sealed(DATA, 1, 5)
    for size in range(len(octets)):
        assert code_of(octets[:size]), size
        at = octets[:6] + (size & 0xFFFF).to_bytes(2, "big") + octets[8:]
        assert code_of(at[: 36 + size]) or size == len(DATA) + 16
    for key in (bytes(32), KEY[::-1]):
        with pytest.raises(DecodeError) as caught:
            Opener(0, key).open(raw_of(octets), 0)
        assert caught.value.code == 509


@pytest.mark.requirement("VPPN-3-03")
def test_a_segment_without_seal_or_with_broken_options_is_no_sealed_one() -> None:
    for area in (
        b"",
        encode_options(Options(cookie=bytes(32))),
        bytes([64, 14, 0, 0]),
        encode_options(Options(seal=Seal(0, 0)))[:12],
    ):
        raw = raw_of(pack_segment(SegmentType.SEALED, 0, 1, 7, area, bytes(40)))
        with pytest.raises(DecodeError) as caught:
            read_seal(raw)
        assert caught.value.code == 509


# ---- what is within -----------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-3-01")
def test_whole_segments_and_zeros_are_taken() -> None:
    plain = CREDIT + DATA
    for zeros in (0, 1, 19, 20, 21, 1000):
        assert opened(sealed(plain + bytes(zeros))) == plain
    starts = [(start, end) for start, end, *_ in inner_segments(plain + bytes(30))]
    assert starts == [(0, len(CREDIT)), (len(CREDIT), len(plain))]


@pytest.mark.requirement("VPPN-3-01")
@pytest.mark.parametrize(
    "plain",
    {
        "nothing": b"",
        "zeros alone": bytes(40),
        "half a header": CREDIT[:10],
        "a header": CREDIT[:20],
        "less than its payload": CREDIT[:-1],
        "then half a header": CREDIT + CREDIT[:19],
        "then less than its payload": CREDIT + CREDIT[:-1],
        "zeros, then a one": CREDIT + bytes(30) + b"\1",
        "one zero, then a one": CREDIT + b"\0\1",
        "a segment after zeros": CREDIT + bytes(4) + CREDIT,
        "text": b"GET / HTTP/1.1\r\n\r\n" * 2,
        "another version": CREDIT[:2] + b"\2" + CREDIT[3:],
        "a data offset of 4": CREDIT[:3] + b"\4" + CREDIT[4:],
        "a data offset of 134": CREDIT[:3] + b"\x86" + CREDIT[4:] + bytes(600),
        "a sealed segment": sealed(CREDIT),
        "a sealed segment behind": CREDIT + sealed(CREDIT),
        "a handshake": pack_segment(
            SegmentType.SEALED, Flag.SYN, 0, 0, encode_options(Options(seal=Seal(1, 0))), bytes(98)
        ),
    }.items(),
    ids=lambda pair: pair[0],
)
@pytest.mark.parametrize("privacy", Privacy)
def test_anything_else_is_refused(plain: tuple[str, bytes], privacy: Privacy) -> None:
    flow, esn = (1, 7) if privacy is POLICE else (0, PRIVATE_ESN)
    if plain[0] == "a handshake":
        flow, esn = 0, 0 if privacy is POLICE else esn
    assert code_of(sealed(plain[1], flow, esn), privacy) == 509


@pytest.mark.requirement("VPPN-3-04")
def test_police_mode_holds_one_flow_whose_flow_and_esn_are_outside() -> None:
    other = credit_segment(3, 7, 9)
    for plain, flow, esn in (
        (CREDIT, 3, 7),
        (CREDIT, 0, 7),
        (CREDIT, 1, 8),
        (CREDIT, 1, PRIVATE_ESN),
        (CREDIT, 0, PRIVATE_ESN),
        (CREDIT + other, 1, 7),
        (CREDIT + maintain_segment(1, 0, 0), 1, 7),
    ):
        assert code_of(sealed(plain, flow, esn)) == 509
    # the ESN of those behind is their own
    assert code_of(sealed(CREDIT + DATA)) == 0


@pytest.mark.requirement("VPPN-3-05")
def test_private_mode_says_flow_0_and_an_esn_of_ones() -> None:
    mixed = CREDIT + TRIP + maintain_segment(1, 0, 0)
    assert opened(sealed(mixed, 0, PRIVATE_ESN), privacy=PRIVATE) == mixed
    for flow, esn in ((1, PRIVATE_ESN), (0, PRIVATE_ESN - 1), (0, 0), (1, 7)):
        assert code_of(sealed(CREDIT, flow, esn), PRIVATE) == 509


@pytest.mark.requirement("VPPN-3-04", "VPPN-3-05")
@pytest.mark.parametrize(
    ("privacy", "flow", "esn", "field"),
    [
        (POLICE, 0, PRIVATE_ESN, OTHER_MODE),
        (PRIVATE, 1, 7, OTHER_MODE),
        # of neither mode
        (PRIVATE, 1, 8, "flow identifier"),
        (PRIVATE, 1, PRIVATE_ESN, "flow identifier"),
        (PRIVATE, 0, 7, "flow identifier"),
        (POLICE, 1, PRIVATE_ESN, "flow identifier"),
        (POLICE, 2, 7, "flow identifier"),
    ],
)
def test_the_other_mode_is_told_from_a_fault(
    privacy: Privacy, flow: int, esn: int, field: str
) -> None:
    with pytest.raises(DecodeError) as caught:
        opened(sealed(CREDIT, flow, esn), privacy=privacy)
    assert (caught.value.code, caught.value.field) == (509, field)


@pytest.mark.requirement("VPPN-3-02", "VPPN-3-06")
@pytest.mark.parametrize("privacy", Privacy)
def test_ece_outside_comes_out_on_every_data_and_on_nothing_else(privacy: Privacy) -> None:
    plain = CREDIT + DATA + DATA
    flow, esn = (1, 7) if privacy is POLICE else (0, PRIVATE_ESN)
    octets = bytearray(sealed(plain + bytes(7), flow, esn))
    assert opened(bytes(octets), privacy=privacy) == plain
    octets[5] |= Flag.ECE
    assert opened(bytes(octets), privacy=privacy) == CREDIT + MARKED + MARKED
    for flag in (Flag.SYN, Flag.ACK, Flag.FIN, Flag.CWR, Flag.URG, Flag.PSH, Flag.RST):
        octets[5] = int(flag)
        assert code_of(bytes(octets), privacy) == 509
        with pytest.raises(DecodeError):
            opened(bytes(octets), privacy=privacy)


@pytest.mark.requirement("VPPN-3-06")
def test_ece_that_the_sender_set_stays() -> None:
    assert opened(sealed(MARKED, 1, 5)) == MARKED


# ---- batches ------------------------------------------------------------------------------------


def batches(
    plain: bytes, privacy: Privacy = POLICE, limit: int = 16368
) -> list[tuple[RawSegment, bytes]]:
    """Return the sealed segments of `plain`, and what each of them holds, padding included."""
    sealer, opener = Sealer(0, KEY), Opener(0, KEY)
    found = []
    for number, octets in enumerate(Batcher(privacy).seal(plain, limit, sealer, START)):
        raw = raw_of(octets)
        text = opener.open(raw, number)
        assert check_inner(text, raw, privacy) == text.rstrip(b"\0") or text.endswith(b"\0")
        found.append((raw, text))
    return found


@pytest.mark.requirement("VPPN-3-04", "VPPN-3-09")
def test_police_batches_are_cut_where_the_flow_changes() -> None:
    other, probe = credit_segment(3, 4, 9), maintain_segment(1, 0, 0)
    found = batches(CREDIT + DATA + other + other + CREDIT + probe + probe)
    assert [text for _, text in found] == [CREDIT + DATA, other + other, CREDIT, probe + probe]
    assert [raw[2:4] for raw, _ in found] == [(1, 7), (3, 4), (1, 7), (0, 0)]
    assert batches(b"") == []


@pytest.mark.requirement("VPPN-3-05", "VPPN-3-09")
def test_private_batches_mix_flows_and_are_padded() -> None:
    plain = CREDIT + credit_segment(3, 4, 9) + maintain_segment(1, 0, 0)
    ((raw, text),) = batches(plain, PRIVATE)
    assert raw[2:4] == (0, PRIVATE_ESN)
    assert text == plain.ljust(1024, b"\0")
    assert PAD_OCTETS == 1024
    for count in (1, 28, 29, 56, 57, 400):
        found = batches(CREDIT * count, PRIVATE)
        assert b"".join(text.rstrip(b"\0") for _, text in found)
        assert all(len(text) % 1024 == 0 or len(text) == 16368 for _, text in found)
        assert len(found) == -(-count * len(CREDIT) // 16368)


@pytest.mark.requirement("VPPN-3-05", "VPPN-3-07")
def test_private_padding_ends_at_what_the_peer_takes() -> None:
    ((_, text),) = batches(CREDIT, PRIVATE, 1008)
    assert text == CREDIT.ljust(1008, b"\0")
    found = batches(CREDIT * 60, PRIVATE, 1030)
    assert [len(text) for _, text in found] == [1024, 1024, 1024]
    # 28.6 of 36 octets would fit into 1030, 28 into 1024
    assert [text.count(b"PO") for _, text in found] == [28, 28, 4]


@pytest.mark.requirement("VPPN-3-07", "VPPN-3-09")
@pytest.mark.parametrize("privacy", Privacy)
def test_batches_fill_the_msp_and_never_exceed_it(privacy: Privacy) -> None:
    limit = 1024 - 16
    found = batches(CREDIT * 100, privacy, limit)
    assert [len(raw[5]) <= 1024 for raw, _ in found] == [True] * 4
    # a CREDIT ends with ones
    assert b"".join(text.rstrip(b"\0") for _, text in found) == CREDIT * 100
    assert len(found) == -(-100 // (limit // len(CREDIT)))


@pytest.mark.requirement("VPPN-3-07")
@pytest.mark.parametrize("privacy", Privacy)
@pytest.mark.parametrize("length", [1008, 1009, 1024 + 20, MAX_PLAIN])
def test_a_segment_too_long_to_share_a_seal_has_one_of_its_own(
    privacy: Privacy, length: int
) -> None:
    # of a provider in clear, who fills the MSP without the seal of whoever relays it
    full = encode_segment(Data(1, 5, False, memoryview(bytes(length - 20))))
    texts = [text for _, text in batches(full, privacy, 1008)]
    assert texts == [full]
    found = batches(CREDIT + full + full + CREDIT, privacy, 1008)
    assert [text.rstrip(b"\0") for _, text in found] == [
        each.rstrip(b"\0") for each in (CREDIT, full, full, CREDIT)
    ]


@pytest.mark.requirement("VPPN-3-07")
@pytest.mark.parametrize("privacy", Privacy)
def test_a_segment_that_fits_no_seal_is_ours_to_answer_for(privacy: Privacy) -> None:
    assert MAX_PLAIN == 65_535 - 16
    above = encode_segment(Data(1, 5, False, memoryview(bytes(MAX_PLAIN + 1 - 20))))
    with pytest.raises(LocalProtocolError, match="65,520 octets, 65,519 fit"):
        batches(above, privacy, 1008)
    sealer = Sealer(0, KEY)
    with pytest.raises(LocalProtocolError):
        Batcher(privacy).seal(CREDIT + above, 1008, sealer, START)


# ---- what a firewall is shown -------------------------------------------------------------------


class Shown:
    """A side that supplies, and what of its sealed segments shows a PROFILE."""

    def __init__(self, privacy: Privacy = POLICE) -> None:
        self.batcher, self.sealer = Batcher(privacy), Sealer(0, KEY)

    def __call__(self, plain: bytes, now: int) -> list[bool]:
        octets = self.batcher.seal(plain, 16368, self.sealer, now)
        options = [decode_options(raw_of(each)[4]) for each in octets]
        assert all(one.profiles in ((), (GRANT,)) for one in options)
        return [bool(one.profiles) for one in options]


@pytest.mark.requirement("VPPN-3-04")
def test_the_granted_profile_is_shown_with_ready_and_each_5_s() -> None:
    shows = Shown()
    assert shows(CREDIT, START) == [False]
    assert shows(ready(1), START) == [True]
    assert shows(DATA, START + 1) == [False]
    assert shows(DATA, START + SHOW_NS - 1) == [False]
    assert shows(DATA, START + SHOW_NS) == [True]
    assert shows(DATA * 3, START + SHOW_NS + 1) == [False]
    assert SHOW_NS == 5 * NS_PER_S
    # another READY, other terms
    assert shows(ready(1) + DATA, START + SHOW_NS + 2) == [True]
    # each flow has its own
    assert shows(ready(3) + DATA, START + SHOW_NS + 3) == [True, False]
    for flag in (Flag.FIN, Flag.RST, Flag.FIN | Flag.ACK):
        shows(ready(1), START)
        shows(encode_segment(Control(1, flag)), START)
        assert shows(DATA, START + 100 * SHOW_NS) == [False]


@pytest.mark.requirement("VPPN-3-05")
def test_private_mode_shows_no_profile() -> None:
    shows = Shown(PRIVATE)
    for at in range(4):
        assert shows(ready(1) + DATA, START + at * SHOW_NS) == [False]


@pytest.mark.requirement("VPPN-3-04")
def test_the_live_flows_are_shown_however_many_there_were_before() -> None:
    """Flows that the peer resets are never heard of again: their profiles must not stay for ever."""
    shows = Shown()
    for flow in range(1, 8 * FLOWS_MAX, 2):
        assert shows(ready(flow), START + flow) == [True]
    top = 8 * FLOWS_MAX - 1
    late = encode_segment(Data(top, 5, False, memoryview(BLOCK)))
    assert shows(late, START + top + SHOW_NS) == [True]


def test_headers_in_this_file_are_those_of_the_protocol() -> None:
    assert HEADER.unpack_from(CREDIT)[6:] == (1, 7)
    assert HEADER.unpack_from(DATA)[4] == 0
    assert HEADER.unpack_from(MARKED)[4] == Flag.ECE


LONG = encode_segment(Data(1, 9, False, memoryview(BLOCK * 3)))
OTHER = encode_segment(Data(2, 9, False, memoryview(BLOCK)))
LABELLED = pack_segment(SegmentType.DATA, 0, 1, 0, bytes(4), BLOCK)


def one_by_one(plain: bytes, limit: int) -> list[int]:
    """Return what `data_ends` promises for flow 1, as `inner_segments` sees it."""
    ends, begin, stop = [], 0, 0
    for start, end, kind, flow, _ in inner_segments(plain):
        if kind != SegmentType.DATA or flow != 1 or plain[start + 3] != 5:
            return []
        if end - begin > limit and start > begin:
            ends.append(start)
            begin = start
        stop = end
    return [*ends, stop] if stop == len(plain) > 0 else []


MANY = st.lists(st.sampled_from([DATA, DATA, DATA, LONG, MARKED]), max_size=12)
ODD = st.sampled_from([b"", b"", b"", CREDIT, OTHER, LABELLED, bytes(7), bytes(40)])


@given(before=MANY, odd=ODD, after=MANY, limit=st.integers(30, 400))
@example(before=[DATA, DATA], odd=b"", after=[LONG], limit=72)
@example(before=[DATA], odd=b"", after=[], limit=35)
def test_bulk_is_cut_where_segments_one_by_one_are(
    before: list[bytes], odd: bytes, after: list[bytes], limit: int
) -> None:
    plain = b"".join([*before, odd, *(after if odd.strip(b"\0") else ())])
    assert data_ends(plain, 1, limit) == one_by_one(plain, limit)
    assert not data_ends(plain, 3, limit)
    for short in range(1, min(len(plain), 20)):
        assert not data_ends(plain[:-short], 1, limit) or not any(plain[-short:])


@pytest.mark.requirement("VPPN-3-01", "VPPN-3-04")
def test_bulk_that_is_not_what_the_header_says_is_refused() -> None:
    octets = Sealer(0, KEY).seal(DATA + LONG + DATA, 1, 5)
    assert opened(octets) == DATA + LONG + DATA
    for plain, flow, esn in (
        (DATA + DATA, 1, 6),
        (DATA + DATA, 2, 5),
        (DATA + OTHER, 1, 5),
        (DATA + DATA[:-1], 1, 5),
        (DATA + DATA + b"\0\1", 1, 5),
    ):
        with pytest.raises(DecodeError) as caught:
            opened(Sealer(0, KEY).seal(plain, flow, esn))
        assert caught.value.code == 509
