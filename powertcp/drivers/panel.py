"""The terminal of a demonstration: a few lines redrawn in place, or one line per second."""

import json
import shutil
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Self, TextIO

from powertcp.units import format_energy, format_power

BAR = 40
LOG_LINES = 8
_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"


class Panel:
    """Shows readings and sentences; restores the terminal on any exit."""

    def __init__(self, out: TextIO, *, is_live: bool, is_json: bool, has_colour: bool) -> None:
        """Write to `out`."""
        self._out = out
        self._is_live = is_live
        self._is_json = is_json
        self._has_colour = has_colour
        self._log: deque[str] = deque(maxlen=LOG_LINES)

    def __enter__(self) -> Self:
        """Take the screen."""
        if self._is_live:
            self._write(_ENTER)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the screen back."""
        if self._is_live:
            self._write(_LEAVE)

    def say(self, text: str, facts: Mapping[str, object] | None = None) -> None:
        """Add a sentence."""
        if self._is_json:
            self._write(json.dumps({"event": "said", "text": text, **(facts or {})}) + "\n")
        elif self._is_live:
            self._log.append(text)
        else:
            self._write(text + "\n")

    def show(self, facts: Mapping[str, int], line: str, counted: str) -> None:
        """Show the readings of one second."""
        if self._is_json:
            self._write(json.dumps({"event": "readings", **facts, "counted": counted}) + "\n")
        elif self._is_live:
            self._draw(facts, line, counted)
        else:
            self._write(f"{line}  | {counted}\n")

    def summary(self, facts: Mapping[str, int]) -> None:
        """Say how it ended."""
        if self._is_json:
            self._write(json.dumps({"event": "summary", **facts}) + "\n")
            return
        self._write(
            f"source {format_energy(facts['source_uj'])}, sink {format_energy(facts['sink_uj'])},"
            f" difference {facts['difference_uj']:,} uJ; {facts['primes']:,} primes counted"
            "   (simulated power, real protocol)\n"
        )

    def _draw(self, facts: Mapping[str, int], line: str, counted: str) -> None:
        width = max(20, shutil.get_terminal_size().columns - 1)
        rows = [
            "powertcp: light            simulated power, real protocol        Ctrl-C ends",
            "",
            f"rating   {format_power(facts['rating_mw'])}",
            self._bar("power", facts["power_mw"], facts["rated_mw"]),
            self._bar("counting", facts["rate_ppm"], 1_000_000),
            "",
            line,
            counted,
            "",
            *self._log,
        ]
        body = "\n".join(f"{row[:width]}\x1b[K" for row in rows)
        self._write(f"\x1b[H{body}\x1b[J")

    def _bar(self, name: str, value: int, whole: int) -> str:
        filled = min(BAR, BAR * max(0, value) // max(1, whole))
        bar = "#" * filled + "." * (BAR - filled)
        if self._has_colour:
            bar = f"\x1b[33m{bar[:filled]}\x1b[90m{bar[filled:]}\x1b[0m"
        return f"{name:<9}{bar} {100 * value // max(1, whole)} %"

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
