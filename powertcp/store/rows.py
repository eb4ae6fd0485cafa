"""What the store keeps beside the journal: events, pages, heads; and how each is bound to a chain."""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

from powertcp.crypto import SigningKey, is_signed_by
from powertcp.errors import LocalProtocolError
from powertcp.ledger import PAGE_OCTETS, Transfer

TRANSCRIPT_OCTETS = 32
MAX_PAGE = (1 << 32) - 1
MAX_KIND_OCTETS = 64
MAX_FACTS_OCTETS = 65_536  # as long as a line of the control socket
SINK_SIGNS = 316  # the octets of a page before the signature of the sink
HEAD_PREFIX = b"powertcp ledger head "

_EVENT = struct.Struct(">QQHI")
_HEAD = struct.Struct(">QQ32sQ32sQ")


class PageState(IntEnum):
    """How far a page is."""

    SENT = 0
    COUNTERSIGNED = 1
    DISPUTED = 2


class OwnEvent(StrEnum):
    """Kinds of events that the store writes itself: what no chain would hold otherwise."""

    ACCOUNT = "account"
    FLOOR = "floor"
    PAGE = "page"


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the audit log."""

    seq: int
    """From 1, without gaps."""
    at_ns: int
    kind: str
    facts: str
    """A JSON object, keys in order."""
    chain: bytes = b""

    def data(self) -> dict[str, object]:
        """Return the facts."""
        found: dict[str, object] = json.loads(self.facts)
        return found


@dataclass(frozen=True, slots=True)
class PageRow:
    """One page of a receipt as one side of the flow has it."""

    transcript: bytes
    page: int
    side: int
    """Which side of the flow this node is: 0 source, 1 sink."""
    body: bytes
    """380 octets."""
    state: int
    """A `PageState`."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where both chains stood, signed by the meter."""

    number: int
    """From 1, without gaps."""
    seq: int
    chain: bytes
    events: int
    event_chain: bytes
    at_ns: int
    key: bytes
    """Public meter key."""
    signature: bytes = b""

    def message(self) -> bytes:
        """Return what is signed."""
        return HEAD_PREFIX + _HEAD.pack(
            self.number, self.seq, self.chain, self.events, self.event_chain, self.at_ns
        )

    def is_signed(self) -> bool:
        """Say whether the signature is that of `key`."""
        return is_signed_by(self.key, self.message(), self.signature)

    def line(self) -> str:
        """Return the line of heads.log."""
        return (
            f"{self.number} {self.seq} {self.chain.hex()} {self.events} {self.event_chain.hex()}"
            f" {self.at_ns} {self.key.hex()} {self.signature.hex()}\n"
        )


class Job(NamedTuple):
    """What is committed together or not at all."""

    transfers: tuple[Transfer, ...] = ()
    page: PageRow | None = None
    events: tuple[tuple[str, str], ...] = ()
    """Kind and facts of each, as `facts_text` gives them."""
    floor: tuple[str, str, int | None] | None = None
    """Account, unit, and what its balance is not to go below; nothing else beside it."""

    @property
    def records(self) -> int:
        """Rows that it adds, about."""
        return len(self.transfers) + (self.page is not None) + len(self.events)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written."""

    record: str
    """For example "journal 57", "receipt 3f..:2:0", "heads.log line 4"."""
    text: str
    is_warning: bool = False
    """It may be harmless; nothing that was acknowledged is known to be wrong."""

    def __str__(self) -> str:
        return f"{self.record}: {self.text}"


def facts_text(facts: Mapping[str, object]) -> str:
    """Return `facts` as the one JSON text of them. Raises LocalProtocolError when it is too long."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    if len(text) > MAX_FACTS_OCTETS:
        raise LocalProtocolError(f"facts of {len(text)} octets, the limit is {MAX_FACTS_OCTETS}")
    return text


# LEDG-7-02
def event_chain(previous: bytes, event: Event) -> bytes:
    """Return the chain value of `event` after one whose chain value is `previous`."""
    kind, facts = event.kind.encode(), event.facts.encode()
    fixed = _EVENT.pack(event.seq, event.at_ns, len(kind), len(facts))
    return hashlib.blake2s(previous + fixed + kind + facts).digest()


def page_facts(row: PageRow) -> str:
    """Return the facts by which the chain of events holds `row`."""
    return facts_text(
        {
            "body": hashlib.blake2s(row.body).hexdigest(),
            "page": row.page,
            "side": row.side,
            "state": int(row.state),
            "transcript": row.transcript.hex(),
        }
    )


def sign_head(
    number: int, journal: tuple[int, bytes], events: tuple[int, bytes], at_ns: int, key: SigningKey
) -> Head:
    """Return the signed head of both chains, each given by its last number and chain value."""
    head = Head(number, *journal, *events, at_ns, key.public)
    signature = key.sign(head.message())
    return Head(number, *journal, *events, at_ns, key.public, signature)


def check_page(row: PageRow) -> None:
    """Raise LocalProtocolError for a page that is none."""
    lengths = (len(row.transcript), len(row.body))
    if lengths != (TRANSCRIPT_OCTETS, PAGE_OCTETS):
        due = f"{TRANSCRIPT_OCTETS} and {PAGE_OCTETS}"
        raise LocalProtocolError(f"transcript and page of {lengths} octets, {due} are due")
    if not 0 <= row.page <= MAX_PAGE or row.side not in (0, 1) or row.state not in tuple(PageState):
        raise LocalProtocolError(
            f"page {row.page}, side {row.side}, state {row.state}: no such page"
        )


def is_same_but_signed(known: PageRow, page: PageRow) -> bool:
    """Say whether `page` differs from `known` by the signature of the sink only."""
    return known.body[:SINK_SIGNS] == page.body[:SINK_SIGNS]


def check_event(kind: str) -> None:
    """Raise LocalProtocolError for a kind that is no name or that is the store's own."""
    if (
        kind in tuple(OwnEvent)
        or not kind.isprintable()
        or not 1 <= len(kind.encode()) <= MAX_KIND_OCTETS
    ):
        raise LocalProtocolError(f"{kind!r} is no kind of an event")


def next_event(last: tuple[int, bytes], at_ns: int, kind: str, facts: str) -> Event:
    """Return the event after `last`, which is given by its number and chain value."""
    event = Event(last[0] + 1, at_ns, kind, facts)
    return Event(event.seq, at_ns, kind, facts, event_chain(last[1], event))
