"""5 V 3 A and 230 V 10 A 50 Hz on one connection: metered apart, equal at both ends."""

from random import Random

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.potcp.events import (
    FlowResumed,
    PowerReady,
    RenegotiationRequested,
    SamplesReceived,
    TicketReceived,
)
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.options import Sampling
from tests.conversation import SINK, SOURCE, Pair, ask, profile

DISTURBANCES = 130
SECONDS = 600
WHY = Refusal(Reason.OPERATOR)
RATES = {"dc": Sampling(50), "ac": Sampling(400)}
LEAST = {"dc": "5V/0.5A", "ac": "230V/1A@50Hz"}


class House:
    """One connection with both flows, and what was sent, banked and returned of each."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.pair = self.fresh(Pair())
        self.flows = {
            "dc": self.pair.energise("5V/3A", LEAST["dc"], sampling=RATES["dc"]),
            "ac": self.pair.energise("230V/10A@50Hz", LEAST["ac"], sampling=RATES["ac"]),
        }
        self.banked = dict.fromkeys(RATES, 0)
        self.sent = dict.fromkeys(RATES, 0)
        self.returned = dict.fromkeys(RATES, 0)
        self.tickets = dict.fromkeys(RATES, b"")

    def fresh(self, pair: Pair) -> Pair:
        """Let the wire of a pair cut its octets anywhere."""

        def cut(octets: bytes) -> list[bytes]:
            at = self.random.randrange(len(octets) + 1)
            return [octets[:at], octets[at:]]

        pair.chunk = cut
        return pair

    def note(self) -> None:
        """Book what both ends reported."""
        pair = self.pair
        names = {flow: name for name, flow in self.flows.items()}
        for banked in pair.take(SINK, SamplesReceived):
            self.banked[names[banked.flow]] += banked.energy_uj
        for ticket in pair.take(SINK, TicketReceived):
            self.tickets[names[ticket.flow]] = ticket.ticket
        for side in (SINK, SOURCE):
            pair.events[side].clear()
            pair.sent[side].clear()

    def deliver(self, name: str, *, lost: bool = False) -> None:
        """Send a short block of one flow; `lost`: it stays under way."""
        pair, flow = self.pair, self.flows[name]
        samples = self.random.randrange(8, 17)
        block = pair.block(flow, samples)
        before = pair.source.status(flow).esn_uj
        if pair.source.send_samples(flow, [block], now=pair.now):
            pair.counters[flow] = pair.counters.get(flow, 0) + samples
        self.sent[name] += pair.source.status(flow).esn_uj - before
        if not lost:
            pair.exchange()

    def renegotiate(self, name: str) -> None:
        """Agree on another current."""
        pair, flow = self.pair, self.flows[name]
        terms = pair.source.status(flow).profile
        assert terms is not None
        most, least = (3_000, 500) if name == "dc" else (10_000, 1_000)
        other = terms.with_type(
            profile("5V/1A").type, current_ma=self.random.randrange(least, most + 1)
        )
        pair.sink.renegotiate(flow, [ask(other.format())], now=pair.now)
        pair.exchange()
        (asked,) = pair.take(SOURCE, RenegotiationRequested)
        pair.source.answer(flow, True, profile=asked.asks[0].desired, now=pair.now)
        pair.exchange()
        assert pair.take(SINK, PowerReady)[-1].profile.current_ma == other.current_ma

    def cut(self) -> None:
        """Lose the path with blocks under way, and resume both flows on another."""
        for name in RATES:
            self.deliver(name, lost=True)
        octets = self.pair.source.data_to_send()
        self.pair.sink.receive_data(octets[: self.random.randrange(len(octets) + 1)], self.pair.now)
        self.pair.collect()
        self.note()
        old = self.pair
        terms = {name: old.sink.status(flow).profile for name, flow in self.flows.items()}
        verified = {name: old.sink.status(flow).esn_uj for name, flow in self.flows.items()}
        old.cut()
        self.pair = self.fresh(Pair(office=old.office, now=old.now + NS_PER_S // 2))
        for name, was in terms.items():
            assert was is not None
            flow = self.pair.request(
                ask(was.format()),
                ticket=self.tickets[name],
                esn_uj=verified[name],
                sampling=RATES[name],
            )
            (resumed,) = self.pair.take(SOURCE, FlowResumed)
            self.returned[name] += resumed.returned_uj
            self.flows[name] = flow
            self.pair.source.ready(flow, now=self.pair.now)
            self.pair.exchange()
        assert old.source.flows == ()
        self.note()


@pytest.mark.requirement("PTCP-11-01", "PTCP-10-03", "PTCP-10-04")
def test_both_registers_agree_to_the_microjoule_after_ten_minutes_of_disturbances() -> None:
    random = Random(20_260)
    house = House(random)
    start = house.pair.now
    cuts = 0
    for step in range(DISTURBANCES):
        for name in random.choices(["dc", "ac"], k=4):
            house.deliver(name)
        if random.random() < 0.3:
            house.renegotiate(random.choice(["dc", "ac"]))
        house.pair.advance(SECONDS / DISTURBANCES, step_ms=1_000)
        house.note()
        if step % 6:
            house.cut()
            cuts += 1
        for name, flow in house.flows.items():
            near, far = (end.status(flow) for end in house.pair.ends)
            assert near.esn_uj == far.esn_uj == house.banked[name]
    assert cuts >= 100
    assert house.pair.now - start >= SECONDS * NS_PER_S
    for name in RATES:
        assert house.sent[name] - house.returned[name] == house.banked[name] > 0
        assert house.returned[name] > 0


@pytest.mark.requirement("PTCP-9-05")
def test_budget_is_held_if_and_only_if_the_state_is_not_listen() -> None:
    """A source's owner sees FlowClosed exactly when a flow leaves for LISTEN, once."""
    random = Random(5)
    for seed in range(60):
        pair = Pair(now=(1_000 + seed) * NS_PER_S)
        flow = pair.request(ask("12V/1A", "12V/0.1A"))
        held = False
        for _ in range(12):
            verb = random.choice(["grant", "ready", "trip", "close", "reset", "cut", "wait"])
            try:
                if verb == "grant":
                    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
                    held = True
                elif verb == "ready":
                    pair.source.ready(flow, now=pair.now)
                elif verb == "trip":
                    pair.sink.trip(flow, WHY, now=pair.now)
                elif verb == "close":
                    pair.source.close_flow(flow, now=pair.now)
                elif verb == "reset":
                    pair.sink.reset_flow(flow, WHY, now=pair.now)
                elif verb == "cut":
                    pair.cut()
                else:
                    pair.advance(random.choice([0.1, 3, 12]), step_ms=500)
            except LocalProtocolError:
                continue
            pair.exchange()
            ended = [one for one in pair.events[SOURCE] if type(one).__name__ == "FlowClosed"]
            assert len(ended) <= 1
            if ended:
                held = False
            states = [pair.source.status(one).state for one in pair.source.flows]
            assert held == any(state != "LISTEN" for state in states)
