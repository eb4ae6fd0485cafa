"""Topologies made from a few words: tree:10,10,10,2,5, street:3, ring:8, ladder:4.

MPLampS section 7. A generator works wherever a topology is wanted.
"""

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from itertools import pairwise
from math import prod
from typing import Final

from powertcp.errors import nearest
from powertcp.mplamps.topology import (
    DEFAULT_BASE,
    MAX_NODES,
    Draft,
    NodeKind,
    Topology,
    find_faults,
)
from powertcp.profile import PowerProfile

HIGH_MV: Final = 380_000_000
REGION_MV: Final = 110_000_000
DISTRICT_MV: Final = 20_000_000
STREET_MV: Final = 400_000
HOUSE_MV: Final = 230_000
# of each generated source; its links say how much of it there is
SUPPLY: Final = PowerProfile.parse("230V/1kA@50Hz")
# more levels than any network has
MAX_LEVELS: Final = 32

_SPEC = re.compile(r"([a-z]+):(.*)", re.DOTALL)
_NUMBER = re.compile(r"[1-9]\d{0,6}")
# of load-switching routers, counted from the lamps
_NAMES = ("h", "c", "s", "g")


def is_generator(word: str) -> bool:
    """Return whether a word names a generator, and no file."""
    found = _SPEC.fullmatch(word)
    return found is not None and found[1] in _GENERATORS


def generate_topology(
    spec: str, *, base: IPv4Address = DEFAULT_BASE, has_pdp: bool = False
) -> Topology:
    """Return the topology that `spec` says, always the same one.

    The policy decision point comes last, so that it changes no address. Raises ValueError with a
    sentence for a spec that is none, or makes more than a topology may have. MPLA-7-04.
    """
    found = _SPEC.fullmatch(spec)
    kind = found[1] if found else spec.partition(":")[0]
    if found is None or kind not in _GENERATORS:
        known = ", ".join(_SYNTAX.values())
        raise ValueError(f'a generator is {known}, got "{spec[:40]}"{nearest(kind, _GENERATORS)}')
    words = found[2].split(",")
    if not all(_NUMBER.fullmatch(word) for word in words):
        raise ValueError(f'{_SYNTAX[kind]} takes numbers from 1 to 9,999,999, got "{spec[:40]}"')
    draft = Draft(kind, base)
    # MPLA-7-04
    _GENERATORS[kind](draft, [int(word) for word in words])
    if has_pdp:
        draft.node("pdp", NodeKind.PDP)
    topology = draft.finish()
    if faults := find_faults(topology):
        raise ValueError(f"{spec}: {faults[0].text}")
    return topology


def _one(name: str, counts: Sequence[int], least: int) -> int:
    """Return the only number of a spec. Raises ValueError if it is another one."""
    if len(counts) != 1 or not least <= counts[0] <= MAX_NODES:
        raise ValueError(f"{_SYNTAX[name]} takes one number from {least} to {MAX_NODES:,}")
    return counts[0]


def _voltages(levels: int) -> list[int]:
    """Return the voltages of the links of a tree, from the source on."""
    fixed = [HOUSE_MV, STREET_MV, DISTRICT_MV, REGION_MV, HIGH_MV]
    more = [DISTRICT_MV] * (levels - len(fixed))
    return [*fixed[:3], *more, *fixed[3:]][:levels][::-1]


def _tree(draft: Draft, counts: Sequence[int]) -> None:
    levels = len(counts)
    if not 2 <= levels <= MAX_LEVELS:
        raise ValueError(f"{_SYNTAX['tree']} has 2 to {MAX_LEVELS} levels, got {levels}")
    total = 1 + sum(prod(counts[: level + 1]) for level in range(levels))
    if total > MAX_NODES:
        raise ValueError(f"a tree of {total:,} nodes, at most {MAX_NODES:,}")
    voltages = _voltages(levels)
    parents = [draft.node("es1", NodeKind.ES, supply=SUPPLY)]
    links: list[tuple[str, str, int]] = []
    for level, count in enumerate(counts):
        below = levels - level - 1
        is_step = below and voltages[level] != voltages[level + 1]
        kind = NodeKind.TRANSFORMER if is_step else NodeKind.SWITCH
        name = f"l{below}-" if below > len(_NAMES) else _NAMES[below - 1]
        if not below:
            kind, name = NodeKind.LAMP, "lamp-"
        children: list[str] = []
        for parent in parents:
            for _ in range(count):
                children.append(draft.node(f"{name}{len(children) + 1}", kind))
                links.append((parent, children[-1], voltages[level]))
        parents = children
    for a, b, voltage_mv in links:
        draft.link(a, b, voltage_mv)


def _houses(draft: Draft, feeders: Sequence[Sequence[str]]) -> None:
    """Add a house with one lamp at each tuple of feeders."""
    count = len(feeders)
    for number in range(1, count + 1):
        draft.node(f"h{number}", NodeKind.TRANSFORMER)
    for number in range(1, count + 1):
        draft.node(f"lamp-{number}", NodeKind.LAMP)
    for number, names in enumerate(feeders, 1):
        for name in names:
            draft.link(name, f"h{number}", STREET_MV)
    for number in range(1, count + 1):
        draft.link(f"h{number}", f"lamp-{number}", HOUSE_MV)


def _street(draft: Draft, counts: Sequence[int]) -> None:
    houses = _one("street", counts, 1)
    source = draft.node("es1", NodeKind.ES, supply=SUPPLY)
    substations = [draft.node(f"s{number}", NodeKind.TRANSFORMER) for number in (1, 2)]
    cabinet = draft.node("c1", NodeKind.TRANSFORMER)
    for name in substations:
        draft.link(source, name, REGION_MV)
    for name in substations:
        draft.link(name, cabinet, DISTRICT_MV)
    _houses(draft, [(cabinet,)] * houses)


def _ring(draft: Draft, counts: Sequence[int]) -> None:
    size = _one("ring", counts, 3)
    source = draft.node("es1", NodeKind.ES, supply=SUPPLY)
    ring = [draft.node(f"r{number}", NodeKind.TRANSFORMER) for number in range(1, size + 1)]
    draft.link(source, ring[0], REGION_MV)
    for at, name in enumerate(ring):
        draft.link(name, ring[(at + 1) % size], DISTRICT_MV)
    _houses(draft, [(name,) for name in ring])


def _ladder(draft: Draft, counts: Sequence[int]) -> None:
    rungs = _one("ladder", counts, 1)
    source = draft.node("es1", NodeKind.ES, supply=SUPPLY)
    rails = [
        [draft.node(f"{rail}{number}", NodeKind.TRANSFORMER) for number in range(1, rungs + 1)]
        for rail in ("a", "b")
    ]
    for rail in rails:
        draft.link(source, rail[0], REGION_MV)
    for rail in rails:
        for near, far in pairwise(rail):
            draft.link(near, far, DISTRICT_MV)
    pairs = list(zip(*rails, strict=True))
    for left, right in pairs:
        draft.link(left, right, DISTRICT_MV)
    _houses(draft, pairs)


_GENERATORS: dict[str, Callable[[Draft, Sequence[int]], None]] = {
    "tree": _tree,
    "street": _street,
    "ring": _ring,
    "ladder": _ladder,
}
_SYNTAX = {"tree": "tree:A,B,..,Z", "street": "street:N", "ring": "ring:N", "ladder": "ladder:N"}
