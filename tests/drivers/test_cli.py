"""Commands as people run them: processes, exit codes, one line per error."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from powertcp.cli.main import COMMANDS, find

ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "POWERTCP_CONFIG"}


def powertcp(*words: str, state: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = ENVIRONMENT | ({"XDG_STATE_HOME": str(state)} if state else {})
    return subprocess.run(
        [sys.executable, "-m", "powertcp", *words],
        capture_output=True,
        text=True,
        timeout=50,
        env=environment,
        check=False,
    )


def test_the_version_imports_neither_trio_nor_numpy() -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "powertcp", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "powertcp.cli.main" in modules or "powertcp.errors" in modules
    assert not modules & {"trio", "numpy", "cryptography", "msgspec", "argparse", "asyncio"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_found(name: str) -> None:
    assert callable(find(name))


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--connect", "127.0.0.1:1", "--request", "12V/1A"), 3, "127.0.0.1:1: Connection refused"),
        ((), 2, "--request"),
        (
            ("--connect", "a", "--request", "12V/1A", "--src", "grid"),
            2,
            "--src: it is about a search",
        ),
        (("--request", "12V/1A", "--pin", "7f31"), 2, "--pin: a pin is x25519:BASE64 or id:HEX"),
        (("--request", "12V/1A", "--site", "ed25519:x"), 2, "--site: a key is ed25519:"),
        (("--request", "12V/1A", "--trust", "pinned"), 2, "trust in pinned providers needs a pin"),
        (("--request", "12V/1A", "--interface", "nosuch"), 2, "nosuch"),
        (("--connect", "127.0.0.1"), 2, "--request"),
        (("--connect", "127.0.0.1", "--request", "12/1A"), 2, "a voltage needs"),
        (("--connect", "127.0.0.1", "--request", "12V/1A", "--for", "5"), 2, "a duration needs"),
        (("--connect", "a:b", "--request", "12V/1A"), 2, "a port is a number"),
        (("--connect", "a", "--request", "12V/1A", "--load", "lmp"), 2, "no such load"),
        (
            ("--connect", "a", "--request", "12V/1A", "--load", "lamp", "--load", "lamp"),
            2,
            "2 loads",
        ),
        (("--config", "/nonexistent.toml"), 2, "/nonexistent.toml"),
        (("--reset", "lamp"), 3, "no running consumer"),
        (("--requst", "12V/1A"), 2, 'unknown option "--requst", did you mean "--request"?'),
        (("--on-shed", "stp"), 2, 'one of cap, stop, term, got "stp", did you mean "stop"?'),
        (("--minimum", "5V/1A"), 2, "--minimum follows the --request it belongs to"),
        (("--fallback", "5V/1A"), 2, "--fallback follows the --request it belongs to"),
        (
            ("--connect", "a", "--request", "12V/1A", "--minimum", "12V/2A"),
            2,
            "12V/2A is not a lesser power",
        ),
        (
            ("--connect", "a", "--request", "12V/1A", "--fallback", "5V/0.1A"),
            2,
            "5V/0.1A differs from 12V/1A in more than a smaller current",
        ),
        (("--connect", "a", "--request", "12V/0A"), 2, "12V/0A asks for no power"),
        (
            ("--connect", "a", "--request", "12V/1A", "--for", "0s"),
            2,
            "--for: 0s ends before it begins",
        ),
        (
            ("--connect", "a", "--request", "12V/1A", "--energy", "0J"),
            2,
            "--energy: 0J ends before it begins",
        ),
        (
            ("--connect", "a", "--request", "12V/1A", "--max-price", "dear"),
            2,
            "--max-price: a price per kWh is a number like 0.30",
        ),
        (
            ("--connect", "a", "--request", "12V/1A", "--receipts", "500ms"),
            2,
            "--receipts: a receipt is due each second at most, got 500ms",
        ),
        (("--connect", "a", "--request", "12V/1A", "--state-dir", "/proc/x"), 2, "/proc/x"),
        (("--connect", "a", "--request", "12V/1A", "--trace", "/proc/x"), 2, "/proc/x"),
        (
            ("--connect", "127.0.0.1:1", "--request", "12V/1A", "--run", "nosuch"),
            2,
            "cannot run the command: nosuch: No such file or directory",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(
    words: tuple[str, ...], status: int, said: str, tmp_path: Path
) -> None:
    ran = powertcp("consumer", *words, state=tmp_path)
    assert ran.returncode == status, ran.stderr
    assert ran.stderr.count("\n") == 1
    assert said in ran.stderr


@pytest.mark.requirement("DPDP-8-01", "DPDP-7-07")
def test_a_static_place_in_clear_is_refused_where_a_key_is_pinned(tmp_path: Path) -> None:
    key = "x25519:" + "A" * 43 + "="
    line = f"{bytes(16).hex()} first=1 last=2 key={key} pinned name="
    (tmp_path / "known_providers").write_text(f'{line}"Bench"\n', encoding="utf-8")
    words = ("--request", "12V/1A", "--static", "127.0.0.1", "--state-dir", str(tmp_path))
    ran = powertcp("consumer", *words, state=tmp_path)
    assert ran.returncode == 2, ran.stderr
    assert "--static: trust is pinned: in clear only a provider could prove itself" in ran.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--suply", "12V/5A"), 'unknown option "--suply", did you mean "--supply"?'),
        ((), "nothing to offer"),
        (("--supply", "12/5"), "a voltage needs a number and a unit"),
        (("--supply", "12V/5A", "--rating", "20"), "--rating: a power needs a number and a unit"),
        (("--supply", "12V/5A", "--lease", "2s"), "lease: 5 s..3,600 s, got 2 s"),
        (("--supply", "12V/5A", "--grace", "400s"), "got 400 s"),
        (("--supply", "12V/5A", "--connections", "0"), "at least 1 is needed, got 0"),
        (("--supply", "12V/5A", "--ramp", "0W"), "more than 0 W in a second is needed"),
        (("--supply", "12V/5A", "--listen", "127.0.0.1:99999"), "a port is a number 0..65535"),
        (("--supply", "12V/5A", "--listen", "203.0.113.9:1"), "not an address of this host"),
        (("--supply", "12V/5A", "--listen", "127.0.0.1:0", "--control", "/proc/x"), "/proc/x"),
        (("--config", "/etc"), "Is a directory"),
        (("--supply", "12V/5A", "--quota", "0J"), "quota: an account holds 1 uJ.."),
        (("--supply", "12V/5A", "--quota", "9223372036855MJ"), "quota: an account holds 1 uJ.."),
    ],
)
def test_what_cannot_be_offered_is_one_line(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    ran = powertcp("provider", *words, state=tmp_path)
    assert ran.returncode == 2, ran.stderr
    assert ran.stderr.count("\n") == 1
    assert said in ran.stderr


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = powertcp("provider", "--supply", "12V/5A", "--listen", address, state=tmp_path)
    assert ran.returncode == 2
    assert ran.stderr.endswith(f"listen: {address} is in use by another process\n")


@pytest.mark.parametrize("command", list(COMMANDS))
def test_the_first_screen_of_help_has_purpose_example_and_units(command: str) -> None:
    ran = powertcp(command, "--help")
    assert ran.returncode == 0
    screen = ran.stdout.splitlines()[:24]
    assert screen[0].startswith(f"usage: powertcp {command} [OPTION]...")
    assert any(line.startswith("example") for line in screen)
    assert any(f"powertcp {command} " in line for line in screen[2:])
    assert "exit" in ran.stdout or command == "demo"
    if command in ("provider", "consumer", "demo"):
        assert re.search(r"\d+(V|A|s|min|kW)\b", "\n".join(screen))


def test_a_misspelt_key_names_the_intended_one(tmp_path: Path) -> None:
    file = tmp_path / "consumer.toml"
    file.write_text('voltge = "12V"\n')
    ran = powertcp("consumer", "--config", str(file))
    assert ran.returncode == 2
    assert str(file) in ran.stderr
    assert 'did you mean "voltage"?' in ran.stderr


def test_a_configuration_file_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "consumer.toml"
    file.write_text('connect = "127.0.0.1"\nvoltage = "12V"\ncurrent = "1A"\nfor = "5s"\n')
    ran = powertcp("consumer", "--config", str(file), "--check")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "ok" in ran.stdout


def test_scene_light_ends_by_itself_with_equal_registers() -> None:
    ran = powertcp("demo", "--terminal", "--scene", "light", "--for", "4s")
    assert ran.returncode == 0, ran.stderr
    assert "difference 0 uJ" in ran.stdout
    assert "(simulated)" in ran.stdout
    assert "rating halved" in ran.stdout


def test_scene_light_ends_cleanly_with_ctrl_c() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "powertcp", "demo", "--terminal", "--for", "60s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    while "(simulated)" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "difference 0 uJ" in out


def test_the_stage_is_not_there_without_terminal() -> None:
    ran = powertcp("demo")
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
