"""What each end remembers of a flow from page to page: makes pages, and compares those that come."""

from dataclasses import dataclass
from typing import Final, Protocol

from powertcp.crypto import SigningKey
from powertcp.errors import LocalProtocolError
from powertcp.ledger.receipt import (
    NO_HASH,
    SINK_SIGNS,
    Clock,
    Flags,
    Page,
    Side,
    countersign,
    page_hash,
    sign_as_source,
)
from powertcp.ledger.tariff import cost_micro
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.options import Tariff

# what two honest clocks may differ
CLOCK_TOLERANCE_NS: Final = 5 * NS_PER_S

# what both ends count, to the last unit
_EXACT = (
    "transcript",
    "contract",
    "page",
    "samples",
    "start_uj",
    "end_uj",
    "cost_micro",
    "tariff",
    "previous",
    "digest",
    "source_key",
    "sink_key",
)
_COMPARED = Flags.FEED | Flags.RESUMED | Flags.SIMULATED


class PageFacts(Protocol):
    """What one end of a flow counted itself since the page before."""

    @property
    def page(self) -> int:
        """The number of the page, from 0."""

    @property
    def previous(self) -> bytes:
        """The page before, 380 octets as both signed it; empty for page 0."""

    @property
    def transcript(self) -> bytes:
        """Of the handshake that began the flow, 32 octets."""

    @property
    def contract(self) -> int:
        """In force at the end of the page."""

    @property
    def samples(self) -> int:
        """Since the last page."""

    @property
    def start_uj(self) -> int:
        """ESN at which the last page ended."""

    @property
    def end_uj(self) -> int:
        """ESN at the end."""

    @property
    def digest(self) -> bytes:
        """Of the waveform since the last page."""

    @property
    def peer_key(self) -> bytes:
        """Meter key of the other side."""

    @property
    def tariff(self) -> Tariff | None:
        """In force during the page."""

    @property
    def final(self) -> bool:
        """No page follows."""

    @property
    def truncated(self) -> bool:
        """The sink tripped: the digest covers more than the energy."""

    @property
    def resumed(self) -> bool:
        """The page began on another connection."""

    @property
    def sim(self) -> bool:
        """Samples were synthesised."""


class FeedFacts(Protocol):
    """What the receiver of a feed banked since the page before."""

    @property
    def transcript(self) -> bytes:
        """Of the feed and its epoch, 32 octets."""

    @property
    def page(self) -> int:
        """The number of the page, from 0."""

    @property
    def samples(self) -> int:
        """Since the last page."""

    @property
    def start_uj(self) -> int:
        """Banked up to the last page."""

    @property
    def end_uj(self) -> int:
        """Banked so far."""

    @property
    def digest(self) -> bytes:
        """Of the blocks that were banked since the last page."""

    @property
    def key(self) -> bytes:
        """Meter key of the source."""

    @property
    def final(self) -> bool:
        """No page follows."""

    @property
    def resumed(self) -> bool:
        """The first page after a restart."""

    @property
    def sim(self) -> bool:
        """Samples were synthesised."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field in which a page does not say what we count.

    page: its number. ours, theirs: the two values; `ours` is None for a signature that is wrong.
    """

    page: int
    field: str
    ours: int | bytes | None
    theirs: int | bytes

    def __str__(self) -> str:
        if self.ours is None:
            return f"page {self.page}: {self.field} is not valid"
        theirs, ours = _shown(self.theirs), _shown(self.ours)
        return f"page {self.page}: {self.field} is {theirs}, our meter says {ours}"

    def refusal(self) -> Refusal:
        """Return what the ALERT says: both numbers, or twice the page's where they are none."""
        value = limit = self.page
        if isinstance(self.theirs, int) and isinstance(self.ours, int):
            value, limit = self.theirs, self.ours
        said = str(self)
        return Refusal(
            int(Reason.RECEIPT_INVALID), value, limit, text=said, rule=said, requirement="LEDG-6-02"
        )


def _shown(value: int | bytes) -> str:
    return value.hex() if isinstance(value, bytes) else f"{value:,}"


def compare(page: Page, ours: Page) -> tuple[Difference, ...]:
    """Return the fields in which `page` of the source is not what we would have written.

    Everything must be equal but the times, which may differ by 5 s if both clocks can be compared:
    durations only if one is relative, not at all if one is not synchronised. Whether the page is
    final or truncated is for the source to say, and when a resumed page 0 starts. Signatures are
    not looked at.
    """
    found = [
        Difference(page.page, name, wanted, said)
        for name in _EXACT
        if (said := getattr(page, name)) != (wanted := getattr(ours, name))
    ]
    said, wanted = int(page.flags & _COMPARED), int(ours.flags & _COMPARED)
    if said != wanted:
        found.append(Difference(page.page, "flags", wanted, said))
    return (*found, *_compare_times(page, ours))


def _compare_times(page: Page, ours: Page) -> list[Difference]:
    clocks = {page.clock, ours.clock}
    # an end that was restarted before there was any page has forgotten when the flow began
    is_begun_anew = page.page == 0 and Flags.RESUMED in page.flags
    pairs = [("end_ns", ours.end_ns, page.end_ns)]
    if not is_begun_anew:
        pairs.insert(0, ("start_ns", ours.start_ns, page.start_ns))
    if Clock.RELATIVE in clocks:
        spans = ours.end_ns - ours.start_ns, page.end_ns - page.start_ns
        pairs = [] if is_begun_anew else [("duration_ns", *spans)]
    if Clock.UNSYNCHRONISED in clocks:
        pairs = []
    return [
        Difference(page.page, name, wanted, said)
        for name, wanted, said in pairs
        if abs(said - wanted) > CLOCK_TOLERANCE_NS
    ]


class PageChain:
    """The pages of one flow at one end: each begins where the one before ended.

    A source calls `next_page` at each boundary. A sink calls `check` for each page, and
    `countersign` if nothing differs.
    """

    __slots__ = ("_checked", "_key", "_offered", "_price", "_side", "_start_ns")

    def __init__(self, key: SigningKey, side: Side, start_ns: int) -> None:
        """Begin at `start_ns`, Unix time. key: our meter."""
        self._key = key
        self._side = side
        self._start_ns = start_ns
        # tariff, and the ESN since which it is in force: of the last page that both have signed
        self._price: tuple[Tariff | None, int] = (None, 0)
        # the same for a page that was made or checked since: it counts once both have signed
        self._offered: tuple[bytes, Tariff | None, int] = (b"", None, 0)
        self._checked: Page | None = None

    # LEDG-6-01
    def next_page(self, facts: PageFacts, end_ns: int, clock: Clock) -> bytes:
        """Return the next page, signed by us as its source: 380 octets.

        end_ns: Unix time; `clock` says how far to trust it, and it may have gone backwards.
        Raises LocalProtocolError, nothing changed, at a sink, or when a number does not fit its
        field; DecodeError when `facts.previous` is no page.
        """
        if self._side is not Side.SOURCE:
            raise LocalProtocolError("the source writes the pages, the sink countersigns")
        page, base_uj = self._expected(facts, end_ns, clock)
        octets = sign_as_source(page, self._key).to_wire()
        self._offered = (octets[:SINK_SIGNS], facts.tariff, base_uj)
        return octets

    # LEDG-6-02
    def check(
        self, octets: bytes, facts: PageFacts, end_ns: int, clock: Clock
    ) -> tuple[Difference, ...]:
        """Return in what the source's page differs from our numbers.

        If there is nothing, call `countersign`; else send an ALERT with `Difference.refusal()`.
        Raises DecodeError for octets that are no page.
        """
        page = Page.from_wire(octets)
        ours, base_uj = self._expected(facts, end_ns, clock)
        found = list(compare(page, ours))
        if page.page and page.start_ns != ours.start_ns:
            found.append(Difference(page.page, "start_ns", ours.start_ns, page.start_ns))
        if not page.is_signed_by_source():
            found.append(Difference(page.page, "source_signature", None, page.source_signature))
        self._checked = None if found else page
        if not found:
            self._offered = (octets[:SINK_SIGNS], facts.tariff, base_uj)
        return tuple(found)

    def countersign(self, octets: bytes) -> bytes:
        """Return the page with our signature.

        Raises LocalProtocolError unless `check` has just found nothing in these octets.
        """
        page = self._checked
        if page is None or self._offered[0] != octets[:SINK_SIGNS]:
            raise LocalProtocolError("only a page that was checked is countersigned")
        self._checked = None
        return countersign(page, self._key).to_wire()

    # LEDG-6-04
    def _base_of(self, facts: PageFacts) -> int:
        """Return the ESN since which the price is in force."""
        message, tariff, base_uj = self._offered
        if message and facts.previous[:SINK_SIGNS] == message:
            self._price = (tariff, base_uj)
        tariff, base_uj = self._price
        # one end may have been restarted: both begin anew
        return facts.start_uj if facts.resumed or facts.tariff != tariff else base_uj

    def _expected(self, facts: PageFacts, end_ns: int, clock: Clock) -> tuple[Page, int]:
        """Return the page we would write, without signatures, and the base of its price."""
        tariff, base_uj = facts.tariff, self._base_of(facts)
        price = tariff.price if tariff else 0
        previous, start_ns = _before(facts.previous, self._start_ns)
        is_source = self._side is Side.SOURCE
        return Page(
            flags=_flags(
                final=facts.final,
                truncated=facts.truncated,
                resumed=facts.resumed,
                sim=facts.sim,
            ),
            clock=clock,
            transcript=facts.transcript,
            contract=facts.contract,
            page=facts.page,
            samples=facts.samples,
            start_uj=facts.start_uj,
            end_uj=facts.end_uj,
            start_ns=start_ns,
            end_ns=end_ns,
            cost_micro=cost_micro(price, base_uj, facts.start_uj, facts.end_uj),
            tariff=tariff.digest if tariff else NO_HASH,
            previous=previous,
            digest=facts.digest,
            source_key=self._key.public if is_source else facts.peer_key,
            sink_key=facts.peer_key if is_source else self._key.public,
        ), base_uj


# LEDG-6-05
def feed_page(
    facts: FeedFacts, last: bytes, began_ns: int, end_ns: int, clock: Clock, key: SigningKey
) -> bytes:
    """Return the next page of a feed, signed by its receiver with `key`: 380 octets.

    last: the page before; b"": none, and this one starts at `began_ns`. Times are Unix time; no
    page ends before it starts. Raises DecodeError when `last` is no page, LocalProtocolError when a
    number does not fit its field.
    """
    previous, start_ns = _before(last, began_ns)
    page = Page(
        flags=_flags(feed=True, final=facts.final, resumed=facts.resumed, sim=facts.sim),
        clock=clock,
        transcript=facts.transcript,
        contract=0,
        page=facts.page,
        samples=facts.samples,
        start_uj=facts.start_uj,
        end_uj=facts.end_uj,
        start_ns=start_ns,
        end_ns=max(start_ns, end_ns),
        previous=previous,
        digest=facts.digest,
        source_key=facts.key,
        sink_key=key.public,
    )
    return countersign(page, key).to_wire()


def _before(octets: bytes, began_ns: int) -> tuple[bytes, int]:
    """Return what a page holds of the one before it: digest and time of the end."""
    if not octets:
        return NO_HASH, began_ns
    return page_hash(octets), Page.from_wire(octets).end_ns


def _flags(
    *,
    final: bool,
    resumed: bool,
    sim: bool,
    truncated: bool = False,
    feed: bool = False,
) -> Flags:
    said = {
        Flags.FEED: feed,
        Flags.FINAL: final,
        Flags.TRUNCATED: truncated,
        Flags.RESUMED: resumed,
        Flags.SIMULATED: sim,
    }
    return Flags(sum(flag for flag, is_set in said.items() if is_set))
