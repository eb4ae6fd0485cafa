"""Build wheel and sdist twice, compare; install the wheel in an empty folder and use it elsewhere."""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EPOCH = "1796083200"  # any fixed time: two builds must not differ by their clocks
LIMIT_OCTETS = 2 << 20
IN_WHEEL = (
    "powertcp/py.typed",
    "powertcp/data/profiles.toml",
    "powertcp/_rfc/requirements.toml",
    "powertcp/_rfc/registry.toml",
    "powertcp/_rfc/vectors/",
)
IN_SDIST = (
    "powertcp/",
    "tests/unit/",
    "tests/meta/skips.txt",
    # what others wrote travels with its licence
    "tests/vectors/noise/LICENSE-MIT.snow",
    "tests/vectors/noise/LICENSE-BSD.flynn",
    "tests/vectors/wycheproof/LICENSE",
    "tools/go.py",
    "tools/share/pages.toml",
    "rfc/requirements.toml",
    "rfc/vectors/",
    "rfc/gen/",
    ".ci/run",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
)
# what Python runs first, so that a library is not found
BLIND = """
import sys


class Blind:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "LIBRARY":
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = [Blind(finder) for finder in sys.meta_path]
"""
FOREIGN = (".deps/", "build/", ".git/", "__pycache__")


def run(command: list[str], folder: Path, **environment: str) -> str:
    """Run a command in `folder` and return what it printed; RuntimeError with it when it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}")
    return done.stdout


# ---- what is built ------------------------------------------------------------------------------


def build(folder: Path, root: Path = ROOT) -> tuple[Path, Path]:
    """Build the wheel and the sdist of `root` into `folder`."""
    for target in ("wheel", "sdist"):
        command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
        run(command, root, SOURCE_DATE_EPOCH=EPOCH)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def drafts() -> list[str]:
    """Return the names of the rendered drafts."""
    return sorted(path.name for path in (ROOT / "rfc").glob("draft-powertcp-*.txt"))


def shared() -> list[str]:
    """Return the places below share/ of manual pages and completions."""
    share = ROOT / "tools" / "share"
    folders = [share / name for name in ("man", "bash-completion", "zsh", "fish")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path.relative_to(share)) for path in files)


def lacking(names: list[str], wanted: list[str]) -> list[str]:
    """Return what of `wanted` no name begins with."""
    return [want for want in wanted if not any(name.startswith(want) for name in names)]


def judge_wheel(wheel: Path) -> None:
    """Look for what must be inside, and at the size."""
    if wheel.stat().st_size > LIMIT_OCTETS:
        raise RuntimeError(f"the wheel has {wheel.stat().st_size:,} octets of {LIMIT_OCTETS:,}")
    names = zipfile.ZipFile(wheel).namelist()
    data = wheel.name.split("-py3")[0] + ".data/data/share/"
    wanted = [*IN_WHEEL, *(f"powertcp/_rfc/{name}" for name in drafts())]
    if missing := lacking(names, wanted + [data + place for place in shared()]):
        raise RuntimeError(f"the wheel lacks {', '.join(missing)}")
    if foreign := [name for name in names if name.startswith(("tests", "tools", "rfc"))]:
        raise RuntimeError(f"the wheel holds {', '.join(foreign[:5])}")


def judge_sdist(sdist: Path) -> None:
    """Look for what must be inside, and for what must not."""
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    if missing := lacking(names, [*IN_SDIST, *(f"rfc/{name}" for name in drafts())]):
        raise RuntimeError(f"the sdist lacks {', '.join(missing)}")
    if foreign := [name for name in names if any(part in name for part in FOREIGN)]:
        raise RuntimeError(f"the sdist holds {', '.join(foreign[:5])}")


def judge_again(first: tuple[Path, Path], folder: Path) -> None:
    """Build once more, and the wheel from the unpacked sdist: every octet must be the same."""
    again = build(folder / "again")
    for one, other in zip(first, again, strict=True):
        if one.read_bytes() != other.read_bytes():
            raise RuntimeError(f"two builds of {one.name} differ")
    with tarfile.open(first[1]) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    wheel = build(folder / "from-sdist", source)[0]
    if wheel.read_bytes() != first[0].read_bytes():
        raise RuntimeError("the wheel built from the sdist differs")


# ---- what is installed --------------------------------------------------------------------------


def dependencies() -> list[str]:
    """Name the folders of sys.path that hold the dependencies, never the checkout."""
    kept = [entry for entry in sys.path if entry and Path(entry).resolve() != ROOT]
    return [
        entry for entry in kept if Path(entry).is_dir() and not Path(entry, "powertcp").exists()
    ]


def install(wheel: Path, folder: Path) -> tuple[Path, str]:
    """Install into an empty folder; return it, and the PYTHONPATH that finds it first."""
    site = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    pip += ["--no-deps", "--no-index", "--target", str(site), str(wheel)]
    run(pip, folder, PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0")
    return site, os.pathsep.join([str(site), *dependencies()])


def use(site: Path, path: str, folder: Path) -> None:
    """Use the command in an empty folder, as somebody who never saw the checkout."""
    place = folder / "empty"
    place.mkdir()
    show = "import powertcp, sys; sys.exit(not powertcp.__file__.startswith(sys.argv[1]))"
    run([sys.executable, "-P", "-c", show, str(site)], place, PYTHONPATH=path)
    command = [sys.executable, str(site / "bin" / "powertcp")]
    expected = {
        "--version": "powertcp ",
        "explain protocol": "Power over TCP (PoTCP) Version 1",
        "explain PTCP-7-04": "SHED MUST name the contract",
        "decode 4402002ee00005dc00000e1000001000": "REQUEST 12V/1.5A",
        "provider --check --supply 12V/5A": "ok",
    }
    for words, want in expected.items():
        said = run([*command, *words.split()], place, PYTHONPATH=path)
        if want not in said:
            raise RuntimeError(f"installed powertcp {words} says\n{said}")
    if missing := [name for name in shared() if not (site / "share" / name).is_file()]:
        raise RuntimeError(f"not installed: {', '.join(missing)}")


def without(library: str, folder: Path) -> str:
    """Return a folder that, when Python finds it first, makes `library` one that is not there."""
    blind = folder / f"without-{library}"
    blind.mkdir()
    (blind / "sitecustomize.py").write_text(BLIND.replace("LIBRARY", library), encoding="utf-8")
    return str(blind)


def run_tests(path: str, folder: Path) -> None:
    """Run the unit tests against what is installed, from a place without the checkout.

    All that is below the loads has to pass where there is no event loop at all.
    """
    place = folder / "place"
    place.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("tests", "rfc"):
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", place)
    tests = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:trio"]
    run([*tests, "tests/unit/loads"], place, PYTHONPATH=path)
    blind = os.pathsep.join([without("trio", folder), path])
    run([*tests, "tests/unit"], place, PYTHONPATH=blind, HYPOTHESIS_NO_PLUGINS="1")


def main(arguments: list[str] | None = None) -> int:
    """Run the whole check; 1 with a sentence when something is wrong."""
    parser = argparse.ArgumentParser(prog="tools/check_dist.py", description=__doc__)
    parser.add_argument("--no-tests", action="store_true", help="without the unit tests")
    no_tests = parser.parse_args(arguments).no_tests
    with tempfile.TemporaryDirectory(prefix="powertcp-dist-") as name:
        folder = Path(name)
        try:
            built = build(folder / "first")
            judge_wheel(built[0])
            judge_sdist(built[1])
            judge_again(built, folder)
            site, path = install(built[0], folder)
            use(site, path, folder)
            if not no_tests:
                run_tests(path, folder)
        except RuntimeError as error:
            print(error)
            return 1
        sizes = ", ".join(f"{path.name} {path.stat().st_size:,} octets" for path in built)
    print(f"dist: ok, {sizes}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
