"""`powertcp firewall simulate`: attacks on the firewall, with what must come of each of them."""

import json
import resource
import time
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence

from powertcp.errors import ConfigError
from powertcp.reclaim.accounts import Joules
from powertcp.reclaim.scenario import NAMES, SCENARIOS, Amount, Measured, Outcome, Scenario
from powertcp.reclaim.simulation import play
from powertcp.reclaim.stage import Instruments
from powertcp.units import format_duration, format_energy

DONE = 0
NO = 1
ALL = "all"
SEED = 1
MAX_SEED = (1 << 64) - 1
_UJ_PER_J = 1_000_000
_OCTETS_PER_KIB = 1024
_HEADS = ("in", "authorised", "reclaimed", "heat", "out", "claimed")
# columns of words stand on the left
_WORDS = 2


def _resident_octets() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _OCTETS_PER_KIB


def simulate(arguments: Namespace, scenarios: Mapping[str, Scenario] = SCENARIOS) -> int:
    """Play scenarios and print what came of them; returns the exit status, 1 if one differs."""
    seed = SEED if arguments.seed is None else arguments.seed
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError("command line", "--seed", f"{seed:,} is not 0 to {MAX_SEED:,}")
    chosen = _chosen(arguments.what, scenarios)
    host = Instruments(time.perf_counter_ns, time.process_time_ns, _resident_octets)
    instruments = None if arguments.no_host else host
    outcomes = []
    for scenario in chosen:
        outcomes.append(play(scenario, seed, instruments))
        if arguments.json:
            print(json.dumps(_fields(outcomes[-1], seed)), flush=True)
    if arguments.json:
        print(json.dumps(_sum_fields(outcomes, seed)))
    else:
        _print(outcomes, seed, is_whole=len(chosen) == 1)
    return DONE if all(outcome.is_as_expected for outcome in outcomes) else NO


def _chosen(words: Sequence[str], scenarios: Mapping[str, Scenario]) -> list[Scenario]:
    """Return the scenarios of some names, in the order of the table and each once."""
    names = {word.upper() for word in words}
    if ALL.upper() in names:
        return list(scenarios.values())
    if unknown := sorted(names - set(scenarios)):
        known = f"{', '.join(scenarios)} and {ALL}"
        raise ConfigError("command line", unknown[0], f"no such scenario, there are {known}")
    return [scenario for name, scenario in scenarios.items() if name in names]


def _total(outcomes: Iterable[Outcome]) -> Joules:
    found = [outcome.joules for outcome in outcomes]
    return Joules(*(sum(getattr(one, name) for one in found) for name in NAMES))


# --- for machines -------------------------------------------------------------------------------


def _fields(outcome: Outcome, seed: int) -> dict[str, object]:
    scenario, real = outcome.scenario, outcome.measured
    fields: dict[str, object] = {
        "scenario": scenario.name,
        "title": scenario.title,
        "seed": seed,
        "is_as_expected": outcome.is_as_expected,
        "differences": outcome.differences,
        "expected": {name: amount.field() for name, amount in scenario.expected},
        "measured": outcome.joules.fields(),
        "sent_uj": outcome.sent_uj,
        "blocks": outcome.blocks,
        "virtual_ns": outcome.virtual_ns,
        "recovery_ppm": outcome.recovery_ppm,
        "rules": [hit._asdict() for hit in outcome.rules],
        "checks": [check._asdict() for check in outcome.checks],
    }
    if real is not None:
        fields["host"] = {
            "verdicts": real.verdicts,
            "first_verdict_p50_ns": real.verdict_p50_ns,
            "first_verdict_p99_ns": real.verdict_p99_ns,
            "cpu_ns": real.cpu_ns,
            "cpu_ns_per_reclaimed_kj": outcome.cpu_ns_per_kj,
            "resident_octets": real.resident_octets,
        }
    return fields


def _sum_fields(outcomes: Sequence[Outcome], seed: int) -> dict[str, object]:
    good = sum(outcome.is_as_expected for outcome in outcomes)
    return {
        "scenario": ALL,
        "seed": seed,
        "scenarios": len(outcomes),
        "as_expected": good,
        "measured": _total(outcomes).fields(),
    }


# --- for people ---------------------------------------------------------------------------------


def _joules(energy_uj: int) -> str:
    """Return J to the last uJ: "60,000", "31,578.947368"."""
    whole, part = divmod(abs(energy_uj), _UJ_PER_J)
    digits = f".{part:06}".rstrip("0") if part else ""
    return f"{'-' if energy_uj < 0 else ''}{whole:,}{digits}"


def _wanted(amount: Amount) -> str:
    """Return what a sum must be, in J."""
    if amount.least_uj is None or amount.most_uj is None:
        return "journal"
    if amount.least_uj == amount.most_uj:
        return _joules(amount.least_uj)
    if amount.least_uj == 0:
        return f"<={_joules(amount.most_uj)}"
    middle_uj = (amount.least_uj + amount.most_uj) // 2
    return f"{_joules(middle_uj)}+-{_joules(amount.most_uj - middle_uj)}"


def _percent(ppm: int | None) -> str:
    """Return parts in a million as percent with two decimals, rounded down."""
    return "-" if ppm is None else f"{ppm // 10_000}.{ppm // 100 % 100:02} %"


def _row(name: str, title: str, joules: Joules, recovery: str, verdict: str) -> tuple[str, ...]:
    sums = [_joules(getattr(joules, column)) for column in NAMES]
    return (name, title, *sums, _joules(joules.residual_uj), recovery, verdict)


def _print(outcomes: Sequence[Outcome], seed: int, *, is_whole: bool) -> None:
    """Print a line for each, their sum and one sentence; of a single one all there is to say."""
    total = _total(outcomes)
    rows: list[Sequence[str]] = [("", "J, virtual", *_HEADS, "residual", "recovered", "")]
    for outcome in outcomes:
        scenario = outcome.scenario
        said = "as expected" if outcome.is_as_expected else "DIFFERS"
        recovery = _percent(outcome.recovery_ppm)
        rows.append(_row(scenario.name, scenario.title, outcome.joules, recovery, said))
        if is_whole or not outcome.is_as_expected:
            wanted = [_wanted(amount) for _, amount in scenario.expected]
            rows.append(("", "expected", *wanted, "0", "", ""))
    if not is_whole:
        rows.append(_row("", ALL, total, "", ""))
    for line in _aligned(rows):
        print(line)
    for outcome in outcomes:
        _print_rest(outcome, is_whole=is_whole)
    print()
    print(_sentence(outcomes, total, seed))
    _print_host(outcomes)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of columns: two of words on the left, then numbers on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index < _WORDS else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row[:-1], widths[:-1], strict=True))
        ]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines


def _print_rest(outcome: Outcome, *, is_whole: bool) -> None:
    """Print what else was looked at, as far as it is not as it must be or all is wanted."""
    name = outcome.scenario.name
    for check in outcome.checks:
        if is_whole or not check.is_held:
            print(f"{name}  {'ok     ' if check.is_held else 'DIFFERS'}  {check.said}")
    if is_whole:
        for hit in outcome.rules:
            times = "once" if hit.hits == 1 else f"{hit.hits:,} times"
            print(f"{name}  line {hit.line} {times}, {format_energy(hit.energy_uj)}: {hit.text}")


def _sentence(outcomes: Sequence[Outcome], total: Joules, seed: int) -> str:
    good = sum(outcome.is_as_expected for outcome in outcomes)
    attack_uj = total.in_uj - total.authorised_uj
    return (
        f"{good} of {len(outcomes)} as expected with seed {seed}: attacked with"
        f" {format_energy(attack_uj)}, the firewall has {format_energy(total.reclaimed_uj)} more"
        f" in its reservoir and {format_energy(total.residual_uj)} unaccounted for."
    )


def _print_host(outcomes: Sequence[Outcome]) -> None:
    """Print what was measured of this host."""
    heads = ("verdict p50", "p99", "CPU", "CPU per reclaimed kJ", "memory")
    rows: list[Sequence[str]] = [("", "of this host", *heads, "")]
    for outcome in outcomes:
        if outcome.measured is not None:
            scenario = outcome.scenario
            rows.append((scenario.name, scenario.title, *_host(outcome, outcome.measured), ""))
    if len(rows) > 1:
        print()
        for line in _aligned(rows):
            print(line)


def _host(outcome: Outcome, real: Measured) -> tuple[str, ...]:
    per_kj = outcome.cpu_ns_per_kj
    return (
        format_duration(real.verdict_p50_ns),
        format_duration(real.verdict_p99_ns),
        format_duration(real.cpu_ns),
        "-" if per_kj is None else format_duration(per_kj),
        f"{real.resident_octets / 1e6:,.0f} MB",
    )
