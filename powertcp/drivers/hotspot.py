"""A hot spot: who holds a lease of power is forwarded by nftables, exactly as long.

What it has of a flow is asked of the machine; the table decides what the kernel is told. Without the
privilege to forward the provider gives power only.
"""

import errno
import logging
import math
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

import trio

from powertcp.dpdp.leases import TICKET, Address, HotSpotConfig, LeasedAddresses
from powertcp.drivers.control import Fields
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.interfaces import DEBOUNCE_S, follow, read_interfaces
from powertcp.errors import ConfigError, HostError
from powertcp.linux.route import way_out
from powertcp.machine import Event
from powertcp.potcp.events import FlowEvent, LeaseRenewed
from powertcp.units import NS_PER_S, Instant
from powertcp.vppn.authorized import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from powertcp.drivers.session import Session

NFT_S: Final = 5.0  # nft takes some 30 ms
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 30.0
_PLACES: Final = "/usr/sbin:/sbin"  # not on the path of everybody
_LOCK: Final = (
    "\0powertcp-hotspot"  # abstract: one of each network namespace, gone with its process
)
_MEMBERS: Final = frozenset((Kind.KEY, Kind.ISSUER))
_log = logging.getLogger("hotspot")


class HotSpot:
    """The leases of a provider's flows, and the table of nftables that follows them.

    is_forwarding: whether the kernel has the table; fault: why not. absent: interfaces that the rules
    name and that this host does not have now.
    """

    def __init__(self, config: HotSpotConfig) -> None:
        """Forward nobody yet. Raises ValueError for what is no name of an interface."""
        self.config = config
        self.is_forwarding = False
        self.fault = ""
        self.absent: tuple[str, ...] = ()
        self._leased = LeasedAddresses(config.inside, config.outside)
        self._armed = trio.Event()
        self._was_full = False
        self._is_able = False

    # -- leases ------------------------------------------------------------------------------------

    # DPDP-9-02
    def heed(self, session: "Session", events: list[Event], now: Instant) -> None:
        """Take what the events of one wake-up of `session` mean for its leases."""
        if not self._is_able:
            return
        flows: dict[int, None] = {}
        for event in events:
            if isinstance(event, FlowEvent):
                flows[event.flow] = None
            elif type(event) is LeaseRenewed:
                flows |= dict.fromkeys(session.machine.flows)
        for flow in flows:
            self._look(session, flow, now)
        if flows and self._leased.get_timer() is not None:
            self._armed.set()

    def _look(self, session: "Session", flow: int, now: Instant) -> None:
        """Let the address of a flow be forwarded until its lease ends, or not."""
        key, until = (session, flow), self._until(session, flow, now)
        address = address_of(session.host)
        if until is None or address is None:
            self._leased.release(key, now)
        elif key in self._leased or self._is_inside(address):
            self._say_full(session.host, has_room=self._leased.hold(key, address, until, now))

    def _until(self, session: "Session", flow: int, now: Instant) -> Instant | None:
        """Return when the lease of a flow ends, None if it has none that is forwarded for."""
        machine, record = session.machine, session.flows.get(flow)
        if record is None or flow not in machine.flows:
            return None
        # DPDP-9-01
        if self.config.kind == TICKET and (
            record.rights is None or record.rights.kind not in _MEMBERS
        ):
            return None
        status = machine.status(flow)
        until = status.lease_until_ns
        return until if until is not None and until > now and not status.lapsed else None

    # DPDP-9-03
    def _is_inside(self, address: Address) -> bool:
        """Return whether packets to `address` leave by the inside: those to this host do not."""
        try:
            return way_out(address) == self.config.inside
        except HostError as error:
            _log.warning("%s", error)
            return False

    def _say_full(self, host: str, *, has_room: bool) -> None:
        if not has_room and not self._was_full:
            _log.warning("%s is not forwarded: %d addresses are", host, len(self._leased))
        self._was_full = not has_room

    # -- the kernel --------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Load the table. Raises HostError when this host does not allow it."""
        await _nft(self._leased.load(now_ns()))
        self._is_able = self.is_forwarding = True
        self.fault = ""

    async def run(self) -> None:
        """Tell the kernel what changes, until cancelled; what fails is tried again whole.

        Returns at once where nothing can be forwarded.
        """
        if self._is_able:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow, self.look_at_interfaces, DEBOUNCE_S)
                await self._tell_kernel()

    async def _tell_kernel(self) -> None:
        pause_s = FIRST_RETRY_S
        while True:
            if not self.is_forwarding:
                await trio.sleep(pause_s)
                pause_s = min(2 * pause_s, LAST_RETRY_S)
                with suppress(HostError):
                    await self.begin()
                    _log.warning("forwards again")
                continue
            pause_s = FIRST_RETRY_S
            await self._wait()
            if script := self._leased.changes(now_ns()):
                try:
                    await _nft(script)
                except HostError as error:
                    self.is_forwarding, self.fault = False, str(error)
                    _log.warning("forwarding is to be set up again: %s", error)

    async def _wait(self) -> None:
        """Wait until the kernel is to be told something."""
        while True:
            due = self._leased.get_timer()
            if due is not None and due <= now_ns():
                await trio.lowlevel.checkpoint()
                return
            with trio.move_on_at(math.inf if due is None else due / NS_PER_S):
                await self._armed.wait()
            self._armed = trio.Event()

    async def end(self) -> None:
        """Take the table away, if there is one."""
        if self._is_able:
            try:
                await _nft(self._leased.unload())
            except HostError as error:
                _log.warning("%s", error)
        self._is_able = self.is_forwarding = False

    # -- interfaces --------------------------------------------------------------------------------

    # DPDP-9-04
    def look_at_interfaces(self) -> None:
        """Say which interfaces are absent, and that they are back: the rules go by their names."""
        try:
            known = {each.name for each in read_interfaces()}
        except HostError as error:
            _log.warning("interfaces: %s", error)
            return
        config, before = self.config, self.absent
        wanted = (config.inside, config.outside)
        self.absent = tuple(name for name in wanted if name and name not in known)
        if self.absent == before:
            return
        if self.absent:
            _log.warning("%s", self._missed())
        else:
            _log.warning("%s: there again", ", ".join(before))

    def _missed(self) -> str:
        """Return what it means that interfaces are absent, "" while none is."""
        if self.config.inside in self.absent:
            return f"no interface {self.config.inside}: guests on another one are not held back"
        return f"no interface {self.config.outside}: nobody is forwarded" if self.absent else ""

    # -- people ------------------------------------------------------------------------------------

    def facts(self) -> Fields:
        """Return what programs are told."""
        config = self.config
        return {
            "kind": config.kind,
            "inside": config.inside,
            "outside": config.outside,
            "forwarding": self.is_forwarding,
            "addresses": len(self._leased),
            "refused": self._leased.refused,
            "fault": self.fault or self._missed(),
        }

    def line(self) -> str:
        """Return what people are told."""
        config = self.config
        if not self.is_forwarding:
            return "power only"
        beyond = f" to {config.outside}" if config.outside else ""
        return f"hot spot ({config.kind}) on {config.inside}{beyond}"


def address_of(host: str) -> Address | None:
    """Return the address that packets of a peer come from, None for one that no router forwards."""
    try:
        address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    is_local = address.is_loopback or address.is_link_local or address.is_unspecified
    return None if is_local or address.is_multicast else address


@asynccontextmanager
async def open_hotspot(config: HotSpotConfig) -> AsyncIterator[HotSpot]:
    """Have a table of nftables of our own; where that is not allowed, a hot spot without one.

    At the end it is gone. Raises ConfigError while another provider here has it, and when there is no
    inside: what comes in by another interface is not held back.
    """
    hotspot = HotSpot(config)
    # DPDP-9-04
    hotspot.look_at_interfaces()
    if config.inside in hotspot.absent:
        raise ConfigError("configuration", "inside", f"no interface {config.inside}")
    with _alone():
        try:
            await hotspot.begin()
        except HostError as error:
            # DPDP-9-04
            hotspot.fault = str(error)
            _log.warning("power only: %s", error)
        try:
            yield hotspot
        finally:
            with trio.CancelScope(shield=True):
                await hotspot.end()


@contextmanager
def _alone() -> "Iterator[None]":
    """Be the only hot spot of this network namespace. Raises ConfigError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        try:
            lock.bind(_LOCK)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            said = "another provider is the hot spot of this host"
            raise ConfigError("configuration", "hotspot", said) from error
        yield


async def _nft(script: str) -> None:
    """Let nft carry out `script`, all of it or nothing. Raises HostError."""
    where = f"{os.environ.get('PATH', os.defpath)}:{_PLACES}"
    found = shutil.which("nft", path=where)
    if found is None:
        await trio.lowlevel.checkpoint()
        raise HostError(errno.ENOENT, "nft", "forward")
    with trio.move_on_after(NFT_S):
        try:
            done = await trio.run_process(
                [found, "-f", "-"],
                stdin=script.encode(),
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env={"LC_ALL": "C"},
            )
        except OSError as error:
            raise HostError(error.errno or errno.EIO, found, "forward") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace")
            raise HostError(_errno_of(said), found, "forward")
        return
    raise HostError(errno.ETIMEDOUT, found, "forward")


def _errno_of(said: str) -> int:
    """Return the number of the error that nft told in words."""
    return next((number for number in errno.errorcode if os.strerror(number) in said), errno.EIO)
