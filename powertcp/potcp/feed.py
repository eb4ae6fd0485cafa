"""A broadcast feed as its source sees it: numbered blocks, their signatures, who may subscribe.

A datagram of a feed is one FEED segment with FEED, SAMPLING and PROFILE GRANT and one DVE block.
The signature is a FEED segment with PSH, FEED and METER, and this payload (PoTCP section 12):

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------------------------------------------------------+
    |            sample counter of the first block signed           |
    +---------------+-----------------------------------------------+
    |     count     |  count * BLAKE2s-128 of the datagrams, ECE cleared
    +---------------+-----------------------------------------------+
    |  Ed25519 signature, 64 octets, over "powertcp feed 1", the FEED option and all before it
    +---------------------------------------------------------------+

Each piece is encoded once, whoever hears it: over UDP it is a datagram, over TCP a segment.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2s
from struct import Struct
from typing import Final, NamedTuple

from powertcp.dve import BLOCK_HEADER_OCTETS, BlockSums, EnergyRegister
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.machine import Buffer, Event
from powertcp.potcp.config import RECEIPT_S, RECEIPT_UJ
from powertcp.potcp.protect import Protector
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag, OptionKind, Reason, Refusal, SegmentType
from powertcp.units import NS_PER_MS, Duration, Instant
from powertcp.wire.feeds import feed_id
from powertcp.wire.frames import HEADER_OCTETS, encode_segment, pack_segment
from powertcp.wire.options import Feed, Meter, Options, Sampling, encode_options
from powertcp.wire.segments import Alert, FeedSegment

# PTCP-12-04: what passes every path without fragments
DATAGRAM_MAX: Final = 1200
# PTCP-12-05
SIGNED_BLOCKS: Final = 25
SIGN_NS: Final[Duration] = 500 * NS_PER_MS
DIGEST_OCTETS: Final = 16
SIGNATURE_OCTETS: Final = 64
# in a SYN: whatever feed the source has
ANY_FEED: Final = bytes(16)

_CONTEXT: Final = b"powertcp feed 1"
_HEAD: Final = Struct(">IB")
_FEED_OPTION: Final = Struct(">BB16sI")
_FEED: Final = int(SegmentType.FEED)
_FLAGS_AT: Final = 5
_COUNTERS: Final = 1 << 32
# PTCP-6-03: what a source may be off its contract
_SLACK_PERCENT: Final = 2
# energy above the mean that parts of a cycle may hold, as time at full power: enough above 0.8 Hz
_BURST_MS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedAsked(Event):
    """Source: a peer wants to hear this feed; ANY_FEED stands for whichever there is."""

    feed: Feed


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedLeft(Event):
    """Source: a peer no longer wants to hear this feed."""

    feed: Feed


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedReceiptReceived(Event):
    """Source: a receiver sent the page that it signed, 380 octets, not looked at yet."""

    feed: Feed
    page: bytes


class Piece(NamedTuple):
    """One segment of a feed. is_block: it may be skipped for a slow subscriber."""

    octets: bytes
    is_block: bool


class Signature(NamedTuple):
    """What a FEED with PSH says: the blocks it covers, and what was signed by whom."""

    first: int
    digests: tuple[bytes, ...]
    message: bytes
    signature: bytes


def block_digest(datagram: Buffer) -> bytes:
    """Return the BLAKE2s-128 of a datagram with ECE cleared: what a signature covers."""
    octets = bytearray(datagram)
    octets[_FLAGS_AT] &= ~Flag.ECE & 0xFF
    return blake2s(octets, digest_size=DIGEST_OCTETS).digest()


def signed_message(feed: Feed, payload: Buffer) -> bytes:
    """Return what is signed: the context, the FEED option, the payload before the signature."""
    option = _FEED_OPTION.pack(OptionKind.FEED, _FEED_OPTION.size, feed.feed_id, feed.epoch)
    return _CONTEXT + option + payload


def read_signature(feed: Feed, payload: Buffer) -> Signature:
    """Take the payload of a FEED with PSH apart; whether the signature holds is not looked at.

    Raises DecodeError 502.
    """
    octets = bytes(payload)
    count = octets[4] if len(octets) > _HEAD.size else 0
    signed = _HEAD.size + DIGEST_OCTETS * count
    # PTCP-12-05
    if not 1 <= count <= SIGNED_BLOCKS or len(octets) != signed + SIGNATURE_OCTETS:
        raise DecodeError(4, "count", Reason.BAD_LENGTH, len(octets), signed + SIGNATURE_OCTETS)
    starts = range(_HEAD.size, signed, DIGEST_OCTETS)
    digests = tuple(octets[at : at + DIGEST_OCTETS] for at in starts)
    first = int.from_bytes(octets[:4], "big")
    return Signature(first, digests, signed_message(feed, octets[:signed]), octets[signed:])


def feed_segment(feed: Feed, flags: int) -> bytes:
    """Return a FEED segment that is flags and the FEED option: a SYN or a FIN."""
    return encode_segment(FeedSegment(0, flags, 0, Options(feed=feed), b""))


def refuse_feed(feed: Feed, refusal: Refusal | None = None) -> bytes:
    """Return what ends a feed for who asks for it or hears it: ALERT, FIN.

    refusal: why; None: it is not here, 106.
    """
    alert = Alert(0, 0, 2, Options(reason=refusal or Refusal(Reason.NOT_OFFERED)))
    return encode_segment(alert) + feed_segment(feed, Flag.FIN)


def payload_max(profile: PowerProfile, sampling: Sampling) -> int:
    """Return the most octets of a block in a datagram of this feed."""
    # PTCP-12-04
    return DATAGRAM_MAX - HEADER_OCTETS - len(_area(Feed(ANY_FEED, 0), profile, sampling))


def _area(feed: Feed, profile: PowerProfile, sampling: Sampling) -> bytes:
    return encode_options(Options(profiles=(profile,), sampling=sampling, feed=feed))


class FeedSource:
    """One epoch of a feed: blocks in, pieces out.

    key, sign: the meter key of the source and what signs with it. epoch: above that of every
    earlier run. profile: the power of the feed, which is its rate and never exceeded.
    After each call take `pieces`; `get_timer` says when a signature is due.
    """

    def __init__(
        self,
        *,
        key: bytes,
        sign: Callable[[bytes], bytes],
        epoch: int,
        profile: PowerProfile,
        sampling: Sampling,
    ) -> None:
        """Begin an epoch at counter 0 and 0 uJ."""
        self.feed = Feed(feed_id(key), epoch)
        self.profile = profile.with_type(ProfileType.GRANT, tag=0).as_sent()
        self.sampling = sampling
        self.meter = Meter(RECEIPT_S, RECEIPT_UJ, key)
        self.payload_max = payload_max(self.profile, sampling)
        self.blocks = 0
        self.signatures = 0
        self._sign = sign
        self._area = _area(self.feed, self.profile, sampling)
        self._sign_area = encode_options(Options(meter=self.meter, feed=self.feed))
        self._energy = EnergyRegister(sampling)
        self._protector = Protector(self.profile, sampling)
        self._left = self.profile.power_mw * _BURST_MS * sampling.rate_hz
        self._n = 0
        self._next = 0
        self._digests: list[bytes] = []
        self._first = 0
        self._sign_at: Instant | None = None
        self._pieces: list[Piece] = []

    @property
    def esn_uj(self) -> int:
        """Energy emitted so far, uJ."""
        return self._energy.esn_uj

    def peek(self, sums: BlockSums) -> int:
        """Return the energy emitted once a block of these sums is, uJ."""
        return self._energy.peek(sums.a)

    @property
    def window_samples(self) -> int:
        """How `integrate_many` cuts the sums that `emit` takes."""
        return self._protector.window_samples

    @property
    def is_full(self) -> bool:
        """Whether the next block would wrap the counter: another epoch begins then."""
        return self._next + self._n > _COUNTERS - 1

    def emit(self, payload: bytes, sums: BlockSums, *, ece: bool = False, now: Instant) -> None:
        """Queue one block, and a signature with the last of 25.

        payload: continues where the block before ended, with as many samples. sums: of it, cut by
        `window_samples`. Raises LocalProtocolError, nothing queued, for a block that does not
        belong here: too long, too strong, out of turn.
        """
        self._check(payload, sums)
        # PTCP-12-04, PTCP-2.1-02
        self._left = self._left_after(sums)
        flags = Flag.ECE if ece else 0
        octets = pack_segment(_FEED, flags, 0, self._energy.esn_uj, self._area, payload)
        self._energy.add(sums.a)
        if not self._digests:
            self._first = sums.counter
            self._sign_at = now + SIGN_NS
        self._n, self._next = sums.n, sums.counter + sums.n
        self.blocks += 1
        self._digests.append(block_digest(octets) if ece else _plain_digest(octets))
        self._pieces.append(Piece(octets, is_block=True))
        # PTCP-12-05
        if len(self._digests) == SIGNED_BLOCKS:
            self._put_signature()

    def get_timer(self) -> Instant | None:
        """Return when what is not signed yet must be, None when all is."""
        return self._sign_at

    def handle_timer(self, now: Instant) -> None:
        """Sign what waits for it too long."""
        # PTCP-12-05
        if self._sign_at is not None and now >= self._sign_at:
            self._put_signature()

    def finish(self) -> None:
        """Sign the rest: nothing more is emitted in this epoch."""
        if self._digests:
            self._put_signature()

    def pieces(self) -> list[Piece]:
        """Drain what is to be sent, in order."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def confirm(self) -> bytes:
        """Return the answer to a subscriber: FEED with SYN+ACK."""
        # PTCP-12-02
        options = Options(
            profiles=(self.profile,), sampling=self.sampling, meter=self.meter, feed=self.feed
        )
        return encode_segment(FeedSegment(0, Flag.SYN | Flag.ACK, self.esn_uj, options, b""))

    def serves(self, asked: Feed) -> bool:
        """Say whether this is the feed somebody asked for."""
        return asked.feed_id in (self.feed.feed_id, ANY_FEED)

    def _check(self, payload: bytes, sums: BlockSums) -> None:
        """Refuse a block that receivers would not take."""
        if len(payload) > self.payload_max:
            raise LocalProtocolError(
                f"a block of {len(payload):,} octets, {self.payload_max:,} fit a datagram"
            )
        if sums.counter != self._next or (self._n and sums.n != self._n) or self.is_full:
            raise LocalProtocolError(
                f"a block of {sums.n} samples at {sums.counter}, {self._n} at {self._next} are due"
            )
        refusal = self._protector.check(sums)
        if refusal is not None:
            raise LocalProtocolError(f"a block that no receiver takes: {refusal.sentence()}")
        # PTCP-12-03
        left = self._left_after(sums)
        if left < 0:
            raise LocalProtocolError(
                f"a block beyond {self.profile.power_mw:,} mW, the rate of the feed"
            )

    def _left_after(self, sums: BlockSums) -> int:
        """Return what the rate leaves after a block, uJ times samples a second: below 0 too much.

        The rate is the power of the feed and 2 %, on the mean; parts of a cycle are above it.
        """
        power_mw, rate = self.profile.power_mw, self.sampling.rate_hz
        energy_uj = self._energy.peek(sums.a) - self._energy.esn_uj
        earned = power_mw * 10 * (100 + _SLACK_PERCENT) * sums.n
        return min(power_mw * _BURST_MS * rate, self._left + earned - energy_uj * rate)

    def _put_signature(self) -> None:
        """Queue the signature of the blocks since the last one."""
        digests, self._digests, self._sign_at = self._digests, [], None
        payload = _HEAD.pack(self._first, len(digests)) + b"".join(digests)
        payload += self._sign(signed_message(self.feed, payload))
        esn_uj = self._energy.esn_uj
        octets = pack_segment(_FEED, Flag.PSH, 0, esn_uj, self._sign_area, payload)
        self.signatures += 1
        self._pieces.append(Piece(octets, is_block=False))


def _plain_digest(datagram: bytes) -> bytes:
    """Return `block_digest` of a datagram without ECE."""
    return blake2s(datagram, digest_size=DIGEST_OCTETS).digest()


def samples_max(profile: PowerProfile, sampling: Sampling) -> int:
    """Return the most samples of a block in a datagram of this feed."""
    return (payload_max(profile, sampling) - BLOCK_HEADER_OCTETS) // (8 * sampling.pairs)
