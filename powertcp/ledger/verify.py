"""Verification of receipts from nothing but their pages: signatures, chain, continuity, registers.

A page file (`.ptr`) is pages of 380 octets, one after another, in any order and of any flows.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from powertcp.errors import DecodeError
from powertcp.ledger.receipt import NO_HASH, PAGE_OCTETS, SINK_SIGNS, Clock, Flags, Page, page_hash
from powertcp.units import format_energy

# octets of the fields that a verdict points at
_PREVIOUS: Final = 124
_START_UJ: Final = 52
_START_NS: Final = 68
_SOURCE_KEY: Final = 188
_SINK_KEY: Final = 220
_SOURCE_SIGNATURE: Final = 252
_SINK_SIGNATURE: Final = 316
_FLAGS: Final = slice(1, 2)
_TRANSCRIPT: Final = slice(4, 36)
_SINK: Final = slice(220, 252)
_PAGE: Final = slice(40, 44)


class Verdict(StrEnum):
    """What the pages of a flow prove."""

    VALID = "VALID"
    VALID_WITH_WARNING = "VALID WITH WARNING"
    INVALID = "INVALID"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowVerdict:
    """What was found about one flow.

    transcript: the flow's name. pages, energy_uj, cost_micro: of the pages before the fault.
    warnings: what is stated and not punished. page, file, offset, reason: of the first fault;
    offset counts octets of the file.
    """

    verdict: Verdict
    transcript: bytes
    pages: int
    energy_uj: int
    cost_micro: int
    warnings: tuple[str, ...] = ()
    page: int = 0
    file: str = ""
    offset: int = 0
    reason: str = ""

    def __str__(self) -> str:
        many = "1 page" if self.pages == 1 else f"{self.pages:,} pages"
        said = f"{self.verdict}  flow {self.transcript.hex()[:16]}  {many}"
        said += f"  {format_energy(self.energy_uj)}  cost {self.cost_micro:,} micro-units"
        if self.verdict is Verdict.INVALID:
            place = f"{self.file}, octet {self.offset:,}"
            said += f"  {place}: page {self.page:,}: {self.reason}"
        return said + "".join(f"; {warning}" for warning in self.warnings)


class _Fault(NamedTuple):
    """Why a page is not valid; at: octet of the page."""

    at: int
    reason: str


class _Piece(NamedTuple):
    """380 octets of a file, the page they hold if any, and what is wrong with them alone."""

    file: str
    offset: int
    octets: bytes
    page: Page | None
    fault: _Fault | None

    @property
    def flow(self) -> bytes:
        """What its flow is known by: the transcript, and the receiver of a feed."""
        is_feed = int.from_bytes(self.octets[_FLAGS], "big") & Flags.FEED
        return self.octets[_TRANSCRIPT] + (self.octets[_SINK] if is_feed else b"")

    @property
    def number(self) -> int:
        """The number of the page, also if it is none."""
        return int.from_bytes(self.octets[_PAGE], "big")


def verify_pages(files: Iterable[tuple[str, bytes]]) -> list[FlowVerdict]:
    """Return a verdict for each flow of the files, given as (name, octets), in order of appearance.

    The same page may come more than once, from both ends, in any order.
    """
    # LEDG-6-06
    pieces = [piece for name, octets in files for piece in _cut(name, octets)]
    return [_judge(flow) for flow in _flows(pieces)]


def _cut(name: str, octets: bytes) -> Iterator[_Piece]:
    for offset in range(0, len(octets), PAGE_OCTETS):
        part = octets[offset : offset + PAGE_OCTETS]
        try:
            page = Page.from_wire(part)
        except DecodeError as error:
            yield _Piece(name, offset, part, None, _Fault(error.offset, _sentence(error)))
        else:
            yield _Piece(name, offset, part, page, _signature_fault(page))


def _sentence(error: DecodeError) -> str:
    if error.field == "page":
        return f"it has {error.value} of {error.limit} octets"
    return f"{error.field} is {error.value:,}, which no page can hold"


def _signature_fault(page: Page) -> _Fault | None:
    if not page.is_feed and not page.is_signed_by_source():
        return _Fault(_SOURCE_SIGNATURE, "the signature of the source is not valid")
    if not page.is_signed_by_sink():
        return _Fault(_SINK_SIGNATURE, "the signature of the sink is missing or not valid")
    return None


def _flows(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """Return the pieces of each flow."""
    flows: dict[bytes, list[_Piece]] = {}
    for piece in pieces:
        flows.setdefault(piece.flow, []).append(piece)
    return list(flows.values())


def _judge(pieces: Sequence[_Piece]) -> FlowVerdict:
    """Return the verdict of one flow; what is wrong with a page alone is said first."""
    ordered = list(_in_order(pieces))
    fault = next(((piece, found) for piece, found in ordered if found is not None), None)
    pages: list[Page] = []
    for piece, found in ordered:
        if found is not None or piece.page is None:
            break
        wrong = _link_fault(pages[-1], piece.page) if pages else _first_fault(piece.page)
        if wrong is not None:
            fault = fault or (piece, wrong)
            break
        pages.append(piece.page)
    warnings = tuple(_warnings(pages, is_whole=fault is None))
    verdict = Verdict.VALID_WITH_WARNING if warnings else Verdict.VALID
    piece, wrong = fault or (ordered[0][0], _Fault(0, ""))
    is_valid = fault is None
    return FlowVerdict(
        verdict=verdict if is_valid else Verdict.INVALID,
        transcript=pieces[0].octets[_TRANSCRIPT],
        pages=len(pages),
        energy_uj=sum(page.energy_uj for page in pages),
        cost_micro=sum(page.cost_micro for page in pages),
        warnings=warnings,
        page=0 if is_valid else piece.number,
        file="" if is_valid else piece.file,
        offset=0 if is_valid else piece.offset + wrong.at,
        reason=wrong.reason,
    )


def _in_order(pieces: Sequence[_Piece]) -> Iterator[tuple[_Piece, _Fault | None]]:
    """Yield one piece for each page number, with what is wrong with it or with a copy of it."""
    by_number: dict[int, list[_Piece]] = {}
    for piece in pieces:
        by_number.setdefault(piece.number, []).append(piece)
    for _, copies in sorted(by_number.items()):
        best = next((piece for piece in copies if piece.fault is None), copies[0])
        wrong = ((piece, _copy_fault(piece, best)) for piece in copies)
        yield next(((piece, fault) for piece, fault in wrong if fault), (best, None))


def _copy_fault(piece: _Piece, best: _Piece) -> _Fault | None:
    """Return what is wrong with a page; one that its source sent may stand beside the signed one."""
    if piece.octets[:SINK_SIGNS] != best.octets[:SINK_SIGNS]:
        return piece.fault or _Fault(0, "there is another page of that number")
    if best.fault is None and not any(piece.octets[SINK_SIGNS:]):
        return None
    return piece.fault


def _first_fault(page: Page) -> _Fault | None:
    if page.page or not page.start_uj:
        return None
    return _Fault(_START_UJ, f"the first page starts at {page.start_uj:,} uJ, not at 0 uJ")


def _link_fault(before: Page, page: Page) -> _Fault | None:
    """Return why a page does not follow the one before it."""
    # a receiver that left a feed may hear the same epoch again
    is_back = page.is_feed and Flags.RESUMED in page.flags
    if Flags.FINAL in before.flags and not is_back:
        return _Fault(1, f"it follows page {before.page:,}, which is final")
    if page.page != before.page + 1:
        return _Fault(40, f"page {before.page + 1:,} is missing")
    if page.previous != page_hash(before.to_wire()):
        return _Fault(_PREVIOUS, "it does not hold the digest of the page before it")
    if page.start_uj != before.end_uj:
        numbers = f"{page.start_uj:,} uJ, the page before ends at {before.end_uj:,} uJ"
        return _Fault(_START_UJ, f"it starts at {numbers}")
    if page.start_ns != before.end_ns:
        numbers = f"{page.start_ns:,} ns, the page before ends at {before.end_ns:,} ns"
        return _Fault(_START_NS, f"it starts at {numbers}")
    if page.source_key != before.source_key:
        return _Fault(_SOURCE_KEY, "it names another meter as its source")
    if page.sink_key != before.sink_key:
        return _Fault(_SINK_KEY, "it names another meter as its sink")
    return None


_STATED: tuple[tuple[str, Callable[[Page], bool]], ...] = (
    ("clock not synchronised", lambda page: page.clock is Clock.UNSYNCHRONISED),
    ("clock relative", lambda page: page.clock is Clock.RELATIVE),
    ("clock went backwards", lambda page: page.end_ns < page.start_ns),
    ("ended by a trip", lambda page: Flags.TRUNCATED in page.flags),
    ("samples simulated", lambda page: Flags.SIMULATED in page.flags),
    (
        "cost without a tariff document",
        lambda page: bool(page.cost_micro) and page.tariff == NO_HASH,
    ),
)


def _warnings(pages: Sequence[Page], *, is_whole: bool) -> Iterator[str]:
    """Yield what is stated and not punished."""
    if pages and pages[0].page:
        yield f"pages before {pages[0].page:,} are not here"
    for said, is_so in _STATED:
        found = [page.page for page in pages if is_so(page)]
        if found:
            yield f"{said}: {_ranges(found)}"
    if is_whole and pages and Flags.FINAL not in pages[-1].flags:
        yield "the last page is not final"


def _ranges(numbers: Sequence[int]) -> str:
    """Return "page 3", "pages 0-7" or "12 pages from 3 to 20"."""
    first, last, count = numbers[0], numbers[-1], len(numbers)
    if count == 1:
        return f"page {first:,}"
    if last - first + 1 == count:
        return f"pages {first:,}-{last:,}"
    return f"{count:,} pages from {first:,} to {last:,}"
