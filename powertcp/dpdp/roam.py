"""When a consumer leaves its provider for another one: the decision, without any path (section 10).

What is known of the present provider goes in by verbs with `now`; `decide` says whether to move and
why, `may_cross` whether a flow that is READY elsewhere may take over.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from powertcp.units import NS_PER_S, Duration, Instant

# STALE for so many intervals
SILENT_INTERVALS: Final = 2
# better without interruption for so long
BETTER_NS: Final[Duration] = 10 * NS_PER_S
# between two changes of our own choice, and between two preparations for a goodbye that was none
VOLUNTARY_NS: Final[Duration] = 30 * NS_PER_S
# who says goodbye drains within so long, or is asked whether it is there (DPDP-4-05)
GOODBYE_NS: Final[Duration] = 3 * NS_PER_S
# candidates that are better and watched; a table of adverts has strangers in it
MAX_BETTER: Final = 16


class Roam(StrEnum):
    """How much a consumer roams: see `--roam`."""

    NEVER = "never"
    NEEDED = "needed"
    BETTER = "better"


class Cause(StrEnum):
    """Why a provider is left; the sentence for people says it of the one that is left."""

    SILENT = "silent"
    GOODBYE = "goodbye"
    DRAINED = "drained"
    LINK = "link"
    BETTER = "better"

    @property
    def sentence(self) -> str:
        """What is said of the provider that is left."""
        return _SENTENCES[self]


_SENTENCES: Final = {
    Cause.SILENT: "silent, and another provider is there",
    Cause.GOODBYE: "it has said goodbye",
    Cause.DRAINED: "it drains",
    Cause.LINK: "the interface it is reached over has no link",
    Cause.BETTER: f"another provider has been better for {BETTER_NS // NS_PER_S} s",
}


class Move(NamedTuple):
    """What to do. keys: of the adverts that may be moved to, the best first; empty: any other."""

    cause: Cause
    keys: tuple[str, ...] = ()


class Roaming:
    """What speaks against the present provider, and since when."""

    def __init__(self, policy: Roam) -> None:
        """Nothing speaks against it yet."""
        self.policy = policy
        self._silent_from: Instant | None = None
        self._goodbye_at: Instant | None = None
        self._heeded_at: Instant | None = None
        self._is_gone = self._is_drained = self._is_cut_off = False
        self._better: dict[str, Instant] = {}
        self._chosen_at: Instant | None = None

    # ---- what happens ---------------------------------------------------------------------------

    def arrived(self, cause: Cause | None, now: Instant) -> None:
        """Power comes from another provider, for `cause`: what spoke against the last is void."""
        self._silent_from = self._goodbye_at = self._heeded_at = None
        self._is_gone = self._is_drained = self._is_cut_off = False
        self._better.clear()
        if cause is Cause.BETTER:
            self._chosen_at = now

    def stale(self, interval_ns: Duration, now: Instant) -> None:
        """The connection is STALE from `now` on. interval_ns: of its probes."""
        if self._silent_from is None:
            self._silent_from = now + SILENT_INTERVALS * interval_ns

    def fresh(self) -> None:
        """The provider answers again."""
        self._silent_from = None

    def goodbye(self, now: Instant) -> None:
        """Its advert was taken back; anybody can say that, so that it is prepared for only.

        Not heeded within 30 s of one that nothing came of.
        """
        if self._heeded_at is None or now >= self._heeded_at + VOLUNTARY_NS:
            self._goodbye_at = self._heeded_at = now

    def gone(self) -> None:
        """It was asked, and its advert is gone."""
        self._is_gone = True

    def returned(self) -> None:
        """Its advert is there, whoever said otherwise."""
        self._is_gone = False

    def drained(self) -> None:
        """It says 601."""
        self._is_drained = True

    def carried(self, is_carried: bool) -> None:
        """Whether the interface of the connection has a link, and our address."""
        self._is_cut_off = not is_carried

    def better(self, keys: Iterable[str], now: Instant) -> None:
        """Exactly these adverts are better now, the best first; never by distance or lot."""
        since = self._better
        wanted = list(dict.fromkeys(keys))[:MAX_BETTER]
        self._better = {key: since.get(key, now) for key in wanted}

    def is_watched(self, key: str) -> bool:
        """Whether this advert is better, but not for long enough yet."""
        return key in self._better

    # ---- what to do -----------------------------------------------------------------------------

    # DPDP-10-03
    def decide(self, now: Instant) -> Move | None:
        """Return why to move now, None to stay."""
        if self.policy is Roam.NEVER:
            return None
        if self._is_cut_off:
            return Move(Cause.LINK)
        if self._is_drained:
            return Move(Cause.DRAINED)
        if self._is_gone or self._is_expected(now):
            return Move(Cause.GOODBYE)
        if self._silent_from is not None and now >= self._silent_from:
            return Move(Cause.SILENT)
        if self.policy is not Roam.BETTER:
            return None
        ripe = tuple(key for key, since in self._better.items() if now >= since + BETTER_NS)
        is_early = self._chosen_at is not None and now < self._chosen_at + VOLUNTARY_NS
        return Move(Cause.BETTER, ripe) if ripe and not is_early else None

    def may_cross(self, cause: Cause, now: Instant) -> bool | None:
        """Return whether flows that are READY elsewhere for `cause` take over; None: not yet.

        False: nothing speaks for it any more, the flows there are closed.
        """
        if self._is_cut_off or self._is_drained or self._is_gone:
            return True
        match cause:
            case Cause.GOODBYE:
                return None if self._is_expected(now) else False
            case Cause.SILENT:
                return self._silent_from is not None
            case _:
                return True

    def get_timer(self) -> Instant | None:
        """Return when to decide again though nothing happens, None for never."""
        if self.policy is Roam.NEVER:
            return None
        times: list[Instant] = []
        if self._silent_from is not None:
            times.append(self._silent_from)
        if self._goodbye_at is not None:
            times.append(self._goodbye_at + GOODBYE_NS)
        if self.policy is Roam.BETTER and self._better:
            ripe = min(self._better.values()) + BETTER_NS
            times.append(max(ripe, (self._chosen_at or -VOLUNTARY_NS) + VOLUNTARY_NS))
        return min(times, default=None)

    def _is_expected(self, now: Instant) -> bool:
        """Whether a goodbye was heard of which it is not known yet what comes of it."""
        return self._goodbye_at is not None and now < self._goodbye_at + GOODBYE_NS
