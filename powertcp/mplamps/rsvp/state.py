"""What the signalling of a node knows of its circuits: PATHs, what was granted, and until when.

MPLampS sections 4.5 and 4.7.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from powertcp.mplamps.power import PowerObject, TariffObject
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.memory import StateKey
from powertcp.mplamps.rsvp.messages import MAX_SENDERS, Path
from powertcp.mplamps.rsvp.objects import (
    SE_DESIRED,
    ForeignObject,
    RecordedHop,
    Sender,
    Session,
    Style,
    TokenBucket,
)
from powertcp.units import NS_PER_MS, Duration, Instant

# MPLA-4.7-02: K = 3, and half a period for the last refresh
_PERIODS_X4: Final = 21
# a neighbour that states less would have its state forgotten before it can refresh it
MIN_REFRESH_MS: Final = 10
# one that states more and is gone would keep power for months with one message: 14.6 h at most
MAX_REFRESH_MS: Final = 10_000_000
# of circuits that are gone, entries of the heap are kept up to so many and one for each that is not
_SPARE_ENDS: Final = 1_024


@lru_cache(maxsize=1 << 10)
def lifetime_ns(refresh_ms: int) -> Duration:
    """Return how long state lives after its last refresh: (3 + 0.5) * 1.5 * R."""
    # MPLA-4.7-02
    refresh_ms = min(max(refresh_ms, MIN_REFRESH_MS), MAX_REFRESH_MS)
    return refresh_ms * NS_PER_MS * _PERIODS_X4 // 4


def style_of(path: Path) -> Style:
    """Return how the senders of the session of a PATH share: as it asks for. MPLA-4.6-01."""
    # MPLA-4.6-01
    if path.session.is_shared:
        return Style.WF
    return Style.SE if path.attribute.flags & SE_DESIRED else Style.FF


class Granted(NamedTuple):
    """What a RESV says of a circuit: by the source side, or passed on to the lamp side."""

    flow_label: int
    power: PowerObject
    tariff: TariffObject | None
    record: tuple[RecordedHop, ...] = ()


class CircuitState:
    """A circuit at a node. Links are 0 where there is none: of a lamp in, of an ES out.

    path: as it came, or as the lamp made it. peers: all circuits of its session, itself too.
    granted: by the source side, for `granted_for` after each refresh. passed: to the lamp side.
    left_link: where its PATH went before it was replaced.
    is_waiting: a verb is still owed. is_told: the last RESV of the source side names it.
    look_at: when it is looked at, whether something of it has ended.
    """

    __slots__ = (
        "circuit",
        "confirm",
        "expires",
        "granted",
        "granted_expires",
        "granted_for",
        "granted_others",
        "in_link",
        "is_told",
        "is_waiting",
        "left_link",
        "look_at",
        "others",
        "out_link",
        "passed",
        "path",
        "peers",
        "style",
        "ttl",
    )

    confirm: IPv4Address | None
    peers: "list[CircuitState]"

    def __init__(self, circuit: CircuitId, path: Path, in_link: int, ttl: int) -> None:
        """Begin with a PATH that waits for a verb."""
        self.circuit = circuit
        self.path = path
        self.in_link = in_link
        self.ttl = ttl
        self.style = style_of(path)
        self.out_link = 0
        self.left_link = 0
        self.is_waiting = True
        self.is_told = False
        self.expires: Instant | None = None
        self.look_at: Instant | None = None
        self.granted: Granted | None = None
        self.granted_expires: Instant = 0
        self.granted_for: Duration = 0
        self.granted_others: tuple[ForeignObject, ...] = ()
        self.passed: Granted | None = None
        self.confirm = None
        self.others: tuple[ForeignObject, ...] = ()

    @property
    def session(self) -> Session:
        """The session of the circuit."""
        return self.circuit.session

    @property
    def tspec(self) -> TokenBucket:
        """What the circuit carries."""
        return self.path.tspec


class Circuits:
    """All circuits of a node, by session too, and when their state ends unless it is refreshed."""

    def __init__(self) -> None:
        """Begin with none."""
        self._states: dict[CircuitId, CircuitState] = {}
        self._sessions: dict[Session, list[CircuitState]] = {}
        self.recent: CircuitState | None = None
        """The circuit of which something was told last: that is answered at once."""
        # an entry may be earlier than the end of the state, which is then looked at again; one whose
        # time is not that of its state, or whose state is gone, says nothing
        self._ends: list[tuple[Instant, int, CircuitState]] = []
        self._counted = 0

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[CircuitState]:
        return iter(tuple(self._states.values()))

    def __contains__(self, circuit: object) -> bool:
        return circuit in self._states

    def get(self, circuit: CircuitId) -> CircuitState | None:
        """Return a circuit, None if it is not known."""
        recent = self.recent
        if recent is None or recent.circuit is not circuit:
            self.recent = recent = self._states.get(circuit)
        return recent

    def of(self, session: Session) -> Sequence[CircuitState]:
        """Return the circuits of a session."""
        return self._sessions.get(session, ())

    def named(self, session: Session, sender: Sender | None) -> list[CircuitState]:
        """Return the circuit that a message names, or without a sender all of its session."""
        if sender is None:
            return list(self.of(session))
        state = self._states.get(CircuitId(session, sender))
        return [] if state is None else [state]

    def granted_by(self, link: int, session: Session, sender: Sender | None) -> list[CircuitState]:
        """Return the circuits that a RESV from a link is about; sender: None for all of its session."""
        peers = self.of(session)
        if sender is not None and len(peers) > MAX_SENDERS:
            peers = self.named(session, sender)
        return [
            state
            for state in peers
            if state.out_link == link and (sender is None or state.circuit.sender == sender)
        ]

    def refresh(self, link: int, keys: Iterable[StateKey], now: Instant) -> None:
        """Let state live on that the neighbour on a link still wants."""
        # MPLA-4.7-02
        for key in keys:
            match key:
                case ("path", Session() as session, Sender() as sender):
                    for state in self.named(session, sender):
                        if state.in_link == link:
                            state.expires = now + lifetime_ns(state.path.refresh_ms)
                case ("resv", Session() as session):
                    for state in self.of(session):
                        if state.out_link == link and state.granted and state.is_told:
                            state.granted_expires = now + state.granted_for

    def add(self, state: CircuitState) -> None:
        """Add a circuit."""
        circuit = state.circuit
        self._states[circuit] = self.recent = state
        state.peers = self._sessions.setdefault(circuit.session, [])
        state.peers.append(state)

    def remove(self, state: CircuitState) -> None:
        """Remove a circuit."""
        del self._states[state.circuit]
        self.recent = None
        state.peers.remove(state)
        if not state.peers:
            del self._sessions[state.session]

    def expect(self, state: CircuitState, at: Instant) -> None:
        """Look at a circuit at `at`, or before it if it is looked at then anyway."""
        if state.look_at is not None and state.look_at <= at:
            return
        state.look_at = at
        self._counted += 1
        heappush(self._ends, (at, self._counted, state))
        if len(self._ends) > 2 * len(self._states) + _SPARE_ENDS:
            self._ends = [row for row in self._ends if self._is_due(row[2], row[0])]
            heapify(self._ends)

    @property
    def entries(self) -> int:
        """How many deadlines are kept; few more than circuits, however often those change."""
        return len(self._ends)

    def _is_due(self, state: CircuitState, at: Instant) -> bool:
        return state.look_at == at and self._states.get(state.circuit) is state

    def next_end(self) -> Instant | None:
        """Return when a circuit is to be looked at, None if nothing of any ends by itself."""
        while self._ends and not self._is_due(self._ends[0][2], self._ends[0][0]):
            heappop(self._ends)
        return self._ends[0][0] if self._ends else None

    def due(self, now: Instant) -> Iterator[CircuitState]:
        """Yield the circuits to be looked at; what does not end is expected again by the caller."""
        while self._ends and self._ends[0][0] <= now:
            at, _, state = heappop(self._ends)
            if self._is_due(state, at):
                state.look_at = None
                yield state
