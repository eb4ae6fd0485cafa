"""Who may draw what: each way to be refused has its code, its number, its limit and its line."""

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.errors import BrokenInvariant
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal
from powertcp.vppn.access import (
    MAX_RETRY_MS,
    Allowed,
    Applicant,
    OverLimit,
    Rights,
    Wish,
    find_rights,
)
from powertcp.vppn.authorized import AuthorizedWatts, parse_authorized
from powertcp.vppn.certificate import Certificate, issue_certificate
from powertcp.vppn.faults import tokens
from powertcp.vppn.identity import Algorithm, SecretKey
from powertcp.vppn.limits import Limits, Period, format_moment, parse_moment, parse_words
from powertcp.vppn.revocation import Revocations, issue_revocations, parse_revocations
from tests.certificates import BOSS, CERTIFICATE, LAMP

NOW_S = parse_moment("2026-11-21T12:00:00Z")
HERE = ipaddress.ip_address("10.0.0.9")
OTHER = SecretKey(Algorithm.X25519, bytes([5]) * 32)
STAFF = f"issuer {BOSS.public} groups=staff max-power=200W voltage=5V-48V employer"
# the table of named profiles is read here, not in a test
LAMP_12V = PowerProfile.parse("12V/1A")
REFUSE, OFFER = OverLimit.REFUSE, OverLimit.OFFER
USED = {Period.HOUR: 0, Period.DAY: 0, Period.MONTH: 0}


def watts(*lines: str) -> AuthorizedWatts:
    return parse_authorized("\n".join(lines).encode(), "watts")


def lamp(certificate: Certificate | None = None) -> Applicant:
    text = issue_certificate(certificate, BOSS) if certificate else b""
    return Applicant(address=HERE, is_sealed=True, key=LAMP.public, certificate=text)


GUEST = Applicant(address=HERE, is_sealed=True)
CLEAR = Applicant(address=HERE, is_sealed=False)


def given_rights(found: Rights | Refusal) -> Rights:
    assert isinstance(found, Rights)
    return found


def refused(found: object) -> Refusal:
    assert isinstance(found, Refusal)
    return found


def wish(most: str, least: str = "", **facts: int) -> Wish:
    minimum = PowerProfile.parse(least, ProfileType.MINIMUM) if least else None
    return Wish(most=PowerProfile.parse(most), least=minimum, used_uj=USED, **facts)


def asked(limits: str, most: str, least: str = "", **facts: int) -> Allowed | Refusal:
    rights = given_rights(find_rights(watts(f"guest {limits}"), GUEST, NOW_S))
    return rights.allow(wish(most, least, **facts), NOW_S, REFUSE)


# ---- who it is ----------------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-5-07")
def test_the_most_specific_line_decides() -> None:
    file = watts(
        "clear max-power=1W",
        "guest max-power=2W",
        STAFF,
        f"key {LAMP.public} max-power=4W alice",
    )
    for applicant, line, name in (
        (CLEAR, "watts:1 clear", "clear"),
        (GUEST, "watts:2 guest", "guest"),
        (replace(lamp(), key=OTHER.public), "watts:2 guest", "guest"),
        (lamp(), "watts:4 key", "alice"),
        (lamp(CERTIFICATE), "watts:4 key", "alice"),
    ):
        rights = given_rights(find_rights(file, applicant, NOW_S))
        assert (rights.rule, rights.name, rights.ends_s) == (line, name, None)
    rights = given_rights(find_rights(watts(STAFF, "clear max-power=1W"), GUEST, NOW_S))
    assert rights.rule == "watts:2 clear"


def test_a_key_without_a_name_is_called_by_its_key() -> None:
    rights = given_rights(find_rights(watts(f"key {LAMP.public} max-power=1W"), lamp(), NOW_S))
    assert (rights.name, rights.serial) == (str(LAMP.public), 0)


@pytest.mark.requirement("VPPN-5-07")
@pytest.mark.parametrize(
    ("applicant", "code", "rule"),
    [
        (lamp(), Reason.KEY_UNKNOWN, "watts: no line names this key"),
        (GUEST, Reason.AUTH_REQUIRED, "watts: no line is about guests"),
        (CLEAR, Reason.AUTH_REQUIRED, "watts: no line is about clear power"),
    ],
)
def test_what_no_line_allows_is_refused(applicant: Applicant, code: int, rule: str) -> None:
    refusal = refused(find_rights(watts(f"key {OTHER.public} max-power=1W"), applicant, NOW_S))
    assert (refusal.code, refusal.rule) == (code, rule)


@pytest.mark.requirement("VPPN-5-07")
def test_a_line_that_denies() -> None:
    file = watts(f"key {LAMP.public} deny", "guest deny", "clear deny")
    refusal = refused(find_rights(file, lamp(), NOW_S))
    assert (refusal.code, refusal.value, refusal.rule) == (Reason.POLICY, 1, "watts:1 key deny")
    refusal = refused(find_rights(file, GUEST, NOW_S))
    assert (refusal.code, refusal.rule) == (Reason.AUTH_REQUIRED, "watts:2 guest deny")
    stranger = replace(lamp(), key=OTHER.public)
    assert refused(find_rights(file, stranger, NOW_S)).code == Reason.KEY_UNKNOWN
    refusal = refused(find_rights(file, CLEAR, NOW_S))
    assert (refusal.code, refusal.rule) == (Reason.AUTH_REQUIRED, "watts:3 clear deny")


@pytest.mark.requirement("VPPN-5-07")
def test_of_several_lines_the_first_that_applies() -> None:
    old = f"key {LAMP.public} max-power=1W expires=2026-11-21T12:00:00Z"
    away = f"key {LAMP.public} max-power=2W from=192.0.2.0/24"
    here = f"key {LAMP.public} max-power=3W from=10.0.0.0/8 expires=2026-11-21T12:00:01Z"
    rights = given_rights(find_rights(watts(old, away, here), lamp(), NOW_S))
    assert (rights.limits.power_mw, rights.ends_s) == (3000, NOW_S + 1)
    refusal = refused(find_rights(watts(old, away, "guest max-power=9W"), lamp(), NOW_S))
    assert (refusal.code, refusal.value, refusal.limit) == (Reason.CERT_EXPIRED, NOW_S, NOW_S)
    assert refusal.rule == "watts:1 key expires=2026-11-21T12:00:00Z"
    refusal = refused(find_rights(watts(away, old), lamp(), NOW_S))
    assert (refusal.code, refusal.value) == (Reason.POLICY, 1)
    assert refusal.rule == "watts:1 key from, not 10.0.0.9"


# ---- certificates -------------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-5-08")
def test_a_certificate_and_its_line_allow_what_both_allow() -> None:
    rights = given_rights(find_rights(watts(STAFF), lamp(CERTIFICATE), NOW_S))
    assert (rights.name, rights.serial) == ("alice@lamp", 4711)
    assert rights.ends_s == CERTIFICATE.not_after_s
    assert rights.limits == parse_words(tokens("max-power=65W voltage=5V-20V quota=2kWh/day"))[0]
    sooner = f"{STAFF} expires=2026-11-21T13:00:00Z".replace("employer ", "")
    rights = given_rights(find_rights(watts(sooner), lamp(CERTIFICATE), NOW_S))
    assert rights.ends_s == NOW_S + 3600


@pytest.mark.requirement("VPPN-5-02", "VPPN-5-08")
def test_an_employee_of_65_w_gets_65_w_and_not_66_w() -> None:
    rights = given_rights(find_rights(watts(STAFF), lamp(CERTIFICATE), NOW_S))
    granted = rights.allow(wish("20V/3.25A"), NOW_S, REFUSE)
    assert granted == Allowed(PowerProfile.parse("20V/3.25A"), is_counter=False)
    refusal = refused(rights.allow(wish("20V/3.3A"), NOW_S, REFUSE))
    assert (refusal.code, refusal.value, refusal.limit) == (204, 66_000, 65_000)
    assert refusal.sentence() == (
        "204 WATT_LIMIT: asked 66,000 mW, this peer may have 65,000 mW"
        " (watts:1 issuer, certificate 4711:6)"
    )


def test_a_limit_of_the_line_is_told_as_such() -> None:
    low = f"issuer {BOSS.public} max-power=10W"
    rights = given_rights(find_rights(watts(low), lamp(CERTIFICATE), NOW_S))
    refusal = refused(rights.allow(wish("12V/1A"), NOW_S, REFUSE))
    assert (refusal.code, refusal.limit, refusal.rule) == (204, 10_000, "watts:1 issuer")


@pytest.mark.requirement("VPPN-2.2-01")
def test_a_certificate_for_another_key() -> None:
    thief = replace(lamp(CERTIFICATE), key=OTHER.public)
    for applicant in (thief, replace(thief, key=None)):
        refusal = refused(find_rights(watts(STAFF, "guest max-power=1W"), applicant, NOW_S))
        assert refusal.code == Reason.IDENTITY_MISMATCH
        assert refusal.rule == f"certificate:3 subject {LAMP.public}"
    meter = replace(CERTIFICATE, subject=BOSS.public)
    assert refused(find_rights(watts(STAFF), lamp(meter), NOW_S)).code == 207


@pytest.mark.requirement("VPPN-5-04")
def test_a_certificate_that_cannot_be_read() -> None:
    text = issue_certificate(CERTIFICATE, BOSS).replace(b"max-power", b"max-watts")
    broken = replace(lamp(), certificate=text)
    refusal = refused(find_rights(watts(STAFF, "guest max-power=1W"), broken, NOW_S))
    assert refusal.code == Reason.KEY_UNKNOWN
    assert refusal.rule.startswith('certificate: line 6, column 8: unknown word "max-watts"')


@pytest.mark.requirement("VPPN-5-04")
def test_a_certificate_before_and_after_its_time() -> None:
    file = watts(STAFF, "guest max-power=1W")
    start, end = CERTIFICATE.not_before_s, CERTIFICATE.not_after_s
    for now_s, is_valid in ((start - 1, False), (start, True), (end - 1, True), (end, False)):
        assert isinstance(find_rights(file, lamp(CERTIFICATE), now_s), Rights) is is_valid
    refusal = refused(find_rights(file, lamp(CERTIFICATE), end))
    assert (refusal.code, refusal.value, refusal.limit) == (202, end, end)
    assert (refusal.rule, refusal.retry_ms) == (
        "certificate 4711 not-after 2026-11-21T16:00:00Z",
        0,
    )
    refusal = refused(find_rights(file, lamp(CERTIFICATE), start - 5))
    assert (refusal.code, refusal.value, refusal.retry_ms) == (202, start, 5_000)
    assert refusal.rule == "certificate 4711 not valid before 2026-11-21T08:00:00Z"
    assert refused(find_rights(file, lamp(CERTIFICATE), 0)).retry_ms == MAX_RETRY_MS


@pytest.mark.requirement("VPPN-5-07", "VPPN-5-08")
def test_a_certificate_of_another_group_or_of_nobody_known() -> None:
    guests = replace(CERTIFICATE, groups=("visitors",))
    refusal = refused(find_rights(watts(STAFF), lamp(guests), NOW_S))
    assert (refusal.code, refusal.value) == (Reason.POLICY, 1)
    assert refusal.rule == "watts:1 issuer groups=staff, certificate: visitors"
    nobody = replace(CERTIFICATE, groups=())
    refusal = refused(find_rights(watts(STAFF), lamp(nobody), NOW_S))
    assert refusal.rule.endswith("certificate: none")
    any_group = watts(STAFF, f"issuer {BOSS.public} max-power=7W")
    rights = given_rights(find_rights(any_group, lamp(guests), NOW_S))
    assert (rights.limits.power_mw, rights.rule) == (7_000, "watts:2 issuer")
    unknown = watts(f"key {OTHER.public} max-power=1W")
    assert refused(find_rights(unknown, lamp(CERTIFICATE), NOW_S)).code == 201


@pytest.mark.requirement("VPPN-5-07", "VPPN-5-08")
def test_limits_of_a_certificate_that_do_not_apply() -> None:
    def of(words: str) -> Rights | Refusal:
        own = replace(CERTIFICATE, limits=parse_words(tokens(words))[0])
        file = watts(f"issuer {BOSS.public} max-power=1W tariff=staff")
        return find_rights(file, lamp(own), NOW_S)

    refusal = refused(of(f"expires={format_moment(NOW_S)}"))
    assert (refusal.code, refusal.rule) == (
        Reason.CERT_EXPIRED,
        "certificate 4711:6 expires=2026-11-21T12:00:00Z",
    )
    refusal = refused(of("from=192.0.2.1"))
    assert (refusal.code, refusal.value) == (Reason.POLICY, 6)
    refusal = refused(of("tariff=free"))
    assert refusal.code == Reason.TARIFF
    assert refusal.rule == "watts:1 issuer tariff=staff, certificate 4711:6 tariff=free"
    assert given_rights(of("tariff=staff")).limits.tariff == "staff"
    assert given_rights(of("")).limits.tariff == "staff"


def test_an_issuer_whose_line_denies_or_has_expired() -> None:
    refusal = refused(find_rights(watts(f"issuer {BOSS.public} deny"), lamp(CERTIFICATE), NOW_S))
    assert (refusal.code, refusal.rule) == (Reason.POLICY, "watts:1 issuer deny")


@pytest.mark.requirement("VPPN-5-05")
def test_what_was_revoked() -> None:
    start_s = CERTIFICATE.not_before_s
    octets = issue_revocations(BOSS, start_s, start_s + 86_400, [4711], [OTHER.public])
    lists = Revocations((parse_revocations(octets, "staff.krl"),))
    refusal = refused(find_rights(watts(STAFF), lamp(CERTIFICATE), NOW_S, lists))
    assert (refusal.code, refusal.rule) == (203, "staff.krl:5 serial 4711")
    # a key of the file stands by itself, but not once it was taken back
    file = watts(STAFF, f"key {OTHER.public} max-power=1W", f"key {LAMP.public} max-power=1W")
    given_rights(find_rights(file, lamp(CERTIFICATE), NOW_S, lists))
    thief = replace(lamp(), key=OTHER.public)
    refusal = refused(find_rights(file, thief, NOW_S, lists))
    assert (refusal.code, refusal.rule) == (203, f"staff.krl:6 key {OTHER.public}")
    late_s = start_s + 86_400
    own = replace(CERTIFICATE, serial=1, not_after_s=late_s + 1)
    refusal = refused(find_rights(watts(STAFF), lamp(own), late_s, lists))
    assert (refusal.code, "the list expired" in refusal.rule) == (206, True)
    given_rights(find_rights(file, lamp(own), late_s, lists))


# ---- what it may draw ---------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-5-02")
@pytest.mark.parametrize(
    ("limits", "most", "code", "value", "limit"),
    [
        ("max-power=10W", "12V/1A", 204, 12_000, 10_000),
        ("voltage=5V-12V", "19V/1A", 101, 19_000, 12_000),
        ("voltage=5V-12V", "3V/1A", 101, 3_000, 5_000),
        ("max-current=2A", "12V/2.001A", 102, 2_001, 2_000),
        ("priority=3", "12V/1A,prio=2", 105, 2, 3),
        ("priority=9", "12V/1A", 105, 8, 9),
        ("waveform=dc", "230V/1A@50Hz", 103, 230_000, 230_000),
    ],
)
def test_a_wish_above_a_limit(limits: str, most: str, code: int, value: int, limit: int) -> None:
    refusal = refused(asked(limits, most))
    assert (refusal.code, refusal.value, refusal.limit) == (code, value, limit)
    assert refusal.rule == "watts:1 guest"


@pytest.mark.requirement("VPPN-5-02")
@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ("max-power=12W", "12V/1A"),
        ("voltage=5V-12V", "12V/1A"),
        ("voltage=5V-12V", "5V/1A"),
        ("max-current=2A", "12V/2A"),
        ("priority=3", "12V/1A,prio=3"),
        ("priority=8", "12V/1A"),
        ("waveform=dc,sine", "230V/1A@50Hz"),
        ("tariff=x", "230V/16A@50Hz"),
    ],
)
def test_a_wish_at_a_limit(limits: str, most: str) -> None:
    assert asked(limits, most) == Allowed(PowerProfile.parse(most), is_counter=False)


@pytest.mark.requirement("VPPN-5-02")
def test_power_is_the_sum_over_the_flows_of_an_identity() -> None:
    assert isinstance(asked("max-power=20W", "12V/1A", held_mw=8_000), Allowed)
    refusal = refused(asked("max-power=20W", "12V/1A", held_mw=9_000))
    assert (refusal.value, refusal.limit) == (12_000, 11_000)
    assert refused(asked("max-power=20W", "12V/1A", held_mw=99_000)).limit == 0
    # who has most of it in other flows would take the limit for that of the line
    assert refusal.text == "beside 9,000 mW of its other flows"
    assert refusal.rule.endswith(", beside 9,000 mW of its other flows")
    assert refused(asked("max-power=20W", "12V/2A")).text == ""
    assert refused(asked("max-power=20W voltage=5V", "12V/1A", held_mw=9_000)).text == ""


@pytest.mark.requirement("VPPN-5-02")
def test_a_range_is_granted_as_far_as_it_goes() -> None:
    found = asked("max-power=12W voltage=5V-12V", "20V/3A", "5V/1A")
    assert found == Allowed(PowerProfile.parse("12V/1A"), is_counter=False)
    assert refused(asked("max-power=12W voltage=5V-12V", "20V/3A", "5V/1.001A")).code == 101
    assert refused(asked("voltage=5V-12V", "20V/3A", "13V/1A")).code == 101
    assert refused(asked("voltage=5V-12V", "4V/3A", "3V/1A")).code == 101
    assert refused(asked("priority=9", "12V/3A", "3V/1A")).code == 105


@pytest.mark.requirement("VPPN-5-02")
def test_an_offer_is_within_the_limits() -> None:
    rights = given_rights(
        find_rights(watts("guest max-power=10W voltage=5V-12V priority=9"), GUEST, NOW_S)
    )
    found = rights.allow(wish("19V/3A,prio=2"), NOW_S, OFFER)
    assert found == Allowed(PowerProfile.parse("12V/0.833A,prio=9"), is_counter=True)
    assert refused(rights.allow(wish("19V/3A", held_mw=10_000), NOW_S, OFFER)).code == 101
    assert refused(rights.allow(wish("3V/1mA"), NOW_S, OFFER)).code == 101


def test_limits_that_exclude_each_other_offer_nothing() -> None:
    own = replace(CERTIFICATE, limits=Limits(least_mv=5_000, most_mv=12_000))
    file = watts(f"issuer {BOSS.public} voltage=19V-48V")
    rights = given_rights(find_rights(file, lamp(own), NOW_S))
    for over in OverLimit:
        refusal = refused(rights.allow(wish("20V/1A"), NOW_S, over))
        assert (refusal.code, refusal.value, refusal.limit) == (101, 20_000, 12_000)
        assert refusal.rule == "watts:1 issuer, certificate 4711:6"


@pytest.mark.requirement("VPPN-5-02")
def test_a_quota_that_is_used_up() -> None:
    rights = given_rights(find_rights(watts("guest quota=1kJ/hour,5kJ/day"), GUEST, NOW_S))
    most = LAMP_12V

    def used(hour: int, day: int) -> Allowed | Refusal:
        used_uj = {Period.HOUR: hour, Period.DAY: day}
        return rights.allow(Wish(most=most, used_uj=used_uj), NOW_S + 600, REFUSE)

    assert isinstance(used(999_999_999, 4_999_999_999), Allowed)
    refusal = refused(used(10**9, 0))
    assert (refusal.code, refusal.value, refusal.limit) == (205, 10**9, 10**9)
    assert (refusal.retry_ms, refusal.rule) == (3_000_000, "watts:1 guest")
    assert refused(used(0, 5 * 10**9)).retry_ms == (43_200 - 600) * 1000
    with pytest.raises(BrokenInvariant, match="the energy of this hour is counted"):
        rights.allow(Wish(most=most), NOW_S, REFUSE)


def test_quotas_name_the_line_that_set_them() -> None:
    file = watts(f"issuer {BOSS.public} quota=1kJ/hour,9kWh/day")
    rights = given_rights(find_rights(file, lamp(CERTIFICATE), NOW_S))
    most = LAMP_12V
    for hour, day, rule in (
        (10**9, 0, "watts:1 issuer"),
        (0, 7_200 * 10**9, "watts:1 issuer, certificate 4711:6"),
    ):
        spent = Wish(most=most, used_uj={Period.HOUR: hour, Period.DAY: day})
        assert refused(rights.allow(spent, NOW_S, REFUSE)).rule == rule


def test_waveforms_that_only_both_lines_together_exclude() -> None:
    own = replace(CERTIFICATE, limits=parse_words(tokens("waveform=dc,arbitrary"))[0])
    file = watts(f"issuer {BOSS.public} waveform=dc,sine")
    rights = given_rights(find_rights(file, lamp(own), NOW_S))
    refusal = refused(rights.allow(wish("230V/1A@50Hz"), NOW_S, REFUSE))
    assert (refusal.code, refusal.rule) == (103, "watts:1 issuer, certificate 4711:6")


@pytest.mark.requirement("VPPN-5-02")
@given(
    st.builds(
        Limits,
        power_mw=st.none() | st.integers(0, 100_000),
        least_mv=st.integers(0, 20_000),
        most_mv=st.none() | st.integers(0, 30_000),
        current_ma=st.none() | st.integers(0, 5_000),
        priority=st.none() | st.integers(1, 15),
    ),
    st.integers(0, 40_000),
    st.integers(0, 6_000),
    st.integers(0, 15),
    st.none() | st.tuples(st.integers(0, 40_000), st.integers(0, 6_000)),
    st.integers(0, 50_000),
    st.sampled_from(OverLimit),
)
def test_nothing_above_a_limit_is_ever_allowed(
    limits: Limits,
    voltage_mv: int,
    current_ma: int,
    priority: int,
    minimum: tuple[int, int] | None,
    held_mw: int,
    over: OverLimit,
) -> None:
    most = PowerProfile.make(
        ProfileType.REQUEST, voltage_mv=voltage_mv, current_ma=current_ma, priority=priority
    )
    least = None
    if minimum:
        least = PowerProfile.make(
            ProfileType.MINIMUM,
            voltage_mv=min(minimum[0], voltage_mv),
            current_ma=min(minimum[1], current_ma),
        )
    rights = Rights("x", "watts:1", limits, (("watts:1", limits),))
    found = rights.allow(Wish(most=most, least=least, held_mw=held_mw), NOW_S, over)
    if isinstance(found, Refusal):
        assert found.code in (101, 102, 105, 204)
        return
    got = found.most
    assert got.power_mw == 0 or got.power_mw + held_mw <= (limits.power_mw or held_mw + 10**9)
    assert (
        limits.least_mv <= got.voltage_mv <= (10**9 if limits.most_mv is None else limits.most_mv)
    )
    assert got.current_ma <= (10**9 if limits.current_ma is None else limits.current_ma)
    assert got.effective_priority >= (limits.priority or 1)
    assert got.power_mw <= most.power_mw
    if not found.is_counter and got != most:
        assert least is not None
        assert least.voltage_mv <= got.voltage_mv <= most.voltage_mv
        assert least.current_ma <= got.current_ma <= most.current_ma
