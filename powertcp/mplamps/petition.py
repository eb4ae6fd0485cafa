"""What an edge LSR asks of the policeman: the objects of a PATH to a request, a refusal to objects.

All of it comes from a peer: octets are parsed before they are believed, an address and a link count
only where the topology has them. MPLampS sections 4.3, 4.4 and 6.
"""

from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address
from typing import Final, NamedTuple, TypeVar

from powertcp.errors import DecodeError
from powertcp.mplamps.cops import Interface, inner_objects
from powertcp.mplamps.deciding import decide
from powertcp.mplamps.market import (
    POLICY_CODE,
    PRIVATE_CODE,
    CircuitKey,
    Install,
    MarketState,
    MeterPoint,
    Remove,
    Request,
)
from powertcp.mplamps.power import PowerObject, TariffKind, TariffObject
from powertcp.mplamps.rsvp import ErrorSpec, Sender, Session
from powertcp.mplamps.rsvp.codec import OBJECTS, code_of, error_object
from powertcp.mplamps.rsvp.objects import Class
from powertcp.mplamps.topology import Node, NodeKind, Topology
from powertcp.profile import ProfileType
from powertcp.registry import Reason
from powertcp.units import Instant

_SESSION: Final = code_of(Class.SESSION, 7)
_SENDER: Final = code_of(Class.SENDER_TEMPLATE, 7)
_HEADER: Final = 4
_ANY_PRICE: Final = (1 << 63) - 1
ValueT = TypeVar("ValueT")


class Petition(NamedTuple):
    """What a PATH says that a policeman judges. limit: the TARIFF, None without one."""

    session: Session
    sender: Sender
    power: PowerObject
    limit: TariffObject | None

    @property
    def circuit(self) -> CircuitKey:
        """The circuit: in a session that lamps share, each lamp has its own."""
        session = self.session
        lamp = self.sender.lamp if session.is_shared else session.lamp
        return CircuitKey((session.es, session.tunnel, lamp), self.sender.lsp)

    def request(self, point: MeterPoint) -> Request:
        """Return what the market decides on."""
        profile = self.power.profile
        return Request(
            circuit=self.circuit,
            point=point,
            power_mw=profile.power_mw,
            priority=profile.effective_priority,
            tariff=self.limit,
        )


def read_petition(info: bytes) -> Petition:
    """Read SESSION, SENDER_TEMPLATE, POWER and TARIFF among the objects of a PATH.

    Raises DecodeError: for what is no objects, for one of these that is missing, malformed or there
    twice, for a POWER without REQUEST and a TARIFF that is no LIMIT.
    """
    found: dict[type, object] = {}
    for one in inner_objects(info):
        code = code_of(one.number, one.c_type)
        if isinstance(one.private, (PowerObject, TariffObject)):
            value: object = one.private
        elif code in (_SESSION, _SENDER):
            row, size = OBJECTS[code], len(one.octets) - _HEADER
            if not row.shortest <= size <= row.longest:
                raise DecodeError(0, Class(one.number).name, Reason.BAD_LENGTH, size, row.longest)
            value = row.decode(one.octets, _HEADER, size)
        else:
            continue
        if found.setdefault(type(value), value) is not value:
            raise DecodeError(0, f"a second {type(value).__name__}", Reason.STATE)
    power = _need(found, PowerObject)
    if power.profile.type is not ProfileType.REQUEST:
        raise DecodeError(0, "REQUEST", Reason.STATE, power.profile.type, ProfileType.REQUEST)
    limit = found.get(TariffObject)
    if isinstance(limit, TariffObject) and limit.kind is not TariffKind.LIMIT:
        raise DecodeError(0, "LIMIT", Reason.STATE, limit.kind, TariffKind.LIMIT)
    return Petition(
        _need(found, Session),
        _need(found, Sender),
        power,
        limit if isinstance(limit, TariffObject) else None,
    )


def _need(found: dict[type, object], kind: type[ValueT]) -> ValueT:
    value = found.get(kind)
    if not isinstance(value, kind):
        raise DecodeError(0, kind.__name__, Reason.STATE)
    return value


def read_request(
    topology: Topology, edge: Node, interface: Interface, info: bytes
) -> Request | Remove:
    """Return what an edge LSR asks the market for, or why that is not judged at all.

    interface, info: of its message. A lamp speaks for itself only, and as the link has it.
    """
    point = point_of(topology, edge, interface)
    if point is None:
        text = f"no meter point at link {interface.link} of {edge.name} to {interface.address}"
        return Remove(code=POLICY_CODE, value=0, text=text)
    try:
        petition = read_petition(info)
    except DecodeError as error:
        return Remove(code=PRIVATE_CODE, value=Reason.BAD_OPTION, text=str(error))
    session, lamp = petition.session, interface.address
    if petition.sender.lamp != lamp or not (session.is_shared or session.lamp == lamp):
        text = f"the lamp at link {point.link} of {edge.name} is {lamp}"
        return Remove(code=POLICY_CODE, value=0, text=text)
    return petition.request(point)


def decide_standing(
    request: Request, supplier: int, state: MarketState, now: Instant
) -> Install | Remove:
    """Decide on a circuit that is supplied: it stays with its supplier, at any price."""
    kind, currency = TariffKind.LIMIT, state.market.currency
    limit = TariffObject(kind=kind, price=_ANY_PRICE, currency=currency, supplier=supplier)
    return decide(replace(request, tariff=limit), state, now)


def edge_of(topology: Topology, pep_id: str) -> Node | None:
    """Return the edge LSR that a PEPID names by its address, None if there is none."""
    try:
        address = IPv4Address(pep_id)
    except AddressValueError:
        return None
    node = topology.at(address)
    return node if node is not None and topology.is_edge(node.name) else None


def point_of(topology: Topology, edge: Node, interface: Interface) -> MeterPoint | None:
    """Return the meter point of a link of an edge LSR to the lamp that is named, None if none is.

    MPLA-6-05.
    """
    # MPLA-6-05
    lamp = topology.at(interface.address)
    if lamp is None or lamp.kind is not NodeKind.LAMP:
        return None
    link = topology.between(edge.name, lamp.name)
    if link is None or link.number != interface.link:
        return None
    return MeterPoint(edge.address, link.number)


def refusal_octets(node: IPv4Address, remove: Remove) -> bytes:
    """Return the ERROR_SPEC of a refusal, of the edge LSR that tells it, and the OFFERs."""
    # MPLA-6-04
    error = error_object(ErrorSpec.refusal(node, remove.code, remove.value))
    # MPLA-6-06
    return error + b"".join(offer.to_wire() for offer in remove.offers)
