"""What of cut flows was open when a gateway ended: reserved in its ledger until it is known whose it is.

A page of it comes if the device resumes here; if it does not, what passed is posted.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2s
from typing import Final, NamedTuple

from powertcp.drivers.vppn_account import KIND, FlowAccount
from powertcp.ledger import Kind, Transfer, transfer_key

_TAG_OCTETS: Final = 16
_MEMO = re.compile(r"cut (\d{1,20})((?: [0-9a-f]{32}){1,2})")


class Rest(NamedTuple):
    """One reservation. counted_uj: ESN up to which the flow was posted. tags: of its tickets."""

    transfer: Transfer
    counted_uj: int
    tags: tuple[str, ...]

    @property
    def name(self) -> str:
        """The employee."""
        return self.transfer.debit.removeprefix(f"{KIND}:")

    def ended(self, kind: Kind) -> Transfer:
        """Return what posts or voids the reservation."""
        one = self.transfer
        key = transfer_key(one.key, 0, f"rest {kind.name}", one.debit, one.credit)
        return replace(one, key=key, kind=kind, pending=one.key, memo="")


def reservation(account: FlowAccount) -> Transfer | None:
    """Return what is reserved of a cut flow, None if nothing of it is open. VPPN-6-03."""
    if not account.open_uj:
        return None
    tags = " ".join(_tag(ticket) for ticket in account.tickets)
    rest = replace(account.unsigned(account.open_uj), kind=Kind.PENDING)
    return replace(rest, memo=f"cut {account.counted_uj} {tags}")


def _tag(ticket: bytes) -> str:
    return blake2s(ticket, digest_size=_TAG_OCTETS).hexdigest()


class Rests:
    """The reservations that a gateway found in its ledger. Bound: the flows of its last run."""

    def __init__(self) -> None:
        """Begin with none."""
        self._found: list[Rest] = []
        self._of_name: Counter[str] = Counter()

    def load(self, reserved: Iterable[Transfer]) -> None:
        """Take those of employees."""
        for transfer in reserved:
            said = _MEMO.fullmatch(transfer.memo)
            if said is not None and transfer.debit.startswith(f"{KIND}:"):
                rest = Rest(transfer, int(said[1]), tuple(said[2].split()))
                self._found.append(rest)
                self._of_name[rest.name] += transfer.amount

    def __contains__(self, name: object) -> bool:
        """Say whether something is reserved for an employee."""
        return name in self._of_name

    @property
    def names(self) -> tuple[str, ...]:
        """Employees for whom something is reserved."""
        return tuple(self._of_name)

    def open_uj(self, name: str) -> int:
        """Return what is reserved for an employee."""
        return self._of_name.get(name, 0)

    def take(self, ticket: bytes, name: str) -> Rest | None:
        """Take and return what is reserved of the flow that a ticket resumes."""
        tag = _tag(ticket)
        rest = next((one for one in self._found if one.name == name and tag in one.tags), None)
        if rest is not None:
            self._found.remove(rest)
            self._drop(rest)
        return rest

    def take_all(self) -> list[Rest]:
        """Take all that is left."""
        found, self._found = self._found, []
        for rest in found:
            self._drop(rest)
        return found

    def _drop(self, rest: Rest) -> None:
        self._of_name[rest.name] -= rest.transfer.amount
        if not self._of_name[rest.name]:
            del self._of_name[rest.name]
