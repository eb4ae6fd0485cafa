"""A provider hears what others of its realm hold, and honours tickets of it. DPDP section 10."""

import logging
import socket
from collections.abc import Sequence
from typing import Final

import trio

from powertcp.drivers.dial import format_address
from powertcp.drivers.realm_members import MAX_REPLICAS, SILENT_S, Flows, Member, owner_of
from powertcp.drivers.realm_wire import RealmWire
from powertcp.errors import DecodeError, WireBroken
from powertcp.potcp.realm import Beat, Gone, Message, Moved, Seen, Share, Took
from powertcp.potcp.tickets import MEMBER_SHIFT

MAX_WIRES: Final = 32  # accepted at a time: two of each other provider and a few strangers
ACCEPT_PAUSE_S: Final = 0.1
_log = logging.getLogger("realm")


class Hearer:
    """Accepts connections and heeds what members tell on them.

    strangers: connections that have not shown yet that they know the secret, the oldest first.
    """

    def __init__(
        self, flows: Flows, members: list[Member], link_key: bytes, grace_s: float
    ) -> None:
        """Hear of the flows of `members`. grace_s: how long those of a silent one are honoured."""
        self._flows, self._members = flows, members
        self._link_key, self._grace_s = link_key, grace_s
        self.strangers: dict[RealmWire, None] = {}
        self.wires = 0

    async def run(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Accept until cancelled."""
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                nursery.start_soon(self._accept, listener, nursery)

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    # out of descriptors: whoever tells waits, the power stays on
                    _log.warning("accept: %s", error)
                    await trio.sleep_until(trio.current_time() + ACCEPT_PAUSE_S)
                    continue
                self._enter(stream, nursery)

    # DPDP-10-08
    def _enter(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        """Hear a new connection; where there are too many, in place of the oldest stranger."""
        wire = RealmWire(stream, "somebody")
        if self.wires >= MAX_WIRES:
            oldest = next(iter(self.strangers), None)
            if oldest is None:
                wire.close()
                return
            del self.strangers[oldest]
            oldest.close()
        self.wires += 1
        self.strangers[wire] = None
        nursery.start_soon(self._hear, wire)

    async def _hear(self, wire: RealmWire) -> None:
        """Hear what another provider tells, until the connection ends."""
        member: Member | None = None
        try:
            wire.peer = format_address(*wire.socket.getpeername()[:2])
            await wire.greet(self._link_key, is_dialer=False)
            member = await self._find_member(wire)
            await self._heed_all(wire, member)
        except (OSError, trio.TooSlowError, WireBroken, DecodeError) as error:
            _log.info("%s: %s", member or wire.peer, error)
        finally:
            wire.close()
            self.wires -= 1
            self.strangers.pop(wire, None)
            if member is not None and member.wire is wire:
                member.wire = None
        if member is not None and member.wire is None:
            await self._forget(member)

    async def _find_member(self, wire: RealmWire) -> Member:
        """Return who tells; what it has told before on another connection is told anew."""
        with trio.fail_after(SILENT_S):
            first = await wire.receive()
        # it knows the secret
        self.strangers.pop(wire, None)
        number = first.member if isinstance(first, Beat) else 0
        member = next((one for one in self._members if one.number == number), None)
        if member is None:
            raise DecodeError(0, "member", 503, number, len(self._members) + 1)
        before, member.wire = member.wire, wire
        if before is not None:
            before.close()
        return member

    async def _heed_all(self, wire: RealmWire, member: Member) -> None:
        """Heed messages; after the first round what was not told again is void."""
        old: set[int] | None = set(member.theirs)
        while True:
            with trio.fail_after(SILENT_S):
                message = await wire.receive()
            if member.wire is not wire:
                return
            if isinstance(message, Share) and old is not None:
                old.discard(message.key)
            if isinstance(message, Beat) and old is not None:
                for key in old:
                    self._void(member, key)
                old = None
            with trio.fail_after(SILENT_S):
                await self._heed(wire, member, message)

    async def _heed(self, wire: RealmWire, member: Member, message: Message) -> None:
        match message:
            case Share():
                self._note(member, message)
            case Seen(flows=flows):
                for key, acked_uj, sent_uj in flows:
                    if replica := member.theirs.get(key):
                        replica.note(acked_uj, sent_uj)
            case Gone(keys=keys):
                for key in keys:
                    owner = owner_of(key, self._members)
                    if owner is not None:
                        self._void(owner, key)
            case Moved(key=key, esn_uj=esn_uj):
                self._flows.move_away(key, esn_uj)
                await wire.send(Took(key=key))
            case _:
                pass

    def _note(self, member: Member, share: Share) -> None:
        """Honour tickets of a flow of another provider from now on."""
        if share.key >> MEMBER_SHIFT != member.number:
            raise DecodeError(0, "key", 503, share.key >> MEMBER_SHIFT, member.number)
        replica = self._flows.replica(share)
        if share.key in member.moved:
            return  # it goes on here: the other one has not heard it yet
        if share.key not in member.theirs and len(member.theirs) >= MAX_REPLICAS:
            return
        member.theirs[share.key] = replica
        self._flows.adopt(share.key, replica)

    def _void(self, member: Member, key: int) -> None:
        if member.theirs.pop(key, None) is not None:
            self._flows.leave(key)

    # DPDP-10-07
    async def _forget(self, member: Member) -> None:
        """Honour tickets of a provider that is silent for T_GRACE, as it would itself."""
        _log.info("%s is silent", member)
        since = member.silent_at = trio.current_time()
        await trio.sleep(self._grace_s)
        if member.wire is None and member.silent_at == since:
            for key in tuple(member.theirs):
                self._void(member, key)


def listeners_of(sockets: Sequence[socket.socket]) -> list[trio.SocketListener]:
    """Return listeners of sockets that listen."""
    return [trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in sockets]
