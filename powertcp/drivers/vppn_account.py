"""What is counted of one flow through a gateway, and which of its pages are those that both signed."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from powertcp.drivers.postings import Line
from powertcp.errors import DecodeError
from powertcp.ledger import Code, Flags, Page, Side, Transfer, transfer_key
from powertcp.ledger.memo import flow_memo
from powertcp.ledger.receipt import SINK_SIGNS
from powertcp.reclaim.track import TrackedFlow
from powertcp.store import PageState

ENERGY: Final = "uJ"
KIND: Final = "employee"
SIDE: Final = Side.SOURCE
STATE: Final = PageState.COUNTERSIGNED
# PTCP-6-04: the most that a sink lets be on the way
WINDOW_MS: Final = 2000


class Copy(NamedTuple):
    """A page that both signed. is_asked: the source waits for it; otherwise it is shown again."""

    page: Page
    is_asked: bool


@dataclass(slots=True, eq=False)
class FlowAccount:
    """What is counted of one flow. name: of the employee. source: of the account that gives.

    who: for memos. counted_uj: ESN up to which it is posted or about to be. noted_uj: what of it is
    in the sums as open. identity: 32 octets, of postings without pages; the number-th is next.
    earlier: the last page of the source on the path before. is_done: both signed the final page.
    is_resumed: it goes on from another path, on which we have seen it.
    """

    flow: TrackedFlow
    name: str
    source: str
    who: str
    line: Line
    identity: bytes
    counted_uj: int = 0
    noted_uj: int = 0
    number: int = 0
    earlier: bytes = b""
    is_done: bool = False
    is_resumed: bool = False
    tickets: tuple[bytes, ...] = ()

    def note_ticket(self, ticket: bytes) -> None:
        """The device has another ticket, or will have it: one of the last two resumes the flow."""
        self.tickets = (*self.tickets[-1:], ticket)

    @property
    def open_uj(self) -> int:
        """Energy that was verified and is in no posting yet."""
        return 0 if self.is_done else max(0, self.flow.verified_uj - self.counted_uj)

    # VPPN-6-03
    def lost_uj(self, base_uj: int) -> int:
        """Return what is posted of this path when the flow goes on at `base_uj` on another one.

        Energy that was lost with the path is the provider's again, PTCP-10-03, and is in no page. Of
        a flow with receipts it is at most what its credit lets be on the way, PTCP-6-04; whatever
        is more, and all of a flow that nobody signs for, was taken.
        """
        flow = self.flow
        if not flow.is_metered:
            return self.open_uj
        power_mw = flow.profile.power_mw if flow.profile is not None else 0
        return flow.verified_uj - max(base_uj, self.counted_uj) - power_mw * WINDOW_MS

    def go_on(self, before: "FlowAccount") -> None:
        """The flow is that of `before`, on another path. PTCP-10-03."""
        flow, old = self.flow, before.flow
        # pages go on where they ended; without them all of the old path is posted
        self.counted_uj = min(before.counted_uj, flow.base_uj) if old.is_metered else flow.base_uj
        self.identity, self.number, self.line = before.identity, before.number, before.line
        self.earlier, self.is_resumed = old.page or before.earlier, True
        flow.handshake = old.handshake

    # VPPN-6-03
    def read(self, octets: bytes) -> Copy | None:
        """Return the page that both meters of the flow signed, None for anything else."""
        flow = self.flow
        try:
            page = Page.from_wire(octets)
        except DecodeError:
            return None
        is_theirs = (page.source_key, page.sink_key) == (flow.source_key, flow.sink_key)
        if not (is_theirs and page.is_signed_by_source() and page.is_signed_by_sink()):
            return None
        is_asked = octets[:SINK_SIGNS] in (flow.page[:SINK_SIGNS], self.earlier[:SINK_SIGNS])
        if is_asked:
            return Copy(page, is_asked=True)
        # on another path the last copy is shown again: nothing is counted by it
        is_ours = not self.is_resumed or page.transcript == flow.transcript
        is_earlier = page.end_uj <= flow.base_uj and is_ours
        return Copy(page, is_asked=False) if is_earlier else None

    def take(self, page: Page) -> None:
        """A page that the source asked for is to be posted: it counts."""
        self.counted_uj = max(self.counted_uj, page.end_uj)
        self.is_done = self.is_done or Flags.FINAL in page.flags

    # -- postings ------------------------------------------------------------------------------

    def signed(self, page: Page) -> tuple[Transfer, ...]:
        """Return what is posted with a page."""
        if not page.energy_uj:
            return ()
        memo = flow_memo(page.transcript, page.page, self.who)
        key = self._key(page.transcript, page.page, "energy GATEWAY")
        return (self._transfer(key, page.energy_uj, Code.RECEIPT, memo),)

    def unsigned(self, energy_uj: int) -> Transfer:
        """Return the next posting of energy that no page covers."""
        number, self.number = self.number, self.number + 1
        key = self._key(self.identity, number, "unsigned GATEWAY")
        return self._transfer(key, energy_uj, Code.UNSIGNED, self.who)

    @property
    def _sides(self) -> tuple[str, str]:
        """The accounts that are debited and credited."""
        return f"{KIND}:{self.name}", f"source:{self.source}"

    def _key(self, transcript: bytes, number: int, what: str) -> bytes:
        return transfer_key(transcript, number, what, *self._sides)

    def _transfer(self, key: bytes, energy_uj: int, code: Code, memo: str) -> Transfer:
        debit, credit = self._sides
        return Transfer(
            key=key, debit=debit, credit=credit, unit=ENERGY, amount=energy_uj, code=code, memo=memo,
        )  # fmt: skip
