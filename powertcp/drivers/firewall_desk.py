"""A firewall and all that runs beside its listeners: seconds, books, what is told of its flows."""

import logging
from collections.abc import Callable, Sequence

import trio

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.firewall import FirewallConfig, FirewallServer
from powertcp.drivers.firewall_books import FirewallBooks
from powertcp.drivers.firewall_log import event_facts, is_audited, policy_facts, say
from powertcp.drivers.firewall_report import FirewallReport
from powertcp.drivers.firewall_trace import Traces
from powertcp.drivers.ledger import Ledger
from powertcp.drivers.offers import Identity
from powertcp.drivers.reuse import Reuse
from powertcp.drivers.tracer import Tracer
from powertcp.reclaim.firewall import Firewall, stored_of
from powertcp.reclaim.layer import Layer
from powertcp.reclaim.policy import Policy
from powertcp.registry import Refusal

TICK_S = 1.0
# what a disk may take for the last of it
FINISH_S = 30.0
_log = logging.getLogger("firewall")


class FirewallDesk:
    """One firewall. It is the server of its daemon; `run` does what is to be done beside.

    ledger: where its reservoirs are, as accounts. node: what `heat:` is called. rating_mw: of the
    feeder, None: none. clock: returns the minute of the day and Unix time in s.
    """

    def __init__(
        self,
        config: FirewallConfig,
        policy: Policy,
        ledger: Ledger,
        *,
        node: str,
        unix_ns: Callable[[], int],
        clock: Callable[[], tuple[int | None, int | None]],
        rating_mw: int | None = None,
        layers: Sequence[Layer] = (),
        identity: Identity | None = None,
        root: str = "/",
        tracer: Tracer | None = None,
    ) -> None:
        """Prepare to serve; nothing is opened yet.

        identity: by which lenders are announced, None: they are not. root: where this machine's
        files are. tracer: makes two files of each connection.
        """
        self.ledger = ledger
        self.firewall = Firewall(
            policy,
            node=node,
            now=now_ns(),
            stored=stored_of((one.name, -one.balance) for one in ledger.accounts()),
            rating_mw=rating_mw,
            layers=layers,
            clock=clock,
        )
        self.server = FirewallServer(config, self.firewall, tracer)
        # of its daemon: serve until drained
        self.serve = self.server.serve
        self.reuse = Reuse(self.firewall, identity, per_address=config.per_address, root=root)
        self.books = FirewallBooks(
            ledger,
            self.firewall.take_postings,
            unix_ns,
            self._stuck,
            node=node,
            reserve=self.reuse.may_deliver,
        )
        self.reuse.on_promise = self.books.kick
        self.report = FirewallReport(self.server, self.books)
        self.traces = Traces(self.firewall)
        self.report.more = {
            "watchers": self.traces.__len__,
            "lending": self.reuse.lending_fields,
            "infrastructure": self.reuse.infrastructure_fields,
        }
        self.server.on_news = self._tell
        self._note_policy(policy)

    # -- the server of a daemon ----------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether nobody new is served."""
        return self.server.draining

    async def drain(self) -> None:
        """End every flow, those of lenders too, then `serve`."""
        self.server.draining = True
        # with `serve` all else ends: what was lent is settled before
        await self.reuse.drain()
        await self.server.drain()

    def stop(self) -> None:
        """End `serve` at once."""
        self.server.stop()

    # -- beside --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Let seconds pass and write the books, until cancelled; what is left then, too."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.books.run)
                nursery.start_soon(self._tick)
                await self.reuse.run()
        finally:
            # by now lenders have drawn all that they delivered
            self._tell()
            with trio.move_on_after(FINISH_S, shield=True):
                await self.books.finish()

    async def _tick(self) -> None:
        due_s = trio.current_time()
        while True:
            now = now_ns()
            self.server.tick(now)
            self.report.tick(now)
            self.books.kick()
            # a host that was asleep does not make up for its seconds
            due_s = max(due_s + TICK_S, trio.current_time())
            await trio.sleep_until(due_s)

    def _tell(self) -> None:
        """Tell what was ruled since the last time, and have the joules of it written."""
        events = self.firewall.events
        while events:
            event = events.popleft()
            say(event)
            if is_audited(event):
                self.books.note(f"firewall {event.what}", event_facts(event))
        self.books.kick()

    # FWRL-1-01
    def _stuck(self, refusal: Refusal) -> None:
        """The ledger cannot be written: nothing passes, and nothing is lent."""
        self.server.shut(refusal, now_ns())
        self.reuse.halt()

    # -- orders --------------------------------------------------------------------------------

    # FWRL-3-02
    def take(self, policy: Policy, layers: Sequence[Layer] | None = None) -> None:
        """Go by `policy` from now on. layers: None: the same."""
        self.server.take(policy, now_ns(), layers)
        self.reuse.change()
        self._note_policy(policy)
        _log.info(
            "policy %s: %d rules, otherwise %s", policy.file, len(policy.rules), policy.default
        )

    # FWRL-1-04
    def _note_policy(self, policy: Policy) -> None:
        scripts = [layer.file for layer in self.firewall.layers.layers]
        self.books.note("firewall policy", {**policy_facts(policy), "scripts": scripts})

    def reset(self) -> None:
        """Count rules and counters from 0 again."""
        self.firewall.rules.clear()
        self.firewall.counters.clear()
