"""Set everything up in `.deps/`, then run: nothing = the main job, `test`, `check`, a command."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the sentence must reach those who have an older one
    VERSION = ".".join(str(part) for part in sys.version_info[:3])
    sys.stderr.write(f"powertcp needs Python 3.11 or newer, this is {VERSION} ({sys.executable})\n")
    sys.exit(2)

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPS = ROOT / ".deps"
OFFLINE = """pip could not install what is needed; its last words are above, all of them in {log}.
Where there is a network, same platform:   pip download -d DIR {wanted}
then here: PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR python3 tools/go.py"""


def requirements(*, tests: bool) -> list[str]:
    """Read what is needed from pyproject.toml; old pip knows no `--group`."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    def group(name: str) -> Iterator[str]:
        for row in table["dependency-groups"][name]:
            yield from group(row["include-group"]) if isinstance(row, dict) else [row]

    own = table["project"]["dependencies"] + table["project"]["optional-dependencies"]["web"]
    return [*own, *(group("dev") if tests else [])]


def folder(wanted: list[str]) -> Path:
    """Name the folder by everything that decides what pip would put there."""
    facts = [*wanted, sys.version, sys.implementation.name, sys.platform, os.uname().machine]
    return DEPS / hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


def pip() -> list[str]:
    """Find a pip: this Python's, else one that ensurepip makes in `.deps/boot`."""
    found, boot = importlib.util.find_spec("pip"), DEPS / "boot"
    if found and found.origin:
        return [sys.executable, "-m", "pip"]
    if subprocess.run([sys.executable, "-m", "venv", boot], capture_output=True).returncode:
        shutil.rmtree(boot, ignore_errors=True)
        print("pip is missing: apt install python3-pip (or your system's package)", file=sys.stderr)
        sys.exit(2)
    return [str(boot / "bin" / "python"), "-m", "pip"]


def install(wanted: list[str], target: Path, lock: int) -> None:
    """Fill `target` completely or not at all; a pip that outlives us keeps the lock."""
    part, log = target.with_suffix(".part"), DEPS / "pip.log"
    shutil.rmtree(part, ignore_errors=True)
    command = [*pip(), "install", "--disable-pip-version-check", "--target", str(part), *wanted]
    own = os.environ | {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_NO_INPUT": "1"}
    seconds = 0
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out, env=own, pass_fds=[lock])
    try:
        while child.poll() is None:
            said = f"installing {len(wanted)} packages ({seconds} s, once)"
            print(said, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
            seconds += 1
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1)
    finally:
        child.terminate()
    if child.returncode:
        said = OFFLINE.format(log=log, wanted=" ".join(f"'{name}'" for name in wanted))
        print(*log.read_text(errors="replace").splitlines()[-3:], said, sep="\n", file=sys.stderr)
        sys.exit(3)
    part.rename(target)


def prepare(wanted: list[str], target: Path, keep: set[Path]) -> None:
    """Install `wanted` once, whoever comes first; drop the folders of former lists."""
    DEPS.mkdir(exist_ok=True)
    with (DEPS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            install(wanted, target, lock.fileno())
            for other in {path for path in DEPS.iterdir() if path.is_dir()} - keep:
                shutil.rmtree(other, ignore_errors=True)


def main() -> None:
    """Make the folder, then become the program."""
    words = sys.argv[1:] or ["demo", "--terminal", "--scene", "light"]
    module = {"test": ["-m", "pytest"], "check": ["-m", "tools.check"]}.get(words[0])
    small, large = requirements(tests=False), requirements(tests=True)
    wanted = large if module or folder(large).exists() else small
    target = folder(wanted)
    if not target.exists():
        prepare(wanted, target, {folder(small), folder(large)})
    path = f"{target / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    own = {"PYTHONPATH": f"{ROOT}{os.pathsep}{target}", "PYTHONNOUSERSITE": "1", "PATH": path}
    if module:
        os.chdir(ROOT)
    arguments = [*module, *words[1:]] if module else ["-P", "-m", "powertcp", *words]
    os.execve(sys.executable, [sys.executable, *arguments], os.environ | own)  # noqa: S606


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        print(f"cannot write what the first start needs: {error}", file=sys.stderr)
        sys.exit(2)
