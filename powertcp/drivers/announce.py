"""Announces what a provider offers, for as long as it offers it.

The machine decides what is said when; here it is said, one call of the resolver after another. What
fails is logged and tried again: mains never waits for mDNS.
"""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

import trio

from powertcp.dpdp.advert import DOMAIN, MAX_INSTANCE, Advert, encode_txt
from powertcp.dpdp.announcer import Announcer
from powertcp.dpdp.events import Contested, Register, Renamed, Update, Withdraw
from powertcp.dpdp.txt import show_text
from powertcp.drivers.daemon import now_ns, unix_offset_ns
from powertcp.drivers.interfaces import served
from powertcp.drivers.mdns import Mdns
from powertcp.drivers.sightings import Own
from powertcp.errors import HostError
from powertcp.machine import Entropy, Event
from powertcp.units import NS_PER_S

LOOK_S: Final = 1.0  # how late a change may be announced
CONFLICT_S: Final = 5.0  # DPDP-5-02
GOODBYE_S: Final = 1.0  # DPDP-4-03
REPEATS_S: Final = 0.3  # the resolver repeats what it says after 125 and 250 ms
MAX_HOST: Final = 54  # octets of a label of 63, that it may have an end
_LOOKS: Final = round(CONFLICT_S / LOOK_S)
_log = logging.getLogger("dpdp")


# DPDP-2-01
def host_name(entropy: Entropy = os.urandom) -> str:
    """Return the target of our services: the name of this host, and digits that nobody else has.

    Other hosts of this name would be taken for this one, and another responder of this host would
    take our addresses for a conflict and rename itself.
    """
    name = socket.gethostname().partition(".")[0] or "powertcp"
    return f"{name[:MAX_HOST]}-{entropy(4).hex()}.{DOMAIN}"


# DPDP-2-02
def instance_name(name: str) -> str:
    """Return what people see of a provider, of `name` if it has one; what DNS takes for a border is not in it."""
    wanted = name or f"{socket.gethostname().partition('.')[0]} power"
    plain = "".join(sign if sign.isprintable() else " " for sign in wanted.replace(".", "-"))
    return plain.strip().encode()[:MAX_INSTANCE].decode(errors="ignore").strip() or "power"


class Announcement:
    """One advert, as it is now, from `run` until `withdraw`.

    want: returns what is to be said, None while there is nothing. host: the target.
    listening: addresses where somebody listens. is_routed: none of them is link-local.
    """

    def __init__(
        self,
        mdns: Mdns,
        announcer: Announcer,
        want: Callable[[], Advert | None],
        *,
        kind: str,
        port: int,
        host: str,
        listening: Sequence[str],
        is_routed: bool = False,
    ) -> None:
        """Prepare to announce as `announcer` says."""
        self._mdns, self._announcer, self._want = mdns, announcer, want
        self._kind, self._port, self._host = kind, port, host
        self._listening, self._is_routed = tuple(listening), is_routed
        self._said: Own | None = None  # what is registered
        self._busy = trio.Lock()
        self._running = trio.CancelScope()
        self._armed = trio.Event()
        self._has_moved = False
        mdns.heed.append(self._on_move)

    @property
    def is_announced(self) -> bool:
        """Whether others can find it."""
        return self._said is not None

    async def run(self) -> None:
        """Announce, and say what changes; until cancelled or withdrawn."""
        with self._running:
            await self._mdns.opened.wait()
            looks = 0
            while True:
                advert, now = self._want(), now_ns()
                self._announcer.set_clock(unix_offset_ns(), now)
                if advert is not None:
                    self._announcer.want(advert, now)
                if looks % _LOOKS == 0 or self._has_moved:
                    self._look_for_others()
                looks += 1
                self._move()
                await self._pump()
                await self._wait()

    def refresh(self) -> bool:
        """Say it as it is now, as soon as may be: what has changed is no news by itself.

        Returns whether it will be said: before it is announced there is nothing to refresh.
        """
        advert, now = self._want(), now_ns()
        if advert is None or not self._announcer.is_registered:
            return False
        self._announcer.want(advert, now)
        self._announcer.announce_again(now)
        self._armed.set()
        return True

    async def withdraw(self) -> None:
        """Say goodbye, in 1 s at most; nothing is announced any more.

        Returns when it was said as often as it is: who hears it has moved by then.
        """
        # DPDP-4-03
        self._running.cancel()  # what is being announced just now is not waited for
        if self._on_move in self._mdns.heed:
            self._mdns.heed.remove(self._on_move)
        with trio.move_on_after(GOODBYE_S):
            was = self._said
            self._announcer.drain(now_ns())
            await self._pump()
            await self._unregister()
            if was is not None:
                await trio.sleep(REPEATS_S)

    def _on_move(self) -> None:
        # what is announced on an interface that is new has its addresses
        resolver, said = self._mdns.resolver, self._said
        if resolver is not None and said is not None and said.addresses != self._addresses():
            resolver.readdress(self._kind, self._addresses())
        self._has_moved = True
        self._armed.set()

    async def _wait(self) -> None:
        """Wait for the next look, for a deadline of the machine, or for other interfaces."""
        due = self._announcer.get_timer()
        until = trio.current_time() + LOOK_S
        if due is not None:
            until = min(until, due / NS_PER_S)
        with trio.move_on_at(until):
            await self._armed.wait()
        self._armed = trio.Event()
        now = now_ns()
        if due is not None and now >= due:
            self._announcer.handle_timer(now)

    async def _pump(self) -> None:
        """Do what the machine wants done, one thing after another."""
        async with self._busy:
            while (event := self._announcer.next_event()) is not None:
                await self._obey(event)

    async def _obey(self, event: Event) -> None:
        match event:
            case Register(instance=instance, advert=advert):
                await self._register(self._own(instance, advert))
            case Update(instance=instance, advert=advert):
                await self._update(self._own(instance, advert))
            case Withdraw():
                await self._unregister()
            case Renamed(instance=instance, was=was, why=why):
                _log.warning('"%s" is announced as "%s": %s', was, instance, why)
            case Contested(instance=instance, other=other):
                _log.warning(
                    '"%s" is the name of another provider too: %s', instance, show_text(other)
                )
            case _:
                pass

    async def _register(self, own: Own) -> None:
        resolver = self._mdns.resolver
        if resolver is None:
            return
        await self._unregister()
        try:
            is_ours = await self._mdns.call(resolver.register, own)
        except HostError as error:
            _log.warning("%s; it is tried again", error)
            self._announcer.failed(now_ns())
            return
        if not is_ours:
            self._announcer.refused(now_ns())
            return
        self._said = own
        self._announcer.registered(now_ns())
        _log.info('announced as "%s"', own.instance)

    async def _update(self, own: Own) -> None:
        resolver = self._mdns.resolver
        if resolver is None:
            return
        try:
            await self._mdns.call(resolver.update, own)
        except HostError as error:
            _log.warning("%s; it is tried again", error)
            self._announcer.failed(now_ns())
            return
        self._said = own

    async def _unregister(self) -> None:
        resolver, self._said = self._mdns.resolver, None
        if resolver is None:
            return
        try:
            await self._mdns.call(resolver.unregister, self._kind)
        except HostError as error:
            _log.info("%s", error)

    def _move(self) -> None:
        """Announce under the addresses that there are now."""
        said, self._has_moved = self._said, False
        if said is not None and said.addresses != self._addresses():
            self._announcer.announce_again(now_ns())

    def _addresses(self) -> tuple[str, ...]:
        return tuple(served(self._mdns.chosen, self._listening, is_routed=self._is_routed))

    # DPDP-5-02
    def _look_for_others(self) -> None:
        """Tell the machine who else goes by our name."""
        resolver, said = self._mdns.resolver, self._said
        if resolver is None or said is None:
            return
        for txt, port, host in resolver.under(self._kind, said.instance):
            if txt != said.txt:
                self._announcer.seen_own_name(txt, port, host, now_ns())

    def _own(self, instance: str, advert: Advert) -> Own:
        return Own(
            instance=instance,
            kind=self._kind,
            host=self._host,
            addresses=self._addresses(),
            port=self._port,
            txt=encode_txt(advert),
        )
