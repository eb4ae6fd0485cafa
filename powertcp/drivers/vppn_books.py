"""The books of a gateway: what each employee had, by the pages that device and provider signed.

A flow without receipts is counted by what its device says to have verified. VPPN-6-03.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from powertcp.drivers.ledger import Ledger
from powertcp.drivers.postings import Job, Line, Postings
from powertcp.drivers.windows import Windows
from powertcp.errors import DecodeError, PowerRefused
from powertcp.ledger import Code, Page, Side, Transfer, transfer_key
from powertcp.ledger.memo import flow_memo
from powertcp.reclaim.track import TrackedFlow
from powertcp.store import PageState
from powertcp.units import NS_PER_S
from powertcp.vppn.limits import Period

ENERGY: Final = "uJ"
KIND: Final = "employee"
UNSIGNED_S: Final = 60.0
# after a cut the rest of a page waits for a resume so long: the longest T_GRACE, and a moment
CUT_NS: Final = 310 * NS_PER_S
CUT_MAX: Final = 1024
_log = logging.getLogger("gateway")


@dataclass(slots=True, eq=False)
class FlowAccount:
    """What is counted of one flow. name: of the employee. source: of the account that gives.

    who: for memos. counted_uj: ESN up to which it is posted or about to be. claimed_uj: ESN by our
    own integral where the last page of the source passed. number: of the next posting without a
    page.
    """

    flow: TrackedFlow
    name: str
    source: str
    who: str
    line: Line
    counted_uj: int = 0
    claimed_uj: int = 0
    number: int = 0
    tickets: tuple[bytes, ...] = ()

    def note_ticket(self, ticket: bytes) -> None:
        """The device has another ticket, or will have it: one of the last two resumes the flow."""
        self.tickets = (*self.tickets[-1:], ticket)

    @property
    def open_uj(self) -> int:
        """Energy that was verified and is in no posting yet."""
        return max(0, self.flow.verified_uj - self.counted_uj)


class EmployeeBooks:
    """Accounts of employees in the ledger of a gateway; `keeping` runs it.

    Bounds: 1,024 flows that were cut and may be resumed; employees, by `Windows`.
    """

    def __init__(self, ledger: Ledger, unix_ns: Callable[[], int]) -> None:
        """Write to `ledger`."""
        self.ledger = ledger
        self.windows = Windows(ledger, unix_ns, KIND, is_open=self._is_open)
        self.on_failure: Callable[[], None] = _nothing
        self.pages = 0
        self._unix_ns = unix_ns
        self._postings = Postings(ledger, self._behind)
        # what waits for the disk, by employee
        self._queued: Counter[str] = Counter()
        self._accounts: dict[TrackedFlow, FlowAccount] = {}
        # flows that were cut, and until when they may be resumed, the oldest first
        self._cut: dict[FlowAccount, int] = {}
        # what is open, by employee
        self._of_name: dict[str, set[FlowAccount]] = {}

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
        account = FlowAccount(flow, name, source, who, Line(where))
        account.counted_uj = account.claimed_uj = flow.base_uj
        before = self._take_cut(flow.ticket)
        # PTCP-10-03: a ticket that did not help begins a new flow
        if before is not None and flow.base_uj and before.name == name:
            account.counted_uj = min(before.counted_uj, flow.base_uj)
            account.number, account.line = before.number, before.line
            flow.handshake = before.flow.handshake
        elif before is not None:
            self._post_rest(before)
        self._accounts[flow] = account
        self._of_name.setdefault(name, set()).add(account)
        return account

    def _take_cut(self, ticket: bytes | None) -> FlowAccount | None:
        """Return the account of a flow that `ticket` resumes, None if there is none."""
        if ticket is None:
            return None
        found = next((one for one in self._cut if ticket in one.tickets), None)
        if found is not None:
            self._forget_cut(found)
        return found

    def _forget_cut(self, account: FlowAccount) -> None:
        del self._cut[account]
        self._leave(account)

    def _leave(self, account: FlowAccount) -> None:
        """An account holds nothing open any more."""
        accounts = self._of_name[account.name]
        accounts.discard(account)
        if not accounts:
            del self._of_name[account.name]

    # LEDG-7-06
    def copy_came(self, flow: TrackedFlow, octets: bytes, on_done: Callable[[], None]) -> None:
        """A page with the signature of the device is to pass: it is posted if it is what it says.

        on_done: called when it is on the disk, or will not be.
        """
        account = self._accounts.get(flow)
        page = _read(flow, octets)
        if account is None or page is None:
            _log.warning(
                "%s: this page is not what both signed", account.line.name if account else ""
            )
            on_done()
            return
        account.counted_uj = max(account.counted_uj, page.end_uj)
        self.pages += 1
        if self.is_stuck:
            on_done()
            return
        job = partial(self._keep, account, page, on_done)
        self._put(account, page.energy_uj, job)

    async def _keep(self, account: FlowAccount, page: Page, on_done: Callable[[], None]) -> None:
        try:
            await self._store(account, page)
        finally:
            on_done()

    async def _is_of_another(self, account: FlowAccount, page: Page) -> bool:
        """Whether a device repeats what it signed at another gateway, whose books have it."""
        if page.end_uj > account.flow.base_uj or not page.page:
            return False
        return await self.ledger.last_page(page.transcript, Side.SOURCE) is None

    async def _store(self, account: FlowAccount, page: Page) -> None:
        if await self._is_of_another(account, page):
            return
        transfers: tuple[Transfer, ...] = ()
        debit, credit = f"{KIND}:{account.name}", f"source:{account.source}"
        if page.energy_uj:
            key = transfer_key(page.transcript, page.page, "energy GATEWAY", debit, credit)
            memo = flow_memo(page.transcript, page.page, account.who)
            transfers = (_transfer(key, account, page.energy_uj, Code.RECEIPT, memo),)
        await self.ledger.post_page(
            page.transcript, page.page, Side.SOURCE, page.to_wire(), PageState.COUNTERSIGNED,
            *transfers,
        )  # fmt: skip

    def page_passed(self, flow: TrackedFlow, end_uj: int) -> None:
        """A page of the source passed: what it says up to here is what we verified, or it is told."""
        account = self._accounts.get(flow)
        if account is None:
            return
        account.claimed_uj = flow.verified_uj
        if end_uj != flow.verified_uj:
            name = account.line.name
            _log.warning("%s: page up to %d uJ, verified %d", name, end_uj, flow.verified_uj)

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
        self._cut[account] = self._unix_ns() + CUT_NS
        if len(self._cut) > CUT_MAX:
            oldest = next(iter(self._cut))
            self._forget_cut(oldest)
            self._post_rest(oldest)

    def _post_rest(self, account: FlowAccount) -> None:
        """Post what the device said to have verified and signed no page for."""
        amount_uj = account.flow.acked_uj - account.counted_uj
        if amount_uj <= 0:
            return
        account.counted_uj += amount_uj
        number, account.number = account.number, account.number + 1
        debit, credit = f"{KIND}:{account.name}", f"source:{account.source}"
        key = transfer_key(account.flow.transcript, number, "unsigned GATEWAY", debit, credit)
        transfer = _transfer(key, account, amount_uj, Code.UNSIGNED, account.who)
        self._put(account, amount_uj, partial(self.ledger.post, transfer))

    def _put(self, account: FlowAccount, energy_uj: int, job: Job) -> None:
        self._queued[account.name] += energy_uj
        self._postings.put(account.line, partial(self._do, account.name, energy_uj, job), energy_uj)

    async def _do(self, name: str, energy_uj: int, job: Job) -> None:
        try:
            await job()
        finally:
            self._queued[name] -= energy_uj
            if not self._queued[name]:
                del self._queued[name]

    # -- sums ----------------------------------------------------------------------------------

    def used_uj(self, name: str) -> dict[Period, int]:
        """Return what an employee has had in each window: posted, about to be, or not signed yet."""
        open_uj = sum(one.open_uj for one in self._of_name.get(name, ()))
        open_uj += self._queued[name]
        return {period: uj + open_uj for period, uj in self.windows.used_uj(name).items()}

    def _is_open(self, name: str) -> bool:
        """Return whether energy of an employee is in no posting yet, or may still come."""
        return name in self._of_name or name in self._queued

    def balance(self) -> dict[str, object]:
        """Return what `status` shows."""
        return {
            "pages": self.pages,
            "booked_uj": self._postings.booked_uj,
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
        async with trio.open_nursery() as regular:
            regular.start_soon(self._post_regularly)
            regular.start_soon(self._watch)
            async with trio.open_nursery() as nursery:
                self._postings.nursery = nursery
                yield
                # of one that was cut a page may follow, here or at another gateway
                for account in self.accounts:
                    self._post_rest(account)
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


def _read(flow: TrackedFlow, octets: bytes) -> Page | None:
    """Return the page that both meters of a flow signed, None for anything else."""
    try:
        page = Page.from_wire(octets)
    except DecodeError:
        return None
    is_theirs = (page.source_key, page.sink_key) == (flow.source_key, flow.sink_key)
    is_signed = is_theirs and page.is_signed_by_source() and page.is_signed_by_sink()
    return page if is_signed else None


def _transfer(key: bytes, account: FlowAccount, amount_uj: int, code: Code, memo: str) -> Transfer:
    return Transfer(
        key=key, debit=f"{KIND}:{account.name}", credit=f"source:{account.source}", unit=ENERGY,
        amount=amount_uj, code=code, memo=memo,
    )  # fmt: skip


def _nothing() -> None:
    """Nobody wants to know."""
