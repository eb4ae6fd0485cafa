"""Hosts that announce providers: each a process with zeroconf itself, at the far end of a cable."""

import asyncio
import os
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from powertcp.dpdp.advert import TYPE_TCP, Advert, Offer, encode_txt
from powertcp.profile import PowerProfile, ProfileType
from tools.bench.spaces import CLONE_NEWNET, cable, leave, plug

PORT = 3251
_READY, _FAILED = b"+", b"-"


def instance(number: int) -> str:
    """What a provider is called."""
    return f"provider {number:04}"


@contextmanager
def announced(hosts: int, each: int) -> Iterator[None]:
    """Announce `each` providers from each of `hosts` at the far end of e0, until the block ends.

    They have announced when the block begins, and say nothing unasked in it.
    """
    heard, said = os.pipe()
    live, life = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(heard)
        os.close(life)
        _far_end(hosts, each, said, live)
    os.close(said)
    os.close(live)
    try:
        if os.read(heard, 1) != _READY:
            raise RuntimeError("the far end has no network")
        cable(pid)
        os.write(life, _READY)
        done = b""
        while len(done) < hosts:
            octet = os.read(heard, 1)
            if octet != _READY:
                raise RuntimeError(f"{len(done)} hosts of {hosts} have announced")
            done += octet
        yield
    finally:
        # they end when nobody holds this end any more
        os.close(life)
        os.close(heard)
        os.waitpid(pid, 0)


def _far_end(hosts: int, each: int, said: int, live: int) -> NoReturn:
    """Be the network of the hosts: wait for the cable, start them, wait for their end."""
    try:
        leave(CLONE_NEWNET)
        os.write(said, _READY)
        if os.read(live, 1) == _READY:
            _serve(hosts, each, said, live)
    except BaseException:  # noqa: BLE001  the parent is told that it is over
        traceback.print_exc()
        os.write(said, _FAILED)
    finally:
        os._exit(0)


def _serve(hosts: int, each: int, said: int, live: int) -> None:
    """Start the hosts and wait for their end."""
    plug(*(f"{_address(host)}/16" for host in range(hosts)), "fe80::1/64")
    import zeroconf.asyncio  # noqa: F401  loaded once for all of them

    pids = []
    for host in range(hosts):
        pid = os.fork()
        if pid == 0:
            asyncio.run(_host(host, each, said, live))
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)


def _address(host: int) -> str:
    return f"10.9.0.{host + 1}"


async def _host(host: int, each: int, said: int, live: int) -> None:
    """Announce, say so, and stay until the other end of `live` is closed."""
    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

    end = asyncio.Event()
    asyncio.get_running_loop().add_reader(live, end.set)
    offer = Offer(offer=PowerProfile.parse("12V/5A", ProfileType.OFFER))
    index = socket.if_nametoindex("e0")
    zc = AsyncZeroconf(interfaces=[_address(host), index])
    announcing = []
    for number in range(host * each, (host + 1) * each):
        advert = Advert(
            id=number.to_bytes(16, "big"), offers=(offer,), cap_mw=60_000, source="grid",
            exchange_key=number.to_bytes(32, "big"),
        )  # fmt: skip
        info = ServiceInfo(
            TYPE_TCP,
            f"{instance(number)}.{TYPE_TCP}",
            PORT + number % each,
            properties=encode_txt(advert),
            server=f"host{host}.local.",
            parsed_addresses=[_address(host)],
        )
        # nobody else has these names: it need not be asked
        announcing.append(await zc.async_register_service(info, cooperating_responders=True))
    await asyncio.gather(*announcing)
    os.write(said, _READY)
    await end.wait()
