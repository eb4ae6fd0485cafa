"""A provider on the link: its adverts, for flows and for its feed, while it serves."""

import ipaddress
import logging
import os
from collections.abc import Sequence
from typing import Final

import trio

from powertcp.dpdp.advert import TYPE_TCP, TYPE_UDP, Advert, encode_txt
from powertcp.dpdp.announcer import Announcer
from powertcp.drivers.announce import Announcement, host_name, instance_name
from powertcp.drivers.daemon import now_ns, unix_offset_ns
from powertcp.drivers.interfaces import read_interfaces
from powertcp.drivers.mdns import Mdns, open_mdns
from powertcp.drivers.offers import Identity, feed_advert, feed_group, flow_advert, places
from powertcp.drivers.provider import Provider
from powertcp.errors import ConfigError, HostError

GOODBYE_S: Final = 1.0
_log = logging.getLogger("dpdp")


class Presence:
    """What a provider announces. name: of its instance, "" for that of the host."""

    def __init__(self, provider: Provider, identity: Identity, name: str) -> None:
        """Prepare to announce `provider`."""
        self._provider, self._identity = provider, identity
        self._name = instance_name(name)
        self._port = 0
        self._hosts: tuple[str, ...] = ()
        self._spoken: list[Announcement] = []

    def listening(self, where: Sequence[tuple[str, int]]) -> None:
        """Take the addresses that are served."""
        self._port, self._hosts = places(where)

    def adverts(self) -> list[dict[str, object]]:
        """Return what is announced, or would be: name, kind, port, TXT in hex."""
        rows = [(TYPE_TCP, self._port, self._flows()), (TYPE_UDP, self._feed_port(), self._feed())]
        return [
            {"name": self._name, "kind": kind, "port": port, "txt": encode_txt(advert).hex()}
            for kind, port, advert in rows
            if advert is not None
        ]

    async def run(self) -> None:
        """Announce until cancelled; that it cannot is said, and nothing else."""
        try:
            async with open_mdns(self._interfaces()) as mdns, trio.open_nursery() as nursery:
                host = host_name()
                self._spoken = [self._announcement(mdns, TYPE_TCP, host)]
                if self._feed() is not None:
                    self._spoken.append(self._announcement(mdns, TYPE_UDP, host))
                for each in self._spoken:
                    nursery.start_soon(each.run)
        except* (HostError, ConfigError) as errors:
            _log.warning("not announced: %s", errors.exceptions[0])

    async def withdraw(self) -> None:
        """Say goodbye for all of it, in 1 s at most: nobody new is to come."""
        # DPDP-4-03
        with trio.move_on_after(GOODBYE_S):
            async with trio.open_nursery() as nursery:
                for each in self._spoken:
                    nursery.start_soon(each.withdraw)

    def _announcement(self, mdns: Mdns, kind: str, host: str) -> Announcement:
        is_feed = kind == TYPE_UDP
        port = self._feed_port() if is_feed else self._port
        announcer = Announcer(
            self._name,
            now_ns(),
            rating_mw=self._provider.breaker.rating_mw,
            port=port,
            host=host,
            entropy=os.urandom,
            kind=kind,
            key=self._identity.key,
            unix_offset_ns=unix_offset_ns(),
        )
        want = self._feed if is_feed else self._flows
        return Announcement(
            mdns, announcer, want, kind=kind, port=port, host=host, listening=self._hosts,
            # DPDP-9-02: nobody forwards the address of a lease that was taken over a link-local one
            is_routed=bool(self._identity.hot),
        )  # fmt: skip

    def _interfaces(self) -> tuple[str, ...]:
        """Return where to announce: what is served on the loopback only, there."""
        if all(ipaddress.ip_address(host.partition("%")[0]).is_loopback for host in self._hosts):
            return tuple(each.name for each in read_interfaces() if each.is_loopback)
        return ()

    def _flows(self) -> Advert | None:
        return flow_advert(self._provider, self._identity)

    def _feed(self) -> Advert | None:
        return feed_advert(self._provider, self._identity)

    def _feed_port(self) -> int:
        group = feed_group(self._provider)
        return group[1] if group is not None else 0
