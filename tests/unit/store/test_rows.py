"""Events, pages and heads: what binds them, what they may be."""

import hashlib
from dataclasses import replace

import pytest

from powertcp.crypto import SigningKey, is_signed_by
from powertcp.errors import LocalProtocolError
from powertcp.ledger import START
from powertcp.store.rows import (
    MAX_FACTS_OCTETS,
    MAX_PAGE,
    Event,
    Finding,
    Job,
    PageState,
    check_event,
    check_page,
    event_chain,
    facts_text,
    next_event,
    page_facts,
    sign_head,
)
from tests.ledgers import NOON, page_row, transfer

KEY = SigningKey(bytes(range(32)))


@pytest.mark.requirement("LEDG-7-02")
def test_the_chain_value_of_an_event_is_that_of_the_specification() -> None:
    event = next_event((6, b"\x11" * 32), NOON, "noted", '{"a":"\u20ac"}')
    octets = (7).to_bytes(8, "big") + NOON.to_bytes(8, "big") + (5).to_bytes(2, "big")
    octets += (11).to_bytes(4, "big") + b"noted" + '{"a":"\u20ac"}'.encode()
    assert event.chain == hashlib.blake2s(b"\x11" * 32 + octets).digest()
    assert event_chain(b"\x11" * 32, event) == event.chain
    assert event.data() == {"a": "\u20ac"}


@pytest.mark.requirement("LEDG-7-08")
def test_a_head_signs_where_both_chains_stand() -> None:
    head = sign_head(3, (7, b"\x22" * 32), (9, b"\x33" * 32), NOON, KEY)
    message = b"powertcp ledger head " + (3).to_bytes(8, "big") + (7).to_bytes(8, "big")
    message += b"\x22" * 32 + (9).to_bytes(8, "big") + b"\x33" * 32 + NOON.to_bytes(8, "big")
    assert is_signed_by(KEY.public, message, head.signature)
    assert head.is_signed()
    for other in (
        replace(head, number=4), replace(head, seq=8), replace(head, chain=START),
        replace(head, events=1), replace(head, event_chain=START), replace(head, at_ns=0),
        replace(head, key=SigningKey(bytes(32)).public), replace(head, signature=bytes(64)),
    ):  # fmt: skip
        assert not other.is_signed()
    assert head.line().split() == [
        "3", "7", "22" * 32, "9", "33" * 32, str(NOON), KEY.public.hex(), head.signature.hex(),
    ]  # fmt: skip


def test_facts_have_one_text_and_a_limit() -> None:
    assert facts_text({"b": 1, "a": "\u20ac"}) == '{"a":"\\u20ac","b":1}'
    text = "x" * (MAX_FACTS_OCTETS - len('{"a":""}'))
    assert len(facts_text({"a": text})) == MAX_FACTS_OCTETS
    with pytest.raises(LocalProtocolError, match="facts of 65537 octets"):
        facts_text({"a": text + "x"})


def test_pages_have_lengths_and_ranges() -> None:
    row = page_row(5, 1, PageState.SENT)
    check_page(row)
    check_page(replace(row, page=MAX_PAGE, side=0, state=PageState.DISPUTED))
    for other in (
        replace(row, body=row.body[:-1]), replace(row, transcript=bytes(31)),
        replace(row, page=-1), replace(row, page=MAX_PAGE + 1), replace(row, side=2),
        replace(row, state=3),
    ):  # fmt: skip
        with pytest.raises(LocalProtocolError):
            check_page(other)
    digest = hashlib.blake2s(row.body).hexdigest()
    said = Event(1, 0, "page", page_facts(row)).data()
    assert said == {
        "body": digest, "page": 5, "side": 1, "state": 0, "transcript": row.transcript.hex()
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["account", "floor", "page", "", "a\nb", "x" * 65])
def test_kinds_of_events_that_are_not_the_callers(kind: str) -> None:
    with pytest.raises(LocalProtocolError, match="is no kind of an event"):
        check_event(kind)
    check_event("x" * 64)


def test_a_job_knows_its_records_and_a_finding_its_sentence() -> None:
    job = Job(transfers=(transfer(0), transfer(1)), page=page_row(0, 0, PageState.SENT))
    assert (job.records, Job(events=(("noted", "{}"),)).records, Job().records) == (3, 1, 0)
    assert str(Finding("journal 7", "it is missing")) == "journal 7: it is missing"
