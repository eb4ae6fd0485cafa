"""The door of the command line: an interruption while modules are imported is no traceback."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder

import pytest

from powertcp import __main__ as door


class Interrupted(MetaPathFinder):
    """A finder during which somebody types Ctrl-C."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> None:
        if name == "powertcp.cli.main":
            raise KeyboardInterrupt


def test_an_interruption_of_an_import_is_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "powertcp.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    assert door.main() == 130
    assert capsys.readouterr() == ("", "")


def test_behind_it_is_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["powertcp", "--version"])
    assert door.main() == 0
    assert capsys.readouterr().out.startswith("powertcp 0.")
