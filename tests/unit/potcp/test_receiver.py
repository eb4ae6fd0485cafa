"""The receiver of a feed: signed or nothing, once or never, whatever else arrives."""

from hashlib import blake2s
from random import Random
from typing import TYPE_CHECKING

import pytest

from powertcp.dve import EnergyRegister, integrate, integrate_many
from powertcp.errors import LocalProtocolError
from powertcp.potcp.epoch import STARTS_MAX, Account
from powertcp.potcp.events import HeatCounted, SamplesReceived
from powertcp.potcp.receiver import (
    FORGED_KNOWN_MAX,
    FORGED_MAX,
    SILENCE_NS,
    FeedJoined,
    FeedPageDue,
    FeedReceiver,
    FeedSilent,
)
from powertcp.potcp.waiting import KNOWN_NS, PENDING_MAX, SENDER_MAX
from powertcp.registry import Flag, Reason
from powertcp.wire import FeedSegment, Options, Splitter, encode_segment
from powertcp.wire.feeds import feed_transcript
from powertcp.wire.frames import pack_segment
from tests.conversation import segments
from tests.feeds import KEY, OTHER_KEY, SECOND, Broadcast, events, hear

if TYPE_CHECKING:
    from powertcp.potcp.feed import Piece


def banked(receiver: FeedReceiver) -> int:
    """Drain the events and return the energy of them, uJ."""
    return sum(event.energy_uj for event in events(receiver) if isinstance(event, SamplesReceived))


@pytest.mark.requirement("PTCP-12-01")
def test_a_block_is_banked_when_its_signature_comes_and_not_before() -> None:
    broadcast, receiver = Broadcast(), FeedReceiver()
    pieces = broadcast.emit(5)
    hear(receiver, pieces[:5])
    assert (banked(receiver), receiver.feed, receiver.tally().pending) == (0, None, 5)
    hear(receiver, pieces[5:])
    joined, samples = events(receiver)
    assert joined == FeedJoined(
        feed=broadcast.source.feed,
        key=KEY.public,
        profile=broadcast.source.profile,
        sampling=broadcast.sampling,
    )
    assert samples == SamplesReceived(
        flow=0, count=500, energy_uj=3_000_000, esn_uj=3_000_000, sim=True
    )
    assert receiver.esn_uj == broadcast.source.esn_uj == 3_000_000
    assert receiver.tally().banked == 5
    assert receiver.tally().pending == 0


@pytest.mark.requirement("PTCP-12-01")
def test_a_signature_that_overtakes_its_blocks_counts_for_them() -> None:
    broadcast, receiver = Broadcast(), FeedReceiver()
    pieces = broadcast.emit(10)
    hear(receiver, reversed(pieces))
    assert banked(receiver) == receiver.esn_uj == broadcast.source.esn_uj
    assert receiver.tally().lost == 0
    assert receiver.tally().banked == 10


@pytest.mark.requirement("PTCP-12-01")
def test_duplicates_are_dropped_signed_or_not() -> None:
    broadcast, receiver = Broadcast(), FeedReceiver()
    pieces = broadcast.emit(5)
    hear(receiver, pieces[:3] + pieces[:3] + pieces + pieces)
    assert banked(receiver) == broadcast.source.esn_uj
    assert receiver.tally().duplicates == 3 + 3 + 6
    again = broadcast.emit(5)
    hear(receiver, [*again[:5], *pieces, *again])
    assert receiver.esn_uj == broadcast.source.esn_uj


@pytest.mark.requirement("PTCP-12-01")
def test_it_integrates_only_what_it_received_and_counts_what_it_lost() -> None:
    broadcast, receiver = Broadcast("230V/3A@50Hz"), FeedReceiver()
    random, heard = Random(4), EnergyRegister(broadcast.sampling)
    lost = 0
    for turn in range(20):
        pieces = broadcast.emit(25)
        for piece in pieces:
            # the first and the last block arrive, so that both ends know the span
            is_edge = piece in (pieces[0], pieces[24]) and turn in (0, 19)
            if piece.is_block and not is_edge and random.random() < 0.2:
                lost += 1
                continue
            if piece.is_block:
                [segment] = segments(piece.octets)
                assert isinstance(segment, FeedSegment)
                heard.add(integrate(segment.payload))
            hear(receiver, [piece])
    tally = receiver.tally()
    assert receiver.esn_uj == banked(receiver) == heard.esn_uj
    assert (tally.banked, tally.lost) == (500 - lost, lost)
    assert lost > 60
    missing = broadcast.source.esn_uj - receiver.esn_uj
    assert abs(tally.lost_uj - missing) <= 2


@pytest.mark.requirement("PTCP-12-01")
def test_a_newer_epoch_is_taken_when_it_is_signed_and_the_old_one_is_over() -> None:
    first, second, receiver = Broadcast(epoch=7), Broadcast(epoch=8), FeedReceiver()
    hear(receiver, first.emit(5))
    events(receiver)
    pieces = second.emit(5)
    hear(receiver, pieces[:5])
    late = first.emit(5)
    hear(receiver, late)
    assert receiver.feed == first.source.feed
    assert banked(receiver) == 3_000_000
    hear(receiver, first.emit(3))
    hear(receiver, pieces[5:])
    page, joined, samples = events(receiver)
    assert isinstance(page, FeedPageDue)
    assert (page.feed, page.end_uj, page.final) == (first.source.feed, 6_000_000, True)
    assert isinstance(joined, FeedJoined)
    assert joined.feed == second.source.feed
    assert isinstance(samples, SamplesReceived)
    assert samples.esn_uj == receiver.esn_uj == 3_000_000
    assert receiver.tally().old == 3, "the unsigned rest of the old epoch"
    hear(receiver, [*late, *first.emit(2)])
    assert banked(receiver) == 0
    assert receiver.tally().old == 3 + len(late) + 3


@pytest.mark.requirement("PTCP-12-01")
def test_an_epoch_that_nobody_signed_locks_nobody_out() -> None:
    broadcast, receiver = Broadcast(), FeedReceiver()
    hear(receiver, broadcast.emit(5))
    forged = Broadcast(epoch=0xFFFFFFFF).emit(5)
    spoilt = bytearray(forged[5].octets)
    spoilt[-1] ^= 1
    hear(receiver, [*forged[:5], bytes(spoilt)])
    assert receiver.tally().forged == 1
    hear(receiver, broadcast.emit(5))
    assert receiver.esn_uj == broadcast.source.esn_uj
    assert receiver.feed == broadcast.source.feed


@pytest.mark.requirement("PTCP-12-06")
def test_only_the_key_that_the_feed_is_named_after_may_sign_for_it() -> None:
    broadcast, receiver = Broadcast(), FeedReceiver()
    thief = Broadcast(key=OTHER_KEY)
    thief.source.feed = broadcast.source.feed
    stolen = thief.emit(5)
    [segment] = segments(stolen[5].octets)
    assert isinstance(segment, FeedSegment)
    renamed = Options(meter=thief.source.meter, feed=broadcast.source.feed)
    octets = encode_segment(FeedSegment(0, Flag.PSH, 0, renamed, segment.payload))
    hear(receiver, [*stolen[:5], octets])
    assert receiver.feed is None
    assert receiver.tally().forged == 1
    unnamed = Options(feed=broadcast.source.feed)
    hear(receiver, [encode_segment(FeedSegment(0, Flag.PSH, 0, unnamed, segment.payload))])
    assert receiver.tally().forged == 2
    hear(receiver, broadcast.emit(5))
    assert receiver.feed == broadcast.source.feed


def test_who_wants_one_feed_hears_no_other() -> None:
    other, broadcast = Broadcast(key=OTHER_KEY), Broadcast()
    receiver = FeedReceiver(wanted=broadcast.source.feed.feed_id)
    hear(receiver, other.emit(5))
    assert (banked(receiver), receiver.tally().strange) == (0, 6)
    hear(receiver, broadcast.emit(5))
    assert banked(receiver) == 3_000_000
    latched = FeedReceiver()
    hear(latched, broadcast.emit(5))
    hear(latched, other.emit(5))
    assert latched.tally().strange == 6
    undecided = FeedReceiver()
    hear(undecided, other.emit(2))
    hear(undecided, broadcast.emit(5))
    assert undecided.tally().strange == 2, "what waited of another feed is forgotten"


def test_a_receiver_that_joins_late_counts_from_there() -> None:
    broadcast, receiver = Broadcast(), FeedReceiver()
    broadcast.emit(7)
    hear(receiver, broadcast.emit(13))
    tally = receiver.tally()
    assert (tally.banked, tally.lost, tally.lost_uj) == (13, 0, 0)
    assert receiver.esn_uj == 13 * 600_000


@pytest.mark.requirement("PTCP-12-01")
def test_a_signed_block_beyond_the_limits_is_heat() -> None:
    broadcast, receiver = Broadcast(), FeedReceiver()
    source = broadcast.source
    broadcast.emit(2)
    payload = bytearray(broadcast.generator.block(200, 6_000).payload)
    payload[8:12] = (99_000).to_bytes(4, "big")
    [sums] = integrate_many([bytes(payload)], source.window_samples)
    source._check = lambda payload, sums: None  # type: ignore[method-assign]  # noqa: SLF001
    source.emit(bytes(payload), sums, now=broadcast.now)
    hear(receiver, broadcast.end())
    hear(receiver, source.pieces())
    lost, fresh = FeedReceiver(), Broadcast()
    fresh.source._check = source._check  # type: ignore[method-assign]  # noqa: SLF001
    pieces = fresh.emit(2)
    fresh.source.emit(bytes(payload), sums, now=fresh.now)
    pieces += fresh.source.pieces() + fresh.end()
    hear(lost, pieces)
    found = events(lost)
    [heat] = [event for event in found if isinstance(event, HeatCounted)]
    assert heat.refusal is not None
    assert heat.refusal.code == Reason.OVER_VOLTAGE
    assert heat.energy_uj > 600_000
    assert lost.esn_uj == 1_200_000
    assert (lost.tally().heat, lost.tally().banked, lost.tally().lost) == (1, 2, 0)


@pytest.mark.requirement("PTCP-12-07")
def test_a_signed_block_that_breaks_the_terms_of_its_epoch_is_not_banked() -> None:
    broadcast, receiver = Broadcast(), FeedReceiver()
    pieces = broadcast.emit(5)
    hear(receiver, pieces)
    source = broadcast.source
    short = broadcast.generator.block(500, 6_000).payload
    short = short[:6] + (50).to_bytes(2, "big") + short[8:408]
    [sums] = integrate_many([short], source.window_samples)
    source._check = lambda payload, sums: None  # type: ignore[method-assign]  # noqa: SLF001
    source.emit(short, sums, now=broadcast.now)
    source.finish()
    hear(receiver, source.pieces())
    assert receiver.esn_uj == 3_000_000
    assert receiver.tally().malformed == 1


def test_pages_are_due_by_time_by_energy_and_at_the_end() -> None:
    broadcast = Broadcast()
    receiver = FeedReceiver(receipt_s=60, receipt_uj=5_000_000)
    hear(receiver, broadcast.emit(5))
    assert receiver.get_timer() == SECOND + SILENCE_NS
    hear(receiver, broadcast.emit(5))
    [page] = [event for event in events(receiver) if isinstance(event, FeedPageDue)]
    digest = bytes(32)
    again = Broadcast()
    for piece in again.emit(10):
        [segment] = segments(piece.octets)
        assert isinstance(segment, FeedSegment)
        if piece.is_block:
            digest = blake2s(digest + segment.payload).digest()
    assert page == FeedPageDue(
        feed=broadcast.source.feed,
        transcript=feed_transcript(broadcast.source.feed.feed_id, broadcast.source.feed.epoch),
        page=0,
        samples=1000,
        start_uj=0,
        end_uj=6_000_000,
        digest=digest,
        top=9,
        key=KEY.public,
        final=False,
        resumed=False,
        sim=True,
    )
    hear(receiver, broadcast.emit(5))
    receiver.handle_timer(60 * SECOND)
    assert [event for event in events(receiver) if isinstance(event, FeedPageDue)] == []
    receiver.handle_timer(61 * SECOND)
    page = next(event for event in events(receiver) if isinstance(event, FeedPageDue))
    assert (page.page, page.start_uj, page.end_uj, page.top) == (1, 6_000_000, 9_000_000, 14)
    receiver.handle_timer(121 * SECOND)
    assert events(receiver) == [], "no page without energy"
    hear(receiver, broadcast.emit(5), 122 * SECOND)
    receiver.leave(123 * SECOND)
    page = next(event for event in events(receiver) if isinstance(event, FeedPageDue))
    assert (page.page, page.start_uj, page.end_uj, page.final) == (2, 9_000_000, 12_000_000, True)
    hear(receiver, broadcast.emit(5), 124 * SECOND)
    assert events(receiver) == []
    assert receiver.esn_uj == 12_000_000


@pytest.mark.requirement("PTCP-12-01")
def test_after_a_restart_the_account_goes_on_and_nothing_is_banked_twice() -> None:
    broadcast, receiver = Broadcast(), FeedReceiver()
    early = broadcast.emit(10)
    hear(receiver, early)
    receiver.leave(SECOND)
    *_, page = events(receiver)
    assert isinstance(page, FeedPageDue)
    account = Account(page.page + 1, page.end_uj, page.top)
    again = FeedReceiver(accounts={page.transcript: account})
    hear(again, early)
    assert (banked(again), again.tally().banked, again.tally().lost) == (0, 0, 0)
    broadcast.emit(5)
    hear(again, broadcast.emit(5))
    again.leave(2 * SECOND)
    *_, page = events(again)
    assert isinstance(page, FeedPageDue)
    assert (page.page, page.start_uj, page.end_uj) == (1, 6_000_000, 9_000_000)
    assert page.resumed


def test_silence_is_noticed_once_and_a_signature_ends_it() -> None:
    broadcast, receiver = Broadcast(), FeedReceiver()
    assert receiver.get_timer() is None
    receiver.handle_timer(SECOND)
    hear(receiver, broadcast.emit(5))
    events(receiver)
    receiver.handle_timer(SECOND + SILENCE_NS - 1)
    assert events(receiver) == []
    receiver.handle_timer(SECOND + SILENCE_NS)
    assert events(receiver) == [FeedSilent(feed=broadcast.source.feed)]
    assert receiver.get_timer() == 61 * SECOND
    receiver.handle_timer(30 * SECOND)
    assert events(receiver) == []
    hear(receiver, broadcast.emit(5), 30 * SECOND)
    assert receiver.get_timer() == 30 * SECOND + SILENCE_NS


def test_samples_are_kept_for_who_wants_them() -> None:
    broadcast, receiver = Broadcast(), FeedReceiver(want_samples=True)
    hear(receiver, broadcast.emit(5))
    [_, samples] = events(receiver)
    assert isinstance(samples, SamplesReceived)
    assert samples.samples is not None
    assert len(samples.samples) == 500 * 8


@pytest.mark.requirement("PTCP-14-01")
def test_blocks_that_wait_for_a_signature_are_bounded() -> None:
    broadcast, receiver = Broadcast("230V/1A@50Hz"), FeedReceiver()
    blocks = [piece for piece in broadcast.emit(SENDER_MAX) if piece.is_block]
    hear(receiver, blocks)
    assert (receiver.tally().pending, receiver.tally().unsigned) == (SENDER_MAX, 0)
    *block, signature = broadcast.emit(25 - SENDER_MAX % 25)
    hear(receiver, block)
    assert receiver.tally().pending == SENDER_MAX
    assert receiver.tally().unsigned == len(block)
    hear(receiver, [signature])
    assert receiver.tally().banked == 25


@pytest.mark.requirement("PTCP-14-01")
@pytest.mark.parametrize("addresses", [1, 10_000])
@pytest.mark.parametrize("is_known", [False, True])
def test_forged_blocks_do_not_push_out_those_of_the_source(addresses: int, is_known: bool) -> None:
    broadcast, receiver = Broadcast("230V/1A@50Hz"), FeedReceiver()
    if is_known:
        hear(receiver, broadcast.emit(25))
    forger = Broadcast("230V/1A@50Hz", epoch=9)
    forged = [piece.octets for piece in forger.emit(5000) if piece.is_block]

    def flood() -> None:
        for number, octets in enumerate(forged):
            receiver.receive_datagram(octets, ("192.0.2.1", number % addresses), SECOND)

    pieces = broadcast.emit(25)
    before = receiver.tally().banked
    hear(receiver, pieces[:20])
    flood()
    hear(receiver, pieces[20:25])
    hear(receiver, pieces[25:])
    assert receiver.tally().pending <= PENDING_MAX
    banked_blocks = receiver.tally().banked - before
    # nobody knows who the source is before its first signature: many senders look like one
    assert banked_blocks == (25 if is_known or addresses == 1 else 5)
    flood()
    hear(receiver, broadcast.emit(25))
    assert receiver.tally().banked - before - banked_blocks == 25


@pytest.mark.requirement("PTCP-14-01")
def test_forged_signatures_cost_no_more_than_a_hundred_looks_a_second() -> None:
    broadcast, receiver = Broadcast(), FeedReceiver()
    pieces = broadcast.emit(5)
    forged = bytearray(pieces[5].octets)
    forged[-1] ^= 1
    hear(receiver, pieces[:5])
    hear(receiver, [bytes(forged)] * (FORGED_MAX - 1))
    hear(receiver, [bytes(forged)])
    assert receiver.tally().forged == FORGED_MAX
    hear(receiver, pieces[5:])
    assert receiver.tally().forged == FORGED_MAX + 1, "one above: not looked at, though it holds"
    hear(receiver, pieces[5:], 2 * SECOND)
    assert banked(receiver) == 3_000_000


@pytest.mark.requirement("PTCP-14-01")
def test_who_floods_with_signatures_does_not_silence_the_source() -> None:
    broadcast, receiver = Broadcast(), FeedReceiver()
    hear(receiver, broadcast.emit(5))
    pieces = broadcast.emit(5)
    forged = bytearray(pieces[-1].octets)
    forged[-1] ^= 1
    for _ in range(FORGED_MAX + 1):
        receiver.receive_datagram(bytes(forged), ("192.0.2.1", 9), SECOND)
    hear(receiver, pieces)
    assert banked(receiver) == 6_000_000
    # not even that address is looked at without end
    pieces = broadcast.emit(5)
    forged = bytearray(pieces[-1].octets)
    forged[-1] ^= 1
    hear(receiver, [bytes(forged)] * FORGED_KNOWN_MAX)
    hear(receiver, pieces)
    assert banked(receiver) == 0
    hear(receiver, pieces, 2 * SECOND)
    assert banked(receiver) == 3_000_000


REPLAYER = ("192.0.2.1", 9)


def survives(broadcast: Broadcast, receiver: FeedReceiver, forged: bytes) -> int:
    """Return how many of 150 blocks are banked while REPLAYER sends 1,200 forgeries a second."""
    before = receiver.tally().banked
    for number in range(150):
        pieces = broadcast.emit()
        if number % 5 == 4:
            for _ in range(120):
                receiver.receive_datagram(forged, REPLAYER, broadcast.now)
        hear(receiver, pieces, broadcast.now)
    return receiver.tally().banked - before


def spoil(signature: bytes) -> bytes:
    """Return a signature of 25 blocks that nobody signed, nor knows."""
    at = len(signature) - 64 - 25 * 16 - 5
    return signature[:at] + b"\xf0\0\0\0" + signature[at + 4 :]


@pytest.mark.requirement("PTCP-14-01")
@pytest.mark.parametrize("has_joined", [False, True])
def test_who_replays_an_old_signature_does_not_take_the_place_of_the_source(
    has_joined: bool,
) -> None:
    broadcast, receiver = Broadcast("230V/1A@50Hz"), FeedReceiver()
    pieces = broadcast.emit(50)
    old, older = [piece.octets for piece in pieces if not piece.is_block]
    if has_joined:
        hear(receiver, pieces, broadcast.now)
    for _ in range(STARTS_MAX + 1 if has_joined else 2):
        hear(receiver, broadcast.emit(25), broadcast.now)
    receiver.receive_datagram(old, REPLAYER, broadcast.now)
    assert (receiver.tally().old, receiver.tally().forged) == (int(has_joined), 0)
    assert survives(broadcast, receiver, spoil(older)) == 150


@pytest.mark.requirement("PTCP-14-01")
def test_who_repeats_a_signature_that_was_lost_does_not_take_the_place_of_the_source() -> None:
    broadcast, receiver = Broadcast("230V/1A@50Hz"), FeedReceiver()
    for _ in range(2):
        hear(receiver, broadcast.emit(25), broadcast.now)
    *blocks, lost = broadcast.emit(25)
    hear(receiver, blocks, broadcast.now)
    receiver.receive_datagram(lost.octets, REPLAYER, broadcast.now)
    assert receiver.tally().banked == 75, "it is taken all the same"
    assert survives(broadcast, receiver, spoil(lost.octets)) == 150


@pytest.mark.requirement("PTCP-14-01")
def test_a_source_that_moves_is_known_again_when_its_old_address_is_silent() -> None:
    broadcast, receiver = Broadcast("230V/1A@50Hz"), FeedReceiver()
    for _ in range(2):
        hear(receiver, broadcast.emit(25), SECOND)
    forged = spoil(broadcast.emit(25)[-1].octets)
    for now, looked in ((SECOND + KNOWN_NS - 1, 0), (2 * SECOND + KNOWN_NS, 25)):
        for piece in broadcast.emit(25):
            receiver.receive_datagram(piece.octets, ("192.0.2.7", 1), now)
        before = receiver.tally().banked
        for _ in range(FORGED_MAX):
            receiver.receive_datagram(forged, REPLAYER, now)
        for piece in broadcast.emit(25):
            receiver.receive_datagram(piece.octets, ("192.0.2.7", 1), now)
        assert receiver.tally().banked - before == looked


@pytest.mark.requirement("PTCP-12-01")
def test_a_signature_of_blocks_that_are_too_old_counts_for_nothing() -> None:
    broadcast, receiver = Broadcast("230V/1A@50Hz"), FeedReceiver()
    signatures = [piece for piece in broadcast.emit(327 * 25) if not piece.is_block]
    hear(receiver, broadcast.emit(25))
    events(receiver)
    receiver.handle_timer(SECOND + SILENCE_NS)
    assert events(receiver) == [FeedSilent(feed=broadcast.source.feed)]
    hear(receiver, signatures[:3], SECOND + SILENCE_NS)
    epoch = receiver._epoch  # noqa: SLF001 - what it holds is the point
    assert epoch is not None
    # the top is 8,199: the third one ends with 74, which is within the window
    assert (receiver.tally().old, len(epoch.promised)) == (2, 25)
    # and old all the same: the feed is as silent as before
    assert receiver.get_timer() == SECOND + 60 * SECOND


@pytest.mark.requirement("PTCP-14-01")
def test_what_is_remembered_of_signatures_is_bounded() -> None:
    broadcast, receiver = Broadcast("230V/1A@50Hz"), FeedReceiver()
    pieces = broadcast.emit(25 * (STARTS_MAX + 2))
    signatures = [piece for piece in pieces if not piece.is_block]
    hear(receiver, pieces[:26])
    hear(receiver, signatures[1:])
    epoch = receiver._epoch  # noqa: SLF001 - what it holds is the point
    assert epoch is not None
    assert len(epoch.starts) == STARTS_MAX
    assert len(epoch.promised) == 8128
    assert receiver.tally().lost == 25 * (STARTS_MAX + 1)


@pytest.mark.requirement("PTCP-12-04")
def test_a_block_that_fits_no_datagram_is_not_taken_however_it_came() -> None:
    broadcast, receiver = Broadcast(), FeedReceiver()
    [piece] = broadcast.emit(1)
    [segment] = segments(piece.octets)
    assert isinstance(segment, FeedSegment)
    payload = segment.payload[:6] + (150).to_bytes(2, "big") + bytes(1200)
    octets = encode_segment(FeedSegment(0, 0, 0, segment.options, payload))
    [raw] = Splitter().receive(octets)
    receiver.take(raw, SECOND)
    assert receiver.tally().malformed == 1


def spoilt_datagrams() -> dict[str, tuple[bytes, str]]:
    """Return datagrams that are not of the feed, by name, with how they are counted."""
    broadcast = Broadcast()
    block = broadcast.emit(1)[0].octets
    [push] = broadcast.end()
    [segment] = segments(block)
    assert isinstance(segment, FeedSegment)
    source, payload = broadcast.source, segment.payload
    offer = source.profile.with_type(source.profile.type, current_ma=1)
    pairs = payload[:5] + b"\x02" + (50).to_bytes(2, "big") + payload[8:]

    def block_with(payload: bytes = payload, **options: object) -> bytes:
        every = {"feed": source.feed, "sampling": source.sampling, "profiles": (source.profile,)}
        return encode_segment(
            FeedSegment(0, 0, 0, Options(**(every | options)), payload)  # type: ignore[arg-type]
        )

    from powertcp.profile import ProfileType
    from powertcp.wire import Sampling

    return {
        "nothing": (b"", "malformed"),
        "cut": (block[:-1], "malformed"),
        "two": (block + block, "malformed"),
        "tail": (block + b"P", "malformed"),
        "magic": (b"X" + block[1:], "malformed"),
        "no feed": (block_with(feed=None), "malformed"),
        "no sampling": (block_with(sampling=None), "malformed"),
        "no profile": (block_with(profiles=()), "malformed"),
        "two profiles": (block_with(profiles=(source.profile, offer)), "malformed"),
        "an offer": (
            block_with(profiles=(source.profile.with_type(ProfileType.OFFER),)),
            "malformed",
        ),
        "phases": (block_with(payload=pairs), "malformed"),
        "fast": (block_with(sampling=Sampling(100_001)), "malformed"),
        "slow": (block_with(sampling=Sampling(9)), "malformed"),
        "no samples": (block_with(payload=payload[:8]), "malformed"),
        "long": (
            block_with(payload=payload[:6] + (141).to_bytes(2, "big") + bytes(1128)),
            "malformed",
        ),
        "option": (pack_segment(0x11, 0, 0, 0, b"\xc8\x04\0\0", payload), "malformed"),
        "unnamed signature": (pack_segment(0x11, 8, 0, 0, b"", bytes(85)), "malformed"),
        "short signature": (push.octets[:6] + b"\0\x10" + push.octets[8:104], "malformed"),
        "a flow": (block[:11] + b"\x01" + block[12:], "strange"),
        "data": (block[:4] + b"\x02" + block[5:], "strange"),
        "syn": (block[:5] + b"\x02" + block[6:], "strange"),
        "fin": (block[:5] + b"\x01" + block[6:], "strange"),
    }


@pytest.mark.requirement("PTCP-12-04")
@pytest.mark.parametrize("name", spoilt_datagrams())
def test_a_datagram_that_is_not_of_a_feed_is_counted_and_forgotten(name: str) -> None:
    octets, counted = spoilt_datagrams()[name]
    broadcast, receiver = Broadcast(), FeedReceiver()
    hear(receiver, broadcast.emit(5))
    before = receiver.tally()
    hear(receiver, [octets])
    after = receiver.tally()
    assert getattr(after, counted) == getattr(before, counted) + 1
    hear(receiver, broadcast.emit(5))
    assert receiver.esn_uj == broadcast.source.esn_uj


def test_any_mutation_of_a_datagram_banks_nothing() -> None:
    random, broadcast = Random(11), Broadcast()
    pieces = broadcast.emit(5)
    looked = 0
    for _ in range(2000):
        receiver = FeedReceiver(wanted=broadcast.source.feed.feed_id)
        which = random.randrange(6)
        octets = bytearray(pieces[which].octets)
        at = random.randrange(len(octets))
        octets[at] ^= 1 << random.randrange(8)
        spoilt: list[Piece | bytes] = list(pieces)
        spoilt[which] = bytes(octets)
        hear(receiver, spoilt)
        # flags that the type does not have are ignored, ECE is not covered
        harmless = at == 5 and octets[5] & 0x1B == pieces[which].octets[5] & 0x1B
        esn_in_signature = which == 5 and 12 <= at < 20
        period_of_receipts = which == 5 and 24 <= at < 34
        if not (harmless or esn_in_signature or period_of_receipts):
            looked += 1
            assert receiver.esn_uj < broadcast.source.esn_uj, (which, at)
    assert looked > 1500


def test_option_areas_are_remembered_up_to_a_limit() -> None:
    receiver = FeedReceiver()
    for epoch in range(1, 40):
        hear(receiver, Broadcast(epoch=epoch).emit(1))
    assert receiver.tally().pending == 39
    assert len(receiver._areas) <= 16  # noqa: SLF001 - what it holds is the point


def test_the_clock_never_goes_back() -> None:
    receiver = FeedReceiver()
    receiver.handle_timer(2)
    with pytest.raises(LocalProtocolError):
        receiver.handle_timer(1)
    with pytest.raises(LocalProtocolError):
        receiver.receive_datagram(b"", ("", 0), 1)
    assert receiver.datagrams_to_send() == []
    receiver.leave(3)
