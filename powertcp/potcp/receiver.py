"""A receiver of a broadcast feed: what a signature covers is banked, once, and nothing else.

`FeedReceiver` is a DatagramMachine; `FeedSubscription` carries the same segments over TCP. What
anybody may send to the group never raises and never grows beyond the limits here (PoTCP 12).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2s
from typing import Final

from powertcp.crypto import is_signed_by
from powertcp.dve import SIM, BlockSums, block_header, integrate_many
from powertcp.dve.block import RATE_MAX_HZ, RATE_MIN_HZ
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.machine import Address, Buffer, Event
from powertcp.potcp.config import RECEIPT_S, RECEIPT_UJ
from powertcp.potcp.epoch import NO_ACCOUNT, WINDOW_BLOCKS, Account, Block, Epoch, Terms
from powertcp.potcp.events import (
    HeatCounted,
    SamplesReceived,
)
from powertcp.potcp.feed import (
    DATAGRAM_MAX,
    Signature,
    block_digest,
    read_signature,
)
from powertcp.potcp.waiting import Waiting
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag, Reason, SegmentType
from powertcp.units import NS_PER_S, Duration, Instant
from powertcp.wire.feeds import feed_id, feed_transcript
from powertcp.wire.frames import HEADER_OCTETS, RawSegment, Splitter, whole_segment
from powertcp.wire.options import Feed, Options, Sampling, decode_options

# signatures that do not hold, in a second, before the rest of that second is not looked at: 13 ms
FORGED_MAX: Final = 100
# the same for who sends those that hold and are new: who floods does not silence the source
FORGED_KNOWN_MAX: Final = 1000
# option areas of blocks that were decoded; a source has one
AREAS_MAX: Final = 16
# no new signature for so long: the feed is silent
SILENCE_NS: Final[Duration] = 5 * NS_PER_S

_FEED: Final = int(SegmentType.FEED)
_KIND_FLAGS: Final = int(Flag.SYN | Flag.ACK | Flag.FIN | Flag.PSH)
_BEFORE: Final[Instant] = -(1 << 63)
_SAMPLES_AT: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedJoined(Event):
    """The first signed block of an epoch: from here on the receiver banks.

    feed: its identifier and epoch. key: the meter key of its source.
    """

    feed: Feed
    key: bytes
    profile: PowerProfile
    sampling: Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSilent(Event):
    """No new signature came for 5 s; a later one needs no other event to count."""

    feed: Feed


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedPageDue(Event):
    """A receipt is due: what was banked since the page before, to be signed by the receiver.

    transcript: of the feed and its epoch. page: from 0. digest: of the blocks in the order in
    which they were banked. top: index of the newest block signed. key: of the source. final: the
    epoch is over for us. resumed: the account goes on after a restart.
    """

    feed: Feed
    transcript: bytes
    page: int
    samples: int
    start_uj: int
    end_uj: int
    digest: bytes
    top: int
    key: bytes
    final: bool
    resumed: bool
    sim: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedTally:
    """What became of everything that arrived; blocks unless said otherwise.

    lost: of those that signatures say were emitted since the first one banked. lost_uj: their
    energy by the ESN of the source, within 2 uJ. pending: wait for a signature. unsigned: waited
    in vain. heat: signed and beyond the limits of the profile. forged, malformed, strange:
    datagrams with a wrong signature, wrong octets, of another feed or no feed at all.
    """

    banked: int = 0
    lost: int = 0
    lost_uj: int = 0
    duplicates: int = 0
    old: int = 0
    pending: int = 0
    unsigned: int = 0
    heat: int = 0
    forged: int = 0
    malformed: int = 0
    strange: int = 0


class FeedReceiver:
    """Banks one feed. wanted: its identifier; b"" takes the first one whose signature holds.

    receipt_s, receipt_uj: a page at least so often. want_samples: SamplesReceived carries them.
    accounts: by transcript, what an earlier run banked of an epoch that may still go on.
    """

    def __init__(
        self,
        *,
        wanted: bytes = b"",
        receipt_s: int = RECEIPT_S,
        receipt_uj: int = RECEIPT_UJ,
        want_samples: bool = False,
        accounts: Mapping[bytes, Account] | None = None,
    ) -> None:
        """Listen; nothing is known yet."""
        self._id = wanted
        self._receipt_ns: Duration = receipt_s * NS_PER_S
        self._receipt_uj = receipt_uj
        self._want_samples = want_samples
        self._accounts = accounts or {}
        self._epoch: Epoch | None = None
        self._left = False
        self._pending = Waiting()
        self._areas: dict[bytes, tuple[Feed, PowerProfile, Sampling]] = {}
        self._events: list[Event] = []
        self._counts = dict.fromkeys(FeedTally.__dataclass_fields__, 0)
        self._clock: Instant = _BEFORE
        self._forged_since: Instant = _BEFORE
        self._forged_count = 0
        self._silent_at: Instant | None = None

    @property
    def feed(self) -> Feed | None:
        """The feed and epoch that is banked, None before the first signature that held."""
        return self._epoch.feed if self._epoch else None

    @property
    def esn_uj(self) -> int:
        """Energy banked of this epoch, uJ."""
        epoch = self._epoch
        return epoch.energy.esn_uj if epoch is not None and epoch.terms is not None else 0

    def tally(self) -> FeedTally:
        """Return what became of everything that arrived, of all epochs; lost: of this one."""
        counts = dict(self._counts, pending=len(self._pending))
        epoch = self._epoch
        if epoch is not None and epoch.counted:
            emitted = epoch.signed_top - epoch.first_index + 1
            counts["lost"] = max(0, emitted - epoch.counted)
            between_uj = epoch.end_uj - epoch.first_esn_uj
            counts["lost_uj"] = max(0, between_uj - epoch.heard_uj) if counts["lost"] else 0
        return FeedTally(**counts)

    # --- the machine contract ------------------------------------------------------------------

    def receive_datagram(self, data: Buffer, peer: Address, now: Instant) -> None:
        """Take one datagram of whoever sends to the group; never raises on its content."""
        self._tick(now)
        # PTCP-12-04
        splitter = Splitter(DATAGRAM_MAX)
        found = splitter.receive(data) if len(data) <= DATAGRAM_MAX else []
        if len(found) != 1 or splitter.error is not None or splitter.pending:
            self._counts["malformed"] += 1
            return
        self.take(found[0], now, peer)

    def take(self, raw: RawSegment, now: Instant, peer: Address | None = None) -> None:
        """Take one segment that may be of the feed; never raises on its content."""
        self._tick(now)
        kind = raw[1] & _KIND_FLAGS
        if self._left or raw[0] != _FEED or raw[2] or kind not in (0, Flag.PSH):
            self._counts["strange"] += 1
            return
        try:
            if kind:
                self._take_signature(raw, now, peer)
            else:
                self._take_block(raw, peer)
        except DecodeError:
            self._counts["malformed"] += 1

    def datagrams_to_send(self) -> list[tuple[bytes, Address]]:
        """Return nothing: consumers listen."""
        # PTCP-12-03
        return []

    def next_event(self) -> Event | None:
        """Drain one event; None when there are no more."""
        return self._events.pop(0) if self._events else None

    def get_timer(self) -> Instant | None:
        """Return when a page is due, or silence would be noticed."""
        if self._epoch is None:
            return None
        page_at = self._epoch.page_at + self._receipt_ns
        return page_at if self._silent_at is None else min(page_at, self._silent_at)

    def handle_timer(self, now: Instant) -> None:
        """Close a page that is due, notice silence."""
        self._tick(now)
        epoch = self._epoch
        if epoch is None:
            return
        if now >= epoch.page_at + self._receipt_ns:
            self._close_page(epoch, now, final=False)
        if self._silent_at is not None and now >= self._silent_at:
            self._silent_at = None
            self._events.append(FeedSilent(feed=epoch.feed))

    def leave(self, now: Instant) -> None:
        """Close the last page; nothing more is banked."""
        self._tick(now)
        if self._epoch is not None:
            self._close_page(self._epoch, now, final=True)
        self._pending.clear()
        self._silent_at = None
        self._left = True

    # --- blocks ----------------------------------------------------------------------------------

    def _tick(self, now: Instant) -> None:
        if now < self._clock:
            raise LocalProtocolError(f"the clock went back from {self._clock} to {now}")
        self._clock = now

    def _is_stale(self, feed: Feed) -> bool:
        """Count what is of another feed or of an epoch that is over."""
        if self._id and feed.feed_id != self._id:
            self._counts["strange"] += 1
            return True
        # PTCP-12-01
        if self._epoch is not None and feed.epoch < self._epoch.feed.epoch:
            self._counts["old"] += 1
            return True
        return False

    def _take_block(self, raw: RawSegment, peer: Address | None) -> None:
        """Keep a block until its signature comes, or bank it when that was first."""
        block = self._read_block(raw)
        if self._is_stale(block.feed):
            return
        epoch, counts = self._epoch, self._counts
        if epoch is not None and epoch.feed != block.feed:
            epoch = None
        # PTCP-12-01
        if epoch is not None and epoch.has(block):
            counts["duplicates"] += 1
            return
        digest = block_digest(whole_segment(raw))
        if epoch is not None and digest in epoch.promised:
            del epoch.promised[digest]
            self._bank(epoch, [block])
            return
        if digest in self._pending:
            counts["duplicates"] += 1
            return
        # PTCP-14-01
        if self._pending.put(digest, block, peer):
            counts["unsigned"] += 1

    def _read_block(self, raw: RawSegment) -> Block:
        """Decode a block. Raises DecodeError for what no feed sends."""
        _, flags, _, esn_uj, area, payload = raw
        size = HEADER_OCTETS + len(area) + len(payload)
        # PTCP-12-04
        if size > DATAGRAM_MAX:
            raise DecodeError(6, "payload length", Reason.LIMIT, size, DATAGRAM_MAX)
        octets = bytes(area)
        terms = self._areas.get(octets)
        if terms is None:
            terms = _read_terms(octets)
            if len(self._areas) >= AREAS_MAX:
                self._areas.clear()
            self._areas[octets] = terms
        feed, profile, sampling = terms
        counter, _, pairs, n = block_header(payload)
        # PTCP-3.1-01
        if pairs != sampling.pairs:
            raise DecodeError(5, "pairs", Reason.SAMPLE_GAP, pairs, sampling.pairs)
        ece = flags & Flag.ECE != 0
        return Block(feed, profile, sampling, esn_uj, counter, n, ece, bytes(payload))

    def _take_signature(self, raw: RawSegment, now: Instant, peer: Address | None) -> None:
        """Bank the blocks that a signature covers, if it holds."""
        options = decode_options(raw[4])
        feed = options.feed
        if feed is None:
            raise DecodeError(HEADER_OCTETS, "feed", Reason.BAD_OPTION)
        said = read_signature(feed, raw[5])
        if self._is_stale(feed):
            return
        epoch = self._epoch
        is_first = epoch is None or feed != epoch.feed
        if epoch is not None and not is_first:
            if said.first in epoch.starts:
                self._counts["duplicates"] += 1
                return
            # PTCP-12-01
            if epoch.is_behind(said.first, len(said.digests)):
                self._counts["old"] += 1
                return
        key = self._key_of(feed, options)
        if not self._holds(key, said, now, peer):
            self._counts["forged"] += 1
            return
        if epoch is None or is_first:
            epoch = self._begin(feed, key, now)
        # PTCP-14-01: anybody may send an old one again
        if epoch.note_start(said.first):
            self._pending.note_signer(peer, now, is_first=is_first)
            self._silent_at = now + SILENCE_NS
        self._take_digests(epoch, said)

    def _take_digests(self, epoch: Epoch, said: Signature) -> None:
        """Bank those of the blocks signed that wait, promise the others."""
        signed = []
        for digest in said.digests:
            block = self._pending.pop(digest)
            if block is None:
                epoch.promised[digest] = None
            else:
                signed.append(block)
        # PTCP-14-01
        while len(epoch.promised) > WINDOW_BLOCKS:
            del epoch.promised[next(iter(epoch.promised))]
        if signed:
            self._bank(epoch, sorted(signed, key=_counter_of))
        if epoch.terms is not None:
            last = said.first // epoch.terms.n + len(said.digests) - 1
            epoch.signed_top = max(epoch.signed_top, last)

    def _key_of(self, feed: Feed, options: Options) -> bytes:
        """Return the key that may sign for a feed, b"" when none is known."""
        if self._epoch is not None:
            return self._epoch.key
        # PTCP-12-06
        meter = options.meter
        return meter.key if meter is not None and feed_id(meter.key) == feed.feed_id else b""

    def _holds(self, key: bytes, said: Signature, now: Instant, peer: Address | None) -> bool:
        """Verify a signature; after too many that do not hold, none is looked at for a while."""
        if now - self._forged_since >= NS_PER_S:
            self._forged_since, self._forged_count = now, 0
        # PTCP-14-01
        is_known = peer is not None and peer == self._pending.known
        if not key or self._forged_count >= (FORGED_KNOWN_MAX if is_known else FORGED_MAX):
            return False
        if is_signed_by(key, said.message, said.signature):
            return True
        self._forged_count += 1
        return False

    def _begin(self, feed: Feed, key: bytes, now: Instant) -> Epoch:
        """A newer epoch was proven: the one before is over."""
        if self._epoch is not None:
            self._close_page(self._epoch, now, final=True)
        account = self._accounts.get(feed_transcript(feed.feed_id, feed.epoch), NO_ACCOUNT)
        epoch = self._epoch = Epoch(feed, key, account, now)
        self._id = feed.feed_id
        self._pending.keep(lambda block: not self._is_stale(block.feed))
        return epoch

    def _join(self, epoch: Epoch, block: Block) -> Terms:
        """Take the terms of the first signed block, and say so."""
        self._events.append(
            FeedJoined(
                feed=epoch.feed, key=epoch.key, profile=block.profile, sampling=block.sampling
            )
        )
        return epoch.begin(block)

    def _bank(self, epoch: Epoch, blocks: list[Block]) -> None:
        """Count blocks that are signed, each once. PTCP-12-01."""
        terms = epoch.terms or self._join(epoch, blocks[0])
        before_uj = epoch.energy.esn_uj
        fitting = [block for block in blocks if terms.fit(block)]
        self._counts["malformed"] += len(blocks) - len(fitting)
        payloads = [block.payload for block in fitting]
        banked: list[Block] = []
        for block, sums in zip(
            fitting, integrate_many(payloads, epoch.protector.window_samples), strict=True
        ):
            index = block.counter // terms.n
            # PTCP-12-01
            if epoch.seen.has(index):
                self._counts["duplicates"] += 1
                continue
            epoch.seen.add(index)
            if self._count(epoch, block, index, sums):
                banked.append(block)
        if banked:
            self._report(epoch, banked, epoch.energy.esn_uj - before_uj)

    def _count(self, epoch: Epoch, block: Block, index: int, sums: BlockSums) -> bool:
        """Bank one block, or count it as heat; whether it was banked."""
        refusal = epoch.protector.check(sums)
        here_uj = epoch.energy.esn_uj
        energy_uj = epoch.energy.peek(sums.a) - here_uj
        epoch.locate(block, index, energy_uj)
        if refusal is not None:
            self._counts["heat"] += 1
            heat_uj = max(0, energy_uj)
            self._events.append(HeatCounted(flow=0, energy_uj=heat_uj, refusal=refusal))
            return False
        # PTCP-12-01, PTCP-3.3-01
        epoch.energy.add(sums.a)
        self._counts["banked"] += 1
        epoch.samples += block.n
        epoch.sim = epoch.sim or sums.sync & SIM != 0
        epoch.digest = blake2s(epoch.digest + block.payload).digest()
        return True

    def _report(self, epoch: Epoch, banked: list[Block], energy_uj: int) -> None:
        """Say what was banked, and close the page when it holds enough."""
        samples = None
        if self._want_samples:
            samples = b"".join([block.payload[_SAMPLES_AT:] for block in banked])
        self._events.append(
            SamplesReceived(
                flow=0,
                count=sum(block.n for block in banked),
                energy_uj=energy_uj,
                esn_uj=epoch.energy.esn_uj,
                samples=samples,
                sim=epoch.sim,
                ece=any(block.ece for block in banked),
            )
        )
        if epoch.energy.esn_uj - epoch.page_start_uj >= self._receipt_uj:
            self._close_page(epoch, self._clock, final=False)

    # --- pages -----------------------------------------------------------------------------------

    def _close_page(self, epoch: Epoch, now: Instant, *, final: bool) -> None:
        """Say what the receipt of the open page must say; none for a page without energy."""
        epoch.page_at = now
        if not epoch.samples:
            return
        end_uj = epoch.energy.esn_uj
        self._events.append(
            FeedPageDue(
                feed=epoch.feed,
                transcript=feed_transcript(epoch.feed.feed_id, epoch.feed.epoch),
                page=epoch.page,
                samples=epoch.samples,
                start_uj=epoch.page_start_uj,
                end_uj=end_uj,
                digest=epoch.digest,
                top=epoch.signed_top,
                key=epoch.key,
                final=final,
                resumed=epoch.resumed,
                sim=epoch.sim,
            )
        )
        epoch.page += 1
        epoch.page_start_uj, epoch.samples = end_uj, 0
        epoch.digest, epoch.resumed = bytes(32), False


def _counter_of(block: Block) -> int:
    return block.counter


def _read_terms(area: bytes) -> tuple[Feed, PowerProfile, Sampling]:
    """Return what the options of a block say. Raises DecodeError for what no feed sends."""
    options = decode_options(area)
    feed, sampling = options.feed, options.sampling
    if feed is None or sampling is None or len(options.profiles) != 1:
        raise DecodeError(HEADER_OCTETS, "options", Reason.BAD_OPTION, len(options.profiles), 1)
    [profile] = options.profiles
    # PTCP-12-04
    if profile.type is not ProfileType.GRANT or profile.pairs != sampling.pairs:
        raise DecodeError(HEADER_OCTETS, "profile", Reason.BAD_OPTION, int(profile.type))
    # PTCP-3.2-01
    if not RATE_MIN_HZ <= sampling.rate_hz <= RATE_MAX_HZ:
        raise DecodeError(HEADER_OCTETS, "rate", Reason.SAMPLING, sampling.rate_hz, RATE_MAX_HZ)
    return feed, profile, sampling
