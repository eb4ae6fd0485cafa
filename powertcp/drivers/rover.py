"""The roaming of one link: looks whether to move, and prepares the move beside the path of now."""

from collections.abc import Callable, Sequence

from powertcp.dpdp.roam import Cause, Roam, Roaming
from powertcp.drivers.appliance import Appliance
from powertcp.drivers.crossing import Crossing, Leaving, Opener, Strand
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.flow_book import party
from powertcp.drivers.guide import Guide, Place, Sign
from powertcp.drivers.interfaces import Interface, read_interfaces
from powertcp.drivers.path import Dialler, Path
from powertcp.drivers.price import MaxPrice
from powertcp.drivers.quest import Quest
from powertcp.errors import HostError
from powertcp.registry import Refusal
from powertcp.units import Instant


class Rover:
    """At most one crossing at a time, and the paths that were left.

    current: the path that powers the link. take_over: lives on the flows of a crossing from now on.
    on_change: called when a crossing has ended. crossing: under way.
    """

    def __init__(
        self,
        policy: Roam,
        guide: Guide,
        quest: Quest,
        dialler: Dialler,
        price: MaxPrice | None,
        *,
        current: Callable[[], Path | None],
        ask: Opener,
        take_over: Callable[[Crossing, Path], None],
        on_change: Callable[[], None],
    ) -> None:
        """Roam as `policy` says, to whom `guide` names."""
        self.roaming = Roaming(policy if guide.may_roam else Roam.NEVER)
        self.crossing: Crossing | None = None
        self._guide, self._quest, self._dialler, self._price = guide, quest, dialler, price
        self._current, self._ask = current, ask
        self._take_over, self._on_change = take_over, on_change
        self._leaving: set[Leaving] = set()
        self._is_closing = False
        if self.may_roam:
            guide.listen(self._heed)

    @property
    def may_roam(self) -> bool:
        """Whether any provider is ever left by choice or need."""
        return self.roaming.policy is not Roam.NEVER

    # -- news ----------------------------------------------------------------------------------

    def arrived(self, path: Path, cause: Cause | None = None) -> None:
        """Power is asked for on `path`, or comes from there."""
        self.roaming.arrived(cause, now_ns())
        if self.may_roam:
            try:
                path.is_carried(read_interfaces())
            except HostError:
                return

    def uplinks(self, found: Sequence[Interface]) -> None:
        """Hear what interfaces there are."""
        path = self._current()
        if path is not None and self.may_roam:
            self.roaming.carried(path.is_carried(found))
            self.look()

    def drained(self) -> None:
        """The provider goes: 601."""
        self.roaming.drained()
        self.look()

    # DPDP-6-03
    def _heed(self, key: str, sign: Sign) -> None:
        """Hear news of an advert: it changes no flow, and is a reason to roam or none."""
        path, now = self._current(), now_ns()
        if path is None:
            return
        if key == path.place.key:
            if sign is Sign.GOODBYE:
                self.roaming.goodbye(now)
            elif sign is Sign.GONE:
                self.roaming.gone()
            else:
                self.roaming.returned()
            self.look()
        elif self.roaming.is_watched(key):
            self._compare(path, now)

    # -- deciding ------------------------------------------------------------------------------

    # DPDP-10-03
    def look(self) -> None:
        """Decide; called once a second, and when there is news."""
        path, now = self._current(), now_ns()
        if not self.may_roam or self._is_closing:
            return
        if path is not None:
            if path.stale_at is None:
                self.roaming.fresh()
            else:
                self.roaming.stale(path.interval_ns, path.stale_at)
        if self.crossing is not None:
            self._cross(self.crossing, now)
            return
        wanted = self._quest.wanted
        if path is None or not any(each.is_ready for each in wanted):
            return
        if any(each.book is not None and each.book.refusal() for each in wanted):
            return
        self._compare(path, now)
        move = self.roaming.decide(now)
        if move is None:
            return
        without = path.carrier if move.cause is Cause.LINK else None
        place = self._guide.other(path.place, self._quest.asks, move.keys, without)
        if place is not None:
            self._start(move.cause, path, place)

    def _compare(self, path: Path, now: Instant) -> None:
        if self.roaming.policy is Roam.BETTER:
            live = (each for each in self._quest.wanted if each.is_ready and each.profile)
            held_mw = sum(each.profile.power_mw for each in live if each.profile)
            self.roaming.better(self._guide.better(path.place, self._quest.asks, held_mw), now)

    # -- crossing ------------------------------------------------------------------------------

    # DPDP-10-02
    def _start(self, cause: Cause, path: Path, place: Place) -> None:
        crossing = Crossing(
            cause,
            path,
            self._price,
            on_ready=self.look,
            on_fail=lambda refusal, said: self._failed(crossing, place, refusal, said),
        )
        self.crossing = crossing
        wanted = [each for each in self._quest.wanted if each.is_ready]
        if self._dialler.nursery is not None:
            self._dialler.nursery.start_soon(self._open, crossing, place, wanted)

    async def _open(self, crossing: Crossing, place: Place, wanted: Sequence[Appliance]) -> None:
        with crossing.scope:
            try:
                path = await self._dialler.dial(place, crossing.handle, lambda _: crossing.ended())
            except OSError as error:
                crossing.fail(None, error.strerror or str(error))
                return
            await crossing.open(path, wanted, self._ask)
        if crossing.scope.cancelled_caught and crossing.path and not crossing.is_ready:
            crossing.path.abort()

    def _failed(
        self, crossing: Crossing, place: Place, refusal: Refusal | None, sentence: str
    ) -> None:
        """Nothing comes of it: the path of now goes on, the other one waits as the refused do."""
        self.crossing = None
        if crossing.path is not None:
            crossing.path.abort()
        crossing.give_back()
        if refusal is not None:
            self._guide.refused(place, refusal)
        else:
            self._guide.failed(place)
        why = refusal.sentence() if refusal is not None else sentence or "it hung up"
        path = self._current()
        stays = f"; {path.place} goes on" if path is not None else ""
        for each in self._quest.wanted:
            each.say("stays", {"provider": str(place), "sentence": f"{place}: {why}{stays}"})
        self._on_change()

    def _cross(self, crossing: Crossing, now: Instant) -> None:
        """Live on the other flows, if they are READY and there is still a reason."""
        path = crossing.path
        if path is None or not crossing.is_ready:
            return
        is_moved = self._current() is None or any(one.is_resumed for one in crossing.held.values())
        may = is_moved or self.roaming.may_cross(crossing.cause, now)
        if may is None:
            return
        self.crossing, crossing.is_over = None, True
        if may:
            self._take_over(crossing, path)
        else:
            self._give_up(crossing, path, now)
        self._on_change()

    def _give_up(self, crossing: Crossing, path: Path, now: Instant) -> None:
        """Close flows that are READY and not needed: what they brought has a receipt, too."""
        leaving = self.leave(path, now)
        for held in crossing.held.values():
            each = held.appliance
            book = each.book.another(each) if each.book is not None else None
            strand = Strand(each, held.flow, held.name, book, None)
            if book is not None:
                book.contract, book.there = strand, party(str(path.place))
            leaving.add(strand)
            leaving.handle(path, held.events)
        leaving.close(now)

    def leave(self, path: Path, now: Instant) -> Leaving:
        """Return what sees to the end of a path."""
        leaving = Leaving(path, now)
        self._leaving.add(leaving)
        path.handle = leaving.handle

        def ended(_: Path) -> None:
            leaving.ended()
            self._leaving.discard(leaving)

        path.on_end = ended
        return leaving

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Roam no more; what was prepared is closed, what was left ends by itself."""
        self._is_closing = True
        crossing, self.crossing = self.crossing, None
        if crossing is None:
            return
        crossing.is_over = True
        crossing.scope.cancel()
        crossing.give_back()
        if crossing.path is not None and crossing.is_ready:
            self._give_up(crossing, crossing.path, now_ns())
        elif crossing.path is not None:
            crossing.path.abort()

    def abort(self) -> None:
        """End every path at once."""
        self.close()
        for leaving in list(self._leaving):
            leaving.path.abort()
