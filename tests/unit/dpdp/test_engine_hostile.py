"""The browser in a crowd of rogues: every bound at it and one above, floods, whatever order."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.dpdp.advert import encode_txt
from powertcp.dpdp.crowd import FIRST_CROWD, MAX_WAITING, NEW_PER_S
from powertcp.dpdp.doubts import MAX_ASKED
from powertcp.dpdp.engine import (
    MAX_ADVERTS,
    MAX_HOST,
    MAX_INTERFACES,
    MAX_OTHERS,
    MAX_PER_ID,
    Browser,
)
from powertcp.dpdp.entry import Address, Entry, Service
from powertcp.dpdp.events import (
    AdvertChanged,
    AdvertGone,
    AdvertSeen,
    Flooded,
    VerifyWanted,
)
from powertcp.dpdp.known import KnownProvider
from powertcp.dpdp.links import MAX_ADDRESSES, Subnet
from powertcp.dpdp.signing import sign
from powertcp.dpdp.trust import Pin, Trust
from powertcp.dpdp.txt import MAX_HEARD_TXT, join_txt, split_txt
from powertcp.units import NS_PER_S, Instant
from tests.sightings import (
    ADVERT,
    METER,
    drain,
    numbered_id,
    padded,
    service,
    stranger,
)

NOW_S = 1_795_305_600
MS = NS_PER_S // 1000
KEYS = (None, bytes([1]) * 32, bytes([2]) * 32)
PINNED = service("pinned", exchange_key=KEYS[1])
FAKE, ADVERT_TXT = service(), encode_txt(ADVERT)
TRUST = Trust.make(pins=[Pin("x25519", b"\1" * 32)])
BOUNDS = pytest.mark.requirement("DPDP-7-05")


# ---- the table ----------------------------------------------------------------------------------


@BOUNDS
def test_five_thousand_fake_adverts_at_once() -> None:
    browser, warnings = Browser(0, trust=TRUST), 0
    true = service("true", id=numbered_id(10_000))
    browser.heard(PINNED, 0)
    browser.heard(true, 0)
    drain(browser)
    for number in range(5000):
        txt = ADVERT_TXT.replace(ADVERT.id.hex().encode(), numbered_id(number).hex().encode())
        browser.heard(replace(FAKE, instance=f"{number}", host=f"{number}", txt=txt), number * MS)
        warnings += sum(isinstance(event, Flooded) for event in drain(browser))
    for second in range(5, 66):
        browser.handle_timer(second * NS_PER_S)
        warnings += sum(isinstance(event, Flooded) for event in drain(browser))
    assert len(browser) <= 2 + FIRST_CROWD + 66 * NEW_PER_S <= MAX_ADVERTS
    assert browser.get(PINNED.key) is not None
    assert browser.get(true.key) is not None
    assert warnings == 2


@BOUNDS
def test_adverts_as_long_as_can_be_fit_into_twenty_megabytes() -> None:
    count, crowded = 256, MAX_ADVERTS + MAX_WAITING
    heard = []
    for number in range(count):
        txt = padded(encode_txt(replace(ADVERT, id=numbered_id(number))), MAX_HEARD_TXT)
        addresses = tuple(Address(f"10.{number}.0.{n}", "", 1) for n in range(20))
        heard.append(replace(stranger(number), txt=txt, addresses=addresses))
    browser = Browser(0)
    tracemalloc.start()
    while heard:
        # a copy, as a resolver would make it
        browser.heard(replace(heard[-1], txt=bytes(bytearray(heard.pop().txt))), 0)
        drain(browser)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(browser) == count
    assert grown * crowded < 20_000_000 * count


@BOUNDS
def test_who_signs_is_not_driven_out_by_who_copies_the_id() -> None:
    met = KnownProvider(id=ADVERT.id, first_s=0, last_s=0, meter_key=METER.public)
    trust = Trust.make(pins=[Pin("id", ADVERT.id)], known={ADVERT.id: met})
    browser = Browser(0, trust=trust, unix_offset_ns=NOW_S * NS_PER_S)
    advert = sign(ADVERT, "true", PINNED.kind, 3251, METER, NOW_S + 3600)
    browser.heard(service("true", txt=encode_txt(advert)), 0)
    for number in range(100):
        browser.heard(stranger(number, id=ADVERT.id), number)
    assert len(browser) == MAX_PER_ID
    assert browser.get(service("true").key) is not None


@BOUNDS
def test_who_waited_and_is_no_longer_in_the_cache_does_not_come_in() -> None:
    browser = Browser(0)
    for number in range(FIRST_CROWD + 2):
        browser.heard(stranger(number), 0)
    keys = {stranger(number).key for number in range(FIRST_CROWD + 1)}
    browser.overflow(keys, 0)
    browser.handle_timer(NS_PER_S)
    assert {entry.key for entry in browser.entries()} == keys


@BOUNDS
def test_goodbyes_for_everybody_are_asked_about_sixteen_at_a_time() -> None:
    browser = Browser(0)
    for number in range(40):
        browser.heard(stranger(number), 0)
    drain(browser)
    for number in range(40):
        browser.removed(stranger(number).key, 1)
    asked: list[VerifyWanted] = []
    for at in range(3):
        found = drain(browser)
        assert len(found) == (MAX_ASKED, MAX_ASKED, 8)[at]
        asked += (event for event in found if isinstance(event, VerifyWanted))
        for event in asked[-len(found) :]:
            browser.verified(event.key, event.service, 2 + at)
    assert len({event.key for event in asked}) == len(browser) == 40


# ---- what one advert may say --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounded", "one_above"),
    [
        (service("x" * 63), service("x" * 64)),
        (service("ä" * 31), service("ä" * 32)),
        (service(host="h" * MAX_HOST), service(host="h" * (MAX_HOST + 1))),
    ],
)
def test_names_at_their_bounds_and_one_above(bounded: Service, one_above: Service) -> None:
    browser = Browser(0)
    browser.heard(one_above, 0)
    assert (len(browser), browser.ignored) == (0, 1)
    browser.heard(bounded, 0)
    assert (len(browser), browser.ignored) == (1, 1)


def test_what_is_kept_of_one_advert_has_bounds() -> None:
    pairs = [*split_txt(encode_txt(ADVERT)), *((f"x{n}", b"") for n in range(MAX_OTHERS + 1))]
    one = replace(
        service(txt=join_txt(pairs)),
        addresses=tuple(Address(f"10.0.0.{n}", "", 1) for n in range(MAX_ADDRESSES + 1)),
        interfaces=tuple(f"eth{n}" for n in range(MAX_INTERFACES + 1)),
    )
    browser = Browser(0)
    browser.heard(one, 0)
    (entry,) = browser.entries()
    assert entry.advert is not None
    assert len(entry.advert.others) == MAX_OTHERS
    assert len(entry.addresses) == len(entry.service.addresses) == MAX_ADDRESSES
    assert len(entry.service.interfaces) == MAX_INTERFACES
    assert entry.service.txt == one.txt


@given(
    st.builds(
        Service,
        instance=st.text(max_size=70),
        kind=st.just(PINNED.kind),
        host=st.text(max_size=300),
        port=st.integers(),
        addresses=st.lists(st.builds(Address, st.text(), st.text(), st.integers())).map(tuple),
        txt=st.binary(max_size=1400),
        interfaces=st.lists(st.text()).map(tuple),
    )
)
def test_anything_may_be_heard(one: Service) -> None:
    browser = Browser(0)
    browser.heard(one, 0)
    browser.removed(one.key, 0)
    assert len(browser) + browser.ignored == 1


@given(st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=3)), max_size=9))
def test_a_record_that_is_damaged_anywhere_is_listed(cuts: list[tuple[int, bytes]]) -> None:
    txt = PINNED.txt
    for at, octets in cuts:
        txt = txt[:at] + octets + txt[at + 1 :]
    browser = Browser(0)
    browser.heard(replace(PINNED, txt=txt), 0)
    (entry,) = browser.entries()
    assert (entry.advert is None) is bool(entry.fault)


# ---- whatever comes, in whatever order ------------------------------------------------------------

Verb = Callable[[Browser, Service, Instant], None]
NETWORKS = (ip_network("10.0.0.0/24"), ip_network("192.168.0.0/24"))
VERBS: dict[str, Verb] = {
    "heard": Browser.heard,
    "removed": lambda browser, one, now: browser.removed(one.key, now),
    "verified": lambda browser, one, now: browser.verified(one.key, one, now),
    "lost": lambda browser, one, now: browser.verified(one.key, None, now),
    "failed": lambda browser, one, now: browser.failed(ADVERT.id, one.addresses[0], now),
    "succeeded": lambda browser, one, now: browser.succeeded(ADVERT.id, one.addresses[0], now),
    "overflow": lambda browser, one, now: browser.overflow([one.key], now),
    "reset": lambda browser, _, now: browser.reset(now),
    "links": lambda browser, one, now: browser.local_subnets(
        [Subnet("eth0", NETWORKS[one.port % 2])], now
    ),
    "wait": lambda browser, _, now: browser.handle_timer(now),
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(sorted(VERBS)),
        st.builds(
            lambda number, key, is_other: service(
                f"{number}",
                exchange_key=KEYS[key],
                port=3251 + key,
                id=numbered_id(number) if is_other else ADVERT.id,
            ),
            st.integers(0, 3),
            st.integers(0, 2),
            st.booleans(),
        ),
        st.integers(0, 40 * NS_PER_S),
    ),
    max_size=40,
)


def follow(browser: Browser, shown: dict[str, Entry]) -> None:
    """Keep a table by events alone."""
    for event in drain(browser):
        match event:
            case AdvertSeen(entry=entry):
                assert entry.key not in shown
                shown[entry.key] = entry
            case AdvertChanged(entry=entry):
                assert entry.key in shown
                shown[entry.key] = entry
            case AdvertGone(entry=entry):
                del shown[entry.key]
            case _:
                pass


@given(STEPS)
def test_the_table_is_what_its_events_say(steps: list[tuple[str, Service, int]]) -> None:
    browser, now = Browser(0), 0
    shown: dict[str, Entry] = {}
    for verb, one, gap in steps:
        now += gap
        VERBS[verb](browser, one, now)
        follow(browser, shown)
        found = {entry.key: replace(entry, last_ns=0) for entry in browser.entries()}
        assert found == {key: replace(entry, last_ns=0) for key, entry in shown.items()}
    # every deadline leads somewhere: with nobody to answer all are gone in the end
    deadlines = 0
    while (due := browser.get_timer()) is not None:
        now = max(now, due)
        browser.handle_timer(now)
        follow(browser, shown)
        deadlines += 1
        assert deadlines < 100
    assert len(browser) == len(shown) == 0


@given(STEPS)
def test_the_same_verbs_have_the_same_events(steps: list[tuple[str, Service, int]]) -> None:
    told = []
    for _ in range(2):
        browser, now = Browser(0), 0
        for verb, one, gap in steps:
            now += gap
            VERBS[verb](browser, one, now)
        told.append(drain(browser))
    assert told[0] == told[1]
