"""The terminal of a firewall: what attacks, what of it is kept, and what that is used for.

A few lines redrawn in place each second, one line per second where they cannot be, or an object.
"""

import json
import logging
import shutil
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self, TextIO

import trio

from powertcp.units import format_energy, format_power

BAR: Final = 32
LOG_LINES: Final = 8
# the word before each bar
_WIDTH: Final = 16
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
# of a second: field of the status, what people call it, its colour
_POWERS: Final = (
    ("attack_mw", "attack in", "31"),
    ("reclaimed_mw", "reclaimed", "32"),
    ("heat_mw", "heat", "90"),
    ("authorised_mw", "authorised", "36"),
    ("out_mw", "internal load", "33"),
)
_SUMS: Final = (
    ("in_uj", "in"),
    ("authorised_uj", "authorised"),
    ("banked_uj", "reclaimed"),
    ("heat_uj", "heat"),
    ("claimed_uj", "only claimed"),
    ("residual_uj", "residual"),
)

Fields = Mapping[str, object]
Ask = Callable[[Mapping[str, object]], Awaitable[object]]


class _Kept(logging.Handler):
    """The last lines of the log, which would tear the screen."""

    def __init__(self, like: Sequence[logging.Handler]) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        if like:
            self.setFormatter(like[0].formatter)
            self.filters = list(like[0].filters)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class FirewallPanel:
    """Shows the status of a firewall; the terminal is as it was on any exit."""

    def __init__(self, out: TextIO, *, is_live: bool, is_json: bool, has_colour: bool) -> None:
        """Write to `out`. is_live: it is a terminal that is drawn over."""
        self._out, self._is_live, self._is_json = out, is_live, is_json
        self._has_colour = has_colour
        self._peak_mw = 1
        self._before: list[logging.Handler] = []
        self._log = _Kept(())

    def __enter__(self) -> Self:
        """Take the screen, and the log with it."""
        if self._is_live:
            root = logging.getLogger()
            self._before, self._log = list(root.handlers), _Kept(root.handlers)
            root.handlers[:] = [self._log]
            self._write(_ENTER)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the screen back, and say what was logged last."""
        if self._is_live:
            logging.getLogger().handlers[:] = self._before
            self._write(_LEAVE + "".join(f"{line}\n" for line in self._log.lines))

    async def run(self, ask: Ask) -> None:
        """Show what `ask` answers each second, until cancelled."""
        while True:
            status = await ask({})
            if isinstance(status, Mapping):
                self.show(status)
            await trio.sleep_until(trio.current_time() + 1)

    def show(self, status: Fields) -> None:
        """Show the readings of one second."""
        facts = readings(status)
        if self._is_json:
            self._write(json.dumps({"event": "readings", **facts}) + "\n")
        elif self._is_live:
            width = max(20, shutil.get_terminal_size().columns - 1)
            body = "\n".join(f"{self._cut(row, width)}\x1b[K" for row in self.rows(status))
            self._write(f"\x1b[H{body}\x1b[J")
        else:
            powers = [f"{name} {_power(facts, key)}" for key, name, _ in _POWERS]
            held = f"{_percent(facts)}% stored, {format_energy(_whole(facts, 'stored_uj'))}"
            self._write(f"{', '.join(powers)}; {held}\n")

    def rows(self, status: Fields) -> list[str]:
        """Return the lines of the screen."""
        facts = readings(status)
        powers = [_whole(facts, key) for key, _, _ in _POWERS]
        self._peak_mw = max(self._peak_mw, *powers)
        state = status.get("state")
        said = "" if state == "ready" else f"  {state}"
        text = [
            f"powertcp firewall: {status.get('policy')}, simulated power, real protocol{said}",
            "",
        ]
        for (_, name, colour), power_mw in zip(_POWERS, powers, strict=True):
            bar = self._bar(power_mw, self._peak_mw, colour)
            text.append(f"{name:<{_WIDTH}}{bar} {format_power(power_mw)}")
        text.append("")
        for row in _rows(status, "reservoirs"):
            stored, capacity = _whole(row, "stored_uj"), max(1, _whole(row, "capacity_uj"))
            bar = self._bar(stored, capacity, "32")
            held = f"{row.get('percent')}%  {format_energy(stored)} of {format_energy(capacity)}"
            text.append(f"{str(row.get('name'))[: _WIDTH - 1]:<{_WIDTH}}{bar} {held}")
        text += ["", _totals(status), *_uses(status), ""]
        return [*text, *self._log.lines]

    def _bar(self, value: int, whole: int, colour: str) -> str:
        filled = min(BAR, (BAR * max(0, value) + whole - 1) // whole)
        full, rest = "#" * filled, "." * (BAR - filled)
        return f"\x1b[{colour}m{full}\x1b[90m{rest}\x1b[0m" if self._has_colour else full + rest

    def _cut(self, row: str, width: int) -> str:
        # what is coloured is short
        return row if "\x1b" in row else row[:width]

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def readings(status: Fields) -> dict[str, object]:
    """Return what is shown of a second: powers in mW, what is stored, sums in uJ."""
    facts: dict[str, object] = {key: _whole(status, key) for key, _, _ in _POWERS}
    facts["attack_mw"] = max(0, _whole(status, "in_mw") - _whole(status, "authorised_mw"))
    for key in ("in_uj", "authorised_uj", "banked_uj", "heat_uj", "claimed_uj", "residual_uj"):
        facts[key] = _whole(status, key)
    rows = _rows(status, "reservoirs")
    facts["stored_uj"] = sum(_whole(row, "stored_uj") for row in rows)
    facts["capacity_uj"] = sum(_whole(row, "capacity_uj") for row in rows)
    facts["flow_count"] = _whole(status, "flow_count")
    return facts


def _totals(status: Fields) -> str:
    sums = ", ".join(f"{format_energy(_whole(status, key))} {word}" for key, word in _SUMS)
    return f"{_whole(status, 'flow_count')} flows: {sums}"


def _uses(status: Fields) -> list[str]:
    """Return a line for each lender, and one for the host."""
    text = []
    for row in _rows(status, "lending"):
        lent = f"{_whole(row, 'flows')} flows, {format_energy(_whole(row, 'lent_uj'))} lent"
        why = f": {row['because']}" if row.get("because") else ""
        text.append(f"lending {row.get('offer', 'nothing')}: {lent}{why}")
    infrastructure = status.get("infrastructure")
    if isinstance(infrastructure, Mapping):
        text.append(str(infrastructure.get("sentence")))
    return text


def _rows(fields: Fields, name: str) -> list[Fields]:
    found = fields.get(name)
    return [row for row in found if isinstance(row, Mapping)] if isinstance(found, list) else []


def _whole(fields: Fields, name: str) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) else 0


def _power(fields: Fields, name: str) -> str:
    return format_power(_whole(fields, name))


def _percent(facts: Fields) -> int:
    return 100 * _whole(facts, "stored_uj") // max(1, _whole(facts, "capacity_uj"))
