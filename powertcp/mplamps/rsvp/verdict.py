"""What is wrong with a PATH or a RESV whatever there is to be had: the errors that answer it.

MPLampS sections 4.3, 4.5, 4.6 and 4.10.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Final

from powertcp.mplamps.label import NEUTRAL
from powertcp.mplamps.rsvp.errors import Case, fault_of
from powertcp.mplamps.rsvp.events import LinkTo
from powertcp.mplamps.rsvp.messages import MAX_SENDERS, Circuit, Fault, Path, Resv
from powertcp.mplamps.rsvp.objects import L3PID_IPV4
from powertcp.mplamps.rsvp.state import CircuitState

# MPLA-4.10-03
MAX_CIRCUITS: Final = 100_000


def is_same(old: Path, new: Path) -> bool:
    """Return whether a PATH says of a circuit what the one before it has said."""
    return (
        old.flow_label == new.flow_label
        and old.power == new.power
        and old.route == new.route
        and old.tariff == new.tariff
        and old.attribute == new.attribute
        and old.tspec == new.tspec
        and old.hop == new.hop
        and old.upstream_label == new.upstream_label
        and old.l3pid == new.l3pid
    )


def is_own(path: Path, lamp: IPv4Address) -> bool:
    """Return whether a lamp asks in its own name: else it could take the circuits of others."""
    session, sender = path.session, path.sender
    return sender.lamp == lamp and (session.is_shared or session.lamp == lamp)


def find_fault(path: Path, node: IPv4Address, to: LinkTo) -> Fault | None:
    """Return why a PATH that came to a node from one end of a link is refused, None if it is not."""
    if to.is_lamp and not is_own(path, to.address):
        return fault_of(Case.POLICEMAN)
    # no lamp has the address 0.0.0.0: it would stand for all of a shared session
    if not int(path.sender.lamp):
        return fault_of(Case.BAD_OBJECT)
    # MPLA-4.3-02
    if path.upstream_label != to.label:
        return fault_of(Case.LABEL_VALUE)
    if path.l3pid != L3PID_IPV4:
        return fault_of(Case.PROTOCOL)
    # MPLA-4.5-05
    for hop in path.record:
        if hop.node == node:
            return fault_of(Case.LOOP)
    # MPLA-4.6-05
    if path.hop.node != to.address or (path.route and path.session.is_shared):
        return fault_of(Case.BAD_ROUTE)
    return None


def find_excess(path: Path, senders: int, circuits: int) -> Fault | None:
    """Return why a new circuit is one too many of its session or of the node, None if it is not."""
    # MPLA-4.10-03
    if (senders >= MAX_SENDERS and not path.session.is_shared) or circuits >= MAX_CIRCUITS:
        return fault_of(Case.EXHAUSTED)
    return None


def find_resv_fault(
    resv: Resv, circuit: Circuit, states: Sequence[CircuitState], *, is_known: bool
) -> Fault | None:
    """Return why what a RESV says of a circuit is refused, None if it is not.

    states: the circuits it is about, which use the link that it came on. is_known: the session is.
    """
    if not states:
        # MPLA-4.5-04
        return fault_of(Case.NO_SENDER) if is_known else fault_of(Case.NO_PATH)
    if states[0].style is not resv.style:
        return fault_of(Case.MIXED_STYLES)
    if circuit.label != NEUTRAL:
        # MPLA-4.3-02
        return fault_of(Case.LABEL_VALUE)
    return None
