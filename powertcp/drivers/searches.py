"""Searches for power that go on: since when, who was found, and why nobody of them is asked.

What `powertcp status` and `powertcp explain` say of a consumer that still looks for its provider.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from powertcp.dpdp.select import Candidate
from powertcp.dpdp.txt import show_text
from powertcp.drivers.control import Fields
from powertcp.drivers.daemon import now_ns
from powertcp.potcp.events import Ask
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant, format_duration

HINT_NS: Final[Duration] = 3 * NS_PER_S
MAX_TOLD: Final = 8  # searches in one answer, and
MAX_ROWS: Final = 32  # providers of each: an answer is one line of 64 KiB
HINT: Final = (
    "no provider found yet; Wi-Fi with client isolation and container bridges hide providers:"
    " --connect HOST names one"
)
_SHORT: Final = 8  # digits of an id that people are shown


class Judge(Protocol):
    """Knows everybody that there is, and what is to be said of each."""

    def candidates(self, asks: Sequence[Ask], now: Instant) -> list[Candidate]:
        """Return every advert with what speaks for it or against it."""

    def named(self, now: Instant) -> list[tuple[str, Instant]]:
        """Return who is named by hand, and until when each is left alone; 0 for not at all."""


@dataclass(frozen=True, slots=True)
class _Search:
    asks: tuple[Ask, ...]
    since: Instant


class Searches:
    """Those that go on, the one that began first at first."""

    def __init__(self, judge: Judge, fault: Callable[[], str]) -> None:
        """Tell what `judge` knows; fault: why nothing can be found, "" when it can."""
        self._judge, self._fault = judge, fault
        self._open: dict[int, _Search] = {}
        self._count = 0

    @contextmanager
    def open(self, asks: Sequence[Ask]) -> Iterator[Instant]:
        """Look for `asks` from now until the block ends; yields the time."""
        self._count += 1
        number, since = self._count, now_ns()
        self._open[number] = _Search(tuple(asks), since)
        try:
            yield since
        finally:
            del self._open[number]

    def hint(self, found: Sequence[Candidate]) -> str:
        """Return what may be the matter when nobody of `found` is asked for so long."""
        if fault := self._fault():
            return fault
        rejected = [each for each in found if each.merits is None]
        if not rejected:
            return HINT
        first = rejected[0]
        name = show_text(first.entry.service.instance)
        return (
            f"{_count(len(rejected))} found, none that would do;"
            f" {name}: {first.why}: {first.sentence}"
        )

    async def facts(self) -> list[Fields]:
        """Return for programs what is looked for, one object for each search, 8 at most."""
        told: list[Fields] = []
        for search in list(self._open.values())[:MAX_TOLD]:
            # to judge 2,048 adverts takes a while
            await trio.lowlevel.checkpoint()
            told.append(self._told(search, now_ns()))
        return told

    def _told(self, search: _Search, now: Instant) -> Fields:
        found = self._judge.candidates(search.asks, now)
        rows = [_row(each) for each in found[:MAX_ROWS]]
        named = self._judge.named(now)
        rows += [_named(name, until, now) for name, until in named]
        looked_ns = now - search.since
        return {
            "wanted": [ask.desired.format() for ask in search.asks],
            "looked_ms": looked_ns // NS_PER_MS,
            "count": len(found) + len(named),
            "found": rows[:MAX_ROWS],
            "hint": self.hint(found) if looked_ns >= HINT_NS else "",
            "sentence": f"looked for {format_duration(looked_ns)}, {_count(len(found))} found",
        }


def _row(each: Candidate) -> Fields:
    """Return the line of one advert, in the words of `powertcp discover --why`."""
    entry = each.entry
    name = show_text(entry.service.instance)
    advert = entry.advert
    return {
        "id": advert.id.hex() if advert is not None else "",
        "short": advert.id.hex()[:_SHORT] if advert is not None else name[:_SHORT],
        "name": name,
        "verdict": str(each.why),
        "sentence": each.sentence,
        "numbers": each.numbers,
    }


def _named(name: str, until: Instant, now: Instant) -> Fields:
    """Return the line of who is named by hand."""
    wait_ns = max(0, until - now)
    said = (
        f"named by hand, asked again in {format_duration(wait_ns)}" if wait_ns else "named by hand"
    )
    return {
        "id": "",
        "short": name,
        "name": name,
        "verdict": "waits" if wait_ns else "next",
        "sentence": said,
        "numbers": {"wait_ns": wait_ns},
    }


def _count(number: int) -> str:
    return f"{number:,} provider{'' if number == 1 else 's'}"
