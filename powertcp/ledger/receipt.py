"""One page of a receipt: 380 octets in which both ends of a flow sign the same integers.

Ledger section 6 (offsets in octets, widths in bits):

      0  version 8 = 1 | flags 8 | clock 8 | zero 8
      4  transcript 256
     36  contract 32             40  page 32, from 0
     44  samples 64
     52  energy start 64         60  energy end 64, both ESN, uJ
     68  time start 64           76  time end 64, both Unix, ns
     84  cost 64, signed, millionths of the currency unit
     92  tariff 256, 0: none
    124  digest of the previous page 256, page 0: zero
    156  digest of the waveform 256
    188  meter key of the source 256
    220  meter key of the sink 256
    252  signature of the source 512, over octets 0 to 251
    316  signature of the sink 512, over octets 0 to 315
"""

from dataclasses import dataclass, replace
from enum import IntEnum, IntFlag, StrEnum
from hashlib import blake2s
from struct import Struct, error
from typing import Final

from powertcp.crypto import SigningKey, is_signed_by
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.wire.buffer import BAD_LENGTH, Buffer, Reader

PAGE_OCTETS: Final = 380
VERSION: Final = 1
SOURCE_PREFIX: Final = b"powertcp receipt source "
SINK_PREFIX: Final = b"powertcp receipt sink "
NO_HASH: Final = bytes(32)
NO_SIGNATURE: Final = bytes(64)
# what the source signs, and what the sink does
SOURCE_SIGNS: Final = 252
SINK_SIGNS: Final = 316
# Reason.RECEIPT_INVALID
INVALID: Final = 403

_PAGE = Struct(">BBBB32sIIQQQQQq32s32s32s32s32s64s64s")


class Side(IntEnum):
    """Who holds a page: the end that delivers or the one that receives."""

    SOURCE = 0
    SINK = 1


class Flags(IntFlag):
    """What is special about a page.

    FEED: of a broadcast, signed by its receiver only. FINAL: no page follows.
    TRUNCATED: the sink tripped, the digest covers more than the energy. RESUMED: the page began on
    another connection.
    SIMULATED: samples were synthesised, not measured.
    """

    FEED = 1
    FINAL = 2
    TRUNCATED = 4
    RESUMED = 8
    SIMULATED = 16


class Clock(StrEnum):
    """How far the times of a page can be trusted."""

    UNSYNCHRONISED = "U"
    INFORMATIVE = "I"
    SYNCHRONISED = "S"
    RELATIVE = "R"


NO_FLAGS: Final = Flags(0)
_ALL_FLAGS = int(Flags.FEED | Flags.FINAL | Flags.TRUNCATED | Flags.RESUMED | Flags.SIMULATED)
_CLOCKS = {ord(clock): clock for clock in Clock}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page: what was delivered between two instants, and who says so.

    transcript: of the handshake that began the flow, 32 octets. contract: in force at the end. page: from 0.
    samples: in this page. start_uj, end_uj: ESN. start_ns, end_ns: Unix time.
    cost_micro: millionths of the currency unit, negative if the source pays.
    tariff: BLAKE2s-256 of the tariff document, zero without one. previous: `page_hash` of the page
    before, zero for page 0. digest: of the waveform. Signatures are zero until given.
    """

    flags: Flags = NO_FLAGS
    clock: Clock
    transcript: bytes
    contract: int
    page: int
    samples: int
    start_uj: int
    end_uj: int
    start_ns: int
    end_ns: int
    cost_micro: int = 0
    tariff: bytes = NO_HASH
    previous: bytes = NO_HASH
    digest: bytes = NO_HASH
    source_key: bytes
    sink_key: bytes
    source_signature: bytes = NO_SIGNATURE
    sink_signature: bytes = NO_SIGNATURE

    def to_wire(self) -> bytes:
        """Return the 380 octets. Raises LocalProtocolError when a value does not fit its field."""
        digests = self.transcript, self.tariff, self.previous, self.digest
        widths = {len(octets) for octets in (*digests, self.source_key, self.sink_key)}
        signatures = {len(self.source_signature), len(self.sink_signature)}
        if widths != {32} or signatures != {64}:
            raise LocalProtocolError("keys and digests of a page have 32 octets, signatures 64")
        try:
            return _PAGE.pack(
                VERSION,
                self.flags,
                ord(self.clock),
                0,
                self.transcript,
                self.contract,
                self.page,
                self.samples,
                self.start_uj,
                self.end_uj,
                self.start_ns,
                self.end_ns,
                self.cost_micro,
                *digests[1:],
                self.source_key,
                self.sink_key,
                self.source_signature,
                self.sink_signature,
            )
        except error as fault:
            raise LocalProtocolError(f"page {self.page}: {fault}") from fault

    @classmethod
    def from_wire(cls, octets: Buffer) -> "Page":
        """Return the page; its signatures are not checked.

        Raises DecodeError: 502 for a wrong length, 403 with the offset of a field that no page
        can hold: another version, unknown flags or clock, a register that falls, a first page
        with a page before it, a feed page with a signature of its source.
        """
        # LEDG-6-07
        if len(octets) != PAGE_OCTETS:
            raise DecodeError(0, "page", BAD_LENGTH, len(octets), PAGE_OCTETS)
        row = _PAGE.unpack(Reader(octets).rest())
        version, flags, clock, zero = row[:4]
        if version != VERSION:
            raise DecodeError(0, "version", INVALID, version, VERSION)
        if flags & ~_ALL_FLAGS:
            raise DecodeError(1, "flags", INVALID, flags, _ALL_FLAGS)
        if clock not in _CLOCKS:
            raise DecodeError(2, "clock", INVALID, clock)
        if zero:
            raise DecodeError(3, "zero", INVALID, zero)
        page = cls(
            flags=Flags(flags),
            clock=_CLOCKS[clock],
            transcript=row[4],
            contract=row[5],
            page=row[6],
            samples=row[7],
            start_uj=row[8],
            end_uj=row[9],
            start_ns=row[10],
            end_ns=row[11],
            cost_micro=row[12],
            tariff=row[13],
            previous=row[14],
            digest=row[15],
            source_key=row[16],
            sink_key=row[17],
            source_signature=row[18],
            sink_signature=row[19],
        )
        if page.end_uj < page.start_uj:
            raise DecodeError(60, "end_uj", INVALID, page.end_uj, page.start_uj)
        if page.page == 0 and page.previous != NO_HASH:
            raise DecodeError(124, "previous", INVALID, 0)
        # LEDG-6-05
        if page.is_feed and page.source_signature != NO_SIGNATURE:
            raise DecodeError(252, "source_signature", INVALID, page.page)
        return page

    @property
    def is_feed(self) -> bool:
        """Whether this is a page of a broadcast, which only its receiver signs."""
        return Flags.FEED in self.flags

    @property
    def energy_uj(self) -> int:
        """The energy of this page."""
        return self.end_uj - self.start_uj

    def is_signed_by_source(self) -> bool:
        """Return whether the signature of the source is right; a feed page has none."""
        return _is_source_signed(self.to_wire(), self)

    def is_signed_by_sink(self) -> bool:
        """Return whether the signature of the sink is right."""
        return _is_sink_signed(self.to_wire(), self)


# LEDG-6-08
def _is_source_signed(octets: bytes, page: Page) -> bool:
    message = SOURCE_PREFIX + octets[:SOURCE_SIGNS]
    return is_signed_by(page.source_key, message, page.source_signature)


def _is_sink_signed(octets: bytes, page: Page) -> bool:
    message = SINK_PREFIX + octets[:SINK_SIGNS]
    return is_signed_by(page.sink_key, message, page.sink_signature)


def sign_as_source(page: Page, key: SigningKey) -> Page:
    """Return `page` with the source's meter key and signature; any signature of the sink falls.

    Raises LocalProtocolError for a page of a feed.
    """
    # LEDG-6-05
    if page.is_feed:
        raise LocalProtocolError("a page of a feed is signed by its receiver only")
    page = replace(page, source_key=key.public, sink_signature=NO_SIGNATURE)
    signature = key.sign(SOURCE_PREFIX + page.to_wire()[:SOURCE_SIGNS])
    return replace(page, source_signature=signature)


def countersign(page: Page, key: SigningKey) -> Page:
    """Return `page` with the signature of the sink.

    Raises LocalProtocolError when `key` is not the sink's meter key named in the page: the source
    has signed that name.
    """
    if page.sink_key != key.public:
        raise LocalProtocolError("the page names another meter as its sink")
    return replace(page, sink_signature=key.sign(SINK_PREFIX + page.to_wire()[:SINK_SIGNS]))


def page_hash(octets: Buffer) -> bytes:
    """Return what the next page holds as `previous`: BLAKE2s-256 of the page as the source sent it.

    The signature of the sink counts as zero, so that either copy gives the same.
    """
    if len(octets) != PAGE_OCTETS:
        raise LocalProtocolError(f"a page of {len(octets)} octets, it has {PAGE_OCTETS}")
    # LEDG-6-08
    return blake2s(bytes(octets[:SINK_SIGNS]) + NO_SIGNATURE).digest()


def next_digest(digest: bytes, block: Buffer) -> bytes:
    """Return the waveform digest after one more DVE block; a page begins with 32 zero octets."""
    # LEDG-6-08
    return blake2s(digest + block).digest()
