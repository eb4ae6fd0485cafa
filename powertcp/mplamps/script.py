"""The script of a simulation: one act a line, at its time, of nodes named by patterns.

```
0s    on *                      # every lamp
1.5s  set lamp-1 230V/1A@50Hz
2s    cut s1--c1
```
MPLampS section 8. An act is told with line and column of what is wrong with it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final, NamedTuple, TypeAlias, TypeVar

from powertcp.errors import Fault, InvalidText, nearest
from powertcp.mplamps.topology import NodeKind, Topology
from powertcp.profile import PowerProfile
from powertcp.units import Instant, parse_duration_ns, parse_power_mw, parse_price_micro

DEFAULT_SCRIPT: Final = "0s on *"
# a day in which something happens each second
MAX_ACTS: Final = 100_000
# of each line: what is told, and what is read
MAX_FAULTS: Final = 64
MAX_LINE: Final = 1024

_WORD = re.compile(r"\S+")
MODELS: Final = ("overlay", "peer")
ValueT = TypeVar("ValueT")


class Verb(StrEnum):
    """What is done."""

    ON = "on"
    OFF = "off"
    SET = "set"
    MIGRATE = "migrate"
    CUT = "cut"
    MEND = "mend"
    DERATE = "derate"
    CRASH = "crash"
    RESTART = "restart"
    PDP_DOWN = "pdp-down"
    PDP_UP = "pdp-up"
    PRICE = "price"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One act. names: the nodes it is done to. links: their numbers. power_mw: of a derating.

    model: "overlay", "peer", or "" for the other one. price: millionths per kWh.
    """

    at_ns: Instant
    verb: Verb
    names: tuple[str, ...] = ()
    links: tuple[int, ...] = ()
    profile: PowerProfile | None = None
    power_mw: int = 0
    model: str = ""
    supplier: int = 0
    price: int = 0


class InvalidScript(InvalidText):
    """A text that is no script, with every fault that is told; nothing of it holds."""


class _Place(NamedTuple):
    """A word of a line and the column it begins in."""

    text: str
    column: int


_Values: TypeAlias = Mapping[str, object]
_Reader: TypeAlias = Callable[[Topology, Sequence[_Place]], _Values]


class _WrongWordError(ValueError):
    """A word that does not fit."""

    def __init__(self, column: int, text: str) -> None:
        super().__init__(text)
        self.column = column


def parse_script(text: str, topology: Topology, file: str = "script") -> list[Act]:
    """Return the acts of a script in the order of their times; those of one time keep theirs.

    Raises InvalidScript with line and column of each fault.
    """
    acts: list[Act] = []
    faults: list[Fault] = []
    for number, line in enumerate(text.splitlines(), 1):
        said = line[: MAX_LINE + 1].partition("#")[0]
        words = [_Place(word[0], word.start() + 1) for word in _WORD.finditer(said)]
        if not words:
            continue
        try:
            if len(said) > MAX_LINE:
                raise _WrongWordError(MAX_LINE + 1, f"a line has at most {MAX_LINE:,} characters")
            if len(acts) == MAX_ACTS:
                raise _WrongWordError(1, f"a script has at most {MAX_ACTS:,} acts")
            acts.append(_act(topology, words))
        except _WrongWordError as error:
            faults.append(Fault(number, error.column, str(error)))
            if len(faults) == MAX_FAULTS or len(acts) == MAX_ACTS:
                break
    if faults:
        raise InvalidScript(file, faults)
    return sorted(acts, key=lambda act: act.at_ns)


def _act(topology: Topology, words: Sequence[_Place]) -> Act:
    at_ns = _read(words[0], parse_duration_ns)
    if len(words) == 1:
        place = words[0]
        text = f"an act follows the time: {', '.join(Verb)}"
        raise _WrongWordError(place.column + len(place.text), text)
    name = words[1]
    if name.text not in _READERS:
        known = ", ".join(Verb)
        text = f'an act is {known}, got "{name.text[:40]}"{nearest(name.text, list(Verb))}'
        raise _WrongWordError(name.column, text)
    verb = Verb(name.text)
    reader, least, most, form = _READERS[verb]
    operands = words[2:]
    if not least <= len(operands) <= most:
        strange = operands[most].column if len(operands) > most else _end(words[-1])
        raise _WrongWordError(strange, f'"{verb}" is written: {form}')
    values = reader(topology, operands)
    return Act(at_ns=at_ns, verb=verb, **values)  # type: ignore[arg-type]


def _end(place: _Place) -> int:
    return place.column + len(place.text)


def _read(place: _Place, parse: Callable[[str], ValueT]) -> ValueT:
    try:
        return parse(place.text)
    except ValueError as error:
        raise _WrongWordError(place.column, str(error)) from error


def _matching(topology: Topology, place: _Place, *kinds: NodeKind) -> tuple[str, ...]:
    """Return the nodes of some kinds whose names match a pattern, at least one."""
    names = [node.name for node in topology.of_kind(*kinds)]
    found = tuple(name for name in names if fnmatchcase(name, place.text))
    if not found:
        what = "lamp" if kinds == (NodeKind.LAMP,) else "node"
        text = f'no {what} matches "{place.text[:40]}"{nearest(place.text, names)}'
        raise _WrongWordError(place.column, text)
    return found


def _link(topology: Topology, place: _Place) -> tuple[int, ...]:
    """Return the numbers of the links that a pattern matches, at least one; either end first."""
    found = tuple(
        link.number
        for link in topology.links
        if fnmatchcase(link.name, place.text) or fnmatchcase(f"{link.b}--{link.a}", place.text)
    )
    if not found:
        names = [link.name for link in topology.links]
        text = f'no link matches "{place.text[:72]}"{nearest(place.text, names)}'
        raise _WrongWordError(place.column, text)
    return found


def _lamps(topology: Topology, words: Sequence[_Place]) -> _Values:
    return {"names": _matching(topology, words[0], NodeKind.LAMP)}


def _set(topology: Topology, words: Sequence[_Place]) -> _Values:
    return {**_lamps(topology, words), "profile": _read(words[1], PowerProfile.parse)}


def _migrate(topology: Topology, words: Sequence[_Place]) -> _Values:
    if len(words) > 1 and words[1].text not in MODELS:
        known = " or ".join(MODELS)
        text = f'a model is {known}, got "{words[1].text[:40]}"{nearest(words[1].text, MODELS)}'
        raise _WrongWordError(words[1].column, text)
    return {**_lamps(topology, words), "model": words[1].text if len(words) > 1 else ""}


def _links(topology: Topology, words: Sequence[_Place]) -> _Values:
    return {"links": _link(topology, words[0])}


def _derate(topology: Topology, words: Sequence[_Place]) -> _Values:
    return {**_links(topology, words), "power_mw": _read(words[1], parse_power_mw)}


def _nodes(topology: Topology, words: Sequence[_Place]) -> _Values:
    kinds = (NodeKind.ES, NodeKind.TRANSFORMER, NodeKind.SWITCH, NodeKind.LAMP)
    return {"names": _matching(topology, words[0], *kinds)}


def _policeman(topology: Topology, words: Sequence[_Place]) -> _Values:
    return {}


def _price(topology: Topology, words: Sequence[_Place]) -> _Values:
    number = words[0]
    if not number.text.isascii() or not number.text.isdecimal():
        raise _WrongWordError(number.column, f'the id of a supplier, got "{number.text[:40]}"')
    said = words[1]
    text = said.text if said.text.endswith("/kWh") else f"{said.text}/kWh"
    return {
        "supplier": int(number.text),
        "price": _read(said._replace(text=text), parse_price_micro),
    }


class _Grammar(NamedTuple):
    """How an act is read, and written."""

    reader: _Reader
    least: int
    most: int
    form: str


_READERS: Final[Mapping[str, _Grammar]] = {
    Verb.ON: _Grammar(_lamps, 1, 1, "TIME on LAMP"),
    Verb.OFF: _Grammar(_lamps, 1, 1, "TIME off LAMP"),
    Verb.SET: _Grammar(_set, 2, 2, "TIME set LAMP PROFILE"),
    Verb.MIGRATE: _Grammar(_migrate, 1, 2, "TIME migrate LAMP [overlay or peer]"),
    Verb.CUT: _Grammar(_links, 1, 1, "TIME cut A--B"),
    Verb.MEND: _Grammar(_links, 1, 1, "TIME mend A--B"),
    Verb.DERATE: _Grammar(_derate, 2, 2, "TIME derate A--B POWER"),
    Verb.CRASH: _Grammar(_nodes, 1, 1, "TIME crash NODE"),
    Verb.RESTART: _Grammar(_nodes, 1, 1, "TIME restart NODE"),
    Verb.PDP_DOWN: _Grammar(_policeman, 0, 0, "TIME pdp-down"),
    Verb.PDP_UP: _Grammar(_policeman, 0, 0, "TIME pdp-up"),
    Verb.PRICE: _Grammar(_price, 2, 2, "TIME price SUPPLIER PRICE"),
}
