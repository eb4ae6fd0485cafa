"""What a PATH asks the policeman: read where it is whole, refused where it is not."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.errors import DecodeError
from powertcp.mplamps.cops import Interface, inner_objects
from powertcp.mplamps.market import CircuitKey, MeterPoint, Remove, Request
from powertcp.mplamps.petition import (
    edge_of,
    point_of,
    read_petition,
    read_request,
    refusal_octets,
)
from powertcp.mplamps.power import PowerObject, TariffKind, TariffObject
from powertcp.mplamps.rsvp import Sender, Session
from powertcp.mplamps.rsvp.codec import error_at, session_object, template_object
from powertcp.profile import PowerProfile, ProfileType
from tests.cops_messages import OFFERS, PATH_OBJECTS
from tests.policed import LAMP, limit, street

ES, BULB = IPv4Address("10.0.0.2"), IPv4Address("10.0.0.8")
HOUSE = street().node("h1")
LINK = Interface(BULB, 8)
SESSION = session_object(Session(ES, 1, BULB))
SENDER = template_object(Sender(BULB, 3))
POWER = PowerObject.make(LAMP).to_wire()
LIMIT = limit(300_000, 7)


@pytest.mark.requirement("MPLA-6-04")
def test_the_objects_of_a_path_are_read() -> None:
    petition = read_petition(PATH_OBJECTS)
    assert petition.session == Session(IPv4Address("10.0.0.1"), 1, IPv4Address("10.0.0.5"))
    assert petition.sender == Sender(IPv4Address("10.0.0.5"), 1)
    assert petition.power.profile.power_mw == 59_800
    assert petition.limit is not None
    assert petition.limit.price == 300_000
    point = MeterPoint(IPv4Address("10.0.0.4"), 4)
    assert petition.request(point) == Request(
        circuit=CircuitKey((IPv4Address("10.0.0.1"), 1, IPv4Address("10.0.0.5")), 1),
        point=point,
        power_mw=59_800,
        priority=9,
        tariff=petition.limit,
    )


def test_a_priority_that_is_not_set_is_8() -> None:
    power = PowerObject.make(replace(LAMP, priority=0)).to_wire()
    petition = read_petition(SESSION + SENDER + power)
    assert petition.limit is None
    assert petition.request(MeterPoint(ES, 1)).priority == 8


def test_each_lamp_of_a_shared_session_has_its_own_circuit() -> None:
    shared = session_object(Session(ES, 1, IPv4Address(0)))
    one = read_petition(shared + SENDER + POWER)
    two = read_petition(shared + template_object(Sender(ES, 3)) + POWER)
    assert one.circuit == CircuitKey((ES, 1, BULB), 3)
    assert two.circuit == CircuitKey((ES, 1, ES), 3)


GRANT = PowerObject.make(LAMP.with_type(ProfileType.GRANT)).to_wire()
OFFER = TariffObject.make(TariffKind.OFFER, 1, "EUR", supplier=7).to_wire()


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        SENDER + POWER,
        SESSION + POWER,
        SESSION + SENDER,
        SESSION + SENDER + GRANT,
        SESSION + SENDER + POWER + OFFER,
        SESSION + SENDER + POWER + POWER,
        SESSION + SESSION + SENDER + POWER,
        SESSION + SENDER + POWER + LIMIT.to_wire() + LIMIT.to_wire(),
        SESSION + SENDER + POWER[:-4],
        b"\0\x08\x01\x07" + bytes(4) + SENDER + POWER,
        b"\0\x0c\x01\x01" + bytes(8) + SENDER + POWER,
        SESSION + SENDER + POWER + b"\0\x03\x01\x07",
    ],
)
def test_what_is_not_whole_is_no_petition(octets: bytes) -> None:
    with pytest.raises(DecodeError):
        read_petition(octets)
    refusal = read_request(street(), HOUSE, LINK, octets)
    assert isinstance(refusal, Remove)
    assert (refusal.code, refusal.value) == (252, 503)
    assert refusal.text


@given(st.binary(max_size=200), st.integers(0, len(PATH_OBJECTS)))
def test_octets_of_any_kind_are_read_or_refused(octets: bytes, at: int) -> None:
    mixed = PATH_OBJECTS[:at] + octets + PATH_OBJECTS[at + len(octets) :]
    found = read_request(street(), HOUSE, LINK, mixed)
    assert isinstance(found, (Request, Remove))


@pytest.mark.parametrize(
    ("name", "is_edge"),
    [
        ("10.0.0.6", True),
        ("10.0.0.5", False),
        ("10.0.0.8", False),
        ("10.9.9.9", False),
        ("h1", False),
        ("10.0.0.6 ", False),
        ("0xa000006", False),
        ("::1", False),
        ("", False),
    ],
)
def test_only_the_address_of_an_edge_lsr_is_one(name: str, is_edge: bool) -> None:
    found = edge_of(street(), name)
    assert found == (street().node("h1") if is_edge else None)


@pytest.mark.requirement("MPLA-6-05")
def test_a_meter_point_is_where_the_topology_has_a_lamp() -> None:
    topology = street()
    assert point_of(topology, HOUSE, LINK) == MeterPoint(HOUSE.address, 8)
    cabinet = topology.node("c1")
    neighbour = IPv4Address("10.0.0.9")
    for interface in (
        Interface(BULB, 9), Interface(BULB, 0), Interface(neighbour, 9),
        Interface(neighbour, 8), Interface(cabinet.address, 6), Interface(IPv4Address(1), 8),
    ):  # fmt: skip
        assert point_of(topology, HOUSE, interface) is None
        refusal = read_request(topology, HOUSE, interface, SESSION + SENDER + POWER)
        assert isinstance(refusal, Remove)
        assert (refusal.code, refusal.value) == (2, 0)


@pytest.mark.requirement("MPLA-6-05")
@pytest.mark.parametrize(
    "octets",
    [
        SESSION + template_object(Sender(ES, 3)) + POWER,
        session_object(Session(ES, 1, ES)) + SENDER + POWER,
    ],
)
def test_no_lamp_speaks_for_another_one(octets: bytes) -> None:
    refusal = read_request(street(), HOUSE, LINK, octets)
    assert isinstance(refusal, Remove)
    assert (refusal.code, refusal.value) == (2, 0)
    assert "10.0.0.8" in refusal.text


@pytest.mark.requirement("MPLA-6-04", "MPLA-6-06")
def test_a_refusal_has_error_and_offers() -> None:
    refusal = Remove(code=252, value=104, text="dear", offers=tuple(OFFERS))
    error, *offers = inner_objects(refusal_octets(HOUSE.address, refusal))
    spec = error_at(error.octets, 4, len(error.octets) - 4)
    assert (spec.node, spec.flags, spec.code, spec.value) == (HOUSE.address, 4, 252, 104)
    assert [one.private for one in offers] == OFFERS
    [error] = inner_objects(refusal_octets(HOUSE.address, Remove(code=2, value=0, text="no")))
    assert len(error.octets) == 12


def test_a_power_beyond_what_the_lamp_says_is_not_made_up() -> None:
    power = PowerProfile.parse("400V/16A@50Hz")
    octets = SESSION + SENDER + PowerObject.make(power).to_wire() + LIMIT.to_wire()
    request = read_request(street(), HOUSE, LINK, octets)
    assert isinstance(request, Request)
    assert (request.power_mw, request.tariff) == (6_400_000, LIMIT)
