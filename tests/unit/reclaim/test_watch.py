"""What a rule may look at of a flow, and what its verdict makes of it."""

import ipaddress

import pytest

from powertcp.dve import integrate_many
from powertcp.potcp.events import Ask
from powertcp.profile import ProfileType, Waveform
from powertcp.reclaim.accounts import FlowAccount
from powertcp.reclaim.bucket import Bucket
from powertcp.reclaim.policy import Accept, State, Way
from powertcp.reclaim.policy_facts import Facts
from powertcp.reclaim.track import End, Phase, TrackedFlow
from powertcp.reclaim.watch import (
    STATES,
    Party,
    Watch,
    facts_of,
    is_due,
    note_block,
    note_profile,
    terms_of,
    way_of,
)
from powertcp.units import NS_PER_S
from powertcp.wire.options import Entity, Sampling, Tariff
from tests.conversation import profile
from tests.screens import DEVICE, PROVIDER, party, watts

KEY = bytes(range(32))


def watch() -> Watch:
    return Watch(FlowAccount("a/1", "a", 0))


def test_every_phase_of_a_flow_is_a_state_of_the_policy() -> None:
    assert set(STATES) == set(Phase)
    assert STATES[Phase.LATCHED] is State.OFFERED


def test_the_ledger_knows_a_party_by_its_address() -> None:
    assert DEVICE.account == "10.0.0.7"
    assert Party("lamp", None).account == "lamp"


@pytest.mark.requirement("FWRL-3-10")
def test_what_the_inside_began_goes_out() -> None:
    found = [way_of(end, is_client_inside=inside) for inside in (True, False) for end in End]
    assert found == [Way.OUT, Way.IN, Way.IN, Way.OUT]


def test_without_terms_a_rule_sees_who_is_where_and_nothing_else() -> None:
    facts = facts_of(State.NEW, Way.IN, (DEVICE, None))
    assert facts == Facts(
        state=State.NEW, way=Way.IN, is_sealed=False, src=DEVICE.address, energy_uj=0
    )


def test_a_rule_sees_the_terms_the_price_and_the_entity() -> None:
    flow = TrackedFlow(1, End.CLIENT, 0, base_uj=77)
    one = watch()
    one.tariff, one.entity = Tariff(bytes(32), "EUR", 312_000), Entity(bytes(16), 1)
    ask = Ask(profile("230V/2A@50Hz,prio=3"))
    facts = facts_of(State.OFFERED, Way.OUT, (DEVICE, PROVIDER), flow=flow, ask=ask, watch=one)
    assert (facts.dst, facts.energy_uj) == (ipaddress.ip_address("198.51.100.7"), 77)
    assert (facts.voltage_mv, facts.current_ma, facts.priority) == (230_000, 2_000, 3)
    assert (facts.waveform, facts.frequency_chz) == (Waveform.SINE, 5_000)
    assert facts.power_mw == 460_000
    assert (facts.tariff_micro, facts.currency, facts.entity) == (312_000, "EUR", bytes(16))


@pytest.mark.parametrize(
    ("ends", "is_sealed"),
    [((DEVICE._replace(key=KEY), PROVIDER), True), ((DEVICE, PROVIDER._replace(key=KEY)), False)],
)
def test_a_key_that_was_proven_is_the_peer(ends: tuple[Party, Party], is_sealed: bool) -> None:
    facts = facts_of(State.NEW, Way.OUT, ends)
    assert (facts.peer, facts.is_sealed) == (KEY, is_sealed)


@pytest.mark.requirement("FWRL-3-10")
def test_any_frequency_is_none_that_is_known() -> None:
    facts = Facts()
    note_profile(facts, profile("230V/1A@any"))
    assert (facts.waveform, facts.frequency_chz) == (Waveform.SINE, None)
    note_profile(facts, profile("230V/1A"))
    assert (facts.waveform, facts.frequency_chz) == (Waveform.DC, 0)


def test_a_flow_of_no_price_has_none() -> None:
    facts = facts_of(State.NEW, Way.OUT, (DEVICE, PROVIDER), watch=watch())
    assert (facts.tariff_micro, facts.currency, facts.entity) == (None, None, None)


@pytest.mark.parametrize(("current_ua", "power_mw"), [(1_500_000, 18_000), (-1_500_000, 0)])
def test_of_a_block_a_rule_sees_what_it_measures(current_ua: int, power_mw: int) -> None:
    facts = Facts()
    [sums] = integrate_many([watts(12_000, current_ua)])
    note_block(facts, sums, Sampling(1000))
    assert (facts.voltage_mv, facts.current_ma, facts.power_mw) == (12_000, 1_500, power_mw)


def test_terms_are_those_in_force_or_taken_or_asked_for() -> None:
    asks = (Ask(profile("12V/3A")), Ask(profile("5V/3A")))
    flow = TrackedFlow(1, End.CLIENT, 0, asks=asks)
    assert terms_of(flow) == asks
    flow.taken = profile("12V/2A", ProfileType.GRANT)
    assert terms_of(flow) == (Ask(flow.taken),)
    flow.profile = profile("12V/1A", ProfileType.GRANT)
    assert terms_of(flow) == (Ask(flow.profile),)


def test_a_deadline_is_due_from_its_time_on() -> None:
    assert [is_due(None, 5), is_due(6, 5), is_due(5, 5), is_due(4, 5)] == [False, False, True, True]


@pytest.mark.requirement("FWRL-3-05")
def test_without_a_limit_what_was_held_goes_at_once() -> None:
    one = watch()
    assert one.go_by(Accept(is_marking=True), None, 0, 0) is None
    assert one.is_marking
    assert one.go_by(Accept(1_000), Bucket(1_000, 100, 0), 5, 0) is None
    assert one.gate is not None
    assert one.gate.offer(b"credit", 105, 0) == b"credit"
    assert one.gate.offer(b"more", 200, 0) is None
    assert one.go_by(Accept(), None, 200, 0) == b"more"
    assert one.gate is None
    assert not one.is_marking


@pytest.mark.requirement("FWRL-3-02", "FWRL-3-05")
def test_what_waits_under_one_limit_waits_under_the_next_one() -> None:
    one = watch()
    one.go_by(Accept(1_000, 1_000_000), Bucket(1_000, 1_000_000, 0), 0, 0)
    assert one.gate is not None
    one.gate.offer(b"first", 1_000_000, 0)
    assert one.gate.offer(b"second", 3_000_000, 0) is None
    # half the rate: the second joule comes once the new bucket holds it, and is paid for
    assert one.go_by(Accept(500, 500_000), Bucket(500, 500_000, 0), 1_000_000, 0) is None
    # no new burst: of the first limit nothing was left
    assert one.gate.get_timer() == 4 * NS_PER_S
    assert one.gate.handle_timer(4 * NS_PER_S) == b"second"
    assert one.gate.credit_uj == 3_000_000
    assert one.gate.holds == 2


@pytest.mark.requirement("FWRL-4-05", "PTCP-14-01")
@pytest.mark.parametrize(
    ("address", "account"),
    [
        ("192.0.2.66", "192.0.2.66"),
        ("::ffff:192.0.2.66", "192.0.2.66"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("::1", "::1"),
    ],
)
def test_who_has_a_prefix_has_one_account(address: str, account: str) -> None:
    party = Party("somebody", ipaddress.ip_address(address))
    assert party.account == account


@pytest.mark.requirement("FWRL-4-05")
@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("192.0.2.66:1", "192.0.2.66"),
        ("[::ffff:192.0.2.66]:1", "192.0.2.66"),
        ("[2001:db8::ffff]:1", "2001:db8::/64"),
        ("[2001:db8:0:1::1]:1", "2001:db8:0:1::/64"),
    ],
)
def test_a_source_is_an_address_or_a_prefix_of_64_bits(name: str, origin: str) -> None:
    assert party(name).account == origin
    assert Party("lamp", None).account == "lamp"
