"""The label table of a node: what comes under a voltage and a flow label leaves under others.

An entry is made open, as a breaker is, when its flow label is given out, and drops what comes; it
is closed by RESV. No octet behind the stack is altered: samples are per unit of the contract, so
that a transformer is a swap of labels. MPLampS sections 2.2, 2.3 and 3.

The table is kept as columns of integers by slot: `powertcp.mplamps.batch` swaps thousands of
packets at once on the same columns.
"""

from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from enum import StrEnum
from ipaddress import IPv4Address
from struct import Struct
from struct import error as struct_error
from typing import Final, NamedTuple, Protocol, TypeAlias

from powertcp.errors import DecodeError, LocalProtocolError, PowerRefused, known
from powertcp.mplamps.label import (
    FIRST_FLOW_LABEL,
    MAX_LABEL,
    NEUTRAL,
    LabelSpace,
    is_voltage,
    parse_stack,
)
from powertcp.mplamps.meter import Meter
from powertcp.registry import Reason, Refusal
from powertcp.units import Instant

# MPLA-4.10-03
MAX_CIRCUITS: Final = 100_000
STACK_OCTETS: Final = 8

# what is done with the packets of a slot; slot 0 is that of labels without an entry
NOTHING: Final = 0
BREAK: Final = 1
SWAP: Final = 2
OTHER: Final = 3

# both entries of a stack as one number: label 20, TC 3, S 1, TTL 8, twice
PAIR: Final = Struct(">Q")
SHAPE: Final = 0x0000_0100_0000_0100
TWO: Final = 0x0000_0000_0000_0100
KEPT: Final = 0x0000_0FFF_0000_0FFF
ONE_HOP: Final = 0x0000_0001_0000_0001
_TOP: Final = 44
_FLOW: Final = 12
_TTL: Final = 0xFF
# slots that are made at once
_MORE: Final = 8


class Drop(StrEnum):
    """Why a packet is not forwarded. MPLA-3-04."""

    UNKNOWN_LABEL = "unknown_label"
    WRONG_VOLTAGE = "wrong_voltage"
    RESERVED = "reserved"
    TTL = "ttl"
    OPEN = "open"
    NOT_NEIGHBOUR = "not_neighbour"
    QUEUE = "queue"
    MALFORMED = "malformed"


class Owner(Hashable, Protocol):
    """Whose circuit it is, as a circuit of RSVP is named."""

    @property
    def session(self) -> tuple[IPv4Address, int, IPv4Address]:
        """ES, tunnel, and lamp or 0."""

    @property
    def sender(self) -> tuple[IPv4Address, int]:
        """Lamp and LSP id."""


class Out(NamedTuple):
    """Where a packet leaves: number of the link, voltage label or neutral, flow label."""

    link: int
    label: int
    flow: int


class Delivery(NamedTuple):
    """A packet for the node's own end, without its stack."""

    owner: Owner
    packet: bytes


Verdict: TypeAlias = list[tuple[int, bytes]] | Delivery | Drop


class Entry(NamedTuple):
    """One row of the table. outs: empty while it was never closed, and for the node's own end."""

    label: int
    flow: int
    owner: Owner
    outs: tuple[Out, ...]
    is_closed: bool
    is_delivery: bool
    packets: int
    octets: int


class _Row:
    """What a slot has beside its columns."""

    __slots__ = ("flow", "is_closed", "is_delivery", "label", "meter", "outs", "owner")

    def __init__(self, owner: Owner, label: int, flow: int) -> None:
        self.owner = owner
        self.label = label
        self.flow = flow
        self.outs: tuple[Out, ...] = ()
        self.is_closed = False
        self.is_delivery = False
        self.meter: Meter | None = None


class Columns:
    """By slot: what is done, links in and out, both labels out in their place, and two counters.

    origins: the link on which packets come, 0 for any.
    """

    __slots__ = ("heads", "kinds", "links", "octets", "origins", "packets")

    def __init__(self) -> None:
        """Begin with slot 0."""
        self.kinds = array("B", (NOTHING,))
        self.origins = array("i", (0,))
        self.links = array("i", (0,))
        self.heads = array("Q", (0,))
        self.packets = array("Q", (0,))
        self.octets = array("Q", (0,))

    def grow(self) -> None:
        """Add slots that nobody uses."""
        for column in (self.kinds, self.origins, self.links, self.heads, self.packets, self.octets):
            column.frombytes(bytes(_MORE * column.itemsize))


class Lfib:
    """The label table of one node.

    columns, spaces: for `batch`. A space maps flow labels to slots, its last element to none.
    """

    __slots__ = (
        "_circuits",
        "_free",
        "_labels",
        "_max_circuits",
        "_pools",
        "_rows",
        "columns",
        "drops",
        "spaces",
    )

    def __init__(
        self,
        links: Mapping[int, int],
        *,
        is_transformer: bool = False,
        max_circuits: int = MAX_CIRCUITS,
        last_label: int = MAX_LABEL,
    ) -> None:
        """Take the voltage label of each link by its number.

        last_label: the greatest flow label given out. Raises LocalProtocolError for links of
        different labels at a node that is no transformer, and for a label that is no voltage.
        """
        labels = set(links.values())
        # MPLA-2.3-02
        if len(labels) > 1 and not is_transformer:
            names = ", ".join(str(label) for label in sorted(labels))
            raise LocalProtocolError(f"links of the labels {names} meet at no transformer")
        if not all(is_voltage(label) and label != NEUTRAL for label in labels):
            raise LocalProtocolError("the label of a link is that of a voltage")
        self._labels = dict(links)
        self._max_circuits = max_circuits
        # MPLA-2.2-01
        self._pools = {label: LabelSpace(last_label) for label in (NEUTRAL, *sorted(labels))}
        self.spaces = {label: array("i", bytes(4 * FIRST_FLOW_LABEL)) for label in self._pools}
        self.columns = Columns()
        self._rows: list[_Row | None] = [None]
        self._free: list[int] = []
        self._circuits: dict[Owner, list[int]] = {}
        self.drops = dict.fromkeys(Drop, 0)

    @property
    def circuits(self) -> int:
        """How many owners have entries."""
        return len(self._circuits)

    def __len__(self) -> int:
        return sum(len(pool) for pool in self._pools.values())

    # --- entries ------------------------------------------------------------------------------

    def allocate(self, owner: Owner, label: int, now: Instant, origin: int = 0) -> int:
        """Make an open entry of `owner` under a voltage label or the neutral; return its flow label.

        origin: the only link on which its packets may come, 0 for any. Raises PowerRefused 508 (error
        24/9), nothing made, beyond 100,000 circuits and when no flow label is left;
        LocalProtocolError for a voltage that no link has.
        """
        pool = self._pools.get(label)
        if pool is None:
            raise LocalProtocolError(f"no link has the label {label:,}")
        # MPLA-4.10-03
        slots = self._circuits.setdefault(owner, [])
        try:
            if not slots and len(self._circuits) > self._max_circuits:
                raise _full(len(self._circuits), self._max_circuits)
            flow = pool.allocate(now)
        except PowerRefused:
            if not slots:
                del self._circuits[owner]
            raise
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self._rows[slot] = _Row(owner, label, flow)
        columns = self.columns
        # MPLA-3-01
        columns.kinds[slot] = BREAK
        columns.origins[slot] = origin
        columns.packets[slot] = columns.octets[slot] = 0
        space = self.spaces[label]
        while len(space) < flow + 2:
            space.append(0)
        space[flow] = slot
        slots.append(slot)
        return flow

    def _grow(self) -> None:
        """Make free slots, so that the lowest is taken first."""
        first = len(self._rows)
        self.columns.grow()
        self._rows += [None] * _MORE
        self._free += range(first + _MORE - 1, first - 1, -1)

    def close_entry(
        self, label: int, flow: int, outs: Iterable[Out], meter: Meter | None = None
    ) -> None:
        """Close the breaker: from here on packets go to each of `outs`, noted by `meter`.

        Raises LocalProtocolError, nothing changed, for an entry that is not there, an out of no
        link, of another voltage than its link's, or of a phase that becomes neutral or back.
        """
        slot, row = self._find(label, flow)
        ways = tuple(outs)
        for way in ways:
            lawful = (NEUTRAL,) if label == NEUTRAL else (self._labels.get(way.link),)
            # MPLA-2.3-02
            if way.link not in self._labels or way.label not in lawful:
                raise LocalProtocolError(f"label {way.label:,} cannot leave on link {way.link}")
            if not FIRST_FLOW_LABEL <= way.flow <= MAX_LABEL:
                raise LocalProtocolError(f"flow label {way.flow:,} is never sent")
        if not ways:
            raise LocalProtocolError("a closed entry leads somewhere")
        row.outs, row.is_delivery = ways, False
        self._close(slot, row, meter)

    def deliver(self, label: int, flow: int, meter: Meter | None = None) -> None:
        """Close the breaker: packets go to the node's own end. Raises LocalProtocolError."""
        slot, row = self._find(label, flow)
        row.outs, row.is_delivery = (), True
        self._close(slot, row, meter)

    def _close(self, slot: int, row: _Row, meter: Meter | None) -> None:
        row.is_closed, row.meter = True, meter
        columns = self.columns
        # MPLA-3-01
        if len(row.outs) == 1 and meter is None:
            way = row.outs[0]
            columns.links[slot] = way.link
            columns.heads[slot] = way.label << _TOP | way.flow << _FLOW
            columns.kinds[slot] = SWAP
        else:
            columns.kinds[slot] = OTHER

    def open_entry(self, label: int, flow: int) -> None:
        """Open the breaker: packets are dropped. Raises LocalProtocolError if it is not there."""
        slot, row = self._find(label, flow)
        row.is_closed = False
        # MPLA-3-01
        self.columns.kinds[slot] = BREAK

    def release(self, owner: Owner, now: Instant) -> None:
        """Remove every entry of `owner`; its flow labels rest. Does nothing if there are none."""
        for slot in self._circuits.pop(owner, ()):
            row = self._row(slot)
            self._pools[row.label].free(row.flow, now)
            self.spaces[row.label][row.flow] = 0
            self._rows[slot] = None
            self.columns.kinds[slot] = NOTHING
            self._free.append(slot)

    def _find(self, label: int, flow: int) -> tuple[int, _Row]:
        space = self.spaces.get(label, ())
        slot = space[flow] if 0 <= flow < len(space) else 0
        row = self._rows[slot]
        if row is None:
            raise LocalProtocolError(f"no entry under the labels {label:,} and {flow:,}")
        return slot, row

    def _row(self, slot: int) -> _Row:
        return known(self._rows[slot], "a slot of an owner has its row")

    def entry(self, label: int, flow: int) -> Entry:
        """Return one row. Raises LocalProtocolError if it is not there."""
        slot, row = self._find(label, flow)
        return self._entry(slot, row)

    def entries(self, owner: Owner | None = None) -> Iterator[Entry]:
        """Yield the rows of `owner`, or all of them, in the order in which they were made."""
        owners = self._circuits if owner is None else (owner,)
        for one in owners:
            for slot in self._circuits.get(one, ()):
                yield self._entry(slot, self._row(slot))

    def _entry(self, slot: int, row: _Row) -> Entry:
        counted = self.columns.packets[slot], self.columns.octets[slot]
        state = row.is_closed, row.is_delivery
        return Entry(row.label, row.flow, row.owner, row.outs, *state, *counted)

    def label_of_link(self, link: int) -> int:
        """Return the voltage label of a link. Raises LocalProtocolError if there is no such link."""
        try:
            return self._labels[link]
        except KeyError:
            raise LocalProtocolError(f"there is no link {link}") from None

    # --- packets ------------------------------------------------------------------------------

    def forward(self, link: int, packet: bytes) -> Verdict:
        """Return where a packet that came in on `link` leaves and how, or why it does not.

        Raises LocalProtocolError for a link that the node does not have.
        """
        voltage = self._labels.get(link) or self.label_of_link(link)
        try:
            word = PAIR.unpack_from(packet)[0]
        except struct_error:
            return self._forward_deep(link, packet)
        if word & SHAPE != TWO:
            return self._forward_deep(link, packet)
        label = word >> _TOP
        flow = word >> _FLOW & MAX_LABEL
        # MPLA-2.2-02
        if label and label != voltage:
            return self.count(Drop.WRONG_VOLTAGE if is_voltage(label) else Drop.RESERVED)
        space = self.spaces[label]
        slot = space[flow] if flow < len(space) else 0
        columns = self.columns
        # MPLA-2.2-05
        if (origin := columns.origins[slot]) and origin != link:
            return self.count(Drop.UNKNOWN_LABEL)
        kind = columns.kinds[slot]
        if kind < SWAP:
            return self.count(self._why(flow, kind))
        if kind == SWAP:
            # MPLA-2.2-04
            if word & _TTL <= 1 or word >> 32 & _TTL <= 1:
                return self.count(Drop.TTL)
            columns.packets[slot] += 1
            columns.octets[slot] += len(packet)
            # MPLA-2.2-03, MPLA-2.2-04, MPLA-2.3-01
            head = PAIR.pack((columns.heads[slot] | word & KEPT) - ONE_HOP)
            return [(columns.links[slot], head + packet[STACK_OCTETS:])]
        return self._forward_other(slot, word, packet)

    @staticmethod
    def _why(flow: int, kind: int) -> Drop:
        if kind == BREAK:
            return Drop.OPEN
        # MPLA-2.1-02
        return Drop.RESERVED if NEUTRAL < flow < FIRST_FLOW_LABEL else Drop.UNKNOWN_LABEL

    def _forward_other(self, slot: int, word: int, packet: bytes) -> Verdict:
        """Forward what is metered, delivered or sent on several links."""
        row = self._row(slot)
        if not row.is_delivery and (word & _TTL <= 1 or word >> 32 & _TTL <= 1):
            return self.count(Drop.TTL)
        self.columns.packets[slot] += 1
        self.columns.octets[slot] += len(packet)
        if row.meter is not None:
            row.meter.note(packet, STACK_OCTETS)
        rest = packet[STACK_OCTETS:]
        if row.is_delivery:
            return Delivery(row.owner, rest)
        kept = (word & KEPT) - ONE_HOP
        return [
            (way.link, PAIR.pack(way.label << _TOP | way.flow << _FLOW | kept) + rest)
            for way in row.outs
        ]

    def _forward_deep(self, link: int, packet: bytes) -> Verdict:
        """Forward a packet whose stack has not two entries: without the neutrals inside it."""
        try:
            entries, end = parse_stack(packet)
        except DecodeError:
            # MPLA-2.2-05
            return self.count(Drop.MALFORMED)
        top, *others = entries
        if not is_voltage(top.label):
            return self.count(Drop.RESERVED)
        if top.label not in (NEUTRAL, self._labels[link]):
            return self.count(Drop.WRONG_VOLTAGE)
        # MPLA-2.1-02
        left = [entry for entry in others if entry.label != NEUTRAL]
        if any(entry.label < FIRST_FLOW_LABEL for entry in left):
            return self.count(Drop.RESERVED)
        if len(left) != 1:
            return self.count(Drop.UNKNOWN_LABEL)
        if any(entry.ttl <= 1 for entry in entries):
            return self.count(Drop.TTL)
        flow = left[0]._replace(is_last=True)
        return self.forward(link, top.to_wire() + flow.to_wire() + packet[end:])

    def count(self, drop: Drop) -> Drop:
        """Count a packet that is dropped, also one that never came here; return the reason."""
        # MPLA-3-04
        self.drops[drop] += 1
        return drop


def _full(circuits: int, limit: int) -> PowerRefused:
    return PowerRefused(Refusal(Reason.LIMIT, circuits, limit, requirement="MPLA-4.10-03"))


def label_table(
    lfib: Lfib, name_of: Callable[[IPv4Address], str], link_name: Callable[[int], str]
) -> list[str]:
    """Return the canonical table: a line for each entry, its owner in place of the flow label.

    "400 lamp-1/1 closed c1--h1 230": what comes under 400 V leaves on that link under 230 V. The
    order in which labels were given out does not show. MPLA-8-01.
    """
    lines = []
    for entry in lfib.entries():
        lamp, lsp = entry.owner.sender
        state = "closed" if entry.is_closed else "open"
        ways = [f"{link_name(way.link)} {way.label}" for way in entry.outs]
        where = ["here"] if entry.is_delivery else sorted(ways)
        lines.append(" ".join((str(entry.label), f"{name_of(lamp)}/{lsp}", state, *where)))
    # MPLA-8-01
    return sorted(lines)
