"""What each end remembers of a flow from page to page: makes pages, and compares those that come."""

from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

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
# pages sent and not back yet: a source stops after 10 s without one, long before these
MAX_OUTSTANDING: Final = 64

_I64_MAX = (1 << 63) - 1
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
    def transcript(self) -> bytes:
        """Of the handshake, 32 octets."""

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
        """The flow ended without FIN."""

    @property
    def resumed(self) -> bool:
        """The first page after a cut."""

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
        value, limit = self.page, self.page
        if isinstance(self.theirs, int) and isinstance(self.ours, int):
            value, limit = _within_64(self.theirs), _within_64(self.ours)
        return Refusal(
            int(Reason.RECEIPT_INVALID), value, limit, text=str(self), requirement="LEDG-6-02"
        )


def _shown(value: int | bytes) -> str:
    return value.hex() if isinstance(value, bytes) else f"{value:,}"


def _within_64(value: int) -> int:
    return max(-_I64_MAX, min(value, _I64_MAX))


def compare(page: Page, ours: Page) -> tuple[Difference, ...]:
    """Return the fields in which `page` of the source is not what we would have written.

    Everything must be equal but the times, which may differ by 5 s if both clocks can be compared:
    durations only if one is relative, not at all if one is not synchronised. Whether the page is
    final or truncated is for the source to say. Signatures are not looked at.
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
    if Clock.UNSYNCHRONISED in clocks:
        return []
    if Clock.RELATIVE in clocks:
        pairs = [("duration_ns", ours.end_ns - ours.start_ns, page.end_ns - page.start_ns)]
    else:
        pairs = [
            ("start_ns", ours.start_ns, page.start_ns),
            ("end_ns", ours.end_ns, page.end_ns),
        ]
    return [
        Difference(page.page, name, wanted, said)
        for name, wanted, said in pairs
        if abs(said - wanted) > CLOCK_TOLERANCE_NS
    ]


class _Mark(NamedTuple):
    """Where a flow stands after a page: number and start of the next one."""

    page: int
    previous: bytes
    end_uj: int
    end_ns: int


def _mark_after(octets: bytes, page: Page) -> _Mark:
    return _Mark(page.page + 1, page_hash(octets), page.end_uj, page.end_ns)


class PageChain:
    """The pages of one flow at one end: each begins where the one before ended.

    A source calls `next_page` at each boundary and `confirm` for each copy that comes back. A sink
    calls `check` for each page, `countersign` if nothing differs. A receiver of a feed writes its
    pages itself: `next_page`. After a cut both ends call `resume`. After a restart: `last`.
    """

    __slots__ = (
        "_base_uj",
        "_checked",
        "_confirmed",
        "_is_feed",
        "_key",
        "_mark",
        "_sent",
        "_side",
        "_tariff",
    )

    def __init__(
        self,
        key: SigningKey,
        side: Side,
        start_ns: int,
        *,
        is_feed: bool = False,
        last: bytes | None = None,
    ) -> None:
        """Begin with page 0 at `start_ns`, Unix time, or go on after the page `last` of the book.

        key: our meter. Raises DecodeError when `last` is no page.
        """
        self._key = key
        self._side = side
        self._is_feed = is_feed
        self._mark = _Mark(0, NO_HASH, 0, start_ns)
        if last is not None:
            self._mark = _mark_after(last, Page.from_wire(last))
        self._confirmed = self._mark
        self._sent: deque[bytes] = deque(maxlen=MAX_OUTSTANDING)
        self._checked: tuple[bytes, Page, Tariff | None, int] | None = None
        self._tariff: Tariff | None = None
        self._base_uj = self._mark.end_uj

    @property
    def page(self) -> int:
        """The number of the next page."""
        return self._mark.page

    @property
    def end_uj(self) -> int:
        """The ESN at which the next page starts."""
        return self._mark.end_uj

    def next_page(self, facts: PageFacts, end_ns: int, clock: Clock) -> bytes:
        """Return the next page, signed by us: 380 octets.

        end_ns: Unix time; `clock` says how far to trust it, and it may have gone backwards.
        Raises LocalProtocolError, nothing changed, at the sink of a flow that is no feed, when the
        facts do not start where the last page ended, or when a number does not fit its field.
        """
        # LEDG-6-05
        if self._side is not Side.SOURCE and not self._is_feed:
            raise LocalProtocolError("the source writes the pages, the sink countersigns")
        # LEDG-6-01
        if facts.start_uj != self._mark.end_uj:
            start, end = f"{facts.start_uj:,}", f"{self._mark.end_uj:,}"
            raise LocalProtocolError(f"facts from {start} uJ on, the last page ended at {end} uJ")
        page, base_uj = self._expected(facts, end_ns, clock)
        signed = countersign(page, self._key) if self._is_feed else sign_as_source(page, self._key)
        octets = signed.to_wire()
        self._advance(octets, signed, facts.tariff, base_uj)
        if self._is_feed:
            self._confirmed = self._mark
        else:
            self._sent.append(octets)
        return octets

    # LEDG-6-02
    def check(
        self, octets: bytes, facts: PageFacts, end_ns: int, clock: Clock
    ) -> tuple[Difference, ...]:
        """Return in what the source's page differs from our numbers; nothing changes.

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
        self._checked = None if found else (octets, page, facts.tariff, base_uj)
        return tuple(found)

    def countersign(self, octets: bytes) -> bytes:
        """Return the page with our signature; the next page follows it.

        Raises LocalProtocolError unless `check` has just found nothing in these octets.
        """
        checked = self._checked
        if checked is None or checked[0] != octets:
            raise LocalProtocolError("only a page that was checked is countersigned")
        _, page, tariff, base_uj = checked
        signed = countersign(page, self._key).to_wire()
        self._advance(signed, page, tariff, base_uj)
        self._checked = None
        self._confirmed = self._mark
        return signed

    def confirm(self, octets: bytes) -> Difference | None:
        """Take the copy that came back to the source; return in what it differs from what was sent.

        Raises DecodeError for octets that are no page.
        """
        page = Page.from_wire(octets)
        for sent in self._sent:
            if sent[:SINK_SIGNS] == octets[:SINK_SIGNS]:
                break
        else:
            return Difference(page.page, "page", self._confirmed.page, page.page)
        if not page.is_signed_by_sink():
            return Difference(page.page, "sink_signature", None, page.sink_signature)
        while self._sent.popleft() != sent:
            continue
        self._confirmed = _mark_after(octets, page)
        return None

    def resume(self) -> None:
        """Go back to the last page that both have signed: the next starts there.

        The price in force counts from there on as well, so that both ends agree on its base even
        if one has been restarted.
        """
        self._mark = self._confirmed
        self._sent.clear()
        self._checked = None
        self._tariff = None

    def _advance(self, octets: bytes, page: Page, tariff: Tariff | None, base_uj: int) -> None:
        self._mark = _mark_after(octets, page)
        self._tariff, self._base_uj = tariff, base_uj

    def _expected(self, facts: PageFacts, end_ns: int, clock: Clock) -> tuple[Page, int]:
        """Return the page we would write, without signatures, and the base of its price."""
        page, previous, start_uj, start_ns = self._mark
        tariff = facts.tariff
        # LEDG-6-04
        base_uj = self._base_uj if tariff == self._tariff else start_uj
        price = tariff.price if tariff else 0
        is_source = self._side is Side.SOURCE
        return Page(
            flags=self._flags(facts),
            clock=clock,
            transcript=facts.transcript,
            contract=facts.contract,
            page=page,
            samples=facts.samples,
            start_uj=start_uj,
            end_uj=facts.end_uj,
            start_ns=start_ns,
            end_ns=end_ns,
            cost_micro=cost_micro(price, base_uj, start_uj, facts.end_uj),
            tariff=tariff.digest if tariff else NO_HASH,
            previous=previous,
            digest=facts.digest,
            source_key=self._key.public if is_source else facts.peer_key,
            sink_key=facts.peer_key if is_source else self._key.public,
        ), base_uj

    def _flags(self, facts: PageFacts) -> Flags:
        said = {
            Flags.FEED: self._is_feed,
            Flags.FINAL: facts.final,
            Flags.TRUNCATED: facts.truncated,
            Flags.RESUMED: facts.resumed,
            Flags.SIMULATED: facts.sim,
        }
        return Flags(sum(flag for flag, is_set in said.items() if is_set))
