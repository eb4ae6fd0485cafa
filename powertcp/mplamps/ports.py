"""A link as the node at one end sees it: what never changes, and what circuits hold of it here.

MPLampS sections 4.5, 4.6 and 5.
"""

from collections.abc import Iterable

from powertcp.mplamps.power import PowerObject
from powertcp.mplamps.rsvp.admission import Admitted, LinkAdmission, NoRoom, Sharing
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.messages import Path
from powertcp.mplamps.rsvp.state import style_of
from powertcp.mplamps.ted import PRIORITIES, Reservations, Ted
from powertcp.mplamps.topology import Link, NodeKind, Topology

_LEAST = PRIORITIES - 1


class Port:
    """One link of a node.

    number, label, voltage_mv: of the link. name: "c1--h3". other, address: of the neighbour.
    is_lamp, is_source: whether that is a lamp, an ES. is_up: as this node knows it.
    """

    __slots__ = (
        "_admission",
        "_greatest_mw",
        "_greatest_rate",
        "_is_low",
        "_link",
        "_reservations",
        "_sharing",
        "_ted",
        "address",
        "is_lamp",
        "is_source",
        "is_up",
        "label",
        "name",
        "number",
        "other",
        "voltage_mv",
    )

    def __init__(self, link: Link, here: str, ted: Ted, sharing: Sharing = Sharing.SUM) -> None:
        """Take a link of the node called `here`; nothing is held of it."""
        neighbour = ted.topology.node(link.other(here))
        self._link = link
        self._ted = ted
        self._sharing = sharing
        self._reservations: Reservations | None = None
        self._admission: LinkAdmission | None = None
        # the most that was asked of it at once: trees for more are rare, and found out
        self._greatest_mw = 0
        self._greatest_rate = 0
        self._is_low = False
        self.number = link.number
        self.label = link.label
        self.voltage_mv = link.voltage_mv
        self.name = link.name
        self.other = neighbour.name
        self.address = neighbour.address
        self.is_lamp = neighbour.kind is NodeKind.LAMP
        self.is_source = neighbour.kind is NodeKind.ES
        self.is_up = True

    @property
    def admission(self) -> LinkAdmission:
        """What is held of the link by circuits to lamps on its other side."""
        return self._open() if self._admission is None else self._admission

    def _open(self) -> LinkAdmission:
        self._reservations = Reservations(self._link)
        self._admission = LinkAdmission(
            self._reservations, self.name, self.voltage_mv, self._sharing
        )
        return self._admission

    @property
    def held_mw(self) -> int:
        """All that is held here, in mW."""
        return self._admission.held_mw if self._admission is not None else 0

    def admit(self, circuit: CircuitId, path: Path, power: PowerObject) -> Admitted:
        """Hold the power of a PATH. Raises NoRoom, state unchanged."""
        admission = self.admission
        mw, rate = power.profile.power_mw, path.tspec.rate
        if mw > self._greatest_mw:
            self._greatest_mw = mw
        if rate > self._greatest_rate:
            self._greatest_rate = rate
        setup, holding = path.attribute.setup, path.attribute.holding
        try:
            admitted = admission.admit(circuit, style_of(path), power, rate, setup, holding)
        except NoRoom:
            self._tell()
            raise
        self._look()
        return admitted

    def release(self, circuit: CircuitId) -> None:
        """Give back what a circuit holds, if it does."""
        if self._admission is not None:
            self._admission.release(circuit)
            self._look()

    def derate(self, capacity_mw: int) -> tuple[CircuitId, ...]:
        """Set the capacity, and return the circuits that were shed for it."""
        shed = self.admission.derate(capacity_mw)
        self._tell()
        return shed

    def set_up(self, *, is_up: bool) -> None:
        """Note whether the link is up, and let the routes know."""
        if is_up != self.is_up:
            self.is_up = is_up
            self._tell()

    def forget(self) -> None:
        """Let the routes know that nothing is held: a node begins with its links free."""
        fresh = Reservations(self._link).state()
        if self._ted.state(self.number) != fresh:
            self._ted.update(self.number, fresh)

    def _look(self) -> None:
        """Tell the routes of a link that is nearly full, and once when it is no more so.

        While it has enough for the greatest request there was, no route depends on how much.
        """
        reservations = self._reservations
        if reservations is None:
            return
        is_low = not reservations.may_hold(self._greatest_mw, self._greatest_rate, _LEAST)
        if is_low or self._is_low:
            self._tell()
        self._is_low = is_low

    def _tell(self) -> None:
        self._ted.update(self.number, self.admission.state(is_up=self.is_up))


def ports_of(
    topology: Topology, name: str, ted: Ted, sharing: Sharing = Sharing.SUM
) -> dict[int, Port]:
    """Return the ports of a node by the numbers of their links."""
    return {link.number: Port(link, name, ted, sharing) for link in topology.links_of(name)}


def capacity_of(topology: Topology, source: str, sharing: Sharing = Sharing.SUM) -> LinkAdmission:
    """Return what circuits hold of the own capacity of an ES."""
    own = Link(
        number=0, a=source, b=source, voltage_mv=0, label=0,
        capacity_mw=topology.capacity_of(source),
    )  # fmt: skip
    return LinkAdmission(Reservations(own), source, None, sharing)


def labels_of(ports: Iterable[Port]) -> dict[int, int]:
    """Return the voltage label of each link by its number, as a label table takes them."""
    return {port.number: port.label for port in ports}
