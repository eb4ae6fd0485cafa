"""Whom the contracts of a link ask, and when they give up: what became of every path so far."""

import random
from collections.abc import Sequence
from typing import Final

import trio

from powertcp.dpdp.select import Current
from powertcp.dpdp.trust import Shown
from powertcp.drivers.appliance import NO, NO_ANSWER, Appliance
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.flow_book import party
from powertcp.drivers.guide import Guide, Place
from powertcp.drivers.patience import back_off_ns
from powertcp.potcp.events import Ask
from powertcp.registry import Refusal
from powertcp.units import NS_PER_S, Duration, Instant, format_duration

LOSSES: Final = 3  # connections without an answer, for who never had power


class Quest:
    """The search of contracts that share a link: one provider after the other, as `guide` names it.

    is_heard: this connection brought power or a no. is_leaving: its provider said no, and another
    one may be asked. losses: connections in a row without either. lost_at: since when.
    """

    def __init__(self, guide: Guide, appliances: Sequence[Appliance], give_up_ns: Duration) -> None:
        """Ask nobody yet. give_up_ns: how long power is looked for, beyond every lease."""
        self.is_heard = self.is_leaving = False
        self.losses = 0
        self.lost_at: Instant | None = None
        self._guide, self._appliances, self._give_up_ns = guide, appliances, give_up_ns
        self._place: Place | None = None
        self._asking_since: Instant | None = None  # without power since then
        self._no: Refusal | None = None  # the last one since then
        for each in appliances:
            each.elsewhere = self.refused

    @property
    def wanted(self) -> list[Appliance]:
        """The contracts that are not over."""
        return [each for each in self._appliances if not each.done]

    @property
    def asks(self) -> list[Ask]:
        """What is wanted."""
        return [each.ask for each in self.wanted]

    @property
    def where(self) -> str:
        """The provider that is asked, or was last: HOST:PORT."""
        return str(self._place) if self._place is not None else ""

    async def next(self) -> Place | None:
        """Return whom to ask now; None, and the contracts are over, when nobody is found in time."""
        self.is_heard = self.is_leaving = False
        since = self._asking_since = self._asking_since or now_ns()
        leases = (each.lease_until for each in self._appliances)
        place: Place | None = None
        with trio.CancelScope() as scope:
            scope.deadline = max(since + self._give_up_ns, *leases) / NS_PER_S
            place = await self._guide.place(self.asks, self._current())
        if place is None:
            said = f"no power found for {format_duration(now_ns() - since)}"
            for each in self.wanted:
                each.say("unreachable", {"provider": "", "sentence": said})
                each.finish(NO if self._no else NO_ANSWER, self._no)
            return None
        self.arrive(place)
        return place

    def arrive(self, place: Place) -> None:
        """Power is asked for there, or comes from there: only who gave a ticket can take it."""
        is_other = self._place is not None and self._place.provider != place.provider
        self._place, self.is_leaving = place, False
        for each in self.wanted:
            if is_other:
                each.ticket = None
            if each.book is not None:
                each.book.there = party(str(place))

    def _current(self) -> Current | None:
        """Return who gave the tickets that we have, to be preferred."""
        held = [each for each in self.wanted if each.ticket is not None and each.profile]
        if self._place is None or not held:
            return None
        return Current(self._place.provider, 0)

    # -- what the provider says ----------------------------------------------------------------

    def heard(self) -> None:
        """The provider gives power, offers some, or says no."""
        self.is_heard, self.losses, self.lost_at = True, 0, None

    def powered(self, place: Place, shown: Shown) -> None:
        """Power is on, from `place`, which has shown who it is."""
        self._asking_since = self._no = None
        self._guide.powered(place, shown)

    # DPDP-6-02
    def refused(self, refusal: Refusal) -> bool:
        """A contract was told no. Returns whether another provider is asked instead."""
        self._no = refusal
        if self._place is None or any(each.is_ready for each in self._appliances):
            return False
        self.is_leaving = self._guide.refused(self._place, refusal)
        return self.is_leaving

    def drained(self, refusal: Refusal) -> None:
        """The provider goes, in order; another one is asked at once."""
        if self._place is None:
            return
        self.is_leaving = self._guide.refused(self._place, refusal)
        for each in self.wanted:
            if self.is_leaving and not each.flow:
                each.patience.due = 0

    def distrusted(self, lacks: str) -> None:
        """The provider has not proved to be whom we trust; what it lacks is said."""
        others = self.failed()
        for each in self.wanted:
            each.say("not trusted", {"provider": self.where, "sentence": f"{self.where}: {lacks}"})
            if not others and not each.was_ready:
                each.finish(NO)

    # -- paths that are lost -------------------------------------------------------------------

    def failed(self) -> bool:
        """Nobody answers, or not who it was to be. Returns whether others may be asked."""
        return self._place is not None and self._guide.failed(self._place)

    def is_beyond(self, since: Instant | None, now: Instant) -> bool:
        """Whether patience and every lease are over for a provider that is gone since `since`."""
        if since is None:
            return False
        patience = since + self._give_up_ns
        return now >= max(patience, *(each.lease_until for each in self._appliances))

    def cut(self) -> None:
        """The connection is over: what is still wanted loses its flow, not yet its power."""
        now = now_ns()
        self.losses += not self.is_heard
        is_over = not self.is_heard and self.is_beyond(self.lost_at, now)
        if not self.is_heard and self.failed():
            self.losses = 0
        self.lost_at = self.lost_at or now
        for each in self.wanted:
            each.flow = 0
            if each.closing:
                each.finish(0)
            elif is_over or (not each.was_ready and self.losses >= LOSSES):
                each.say("lost", {"sentence": "the provider closed the connection"})
                each.finish(NO_ANSWER)

    def silent(self, since: Instant, now: Instant) -> None:
        """The provider has said nothing since `since`, beyond patience and leases."""
        said = f"{self.where}: no answer for {format_duration(now - since)}"
        for each in self.wanted:
            each.say("unreachable", {"provider": self.where, "sentence": said})
            each.finish(NO_ANSWER)

    def unreachable(self, error: OSError) -> None:
        """Nobody answers: final for who never had power, else until the patience ends."""
        now = now_ns()
        reason = error.strerror or str(error)
        self.lost_at = self.lost_at or now
        others = self.failed()
        self.losses = 0 if others else self.losses + 1
        patience = now - self.lost_at < self._give_up_ns
        for each in self.wanted:
            is_over = not patience or not (each.was_ready or others)
            if is_over or others:
                said = f"{self.where}: {reason}"
                facts = {"provider": self.where, "sentence": said, "again": not is_over}
                each.say("unreachable", facts)
            if is_over:
                each.finish(NO_ANSWER)

    def earliest(self) -> Instant:
        """Return when the next connection may be made: a little after a cut, later after losses.

        Who leaves a provider for another one, which the guide names, need not wait.
        """
        if self.is_leaving:
            return now_ns()
        base = back_off_ns(self.losses) if self.losses else NS_PER_S // 10
        return now_ns() + round(base * random.uniform(0.8, 1.2))
