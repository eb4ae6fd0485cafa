"""A provider in a realm: it tells the others of its flows, and goes on with theirs.

Each provider dials every other one and tells what it holds; who gets a ticket of another one's flow
goes on with it, and says so until the other one has heard it. DPDP section 10.
"""

import errno
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import trio

from powertcp.drivers.clock import unix_ns
from powertcp.drivers.daemon import now_ns, unix_offset_ns
from powertcp.drivers.dial import format_address, listen
from powertcp.drivers.provider import Provider
from powertcp.drivers.realm_file import Realm
from powertcp.drivers.realm_hearing import Hearer, listeners_of
from powertcp.drivers.realm_members import Member, owner_of
from powertcp.drivers.realm_telling import Teller
from powertcp.drivers.session import FlowRecord
from powertcp.errors import HostError, known
from powertcp.potcp.realm import Replica, Share
from powertcp.potcp.source import SourceFlow
from powertcp.potcp.tickets import Tenure
from powertcp.sources.adoption import has_room
from powertcp.units import NS_PER_S

_log = logging.getLogger("realm")


class RealmMember:
    """This provider as one of a realm."""

    def __init__(self, realm: Realm, number: int, provider: Provider) -> None:
        """Prepare; `run` begins. number: of our own place in the file."""
        self._realm, self._provider, self._number = realm, provider, number
        self._members = [
            Member(index, host, port)
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
        house.on_return = self._on_return

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
        link_key = self._realm.link_key
        where = self._realm.members[self._number - 1]
        try:
            listeners = listeners_of(listen([where]))
        except OSError as error:
            code = error.errno or errno.EADDRNOTAVAIL
            raise HostError(code, format_address(*where), "hear others of the realm") from error
        hearer = Hearer(self, self._members, link_key, self._grace_s)
        async with trio.open_nursery() as nursery:
            for each in self._members:
                nursery.start_soon(Teller(self, each, self._number, link_key).run)
            nursery.start_soon(hearer.run, listeners)
            task_status.started()

    # -- flows of ours -------------------------------------------------------------------------

    def _on_change(self, record: FlowRecord) -> None:
        """The terms or the receipts of one of our flows are others."""
        if record.key not in self.live():
            return
        self._starts.setdefault(record.key, unix_ns())
        for each in self._members:
            each.change(record.key)

    def _on_end(self, key: int) -> None:
        self._starts.pop(key, None)
        for each in self._members:
            each.end(key)

    def live(self) -> Mapping[int, FlowRecord]:
        """Return our flows that tickets may move, by key."""
        return self._provider.admissions.live()

    def tenure(self, key: int) -> Tenure | None:
        """Return the contract of one of our flows, None when it cannot be moved any more."""
        holder = self._provider.office.find(key)
        return holder.tenure() if isinstance(holder, SourceFlow) else None

    def share(self, key: int) -> Share | None:
        """Return what is told of one of our flows, None when it is over."""
        tenure, record = self.tenure(key), self.live().get(key)
        holding = self._provider.breaker.holdings.get(record) if record is not None else None
        if tenure is None or holding is None or record is None:
            return None
        began_ns = record.book.start_ns if record.book else self._starts.get(key, 0)
        return Share.of(tenure, holding.desired, holding.minimum, began_ns)

    # DPDP-10-06
    def move_away(self, key: int, esn_uj: int) -> None:
        """End one of our flows: it goes on with another provider."""
        house, office, now = self._provider.admissions, self._provider.office, now_ns()
        holder, record, tenure = office.find(key), self.live().get(key), self.tenure(key)
        if not isinstance(holder, SourceFlow) or record is None or tenure is None:
            return
        esn_uj = min(max(esn_uj, tenure.acked_uj), tenure.sent_uj)
        house.leave(key)
        self.handed += 1
        house.chronicle.say(record, "moved", "goes on with another provider of the realm")
        house.billing.handed_over(record, esn_uj)
        office.leave(key)
        house.attempt(record, now, holder.move, now, esn_uj)

    # -- flows of others -----------------------------------------------------------------------

    @property
    def adopt(self) -> Callable[[int, Replica], None]:
        """Honour tickets of another provider's flow."""
        return self._provider.office.adopt

    @property
    def leave(self) -> Callable[[int], None]:
        """Honour them no longer."""
        return self._provider.office.leave

    def replica(self, share: Share) -> Replica:
        """Return what honours tickets of a flow. Raises DecodeError for what is no contract."""
        now = now_ns()
        share.tenure(now, now)
        return Replica(share, now, now_ns, self._fits, self._on_move)

    # DPDP-10-05
    def _fits(self, tenure: Tenure) -> bool:
        """Whether the power of another provider's flow could be had here."""
        provider, books = self._provider, self._provider.admissions.billing.books
        if provider.draining or (books is not None and books.refusal() is not None):
            return False
        return has_room(provider.breaker, tenure.profile, b"", now_ns())

    # DPDP-10-06
    def _on_move(self, key: int, esn_uj: int) -> None:
        """A flow of another provider goes on here: tell it, and the others that it is over."""
        member = known(owner_of(key, self._members), "a replica is of a member")
        if not member.take(key, esn_uj):
            return
        self.taken += 1
        _log.info("a flow of %s goes on here, from %d uJ", member, esn_uj)
        for each in self._members:
            if each is not member:
                each.end(key)

    # DPDP-10-05
    def _on_return(self, key: int) -> None:
        """A flow of another provider may not go on here after all: it keeps it."""
        member = known(owner_of(key, self._members), "a replica is of a member")
        replica = member.give_back(key)
        if replica is not None:
            self.taken -= 1
            _log.info("a flow of %s may not go on here", member)
            self.adopt(key, replica)


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
