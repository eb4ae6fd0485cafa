"""What the signalling of a node knows of its circuits: PATHs, what was granted, and until when.

MPLampS sections 4.5 and 4.7.
"""

from collections.abc import Collection, Iterator
from heapq import heappop, heappush
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from powertcp.mplamps.power import PowerObject, TariffObject
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.messages import Path
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


def lifetime_ns(refresh_ms: int) -> Duration:
    """Return how long state lives after its last refresh: (3 + 0.5) * 1.5 * R."""
    # MPLA-4.7-02
    return max(refresh_ms, MIN_REFRESH_MS) * NS_PER_MS * _PERIODS_X4 // 4


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

    path: as it came, or as the lamp made it. granted: by the source side, for
    `granted_for` after each refresh. passed: to the lamp side.
    left_link: where its PATH went before it was replaced. is_waiting: a verb is still owed.
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
        "is_waiting",
        "left_link",
        "others",
        "out_link",
        "passed",
        "path",
        "style",
        "ttl",
    )

    confirm: IPv4Address | None

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
        self.expires: Instant | None = None
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
        self._sessions: dict[Session, dict[Sender, CircuitState]] = {}
        # an entry may be earlier than the end of the state, which is then looked at again
        self._ends: list[tuple[Instant, int, CircuitId]] = []
        self._counted = 0

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[CircuitState]:
        return iter(tuple(self._states.values()))

    def __contains__(self, circuit: object) -> bool:
        return circuit in self._states

    def get(self, circuit: CircuitId) -> CircuitState | None:
        """Return a circuit, None if it is not known."""
        return self._states.get(circuit)

    def of(self, session: Session) -> Collection[CircuitState]:
        """Return the circuits of a session."""
        senders = self._sessions.get(session)
        return senders.values() if senders is not None else ()

    def named(self, session: Session, sender: Sender | None) -> list[CircuitState]:
        """Return the circuit that a message names, or without a sender all of its session."""
        if sender is None:
            return list(self.of(session))
        state = self._states.get(CircuitId(session, sender))
        return [] if state is None else [state]

    def add(self, state: CircuitState) -> None:
        """Add a circuit."""
        self._states[state.circuit] = state
        self._sessions.setdefault(state.session, {})[state.circuit.sender] = state

    def remove(self, state: CircuitState) -> None:
        """Remove a circuit."""
        del self._states[state.circuit]
        senders = self._sessions[state.session]
        del senders[state.circuit.sender]
        if not senders:
            del self._sessions[state.session]

    def expect(self, circuit: CircuitId, at: Instant) -> None:
        """Look at a circuit again at `at`."""
        self._counted += 1
        heappush(self._ends, (at, self._counted, circuit))

    def next_end(self) -> Instant | None:
        """Return when a circuit is to be looked at, None if nothing of any ends by itself."""
        return self._ends[0][0] if self._ends else None

    def due(self, now: Instant) -> Iterator[CircuitState]:
        """Yield the circuits to be looked at; what does not end is expected again by the caller."""
        while self._ends and self._ends[0][0] <= now:
            state = self._states.get(heappop(self._ends)[2])
            if state is not None:
                yield state
