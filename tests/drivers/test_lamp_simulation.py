"""`powertcp mplamps sim` as a process of its own."""

import subprocess
import sys


def test_without_power_there_is_no_numpy_and_no_trio() -> None:
    code = (
        "import sys; from powertcp.cli.main import main;"
        "status = main(['mplamps', 'sim', 'street:1', '--until', '1s', '--json']);"
        "sys.exit(status or '+'.join({'numpy', 'trio'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, text=True)
    assert done.returncode == 0, done.stderr
    assert '"signalled": 1' in done.stdout
