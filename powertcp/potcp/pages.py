"""What one end knows of a flow's receipts: the span since the last page, and the page under way.

Both ends count the same blocks in the same order, so both hold the same numbers at the place where
a page stands in the stream. Nothing here exists for a flow without METER. PTCP-13-01, LEDG-6-01.
"""

from dataclasses import replace
from hashlib import blake2s
from struct import Struct
from typing import Final, NamedTuple

from powertcp.machine import Buffer
from powertcp.potcp.events import PageFacts, PageMark
from powertcp.units import NS_PER_S, Instant
from powertcp.wire.options import Meter, Tariff

PAGE_OCTETS: Final = 380
# what the sink signs: all but its own signature
SIGNED_OCTETS: Final = 316
# what the source signs
CLAIMED_OCTETS: Final = 252
SOURCE_CONTEXT: Final = b"powertcp receipt source "
SINK_CONTEXT: Final = b"powertcp receipt sink "
# a page by energy at most each second, whatever METER says: signing costs both ends
PAGE_GAP_NS: Final = 1 * NS_PER_S
# pages that a sink looks at within PAGES_SPAN_NS: a signature and a commit each
PAGES_MAX: Final = 20
PAGES_SPAN_NS: Final = 10 * NS_PER_S
# pages that wait for the owner's answer to the one before: a contract changes at most 6 times a
# minute, and a source stops 10 s after the first of them
PAGES_WAITING_MAX: Final = 8
NO_DIGEST: Final = bytes(32)
FINAL_BIT, TRUNCATED_BIT, RESUMED_BIT = 2, 4, 8
SIM_BIT: Final = 0x80
_CLAIM = Struct(">xBxx32sIIQQQ88x32s")


class Claim(NamedTuple):
    """What a page says of its place: flags, number, samples, energies. Not a check of anything."""

    flags: int
    transcript: bytes
    contract: int
    page: int
    samples: int
    start_uj: int
    end_uj: int
    digest: bytes

    @classmethod
    def of(cls, octets: bytes) -> "Claim":
        """Read a page of PAGE_OCTETS."""
        return cls(*_CLAIM.unpack_from(octets))


class Pages:
    """The receipts of one flow at one end.

    meter: what was agreed, with our key. peer_key: Ed25519 key of the other meter. number: of the
    page that is next or open. span: start_uj, samples, digest, sim, resumed, contract, tariff.
    open: the page that was sent or received and is not countersigned, b"" none; open_end_uj: its
    end. held: at the source, the copy of the open page that is not on the disk yet. copy: the last
    page that both signed. signed_uj: energy that countersigned pages cover.
    is_due: a page at a change of terms waits for the copy of the page before; at the sink: a page that
    crossed its TRIP will come again, under the terms it had. is_closing: the next
    page is the last one. is_done: the last one is countersigned. is_fresh: no block came since the
    flow was resumed: a span that begins there is of two paths. is_foreign: another provider of the
    realm made the page before, perhaps one that we do not know of. waiting: at the sink, pages that came
    while another was open.
    """

    __slots__ = (
        "contract",
        "copy",
        "digest",
        "expose_at",
        "give_up_at",
        "held",
        "is_closing",
        "is_disputed",
        "is_done",
        "is_due",
        "is_foreign",
        "is_fresh",
        "is_open_final",
        "is_truncated",
        "meter",
        "number",
        "open",
        "open_contract",
        "open_end_uj",
        "open_sim",
        "open_tariff",
        "page_at",
        "peer_key",
        "resumed",
        "samples",
        "sent_at",
        "signed_uj",
        "sim",
        "start_uj",
        "tariff",
        "times",
        "transcript",
        "waiting",
    )

    def __init__(
        self,
        meter: Meter,
        peer_key: bytes,
        transcript: bytes,
        contract: int,
        tariff: Tariff | None,
    ) -> None:
        self.meter, self.peer_key, self.transcript = meter, peer_key, transcript
        self.number = self.signed_uj = self.start_uj = self.samples = 0
        self.digest = NO_DIGEST
        self.sim = self.open_sim = self.resumed = False
        self.contract, self.tariff = contract, tariff
        self.open = self.held = self.copy = b""
        self.open_end_uj = 0
        self.open_contract, self.open_tariff = contract, tariff
        self.is_due = self.is_closing = self.is_open_final = self.is_done = False
        self.is_disputed = self.is_truncated = self.is_fresh = self.is_foreign = False
        self.sent_at: Instant = 0
        self.page_at: Instant | None = None
        self.expose_at: Instant | None = None
        self.give_up_at: Instant | None = None
        self.times: tuple[Instant, ...] = ()
        self.waiting: tuple[tuple[bytes, PageFacts], ...] = ()

    # --- the span ----------------------------------------------------------------------------

    # LEDG-6-01
    def note(self, block: Buffer, samples: int, sync: int) -> None:
        """Count a DVE block of this span, whatever becomes of its energy."""
        link = blake2s(self.digest)
        link.update(block)
        self.digest = link.digest()
        self.samples += samples
        self.is_fresh = False
        self.sim = self.sim or sync & SIM_BIT != 0

    def has_news(self, end_uj: int) -> bool:
        """Return whether anything came since the last page."""
        return self.samples != 0 or end_uj != self.start_uj

    def begin(self, start_uj: int, contract: int, tariff: Tariff | None) -> None:
        """Begin the next span under the terms that hold there."""
        self.open_contract, self.open_tariff, self.open_sim = self.contract, self.tariff, self.sim
        self.start_uj, self.contract, self.tariff = start_uj, contract, tariff
        self.clear()
        self.sim, self.resumed = False, self.is_fresh

    def clear(self) -> None:
        """Count samples and digest anew: what was lost with a path is in no page's digest."""
        self.samples, self.digest = 0, NO_DIGEST

    def facts(
        self,
        flow: int,
        end_uj: int,
        now: Instant,
        *,
        final: bool = False,
        truncated: bool = False,
    ) -> PageFacts:
        """Return our own numbers of the span that ends here."""
        return PageFacts(
            flow=flow,
            page=self.number,
            transcript=self.transcript,
            contract=self.contract,
            samples=self.samples,
            start_uj=self.start_uj,
            end_uj=end_uj,
            digest=self.digest,
            peer_key=self.peer_key,
            tariff=self.tariff,
            previous=self.copy,
            at_ns=now,
            final=final,
            truncated=truncated,
            resumed=self.resumed,
            sim=self.sim,
        )

    # --- the page under way ------------------------------------------------------------------

    @property
    def is_owed(self) -> bool:
        """Whether the flow cannot close yet: its last page lacks a signature that may come."""
        return not (self.is_done or self.is_disputed)

    def close(self, copy: bytes) -> None:
        """Both have signed the page under way."""
        self.copy, self.open, self.held, self.is_foreign = copy, b"", b"", False
        self.signed_uj = self.open_end_uj
        self.number += 1
        self.expose_at = self.give_up_at = None
        self.is_done = self.is_open_final

    def look(self) -> tuple[bytes, PageFacts] | None:
        """Open the first page that waits, None while another is open or none waits."""
        if self.open or not self.waiting:
            return None
        (octets, facts), *rest = self.waiting
        self.waiting = tuple(rest)
        self.open, self.open_end_uj, self.is_open_final = octets, facts.end_uj, facts.final
        return octets, replace(facts, page=self.number, previous=self.copy)

    # DPDP-10-09
    def recover(self, claim: Claim, copy: bytes, contract: int, tariff: Tariff | None) -> None:
        """Go on after a page that another provider made, of which the sink has sent the copy."""
        self.number, self.open, self.held = claim.page, copy, copy
        self.open_end_uj = self.start_uj = claim.end_uj
        self.contract, self.tariff = contract, tariff
        self.is_open_final = self.is_due = False
        self.expose_at = self.give_up_at = None

    # LEDG-6-12
    def withdraw(self) -> None:
        """Take back the page under way, which says more than the sink verified."""
        self.open, self.held, self.is_open_final = b"", b"", False
        self.start_uj = self.signed_uj
        self.contract, self.tariff = self.open_contract, self.open_tariff
        self.sim = self.sim or self.open_sim
        self.expose_at = self.give_up_at = None
        self.is_due = True

    # --- a sink that moves to another connection ---------------------------------------------

    def mark(self) -> PageMark:
        """Return what continues on another connection; pages that wait will come again."""
        return PageMark(
            transcript=self.transcript,
            peer_key=self.peer_key,
            page=self.number,
            start_uj=self.open_end_uj if self.open else self.signed_uj,
            signed_uj=self.signed_uj,
            contract=self.contract,
            tariff=self.tariff,
            unanswered=self.open,
            answered=self.copy,
            sim=self.sim,
            is_disputed=self.is_disputed,
        )

    # LEDG-6-12
    def recall(self, claim: Claim) -> None:
        """A page of the lost path, which never came: how many blocks without energy were lost
        with it nobody can tell, so samples and digest are the source's word; energy is not.
        """
        self.samples, self.digest = claim.samples, claim.digest
        self.resumed = claim.flags & RESUMED_BIT != 0
        self.contract, self.tariff = self.open_contract, self.open_tariff

    @classmethod
    def of(cls, mark: PageMark, meter: Meter) -> "Pages":
        """Continue from `mark`: page numbers and registers go on, the digest begins anew."""
        pages = cls(meter, mark.peer_key, mark.transcript, mark.contract, mark.tariff)
        pages.number, pages.start_uj, pages.signed_uj = mark.page, mark.start_uj, mark.signed_uj
        pages.open, pages.copy = mark.unanswered, mark.answered
        pages.is_disputed, pages.sim = mark.is_disputed, mark.sim
        if pages.open:
            pages.open_end_uj = pages.start_uj
            pages.is_open_final = Claim.of(pages.open).flags & FINAL_BIT != 0
        pages.resumed = pages.is_fresh = True
        return pages
