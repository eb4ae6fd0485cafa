"""The traces of the command line: the ladder of a capture, and why its lamps are dark."""

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from powertcp.cli.lamp_lines import line_of, told_line, values_of
from powertcp.cli.lamp_reasons import Reasons, Verdict
from powertcp.cli.lamp_rungs import Rung, Rungs
from powertcp.cli.lamp_sightings import Names, Other, Sighting, Told, read_file
from powertcp.cli.topologies import load_topology
from powertcp.errors import ConfigError, HostError, nearest
from powertcp.mplamps.topology import NodeKind, Topology
from powertcp.units import Instant

DONE = 0
NO = 1
# what keeps neighbours and states alive, and says nothing of a circuit
_UPKEEP = frozenset(("Hello", "Srefresh", "Ack"))
# the number of an I/O error that has none
_EIO = 5


def find_topology(arguments: Namespace) -> Topology | None:
    """Return the topology that is stated, None without one.

    Raises ConfigError for one that is none, and for a lamp that it does not have.
    """
    if arguments.topology is None:
        return None
    topology = load_topology(arguments.topology)
    names = [node.name for node in topology.nodes]
    addresses = {str(node.address) for node in topology.nodes}
    if arguments.lamp and arguments.lamp not in {*names, *addresses}:
        hint = nearest(arguments.lamp, names)
        text = f'no node of topology {topology.name}, got "{arguments.lamp[:40]}"{hint}'
        raise ConfigError("command line", "--lamp", text)
    return topology


class _Reading:
    """One pass over a file. begin_ns: time of the first message. others: packets that are none."""

    def __init__(self, arguments: Namespace, topology: Topology | None) -> None:
        self._path = Path(arguments.file)
        self._is_named = topology is not None
        self._names = Names(topology)
        self._rungs = Rungs(self._names, topology)
        self._word: str | None = arguments.lamp
        self._address: IPv4Address | None = None
        with suppress(AddressValueError):
            self._address = IPv4Address(arguments.lamp or "")
        self.begin_ns: Instant = 0
        self.others: Counter[bool] = Counter()

    def each(self) -> Iterator[Rung | Told]:
        """Yield each message and event. Raises ConfigError, HostError."""
        is_first = True
        for seen in self._seen():
            if isinstance(seen, Other):
                self.others[seen.is_labelled] += 1
                continue
            if is_first:
                self.begin_ns, is_first = seen.at_ns, False
            yield self._rungs.of(seen) if isinstance(seen, Sighting) else seen

    def _seen(self) -> Iterator[Sighting | Told | Other]:
        name = str(self._path)
        try:
            with self._path.open("rb") as file:
                if not file.seekable():
                    raise ConfigError(name, "file", "a pipe cannot be read twice: name a file")
                yield from read_file(file, name, self._names, is_named=self._is_named)
        except OSError as error:
            raise HostError(error.errno or _EIO, name, "read it") from error

    @property
    def lamp(self) -> str | None:
        """Name of the lamp that is asked for, by name or by address, as far as it is known."""
        return self._names.of(self._address) if self._address else self._word


def show(arguments: Namespace, topology: Topology | None) -> int:
    """Print each message; NO if a lamp is asked for about which nothing is said."""
    reading = _Reading(arguments, topology)
    counts: Counter[str] = Counter()
    is_whole, left_out = arguments.all or arguments.json, 0
    for one in reading.each():
        lamp = reading.lamp
        if lamp is not None and not _is_of(one, lamp):
            continue
        if not is_whole and isinstance(one, Rung) and one.kind in _UPKEEP:
            left_out += 1
            continue
        counts[one.kind if isinstance(one, Rung) else one.name] += 1
        print(_json_of(one) if arguments.json else _text_of(one, reading.begin_ns))
    if not arguments.json:
        print(_summary(counts, reading.others, left_out))
    return NO if arguments.lamp and not counts else DONE


def _is_of(one: Rung | Told, lamp: str) -> bool:
    return one.is_of(lamp) if isinstance(one, Rung) else lamp in one.data.values()


def _json_of(one: Rung | Told) -> str:
    if isinstance(one, Rung):
        return json.dumps(values_of(one))
    return json.dumps({"at_ns": one.at_ns, "event": one.name, "data": one.data})


def _text_of(one: Rung | Told, begin_ns: Instant) -> str:
    return line_of(one, begin_ns) if isinstance(one, Rung) else told_line(one, begin_ns)


def _summary(counts: Counter[str], others: Counter[bool], left_out: int) -> str:
    """Return the last line: how many messages of each type, and packets that are none."""
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in counts.most_common())
    said = f"{counts.total():,} lines" + (f": {kinds}" if kinds else "")
    if left_out:
        said += f"; {left_out:,} Hello, Srefresh and Ack left out (--all)"
    return f"\n{said}; {others[True]:,} labelled packets, {others[False]:,} others"


def explain(arguments: Namespace, topology: Topology | None) -> int:
    """Print for each dark lamp why it is; NO if there is one, or nothing to judge."""
    reading, reasons = _Reading(arguments, topology), Reasons()
    for node in topology.of_kind(NodeKind.LAMP) if topology else ():
        reasons.expect(node.name)
    seen: Counter[str] = Counter()
    for one in reading.each():
        seen["message" if isinstance(one, Rung) else "event"] += 1
        if isinstance(one, Rung):
            reasons.take(one)
        else:
            reasons.hear(one)
    wanted = reading.lamp
    chosen = [one for one in reasons.verdicts() if wanted in (None, one.lamp)]
    dark = [one for one in chosen if one.is_dark]
    for verdict in chosen if wanted else dark:
        _print(verdict, reading.begin_ns, is_json=arguments.json)
    if not arguments.json:
        print(_sum_of(len(dark), len(chosen), wanted, seen))
    return NO if dark or not chosen else DONE


def _print(verdict: Verdict, begin_ns: Instant, *, is_json: bool) -> None:
    print(json.dumps(verdict.values()) if is_json else verdict.line(begin_ns))


def _sum_of(dark: int, lamps: int, wanted: str | None, seen: Counter[str]) -> str:
    if not lamps and wanted:
        return f"nothing is said about {wanted}"
    if not lamps:
        lacks = f"no PATH among {seen['message']:,} messages"
        lacks += f", no change of a lamp among {seen['event']:,} events"
        return f"nothing is said about any lamp: {lacks}; a capture (--capture) has the messages"
    return f"{dark:,} of {lamps:,} {'lamp' if lamps == 1 else 'lamps'} dark"
