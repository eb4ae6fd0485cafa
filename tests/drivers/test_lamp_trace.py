"""What a simulation writes is what `powertcp mplamps trace` reads: README shows it."""

import os
from pathlib import Path

import pytest

from powertcp.cli.main import main

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def dusk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Simulate the night of README: a capture and a trace."""
    script = tmp_path / "dusk.txt"
    script.write_text("0s derate c1--h2 40W\n1s on *\n")
    files = ["--capture", str(tmp_path / "dusk.pcapng"), "--trace", str(tmp_path / "dusk.sqlog")]
    assert main(["mplamps", "sim", "street:2", str(script), "--until", "3s", *files]) == 1
    capsys.readouterr()
    return tmp_path


def ran(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = main(["mplamps", "trace", *words])
    return status, capsys.readouterr().out


def test_readme_shows_why_a_simulated_lamp_is_dark(
    dusk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = README.partition("$ powertcp mplamps trace dusk.pcapng --why\n")[2]
    assert ran(capsys, str(dusk / "dusk.pcapng"), "--why") == (1, shown.partition("```")[0])


def test_a_trace_says_the_same_as_a_capture(dusk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--why", "--topology", "street:2")
    by_capture = ran(capsys, str(dusk / "dusk.pcapng"), *words)[1].splitlines()
    by_trace = ran(capsys, str(dusk / "dusk.sqlog"), *words)[1].splitlines()
    # the lamp knows it a little later than the node that refused it
    assert [line[35:] for line in by_trace] == [line[35:] for line in by_capture]
    assert "refused 100 NO_CAPACITY: link c1--h2 (400 V) has 39,790 mW left" in by_trace[0]
    ladders = [
        [line for line in ran(capsys, str(dusk / name), "--topology", "street:2")[1].splitlines()
         if " -> " in line]
        for name in ("dusk.pcapng", "dusk.sqlog")
    ]  # fmt: skip
    # times of a trace count from its first event, an act at 0 s
    assert [line[23:] for line in ladders[0]] == [line[23:] for line in ladders[1]]
    assert len(ladders[0]) >= 12


def test_a_pipe_cannot_be_read_twice(capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    try:
        assert main(["mplamps", "trace", f"/dev/fd/{reading}"]) == 2
    finally:
        os.close(reading)
        os.close(writing)
    assert capsys.readouterr().err == (
        f"powertcp mplamps: /dev/fd/{reading}: file: a pipe cannot be read twice: name a file\n"
    )
