"""The files that say who may draw what: read whole, with a place for each fault."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from powertcp.drivers.authority import AuthorityConfig, InvalidFile, read_authority
from powertcp.registry import Reason
from powertcp.vppn.certificate import Certificate, issue_certificate, parse_certificate
from powertcp.vppn.identity import Algorithm, PublicKey, SecretKey
from powertcp.vppn.limits import Limits
from powertcp.vppn.revocation import issue_revocations

NOON_S = 1_795_262_400
CA = SecretKey(Algorithm.ED25519, bytes([7]) * 32)


@pytest.fixture
def config(tmp_path: Path) -> AuthorityConfig:
    path = tmp_path / "authorized_watts"
    path.write_text("clear max-power=65W\n")
    path.chmod(0o644)
    return AuthorityConfig(authorized=str(path))


def staff() -> Certificate:
    made = Certificate(
        serial=1, subject=PublicKey(Algorithm.X25519, bytes(32)), name="alice", groups=(),
        limits=Limits(), not_before_s=NOON_S, not_after_s=NOON_S + 60, issuer=CA.public,
    )  # fmt: skip
    return parse_certificate(issue_certificate(made, CA))


def fault(config: AuthorityConfig, *, is_start: bool = True) -> str:
    with pytest.raises(InvalidFile) as caught:
        read_authority(config, is_start=is_start)
    return str(caught.value).replace(f"{Path(config.authorized).parent}/", "")


def write(config: AuthorityConfig, text: str) -> None:
    Path(config.authorized).write_text(text)


def test_a_file_that_others_may_write_is_none(config: AuthorityConfig) -> None:
    Path(config.authorized).chmod(0o664)
    assert fault(config).startswith("authorized_watts:1:1: mode 0664, others may write who draws")


def test_a_pipe_is_no_file(config: AuthorityConfig) -> None:
    Path(config.authorized).unlink()
    os.mkfifo(config.authorized)
    assert fault(config) == "authorized_watts:1:1: it is no file"


@pytest.mark.requirement("VPPN-5-01")
def test_every_fault_is_counted_and_the_first_has_its_place(config: AuthorityConfig) -> None:
    write(config, "clear max-power=1W\nguest max-pover=1W\nnobody deny\n")
    assert fault(config).startswith('authorized_watts:2:7: unknown word "max-pover"')
    assert fault(config).endswith("(and 1 more)")


def test_a_limit_that_nobody_keeps_is_a_fault(config: AuthorityConfig) -> None:
    write(config, "clear max-power=1W tariff=staff quota=1Wh/day\n")
    night = replace(config, tariff="night", has_ledger=False)
    assert fault(night) == (
        'authorized_watts:1:20: no price list here is named "staff": that of --tariff is "night"'
        " (and 1 more)"
    )
    assert read_authority(replace(config, tariff="staff"), is_start=True).watts.rules


@pytest.mark.requirement("VPPN-5-05")
def test_a_list_may_be_missing_at_the_start_only(config: AuthorityConfig, tmp_path: Path) -> None:
    krl = tmp_path / "krl"
    listed = replace(config, krls=(str(krl),))
    found = read_authority(listed, is_start=True)
    refusal = found.revocations.judge(staff(), NOON_S)
    assert refusal is not None
    assert (refusal.code, refusal.rule) == (
        Reason.POLICY, f"{krl}:1 the list cannot be read, krl-fail=closed",
    )  # fmt: skip
    opened = read_authority(replace(listed, is_krl_open=True), is_start=True)
    assert opened.revocations.judge(staff(), NOON_S) is None
    assert fault(listed, is_start=False) == "krl:1:1: No such file or directory"
    krl.write_bytes(issue_revocations(CA, NOON_S, NOON_S + 60, [1], []))
    revoked = read_authority(listed, is_start=False).revocations.judge(staff(), NOON_S)
    assert revoked is not None
    assert revoked.code == Reason.CERT_REVOKED
    krl.write_bytes(krl.read_bytes().replace(b"serial 1", b"serial 2"))
    for is_start in (True, False):
        assert fault(listed, is_start=is_start).startswith("krl:6:11: the signature is not that")
