"""What goes through a tunnel: flows, trips, receipts, tickets, and what the path sees of it."""

from typing import Any

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import (
    Alerted,
    ConnectionTerminated,
    FlowResumed,
    FlowTripped,
    PowerReady,
    PowerRequested,
    SamplesReceived,
    TicketReceived,
)
from powertcp.registry import Flag, Reason, Refusal, SegmentType
from powertcp.units import NS_PER_S
from powertcp.vppn.noise import PatternId
from powertcp.vppn.record import OVERHEAD_OCTETS, PRIVATE_ESN, Privacy
from powertcp.vppn.session import Session
from powertcp.vppn.tunnel import Tunnel, TunnelBroken, TunnelOpened
from powertcp.wire.frames import RawSegment, Splitter, encode_segment, whole_segment
from powertcp.wire.options import Options, Sampling, decode_options
from powertcp.wire.segments import Alert, MaintainProbe, Sealed
from tests.conversation import SINK, SOURCE, START, Carrier, ask, counting_entropy
from tests.metered import MeteredPair
from tests.sealed import (
    UNIX_OFFSET,
    SealedPair,
    codes,
    device_config,
    provider_config,
    running,
    step,
)

CLASSIC = PatternId.IK_CLASSIC
POLICE, PRIVATE = Privacy.POLICE, Privacy.PRIVATE
each = pytest.mark.parametrize("privacy", Privacy)
REFUSAL = Refusal(Reason.OPERATOR)


def pair_of(privacy: Privacy, **options: Any) -> SealedPair:
    return SealedPair(
        device_config(CLASSIC, privacy=privacy), provider_config(privacy=privacy), **options
    )


def outer(pair: SealedPair, side: int) -> list[Sealed]:
    """Remove and return what a side said after its handshake, as the path saw it."""
    return [one for one in pair.said(side, Sealed) if isinstance(one, Sealed) and not one.flags]


# ---- as a machine -------------------------------------------------------------------------------


def test_a_tunnel_is_a_stream_machine() -> None:
    machine: Carrier = SealedPair().tunnels[SINK]
    assert (machine.data_to_send(), machine.next_event(), machine.get_timer()) == (b"", None, None)
    machine.receive_data(b"", START)
    machine.handle_timer(START)
    for call in (
        machine.handle_timer,
        machine.receive_eof,
        lambda now: machine.receive_data(b"", now),
    ):
        with pytest.raises(LocalProtocolError, match="the clock went back"):
            call(START - 1)
    machine.receive_eof(START)
    assert machine.next_event() is not None
    assert machine.next_event() is None


def test_what_is_queued_is_what_waits_within_and_without() -> None:
    pair = pair_of(POLICE)
    tunnel = pair.tunnels[SOURCE]
    assert tunnel.queued == 0
    pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    assert pair.tunnels[SINK].queued == pair.sink.queued > 0
    octets = pair.pump(SINK)
    assert octets
    # message 2 is owed, though nobody has answered yet
    assert tunnel.queued == 1
    assert tunnel.data_to_send()[5] == Flag.SYN | Flag.ACK
    assert tunnel.queued == 0


def test_no_more_than_256_kib_is_sealed_at_once() -> None:
    """So that what comes later may still go first."""
    pair = pair_of(POLICE)
    for flow in [pair.energise("220V/400A", sampling=Sampling(10_000)) for _ in range(8)]:
        while pair.source.send_samples(flow, [pair.block(flow, 1000)], now=pair.now):
            pair.counters[flow] = pair.counters.get(flow, 0) + 1000
    assert pair.source.queued > 3 * 256 * 1024
    first = pair.tunnels[SOURCE].data_to_send()
    assert 256 * 1024 <= len(first) < 600 * 1024
    assert pair.source.queued > 0


@pytest.mark.requirement("VPPN-3-08")
def test_nothing_of_the_connection_goes_in_clear_after_a_fault() -> None:
    pair = running()
    pair.source.send_samples(1, [pair.block(1, 10)], now=pair.now)
    pair.tunnels[SOURCE].receive_data(b"not sealed, not at all", pair.now)
    said = pair.pump(SOURCE)
    (alert,) = Splitter(65535).receive(said)
    assert alert[0] == SegmentType.SEALED
    assert pair.take(SINK, SamplesReceived) == []
    (told,) = pair.take(SINK, Alerted)
    assert told.severity == 3
    assert pair.source.queued == pair.tunnels[SOURCE].queued == 0


def test_a_connection_that_ends_within_ends_the_tunnel_with_its_last_words() -> None:
    pair = running()
    pair.source.abort(REFUSAL, now=pair.now)
    assert pair.tunnels[SOURCE].get_timer() is None
    pair.exchange()
    for side in (SINK, SOURCE):
        assert pair.one(side, ConnectionTerminated)
        assert pair.take(side, TunnelBroken) == []
        pair.tunnels[side].receive_data(b"more", pair.now)
        assert pair.tunnels[side].next_event() is None


# ---- what the path sees -------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-3-04")
def test_police_mode_shows_flow_esn_and_profile() -> None:
    pair = pair_of(POLICE)
    pair.energise("12V/1.5A", sampling=Sampling(1000))
    shown = []
    for _ in range(130):
        step(pair)
        pair.deliver(1)
        shown += [(pair.now, one) for one in outer(pair, SOURCE)]
    flows = {one.flow for _, one in shown}
    assert flows == {0, 1}
    esns = [one.esn for _, one in shown if one.flow == 1]
    assert esns == sorted(esns)
    assert esns[-1] > 20_000_000
    times = [now for now, one in shown if one.options.profiles]
    # with READY, and then each 5 s
    assert [round((now - START) / NS_PER_S) for now in times] == [0, 5, 10]
    (profile,) = next(one for _, one in shown if one.options.profiles).options.profiles
    assert (profile.voltage_mv, profile.current_ma) == (12_000, 1_500)
    assert not any(one.options.profiles for one in outer(pair, SINK))


@pytest.mark.requirement("VPPN-3-05")
def test_private_mode_shows_nothing_but_a_rounded_length() -> None:
    pair = pair_of(PRIVATE)
    for _ in range(2):
        pair.energise("12V/1.5A", sampling=Sampling(1000))
    for _ in range(70):
        step(pair)
        for flow in (1, 3):
            pair.deliver(flow)
    for side in (SINK, SOURCE):
        found = outer(pair, side)
        assert len(found) > 20
        assert {(one.flow, one.esn) for one in found} == {(0, PRIVATE_ESN)}
        assert all(len(one.payload) % 1024 == 16 for one in found)
        assert not any(one.options.profiles for one in found)


@pytest.mark.requirement("VPPN-3-05", "VPPN-3-04")
def test_private_and_police_do_not_understand_each_other() -> None:
    for ours, theirs in ((POLICE, PRIVATE), (PRIVATE, POLICE)):
        pair = SealedPair(device_config(CLASSIC, privacy=ours), provider_config(privacy=theirs))
        pair.request(ask("12V/1.5A"))
        for side, mine in ((SINK, ours), (SOURCE, theirs)):
            (broken,) = pair.take(side, TunnelBroken)
            assert broken.refusal.code == 509
            said = f"the other end seals in {mine.other} mode, we in {mine}: --privacy is the same"
            assert said in broken.refusal.sentence()


@each
@pytest.mark.requirement("VPPN-3-06", "VPPN-3-02")
def test_congestion_outside_is_congestion_inside(privacy: Privacy) -> None:
    """The sink answers ECE with CWR and asks for less, as in clear."""
    asked = []
    for marks in (False, True):
        pair = pair_of(privacy)
        pair.energise("12V/1.5A", sampling=Sampling(1000))
        for _ in range(20):
            step(pair)
            pair.source.send_samples(1, [pair.block(1, 100)], now=pair.now)
            pair.counters[1] = pair.counters.get(1, 0) + 100
            octets = pair.tunnels[SOURCE].data_to_send()
            for raw in Splitter(65535).receive(octets):
                pair.tunnels[SINK].receive_data(with_ece(raw) if marks else again(raw), pair.now)
            pair.collect()
            pair.pump(SINK)
        assert codes(pair) == [0, 0]
        assert pair.sink.status(1).esn_uj == pair.source.status(1).esn_uj > 0
        asked.append(pair.source.demand_mw(1))
    assert asked[1] < asked[0]


def with_ece(raw: RawSegment) -> bytes:
    octets = bytearray(again(raw))
    octets[5] |= Flag.ECE
    return bytes(octets)


def again(raw: RawSegment) -> bytes:
    return whole_segment(raw)


# ---- batches and limits -------------------------------------------------------------------------


@each
@pytest.mark.requirement("VPPN-3-07", "VPPN-3-09")
@pytest.mark.parametrize("msp", [1024, 2048, 16384, 65535])
def test_batches_fill_the_msp_of_the_peer_and_never_exceed_it(privacy: Privacy, msp: int) -> None:
    pair = pair_of(privacy, msp=msp)
    pair.energise("12V/1.5A", sampling=Sampling(1000))
    del pair.sent[0][:], pair.sent[1][:]
    blocks = []
    for _ in range(160):
        blocks.append(pair.block(1, 30))
        pair.counters[1] = pair.counters.get(1, 0) + 30
    taken = pair.source.send_samples(1, blocks, now=pair.now)
    assert taken > 60
    pair.pump(SOURCE)
    sealed = outer(pair, SOURCE)
    sizes = [len(one.payload) for one in sealed]
    assert max(sizes) <= msp
    # of 268 octets each, as many as fit
    fit = min((msp - 16) // 268, taken)
    assert len(sizes) == -(-taken // fit)
    pair.exchange()
    assert pair.sink.status(1).esn_uj == pair.source.status(1).esn_uj > 0


@pytest.mark.requirement("VPPN-3-07")
def test_before_the_peer_has_said_its_msp_it_is_16384() -> None:
    pair = pair_of(POLICE, msp=1024)
    assert pair.sink.peer_msp == 16384
    pair.energise()
    assert (pair.sink.peer_msp, pair.source.peer_msp) == (1024, 1024)


@each
@pytest.mark.requirement("VPPN-3-07")
def test_a_block_that_fills_the_msp_has_a_seal_of_its_own(privacy: Privacy) -> None:
    """A driver leaves OVERHEAD_OCTETS of the MSP to the seal; who relays cannot."""
    pair = pair_of(privacy, msp=1024)
    pair.energise("12V/1.5A", sampling=Sampling(1000))
    shares, fills = (1024 - OVERHEAD_OCTETS - 8) // 8, (1024 - 8) // 8
    shared = 1004 if privacy is POLICE else 1024
    for pairs, size in ((shares, shared), (fills, 20 + 1024 + 16)):
        del pair.sent[0][:], pair.sent[1][:]
        pair.source.send_samples(1, [pair.block(1, pairs)], now=pair.now)
        pair.counters[1] = pair.counters.get(1, 0) + pairs
        pair.pump(SOURCE)
        assert [len(one.payload) for one in outer(pair, SOURCE)] == [size]
        pair.exchange()
        assert pair.sink.status(1).esn_uj == pair.source.status(1).esn_uj > 0


@each
@pytest.mark.requirement("VPPN-3-09")
def test_one_wake_up_is_one_sealed_segment_of_each_flow(privacy: Privacy) -> None:
    pair = pair_of(privacy)
    for _ in range(2):
        pair.energise("12V/1.5A", sampling=Sampling(1000))
    del pair.sent[0][:], pair.sent[1][:]
    for flow in (1, 3):
        pair.source.send_samples(flow, [pair.block(flow, 10)], now=pair.now)
    pair.pump(SOURCE)
    assert len(outer(pair, SOURCE)) == (2 if privacy is POLICE else 1)
    pair.exchange()
    for flow in (1, 3):
        assert pair.sink.status(flow).esn_uj == pair.source.status(flow).esn_uj > 0


# ---- what is carried ----------------------------------------------------------------------------


@each
def test_a_trip_goes_through(privacy: Privacy) -> None:
    pair = pair_of(privacy)
    pair.energise()
    pair.deliver(1)
    pair.sink.trip(1, Refusal(Reason.OVER_VOLTAGE, 13_000, 12_600), now=pair.now)
    pair.exchange()
    assert pair.one(SOURCE, FlowTripped).refusal.code == Reason.OVER_VOLTAGE
    assert codes(pair) == [0, 0]
    flow = pair.energise()
    assert pair.deliver(flow)


@each
def test_two_flows_end_one_after_the_other(privacy: Privacy) -> None:
    pair = pair_of(privacy)
    flows = [pair.energise() for _ in range(2)]
    for flow in flows:
        assert pair.deliver(flow)
    for flow in flows:
        pair.sink.close_flow(flow, now=pair.now)
        pair.exchange()
    assert (pair.sink.flows, pair.source.flows) == ((), ())
    assert codes(pair) == [0, 0]


class SealedMeters(MeteredPair, SealedPair):
    """Both ends with meters, behind a seal."""


def test_receipts_go_through() -> None:
    pair = SealedMeters()
    flow = pair.energise("12V/1A")
    assert pair.one(SOURCE, TunnelOpened)
    pair.run(flow, 30)
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    assert len(pair.signed) >= 1
    assert (pair.sink.flows, pair.source.flows) == ((), ())
    assert all(isinstance(one, Sealed) for one in pair.sent[SOURCE])
    assert codes(pair) == [0, 0]


@each
@pytest.mark.requirement("VPPN-2.3-07", "VPPN-3-08")
def test_a_ticket_is_good_behind_the_seal_of_the_same_key(privacy: Privacy) -> None:
    pair = pair_of(privacy)
    pair.energise("12V/1.5A", sampling=Sampling(1000))
    pair.deliver(1)
    ticket = pair.one(SINK, TicketReceived).ticket
    verified = pair.sink.status(1).esn_uj
    pair.cut()
    after = pair_of(
        privacy, office=pair.office, seal_office=pair.seal_office, now=pair.now + 1, seed=5000
    )
    flow = after.request(ask("12V/1.5A"), ticket=ticket, esn_uj=verified, sampling=Sampling(1000))
    assert after.one(SOURCE, FlowResumed).esn_uj == verified > 0
    after.source.ready(flow, now=after.now)
    after.exchange()
    assert after.one(SINK, PowerReady).resumed
    assert after.deliver(flow)


@pytest.mark.requirement("VPPN-2.3-07")
@pytest.mark.parametrize("how", ["in clear", "a guest", "the same key, another pattern"])
def test_a_ticket_of_another_is_a_plain_syn(how: str) -> None:
    pair = running()
    pair.deliver(1)
    ticket = pair.one(SINK, TicketReceived).ticket
    verified = pair.sink.status(1).esn_uj
    pair.cut()
    patterns = {"a guest": PatternId.NK_CLASSIC}
    after = SealedPair(
        device_config(patterns.get(how, PatternId.XK_CLASSIC)),
        office=pair.office,
        seal_office=pair.seal_office,
        now=pair.now + 1,
        may_be_clear=True,
        seed=5000,
    )
    if how == "in clear":
        after.sink.open_flow(
            [ask("12V/1.5A")],
            ticket=ticket,
            esn_uj=verified,
            sampling=Sampling(1000),
            now=after.now,
        )
        after.tunnels[SOURCE].receive_data(after.sink.data_to_send(), after.now)
        after.collect()
    else:
        after.request(ask("12V/1.5A"), ticket=ticket, esn_uj=verified, sampling=Sampling(1000))
    is_theirs = how.startswith("the same")
    assert len(after.take(SOURCE, FlowResumed)) == is_theirs
    assert len(after.take(SOURCE, PowerRequested)) == (not is_theirs)


def test_probes_go_on_behind_the_seal_and_empty_ones_fix_no_interval() -> None:
    """A MAINTAIN that asks and answers nothing shows an epoch; the first flow sets the pace."""
    end = PowerConnection(
        client=False, config=SealedPair().config, entropy=counting_entropy(), peer=b"peer"
    )
    end.receive_data(encode_segment(MaintainProbe(0, 0, UNIX_OFFSET)), START)
    assert (end.data_to_send(), end.next_event(), end.get_timer()) == (b"", None, None)
    pair = running()
    del pair.sent[0][:], pair.sent[1][:]
    pair.advance(5)
    for side in (SINK, SOURCE):
        assert len(outer(pair, side)) >= 5
    assert pair.sink.status(1).state == "ENERGISED"


def test_an_alert_within_ends_nothing() -> None:
    pair = running()
    session = pair.tunnels[SOURCE].session
    session.put(encode_segment(Alert(0, 0, 1, Options(reason=REFUSAL))), 16384, pair.now)
    pair.exchange()
    assert pair.one(SINK, Alerted).severity == 1
    assert pair.deliver(1)


# ---- clear where that is allowed ----------------------------------------------------------------


@pytest.mark.requirement("VPPN-2.2-08")
def test_a_clear_connection_is_carried_as_it_is() -> None:
    pair = SealedPair(may_be_clear=True)
    session = Session(provider_config(), is_initiator=False, entropy=counting_entropy())
    tunnel = Tunnel(pair.source, session, START, is_initiator=False, may_be_clear=True)
    pair.tunnels = pair.sink, tunnel  # type: ignore[assignment]
    tunnel.start(START)
    flow = pair.energise()
    assert pair.deliver(flow)
    assert not tunnel.is_sealed
    assert not any(isinstance(one, Sealed) for side in (SINK, SOURCE) for one in pair.sent[side])
    # no handshake is awaited any more
    pair.advance(30)
    assert pair.source.status(flow).state == "ENERGISED"
    pair.cut()
    assert pair.one(SOURCE, ConnectionTerminated)


def test_options_of_what_is_sealed_are_seal_and_profile_alone() -> None:
    pair = running()
    pair.deliver(1)
    for side in (SINK, SOURCE):
        for one in outer(pair, side):
            assert one.options.seal is not None
            assert vars(one.options).keys() <= {"seal", "profiles"}
    assert decode_options(b"").seal is None
