"""How far providers are: the time of one TCP connect to each, which says nothing and asks nothing."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final

import trio

from powertcp.dpdp.entry import Address, Entry
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.dial import connect
from powertcp.drivers.interfaces import Interface
from powertcp.units import Duration

MEASURE_S: Final = 0.5  # who is farther has no distance


def own_hosts(chosen: Sequence[Interface]) -> frozenset[str]:
    """Return our own addresses on these interfaces."""
    return frozenset(str(address.ip) for each in chosen for address in each.addresses)


async def measure(entries: Collection[Entry], own: Collection[str]) -> Mapping[str, Duration]:
    """Return ns to each of `entries` by its key, 0 for an address in `own`; in 0.5 s at most.

    Who does not answer in time has none.
    """
    found: dict[str, Duration] = {}

    async def one(key: str, address: Address) -> None:
        began = now_ns()
        host = f"{address.host}%{address.scope}" if address.scope else address.host
        with suppress(OSError):
            (await connect(host, address.port)).close()
            found[key] = max(1, now_ns() - began)

    with trio.move_on_after(MEASURE_S):
        async with trio.open_nursery() as nursery:
            for entry in entries:
                if entry.addresses and entry.addresses[0].host in own:
                    found[entry.key] = 0
                elif entry.addresses:
                    nursery.start_soon(one, entry.key, entry.addresses[0])
    return found
