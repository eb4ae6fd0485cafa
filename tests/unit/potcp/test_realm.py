"""What providers of a realm tell each other: exact, whoever writes it; tickets that go anywhere."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from powertcp.errors import DecodeError
from powertcp.potcp.events import (
    Alerted,
    Ask,
    FlowClosed,
    FlowCut,
    FlowResumed,
    PageDisputed,
    PageMark,
    PageReceived,
    PowerReady,
    TicketReceived,
)
from powertcp.potcp.pages import Pages
from powertcp.potcp.realm import (
    AHEAD_S,
    MAX_KEYS,
    MAX_MESSAGE_OCTETS,
    Beat,
    Gone,
    Message,
    Moved,
    PriceShare,
    Replica,
    Seen,
    Share,
    Took,
    decode_message,
    encode_message,
)
from powertcp.potcp.tickets import MEMBER_SHIFT, Tenure, TicketOffice
from powertcp.profile import Phases, PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.options import Meter, Sampling
from tests.conversation import SINK, SOURCE, START, counting_entropy
from tests.metered import DAY, NIGHT, MeteredPair, meter_of

KEY = bytes(range(32))
GRANT = PowerProfile.parse("12V/1A,lease=60s", ProfileType.GRANT)
WISH = PowerProfile.parse("12V/2A")
MOST = (1 << 63) - 1


def pages_of(**values: Any) -> Pages:
    """Return receipts that have come some way, a page under way."""
    pages = Pages(Meter(10, 5_000_000, b"m" * 32), b"p" * 32, b"t" * 32, 3, DAY)
    pages.number, pages.signed_uj, pages.start_uj = 7, 70, 90
    pages.open, pages.open_end_uj, pages.copy = b"o" * 380, 90, b"c" * 380
    pages.open_contract, pages.open_tariff, pages.open_sim, pages.sim = 1, NIGHT, True, True
    for name, value in values.items():
        setattr(pages, name, value)
    return pages


def tenure_of(**values: Any) -> Tenure:
    tenure = Tenure(
        key=(3 << MEMBER_SHIFT) + 9,
        contract=5,
        profile=GRANT,
        fallback=None,
        sampling=Sampling(1000, 2, 3),
        minimum_mv=11_000,
        acked_uj=100,
        sent_uj=120,
        limit_uj=500,
        wishes=(WISH,),
    )
    return replace(tenure, **values)


FLOOR = PowerProfile.parse("12V/0.2A", ProfileType.FALLBACK)
TENURES = {
    "plain": tenure_of(),
    "fallback": tenure_of(fallback=FLOOR, floor_ma=200, until_uj=MOST),
    "tariff": tenure_of(tariff=DAY, party=b"k" * 256),
    "negative price": tenure_of(tariff=NIGHT),
    "pages": tenure_of(pages=pages_of(open=b"", copy=b""), tariff=DAY),
    "open page": tenure_of(pages=pages_of()),
    "disputed": tenure_of(pages=pages_of(is_disputed=True, open_tariff=None, tariff=None)),
    "three phases": tenure_of(
        profile=replace(PowerProfile.parse("400V/16A@50Hz", ProfileType.GRANT), phases=Phases.WYE),
        sampling=Sampling(2000, pairs=3),
        wishes=(),
    ),
}


def share_of(tenure: Tenure, minimum: PowerProfile | None = None) -> Share:
    desired = WISH if tenure.profile is GRANT else tenure.profile
    return Share.of(tenure, desired, minimum, 1_700_000_000_000_000_000)


def facts_of(tenure: Tenure) -> dict[str, object]:
    """Return every field, the receipts' too."""
    facts: dict[str, object] = {
        name: getattr(tenure, name) for name in Tenure.__slots__ if name not in ("pages", "origin")
    }
    kept = tenure.pages
    if kept is not None:
        told = set(Pages.__slots__) - {"sent_at", "page_at", "expose_at", "meter", "is_foreign"}
        facts |= {name: getattr(kept, name) for name in told}
        facts |= {"due": (kept.meter.receipt_s, kept.meter.receipt_uj), "meter": kept.meter.key}
    return facts


@pytest.mark.requirement("DPDP-10-07")
@pytest.mark.parametrize("name", TENURES)
def test_a_flow_is_told_whole(name: str) -> None:
    tenure = TENURES[name]
    share = share_of(tenure)
    told = decode_message(encode_message(share))
    assert told == share
    assert isinstance(told, Share)
    found = told.tenure(START, START)
    assert found.origin is not None
    assert found.origin.signed_uj == (tenure.pages.signed_uj if tenure.pages else None)
    ahead_uj = AHEAD_S * tenure.profile.power_mw * 1000
    assert found.sent_uj == tenure.sent_uj + ahead_uj
    assert facts_of(replace(found, sent_uj=tenure.sent_uj)) == facts_of(tenure)
    # what is told again after a second move is the same, too
    again = Share.of(
        replace(found, sent_uj=tenure.sent_uj), found.origin.desired, found.origin.minimum,
        found.origin.start_ns,
    )  # fmt: skip
    assert again == share
    if found.pages is not None:
        assert found.pages.page_at == START + 10 * NS_PER_S
        assert (found.pages.expose_at is not None) == bool(found.pages.open)
        assert found.pages.is_foreign


MESSAGES: list[Message] = [
    *(share_of(tenure) for tenure in TENURES.values()),
    Beat(member=16),
    Gone(keys=(0, MOST)),
    Gone(keys=tuple(range(MAX_KEYS))),
    Seen(flows=((MOST, MOST, MOST),) * MAX_KEYS),
    Moved(key=MOST, esn_uj=0),
    Took(key=1),
]


@pytest.mark.requirement("DPDP-10-08")
def test_every_message_comes_back_and_fits_into_a_frame() -> None:
    for message in MESSAGES:
        octets = encode_message(message)
        assert decode_message(octets) == message
        assert len(octets) + 16 < MAX_MESSAGE_OCTETS


HOSTILE = [
    b"",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"{}",
    b"[" * 100_000,
    b'{"type":' * 50_000,
    b'{"type":"Boot","member":1}',
    b'{"member":1}',
    b'{"type":"Beat"}',
    b'{"type":"Beat","member":-1}',
    b'{"type":"Beat","member":4294967296}',
    b'{"type":"Beat","member":1e400}',
    b'{"type":"Beat","member":"1"}',
    b'{"type":"Beat","member":true}',
    b'{"type":"Beat","member":1,"more":2}',
    b'{"type":"Beat","member":1}{"type":"Beat","member":1}',
    b'{"type":"Took","key":9223372036854775808}',
    b'{"type":"Took","key":' + b"9" * 60_000 + b"}",
    b'{"type":"Moved","key":1,"esn_uj":-1}',
    b'{"type":"Gone","keys":[-1]}',
    b'{"type":"Gone","keys":' + str(list(range(MAX_KEYS + 1))).encode() + b"}",
    b'{"type":"Gone","keys":[[[[[[1]]]]]]}',
    b'{"type":"Seen","flows":[[1,2]]}',
    b'{"type":"Seen","flows":[[1,2,3,4]]}',
    b'{"type":"Seen","flows":' + str([[1, 2, 3]] * (MAX_KEYS + 1)).encode() + b"}",
]


@pytest.mark.requirement("DPDP-10-08")
@pytest.mark.parametrize("octets", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_message_is_one_error(octets: bytes) -> None:
    with pytest.raises(DecodeError, match="realm message"):
        decode_message(octets)


def changed(path: str, value: object) -> bytes:
    """Return the share of a flow with receipts with one value replaced."""
    found: Any = msgspec.json.decode(encode_message(share_of(TENURES["open page"])))
    *way, last = path.split(".")
    place = found
    for name in way:
        place = place[name]
    place[last] = value
    return msgspec.json.encode(found)


def read(octets: bytes) -> Tenure:
    share = decode_message(octets)
    assert isinstance(share, Share)
    return share.tenure(START, START)


def test_a_share_that_nobody_bent_is_a_contract() -> None:
    assert read(changed("acked_uj", 100)).acked_uj == 100


PROFILE_16 = msgspec.json.decode(msgspec.json.encode(bytes(16)))
OTHER_KIND = msgspec.json.decode(
    msgspec.json.encode(PowerProfile.parse("12V/1A@50Hz", ProfileType.FALLBACK).to_wire())
)
TOO_MUCH = msgspec.json.decode(
    msgspec.json.encode(PowerProfile.parse("12V/3A", ProfileType.FALLBACK).to_wire())
)


@pytest.mark.requirement("DPDP-10-08")
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("key", MOST + 1),
        ("profile", "AAAA"),
        ("profile", "no base64!"),
        ("profile", PROFILE_16),
        ("desired", PROFILE_16),
        ("desired", OTHER_KIND),
        ("fallback", OTHER_KIND),
        ("fallback", TOO_MUCH),
        ("minimum", OTHER_KIND),
        ("wishes", [PROFILE_16]),
        ("wishes", [OTHER_KIND] * 9),
        ("sampling", [1000, 1, 1, 1]),
        ("sampling", [1000, 1, 1, 256, 0]),
        ("sampling", [1000, 1, 1, 3, 0]),
        ("sampling", [1000, 1, 1, 0, 0]),
        ("sampling", [0, 1, 1, 1, 0]),
        ("acked_uj", 1000),
        ("party", "A" * 400),
        ("price", {"digest": "AAAA", "currency": "EUR", "price": 1}),
        ("pages.number", -1),
        ("pages.open", "AAAA"),
        ("pages.copy", "AAAA"),
        ("pages.copy", "A" * 600),
        ("pages.price.currency", "EUR\n"),
        ("pages.price.currency", "E\ud800R"),
        ("pages.price.currency", "eur"),
        ("pages.price.price", 1 << 63),
        ("pages.key", "AAAA"),
        ("pages.unknown", 1),
        ("pages", []),
    ],
)
def test_a_share_that_is_no_contract_is_one_error(path: str, value: object) -> None:
    if value == "E\ud800R":
        octets = changed(path, "EXR").replace(b"EXR", b"E\xed\xa0\x80R")
    else:
        octets = changed(path, value)
    with pytest.raises(DecodeError):
        read(octets)


@pytest.mark.requirement("DPDP-10-08")
def test_ten_thousand_mutated_messages_are_read_or_one_error() -> None:
    chance, read, refused = random.Random(10_08), 0, 0
    whole = [encode_message(message) for message in MESSAGES if not isinstance(message, Seen)]
    words = [b"-", b"0", b"9" * 30, b'"', b"{", b"[", b"null", b"\xff", b"type", b"key", b"=", b","]
    for _ in range(10_000):
        octets = bytearray(chance.choice(whole))
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(octets) or 1)
            match chance.randrange(4):
                case 0:
                    octets[at : at + 1] = bytes([chance.randrange(256)])
                case 1:
                    del octets[at : at + chance.randrange(1, 40)]
                case 2:
                    octets[at:at] = chance.choice(words)
                case _:
                    octets[at:at] = octets[: chance.randrange(1, 40)]
        try:
            message = decode_message(bytes(octets))
            if isinstance(message, Share):
                message.tenure(START, START)
            encode_message(message)
            read += 1
        except DecodeError:
            refused += 1
    assert read + refused == 10_000
    assert read > 100
    assert refused > 5_000


def test_a_price_is_told_or_there_is_none() -> None:
    assert PriceShare.of(None) is None
    share = PriceShare.of(NIGHT)
    assert share is not None
    assert share.tariff() == NIGHT


@pytest.mark.requirement("DPDP-10-07")
def test_a_register_that_is_told_late_or_twice_does_not_go_back() -> None:
    replica = Replica(share_of(tenure_of()), START, lambda: START, lambda _: True, lambda *_: None)
    replica.note(130, 110)
    assert (replica.share.acked_uj, replica.share.sent_uj) == (130, 130)
    replica.note(1, 2)
    assert (replica.share.acked_uj, replica.share.sent_uj) == (130, 130)
    assert replica.tenure() is not None


# --- tickets that go anywhere ---------------------------------------------------------------------


class Hall:
    """A flow of member 1, and member 2, which was told of it when `tell` was called."""

    def __init__(self, *, receipt_s: int = 60, **options: Any) -> None:
        self.one = TicketOffice(counting_entropy(7), key=KEY, member=1)
        self.two = TicketOffice(counting_entropy(8), key=KEY, member=2)
        self.pair = MeteredPair(office=self.one)
        self.flow = self.pair.energise(ours=meter_of(SINK, receipt_s), **options)
        self.now = START
        self.fits = True
        self.moved: list[tuple[int, int]] = []
        self.key = self.pair.source.key(self.flow)

    def share(self) -> Share:
        holder = self.one.find(self.key)
        tenure = holder.tenure() if holder else None
        assert tenure is not None
        return Share.of(tenure, tenure.profile, None, START)

    def tell(self) -> Share:
        share = decode_message(encode_message(self.share()))
        assert isinstance(share, Share)
        replica = Replica(
            share,
            self.pair.now,
            lambda: self.pair.now,
            lambda _: self.fits,
            lambda *move: self.moved.append(move),
        )
        self.two.adopt(share.key, replica)
        return share

    def lose(self) -> None:
        """Cut the path to member 1."""
        status = self.pair.sink.status(self.flow)
        assert status.profile is not None
        self.ticket = self.pair.take(SINK, TicketReceived)[-1].ticket
        self.before: PowerProfile = status.profile
        self.pair.cut()
        cut = self.pair.one(SINK, FlowCut)
        self.esn_uj, self.mark = cut.esn_uj, cut.pages

    def resume(
        self, office: TicketOffice | None = None, *, meter: Meter | None = None,
        mark: PageMark | None = None, esn_uj: int | None = None, wish: PowerProfile | None = None,
    ) -> tuple[MeteredPair, int]:  # fmt: skip
        """Show the ticket to member 2, or another one; bring it to READY where it is good."""
        after = MeteredPair(books=self.pair.books, office=office or self.two, now=self.pair.now)
        flow = after.request(
            Ask(wish or self.before.with_type(ProfileType.REQUEST)),
            ticket=self.ticket,
            esn_uj=self.esn_uj if esn_uj is None else esn_uj,
            before=self.before,
            meter=meter or meter_of(SINK),
            pages=mark or self.mark,
        )
        if flow in after.source.flows and after.source.status(flow).state == "RAMPING":
            after.source.ready(flow, now=after.now)
            after.exchange()
        return after, flow

    def is_void(self, **options: Any) -> bool:
        """Say whether a plain SYN comes of the ticket, with ALERT 406."""
        after, _ = self.resume(**options)
        alert = after.take(SINK, Alerted)
        is_told = any(one.refusal and one.refusal.code == Reason.TICKET_INVALID for one in alert)
        return is_told and not after.take(SOURCE, FlowResumed)


@pytest.mark.requirement("DPDP-10-05", "LEDG-6-12")
def test_a_contract_goes_on_with_another_member_once() -> None:
    hall = Hall(receipt_s=2, tariff=DAY)
    hall.pair.run(hall.flow, 21)
    # the next page is due as it was where the flow comes from
    hall.tell()
    hall.pair.run(hall.flow, 4)
    hall.lose()
    after, flow = hall.resume()
    ready = after.one(SINK, PowerReady)
    assert (ready.resumed, ready.tariff, ready.contract) == (True, DAY, 1)
    resumed = after.one(SOURCE, FlowResumed)
    assert (resumed.esn_uj, resumed.returned_uj) == (hall.esn_uj, 0)
    assert hall.moved == [(hall.key, hall.esn_uj)]
    # the key of the flow is of member 2 from here on
    assert after.source.key(flow) >> MEMBER_SHIFT == 2
    assert after.run(flow, 20) == 20
    after.sink.close_flow(flow, now=after.now)
    after.exchange()
    assert after.one(SOURCE, FlowClosed).signed_uj == 45 * 1_200_000
    pages = [(fact.page, fact.start_uj, fact.end_uj) for fact in after.books.facts]
    assert pages == [
        (0, 0, 22_800_000), (1, 22_800_000, 48_000_000), (2, 48_000_000, 54_000_000),
    ]  # fmt: skip
    assert hall.is_void()


@pytest.mark.requirement("DPDP-10-05", "PTCP-10-04")
def test_tickets_that_another_member_does_not_honour() -> None:
    hall = Hall()
    hall.pair.run(hall.flow, 25)
    hall.lose()
    assert hall.is_void(), "not told of"
    share = hall.tell()
    assert hall.is_void(esn_uj=share.acked_uj - 1)
    assert hall.is_void(esn_uj=share.sent_uj + AHEAD_S * 12_000_000 + 1)
    other = Meter(60, 0, b"x" * 32)
    assert hall.is_void(meter=other, mark=replace(known_mark(hall), peer_key=b"x" * 32))
    found = hall.two.find(hall.key)
    assert isinstance(found, Replica)
    found.share = msgspec.structs.replace(share, party=b"k" * 32)
    assert hall.is_void(), "a seal with another key"
    found.share = share
    stranger = TicketOffice(counting_entropy(9), key=bytes(32), member=2)
    stranger.adopt(hall.key, found)
    assert hall.is_void(office=stranger), "another secret"
    hall.fits = False
    assert hall.is_void(), "no power for it"
    assert hall.moved == []
    # the other member keeps the flow
    holder = hall.one.find(hall.key)
    assert holder is not None
    assert holder.tenure() is not None
    hall.fits = True
    assert not hall.is_void()


def known_mark(hall: Hall) -> PageMark:
    assert hall.mark is not None
    return hall.mark


@pytest.mark.requirement("DPDP-10-05")
def test_a_ticket_expires_by_the_clock_that_members_have_in_common() -> None:
    hall = Hall()
    hall.pair.run(hall.flow, 1)
    hall.tell()
    hall.lose()
    hall.two.unix_offset_ns = 3600 * NS_PER_S
    assert hall.is_void()
    hall.two.unix_offset_ns = 3500 * NS_PER_S
    assert not hall.is_void()


@pytest.mark.requirement("DPDP-10-05")
def test_the_register_may_have_gone_on_since_it_was_told() -> None:
    hall = Hall()
    hall.tell()
    hall.pair.run(hall.flow, 100)
    hall.lose()
    assert hall.esn_uj == 120_000_000
    after, flow = hall.resume()
    assert after.one(SOURCE, FlowResumed).esn_uj == 120_000_000
    assert after.run(flow, 5) == 5


@pytest.mark.requirement("DPDP-10-05")
def test_a_member_that_begins_again_gives_its_flows_other_keys() -> None:
    keys = set()
    for seed in range(100):
        office = TicketOffice(counting_entropy(seed * 1000), key=KEY, member=3)
        pair = MeteredPair(office=office)
        keys |= {pair.source.key(pair.energise()) for _ in range(2)}
    assert len(keys) == 200
    assert {key >> MEMBER_SHIFT for key in keys} == {3}


# --- a page that was not told of ------------------------------------------------------------------


@pytest.mark.requirement("DPDP-10-09")
@pytest.mark.parametrize("pages", [1, 3])
def test_pages_that_a_member_was_not_told_of_go_on_after_their_copy(pages: int) -> None:
    hall = Hall(receipt_s=1)
    hall.tell()
    hall.pair.run(hall.flow, 10 * pages + 5)
    assert len(hall.pair.signed) == pages
    hall.lose()
    after, flow = hall.resume()
    # both ledgers have the last one
    assert after.signed == [hall.pair.signed[-1]]
    assert after.run(flow, 20) == 20
    after.sink.close_flow(flow, now=after.now)
    after.exchange()
    assert after.one(SOURCE, FlowClosed).signed_uj == (10 * pages + 25) * 1_200_000
    found = [(fact.page, fact.start_uj, fact.end_uj) for fact in after.books.facts]
    assert [page for page, _, _ in found] == list(range(len(found)))
    assert [end for _, _, end in found[:-1]] == [start for _, start, _ in found[1:]]
    assert after.books.differences == []


@pytest.mark.requirement("DPDP-10-09")
def test_a_page_that_the_sink_answers_on_the_new_path_is_taken_too() -> None:
    hall = Hall(receipt_s=1)
    hall.tell()
    hall.pair.answers = False
    hall.pair.run(hall.flow, 15)
    event = hall.pair.one(SINK, PageReceived)
    hall.lose()
    copy = hall.pair.books.answer(event)
    assert copy is not None
    after, flow = hall.resume()
    after.sink.countersign(flow, copy, now=after.now)
    after.exchange()
    assert after.signed == [copy]
    after.run(flow, 20)
    assert [fact.page for fact in after.books.facts] == [0, 1, 2]
    assert after.books.differences == []


@pytest.mark.requirement("DPDP-10-07", "LEDG-6-12")
@pytest.mark.parametrize("where", ["on its way", "not on the disk"])
def test_a_page_under_way_is_told_and_goes_on(where: str) -> None:
    hall = Hall(receipt_s=1)
    hall.pair.answers, hall.pair.keeps = where == "not on the disk", False
    hall.pair.run(hall.flow, 15)
    share = hall.tell()
    assert share.pages is not None
    assert (share.pages.number, len(share.pages.open)) == (0, 380)
    hall.lose()
    after, flow = hall.resume()
    if where == "on its way":
        (event,) = hall.pair.take(SINK, PageReceived)
        copy = after.books.answer(event)
        assert copy is not None
        after.sink.countersign(flow, copy, now=after.now)
        after.exchange()
    assert after.signed == hall.pair.books.copies
    assert len(after.signed) == 1
    after.run(flow, 20)
    after.sink.close_flow(flow, now=after.now)
    after.exchange()
    assert after.one(SOURCE, FlowClosed).signed_uj == 35 * 1_200_000
    assert [fact.page for fact in after.books.facts] == list(range(len(after.books.facts)))
    assert after.books.differences == []


@pytest.mark.requirement("DPDP-10-07", "LEDG-6-12")
def test_a_page_under_way_that_the_sink_never_got_comes_again_or_is_taken_back() -> None:
    for lost_blocks in (0, 1):
        hall = Hall(receipt_s=1)
        hall.pair.run(hall.flow, 9)
        if lost_blocks:
            block = hall.pair.block(hall.flow, 100)
            assert hall.pair.source.send_samples(hall.flow, [block], now=hall.pair.now)
        hall.pair.now += 100_000_000
        hall.pair.source.handle_timer(hall.pair.now)
        share = hall.tell()
        assert share.pages is not None
        assert share.pages.open_end_uj == (9 + lost_blocks) * 1_200_000
        hall.lose()
        assert hall.esn_uj == 9 * 1_200_000
        after, flow = hall.resume()
        after.run(flow, 20)
        after.sink.close_flow(flow, now=after.now)
        after.exchange()
        assert after.one(SOURCE, FlowClosed).signed_uj == 29 * 1_200_000
        assert after.books.differences == []


@pytest.mark.requirement("DPDP-10-09")
def test_a_copy_that_no_member_made_is_reset() -> None:
    hall = Hall(receipt_s=1)
    hall.tell()
    hall.pair.run(hall.flow, 15)
    hall.lose()
    good = hall.pair.signed[0]
    for bent in (
        bytes([*good[:260], good[260] ^ 1, *good[261:]]),  # of the source
        bytes([*good[:-1], good[-1] ^ 1]),  # of the sink
        bytes([*good[:8], good[8] ^ 1, *good[9:]]),  # of another flow
    ):
        other = Hall(receipt_s=1)
        other.tell()
        other.pair.run(other.flow, 15)
        other.lose()
        mark = replace(known_mark(other), answered=bent)
        after, _ = other.resume(mark=mark)
        assert after.signed == []
        closed = after.one(SOURCE, FlowClosed)
        assert closed.refusal is not None
        assert closed.refusal.code == Reason.STATE


# --- terms that were not told of ------------------------------------------------------------------


def shed(hall: Hall) -> None:
    pair = hall.pair
    why = Refusal(Reason.BUDGET)
    pair.source.shed(hall.flow, PowerProfile.parse("12V/0.5A"), refusal=why, now=pair.now)
    pair.exchange()


def reprice(hall: Hall) -> None:
    pair = hall.pair
    wish = Ask(PowerProfile.parse("12V/1A"))
    pair.source.renegotiate(hall.flow, [wish], tariff=NIGHT, now=pair.now)
    pair.exchange()
    pair.sink.answer(hall.flow, accept=True, now=pair.now)
    pair.exchange()


@pytest.mark.requirement("DPDP-10-09")
@pytest.mark.parametrize("change", [shed, reprice])
def test_terms_that_were_not_told_of_and_under_which_nothing_came_are_those_of_before(
    change: Callable[[Hall], None],
) -> None:
    hall = Hall(tariff=DAY)
    hall.pair.run(hall.flow, 15)
    hall.tell()
    hall.pair.run(hall.flow, 3)
    change(hall)
    assert len(hall.pair.signed) == 1
    hall.lose()
    after, flow = hall.resume(wish=PowerProfile.parse("12V/1A"))
    assert after.run(flow, 20) == 20
    after.sink.close_flow(flow, now=after.now)
    after.exchange()
    assert after.one(SOURCE, FlowClosed).signed_uj == 38 * 1_200_000
    assert [fact.contract for fact in after.books.facts] == [1, 1]
    assert [fact.tariff for fact in after.books.facts] == [DAY, DAY]


@pytest.mark.requirement("DPDP-10-09", "LEDG-6-02")
@pytest.mark.parametrize("change", [shed, reprice])
def test_energy_under_terms_that_were_not_told_of_is_disputed_where_both_see_it(
    change: Callable[[Hall], None],
) -> None:
    hall = Hall(tariff=DAY)
    hall.pair.run(hall.flow, 15)
    hall.tell()
    hall.pair.run(hall.flow, 3)
    change(hall)
    hall.pair.run(hall.flow, 3)
    hall.lose()
    after, flow = hall.resume(wish=PowerProfile.parse("12V/1A"))
    after.answers = False
    after.run(flow, 20)
    after.sink.close_flow(flow, now=after.now)
    after.exchange()
    event = after.one(SINK, PageReceived)
    assert after.books.answer(event) is None
    assert after.books.differences[0] == "page 1: contract is 1, our meter says 3"
    after.sink.dispute(flow, Refusal(Reason.RECEIPT_INVALID, 1), now=after.now)
    after.exchange()
    assert after.one(SOURCE, PageDisputed).octets == event.octets
    closed = after.one(SOURCE, FlowClosed)
    # what no page covers is known to both
    assert closed.signed_uj == after.one(SINK, FlowClosed).signed_uj == 18 * 1_200_000
    assert closed.acked_uj > 18 * 1_200_000
