"""The source of a feed: what it emits, when it signs, what it refuses."""

from hashlib import blake2s

import pytest

from powertcp.crypto import is_signed_by
from powertcp.dve import block_header, integrate_many
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.potcp.feed import (
    ANY_FEED,
    DATAGRAM_MAX,
    SIGN_NS,
    FeedSource,
    Piece,
    block_digest,
    feed_segment,
    payload_max,
    read_signature,
    refuse_feed,
    samples_max,
)
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag, Reason
from powertcp.wire import Alert, Feed, FeedSegment
from powertcp.wire.feeds import feed_id
from tests.conversation import segments
from tests.feeds import KEY, SECOND, Broadcast


def segment(piece: Piece) -> FeedSegment:
    [found] = segments(piece.octets)
    assert isinstance(found, FeedSegment)
    return found


@pytest.mark.requirement("PTCP-12-04")
@pytest.mark.parametrize("power", ["12V/0.5A", "230V/1A@50Hz", "230V/32A@50Hz/wye", "120V/5A@60Hz"])
def test_a_datagram_is_one_segment_with_its_terms_and_a_block(power: str) -> None:
    broadcast = Broadcast(power)
    energy = 0
    for piece in broadcast.emit(20):
        assert len(piece.octets) <= DATAGRAM_MAX
        found = segment(piece)
        if not piece.is_block:
            continue
        assert (found.flags, found.flow, found.esn) == (0, 0, energy)
        assert found.options.feed == broadcast.source.feed
        assert found.options.sampling == broadcast.sampling
        assert found.options.profiles == (broadcast.source.profile,)
        assert found.options.profiles[0].type is ProfileType.GRANT
        energy = 0 if not found.payload else energy
        counter, _, pairs, n = block_header(found.payload)
        assert (counter % n, pairs) == (0, broadcast.sampling.pairs)
        energy = _energy_after(broadcast, counter + n)
    assert broadcast.source.esn_uj == energy > 0
    assert broadcast.source.blocks == 20


def _energy_after(broadcast: Broadcast, samples: int) -> int:
    """Return the energy of the first samples by a second account."""
    fresh = Broadcast(broadcast.source.profile.format())
    total = 0
    while fresh.counter < samples:
        payload, _, n, _ = fresh.generator.block(fresh.counter, fresh.source.profile.power_mw)
        total += integrate_many([payload])[0].a
        fresh.counter += n
    sampling = broadcast.sampling
    scale = sampling.nv_per_lsb * sampling.na_per_lsb
    return total * scale // (sampling.rate_hz * 10**12)


@pytest.mark.requirement("PTCP-12-05")
def test_a_signature_follows_the_25th_block_and_covers_all_of_them() -> None:
    broadcast = Broadcast("230V/1A@50Hz")
    pieces = broadcast.emit(24)
    assert all(piece.is_block for piece in pieces)
    pieces += broadcast.emit(1)
    assert [piece.is_block for piece in pieces] == [True] * 25 + [False]
    found = segment(pieces[-1])
    assert found.flags == Flag.PSH
    assert found.options.feed == broadcast.source.feed
    assert found.options.meter is not None
    assert found.options.meter.key == KEY.public
    said = read_signature(broadcast.source.feed, found.payload)
    assert said.first == 0
    assert list(said.digests) == [block_digest(piece.octets) for piece in pieces[:-1]]
    assert said.digests[0] == blake2s(pieces[0].octets, digest_size=16).digest()
    feed = broadcast.source.feed
    option = bytes((129, 22)) + feed.feed_id + feed.epoch.to_bytes(4, "big")
    assert said.message == b"powertcp feed 1" + option + found.payload[:-64]
    assert is_signed_by(KEY.public, said.message, said.signature)
    assert broadcast.source.get_timer() is None
    assert broadcast.source.signatures == 1


@pytest.mark.requirement("PTCP-12-05")
def test_a_signature_comes_500_ms_after_the_first_block_it_covers() -> None:
    broadcast = Broadcast("12V/0.5A")
    start = broadcast.now
    assert [piece.is_block for piece in broadcast.emit(5)] == [True] * 5 + [False]
    assert broadcast.now == start + SIGN_NS
    broadcast.emit(2)
    due = broadcast.source.get_timer()
    assert due == start + 2 * SIGN_NS
    broadcast.source.handle_timer(due - 1)
    assert broadcast.source.pieces() == []
    broadcast.source.handle_timer(due)
    [piece] = broadcast.source.pieces()
    said = read_signature(broadcast.source.feed, segment(piece).payload)
    assert (said.first, len(said.digests)) == (500, 2)


def test_the_end_of_a_feed_signs_the_rest_once() -> None:
    broadcast = Broadcast()
    broadcast.emit(3)
    [piece] = broadcast.end()
    assert not piece.is_block
    assert broadcast.end() == []


def test_a_mark_of_congestion_does_not_break_the_signature() -> None:
    marked, plain = Broadcast(), Broadcast()
    [first], [second] = marked.emit(1, ece=True), plain.emit(1)
    assert segment(first).flags == Flag.ECE
    assert block_digest(first.octets) == block_digest(second.octets)
    assert marked.end() == plain.end()


@pytest.mark.requirement("PTCP-12-06")
def test_a_source_bears_the_identifier_of_its_key() -> None:
    assert Broadcast().source.feed == Feed(feed_id(KEY.public), 7)


@pytest.mark.requirement("LEDG-8-02")
def test_a_source_says_what_a_block_comes_to_before_it_is_emitted() -> None:
    broadcast, twin = Broadcast(), Broadcast()
    broadcast.emit(3)
    twin.emit(4)
    payload, _, _, _ = twin.generator.block(broadcast.counter, twin.source.profile.power_mw)
    [sums] = integrate_many([payload], broadcast.source.window_samples)
    assert broadcast.source.esn_uj < broadcast.source.peek(sums) == twin.source.esn_uj


@pytest.mark.requirement("PTCP-12-02")
def test_a_subscriber_is_confirmed_with_all_it_needs_to_know() -> None:
    broadcast = Broadcast()
    broadcast.emit(4)
    source = broadcast.source
    [answer] = segments(source.confirm())
    assert isinstance(answer, FeedSegment)
    assert answer.flags == Flag.SYN | Flag.ACK
    assert answer.esn == source.esn_uj
    assert answer.options.feed == source.feed
    assert answer.options.profiles == (source.profile,)
    assert answer.options.sampling == source.sampling
    assert answer.options.meter == source.meter
    assert source.serves(source.feed)
    assert source.serves(Feed(ANY_FEED, 0))
    assert not source.serves(Feed(b"x" * 16, 7))


@pytest.mark.requirement("PTCP-12-02")
def test_who_asks_for_another_feed_is_told_and_left() -> None:
    feed = Feed(b"x" * 16, 0)
    alert, fin = segments(refuse_feed(feed))
    assert isinstance(alert, Alert)
    assert alert.options.reason is not None
    assert alert.options.reason.code == Reason.NOT_OFFERED
    assert isinstance(fin, FeedSegment)
    assert (fin.flags, fin.options.feed) == (Flag.FIN, feed)
    [syn] = segments(feed_segment(feed, Flag.SYN))
    assert isinstance(syn, FeedSegment)
    assert syn.flags == Flag.SYN


@pytest.mark.requirement("PTCP-12-03")
def test_a_feed_never_exceeds_its_rate_by_more_than_2_percent() -> None:
    weak, strong, just = Broadcast("12V/0.5A"), Broadcast("12V/0.52A"), Broadcast("12V/0.51A")
    for counter in range(0, 20_000, 100):
        payload, _, _, _ = just.generator.block(counter, just.source.profile.power_mw)
        [sums] = integrate_many([payload], weak.source.window_samples)
        weak.source.emit(payload, sums, now=SECOND)
    weak = Broadcast("12V/0.5A")
    refused, emitted = "", 0
    while not refused:
        payload, _, _, _ = strong.generator.block(100 * emitted, strong.source.profile.power_mw)
        [sums] = integrate_many([payload], weak.source.window_samples)
        try:
            weak.source.emit(payload, sums, now=SECOND)
            emitted += 1
        except LocalProtocolError as error:
            refused = str(error)
    assert refused == "a block beyond 6,000 mW, the rate of the feed"
    # 2 % above what may be, each 0.1 s, out of 0.6 J
    assert 48 <= emitted <= 52
    assert weak.source.blocks == emitted
    assert weak.source.esn_uj == emitted * 624_000


def test_parts_of_a_cycle_are_no_more_than_the_rate() -> None:
    broadcast = Broadcast("115V/10A@400Hz")
    assert len(broadcast.emit(2000)) > 2000
    mean_mw = broadcast.source.esn_uj * broadcast.sampling.rate_hz // broadcast.counter // 1000
    assert abs(mean_mw - 1_150_000) < 200


def test_a_block_beyond_the_limits_of_its_profile_is_not_emitted() -> None:
    weak, strong = Broadcast("12V/0.5A"), Broadcast("15V/0.4A")
    payload, _, _, _ = strong.generator.block(0, strong.source.profile.power_mw)
    [sums] = integrate_many([payload], weak.source.window_samples)
    with pytest.raises(LocalProtocolError, match="300 OVER_VOLTAGE"):
        weak.source.emit(payload, sums, now=SECOND)


@pytest.mark.requirement("PTCP-12-07")
def test_blocks_follow_each_other_and_are_equally_long() -> None:
    broadcast = Broadcast()
    generator, source = broadcast.generator, broadcast.source
    broadcast.emit(1)
    payload, _, _, _ = generator.block(300, source.profile.power_mw)
    [late] = integrate_many([payload], source.window_samples)
    with pytest.raises(LocalProtocolError, match="100 samples at 300, 100 at 100 are due"):
        source.emit(payload, late, now=SECOND)
    short = Generator_of(50)
    [sums] = integrate_many([short], source.window_samples)
    with pytest.raises(LocalProtocolError, match="50 samples at 100"):
        source.emit(short, sums, now=SECOND)


def Generator_of(samples: int) -> bytes:  # noqa: N802
    """Return a block of that many samples at counter 100."""
    whole = Broadcast().generator.block(100, 6_000).payload
    return whole[:6] + samples.to_bytes(2, "big") + whole[8 : 8 + 8 * samples]


@pytest.mark.requirement("PTCP-12-07")
def test_an_epoch_ends_before_its_counter_wraps() -> None:
    broadcast = Broadcast()
    source = broadcast.source
    assert not source.is_full
    near = (1 << 32) - 196
    source._next = near  # noqa: SLF001 - 49 days of blocks
    payload, _, n, _ = broadcast.generator.block(near, source.profile.power_mw)
    [sums] = integrate_many([payload], source.window_samples)
    source.emit(payload, sums, now=SECOND)
    assert source.is_full
    with pytest.raises(LocalProtocolError, match="are due"):
        source.emit(payload, sums._replace(counter=near + n), now=SECOND)


def test_a_block_that_does_not_fit_a_datagram_is_refused() -> None:
    broadcast = Broadcast()
    source = broadcast.source
    most = samples_max(source.profile, source.sampling)
    assert source.payload_max == payload_max(source.profile, source.sampling)
    assert 8 + 8 * most <= source.payload_max < 8 + 8 * (most + 1)
    payload = bytes(source.payload_max + 1)
    [sums] = integrate_many([broadcast.generator.block(0, 6_000).payload], source.window_samples)
    with pytest.raises(LocalProtocolError, match="fit a datagram"):
        source.emit(payload, sums, now=SECOND)


@pytest.mark.requirement("PTCP-12-05")
@pytest.mark.parametrize("count", [0, 1, 25, 26, 255])
def test_a_signature_covers_1_to_25_blocks(count: int) -> None:
    feed = Feed(bytes(16), 1)
    payload = b"\0\0\0\x07" + bytes((count,)) + bytes(16 * count + 64)
    if 1 <= count <= 25:
        assert len(read_signature(feed, payload).digests) == count
    else:
        with pytest.raises(DecodeError):
            read_signature(feed, payload)
    for octets in (payload[:-1], payload + b"\0", payload[:4], b""):
        with pytest.raises(DecodeError):
            read_signature(feed, octets)


def test_a_feed_is_told_its_power_as_octets_can_say_it() -> None:
    grant = PowerProfile.parse("12V/0.5A").with_type(ProfileType.OFFER, tag=9)
    source = FeedSource(
        key=KEY.public, sign=KEY.sign, epoch=1, profile=grant, sampling=Broadcast().sampling
    )
    assert source.profile.type is ProfileType.GRANT
    assert source.profile.tag == 0
