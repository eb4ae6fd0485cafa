"""Responders under load, and power in the first flight: what a stranger and a copy can cause."""

import pytest

from powertcp import crypto
from powertcp.crypto import ExchangeKey
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.potcp.events import PowerAccepted, PowerReady, PowerRequested, TicketReceived
from powertcp.potcp.tickets import TicketOffice
from powertcp.registry import Flag, SegmentType
from powertcp.units import NS_PER_S
from powertcp.vppn.message import MESSAGE_1, Payload, encode_message, first_syn
from powertcp.vppn.noise import PROTOCOLS, Handshake, PatternId, prologue
from powertcp.vppn.office import SealOffice
from powertcp.vppn.session import Session
from powertcp.vppn.tunnel import TunnelBroken, TunnelOpened
from powertcp.wire.frames import Splitter, credit_segment, encode_segment, pack_segment
from powertcp.wire.options import Options, Seal, decode_options, encode_options
from powertcp.wire.segments import Control, CookieSegment
from tests.conversation import SINK, SOURCE, START, ask, counting_entropy, profile
from tests.sealed import (
    DEVICE,
    PROVIDER,
    UNIX_OFFSET,
    SealedPair,
    device_config,
    provider_config,
    raw_of,
)

CLASSIC = PatternId.IK_CLASSIC
EARLY = (PatternId.IK_CLASSIC, PatternId.NK_CLASSIC)
OFFER_NS = 2 * NS_PER_S


def asking(pattern: PatternId = CLASSIC, **options: object) -> SealedPair:
    pair = SealedPair(device_config(pattern), **options)  # type: ignore[arg-type]
    pair.sink.open_flow([ask("12V/1.5A")], now=pair.now)
    return pair


def code_of(pair: SealedPair, side: int) -> int:
    broken = pair.take(side, TunnelBroken)
    return broken[0].refusal.code if broken else 0


def listening(office: SealOffice, now: int = START, **options: object) -> SealedPair:
    """Return a pair whose provider shares `office`; only its responder is used."""
    tickets = office.cookies
    assert isinstance(tickets, TicketOffice)
    return SealedPair(seal_office=office, office=tickets, now=now, **options)  # type: ignore[arg-type]


def hear(pair: SealedPair, octets: bytes) -> bytes:
    pair.tunnels[SOURCE].receive_data(octets, pair.now)
    pair.collect()
    return pair.tunnels[SOURCE].data_to_send()


def said_by(pair: SealedPair, side: int) -> list[tuple[int, int]]:
    """Return type and flags of the outer segments a side has to say, and carry them."""
    octets = pair.pump(side)
    return [(raw[0], raw[1]) for raw in Splitter(65535).receive(octets)]


# ---- half-done handshakes -----------------------------------------------------------------------


class Exchanges:
    """How often two keys were agreed on."""

    count = 0


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> type[Exchanges]:
    before = crypto.ExchangeKey.exchange
    Exchanges.count = 0

    def exchange(self: ExchangeKey, public: bytes) -> bytes:
        Exchanges.count += 1
        return before(self, public)

    monkeypatch.setattr(crypto.ExchangeKey, "exchange", exchange)
    return Exchanges


@pytest.mark.requirement("VPPN-2.2-02", "VPPN-2.2-06")
def test_1000_half_done_handshakes_cost_no_agreement_after_256(exchanges: type[Exchanges]) -> None:
    office = asking().seal_office
    pairs = []
    for number in range(1000):
        octets = asking(seed=10_000 + 20 * number).tunnels[SINK].data_to_send()
        exchanges.count = 0
        pair = listening(office)
        answer = hear(pair, octets)
        pairs.append(pair)
        if number < 256:
            assert exchanges.count > 0
            assert answer[4:6] == bytes([SegmentType.SEALED, Flag.SYN | Flag.ACK])
        else:
            assert exchanges.count == 0
            assert (answer[4], len(answer)) == (SegmentType.COOKIE, 52)
        assert office.half_open == min(number + 1, 256)
    # each that ends gives its place back
    for pair in pairs:
        pair.tunnels[SOURCE].handle_timer(START + 5 * NS_PER_S)
        pair.collect()
        assert code_of(pair, SOURCE) == 507
    assert office.half_open == 0


@pytest.mark.requirement("VPPN-2.2-02", "VPPN-2.2-06")
@pytest.mark.parametrize("pattern", [*EARLY, PatternId.XK_CLASSIC], ids=lambda each: each.word)
def test_with_the_cookie_of_its_address_a_peer_gets_in(pattern: PatternId) -> None:
    for already in (256, 1023):
        pair = asking(pattern)
        pair.seal_office.half_open = already
        first = pair.pump(SINK)
        assert said_by(pair, SOURCE) == [(SegmentType.COOKIE, 0)]
        again = pair.pump(SINK)
        assert decode_options(raw_of(again)[4]).cookie is not None
        assert bytes(raw_of(again)[5]) == bytes(raw_of(first)[5])
        assert pair.seal_office.half_open == already + 1
        pair.exchange()
        assert pair.take(SOURCE, PowerRequested)
        pair.source.grant(1, profile("12V/1.5A"), now=pair.now)
        pair.exchange()
        assert pair.seal_office.half_open == already
        pair.source.ready(1, now=pair.now)
        pair.exchange()
        assert pair.deliver(1)


@pytest.mark.requirement("VPPN-2.2-06")
def test_from_1024_on_connections_are_closed() -> None:
    for count, cookie in ((1024, False), (1024, True), (5000, False)):
        pair = asking()
        pair.seal_office.half_open = 256 if cookie else count
        pair.pump(SINK)
        if cookie:
            pair.pump(SOURCE)
            pair.seal_office.half_open = count
            pair.pump(SINK)
        pair.collect()
        assert code_of(pair, SOURCE) == 508
        assert pair.seal_office.half_open == count


@pytest.mark.requirement("VPPN-2.2-06")
def test_a_wrong_cookie_counts_as_none_and_one_cookie_is_given() -> None:
    office = asking().seal_office
    office.half_open = 256
    octets = asking().tunnels[SINK].data_to_send()
    payload = bytes(raw_of(octets)[5])
    right = office.cookies.cookie(b"peer", 0, payload, START)
    other = office.cookies.cookie(b"pear", 0, payload, START)
    changed = payload[:40] + bytes([payload[40] ^ 1]) + payload[41:]
    for cookie, said, code in (
        (right, payload, 0),
        (None, payload, 509),
        (bytes(32), payload, 509),
        (bytes([right[0] ^ 1]) + right[1:], payload, 509),
        (other, payload, 509),
        (right, changed, 509),
    ):
        # nothing but the right one will do, also when the load has gone
        for load in (256, 0):
            office.half_open = 256
            pair = listening(office)
            assert hear(pair, octets)[4] == SegmentType.COOKIE
            office.half_open = load
            hear(pair, encode_message(MESSAGE_1, 0, said, cookie))
            assert code_of(pair, SOURCE) == code
            pair.tunnels[SOURCE].receive_eof(pair.now)
            assert office.half_open == load


@pytest.mark.requirement("VPPN-2.2-02", "VPPN-2.2-04")
def test_an_initiator_repeats_message_1_once() -> None:
    pair = asking()
    pair.tunnels[SINK].data_to_send()
    cookie = encode_segment(CookieSegment(0, 0, bytes(32)))
    pair.tunnels[SINK].receive_data(cookie, pair.now)
    assert decode_options(raw_of(pair.tunnels[SINK].data_to_send())[4]).cookie == bytes(32)
    pair.tunnels[SINK].receive_data(cookie, pair.now)
    pair.collect()
    assert code_of(pair, SINK) == 208
    assert pair.tunnels[SINK].data_to_send() == b""


@pytest.mark.requirement("VPPN-2.2-05", "VPPN-2.2-06")
def test_a_cookie_that_was_not_asked_for_is_no_form_of_message_1() -> None:
    office = asking().seal_office
    octets = asking().tunnels[SINK].data_to_send()
    payload = bytes(raw_of(octets)[5])
    right = office.cookies.cookie(b"peer", 0, payload, START)
    for load in (0, 256, 1024):
        office.half_open = load
        pair = listening(office)
        hear(pair, encode_message(MESSAGE_1, 0, payload, right))
        assert code_of(pair, SOURCE) == 509


@pytest.mark.requirement("VPPN-2.2-06", "VPPN-2.2-03")
def test_stealth_gives_no_cookie() -> None:
    pair = asking(provider=provider_config(stealth=True))
    pair.seal_office.half_open = 256
    assert hear(pair, pair.tunnels[SINK].data_to_send()) == b""
    pair.tunnels[SOURCE].handle_timer(START + 5 * NS_PER_S)
    pair.collect()
    assert code_of(pair, SOURCE) == 507


@pytest.mark.requirement("VPPN-2.2-06")
def test_a_handshake_is_half_done_until_a_transport_segment_or_message_3_is_opened() -> None:
    for pattern in PatternId:
        pair = asking(pattern)
        pair.pump(SINK)
        counts = [pair.seal_office.half_open]
        pair.pump(SOURCE)
        counts.append(pair.seal_office.half_open)
        assert pair.take(SOURCE, TunnelOpened) == []
        pair.pump(SINK)
        counts.append(pair.seal_office.half_open)
        assert counts == [1, 1, 0]
        assert pair.one(SOURCE, TunnelOpened)
    # a message 1 that was none holds nothing
    pair = asking()
    hear(pair, encode_message(MESSAGE_1, 0, bytes([CLASSIC, 0]) + bytes(96)))
    assert pair.seal_office.half_open == 0


@pytest.mark.requirement("VPPN-4-07")
def test_a_refused_first_flight_leaves_the_connection_to_ask_again() -> None:
    """Nobody has anything to say then, and yet both know that the other one is there."""
    for pattern in PatternId:
        pair = asking(pattern)
        pair.pump(SINK)
        if pair.take(SOURCE, PowerRequested):
            pair.source.close_flow(1, now=pair.now)
        pair.exchange()
        if pair.take(SOURCE, PowerRequested):
            pair.source.close_flow(1, now=pair.now)
        pair.exchange()
        assert (pair.sink.flows, pair.source.flows) == ((), ())
        pair.advance(30, 500)
        assert code_of(pair, SOURCE) == code_of(pair, SINK) == 0
        for tunnel in pair.tunnels:
            assert tunnel.session.channel.is_settled
        flow = pair.energise()
        assert pair.deliver(flow)


# ---- the first flight ---------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-2.3-01")
@pytest.mark.parametrize("pattern", [PatternId.IK, PatternId.NK, *EARLY], ids=lambda one: one.word)
def test_one_round_trip_to_the_contract(pattern: PatternId) -> None:
    pair = asking(pattern)
    assert said_by(pair, SINK) == [(SegmentType.SEALED, Flag.SYN)]
    (request,) = pair.take(SOURCE, PowerRequested)
    pair.source.grant(request.flow, profile("12V/1.5A"), now=pair.now)
    assert said_by(pair, SOURCE) == [(SegmentType.SEALED, Flag.SYN | Flag.ACK)]
    assert pair.take(SOURCE, PowerAccepted) == []
    # ACK and CREDIT in one sealed segment
    assert said_by(pair, SINK) == [(SegmentType.SEALED, 0)]
    assert pair.one(SOURCE, PowerAccepted)
    assert pair.one(SOURCE, TunnelOpened)


@pytest.mark.requirement("VPPN-2.3-04")
@pytest.mark.parametrize("pattern", [PatternId.XK, PatternId.XK_CLASSIC], ids=lambda one: one.word)
def test_with_xk_the_syn_goes_with_message_3(pattern: PatternId) -> None:
    pair = asking(pattern)
    (first,) = said_by(pair, SINK)
    assert first == (SegmentType.SEALED, Flag.SYN)
    assert pair.take(SOURCE, PowerRequested) == []
    assert said_by(pair, SOURCE) == [(SegmentType.SEALED, Flag.SYN | Flag.ACK)]
    assert said_by(pair, SINK)[0] == (SegmentType.SEALED, Flag.ACK)
    assert pair.one(SOURCE, PowerRequested)
    assert pair.tunnels[SOURCE].identity == pair.one(SOURCE, TunnelOpened).identity


@pytest.mark.requirement("VPPN-2.3-01")
def test_several_flows_at_once_one_of_them_in_message_1() -> None:
    for pattern in PatternId:
        pair = SealedPair(device_config(pattern))
        for _ in range(3):
            pair.sink.open_flow([ask("12V/1A")], now=pair.now)
        pair.exchange()
        flows = [event.flow for event in pair.take(SOURCE, PowerRequested)]
        assert flows == [1, 3, 5]
        for flow in flows:
            pair.source.grant(flow, profile("12V/1A"), now=pair.now)
        pair.exchange()
        for flow in flows:
            pair.source.ready(flow, now=pair.now)
        pair.exchange()
        assert len(pair.take(SINK, PowerReady)) == 3


def initiator(plain: bytes, pattern: PatternId = CLASSIC, said_ns: int = START) -> bytes:
    """Return message 1 of an initiator that says what it likes."""
    handshake = Handshake(
        PROTOCOLS[pattern],
        is_initiator=True,
        entropy=counting_entropy(31),
        prologue=prologue(pattern),
        static=None if pattern is PatternId.NK_CLASSIC else DEVICE,
        remote_static=PROVIDER.public,
    )
    message = handshake.write_message(Payload(said_ns + UNIX_OFFSET, b"", plain).encode())
    return encode_message(MESSAGE_1, 0, bytes([pattern, 0]) + message)


def syn_of(**options: object) -> bytes:
    pair = SealedPair()
    pair.sink.open_flow([ask("12V/1.5A")], now=pair.now, **options)  # type: ignore[arg-type]
    return pair.sink.data_to_send()


@pytest.mark.requirement("VPPN-2.3-01", "VPPN-2.3-04", "VPPN-2.3-07")
def test_message_1_carries_one_syn_and_nothing_else() -> None:
    syn = syn_of()
    for plain, code in (
        (syn, 0),
        (b"", 0),
        (syn + syn, 509),
        (syn + credit_segment(1, 0, 1), 509),
        (credit_segment(1, 0, 1), 509),
        (encode_segment(Control(1, Flag.ACK)), 509),
        (encode_segment(Control(1, Flag.RST)), 509),
        (syn_of(ticket=bytes(150)), 509),
        (pack_segment(SegmentType.CTL, Flag.SYN, 1, 0, bytes([3, 18, 0, 0]), b""), 509),
        (syn + bytes(4), 509),
    ):
        pair = SealedPair()
        hear(pair, initiator(plain))
        assert code_of(pair, SOURCE) == code
        assert len(pair.take(SOURCE, PowerRequested)) == (plain == syn)
    pair = SealedPair()
    hear(pair, initiator(syn, PatternId.XK_CLASSIC))
    assert code_of(pair, SOURCE) == 509
    assert pair.take(SOURCE, PowerRequested) == []


@pytest.mark.requirement("VPPN-2.3-07")
def test_a_syn_with_a_ticket_waits_for_the_handshake() -> None:
    syn, resuming = syn_of(), syn_of(ticket=bytes(150))
    assert first_syn(syn) == first_syn(syn + resuming) == syn
    assert first_syn(resuming) == first_syn(resuming + syn) == first_syn(b"") == b""
    pair = SealedPair(device_config(CLASSIC))
    pair.sink.open_flow([ask("12V/1.5A")], now=pair.now, ticket=bytes(150))
    assert len(pair.pump(SINK)) < len(asking().tunnels[SINK].data_to_send())
    assert pair.take(SOURCE, PowerRequested) == []
    pair.exchange()
    assert pair.one(SOURCE, PowerRequested)


@pytest.mark.requirement("VPPN-2.3-02", "VPPN-2.3-05")
@pytest.mark.parametrize("pattern", EARLY, ids=lambda one: one.word)
@pytest.mark.parametrize("why", ["stale", "ahead", "before the start", "seen", "second", "full"])
def test_a_syn_that_may_be_a_copy_is_dropped_and_repeated(pattern: PatternId, why: str) -> None:
    pair = asking(pattern)
    office = pair.seal_office
    session = pair.tunnels[SINK].session
    if why == "stale":
        session.unix_offset_ns -= 61 * NS_PER_S
        office.started_ns -= 3600 * NS_PER_S
    elif why == "ahead":
        session.unix_offset_ns += 61 * NS_PER_S
    elif why == "before the start":
        office.started_ns = START + UNIX_OFFSET
    octets = pair.tunnels[SINK].data_to_send()
    ephemeral = bytes(raw_of(octets)[5])[2:34]
    name = b"peer" if pattern is PatternId.NK_CLASSIC else DEVICE.public
    now = START + UNIX_OFFSET
    if why == "seen":
        assert office.takes_early(b"somebody", ephemeral, now, now)
    elif why == "second":
        assert office.takes_early(name, bytes(32), now, now)
    elif why == "full":
        for number in range(65_536):
            office.takes_early(b"x", number.to_bytes(32, "big"), now, now)
    pair.tunnels[SOURCE].receive_data(octets, pair.now)
    pair.collect()
    assert pair.take(SOURCE, PowerRequested) == []
    pair.exchange()
    # the repeated one is used, once
    (request,) = pair.take(SOURCE, PowerRequested)
    pair.source.grant(request.flow, profile("12V/1.5A"), now=pair.now)
    pair.exchange()
    pair.source.ready(1, now=pair.now)
    pair.exchange()
    assert pair.deliver(1)
    assert code_of(pair, SOURCE) == code_of(pair, SINK) == 0


@pytest.mark.requirement("VPPN-2.3-05")
@pytest.mark.parametrize("pattern", EARLY, ids=lambda one: one.word)
def test_an_owner_that_takes_its_time_hears_of_one_request(pattern: PatternId) -> None:
    """Message 2 holds no answer: the initiator repeats its SYN, the responder knows the copy."""
    pair = asking(pattern)
    pair.exchange()
    assert len(pair.take(SOURCE, PowerRequested)) == 1
    pair.advance(1)
    pair.source.grant(1, profile("12V/1.5A"), now=pair.now)
    pair.exchange()
    pair.source.ready(1, now=pair.now)
    pair.exchange()
    assert pair.deliver(1)
    assert pair.take(SOURCE, PowerRequested) == []


@pytest.mark.requirement("VPPN-2.3-05")
def test_a_copy_that_differs_is_no_copy() -> None:
    pair = SealedPair()
    session = Session(device_config(CLASSIC), is_initiator=True, entropy=counting_entropy(),
                      unix_offset_ns=UNIX_OFFSET)  # fmt: skip
    syn, other = syn_of(), syn_of(esn_uj=1)
    assert syn[8:12] == other[8:12]
    session.put(syn, 16384, START)
    session.receive(raw_of(hear(pair, session.take_out())), START)
    # ours would repeat it: somebody else's says another one first
    (sealed,) = session.channel.seal(other, 16384, START)
    hear(pair, sealed)
    (request,) = pair.take(SOURCE, PowerRequested)
    assert request.flow == 1
    assert pair.source.flows == ()  # 506: a second SYN


@pytest.mark.requirement("VPPN-2.3-02", "VPPN-2.3-03", "VPPN-2.3-06")
@pytest.mark.parametrize("pattern", EARLY, ids=lambda one: one.word)
def test_a_recorded_message_1_played_1000_times_reserves_once_and_gives_nothing(
    pattern: PatternId,
) -> None:
    first = asking(pattern)
    octets = first.tunnels[SINK].data_to_send()
    office = first.seal_office
    count = requests = 0
    # as many at a time as come without a cookie
    for wave in range(4):
        begun = START + wave * 5 * NS_PER_S
        copies = []
        for _ in range(250):
            pair = listening(office, begun)
            hear(pair, octets)
            copies.append(pair)
            for request in pair.take(SOURCE, PowerRequested):
                requests += 1
                pair.source.grant(request.flow, profile("12V/1.5A"), now=pair.now)
                pair.tunnels[SOURCE].data_to_send()
        holding = [pair for pair in copies if pair.source.flows]
        assert len(holding) == (wave == 0)
        assert [pair.source.status(1).state for pair in holding] == ["OFFERED"] * len(holding)
        # the budget is free again after T_OFFER, and nothing was ever given
        for pair in copies:
            pair.tunnels[SOURCE].handle_timer(begun + OFFER_NS)
            pair.collect()
            assert pair.source.flows == ()
            names = {type(event).__name__ for event in pair.events[SOURCE]}
            assert not names & {"PowerAccepted", "PowerReady", "FlowResumed", "TicketReceived"}
            pair.tunnels[SOURCE].handle_timer(begun + 5 * NS_PER_S)
            assert pair.tunnels[SOURCE].get_timer() is None
            count += 1
        assert office.half_open == 0
    assert (count, requests) == (1000, 1)


@pytest.mark.requirement("VPPN-2.3-03")
def test_nothing_is_given_before_the_first_transport_segment() -> None:
    """READY, DATA and TICKET need the ACK, which no message 1 can carry."""
    pair = asking()
    pair.pump(SINK)
    pair.source.grant(1, profile("12V/1.5A"), now=pair.now)
    with pytest.raises(LocalProtocolError):
        pair.source.ready(1, now=pair.now)
    pair.pump(SOURCE)
    assert pair.take(SINK, TicketReceived) == []
    pair.exchange()
    pair.source.ready(1, now=pair.now)
    pair.exchange()
    assert pair.one(SINK, TicketReceived)


@pytest.mark.requirement("VPPN-2.3-03")
def test_one_early_syn_of_a_device_at_a_time_over_all_its_connections() -> None:
    first = asking(seed=2000)
    first.pump(SINK)
    assert first.one(SOURCE, PowerRequested)
    second = asking(seed=4000, seal_office=first.seal_office)
    second.pump(SINK)
    assert second.take(SOURCE, PowerRequested) == []
    second.exchange()
    assert second.one(SOURCE, PowerRequested)
    # proven, cut or left: the next one may come early again
    for end in ("proven", "cut", "left"):
        if end == "proven":
            first.exchange()
        elif end == "cut":
            first.tunnels[SOURCE].receive_eof(first.now)
        else:
            first.tunnels[SOURCE].handle_timer(first.now + 5 * NS_PER_S)
        first = asking(seed=6000 + 2000 * len(end), seal_office=first.seal_office)
        first.pump(SINK)
        assert first.one(SOURCE, PowerRequested)


@pytest.mark.requirement("VPPN-2.2-07", "VPPN-2.3-05")
def test_what_a_responder_says_in_message_2_must_be_whole_segments() -> None:
    """A responder by hand: padding, a part, or a sealed segment within end the handshake."""
    syn = syn_of()
    for plain, code in ((syn, 0), (b"", 0), (syn + bytes(4), 509), (syn[:20], 509), (b"x", 509)):
        session = Session(device_config(CLASSIC), is_initiator=True, entropy=counting_entropy())
        session.put(syn, 16384, START)
        there = Handshake(
            PROTOCOLS[CLASSIC], is_initiator=False, entropy=counting_entropy(9),
            prologue=prologue(CLASSIC), static=PROVIDER,
        )  # fmt: skip
        there.read_message(bytes(raw_of(session.take_out())[5])[2:])
        octets = there.write_message(Payload(0, b"", plain).encode())
        area = encode_options(Options(seal=Seal(0, 0)))
        flags = Flag.SYN | Flag.ACK
        raw = raw_of(pack_segment(SegmentType.SEALED, flags, 0, 0, area, octets))
        if code:
            with pytest.raises(DecodeError) as caught:
                session.receive(raw, START)
            assert caught.value.code == code
            assert not session.is_open
        else:
            assert session.receive(raw, START) == plain


@pytest.mark.requirement("VPPN-2.2-03", "VPPN-2.3-02")
def test_a_stealthy_responder_does_not_answer_a_copy() -> None:
    office = SealOffice(TicketOffice(counting_entropy(7)), START + UNIX_OFFSET - 1)
    octets = asking().tunnels[SINK].data_to_send()
    hidden = provider_config(stealth=True)
    first = listening(office, provider=hidden)
    assert hear(first, octets)
    for later in (0, 1, 119):
        again = listening(office, START + later * NS_PER_S, provider=hidden)
        assert hear(again, octets) == b""
        assert again.tunnels[SOURCE].session.identity is None
    # forgotten, but its time is too old
    assert hear(listening(office, START + 121 * NS_PER_S, provider=hidden), octets) == b""
    assert office.half_open == 1


@pytest.mark.requirement("VPPN-2.3-03")
def test_guests_of_one_address_have_one_early_reservation_whatever_their_port() -> None:
    office = SealOffice(TicketOffice(counting_entropy(7)), START + UNIX_OFFSET - 1)
    asked = []
    for number in range(3):
        pair = listening(office, seed=1000 + number)
        session = pair.tunnels[SOURCE].session
        session.peer, session.address = b"peer" + bytes([0, number]), b"peer"
        octets = asking(PatternId.NK_CLASSIC, seed=2000 + number).tunnels[SINK].data_to_send()
        hear(pair, octets)
        asked.append(len(pair.take(SOURCE, PowerRequested)))
    assert asked == [1, 0, 0]
