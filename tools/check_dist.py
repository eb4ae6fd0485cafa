"""Build the wheel twice, compare, install it in an empty folder and run its unit tests elsewhere."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EPOCH = "1796083200"  # any fixed time: two builds must not differ by their clocks
LIMIT_OCTETS = 2 << 20
WANTED = (
    "powertcp/py.typed",
    "powertcp/data/profiles.toml",
    "powertcp/_rfc/requirements.toml",
    "powertcp/_rfc/registry.toml",
    "powertcp/_rfc/draft-powertcp-protocol-00.txt",
    "powertcp/_rfc/vectors/",
)


def run(command: list[str], folder: Path, **environment: str) -> None:
    """Run a command in `folder`; RuntimeError with all that it said when it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}")


def build(folder: Path) -> Path:
    """Build the wheel of the checkout into `folder`."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    run(command, ROOT, SOURCE_DATE_EPOCH=EPOCH)
    return next(folder.glob("*.whl"))


def judge(wheel: Path, again: Path) -> None:
    """Compare two builds and look for what must be inside."""
    if wheel.read_bytes() != again.read_bytes():
        raise RuntimeError("two builds of the wheel differ")
    if wheel.stat().st_size > LIMIT_OCTETS:
        raise RuntimeError(f"the wheel has {wheel.stat().st_size:,} octets of {LIMIT_OCTETS:,}")
    names = zipfile.ZipFile(wheel).namelist()
    missing = [want for want in WANTED if not any(name.startswith(want) for name in names)]
    if missing:
        raise RuntimeError(f"the wheel lacks {', '.join(missing)}")


def dependencies() -> list[str]:
    """Name the folders of sys.path that hold the dependencies, never the checkout."""
    kept = [entry for entry in sys.path if entry and Path(entry).resolve() != ROOT]
    return [
        entry for entry in kept if Path(entry).is_dir() and not Path(entry, "powertcp").exists()
    ]


def try_installed(wheel: Path, folder: Path) -> None:
    """Install into an empty folder and run the unit tests from a place without the checkout."""
    site, place = folder / "site", folder / "place"
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    run([*pip, "--no-deps", "--target", str(site), str(wheel)], folder, PIP_USER="0")
    place.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tests", place / "tests", ignore=ignored)
    shutil.copytree(ROOT / "rfc", place / "rfc", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", place)
    path = os.pathsep.join([str(site), *dependencies()])
    show = "import powertcp, sys; sys.exit(not powertcp.__file__.startswith(sys.argv[1]))"
    run([sys.executable, "-P", "-c", show, str(site)], place, PYTHONPATH=path)
    run([sys.executable, "-P", "-m", "powertcp", "--version"], place, PYTHONPATH=path)
    tests = [sys.executable, "-m", "pytest", "-q", "-x", "tests/unit", "-p", "no:trio"]
    run(tests, place, PYTHONPATH=path)


def main(arguments: list[str] | None = None) -> int:
    """Run the whole check; 1 with a sentence when something is wrong."""
    argparse.ArgumentParser(prog="tools/check_dist.py", description=__doc__).parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="powertcp-dist-") as name:
        folder = Path(name)
        try:
            wheels = [build(folder / part) for part in ("one", "two")]
            judge(*wheels)
            try_installed(wheels[0], folder)
        except RuntimeError as error:
            print(error)
            return 1
    print("dist: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
