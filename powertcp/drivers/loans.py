"""What flows draw of a reservoir: a part of it is promised to each before it is delivered.

What a sink has acknowledged is drawn, what was sent and not acknowledged stays promised. A flow
delivers nothing that was not promised to it: no flow takes the reservoir below its floor. Whatever
was sent leaves the reservoir in the end, unless a ticket proves that it never arrived: whoever
acknowledges nothing gains nothing.
"""

import logging
from collections.abc import Callable
from typing import Final

from powertcp.drivers.session import FlowRecord
from powertcp.potcp.events import FlowClosed
from powertcp.registry import Reason
from powertcp.sources import Drawn, Reservoir
from powertcp.units import format_energy

# of what can be drawn, the part that is promised
SAFE_PERCENT: Final = 90
ROUNDING_UJ: Final = 2  # what the losses of one draw may be rounded up by
_log = logging.getLogger("reservoir")

OnLent = Callable[[str, Drawn], None]


class Loan:
    """What one flow has of it. drawn_uj: its register as far as it was drawn; promised_uj: beyond."""

    __slots__ = ("drawn_uj", "promised_uj", "who")

    def __init__(self, who: str, drawn_uj: int) -> None:
        """Begin at the register `drawn_uj`, with nothing promised."""
        self.who = who
        self.drawn_uj = drawn_uj
        self.promised_uj = 0


class Loans:
    """The flows of one lender. on_lent: told by name who has drawn what, and the heat of it.

    ahead_s: for how long a flow is promised its power, as long as there is enough. out_uj, heat_uj:
    all that was drawn. unpaid_uj: delivered, and not there any more: 0, unless the reservoir was
    made smaller while power was on its way.
    """

    def __init__(self, reservoir: Reservoir, on_lent: OnLent, ahead_s: int) -> None:
        """Begin without flows."""
        self.out_uj = self.heat_uj = self.unpaid_uj = 0
        self._reservoir = reservoir
        self._on_lent = on_lent
        self._ahead_s = ahead_s
        self._loans: dict[FlowRecord, Loan] = {}
        self._promised_uj = 0  # to all of them

    def __len__(self) -> int:
        """Return how many flows draw."""
        return len(self._loans)

    def begin(self, record: FlowRecord) -> None:
        """Terms are in force on a flow: if they are its first ones, promise it power."""
        if record in self._loans:
            return
        status = record.session.machine.status(record.flow)
        loan = self._loans[record] = Loan(_who(record), status.acked_uj)
        share_uj = min(self._left_uj(), self._most_uj(record))
        self._promise(record, loan, status.esn_uj, share_uj)

    def end(self, record: FlowRecord, event: FlowClosed) -> None:
        """A flow is over: draw the last of it, and promise it nothing more."""
        loan = self._loans.pop(record, None)
        if loan is None:
            return
        # FIN+ACK comes after all blocks; what a cut left on its way is nobody's
        moved = event.refusal is not None and event.refusal.code == Reason.HANDOVER
        has_all = not event.truncated and not moved
        self._draw(loan, event.esn_uj if has_all else event.acked_uj)
        if event.truncated:
            self._lose(loan, event.esn_uj)
        self._keep(loan, 0)

    def close(self) -> None:
        """No flow can go on: draw what sinks have acknowledged, and lose what was on its way."""
        self._forget()
        self.settle()
        for record, loan in self._loans.items():
            self._lose(loan, record.session.machine.status(record.flow).esn_uj)
            self._keep(loan, 0)
        self._loans.clear()

    def settle(self) -> None:
        """Draw what sinks have acknowledged."""
        for record, loan in self._loans.items():
            self._draw(loan, record.session.machine.status(record.flow).acked_uj)

    def look(self) -> None:
        """Draw what was delivered, and share out anew what there is; called each second."""
        self._forget()
        self.settle()
        wishes: dict[FlowRecord, tuple[Loan, int, int]] = {}
        for record, loan in self._loans.items():
            esn_uj = record.session.machine.status(record.flow).esn_uj
            self._keep(loan, esn_uj - loan.drawn_uj)
            wishes[record] = loan, esn_uj, self._most_uj(record)
        left_uj, wanted_uj = self._left_uj(), sum(most for _, _, most in wishes.values())
        for record, (loan, esn_uj, most_uj) in wishes.items():
            share_uj = most_uj if wanted_uj <= left_uj else left_uj * most_uj // wanted_uj
            self._promise(record, loan, esn_uj, share_uj)

    def _forget(self) -> None:
        """Promise nothing to flows that are over without having said so, by a bug of ours."""
        for record, loan in tuple(self._loans.items()):
            if record.flow not in record.session.machine.flows:
                _log.error("flow %s is over, power was still promised to it", record.name)
                self._keep(loan, 0)
                del self._loans[record]

    # FWRL-4-04
    @property
    def safe_uj(self) -> int:
        """Return what flows of this lender may have before anything comes in."""
        store = self._reservoir
        others_uj = store.promised_uj - self._promised_uj
        safe_uj = store.drawable_uj * SAFE_PERCENT // 100 - ROUNDING_UJ * len(self._loans)
        return max(0, safe_uj - others_uj)

    def _left_uj(self) -> int:
        """Return what of it is not promised."""
        return max(0, self.safe_uj - self._promised_uj)

    def _most_uj(self, record: FlowRecord) -> int:
        """Return what a flow draws of its contract in `ahead_s`."""
        return record.profile.power_mw * 1000 * self._ahead_s if record.profile else 0

    def _promise(self, record: FlowRecord, loan: Loan, esn_uj: int, share_uj: int) -> None:
        """Let a flow deliver `share_uj` beyond the register `esn_uj`."""
        self._reservoir.promise(share_uj)
        loan.promised_uj += share_uj
        self._promised_uj += share_uj
        record.allowed_uj = esn_uj + share_uj
        if share_uj:
            record.blocked = False

    def _keep(self, loan: Loan, energy_uj: int) -> None:
        """Promise no more than `energy_uj`."""
        less_uj = max(0, loan.promised_uj - energy_uj)
        loan.promised_uj -= less_uj
        self._promised_uj -= less_uj
        self._reservoir.promise(-less_uj)

    # FWRL-4-04
    def _draw(self, loan: Loan, acked_uj: int) -> None:
        """Draw of the reservoir what a sink has acknowledged since the last time."""
        energy_uj = acked_uj - loan.drawn_uj
        if energy_uj <= 0:
            return
        loan.drawn_uj = acked_uj
        self._keep(loan, loan.promised_uj - energy_uj)
        drawn = self._reservoir.draw(energy_uj)
        if drawn.out_uj < energy_uj:
            self.unpaid_uj += energy_uj - drawn.out_uj
            short = format_energy(energy_uj - drawn.out_uj)
            _log.warning("%s had %s more than there was", loan.who, short)
        self._tell(loan, drawn)

    def _lose(self, loan: Loan, esn_uj: int) -> None:
        """Take out of the reservoir what was sent and not acknowledged: heat."""
        energy_uj = esn_uj - loan.drawn_uj
        if energy_uj > 0:
            loan.drawn_uj = esn_uj
            self._keep(loan, loan.promised_uj - energy_uj)
            self._tell(loan, self._reservoir.lose(energy_uj))

    def _tell(self, loan: Loan, drawn: Drawn) -> None:
        self.out_uj += drawn.out_uj
        self.heat_uj += drawn.heat_uj
        if any(drawn):
            self._on_lent(loan.who, drawn)


def _who(record: FlowRecord) -> str:
    """Return whom accounts name: the key that a handshake proved, else the address."""
    key = record.session.identity.key
    return record.party if key is None else str(key)
