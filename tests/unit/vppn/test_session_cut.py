"""A sealed connection that is cut, by the path or by a fault: tickets heal it, no joule is lost."""

import pytest

from powertcp.potcp.events import FlowResumed, PowerReady, SamplesReceived, TicketReceived
from powertcp.vppn.noise import PatternId
from powertcp.wire.options import Sampling
from tests.conversation import SINK, SOURCE, ask
from tests.full import size
from tests.sealed import (
    OFTEN,
    SealedPair,
    codes,
    device_config,
    epochs,
    provider_config,
    running,
    step,
)

CLASSIC = PatternId.IK_CLASSIC


@pytest.mark.requirement("VPPN-3-08", "VPPN-4-05")
@pytest.mark.parametrize("pattern", [CLASSIC, PatternId.XK_CLASSIC], ids=lambda one: one.word)
def test_cut_at_every_octet_of_a_rekey_the_ticket_heals_it(pattern: PatternId) -> None:
    """What was delivered and what was banked is the same on the connection after it."""
    whole = cut_rekey(pattern, 1 << 30)
    assert whole > 300
    healed = 0
    for at in range(0, whole + 1, size(5, 1)):
        cut_rekey(pattern, at)
        healed += 1
    assert healed > 80


def cut_rekey(pattern: PatternId, at: int) -> int:
    """Cut the link after `at` octets of a rekey among blocks, resume; return the octets it took."""
    pair = running(pattern, OFTEN)
    pair.deliver(1, 10)
    step(pair, 1001)
    passed, is_cut = 0, False
    for turn in range(6):
        side = turn % 2
        if side == SOURCE:
            pair.source.send_samples(1, [pair.block(1, 10)], now=pair.now)
            pair.counters[1] = pair.counters.get(1, 0) + 10
        octets = pair.tunnels[side].data_to_send()
        left = max(0, at - passed)
        pair.tunnels[1 - side].receive_data(octets[:left], pair.now)
        passed += len(octets)
        pair.collect()
        if is_cut := left < len(octets):
            break
    assert codes(pair) == [0, 0]
    if not is_cut:
        assert epochs(pair) == [1, 1]
        return passed
    banked = sum(one.energy_uj for one in pair.take(SINK, SamplesReceived))
    sent = pair.source.status(1).esn_uj
    verified = pair.sink.status(1).esn_uj
    ticket = pair.take(SINK, TicketReceived)[-1].ticket
    assert verified == banked <= sent
    pair.cut()
    after = SealedPair(
        device_config(pattern), provider_config(), seal_office=pair.seal_office,
        office=pair.office, now=pair.now + 1, seed=4000,
    )  # fmt: skip
    flow = after.request(ask("12V/1.5A"), ticket=ticket, esn_uj=verified, sampling=Sampling(1000))
    (resumed,) = after.take(SOURCE, FlowResumed)
    assert sent - resumed.returned_uj == banked
    after.source.ready(flow, now=after.now)
    after.exchange()
    assert after.one(SINK, PowerReady)
    assert after.sink.status(flow).esn_uj == after.source.status(flow).esn_uj == banked
    assert pair.source.flows == ()
    return passed


@pytest.mark.requirement("VPPN-3-08")
def test_after_a_sealing_fault_the_ticket_is_good() -> None:
    for side in (SINK, SOURCE):
        pair = running()
        pair.deliver(1, 10)
        ticket = pair.take(SINK, TicketReceived)[-1].ticket
        verified = pair.sink.status(1).esn_uj
        pair.tunnels[side].receive_data(bytes(64), pair.now)
        pair.pump(side)
        pair.tunnels[1 - side].receive_eof(pair.now)
        pair.collect()
        after = SealedPair(
            device_config(CLASSIC), seal_office=pair.seal_office, office=pair.office,
            now=pair.now + 1, seed=4000,
        )  # fmt: skip
        after.request(ask("12V/1.5A"), ticket=ticket, esn_uj=verified, sampling=Sampling(1000))
        assert after.one(SOURCE, FlowResumed).esn_uj == verified > 0
