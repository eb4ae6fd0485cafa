"""Neutrals: each circuit its own, a shared session one for each link."""

from ipaddress import IPv4Address

import pytest

from powertcp.errors import PowerRefused
from powertcp.mplamps.label import NEUTRAL
from powertcp.mplamps.lfib import Lfib
from powertcp.mplamps.neutrals import Neutrals
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.objects import Sender, Session

ES, NOBODY = IPv4Address("10.0.0.1"), IPv4Address(0)
LAMPS = [IPv4Address(f"10.0.0.{number}") for number in (5, 6, 7)]


def circuit(lamp: IPv4Address, *, is_shared: bool = False) -> CircuitId:
    return CircuitId(Session(ES, 1, NOBODY if is_shared else lamp), Sender(lamp, 1))


def test_each_circuit_has_a_neutral_of_its_own() -> None:
    lfib = Lfib({1: 400})
    neutrals = Neutrals(lfib)
    assert [neutrals.take(circuit(lamp), 1, 0) for lamp in LAMPS] == [16, 17, 18]
    neutrals.give(circuit(LAMPS[0]), 1, 0)
    assert len(lfib) == 3, "it goes with the other entries of its owner"
    lfib.release(circuit(LAMPS[0]), 0)
    assert len(lfib) == 2


@pytest.mark.requirement("MPLA-4.6-01")
def test_the_lamps_of_a_shared_session_have_one_for_each_link() -> None:
    lfib = Lfib({1: 400, 2: 400})
    neutrals = Neutrals(lfib)
    shared = [circuit(lamp, is_shared=True) for lamp in LAMPS]
    flows = [neutrals.take(one, link, 0) for one, link in zip(shared, (1, 1, 2), strict=True)]
    assert flows == [16, 16, 17]
    neutrals.give(shared[0], 1, 0)
    assert len(lfib) == 2
    neutrals.give(shared[1], 1, 0)
    assert [entry.flow for entry in lfib.entries()] == [17]
    neutrals.give(shared[2], 2, 0)
    assert len(lfib) == 0


@pytest.mark.requirement("MPLA-4.6-01")
def test_no_sender_owns_what_the_lamps_of_a_shared_session_have_in_common() -> None:
    lfib = Lfib({1: 400})
    neutrals = Neutrals(lfib)
    neutrals.take(circuit(LAMPS[0], is_shared=True), 1, 0)
    [entry] = lfib.entries()
    assert entry.owner.session == Session(ES, 1, NOBODY)
    assert entry.owner.sender[1] > 0xFFFF
    for lsp in range(0x1_0000):
        lfib.release(CircuitId(Session(ES, 1, NOBODY), Sender(NOBODY, lsp)), 0)
    assert len(lfib) == 1


@pytest.mark.requirement("MPLA-2.2-01")
def test_a_node_with_no_neutral_left_refuses() -> None:
    neutrals = Neutrals(Lfib({1: 400}, last_label=16))
    assert neutrals.take(circuit(LAMPS[0]), 1, 0) == 16
    for is_shared in (False, True):
        with pytest.raises(PowerRefused):
            neutrals.take(circuit(LAMPS[1], is_shared=is_shared), 1, 0)
    assert NEUTRAL == 0
