"""tools/check.py: one line for each check, in order; the first failure ends the rest."""

import re
import sys
import time

import pytest

from tools import check
from tools.check import Check

Patch = pytest.MonkeyPatch
Say = pytest.CaptureFixture[str]
LINE = re.compile(r"^(\w+) +\d+\.\d s  (.*)$", re.MULTILINE)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def plant(monkeypatch: Patch, *rows: Check) -> None:
    monkeypatch.setattr(check, "checks", lambda: list(rows))


def test_lines_come_in_order_whoever_ends_first(monkeypatch: Patch, capsys: Say) -> None:
    plant(
        monkeypatch,
        Check("slow", (python("import time; time.sleep(0.3); print('noise')"),)),
        Check("quick", (python(""), python(""))),
        Check("alone", (python(""),), is_fast=False),
    )
    assert check.main([]) == 0
    out = capsys.readouterr().out
    assert LINE.findall(out) == [("slow", "ok"), ("quick", "ok"), ("alone", "ok")]
    assert "noise" not in out


@pytest.mark.parametrize("is_fast", [True, False])
def test_the_first_failure_ends_the_rest_and_says_what_it_said(
    monkeypatch: Patch, capsys: Say, is_fast: bool
) -> None:
    plant(
        monkeypatch,
        Check("good", (python(""),)),
        Check("bad", (python(""), python("print('why'); raise SystemExit(7)"))),
        Check("long", (python("import time; time.sleep(60)"),), is_fast=is_fast),
        Check("last", (python(""),)),
    )
    started = time.monotonic()
    assert check.main([]) == 1
    assert time.monotonic() - started < 30
    out = capsys.readouterr().out
    assert LINE.findall(out) == [("good", "ok"), ("bad", "FAILED, exit 7")]
    assert "\nwhy\nbad: -c print('why')" in out


def test_without_names_no_test_runs(monkeypatch: Patch, capsys: Say) -> None:
    plant(monkeypatch, Check("one", (python(""),)), Check("two", (python(""),), is_test=True))
    assert check.main([]) == 0
    assert check.main(["two"]) == 0
    assert [name for name, _ in LINE.findall(capsys.readouterr().out)] == ["one", "two"]


def test_an_unknown_name_is_a_usage_error(capsys: Say) -> None:
    assert check.main(["lint", "lnt"]) == 2
    assert "no check lnt; there are lint, layers" in capsys.readouterr().err


def test_the_fast_ones_come_first() -> None:
    rows = check.checks()
    fast = [row.name for row in rows if row.is_fast]
    assert fast == ["lint", "layers", "types", "async", "cites", "docs", "meta"]
    assert fast == [row.name for row in rows][: len(fast)]
    assert all(command for row in rows for command in row.commands)
