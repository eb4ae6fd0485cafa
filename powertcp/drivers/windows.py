"""Quotas that are renewed by the hour, day or month: what the ledger has of each window.

The journal is read once, at the start, so that a restart gives nothing back; from then on the sums
of the accounts say it.
"""

from collections.abc import Callable, Iterable
from typing import Final

from powertcp.drivers.ledger import Ledger
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Refusal
from powertcp.units import NS_PER_S
from powertcp.vppn.access import OverLimit, Rights, Wish
from powertcp.vppn.limits import Period

MAX_COUNTED: Final = 65_536  # windows of parties: who comes then gets no quota
SETTLED_S: Final = 60  # after the last flow of a party all that it had is in the ledger
_NOTHING = PowerProfile.parse("1V/0A", ProfileType.REQUEST)


class Windows:
    """What accounts have had in the current window of each period, and what of it they may have.

    Bound: MAX_COUNTED windows of parties with quotas, and what the ledger had at the start.
    """

    def __init__(
        self,
        ledger: Ledger,
        unix_ns: Callable[[], int],
        kind: str = "sink",
        *,
        is_open: Callable[[str], bool] | None = None,
        had_uj: Callable[[str], int] | None = None,
    ) -> None:
        """Begin with what `ledger` has, once `load` has read it. kind: of the accounts.

        is_open: whether energy of a party is in no posting yet, which it is not forgotten for. With
        it every party is counted in every window, whatever its quotas. had_uj: what an account has,
        None: what was committed, of which not everybody may have heard.
        """
        self._ledger = ledger
        self._had_uj = had_uj or self._committed_uj
        self._kind = f"{kind}:"
        self._is_open = is_open
        self._unix_ns = unix_ns
        # by account: the flows that there are, and by what they draw
        self._holders: dict[str, dict[object, Rights]] = {}
        self._left: dict[str, int] = {}  # Unix time at which the last of them left
        self._purged_s = 0
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

    def note(self, party: str, rights: Rights, holder: object) -> None:
        """Count `party` from now on at the latest, if `rights` have quotas.

        holder: who draws by them, which `drop` is told of. Without quotas none is counted that there
        is no room for.
        """
        name, periods = f"{self._kind}{party}", self._periods(rights)
        self._purge()
        if not rights.limits.quotas and not (periods and self._takes(name, periods)):
            self.drop(party, holder)
            return
        self._holders.setdefault(name, {})[holder] = rights
        for period in periods:
            self._begun.setdefault((name, period), (self._start_s(period), self._had_uj(name)))

    def drop(self, party: str, holder: object) -> None:
        """A holder is gone: after the last one a party is forgotten once nothing depends on it."""
        name = f"{self._kind}{party}"
        holders = self._holders.get(name, {})
        if holders.pop(holder, None) is not None and not holders:
            del self._holders[name]
            self._left[name] = self._now_s()

    def __len__(self) -> int:
        """Return how many windows of parties are remembered."""
        return len(self._begun)

    def has_room(self, party: str, rights: Rights) -> bool:
        """Return whether `party` can be counted: who had energy is not forgotten for another."""
        self._purge()
        return self._takes(f"{self._kind}{party}", self._periods(rights))

    def _periods(self, rights: Rights) -> tuple[Period, ...]:
        """Return in which windows a party with `rights` is counted."""
        return tuple(dict(rights.limits.quotas)) if self._is_open is None else tuple(Period)

    def _takes(self, name: str, periods: Iterable[Period]) -> bool:
        new = sum((name, period) not in self._begun for period in periods)
        return not new or len(self._begun) + new <= MAX_COUNTED

    def _purge(self) -> None:
        """Forget who has left: at the end of a window, or soon if nothing was had of it."""
        now_s = self._now_s()
        if 0 <= now_s - self._purged_s < SETTLED_S:
            return
        self._purged_s = now_s
        left = (name for name, left_s in self._left.items() if now_s - left_s >= SETTLED_S)
        settled = {name for name in left if not self._is_held(name)}
        for (name, period), (start_s, base_uj) in tuple(self._begun.items()):
            is_over = start_s < self._start_s(period)
            is_idle = name in settled and self._had_uj(name) == base_uj
            if (is_over or is_idle) and not self._is_held(name):
                del self._begun[name, period]
        for name in settled:
            del self._left[name]

    def _is_held(self, name: str) -> bool:
        """Return whether somebody draws on an account, or has drawn what is not posted yet."""
        if name in self._holders:
            return True
        return self._is_open is not None and self._is_open(name.removeprefix(self._kind))

    def used_uj(self, party: str, *, begins: bool = True) -> dict[Period, int]:
        """Return what `party` has had in each window, as both have signed.

        begins: it is counted from now on at the latest, if there is room.
        """
        name = f"{self._kind}{party}"
        if begins and self._takes(name, Period):
            for period in Period:
                self._begun.setdefault((name, period), (self._start_s(period), self._had_uj(name)))
            if name not in self._holders:
                self._left.setdefault(name, self._now_s())
        had_uj = self._had_uj(name)
        return {period: had_uj - self._base_uj(name, period) for period in Period}

    def most_uj(self, name: str, rights: Rights | None) -> int | None:
        """Return what an account may have had in all before its next window, None: no limit."""
        quotas = rights.limits.quotas if rights else ()
        most = (self._base_uj(name, period) + quota_uj for period, quota_uj in quotas)
        return min(most, default=None)

    def account_most_uj(self, name: str) -> int | None:
        """Return the same by the widest of the rights by which flows draw on it."""
        found = (self.most_uj(name, one) for one in self._holders.get(name, {}).values())
        return max((uj for uj in found if uj is not None), default=None)

    def is_mixed(self, name: str) -> bool:
        """Return whether flows of an account have different quotas."""
        return len({one.limits.quotas for one in self._holders.get(name, {}).values()}) > 1

    def refusal(self, name: str, rights: Rights | None) -> Refusal | None:
        """Return why an account gets nothing more: what is reserved counts as if it was used."""
        account = self._ledger.account(name)
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

    def _committed_uj(self, name: str) -> int:
        account = self._ledger.account(name)
        return account.debit - account.credit if account else 0

    def _base_uj(self, name: str, period: Period) -> int:
        """Return what an account had had when the window of now began; all, if nobody counts it."""
        start_s = self._start_s(period)
        begun = self._begun.get((name, period))
        if begun is None:
            return self._had_uj(name)
        # a clock that was put back begins no new window
        if begun[0] < start_s:
            begun = self._begun[name, period] = (start_s, self._had_uj(name))
        return begun[1]

    def _now_s(self) -> int:
        return self._unix_ns() // NS_PER_S

    def _start_s(self, period: Period) -> int:
        return period.window(self._now_s())[0]
