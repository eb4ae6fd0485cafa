"""Verdicts on signatures: the same as without a memory, until they end, and no more than so many."""

from dataclasses import replace

import pytest

from powertcp.dpdp import verdicts as module
from powertcp.dpdp.advert import TYPE_TCP, Advert, encode_txt
from powertcp.dpdp.entry import Service, Signed
from powertcp.dpdp.signing import MAX_LIFE_S, MAX_SKEW_S, sign
from powertcp.dpdp.verdicts import MAX_VERDICTS, Verdicts
from tests.sightings import ADVERT as PLAIN
from tests.sightings import METER

NOW_S = 1_795_305_600
GOOD = sign(PLAIN, "bench", TYPE_TCP, 3251, METER, NOW_S + 60)
pytestmark = pytest.mark.requirement("DPDP-7-03")


def told(advert: Advert, name: str = "bench") -> Service:
    return Service(
        instance=name,
        kind=TYPE_TCP,
        host="h.local.",
        port=3251,
        addresses=(),
        txt=encode_txt(advert),
    )


def test_what_a_signature_is_worth() -> None:
    verdicts = Verdicts()
    forged = replace(GOOD, cap_mw=1)
    assert verdicts.of(told(PLAIN), PLAIN, None, NOW_S) is Signed.NONE
    assert verdicts.of(told(PLAIN), PLAIN, METER.public, NOW_S) is Signed.NONE
    assert verdicts.of(told(GOOD), GOOD, None, NOW_S) is Signed.UNKNOWN
    assert verdicts.of(told(GOOD), GOOD, METER.public, NOW_S) is Signed.GOOD
    assert verdicts.of(told(GOOD, "other"), GOOD, METER.public, NOW_S) is Signed.BAD
    assert verdicts.of(told(GOOD), GOOD, bytes(32), NOW_S) is Signed.BAD
    assert verdicts.of(told(forged), forged, METER.public, NOW_S) is Signed.BAD


def test_a_good_one_ends() -> None:
    verdicts = Verdicts()
    for now_s, verdict in ((NOW_S, Signed.GOOD), (NOW_S + 59, Signed.GOOD), (NOW_S + 60, "bad")):
        assert verdicts.of(told(GOOD), GOOD, METER.public, now_s) == verdict


def test_one_that_ends_too_late_is_good_by_a_clock_that_was_put_right() -> None:
    verdicts, last_s = Verdicts(), NOW_S + 60 - MAX_LIFE_S - MAX_SKEW_S
    for now_s, verdict in ((last_s - 1, "bad"), (last_s, "good"), (last_s - 1, "bad")):
        assert verdicts.of(told(GOOD), GOOD, METER.public, now_s) == verdict


@pytest.mark.parametrize("count", [MAX_VERDICTS, MAX_VERDICTS + 1])
def test_each_is_looked_at_once_and_so_many_are_remembered(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    looked: list[str] = []

    def verify(txt: bytes, instance: str, *_: object) -> Signed:
        looked.append(instance)
        return Signed.BAD

    monkeypatch.setattr(module, "verify", verify)
    verdicts = Verdicts()
    for number in range(count):
        for _ in range(2):
            verdicts.of(told(GOOD, f"{number}"), GOOD, METER.public, NOW_S)
    assert looked == [f"{number}" for number in range(count)]
    verdicts.of(told(GOOD, "0"), GOOD, METER.public, NOW_S)
    assert looked[count:] == (["0"] if count > MAX_VERDICTS else [])
