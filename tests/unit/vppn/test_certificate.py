"""Employer certificates: one text, one order, and no octet that can be another."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.errors import InvalidText, LocalProtocolError
from powertcp.vppn.certificate import (
    MAX_OCTETS,
    MAX_VALIDITY_S,
    Certificate,
    issue_certificate,
    parse_certificate,
)
from powertcp.vppn.identity import Algorithm, PublicKey, SecretKey
from powertcp.vppn.limits import Limits
from powertcp.vppn.signed import sign_lines
from tests.certificates import BOSS, CERTIFICATE, LAMP

TEXT = issue_certificate(CERTIFICATE, BOSS)


def signed(*changes: tuple[str, str]) -> bytes:
    """Return the text with changes before it was signed: by an issuer who writes nonsense."""
    body = TEXT.decode()
    for old, new in changes:
        assert old in body
        body = body.replace(old, new)
    return sign_lines(body.split("\n")[:-2], BOSS, b"powertcp cert")


@pytest.mark.requirement("VPPN-5-04")
def test_the_text_is_that_of_the_document() -> None:
    lines = TEXT.decode().split("\n")
    assert lines[:9] == [
        "powertcp-cert 1",
        "serial 4711",
        f"subject {LAMP.public}",
        "name alice@lamp",
        "groups staff",
        "limits max-power=65W voltage=5V-20V quota=2000Wh/day",
        "not-before 2026-11-21T08:00:00Z",
        "not-after 2026-11-21T16:00:00Z",
        f"issuer {BOSS.public}",
    ]
    assert lines[9].startswith("signature ")
    assert lines[10:] == [""]
    assert parse_certificate(TEXT) == CERTIFICATE


@given(
    st.builds(
        Certificate,
        serial=st.integers(1, (1 << 64) - 1),
        subject=st.builds(
            PublicKey, st.sampled_from(Algorithm), st.binary(min_size=32, max_size=32)
        ),
        name=st.sampled_from(["alice@lamp", "é"]),
        groups=st.sampled_from([(), ("staff",), ("staff", "lab")]),
        limits=st.builds(Limits, power_mw=st.none() | st.integers(0, 10**15)),
        not_before_s=st.integers(0, 10**10),
        not_after_s=st.integers(1, MAX_VALIDITY_S),
        issuer=st.just(BOSS.public),
    )
)
def test_a_certificate_and_its_text(drawn: Certificate) -> None:
    given = replace(drawn, not_after_s=drawn.not_before_s + drawn.not_after_s)
    found = parse_certificate(issue_certificate(given, BOSS))
    assert replace(found, limits_line=0) == given


@pytest.mark.requirement("VPPN-5-04")
@given(st.integers(0, len(TEXT) - 1), st.integers(1, 255))
def test_any_altered_octet_is_refused(at: int, change: int) -> None:
    octets = TEXT[:at] + bytes([TEXT[at] ^ change]) + TEXT[at + 1 :]
    with pytest.raises(InvalidText):
        parse_certificate(octets)


@pytest.mark.requirement("VPPN-5-04")
def test_every_flipped_bit_every_cut_and_every_lost_line_is_refused() -> None:
    flipped = [
        TEXT[:at] + bytes([TEXT[at] ^ 1 << bit]) + TEXT[at + 1 :]
        for at in range(len(TEXT))
        for bit in range(8)
    ]
    cut = [TEXT[:size] for size in range(len(TEXT))]
    lines = TEXT.splitlines(keepends=True)
    lost = [b"".join(lines[:at] + lines[at + 1 :]) for at in range(len(lines))]
    swapped = [
        b"".join([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]])
        for at in range(len(lines) - 1)
    ]
    refused = 0
    for octets in [*flipped, *cut, *lost, *swapped]:
        with pytest.raises(InvalidText):
            parse_certificate(octets)
        refused += 1
    assert refused > 9 * len(TEXT)


@pytest.mark.requirement("VPPN-5-04")
@pytest.mark.parametrize(
    ("change", "line", "column", "said"),
    [
        (("cert 1", "cert 2"), 1, 15, "this version reads 1"),
        (("serial", "number"), 2, 1, 'this line is "serial NUMBER", got "number 4711"'),
        (("name alice@lamp", "name alice lamp"), 4, 6, "a name has 1 to 64 signs"),
        (("staff", "a,,b"), 5, 8, "groups: a group has 1 to 64 signs"),
        (("groups", "groupes"), 5, 1, 'this line is "not-before 2026-11-21T08:00:00Z"'),
        (("max-power", "max-watts"), 6, 8, 'unknown word "max-watts"'),
        (("voltage", "groups"), 6, 22, 'unknown word "groups"'),
        (("20V", "20V # less"), 6, 37, "a certificate has no comments"),
        (("not-before 2026-11-21T08:00", "not-before 2026-11-21T08"), 7, 12, "a time is"),
        (("T16:", "T08:"), 8, 11, "it ends before it begins"),
        (
            ("after 2026-11-21", "after 2026-12-22"),
            8,
            11,
            "valid for 2,707,200 s, at most 2,592,000 s",
        ),
        (("issuer ed25519", "issuer x25519"), 9, 8, "a key is ed25519:BASE64"),
    ],
)
def test_a_wrong_line_is_told_even_if_it_is_signed(
    change: tuple[str, str], line: int, column: int, said: str
) -> None:
    with pytest.raises(InvalidText) as caught:
        parse_certificate(signed(change), "alice.cert")
    (fault,) = caught.value.faults
    assert (fault.line, fault.column) == (line, column)
    assert said in fault.text


def test_groups_and_limits_may_be_missing() -> None:
    bare = replace(CERTIFICATE, groups=(), limits=Limits(), limits_line=0)
    assert parse_certificate(issue_certificate(bare, BOSS)) == bare


def test_what_cannot_be_read_is_not_issued() -> None:
    with pytest.raises(LocalProtocolError, match="cannot sign for"):
        issue_certificate(CERTIFICATE, SecretKey(Algorithm.ED25519, bytes(32)))
    long = replace(CERTIFICATE, not_after_s=CERTIFICATE.not_before_s + MAX_VALIDITY_S)
    assert parse_certificate(issue_certificate(long, BOSS)) == long
    with pytest.raises(LocalProtocolError, match="valid for 2,592,001 s, at most"):
        issue_certificate(replace(long, not_after_s=long.not_after_s + 1), BOSS)
    names = tuple(f"group-{number:02}-{'x' * 20}" for number in range(30))
    with pytest.raises(LocalProtocolError, match="octets, at most 1,024: fewer groups or limits"):
        issue_certificate(replace(CERTIFICATE, groups=names), BOSS)


@pytest.mark.requirement("VPPN-5-04")
def test_a_certificate_has_a_greatest_size() -> None:
    room = MAX_OCTETS - len(TEXT)
    octets = signed(("staff", "staff" + ",x" * 30 + f",{'y' * 60}" * 5 + "," + "z" * 64))
    assert len(octets) < MAX_OCTETS
    parse_certificate(octets)
    assert room < 800
    with pytest.raises(InvalidText, match="1,025 octets, at most 1,024"):
        parse_certificate(TEXT + b"x" * (room + 1))
