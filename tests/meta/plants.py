"""Violations that the import contracts must catch; run as a program in a copy of the package.

Each plant is one file of the copy with one wrong import; only the contract it names is asked.
"""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import NamedTuple

from importlinter.cli import lint_imports


class Plant(NamedTuple):
    """One violation: `code` is appended to `path` (made if it is missing)."""

    contract: str
    what: str
    path: str
    code: str


PLANTS = [
    Plant("layers", "upward by one", "wire/frames.py", "import powertcp.potcp.config\n"),
    Plant("layers", "upward by many", "units.py", "import powertcp.cli\n"),
    Plant("layers", "upward to the drivers", "loads/load.py", "import powertcp.drivers.daemon\n"),
    Plant("layers", "upward to the loads", "potcp/config.py", "import powertcp.loads.load\n"),
    Plant("layers", "upward to the sources", "potcp/allocate.py", "import powertcp.sources\n"),
    Plant("layers", "upward to the value", "errors.py", "import powertcp.profile\n"),
    Plant("layers", "upward to linux", "sources/source.py", "import powertcp.linux.sysfs\n"),
    Plant("layers", "sibling of the base", "registry.py", "import powertcp.machine\n"),
    Plant("layers", "sibling words", "units.py", "import powertcp.errors\n"),
    Plant(
        "layers",
        "inside a function",
        "dve/block.py",
        "def late() -> None:\n    import powertcp.potcp.config\n",
    ),
    Plant(
        "layers",
        "for typing only",
        "wire/buffer.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import powertcp.dve.block\n",
    ),
    Plant("layers", "the book to the store", "ledger/book.py", "import powertcp.store\n"),
    Plant("layers", "a protocol to the books", "potcp/events.py", "import powertcp.ledger\n"),
    Plant("layers", "the books to a protocol", "ledger/receipt.py", "import powertcp.potcp\n"),
    Plant("layers", "discovery to a protocol", "dpdp/select.py", "import powertcp.potcp\n"),
    Plant("layers", "the store to the kernel", "store/files.py", "import powertcp.linux\n"),
    Plant("layers", "the store to a driver", "store/ledger.py", "import powertcp.drivers.daemon\n"),
    Plant("layers", "from the package", "wire/options.py", "from powertcp import potcp\n"),
    Plant("layers", "an unplaced module", "utils.py", '"""Anything."""\n'),
    Plant("layers", "an unplaced package", "helpers/__init__.py", '"""Anything."""\n'),
    Plant("sans-io", "the event loop", "potcp/config.py", "import trio\n"),
    Plant("sans-io", "a socket", "wire/buffer.py", "import socket\n"),
    Plant("sans-io", "a clock", "potcp/negotiate.py", "import time\n"),
    Plant("sans-io", "dice", "dve/waveform.py", "import random\n"),
    Plant("sans-io", "a thread", "sources/breaker.py", "import threading\n"),
    Plant("sans-io", "a process", "sources/source.py", "import subprocess\n"),
    Plant("sans-io", "a file", "registry.py", "from pathlib import Path\n"),
    Plant("sans-io", "a secret", "potcp/allocate.py", "def dice() -> None:\n    import secrets\n"),
    Plant("sans-io", "the disk of the books", "ledger/book.py", "import sqlite3\n"),
    Plant("sans-io", "the time of the books", "ledger/tariff.py", "import time\n"),
    Plant("sans-io", "the clock of adverts", "dpdp/engine.py", "import time\n"),
    Plant("sans-io", "the dice of selection", "dpdp/select.py", "import random\n"),
    Plant("blocking", "the store", "store/ledger.py", "import trio\n"),
    Plant("blocking", "the event loop", "linux/sysfs.py", "import trio\n"),
    Plant("blocking", "another loop", "linux/cgroup.py", "import asyncio\n"),
    Plant("doors", "a second runtime", "drivers/daemon.py", "import asyncio\n"),
    Plant("doors", "construct", "wire/frames.py", "import construct\n"),
    Plant("doors", "cryptography", "potcp/config.py", "import cryptography\n"),
    Plant("doors", "the database", "drivers/daemon.py", "import sqlite3\n"),
    Plant("doors", "the database of the books", "drivers/ledger.py", "import sqlite3\n"),
    Plant("doors", "the signatures of the store", "store/rows.py", "import cryptography\n"),
    Plant("doors", "discovery", "loads/load.py", "import zeroconf\n"),
    Plant("oracle", "from the codec", "wire/frames.py", "import powertcp.wire.schema\n"),
    Plant("oracle", "from a protocol", "potcp/config.py", "from powertcp.wire import schema\n"),
    Plant("oracle", "from a driver", "drivers/daemon.py", "import powertcp.wire.schema\n"),
    Plant("oracle-blind", "the codec", "wire/schema.py", "import powertcp.wire.options\n"),
    Plant("oracle-blind", "the numbers", "wire/schema.py", "import powertcp.registry\n"),
    Plant("oracle-blind", "in a detour", "wire/schema.py", "import powertcp.dve.block\n"),
    Plant("potcp-inside", "upward", "potcp/config.py", "import powertcp.potcp.negotiate\n"),
    Plant("potcp-inside", "sideways", "potcp/allocate.py", "import powertcp.potcp.states\n"),
    Plant("potcp-inside", "unplaced", "potcp/common.py", '"""Anything."""\n'),
    Plant("layers", "lamps to tunnels", "mplamps/label.py", "import powertcp.vppn\n"),
    Plant("sans-io", "the dice of lamps", "mplamps/generators.py", "import random\n"),
    Plant("mplamps-inside", "upward", "mplamps/label.py", "import powertcp.mplamps.power\n"),
    Plant("mplamps-inside", "sideways", "mplamps/power.py", "import powertcp.mplamps.topology\n"),
    Plant("mplamps-inside", "unplaced", "mplamps/common.py", '"""Anything."""\n'),
    Plant("acyclic", "two modules", "potcp/events.py", "import powertcp.potcp.negotiate\n"),
    Plant("acyclic", "two packages", "units.py", "import powertcp.profile\n"),
]


def _lint(contract: str) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = lint_imports(limit_to_contracts=(contract,), no_cache=True, no_logo=True)
    return status, said.getvalue()


def _planted(plant: Plant) -> int:
    path = Path("powertcp") / plant.path
    before = path.read_text(encoding="utf-8") if path.exists() else None
    made = not path.parent.exists()
    path.parent.mkdir(exist_ok=True)
    try:
        path.write_text((before or "") + "\n" + plant.code, encoding="utf-8")
        return _lint(plant.contract)[0]
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before, encoding="utf-8")
        if made:
            path.parent.rmdir()


def main() -> None:
    """Print what each contract said of the clean tree and of each plant."""
    clean = {name: _lint(name) for name in dict.fromkeys(plant.contract for plant in PLANTS)}
    planted = {f"{plant.contract}: {plant.what}": _planted(plant) for plant in PLANTS}
    json.dump({"clean": clean, "planted": planted}, sys.stdout)


if __name__ == "__main__":
    main()
