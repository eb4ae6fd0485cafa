"""Where joules go: sums that add up, flows that are remembered, postings that wait."""

import pytest

from powertcp.ledger import Code
from powertcp.reclaim.accounts import (
    CLAIMED,
    EXPLAIN_MEMORY,
    FlowAccount,
    FlowMemory,
    Joules,
    Pending,
    Posting,
)


def flow(name: str) -> FlowAccount:
    return FlowAccount(name, "192.0.2.1", 0)


@pytest.mark.requirement("FWRL-5-01")
def test_what_came_is_what_was_passed_on_kept_lost_and_used() -> None:
    joules = Joules(in_uj=100, authorised_uj=40, reclaimed_uj=50, heat_uj=10)
    assert joules.residual_uj == 0
    # taken from the store and used: it has less, others have it
    joules.reclaimed_uj -= 20
    joules.out_uj, joules.heat_uj = 19, 11
    assert joules.residual_uj == 0
    joules.in_uj += 3
    joules.claimed_uj = 10**30
    assert joules.residual_uj == 3
    assert joules.fields() == {
        "in_uj": 103, "authorised_uj": 40, "reclaimed_uj": 30, "heat_uj": 11, "out_uj": 19,
        "claimed_uj": 10**30, "residual_uj": 3,
    }  # fmt: skip


def test_postings_of_a_pair_of_accounts_are_one_sum() -> None:
    pending = Pending()
    for amount in (1, 2, 0):
        pending.add("reservoir:main", "intercepted:x", amount, Code.BANK)
    pending.add("heat:fw", "intercepted:x", 0, Code.BANK)
    pending.add("claimed:x", "claims", 9, Code.CLAIM, CLAIMED)
    assert len(pending) == 2
    assert pending.take() == [
        Posting("reservoir:main", "intercepted:x", "uJ", 3, Code.BANK),
        Posting("claimed:x", "claims", "uJ-claimed", 9, Code.CLAIM),
    ]
    assert (pending.take(), len(pending)) == ([], 0)


@pytest.mark.requirement("FWRL-1-02")
def test_a_flow_is_found_while_it_lasts_and_afterwards() -> None:
    memory = FlowMemory()
    one = flow("a/1")
    memory.open(one)
    assert memory.find("a/1") is one
    assert (memory.last(9), memory.find("b/1")) == ([], None)
    memory.close(one)
    assert (memory.live, memory.find("a/1"), one.is_over) == ({}, one, True)
    assert memory.last(9) == [one]


def test_a_flow_that_is_closed_late_leaves_the_one_of_its_name_alone() -> None:
    memory, old, new = FlowMemory(), flow("a/1"), flow("a/1")
    memory.open(old)
    memory.open(new)
    memory.close(old)
    assert memory.find("a/1") is new
    assert memory.last(1) == [old]


@pytest.mark.requirement("FWRL-1-02")
def test_the_last_1024_are_remembered_and_not_one_more() -> None:
    memory = FlowMemory()
    for number in range(EXPLAIN_MEMORY + 1):
        memory.open(one := flow(f"a/{number}"))
        memory.close(one)
    assert memory.find("a/0") is None
    assert len(memory.last(EXPLAIN_MEMORY + 1)) == EXPLAIN_MEMORY == 1024
    assert [one.name for one in memory.last(2)] == ["a/1024", "a/1023"]
    # one that is closed again is the youngest
    again = memory.find("a/1")
    assert again is not None
    memory.close(again)
    assert memory.last(1) == [again]
