"""Each checker finds the fault that was planted for it, and is content with the tree as it stands."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import check_citations, check_collected, draw_states, exports, house

ROOT = Path(__file__).resolve().parent.parent.parent
REQUIREMENTS = """
[[requirement]]
id = "PTCP-1-01"
level = "MUST"
role = "both"
observable = "wire"
text = "An encoder MUST encode."
"""
# joined at run time: these lines are plants, not citations of this project
KNOWN, UNKNOWN = "PTCP-1-" + "01", "PTCP-99-" + "99"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a small tree that keeps every rule."""
    for folder in ("powertcp", "tests/unit", "tests/meta", "rfc", "tools"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / "rfc" / "rfc3251.txt", tmp_path / "rfc")
    (tmp_path / "rfc" / "requirements.toml").write_text(REQUIREMENTS)
    (tmp_path / "tests" / "meta" / "skips.txt").write_text("# none\n")
    (tmp_path / "powertcp" / "__init__.py").write_text('"""A house."""\n\n__all__ = ["one"]\n')
    (tmp_path / "powertcp" / "one.py").write_text(
        f'"""One."""\n\n# {KNOWN}\nONE = 1\n## rfc3251#7.1\n'
        '## "Under MPLampS, a voltage is equated to a label."\nTWO = 2\n'
    )
    (tmp_path / "tests" / "unit" / "test_one.py").write_text(
        f'import pytest\n\n@pytest.mark.requirement("{KNOWN}")\ndef test_one() -> None:\n    pass\n'
    )
    return tmp_path


def run_tests(tree: Path, *words: str, interop: str = "") -> subprocess.CompletedProcess[str]:
    """Run the tests of a planted tree under the conftest of this one."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words],
        cwd=tree,
        env=os.environ | {"POWERTCP_INTEROP": interop},
        capture_output=True,
        text=True,
    )


def write_test(tree: Path, body: str) -> None:
    (tree / "tests" / "unit" / "test_two.py").write_text(body)


def test_citations_of_a_good_tree_and_of_this_one() -> None:
    assert check_citations.faults(ROOT) == []


def test_citations_of_a_small_good_tree(tree: Path) -> None:
    assert check_citations.faults(tree) == []


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("a voltage is equated", "a Voltage is equated", "one.py:5: rfc3251#7.1 does not say"),
        ("#7.1", "#7.77", "one.py:5: rfc3251 has no section 7.77"),
        ("#7.1", "#7.2", "one.py:5: rfc3251#7.2 does not say"),
        ("rfc3251", "rfc9999", "one.py:5: no text rfc/rfc9999.txt"),
        (KNOWN, UNKNOWN, f"one.py:3: unknown id {UNKNOWN}"),
        (f"# {KNOWN}", "# nothing", f"{KNOWN} has no code"),
    ],
)
def test_citations_find(tree: Path, old: str, new: str, sentence: str) -> None:
    path = tree / "powertcp" / "one.py"
    path.write_text(path.read_text().replace(old, new))
    assert any(sentence in fault for fault in check_citations.faults(tree))
    assert check_citations.main(["--root", str(tree)]) == 1


def test_citations_find_a_must_without_test_and_an_unknown_mark(tree: Path) -> None:
    path = tree / "tests" / "unit" / "test_one.py"
    path.write_text(path.read_text().replace(KNOWN, UNKNOWN))
    found = check_citations.faults(tree)
    assert any(f"{KNOWN} has no test" in fault for fault in found)
    assert any(f"test_one.py:3: unknown id {UNKNOWN}" in fault for fault in found)


def test_an_exception_excuses_a_must_and_an_unknown_one_does_not(tree: Path) -> None:
    (tree / "tests" / "unit" / "test_one.py").unlink()
    (tree / "rfc" / "exceptions.toml").write_text(f'[[exception]]\nid = "{KNOWN}"\n')
    assert check_citations.faults(tree) == []
    (tree / "rfc" / "exceptions.toml").write_text(f'[[exception]]\nid = "{UNKNOWN}"\n')
    assert any("unknown id" in fault for fault in check_citations.faults(tree))


def test_sections_of_a_flattened_text() -> None:
    text = "1. One Words here. 1.1. Part More words. 2. Two Other words. 2.1 Last End."
    assert check_citations.section(text, "1") == "1. One Words here. 1.1. Part More words. "
    assert check_citations.section(text, "1.1") == "1.1. Part More words. "
    assert check_citations.section(text, "2.1") == "2.1 Last End."
    assert check_citations.section(text, "3") is None


def test_sections_named_by_a_word() -> None:
    text = "Title of it\nHead\nFeatures\n- One: a.\nAdvantages\n- Two: b.\n"
    assert check_citations.section(text, "Features") == "Features\n- One: a.\n"
    assert check_citations.section(text, "Advantages") == "Advantages\n- Two: b.\n"
    assert check_citations.section(text, "One") is None


def test_this_tree_quotes_its_seeds() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "powertcp").rglob("*.py")]
    found = [row for source in sources for row in check_citations.quotations(source)]
    assert {stem for _, stem, _, _ in found} >= {"rfc3251", "power-over-tcp"}


def test_every_test_file_is_collected() -> None:
    assert check_collected.faults(ROOT) == []


def test_collected_finds_a_file_without_tests(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_test(tree, "def tset_two() -> None:\n    pass\n")
    assert check_collected.main(["--root", str(tree)]) == 1
    assert capsys.readouterr().out == "tests/unit/test_two.py: no test is collected\n"


def test_exports_are_those_listed() -> None:
    listed = (ROOT / "tests" / "meta" / "exports.txt").read_text(encoding="utf-8")
    assert exports.exports(ROOT) == listed, "review, then: python -m tools.exports --write"


def test_exports_find_a_new_and_a_lost_name(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(tree)]
    assert exports.main([*root, "--write"]) == 0
    assert exports.main(root) == 0
    (tree / "powertcp" / "__init__.py").write_text('"""A house."""\n\n__all__ = ["two"]\n')
    assert exports.main(root) == 1
    said = capsys.readouterr().out.splitlines()
    assert sorted(said) == ["exported: powertcp: two", "listed: powertcp: one"]


def test_house_names_what_is_too_long(tree: Path) -> None:
    (tree / "powertcp" / "drivers").mkdir()
    (tree / "powertcp" / "drivers" / "long.py").write_text('"""Long."""\n' + "A = 1\n" * 300)
    lines = "".join(f"    a = {number}\n" for number in range(70))
    (tree / "powertcp" / "two.py").write_text(f'"""Two."""\ndef two():\n{lines}' + "B = 1\n" * 600)
    table = house.figures(tree)
    assert table["over_limit"] == [
        "powertcp/drivers/long.py: 301 lines",
        "powertcp/two.py: 672 lines",
        "powertcp/two.py:two: 71 lines",
    ]
    assert (table["max_module_lines"], table["max_function_lines"]) == (672, 71)


def test_house_names_a_module_without_docstring(tree: Path) -> None:
    (tree / "powertcp" / "two.py").write_text("TWO = 2\n")
    assert house.figures(tree)["undocumented_modules"] == ["powertcp.two"]


def test_house_prints_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert house.main(["--json", "--no-run"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["modules"] >= 60
    assert table["import_cycles"] == 0
    assert table["max_function_lines"] <= 70
    assert {"max_module_lines", "spec_citations_per_kloc", "test_ratio"} <= set(table)


def test_state_diagrams_are_fresh() -> None:
    assert draw_states.main(["--check"]) == 0, "stale: python -m tools.draw_states"


def test_a_stale_state_diagram_is_found(tmp_path: Path) -> None:
    folder = ["--folder", str(tmp_path)]
    assert draw_states.main(folder) == 0
    assert draw_states.main([*folder, "--check"]) == 0
    (tmp_path / "states-sink.txt").write_text("SINK\n")
    assert draw_states.main([*folder, "--check"]) == 1


def test_a_good_run_counts_its_requirements_and_remembers_their_texts(tree: Path) -> None:
    done = run_tests(tree, "--requirements-strict", "--seed", "7")
    assert done.returncode == 0, done.stdout
    assert "requirements: 1/1 covered" in done.stdout
    assert "seed: 7 (repeat with --seed 7)" in done.stdout
    table = json.loads((tree / "build" / "requirements.json").read_text())
    assert table[KNOWN]["tests"] == {"tests/unit/test_one.py::test_one": "passed"}
    path = tree / "rfc" / "requirements.toml"
    changed = REQUIREMENTS.replace("MUST encode", "MUST NOT encode")
    path.write_text(changed + REQUIREMENTS.replace(KNOWN, UNKNOWN))
    done = run_tests(tree)
    assert f"{KNOWN} has a new text, review tests/unit/test_one.py::test_one" in done.stdout
    assert done.returncode == 0
    done = run_tests(tree, "--requirements-strict")
    assert done.returncode == 1
    assert f"requirements: 1/2 covered; uncovered: {UNKNOWN}" in done.stdout


def test_an_unknown_requirement_is_a_usage_error(tree: Path) -> None:
    write_test(
        tree,
        f'import pytest\n\n@pytest.mark.requirement("{UNKNOWN}")\ndef test_two() -> None:\n    pass\n',
    )
    done = run_tests(tree)
    assert done.returncode == 4
    assert f"no such requirement: {UNKNOWN}" in done.stderr


SKIPS = {
    # name: (mark, reason, passes without peers, passes under POWERTCP_INTEROP=1)
    "bare": ("", "no reason", False, False),
    "interop": ("@pytest.mark.interop\n", "apt install tshark", True, False),
    "kernel_errno": ("@pytest.mark.kernel\n", "bpf: EPERM", True, True),
    "kernel_bare": ("@pytest.mark.kernel\n", "not today", True, False),
    "listed": ("", "no reason", True, True),
}
ACTS = [
    "open('/etc/hostname').close()",
    "import pathlib; pathlib.Path('/etc/hostname').read_text()",
    "import socket; socket.socket().close()",
    "import sqlite3; sqlite3.connect('/dev/null/books.db').close()",
    "import subprocess; subprocess.run(['true'])",
    "import os; os.system('true')",
    "import contextlib\n    with contextlib.suppress(RuntimeError):\n        open('/etc/hostname')",
]
EMPTY = "@pytest.mark.parametrize('row', [])\ndef test_sweep(row) -> None:\n    pass\n"
TRACE = """
def test_trace(trace) -> None:
    for number in range(60):
        trace('room:done', {'number': number})
    assert False
"""


def write_skips(tree: Path) -> None:
    """Plant a file of skips, one of them listed."""
    bodies = [
        f"{mark}def test_{name}() -> None:\n    pytest.skip('{reason}')\n"
        for name, (mark, reason, _, _) in SKIPS.items()
    ]
    path = tree / "tests" / "unit" / "test_skips.py"
    path.write_text("import pytest\n\n" + "\n".join(bodies))
    listed = "tests/unit/test_skips.py::test_listed  a reason\n"
    (tree / "tests" / "meta" / "skips.txt").write_text(listed)


def judge_skips(done: subprocess.CompletedProcess[str], *, interop: bool) -> None:
    """A skip passes or fails as its row says."""
    for name, (_, _, without, under) in SKIPS.items():
        passes = under if interop else without
        assert (f"FAILED tests/unit/test_skips.py::test_{name} " in done.stdout) is not passes, name
    assert "not listed in tests/meta/skips.txt" in done.stdout
    assert done.returncode == 1


def test_what_must_fail_fails_and_says_why(tree: Path) -> None:
    folder = tree / "tests" / "unit"
    acts = [f"def test_{number}() -> None:\n    {act}\n" for number, act in enumerate(ACTS)]
    (folder / "test_acts.py").write_text("\n".join(acts))
    (folder / "test_async.py").write_text("async def test_waits() -> None:\n    pass\n")
    (folder / "test_empty.py").write_text(f"import pytest\n\n{EMPTY}")
    (folder / "test_trace.py").write_text(TRACE)
    write_skips(tree)
    done = run_tests(tree, "--continue-on-collection-errors")
    judge_skips(done, interop=False)
    for number, act in enumerate(ACTS):
        assert f"FAILED tests/unit/test_acts.py::test_{number} " in done.stdout, act
    assert "a unit test must not touch the world" in done.stdout
    assert "FAILED tests/unit/test_async.py::test_waits" in done.stdout
    assert "ERROR tests/unit/test_empty.py" in done.stdout
    assert "Empty parameter set" in done.stdout
    assert "last 50 trace events" in done.stdout
    assert "{'number': 59}" in done.stdout
    assert "{'number': 9}" not in done.stdout
    assert f"{len(ACTS) + 3} failed, 1 passed, 4 skipped, 1 error" in done.stdout


def test_a_missing_peer_is_a_failure_where_peers_must_be(tree: Path) -> None:
    write_skips(tree)
    judge_skips(run_tests(tree, interop="1"), interop=True)
