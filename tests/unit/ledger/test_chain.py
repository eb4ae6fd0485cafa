"""A flow of pages between two ends: each checks the other's numbers against its own."""

from dataclasses import dataclass, replace

import pytest

from powertcp.crypto import SigningKey
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.ledger import (
    NO_HASH,
    NO_SIGNATURE,
    Clock,
    Flags,
    Page,
    PageChain,
    Side,
    compare,
    cost_micro,
    feed_page,
    next_digest,
    page_hash,
    sign_as_source,
)
from powertcp.registry import Reason
from powertcp.wire import Tariff
from powertcp.wire.feeds import feed_transcript

SOURCE = SigningKey(bytes(range(32)))
SINK = SigningKey(bytes(range(32, 64)))
OTHER = SigningKey(bytes(32))
START_NS = 1_800_000_000_000_000_000
MINUTE_NS = 60_000_000_000
DAY = Tariff(bytes([7]) * 32, "EUR", 312_000)
NIGHT = replace(DAY, price=-41_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a flow counts, as the power plane tells it."""

    page: int = 0
    previous: bytes = b""
    transcript: bytes = bytes([1]) * 32
    contract: int = 1
    samples: int = 60_000
    start_uj: int = 0
    end_uj: int = 1_080_000_001
    digest: bytes = next_digest(NO_HASH, b"one block")
    peer_key: bytes = SINK.public
    tariff: Tariff | None = None
    final: bool = False
    truncated: bool = False
    resumed: bool = False
    sim: bool = False

    def seen_by_sink(self) -> "Facts":
        return replace(self, peer_key=SOURCE.public)

    def after(self, previous: bytes) -> "Facts":
        return replace(
            self,
            page=self.page + 1,
            previous=previous,
            start_uj=self.end_uj,
            end_uj=2 * self.end_uj - self.start_uj,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Banked:
    """What the receiver of a feed counts."""

    transcript: bytes = feed_transcript(bytes(16), 9)
    page: int = 0
    samples: int = 25
    start_uj: int = 0
    end_uj: int = 1_000
    digest: bytes = next_digest(NO_HASH, b"one block")
    key: bytes = SOURCE.public
    final: bool = False
    resumed: bool = False
    sim: bool = True


class Pair:
    """Both ends of one flow."""

    def __init__(self) -> None:
        self.source = PageChain(SOURCE, Side.SOURCE, START_NS)
        self.sink = PageChain(SINK, Side.SINK, START_NS)
        self.now_ns = START_NS
        self.sink_ahead_ns = 0

    def send(self, facts: Facts, clock: Clock = Clock.SYNCHRONISED) -> bytes:
        self.now_ns += MINUTE_NS
        return self.source.next_page(facts, self.now_ns, clock)

    def differences(self, octets: bytes, facts: Facts, clock: Clock = Clock.SYNCHRONISED) -> str:
        now_ns = self.now_ns + self.sink_ahead_ns
        found = self.sink.check(octets, facts.seen_by_sink(), now_ns, clock)
        return ", ".join(each.field for each in found)

    def page(self, facts: Facts) -> bytes:
        """Let one page go there and back; returns it as both signed it."""
        sent = self.send(facts)
        assert self.differences(sent, facts) == ""
        return self.sink.countersign(sent)


@pytest.mark.requirement("LEDG-6-01")
def test_pages_follow_one_another() -> None:
    pair, facts = Pair(), Facts()
    first = pair.page(facts)
    second = pair.page(facts.after(first))
    pages = [Page.from_wire(octets) for octets in (first, second)]
    assert [page.page for page in pages] == [0, 1]
    assert [page.previous for page in pages] == [NO_HASH, page_hash(first)]
    assert pages[1].start_uj == pages[0].end_uj == facts.end_uj
    assert pages[1].start_ns == pages[0].end_ns == START_NS + MINUTE_NS
    assert all(page.is_signed_by_source() and page.is_signed_by_sink() for page in pages)


@pytest.mark.requirement("LEDG-6-02")
@pytest.mark.parametrize(
    ("own", "field"),
    [
        (Facts(samples=59_999), "samples"),
        (Facts(end_uj=1_080_000_000), "end_uj"),
        (Facts(digest=next_digest(NO_HASH, b"another")), "digest"),
        (Facts(contract=2), "contract"),
        (Facts(transcript=bytes(32)), "transcript"),
        (Facts(sim=True), "flags"),
        (Facts(resumed=True), "flags"),
        (Facts(tariff=DAY), "cost_micro, tariff"),
        (Facts(final=True), ""),
        (Facts(truncated=True), ""),
    ],
)
def test_a_sink_names_what_it_counted_differently(own: Facts, field: str) -> None:
    pair = Pair()
    sent = pair.send(Facts())
    assert pair.differences(sent, own) == field
    if field:
        with pytest.raises(LocalProtocolError, match="checked"):
            pair.sink.countersign(sent)


@pytest.mark.requirement("LEDG-6-02")
def test_a_difference_says_both_numbers() -> None:
    pair = Pair()
    sent = pair.send(Facts())
    own = Facts(end_uj=1_000, digest=NO_HASH).seen_by_sink()
    energy, digest = pair.sink.check(sent, own, pair.now_ns, Clock.SYNCHRONISED)
    assert str(energy) == "page 0: end_uj is 1,080,000,001, our meter says 1,000"
    assert str(digest).startswith("page 0: digest is ")
    refusal = energy.refusal()
    assert (refusal.code, refusal.value, refusal.limit) == (403, 1_080_000_001, 1_000)
    assert refusal.name == Reason.RECEIPT_INVALID.name
    assert str(energy) in refusal.sentence()
    assert (digest.refusal().value, digest.refusal().text) == (0, str(digest))


@pytest.mark.requirement("LEDG-6-02")
def test_a_page_with_a_wrong_signature_is_not_countersigned() -> None:
    pair, facts = Pair(), Facts()
    sent = bytearray(pair.send(facts))
    sent[252] ^= 1
    (found,) = pair.sink.check(bytes(sent), facts.seen_by_sink(), pair.now_ns, Clock.SYNCHRONISED)
    assert str(found) == "page 0: source_signature is not valid"
    assert found.refusal().value == 0


@pytest.mark.requirement("LEDG-6-02")
def test_a_page_signed_by_another_meter_is_not_countersigned() -> None:
    pair, facts = Pair(), Facts()
    page = sign_as_source(Page.from_wire(pair.send(facts)), OTHER)
    assert pair.differences(page.to_wire(), facts) == "source_key"


def test_a_page_that_was_sent_before_is_not_countersigned_again() -> None:
    pair, facts = Pair(), Facts()
    first = pair.page(facts)
    sent = first[:316] + NO_SIGNATURE
    found = pair.differences(sent, facts.after(first))
    assert found.split(", ")[:3] == ["page", "start_uj", "end_uj"]
    with pytest.raises(LocalProtocolError, match="checked"):
        pair.sink.countersign(sent)


def test_octets_that_are_no_page_are_an_error_of_the_decoder() -> None:
    pair = Pair()
    with pytest.raises(DecodeError):
        pair.sink.check(bytes(380), Facts(), START_NS, Clock.SYNCHRONISED)
    with pytest.raises(DecodeError):
        pair.source.next_page(Facts(page=1, previous=bytes(380)), START_NS, Clock.INFORMATIVE)


@pytest.mark.requirement("LEDG-6-02")
@pytest.mark.parametrize(
    ("clock", "ahead_ns", "field"),
    [
        (Clock.SYNCHRONISED, 5_000_000_000, ""),
        (Clock.SYNCHRONISED, 5_000_000_001, "end_ns"),
        (Clock.INFORMATIVE, -5_000_000_001, "end_ns"),
        (Clock.RELATIVE, 5_000_000_000, ""),
        (Clock.RELATIVE, 5_000_000_001, "duration_ns"),
        (Clock.UNSYNCHRONISED, 10**18, ""),
    ],
)
def test_times_may_differ_as_far_as_clocks_do(clock: Clock, ahead_ns: int, field: str) -> None:
    pair = Pair()
    sent = pair.send(Facts(), clock)
    pair.sink_ahead_ns = ahead_ns
    assert pair.differences(sent, Facts()) == field


def test_the_first_page_starts_about_when_the_flow_did() -> None:
    pair = Pair()
    pair.sink = PageChain(SINK, Side.SINK, START_NS - 6_000_000_000)
    assert pair.differences(pair.send(Facts()), Facts()) == "start_ns"


def test_an_end_that_was_restarted_before_page_0_may_have_forgotten_the_start() -> None:
    for clock, differs in ((Clock.INFORMATIVE, "start_ns"), (Clock.RELATIVE, "duration_ns")):
        for resumed, expected in ((False, differs), (True, "")):
            pair, facts = Pair(), Facts(resumed=resumed)
            pair.source = PageChain(SOURCE, Side.SOURCE, 0)
            assert pair.differences(pair.send(facts, clock), facts, clock) == expected


@pytest.mark.requirement("LEDG-6-01")
def test_a_later_page_starts_exactly_where_the_one_before_it_ended() -> None:
    pair, facts = Pair(), Facts()
    second = facts.after(pair.page(facts))
    sent = Page.from_wire(pair.send(second))
    late = sign_as_source(replace(sent, start_ns=sent.start_ns + 1), SOURCE)
    assert pair.differences(late.to_wire(), second) == "start_ns"


def test_a_clock_that_goes_backwards_stops_nobody() -> None:
    pair, facts = Pair(), Facts()
    second = facts.after(pair.page(facts))
    pair.now_ns -= 3 * MINUTE_NS
    page = Page.from_wire(pair.page(second))
    assert page.end_ns < page.start_ns


@pytest.mark.requirement("LEDG-6-04")
def test_the_price_counts_from_where_it_came_into_force() -> None:
    pair, facts = Pair(), Facts(tariff=DAY)
    first = pair.page(facts)
    second = facts.after(first)
    octets = pair.page(second)
    costs = [Page.from_wire(each).cost_micro for each in (first, octets)]
    assert sum(costs) == cost_micro(DAY.price, 0, 0, second.end_uj)
    night = replace(second.after(octets), tariff=NIGHT)
    octets = pair.page(night)
    page, base = Page.from_wire(octets), night.start_uj
    assert page.cost_micro == cost_micro(NIGHT.price, base, base, night.end_uj) < 0
    assert page.tariff == DAY.digest
    later = night.after(octets)
    page = Page.from_wire(pair.page(later))
    assert page.cost_micro == cost_micro(NIGHT.price, base, later.start_uj, later.end_uj)


@pytest.mark.requirement("LEDG-6-04")
def test_a_page_that_was_withdrawn_leaves_no_trace_in_the_price() -> None:
    pair, facts = Pair(), Facts(tariff=DAY, end_uj=5_769_230_770)
    second = facts.after(pair.page(facts))
    pair.send(replace(second, tariff=NIGHT))
    page = Page.from_wire(pair.page(second))
    assert page.cost_micro == cost_micro(DAY.price, 0, second.start_uj, second.end_uj)


@pytest.mark.requirement("LEDG-6-01", "LEDG-6-04")
def test_a_resumed_page_goes_on_also_at_an_end_that_was_restarted() -> None:
    pair, facts = Pair(), Facts(tariff=DAY)
    first = pair.page(facts)
    pair.source = PageChain(SOURCE, Side.SOURCE, 0)
    resumed = replace(facts.after(first), resumed=True)
    second = pair.page(resumed)
    page, base = Page.from_wire(second), facts.end_uj
    assert (page.page, page.previous, page.flags) == (1, page_hash(first), Flags.RESUMED)
    assert page.start_ns == Page.from_wire(first).end_ns
    assert page.cost_micro == cost_micro(DAY.price, base, base, resumed.end_uj)
    third = replace(resumed.after(second), resumed=False)
    page = Page.from_wire(pair.page(third))
    assert page.cost_micro == cost_micro(DAY.price, base, third.start_uj, third.end_uj)


@pytest.mark.requirement("LEDG-6-05")
def test_the_receiver_of_a_feed_writes_and_signs_its_own_pages() -> None:
    first = feed_page(Banked(), b"", START_NS, START_NS + 1, Clock.INFORMATIVE, SINK)
    page = Page.from_wire(first)
    assert (page.flags, page.source_signature) == (Flags.FEED | Flags.SIMULATED, NO_SIGNATURE)
    assert (page.source_key, page.sink_key) == (SOURCE.public, SINK.public)
    assert (page.start_ns, page.end_ns) == (START_NS, START_NS + 1)
    assert page.is_signed_by_sink()
    more = Banked(page=1, start_uj=1_000, end_uj=2_000, final=True)
    # a clock that went back ends no page before its start
    for now_ns, end_ns in ((START_NS + 2, START_NS + 2), (START_NS, START_NS + 1)):
        page = Page.from_wire(feed_page(more, first, 0, now_ns, Clock.INFORMATIVE, SINK))
        assert (page.previous, page.start_ns) == (page_hash(first), START_NS + 1)
        assert page.end_ns == end_ns


def test_misuse_changes_nothing() -> None:
    pair, facts = Pair(), Facts()
    with pytest.raises(LocalProtocolError, match="the sink countersigns"):
        pair.sink.next_page(facts, START_NS, Clock.INFORMATIVE)
    with pytest.raises(LocalProtocolError):
        pair.source.next_page(replace(facts, samples=-1), START_NS, Clock.INFORMATIVE)
    with pytest.raises(LocalProtocolError, match="checked"):
        pair.sink.countersign(bytes(380))
    sent = pair.send(facts)
    assert pair.differences(sent, facts) == ""
    with pytest.raises(LocalProtocolError, match="checked"):
        pair.sink.countersign(bytes(380))
    assert Page.from_wire(pair.sink.countersign(sent)).is_signed_by_sink()
    with pytest.raises(LocalProtocolError, match="checked"):
        pair.sink.countersign(sent)


def test_comparing_a_page_with_itself_finds_nothing() -> None:
    page = Page.from_wire(Pair().send(Facts()))
    assert compare(page, page) == ()
