"""A device and a provider, both real: through a firewall, or out of its reservoir."""

from ipaddress import ip_address

import pytest

from powertcp.ledger import Code
from powertcp.profile import PowerProfile, ProfileType
from powertcp.reclaim.accounts import Posting
from powertcp.reclaim.guest import LEASE_S, Guest
from powertcp.reclaim.scenario import LAMP, RESERVOIR, SCENARIOS, TRUSTED
from powertcp.reclaim.stage import START, Instruments, Stage
from powertcp.reclaim.watch import Party
from powertcp.units import NS_PER_S

PROVIDER = Party(f"{TRUSTED}:3251", ip_address(TRUSTED))
STRANGER = Party("203.0.113.9:3251", ip_address("203.0.113.9"))


def stage_with(stored_uj: int = 0) -> Stage:
    stage = Stage(SCENARIOS["S10"], 1, Instruments())
    if stored_uj:
        posting = Posting(f"reservoir:{RESERVOIR}", "equity:old", "uJ", stored_uj, Code.BANK)
        stage.journal.post([posting], 1)
        stage.kill()
    return stage


def run(stage: Stage, *guests: Guest) -> None:
    stage.run(guests, START + 300 * NS_PER_S)
    stage.post()


@pytest.mark.requirement("FWRL-5-01")
def test_a_device_has_what_its_receipt_says_and_the_firewall_counts() -> None:
    stage = stage_with()
    guest = Guest(stage, 1, LAMP, 3, PROVIDER)
    run(stage, guest)
    assert guest.is_over
    assert guest.verified_uj == guest.receipt_uj == 27_000_000
    assert stage.firewall.joules.authorised_uj == 27_000_000
    assert len(guest.pages) == 1
    assert not stage.firewall.screens
    assert not stage.firewall.flows.live


def test_a_page_that_is_not_as_it_was_signed_proves_nothing() -> None:
    stage = stage_with()
    guest = Guest(stage, 1, LAMP, 1, PROVIDER)
    assert guest.receipt_uj == 0
    run(stage, guest)
    page = bytearray(guest.pages[0])
    page[60] ^= 1
    guest.pages[0] = bytes(page)
    assert guest.receipt_uj == 0


def test_who_asks_a_stranger_is_refused() -> None:
    stage = stage_with()
    guest = Guest(stage, 1, LAMP, 1, STRANGER)
    run(stage, guest)
    assert guest.is_over
    assert guest.verified_uj == 0
    assert stage.firewall.joules.in_uj == 0


@pytest.mark.requirement("FWRL-4-04")
def test_what_is_lent_is_drawn_to_the_microjoule() -> None:
    stage = stage_with(2_000_000_000)
    guest = Guest(stage, 1, LAMP, 20, None)
    run(stage, guest)
    assert guest.verified_uj == guest.drawn_uj == guest.receipt_uj == 180_000_000
    joules = stage.firewall.joules
    assert joules.out_uj == 180_000_000
    assert joules.residual_uj == 0
    assert stage.stored_uj == 2_000_000_000 + joules.reclaimed_uj
    assert stage.journal.sum_of("lent") == 180_000_000
    assert stage.journal.sum_of("reservoir") == stage.stored_uj
    assert stage.firewall.intakes[RESERVOIR].reservoir.promised_uj == 0


@pytest.mark.requirement("FWRL-4-04")
def test_nothing_is_lent_of_which_a_lease_is_more_than_nine_tenths() -> None:
    # 9 W for 10 s are 90 J; 0.9 of what 105,263,158 uJ deliver are 90,000,000 uJ
    assert LEASE_S == 10
    for stored_uj, has_uj in ((105_263_158, 9_000_000), (105_263_157, 0)):
        stage = stage_with(stored_uj)
        guest = Guest(stage, 1, LAMP, 1, None)
        run(stage, guest)
        assert guest.is_over
        assert guest.verified_uj == has_uj
        assert stage.firewall.intakes[RESERVOIR].reservoir.promised_uj == 0


def test_two_devices_do_not_get_in_each_others_way() -> None:
    stage = stage_with(2_000_000_000)
    heater = PowerProfile.make(ProfileType.REQUEST, 12_000, 5_000)
    guests = [Guest(stage, 1, heater, 2, None), Guest(stage, 2, LAMP, 3, PROVIDER)]
    run(stage, *guests)
    assert [guest.verified_uj for guest in guests] == [120_000_000, 27_000_000]
    assert [guest.power_mw for guest in guests] == [60_000, 9_000]
