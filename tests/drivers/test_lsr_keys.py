"""The locked cabinet: keys of links are for their owner alone, and needed where others can reach."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from powertcp.drivers.lsr_keys import (
    MAX_FILE_OCTETS,
    MAX_KEYS,
    MAX_SECRET,
    check_keyless,
    read_link_keys,
)
from powertcp.errors import ConfigError, HostError
from powertcp.mplamps.rsvp.integrity import MAX_KEY_ID, MIN_SECRET


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.requirement("MPLA-4.10-01")
def test_the_first_key_signs_and_all_are_taken(tmp_path: Path) -> None:
    one, other = "11" * MIN_SECRET, "22" * MAX_SECRET
    path = written(tmp_path, f"# of 2002\n{MAX_KEY_ID} {one}  # in use\n\n1 {other}\n")
    keys = read_link_keys(path)
    assert keys.key == (MAX_KEY_ID, bytes.fromhex(one))
    assert keys.secrets == {MAX_KEY_ID: bytes.fromhex(one), 1: bytes.fromhex(other)}


@pytest.mark.requirement("MPLA-4.10-01")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610, 0o601])
def test_keys_that_others_may_use_are_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, "1 " + "11" * 16, mode)
    with pytest.raises(ConfigError, match=rf"mode {mode:04o}.*chmod 600"):
        read_link_keys(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1 to 16 keys, got 0"),
        ("# nothing\n", "1 to 16 keys, got 0"),
        ("".join(f"{n} {'11' * 16}\n" for n in range(1, MAX_KEYS + 2)), "got 17"),
        ("1", ":1: a key is a number and a secret"),
        (f"\n0 {'11' * 16}", ":2: a key has a number"),
        (f"{MAX_KEY_ID + 1} {'11' * 16}", "a key has a number"),
        (f"one {'11' * 16}", "got one"),
        ("1 " + "11" * (MIN_SECRET - 1), "this one 15"),
        ("1 " + "11" * (MAX_SECRET + 1), "this one 65"),
        ("1 secret", "not hexadecimal"),
        (f"1 {'11' * 16}\n1 {'22' * 16}", ":2: a second key 1"),
        ("#" * (MAX_FILE_OCTETS + 1), "at most 16,384 octets"),
    ],
)
def test_what_are_no_keys_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_link_keys(written(tmp_path, text))
    assert said in str(raised.value)
    assert "11111" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No such file"):
        read_link_keys(tmp_path / "absent")
    with pytest.raises(ConfigError, match="a file of at most"):
        read_link_keys(tmp_path)


@pytest.mark.requirement("MPLA-4.10-01")
def test_without_keys_only_on_the_loopback() -> None:
    check_keyless([IPv4Address("127.80.0.1"), IPv4Address("127.0.0.1")])
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1 is no loopback address.*--keys"):
        check_keyless([IPv4Address("127.80.0.1"), IPv4Address("192.0.2.1")])
