"""The mutants of the VPPN's security checks can still be applied, and the tool tells what it sees."""

from pathlib import Path

import pytest

from tools import mutate_vppn
from tools.mutate_vppn import main, wrong_text
from tools.vppn_mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent.parent


def test_every_check_is_found_once_and_its_tests_exist() -> None:
    assert [text for mutant in MUTANTS if (text := wrong_text(mutant))] == []
    assert len(MUTANTS) >= 90
    assert len({(mutant.file, mutant.name) for mutant in MUTANTS}) == len(MUTANTS)
    assert {
        path for mutant in MUTANTS for path in mutant.tests if not (ROOT / path).exists()
    } == set()
    assert len({mutant.file for mutant in MUTANTS}) >= 13


def test_a_check_whose_text_is_gone_is_told() -> None:
    gone = Mutant("no such", "vppn/record.py", "if nobody:", "if False:", ())
    assert "found 0 times" in wrong_text(gone)
    often = Mutant("often", "vppn/record.py", "return", "pass", ())
    assert "times: 'return'" in wrong_text(often)
    torn = Mutant("torn", "vppn/record.py", "if any(plain[at:]):", "if (:", ())
    assert "invalid syntax" in wrong_text(torn)
    assert "found 0 times" in wrong_text(Mutant("no file", "vppn/none.py", "x", "y", ()))


def test_one_is_killed_and_one_that_changes_nothing_survives(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = ("tests/unit/vppn/test_office.py",)
    check = "if who in self._early:"
    monkeypatch.setattr(
        mutate_vppn,
        "MUTANTS",
        [
            Mutant("kills", "vppn/office.py", check, "if False:", tests),
            Mutant("same", "vppn/office.py", check, f"{check}  # as it is", tests),
        ],
    )
    assert main(["kills"]) == 0
    assert "killed by tests/unit/vppn/test_office.py::test_one_early" in capsys.readouterr().out
    assert main([]) == 1
    out = capsys.readouterr().out
    assert "vppn/office.py: same: SURVIVED" in out
    assert "2 mutants, 1 killed, 1 survived" in out
