"""A consumer: links to its provider, the contracts on them, and the loads they power."""

import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import trio

from powertcp.drivers.appliance import NO, Appliance, Say
from powertcp.drivers.consumer_books import ConsumerBooks
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.feed_link import FeedLink
from powertcp.drivers.feed_power import unknown_power
from powertcp.drivers.flow_book import FlowBook, cost_facts
from powertcp.drivers.interfaces import follow, read_interfaces
from powertcp.drivers.link import Link
from powertcp.drivers.quota import Quota
from powertcp.drivers.tracer import Tracer
from powertcp.drivers.wheel import Wheel
from powertcp.drivers.wishes import Wishes
from powertcp.errors import HostError
from powertcp.loads import Load
from powertcp.loads.events import Hasty
from powertcp.potcp.events import Ask
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S, Instant, format_energy, format_power

__all__ = ["Consumer", "Wishes"]

GOODBYE_S = 5  # an orderly end takes no longer
TICK_NS = NS_PER_S
UPLINK_S = 0.05  # what the kernel tells of one plug that is pulled comes together
USAGE = 2
_log = logging.getLogger("consumer")


class Consumer:
    """Everything one `powertcp consumer` does."""

    def __init__(
        self,
        wishes: Wishes,
        loads: Sequence[Load],
        say: Say,
        tracer: Tracer | None = None,
        feed: Callable[[Appliance, Wheel], FeedLink] | None = None,
        books: ConsumerBooks | None = None,
    ) -> None:
        """Want each of `wishes.asks` for the load at its place.

        feed: makes the path of a feed, which then powers the only load; nothing is asked for.
        books: where flows are booked, None nowhere: no receipts are asked for.
        """
        self._say = say
        self._books = books
        self._wheel = Wheel()
        fallbacks = wishes.fallbacks or [None] * len(wishes.asks)
        asks = wishes.asks if feed is None else [Ask(unknown_power())]
        wanted = zip(asks, loads, fallbacks or [None], strict=True)
        self.appliances = [
            Appliance(f"{index}", ask, load, say, fallback, Quota(wishes.for_ns, wishes.energy_uj))
            for index, (ask, load, fallback) in enumerate(wanted, 1)
        ]
        for each in self.appliances:
            each.patience.give_up_ns = wishes.give_up_ns
            if books is not None and feed is None:
                each.book = books.open(each)
        groups = [self.appliances] if wishes.mux else [[each] for each in self.appliances]
        self._links: list[Link | FeedLink] = [
            feed(group[0], self._wheel) if feed else Link(wishes, group, self._wheel, tracer)
            for group in groups
        ]
        if books is not None:
            books.on_failure = self._refuse
        self.is_stopping = False

    async def run(self) -> int:
        """Consume until everything is over; returns the exit status."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wheel.run)
            nursery.start_soon(self._listen_signals, nursery)
            nursery.start_soon(self._tick)
            if any(link.may_roam for link in self._links if isinstance(link, Link)):
                nursery.start_soon(follow, self._look_at_interfaces, UPLINK_S)
            keeping = self._books.keeping() if self._books else nullcontext()
            async with keeping, trio.open_nursery() as work:
                for link in self._links:
                    work.start_soon(link.run)
                    for each in link.wanted:
                        work.start_soon(self._run_load, link, each)
            nursery.cancel_scope.cancel()
        self._say("done", self.summary())
        is_disputed = any(each.book and each.book.disputed for each in self.appliances)
        status = next((each.status for each in self.appliances if each.status), 0)
        return NO if is_disputed and not status else status

    def summary(self) -> Mapping[str, object]:
        """Return the sums over all contracts."""
        return {
            "energy_uj": sum(each.energy_uj for each in self.appliances),
            "heat_uj": sum(each.heat_uj for each in self.appliances),
            "simulated": any(each.display.sim for each in self.appliances),
        } | receipts([each.book for each in self.appliances if each.book is not None])

    def _refuse(self, sentence: str) -> None:
        """The ledger cannot be written any more: say so once, and close what needs it."""
        self._say("ledger failed", {"sentence": sentence})
        for link in self._links:
            if isinstance(link, Link):
                link.refuse(Refusal(Reason.MAINTENANCE))

    def want(self, ask: Ask) -> None:
        """Ask for another power in every contract, within a second."""
        for each in self.appliances:
            each.want(ask)

    @property
    def granted_mw(self) -> int:
        """What the contracts of now allow together, mW."""
        return sum(each.profile.power_mw for each in self.appliances if each.profile is not None)

    def reset(self, load: str) -> int:
        """Let loads of this name that are off try again; returns how many."""
        found = [each for each in self.appliances if each.is_off and each.answers_to(load)]
        for each in found:
            each.reset()
        for link in self._links:
            link.kick()
        return len(found)

    async def stop(self) -> None:
        """End in order: goodbye on every flow, at most 5 s."""
        self.is_stopping = True
        for link in self._links:
            link.close()
        await trio.sleep_until(trio.current_time() + GOODBYE_S)
        self.abort()

    def abort(self) -> None:
        """End at once."""
        for link in self._links:
            link.abort()
        for each in self.appliances:
            if isinstance(each.load, Hasty):
                each.load.hurry()

    async def _run_load(self, link: Link | FeedLink, each: Appliance) -> None:
        """Run one load; if it ends by itself its status is ours."""
        try:
            status = await each.load.run(each.channel)
        except HostError as error:
            each.say("load failed", {"sentence": str(error)})
            status = USAGE
        if not each.done and not each.closing:
            each.say("load ended", {"status": status})
            each.status = status
            link.close_one(each)

    async def _listen_signals(self, nursery: trio.Nursery) -> None:
        """End in order, at once the second time; USR1 logs how it stands."""
        ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        with trio.open_signal_receiver(*ends, signal.SIGUSR1) as signals:
            async for number in signals:
                if number == signal.SIGUSR1:
                    self._log_status()
                elif self.is_stopping:
                    self.abort()
                else:
                    self.is_stopping = True
                    nursery.start_soon(self.stop)

    def _log_status(self) -> None:
        now = now_ns()
        for each in self.appliances:
            power = (
                format_power(each.profile.power_mw) if each.profile and each.flow else "no power"
            )
            lease = max(0, each.lease_until - now) // NS_PER_S
            _log.info(
                "status: %s for %s, asked %s, %s, lease %d s", power, each.load.name,
                each.ask.desired.format(), format_energy(each.energy_uj), lease,
            )  # fmt: skip

    async def _tick(self) -> None:
        """Each second: what is delivered, and what the loads keep up with."""
        due = now_ns() + TICK_NS
        while True:
            await trio.sleep_until(due / NS_PER_S)
            now = now_ns()
            due = max(due + TICK_NS, now)
            for each in self.appliances:
                if (each.flow or each.feed) and each.profile is not None:
                    self.read(each, now)
            for link in self._links:
                link.feed()

    def _look_at_interfaces(self) -> None:
        try:
            found = read_interfaces()
        except HostError as error:
            _log.warning("interfaces: %s", error)
            return
        for link in self._links:
            if isinstance(link, Link):
                link.uplinks(found)

    def read(self, each: Appliance, now: Instant) -> None:
        """Report the readings of one contract."""
        tariff = each.granted.tariff if each.granted else None
        facts = each.display.look(each.profile.frequency_chz if each.profile else 0)
        facts |= {
            "energy_uj": each.energy_uj,
            "esn_uj": each.esn_uj,
            "heat_uj": each.heat_uj,
            "lease_ms": max(0, each.lease_until - now) // 1_000_000,
        }
        facts |= each.heard
        if each.book is not None:
            facts |= each.book.facts()
        elif tariff is not None:
            facts["currency"] = tariff.currency
            facts["cost_micro"] = each.energy_uj * tariff.price // 3_600_000_000_000
        each.say("readings", facts)


def receipts(books: Sequence[FlowBook]) -> dict[str, object]:
    """Return the sums of pages and costs over the books of contracts; nothing without books."""
    if not books:
        return {}
    costs: dict[str, int] = {}
    for book in books:
        for currency, micro in book.all_costs().items():
            costs[currency] = costs.get(currency, 0) + micro
    return {
        "pages": sum(book.pages for book in books),
        "signed_uj": sum(book.signed_uj for book in books),
        "disputed": sum(book.disputed for book in books),
        "unsigned_uj": sum(book.unsigned_uj for book in books),
    } | cost_facts(costs)
