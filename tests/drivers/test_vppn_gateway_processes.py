"""An employer's gateway between real devices and real providers."""

import signal
from pathlib import Path

import pytest

from tests.drivers.gateways import Gate, books, gateway, inside
from tests.drivers.processes import Running, running


async def ended(*daemons: Running | Gate) -> None:
    """Let daemons drain, and see that they end well."""
    for one in daemons:
        process = one.process if isinstance(one, Gate) else one
        assert isinstance(process, Running)
        process.signal(signal.SIGTERM)
        assert await process.end() == 0


def employee(folder: Path) -> dict[str, int]:
    """Return what each employee had, by the ledger of a gateway."""
    rows = books(folder, "show")
    names = {str(row["account"]): row for row in rows if str(row.get("account", ""))}
    return {
        name.removeprefix("employee:"): row["debit"] - row["credit"]
        for name, row in names.items()
        if name.startswith("employee:")
    }


def pages(folder: Path) -> set[str]:
    """Return the pages that both sides signed, as hex digits."""
    rows = books(folder, "show", "--receipts")
    return {str(row["octets"]) for row in rows if row.get("state") == "countersigned"}


@pytest.mark.requirement("VPPN-6-01", "VPPN-6-03")
async def test_a_device_draws_through_a_gateway(tmp_path: Path) -> None:
    async with inside(tmp_path) as (source, upstream), gateway(tmp_path, upstream) as gate:
        async with running(tmp_path, *gate.device()) as sink:
            assert await sink.end() == 0
        (done,) = sink.all("done")
        assert done["energy_uj"] == 48_000_000
        await ended(gate, source)
    assert employee(tmp_path / "gate") == {"alice@lamp": 48_000_000}
