"""Who has which neutral: each circuit its own, the lamps of a shared session one for each link.

MPLampS sections 4.5 and 4.6.
"""

from ipaddress import IPv4Address

from powertcp.mplamps.label import NEUTRAL
from powertcp.mplamps.lfib import Lfib
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.objects import Sender
from powertcp.units import Instant

# an owner that no SENDER_TEMPLATE can be: LSP ids end below
_NOBODY, _FIRST = IPv4Address(0), 0x1_0000


class Neutrals:
    """The flow labels of the neutral that a node has given out toward lamps."""

    __slots__ = ("_lfib", "_shared")

    def __init__(self, lfib: Lfib) -> None:
        """Take the label table."""
        self._lfib = lfib
        # by session and link: the label, and how many circuits go by it
        self._shared: dict[CircuitId, tuple[int, int]] = {}

    def take(self, circuit: CircuitId, link: int, now: Instant) -> int:
        """Return the flow label of a circuit on its lamp-side link, its entry open if it is new.

        Raises PowerRefused 508 where none is left.
        """
        if not circuit.session.is_shared:
            return self._lfib.allocate(circuit, NEUTRAL, now, link)
        # MPLA-4.6-01
        owner = _owner(circuit, link)
        flow, users = self._shared.get(owner, (0, 0))
        if not users:
            flow = self._lfib.allocate(owner, NEUTRAL, now, link)
        self._shared[owner] = flow, users + 1
        return flow

    def give(self, circuit: CircuitId, link: int, now: Instant) -> None:
        """Take back what `take` has returned; a label of its own goes with all entries of its owner."""
        if not circuit.session.is_shared:
            return
        owner = _owner(circuit, link)
        flow, users = self._shared.pop(owner)
        if users > 1:
            self._shared[owner] = flow, users - 1
        else:
            self._lfib.release(owner, now)


def _owner(circuit: CircuitId, link: int) -> CircuitId:
    """Return who owns what the lamps of a shared session have in common on a link."""
    return CircuitId(circuit.session, Sender(_NOBODY, _FIRST + link))
