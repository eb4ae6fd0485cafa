"""`powertcp mplamps sim` as a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DAY = """0s on *
2s cut es1--a1
3s set lamp-1 230V/400mA@50Hz
4s crash a2
5s restart a2
6s mend es1--a1
7s migrate lamp-2 peer
8s off lamp-3
"""


def test_without_power_there_is_no_numpy_and_no_trio() -> None:
    code = (
        "import sys; from powertcp.cli.main import main;"
        "status = main(['mplamps', 'sim', 'street:1', '--until', '1s', '--json']);"
        "sys.exit(status or '+'.join({'numpy', 'trio'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, text=True)
    assert done.returncode == 0, done.stderr
    assert '"signalled": 1' in done.stdout


@pytest.mark.parametrize("options", [(), ("--power", "--hello")])
def test_an_order_of_hashes_changes_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    script = tmp_path / "day"
    script.write_text(DAY)

    def ran(hash_seed: str) -> tuple[dict[str, Any], bytes, bytes]:
        files = [tmp_path / f"{hash_seed}.{kind}" for kind in ("pcapng", "sqlog")]
        words = ["mplamps", "sim", "ladder:3", script, "--until", "10s", "--json", *options]
        words += ["--capture", files[0], "--trace", files[1]]
        done = subprocess.run(
            [sys.executable, "-m", "powertcp", *map(str, words)], capture_output=True, timeout=60,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        values = json.loads(done.stdout)
        return values, *(file.read_bytes() for file in files)

    (one, *files), (other, *others) = ran("0"), ran("12345")
    assert one["messages_sum"] > 100
    assert one["hashes"]["capture"]
    assert one["hashes"] == other["hashes"]
    assert files == others
    assert {key: value for key, value in one.items() if "cpu" not in key} == {
        key: value for key, value in other.items() if "cpu" not in key
    }
