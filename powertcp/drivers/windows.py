"""Quotas that are renewed by the hour, day or month: what the ledger has of each window.

The journal is read once, at the start, so that a restart gives nothing back; from then on the sums
of the accounts say it.
"""

from collections.abc import Callable

from powertcp.drivers.ledger import Ledger
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Refusal
from powertcp.units import NS_PER_S
from powertcp.vppn.access import OverLimit, Rights, Wish
from powertcp.vppn.limits import Period

_NOTHING = PowerProfile.parse("1V/0A", ProfileType.REQUEST)


class Windows:
    """What accounts have had in the current window of each period, and what of it they may have."""

    def __init__(self, ledger: Ledger, unix_ns: Callable[[], int], kind: str = "sink") -> None:
        """Begin with what `ledger` has, once `load` has read it. kind: of the accounts."""
        self._ledger = ledger
        self._kind = f"{kind}:"
        self._unix_ns = unix_ns
        self._rights: dict[str, Rights] = {}
        # by account and period: when the window began, and what the account had had by then
        self._begun: dict[tuple[str, Period], tuple[int, int]] = {}

    async def load(self) -> None:
        """Read what each account has had in the windows of now."""
        now_s = self._unix_ns() // NS_PER_S
        for period in Period:
            start_s, _ = period.window(now_s)
            for name, energy_uj in (await self._ledger.debited(start_s * NS_PER_S)).items():
                if name.startswith(self._kind):
                    self._begun[name, period] = (start_s, self._had_uj(name) - energy_uj)

    def note(self, party: str, rights: Rights) -> None:
        """Go by the quotas of `rights` for `party`, and count it from now on at the latest."""
        name = f"{self._kind}{party}"
        self._rights[name] = rights
        for period in Period:
            self._base_uj(name, period)

    def used_uj(self, party: str) -> dict[Period, int]:
        """Return what `party` has had in each window, as both have signed."""
        name = f"{self._kind}{party}"
        had_uj = self._had_uj(name)
        return {period: had_uj - self._base_uj(name, period) for period in Period}

    def most_uj(self, name: str) -> int | None:
        """Return what an account may have had in all before its next window, None: no limit."""
        rights = self._rights.get(name)
        quotas = rights.limits.quotas if rights else ()
        most = (self._base_uj(name, period) + quota_uj for period, quota_uj in quotas)
        return min(most, default=None)

    def least_quota_uj(self, party: str) -> int | None:
        """Return the smallest quota of `party`, None for none."""
        rights = self._rights.get(f"{self._kind}{party}")
        return min((uj for _, uj in rights.limits.quotas), default=None) if rights else None

    def refusal(self, name: str) -> Refusal | None:
        """Return why an account gets nothing more: what is reserved counts as if it was used."""
        rights, account = self._rights.get(name), self._ledger.account(name)
        if rights is None or not rights.limits.quotas or account is None:
            return None
        had_uj = self._had_uj(name) + account.reserved
        used = {period: had_uj - self._base_uj(name, period) for period in Period}
        found = rights.allow(
            Wish(most=_NOTHING, used_uj=used), self._unix_ns() // NS_PER_S, OverLimit.REFUSE
        )
        return found if isinstance(found, Refusal) and found.retry_ms else None

    def next_s(self) -> int:
        """Return the Unix time at which the next window begins."""
        return Period.HOUR.window(self._unix_ns() // NS_PER_S)[1]

    def _had_uj(self, name: str) -> int:
        account = self._ledger.account(name)
        return account.debit - account.credit if account else 0

    def _base_uj(self, name: str, period: Period) -> int:
        """Return what an account had had when the window of now began."""
        start_s, _ = period.window(self._unix_ns() // NS_PER_S)
        begun = self._begun.get((name, period))
        # a clock that was put back begins no new window
        if begun is None or begun[0] < start_s:
            begun = self._begun[name, period] = (start_s, self._had_uj(name))
        return begun[1]
