"""Standard output of a consumer with --json: one object on each line, whatever its load writes."""

import json
import os
import sys
from pathlib import Path

import pytest
import trio

from tests.drivers.processes import provider


@pytest.mark.parametrize(
    ("load", "written"),
    [
        (("--load", "lamp", "--for", "3s"), "lamp "),
        (("--load", "hum=hum.wav", "--for", "1s"), ""),
        (("--load", "none", "--for", "1s"), ""),
        (("--run", "sh -c 'echo shone; echo so >&2'"), "shone\nso\n"),
    ],
    ids=lambda value: value[1].partition(" ")[0] if isinstance(value, tuple) else "",
)
async def test_every_line_of_standard_output_is_an_object(
    tmp_path: Path, load: tuple[str, ...], written: str
) -> None:
    async with provider(tmp_path, "--supply", "12V/5A") as (_, address):
        done = await trio.run_process(
            [
                sys.executable, "-m", "powertcp", "consumer", "--connect", address,
                "--request", "12V/1A", *load, "--json",
            ],
            capture_stdout=True,
            capture_stderr=True,
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "XDG_RUNTIME_DIR": str(tmp_path),
                "XDG_STATE_HOME": str(tmp_path / "state"),
            },
        )  # fmt: skip
    events = [json.loads(line)["event"] for line in done.stdout.decode().splitlines()]
    assert "ready" in events
    assert events[-1] == "done"
    # nothing is lost: people may look at standard error
    assert written in done.stderr.decode()
