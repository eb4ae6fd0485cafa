"""Somebody on the path alters, repeats, reorders, cuts or reflects: it is found out, always."""

from collections.abc import Callable

import pytest

from powertcp.registry import Flag
from powertcp.vppn.noise import PatternId
from powertcp.vppn.record import Privacy
from powertcp.wire.frames import HEADER
from tests.conversation import SINK, SOURCE, START
from tests.full import size
from tests.tampering import SECONDS_TO_END, Recording, Timed, flipped

CLASSIC = [pattern for pattern in PatternId if pattern.is_classic]
FRAMING = {500, 501, 502, 503, 505, 508}
SEALING = {509, 510}
KINDS = [
    *((pattern, Privacy.POLICE) for pattern in CLASSIC),
    (PatternId.IK_CLASSIC, Privacy.PRIVATE),
]
RECORDED = {kind: Recording(*kind) for kind in KINDS}
each = pytest.mark.parametrize(
    "recording",
    RECORDED.values(),
    ids=[f"{pattern.word}, {privacy}" for pattern, privacy in RECORDED],
)
police = pytest.mark.parametrize(
    "recording",
    [recording for (_, privacy), recording in RECORDED.items() if privacy is Privacy.POLICE],
    ids=[pattern.word for pattern in CLASSIC],
)


def without_ece(heard: list[Timed]) -> list[Timed]:
    return [
        (now, octets[:5] + bytes([octets[5] & ~Flag.ECE]) + octets[6:]) for now, octets in heard
    ]


def refused(
    recording: Recording, side: int, heard: list[Timed], right: int, codes: set[int] | None = None
) -> None:
    """Expect that nothing counts of `heard` but the first `right` segments, and that it ends."""
    result = recording.feed(side, heard, waits=True)
    before = recording.feed(side, heard[:right])
    assert before.codes == []
    assert result.banked_uj == before.banked_uj
    assert (result.is_opened, result.is_ready) == (before.is_opened, before.is_ready)
    assert result.is_over
    assert result.waited_ns < SECONDS_TO_END
    assert len(result.codes) == 1
    assert result.codes[0] in (codes or SEALING)


# ---- what the recordings are --------------------------------------------------------------------


@each
def test_a_recording_repeats_to_the_octet(recording: Recording) -> None:
    """Else all that follows would show nothing."""
    assert recording.is_opened
    assert recording.banked_uj == 900_000
    for side in (SINK, SOURCE):
        result = recording.feed(side, recording.heard[side])
        assert (result.codes, result.is_opened, result.is_ready) == ([], True, True)
        assert result.banked_uj == (recording.banked_uj if side == SINK else 0)
    assert all(len(heard) >= 6 for heard in recording.heard)
    assert Recording(recording.pattern, recording.privacy).heard == recording.heard


# ---- cut ----------------------------------------------------------------------------------------


@each
@pytest.mark.requirement("VPPN-2.2-03", "VPPN-2.2-05", "VPPN-3-01", "VPPN-3-08")
def test_cut_at_every_octet_nothing_of_the_rest_counts_and_each_side_closes(
    recording: Recording,
) -> None:
    for side in (SINK, SOURCE):
        heard = recording.heard[side]
        for number, (now, octets) in enumerate(heard):
            before = recording.feed(side, heard[:number])
            for at in range(0, len(octets), size(1 + len(octets) // 30, 1)):
                result = recording.feed(side, [*heard[:number], (now, octets[:at])])
                assert (result.codes, result.is_over) == ([], False)
                assert result.banked_uj == before.banked_uj
                assert result.is_opened == before.is_opened
            # by T_SYN without a word, or when the epoch is over
            result = recording.feed(side, [*heard[:number], (now, octets[:at])], waits=True)
            assert result.is_over
            assert result.waited_ns < SECONDS_TO_END
            assert result.codes in ([507], [510])


@each
@pytest.mark.requirement("VPPN-2.2-05", "VPPN-3-01")
def test_an_octet_missing_or_too_many(recording: Recording) -> None:
    for side in (SINK, SOURCE):
        heard = recording.heard[side]
        for number, (now, octets) in enumerate(heard):
            for bent in (octets[:-1], octets + b"\0", octets[:4] + octets[5:], b"P" + octets):
                told = [*heard[:number], (now, bent), *heard[number + 1 :]]
                if bent[:-1] == octets and number + 1 == len(heard):
                    continue  # the beginning of a segment that does not come
                right = number + (bent[:-1] == octets)
                refused(recording, side, told, right, FRAMING | SEALING | {208, 507})


# ---- altered ------------------------------------------------------------------------------------


@each
@pytest.mark.requirement("VPPN-2.2-05", "VPPN-3-02", "VPPN-3-06")
def test_every_octet_counts_but_ece(recording: Recording) -> None:
    """Each octet with another bit; every bit of every octet in a long run, and in other tests."""
    count = 0
    for side in (SINK, SOURCE):
        heard = recording.heard[side]
        for number, (now, octets) in enumerate(heard):
            before = recording.feed(side, heard[:number])
            # of padded text a part only
            apart = size(23 + 16 * (len(octets) // 200), 1)
            for bit, bent in flipped(octets, apart):
                if bit == 41:
                    continue
                told = [*heard[:number], (now, bent), *heard[number + 1 :]]
                result = recording.feed(side, told, waits=True)
                assert result.banked_uj == before.banked_uj, (number, bit)
                assert result.is_ready == before.is_ready
                assert result.is_over
                assert len(result.codes) == 1
                # a length may swallow what follows; another type is a clear segment
                allowed = FRAMING | SEALING | {507} if bit >> 3 != 4 else {208, 507}
                assert result.codes[0] in allowed, (number, bit, result.codes)
                count += 1
    assert count > 300


@each
@pytest.mark.requirement("VPPN-2.2-05", "VPPN-3-02")
def test_every_bit_of_every_header_counts_but_ece(recording: Recording) -> None:
    for side in (SINK, SOURCE):
        heard = recording.heard[side]
        whole = recording.feed(side, heard)
        for number in (0, 1, len(heard) - 2):
            now, octets = heard[number]
            head = octets[: 4 * octets[3]]
            passed = []
            for bit, bent in flipped(head):
                told = [*heard[:number], (now, bent + octets[len(head) :]), *heard[number + 1 :]]
                result = recording.feed(side, told)
                is_same = side == SINK or result.said == whole.said
                if not result.codes and is_same and result.banked_uj == whole.banked_uj:
                    passed.append(bit)
            # of the flags in octet 5
            assert passed == [41]


@each
@pytest.mark.requirement("VPPN-3-06")
def test_ece_passes_and_reaches_the_data(recording: Recording) -> None:
    for side in (SINK, SOURCE):
        heard = recording.heard[side]
        marked = [
            (now, octets[:5] + bytes([octets[5] | Flag.ECE]) + octets[6:]) for now, octets in heard
        ]
        result = recording.feed(side, marked)
        assert result.codes == []
        assert result.is_ready
        if side == SINK:
            assert result.banked_uj == recording.banked_uj


# ---- in another order ---------------------------------------------------------------------------


@each
@pytest.mark.requirement("VPPN-3-03")
def test_each_segment_repeated_is_refused(recording: Recording) -> None:
    for side in (SINK, SOURCE):
        heard = recording.heard[side]
        for number in range(len(heard)):
            for later in range(number + 1, len(heard) + 1):
                now = heard[later - 1][0]
                told = [*heard[:later], (now, heard[number][1]), *heard[later:]]
                refused(recording, side, told, later)


@each
@pytest.mark.requirement("VPPN-3-03")
def test_each_segment_left_out_is_found_out(recording: Recording) -> None:
    for side in (SINK, SOURCE):
        heard = recording.heard[side]
        for number in range(len(heard) - 1):
            refused(recording, side, [*heard[:number], *heard[number + 1 :]], number)


@each
@pytest.mark.requirement("VPPN-3-03")
def test_any_two_swapped_are_refused(recording: Recording) -> None:
    count = 0
    for side in (SINK, SOURCE):
        heard = recording.heard[side]
        for first in range(len(heard)):
            for second in range(first + 1, len(heard)):
                told = list(heard)
                told[first], told[second] = (
                    (heard[first][0], heard[second][1]),
                    (heard[second][0], heard[first][1]),
                )
                refused(recording, side, told, first)
                count += 1
    assert count >= 36


@each
@pytest.mark.requirement("VPPN-2.2-05", "VPPN-3-02")
def test_what_a_side_said_is_refused_when_it_comes_back(recording: Recording) -> None:
    for side in (SINK, SOURCE):
        heard, said = recording.heard[side], recording.heard[1 - side]
        for number in range(len(heard)):
            for _, octets in said:
                told = [*heard[:number], (heard[number][0], octets), *heard[number:]]
                # to the responder the first message is what it waits for
                if number == 0 and octets == heard[0][1]:
                    continue
                refused(recording, side, told, number)


@police
@pytest.mark.requirement("VPPN-2.1-04", "VPPN-3-02")
def test_what_was_said_on_another_connection_is_refused(recording: Recording) -> None:
    other = Recording(recording.pattern, recording.privacy, opening_ns=5_000_000_001)
    for side in (SINK, SOURCE):
        heard = recording.heard[side]
        foreign = [octets for _, octets in _elsewhere(recording, side)]
        assert other.heard == recording.heard
        for number in range(1, len(heard)):
            for octets in foreign:
                told = [*heard[:number], (heard[number][0], octets), *heard[number + 1 :]]
                refused(recording, side, told, number)


def _elsewhere(recording: Recording, side: int) -> list[Timed]:
    """Return what a side was told in a conversation of the same two with other entropy."""

    class Elsewhere(Recording):
        seed = 9000

    return Elsewhere(recording.pattern, recording.privacy).heard[side]


# ---- in clear -----------------------------------------------------------------------------------

CLEAR: dict[str, Callable[[], bytes]] = {
    "SYN": lambda: HEADER.pack(0x504F, 1, 5, 1, Flag.SYN, 0, 1, 0),
    "SYN+ACK": lambda: HEADER.pack(0x504F, 1, 5, 1, Flag.SYN | Flag.ACK, 0, 1, 0),
    "RST of the flow": lambda: HEADER.pack(0x504F, 1, 5, 1, Flag.RST, 0, 1, 0),
    "RST of all": lambda: HEADER.pack(0x504F, 1, 5, 1, Flag.RST, 0, 0, 0),
    "FIN": lambda: HEADER.pack(0x504F, 1, 5, 1, Flag.FIN, 0, 1, 0),
    "DATA": lambda: (
        HEADER.pack(0x504F, 1, 5, 2, 0, 16, 1, 0) + bytes([0] * 5 + [1, 0, 1, *bytes(8)])
    ),
    "MAINTAIN": lambda: (
        HEADER.pack(0x504F, 1, 5, 10, 0, 16, 0, 0) + bytes([0, 0, 0, 9, *bytes(12)])
    ),
    "ALERT": lambda: HEADER.pack(0x504F, 1, 5, 14, 0, 1, 0, 0) + b"\3",
    "COOKIE of a flow": lambda: HEADER.pack(0x504F, 1, 5, 13, 0, 32, 1, 0) + bytes(32),
    "unknown, to be skipped": lambda: HEADER.pack(0x504F, 1, 5, 0x90, 0, 4, 0, 0) + bytes(4),
}


@each
@pytest.mark.parametrize("clear", CLEAR)
@pytest.mark.requirement("VPPN-2.2-04")
def test_a_clear_segment_ends_it_at_any_time(recording: Recording, clear: str) -> None:
    octets = CLEAR[clear]()
    for side in (SINK, SOURCE):
        heard = recording.heard[side]
        # a responder that has heard nothing yet is asked by the first segment what it will be
        for number in range(int(side == SOURCE), len(heard)):
            told = [*heard[:number], (heard[number][0], octets), *heard[number:]]
            refused(recording, side, told, number, {208})


@police
@pytest.mark.requirement("VPPN-2.2-02", "VPPN-2.2-04")
def test_a_cookie_that_nobody_gave_is_of_no_use(recording: Recording) -> None:
    cookie = HEADER.pack(0x504F, 1, 5, 13, 0, 32, 0, 0) + bytes(32)
    heard = recording.heard[SINK]
    # before message 2 it repeats message 1, and the responder refuses that, or its answer comes
    result = recording.feed(SINK, [(START, cookie)])
    assert result.codes == []
    message = recording.heard[SOURCE][0][1]
    again = result.said[len(message) :]
    assert result.said[: len(message)] == message
    assert len(again) == len(message) + 32
    assert again[20 + 34 + 14 :] == message[36:]
    assert recording.feed(SOURCE, [(START, again)], waits=True).codes == [509]
    refused(recording, SINK, [(START, cookie), (START, cookie)], 1, {208})
    for number in range(1, len(heard)):
        told = [*heard[:number], (heard[number][0], cookie), *heard[number:]]
        refused(recording, SINK, told, number, {208})
    # flags, flow, ESN, options and length of a COOKIE have one form
    for bit, bent in flipped(cookie[:20]):
        result = recording.feed(SINK, [(START, bent), (START, heard[0][1])], waits=True)
        assert not result.is_opened, bit
        assert result.is_over
