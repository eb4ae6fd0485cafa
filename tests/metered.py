"""A conversation of two ends with meters: real keys, real pages, both chains. Not collected."""

from typing import Any

from powertcp.crypto import SigningKey
from powertcp.ledger import Clock, PageChain, Side
from powertcp.potcp.events import (
    Ask,
    PageFacts,
    PageMark,
    PageReceived,
    PageSigned,
    PowerRequested,
)
from powertcp.potcp.tickets import TicketOffice
from powertcp.profile import PowerProfile, ProfileType
from powertcp.wire.options import Meter, Tariff
from tests.conversation import SINK, SOURCE, START, Pair, ask, profile

SOURCE_KEY = SigningKey(bytes(range(32)))
SINK_KEY = SigningKey(bytes(range(32, 64)))
DAY = Tariff(bytes([7]) * 32, "EUR", 312_000)
NIGHT = Tariff(bytes([8]) * 32, "EUR", -41_000)


def meter_of(side: int, receipt_s: int = 60, receipt_uj: int = 0) -> Meter:
    return Meter(receipt_s, receipt_uj, (SINK_KEY, SOURCE_KEY)[side].public)


class Books:
    """The chains of both owners, by transcript: they outlive a connection.

    copies: the pages that the sink signed, as it sent them.
    """

    def __init__(self) -> None:
        self.copies: list[bytes] = []
        self.chains: dict[tuple[int, bytes], PageChain] = {}
        self.pages: list[bytes] = []
        self.facts: list[PageFacts] = []
        self.differences: list[str] = []

    def chain(self, side: int, transcript: bytes) -> PageChain:
        key = (SINK_KEY, SOURCE_KEY)[side]
        begun = PageChain(key, (Side.SINK, Side.SOURCE)[side], START)
        return self.chains.setdefault((side, transcript), begun)

    def sign(self, facts: PageFacts) -> bytes:
        """Make the source's page."""
        chain = self.chain(SOURCE, facts.transcript)
        return chain.next_page(facts, facts.at_ns, Clock.SYNCHRONISED)

    def answer(self, event: PageReceived) -> bytes | None:
        """Return the page with the sink's signature, None if it is not what we counted."""
        facts = event.facts
        chain = self.chain(SINK, facts.transcript)
        self.facts.append(facts)
        found = chain.check(event.octets, facts, facts.at_ns, Clock.SYNCHRONISED)
        self.differences += [str(one) for one in found]
        if found:
            return None
        copy = chain.countersign(event.octets)
        self.copies.append(copy)
        return copy


class MeteredPair(Pair):
    """Both ends with meters. `answers`: the sink's owner signs what it is given at once.

    `keeps`: the source's owner writes down what comes back at once. signed: the countersigned pages in the order in which the source got them.
    """

    def __init__(
        self,
        *,
        books: Books | None = None,
        office: TicketOffice | None = None,
        now: int = START,
        **config: Any,
    ) -> None:
        super().__init__(office=office, now=now, chunk=None, **config)
        self.books = books or Books()
        self.source.sign_page = self.books.sign
        self.answers = self.keeps = True
        self.signed: list[bytes] = []

    def exchange(self) -> None:
        super().exchange()
        while self._act():
            super().exchange()

    def _act(self) -> bool:
        """Let the owners do what they are told of; False when there is nothing."""
        came = self.take(SINK, PageReceived) if self.answers else []
        for page in came:
            self.answer(page)
        back = self.take(SOURCE, PageSigned) if self.keeps else []
        for copy in back:
            self.signed.append(copy.octets)
            if copy.flow in self.source.flows:
                self.source.keep_page(copy.flow, copy.octets, now=self.now)
        return bool(came or back)

    def answer(self, event: PageReceived) -> None:
        copy = self.books.answer(event)
        if copy is None:
            raise AssertionError(f"not what was counted: {self.books.differences}")
        self.sink.countersign(event.flow, copy, now=self.now)

    def energise(  # type: ignore[override]
        self,
        text: str = "12V/1A",
        minimum: str | None = None,
        *,
        fallback: str | None = None,
        tariff: Tariff | None = None,
        ours: Meter | None = None,
        theirs: Meter | None = None,
    ) -> int:
        """Open a flow with meters at both ends and bring it to READY."""
        floor = profile(fallback, ProfileType.FALLBACK) if fallback else None
        meter = ours or meter_of(SINK)
        flow = self.request(ask(text, minimum), fallback=floor, meter=meter)
        self.take(SOURCE, PowerRequested)
        meter = theirs or meter_of(SOURCE)
        self.source.grant(
            flow, profile(text), fallback=floor, tariff=tariff, meter=meter, now=self.now
        )
        self.exchange()
        self.source.ready(flow, now=self.now)
        self.exchange()
        return flow

    def run(self, flow: int, blocks: int) -> int:
        """Deliver so many blocks of 100 ms, as time passes; returns how many were taken."""
        taken = 0
        for _ in range(blocks):
            self.advance(0.1)
            taken += self.deliver(flow)
        return taken

    def resume(
        self,
        ticket: bytes,
        esn_uj: int,
        mark: PageMark | None,
        before: PowerProfile,
        *,
        wish: Ask | None = None,
        meter: Meter | None = None,
    ) -> tuple["MeteredPair", int]:
        """Resume a flow that was cut here on another connection, up to READY."""
        pair = MeteredPair(books=self.books, office=self.office, now=self.now)
        flow = pair.request(
            wish or Ask(before.with_type(ProfileType.REQUEST)),
            ticket=ticket,
            esn_uj=esn_uj,
            before=before,
            meter=meter or meter_of(SINK),
            pages=mark,
        )
        if pair.source.status(flow).state == "RAMPING":
            pair.source.ready(flow, now=pair.now)
            pair.exchange()
        return pair, flow
