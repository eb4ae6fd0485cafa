"""The entry: exit codes, one line per error, nothing imported that is not needed."""

import errno
import sys

import pytest

import powertcp.cli.main as entry
from powertcp.cli import decode
from powertcp.cli.main import COMMANDS, find, judge, main
from powertcp.errors import (
    BrokenInvariant,
    ConfigError,
    HostError,
    LocalProtocolError,
    PowerRefused,
    RemoteProtocolError,
)
from powertcp.registry import Reason, Refusal

REFUSAL = Refusal(Reason.NO_CAPACITY, 60_000, 14_200)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("a.toml", "$", "unknown"), 2),
        (HostError(errno.ENOENT, "/x", "read"), 2),
        (PowerRefused(REFUSAL), 1),
        (RemoteProtocolError(REFUSAL), 3),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), 3),
        (KeyboardInterrupt(), 130),
        (LocalProtocolError("misuse"), 70),
        (BrokenInvariant("untrue"), 70),
        (ZeroDivisionError("x"), 70),
        (ExceptionGroup("one", [ExceptionGroup("two", [PowerRefused(REFUSAL)])]), 1),
        (ExceptionGroup("two", [ValueError("a"), ValueError("b")]), 70),
    ],
)
def test_every_error_has_an_exit_status(
    error: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge("consumer", error) == status
    out, said = capsys.readouterr()
    assert out == ""
    if status == 130:
        assert said == ""
    elif status == 70:
        assert type(error).__name__ in said
        assert "this is a bug" in said
    else:
        assert said.count("\n") == 1
        assert said.startswith("powertcp consumer: ")


@pytest.mark.parametrize(
    ("word", "hint"), [("provder", "provider"), ("consume", "consumer"), ("--versio", "--version")]
)
def test_an_unknown_word_suggests_the_nearest(
    word: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word]) == 2
    assert f'did you mean "{hint}"?' in capsys.readouterr().err


def test_a_word_near_nothing_suggests_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["xyzzy"]) == 2
    assert "did you mean" not in capsys.readouterr().err


def test_help_and_version_and_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    version = capsys.readouterr().out
    assert version.startswith("powertcp ")
    assert main(["provider", "--version"]) == 0
    assert capsys.readouterr().out == version
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)
    assert len(shown.splitlines()) <= 24
    assert main([]) == 2


def test_status_and_system_exit_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "find", lambda _: lambda words: int(words[0]))
    assert main(["demo", "5"]) == 5

    def leave(words: list[str]) -> int:
        sys.exit(words[0] if words else 2)

    monkeypatch.setattr(entry, "find", lambda _: leave)
    assert main(["demo"]) == 2
    assert main(["demo", "a text"]) == 2


def test_a_command_is_found_when_it_is_asked_for() -> None:
    # the others need an event loop: tests/drivers/test_cli.py
    assert {"decode", "explain"} <= set(COMMANDS)
    assert find("decode") is decode.main
