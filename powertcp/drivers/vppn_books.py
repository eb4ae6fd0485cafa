"""The books of a gateway: what each employee had, by the pages that device and provider signed.

What no page covers is counted by our own integral, whatever the device says of it. VPPN-6-03.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2s
from typing import Final

import trio

from powertcp.drivers.ledger import Ledger
from powertcp.drivers.postings import Line, Postings
from powertcp.drivers.vppn_account import KIND, SIDE, STATE, Copy, FlowAccount
from powertcp.drivers.vppn_rests import Rest, Rests, reservation
from powertcp.drivers.windows import Windows
from powertcp.errors import PowerRefused
from powertcp.ledger import Kind, Page, Transfer
from powertcp.reclaim.track import TrackedFlow
from powertcp.units import NS_PER_S
from powertcp.vppn.limits import Period

UNSIGNED_S: Final = 60.0
# after a cut the rest of a page waits for a resume so long: the longest T_GRACE, and a moment
CUT_NS: Final = 310 * NS_PER_S
CUT_MAX: Final = 1024
_log = logging.getLogger("gateway")

# returns the energy that it brought into the ledger
Job = Callable[[], Awaitable[int]]


@dataclass(slots=True)
class _Employee:
    """What of one employee is in no posting yet, by accounts. open_uj: of all of them.

    bare_uj: of those without receipts.
    """

    accounts: set[FlowAccount] = field(default_factory=set)
    open_uj: int = 0
    bare_uj: int = 0

    def note(self, account: FlowAccount, open_uj: int) -> None:
        """So much of an account is open now."""
        more_uj, account.noted_uj = open_uj - account.noted_uj, open_uj
        self.open_uj += more_uj
        if not account.flow.is_metered:
            self.bare_uj += more_uj


@dataclass(slots=True)
class _Waiting:
    """What of one employee waits for the disk. had_uj: all that came out of it, and was before."""

    had_uj: int
    jobs: int = 0
    energy_uj: int = 0


class EmployeeBooks:
    """Accounts of employees in the ledger of a gateway; `keeping` runs it.

    Bounds: 1,024 flows that were cut and may be resumed; employees, by `Windows`.
    """

    def __init__(self, ledger: Ledger, unix_ns: Callable[[], int]) -> None:
        """Write to `ledger`."""
        self.ledger = ledger
        self.windows = Windows(ledger, unix_ns, KIND, is_open=self._is_open, had_uj=self._had_uj)
        self.on_failure: Callable[[], None] = _nothing
        self.pages = self.booked_uj = 0
        self._unix_ns = unix_ns
        self._postings = Postings(ledger, self._behind)
        self._opened = 0
        self._waiting: dict[str, _Waiting] = {}
        self._accounts: dict[TrackedFlow, FlowAccount] = {}
        # flows that were cut, and until when they may be resumed, the oldest first
        self._cut: dict[FlowAccount, int] = {}
        self._employees: dict[str, _Employee] = {}
        # of flows that were cut before we began, and until when they may be resumed
        self._rests, self._rests_until_ns = Rests(), 0

    @property
    def is_stuck(self) -> bool:
        """Whether nothing can be written any more: no request may pass then. LEDG-7-07."""
        return self._postings.is_stuck

    @property
    def accounts(self) -> tuple[FlowAccount, ...]:
        """Those of the flows that there are."""
        return tuple(self._accounts.values())

    def of(self, flow: TrackedFlow) -> FlowAccount | None:
        """Return the account of a flow, None before it has power."""
        return self._accounts.get(flow)

    # -- flows ---------------------------------------------------------------------------------

    def open(self, flow: TrackedFlow, name: str, source: str, who: str, where: str) -> FlowAccount:
        """Return the account of a flow that has power now; a resumed one goes on."""
        found = self._accounts.get(flow)
        if found is not None:
            return found
        account = FlowAccount(flow, name, source, who, Line(where), self._identity(flow))
        account.counted_uj = flow.base_uj
        before = self._find(flow, name)
        # PTCP-10-03: a ticket that did not help begins a new flow
        if before is not None and flow.base_uj and before.name == name:
            self._post(before, before.lost_uj(flow.base_uj))
            account.go_on(before)
        elif before is not None:
            self._post_rest(before)
        elif flow.ticket is not None and flow.base_uj:
            rest = self._rests.take(flow.ticket, name)
            if rest is not None:
                account.counted_uj = min(rest.counted_uj, flow.base_uj)
                self._end_rest(rest, Kind.VOID)
        self._accounts[flow] = account
        self._employees.setdefault(name, _Employee()).accounts.add(account)
        self._note(account)
        return account

    def _end_rest(self, rest: Rest, kind: Kind) -> None:
        """Post or void what was reserved."""
        energy_uj = rest.transfer.amount if kind is Kind.POST_PENDING else 0
        job = partial(self._transfer, rest.ended(kind), energy_uj)
        self._put(rest.name, Line(rest.name), energy_uj, job)

    def _identity(self, flow: TrackedFlow) -> bytes:
        """Return 32 octets for postings of a flow that no other has, now or after a restart."""
        self._opened += 1
        numbers = b"%d %d" % (self._unix_ns(), self._opened)
        return blake2s(flow.transcript + numbers).digest()

    def _find(self, flow: TrackedFlow, name: str) -> FlowAccount | None:
        """Take and return the account of the flow that this one resumes, None if there is none."""
        ticket = flow.ticket
        if ticket is None:
            return None
        found = next((one for one in self._cut if ticket in one.tickets), None)
        if found is not None:
            self._forget_cut(found)
        elif flow.base_uj:
            # the new path may be heard before the end of the old one
            there = (one for one in self._employees.get(name, _Employee()).accounts)
            found = next((one for one in there if ticket in one.tickets), None)
            if found is not None:
                del self._accounts[found.flow]
                self._leave(found)
        return found

    def _forget_cut(self, account: FlowAccount) -> None:
        del self._cut[account]
        self._leave(account)

    def _leave(self, account: FlowAccount) -> None:
        """An account holds nothing open any more."""
        employee = self._employees[account.name]
        employee.accounts.discard(account)
        employee.note(account, 0)
        if not employee.accounts:
            del self._employees[account.name]

    def note(self, flow: TrackedFlow) -> None:
        """Energy of a flow passed: what is open counts from now on."""
        account = self._accounts.get(flow)
        if account is not None:
            self._note(account)

    def _note(self, account: FlowAccount) -> None:
        employee = self._employees.get(account.name)
        if employee is not None and account in employee.accounts:
            employee.note(account, account.open_uj)

    # LEDG-7-06
    def copy_came(
        self,
        flow: TrackedFlow,
        where: str,
        octets: bytes,
        on_done: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        """A page with the signature of the device is to pass: it is posted if it is what it says.

        where: the flow as people see it. on_done: called when it may pass: it is on the disk, or no
        page of this flow. on_lost: called in its place when it could not be written: it must not
        pass then.
        """
        account = self._accounts.get(flow)
        copy = account.read(octets) if account is not None else None
        if account is None or copy is None:
            _log.warning("%s: this page is not what both signed", where)
            on_done()
            return
        if self.is_stuck:
            on_lost()
            return
        if copy.is_asked:
            account.take(copy.page)
        self.pages += 1
        job = partial(self._keep, account, copy, on_done, on_lost)
        self._note(account)
        self._put(account.name, account.line, copy.page.energy_uj, job)

    async def _keep(
        self,
        account: FlowAccount,
        copy: Copy,
        on_done: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> int:
        try:
            booked_uj = await self._store(account, copy.page)
        except BaseException:
            on_lost()
            raise
        on_done()
        return booked_uj

    async def _is_of_another(self, account: FlowAccount, page: Page) -> bool:
        """Whether a device repeats what it signed at another gateway, whose books have it."""
        if page.end_uj > account.flow.base_uj or not page.page:
            return False
        return await self.ledger.last_page(page.transcript, SIDE) is None

    async def _store(self, account: FlowAccount, page: Page) -> int:
        if await self._is_of_another(account, page):
            return 0
        transfers = account.signed(page)
        posted = await self.ledger.post_page(
            page.transcript, page.page, SIDE, page.to_wire(), STATE, *transfers
        )
        return 0 if posted.is_repeat else page.energy_uj

    def page_passed(self, flow: TrackedFlow, end_uj: int, verified_uj: int) -> None:
        """A page of the source passed: it ends where we had verified as much, or that is told."""
        account = self._accounts.get(flow)
        if account is not None and end_uj != verified_uj:
            name = account.line.name
            _log.warning("%s: page up to %d uJ, verified %d", name, end_uj, verified_uj)

    def left(self, flow: TrackedFlow, *, is_cut: bool) -> None:
        """A flow is over: what no page covers is posted; a cut one may be resumed first."""
        account = self._accounts.pop(flow, None)
        if account is None:
            return
        if not is_cut or not account.tickets:
            self._leave(account)
            self._post_rest(account)
            return
        if not flow.is_metered:
            self._post_rest(account)
        self._note(account)
        self._cut[account] = self._unix_ns() + CUT_NS
        if len(self._cut) > CUT_MAX:
            oldest = next(iter(self._cut))
            self._forget_cut(oldest)
            self._post_rest(oldest)

    # VPPN-6-03
    def _post_rest(self, account: FlowAccount) -> None:
        """Post what passed and no page covers."""
        open_uj = account.open_uj
        account.counted_uj += open_uj
        self._post(account, open_uj)

    # VPPN-6-03
    def post_bare(self, name: str, most_uj: int) -> None:
        """Post what an employee has without receipts, if `most_uj` is open: a crash forgets it."""
        employee = self._employees.get(name)
        if employee is None or not 0 < most_uj <= employee.bare_uj:
            return
        for account in tuple(employee.accounts):
            if not account.flow.is_metered:
                self._post_rest(account)

    def _post(self, account: FlowAccount, energy_uj: int) -> None:
        """Post energy of a flow for which there is no page, and will be none."""
        if energy_uj <= 0:
            return
        self._note(account)
        job = partial(self._transfer, account.unsigned(energy_uj), energy_uj)
        self._put(account.name, account.line, energy_uj, job)

    async def _transfer(self, transfer: Transfer, energy_uj: int) -> int:
        posted = await self.ledger.post(transfer)
        return 0 if posted.is_repeat else energy_uj

    def _put(self, name: str, line: Line, energy_uj: int, job: Job) -> None:
        waiting = self._waiting.get(name)
        if waiting is None:
            waiting = self._waiting[name] = _Waiting(self._had_uj(f"{KIND}:{name}"))
        waiting.jobs += 1
        waiting.energy_uj += energy_uj
        self._postings.put(line, partial(self._do, name, energy_uj, job), energy_uj)

    async def _do(self, name: str, energy_uj: int, job: Job) -> None:
        waiting, booked_uj = self._waiting[name], 0
        try:
            booked_uj = await job()
        finally:
            waiting.jobs -= 1
            waiting.energy_uj -= energy_uj
            waiting.had_uj += booked_uj
            self.booked_uj += booked_uj
            if not waiting.jobs:
                del self._waiting[name]

    # -- sums ----------------------------------------------------------------------------------

    def used_uj(self, name: str) -> dict[Period, int]:
        """Return what an employee has had in each window: posted, about to be, or not signed yet."""
        employee, waiting = self._employees.get(name), self._waiting.get(name)
        open_uj = employee.open_uj if employee else 0
        open_uj += self._rests.open_uj(name) + (waiting.energy_uj if waiting else 0)
        return {period: uj + open_uj for period, uj in self.windows.used_uj(name).items()}

    def _had_uj(self, account: str) -> int:
        """Return what an account has: while something waits, as far as we were told of it."""
        waiting = self._waiting.get(account.removeprefix(f"{KIND}:"))
        if waiting is not None:
            return waiting.had_uj
        found = self.ledger.account(account)
        return found.debit - found.credit if found else 0

    def _is_open(self, name: str) -> bool:
        """Return whether energy of an employee is in no posting yet, or may still come."""
        return name in self._employees or name in self._waiting or name in self._rests

    def balance(self) -> dict[str, object]:
        """Return what `status` shows."""
        return {
            "pages": self.pages,
            "booked_uj": self.booked_uj,
            "open_uj": sum(one.open_uj for one in self._accounts.values()),
            "unsigned_uj": sum(one.open_uj for one in self._cut),
            "residual_uj": self._postings.lost_uj,
            "is_read_only": self.is_stuck,
        }

    # -- running -------------------------------------------------------------------------------

    def _behind(self) -> None:
        self.on_failure()

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Post what comes; at the end all that waits."""
        await self.windows.load()
        self._rests.load(self.ledger.reserved)
        for name in self._rests.names:
            self.windows.used_uj(name)
        self._rests_until_ns = self._unix_ns() + CUT_NS
        async with trio.open_nursery() as regular:
            regular.start_soon(self._post_regularly)
            regular.start_soon(self._watch)
            async with trio.open_nursery() as nursery:
                self._postings.nursery = nursery
                yield
                for account in self.accounts:
                    self._post_rest(account)
                # of one that was cut a page may follow, here or at another gateway
                for account in self._cut:
                    if (rest := reservation(account)) is not None:
                        job = partial(self._transfer, rest, 0)
                        self._put(account.name, account.line, 0, job)
                await self.settle()
            regular.cancel_scope.cancel()

    async def settle(self) -> None:
        """Wait until all that was put down is on the disk, or nothing can be written."""
        await self._postings.settle()

    async def post_due(self) -> None:
        """Post what no page will cover, and wait for the disk."""
        for account in self.accounts:
            if not account.flow.is_metered:
                self._post_rest(account)
        for account, until_ns in tuple(self._cut.items()):
            if self._unix_ns() >= until_ns:
                self._forget_cut(account)
                self._post_rest(account)
        if self._unix_ns() >= self._rests_until_ns:
            for rest in self._rests.take_all():
                self._end_rest(rest, Kind.POST_PENDING)
        await self.settle()

    async def _post_regularly(self) -> None:
        while True:
            await trio.sleep_until(trio.current_time() + UNSIGNED_S)
            await self.post_due()

    async def _watch(self) -> None:
        await self.ledger.wait_read_only()
        try:
            await self.ledger.sign_head()
        except PowerRefused as refused:
            _log.error("ledger: %s", refused)
        self.on_failure()


def _nothing() -> None:
    """Nobody wants to know."""
