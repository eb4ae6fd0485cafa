"""The provider of a demonstration as a process of its own: `python -m powertcp.drivers.grid`.

Arguments: rating in mW, then supplies. Orders come as JSON lines on standard input, answers leave
on standard output; the end of the input ends the provider, so that nothing stays behind.
"""

import json
import logging
import os
import sys
from collections.abc import Sequence

import trio

from powertcp.drivers.daemon import set_up_logging
from powertcp.drivers.dial import listen
from powertcp.drivers.provider import Provider, ProviderConfig
from powertcp.drivers.spool import spool_streams
from powertcp.profile import PowerProfile, ProfileType
from powertcp.sources import Supply


def answer(**facts: object) -> None:
    """Write one answer."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def obey(provider: Provider, line: bytes) -> None:
    """Do what one line orders: {"rating_mw": N} or {"sums": true}."""
    order = json.loads(line)
    if "rating_mw" in order:
        provider.set_rating(order["rating_mw"])
    if "sums" in order:
        sums = provider.admissions
        answer(
            source_uj=sums.delivered_uj + sums.returned_uj,
            verified_uj=sums.delivered_uj,
            heat_uj=sums.heat_uj,
        )


async def serve(rating_mw: int, supplies: Sequence[str]) -> None:
    """Provide on a free port of the loopback until the input ends."""
    offered = [Supply(profile=PowerProfile.parse(text, ProfileType.OFFER)) for text in supplies]
    provider = Provider(ProviderConfig(supplies=offered, rating_mw=rating_mw))
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(provider.serve, listen([("127.0.0.1", 0)]))
        answer(listening=addresses[0])
        rest = b""
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as orders:
            async for data in orders:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    obey(provider, line)
        await provider.drain()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    spool_streams()
    set_up_logging(os.environ, level=logging.WARNING)
    trio.run(serve, int(sys.argv[1]), sys.argv[2:])
