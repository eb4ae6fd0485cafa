"""tools/go.py in a small tree with a planted pip: installs once, or says why not."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = """
[project]
dependencies = ["one>=1"]
[project.optional-dependencies]
web = ["two>=2"]
[dependency-groups]
inner = ["three==3"]
dev = [{ include-group = "inner" }, "four==4"]
"""
# what stands in for pip: notes its arguments, fills the target, then acts
PIP = """
import os, pathlib, sys, time
target = pathlib.Path(sys.argv[sys.argv.index("--target") + 1])
target.mkdir()
(target / "wanted").write_text(" ".join(sys.argv[sys.argv.index("--target") + 2:]))
{act}
"""
ECHO = "import os, sys\nprint(os.getcwd(), *sys.argv[1:])\nsys.exit(7)\n"


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let what a test starts obey SIGINT, which a run in the background ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a checkout of nothing but go.py, and a pip that succeeds."""
    for folder in ("house/tools", "house/powertcp", "pip", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    house = tmp_path / "house"
    shutil.copy(ROOT / "tools" / "go.py", house / "tools")
    (house / "pyproject.toml").write_text(PROJECT)
    (house / "powertcp" / "__main__.py").write_text(ECHO)
    (house / "tools" / "check.py").write_text(ECHO)
    (tmp_path / "pip" / "__init__.py").touch()
    plant(tmp_path, "")
    return tmp_path


def plant(tree: Path, act: str) -> None:
    (tree / "pip" / "__main__.py").write_text(PIP.format(act=act))


def start(tree: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, tree / "house" / "tools" / "go.py", *words],
        cwd=tree / "elsewhere",
        env=os.environ | {"PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def go(tree: Path, *words: str) -> tuple[int, str, str]:
    child = start(tree, *words)
    out, err = child.communicate()
    return child.returncode, out, err


def folders(tree: Path) -> list[Path]:
    """Return the folders that look complete."""
    deps = tree / "house" / ".deps"
    return [path for path in deps.iterdir() if path.is_dir() and path.suffix != ".part"]


def test_the_script_stays_small() -> None:
    assert len((ROOT / "tools" / "go.py").read_text().splitlines()) < 120


def test_a_command_runs_where_it_was_called_and_its_status_passes(tree: Path) -> None:
    status, out, err = go(tree, "discover", "--why")
    assert (status, out) == (7, f"{tree / 'elsewhere'} discover --why\n")
    assert "installing 2 packages (0 s, once)" in err
    assert [(path / "wanted").read_text() for path in folders(tree)] == ["one>=1 two>=2"]
    assert go(tree, "status") == (7, f"{tree / 'elsewhere'} status\n", "")


def test_no_word_is_the_main_job(tree: Path) -> None:
    assert "demo --terminal --scene light" in go(tree)[1]


def test_checks_need_more_and_what_they_need_serves_the_rest(tree: Path) -> None:
    assert go(tree, "check", "lint")[:2] == (7, f"{tree / 'house'} lint\n")
    wanted = "one>=1 two>=2 three==3 four==4"
    assert [(path / "wanted").read_text() for path in folders(tree)] == [wanted]
    assert go(tree, "status")[2] == ""


def test_a_new_list_replaces_the_old_folder(tree: Path) -> None:
    go(tree, "status")
    path = tree / "house" / "pyproject.toml"
    path.write_text(path.read_text().replace("one>=1", "one>=1.1"))
    go(tree, "status")
    assert [(path / "wanted").read_text() for path in folders(tree)] == ["one>=1.1 two>=2"]


def test_a_pip_that_fails_leaves_nothing_and_the_way_without_network_is_said(tree: Path) -> None:
    plant(tree, "sys.exit('ERROR: no route to anywhere')")
    status, out, err = go(tree, "status")
    assert (status, out, folders(tree)) == (3, "", [])
    assert "ERROR: no route to anywhere" in err
    assert "pip download -d DIR 'one>=1' 'two>=2'" in err
    plant(tree, "")
    assert go(tree, "status")[0] == 7


def started(tree: Path) -> subprocess.Popen[str]:
    """Start an installation and wait until its pip works."""
    child = start(tree, "status")
    deps = tree / "house" / ".deps"
    for _ in range(1000):
        if list(deps.glob("*.part/wanted")):
            return child
        time.sleep(0.01)
    raise TimeoutError(str(deps))


def test_an_interrupted_start_ends_its_pip_and_leaves_nothing(tree: Path) -> None:
    plant(tree, "time.sleep(60)")
    child = started(tree)
    child.send_signal(signal.SIGINT)
    child.communicate()
    assert (child.returncode, folders(tree)) == (130, [])
    with (tree / "house" / ".deps" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    plant(tree, "")
    assert go(tree, "status")[0] == 7
    assert not list((tree / "house" / ".deps").glob("*.part"))


def test_a_killed_start_keeps_the_lock_until_its_pip_ended(tree: Path) -> None:
    release = tree / "release"
    plant(tree, f"while not os.path.exists({str(release)!r}): time.sleep(0.01)")
    child = started(tree)
    child.kill()
    child.communicate()
    plant(tree, "")
    second = start(tree, "status")
    with pytest.raises(subprocess.TimeoutExpired):
        second.communicate(timeout=0.5)
    release.touch()
    second.communicate()
    assert second.returncode == 7
    assert len(folders(tree)) == 1


def test_a_folder_that_cannot_be_made_is_a_sentence(tree: Path) -> None:
    (tree / "house" / ".deps").write_text("in the way")
    status, _, err = go(tree, "status")
    assert status == 2
    assert err.startswith("cannot write what the first start needs: ")
    assert len(err.splitlines()) == 1


def test_without_pip_and_without_ensurepip_a_sentence_says_what_to_install(tree: Path) -> None:
    shutil.rmtree(tree / "pip")
    (tree / "ensurepip").mkdir()
    code = (
        "import importlib.util, runpy, subprocess, sys\n"
        "importlib.util.find_spec = lambda name: None\n"
        "sys.argv[0] = sys.argv.pop(1)\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    # an ensurepip that does nothing, as the one that Debian leaves out
    (tree / "ensurepip" / "__init__.py").touch()
    (tree / "ensurepip" / "__main__.py").write_text("raise SystemExit('not here')")
    (tree / "venv.py").write_text("raise SystemExit('ensurepip is not available')")
    done = subprocess.run(
        [sys.executable, "-c", code, tree / "house" / "tools" / "go.py", "status"],
        env=os.environ | {"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "pip is missing: apt install python3-pip (or your system's package)\n",
    )
