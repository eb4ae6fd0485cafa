"""A path cut again and again under load: each joule is counted once."""

from random import Random

import pytest

from powertcp.potcp.events import FlowResumed, SamplesReceived, TicketReceived
from powertcp.wire.options import Sampling
from tests.conversation import SINK, SOURCE, Pair, ask
from tests.full import size

CUTS = size(100, 1000)


@pytest.mark.requirement("PTCP-10-03", "PTCP-10-04", "PTCP-10-05")
def test_cut_under_load_again_and_again_the_banked_energy_is_the_acknowledged_energy() -> None:
    random = Random(7)
    pair = Pair()
    flow = pair.energise("12V/1.5A", sampling=Sampling(100))
    banked = sent = returned = counter = 0
    resumed = 0
    for _ in range(CUTS):
        for _ in range(random.randrange(1, 6)):
            before = pair.source.status(flow).esn_uj
            pair.deliver(flow, random.randrange(1, 8))
            sent += pair.source.status(flow).esn_uj - before
        # blocks that are under way when the path is cut
        for _ in range(random.randrange(0, 3)):
            samples = random.randrange(1, 8)
            before = pair.source.status(flow).esn_uj
            pair.source.send_samples(flow, [pair.block(flow, samples)], now=pair.now)
            pair.counters[flow] = pair.counters.get(flow, 0) + samples
            sent += pair.source.status(flow).esn_uj - before
        octets = pair.source.data_to_send()
        pair.sink.receive_data(octets[: random.randrange(len(octets) + 1)], pair.now)
        pair.collect()
        banked += sum(one.energy_uj for one in pair.take(SINK, SamplesReceived))
        ticket = pair.take(SINK, TicketReceived)[-1].ticket
        verified = pair.sink.status(flow).esn_uj
        assert verified == banked
        pair.cut()
        old, pair = pair, Pair(office=pair.office, now=pair.now + 1)
        flow = pair.request(ask("12V/1.5A"), ticket=ticket, esn_uj=verified, sampling=Sampling(100))
        (event,) = pair.take(SOURCE, FlowResumed)
        returned += event.returned_uj
        resumed += 1
        pair.source.ready(flow, now=pair.now)
        pair.exchange()
        assert pair.sink.status(flow).esn_uj == pair.source.status(flow).esn_uj == banked
        assert old.source.flows == ()
        counter += 1
    assert (resumed, counter) == (CUTS, CUTS)
    # what a source sent is what sinks banked and what went back to the supply
    assert sent - returned == banked == pair.source.status(flow).acked_uj > 0
    assert returned > 0
