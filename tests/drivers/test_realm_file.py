"""The file of a realm: made once, for its owner alone; what is wrong with it is said in a sentence."""

import json
import os
from hashlib import blake2s
from pathlib import Path

import pytest

from powertcp.cli.config import ProviderOptions
from powertcp.cli.main import main
from powertcp.cli.provider_daemon import check_realm_stays, office_of, realm_of
from powertcp.crypto import SigningKey
from powertcp.drivers.realm_file import MAX_MEMBERS, Realm, read_realm, write_realm
from powertcp.errors import ConfigError, HostError
from powertcp.potcp.tickets import MEMBER_SHIFT

SECRET = bytes(range(32))
MEMBERS = (("10.0.0.1", 3252), ("10.0.0.2", 4000), ("2001:db8::1", 3252))
WHOLE = Realm("hall", SECRET, MEMBERS)


def write(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return str(path)


def text_of(
    name: str = '"hall"', coded: str = f'"{"A" * 43}="', members: str = '["10.0.0.1", "10.0.0.2"]'
) -> str:
    return f"name = {name}\nsecret = {coded}\nmembers = {members}\n"


@pytest.mark.requirement("DPDP-10-08")
def test_the_keys_are_what_the_draft_says() -> None:
    # BLAKE2s-256 of nothing, keyed by the secret, with a personalization
    assert WHOLE.ticket_key == blake2s(b"", key=SECRET, person=b"tickets").digest()
    assert WHOLE.link_key == blake2s(b"", key=SECRET, person=b"links").digest()
    seed = blake2s(b"", key=SECRET, person=b"meter").digest()
    assert (WHOLE.meter_seed, WHOLE.meter.public) == (seed, SigningKey(seed).public)


def test_a_file_comes_back_and_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "hall.realm"
    write_realm(path, WHOLE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_realm(str(path)) == WHOLE
    with pytest.raises(HostError, match="make the file of a realm"):
        write_realm(path, WHOLE)
    for name in ('a "b" \\ c', "\u00e9\u2603", "x" * 63):
        other = tmp_path / f"{len(name)}.realm"
        write_realm(other, Realm(name, SECRET, MEMBERS))
        assert read_realm(str(other)).name == name


def test_a_member_has_its_place_from_1() -> None:
    assert [WHOLE.number_of(one) for one in ("10.0.0.1", "10.0.0.2:4000", "[2001:db8::1]")] == [
        1, 2, 3,
    ]  # fmt: skip
    for other in ("10.0.0.2", "10.0.0.3"):
        said = "is none of 10.0.0.1:3252, 10.0.0.2:4000, [2001:db8::1]:3252".replace("[", r"\[")
        with pytest.raises(ConfigError, match=said):
            WHOLE.number_of(other)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "name"),
        ("\0", "hall.realm"),
        ("name = ", "hall.realm"),
        (text_of(name='""'), "name"),
        (text_of(name='"' + "x" * 64 + '"'), "name"),
        (text_of(coded='"AAAA"'), "32 octets in base64, got 3"),
        (text_of(coded='"no base64"'), "hall.realm"),
        (text_of(coded="1"), "secret"),
        (text_of(members="[]"), "length >= 2"),
        (text_of(members='["10.0.0.1"]'), "length >= 2"),
        (text_of(members=str([f"10.0.0.{n}" for n in range(MAX_MEMBERS + 1)])), "length <= 16"),
        (text_of(members='["10.0.0.1", "10.0.0.1:3252"]'), "a member is named twice"),
        (text_of(members='["10.0.0.1", ""]'), "hall.realm: members: "),
        (text_of(members='["10.0.0.1", "10.0.0.2:0"]'), "a port of 1..65535"),
        (text_of(members='["10.0.0.1", "10.0.0.2:99999"]'), "99999"),
        (text_of() + "more = 1\n", "more"),
        (text_of() + "#" * 20_000, "at most 16384 octets"),
    ],
)
def test_what_is_no_realm_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "hall.realm", text)
    with pytest.raises(ConfigError, match=said) as caught:
        read_realm(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_that_others_may_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_realm(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="Is a directory"):
        read_realm(str(tmp_path))
    for mode in (0o644, 0o640, 0o601):
        path = write(tmp_path / f"{mode:o}", text_of(), mode)
        with pytest.raises(HostError, match="secret that others may read"):
            read_realm(path)
    assert read_realm(write(tmp_path / "good", text_of())).members == (
        ("10.0.0.1", 3252), ("10.0.0.2", 3252),
    )  # fmt: skip


def test_a_file_in_another_code_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "hall.realm"
    path.write_bytes(b'name = "\xff"\n')
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        read_realm(str(path))


# --- the command line -----------------------------------------------------------------------------


def test_new_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "hall.realm")
    assert main(["realm", "new", path, "10.0.0.1", "10.0.0.2:4000"]) == 0
    made = capsys.readouterr().out
    assert made.splitlines()[1:] == ["  member 1: 10.0.0.1:3252", "  member 2: 10.0.0.2:4000"]
    assert main(["realm", "show", path, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert made.startswith(f"realm hall, id {shown['id']}\n")
    assert shown["members"] == ["10.0.0.1:3252", "10.0.0.2:4000"]
    assert base64_secret(path) not in made + json.dumps(shown)
    assert main(["realm", "new", path, "10.0.0.1", "10.0.0.2"]) != 0
    assert "File exists" in capsys.readouterr().err


def base64_secret(path: str) -> str:
    return Path(path).read_text(encoding="utf-8").split('secret = "')[1].split('"')[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["new", "F", "10.0.0.1"], "2..16 members, got 1"),
        (["new", "F", *[f"10.0.0.{n}" for n in range(17)]], "2..16 members, got 17"),
        (["new", "F", "10.0.0.1", "10.0.0.1:3252"], "a member is named twice"),
        (["new", "F", "10.0.0.1", "10.0.0.2:x"], "10.0.0.2:x"),
        (["new", "F", "10.0.0.1", "10.0.0.2", "--name", "x" * 64], "64"),
        (["show", "F", "10.0.0.1"], "show takes a FILE and nothing else"),
        (["show", "F"], "No such file"),
        (["burn", "F"], "burn"),
    ],
)
def test_wrong_words_end_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    path = str(tmp_path / "hall.realm")
    try:
        status = main(["realm", *[path if word == "F" else word for word in words]])
    except SystemExit as end:
        status = int(end.code or 0)
    assert status == 2
    assert said in capsys.readouterr().err
    assert not os.path.exists(path)


def test_a_provider_is_one_of_a_realm(tmp_path: Path) -> None:
    path = str(tmp_path / "hall.realm")
    write_realm(Path(path), WHOLE)
    given = ProviderOptions(realm=path, member="10.0.0.2:4000")
    found = realm_of(given)
    assert found == (WHOLE, 2)
    assert office_of(found).enrol(None) >> MEMBER_SHIFT == 2  # type: ignore[arg-type]
    assert realm_of(ProviderOptions()) is None
    for options, said in (
        (ProviderOptions(member="10.0.0.1"), "it is one of --realm FILE, which is not given"),
        (ProviderOptions(realm=path), "which of 10.0.0.1:3252, 10.0.0.2:4000"),
        (ProviderOptions(realm=path, member="10.0.0.9"), "10.0.0.9 is none of"),
        (ProviderOptions(realm=path, member="10.0.0.1", ledger=False), "a realm needs one"),
    ):
        with pytest.raises(ConfigError, match=said):
            realm_of(options)
    check_realm_stays(given, given)
    for other in (ProviderOptions(realm=path, member="10.0.0.1"), ProviderOptions()):
        with pytest.raises(ConfigError, match="settled at the start"):
            check_realm_stays(given, other)
