"""Rekey: under load, idle, in every pattern, cut at every octet, and by peers that do it wrong."""

from dataclasses import replace

import pytest

from powertcp.crypto import ExchangeKey
from powertcp.errors import DecodeError
from powertcp.potcp.events import (
    ConnectionTerminated,
    SamplesReceived,
)
from powertcp.registry import Flag, Reason, Refusal, SegmentType
from powertcp.units import NS_PER_MS, NS_PER_S
from powertcp.vppn.message import MESSAGE_1, Payload, encode_message
from powertcp.vppn.noise import PROTOCOLS, Handshake, PatternId, prologue
from powertcp.vppn.record import Privacy
from powertcp.vppn.tunnel import TunnelOpened, TunnelRekeyed
from powertcp.wire.frames import Splitter, whole_segment
from powertcp.wire.options import Sampling
from tests.conversation import SINK, SOURCE, START, ask, counting_entropy
from tests.full import size
from tests.sealed import (
    DEVICE,
    LIMITS,
    OFTEN,
    PROVIDER,
    SealedPair,
    codes,
    device_config,
    epochs,
    provider_config,
    raw_of,
    running,
    step,
)

CLASSIC = PatternId.IK_CLASSIC
every = pytest.mark.parametrize("pattern", PatternId, ids=lambda pattern: pattern.word)


def to_rekey(pair: SealedPair) -> None:
    """Let time pass until the initiator is about to begin the next epoch."""
    due = START + pair.tunnels[SINK].session.config.limits.rekey_ns + 400 * NS_PER_MS
    while pair.now < due - NS_PER_S:
        step(pair, 1000)
        pair.exchange()


# ---- when ---------------------------------------------------------------------------------------


@every
@pytest.mark.requirement("VPPN-4-01", "VPPN-4-03", "VPPN-4-07")
def test_after_120_s_the_initiator_begins_the_next_epoch(pattern: PatternId) -> None:
    pair = running(pattern)
    before = [tunnel.session.binding for tunnel in pair.tunnels]
    begun = []
    while not (events := pair.take(SOURCE, TunnelRekeyed)):
        step(pair)
        pair.exchange()
        begun.append(pair.now)
    (event,) = events
    assert 120 * NS_PER_S <= pair.now - START <= 120 * NS_PER_S + 433 * NS_PER_MS
    assert event.epoch == 1
    assert event.identity == pair.one(SOURCE, TunnelOpened).identity
    assert pair.one(SINK, TunnelRekeyed).epoch == 1
    assert epochs(pair) == [1, 1]
    after = [tunnel.session.binding for tunnel in pair.tunnels]
    assert after[0] == after[1]
    assert before[0] == before[1] != after[0]
    assert codes(pair) == [0, 0]
    # and again, from the new one on
    pair.advance(122, 500)
    assert epochs(pair) == [2, 2]


@pytest.mark.requirement("VPPN-4-01")
def test_the_time_is_spread_and_only_the_initiator_begins() -> None:
    found = set()
    for seed in range(20):
        pair = running(seed=3000 + 100 * seed)
        due = pair.tunnels[SINK].session.get_timer()
        assert due is not None
        assert 0 <= due - START - LIMITS.rekey_ns < LIMITS.spread_ns
        found.add(due)
        # the responder has nothing to do but to see that the epoch ends
        assert pair.tunnels[SOURCE].session.get_timer() == START + LIMITS.end_ns
    assert len(found) > 15


@pytest.mark.requirement("VPPN-4-01")
@pytest.mark.parametrize("limit", ["sent segments", "heard segments", "sent octets", "octets"])
def test_an_epoch_that_has_carried_much_is_renewed_at_once(limit: str) -> None:
    # what a sink says in a second is little beside the blocks
    limits = {
        "sent segments": replace(LIMITS, rekey_segments=12),
        "heard segments": replace(LIMITS, rekey_segments=30),
        "sent octets": replace(LIMITS, rekey_octets=900),
        "octets": replace(LIMITS, rekey_octets=20_000),
    }[limit]
    pair = running(limits=limits)
    assert epochs(pair) == [0, 0]
    for _ in range(40):
        step(pair)
        pair.deliver(1)
        if epochs(pair) != [0, 0]:
            break
    step(pair)
    pair.exchange()
    assert epochs(pair) == [1, 1]
    assert codes(pair) == [0, 0]
    assert pair.now < START + 10 * NS_PER_S


@pytest.mark.requirement("VPPN-4-01", "VPPN-4-05", "VPPN-2.2-05")
@every
def test_what_a_rekey_looks_like(pattern: PatternId) -> None:
    certificate = b"" if pattern in (PatternId.NK, PatternId.NK_CLASSIC) else b"certificate"
    pair = SealedPair(device_config(pattern, limits=OFTEN, certificate=certificate))
    pair.energise()
    del pair.sent[0][:], pair.sent[1][:]
    step(pair, 1001)
    pair.exchange()
    outer = [[one.flags for one in pair.sent[side] if one.flags] for side in (0, 1)]  # type: ignore[union-attr]
    third = [Flag.ACK] if pattern in (PatternId.XK, PatternId.XK_CLASSIC) else []
    assert outer == [[Flag.SYN, *third], [Flag.SYN | Flag.ACK]]
    seals = [one.options.seal for side in (0, 1) for one in pair.sent[side] if one.flags]  # type: ignore[union-attr]
    assert {(seal.epoch, seal.counter) for seal in seals} == {(1, 0)}  # type: ignore[union-attr]
    # the certificate comes again, and nothing else goes with it
    event = pair.one(SOURCE, TunnelRekeyed)
    assert event.identity.certificate == certificate
    first = next(one for one in pair.sent[SINK] if one.flags == Flag.SYN)  # type: ignore[union-attr]
    carried = first.payload  # type: ignore[union-attr]
    sizes = {1: 1296, 2: 1248, 3: 1248, 17: 96, 18: 48, 19: 48}
    goes = len(certificate) * (pattern in (PatternId.IK, PatternId.IK_CLASSIC))
    assert len(carried) == 2 + sizes[pattern] + 10 + goes


# ---- under load ---------------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-4-05", "VPPN-4-03", "VPPN-4-07")
@pytest.mark.parametrize("privacy", Privacy)
@pytest.mark.parametrize("flow", ["full", "idle", "both ways"])
def test_rekeys_in_a_row_lose_nothing_and_delay_nothing(flow: str, privacy: Privacy) -> None:
    """Blocks of 100 ms: each is banked at the instant at which it was sent."""
    count = size(60, 1000)
    pair = SealedPair(
        device_config(CLASSIC, limits=OFTEN, privacy=privacy),
        provider_config(limits=OFTEN, privacy=privacy),
    )
    pair.energise("12V/1.5A", sampling=Sampling(100))
    banked = sent = rekeys = 0
    while rekeys < count:
        step(pair)
        if flow != "idle":
            before = pair.source.status(1).esn_uj
            assert pair.deliver(1, 10) == 1
            sent += pair.source.status(1).esn_uj - before
        if flow == "both ways":
            for demand in (1000, 18_000):
                pair.sink.set_demand(1, demand, now=pair.now)
        pair.exchange()
        banked += sum(one.energy_uj for one in pair.take(SINK, SamplesReceived))
        # no block later than the one after it
        assert banked == sent
        rekeys += len(pair.take(SOURCE, TunnelRekeyed))
        for side in (SINK, SOURCE):
            del pair.sent[side][:], pair.events[side][:]
    assert pair.sink.status(1).esn_uj == pair.source.status(1).esn_uj == banked
    assert (banked > 0) is (flow != "idle")
    assert epochs(pair) == [count, count]
    assert pair.now - START <= (count + 1) * 1_200 * NS_PER_MS


@pytest.mark.requirement("VPPN-4-05")
@every
def test_power_flows_between_any_two_messages_of_a_rekey(pattern: PatternId) -> None:
    pair = running(pattern, OFTEN)
    sent = banked = 0
    step(pair, 1001)
    for turn in range(8):
        taken = pair.source.send_samples(1, [pair.block(1, 10)], now=pair.now)
        assert taken == 1
        pair.counters[1] = pair.counters.get(1, 0) + 10
        pair.pump(turn % 2)
        banked += sum(one.energy_uj for one in pair.take(SINK, SamplesReceived))
    pair.exchange()
    banked += sum(one.energy_uj for one in pair.take(SINK, SamplesReceived))
    sent = pair.source.status(1).esn_uj
    assert banked == sent == pair.sink.status(1).esn_uj > 0
    assert epochs(pair) == [1, 1]


# ---- attempts -----------------------------------------------------------------------------------


class Attempts:
    """A pair of which the rekeys of the initiator are held back."""

    def __init__(self, pattern: PatternId = CLASSIC) -> None:
        self.pair = running(pattern)
        to_rekey(self.pair)
        self.held: list[bytes] = []
        self.begun: list[int] = []

    def pump(self, side: int) -> bytes:
        """Carry everything but messages of a handshake."""
        pair = self.pair
        octets = pair.tunnels[side].data_to_send()
        for raw in Splitter(65535).receive(octets):
            segment = whole_segment(raw)
            if side == SINK and raw[1] == Flag.SYN:
                self.held.append(segment)
                self.begun.append(pair.now)
            else:
                pair.tunnels[1 - side].receive_data(segment, pair.now)
        pair.collect()
        return octets

    def advance(self, seconds: float) -> None:
        end = self.pair.now + round(seconds * NS_PER_S)
        while self.pair.now < end:
            step(self.pair)
            while self.pump(SINK) + self.pump(SOURCE):
                pass


@pytest.mark.requirement("VPPN-4-05", "VPPN-4-04")
def test_an_attempt_that_is_not_answered_is_repeated_until_the_epoch_ends() -> None:
    attempts = Attempts()
    attempts.advance(50)
    gaps = [
        after - before for before, after in zip(attempts.begun, attempts.begun[1:], strict=False)
    ]
    assert len(attempts.begun) >= 8
    assert all(5 * NS_PER_S <= gap <= 6_300 * NS_PER_MS for gap in gaps)
    assert codes(attempts.pair) == [0, 0]
    assert len(set(attempts.held)) == len(attempts.held)
    attempts.advance(12)
    assert codes(attempts.pair) == [510, 510]
    for side in (SINK, SOURCE):
        attempts.pair.one(side, ConnectionTerminated)
        assert attempts.pair.tunnels[side].session.get_timer() is not None
        assert attempts.pair.now >= START + LIMITS.end_ns


@pytest.mark.requirement("VPPN-4-05", "VPPN-4-06")
@pytest.mark.parametrize("pattern", [CLASSIC, PatternId.XK_CLASSIC], ids=lambda one: one.word)
def test_answers_to_attempts_that_were_given_up_are_dropped(pattern: PatternId) -> None:
    attempts = Attempts(pattern)
    pair = attempts.pair
    attempts.advance(8)
    assert len(attempts.held) == 2
    # both arrive now, both are answered, in their order
    for octets in attempts.held:
        pair.tunnels[SOURCE].receive_data(octets, pair.now)
    pair.exchange()
    assert epochs(pair) == [1, 1]
    assert codes(pair) == [0, 0]
    assert pair.deliver(1)
    assert pair.sink.status(1).esn_uj == pair.source.status(1).esn_uj


@pytest.mark.requirement("VPPN-4-05", "VPPN-4-06")
def test_an_answer_that_comes_while_no_attempt_is_under_way() -> None:
    attempts = Attempts()
    pair = attempts.pair
    attempts.advance(5.7)
    assert len(attempts.held) == 1
    pair.tunnels[SOURCE].receive_data(attempts.held[0], pair.now)
    pair.exchange()
    assert epochs(pair) == [0, 0]
    pair.advance(2)
    assert epochs(pair) == [1, 1]
    assert codes(pair) == [0, 0]


@pytest.mark.requirement("VPPN-4-06")
def test_a_responder_takes_two_in_a_row_and_then_one_each_second() -> None:
    rows: list[tuple[list[int], bool]] = [
        ([0, 0], True),
        ([0, 0, 0], False),
        ([0, 0, 900], False),
        ([0, 0, 1000], True),
        ([0, 0, 1000, 1500], False),
        ([0, 0, 1000, 2000, 3000, 4000], True),
        ([0, 1000, 1000], True),
        ([0, 5000, 5000], True),
        ([0, 5000, 5000, 5000], False),
    ]
    for times, is_taken in rows:
        pair = running()
        rekeyer = Rekeyer(pair)
        found = [rekeyer.at(time) for time in times]
        assert found == [*[0] * (len(times) - 1), 0 if is_taken else 511]


class Rekeyer:
    """An initiator by hand that rekeys as it likes; it knows the hash of the epoch in force."""

    def __init__(self, pair: SealedPair, static: ExchangeKey = DEVICE) -> None:
        self.pair, self.static = pair, static
        self.count, self.begun = 0, pair.now
        self.pattern = pair.tunnels[SINK].session.config.pattern

    def handshake(
        self, previous: bytes | None = None, pattern: PatternId | None = None
    ) -> Handshake:
        self.count += 1
        binding = self.pair.tunnels[SINK].session.binding
        kind = pattern or self.pattern
        return Handshake(
            PROTOCOLS[kind],
            is_initiator=True,
            entropy=counting_entropy(7000 + 10 * self.count),
            prologue=prologue(kind, binding if previous is None else previous),
            static=None if kind is PatternId.NK_CLASSIC else self.static,
            remote_static=PROVIDER.public,
        )

    def first(
        self,
        payload: Payload | None = None,
        epoch: int = 1,
        previous: bytes | None = None,
        pattern: PatternId | None = None,
        cookie: bytes | None = None,
    ) -> bytes:
        handshake = self.handshake(previous, pattern)
        message = handshake.write_message((payload or Payload(1)).encode())
        named = bytes([pattern or self.pattern, 0]) + message
        self.last = handshake
        return encode_message(MESSAGE_1, epoch, named, cookie)

    def hear(self, octets: bytes) -> int:
        """Return the code with which the responder breaks off, 0 if it does not."""
        self.pair.tunnels[SOURCE].receive_data(octets, self.pair.now)
        self.pair.collect()
        return codes(self.pair)[SOURCE]

    def at(self, milliseconds: int) -> int:
        self.pair.now = self.begun + milliseconds * NS_PER_MS
        return self.hear(self.first())


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-4-02", "VPPN-3-08")
@pytest.mark.parametrize("pattern", [CLASSIC, PatternId.XK_CLASSIC], ids=lambda one: one.word)
def test_another_static_key_is_refused_207(pattern: PatternId) -> None:
    pair = running(pattern)
    rekeyer = Rekeyer(pair, ExchangeKey(bytes([0x55]) * 32))
    code = rekeyer.hear(rekeyer.first())
    if pattern is PatternId.XK_CLASSIC:
        assert code == 0
        second = next(
            raw for raw in Splitter(65535).receive(pair.tunnels[SOURCE].data_to_send()) if raw[1]
        )
        rekeyer.last.read_message(bytes(second[5]))
        third = rekeyer.last.write_message(Payload(1).encode())
        code = rekeyer.hear(encode_message(int(Flag.ACK), 1, third))
    assert code == 207
    pair.exchange()
    assert pair.tunnels[SOURCE].identity == pair.one(SOURCE, TunnelOpened).identity
    assert [type(event).__name__ for event in pair.take(SOURCE, ConnectionTerminated)]


@pytest.mark.requirement("VPPN-4-07", "VPPN-4-01", "VPPN-2.1-04", "VPPN-2.2-05")
def test_a_rekey_of_another_epoch_pattern_or_hash_or_with_segments_is_refused() -> None:
    pair = running()
    rekeyer = Rekeyer(pair)
    assert rekeyer.hear(rekeyer.first()) == 0
    syn = SealedPair()
    syn.sink.open_flow([ask("12V/1A")], now=START)
    for changes, code in (
        ({"epoch": 0}, 510),
        ({"epoch": 2}, 510),
        ({"epoch": (1 << 32) - 1}, 510),
        ({"previous": b""}, 509),
        ({"previous": bytes(32)}, 509),
        ({"pattern": PatternId.NK_CLASSIC}, 509),
        ({"payload": Payload(1, b"", syn.sink.data_to_send())}, 509),
        ({"cookie": bytes(32)}, 509),
    ):
        rekeyer = Rekeyer(running())
        assert rekeyer.hear(rekeyer.first(**changes)) == code


@pytest.mark.requirement("VPPN-2.2-05", "VPPN-4-01")
def test_the_octet_of_the_pattern_is_not_free_at_a_rekey_either() -> None:
    for number in (*PatternId, *range(0, 256, 15)):
        rekeyer = Rekeyer(running())
        octets = rekeyer.first()
        assert octets[36] == CLASSIC
        bent = octets[:36] + bytes([number]) + octets[37:]
        assert rekeyer.hear(bent) == (0 if number == CLASSIC else 509)


@pytest.mark.requirement("VPPN-4-07")
def test_no_rekey_before_the_epoch_was_used() -> None:
    pair = SealedPair(device_config(CLASSIC))
    pair.sink.open_flow([ask("12V/1A")], now=START)
    pair.pump(SINK)
    pair.pump(SOURCE)
    rekeyer = Rekeyer(pair)
    assert rekeyer.hear(rekeyer.first()) == 510
    # and not two epochs ahead of what was confirmed
    pair = running()
    rekeyer = Rekeyer(pair)
    assert rekeyer.hear(rekeyer.first()) == 0
    assert rekeyer.hear(rekeyer.first(epoch=2)) == 510


@pytest.mark.requirement("VPPN-4-01")
def test_the_responder_begins_nothing() -> None:
    pair = running()
    rekeyer = Rekeyer(pair)
    pair.tunnels[SINK].receive_data(rekeyer.first(), pair.now)
    pair.collect()
    assert codes(pair) == [509, 0]


@pytest.mark.requirement("VPPN-4-07")
def test_answers_that_nobody_asked_for_are_refused() -> None:
    area = encode_message(int(Flag.SYN | Flag.ACK), 1, bytes(48))
    third = encode_message(int(Flag.ACK), 1, bytes(64))
    for pattern in (CLASSIC, PatternId.XK_CLASSIC, PatternId.NK_CLASSIC):
        pair = running(pattern)
        pair.tunnels[SINK].receive_data(area, pair.now)
        pair.tunnels[SOURCE].receive_data(third, pair.now)
        pair.collect()
        assert codes(pair) == [510, 509]


@pytest.mark.requirement("VPPN-4-03")
@pytest.mark.parametrize("side", [SINK, SOURCE])
def test_the_old_epoch_after_the_switch_is_refused_510(side: int) -> None:
    pair = running(limits=OFTEN)
    step(pair, 500)
    # sealed with epoch 0 and held back
    (pair.sink, pair.source)[1 - side].trip(1, Refusal(Reason.OPERATOR), now=pair.now)
    late = pair.tunnels[1 - side].data_to_send()
    assert raw_of(late)[0] == SegmentType.SEALED
    other = running(limits=OFTEN)
    step(other, 1001)
    other.exchange()
    assert epochs(other) == [1, 1]
    other.tunnels[side].receive_data(late, other.now)
    other.collect()
    assert codes(other)[side] == 510


# ---- the end of an epoch ------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-4-04", "VPPN-3-08")
@pytest.mark.parametrize("how", ["seals", "opens", "timer"])
def test_an_epoch_at_its_end_is_a_fault_however_it_is_noticed(how: str) -> None:
    limits = replace(LIMITS, end_ns=10 * NS_PER_S)
    if how == "timer":
        pair = running(limits=limits)
        end = START + limits.end_ns
        assert [tunnel.session.get_timer() for tunnel in pair.tunnels] == [end, end]
        for tunnel in pair.tunnels:
            tunnel.handle_timer(end)
        pair.collect()
        assert codes(pair) == [510, 510]
        return
    limits = replace(LIMITS, end_segments=8)
    pair = SealedPair(
        device_config(CLASSIC, limits=LIMITS if how == "opens" else limits),
        provider_config(limits=limits if how == "opens" else LIMITS),
    )
    pair.energise(sampling=Sampling(100))
    found = [0, 0]
    for _ in range(20):
        step(pair)
        pair.collect()
        found = codes(pair)
        if any(found):
            break
        pair.deliver(1, 10)
    assert found == ([0, 510] if how == "opens" else [510, 0])


# ---- the key log --------------------------------------------------------------------------------


@every
def test_the_keys_of_every_epoch_can_be_logged_and_both_sides_log_the_same(
    pattern: PatternId,
) -> None:
    logs: tuple[list[tuple[bytes, int, str, bytes]], ...] = ([], [])
    configs = [
        replace(config, limits=OFTEN, key_log=lambda *row, log=log: log.append(row))
        for config, log in zip((device_config(pattern), provider_config()), logs, strict=True)
    ]
    pair = SealedPair(*configs)
    pair.energise()
    step(pair, 1001)
    pair.exchange()
    assert logs[0] == logs[1]
    assert [row[1:3] for row in logs[0]] == [(0, "I"), (0, "R"), (1, "I"), (1, "R")]
    assert len({row[3] for row in logs[0]}) == 4
    assert all(len(row[0]) == len(row[3]) == 32 for row in logs[0])


def test_rekeys_stop_with_the_connection() -> None:
    pair = running()
    pair.sink.abort(Refusal(Reason.OPERATOR), now=pair.now)
    pair.exchange()
    for tunnel in pair.tunnels:
        assert tunnel.get_timer() is None
    with pytest.raises(DecodeError):
        pair.tunnels[SINK].session.channel.check_age(START + LIMITS.end_ns)
