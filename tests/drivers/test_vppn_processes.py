"""The five actions of `powertcp vppn` as processes, as an employer and an employee would use them."""

import ipaddress
import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from powertcp.profile import PowerProfile
from powertcp.registry import Refusal
from powertcp.vppn.access import Applicant, OverLimit, Rights, Wish, find_rights
from powertcp.vppn.authorized import parse_authorized
from powertcp.vppn.identity import Algorithm, PublicKey
from powertcp.vppn.limits import Period
from powertcp.vppn.revocation import Revocations, parse_revocations

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("\n## vppn\n")[2].partition("\n## ")[0]
Ran = subprocess.CompletedProcess[str]
Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `powertcp vppn` in an empty folder with an open umask: what it makes must be safe still."""
    own = {name: str(tmp_path / "home") for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME")}
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

    def ran(*words: object) -> Ran:
        return subprocess.run(
            [sys.executable, "-m", "powertcp", "vppn", *map(str, words)],
            cwd=tmp_path,
            env=dict(os.environ) | own | {"PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=60,
            umask=0,
        )

    return ran


def key_of(ran: Ran) -> PublicKey:
    assert ran.returncode == 0, ran.stderr
    return PublicKey.parse(ran.stdout.split()[1])


def test_from_a_key_to_a_revoked_certificate(run: Run, tmp_path: Path) -> None:
    lamp = key_of(run("keygen"))
    boss = key_of(run("keygen", "--ca", "--out", "ca.key"))
    assert (lamp.algorithm, boss.algorithm) == (Algorithm.X25519, Algorithm.ED25519)
    for name in ("home/powertcp/identity", "ca.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert key_of(run("show")) == lamp
    words = ("--name", "alice@lamp", "--groups", "staff", "--limits", "max-power=65W")
    signed = run("sign", "--ca", "ca.key", "--subject", lamp, *words)
    assert signed.returncode == 0, signed.stderr
    (tmp_path / "alice.cert").write_text(signed.stdout)
    serial = signed.stdout.split("\n")[1].split()[1]
    assert run("revoke", "--ca", "ca.key", "--krl", "staff.krl").returncode == 0
    watts = tmp_path / "authorized_watts"
    watts.write_text(f"issuer {boss} groups=staff max-power=200W quota=5kWh/day employer\n")
    watts.chmod(0o644)
    files = ("authorized_watts", "alice.cert", "staff.krl")
    checked = run("check", *files, "--json")
    rows = [json.loads(line) for line in checked.stdout.splitlines()]
    assert (checked.returncode, [row["valid"] for row in rows]) == (0, [True] * 3)

    def judged() -> Rights | Refusal:
        found = parse_revocations((tmp_path / "staff.krl").read_bytes(), "staff.krl")
        applicant = Applicant(
            address=ipaddress.ip_address("10.0.0.9"),
            is_sealed=True,
            key=lamp,
            certificate=signed.stdout.encode(),
        )
        file = parse_authorized(watts.read_bytes(), "authorized_watts")
        return find_rights(file, applicant, found.issued_s, Revocations((found,)))

    rights = judged()
    assert isinstance(rights, Rights)
    assert rights.limits.quotas == ((Period.DAY, 18_000_000_000_000),)
    over = Wish(most=PowerProfile.parse("20V/3.3A"), used_uj={Period.DAY: 0})
    refusal = rights.allow(over, 0, OverLimit.REFUSE)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.value, refusal.limit) == (204, 66_000, 65_000)
    assert refusal.rule == f"authorized_watts:1 issuer, certificate {serial}:6"
    assert run("revoke", "--ca", "ca.key", "--krl", "staff.krl", serial).returncode == 0
    revoked = judged()
    assert isinstance(revoked, Refusal)
    assert (revoked.code, revoked.rule) == (203, f"staff.krl:5 serial {serial}")
    assert stat.S_IMODE((tmp_path / "staff.krl").stat().st_mode) == 0o644
    names = {"alice.cert", "authorized_watts", "ca.key", "home", "staff.krl"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_wide_key_and_an_altered_certificate(run: Run, tmp_path: Path) -> None:
    lamp = key_of(run("keygen"))
    key_of(run("keygen", "--ca", "--out", "ca.key"))
    (tmp_path / "ca.key").chmod(0o644)
    words = ("sign", "--ca", "ca.key", "--subject", lamp, "--name", "x")
    refused = run(*words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "powertcp vppn: key file: ca.key: mode 0644, others may use this key: chmod 600 ca.key\n"
    )
    (tmp_path / "ca.key").chmod(0o600)
    text = run(*words, "--limits", "max-power=65W").stdout
    (tmp_path / "x.cert").write_text(text.replace("65W", "66W"))
    checked = run("check", "x.cert")
    assert checked.returncode == 1
    assert checked.stdout.startswith("INVALID  x.cert:9:11: the signature is not that of ed25519:")


def test_lists_that_are_changed_at_once_lose_nothing(run: Run, tmp_path: Path) -> None:
    key_of(run("keygen", "--ca", "--out", "ca.key"))
    with ThreadPoolExecutor() as pool:
        words = ("revoke", "--ca", "ca.key", "--krl", "staff.krl")
        assert {ran.returncode for ran in pool.map(lambda n: run(*words, n), range(1, 7))} == {0}
    found = parse_revocations((tmp_path / "staff.krl").read_bytes(), "staff.krl")
    assert found.serials == tuple(range(1, 7))


def test_a_code_for_a_camera_or_what_to_install(run: Run) -> None:
    run("keygen")
    ran = run("show", "--qr")
    if ran.returncode:
        assert "the QR code needs segno" in ran.stderr
        assert ran.stderr.count("\n") == 1
    else:
        assert ran.stdout.count("\n") > 10


def test_what_readme_shows(run: Run, tmp_path: Path) -> None:
    shown = re.findall(r"^```\n\$ powertcp vppn (.+)\n((?s:.*?))```$", SECTION, re.MULTILINE)
    (watts,) = re.findall(r"^```\n(key (?s:.*?))```$", SECTION, re.MULTILINE)
    (tmp_path / "authorized_watts").write_text(watts)
    (tmp_path / "authorized_watts").chmod(0o644)
    assert [words.split()[0] for words, _ in shown] == ["keygen", "check"]

    def plain(text: str) -> str:
        return re.sub(r"x25519:\S{44}", "KEY", text)

    for words, text in shown:
        assert plain(run(*shlex.split(words)).stdout) == plain(text)
