"""Sources: what they grant, what they hold of links and of their own, and what they take back."""

from dataclasses import replace

import pytest

from powertcp.mplamps.node import LampState, NodeSettings
from powertcp.mplamps.power import PowerObject, TariffKind, TariffObject
from powertcp.mplamps.rsvp import encode_message
from powertcp.mplamps.rsvp.messages import Path, PathErr, Resv, ResvTear
from powertcp.mplamps.rsvp.objects import Style
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.mplamps.topology import Draft, NodeKind, Topology
from powertcp.profile import PowerProfile, ProfileType
from powertcp.units import NS_PER_S
from tests.mplamps_network import SECOND, Network

LAMP = "230V/260mA@50Hz"


def fork(capacity_mw: int) -> Topology:
    """A source with two links and little power, a house at each."""
    draft = Draft("fork")
    source = draft.node("es1", NodeKind.ES, capacity_mw=capacity_mw)
    for number in (1, 2):
        house = draft.node(f"h{number}", NodeKind.TRANSFORMER)
        lamp = draft.node(f"lamp-{number}", NodeKind.LAMP)
        draft.link(source, house, 400_000)
        draft.link(house, lamp, 230_000)
    return draft.finish()


def limit(supplier: int) -> TariffObject:
    return TariffObject.make(TariffKind.LIMIT, 400_000, "EUR", supplier=supplier)


@pytest.mark.requirement("MPLA-4.6-03")
def test_the_own_capacity_is_shared_by_all_links() -> None:
    network = Network(fork(100_000))
    network.on("lamp-1")
    network.on("lamp-2")
    network.run()
    source = network.nodes["es1"]
    assert sorted(source.holds().values()) == [0, 59_800]
    error = network.heard(PathErr)[0]
    assert (error.error.code, error.error.value) == (1, 2)
    assert error.power is not None
    assert error.power.second is not None
    assert error.power.second.power_mw == 40_020


@pytest.mark.requirement("MPLA-4.6-02")
def test_a_better_lamp_of_another_link_takes_the_own_capacity() -> None:
    network = Network(fork(100_000))
    network.on("lamp-1", f"{LAMP},prio=9")
    network.run()
    network.on("lamp-2", f"{LAMP},prio=2")
    network.run()
    assert network.nodes["lamp-1"].lamp_state is LampState.SHED
    assert network.nodes["lamp-2"].lamp_state is LampState.SIGNALLED
    assert network.nodes["es1"].holds() == {1: 0, 3: 59_800}
    assert network.nodes["h1"].circuits(network.now) == []


@pytest.mark.requirement("MPLA-4.4-02")
@pytest.mark.parametrize(("refresh_s", "lease_s"), [(30, 152), (5, 26), (100, 496)])
def test_the_lease_follows_the_period_of_refresh(refresh_s: int, lease_s: int) -> None:
    signalling = Settings(refresh_ns=refresh_s * NS_PER_S)
    network = Network("tree:1,1", settings=NodeSettings(signalling=signalling))
    network.on("lamp-1")
    network.run()
    grants = [resv.circuits[0].power.profile for resv in network.heard(Resv)]
    assert {grant.lease_s for grant in grants} == {lease_s}


@pytest.mark.requirement("MPLA-4.5-08")
def test_a_source_withdraws_for_one_supplier() -> None:
    network = Network(fork(1_000_000))
    address = network.nodes["es1"].address
    for number, supplier in ((1, 7), (2, 8)):
        network.on(f"lamp-{number}", limit=limit(supplier), es=address)
    network.run()
    source = network.nodes["es1"]
    source.withdraw(network.now, 7)
    source.withdraw(network.now, 7)
    network.settle("es1")
    network.run()
    assert len(network.heard(ResvTear)) == 2
    assert network.nodes["lamp-1"].lamp_state is LampState.SHED
    assert network.nodes["lamp-2"].lamp_state is LampState.SIGNALLED
    assert source.holds() == {1: 0, 3: 59_800}


@pytest.mark.requirement("MPLA-4.6-01")
def test_a_shared_session_is_withdrawn_and_comes_again() -> None:
    network = Network("street:2")
    for lamp in ("lamp-1", "lamp-2"):
        network.on(lamp, style=Style.WF)
    network.run()
    source = network.nodes["es1"]
    source.withdraw(network.now)
    network.settle("es1")
    network.run()
    assert {network.nodes[lamp].lamp_state for lamp in ("lamp-1", "lamp-2")} == {LampState.SHED}
    network.run(12 * SECOND)
    assert {network.nodes[lamp].lamp_state for lamp in ("lamp-1", "lamp-2")} == {
        LampState.SIGNALLED
    }
    for lamp in ("lamp-1", "lamp-2"):
        network.nodes[lamp].switch_off(1, network.now)
        network.settle(lamp)
    network.run()
    network.assert_empty()


@pytest.mark.requirement("MPLA-4.5-02")
def test_a_source_without_a_supply_has_every_waveform() -> None:
    network = Network(fork(1_000_000))
    network.on("lamp-1", "230V/1A")
    network.run()
    grant = network.changes("lamp-1")[-1].grant
    assert grant is not None
    assert grant.same_kind(PowerProfile.parse("230V/1A"))


def town() -> Topology:
    """A source of 240 W; a link of 100 W to the lamps x, z and w, one of 200 W to y."""
    draft = Draft("town")
    source = draft.node("es1", NodeKind.ES, capacity_mw=240_000)
    for number, (capacity_mw, lamps) in enumerate(((100_000, "xzw"), (200_000, "y")), 1):
        switch = draft.node(f"s{number}", NodeKind.SWITCH)
        draft.link(source, switch, 230_000, capacity_mw=capacity_mw)
        for lamp in lamps:
            draft.link(switch, draft.node(lamp, NodeKind.LAMP), 230_000)
    return draft.finish()


@pytest.mark.requirement("MPLA-4.6-02", "MPLA-4.6-03")
def test_nobody_is_pre_empted_on_a_link_for_what_the_source_has_not() -> None:
    network = Network(town())
    source = network.nodes["es1"]
    link = network.link("es1", "s1")
    for lamp, terms in (("x", "391mA@50Hz,prio=12"), ("y", "650mA@50Hz,prio=1")):
        network.on(lamp, f"230V/{terms}")
        network.run()
    network.on("z", "230V/430mA@50Hz,prio=6")
    network.run()
    assert network.nodes["z"].lamp_state is LampState.DARK
    assert network.nodes["x"].lamp_state is LampState.SIGNALLED
    assert source.holds()[link] == 89_930
    network.nodes["y"].switch_off(1, network.now)
    network.settle("y")
    network.run()
    network.on("w", "230V/391mA@50Hz,prio=12")
    network.run()
    assert network.nodes["w"].lamp_state is LampState.DARK
    granted = [row.grant.power_mw for row in source.circuits(network.now) if row.grant]
    assert granted == [89_930]


@pytest.mark.requirement("MPLA-4.6-02")
def test_who_makes_room_on_the_link_makes_it_of_the_own_capacity_too() -> None:
    network = Network(town())
    network.on("x", "230V/391mA@50Hz,prio=12")
    network.on("y", "230V/610mA@50Hz,prio=12")
    network.run()
    network.on("z", "230V/430mA@50Hz,prio=6")
    network.run()
    states = [network.nodes[lamp].lamp_state for lamp in "xyz"]
    assert states == [LampState.SHED, LampState.SIGNALLED, LampState.SIGNALLED]
    held = network.nodes["es1"].holds()
    assert held[network.link("es1", "s1")] == 98_900


@pytest.mark.requirement("MPLA-4.5-02")
def test_a_source_refuses_a_circuit_for_nothing() -> None:
    network = Network(fork(1_000_000))
    network.on("lamp-1")
    network.run()
    path = next(message for _, node, _, message in network.said if node == "h1")
    assert isinstance(path, Path)
    nothing = path.power.profile.with_type(ProfileType.REQUEST, current_ma=0)
    session = path.session._replace(tunnel=9)
    asked = replace(path, session=session, power=PowerObject(nothing), message_id=None, acks=())
    source, link = network.nodes["es1"], network.link("es1", "h1")
    source.receive_rsvp(link, encode_message(asked), network.now)
    network.settle("es1")
    network.run()
    error = network.heard(PathErr)[0].error
    assert (error.code, error.value) == (252, 503)
    assert len(source.circuits(network.now)) == 1
