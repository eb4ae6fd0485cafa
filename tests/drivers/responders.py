"""Responders of one namespace in one process: `python -m tests.drivers.responders FIRST COUNT`.

Announces COUNT providers `lamp FIRST` .. by zeroconf itself, without probing, until it is ended.
"""

import asyncio
import os
import sys

from zeroconf import InterfaceChoice, ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from powertcp.dpdp.advert import TYPE_TCP, Advert, Offer, encode_txt
from powertcp.profile import PowerProfile, ProfileType

OFFER = Offer(offer=PowerProfile.parse("12V/5A", ProfileType.OFFER))


def service(number: int) -> ServiceInfo:
    advert = Advert(id=number.to_bytes(16, "big"), offers=(OFFER,), cap_mw=60_000, source="grid")
    return ServiceInfo(
        TYPE_TCP,
        f"lamp {number}.{TYPE_TCP}",
        3251 + number,
        properties=encode_txt(advert),
        server=f"host{os.getpid()}.local.",
        parsed_addresses=["127.0.0.1"],
    )


async def main(first: int, count: int) -> None:
    zc = AsyncZeroconf(interfaces=["127.0.0.1"] if len(sys.argv) < 4 else InterfaceChoice.All)
    tasks = [
        await zc.async_register_service(service(number), cooperating_responders=True)
        for number in range(first, first + count)
    ]
    await asyncio.gather(*tasks)
    sys.stdout.write("announced\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
