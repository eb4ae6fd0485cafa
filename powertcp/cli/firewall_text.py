"""What a firewall tells, as lines for people: at most 100 columns where that is ours to say."""

from collections.abc import Mapping

from powertcp.units import NS_PER_S, format_energy, format_power

Row = Mapping[str, object]


def listed(found: Row) -> list[str]:
    """Return the lines of `powertcp firewall list`."""
    text = [f"policy {found['policy']}: {found['rule_count']} rules"]
    default = found.get("default")
    rows = _rows(found, "rules") + ([default] if isinstance(default, dict) else [])
    for row in rows:
        counted = f"{_whole(row, 'hits'):>9,} x {format_energy(_whole(row, 'energy_uj')):>14}"
        text.append(f"{counted}  {row['line']:>4}  {row['text']}")
    counters = found.get("counters")
    for name, count in counters.items() if isinstance(counters, dict) else ():
        energy = format_energy(_whole(count, "energy_uj"))
        text.append(f"counter {name}: {_whole(count, 'hits'):,} x {energy}")
    sets = found.get("sets")
    for name, kind in sets.items() if isinstance(sets, dict) else ():
        text.append(f"set {kind} {name}")
    text += [reservoir_line(row) for row in _rows(found, "reservoirs")]
    text += [flow_line(row) for row in _rows(found, "flows")]
    more = _whole(found, "flow_count") - len(_rows(found, "flows"))
    if more > 0:
        text.append(f"and {more:,} more flows")
    return text


def status_lines(head: str, status: Row) -> list[str]:
    """Return the lines of `powertcp status` for a firewall; head: role, process, state."""
    text = [
        f"{head}, {status['mode']}, by {status['policy']}",
        f"  {status['flow_count']} flows on {status['connections']} connections,"
        f" {_energy(status, 'in_uj')} in: {_energy(status, 'authorised_uj')} authorised,"
        f" {_energy(status, 'banked_uj')} reclaimed, {_energy(status, 'heat_uj')} heat (simulated),"
        f" {_energy(status, 'claimed_uj')} claimed, residual {_energy(status, 'residual_uj')}",
    ]
    text += [f"  {reservoir_line(row)}" for row in _rows(status, "reservoirs")]
    for row in _rows(status, "lending"):
        text.append(f"  {lender_line(row)}")
    infrastructure = status.get("infrastructure")
    if isinstance(infrastructure, dict):
        text.append(f"  {infrastructure.get('sentence')}")
    books = status.get("books")
    if isinstance(books, dict):
        state = "cannot be written" if books.get("is_read_only") else "writes"
        text.append(
            f"  ledger {state}: {_energy(books, 'booked_uj')} booked,"
            f" {_energy(books, 'lost_uj')} not written, {_whole(books, 'events'):,} events"
        )
    if bugs := _whole(status, "bugs"):
        text.append(
            f"  {bugs} bugs of powertcp ended a connection each: their tracebacks are in the log"
        )
    return text + [f"  {flow_line(row)}" for row in _rows(status, "flows")]


def reservoir_line(row: Row) -> str:
    """Return what a reservoir holds."""
    return (
        f"reservoir {row['name']}: {_energy(row, 'stored_uj')} of {_energy(row, 'capacity_uj')}"
        f" ({row['percent']}%), room for {_energy(row, 'room_uj')}"
    )


def lender_line(row: Row) -> str:
    """Return what a lender does."""
    why = f": {row['because']}" if row.get("because") else ""
    if not row.get("is_open"):
        return f"nothing is lent{' at ' + str(row['listen']) if row.get('listen') else ''}{why}"
    return (
        f"lending {row['offer']} from {row['reservoir']}: {_whole(row, 'flows')} flows,"
        f" {_energy(row, 'lent_uj')} lent{why}"
    )


def flow_line(row: Row) -> str:
    """Return one flow."""
    power = row.get("power_mw")
    said = format_power(power) if isinstance(power, int) else ""
    return (
        f"{row['id']!s:<28} {row['state']!s:<11} {said:>10} {_energy(row, 'energy_uj'):>14}"
        f"  {row['verdict']} by {row['rule']}"
    )


# FWRL-1-02
def explained(row: Row) -> list[str]:
    """Return the lines of `powertcp firewall explain`."""
    ago_ns = row.get("ago_ns")
    ago = f" {ago_ns // NS_PER_S:,} s ago" if isinstance(ago_ns, int) else ""
    text = [f"flow {row['flow']}: {row['what']}, begun{ago}, power of {row['peer']}"]
    text.append(f"  {row['sentence']}")
    if row.get("verdict"):
        text.append(f"  {row['verdict']}: {row['rule']}")
    values, facts = row.get("values"), row.get("facts")
    if isinstance(values, dict) and values:
        text.append(f"  it matched: {_said(values)}")
    if isinstance(facts, dict):
        text.append(f"  known of it: {_said(facts)}")
    joules = row.get("joules")
    if isinstance(joules, dict):
        text.append(f"  joules: {joules_text(joules)}")
    accepted = row.get("accepted")
    rules = accepted if isinstance(accepted, list) else []
    return text + [f"  would have been accepted by {said}" for said in rules]


def joules_text(joules: Row) -> str:
    """Return where joules went: in = authorised + reclaimed + heat."""
    return (
        f"{_energy(joules, 'in_uj')} in = {_energy(joules, 'authorised_uj')} authorised"
        f" + {_energy(joules, 'reclaimed_uj')} reclaimed + {_energy(joules, 'heat_uj')} heat;"
        f" {_energy(joules, 'claimed_uj')} only claimed"
    )


def traced(line: Row) -> list[str]:
    """Return the lines of one evaluation, or of some that were lost."""
    if line.get("t") == "lost":
        return [f"... {line['n']} evaluations more than could be shown"]
    facts = line.get("facts")
    text = [f"flow {line['flow']}: {_said(facts) if isinstance(facts, dict) else ''}"]
    if skipped := _whole(line, "skipped"):
        text.append(f"  {skipped:,} rules before do not match")
    for step in _rows(line, "steps"):
        failed = step.get("failed")
        why = f"{failed} is {step['seen']}" if failed else "MATCHES"
        text.append(f"  {step['line']:>4}  {step['text']}: {why}")
    return [*text, f"  {line['verdict']} by {line['file']}:{line['line']}"]


def _said(values: Row) -> str:
    return ", ".join(f"{word} {value}" for word, value in values.items())


def _rows(fields: Row, name: str) -> list[Row]:
    found = fields.get(name)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _whole(fields: Row, name: str) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) else 0


def _energy(fields: Row, name: str) -> str:
    return format_energy(_whole(fields, name))
