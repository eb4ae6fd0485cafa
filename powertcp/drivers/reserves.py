"""What lenders may have delivered that no entry says yet: reserved, so that a crash invents nothing.

A reservation of the ledger stands for it. An orderly end voids it; after a crash nobody knows what
of it was delivered, and it is heat.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from powertcp.drivers.ledger import Ledger
from powertcp.ledger import Code, Kind, Transfer, transfer_key

MEMO: Final = "may be delivered"
_STORE: Final = "reservoir:"


class Reserves:
    """Reservations by reservoir. identity: 32 octets that no other run has. node: of `heat:`."""

    def __init__(self, ledger: Ledger, identity: bytes, node: str) -> None:
        """Begin with none."""
        self._ledger, self._identity, self._node = ledger, identity, node
        self._held: dict[str, Transfer] = {}
        self._count = 0

    def renewed(self, wanted: Mapping[str, int]) -> Iterator[Transfer]:
        """Yield what is to be posted so that at least so much is reserved of each reservoir.

        A reservation that is enough, and not twice too much, stays.
        """
        for name in {*wanted, *self._held}:
            held, uj = self._held.get(name), wanted.get(name, 0)
            if held is not None and uj <= held.amount <= 2 * uj:
                self._ledger.renew(held)
                continue
            self._count += 1
            if held is not None:
                yield self._end(held, Kind.VOID)
                del self._held[name]
            if uj:
                self._held[name] = self._begin(name, uj + uj // 4)
                yield self._held[name]

    def _begin(self, name: str, energy_uj: int) -> Transfer:
        debit, credit = f"heat:{self._node}", f"{_STORE}{name}"
        return Transfer(
            key=transfer_key(self._identity, self._count, "may", debit, credit),
            debit=debit,
            credit=credit,
            unit="uJ",
            amount=energy_uj,
            code=Code.RESERVE,
            kind=Kind.PENDING,
            memo=MEMO,
        )

    def _end(self, held: Transfer, kind: Kind) -> Transfer:
        return ended(held, kind, held.amount)


def ended(held: Transfer, kind: Kind, amount: int) -> Transfer:
    """Return what posts or voids a reservation."""
    key = transfer_key(held.key, 0, f"may {kind.name.lower()}", held.debit, held.credit)
    return replace(held, key=key, kind=kind, pending=held.key, amount=amount, memo="")


async def recover(ledger: Ledger) -> int:
    """Let what a run that crashed may have delivered be heat; return how much that is, uJ.

    Raises PowerRefused when the ledger cannot be written.
    """
    lost_uj = 0
    for held in ledger.reserved:
        if held.memo != MEMO or not held.credit.startswith(_STORE):
            continue
        account = ledger.account(held.credit)
        stored_uj = -account.balance if account is not None else 0
        amount = min(held.amount, max(0, stored_uj))
        end = (
            ended(held, Kind.POST_PENDING, amount)
            if amount
            else ended(held, Kind.VOID, held.amount)
        )
        await ledger.post(end)
        lost_uj += amount
    return lost_uj
