"""Who may hold how much of a link: styles, priorities, lowering, pre-emption, shedding."""

from collections.abc import Iterable
from ipaddress import IPv4Address

import pytest

from powertcp.errors import LocalProtocolError, PowerRefused
from powertcp.mplamps.power import PowerObject
from powertcp.mplamps.rsvp.admission import LinkAdmission, NoRoom, Sharing
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.objects import Sender, Session, Style
from powertcp.mplamps.ted import Reservations
from powertcp.mplamps.topology import Link
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason

ES = IPv4Address("10.0.0.1")
NOBODY = IPv4Address(0)
LAMP = PowerProfile.parse("230V/260mA@50Hz")
LAMP_MW = 59_800
W = 1000


def admission(
    capacity_mw: int = 100 * W, rate_bps: int | None = None, sharing: Sharing = Sharing.SUM
) -> LinkAdmission:
    link = Link(
        number=1,
        a="c1",
        b="h3",
        voltage_mv=400_000,
        label=400,
        capacity_mw=capacity_mw,
        rate_bps=rate_bps,
    )
    return LinkAdmission(Reservations(link), link.name, link.voltage_mv, sharing)


def circuit(lamp: int, lsp: int = 1, *, is_shared: bool = False) -> CircuitId:
    address = IPv4Address("10.0.1.0") + lamp
    return CircuitId(
        Session(ES, 1, NOBODY if is_shared else address),
        Sender(address, lsp),
    )


def asks(power: str = "230V/260mA@50Hz", least: str = "") -> PowerObject:
    second = PowerProfile.parse(least, ProfileType.MINIMUM) if least else None
    return PowerObject.make(PowerProfile.parse(power), second)


def admit(
    link: LinkAdmission,
    who: CircuitId,
    power: PowerObject | None = None,
    *,
    style: Style = Style.SE,
    rate: int = 0,
    setup: int = 4,
    holding: int | None = None,
) -> tuple[CircuitId, ...]:
    if who.session.is_shared:
        style = Style.WF
    hold = setup if holding is None else holding
    return link.admit(who, style, power or asks(), rate, setup, hold).preempted


def milliwatts(values: Iterable[int]) -> list[PowerObject]:
    return [PowerObject.make(PowerProfile.make(ProfileType.REQUEST, 1000, mw)) for mw in values]


# ---- what fits ----------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.6-03")
def test_what_fits_is_held_until_it_is_released() -> None:
    link = admission(2 * LAMP_MW)
    admit(link, circuit(1))
    admit(link, circuit(2))
    assert (link.held_mw, link.free_mw(4), link.free_mw(3)) == (2 * LAMP_MW, 0, 2 * LAMP_MW)
    assert set(link) == {circuit(1), circuit(2)}
    link.release(circuit(1))
    assert (link.held_mw, len(link), circuit(1) in link) == (LAMP_MW, 1, False)
    link.release(circuit(1))
    assert link.state().free_mw == (2 * LAMP_MW,) * 4 + (LAMP_MW,) * 4


@pytest.mark.requirement("MPLA-4.5-03")
def test_a_refusal_has_the_link_the_numbers_and_what_is_left() -> None:
    link = admission(69_700)
    admit(link, circuit(1))
    with pytest.raises(NoRoom) as caught:
        admit(link, circuit(2))
    refusal, power = caught.value.refusal, caught.value.power
    assert isinstance(caught.value, PowerRefused)
    said = "link c1--h3 (400 V) has 9,900 mW left at priority 4, asked 59,800 mW"
    assert refusal.text == said
    assert (refusal.code, refusal.value, refusal.limit) == (Reason.NO_CAPACITY, LAMP_MW, 9_900)
    assert power.profile == LAMP
    assert power.second == LAMP.with_type(ProfileType.REFUSE, current_ma=43)
    assert link.held_mw == LAMP_MW
    assert circuit(2) not in link


def test_a_source_is_said_without_a_voltage() -> None:
    own = Link(number=1, a="es1", b="", voltage_mv=0, label=0, capacity_mw=W)
    source = LinkAdmission(Reservations(own), "es1")
    with pytest.raises(NoRoom) as caught:
        admit(source, circuit(1))
    assert caught.value.refusal.text.startswith("source es1 has 1,000 mW left")


@pytest.mark.requirement("MPLA-4.5-03")
def test_the_second_lamp_behind_100_w_is_lowered_to_174_ma() -> None:
    link = admission(100 * W)
    admit(link, circuit(1))
    power = asks(least="230V/100mA@50Hz")
    granted = link.admit(circuit(2), Style.SE, power, 0, 4, 4).power
    assert granted.profile == LAMP.with_type(ProfileType.REQUEST, current_ma=174)
    assert granted.profile.power_mw == 40_020
    assert granted.second == power.second
    assert link.held_mw == LAMP_MW + 40_020


@pytest.mark.requirement("MPLA-4.5-03")
@pytest.mark.parametrize(("least_ma", "is_admitted"), [(174, True), (175, False)])
def test_nothing_is_lowered_below_its_minimum(least_ma: int, is_admitted: bool) -> None:
    link = admission(100 * W)
    admit(link, circuit(1))
    power = asks(least=f"230V/{least_ma}mA@50Hz")
    if is_admitted:
        admit(link, circuit(2), power)
    else:
        with pytest.raises(NoRoom):
            admit(link, circuit(2), power)
    assert (circuit(2) in link) is is_admitted


@pytest.mark.requirement("MPLA-4.5-03")
def test_a_power_said_in_whole_amperes_is_lowered_to_whole_amperes() -> None:
    # 20 kV does not fit 24 bits of mV: the current is sent in A, a REQUEST rounded up
    link = admission(50_000 * W)
    granted = link.admit(circuit(1), Style.SE, asks("20kV/4A@50Hz", "20kV/1A@50Hz"), 0, 4, 4)
    assert granted.power.profile.current_ma == 2000
    assert granted.power.profile.as_sent() == granted.power.profile
    assert link.held_mw == 40_000 * W


def test_a_derated_link_without_anything_left_lowers_to_nothing_below_a_minimum() -> None:
    link = admission(LAMP_MW)
    admit(link, circuit(1), setup=0)
    with pytest.raises(NoRoom) as caught:
        admit(link, circuit(2), asks(least="230V/1mA@50Hz"))
    assert caught.value.refusal.limit == 0
    second = caught.value.power.second
    assert second is not None
    assert second.current_ma == 0


@pytest.mark.requirement("MPLA-4.5-02")
def test_nothing_is_lowered_to_no_power_at_all() -> None:
    link = admission(LAMP_MW)
    admit(link, circuit(1))
    with pytest.raises(NoRoom):
        admit(link, circuit(2), asks(least="230V/0A@50Hz"))
    assert circuit(2) not in link


@pytest.mark.requirement("MPLA-4.6-03")
def test_octets_a_second_are_admitted_like_power() -> None:
    link = admission(1000 * W, rate_bps=8 * 100)
    admit(link, circuit(1), rate=60)
    with pytest.raises(NoRoom) as caught:
        admit(link, circuit(2), asks(least="230V/1mA@50Hz"), rate=41)
    said = "link c1--h3 (400 V) has 40 octets/s left at priority 4, asked 41 octets/s"
    assert caught.value.refusal.text == said
    second = caught.value.power.second
    assert second is not None
    assert second.current_ma == 0
    admit(link, circuit(2), rate=40)
    assert link.state().free_rate[4] == 0


def test_a_circuit_that_is_admitted_again_holds_only_the_new_power() -> None:
    link = admission(100 * W)
    admit(link, circuit(1), asks("230V/100mA@50Hz"))
    admit(link, circuit(1), asks("230V/400mA@50Hz"))
    assert (link.held_mw, len(link)) == (92 * W, 1)
    with pytest.raises(NoRoom):
        admit(link, circuit(1), asks("230V/500mA@50Hz"))
    assert (link.held_mw, circuit(1) in link) == (92 * W, True)
    link.release(circuit(1))
    assert link.held_mw == 0


@pytest.mark.parametrize(("rate", "setup", "holding"), [(-1, 4, 4), (0, 8, 4), (0, 4, -1)])
def test_what_is_no_priority_and_no_rate_is_a_bug(rate: int, setup: int, holding: int) -> None:
    link = admission()
    with pytest.raises(LocalProtocolError, match="cannot admit"):
        link.admit(circuit(1), Style.SE, asks(), rate, setup, holding)
    assert link.held_mw == 0


# ---- settling -----------------------------------------------------------------------------------


def test_a_grant_gives_back_what_it_does_not_need() -> None:
    link = admission(100 * W)
    admit(link, circuit(1))
    assert link.settle(circuit(1), 40_020) == 40_020
    assert link.held_mw == 40_020


def test_a_grant_beyond_what_was_admitted_is_not_reserved() -> None:
    link = admission(100 * W)
    admit(link, circuit(1))
    assert link.settle(circuit(1), 90 * W) == LAMP_MW
    assert link.held_mw == LAMP_MW


def test_what_is_not_held_cannot_be_settled() -> None:
    link = admission()
    admit(link, circuit(1))
    assert link.settle(circuit(2), 5) is None
    with pytest.raises(LocalProtocolError, match="cannot settle"):
        link.settle(circuit(1), -1)
    assert link.held_mw == LAMP_MW


# ---- styles -------------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.6-01")
def test_with_ff_the_circuits_of_a_session_hold_each_their_own() -> None:
    link = admission(100 * W)
    admit(link, circuit(1, 1), style=Style.FF)
    with pytest.raises(NoRoom):
        admit(link, circuit(1, 2), style=Style.FF)
    link.settle(circuit(1, 1), 40 * W)
    admit(link, circuit(1, 2), style=Style.FF)
    assert link.reserved_mw([circuit(1).session]) == {circuit(1).session: 40 * W + LAMP_MW}
    link.release(circuit(1, 1))
    assert link.held_mw == LAMP_MW


@pytest.mark.requirement("MPLA-4.6-01")
def test_with_se_the_circuits_of_a_session_hold_their_greatest_once() -> None:
    link = admission(100 * W)
    admit(link, circuit(1, 1), asks("230V/100mA@50Hz"), rate=7)
    admit(link, circuit(1, 2), asks("230V/400mA@50Hz"), rate=5)
    assert link.held_mw == 92 * W
    assert link.reserved_mw([circuit(1).session]) == {circuit(1).session: 92 * W}
    link.settle(circuit(1, 2), 30 * W)
    assert link.held_mw == 30 * W
    link.release(circuit(1, 2))
    assert link.held_mw == 23 * W
    with pytest.raises(NoRoom):
        admit(link, circuit(2), asks("230V/400mA@50Hz"))
    link.release(circuit(1, 1))
    assert link.held_mw == 0


@pytest.mark.requirement("MPLA-4.6-01")
def test_a_session_is_held_at_each_priority_for_what_better_ones_do_not_hold() -> None:
    link = admission(100 * W, rate_bps=800)
    few, many = milliwatts([20 * W, 70 * W])
    admit(link, circuit(1, 1), few, setup=2, rate=50)
    admit(link, circuit(1, 2), many, setup=5, rate=30)
    assert [link.free_mw(at) for at in (1, 2, 4, 5)] == [100 * W, 80 * W, 80 * W, 30 * W]
    assert link.state().free_rate == (100,) * 2 + (50,) * 6
    # the more important circuit alone is in the way of another one of priority 4
    admit(link, circuit(2), milliwatts([80 * W])[0], setup=4)
    assert circuit(1, 2) not in link
    assert link.held_mw == 100 * W


@pytest.mark.requirement("MPLA-4.6-01")
def test_a_shared_session_holds_the_sum_unless_the_maximum_was_chosen() -> None:
    lamps = [circuit(at, is_shared=True) for at in range(1, 13)]
    session = lamps[0].session
    total, least = admission(1000 * W), admission(1000 * W, sharing=Sharing.MAX)
    for who in lamps:
        admit(total, who)
        admit(least, who)
    assert (total.held_mw, least.held_mw) == (12 * LAMP_MW, LAMP_MW)
    delivered = {session: 12 * LAMP_MW}
    assert total.audit(delivered) == []
    (found,) = least.audit(delivered)
    assert (found.delivered_mw, found.reserved_mw, found.chi) == (12 * LAMP_MW, LAMP_MW, 12.0)
    assert found.sentence() == "first law: violated on session 10.0.0.1/1, chi = 12.0"
    for who in lamps:
        least.release(who)
    assert least.held_mw == 0
    assert least.audit({session: 1})[0].chi == float("inf")


@pytest.mark.requirement("MPLA-4.6-01")
def test_the_maximum_is_for_shared_sessions_only() -> None:
    link = admission(100 * W, sharing=Sharing.MAX)
    admit(link, circuit(1))
    with pytest.raises(NoRoom):
        admit(link, circuit(2))


# ---- pre-emption --------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.6-02")
def test_the_least_important_and_of_these_the_youngest_make_room() -> None:
    link = admission(100 * W)
    (tenth,) = milliwatts([25 * W])
    for lamp, priority in ((1, 6), (2, 7), (3, 6), (4, 5)):
        admit(link, circuit(lamp), tenth, setup=priority)
    assert admit(link, circuit(5), milliwatts([50 * W])[0], setup=4) == (circuit(2), circuit(3))
    assert set(link) == {circuit(1), circuit(4), circuit(5)}
    assert link.held_mw == 100 * W


@pytest.mark.requirement("MPLA-4.6-02")
def test_nobody_is_preempted_by_a_request_that_is_refused() -> None:
    link = admission(100 * W)
    admit(link, circuit(1), milliwatts([60 * W])[0], setup=4)
    admit(link, circuit(2), milliwatts([40 * W])[0], setup=7)
    with pytest.raises(NoRoom) as caught:
        admit(link, circuit(3), milliwatts([41 * W])[0], setup=5)
    assert caught.value.refusal.limit == 40 * W
    assert set(link) == {circuit(1), circuit(2)}


@pytest.mark.requirement("MPLA-4.6-02")
def test_a_holding_priority_equal_to_the_setup_priority_is_safe() -> None:
    link = admission(100 * W)
    admit(link, circuit(1), setup=4)
    with pytest.raises(NoRoom):
        admit(link, circuit(2), setup=4)
    assert admit(link, circuit(2), setup=3) == (circuit(1),)


@pytest.mark.requirement("MPLA-4.6-02")
def test_a_rate_that_is_full_makes_room_too() -> None:
    link = admission(1000 * W, rate_bps=800)
    admit(link, circuit(1), rate=80, setup=6)
    assert admit(link, circuit(2), rate=30, setup=5) == (circuit(1),)
    assert link.state().free_rate[7] == 70


def test_a_circuit_may_hold_less_importantly_than_it_was_set_up() -> None:
    link = admission(100 * W)
    admit(link, circuit(1), milliwatts([80 * W])[0], setup=6)
    assert admit(link, circuit(2), milliwatts([90 * W])[0], setup=4, holding=7) == (circuit(1),)
    assert admit(link, circuit(3), milliwatts([20 * W])[0], setup=6) == (circuit(2),)


def test_a_circuit_of_the_same_session_can_be_preempted_by_the_next_one() -> None:
    link = admission(100 * W)
    admit(link, circuit(1, 1), milliwatts([90 * W])[0], setup=7)
    admit(link, circuit(2), milliwatts([10 * W])[0], setup=2)
    # both count once at 90 W: nothing has to go
    assert admit(link, circuit(1, 2), milliwatts([80 * W])[0], setup=4) == ()
    assert admit(link, circuit(3), milliwatts([10 * W])[0], setup=4) == (circuit(1, 1),)
    assert link.held_mw == 100 * W


def test_one_that_is_admitted_again_is_the_youngest() -> None:
    link = admission(100 * W)
    for lamp in (1, 2, 1):
        admit(link, circuit(lamp), milliwatts([50 * W])[0], setup=6)
    assert admit(link, circuit(3), milliwatts([50 * W])[0], setup=4) == (circuit(1),)


# ---- shedding -----------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.6-02")
def test_a_derated_link_sheds_in_the_same_order() -> None:
    link = admission(100 * W)
    (quarter,) = milliwatts([25 * W])
    for lamp, priority in ((1, 6), (2, 7), (3, 6), (4, 0)):
        admit(link, circuit(lamp), quarter, setup=priority)
    assert link.derate(60 * W) == (circuit(2), circuit(3))
    assert link.held_mw == 50 * W
    assert link.derate(50 * W) == ()
    assert link.derate(0) == (circuit(1), circuit(4))
    assert (link.held_mw, len(link)) == (0, 0)
    assert link.derate(100 * W) == ()
    assert link.free_mw(0) == 100 * W


def test_no_capacity_is_below_nothing() -> None:
    link = admission()
    with pytest.raises(LocalProtocolError, match="cannot have -1 mW"):
        link.derate(-1)
    assert link.free_mw(0) == 100 * W
