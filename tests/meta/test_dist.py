"""The check of wheel and sdist finds what is missing, what is foreign and what differs."""

import tarfile
import zipfile
from pathlib import Path

import pytest

from tools import check_dist

DATA = "powertcp-0.1.0.data/data/share/"


def wheel(folder: Path, *, without: str = "", extra: str = "") -> Path:
    """Write a wheel of names only."""
    path = folder / "powertcp-0.1.0-py3-none-any.whl"
    names = [*check_dist.IN_WHEEL, *(f"powertcp/_rfc/{name}" for name in check_dist.drafts())]
    names += [DATA + place for place in check_dist.shared()]
    with zipfile.ZipFile(path, "w") as archive:
        for name in [*names, extra]:
            if name and name != without:
                archive.writestr(name, "")
    return path


def sdist(folder: Path, *, without: str = "", extra: str = "") -> Path:
    """Write an sdist of names only."""
    path = folder / "powertcp-0.1.0.tar.gz"
    names = [*check_dist.IN_SDIST, *(f"rfc/{name}" for name in check_dist.drafts()), extra]
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            if name and name != without:
                archive.addfile(tarfile.TarInfo(f"powertcp-0.1.0/{name}"))
    return path


def test_lists_name_something() -> None:
    names = ("dpdp", "mplamps", "protocol", "vppn")
    assert check_dist.drafts() == [f"draft-powertcp-{name}-00.txt" for name in names]
    assert len(check_dist.shared()) >= 10


def test_complete_ones_pass(tmp_path: Path) -> None:
    check_dist.judge_wheel(wheel(tmp_path))
    check_dist.judge_sdist(sdist(tmp_path))


@pytest.mark.parametrize(
    "lost",
    [
        "powertcp/data/profiles.toml",
        "powertcp/_rfc/vectors/",
        "powertcp/_rfc/draft-powertcp-protocol-00.txt",
        f"{DATA}man/man1/powertcp-provider.1",
        f"{DATA}bash-completion/completions/powertcp",
    ],
)
def test_a_wheel_without_its_data_is_named(tmp_path: Path, lost: str) -> None:
    with pytest.raises(RuntimeError, match=f"the wheel lacks {lost}"):
        check_dist.judge_wheel(wheel(tmp_path, without=lost))


@pytest.mark.parametrize("lost", ["tests/unit/", "rfc/requirements.toml", ".ci/run"])
def test_an_sdist_without_its_sources_is_named(tmp_path: Path, lost: str) -> None:
    with pytest.raises(RuntimeError, match=f"the sdist lacks {lost}"):
        check_dist.judge_sdist(sdist(tmp_path, without=lost))


def test_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"the wheel holds tests/conftest\.py"):
        check_dist.judge_wheel(wheel(tmp_path, extra="tests/conftest.py"))
    with pytest.raises(RuntimeError, match=r"the sdist holds \.deps/x"):
        check_dist.judge_sdist(sdist(tmp_path, extra=".deps/x"))


def test_a_large_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wheel(tmp_path)
    monkeypatch.setattr(check_dist, "LIMIT_OCTETS", path.stat().st_size - 1)
    with pytest.raises(RuntimeError, match="octets of"):
        check_dist.judge_wheel(path)


@pytest.mark.parametrize("target", [0, 1])
def test_builds_that_differ_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: int
) -> None:
    first = (wheel(tmp_path), sdist(tmp_path))

    def planted(folder: Path, root: Path = check_dist.ROOT) -> tuple[Path, Path]:
        folder.mkdir()
        both = (folder / first[0].name, folder / first[1].name)
        for old, new in zip(first, both, strict=True):
            new.write_bytes(old.read_bytes() + b"x" * (old == first[target]))
        return both

    monkeypatch.setattr(check_dist, "build", planted)
    with pytest.raises(RuntimeError, match=f"two builds of {first[target].name} differ"):
        check_dist.judge_again(first, tmp_path)
