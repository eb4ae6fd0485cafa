"""Set everything up in `.deps/`, then run: nothing = the main job, `test`, `check`, a command."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the sentence must reach those who have an older one
    VERSION = ".".join(str(part) for part in sys.version_info[:3])
    sys.stderr.write(f"powertcp needs Python 3.11 or newer, this is {VERSION} ({sys.executable})\n")
    sys.exit(2)

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPS = ROOT / ".deps"
LIGHT = ["demo", "--terminal", "--scene", "light"]
NO_PIP = "pip is missing: apt install python3-pip (or your system's package)"
OFFLINE = """no package index answers (all of it: {log}). Where there is a network, same platform:
  pip download -d DIR {wanted}
then here: PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR python3 tools/go.py"""


def stop(code: int, text: str) -> None:
    """Say why and leave."""
    print(text, file=sys.stderr)
    sys.exit(code)


def requirements(*, tests: bool) -> list[str]:
    """Read what is needed from pyproject.toml; old pip knows no `--group`."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    def group(name: str) -> list[str]:
        rows = table["dependency-groups"][name]
        nested = [group(row["include-group"]) if isinstance(row, dict) else [row] for row in rows]
        return [entry for part in nested for entry in part]

    project = table["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["web"]
    return wanted + (group("dev") if tests else [])


def folder(wanted: list[str]) -> Path:
    """Name the folder by everything that decides what pip would put there."""
    facts = [*wanted, sys.version, sys.implementation.name, platform.system(), platform.machine()]
    return DEPS / hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


def pip() -> list[str]:
    """Find a pip: this Python's, else one that ensurepip makes in `.deps/boot`."""
    boot = DEPS / "boot"
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if subprocess.run([sys.executable, "-m", "venv", boot], capture_output=True).returncode:
        shutil.rmtree(boot, ignore_errors=True)
        stop(2, NO_PIP)
    return [str(boot / "bin" / "python"), "-m", "pip"]


def install(wanted: list[str], target: Path, keep: set[Path]) -> None:
    """Fill `target` completely or not at all; drop the folders of former requirement lists."""
    part, log = target.with_suffix(".part"), DEPS / "pip.log"
    shutil.rmtree(part, ignore_errors=True)
    command = [*pip(), "install", "--disable-pip-version-check", "--no-warn-script-location"]
    command += ["--target", str(part), *wanted]
    environment = os.environ | {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_NO_INPUT": "1"}
    end = "\r" if sys.stderr.isatty() else "\n"
    started = time.monotonic()
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        while child.poll() is None:
            line = f"installing {len(wanted)} packages ({time.monotonic() - started:.0f} s, once)"
            print(line, end=end, file=sys.stderr, flush=True)
            time.sleep(1)
    if child.returncode:
        print(*log.read_text(errors="replace").splitlines()[-5:], sep="\n", file=sys.stderr)
        stop(3, OFFLINE.format(log=log, wanted=" ".join(f"'{name}'" for name in wanted)))
    part.rename(target)
    for other in DEPS.iterdir():
        if other.is_dir() and other not in keep:
            shutil.rmtree(other, ignore_errors=True)


def main() -> None:
    """Make the folder, then become the program."""
    words = sys.argv[1:] or LIGHT
    tests = words[0] in ("test", "check")
    small, large = requirements(tests=False), requirements(tests=True)
    wanted = large if tests or folder(large).exists() else small
    target = folder(wanted)
    if not target.exists():
        DEPS.mkdir(exist_ok=True)
        with (DEPS / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                install(wanted, target, {folder(small), folder(large)})
    path = f"{target / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    own = {"PYTHONPATH": f"{ROOT}{os.pathsep}{target}", "PYTHONNOUSERSITE": "1", "PATH": path}
    module = {"test": ["-m", "pytest"], "check": ["-m", "tools.check"]}.get(words[0])
    if tests:
        os.chdir(ROOT)
    arguments = [*module, *words[1:]] if module else ["-P", "-m", "powertcp", *words]
    os.execve(sys.executable, [sys.executable, *arguments], os.environ | own)  # noqa: S606


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
