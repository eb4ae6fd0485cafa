"""What the signalling of a node says to its neighbours of a circuit: one method for each message.

MPLampS sections 4.2 and 4.5.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

from powertcp.machine import Entropy, Trace
from powertcp.mplamps.label import NEUTRAL
from powertcp.mplamps.power import PowerObject, TariffObject
from powertcp.mplamps.rsvp.events import LinkTo
from powertcp.mplamps.rsvp.keys import Signal, path_key, resv_key
from powertcp.mplamps.rsvp.messages import (
    Circuit,
    Fault,
    Path,
    PathErr,
    PathTear,
    Resv,
    ResvConf,
    ResvErr,
    ResvTear,
    make_circuit,
    make_path,
    make_resv,
)
from powertcp.mplamps.rsvp.neighbour import Neighbour
from powertcp.mplamps.rsvp.objects import (
    LABEL_RECORDING,
    MAX_HOPS,
    ErrorSpec,
    Hop,
    RecordedHop,
    RouteHop,
    Sender,
    Session,
    Style,
)
from powertcp.mplamps.rsvp.post import Post
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.mplamps.rsvp.state import CircuitState
from powertcp.mplamps.rsvp.wire import FIRST_TTL, MessageTooLongError
from powertcp.units import NS_PER_MS, Instant


class Speaker:
    """All neighbours of a node, and what goes to them."""

    def __init__(
        self,
        node: IPv4Address,
        links: Mapping[int, LinkTo],
        settings: Settings,
        entropy: Entropy,
        now: Instant,
        trace: Trace | None = None,
    ) -> None:
        """Take the own address and the links by their numbers."""
        self.node = node
        self.links = dict(links)
        self._hops = {number: Hop(node, number) for number in links}
        self._refresh_ms = settings.refresh_ns // NS_PER_MS
        epoch = int.from_bytes(entropy(3), "big")
        self.post = Post()
        self.neighbours = {
            number: Neighbour(to.address, settings, epoch, entropy, now, self.post, number, trace)
            for number, to in links.items()
        }
        self.reset_timer(None)

    def handle_timers(self, now: Instant) -> list[int]:
        """Do what is due of the neighbours; return their links."""
        due = []
        for link, neighbour in self.neighbours.items():
            at = neighbour.get_timer()
            if at is not None and at <= now:
                neighbour.handle_timer(now)
                due.append(link)
        return due

    def reset_timer(self, at: Instant | None) -> None:
        """Find the earliest deadline of all neighbours and `at` afresh."""
        self.post.timer = at
        for neighbour in self.neighbours.values():
            deadline = neighbour.get_timer()
            if deadline is not None:
                self.post.wake_at(deadline)

    def send(self, link: int, message: Signal, now: Instant, *, ttl: int = FIRST_TTL) -> None:
        """Send a message on a link."""
        self.neighbours[link].send(message, now, ttl=ttl)

    def _send_fitting(
        self, link: int, message: Path | Resv, now: Instant, *, ttl: int = FIRST_TTL
    ) -> None:
        """Send what others have added to; what does not fit goes without that.

        First the record goes, then what is forwarded unexamined.
        """
        try:
            self.send(link, message, now, ttl=ttl)
            return
        except MessageTooLongError:
            message = _without_record(message)
        try:
            # MPLA-4.3-05
            self.send(link, message, now, ttl=ttl)
        except MessageTooLongError:
            self.send(link, replace(message, others=()), now, ttl=ttl)

    # ---- toward the source ------------------------------------------------------------------

    def path(
        self,
        state: CircuitState,
        flow_label: int,
        route: tuple[RouteHop, ...],
        power: PowerObject,
        now: Instant,
    ) -> None:
        """Send the PATH of a circuit on its `out_link`."""
        path, link = state.path, state.out_link
        label = self.links[link].label
        message = make_path(
            session=path.session,
            hop=self._hops[link],
            refresh_ms=self._refresh_ms,
            attribute=path.attribute,
            sender=path.sender,
            tspec=path.tspec,
            upstream_label=label,
            flow_label=flow_label,
            power=power,
            tariff=path.tariff,
            route=route,
            record=self._recorded(path, path.record, label, is_first=not state.in_link),
            others=state.others,
        )
        self._send_fitting(link, message, now, ttl=state.ttl - 1)

    def path_again(self, state: CircuitState, now: Instant) -> None:
        """Send the PATH of a circuit on once more: only what was recorded of it has changed."""
        if not state.out_link:
            return
        key = path_key(state.circuit.session, state.circuit.sender)
        before = self.neighbours[state.out_link].sent(key)
        if isinstance(before, Path):
            record = self._recorded(state.path, state.path.record, before.upstream_label)
            onward = replace(before, record=record, message_id=None, acks=())
            self._send_fitting(state.out_link, onward, now, ttl=state.ttl - 1)

    def path_tear(self, state: CircuitState, link: int, now: Instant) -> None:
        """Say that a circuit is given up."""
        self.send(
            link,
            PathTear(
                session=state.session,
                hop=self._hops[link],
                sender=state.circuit.sender,
                tspec=state.tspec,
            ),
            now,
        )

    def resv_err(self, state: CircuitState, error: ErrorSpec, now: Instant) -> None:
        """Say that the RESV of a circuit was refused on the lamp side."""
        self.send(
            state.out_link,
            ResvErr(
                session=state.session,
                hop=self._hops[state.out_link],
                error=error,
                style=state.style,
                flowspec=state.tspec,
                sender=_filter(state),
            ),
            now,
        )

    def refuse_resv(
        self, link: int, resv: Resv, fault: Fault, sender: Sender | None, now: Instant
    ) -> None:
        """Answer a RESV that has come on `link`."""
        self.send(
            link,
            ResvErr(
                session=resv.session,
                hop=self._hops[link],
                error=ErrorSpec.refusal(self.node, *fault),
                style=resv.style,
                flowspec=resv.flowspec,
                sender=sender,
            ),
            now,
        )

    def confirm(self, state: CircuitState, resv: Resv, now: Instant) -> None:
        """Tell who asked for it that the RESV has come to the lamp."""
        if resv.confirm is None:
            return
        # MPLA-4.2-03
        message = ResvConf(
            session=state.session,
            error=ErrorSpec(self.node, 0, 0, 0),
            confirm=resv.confirm,
            style=resv.style,
            flowspec=resv.flowspec,
            sender=_filter(state),
        )
        self.send(state.out_link, message, now)

    # ---- toward the lamp --------------------------------------------------------------------

    def resv(
        self, states: Iterable[CircuitState], session: Session, link: int, now: Instant
    ) -> None:
        """Send what is granted to the circuits of a session on a link, or forget that there was.

        states: all circuits of the session.
        """
        passed = [one for one in states if one.in_link == link and one.passed is not None]
        if not passed:
            self.neighbours[link].forget(resv_key(session))
            return
        first = passed[0]
        message = make_resv(
            session=session,
            hop=self._hops[link],
            refresh_ms=self._refresh_ms,
            style=first.style,
            flowspec=first.tspec if len(passed) == 1 else max(one.tspec for one in passed),
            circuits=_circuits(passed, first.style),
            confirm=first.confirm,
            others=first.granted_others,
        )
        self._send_fitting(link, message, now)

    def resv_tear(self, state: CircuitState, now: Instant) -> None:
        """Say that what was granted to a circuit, or to a shared session, is so no more."""
        message = ResvTear(
            session=state.session,
            hop=self._hops[state.in_link],
            style=state.style,
            sender=_filter(state),
        )
        self.send(state.in_link, message, now)

    def path_err(
        self,
        link: int,
        path: Path,
        error: ErrorSpec,
        power: PowerObject | None,
        offers: tuple[TariffObject, ...],
        now: Instant,
    ) -> None:
        """Say on `link` why a PATH is refused."""
        message = PathErr(
            session=path.session,
            error=error,
            sender=path.sender,
            tspec=path.tspec,
            power=power,
            offers=offers,
        )
        self.send(link, message, now)

    # ---- records ----------------------------------------------------------------------------

    def record_back(self, state: CircuitState) -> tuple[RecordedHop, ...]:
        """Return the record of a RESV that goes on to the lamp side."""
        behind = state.granted.record if state.granted is not None else ()
        return self._recorded(state.path, behind, self.links[state.in_link].label)

    def _recorded(
        self, path: Path, record: tuple[RecordedHop, ...], label: int, *, is_first: bool = False
    ) -> tuple[RecordedHop, ...]:
        """Return a record with the own hop, none where none is kept or it would be too long.

        is_first: this is the lamp, which begins it if labels are to be recorded.
        """
        has_labels = bool(path.attribute.flags & LABEL_RECORDING)
        is_kept = has_labels if is_first else bool(path.record)
        # MPLA-4.3-05
        if not is_kept or len(record) >= MAX_HOPS:
            return ()
        if not has_labels:
            return (RecordedHop(self.node), *record)
        return (RecordedHop(self.node, label, NEUTRAL), *record)


def _without_record(message: Path | Resv) -> Path | Resv:
    if isinstance(message, Path):
        return replace(message, record=())
    return replace(message, circuits=tuple(replace(one, record=()) for one in message.circuits))


def _filter(state: CircuitState) -> Sender | None:
    return None if state.style is Style.WF else state.circuit.sender


def _circuits(states: list[CircuitState], style: Style) -> tuple[Circuit, ...]:
    """Return what a RESV says of the circuits of a session on one link; all of them were passed."""
    rows = [
        make_circuit(
            sender=state.circuit.sender,
            flow_label=passed.flow_label,
            power=passed.power,
            tariff=passed.tariff,
            record=passed.record,
        )
        for state in states
        if (passed := state.passed) is not None
    ]
    if style is not Style.WF:
        return tuple(rows)
    # MPLA-4.6-01: with RSVP all share the greatest
    greatest = max(rows, key=lambda row: row.power.profile.power_mw)
    return (replace(greatest, sender=None),)
