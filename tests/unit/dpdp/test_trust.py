"""Whom to believe: what each level takes, what a handshake must still prove, and what it lacks."""

from dataclasses import replace

import pytest

from powertcp.dpdp.advert import Advert, Offer, provider_id
from powertcp.dpdp.known import KeyKind, KnownProvider, format_key
from powertcp.dpdp.trust import NO_TRUST, Level, Pin, Proof, Shown, Trust
from powertcp.profile import PowerProfile, ProfileType

METER, KEY, SITE, OTHER = (bytes([octet]) * 32 for octet in (1, 2, 3, 4))
ID = provider_id(METER)
ADVERT = Advert(
    id=ID,
    offers=(Offer(offer=PowerProfile.make(ProfileType.OFFER, 12_000, 3_000)),),
    cap_mw=36_000,
    source="grid",
    exchange_key=KEY,
)
CLEAR = replace(ADVERT, exchange_key=None)
ROGUE = replace(ADVERT, exchange_key=OTHER)
STRANGER = replace(ROGUE, id=bytes(16))
KNOWN = KnownProvider(id=ID, first_s=0, last_s=0, meter_key=METER, exchange_key=KEY)
KEY_PIN = Pin("x25519", KEY)
ID_PIN = Pin("id", ID)
KEY_TEXT = format_key(KEY, KeyKind.X25519)
OTHER_TEXT = format_key(OTHER, KeyKind.X25519)


def met(**changes: object) -> dict[bytes, KnownProvider]:
    return {ID: replace(KNOWN, **changes)}  # type: ignore[arg-type]


# ---- what is configured -------------------------------------------------------------------------


@pytest.mark.parametrize("pin", [KEY_PIN, ID_PIN])
def test_a_pin_is_read_back(pin: Pin) -> None:
    assert Pin.parse(str(pin)) == pin


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("7f31a2c4", "a pin is x25519:BASE64 or id:HEX, got '7f31a2c4'"),
        ("id", "a pin is x25519:BASE64 or id:HEX, got 'id'"),
        ("id:7f31a2c4", 'an id has 32 hex digits, got "7f31a2c4"'),
        ("ed25519:AAAA", "a pin is x25519:BASE64 or id:HEX"),
        ("x25519:AAAA", "a key is x25519: and 44 letters"),
    ],
)
def test_what_is_no_pin(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Pin.parse(text)


@pytest.mark.requirement("DPDP-7-08")
def test_the_level_follows_from_what_is_configured() -> None:
    assert Trust.make().level is Level.ANY
    assert Trust.make(pins=[ID_PIN]).level is Level.PINNED
    assert Trust.make(known=met(is_pinned=True)).level is Level.PINNED
    assert Trust.make(known=met()).level is Level.ANY
    assert Trust.make(sites=[SITE]).level is Level.SITE
    assert Trust.make(pins=[KEY_PIN], sites=[SITE]).level is Level.PINNED
    assert Trust.make(Level.ANY, pins=[KEY_PIN], sites=[SITE]).level is Level.ANY
    assert Trust.make(Level.SITE, known=met(is_pinned=True)).level is Level.SITE


@pytest.mark.requirement("DPDP-7-08")
def test_nothing_configured_is_said_and_a_level_asked_for_is_not() -> None:
    assert Trust.make().warning == NO_TRUST
    assert Trust.make(Level.ANY).warning == Trust.make(sites=[SITE]).warning == ""


@pytest.mark.parametrize(
    ("level", "said"), [(Level.PINNED, "needs a pin"), (Level.SITE, "needs its key")]
)
def test_a_level_that_nobody_could_have(level: Level, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Trust.make(level)


def test_levels_are_ordered() -> None:
    assert [level.strength for level in (Level.ANY, Level.SITE, Level.PINNED)] == [0, 1, 2]


# ---- verdicts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("advert", "can_seal", "key"),
    [(ADVERT, True, KEY), (ADVERT, False, None), (CLEAR, True, None)],
)
def test_at_any_the_key_of_the_advert_is_the_one_to_find(
    advert: Advert, can_seal: bool, key: bytes | None
) -> None:
    verdict = Trust.make().judge(advert, can_seal=can_seal)
    assert (verdict.level, verdict.refusal) == (Level.ANY, "")
    assert verdict.proof == Proof(provider=ID, static_key=key)
    assert verdict.proof.is_sealed == (key is not None)


@pytest.mark.requirement("DPDP-5-03", "DPDP-7-07")
def test_a_pinned_key_is_what_must_be_shown() -> None:
    for trust in (
        Trust.make(pins=[KEY_PIN]),
        Trust.make(pins=[ID_PIN], known=met()),
        Trust.make(known=met(is_pinned=True)),
        Trust.make(Level.ANY, pins=[KEY_PIN], sites=[SITE]),
    ):
        for is_suspect in (False, True):
            verdict = trust.judge(ADVERT, is_suspect=is_suspect)
            assert (verdict.level, verdict.refusal) == (Level.PINNED, "")
            assert verdict.proof == Proof(provider=ID, static_key=KEY)
        assert trust.is_pinned(ADVERT)
        # VPPN is never skipped
        assert "no VPPN is configured" in trust.judge(ADVERT, can_seal=False).refusal


@pytest.mark.requirement("DPDP-7-09")
def test_an_advert_with_another_key_or_none_for_the_pinned_one_is_a_downgrade_at_every_level() -> (
    None
):
    for trust in (
        Trust.make(pins=[KEY_PIN], known=met()),
        Trust.make(Level.ANY, pins=[ID_PIN], known=met()),
        Trust.make(sites=[SITE], known=met(is_pinned=True)),
    ):
        verdict = trust.judge(CLEAR)
        assert verdict.is_downgrade
        assert trust.is_downgrade(CLEAR)
        assert verdict.refusal == f"it shows no key, pinned is {KEY_TEXT}"
        other = trust.judge(ROGUE)
        assert other.refusal == f"it shows {OTHER_TEXT}, pinned is {KEY_TEXT}"
        assert other.is_downgrade
        assert trust.is_downgrade(ROGUE)
        assert not trust.is_downgrade(ADVERT)
        assert trust.is_pinned(CLEAR)


def test_of_two_pinned_keys_of_one_provider_each_will_do() -> None:
    trust = Trust.make(pins=[KEY_PIN, Pin("x25519", OTHER)], known=met())
    assert trust.judge(ADVERT).proof.static_key == KEY
    assert trust.judge(ROGUE).proof.static_key == OTHER


@pytest.mark.requirement("DPDP-5-03", "DPDP-7-07")
def test_a_pin_without_a_key_holds_while_nobody_else_has_the_id() -> None:
    trust = Trust.make(pins=[ID_PIN])
    assert trust.judge(CLEAR).proof == Proof(provider=ID, is_id=True)
    verdict = trust.judge(ADVERT)
    assert (verdict.level, verdict.proof) == (
        Level.PINNED,
        Proof(provider=ID, static_key=KEY, is_id=True),
    )
    assert trust.judge(ADVERT, is_suspect=True).refusal == "any, below pinned"
    assert trust.is_pinned(CLEAR)
    assert not trust.is_pinned(STRANGER)


def test_the_meter_that_is_known_for_a_pinned_id_must_be_shown() -> None:
    trust = Trust.make(pins=[ID_PIN], known=met(exchange_key=None))
    proof = trust.judge(CLEAR).proof
    assert proof == Proof(provider=ID, meter_key=METER, is_id=True)
    assert proof.missing(Shown(meter_key=METER)) == ""
    assert proof.missing(Shown()).startswith("its meter is not ed25519:")


@pytest.mark.requirement("DPDP-7-07")
def test_a_site_has_to_certify_every_key() -> None:
    trust = Trust.make(sites=[SITE])
    verdict = trust.judge(ADVERT)
    assert (verdict.level, verdict.refusal) == (Level.SITE, "")
    assert verdict.proof == Proof(provider=ID, static_key=KEY, sites=frozenset([SITE]))
    assert trust.judge(CLEAR).refusal == "any, below site: it shows no key"
    assert trust.judge(ADVERT, can_seal=False).refusal == "any, below site: no VPPN is configured"


def test_at_any_a_site_counts_once_it_has_certified_the_key() -> None:
    known = met(site_key=SITE)
    trust = Trust.make(Level.ANY, sites=[SITE], known=known)
    verdict = trust.judge(ADVERT)
    assert (verdict.level, verdict.proof.sites) == (Level.SITE, frozenset([SITE]))
    assert trust.is_site(ADVERT)
    for advert in (CLEAR, ROGUE, STRANGER):
        assert not trust.is_site(advert)
        assert trust.judge(advert).level is Level.ANY
    assert trust.judge(ADVERT, can_seal=False).level is Level.ANY
    assert not Trust.make(Level.ANY, sites=[OTHER], known=known).is_site(ADVERT)
    assert not Trust.make(known=met()).is_site(ADVERT)
    blank = met(site_key=SITE, exchange_key=None)
    assert not Trust.make(Level.ANY, sites=[SITE], known=blank).is_site(CLEAR)


@pytest.mark.requirement("DPDP-7-07")
def test_who_is_not_pinned_is_below() -> None:
    trust = Trust.make(pins=[KEY_PIN], sites=[SITE])
    for stranger in (STRANGER, replace(STRANGER, exchange_key=None)):
        assert trust.judge(stranger).refusal == "any, below pinned"
    sited = {STRANGER.id: replace(KNOWN, id=STRANGER.id, exchange_key=OTHER, site_key=SITE)}
    assert replace(trust, known=sited).judge(STRANGER).refusal == "site, below pinned"


# ---- proofs -------------------------------------------------------------------------------------

SEALED = Proof(provider=ID, static_key=KEY)
BY_ID = Proof(provider=ID, is_id=True)
CERTIFIED = SEALED._replace(sites=frozenset([SITE]))
OWN = Shown(static_key=KEY, issuer=SITE, subject=KEY)
BY_METER = Shown(static_key=KEY, issuer=SITE, subject=METER, is_meter_key=True, has_signed=True)


@pytest.mark.requirement("DPDP-7-07")
@pytest.mark.parametrize(
    ("proof", "shown", "missing"),
    [
        (Proof(provider=ID), Shown(), ""),
        (Proof(provider=ID), OWN, ""),
        (SEALED, OWN, ""),
        (SEALED, Shown(), f"a VPPN handshake with {KEY_TEXT} is needed"),
        (SEALED, Shown(static_key=OTHER), f"it is {OTHER_TEXT}, not {KEY_TEXT}"),
        (BY_ID, Shown(meter_key=METER), ""),
        (BY_ID, Shown(meter_key=OTHER), "its meter is that of another id"),
        (
            BY_ID,
            Shown(),
            "it shows no meter key, of which its id would be the hash: a pin by key needs none",
        ),
        (BY_ID._replace(static_key=KEY), Shown(static_key=KEY, meter_key=METER, signs=True), ""),
        (
            BY_ID._replace(static_key=KEY),
            Shown(static_key=KEY, meter_key=METER),
            "the meter of its id has not signed the advert with this key",
        ),
        (CERTIFIED, OWN, ""),
        (CERTIFIED, replace(OWN, static_key=OTHER), f"it is {OTHER_TEXT}, not {KEY_TEXT}"),
        (CERTIFIED, Shown(static_key=KEY), "it shows no certificate of a site"),
        (
            CERTIFIED,
            replace(OWN, issuer=OTHER),
            f"{format_key(OTHER, KeyKind.ED25519)} is no site of ours",
        ),
        (CERTIFIED, replace(OWN, subject=OTHER), "its certificate names another key"),
        # the octets of the static key, as those of a meter
        (
            CERTIFIED,
            replace(BY_METER, subject=KEY),
            "its certificate names the meter of another provider",
        ),
        (CERTIFIED, BY_METER, ""),
        (
            CERTIFIED,
            replace(BY_METER, has_signed=False),
            "the meter that is certified has not signed the advert",
        ),
    ],
)
def test_what_a_handshake_lacks(proof: Proof, shown: Shown, missing: str) -> None:
    assert proof.missing(shown) == missing


# ---- who is named by an address -----------------------------------------------------------------


@pytest.mark.requirement("DPDP-8-01", "DPDP-7-07")
def test_who_is_named_by_its_address_proves_what_the_level_asks_for() -> None:
    assert Trust.make(Level.ANY, [ID_PIN]).judge_named(None) is None
    assert Trust.make(pins=[KEY_PIN]).judge_named(KEY) == Proof(b"", KEY)
    assert Trust.make(Level.SITE, sites=[SITE]).judge_named(KEY) == Proof(
        b"", KEY, sites=frozenset({SITE})
    )
    # a pin of discover --pin
    known = met(is_pinned=True)
    assert Trust.make(known=known).judge_named(KEY) == Proof(b"", KEY)
    proof = Trust.make(pins=[ID_PIN, Pin("id", bytes(16))]).judge_named(None)
    assert proof == Proof(b"", is_id=True, ids=frozenset({ID, bytes(16)}))
    assert proof.missing(Shown(meter_key=METER)) == ""
    assert proof.missing(Shown(meter_key=OTHER)) == "its meter is that of another id"
    assert "it shows no meter key" in proof.missing(Shown())


@pytest.mark.requirement("DPDP-8-01", "DPDP-7-07")
@pytest.mark.parametrize(
    ("trust", "key", "said"),
    [
        (Trust.make(pins=[KEY_PIN]), None, "trust is pinned: in clear only"),
        (Trust.make(pins=[KEY_PIN]), OTHER, "no pin names x25519:"),
        (Trust.make(sites=[SITE]), None, "trust is site: in clear only"),
        # a pin with a key is reached by VPPN only
        (Trust.make(known=met(is_pinned=True)), None, "trust is pinned: in clear only"),
    ],
    ids=["clear", "another key", "site in clear", "known by its key"],
)
def test_who_could_prove_nothing_is_not_taken_for_a_place(
    trust: Trust, key: bytes | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        trust.judge_named(key)
