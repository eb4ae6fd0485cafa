"""Receipts of random flows: both ends agree, nothing drifts, and the schema reads the same pages."""

from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from powertcp.crypto import SigningKey
from powertcp.errors import DecodeError
from powertcp.ledger import (
    MAX_PRICE_MICRO,
    Clock,
    Flags,
    Page,
    PageChain,
    Side,
    Verdict,
    next_digest,
    verify_pages,
)
from powertcp.wire import Tariff
from powertcp.wire.schema import Rejected
from powertcp.wire.values import build, parse
from tests.wire_values import page_values

SOURCE = SigningKey(bytes(range(32)))
SINK = SigningKey(bytes(range(32, 64)))
UJ_PER_KWH = 3_600_000_000_000

OCTETS32 = st.binary(min_size=32, max_size=32)
OCTETS64 = st.binary(min_size=64, max_size=64)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
PAGES = st.builds(
    Page,
    flags=st.integers(0, 31).map(Flags),
    clock=st.sampled_from(Clock),
    transcript=OCTETS32,
    contract=U32,
    page=U32,
    samples=U64,
    start_uj=U64,
    end_uj=U64,
    start_ns=U64,
    end_ns=U64,
    cost_micro=st.integers(-(2**63), 2**63 - 1),
    tariff=OCTETS32,
    previous=OCTETS32 | st.just(bytes(32)),
    digest=OCTETS32,
    source_key=OCTETS32,
    sink_key=OCTETS32,
    source_signature=OCTETS64 | st.just(bytes(64)),
    sink_signature=OCTETS64,
)


def by_schema(octets: bytes) -> tuple[int, int] | None:
    try:
        parse("receipt", octets)
    except Rejected as fault:
        return fault.code, fault.value
    return None


def by_hand(octets: bytes) -> tuple[int, int] | None:
    try:
        Page.from_wire(octets)
    except DecodeError as error:
        return error.code, error.value
    return None


@pytest.mark.requirement("LEDG-6-07")
@given(PAGES)
def test_a_page_is_what_the_schema_says(page: Page) -> None:
    octets = page.to_wire()
    assert octets == build("receipt", page_values(page))
    fault = by_schema(octets)
    event("refused" if fault else "taken")
    assert by_hand(octets) == fault
    if fault is None:
        assert Page.from_wire(octets) == page
        assert parse("receipt", octets) == page_values(page)


@pytest.mark.requirement("LEDG-6-07")
@given(st.binary(max_size=8) | st.binary(min_size=376, max_size=384), st.booleans())
def test_garbage_is_a_page_for_both_or_for_neither(octets: bytes, is_likely: bool) -> None:
    if is_likely:
        octets = b"\x01\x00S\x00" + octets[4:]
    assert by_hand(octets) == by_schema(octets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a flow counts."""

    page: int = 0
    previous: bytes = b""
    transcript: bytes = bytes([1]) * 32
    contract: int = 1
    samples: int = 0
    start_uj: int = 0
    end_uj: int = 0
    digest: bytes = bytes(32)
    peer_key: bytes = SINK.public
    tariff: Tariff | None = None
    final: bool = False
    truncated: bool = False
    resumed: bool = False
    sim: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What happens until the next page."""

    energy_uj: int
    seconds: int
    price_micro: int | None
    is_cut: bool
    restarted: Side | None
    is_withdrawn: bool


STEPS = st.lists(
    st.builds(
        Step,
        energy_uj=st.integers(0, 10**12),
        seconds=st.integers(-100, 100),
        price_micro=st.none() | st.integers(-MAX_PRICE_MICRO, MAX_PRICE_MICRO),
        is_cut=st.booleans(),
        restarted=st.sampled_from([None, *Side]),
        is_withdrawn=st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.requirement("LEDG-6-01", "LEDG-6-02", "LEDG-6-04", "LEDG-6-06")
@given(STEPS)
def test_both_ends_of_any_flow_agree_on_every_page_to_the_last_unit(steps: list[Step]) -> None:
    now_ns = 1_800_000_000_000_000_000
    chains = {
        Side.SOURCE: PageChain(SOURCE, Side.SOURCE, now_ns),
        Side.SINK: PageChain(SINK, Side.SINK, now_ns),
    }
    facts, pages = Facts(), list[Page]()
    exact, runs = Fraction(0), 1
    for number, step in enumerate(steps):
        tariff = facts.tariff
        if step.price_micro is not None:
            tariff = Tariff(bytes([number + 1]) * 32, "EUR", step.price_micro)
        facts = replace(
            facts,
            page=number,
            start_uj=facts.end_uj,
            end_uj=facts.end_uj + step.energy_uj,
            samples=step.seconds % 100,
            digest=next_digest(bytes(32), bytes([number])),
            tariff=tariff,
            resumed=step.is_cut,
            final=number == len(steps) - 1,
        )
        if step.is_cut and step.restarted is not None:
            key = SOURCE if step.restarted is Side.SOURCE else SINK
            chains[step.restarted] = PageChain(key, step.restarted, 0)
        if step.price_micro is not None or step.is_cut:
            runs += 1
        now_ns += step.seconds * 10**9
        if step.is_withdrawn:
            more = replace(facts, end_uj=facts.end_uj + 1, tariff=Tariff(bytes(32), "SEK", 1))
            chains[Side.SOURCE].next_page(more, now_ns, Clock.INFORMATIVE)
        sent = chains[Side.SOURCE].next_page(facts, now_ns, Clock.INFORMATIVE)
        theirs = replace(facts, peer_key=SOURCE.public)
        found = chains[Side.SINK].check(sent, theirs, now_ns + 10**9, Clock.SYNCHRONISED)
        assert found == ()
        signed = chains[Side.SINK].countersign(sent)
        facts = replace(facts, previous=signed)
        pages.append(Page.from_wire(signed))
        if tariff is not None:
            exact += Fraction(tariff.price * step.energy_uj, UJ_PER_KWH)
    (verdict,) = verify_pages([("pages.ptr", b"".join(page.to_wire() for page in pages))])
    assert verdict.verdict is not Verdict.INVALID, str(verdict)
    assert (verdict.pages, verdict.energy_uj) == (len(steps), facts.end_uj)
    assert verdict.cost_micro == sum(page.cost_micro for page in pages)
    # each price that comes into force rounds once, at each end of what it counts
    assert abs(verdict.cost_micro - exact) <= runs
