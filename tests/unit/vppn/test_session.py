"""The handshake of a sealed connection: who gets in, who does not, and what a stranger is told."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from powertcp import crypto
from powertcp.crypto import ExchangeKey
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.potcp.events import ConnectionTerminated
from powertcp.registry import Flag, Reason, SegmentType
from powertcp.units import NS_PER_S
from powertcp.vppn.config import OPENING_NS, Identity, SealConfig
from powertcp.vppn.epochs import EpochLimits
from powertcp.vppn.message import MESSAGE_1, Payload, encode_message
from powertcp.vppn.noise import PROTOCOLS, Handshake, PatternId, prologue
from powertcp.vppn.session import Session
from powertcp.vppn.tunnel import TunnelBroken, TunnelOpened, TunnelRekeyed
from powertcp.wire.frames import encode_segment, pack_segment
from powertcp.wire.options import Options, Seal, decode_options, encode_options
from powertcp.wire.segments import Control, Sealed
from tests.conversation import SINK, SOURCE, START, ask, counting_entropy, segments
from tests.sealed import (
    DEVICE,
    PROVIDER,
    UNIX_OFFSET,
    SealedPair,
    device_config,
    is_sealed,
    provider_config,
    raw_of,
    step,
)

HYBRID, CLASSIC = PatternId.IK, PatternId.IK_CLASSIC
STRANGER = ExchangeKey(bytes([0x77]) * 32)
every = pytest.mark.parametrize("pattern", PatternId, ids=lambda pattern: pattern.word)
XKS = (PatternId.XK, PatternId.XK_CLASSIC)
NKS = (PatternId.NK, PatternId.NK_CLASSIC)
CERTIFICATE = b"what an employer wrote"
# points of low order, and their like above the prime
LOW_ORDER = [
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    b"\xed" + b"\xff" * 30 + b"\x7f",
    b"\xee" + b"\xff" * 30 + b"\x7f",
]


def asking(device: SealConfig, provider: SealConfig | None = None, **options: object) -> SealedPair:
    """Return a pair of which the consumer has asked; nothing was carried yet."""
    pair = SealedPair(device, provider, **options)  # type: ignore[arg-type]
    pair.sink.open_flow([ask("12V/1.5A")], now=pair.now)
    return pair


def code_of(pair: SealedPair, side: int) -> int:
    """Return why a side broke off, 0 if it did not."""
    broken = pair.take(side, TunnelBroken)
    return broken[0].refusal.code if broken else 0


def identity_of(pair: SealedPair, side: int) -> Identity | None:
    """Return whom a side was told, once."""
    told = pair.take(side, TunnelOpened)
    return told[0].identity if told else None


def is_dead(pair: SealedPair, side: int) -> bool:
    return bool(pair.take(side, ConnectionTerminated))


# ---- both know whom they have -------------------------------------------------------------------


@every
@pytest.mark.requirement("VPPN-2.1-01", "VPPN-2.2-01", "VPPN-2.2-07")
def test_who_is_there_is_known_when_it_is_proven(pattern: PatternId) -> None:
    certificate = b"" if pattern in NKS else CERTIFICATE
    pair = SealedPair(device_config(pattern, certificate=certificate))
    pair.energise()
    ours, theirs = pair.one(SINK, TunnelOpened), pair.one(SOURCE, TunnelOpened)
    key = None if pattern in NKS else DEVICE.public
    assert theirs.identity == Identity(pattern, key, certificate)
    assert ours.identity == Identity(pattern, PROVIDER.public, b"")
    assert ours.binding == theirs.binding
    assert len(ours.binding) == 32
    for side in (SINK, SOURCE):
        assert pair.tunnels[side].is_sealed
        assert pair.tunnels[side].identity == (ours, theirs)[side].identity
    assert pair.deliver(1)
    other = SealedPair(device_config(pattern), seed=5)
    other.energise()
    assert other.one(SINK, TunnelOpened).binding != ours.binding


@every
@pytest.mark.requirement("VPPN-2.2-05")
def test_the_segments_of_a_handshake(pattern: PatternId) -> None:
    pair = asking(device_config(pattern))
    said = []
    for turn in range(3):
        octets = pair.pump(turn % 2)
        said.append(raw_of(octets[: 36 + int.from_bytes(octets[6:8], "big")]))
    assert [raw[0] for raw in said] == [SegmentType.SEALED] * 3
    third = Flag.ACK if pattern in XKS else 0
    assert [raw[1] for raw in said] == [Flag.SYN, Flag.SYN | Flag.ACK, third]
    assert [decode_options(raw[4]).seal for raw in said] == [Seal(0, 0)] * 3
    assert [raw[2:4] for raw in said[:2]] == [(0, 0)] * 2
    assert bytes(said[0][5][:2]) == bytes([pattern, 0])


@pytest.mark.requirement("VPPN-2.2-04")
def test_all_that_is_said_is_sealed() -> None:
    pair = SealedPair()
    flow = pair.energise()
    for _ in range(30):
        pair.deliver(flow)
        pair.advance(0.5)
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    for side in (SINK, SOURCE):
        assert pair.sent[side]
        assert all(isinstance(segment, Sealed) for segment in pair.sent[side])


@pytest.mark.requirement("VPPN-2.2-01")
def test_the_certificate_goes_where_the_static_key_goes() -> None:
    sizes = {}
    for certificate in (b"", CERTIFICATE):
        for pattern in (CLASSIC, PatternId.XK_CLASSIC):
            pair = asking(device_config(pattern, certificate=certificate))
            octets = [pair.pump(turn % 2) for turn in range(3)]
            sizes[certificate, pattern] = [int.from_bytes(one[6:8], "big") for one in octets]
    longer = {
        pattern: [with_it - without for without, with_it in
                  zip(sizes[b"", pattern], sizes[CERTIFICATE, pattern], strict=True)]
        for pattern in (CLASSIC, PatternId.XK_CLASSIC)
    }  # fmt: skip
    assert longer == {
        CLASSIC: [len(CERTIFICATE), 0, 0],
        PatternId.XK_CLASSIC: [0, 0, len(CERTIFICATE)],
    }


@every
@pytest.mark.requirement("VPPN-2.2-01")
def test_a_provider_may_show_a_certificate_in_message_2_and_at_each_rekey(
    pattern: PatternId,
) -> None:
    renewed = [CERTIFICATE]
    device = device_config(pattern, limits=EpochLimits(rekey_ns=NS_PER_S, spread_ns=1))
    pair = SealedPair(device, provider_config(renewed=lambda: renewed[-1]))
    pair.energise()
    shown = identity_of(pair, SINK)
    assert shown == Identity(pattern, PROVIDER.public, CERTIFICATE)
    renewed.append(b"renewed")
    step(pair, 1001)
    pair.exchange()
    assert pair.one(SINK, TunnelRekeyed).identity.certificate == b"renewed"


class Stranger:
    """An initiator by hand, who may say what no session of ours says."""

    def __init__(self, pattern: PatternId, peer: bytes = PROVIDER.public, **keys: object) -> None:
        self.pattern = pattern
        static = None if pattern in NKS else DEVICE
        self.handshake = Handshake(
            PROTOCOLS[pattern],
            is_initiator=True,
            entropy=counting_entropy(3),
            prologue=prologue(pattern),
            static=static,
            remote_static=peer,
            **keys,  # type: ignore[arg-type]
        )

    def first(self, payload: Payload) -> bytes:
        message = self.handshake.write_message(payload.encode())
        return encode_message(MESSAGE_1, 0, bytes([self.pattern, 0]) + message)


@pytest.mark.requirement("VPPN-2.2-01")
@pytest.mark.parametrize("pattern", [*NKS, *XKS], ids=lambda pattern: pattern.word)
def test_a_certificate_where_no_key_was_proved_is_refused(pattern: PatternId) -> None:
    for certificate, code in ((CERTIFICATE, 207), (b"", 0)):
        pair = SealedPair()
        octets = Stranger(pattern).first(Payload(START + UNIX_OFFSET, certificate))
        pair.tunnels[SOURCE].receive_data(octets, pair.now)
        pair.collect()
        assert code_of(pair, SOURCE) == code


# ---- who does not get in ------------------------------------------------------------------------


@every
@pytest.mark.requirement("VPPN-2.1-03", "VPPN-2.2-03")
def test_a_provider_with_another_key_is_not_found(pattern: PatternId) -> None:
    pair = asking(device_config(pattern), provider_config(key=STRANGER))
    pair.exchange()
    assert code_of(pair, SOURCE) == 509
    assert code_of(pair, SINK) == 208
    assert all(is_dead(pair, side) for side in (SINK, SOURCE))
    assert identity_of(pair, SINK) is identity_of(pair, SOURCE) is None


@every
@pytest.mark.requirement("VPPN-2.2-03")
def test_a_peer_that_says_nothing_more_is_left_after_5_s(pattern: PatternId) -> None:
    """Silence at each place of the handshake; nothing is said then."""
    assert SealConfig().opening_ns == OPENING_NS == 5 * NS_PER_S
    for count in range(3):
        pair = asking(device_config(pattern))
        for turn in range(count):
            pair.pump(turn % 2)
        pair.tunnels[count % 2].data_to_send()
        for side, tunnel in enumerate(pair.tunnels):
            is_done = tunnel.session.is_confirmed
            tunnel.handle_timer(START + OPENING_NS - 1)
            tunnel.data_to_send()
            pair.collect()
            assert code_of(pair, side) == 0
            tunnel.handle_timer(START + OPENING_NS)
            pair.collect()
            assert code_of(pair, side) == (0 if is_done else Reason.TIMEOUT)
            if not is_done:
                assert tunnel.data_to_send() == b""
                assert is_dead(pair, side)
                assert tunnel.get_timer() is None
        assert [tunnel.session.is_confirmed for tunnel in pair.tunnels].count(False) >= 1


@pytest.mark.requirement("VPPN-2.2-09", "VPPN-2.1-02")
def test_classic_only_where_both_allow_it() -> None:
    for pattern in PatternId:
        if pattern.is_classic:
            with pytest.raises(LocalProtocolError, match="classic handshakes are not allowed"):
                SealedPair(device_config(pattern, allow_classic=False))
        for allows in (True, False):
            pair = asking(device_config(pattern), provider_config(allow_classic=allows))
            pair.exchange()
            is_in = allows or not pattern.is_classic
            assert code_of(pair, SOURCE) == (0 if is_in else 509)
            assert (identity_of(pair, SINK) is not None) is is_in


@pytest.mark.requirement("VPPN-2.1-02", "VPPN-2.2-09")
def test_nobody_makes_a_hybrid_classic_on_the_path() -> None:
    """Another id, the half of ML-KEM cut out, or both: no handshake, whatever is allowed."""
    for pattern in (PatternId.IK, PatternId.XK, PatternId.NK):
        pair = asking(device_config(pattern))
        octets = pair.tunnels[SINK].data_to_send()
        payload = raw_of(octets)[5]
        sent = bytes(payload[2:])
        stripped = sent[:32] + sent[32 + 1184 + 16 :]
        count = 0
        for other in PatternId:
            for message in (sent, stripped):
                if (other, message) == (pattern, sent):
                    continue
                there = SealedPair()
                bent = encode_message(MESSAGE_1, 0, bytes([other, 0]) + message)
                there.tunnels[SOURCE].receive_data(bent, there.now)
                there.collect()
                assert code_of(there, SOURCE) == 509
                assert is_sealed(bent)
                count += 1
        assert count == 11


@pytest.mark.requirement("VPPN-2.1-02")
def test_without_ml_kem_hybrids_are_refused_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {}
    for pattern in PatternId:
        first[pattern] = asking(device_config(pattern)).tunnels[SINK].data_to_send()
    monkeypatch.setattr(crypto, "HAS_KEM", False)
    for pattern in PatternId:
        pair = SealedPair(device_config(CLASSIC))
        pair.tunnels[SOURCE].receive_data(first[pattern], pair.now)
        pair.collect()
        assert code_of(pair, SOURCE) == (0 if pattern.is_classic else 509)
        if not pattern.is_classic:
            with pytest.raises(LocalProtocolError, match="has no ML-KEM-768"):
                SealedPair(device_config(pattern))


@pytest.mark.requirement("VPPN-2.1-03")
@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:4])
def test_points_of_low_order_end_it_wherever_they_stand(point: bytes) -> None:
    for pattern in (CLASSIC, PatternId.XK_CLASSIC, PatternId.NK_CLASSIC, HYBRID):
        pair = asking(device_config(pattern))
        octets = pair.tunnels[SINK].data_to_send()
        # e of message 1
        there = SealedPair()
        there.tunnels[SOURCE].receive_data(octets[:38] + point + octets[70:], there.now)
        there.collect()
        assert code_of(there, SOURCE) == 509
        # e of message 2
        pair.tunnels[SOURCE].receive_data(octets, pair.now)
        answer = pair.tunnels[SOURCE].data_to_send()
        pair.tunnels[SINK].receive_data(answer[:36] + point + answer[68:], pair.now)
        pair.collect()
        assert code_of(pair, SINK) == 509
    # the static key of the provider, as somebody wrote it down
    pair = asking(device_config(CLASSIC, peer=point))
    assert pair.tunnels[SINK].data_to_send() == b""
    # the verbs since the last octets may have a later time: it ends at the next wake-up, at once
    assert pair.tunnels[SINK].get_timer() == pair.now
    pair.tunnels[SINK].handle_timer(pair.now + 1)
    pair.collect()
    assert code_of(pair, SINK) == 509
    # the static key of the device, which only itself can send
    lying = LowKey(point)
    for pattern in (CLASSIC, PatternId.XK_CLASSIC):
        pair = asking(device_config(pattern, key=lying))
        pair.exchange()
        assert code_of(pair, SOURCE) == 509


class LowKey(ExchangeKey):
    """A key whose holder says a point of low order is its public half, and reckons with it."""

    __slots__ = ()

    def __init__(self, public: bytes) -> None:
        super().__init__(bytes([1]) * 32)
        self.public = public

    def exchange(self, public: object) -> bytes:
        # what everybody agrees on with such a point
        return bytes(32)


@pytest.mark.requirement("VPPN-2.1-03")
@pytest.mark.parametrize(
    "public",
    [bytes(1183), bytes(1185), b"\xff" * 1184, b"\x01\x0d" + bytes(1182), b""],
    ids=["short", "long", "not reduced", "q", "none"],
)
def test_a_kem_key_that_is_none_ends_it(public: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    # q itself, 3329 = 0xd01, is the least coefficient that is not reduced

    class Other(crypto.KemKey):
        __slots__ = ()

        def __init__(self, seed: bytes) -> None:
            super().__init__(seed)
            self.public = public

    monkeypatch.setattr("powertcp.vppn.noise.KemKey", Other)
    for pattern in (PatternId.IK, PatternId.XK, PatternId.NK):
        pair = asking(device_config(pattern))
        pair.exchange()
        assert code_of(pair, SOURCE) == 509
        assert identity_of(pair, SINK) is identity_of(pair, SOURCE) is None


@pytest.mark.requirement("VPPN-2.1-03")
@pytest.mark.parametrize("size", [0, 1087, 1089])
def test_a_ciphertext_of_a_wrong_length_ends_it(size: int) -> None:
    for pattern in (PatternId.IK, PatternId.XK, PatternId.NK):
        lying = provider_config(encapsulate=lambda public: (bytes(32), bytes(size)))
        pair = asking(device_config(pattern), lying)
        pair.exchange()
        assert code_of(pair, SINK) == 509
        assert identity_of(pair, SINK) is identity_of(pair, SOURCE) is None


@pytest.mark.requirement("VPPN-4-07", "VPPN-2.2-05")
def test_messages_out_of_place_are_refused() -> None:
    pair = asking(device_config(CLASSIC))
    first = pair.pump(SINK)
    second = pair.tunnels[SOURCE].data_to_send()
    area = encode_options(Options(seal=Seal(0, 0)))
    third = pack_segment(SegmentType.SEALED, Flag.ACK, 0, 0, area, bytes(64))
    transport = pack_segment(SegmentType.SEALED, 0, 0, 0, area, bytes(64))
    other = pack_segment(SegmentType.SEALED, Flag.FIN, 0, 0, area, bytes(64))
    later = encode_message(MESSAGE_1, 1, bytes([CLASSIC, 0]) + bytes(96))
    for side, heard, codes in (
        (SOURCE, [second], [509]),
        (SOURCE, [third], [509]),
        (SOURCE, [transport], [509]),
        (SOURCE, [other], [509]),
        (SOURCE, [later], [510]),
        (SOURCE, [first, first], [510]),
        (SOURCE, [first, third], [509]),
        (SINK, [first], [509]),
        (SINK, [third], [509]),
        (SINK, [transport], [509]),
        (SINK, [second, second], [510]),
    ):
        there = asking(device_config(CLASSIC))
        there.tunnels[SINK].data_to_send()
        for octets in heard:
            there.tunnels[side].receive_data(octets, there.now)
        there.collect()
        assert [code_of(there, side)] == codes


# ---- what a stranger is told --------------------------------------------------------------------

GARBAGE: dict[str, Callable[[], bytes]] = {
    "clear SYN": lambda: encode_clear_syn(),
    "HTTP": lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": lambda: bytes(100),
    "another pattern": lambda: encode_message(MESSAGE_1, 0, bytes([9, 0]) + bytes(96)),
    "another key": lambda: Stranger(CLASSIC, STRANGER.public).first(Payload(START)),
    "bad epoch": lambda: encode_message(MESSAGE_1, 7, bytes([CLASSIC, 0]) + bytes(96)),
    "transport": lambda: pack_segment(
        SegmentType.SEALED, 0, 1, 0, encode_options(Options(seal=Seal(0, 0))), bytes(60)
    ),
    "no seal": lambda: pack_segment(SegmentType.SEALED, Flag.SYN, 0, 0, b"", bytes(60)),
}


def encode_clear_syn() -> bytes:
    pair = SealedPair()
    pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    return pair.sink.data_to_send()


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.requirement("VPPN-2.2-03")
def test_stealth_says_not_one_octet_and_closes_at_t_syn(garbage: str) -> None:
    octets = GARBAGE[garbage]()
    # even where somebody has allowed clear connections: stealth requires seals
    for may_be_clear in (False, True):
        pair = SealedPair(provider=provider_config(stealth=True), may_be_clear=may_be_clear)
        tunnel = pair.tunnels[SOURCE]
        for part in (octets[:3], octets[3:], octets):
            tunnel.receive_data(part, pair.now)
            assert (tunnel.data_to_send(), tunnel.queued) == (b"", 0)
        pair.collect()
        assert pair.events[SOURCE] == []
        assert tunnel.get_timer() == START + OPENING_NS
        tunnel.handle_timer(START + OPENING_NS)
        assert (tunnel.data_to_send(), tunnel.get_timer()) == (b"", None)
        pair.collect()
        assert code_of(pair, SOURCE) == 507
        assert is_dead(pair, SOURCE)


@pytest.mark.requirement("VPPN-2.2-03", "VPPN-3-08")
def test_stealth_says_nothing_until_the_handshake_is_done() -> None:
    for stealth in (False, True):
        pair = asking(device_config(CLASSIC), provider_config(stealth=stealth))
        pair.pump(SINK)
        pair.tunnels[SOURCE].data_to_send()
        pair.tunnels[SOURCE].receive_data(bytes(40), pair.now)
        assert (pair.tunnels[SOURCE].data_to_send() == b"") is stealth
        # to somebody who is proven it says what is wrong
        pair = SealedPair(device_config(CLASSIC), provider_config(stealth=stealth))
        pair.energise()
        pair.tunnels[SOURCE].receive_data(bytes(40), pair.now)
        assert is_sealed(pair.tunnels[SOURCE].data_to_send())


@pytest.mark.requirement("VPPN-2.2-03")
def test_a_stealthy_responder_answers_who_knows_its_key() -> None:
    pair = SealedPair(provider=provider_config(stealth=True))
    flow = pair.energise()
    assert pair.deliver(flow)


@pytest.mark.requirement("VPPN-2.1-03", "VPPN-3-08")
def test_without_stealth_a_stranger_gets_one_rst_with_the_code_and_no_more() -> None:
    for name, code in (
        ("another key", 509),
        ("zeros", None),
        ("transport", 509),
        ("bad epoch", 510),
    ):
        pair = SealedPair()
        tunnel = pair.tunnels[SOURCE]
        tunnel.receive_data(GARBAGE[name](), pair.now)
        said = segments(tunnel.data_to_send())
        if code is None:
            assert said == []  # no sealed connection is required here either
            continue
        (rst,) = said
        assert isinstance(rst, Control)
        assert (rst.flow, rst.flags) == (0, Flag.RST)
        assert rst.options.reason is not None
        assert (rst.options.reason.code, rst.options.reason.text) == (code, "")
        tunnel.receive_data(GARBAGE[name](), pair.now)
        assert tunnel.data_to_send() == b""


@pytest.mark.requirement("VPPN-2.2-04", "VPPN-2.2-08")
def test_the_first_segment_decides_where_sealing_is_optional() -> None:
    pair = SealedPair(may_be_clear=True)
    flow = pair.energise()
    assert pair.deliver(flow)
    assert all(tunnel.is_sealed for tunnel in pair.tunnels)
    there = SealedPair(may_be_clear=True)
    syn = encode_clear_syn()
    for octet in syn:
        there.tunnels[SOURCE].receive_data(bytes([octet]), there.now)
    assert not there.tunnels[SOURCE].is_sealed
    there.collect()
    assert there.tunnels[SOURCE].identity is None
    assert [type(event).__name__ for event in there.events[SOURCE]] == ["PowerRequested"]
    # from here on it is clear, and a message 1 is nothing special
    first = asking(device_config()).tunnels[SINK].data_to_send()
    there.tunnels[SOURCE].receive_data(first, there.now)
    assert not is_sealed(there.tunnels[SOURCE].data_to_send())


@pytest.mark.requirement("VPPN-2.2-08")
def test_a_tunnel_that_must_be_sealed_hears_no_clear_segment() -> None:
    pair = SealedPair()
    pair.tunnels[SOURCE].receive_data(encode_clear_syn(), pair.now)
    pair.collect()
    assert pair.events[SOURCE] == []
    assert pair.source.flows == ()


# ---- faults -------------------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-3-08")
@pytest.mark.parametrize("side", [SINK, SOURCE])
def test_a_fault_is_told_sealed_once_and_cuts_the_connection(side: int) -> None:
    """Flows are held, tickets stay good: see the tests of resuming."""
    pair = SealedPair(device_config(CLASSIC))
    pair.energise()
    pair.collect()
    area = encode_options(Options(seal=Seal(0, 12345)))
    wrong = pack_segment(SegmentType.SEALED, 0, 1, 0, area, bytes(60))
    old = pack_segment(
        SegmentType.SEALED, 0, 1, 0, encode_options(Options(seal=Seal(9, 0))), bytes(60)
    )
    del pair.events[0][:], pair.events[1][:]
    octets, code = ((wrong, 509), (old, 510))[side]
    pair.tunnels[side].receive_data(octets, pair.now)
    told = pair.pump(side)
    assert is_sealed(told)
    assert code_of(pair, side) == code
    names = [type(event).__name__ for event in pair.events[side]]
    closed = ["FlowClosed"] * (side == SINK)
    assert names == ["FlowCut", *closed, "ConnectionTerminated"]
    (alerted,) = pair.events[1 - side]
    assert (alerted.flow, alerted.severity) == (0, 3)  # type: ignore[attr-defined]
    assert alerted.refusal.code == code  # type: ignore[attr-defined]
    # deaf and mute from here on
    pair.tunnels[side].receive_data(octets, pair.now)
    assert (pair.tunnels[side].data_to_send(), pair.tunnels[side].next_event()) == (b"", None)


@pytest.mark.requirement("VPPN-3-08")
def test_what_caused_a_fault_has_no_other_effect() -> None:
    """A clear RST with a reason is told to people and ends no flow as an RST does."""
    pair = SealedPair(device_config(CLASSIC))
    pair.energise()
    del pair.events[0][:]
    rst = Control(1, Flag.RST, 0, Options(reason=None))
    pair.tunnels[SINK].receive_data(encode_segment(rst), pair.now)
    pair.collect()
    (broken,) = pair.take(SINK, TunnelBroken)
    assert broken.refusal.code == 208
    names = [type(event).__name__ for event in pair.events[SINK]]
    assert names == ["FlowCut", "FlowClosed", "ConnectionTerminated"]


# ---- configs ------------------------------------------------------------------------------------


def test_a_session_that_cannot_hold_a_handshake_is_not_begun() -> None:
    for config, is_initiator, said in (
        (SealConfig(key=DEVICE), True, "needs the peer's static key"),
        (SealConfig(peer=PROVIDER.public), True, "needs a static key"),
        (SealConfig(key=DEVICE, peer=b"short"), True, "each key of 32 octets"),
        (SealConfig(), False, "a responder needs a static key"),
    ):
        with pytest.raises(LocalProtocolError, match=said):
            Session(config, is_initiator=is_initiator, entropy=counting_entropy())
    # an own key that the pattern does not use does no harm
    config = SealConfig(key=DEVICE, peer=PROVIDER.public, pattern=PatternId.NK)
    pair = SealedPair(config)
    pair.energise()
    assert pair.one(SOURCE, TunnelOpened).identity.key is None


def test_nothing_can_be_sealed_while_message_2_is_awaited() -> None:
    session = Session(device_config(CLASSIC), is_initiator=True, entropy=counting_entropy())
    session.put(b"", 16384, START)
    assert not session.takes_plain
    with pytest.raises(LocalProtocolError, match="nothing can be sealed now"):
        session.put(b"", 16384, START)
    with pytest.raises(DecodeError):
        session.handle_timer(START + OPENING_NS)


def test_parties_are_known_by_their_key() -> None:
    one = Identity(HYBRID, DEVICE.public, b"")
    assert one.party == replace(one, pattern=PatternId.XK, certificate=b"x").party
    assert len({one.party, Identity(HYBRID, STRANGER.public, b"").party,
                Identity(PatternId.NK, None, b"").party, b""}) == 4  # fmt: skip
