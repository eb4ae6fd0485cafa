"""How many circuits an edge LSR may ask for, and how many last meters it keeps: at the bounds."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.cops import DeleteReason, Interface, Pdp, Pep, ReportKind
from powertcp.mplamps.cops.machine import MAX_CIRCUITS
from powertcp.mplamps.cops.untold import MAX_UNTOLD, LastMeter, Untold
from powertcp.units import NS_PER_S
from tests.cops_messages import METER, PATH_OBJECTS, POLICEMAN, QUOTE

LAMP = Interface(IPv4Address("10.0.0.5"), 4)
LAST = replace(METER, is_final=True)


def last(number: int) -> LastMeter:
    return LastMeter(number.to_bytes(4), LAMP, PATH_OBJECTS, DeleteReason.TEAR, LAST)


def exchange(pep: Pep, pdp: Pdp) -> None:
    while (up := pep.data_to_send()) or (down := pdp.data_to_send()):
        pdp.receive_data(up, 0)
        pep.receive_data(pdp.data_to_send() if up else down, 0)


def test_beyond_the_bound_the_oldest_is_forgotten_and_counted() -> None:
    untold = Untold()
    for number in range(MAX_UNTOLD):
        untold.add(last(number))
    assert (len(untold), untold.dropped) == (MAX_UNTOLD, 0)
    untold.add(last(MAX_UNTOLD))
    assert (len(untold), untold.dropped) == (MAX_UNTOLD, 1)
    told = [one.handle for one in untold.drain()]
    assert (told[0], told[-1]) == ((1).to_bytes(4), MAX_UNTOLD.to_bytes(4))
    assert (len(untold), untold.dropped, list(untold.drain())) == (0, 1, [])


def test_it_is_full_at_its_limit_of_circuits_and_raises_above() -> None:
    pep = Pep(IPv4Address("10.0.0.4"), bytes)
    for _ in range(MAX_CIRCUITS - 1):
        pep.ask(LAMP, PATH_OBJECTS, 0, 0)
    assert not pep.is_full
    handle = pep.ask(LAMP, PATH_OBJECTS, 0, 0)
    assert pep.is_full
    with pytest.raises(LocalProtocolError, match="100,000 circuits are asked for already"):
        pep.ask(LAMP, PATH_OBJECTS, 0, 0)
    pep.delete(handle, DeleteReason.TEAR, None)
    assert not pep.is_full
    pep.ask(LAMP, PATH_OBJECTS, 0, 0)
    assert len(pep) == MAX_CIRCUITS


@pytest.mark.requirement("MPLA-6-02", "MPLA-6-04")
def test_a_lamp_that_is_switched_on_and_off_without_a_policeman_takes_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("powertcp.mplamps.cops.machine.MAX_CIRCUITS", 2)
    monkeypatch.setattr("powertcp.mplamps.cops.untold.MAX_UNTOLD", 5)
    pep, pdp = Pep(IPv4Address("10.0.0.4"), bytes), Pdp(0)
    pep.connect(POLICEMAN, 0)
    exchange(pep, pdp)
    handle = pep.ask(LAMP, PATH_OBJECTS, 7, 0)
    exchange(pep, pdp)
    pdp.install(handle, QUOTE)
    exchange(pep, pdp)
    pep.report(handle, ReportKind.SUCCESS, 0, is_answer=True)
    pep.receive_eof(0)
    for times in range(1, 8):
        pep.delete(pep.ask(LAMP, PATH_OBJECTS, 7, 0), DeleteReason.TEAR, LAST)
        assert (pep.untold, pep.untold_dropped) == (min(times, 5), max(0, times - 5))
        assert (len(pep), pep.is_full) == (1, False)
    pep.connect(POLICEMAN, NS_PER_S)
    exchange(pep, Pdp(NS_PER_S))
    assert (pep.untold, pep.untold_dropped) == (0, 2)
