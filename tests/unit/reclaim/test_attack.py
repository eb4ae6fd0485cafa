"""The hostile provider: what it sends is exactly what it says of itself, lies included."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from powertcp.dve import EnergyRegister, block_header, integrate
from powertcp.errors import DecodeError
from powertcp.reclaim.attack import DRAIN_NS, SCENARIO_TERMS, SEND_MAX, Attack, AttackTerms, Style
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_MS, NS_PER_S
from powertcp.wire.frames import MAX_MSP, Splitter, credit_segment, decode_segment, encode_segment
from powertcp.wire.options import Options, Sampling
from powertcp.wire.segments import (
    Blocked,
    Control,
    Data,
    MaintainProbe,
    Ready,
    Sealed,
    Segment,
    Trip,
)

PLENTY = credit_segment(1, 0, 10**15)
# FWRL section 5: 31,578.947368 J are what a room of 30,000 J takes in at 95 %
ROOM_UJ = 30_000_000_000 * 100 // 95


def segments(octets: bytes) -> list[Segment]:
    """Decode whole segments."""
    splitter = Splitter(MAX_MSP)
    found = [decode_segment(raw) for raw in splitter.receive(octets)]
    assert splitter.error is None
    assert splitter.pending == 0
    return [one for one in found if one is not None]


def run(attack: Attack, credit: bytes = PLENTY, until: int = 100 * NS_PER_S) -> Iterator[bytes]:
    """Drive `attack` by its own timers, with `credit` after each of its writes."""
    now = 0
    while not attack.is_over and now < until:
        octets = attack.data_to_send(now)
        yield octets
        if octets:
            attack.receive(credit, now)
        due = attack.get_timer()
        if due is None:
            return
        now = max(now, due)


def run_from(attack: Attack, now: int) -> Iterator[bytes]:
    """Drive an attack that has begun."""
    while not attack.is_over and (due := attack.get_timer()) is not None:
        now = max(now, due)
        yield attack.data_to_send(now)


def energy_of(octets: bytes) -> tuple[int, int]:
    """Integrate what was sent; return uJ and the greatest excess of a header."""
    register, excess = EnergyRegister(Sampling(1000)), 0
    counter = 0
    for segment in segments(octets):
        if isinstance(segment, Data | Control):
            excess = max(excess, segment.esn - register.esn_uj)
        if isinstance(segment, Data):
            seen, _, _, n = block_header(segment.payload)
            assert seen == counter
            counter += n
            register.add(integrate(segment.payload))
    return register.esn_uj, excess


@pytest.mark.parametrize(
    ("name", "sent_uj", "claimed_uj", "blocks"),
    [
        ("S1", 60_000_000_000, 0, 600),
        ("S2", 61_599_000_000, 0, 600),
        ("S4", 60_000_000_000, 0, 60_000),
        ("S7", 60_000_000_000, 540_000_000_000, 600),
    ],
)
def test_each_attack_sends_what_its_scenario_says(
    name: str, sent_uj: int, claimed_uj: int, blocks: int
) -> None:
    attack = Attack(SCENARIO_TERMS[name])
    octets = b"".join(run(attack))
    assert (attack.sent_uj, attack.claimed_uj, attack.blocks) == (sent_uj, claimed_uj, blocks)
    assert energy_of(octets) == (sent_uj, claimed_uj)
    assert attack.blocked == 0


def test_every_scenario_is_one_kilowatt_for_a_minute() -> None:
    assert sorted(SCENARIO_TERMS, key=lambda name: int(name[1:])) == [f"S{n}" for n in range(1, 11)]
    for terms in SCENARIO_TERMS.values():
        assert terms.power_mw == 1_000_000
        assert terms.duration_ns == 60 * NS_PER_S
    assert SCENARIO_TERMS["S1"].block_ns == 100 * NS_PER_MS


def test_credit_is_filled_to_the_microjoule_and_not_beyond() -> None:
    attack = Attack(SCENARIO_TERMS["S5"])
    octets = b"".join(run(attack, credit_segment(1, 0, ROOM_UJ)))
    assert attack.sent_uj == ROOM_UJ == 31_578_947_368
    assert energy_of(octets) == (ROOM_UJ, 0)
    blocks = [one for one in segments(octets) if isinstance(one, Data)]
    assert len(blocks) == 316
    assert block_header(blocks[-1].payload)[3] == 79


@pytest.mark.parametrize("more_uj", [1, 999_999, 1_000_000, 1_000_001, 99_999_999, 123_456_789])
def test_any_credit_is_filled_exactly(more_uj: int) -> None:
    attack = Attack(AttackTerms(duration_ns=2 * NS_PER_S))
    octets = b"".join(run(attack, credit_segment(1, 0, 100_000_000 + more_uj)))
    assert attack.sent_uj == energy_of(octets)[0] == 100_000_000 + more_uj


def test_a_step_too_coarse_for_the_credit_stays_below_it() -> None:
    terms = AttackTerms(voltage_mv=400_000_000, duration_ns=NS_PER_S)
    attack = Attack(terms)
    first_uj = 400_000 * 4 * 100 * 1000
    limit_uj = first_uj + 399
    octets = b"".join(run(attack, credit_segment(1, 0, limit_uj)))
    assert attack.sent_uj == energy_of(octets)[0] == first_uj


def test_the_first_block_comes_before_any_credit_and_nothing_after_it() -> None:
    attack = Attack(AttackTerms())
    data, blocked = segments(attack.data_to_send(0) + attack.data_to_send(100 * NS_PER_MS))
    assert isinstance(data, Data)
    assert blocked == Blocked(1, 100_000_000, 0)
    assert attack.sent_uj == 100_000_000


def test_blocked_is_said_once_and_then_each_second() -> None:
    attack = Attack(AttackTerms())
    attack.data_to_send(0)
    said = [
        at
        for at in range(0, 3_500 * NS_PER_MS, 50 * NS_PER_MS)
        if any(isinstance(one, Blocked) for one in segments(attack.data_to_send(at)))
    ]
    assert said == [100 * NS_PER_MS, 1_100 * NS_PER_MS, 2_100 * NS_PER_MS, 3_100 * NS_PER_MS]


def test_what_was_not_sent_for_want_of_credit_is_lost() -> None:
    attack = Attack(AttackTerms())
    attack.data_to_send(0)
    attack.data_to_send(100 * NS_PER_MS)
    attack.receive(PLENTY, 10 * NS_PER_S)
    sent = segments(attack.data_to_send(10 * NS_PER_S))
    assert len(sent) == 1
    b"".join(run_from(attack, 10 * NS_PER_S))
    assert attack.sent_uj == 50_100_000_000


def test_credit_that_says_nothing_new_wakes_nobody() -> None:
    attack = Attack(AttackTerms())
    attack.data_to_send(0)
    attack.receive(credit_segment(1, 0, 100_000_000), 0)
    assert segments(attack.data_to_send(100 * NS_PER_MS)) == [Blocked(1, 100_000_000, 100_000_000)]
    attack.receive(credit_segment(1, 0, 100_000_000), 100 * NS_PER_MS)
    assert attack.data_to_send(200 * NS_PER_MS) == b""
    assert attack.blocked == 1


def test_who_ignores_credit_sends_all_of_it() -> None:
    attack = Attack(AttackTerms(honours_credit=False))
    octets = b"".join(run(attack, credit_segment(1, 0, 5)))
    assert attack.sent_uj == energy_of(octets)[0] == 60_000_000_000


def test_what_is_late_is_sent_at_once_and_in_bounded_pieces() -> None:
    attack = Attack(
        AttackTerms(honours_credit=False, block_samples=2000, duration_ns=200 * NS_PER_S)
    )
    attack.data_to_send(0)
    octets = attack.data_to_send(100 * NS_PER_S)
    assert SEND_MAX <= len(octets) < SEND_MAX + 20 + MAX_MSP
    rest = b"".join(iter(lambda: attack.data_to_send(100 * NS_PER_S), b""))
    assert attack.sent_uj == 51 * 2_000_000_000
    assert rest


def test_a_surge_is_one_sample_and_no_credit_stops_it() -> None:
    attack = Attack(AttackTerms(spike_block=1))
    attack.data_to_send(0)
    (block,) = segments(attack.data_to_send(100 * NS_PER_MS))
    assert isinstance(block, Data)
    assert integrate(block.payload) == (99 * 250_000 + 400_000_000) * 4_000_000
    assert attack.sent_uj == 100_000_000 + 1_699_000_000


@pytest.mark.parametrize("flags", [Flag.RST, Flag.FIN | Flag.ACK])
def test_it_ends_when_its_flow_does(flags: Flag) -> None:
    attack = Attack(AttackTerms())
    attack.data_to_send(0)
    attack.receive(encode_segment(Control(1, flags)), NS_PER_MS)
    assert attack.is_over
    assert attack.get_timer() is None
    assert attack.data_to_send(NS_PER_S) == b""


@pytest.mark.parametrize(
    "said",
    [Control(1, Flag.FIN), Trip(1, 0, Options(reason=Refusal(Reason.UNSOLICITED, 5, 0)))],
)
def test_it_answers_goodbye_and_goes(said: Segment) -> None:
    attack = Attack(AttackTerms())
    attack.data_to_send(0)
    attack.receive(encode_segment(said), NS_PER_MS)
    assert not attack.is_over
    answer = segments(attack.data_to_send(NS_PER_MS))
    assert answer == [Control(1, Flag.FIN | Flag.ACK, 100_000_000)]
    assert attack.is_over


@pytest.mark.parametrize("flags", [Flag.RST, Flag.FIN])
def test_the_stubborn_go_on_until_the_connection_is_over(flags: Flag) -> None:
    attack = Attack(AttackTerms(is_stubborn=True, honours_credit=False))
    attack.data_to_send(0)
    attack.receive(encode_segment(Control(1, flags)), NS_PER_MS)
    assert segments(attack.data_to_send(100 * NS_PER_MS))
    attack.receive(encode_segment(Control(0, Flag.RST)), 101 * NS_PER_MS)
    assert attack.is_over


def test_at_the_end_it_says_goodbye_and_waits_for_the_answer() -> None:
    attack = Attack(AttackTerms(duration_ns=NS_PER_S, honours_credit=False))
    octets = b"".join(attack.data_to_send(at * 100 * NS_PER_MS) for at in range(11))
    assert segments(octets)[-1] == Control(1, Flag.FIN, 1_000_000_000)
    assert attack.get_timer() == NS_PER_S + DRAIN_NS
    assert not attack.is_over
    attack.data_to_send(NS_PER_S + DRAIN_NS)
    assert attack.is_over


def test_flows_take_turns_and_each_has_its_own_credit() -> None:
    attack = Attack(AttackTerms(flows=3, flow=2))
    first = segments(b"".join(attack.data_to_send(at * 100 * NS_PER_MS) for at in range(3)))
    assert [one.flow for one in first if isinstance(one, Data)] == [2, 4, 6]
    attack.receive(credit_segment(4, 0, 10**12), 250 * NS_PER_MS)
    then = segments(b"".join(attack.data_to_send(at * 100 * NS_PER_MS) for at in range(3, 6)))
    assert [one.flow for one in then if isinstance(one, Data)] == [4, 4, 4]
    for number in (2, 4):
        attack.receive(encode_segment(Control(number, Flag.RST)), NS_PER_S)
    assert not attack.is_over
    attack.receive(encode_segment(Control(6, Flag.RST)), NS_PER_S)
    assert attack.is_over


def test_an_answer_nobody_asked_for_is_followed_by_ready() -> None:
    attack = Attack(AttackTerms(style=Style.ANSWER))
    offer, data = segments(attack.data_to_send(0))
    assert isinstance(offer, Control)
    assert offer.flags == Flag.SYN | Flag.ACK
    assert offer.options.sampling == Sampling(1000)
    (grant,) = offer.options.profiles
    assert (grant.voltage_mv, grant.current_ma, grant.lease_s) == (250_000, 4_000, 60)
    assert isinstance(data, Data)
    attack.receive(encode_segment(Control(1, Flag.ACK, 0, offer.options)), NS_PER_MS)
    (ready,) = segments(attack.data_to_send(NS_PER_MS))
    assert isinstance(ready, Ready)
    assert (ready.options.contract, ready.options.profiles, ready.esn) == (1, (grant,), 100_000_000)


def test_sealed_segments_claim_and_are_worth_nothing() -> None:
    attack = Attack(SCENARIO_TERMS["S3"])
    found = segments(b"".join(run(attack)))
    assert all(isinstance(one, Sealed) for one in found)
    assert [one.esn for one in found[:2] if isinstance(one, Sealed)] == [100_000_000, 200_000_000]
    assert attack.sent_uj == 0
    assert attack.claimed_uj == 60_000_000_000
    assert attack.is_over


def test_junk_is_framed_and_decodes_or_is_refused() -> None:
    attack = Attack(AttackTerms(style=Style.JUNK, block_samples=10, duration_ns=20 * NS_PER_S))
    splitter = Splitter(MAX_MSP)
    raws = splitter.receive(b"".join(run(attack)))
    assert splitter.error is None
    assert len(raws) == 2000
    refused = 0
    for raw in raws:
        try:
            decode_segment(raw)
        except DecodeError:
            refused += 1
    assert 500 < refused < 2000


def test_equal_terms_give_equal_octets_and_another_seed_does_not() -> None:
    terms = AttackTerms(style=Style.JUNK, duration_ns=5 * NS_PER_S)
    one, same = (b"".join(run(Attack(terms))) for _ in range(2))
    assert one == same
    assert one != b"".join(run(Attack(replace(terms, seed=1))))


def test_probes_are_asked_and_answered() -> None:
    attack = Attack(AttackTerms(probe_ns=NS_PER_S, honours_credit=False))
    probe, data = segments(attack.data_to_send(0))
    assert probe == MaintainProbe(1, 0, 0)
    assert isinstance(data, Data)
    attack.receive(encode_segment(MaintainProbe(7, 0, 99)), NS_PER_MS)
    assert segments(attack.data_to_send(NS_PER_MS)) == [MaintainProbe(0, 7, 99)]
    assert attack.answers == {"MaintainProbe": 1}
    later = segments(b"".join(attack.data_to_send(at * 100 * NS_PER_MS) for at in range(1, 11)))
    assert [one.nonce for one in later if isinstance(one, MaintainProbe)] == [2]


def test_answers_may_come_in_pieces_and_may_be_anything() -> None:
    said = (
        PLENTY
        + encode_segment(Control(9, Flag.RST))
        + encode_segment(Blocked(1, 0, 0))
        + bytes.fromhex("504f01057700000000000001")
        + bytes(8)
    )
    whole, pieces = Attack(AttackTerms()), Attack(AttackTerms())
    whole.receive(said, 0)
    for octet in said:
        pieces.receive(bytes((octet,)), 0)
    assert (
        whole.answers == pieces.answers == {"Credit": 1, "Control": 1, "Blocked": 1, "NoneType": 1}
    )
    assert whole.credit_uj == 10**15
    whole.receive(b"junk that is no segment at all", 0)
    assert not whole.is_over


def test_headers_never_claim_more_than_their_field_holds() -> None:
    terms = AttackTerms(claim_factor=10**20, duration_ns=NS_PER_S, honours_credit=False)
    attack = Attack(terms)
    found = segments(b"".join(run(attack)))
    assert max(one.esn for one in found if isinstance(one, Data)) == 2**64 - 1
    assert attack.claimed_uj == 2**64 - 1 - 100_000_000
