"""Make before break: flows on their way to another provider, and flows that were left (DPDP 10)."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from powertcp.dpdp.roam import Cause
from powertcp.drivers.appliance import Appliance
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.flow_book import FlowBook
from powertcp.drivers.path import Path
from powertcp.drivers.patience import OPEN_GAP_NS
from powertcp.drivers.price import MaxPrice
from powertcp.drivers.reply import tariff_refusal
from powertcp.errors import LocalProtocolError, WireBroken
from powertcp.loads import Load
from powertcp.machine import Event
from powertcp.potcp.events import (
    ConnectionStale,
    ConnectionTerminated,
    FlowClosed,
    FlowEvent,
    FlowRefused,
    HeatCounted,
    PowerGranted,
    PowerOffered,
    PowerReady,
    SamplesReceived,
)
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S, Duration, Instant
from powertcp.vppn.tunnel import TunnelBroken, TunnelOpened
from powertcp.wire.options import Sampling

# both providers may deliver, DPDP-10-02
BOTH_NS: Final[Duration] = 2 * NS_PER_S


@dataclass(slots=True)
class Held:
    """One flow that is not lived on yet: all that happened on it waits for the day."""

    appliance: Appliance
    flow: int
    name: str
    is_resumed: bool = False
    is_ready: bool = False
    events: list[Event] = field(default_factory=list)


class Opener(Protocol):
    """Sends the SYN of an appliance on a path: `Link.ask`."""

    def __call__(
        self, path: Path, each: Appliance, ticket: bytes | None, esn_uj: int, now: Instant
    ) -> int:
        """Queue it; returns the flow."""


class Crossing:
    """The flows of a link on their way to another provider.

    on_ready: all of them are READY there. on_fail: told once why it comes to nothing, None for a
    connection that ended without a word. scope: of who opens it.
    """

    def __init__(
        self,
        cause: Cause,
        now_path: Path,
        price: MaxPrice | None,
        on_ready: Callable[[], None],
        on_fail: Callable[[Refusal | None, str], None],
    ) -> None:
        """Prepare to leave `now_path`."""
        self.cause = cause
        self.path: Path | None = None
        self.held: dict[int, Held] = {}
        self.is_ready = self.is_over = False
        self._from, self._price = now_path, price
        self._on_ready, self._on_fail = on_ready, on_fail
        self.scope = trio.CancelScope()
        self._count = 0

    async def open(self, path: Path, wanted: Sequence[Appliance], ask: Opener) -> None:
        """Ask on `path` for what each of `wanted` has, and see to it that nothing is drawn there.

        With the ticket of the same provider the path of now falls silent first: what is verified by
        then is where the flow goes on.
        """
        self.path = path
        self._count = len(wanted)
        for each in wanted:
            if self.is_over:
                return
            now = now_ns()
            try:
                path.queue(self._ask, path, each, ask, now)
            except (LocalProtocolError, WireBroken) as error:
                self.fail(None, str(error))
                return
            await trio.sleep_until((now + OPEN_GAP_NS) / NS_PER_S)

    def _ask(self, path: Path, each: Appliance, ask: Opener, now: Instant) -> None:
        before, ticket, esn_uj = self._from, None, 0
        if path.place.provider == before.place.provider and each.flow in before.machine.flows:
            ticket = each.ticket
        if ticket is not None:
            # DPDP-10-01, PTCP-10-03
            before.pause()
            each.mark = before.machine.page_mark(each.flow, now=now)
            esn_uj = before.machine.status(each.flow).esn_uj
        flow = ask(path, each, ticket, esn_uj, now)
        # DPDP-10-02: nothing is drawn there while the other one delivers
        path.machine.set_demand(flow, 0, now=now)
        self.held[flow] = Held(each, flow, f"{path.where}/{flow}")

    # -- what the new provider says --------------------------------------------------------------

    def handle(self, path: Path, events: Sequence[Event]) -> None:
        """Keep what happens until all flows are READY; a no ends it."""
        for event in events:
            match event:
                case FlowEvent(flow=flow) | SamplesReceived(flow=flow) if flow in self.held:
                    self._of_flow(path, self.held[flow], event)
                case TunnelOpened():
                    path.show(event.identity.certificate)
                case TunnelBroken(refusal=refusal) | ConnectionTerminated(refusal=refusal):
                    self.fail(refusal, "")
                case _:
                    pass
        is_ready = len(self.held) == self._count > 0 and all(
            held.is_ready for held in self.held.values()
        )
        if is_ready and not self.is_ready and not self.is_over:
            self.is_ready = True
            self._on_ready()

    def _of_flow(self, path: Path, held: Held, event: FlowEvent | SamplesReceived) -> None:
        held.events.append(event)
        match event:
            case PowerGranted(tariff=tariff):
                lacks = path.lacks(event)
                refusal = tariff_refusal(held.appliance, tariff, self._price)
                refusal = refusal or self._falls_short(path, held.appliance, event)
                if lacks or refusal is not None:
                    self.fail(refusal, lacks)
            case PowerReady(resumed=resumed):
                held.is_ready, held.is_resumed = True, resumed
            case PowerOffered(refusal=refusal):
                self.fail(refusal or Refusal(Reason.NOT_OFFERED), "")
            case FlowRefused(refusal=refusal) | FlowClosed(refusal=refusal):
                self.fail(refusal, "")

    def _falls_short(self, path: Path, each: Appliance, event: PowerGranted) -> Refusal | None:
        """Return why what is granted is not better, though its advert was."""
        if self.cause is not Cause.BETTER:
            return None
        had_mw = each.profile.power_mw if each.profile is not None else 0
        if event.profile.power_mw < had_mw:
            return Refusal(Reason.NO_CAPACITY, had_mw, event.profile.power_mw)
        advert = path.place.entry.advert if path.place.entry is not None else None
        said = advert.tariff if advert is not None else None
        price = event.tariff.price if event.tariff is not None else 0
        if said is not None and price > said.micro_per_kwh:
            return Refusal(Reason.TARIFF, price, said.micro_per_kwh, rule="dearer than its advert")
        return None

    def give_back(self) -> None:
        """Nothing came of it: the path of now is read again."""
        self._from.go_on()

    def ended(self) -> None:
        """The connection is over."""
        self.fail(None, "")

    def fail(self, refusal: Refusal | None, sentence: str) -> None:
        """It comes to nothing; told once."""
        if not self.is_over:
            self.is_over = True
            self.scope.cancel()
            self._on_fail(refusal, sentence)


@dataclass(slots=True, eq=False)
class Strand:
    """One flow that was left: whose it was, and the book that its last page goes to."""

    appliance: Appliance
    flow: int
    flow_name: str
    book: FlowBook | None
    sampling: Sampling | None

    @classmethod
    def of(cls, each: Appliance) -> "Strand":
        """Return the flow that an appliance has, which is about to be left; it gets another book."""
        sampling = each.granted.sampling if each.granted is not None else None
        strand = cls(each, each.flow, each.flow_name, each.book, sampling)
        if each.book is not None:
            each.book.contract, each.book = strand, each.book.another(each)
        return strand

    @property
    def load(self) -> Load:
        """What it powered."""
        return self.appliance.load

    def say(self, event: str, facts: Mapping[str, object] | None = None) -> None:
        """Report `event` of the contract, with the flow it is about."""
        self.appliance.say(event, {"flow": self.flow, **(facts or {})})

    def end(self) -> None:
        """It is over: what is in its book is told to that of now."""
        if self.book is not None:
            self.book.leave(lambda: self.appliance.book)


class Leaving:
    """A path that was left: old pages are answered and energy is counted, until all is closed.

    Each flow is told 603; who delivers for more than 2 s all the same is cut off. Who does not
    answer has not read that yet: for them the 2 s begin when they answer again.
    """

    def __init__(self, path: Path, now: Instant) -> None:
        """Leave `path`."""
        self.path = path
        # since when what comes was sent by who can know that it was left; None: it is silent
        self._since = now if path.is_answering else None
        self._strands: dict[int, Strand] = {}

    def add(self, strand: Strand) -> None:
        """Let `strand` end on the path."""
        self._strands[strand.flow] = strand
        if strand.book is not None:
            strand.book.on_answer = lambda: self._answer(strand)

    def close(self, now: Instant) -> None:
        """Tell the provider that the flows go on elsewhere."""
        for strand in list(self._strands.values()):
            self._answer(strand)
            with suppress(LocalProtocolError, WireBroken):
                self.path.queue(
                    self.path.machine.close_flow,
                    strand.flow,
                    refusal=Refusal(Reason.HANDOVER),
                    now=now,
                )
        self.settle()

    def handle(self, path: Path, events: Sequence[Event]) -> None:
        """Take what still comes."""
        for event in events:
            match event:
                case FlowEvent(flow=flow) | SamplesReceived(flow=flow) if flow in self._strands:
                    self._of_flow(self._strands[flow], event)
                case ConnectionStale():
                    self._since = None
                case _:
                    pass
        self.settle()

    def _of_flow(self, strand: Strand, event: FlowEvent | SamplesReceived) -> None:
        if strand.book is not None:
            strand.book.take(event)
        match event:
            case SamplesReceived():
                strand.appliance.bank_late(event, strand.sampling)
                # DPDP-10-02
                now = now_ns()
                self._since = now if self._since is None else self._since
                if now - self._since > BOTH_NS:
                    self.path.cut()
            case HeatCounted(energy_uj=energy_uj):
                strand.appliance.heat_uj += energy_uj
            case FlowClosed():
                del self._strands[strand.flow]
                strand.end()

    def _answer(self, strand: Strand) -> None:
        with suppress(LocalProtocolError, WireBroken):
            if strand.book is not None and strand.flow in self._strands:
                self.path.queue(strand.book.answer, self.path.machine, strand.flow, now_ns())

    def settle(self) -> None:
        """Say goodbye to TCP when nothing is left on it."""
        if not self._strands:
            self.path.finish()

    def ended(self) -> None:
        """The connection is over, and with it what was not closed."""
        for strand in self._strands.values():
            strand.end()
        self._strands.clear()
