"""The browser: what it makes of what a resolver tells, and which adverts it lets be used."""

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from powertcp.dpdp.advert import TYPE_UDP, encode_txt
from powertcp.dpdp.crowd import FIRST_CROWD, MAX_PER_TARGET, NEW_PER_S
from powertcp.dpdp.dead import FIRST_NS, PARDON_NS
from powertcp.dpdp.doubts import VERIFY_NS
from powertcp.dpdp.engine import (
    CLOCK_NS,
    MAX_ADVERTS,
    MAX_CLASHES,
    MAX_OTHERS,
    MAX_PER_ID,
    STALE_NS,
    WARN_NS,
    Browser,
)
from powertcp.dpdp.entry import Address, Service, Signed, Standing
from powertcp.dpdp.events import (
    AdvertChanged,
    AdvertGone,
    AdvertSeen,
    Downgrade,
    Flooded,
    IdClash,
    VerifyWanted,
)
from powertcp.dpdp.known import KnownProvider
from powertcp.dpdp.links import Subnet
from powertcp.dpdp.signing import MAX_LIFE_S, MAX_SKEW_S, sign
from powertcp.dpdp.trust import Pin, Trust
from powertcp.dpdp.txt import MAX_HEARD_TXT
from powertcp.errors import LocalProtocolError
from powertcp.machine import Event
from powertcp.units import NS_PER_S
from tests.sightings import (
    ADVERT,
    EVERY_NS,
    METER,
    crowd,
    drain,
    numbered_id,
    padded,
    service,
    stranger,
)

NOW_S = 1_795_305_600
KEY, OTHER_KEY = bytes([1]) * 32, bytes([2]) * 32
BENCH = service()
HERE = BENCH.addresses[0]
MET = KnownProvider(
    id=ADVERT.id, first_s=0, last_s=0, meter_key=METER.public, exchange_key=KEY, has_signed=True
)


PINNED = service("pinned", exchange_key=KEY)
TRUST = Trust.make(pins=[Pin("x25519", KEY)])
BOUNDS = pytest.mark.requirement("DPDP-7-05")


def signed(expires_s: int = 3600, **said: Any) -> Service:
    """Return the bench with a good signature."""
    advert = sign(replace(ADVERT, **said), "bench", BENCH.kind, 3251, METER, NOW_S + expires_s)
    return service(txt=encode_txt(advert))


def browse(*services: Service, **fields: Any) -> Browser:
    """Return a browser that has heard these, its events taken."""
    browser = Browser(0, unix_offset_ns=NOW_S * NS_PER_S, **fields)
    for one in services:
        browser.heard(one, 0)
    drain(browser)
    return browser


def standings(browser: Browser) -> list[tuple[str, str]]:
    """Return standing and reason of every entry, by name."""
    entries = sorted(browser.entries(), key=lambda entry: entry.key)
    return [(entry.standing.value, entry.why) for entry in entries]


def names(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


# ---- seen, changed, gone ------------------------------------------------------------------------


def test_an_advert_is_seen_once_and_heard_again() -> None:
    browser = Browser(5)
    browser.heard(BENCH, 5)
    (event,) = drain(browser)
    assert isinstance(event, AdvertSeen)
    assert event.entry == browser.get(BENCH.key)
    entry = event.entry
    assert (entry.advert, entry.standing, entry.addresses) == (ADVERT, Standing.GOOD, (HERE,))
    assert (entry.first_ns, entry.last_ns, entry.dead_until_ns) == (5, 5, 0)
    assert (entry.fault, entry.why, entry.signed) == ("", "", Signed.NONE)
    browser.heard(replace(BENCH, instance="BENCH", addresses=(HERE, HERE)), 6)
    (event,) = drain(browser)
    assert isinstance(event, AdvertChanged)
    browser.heard(replace(BENCH, instance="BENCH"), 9)
    assert drain(browser) == []
    (entry,) = browser.entries()
    assert (entry.first_ns, entry.last_ns) == (5, 9)
    assert len(browser) == 1


def test_another_capacity_is_a_change() -> None:
    browser = browse(BENCH)
    browser.heard(service(cap_mw=0), 7)
    (event,) = drain(browser)
    assert isinstance(event, AdvertChanged)
    assert event.entry.advert == replace(ADVERT, cap_mw=0)
    assert (event.entry.first_ns, event.entry.last_ns) == (0, 7)


def test_who_was_heard_longest_ago_is_first() -> None:
    browser = browse(BENCH, service("other", id=numbered_id(1)))
    browser.heard(service(cap_mw=0), 7)
    assert [entry.service.instance for entry in browser.entries()] == ["other", "bench"]
    browser.heard(service("other", id=numbered_id(1)), 8)
    assert [entry.service.instance for entry in browser.entries()] == ["bench", "other"]


@pytest.mark.parametrize("other", [service(host="elsewhere"), service(id=numbered_id(1))])
def test_another_host_or_id_under_a_name_is_another_provider(other: Service) -> None:
    browser = browse(BENCH)
    browser.heard(other, 7)
    assert names(drain(browser)) == ["AdvertGone", "AdvertSeen"]
    assert browser.entries()[0].first_ns == 7


@pytest.mark.requirement("DPDP-3-03")
def test_a_broken_record_is_listed_with_its_fault() -> None:
    txt = BENCH.txt.replace(b"src=grid", b"srX=grid")
    browser = browse(replace(BENCH, txt=txt))
    (entry,) = browser.entries()
    assert (entry.advert, entry.standing) == (None, Standing.MALFORMED)
    assert entry.fault == "src is missing or malformed"
    assert entry.addresses == (HERE,)
    assert browser.malformed == 1
    browser.heard(replace(BENCH, txt=txt, port=7), 0)
    assert names(drain(browser)) == ["AdvertChanged"]
    browser.heard(BENCH, 1)
    assert names(drain(browser)) == ["AdvertGone", "AdvertSeen"]
    assert standings(browser) == [("good", "")]


@pytest.mark.requirement("DPDP-3-01")
def test_another_version_is_listed_as_such() -> None:
    browser = browse(replace(BENCH, txt=BENCH.txt.replace(b"txtvers=1", b"txtvers=2")))
    assert standings(browser) == [("unknown version", "")]
    assert browser.entries()[0].fault == "an advert of another version"
    assert browser.malformed == 0


def test_another_service_type_is_our_own_fault() -> None:
    browser = browse()
    with pytest.raises(LocalProtocolError, match=r"_http\._tcp\.local\. is no service type"):
        browser.heard(replace(BENCH, kind="_http._tcp.local."), 0)


def test_time_does_not_go_back() -> None:
    browser = browse()
    browser.handle_timer(9)
    for verb in (
        lambda: browser.heard(BENCH, 8),
        lambda: browser.removed("", 8),
        lambda: browser.verified("", None, 8),
        lambda: browser.overflow((), 8),
        lambda: browser.reset(8),
        lambda: browser.failed(b"", HERE, 8),
        lambda: browser.succeeded(b"", HERE, 8),
        lambda: browser.local_subnets((), 8),
        lambda: browser.believe(Trust(), 8),
        lambda: browser.handle_timer(8),
    ):
        with pytest.raises(LocalProtocolError, match="the clock went back from 9 to 8"):
            verb()  # type: ignore[no-untyped-call]


# ---- removals -----------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-4-05")
def test_a_removal_is_verified_before_it_counts() -> None:
    browser = browse(BENCH)
    browser.removed(BENCH.key, 10)
    assert drain(browser) == [VerifyWanted(key=BENCH.key, service=BENCH)]
    assert len(browser) == 1
    assert browser.get_timer() == 10 + VERIFY_NS
    browser.verified(BENCH.key, BENCH, 11)
    browser.handle_timer(10 + VERIFY_NS)
    assert drain(browser) == []
    assert len(browser) == 1


@pytest.mark.requirement("DPDP-4-05")
@pytest.mark.parametrize("says_so", [True, False])
def test_who_does_not_answer_is_gone(says_so: bool) -> None:
    browser = browse(BENCH)
    entry = browser.get(BENCH.key)
    browser.removed(BENCH.key, 10)
    drain(browser)
    if says_so:
        browser.verified(BENCH.key, None, 11)
    else:
        browser.handle_timer(10 + VERIFY_NS)
    assert drain(browser) == [AdvertGone(entry=entry)]  # type: ignore[arg-type]
    assert browser.entries() == []
    assert browser.get_timer() is None
    browser.verified(BENCH.key, None, 10 + VERIFY_NS)
    browser.removed(BENCH.key, 10 + VERIFY_NS)
    assert drain(browser) == []


@pytest.mark.requirement("DPDP-4-05")
def test_the_survivor_of_two_with_one_name_stays() -> None:
    browser = browse(BENCH)
    browser.removed(BENCH.key, 10)
    browser.heard(BENCH, 10)
    browser.verified(BENCH.key, None, 11)
    browser.handle_timer(10 + VERIFY_NS)
    assert names(drain(browser)) == ["VerifyWanted"]
    assert len(browser) == 1


@pytest.mark.requirement("DPDP-4-05")
def test_goodbyes_of_a_rogue_at_ten_a_second_do_nothing_but_ask() -> None:
    browser, asked = browse(BENCH), 0
    for tenth in range(600):
        now = tenth * NS_PER_S // 10
        browser.removed(BENCH.key, now)
        browser.handle_timer(now)
        for event in drain(browser):
            assert isinstance(event, VerifyWanted)
            asked += 1
            browser.verified(event.key, event.service, now + NS_PER_S // 20)
        assert standings(browser) == [("good", "")]
    assert asked == 30


def test_an_answer_about_another_name_is_our_own_fault() -> None:
    browser = browse(BENCH)
    with pytest.raises(LocalProtocolError, match=r"asked for x, told of bench\._powertcp"):
        browser.verified("x", BENCH, 0)


@pytest.mark.requirement("DPDP-4-04")
def test_what_was_not_heard_for_the_ttl_is_asked_for() -> None:
    other = service("other", id=numbered_id(1))
    browser = browse(BENCH)
    browser.heard(other, 7)
    assert browser.get_timer() == STALE_NS
    browser.handle_timer(STALE_NS - 1)
    drain(browser)
    browser.handle_timer(STALE_NS)
    assert drain(browser) == [VerifyWanted(key=BENCH.key, service=BENCH)]
    assert browser.get_timer() == STALE_NS + 7
    browser.verified(BENCH.key, BENCH, STALE_NS + 1)
    assert [entry.key for entry in browser.entries()] == [other.key, BENCH.key]
    assert browser.get_timer() == STALE_NS + 7


def test_after_lost_callbacks_the_others_are_verified() -> None:
    other, waiting = service("other", id=numbered_id(1)), service("waiting", id=numbered_id(2))
    browser = browse(BENCH, other, waiting)
    browser.overflow({BENCH.key}, 10)
    assert {event.key for event in drain(browser)} == {other.key, waiting.key}  # type: ignore[attr-defined]
    assert len(browser) == 3


def test_a_new_resolver_begins_with_nothing_but_who_is_dead() -> None:
    browser = browse(BENCH)
    browser.failed(ADVERT.id, HERE, 0)
    browser.removed(BENCH.key, 0)
    drain(browser)
    browser.reset(1)
    assert names(drain(browser)) == ["AdvertGone"]
    assert (len(browser), browser.get_timer()) == (0, None)
    browser.heard(BENCH, 2)
    assert standings(browser) == [("dead", "")]


# ---- the dead -----------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-4-06")
def test_who_does_not_answer_a_syn_is_dead_for_a_time_and_stays_listed() -> None:
    browser = browse(BENCH)
    browser.failed(ADVERT.id, HERE, 5)
    (event,) = drain(browser)
    assert isinstance(event, AdvertChanged)
    assert (event.entry.standing, event.entry.addresses) == (Standing.DEAD, (HERE,))
    assert event.entry.dead_until_ns == browser.get_timer() == 5 + FIRST_NS
    browser.handle_timer(4 + FIRST_NS)
    assert drain(browser) == []
    browser.handle_timer(5 + FIRST_NS)
    (event,) = drain(browser)
    assert isinstance(event, AdvertChanged)
    assert (event.entry.standing, event.entry.dead_until_ns) == (Standing.GOOD, 0)
    browser.failed(ADVERT.id, HERE, 5 + FIRST_NS)
    assert browser.entries()[0].dead_until_ns == 5 + 3 * FIRST_NS
    browser.succeeded(ADVERT.id, HERE, 5 + FIRST_NS)
    assert standings(browser) == [("good", "")]
    assert browser.get_timer() == STALE_NS


@pytest.mark.requirement("DPDP-4-06")
def test_a_dead_address_is_left_out_and_the_next_one_tried() -> None:
    there = Address("10.0.0.8", "", 3251)
    browser = browse(replace(BENCH, addresses=(HERE, there)))
    browser.failed(ADVERT.id, HERE, 0)
    (entry,) = browser.entries()
    assert (entry.standing, entry.addresses, entry.dead_until_ns) == (Standing.GOOD, (there,), 0)
    browser.failed(ADVERT.id, there, 5)
    (entry,) = browser.entries()
    assert (entry.standing, entry.addresses) == (Standing.DEAD, (HERE, there))
    browser.handle_timer(FIRST_NS)
    (entry,) = browser.entries()
    assert (entry.standing, entry.addresses) == (Standing.GOOD, (HERE,))


@pytest.mark.requirement("DPDP-4-06")
def test_a_new_name_does_not_wake_the_dead_and_an_unknown_one_is_no_matter() -> None:
    browser = browse(BENCH)
    browser.failed(numbered_id(9), HERE, 0)
    assert drain(browser) == []
    browser.failed(ADVERT.id, HERE, 0)
    browser.heard(service("renamed", host="bench.local."), 1)
    assert standings(browser) == [("dead", ""), ("dead", "")]


@pytest.mark.requirement("DPDP-4-06")
def test_who_said_goodbye_and_is_announced_anew_may_be_asked_at_once() -> None:
    browser = browse(BENCH)
    browser.failed(ADVERT.id, HERE, 0)
    browser.removed(BENCH.key, 1)
    browser.heard(BENCH, 2)
    # nobody had gone: a rogue said so
    assert standings(browser) == [("dead", "")]
    browser.removed(BENCH.key, 3 * VERIFY_NS)
    browser.verified(BENCH.key, None, 3 * VERIFY_NS)
    drain(browser)
    browser.heard(BENCH, 4 * VERIFY_NS)
    (event,) = drain(browser)
    assert isinstance(event, AdvertSeen)
    assert (event.entry.standing, event.entry.dead_until_ns) == (Standing.GOOD, 0)


@pytest.mark.requirement("DPDP-4-06")
@pytest.mark.parametrize(
    "other",
    [
        service(cap_mw=1_000),
        replace(BENCH, host="other.local."),
        replace(BENCH, port=3252),
    ],
    ids=["TXT", "host", "port"],
)
def test_what_is_announced_otherwise_than_at_the_failure_may_be_asked_at_once(
    other: Service,
) -> None:
    browser = browse(BENCH)
    browser.failed(ADVERT.id, HERE, 0)
    drain(browser)
    # the address is that of the failure whatever the port of SRV, so that the news alone decides
    browser.heard(replace(other, addresses=(HERE,)), 1)
    assert standings(browser) == [("good", "")]
    assert "Advert" in names(drain(browser))[-1]


@pytest.mark.requirement("DPDP-4-06")
def test_another_address_is_no_news_of_a_dead_one() -> None:
    there = Address("10.0.0.8", "", 3251)
    browser = browse(BENCH)
    browser.failed(ADVERT.id, HERE, 0)
    browser.heard(replace(BENCH, addresses=(HERE, there)), 1)
    (entry,) = browser.entries()
    assert (entry.standing, entry.addresses) == (Standing.GOOD, (there,))


@pytest.mark.requirement("DPDP-4-06")
def test_a_rogue_that_announces_itself_in_a_loop_is_asked_once_in_30_s() -> None:
    browser = browse(BENCH)
    asked = 0
    for tenth in range(6000):
        now = tenth * NS_PER_S // 10
        browser.handle_timer(now)
        browser.heard(service(cap_mw=1_000 + tenth % 2), now)
        if browser.entries()[0].standing is Standing.GOOD:
            asked += 1
            browser.failed(ADVERT.id, HERE, now)
        drain(browser)
    assert asked <= 2 + 600 * NS_PER_S // PARDON_NS
    assert asked >= 600 * NS_PER_S // PARDON_NS


@pytest.mark.requirement("DPDP-4-06")
def test_the_first_of_two_deadlines_is_told() -> None:
    browser = browse(BENCH, service("other", id=numbered_id(1)))
    browser.failed(ADVERT.id, HERE, 1)
    browser.failed(numbered_id(1), HERE, 2)
    assert browser.get_timer() == 1 + FIRST_NS
    browser.handle_timer(1 + FIRST_NS)
    assert browser.get_timer() == 2 + FIRST_NS


# ---- conflicts of an id -------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-5-03")
@pytest.mark.parametrize(
    ("keys", "port", "is_one"),
    [
        ((KEY, KEY), 3252, True),
        ((None, None), 3251, True),
        ((None, None), 3252, False),
        ((KEY, OTHER_KEY), 3251, False),
        ((KEY, None), 3251, False),
        ((None, KEY), 3251, False),
    ],
)
def test_two_instances_of_one_id(
    keys: tuple[bytes | None, bytes | None], port: int, is_one: bool
) -> None:
    browser = browse(service(exchange_key=keys[0]))
    browser.heard(service("copy", port=port, exchange_key=keys[1]), 1)
    expected = ("good", "") if is_one else ("suspect", "id-clash")
    assert standings(browser) == [expected] * 2
    browser.removed(service("copy").key, 2)
    browser.verified(service("copy").key, None, 2)
    assert standings(browser) == [("good", "")]


def test_a_feed_and_a_listener_of_one_provider_do_not_clash() -> None:
    browser = browse(BENCH, service(kind=TYPE_UDP, port=7, feed=bytes(16)))
    assert standings(browser) == [("good", "")] * 2


@pytest.mark.requirement("DPDP-5-02")
def test_a_clash_of_ids_is_told_once_in_a_minute() -> None:
    browser = browse(BENCH)
    browser.heard(service("copy", port=3252), 1)
    events = drain(browser)
    assert names(events) == ["AdvertSeen", "AdvertChanged", "IdClash"]
    clash = events[-1]
    assert isinstance(clash, IdClash)
    assert (clash.entry.service.instance, clash.other.service.instance) == ("copy", "bench")
    browser.heard(service("copy", port=3253), WARN_NS)
    assert "IdClash" not in names(drain(browser))
    browser.heard(service("copy", port=3254), 1 + WARN_NS)
    assert "IdClash" in names(drain(browser))


@pytest.mark.requirement("DPDP-5-02")
def test_one_id_at_two_hosts_is_told_where_no_key_makes_them_one() -> None:
    browser = browse(BENCH)
    browser.heard(service("copy"), 1)
    assert names(drain(browser)) == ["AdvertSeen", "IdClash"]
    browser = browse(service(exchange_key=KEY))
    browser.heard(service("copy", exchange_key=KEY), 1)
    browser.heard(service("third", host="copy.local.", exchange_key=KEY, cap_mw=0), 1)
    assert names(drain(browser)) == ["AdvertSeen", "AdvertSeen"]


@pytest.mark.requirement("DPDP-5-02")
def test_providers_of_a_realm_whose_meter_has_signed_both_do_not_clash() -> None:
    trust = Trust(known={ADVERT.id: replace(MET, exchange_key=None)})
    other = sign(ADVERT, "other", BENCH.kind, 3251, METER, NOW_S + 3600)
    browser = browse(signed(), trust=trust)
    browser.heard(service("other", txt=encode_txt(other)), 1)
    assert names(drain(browser)) == ["AdvertSeen"]
    assert standings(browser) == [("good", "")] * 2


@pytest.mark.requirement("DPDP-5-02")
def test_two_of_one_id_that_sign_by_a_key_which_nobody_has_met_are_no_alarm() -> None:
    other = encode_txt(sign(ADVERT, "other", BENCH.kind, 3251, METER, NOW_S + 3600))
    browser = browse(signed())
    browser.heard(service("other", txt=other), 1)
    assert names(drain(browser)) == ["AdvertSeen"]
    moved = encode_txt(sign(ADVERT, "third", BENCH.kind, 4000, METER, NOW_S + 3600))
    browser.heard(service("third", port=4000, txt=moved), 2)
    assert "IdClash" in names(drain(browser))


@pytest.mark.requirement("DPDP-5-03")
@pytest.mark.parametrize("is_signed", [True, False], ids=["realm", "copy"])
def test_what_its_meter_has_signed_is_not_doubted_for_another_port_or_key(is_signed: bool) -> None:
    trust = Trust(known={ADVERT.id: replace(MET, exchange_key=None)})
    browser = browse(signed(), trust=trust)
    if is_signed:
        other = replace(ADVERT, exchange_key=KEY)
        other = sign(other, "other", BENCH.kind, 4000, METER, NOW_S + 3600)
        browser.heard(service("other", port=4000, txt=encode_txt(other)), 1)
        assert standings(browser) == [("good", "")] * 2
    else:
        browser.heard(service("other", port=4000), 1)
        assert standings(browser) == [("good", ""), ("suspect", "downgrade")]


@pytest.mark.requirement("DPDP-5-02")
def test_a_clash_with_ours_is_the_announcers_matter() -> None:
    browser = browse(BENCH, own=[ADVERT.id])
    browser.heard(service("copy", port=3252), 1)
    assert names(drain(browser)) == ["AdvertSeen", "AdvertChanged"]


# ---- links --------------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-7-01")
def test_who_is_off_link_is_suspect_until_our_links_are_others() -> None:
    browser = browse(BENCH)
    browser.local_subnets([Subnet("eth0", ip_network("192.168.7.0/24"))], 1)
    assert standings(browser) == [("suspect", "off-link")]
    assert names(drain(browser)) == ["AdvertChanged"]
    browser.local_subnets([Subnet("eth0", ip_network("10.0.0.0/24"))], 2)
    assert standings(browser) == [("good", "")]


@pytest.mark.requirement("DPDP-5-04")
def test_every_address_is_kept_in_its_order() -> None:
    near, far = Address("fe80::1", "eth0", 3251), Address("2001:db8::1", "", 3251)
    browser = browse()
    browser.local_subnets([Subnet("eth0", ip_network("10.0.0.0/24"))], 0)
    browser.heard(replace(BENCH, addresses=(far, HERE, near)), 0)
    drain(browser)
    assert browser.entries()[0].addresses == (near, HERE, far)
    browser.heard(replace(BENCH, addresses=(near, far, HERE)), 1)
    assert drain(browser) == []


# ---- trust --------------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-7-04")
@pytest.mark.parametrize(
    ("heard", "text"),
    [
        (service(), "it is not signed, and was before"),
        (replace(signed(), instance="copied"), "its signature is bad or has ended"),
        (replace(signed(), txt=signed().txt.replace(b"36000", b"36001")), "its signature is bad"),
        (signed(expires_s=0), "its signature is bad or has ended"),
    ],
)
def test_a_known_provider_without_a_good_signature_is_suspect(heard: Service, text: str) -> None:
    browser = Browser(0, unix_offset_ns=NOW_S * NS_PER_S, trust=Trust(known={ADVERT.id: MET}))
    browser.heard(heard, 0)
    seen, downgrade = drain(browser)
    assert isinstance(seen, AdvertSeen)
    assert isinstance(downgrade, Downgrade)
    assert downgrade.text.startswith(text)
    assert downgrade.entry == seen.entry
    assert standings(browser) == [("suspect", "downgrade")]
    browser.heard(replace(heard, addresses=()), 1)
    assert names(drain(browser)) == ["AdvertChanged"]


@pytest.mark.requirement("DPDP-7-04")
def test_who_stops_signing_is_suspect_from_then_on() -> None:
    browser = browse(signed(), trust=Trust(known={ADVERT.id: MET}))
    assert standings(browser) == [("good", "")]
    browser.heard(BENCH, 1)
    assert names(drain(browser)) == ["AdvertChanged", "Downgrade"]
    assert standings(browser) == [("suspect", "downgrade")]


@pytest.mark.requirement("DPDP-7-04")
def test_who_never_signed_need_not_sign() -> None:
    trust = Trust(known={ADVERT.id: replace(MET, has_signed=False)})
    assert standings(browse(BENCH, trust=trust)) == [("good", "")]


@pytest.mark.requirement("DPDP-7-03")
def test_a_good_signature_ends_when_it_says_so() -> None:
    browser = browse(signed(expires_s=60), trust=Trust(known={ADVERT.id: MET}))
    assert browser.entries()[0].signed is Signed.GOOD
    assert browser.get_timer() == 60 * NS_PER_S
    browser.handle_timer(60 * NS_PER_S - 1)
    assert drain(browser) == []
    browser.handle_timer(60 * NS_PER_S)
    assert names(drain(browser)) == ["AdvertChanged", "Downgrade"]
    assert browser.entries()[0].signed is Signed.BAD
    assert browser.get_timer() == STALE_NS
    browser.heard(signed(), 60 * NS_PER_S)
    assert standings(browser) == [("good", "")]


@pytest.mark.requirement("DPDP-7-03")
def test_by_a_clock_that_was_set_signatures_are_looked_at_again() -> None:
    browser = browse(signed(expires_s=60), trust=Trust(known={ADVERT.id: MET}))
    for offset_s, standing in (
        (61, "suspect"),
        (0, "good"),
        (-3 * MAX_LIFE_S, "suspect"),
        (0, "good"),
    ):
        browser.set_clock((NOW_S + offset_s) * NS_PER_S, 1)
        assert browser.entries()[0].standing == standing
    drain(browser)
    browser.set_clock(NOW_S * NS_PER_S + CLOCK_NS - 1, 1)
    assert drain(browser) == []


@pytest.mark.requirement("DPDP-7-03")
def test_a_signature_of_a_clock_that_is_ahead_is_good_when_it_is_time() -> None:
    said = signed(expires_s=MAX_LIFE_S)
    browser = Browser(
        0, unix_offset_ns=(NOW_S - MAX_SKEW_S - 9) * NS_PER_S, trust=Trust(known={ADVERT.id: MET})
    )
    browser.heard(said, 0)
    assert standings(browser) == [("suspect", "downgrade")]
    assert browser.get_timer() == 9 * NS_PER_S
    browser.handle_timer(9 * NS_PER_S)
    assert standings(browser) == [("good", "")]


def test_who_was_never_met_signs_for_nobody() -> None:
    assert browse(signed()).entries()[0].signed is Signed.UNKNOWN
    trust = Trust(known={ADVERT.id: replace(MET, meter_key=None)})
    assert browse(signed(), trust=trust).entries()[0].signed is Signed.UNKNOWN


@pytest.mark.requirement("DPDP-7-09")
@pytest.mark.parametrize(("key", "word"), [(None, "no"), (OTHER_KEY, "another")])
def test_a_pinned_provider_with_another_key_or_none_is_a_downgrade(
    key: bytes | None, word: str
) -> None:
    known = {ADVERT.id: replace(MET, has_signed=False)}
    browser = Browser(0, trust=Trust.make(pins=[Pin("x25519", KEY)], known=known))
    browser.heard(service(exchange_key=key), 0)
    (_, downgrade) = drain(browser)
    assert isinstance(downgrade, Downgrade)
    assert downgrade.text == f"it shows {word} VPPN key, one is pinned"
    assert standings(browser) == [("suspect", "downgrade")]


def test_whom_we_believe_may_change() -> None:
    browser = browse(service(exchange_key=KEY))
    assert not browser.entries()[0].pinned
    browser.believe(Trust.make(pins=[Pin("x25519", KEY)]), 1)
    (event,) = drain(browser)
    assert isinstance(event, AdvertChanged)
    assert event.entry.pinned
    site = bytes([9]) * 32
    browser.believe(Trust.make(sites=[site], known={ADVERT.id: replace(MET, site_key=site)}), 2)
    assert drain(browser)[-1].text == "it is not signed, and was before"  # type: ignore[attr-defined]
    assert browser.entries()[0].site


@pytest.mark.requirement("DPDP-7-04")
def test_a_downgrade_of_a_dead_one_is_told_when_it_may_be_tried_again() -> None:
    browser = browse(signed(), trust=Trust(known={ADVERT.id: MET}))
    browser.failed(ADVERT.id, HERE, 0)
    browser.heard(BENCH, 1)
    assert names(drain(browser)) == ["AdvertChanged", "AdvertChanged"]
    browser.handle_timer(FIRST_NS)
    assert names(drain(browser)) == ["AdvertChanged", "Downgrade"]


# ---- bounds -------------------------------------------------------------------------------------


def lost(browser: Browser) -> int:
    """Return how many adverts did not fit, as far as was told."""
    return sum(event.lost for event in drain(browser) if isinstance(event, Flooded))


@BOUNDS
def test_a_full_table_lets_the_oldest_go_that_no_pin_names() -> None:
    browser = Browser(0, trust=TRUST)
    browser.heard(PINNED, 0)
    now = crowd(browser, MAX_ADVERTS - 1)
    assert (len(browser), lost(browser)) == (MAX_ADVERTS, 0)
    browser.heard(stranger(0), now)
    browser.heard(stranger(9999), now)
    gone = [event for event in drain(browser) if isinstance(event, AdvertGone)]
    assert [(event.entry.key, event.is_crowded_out) for event in gone] == [(stranger(1).key, True)]
    assert len(browser) == MAX_ADVERTS
    assert browser.get(PINNED.key) is not None


@BOUNDS
def test_a_table_of_pins_takes_nobody_else_in() -> None:
    pins = [Pin("id", numbered_id(number)) for number in range(MAX_ADVERTS)]
    browser = Browser(0, trust=Trust.make(pins=pins))
    crowd(browser, MAX_ADVERTS)
    drain(browser)
    browser.heard(stranger(9999), MAX_ADVERTS * EVERY_NS)
    assert drain(browser) == [Flooded(lost=1)]
    assert len(browser) == MAX_ADVERTS
    assert browser.get(stranger(9999).key) is None


@BOUNDS
@pytest.mark.parametrize("count", [MAX_PER_TARGET, MAX_PER_TARGET + 1])
def test_no_host_has_more_adverts_than_its_bound(count: int) -> None:
    browser = Browser(0)
    crowd(browser, count, host="Rogue.local.")
    assert len(browser) == MAX_PER_TARGET
    assert lost(browser) == count - MAX_PER_TARGET
    assert (browser.get(stranger(0).key) is None) is (count > MAX_PER_TARGET)


@BOUNDS
def test_a_host_of_pins_takes_nobody_else_in() -> None:
    pins = [Pin("id", numbered_id(number)) for number in range(MAX_PER_TARGET)]
    browser = Browser(0, trust=Trust.make(pins=pins))
    crowd(browser, MAX_PER_TARGET + 1, host="strip.local.")
    assert len(browser) == MAX_PER_TARGET
    assert lost(browser) == 1


@BOUNDS
@pytest.mark.parametrize("count", [MAX_PER_ID, MAX_PER_ID + 1])
def test_no_id_has_more_adverts_than_its_bound(count: int) -> None:
    browser = Browser(0)
    for number in range(count):
        browser.heard(stranger(number, id=ADVERT.id), number)
    assert len(browser) == MAX_PER_ID
    assert lost(browser) == count - MAX_PER_ID
    assert (browser.get(stranger(0).key) is None) is (count > MAX_PER_ID)


@BOUNDS
def test_sixteen_new_ones_in_a_second_and_pins_at_once() -> None:
    browser = Browser(0, trust=TRUST)
    for number in range(FIRST_CROWD + 100):
        browser.heard(stranger(number), 0)
    assert len(browser) == FIRST_CROWD
    assert browser.get_timer() == EVERY_NS
    browser.heard(PINNED, 0)
    assert browser.get(PINNED.key) is not None
    browser.handle_timer(NS_PER_S)
    assert len(browser) == FIRST_CROWD + NEW_PER_S + 1
    browser.removed(stranger(FIRST_CROWD + NEW_PER_S).key, NS_PER_S)
    browser.handle_timer(100 * NS_PER_S)
    assert len(browser) == FIRST_CROWD + 100
    assert browser.get(stranger(FIRST_CROWD + NEW_PER_S).key) is None


def test_who_waits_is_forgotten_with_the_rest() -> None:
    browser = Browser(0)
    for number in range(FIRST_CROWD + 1):
        browser.heard(stranger(number), 0)
    browser.reset(0)
    browser.handle_timer(NS_PER_S)
    assert (len(browser), browser.get_timer()) == (0, None)


@BOUNDS
def test_a_flood_is_told_at_once_and_then_once_in_a_minute() -> None:
    browser = Browser(0)
    now = crowd(browser, MAX_PER_TARGET, host="rogue")
    drain(browser)
    told: list[tuple[int, int]] = []
    for number in range(100):
        browser.heard(stranger(1000 + number, host="rogue"), now + number * NS_PER_S)
        told += [(number, e.lost) for e in drain(browser) if isinstance(e, Flooded)]
    assert told == [(0, 1), (60, 59)]
    assert browser.get_timer() == now + 2 * WARN_NS
    browser.handle_timer(now + 2 * WARN_NS)
    assert [event for event in drain(browser) if isinstance(event, Flooded)] == [Flooded(lost=40)]


@pytest.mark.parametrize("count", [MAX_CLASHES, MAX_CLASHES + 1])
def test_of_so_many_clashes_it_is_remembered_that_they_were_told(count: int) -> None:
    browser = Browser(0)
    now = crowd(browser, 2 * count, port=7)
    for number in range(count):
        browser.heard(stranger(count + number, id=numbered_id(number)), now)
    assert sum(isinstance(event, IdClash) for event in drain(browser)) == count
    browser.heard(stranger(count, id=numbered_id(0), cap_mw=0), now)
    told = [event for event in drain(browser) if isinstance(event, IdClash)]
    assert len(told) == count - MAX_CLASHES


@pytest.mark.requirement("DPDP-3-02")
def test_a_record_at_its_bound_and_one_above() -> None:
    browser = Browser(0)
    browser.heard(service(txt=padded(encode_txt(ADVERT), MAX_HEARD_TXT)), 0)
    (entry,) = browser.entries()
    assert entry.advert is not None
    assert len(entry.advert.others) <= MAX_OTHERS
    browser.heard(service(txt=padded(encode_txt(ADVERT), MAX_HEARD_TXT + 1)), 0)
    browser.heard(service("new", txt=bytes(MAX_HEARD_TXT + 1)), 0)
    assert browser.entries() == [entry]
    assert browser.ignored == 2
