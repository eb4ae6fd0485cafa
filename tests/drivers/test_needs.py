"""What a consumer is told becomes what adverts are judged by: the same for a search and for --why."""

from dataclasses import replace
from typing import Any

import pytest

from powertcp.dpdp.engine import Browser
from powertcp.dpdp.entry import Entry
from powertcp.dpdp.select import Candidate, Need
from powertcp.dpdp.trust import Trust
from powertcp.dpdp.why import Why
from powertcp.drivers.needs import judge, make_need
from powertcp.drivers.price import MaxPrice
from powertcp.errors import LocalProtocolError
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from tests.sightings import service


def ask(most: str, least: str = "") -> Ask:
    minimum = PowerProfile.parse(least, ProfileType.MINIMUM) if least else None
    return Ask(PowerProfile.parse(most, ProfileType.REQUEST), minimum)


def entries(**said: Any) -> list[Entry]:
    """Return the bench, 5 to 12 V and up to 3 A, 36 W and grid, as a browser has it."""
    browser = Browser(0)
    browser.heard(service(**said), 0)
    return browser.entries()


def judged(need: Need, **said: Any) -> Candidate:
    (found,) = judge(entries(**said), need, Trust(), b"")
    return found


def test_every_wish_must_be_served_by_one_provider() -> None:
    assert judged(make_need([ask("12V/1A"), ask("5V/1A")])).why is Why.CHOSEN
    for asks in ([ask("12V/1A"), ask("48V/1A")], [ask("48V/1A"), ask("12V/1A")]):
        found = judged(make_need(asks))
        assert (found.why, found.merits) == (Why.VOLTAGE, None)
        assert "asked 48 V" in found.sentence


def test_those_for_the_first_wish_are_told() -> None:
    found = judged(make_need([ask("12V/1A"), ask("12V/9A", "12V/1A")]))
    assert found.sentence.startswith("12V/1A in full")


def test_what_is_compared_is_what_a_segment_can_say() -> None:
    # of more than 2^24 mA the octets keep less
    odd = PowerProfile.make(ProfileType.REQUEST, 12_000, (1 << 24) + 1)
    assert make_need([Ask(odd)]).asks[0].desired == odd.as_sent() != odd


def test_limits_are_those_that_were_told() -> None:
    price = MaxPrice(200_000, "EUR")
    need = make_need(
        [ask("12V/1A")], max_price=price, sources=frozenset({"battery"}), can_seal=True
    )
    assert (need.max_price_micro, need.currency) == (200_000, "EUR")
    assert (need.can_seal, need.is_sealed_only) == (True, False)
    assert judged(need).why is Why.TARIFF
    assert judged(replace(need, max_price_micro=None)).why is Why.SOURCE
    assert make_need([ask("12V/1A")]).max_price_micro is None


def test_more_wishes_than_a_segment_holds_are_judged_one_by_one() -> None:
    asks = [ask(f"12V/1.{number}A") for number in range(1, 7)]
    assert judged(make_need(asks)).why is Why.CHOSEN
    with pytest.raises(LocalProtocolError):
        judge(entries(), make_need(asks), Trust(), bytes(33))
