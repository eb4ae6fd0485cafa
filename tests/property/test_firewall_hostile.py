"""Attacks drawn at random on random policies: nothing raises, opens or grows, every joule is found."""

from dataclasses import replace
from random import Random

import pytest

from powertcp.profile import ProfileType
from powertcp.reclaim import Attack, AttackTerms, End, Style
from powertcp.reclaim.harvest import HARVESTS_MAX
from powertcp.reclaim.screen import Screen
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.options import Sampling
from powertcp.wire.segments import Control, Segment
from tests.conversation import ask, profile, segments
from tests.full import size
from tests.policies import load
from tests.property.test_hostile_peer import cut, lie
from tests.screens import (
    ACCEPT,
    DEVICE,
    ENDS,
    PROVIDER,
    RECLAIM,
    Besieged,
    ScreenedPair,
    firewall_of,
    reservoir_postings,
)

SIEGES = size(150, 10_000)
BLOCKS_MAX = 3_000
CAPACITIES = ("1uJ", "1mJ", "7J", "333J", "5kWh")
VERDICTS = ("drop", "reject 206", "reject 305", "reclaim main", "reclaim main limit 300W burst 1mJ",
            "reclaim main limit 1kW")  # fmt: skip
MATCHES = ("state unsolicited", "state invalid", "state new", "direction in", "power > 500W",
           "sealed yes", "voltage = 250V", "energy > 150J", "src 192.0.2.0/24", "load > 1%")  # fmt: skip
SAMPLINGS = (Sampling(1000), Sampling(10), Sampling(100_000), Sampling(1000, 2_000_000, 10_000),
             Sampling(1000, 4_000_000_000, 4_000_000_000))  # fmt: skip


def policy_of(random: Random) -> str:
    """Return a policy of which no rule accepts anything."""
    full = random.choice(("stop", "heat"))
    percent = random.choice((1, 50, 95, 99))
    lines = [
        f"reservoir main capacity {random.choice(CAPACITIES)} charge {percent}%"
        f" discharge 95% leak 1mW when-full {full}"
        + random.choice(("", " max-in 500W", " max-in 1mW")),
        f"policy {random.choice(VERDICTS[:4])}",
    ]
    matches = random.sample(MATCHES, random.randrange(4))
    lines += [f"rule {one} -> {random.choice(VERDICTS)}" for one in matches]
    return "\n".join(lines)


def terms_of(random: Random) -> AttackTerms:
    style = random.choices(list(Style), (6, 3, 1, 1))[0]
    terms = AttackTerms(
        voltage_mv=random.choice((1, 12_000, 250_000, 1_650_000, 1_650_001, 2_000_000)),
        current_ua=random.choice((1, 4_000_000, 2_000_000_000)),
        sampling=random.choice(SAMPLINGS) if style is Style.ANSWER else Sampling(1000),
        block_samples=random.choice((1, 7, 100, 1000)),
        duration_ns=2 * NS_PER_S if random.random() < 0.9 else 9 * NS_PER_S,
        style=style,
        flow=random.choice((1, 2, 2**31)),
        flows=random.choice((1, 1, 2, 80)),
        claim_factor=random.choice((0, 1, 10, 10**15)),
        spike_block=random.choice((None, None, 0, 3)),
        honours_credit=random.random() < 0.5,
        is_stubborn=random.random() < 0.5,
        probe_ns=random.choice((0, NS_PER_S // 10)),
        seed=random.randrange(1 << 32),
    )
    # a sample each 10 us for 9 s is only slow
    return replace(terms, duration_ns=min(terms.duration_ns, BLOCKS_MAX * terms.block_ns))


class Liar(Attack):
    """An attack of which some segments are changed on their way."""

    def __init__(self, terms: AttackTerms, random: Random, share: float) -> None:
        super().__init__(terms)
        self._random, self._share = random, share

    def data_to_send(self, now: int) -> bytes:
        said = cut(super().data_to_send(now))
        changed = (
            lie(self._random, one) if self._random.random() < self._share else one for one in said
        )
        return b"".join(changed)


def besiege(random: Random) -> Besieged:
    """Let an attack run under one policy, mostly then another, and cut it."""
    side = random.choice((End.CLIENT, End.SERVER))
    terms = terms_of(random)
    siege = Besieged(policy_of(random), terms, side=side, rules={"rating_mw": 1_000_000})
    siege.attack = Liar(terms, random, random.choice((0.0, 0.0, 0.02, 0.3)))
    for _ in range(random.randrange(1, 4)):
        siege.run(random.choice((0.05, 1.1, 3)))
        check(siege)
        if random.random() < 0.6:
            siege.firewall.take(load(policy_of(random)), siege.now)
            siege.exchange()
            check(siege)
    return siege


def is_reset(segment: Segment) -> bool:
    return isinstance(segment, Control) and (segment.flow, segment.flags) == (0, Flag.RST)


def check(siege: Besieged) -> None:
    firewall = siege.firewall
    assert firewall.harvests <= HARVESTS_MAX
    assert len(firewall.flows.live) <= HARVESTS_MAX + 1
    for intake in firewall.intakes.values():
        assert 0 <= intake.reservoir.stored_uj <= intake.reservoir.terms.capacity_uj
        assert intake.promised_uj >= 0
    assert firewall.joules.residual_uj == 0
    assert firewall.joules.authorised_uj == 0
    assert firewall.failures == 0


@pytest.mark.requirement("FWRL-5-01", "FWRL-1-01", "FWRL-3-02", "FWRL-3-04")
def test_no_attack_opens_breaks_or_enriches_itself() -> None:
    powered = claimed = full = over = 0
    for seed in range(SIEGES):
        random = Random(seed)
        siege = besiege(random)
        firewall, screen = siege.firewall, siege.screen
        # nothing but our own last word to the other side
        assert all(is_reset(one) for one in segments(siege.leaked)), seed
        powered += firewall.joules.in_uj > 0
        claimed += firewall.joules.claimed_uj > 0
        full += any(one.reservoir.room_uj == 0 for one in firewall.intakes.values())
        over += screen.is_over
        for end in End:
            screen.cut(end, None, siege.now)
        assert screen.is_over
        assert firewall.harvests == 0, seed
        assert not firewall.flows.live, seed
        assert all(one.promised_uj == 0 for one in firewall.intakes.values()), seed
        assert reservoir_postings(firewall.take_postings()) == firewall.stored_uj, seed
    # what was drawn did reach what it was drawn for
    least = SIEGES // 20
    assert min(powered, claimed, full, over) >= least, (powered, claimed, full, over)


@pytest.mark.requirement("FWRL-5-01", "FWRL-3-04")
def test_what_an_attack_sent_is_what_arrived() -> None:
    for seed in range(SIEGES // 3):
        random = Random(seed)
        terms = replace(
            terms_of(random),
            style=Style.CLEAR,
            sampling=Sampling(1000),
            flows=1,
            is_stubborn=True,
            honours_credit=False,
        )
        text = "reservoir main capacity 5kWh when-full heat\npolicy reclaim main"
        siege = Besieged(text, terms, firewall=firewall_of(text))
        siege.run(10)
        assert siege.firewall.joules.in_uj == siege.attack.sent_uj, seed
        # an account holds 63 bits
        claimed_uj = min(siege.attack.claimed_uj, 2**63 - 1)
        assert siege.firewall.joules.claimed_uj == claimed_uj, seed


class Recorded(ScreenedPair):
    """An honest conversation through a firewall; heard_at: what each side said, and when."""

    def __init__(self) -> None:
        super().__init__(ACCEPT)
        self.heard_at: list[tuple[int, int, bytes]] = []

    def hear(self, side: int, octets: bytes) -> None:
        self.heard_at.append((self.now, side, octets))
        super().hear(side, octets)


def honest_talk() -> list[tuple[int, int, bytes]]:
    """Return a conversation of two flows: new terms, power, a ceiling, a goodbye."""
    pair = Recorded()
    flow, other = pair.energise("12V/2A", "12V/0.5A"), pair.energise("5V/1A")
    pair.run(flow, 4)
    pair.sink.renegotiate(flow, [ask("12V/1A")], now=pair.now)
    pair.exchange()
    pair.source.answer(flow, True, profile=profile("12V/1A"), now=pair.now)
    pair.exchange()
    pair.run(flow, 3)
    ceiling = profile("12V/0.5A", ProfileType.OFFER)
    pair.source.shed(flow, ceiling, refusal=Refusal(Reason.BUDGET), now=pair.now)
    pair.exchange()
    pair.run(other, 3)
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    pair.advance(1.5)
    return pair.heard_at


@pytest.mark.requirement("FWRL-1-01", "FWRL-5-01", "FWRL-3-14")
def test_lies_in_a_conversation_break_nothing() -> None:
    talk = honest_talk()
    assert len(talk) > 20
    alive = passed = reclaimed = 0
    for seed in range(2 * SIEGES):
        random = Random(seed)
        policies = (ACCEPT, f"{ACCEPT}\nrule direction out -> accept limit 5W mark-ece", RECLAIM)
        firewall = firewall_of(random.choice(policies), rating_mw=20_000)
        screen = Screen(firewall, DEVICE, PROVIDER, is_client_inside=random.random() < 0.5)
        for now, side, octets in talk:
            said = [lie(random, one) if random.random() < 0.05 else one for one in cut(octets)]
            screen.leg(ENDS[side]).receive_data(b"".join(said), now)
            if random.random() < 0.02:
                firewall.take(load(random.choice((*policies, policy_of(random)))), now)
            if random.random() < 0.2:
                firewall.tick(now)
                screen.client.handle_timer(now)
            for leg in (screen.client, screen.server):
                passed += len(leg.data_to_send()) > 0
            assert firewall.joules.residual_uj == 0, seed
            assert firewall.failures == 0, seed
        alive += not screen.is_over
        reclaimed += firewall.joules.reclaimed_uj > 0
        for end in End:
            screen.cut(end, None, now)
        assert firewall.harvests == 0, seed
        assert not firewall.flows.live, seed
        assert reservoir_postings(firewall.take_postings()) == firewall.stored_uj, seed
    assert alive > SIEGES // 50
    assert passed > SIEGES
    assert reclaimed > SIEGES // 50
