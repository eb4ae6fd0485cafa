"""Revocation lists: what they take back, who believes them, and no octet that can be another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.errors import InvalidText, LocalProtocolError
from powertcp.registry import Reason
from powertcp.vppn.identity import Algorithm, PublicKey, SecretKey
from powertcp.vppn.limits import parse_moment
from powertcp.vppn.revocation import (
    MAX_VALIDITY_S,
    RevocationList,
    Revocations,
    issue_revocations,
    parse_revocations,
)
from powertcp.vppn.signed import sign_lines
from tests.certificates import BOSS, CERTIFICATE, LAMP

NOW_S = parse_moment("2026-11-21T08:00:00Z")
END_S = NOW_S + MAX_VALIDITY_S
OTHER = SecretKey(Algorithm.ED25519, bytes([9]) * 32)
KEYS = st.builds(PublicKey, st.sampled_from(Algorithm), st.binary(min_size=32, max_size=32))


def listed(*serials: int, keys: tuple[PublicKey, ...] = (), by: SecretKey = BOSS) -> RevocationList:
    return parse_revocations(issue_revocations(by, NOW_S, END_S, serials, keys), "staff.krl")


TEXT = issue_revocations(BOSS, NOW_S, END_S, [4712, 12, 12], [OTHER.public, LAMP.public])


@pytest.mark.requirement("VPPN-5-05")
def test_the_text_is_sorted_and_each_stands_once() -> None:
    assert TEXT.decode().split("\n")[:8] == [
        "powertcp-krl 1",
        f"issuer {BOSS.public}",
        "issued 2026-11-21T08:00:00Z",
        "expires 2026-11-22T08:00:00Z",
        "serial 12",
        "serial 4712",
        f"key {OTHER.public}",
        f"key {LAMP.public}",
    ]
    found = parse_revocations(TEXT, "staff.krl")
    assert (found.line_of_serial(12), found.line_of_serial(4712)) == (5, 6)
    assert (found.line_of_key(OTHER.public), found.line_of_key(LAMP.public)) == (7, 8)
    assert (found.line_of_serial(5), found.line_of_key(BOSS.public)) == (0, 0)
    assert found.line_of_key(None) == 0


@given(st.sets(st.integers(1, (1 << 64) - 1), max_size=4), st.sets(KEYS, max_size=4))
def test_a_list_and_its_text(serials: set[int], keys: set[PublicKey]) -> None:
    found = parse_revocations(issue_revocations(BOSS, NOW_S, END_S, serials, keys), "k")
    assert (set(found.serials), set(found.keys)) == (serials, keys)
    assert (found.issuer, found.issued_s, found.expires_s) == (BOSS.public, NOW_S, END_S)


@pytest.mark.requirement("VPPN-5-05")
@given(st.integers(0, len(TEXT) - 1), st.integers(1, 255))
def test_any_altered_octet_is_refused(at: int, change: int) -> None:
    with pytest.raises(InvalidText):
        parse_revocations(TEXT[:at] + bytes([TEXT[at] ^ change]) + TEXT[at + 1 :], "k")


def test_every_cut_and_every_lost_line_is_refused() -> None:
    lines = TEXT.splitlines(keepends=True)
    lost = [b"".join(lines[:at] + lines[at + 1 :]) for at in range(len(lines))]
    broken = [*(TEXT[:size] for size in range(len(TEXT))), *lost]
    assert len(broken) > 300
    for octets in broken:
        with pytest.raises(InvalidText):
            parse_revocations(octets, "k")


@pytest.mark.requirement("VPPN-5-05")
@pytest.mark.parametrize(
    ("old", "new", "line", "column", "said"),
    [
        ("serial 12", "serial 4712", 6, 8, "serials rise, and 4712 is not the greatest"),
        (f"key {OTHER.public}", f"key {LAMP.public}", 8, 5, "keys rise by their text"),
        ("expires 2026-11-22", "expires 2026-11-21", 4, 9, "it ends before it begins"),
        (
            "expires 2026-11-22T08",
            "expires 2026-11-22T09",
            4,
            9,
            "valid for 90,000 s, at most 86,400 s",
        ),
        ("serial 4712", "series 4712", 6, 1, 'this line is "signature BASE64"'),
    ],
)
def test_a_wrong_line_is_told_even_if_it_is_signed(
    old: str, new: str, line: int, column: int, said: str
) -> None:
    lines = TEXT.decode().replace(old, new, 1).split("\n")[:-2]
    with pytest.raises(InvalidText) as caught:
        parse_revocations(sign_lines(lines, BOSS, b"powertcp krl"), "k")
    assert caught.value.faults[0][:2] == (line, column)
    assert said in str(caught.value)


def test_what_cannot_be_read_is_not_issued() -> None:
    with pytest.raises(LocalProtocolError, match="a key of x25519 signs nothing"):
        issue_revocations(LAMP, NOW_S, END_S, [], [])
    with pytest.raises(LocalProtocolError, match="valid for 86,401 s, at most"):
        issue_revocations(BOSS, NOW_S, END_S + 1, [], [])
    with pytest.raises(LocalProtocolError, match="octets, at most 1,048,576: begin a new issuer"):
        issue_revocations(BOSS, NOW_S, END_S, range(10**18, 10**18 + 41_000), [])


@pytest.mark.requirement("VPPN-5-05")
def test_a_serial_that_was_taken_back() -> None:
    refusal = Revocations((listed(), listed(4711))).judge(CERTIFICATE, NOW_S)
    assert refusal is not None
    assert (refusal.code, refusal.rule) == (Reason.CERT_REVOKED, "staff.krl:5 serial 4711")
    assert Revocations((listed(1),)).judge(CERTIFICATE, NOW_S) is None
    # serials are those of their own issuer
    assert Revocations((listed(4711, by=OTHER),)).judge(CERTIFICATE, NOW_S) is None


@pytest.mark.requirement("VPPN-5-05")
def test_a_key_that_was_taken_back_by_somebody_who_matters() -> None:
    lists = Revocations((listed(), listed(7, keys=(LAMP.public,))))
    refusal = lists.judge_key(LAMP.public, [BOSS.public])
    assert refusal is not None
    assert (refusal.code, refusal.rule) == (
        Reason.CERT_REVOKED,
        f"staff.krl:6 key {LAMP.public}",
    )
    assert lists.judge_key(LAMP.public, [OTHER.public]) is None
    assert lists.judge_key(BOSS.public, [BOSS.public]) is None


@pytest.mark.requirement("VPPN-5-05")
def test_an_expired_list_closes_unless_told_otherwise() -> None:
    lists = (listed(), listed(1))
    assert Revocations(lists).judge(CERTIFICATE, END_S - 1) is None
    refusal = Revocations(lists).judge(CERTIFICATE, END_S)
    assert refusal is not None
    assert refusal.sentence() == (
        "206 POLICY: refused by policy, rule line 4 (staff.krl:4 the list expired"
        " 2026-11-22T08:00:00Z, krl-fail=closed)"
    )
    assert Revocations(lists, is_open=True).judge(CERTIFICATE, END_S) is None
    # what it took back stays taken back
    refusal = Revocations((listed(4711),), is_open=True).judge(CERTIFICATE, END_S)
    assert refusal is not None
    assert refusal.code == Reason.CERT_REVOKED


@pytest.mark.requirement("VPPN-5-05")
def test_an_unreadable_list_closes_what_no_other_list_is_about() -> None:
    refusal = Revocations((), ("a.krl", "b.krl")).judge(CERTIFICATE, NOW_S)
    assert refusal is not None
    assert (refusal.code, refusal.value) == (Reason.POLICY, 1)
    assert refusal.rule == "a.krl, b.krl:1 the list cannot be read, krl-fail=closed"
    assert Revocations((listed(),), ("b.krl",)).judge(CERTIFICATE, NOW_S) is None
    assert Revocations((), ("a.krl",), is_open=True).judge(CERTIFICATE, NOW_S) is None
    assert Revocations().judge(CERTIFICATE, NOW_S) is None
