"""`powertcp vppn`: five actions on files as people leave them; each refusal says what to do."""

import fcntl
import io
import json
import os
import re
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from powertcp.cli.keys import locked, make_key, read_key, replace_file
from powertcp.cli.main import main
from powertcp.errors import ConfigError, HostError
from powertcp.store import write_secret
from powertcp.units import NS_PER_S
from powertcp.vppn.certificate import issue_certificate, parse_certificate
from powertcp.vppn.identity import Algorithm, SecretKey
from powertcp.vppn.limits import Limits
from powertcp.vppn.revocation import issue_revocations, parse_revocations
from tests.certificates import BOSS, CERTIFICATE, LAMP

Run = Callable[..., tuple[int, str, str]]
NOW_S = CERTIFICATE.not_before_s + 60


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(time, "time_ns", lambda: NOW_S * NS_PER_S + 1)
    return tmp_path


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    assert home.is_dir()

    def ran(*words: object) -> tuple[int, str, str]:
        status = main(["vppn", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return ran


@pytest.fixture
def ca(home: Path) -> Path:
    make_key(home / "ca.key", BOSS)
    return home / "ca.key"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def only(text: str) -> dict[str, Any]:
    (line,) = text.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


# ---- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "an ACTION is needed: keygen, show, sign, revoke, codes, redeem, check"),
        (("--json",), "an ACTION is needed"),
        (("sing",), 'did you mean "sign"?'),
        (("keygen", "x"), 'keygen takes no word, got "x"'),
        (("keygen", "--ca"), "keygen --ca needs --out FILE"),
        (("keygen", "--ca", "x"), 'keygen --ca takes no FILE, got "x": --out names the file'),
        (("keygen", "--qr"), "--qr is for show, not for keygen"),
        (("show", "--hours", "8"), "--hours is for sign and codes, not for show"),
        (("sign",), "sign needs --ca"),
        (("sign", "--ca"), "--ca needs the key file of the employer"),
        (("sign", "--ca", "x"), "sign needs --subject"),
        (("sign", "--ca", "x", "--subject", "y"), "sign needs --name"),
        (("revoke", "--ca", "x", "4711"), "revoke needs --krl"),
        (("check",), "check needs a FILE"),
        (("codes", "--ca", "x", "--codes", "y"), "codes needs --name"),
        (("redeem", "--ca", "x", "--codes", "y", "--subject", "z", "a", "b"), "takes one CODE"),
        (("check", "f", "--ca", "x"), "--ca is for sign, revoke, codes and redeem, not for check"),
        (("check", "--jsn"), 'did you mean "--json"?'),
    ],
)
def test_wrong_words_are_one_line(run: Run, words: tuple[str, ...], said: str) -> None:
    status, out, errors = run(*words)
    assert (status, out) == (2, "")
    assert said in errors
    assert errors.count("\n") == 1


# ---- keygen, show -------------------------------------------------------------------------------


def test_an_identity_is_made_once_for_its_owner_alone(run: Run, home: Path) -> None:
    status, out, _ = run("keygen")
    path = home / "config" / "powertcp" / "identity"
    assert (status, mode(path), mode(path.parent)) == (0, 0o600, 0o700)
    key = read_key(path, Algorithm.X25519)
    assert out == f"identity  {key.public}  {path}\n"
    assert run("show")[1] == out
    status, out, errors = run("keygen")
    assert (status, out) == (2, "")
    assert errors == (
        f"powertcp vppn: key file: {path}: there is a file already; move it away,"
        " or name another with --out\n"
    )
    assert read_key(path, Algorithm.X25519) == key
    assert [each.name for each in path.parent.iterdir()] == ["identity"]


def test_two_keys_differ(run: Run, home: Path) -> None:
    keys = {only(run("keygen", "--json", "--out", home / name)[1])["key"] for name in ("a", "b")}
    assert len(keys) == 2
    assert only(run("show", "--json", "--key", home / "a")[1])["key"] in keys


def test_the_key_of_an_employer(run: Run, home: Path) -> None:
    said = only(run("keygen", "--ca", "--out", home / "ca.key", "--json")[1])
    assert said["role"] == "issuer"
    assert said["key"].startswith("ed25519:")
    status, _, errors = run("show", "--key", home / "ca.key")
    assert status == 2
    assert "it holds a key of ed25519; a key of x25519 is needed" in errors


def test_meters_of_this_user_are_shown(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("keygen")
    folder = home / "state" / "powertcp" / "provider"
    folder.mkdir(parents=True)
    write_secret(folder / "meter.key", BOSS.octets)
    rows = [json.loads(line) for line in run("show", "--json")[1].splitlines()]
    assert [row["role"] for row in rows] == ["identity", "meter"]
    assert rows[1] == {
        "role": "meter", "key": str(BOSS.public), "file": str(folder / "meter.key"),
    }  # fmt: skip
    for place, count in ((folder, 2), (home, 1)):
        monkeypatch.setenv("STATE_DIRECTORY", f"{place}:/elsewhere")
        assert run("show")[1].count("\n") == count
    monkeypatch.delenv("STATE_DIRECTORY")
    (folder / "meter.key").chmod(0o644)
    status, _, errors = run("show")
    assert (status, "a secret that others may read" in errors) == (2, True)


@pytest.mark.requirement("VPPN-5-06")
def test_a_key_that_others_may_use_is_refused(run: Run, home: Path) -> None:
    make_key(home / "key", LAMP)
    for wide in (0o640, 0o604, 0o610, 0o666):
        (home / "key").chmod(wide)
        status, out, errors = run("show", "--key", home / "key")
        assert (status, out) == (2, "")
        assert f"mode {wide:04o}, others may use this key: chmod 600 {home / 'key'}" in errors
    (home / "key").chmod(0o400)
    assert run("show", "--key", home / "key")[0] == 0


def test_files_that_are_no_keys_say_what_to_do(run: Run, home: Path) -> None:
    assert "there is no key; powertcp vppn keygen --out FILE makes one" in run("show")[2]
    missing = ("sign", "--ca", home / "no", "--subject", LAMP.public, "--name", "x")
    assert "powertcp vppn keygen --ca --out FILE makes one" in run(*missing)[2]
    os.mkfifo(home / "pipe", 0o600)
    assert "it is no file" in run("show", "--key", home / "pipe")[2]
    assert "Is a directory" in run("show", "--key", home)[2] or os.getuid() >= 0
    (home / "text").write_text("x" * 300)
    (home / "text").chmod(0o600)
    assert "it holds no key; a key of x25519 is needed" in run("show", "--key", home / "text")[2]
    (home / "loop").symlink_to("loop")
    assert "cannot read a key" in run("show", "--key", home / "loop")[2]
    status, _, errors = run("keygen", "--out", home / "text" / "key")
    assert (status, "cannot write a key" in errors or "already" in errors) == (2, True)


def test_files_are_replaced_whole_or_not_at_all(home: Path) -> None:
    path = home / "list"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert (path.read_bytes(), mode(path) & 0o077 & ~0o044) == (b"two", 0)
    folder = home / "folder"
    (folder / "x").mkdir(parents=True)
    with pytest.raises(HostError, match="cannot lock a file"), locked(home / "none"):
        pass
    with pytest.raises(HostError, match="cannot write a file"):
        replace_file(folder, b"three")
    with pytest.raises(HostError, match="cannot write a file"):
        replace_file(home / "none" / "list", b"three")
    (home / f".key.{os.getpid()}.part").write_text("left by a crash")
    make_key(home / "key", LAMP)
    with pytest.raises(ConfigError):
        make_key(home / "key", LAMP)
    assert sorted(each.name for each in home.iterdir()) == ["folder", "key", "list"]


def test_a_code_for_a_camera_needs_the_extra(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key(home / "key", LAMP)
    monkeypatch.setitem(sys.modules, "segno", None)
    status, out, errors = run("show", "--qr", "--key", home / "key")
    assert (status, out) == (2, "")
    assert errors == (
        'powertcp vppn: command line: --qr: the QR code needs segno: pip install "powertcp[web]"\n'
    )


# ---- sign ---------------------------------------------------------------------------------------


def signing(ca: Path, *words: str) -> tuple[object, ...]:
    return ("sign", "--ca", ca, "--subject", LAMP.public, "--name", "alice@lamp", *words)


def test_a_certificate_for_one_shift(run: Run, ca: Path) -> None:
    limits = "max-power=65W voltage=5V-20V quota=2kWh/day"
    status, out, _ = run(*signing(ca, "--groups", "staff", "--limits", limits))
    found = parse_certificate(out.encode())
    expected = replace(
        CERTIFICATE,
        serial=found.serial,
        not_before_s=NOW_S,
        not_after_s=NOW_S + 8 * 3600,
    )
    assert (status, found) == (0, expected)
    said = only(run(*signing(ca, "--hours", "720", "--json"))[1])
    other = parse_certificate(said["certificate"].encode())
    assert (other.serial, other.not_after_s) == (said["serial"], said["not_after_s"])
    assert other.not_after_s == NOW_S + 720 * 3600
    assert other.serial != found.serial
    assert (other.groups, other.limits) == ((), Limits())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--hours", "0"), '--hours is 1 to 720 h, got "0"'),
        (("--hours", "721"), '--hours is 1 to 720 h, got "721"'),
        (("--hours", "1.5"), '--hours is 1 to 720 h, got "1.5"'),
        (("--limits", "max-watts=1W"), 'unknown word "max-watts", did you mean "max-power"?'),
        (("--limits", "max-power=1W # x"), "a certificate has no comments"),
        (("--groups", "a b"), "a group has 1 to 64 signs"),
        (("--name", "a b"), "a name has 1 to 64 signs"),
        (("--subject", "x25519:AA"), "44 letters of base64, got 2"),
        (("--groups", ",".join("x" * 60 + str(n) for n in range(20))), "octets, at most 1,024"),
    ],
)
def test_what_cannot_be_signed(run: Run, ca: Path, words: tuple[str, str], said: str) -> None:
    status, out, errors = run(*signing(ca, *words))
    assert (status, out) == (2, "")
    assert said in errors
    assert errors.count("\n") == 1


# ---- revoke -------------------------------------------------------------------------------------


def test_a_list_is_made_added_to_and_signed_anew(
    run: Run, home: Path, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "staff.krl"
    taking = ("revoke", "--ca", ca, "--krl", path)
    status, out, _ = run(*taking, 4711, 12, LAMP.public, 12)
    assert (status, out) == (
        0, f"{path}: 3 revoked, 3 of them new, expires 2026-11-22T08:01:00Z\n",
    )  # fmt: skip
    monkeypatch.setattr(time, "time_ns", lambda: (NOW_S + 3600) * NS_PER_S)
    said = only(run(*taking, "--json", 12, 13)[1])
    assert said == {
        "file": str(path), "revoked": 4, "added": 1, "expires_s": NOW_S + 25 * 3600,
    }  # fmt: skip
    assert "4 revoked, 0 of them new" in run(*taking)[1]
    found = parse_revocations(path.read_bytes(), "k")
    assert (found.serials, found.keys) == ((12, 13, 4711), (LAMP.public,))


def test_what_cannot_be_revoked(run: Run, home: Path, ca: Path) -> None:
    path = home / "staff.krl"
    taking = ("revoke", "--ca", ca, "--krl", path)
    for word, said in (("0", "a serial is a number"), ("x25519:A", "44 letters")):
        status, _, errors = run(*taking, word)
        assert (status, said in errors, path.exists()) == (2, True, False)
    other = SecretKey(Algorithm.ED25519, bytes([3]) * 32)
    octets = issue_revocations(other, NOW_S, NOW_S + 60, [], [])
    path.write_bytes(octets)
    status, _, errors = run(*taking, 1)
    assert status == 2
    assert f"it is of {other.public}, and the key of --ca is {BOSS.public}" in errors
    path.write_bytes(octets[:-9])
    assert run(*taking, 1)[0] == 2
    assert path.read_bytes() == octets[:-9]


def test_a_list_has_a_greatest_size(run: Run, home: Path, ca: Path) -> None:
    path = home / "staff.krl"
    path.write_bytes(issue_revocations(BOSS, NOW_S, NOW_S + 60, range(10**18, 10**18 + 38_000), []))
    serials = range(2 * 10**18, 2 * 10**18 + 4_000)
    status, _, errors = run("revoke", "--ca", ca, "--krl", path, *serials)
    assert (status, "octets, at most 1,048,576" in errors) == (2, True)


# ---- check --------------------------------------------------------------------------------------


def test_valid_files_of_each_kind(run: Run, home: Path) -> None:
    (home / "watts").write_text(f"key {LAMP.public} max-power=65W alice\nclear deny\n")
    (home / "one").write_text("clear deny\n")
    (home / "a.cert").write_bytes(issue_certificate(CERTIFICATE, BOSS))
    (home / "k.krl").write_bytes(issue_revocations(BOSS, NOW_S - 1, NOW_S + 1, [7], []))
    for each in home.iterdir():
        each.chmod(0o644)
    status, out, _ = run("check", *(home / name for name in ("watts", "one", "a.cert", "k.krl")))
    assert status == 0
    assert out.splitlines() == [
        f"VALID  {home / 'watts'}: authorized_watts, 2 rules",
        f"VALID  {home / 'one'}: authorized_watts, 1 rule",
        f"VALID  {home / 'a.cert'}: certificate 4711 of alice@lamp until 2026-11-21T16:00:00Z",
        f"VALID  {home / 'k.krl'}: revocation list of 1 until 2026-11-21T08:01:01Z",
    ]


def test_broken_files_name_line_and_column(run: Run, home: Path) -> None:
    path = home / "watts"
    path.write_text("gest max-power=1W\nclear deny\nguest max-power=1\n")
    path.chmod(0o644)
    status, out, _ = run("check", path)
    assert status == 1
    first, second = out.splitlines()
    assert first.startswith(f"INVALID  {path}:1:1: a line begins with key, issuer, guest or clear")
    assert second.startswith(f"INVALID  {path}:3:17: max-power: a power needs a number and a unit")
    said = only(run("check", "--json", path)[1])
    assert (said["kind"], said["valid"]) == ("authorized_watts", False)
    assert [(row["line"], row["column"]) for row in said["faults"]] == [(1, 1), (3, 17)]


def test_price_lists_are_said_since_a_daemon_has_one_or_none(run: Run, home: Path) -> None:
    path = home / "watts"
    path.write_text("clear tariff=staff\nguest max-power=9W tariff=staff\n")
    path.chmod(0o644)
    status, out, _ = run("check", path)
    said = "authorized_watts, 2 rules, for a provider whose --tariff is staff and for no gateway"
    assert (status, out) == (0, f"VALID  {path}: {said}\n")
    assert only(run("check", "--json", path)[1])["text"] == said
    path.write_text("clear tariff=staff\nguest max-power=9W tariff=hall\n")
    status, out, _ = run("check", path)
    text = 'no daemon has both "staff" and "hall" as its price list'
    assert (status, out) == (1, f"INVALID  {path}:2:20: {text}\n")


def test_a_file_that_others_may_write(run: Run, home: Path) -> None:
    path = home / "watts"
    path.write_text("clear deny\n")
    path.chmod(0o664)
    status, out, _ = run("check", path)
    assert (status, f"mode 0664, others may write who draws power: chmod go-w {path}" in out) == (
        1, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("now_s", "bare", "place", "said"),
    [
        (CERTIFICATE.not_after_s, False, "8:11", "202 CERT_EXPIRED: certificate 4711 not-after"),
        (CERTIFICATE.not_before_s - 1, False, "7:12", "4711 not valid before 2026-11-21T08:00:00Z"),
        (CERTIFICATE.not_after_s, True, "6:11", "not-after 2026-11-21T16:00:00Z"),
        (CERTIFICATE.not_before_s - 1, True, "5:12", "not valid before"),
    ],
)
def test_a_certificate_out_of_its_time(
    run: Run,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    now_s: int,
    bare: bool,
    place: str,
    said: str,
) -> None:
    own = replace(CERTIFICATE, groups=(), limits=Limits()) if bare else CERTIFICATE
    (home / "a.cert").write_bytes(issue_certificate(own, BOSS))
    monkeypatch.setattr(time, "time_ns", lambda: now_s * NS_PER_S)
    status, out, _ = run("check", home / "a.cert")
    assert status == 1
    assert out.startswith(f"INVALID  {home / 'a.cert'}:{place}: ")
    assert said in out


def test_a_list_that_expired_and_texts_that_were_altered(run: Run, home: Path) -> None:
    path = home / "staff.krl"
    octets = issue_revocations(BOSS, NOW_S - 60, NOW_S, [7], [])
    path.write_bytes(octets)
    assert ":4:9: it expired 2026-11-21T08:01:00Z; powertcp vppn revoke" in run("check", path)[1]
    path.write_bytes(octets.replace(b"serial 7", b"serial 8"))
    assert f":6:11: the signature is not that of {BOSS.public}" in run("check", path)[1]
    path.write_bytes(issue_certificate(CERTIFICATE, BOSS).replace(b"65W", b"66W"))
    status, out, _ = run("check", "--json", path)
    assert (status, only(out)["kind"]) == (1, "certificate")


def test_nothing_of_a_secret_is_printed(run: Run, ca: Path) -> None:
    status, out, errors = run("check", ca)
    assert (status, errors) == (1, "")
    assert "it is a secret key; powertcp vppn show --key FILE prints its public half" in out
    assert BOSS.format().split(":")[1][:8] not in out


def test_a_file_that_is_not_there(run: Run, home: Path) -> None:
    status, out, errors = run("check", home / "none")
    assert (status, out) == (2, "")
    assert "No such file or directory" in errors


# ---- codes, redeem ------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-9-01")
def test_a_code_is_redeemed_once_for_a_certificate(run: Run, ca: Path, home: Path) -> None:
    file = home / "guests.codes"
    words = ("--ca", ca, "--codes", file)
    limits = ("--limits", "max-power=10W voltage=5V-12V", "--groups", "guests", "--hours", "4")
    status, out, said = run("codes", *words, "--name", "guest", "--count", "2", *limits)
    first, second = out.split()
    assert (status, said[:7]) == (0, "2 codes")
    # nobody who reads the file has a code
    assert first not in file.read_text()
    assert first.replace("-", "") not in file.read_text()
    # as a person types it
    typed = first.lower().replace("-", " ")
    status, out, _ = run("redeem", *words, "--subject", LAMP.public, typed)
    found = parse_certificate(out.encode())
    assert (status, found.groups) == (0, ("guests",))
    assert re.fullmatch("guest-[0-9a-f]{12}", found.name)
    assert (found.subject, found.issuer) == (LAMP.public, BOSS.public)
    assert found.limits.power_mw == 10_000
    assert found.not_after_s - found.not_before_s == 4 * 3_600
    status, out, said = run("redeem", *words, "--subject", LAMP.public, first)
    assert (status, out, said) == (1, "", "powertcp vppn: the code was redeemed before\n")
    status, out, _ = run("redeem", *words, "--subject", LAMP.public, second, "--json")
    assert (status, json.loads(out)["not_after_s"]) == (0, NOW_S + 4 * 3_600)


@pytest.mark.requirement("DPDP-9-01")
@pytest.mark.parametrize("words", [(), ("-",)])
def test_a_code_comes_by_standard_input(
    run: Run, ca: Path, home: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    told = ("--ca", ca, "--codes", home / "guests.codes")
    code = run("codes", *told, "--name", "guest")[1]
    redeeming = ("redeem", *told, "--subject", LAMP.public, *words)
    for octets, status, said in (
        (b"", 1, "a code is four groups"),
        (b"\xff" * 1_000, 1, "a code is four groups"),
        (code.replace("-", " ").replace("\n", "\r\nAAAA").encode(), 0, ""),
        (code.encode(), 1, "the code was redeemed before"),
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(octets)))
        done, _, heard = run(*redeeming)
        assert (done, said in heard) == (status, True), heard


def test_wrong_codes_of_one_lock_nobody_out_and_change_nothing(
    run: Run, ca: Path, home: Path
) -> None:
    words = ("--ca", ca, "--codes", home / "guests.codes")
    _, out, _ = run("codes", *words, "--name", "guest")
    before = (home / "guests.codes").read_bytes()
    wrong = ("redeem", *words, "--subject", LAMP.public, "AAAA-AAAA-AAAA-AAAA")
    assert {run(*wrong) for _ in range(20)} == {(1, "", "powertcp vppn: no such code\n")}
    assert (home / "guests.codes").read_bytes() == before
    assert run("redeem", *words, "--subject", LAMP.public, out.strip())[0] == 0


def test_no_two_guests_share_a_name(
    run: Run, ca: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def taken(file: str) -> None:
        words = ("--ca", ca, "--codes", home / file)
        for code in run("codes", *words, "--name", "guest", "--count", "2")[1].split():
            _, out, _ = run("redeem", *words, "--subject", LAMP.public, code)
            names.append(parse_certificate(out.encode()).name)

    taken("guests.codes")
    taken("other.codes")
    # those that have lapsed leave the file
    monkeypatch.setattr(time, "time_ns", lambda: (NOW_S + 31 * 24 * 3_600) * NS_PER_S)
    taken("guests.codes")
    assert (home / "guests.codes").read_text().count("\n") == 2
    assert len(set(names)) == len(names) == 6


def test_a_code_waits_for_its_turn_whichever_key_signs_and_by_whatever_name(
    run: Run, ca: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, link = home / "guests.codes", home / "link"
    held: list[bool] = []

    def looked(path: Path, octets: bytes) -> None:
        with (home / "guests.codes.lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(path == file)
        replace_file(path, octets)

    monkeypatch.setattr("powertcp.cli.vouchers.replace_file", looked)
    first, second = run(
        "codes", "--ca", ca, "--codes", file, "--name", "guest", "--count", "2"
    )[1].split()  # fmt: skip
    assert mode(home / "guests.codes.lock") == 0o600
    make_key(home / "copy.key", BOSS)
    link.symlink_to(file)
    for key, name, code in ((home / "copy.key", file, first), (ca, link, second)):
        words = ("redeem", "--ca", key, "--codes", name, "--subject", LAMP.public)
        assert run(*words, code)[0] == 0
        assert run(*words, code)[0] == 1
    assert held == [True] * 3
    assert link.is_symlink()


def test_a_file_of_codes_that_is_not_there_is_not_made(run: Run, ca: Path, home: Path) -> None:
    words = ("redeem", "--ca", ca, "--codes", home / "gests.codes", "--subject", LAMP.public)
    assert run(*words, "AAAA-AAAA-AAAA-AAAA") == (
        2, "", f"powertcp vppn: command line: --codes: no such file: {home / 'gests.codes'}\n",
    )  # fmt: skip
    assert [each.name for each in home.iterdir()] == ["ca.key"]


def test_what_cannot_be_a_certificate_is_no_code_and_a_wrong_subject_costs_none(
    run: Run, ca: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home / "guests.codes"
    words = ("--ca", ca, "--codes", file)
    for more, said in (
        (("--name", "a b"), "a name has 1 to 64 signs"),
        (("--name", "a" * 52), "a name has 1 to 64 signs"),
        (("--name", "guest", "--limits", "max-power=much"), "max-power"),
        (("--name", "guest", "--count", "0"), "1 to 1,000, got 0"),
        (("--name", "guest", "--hours", "0"), "--hours is 1 to 720 h"),
    ):
        status, _, heard = run("codes", *words, *more)
        assert (status, said in heard) == (2, True), heard
    assert not file.exists()
    code = run("codes", *words, "--name", "guest")[1].strip()
    assert run("redeem", *words, "--subject", "x25519:AAAA", code)[0] == 2
    assert run("redeem", *words, "--subject", LAMP.public, "guest")[2] == (
        "powertcp vppn: a code is four groups of four signs, A to Z and 2 to 7\n"
    )
    later = NOW_S + 30 * 24 * 3_600
    monkeypatch.setattr(time, "time_ns", lambda: later * NS_PER_S)
    assert "has expired" in run("redeem", *words, "--subject", LAMP.public, code)[2]
    file.write_text("code what\n")
    assert "line 1" in run("redeem", *words, "--subject", LAMP.public, code)[2]
