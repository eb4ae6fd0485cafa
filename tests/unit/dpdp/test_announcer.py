"""Our own advert: named, announced, changed not too often, contested, withdrawn."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.crypto import SigningKey
from powertcp.dpdp.advert import TYPE_UDP, Advert, Offer, Tariff, decode_txt, encode_txt
from powertcp.dpdp.announcer import (
    ANSWER_NS,
    BUCKET,
    CLOCK_NS,
    EVERY_NS,
    MINUTE_NS,
    MOST_UPDATES,
    RETRY_MOST_NS,
    RETRY_NS,
    YIELD_NS,
    Announcer,
    is_news,
)
from powertcp.dpdp.entry import Signed
from powertcp.dpdp.events import Contested, Register, Renamed, Update, Withdraw
from powertcp.dpdp.names import ATTEMPTS
from powertcp.dpdp.signing import MAX_LIFE_S, verify
from powertcp.errors import LocalProtocolError
from powertcp.profile import PowerProfile, ProfileType
from powertcp.units import NS_PER_MS, NS_PER_S, Instant
from tests.sightings import ADVERT, METER, OFFER, drain, numbered_id

NOW_S = 1_795_305_600
HOST, PORT = "lab.local.", 3251
ID = ADVERT.id.hex()
LOWER, HIGHER = bytes(16), b"\xff" * 16
LEAST_MW, RATING_MW = 5_000, 36_000
DAY_NS = MAX_LIFE_S * NS_PER_S


def make(now: Instant = 0, **fields: Any) -> Announcer:
    """Return an announcer of the bench; its dice fall in the middle."""
    settings: dict[str, Any] = {
        "rating_mw": RATING_MW,
        "port": PORT,
        "host": HOST,
        "entropy": lambda count: b"\x80" + bytes(count - 1),
        "unix_offset_ns": NOW_S * NS_PER_S,
    }
    return Announcer("Bench", now, **settings | fields)


def announced(now: Instant = 0, **fields: Any) -> Announcer:
    """Return one that is registered, long enough ago for a full bucket."""
    announcer = make(now, **fields)
    announcer.want(ADVERT, now)
    announcer.registered(now)
    drain(announcer)
    return announcer


def record(provider: bytes, **said: Any) -> bytes:
    return encode_txt(replace(ADVERT, id=provider, **said))


def with_cap(cap_mw: int) -> Advert:
    return replace(ADVERT, cap_mw=cap_mw)


# ---- registering --------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-4-01")
def test_what_is_wanted_first_is_registered() -> None:
    announcer = make()
    assert announcer.get_timer() is None
    announcer.want(ADVERT, 0)
    assert drain(announcer) == [Register(instance="Bench", advert=ADVERT)]
    announcer.want(ADVERT, 1)
    assert not announcer.is_registered
    announcer.registered(2)
    announcer.registered(2)
    assert announcer.is_registered
    assert drain(announcer) == []
    assert announcer.get_timer() is None


@pytest.mark.requirement("DPDP-4-01")
def test_what_fails_is_tried_again_later_and_later() -> None:
    announcer, now, pauses = make(), 0, []
    announcer.want(ADVERT, 0)
    for _ in range(9):
        (event,) = drain(announcer)
        assert isinstance(event, Register)
        announcer.failed(now)
        due = announcer.get_timer()
        assert due is not None
        announcer.handle_timer(due - 1)
        assert drain(announcer) == []
        pauses.append((due - now) // NS_PER_S)
        now = due
        announcer.handle_timer(now)
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert (RETRY_NS, RETRY_MOST_NS) == (5 * NS_PER_S, 300 * NS_PER_S)
    announcer.registered(now)
    announcer.lost(now)
    announcer.failed(now)
    assert announcer.get_timer() == now + RETRY_NS


@pytest.mark.requirement("DPDP-4-01")
def test_a_driver_that_never_answers_is_asked_again_and_may_answer_late() -> None:
    announcer = make()
    announcer.want(ADVERT, 0)
    drain(announcer)
    announcer.handle_timer(ANSWER_NS - 1)
    announcer.handle_timer(ANSWER_NS)
    assert announcer.get_timer() == ANSWER_NS + RETRY_NS
    announcer.registered(ANSWER_NS + 1)
    announcer.handle_timer(ANSWER_NS + RETRY_NS)
    assert drain(announcer) == []
    assert announcer.is_registered


def test_what_changed_while_it_was_registered_is_said_after() -> None:
    announcer = make()
    announcer.want(ADVERT, 0)
    announcer.want(with_cap(0), 0)
    announcer.registered(1)
    assert drain(announcer)[1:] == [Update(instance="Bench", advert=with_cap(0))]


@pytest.mark.requirement("DPDP-5-01")
def test_a_name_that_is_taken_gets_a_number_and_then_the_id() -> None:
    announcer, names = make(), ["Bench"]
    announcer.want(ADVERT, 0)
    drain(announcer)
    for _ in range(ATTEMPTS - 1):
        announcer.refused(0)
        renamed, register = drain(announcer)
        assert isinstance(renamed, Renamed)
        assert isinstance(register, Register)
        assert renamed.was == names[-1]
        assert renamed.instance == register.instance == announcer.instance
        assert renamed.why == "the name is taken"
        names.append(renamed.instance)
    assert names[1:9] == [f"Bench ({number})" for number in range(2, 10)]
    assert names[9] == f"Bench {ID[:8]}"
    announcer.refused(0)
    assert drain(announcer) == []
    assert announcer.get_timer() == RETRY_NS


def test_a_refusal_that_comes_too_late_changes_nothing() -> None:
    announcer = announced()
    announcer.refused(1)
    assert drain(announcer) == []
    assert announcer.is_registered


def test_a_resolver_that_was_started_anew_is_told_again() -> None:
    announcer = make()
    announcer.lost(0)
    assert drain(announcer) == []
    announcer.want(ADVERT, 0)
    announcer.registered(0)
    announcer.lost(1)
    assert drain(announcer)[1:] == [Register(instance="Bench", advert=ADVERT)]


# ---- updates ------------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-4-02")
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (with_cap(RATING_MW - 3_599), False),
        (with_cap(RATING_MW - 3_600), True),
        (with_cap(RATING_MW + 3_600), True),
        (with_cap(LEAST_MW), True),
        (replace(ADVERT, soc=7), False),
        (replace(ADVERT, expires_s=1, signature=bytes(64)), False),
        (replace(ADVERT, tariff=Tariff(currency="EUR", micro_per_kwh=1)), True),
        (replace(ADVERT, seal="req"), True),
        (replace(ADVERT, exchange_key=bytes(32)), True),
        (replace(ADVERT, source="battery"), True),
        (replace(ADVERT, offers=(OFFER, OFFER)), True),
    ],
)
def test_what_is_news(wanted: Advert, expected: bool) -> None:
    assert is_news(ADVERT, wanted, RATING_MW) is expected
    assert is_news(wanted, ADVERT, RATING_MW) is expected


@pytest.mark.requirement("DPDP-4-02")
def test_full_and_no_longer_full_are_news_however_small_the_step() -> None:
    enough, short = with_cap(LEAST_MW), with_cap(LEAST_MW - 1)
    assert is_news(enough, short, RATING_MW)
    assert is_news(short, enough, RATING_MW)
    assert not is_news(enough, with_cap(LEAST_MW + 1), RATING_MW)
    alone = Offer(offer=PowerProfile.make(ProfileType.OFFER, 12_000, 3_000))
    some = replace(ADVERT, offers=(OFFER, alone), cap_mw=1)
    assert is_news(some, replace(some, cap_mw=0), RATING_MW)
    assert not is_news(some, replace(some, cap_mw=2), RATING_MW)
    assert not is_news(some, some, 0)


@pytest.mark.requirement("DPDP-4-02")
def test_what_is_no_news_is_not_announced_by_itself() -> None:
    announcer = announced()
    announcer.want(replace(with_cap(RATING_MW - 1), soc=50), 1)
    announcer.handle_timer(MINUTE_NS)
    assert (drain(announcer), announcer.get_timer()) == ([], None)
    announcer.want(replace(with_cap(0), soc=49), MINUTE_NS)
    (update,) = drain(announcer)
    assert isinstance(update, Update)
    assert update.advert.soc == 49


@pytest.mark.requirement("DPDP-4-02")
def test_changes_that_wait_are_merged_and_the_last_one_is_said() -> None:
    announcer = announced(0)
    start, said = 100 * NS_PER_S, list[Advert]()
    for number in range(10):
        announcer.want(with_cap(number * 4_000), start)
        said += [event.advert for event in drain(announcer) if isinstance(event, Update)]
    assert [advert.cap_mw for advert in said] == [0, 4_000, 8_000]
    assert len(said) == BUCKET
    assert announcer.get_timer() == start + EVERY_NS
    announcer.handle_timer(start + EVERY_NS - 1)
    assert drain(announcer) == []
    announcer.handle_timer(start + EVERY_NS)
    assert drain(announcer) == [Update(instance="Bench", advert=with_cap(36_000))]
    assert announcer.get_timer() is None


@pytest.mark.requirement("DPDP-4-02")
def test_what_went_back_to_what_was_said_need_not_be_said() -> None:
    announcer = announced()
    for cap_mw in (0, 36_000, 0, 36_000, 0):
        announcer.want(with_cap(cap_mw), 0)
    drain(announcer)
    announcer.want(with_cap(36_000), 1)
    announcer.handle_timer(EVERY_NS)
    assert drain(announcer) == []
    assert announcer.get_timer() is None


@pytest.mark.requirement("DPDP-4-02")
@pytest.mark.parametrize("idle_s", [0, 3, 600])
def test_a_thousand_changes_in_a_minute_are_twelve_announcements_at_most(idle_s: int) -> None:
    announcer = announced()
    start, said = idle_s * NS_PER_S, list[tuple[Instant, int]]()

    def listen(now: Instant) -> None:
        said.extend((now, e.advert.cap_mw) for e in drain(announcer) if isinstance(e, Update))

    for number in range(1000):
        now = start + number * 60 * NS_PER_MS
        while (due := announcer.get_timer()) is not None and due <= now:
            announcer.handle_timer(due)
            listen(due)
        announcer.want(with_cap((number * 7_919) % RATING_MW), now)
        listen(now)
    while (due := announcer.get_timer()) is not None:
        announcer.handle_timer(due)
        listen(due)
    assert len(said) <= 12
    assert said[-1][1] == (999 * 7_919) % RATING_MW
    assert said[-1][0] <= start + 2 * MINUTE_NS


@pytest.mark.requirement("DPDP-4-02")
@given(st.lists(st.tuples(st.integers(0, 36_000), st.integers(0, 10 * NS_PER_S)), max_size=80))
def test_no_minute_has_more_than_ten_updates(changes: list[tuple[int, int]]) -> None:
    announcer, now, said = announced(), 0, list[Instant]()
    for cap_mw, gap in changes:
        now += gap
        announcer.handle_timer(now)
        announcer.want(with_cap(cap_mw), now)
        said += [now for event in drain(announcer) if isinstance(event, Update)]
    later = said[MOST_UPDATES:]
    assert all(two - one >= MINUTE_NS for one, two in zip(said, later, strict=False))


def test_an_update_that_failed_is_tried_again_later_and_later() -> None:
    announcer = announced()
    announcer.want(with_cap(0), 60 * NS_PER_S)
    drain(announcer)
    announcer.failed(60 * NS_PER_S)
    assert announcer.get_timer() == 65 * NS_PER_S
    announcer.handle_timer(65 * NS_PER_S)
    assert drain(announcer) == [Update(instance="Bench", advert=with_cap(0))]
    announcer.failed(65 * NS_PER_S)
    assert announcer.get_timer() == 75 * NS_PER_S
    announcer.handle_timer(75 * NS_PER_S)
    assert announcer.is_registered
    announcer.want(with_cap(36_000), 80 * NS_PER_S)
    assert len(drain(announcer)) == 2
    announcer.failed(80 * NS_PER_S)
    assert announcer.get_timer() == 85 * NS_PER_S


def test_other_addresses_are_announced_at_once() -> None:
    announcer = announced()
    announcer.announce_again(0)
    assert drain(announcer) == [Update(instance="Bench", advert=ADVERT)]
    waiting = make()
    waiting.announce_again(0)
    assert drain(waiting) == []


# ---- signatures ---------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-7-03")
def test_a_signature_is_renewed_at_half_of_its_life() -> None:
    announcer = make(key=METER, kind=TYPE_UDP)
    announcer.want(ADVERT, 0)
    announcer.registered(0)
    half = DAY_NS // 2
    assert announcer.get_timer() == half
    announcer.handle_timer(half - 1)
    announcer.handle_timer(half)
    first, second = drain(announcer)
    assert isinstance(first, Register)
    assert isinstance(second, Update)
    for event, at_s in ((first, NOW_S), (second, NOW_S + MAX_LIFE_S // 2)):
        txt = encode_txt(event.advert)
        assert event.advert.expires_s == at_s + MAX_LIFE_S
        assert verify(txt, "Bench", TYPE_UDP, PORT, METER.public, at_s) is Signed.GOOD
    assert announcer.get_timer() == 2 * half


@pytest.mark.requirement("DPDP-7-03")
@pytest.mark.parametrize("has_answer", [True, False])
def test_by_a_clock_that_was_set_it_is_signed_anew(has_answer: bool) -> None:
    announcer, day_s = make(key=METER), MAX_LIFE_S
    announcer.want(ADVERT, 0)
    if has_answer:
        announcer.registered(0)
    drain(announcer)
    announcer.set_clock(NOW_S * NS_PER_S + CLOCK_NS - 1, 1)
    assert drain(announcer) == []
    announcer.set_clock((NOW_S + 2 * day_s) * NS_PER_S, 1)
    if not has_answer:
        assert drain(announcer) == []
        announcer.registered(1)
    (update,) = drain(announcer)
    assert isinstance(update, Update)
    assert update.advert.expires_s == NOW_S + 3 * day_s


def test_what_is_not_signed_has_nothing_to_do_with_the_clock() -> None:
    announcer = announced()
    announcer.set_clock(0, 1)
    assert drain(announcer) == []


@pytest.mark.requirement("DPDP-7-03")
def test_a_renewal_waits_for_its_token() -> None:
    announcer = announced(key=METER)
    half = DAY_NS // 2
    for cap_mw in (0, 36_000, 0):
        announcer.want(with_cap(cap_mw), half - 1)
    assert len(drain(announcer)) == BUCKET
    assert announcer.get_timer() == 2 * half - 1
    announcer = announced(key=METER)
    for _ in range(BUCKET + 1):
        announcer.announce_again(half)
    assert len(drain(announcer)) == BUCKET
    assert announcer.get_timer() == half + EVERY_NS
    announcer.handle_timer(half + EVERY_NS)
    assert len(drain(announcer)) == 1


@pytest.mark.requirement("DPDP-7-03")
def test_what_is_signed_is_the_name_that_is_announced() -> None:
    announcer = make(key=METER)
    announcer.want(ADVERT, 0)
    announcer.refused(0)
    register = drain(announcer)[-1]
    assert isinstance(register, Register)
    txt = encode_txt(register.advert)
    assert verify(txt, "Bench (2)", "_powertcp._tcp.local.", PORT, METER.public, NOW_S) == "good"


def test_a_renewal_that_must_wait_is_due_no_more() -> None:
    announcer = announced(key=METER)
    half = DAY_NS // 2
    announcer.failed(half - 1)
    assert announcer.get_timer() == half
    announcer.handle_timer(half)
    assert announcer.get_timer() == half - 1 + RETRY_NS
    announcer.handle_timer(half - 1 + RETRY_NS)
    (update,) = drain(announcer)
    assert isinstance(update, Update)
    assert announcer.get_timer() == 2 * half - 1 + RETRY_NS
    announcer.seen_own_name(record(HIGHER), 7, "other.local.", 2 * half - 1)
    assert announcer.get_timer() == 2 * half - 1 + YIELD_NS // 2


def test_a_signature_in_what_is_wanted_is_not_ours_to_send() -> None:
    announcer = make()
    announcer.want(replace(ADVERT, expires_s=7, signature=bytes(64)), 0)
    assert drain(announcer) == [Register(instance="Bench", advert=ADVERT)]


# ---- contested names ----------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-5-02")
def test_of_two_with_one_name_the_lower_id_takes_another() -> None:
    announcer = announced()
    announcer.seen_own_name(record(HIGHER), 7, "other.local.", 10)
    announcer.seen_own_name(record(HIGHER), 7, "other.local.", 11)
    assert drain(announcer) == []
    assert announcer.get_timer() == 10 + YIELD_NS // 2
    announcer.handle_timer(10 + YIELD_NS // 2)
    renamed, register = drain(announcer)
    assert renamed == Renamed(
        instance="Bench (2)", was="Bench", why=f"provider {HIGHER.hex()} has this name"
    )
    assert isinstance(register, Register)
    announcer.registered(3 * NS_PER_S)
    assert announcer.get_timer() is None


@pytest.mark.requirement("DPDP-5-02")
@pytest.mark.parametrize(("dice", "wait"), [(b"\0\0\0\0", 0), (b"\xff" * 4, YIELD_NS - 1)])
def test_it_does_so_after_a_random_time_of_two_seconds_at_most(dice: bytes, wait: int) -> None:
    announcer = announced(entropy=lambda _: dice)
    announcer.seen_own_name(record(HIGHER), 7, "other.local.", 10)
    due = announcer.get_timer()
    assert due is not None
    assert 10 + wait - 1 <= due <= 10 + wait


@pytest.mark.requirement("DPDP-5-02")
def test_the_higher_id_stays_and_says_so_at_once() -> None:
    announcer = announced()
    announcer.seen_own_name(record(LOWER), 7, "other.local.", 10)
    assert drain(announcer) == [
        Update(instance="Bench", advert=ADVERT),
        Contested(instance="Bench", other=LOWER.hex()),
    ]
    announcer.seen_own_name(record(LOWER), 7, "other.local.", 5 * NS_PER_S)
    assert drain(announcer) == [Update(instance="Bench", advert=ADVERT)]
    announcer.seen_own_name(record(LOWER), 7, "other.local.", 10 + MINUTE_NS)
    assert Contested(instance="Bench", other=LOWER.hex()) in drain(announcer)
    announcer.seen_own_name(record(numbered_id(1)), 7, "", 10 + MINUTE_NS)
    assert Contested(instance="Bench", other=numbered_id(1).hex()) in drain(announcer)


@pytest.mark.requirement("DPDP-5-02")
def test_two_sides_agree_on_who_renames() -> None:
    sides = [make(), make()]
    adverts = [ADVERT, replace(ADVERT, id=HIGHER)]
    for side, advert in zip(sides, adverts, strict=True):
        side.want(advert, 0)
        side.registered(0)
    for side, advert in zip(sides, reversed(adverts), strict=True):
        side.seen_own_name(encode_txt(advert), 7, "other.local.", 1)
        side.handle_timer(2 * NS_PER_S)
    assert [side.instance for side in sides] == ["Bench (2)", "Bench"]


@pytest.mark.requirement("DPDP-5-02")
@pytest.mark.parametrize(
    "txt", [b"", b"\xff", record(HIGHER).replace(HIGHER.hex().encode(), b"z" * 32), b"\x02id"]
)
def test_what_is_no_advert_is_no_reason_to_go(txt: bytes) -> None:
    announcer = announced()
    announcer.seen_own_name(txt, 7, "other.local.", 10)
    assert drain(announcer)[-1] == Contested(instance="Bench", other="")
    assert announcer.get_timer() is None


def test_our_own_record_is_no_conflict_and_our_id_elsewhere_is() -> None:
    announcer = announced()
    own = record(ADVERT.id, cap_mw=0)
    announcer.seen_own_name(own, PORT, "LAB.local.", 1)
    announcer.seen_own_name(own, 0, "", 1)
    assert drain(announcer) == []
    announcer.seen_own_name(own, PORT + 1, HOST, 1)
    assert drain(announcer)[-1] == Contested(instance="Bench", other=ID)
    announcer.seen_own_name(own, PORT, "elsewhere.local.", 1)
    assert drain(announcer) == [Update(instance="Bench", advert=ADVERT)]


@pytest.mark.requirement("DPDP-5-02")
def test_a_rogue_that_takes_every_name_ends_in_no_loop() -> None:
    announcer, now, registered, updates = announced(), 0, 0, 0
    while now < 300 * NS_PER_S:
        announcer.seen_own_name(record(HIGHER), 7, "rogue.local.", now)
        announcer.handle_timer(now)
        for event in drain(announcer):
            registered += isinstance(event, Register)
            updates += isinstance(event, Update)
            if isinstance(event, Register):
                announcer.registered(now)
        now += NS_PER_S
    assert registered == ATTEMPTS - 1
    assert updates <= 5 * MOST_UPDATES
    assert announcer.instance == f"Bench {ID[:8]}"


# ---- leaving ------------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-4-03")
def test_draining_says_goodbye_once_and_nothing_after_it() -> None:
    announcer = announced(key=METER)
    announcer.want(with_cap(0), 0)
    announcer.seen_own_name(record(HIGHER), 7, "other.local.", 0)
    drain(announcer)
    announcer.drain(1)
    announcer.drain(1)
    assert drain(announcer) == [Withdraw(instance="Bench")]
    announcer.want(ADVERT, 2)
    announcer.failed(2)
    announcer.refused(2)
    announcer.lost(2)
    announcer.announce_again(2)
    announcer.seen_own_name(record(HIGHER), 7, "other.local.", 2)
    announcer.handle_timer(DAY_NS)
    assert drain(announcer) == []
    assert announcer.get_timer() is None
    assert not announcer.is_registered


@pytest.mark.requirement("DPDP-4-03")
def test_what_is_registered_after_the_end_is_withdrawn() -> None:
    announcer = make()
    announcer.want(ADVERT, 0)
    announcer.drain(1)
    announcer.registered(2)
    assert drain(announcer)[1:] == [Withdraw(instance="Bench")] * 2


def test_who_never_announced_says_no_goodbye() -> None:
    announcer = make()
    announcer.drain(0)
    assert drain(announcer) == []


# ---- misuse -------------------------------------------------------------------------------------


def test_what_cannot_be_announced_changes_nothing() -> None:
    announcer = make()
    for verb in (announcer.registered, announcer.refused, announcer.failed):
        with pytest.raises(LocalProtocolError, match="nothing was to be announced"):
            verb(0)
    with pytest.raises(LocalProtocolError):
        announcer.want(replace(ADVERT, source="not a word"), 0)
    with pytest.raises(LocalProtocolError, match="this key is not that of provider"):
        make(key=SigningKey(bytes(32))).want(ADVERT, 0)
    assert announcer.instance == "Bench"
    announcer.want(ADVERT, 5)
    with pytest.raises(LocalProtocolError, match=f"the id of a provider stays: {ID}, got 0000"):
        announcer.want(replace(ADVERT, id=LOWER), 5)
    for late in (
        lambda: announcer.want(ADVERT, 4),
        lambda: announcer.registered(4),
        lambda: announcer.refused(4),
        lambda: announcer.failed(4),
        lambda: announcer.lost(4),
        lambda: announcer.announce_again(4),
        lambda: announcer.seen_own_name(b"", 7, "", 4),
        lambda: announcer.drain(4),
        lambda: announcer.handle_timer(4),
    ):
        with pytest.raises(LocalProtocolError, match="the clock went back from 5 to 4"):
            late()  # type: ignore[no-untyped-call]
    assert drain(announcer) == [Register(instance="Bench", advert=ADVERT)]
    with pytest.raises(LocalProtocolError, match="a name is up to 63 octets"):
        Announcer("", 0, rating_mw=1, port=1, host=HOST, entropy=bytes)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["want", "registered", "refused", "failed", "lost", "again", "seen", "wait", "drain"]
        ),
        st.integers(0, 36_000),
        st.integers(0, 30 * NS_PER_S),
    ),
    max_size=60,
)


@given(STEPS, st.booleans())
def test_whatever_happens_what_is_announced_can_be_read(
    steps: list[tuple[str, int, int]], is_signed: bool
) -> None:
    announcer, now = make(key=METER if is_signed else None), 0
    announcer.want(ADVERT, 0)
    for verb, number, gap in steps:
        now += gap
        match verb:
            case "want":
                announcer.want(with_cap(number), now)
            case "again":
                announcer.announce_again(now)
            case "seen":
                announcer.seen_own_name(record(numbered_id(number)), 7, "h", now)
            case "wait":
                announcer.handle_timer(now)
            case _:
                getattr(announcer, verb)(now)
        due = announcer.get_timer()
        for event in drain(announcer):
            if isinstance(event, Register | Update):
                assert decode_txt(encode_txt(event.advert)).id == ADVERT.id
        assert due is None or due <= now + DAY_NS
    # no deadline is due for ever
    for _ in range(20):
        due = announcer.get_timer()
        if due is None or due > now:
            break
        announcer.handle_timer(now)
    else:
        pytest.fail("a deadline stays due")
