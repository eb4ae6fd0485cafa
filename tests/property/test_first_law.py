"""Random networks: whatever is delivered, lost, said twice or cut, the books of all nodes add up."""

from random import Random

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from powertcp.crypto import SigningKey
from powertcp.ledger.audit import FirstLaw, audit
from powertcp.ledger.book import Code
from powertcp.ledger.pairing import ALL_TIME, Fault, PageState
from powertcp.ledger.receipt import Page, Side
from powertcp.ledger.sankey import sankey
from powertcp.ledger.statement import Given, Statement, end_fields, in_order, json_line, line_fields
from tests.books import Feed, Flow, Node, transfer

NODES = 50
FLOWS = 90
FEEDS = 5
MAX_UJ = 10**12


class Network:
    """Fifty nodes that give, take, burn, intercept, lend and crash; and what must come out."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.nodes = [Node(f"node-{number:02}", 1 + number) for number in range(NODES)]
        self.flows: list[Flow] = []
        self.feeds: list[Feed] = []
        self.paired_uj = 0
        self.paired = 0
        self.open = 0
        self.emitted: dict[str, int] = {}
        self.received: dict[str, int] = {}
        self.done = 0

    def number(self) -> bytes:
        """Return 32 octets that no other event has."""
        self.done += 1
        return self.done.to_bytes(32, "big")

    def energy(self) -> int:
        return self.random.choice(
            (0, 1, self.random.randrange(MAX_UJ), self.random.randrange(1000))
        )

    def run(self) -> None:
        for _ in range(FLOWS):
            self.flow()
        for _ in range(FEEDS):
            self.feed()
        for node in self.nodes:
            self.household(node)
        for node in self.random.sample(self.nodes, 10):
            node.restart()

    def flow(self) -> None:
        """A unicast flow of some pages; each may be said again, or be the last before a cut."""
        random = self.random
        source, sink = random.sample(self.nodes, 2)
        supply = random.choice(("source:mains", "reservoir:main", "store:battery"))
        flow = Flow(self.number(), source, sink, supply=supply, load="store:battery")
        self.flows.append(flow)
        for _ in range(random.randrange(1, 5)):
            if self.page(flow):
                return

    def page(self, flow: Flow) -> bool:
        """One page all the way, or not; return whether the flow is cut for ever."""
        random = self.random
        page = flow.next_page(self.energy())
        if random.random() < 0.1:
            flow.source.restart()
            if random.random() < 0.5:
                self.open += 1
                return True
        signed = flow.sign(page)
        if random.random() < 0.1:
            # the sink went down after its commit: it is asked again and gives the same page
            flow.sink.restart()
            assert flow.sign(page) == signed
        if random.random() < 0.05:
            self.open += 1
            return True
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            flow.settle(signed)
        if random.random() < 0.1:
            flow.source.restart()
            flow.settle(signed)
        self.paired += 1
        self.paired_uj += page.energy_uj
        return False

    def feed(self) -> None:
        """One emission, some receivers, each with its losses; copies come back to the emitter."""
        random = self.random
        source, *receivers = random.sample(self.nodes, random.randrange(2, 12))
        feed = Feed(random.randrange(2**32), source, meter=SigningKey(self.number()))
        self.feeds.append(feed)
        name = feed.feed.hex()
        self.emitted[name] = self.received[name] = 0
        for _ in range(3):
            energy = 1 + self.energy()
            feed.emit(energy)
            self.emitted[name] += energy
            for receiver in receivers:
                if banked := random.randrange(energy + 1):
                    page = feed.receive(receiver, banked)
                    self.received[name] += banked
                    self.copies(source, page)

    def copies(self, source: Node, page: Page) -> None:
        for _ in range(self.random.choice((0, 1, 2))):
            source.hold(page, Side.SOURCE, PageState.COUNTERSIGNED)

    def household(self, node: Node) -> None:
        """What a node does alone: burns, loses, intercepts, lends, claims, meters its own wall."""
        rows = [
            ("load:lamp", "store:battery", Code.LOAD, "uJ"),
            ("heat:node", "store:battery", Code.LOSS, "uJ"),
            ("reservoir:main", "intercepted:thief", Code.BANK, "uJ"),
            ("heat:node", "intercepted:thief", Code.LOSS, "uJ"),
            ("infrastructure:host", "reservoir:main", Code.RECLAIM, "uJ"),
            ("lent:guest", "reservoir:main", Code.LEND, "uJ"),
            ("employee:anna", "from:upstream", Code.UNSIGNED, "uJ"),
            ("claimed:thief", "claims", Code.CLAIM, "uJ-claimed"),
            ("wall:host", "grid", Code.LOAD, "uJ-wall"),
        ]
        for debit, credit, code, unit in rows:
            amount = 1 + self.random.randrange(1000)
            row = transfer(self.number(), 0, debit, credit, amount, code, unit=unit, memo="")
            for _ in range(self.random.choice((1, 2))):
                node.post(row)

    def audited(self, nodes: list[Node]) -> FirstLaw:
        return audit([node.shown() for node in nodes])


@pytest.mark.requirement("LEDG-8-01", "LEDG-8-02", "LEDG-8-03")
@settings(max_examples=6)
@given(seed=st.integers(0, 2**32))
def test_fifty_random_nodes_leave_no_residual(seed: int) -> None:
    network = Network(seed)
    network.run()
    law = network.audited(network.nodes)
    assert [node.residual_uj for node in law.nodes] == [0] * NODES
    for node in network.nodes:
        assert set(node.book.trial_balance().values()) <= {0}
    assert law.broken == 0
    assert (law.pairing.paired, law.pairing.paired_uj) == (network.paired, network.paired_uj)
    assert (law.pairing.open_pages, law.pairing.outside) == (network.open, 0)
    assert {finding.fault for finding in law.findings} <= {Fault.IN_FLIGHT}
    for feed in law.feeds:
        emitted, received = network.emitted[feed.feed], network.received[feed.feed]
        assert (feed.emitted_uj, feed.received_uj) == (emitted, received)
        assert feed.miracle_uj == max(0, received - emitted)
        assert feed.miracle_uj - feed.lost_uj == received - emitted
    assert law.miracle_uj == sum(feed.miracle_uj for feed in law.feeds)
    event(f"miracles: {sum(feed.miracle_uj > 0 for feed in law.feeds)}")
    event(f"open pages: {min(network.open, 3)}")
    # the balance of the whole, with what came from and went to others
    came = law.total("generated_uj") + law.outside_in_uj + law.miracle_uj
    went = law.outside_out_uj + law.lost_uj
    went += sum(law.total(term) for term in ("used_uj", "stored_uj", "heat_uj"))
    assert came == went
    # whoever audits, in whatever order
    network.random.shuffle(network.nodes)
    assert sankey(network.audited(network.nodes)) == sankey(law)


@pytest.mark.requirement("LEDG-8-01", "LEDG-8-02")
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32))
def test_one_octet_of_any_page_is_never_accepted_in_silence(seed: int) -> None:
    network = Network(seed)
    for _ in range(6):
        network.flow()
    network.feed()
    assert network.audited(network.nodes).broken == 0
    tried = 0
    for node in network.nodes:
        for key, held in list(node.pages.items()):
            # no signature covers what a sink has not signed yet
            end = 380 if held.state == PageState.COUNTERSIGNED else 316
            at = network.random.randrange(end)
            octets = bytearray(held.octets)
            octets[at] ^= 1 << network.random.randrange(8)
            node.pages[key] = held._replace(octets=bytes(octets))
            tried += 1
            assert network.audited(network.nodes).broken, at
            assert audit([node.shown()]).broken, at
            node.pages[key] = held
    assert tried > 10


@pytest.mark.requirement("LEDG-8-03")
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32))
def test_two_auditors_make_the_same_statement(seed: int) -> None:
    network = Network(seed)
    for _ in range(12):
        network.flow()
    party = network.random.choice(network.nodes)
    pages = [
        Given(Side.SINK if page.sink_key == party.meter.public else Side.SOURCE, held.octets)
        for node in network.nodes
        for held in node.pages.values()
        if party.meter.public in ((page := Page.from_wire(held.octets)).sink_key, page.source_key)
    ]

    def made() -> str:
        network.random.shuffle(pages)
        statement = Statement(party.name, ALL_TIME, {})
        rows = [line_fields(line) for line in statement.lines(in_order(pages))]
        return "".join(json_line(row) for row in [*rows, *end_fields(statement, "")])

    assert made() == made() == made()
