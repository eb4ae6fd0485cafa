"""A provider in a realm: it tells the others of its flows, and goes on with theirs.

Each provider dials every other one and tells what it holds; who gets a ticket of another one's flow
goes on with it, and says so until the other one has heard it. DPDP section 10.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from powertcp.drivers.clock import unix_ns
from powertcp.drivers.daemon import now_ns, unix_offset_ns
from powertcp.drivers.dial import format_address, listen
from powertcp.drivers.provider import Provider
from powertcp.drivers.realm_file import Realm
from powertcp.drivers.realm_wire import RealmWire
from powertcp.drivers.session import FlowRecord
from powertcp.errors import DecodeError, WireBroken
from powertcp.potcp.realm import (
    MAX_KEYS,
    Beat,
    Gone,
    Message,
    Moved,
    Replica,
    Seen,
    Share,
    Took,
)
from powertcp.potcp.source import SourceFlow
from powertcp.potcp.tickets import MEMBER_SHIFT, Tenure
from powertcp.sources.adoption import has_room
from powertcp.units import NS_PER_S

BEAT_S: Final = 1.0
SILENT_S: Final = 3.0  # three beats
FIRST_RETRY_S: Final = 0.2
LAST_RETRY_S: Final = 5.0
MAX_REPLICAS: Final = 16_384  # of one other provider
MAX_MOVED: Final = 4096  # that one other provider has not heard of
MAX_WIRES: Final = 32  # accepted at a time
_log = logging.getLogger("realm")


@dataclass(eq=False)
class _Member:
    """Another provider of the realm. number: its place in the file. host, port: where it listens.

    changed, gone: flows of ours that it is to be told of. told: registers as it knows them. moved:
    flows of its own that go on here, and from which ESN, until it has heard that. theirs: its flows.
    """

    number: int
    host: str
    port: int
    changed: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    told: dict[int, tuple[int, int]] = field(default_factory=dict)
    moved: dict[int, int] = field(default_factory=dict)
    theirs: dict[int, Replica] = field(default_factory=dict)
    news: trio.Event = field(default_factory=trio.Event)
    is_told: bool = False  # a connection of ours stands
    wire: RealmWire | None = None  # by which it tells us
    has_warned: bool = False

    def __str__(self) -> str:
        return format_address(self.host, self.port)

    def wake(self) -> None:
        """There is something to tell."""
        self.news.set()


class RealmMember:
    """This provider as one of a realm."""

    def __init__(self, realm: Realm, number: int, provider: Provider) -> None:
        """Prepare; `run` begins. number: of our own place in the file."""
        self._realm, self._provider, self._number = realm, provider, number
        self._members = [
            _Member(index, host, port)
            for index, (host, port) in enumerate(realm.members, 1)
            if index != number
        ]
        self._starts: dict[int, int] = {}  # when flows began, Unix ns
        self._grace_s = provider.config.connection.grace_ns / NS_PER_S
        self.taken = self.handed = 0
        # tickets expire by the clock that members have in common
        provider.office.unix_offset_ns = unix_offset_ns()
        house = provider.admissions
        house.on_change = self._on_change
        house.on_end = self._on_end

    def facts(self) -> dict[str, object]:
        """Return how the realm stands, for `status`."""
        return {
            "name": self._realm.name,
            "member": self._number,
            "members": [
                {
                    "address": str(each),
                    "told": each.is_told,
                    "tells": each.wire is not None,
                    "flows": len(each.theirs),
                    "unheard": len(each.moved),
                }
                for each in self._members
            ],
            "taken": self.taken,
            "handed": self.handed,
        }

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, dial and tell until cancelled. Raises HostError when it cannot listen."""
        listeners = [trio.SocketListener(_trio_socket(one)) for one in self._listen()]
        async with trio.open_nursery() as nursery:
            for each in self._members:
                nursery.start_soon(self._keep_telling, each)
            limiter = trio.CapacityLimiter(MAX_WIRES)
            for listener in listeners:
                nursery.start_soon(self._accept, listener, limiter, nursery)
            task_status.started()

    def _listen(self) -> Sequence[object]:
        return listen([self._realm.members[self._number - 1]])

    # -- telling -------------------------------------------------------------------------------

    def _on_change(self, record: FlowRecord) -> None:
        """The terms or the receipts of one of our flows are others."""
        self._starts.setdefault(record.key, unix_ns())
        for each in self._members:
            each.changed.add(record.key)
            each.wake()

    def _on_end(self, key: int) -> None:
        self._starts.pop(key, None)
        for each in self._members:
            each.changed.discard(key)
            each.gone.add(key)
            each.told.pop(key, None)
            each.wake()

    async def _keep_telling(self, member: _Member) -> None:
        """Dial another provider again and again, and tell it what there is."""
        pause_s = FIRST_RETRY_S
        while True:
            try:
                with trio.fail_after(SILENT_S):
                    stream = await trio.open_tcp_stream(member.host, member.port)
                wire = RealmWire(stream, str(member))
                try:
                    await wire.greet(self._realm.link_key, is_dialer=True)
                    pause_s = FIRST_RETRY_S
                    await self._tell(wire, member)
                finally:
                    member.is_told = False
                    await wire.close()
            except* (OSError, trio.TooSlowError, WireBroken, DecodeError) as errors:
                if not member.has_warned:
                    _log.warning("%s: %s; it is tried again", member, first_of(errors))
                    member.has_warned = True
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_RETRY_S)

    # DPDP-10-07
    async def _tell(self, wire: RealmWire, member: _Member) -> None:
        """Tell all that we hold, then what changes, as long as the connection stands."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear_answers, wire, member)
            member.changed, member.gone = set(self._provider.admissions.live()), set()
            member.told.clear()
            await wire.send(Beat(member=self._number))
            beat_at = trio.current_time()
            while True:
                member.news = trio.Event()
                await self._tell_news(wire, member)
                if trio.current_time() >= beat_at:
                    await self._tell_registers(wire, member)
                    await wire.send(Beat(member=self._number))
                    beat_at = trio.current_time() + BEAT_S
                    if not member.is_told:
                        member.is_told, member.has_warned = True, False
                        _log.info("%s: told of our flows", member)
                with trio.move_on_at(beat_at):
                    await member.news.wait()

    async def _tell_news(self, wire: RealmWire, member: _Member) -> None:
        for key, esn_uj in tuple(member.moved.items()):
            await wire.send(Moved(key=key, esn_uj=esn_uj))
        gone, member.gone = sorted(member.gone), set()
        for first in range(0, len(gone), MAX_KEYS):
            await wire.send(Gone(keys=tuple(gone[first : first + MAX_KEYS])))
        while member.changed:
            key = member.changed.pop()
            share = self._share(key)
            if share is not None:
                member.told[key] = share.acked_uj, share.sent_uj
                await wire.send(share)

    async def _tell_registers(self, wire: RealmWire, member: _Member) -> None:
        found: list[tuple[int, int, int]] = []
        for key, told in member.told.items():
            tenure = self._tenure(key)
            if tenure is not None and told != (tenure.acked_uj, tenure.sent_uj):
                found.append((key, tenure.acked_uj, tenure.sent_uj))
        for key, acked_uj, sent_uj in found:
            member.told[key] = acked_uj, sent_uj
        for first in range(0, len(found), MAX_KEYS):
            await wire.send(Seen(flows=tuple(found[first : first + MAX_KEYS])))

    def _tenure(self, key: int) -> Tenure | None:
        holder = self._provider.office.find(key)
        return holder.tenure() if isinstance(holder, SourceFlow) else None

    def _share(self, key: int) -> Share | None:
        """Return what is told of one of our flows, None when it is over."""
        tenure = self._tenure(key)
        record = self._provider.admissions.live().get(key)
        holding = self._provider.breaker.holdings.get(record) if record is not None else None
        if tenure is None or holding is None or record is None:
            return None
        began_ns = record.book.start_ns if record.book else self._starts.get(key, 0)
        return Share.of(tenure, holding.desired, holding.minimum, began_ns)

    async def _hear_answers(self, wire: RealmWire, member: _Member) -> None:
        while True:
            match await wire.receive():
                case Took(key=key):
                    member.moved.pop(key, None)
                case _:
                    pass

    # -- hearing -------------------------------------------------------------------------------

    async def _accept(
        self, listener: trio.SocketListener, limiter: trio.CapacityLimiter, nursery: trio.Nursery
    ) -> None:
        async with listener:
            while True:
                stream = await listener.accept()
                if limiter.available_tokens < 1:
                    await trio.aclose_forcefully(stream)
                    continue
                nursery.start_soon(self._hear, stream, limiter)

    async def _hear(self, stream: trio.SocketStream, limiter: trio.CapacityLimiter) -> None:
        """Hear what another provider tells, until the connection ends."""
        wire = RealmWire(stream, format_address(*stream.socket.getpeername()[:2]))
        member: _Member | None = None
        async with limiter:
            try:
                await wire.greet(self._realm.link_key, is_dialer=False)
                member = await self._find_member(wire)
                await self._heed_all(wire, member)
            except (OSError, trio.TooSlowError, WireBroken, DecodeError) as error:
                _log.info("%s: %s", member or wire.peer, error)
            finally:
                await wire.close()
                if member is not None and member.wire is wire:
                    member.wire = None
        if member is not None and member.wire is None:
            await self._forget(member)

    async def _find_member(self, wire: RealmWire) -> _Member:
        """Return who tells; what it has told before on another connection is told anew."""
        with trio.fail_after(SILENT_S):
            first = await wire.receive()
        number = first.member if isinstance(first, Beat) else 0
        member = next((one for one in self._members if one.number == number), None)
        if member is None:
            raise DecodeError(0, "member", 503, number, len(self._realm.members))
        if member.wire is not None:
            await member.wire.close()
        member.wire = wire
        return member

    async def _heed_all(self, wire: RealmWire, member: _Member) -> None:
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
            await self._heed(wire, member, message)

    async def _heed(self, wire: RealmWire, member: _Member, message: Message) -> None:
        match message:
            case Share():
                self._note(member, message)
            case Seen(flows=flows):
                for key, acked_uj, sent_uj in flows:
                    if replica := member.theirs.get(key):
                        replica.note(acked_uj, sent_uj)
            case Gone(keys=keys):
                for key in keys:
                    self._void(member, key)
            case Moved(key=key, esn_uj=esn_uj):
                self._move_away(key, esn_uj)
                await wire.send(Took(key=key))
            case _:
                pass

    def _note(self, member: _Member, share: Share) -> None:
        """Honour tickets of a flow of another provider from now on."""
        if share.key >> MEMBER_SHIFT != member.number:
            raise DecodeError(0, "key", 503, share.key >> MEMBER_SHIFT, member.number)
        if share.key in member.moved:
            return  # it goes on here: the other one has not heard it yet
        now = now_ns()
        share.tenure(now)
        if share.key not in member.theirs and len(member.theirs) >= MAX_REPLICAS:
            return
        replica = Replica(share, now, self._fits, self._on_move)
        member.theirs[share.key] = replica
        self._provider.office.adopt(share.key, replica)

    def _void(self, member: _Member, key: int) -> None:
        if member.theirs.pop(key, None) is not None:
            self._provider.office.leave(key)

    async def _forget(self, member: _Member) -> None:
        """Honour tickets of a provider that is silent for T_GRACE, as it would itself."""
        _log.info("%s is silent", member)
        await trio.sleep(self._grace_s)
        if member.wire is None:
            for key in tuple(member.theirs):
                self._void(member, key)

    # -- moving --------------------------------------------------------------------------------

    # DPDP-10-05
    def _fits(self, tenure: Tenure) -> bool:
        """Whether the power of another provider's flow could be had here."""
        provider, books = self._provider, self._provider.admissions.billing.books
        if provider.draining or (books is not None and books.refusal() is not None):
            return False
        return has_room(provider.breaker, tenure.profile, b"", now_ns())

    def _on_move(self, key: int, esn_uj: int) -> None:
        """A flow of another provider goes on here: tell it until it has heard it."""
        member = next(one for one in self._members if one.number == key >> MEMBER_SHIFT)
        member.theirs.pop(key, None)
        self.taken += 1
        _log.info("a flow of %s goes on here, from %d uJ", member, esn_uj)
        # DPDP-10-06
        while len(member.moved) >= MAX_MOVED:
            member.moved.pop(next(iter(member.moved)))
        member.moved[key] = esn_uj
        member.wake()

    # DPDP-10-06
    def _move_away(self, key: int, esn_uj: int) -> None:
        """One of our flows goes on with another provider."""
        house, office, now = self._provider.admissions, self._provider.office, now_ns()
        holder, record = office.find(key), house.live().get(key)
        tenure = holder.tenure() if isinstance(holder, SourceFlow) else None
        if not isinstance(holder, SourceFlow) or record is None or tenure is None:
            return
        esn_uj = min(max(esn_uj, tenure.acked_uj), tenure.sent_uj)
        house.leave(key)
        self.handed += 1
        house.chronicle.say(record, "moved", "goes on with another provider of the realm")
        house.billing.handed_over(record, esn_uj)
        office.leave(key)
        house.attempt(record, now, holder.move, now, esn_uj)


def first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group, however deep."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _trio_socket(one: object) -> trio.socket.SocketType:
    return trio.socket.from_stdlib_socket(one)  # type: ignore[arg-type]


@asynccontextmanager
async def open_realm(realm: Realm, number: int, provider: Provider) -> AsyncIterator[RealmMember]:
    """Be one of a realm until the block ends. Raises HostError when we cannot listen there."""
    member = RealmMember(realm, number, provider)
    async with trio.open_nursery() as nursery:
        await nursery.start(member.run)
        try:
            yield member
        finally:
            nursery.cancel_scope.cancel()
