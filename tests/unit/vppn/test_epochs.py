"""Epochs of a channel: each direction only rises, and each epoch has its end."""

from dataclasses import replace

import pytest

from powertcp.errors import BrokenInvariant, DecodeError, LocalProtocolError
from powertcp.units import NS_PER_S
from powertcp.vppn.epochs import EPOCH_MAX, Channel, EpochLimits, next_epoch
from powertcp.vppn.record import Ends, Opener, Privacy, Sealer
from powertcp.wire.frames import credit_segment
from tests.conversation import START
from tests.sealed import raw_of

CREDIT = credit_segment(1, 7, 9)
LIMITS = EpochLimits()
SMALL = replace(LIMITS, end_segments=4, end_octets=10_000)
KEYS = [bytes([number]) * 32 for number in range(20)]


class Both:
    """Both ends of a channel; epochs are agreed by hand."""

    def __init__(self, limits: EpochLimits = LIMITS) -> None:
        self.first = Channel(Privacy.POLICE, limits)
        self.second = Channel(Privacy.POLICE, limits)
        self.agree(0)

    def agree(self, number: int, now: int = START) -> None:
        self.agree_first(number, now)
        self.agree_second(number, now)

    def agree_first(self, number: int, now: int = START) -> None:
        """The initiator has sent its last message."""
        self.first.install(number, KEYS[number], KEYS[number + 10], now, sends=True)

    def agree_second(self, number: int, now: int = START) -> None:
        self.second.install(number, KEYS[number + 10], KEYS[number], now, sends=False)

    def forward(self, now: int = START) -> bytes:
        (octets,) = self.first.seal(CREDIT, 1000, now)
        return octets

    def back(self, now: int = START) -> bytes:
        (octets,) = self.second.seal(CREDIT, 1000, now)
        return octets


def epoch_of(octets: bytes) -> int:
    return int.from_bytes(octets[22:26], "big")


def refused(channel: Channel, octets: bytes, code: int, now: int = START) -> None:
    with pytest.raises(DecodeError) as caught:
        channel.open(raw_of(octets), now)
    assert caught.value.code == code


# ---- limits -------------------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-4-01", "VPPN-4-04", "VPPN-4-05")
def test_the_limits_are_those_of_the_draft() -> None:
    assert (LIMITS.rekey_ns, LIMITS.spread_ns) == (120 * NS_PER_S, 333_000_000)
    assert (LIMITS.rekey_segments, LIMITS.rekey_octets) == (2**20, 2**36)
    assert LIMITS.end_ns == 180 * NS_PER_S
    assert (LIMITS.end_segments, LIMITS.end_octets) == (2**21, 2**37) == Ends()
    assert (LIMITS.attempt_ns, LIMITS.gap_ns) == (5 * NS_PER_S, NS_PER_S)


@pytest.mark.requirement("VPPN-4-04")
def test_an_epoch_of_180_s_neither_seals_nor_opens() -> None:
    ends, late = Both(), START + LIMITS.end_ns
    first, second = ends.forward(), ends.forward()
    assert ends.second.open(raw_of(first), late - 1) == CREDIT
    refused(ends.second, second, 510, late)
    for call in (lambda: ends.second.check_age(late), lambda: ends.second.seal(CREDIT, 1000, late)):
        with pytest.raises(DecodeError) as caught:
            call()
        assert caught.value.code == 510


@pytest.mark.requirement("VPPN-4-04")
def test_a_direction_carries_so_many_segments_and_no_more() -> None:
    ends = Both(SMALL)
    octets = [ends.forward() for _ in range(4)]
    with pytest.raises(DecodeError) as caught:
        ends.first.seal(CREDIT, 1000, START)
    assert (caught.value.code, caught.value.value, caught.value.limit) == (510, 4, 4)
    for each in octets:
        assert ends.second.open(raw_of(each), START) == CREDIT
    # a peer without limits of its own
    fifth = Sealer(0, KEYS[0])
    for _ in range(4):
        fifth.seal(CREDIT, 1, 7)
    refused(ends.second, fifth.seal(CREDIT, 1, 7), 510)
    # the other direction counts by itself
    assert ends.first.open(raw_of(ends.back()), START) == CREDIT


@pytest.mark.requirement("VPPN-4-04")
def test_no_batch_goes_past_the_end_of_its_epoch() -> None:
    ends = Both(SMALL)
    plain = CREDIT * 28 * 5
    with pytest.raises(DecodeError) as caught:
        ends.first.seal(plain, 1008, START)
    assert caught.value.code == 510
    assert len(Both(SMALL).first.seal(CREDIT * 28 * 4, 1008, START)) == 4


@pytest.mark.requirement("VPPN-4-04")
def test_a_direction_carries_so_many_octets_and_no_more() -> None:
    sealer, opener = Sealer(0, KEYS[0], Ends(octets=100)), Opener(0, KEYS[0], Ends(octets=100))
    for counter in range(3):
        assert opener.open(raw_of(sealer.seal(CREDIT, 1, 7)), counter) == CREDIT
    assert (sealer.octets, opener.octets) == (108, 108)
    with pytest.raises(DecodeError) as caught:
        sealer.seal(CREDIT, 1, 7)
    assert (caught.value.code, caught.value.value, caught.value.limit) == (510, 108, 100)
    peer = Sealer(0, KEYS[0])
    for _ in range(3):
        peer.seal(CREDIT, 1, 7)
    with pytest.raises(DecodeError) as caught:
        opener.open(raw_of(peer.seal(CREDIT, 1, 7)), 3)
    assert caught.value.code == 510


@pytest.mark.requirement("VPPN-4-01")
@pytest.mark.parametrize("limits", [
    replace(LIMITS, rekey_segments=3),
    replace(LIMITS, rekey_octets=3 * len(CREDIT)),
])  # fmt: skip
def test_an_epoch_is_worn_by_what_one_direction_carried(limits: EpochLimits) -> None:
    for is_sent in (True, False):
        ends = Both(limits)
        for number in range(3):
            assert not ends.first.is_worn
            if is_sent:
                ends.forward()
            else:
                ends.first.open(raw_of(ends.back()), START)
            assert ends.first.is_worn is (number == 2)


# ---- from one epoch to the next -----------------------------------------------------------------


@pytest.mark.requirement("VPPN-4-03", "VPPN-4-07")
def test_the_initiator_seals_with_the_next_epoch_at_once_the_responder_when_it_has_heard() -> None:
    ends = Both()
    old = ends.back()
    assert not ends.first.has_heard
    ends.first.open(raw_of(old), START)
    ends.second.open(raw_of(ends.forward()), START)
    assert ends.first.is_settled
    assert ends.second.is_settled
    late = ends.forward()
    ends.agree(1)
    assert (ends.first.epoch, ends.second.epoch) == (0, 0)
    assert not ends.first.is_settled
    new, crossing = ends.forward(), ends.back()
    assert (epoch_of(new), epoch_of(crossing)) == (1, 0)
    # what is under way in the old epoch still counts on both sides
    assert ends.second.open(raw_of(late), START) == CREDIT
    assert ends.first.open(raw_of(crossing), START) == CREDIT
    assert epoch_of(ends.back()) == 0
    assert ends.second.open(raw_of(new), START) == CREDIT
    assert ends.second.epoch == 1
    answer = ends.back()
    assert epoch_of(answer) == 1
    assert not ends.first.is_settled
    assert ends.first.epoch == 0
    ends.first.open(raw_of(answer), START)
    assert ends.first.is_settled
    assert ends.first.epoch == 1


@pytest.mark.requirement("VPPN-4-03")
def test_after_the_switch_the_old_epoch_is_refused_on_both_sides() -> None:
    ends = Both()
    old_forward = [ends.forward() for _ in range(2)]
    old_back = [ends.back() for _ in range(2)]
    ends.second.open(raw_of(old_forward[0]), START)
    ends.first.open(raw_of(old_back[0]), START)
    ends.agree(1)
    ends.second.open(raw_of(ends.forward()), START)
    refused(ends.second, old_forward[1], 510)
    ends.first.open(raw_of(ends.back()), START)
    refused(ends.first, old_back[1], 510)
    assert (ends.first.epoch, ends.second.epoch) == (1, 1)


@pytest.mark.requirement("VPPN-4-03")
def test_epochs_that_nobody_agreed_on_are_refused() -> None:
    ends = Both()
    for number in (1, 2, EPOCH_MAX):
        refused(ends.second, Sealer(number, KEYS[0]).seal(CREDIT, 1, 7), 510)
    ends.agree_second(1)
    refused(ends.second, Sealer(2, KEYS[1]).seal(CREDIT, 1, 7), 510)
    # agreed, but by another key: it stays to be confirmed
    refused(ends.second, Sealer(1, KEYS[9]).seal(CREDIT, 1, 7), 509)
    assert ends.second.epoch == 0
    assert epoch_of(ends.back()) == 0


@pytest.mark.requirement("VPPN-3-03", "VPPN-4-03")
def test_counters_begin_anew_with_an_epoch_and_only_there() -> None:
    ends = Both()
    for _ in range(3):
        ends.second.open(raw_of(ends.forward()), START)
    ends.agree(1)
    new = ends.forward()
    assert bytes(raw_of(new)[4][2:14]) == bytes([0, 0, 0, 1, *bytes(8)])
    ends.second.open(raw_of(new), START)
    refused(ends.second, new, 509)


@pytest.mark.requirement("VPPN-4-06")
def test_an_epoch_that_nobody_used_is_replaced() -> None:
    ends = Both()
    ends.second.install(1, KEYS[5], KEYS[6], START, sends=False)
    ends.agree(1)
    assert ends.second.open(raw_of(ends.forward()), START) == CREDIT
    assert ends.first.open(raw_of(ends.back()), START) == CREDIT


@pytest.mark.requirement("VPPN-4-04")
def test_the_older_epoch_in_force_says_when_it_is_over() -> None:
    ends = Both()
    later = START + 100 * NS_PER_S
    ends.agree(1, later)
    assert ends.first.began == later
    assert ends.first.ends_at == ends.second.ends_at == START + LIMITS.end_ns
    with pytest.raises(DecodeError) as caught:
        ends.first.check_age(START + LIMITS.end_ns)
    assert (caught.value.code, caught.value.value) == (510, LIMITS.end_ns)
    ends.second.open(raw_of(ends.forward(later)), later)
    ends.first.open(raw_of(ends.back(later)), later)
    assert ends.first.ends_at == ends.second.ends_at == later + LIMITS.end_ns
    ends.first.check_age(START + LIMITS.end_ns)


# ---- edges --------------------------------------------------------------------------------------


def test_nothing_is_sealed_before_there_is_an_epoch() -> None:
    channel = Channel(Privacy.POLICE, LIMITS)
    assert not channel.is_open
    assert not channel.has_heard
    channel.check_age(START + 1000 * NS_PER_S)
    with pytest.raises(BrokenInvariant):
        channel.seal(CREDIT, 1000, START)


def test_there_is_a_last_epoch() -> None:
    assert next_epoch(0) == 1
    assert next_epoch(EPOCH_MAX - 1) == EPOCH_MAX == 2**32 - 1
    with pytest.raises(LocalProtocolError, match="is the last one"):
        next_epoch(EPOCH_MAX)
