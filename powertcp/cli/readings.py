"""How a consumer's events are shown: sentences for people, one JSON object per line for programs."""

import json
import time
from collections.abc import Mapping
from typing import TextIO, cast

from powertcp.cli.output import Output
from powertcp.units import format_current, format_energy, format_power, format_voltage

Facts = Mapping[str, object]


def number(facts: Facts, key: str) -> int:
    """Return an integer field, 0 when it is missing."""
    return cast("int", facts.get(key, 0))


def reading_line(facts: Facts) -> str:
    """Return one line of readings: V, I, P, Q, PF, THD, Hz, energy, cost, lease."""
    words = [f"{facts.get('load', '')} powered", fixed(number(facts, "power_mw"), 3, 2, "W")]
    if "voltage_mv" in facts:
        words += [
            fixed(number(facts, "voltage_mv"), 3, 2, "V"),
            fixed(number(facts, "current_ma"), 3, 3, "A"),
        ]
        if number(facts, "frequency_mhz"):
            words += [
                fixed(number(facts, "reactive_mvar"), 3, 1, "var"),
                f"PF {number(facts, 'power_factor_ppm') / 1e6:.3f}",
                f"THD {number(facts, 'thd_ppm') / 1e4:.2f} %",
                fixed(number(facts, "frequency_mhz"), 3, 3, "Hz"),
            ]
    words.append(fixed(number(facts, "energy_uj"), 6, 3, "J"))
    if "cost_micro" in facts:
        words.append(f"cost {number(facts, 'cost_micro') / 1000:.4f} m{facts['currency']}")
    if "pages" in facts:
        words.append(pages_words(facts))
    if "lost_blocks" in facts:
        words.append(f"lost {number(facts, 'lost_blocks'):,} blocks")
    words.append(f"lease {number(facts, 'lease_ms') / 1000:.0f} s")
    if facts.get("simulated"):
        words.append("(simulated)")
    return "  ".join(words)


def fixed(value: int, exponent: int, places: int, unit: str) -> str:
    """Return value * 10^-exponent with exactly `places` decimals, so that columns stand still."""
    return f"{value / 10**exponent:,.{places}f} {unit}"


def sentence(event: str, facts: Facts) -> str:
    """Return the line for people of one event, "" for none."""
    reason = f": {facts['sentence']}" if facts.get("sentence") else ""
    request = facts.get("request", "")
    match event:
        case "granted":
            terms = f"{format_voltage(number(facts, 'voltage_mv'))} "
            terms += format_current(number(facts, "current_ma"))
            return f"granted {terms}, lease {facts['lease_s']} s, asked {request}"
        case "ready":
            how = "resumed" if facts.get("resumed") else "ready"
            return f"{how}: {format_power(number(facts, 'power_mw'))} for {facts['load']}"
        case "shed" | "lease over" | "lease restored":
            return f"{event}, at most {format_power(number(facts, 'limit_mw'))}{reason}"
        case "listening":
            return f"listening to {facts['where']}"
        case "joined":
            return f"joined feed {facts['feed']} of {facts['profile']}, epoch {facts['epoch']}"
        case "receipt" | "unsigned":
            signed = "signed" if event == "receipt" else "not signed"
            return f"page {signed}, {format_energy(number(facts, 'energy_uj'))}{reason}"
        case "demand":
            return f"{facts['load']} keeps up with {format_power(number(facts, 'demand_mw'))}"
        case "found" | "searching" | "warning":
            return str(facts["sentence"])
        case "refused":
            return f"refused {facts['sentence']}{_peer_words(facts)}"
        case "offered":
            offers = facts.get("offers")
            listed = ", ".join(offers) if isinstance(offers, list) else ""
            return f"offered instead of {request}: {listed}"
        case "heat":
            return f"heat {format_energy(number(facts, 'energy_uj'))}{reason}"
        case _:
            return ending(event, facts, reason)


def _peer_words(facts: Facts) -> str:
    """Return what the peer wrote to its refusal, without what would move a terminal."""
    text = str(facts.get("text") or "")
    said = "".join(char if char.isprintable() else "?" for char in text)
    return f" ({said})" if said else ""


def ending(event: str, facts: Facts, reason: str) -> str:
    """Return the line of what ends a contract, a load or all of it."""
    match event:
        case "closed":
            heat = number(facts, "heat_uj")
            tail = f", heat {format_energy(heat)}" if heat else ""
            return f"closed at {format_energy(number(facts, 'esn_uj'))}{tail}{reason}"
        case "off":
            return f"off after {facts['trips']} trips in 10 minutes, until --reset{reason}"
        case "load ended":
            return f"{facts['load']} ended, exit {facts['status']}"
        case "done" if not number(facts, "energy_uj"):
            return ""
        case "done":
            return done_line(facts)
        case _:
            return f"{event}{reason}"


def done_line(facts: Facts) -> str:
    """Return the last line: what was banked, what it costs, and who signed it."""
    words = [f"banked {fixed(number(facts, 'energy_uj'), 6, 3, 'J')}"]
    if "cost_micro" in facts:
        words.append(f"cost {number(facts, 'cost_micro') / 1000:.4f} m{facts['currency']}")
    for currency, micro in cast("Mapping[str, int]", facts.get("costs_micro", {})).items():
        words.append(f"cost {micro / 1000:.4f} m{currency}")
    pages, disputed = number(facts, "pages"), number(facts, "disputed")
    unsigned_uj = number(facts, "unsigned_uj")
    if pages or disputed or unsigned_uj:
        words.append(f"receipt {pages_words(facts)}")
        if disputed:
            words.append(f"{disputed} disputed")
        if unsigned_uj:
            words.append(f"{fixed(unsigned_uj, 6, 3, 'J')} without")
        if not disputed and not unsigned_uj:
            words.append("countersigned")
    elif "pages" in facts:
        words.append("no receipt")
    return ", ".join(words) + ("   (simulated)" if facts.get("simulated") else "")


def pages_words(facts: Facts) -> str:
    """Return how many pages both sides signed."""
    pages = number(facts, "pages")
    return "1 page" if pages == 1 else f"{pages:,} pages"


class JsonReport:
    """One JSON object per line."""

    def __init__(self, out: TextIO) -> None:
        """Write to `out`."""
        self._out = Output(out)

    def __call__(self, event: str, facts: Facts) -> None:
        """Write one event."""
        line = {"event": event, "time_ms": time.time_ns() // 1_000_000, **facts}
        self._out.write(json.dumps(line) + "\n")

    def end(self) -> None:
        """Nothing more is said."""
        self._out.finish()


class TextReport:
    """Sentences; readings rewrite one line on a terminal, and are lines of their own elsewhere.

    What ends a contract without power is an error: one line on `errors`, named after the command.
    """

    COMMAND = "powertcp consumer"
    ERRORS = frozenset({"refused", "unreachable", "off", "load failed", "ledger failed"})

    def __init__(self, out: TextIO, errors: TextIO) -> None:
        """Write to `out`, errors to `errors`."""
        self._out = Output(out)
        self._errors = Output(errors)
        self._rewrites = out.isatty()
        self._open = False

    def __call__(self, event: str, facts: Facts) -> None:
        """Show one event."""
        if event == "readings":
            self._reading(reading_line(facts))
            return
        text = sentence(event, facts)
        self._break_line()
        if event in self.ERRORS:
            said = text if event in ("refused", "off") else str(facts.get("sentence", ""))
            self._errors.write(f"{self.COMMAND}: {said}\n")
        elif text:
            self._out.write(f"{text}\n")

    def end(self) -> None:
        """Leave the line that is being rewritten; nothing more is said."""
        self._break_line()
        self._out.finish()

    def _break_line(self) -> None:
        if self._open:
            self._out.write("\n")
            self._open = False

    def _reading(self, line: str) -> None:
        if self._rewrites:
            self._out.write(f"\r\x1b[K{line}")
            self._open = True
        else:
            self._out.write(line + "\n")
