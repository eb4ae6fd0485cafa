"""A meter at the edge of a circuit that loses packets: at the end it shows what was delivered."""

from ipaddress import IPv4Address
from random import Random

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from powertcp.mplamps.label import stack_octets
from powertcp.mplamps.lfib import Lfib, Out
from powertcp.mplamps.meter import Meter
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.objects import Sender, Session
from powertcp.mplamps.tcp import Ended, Endpoint, State
from powertcp.profile import PowerProfile
from powertcp.registry import Flag, SegmentType
from powertcp.units import NS_PER_MS, NS_PER_S
from powertcp.wire.frames import HEADER
from tests.full import size

LAMP, ES = IPv4Address("10.0.0.5"), IPv4Address("10.0.0.1")
REQUEST = PowerProfile.parse("230V/260mA@50Hz")
FLOW = 1


class House:
    """An edge LSR whose meter notes both directions of a circuit, and loses some of its packets."""

    def __init__(self, loss: int, seed: int) -> None:
        owner = CircuitId(Session(ES, 1, LAMP), Sender(LAMP, 1))
        self.meter = Meter(59_800, 0)
        self.lfib = Lfib({1: 230, 2: 230})
        phase, neutral = self.lfib.allocate(owner, 230, 0), self.lfib.allocate(owner, 0, 0)
        self.lfib.close_entry(230, phase, [Out(1, 230, 90)], self.meter)
        self.lfib.close_entry(0, neutral, [Out(2, 0, 91)], self.meter)
        self.stacks = {1: stack_octets((0, neutral), 3), 2: stack_octets((230, phase), 3)}
        self.random, self.loss = Random(seed), loss

    def cross(self, link: int, octets: bytes) -> bytes | None:
        """Take a packet that came in on `link`; it may be lost before the meter or behind it."""
        if self.random.randrange(100) < self.loss:
            return None
        verdict = self.lfib.forward(link, self.stacks[link] + octets)
        assert isinstance(verdict, list)
        return None if self.random.randrange(100) < self.loss else verdict[0][1][8:]


def header(kind: int, flags: int, esn: int, payload: int = 0) -> bytes:
    return HEADER.pack(0x504F, 1, 5, kind, flags, payload, FLOW, esn)


@pytest.mark.requirement("MPLA-3-02", "MPLA-9-03", "MPLA-2.3-01")
@settings(max_examples=size(40, 500), deadline=None)
@example([(1, 16)], 0, 17, 2212747)
@given(
    st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(16, 3000)), min_size=1, max_size=30),
    st.integers(0, 1 << 60),
    st.integers(0, 20),
    st.integers(0, 1 << 32),
)
def test_the_meter_shows_what_was_delivered_to_the_microjoule(
    blocks: list[tuple[int, int]], base: int, loss: int, seed: int
) -> None:
    house = House(loss, seed)
    lamp, es = Endpoint(LAMP, 49152, seed), Endpoint(ES, 3251, 0)
    es.listen()
    lamp.connect(ES, REQUEST, 0)
    # a resumed flow begins where it ended
    lamp.send(header(SegmentType.CTL, Flag.SYN, base), 0, starts_packet=True)
    to_send, esn = [], base
    for energy_uj, samples in blocks:
        to_send.append(header(SegmentType.DATA, 0, esn, samples) + bytes(samples))
        esn += energy_uj
    to_send.append(header(SegmentType.CTL, Flag.FIN, esn))
    now, heard, ends = 0, bytearray(), []
    while not lamp.state is es.state is State.CLOSED and now < 1000 * NS_PER_S:
        for end, other, link in ((lamp, es, 1), (es, lamp, 2)):
            end.handle_timer(now)
            for octets in end.packets_to_send():
                crossed = house.cross(link, octets)
                if crossed is not None:
                    other.receive_packet(crossed, now)
            while (happened := end.next_event()) is not None:
                ends += [happened.refusal] if isinstance(happened, Ended) else []
        while es.read() or (es.state is State.ESTABLISHED and to_send):
            if to_send:
                es.send(to_send.pop(0), now, starts_packet=True)
            else:
                es.close(now)
        heard += lamp.read()
        if not to_send:
            es.close(now)
        if lamp.state is State.CLOSE_WAIT:
            lamp.close(now)
        now += 5 * NS_PER_MS
    total = sum(20 + samples for _, samples in blocks) + 20
    reading = house.meter.read(now)
    assert reading.energy_uj <= esn - base
    if ends == [None, None]:
        event("whole")
        assert len(heard) == total
        assert reading.energy_uj == esn - base
        assert not reading.is_estimated
