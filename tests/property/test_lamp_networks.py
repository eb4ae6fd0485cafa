"""Simulated networks in trouble, in octets: what comes late, twice or altered, forged, or at once.

At no time more than a link can carry is held or flows, whatever is said no node stops, and when
all is off nothing is left.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from powertcp.mplamps.engine import Engine, EngineSettings
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.node import LampState, Model, NodeSettings
from powertcp.mplamps.policeman import Policeman
from powertcp.mplamps.rsvp import Style
from powertcp.mplamps.rsvp.admission import Sharing
from powertcp.mplamps.rsvp.settings import HELLO_NS, Settings
from powertcp.mplamps.rsvp.state import MAX_REFRESH_MS, lifetime_ns
from powertcp.mplamps.script import parse_script
from powertcp.mplamps.tariffs import parse_market
from powertcp.mplamps.topology import NodeKind, Topology
from powertcp.mplamps.wires import Wire
from powertcp.units import NS_PER_MS, NS_PER_S, Instant
from tests.standing import check_powers, leftovers

MARKET = """
currency = "EUR"
default = "any"
[[supplier]]
id = 7
name = "Watt and Sons"
sources = ["es1"]
capacity = "2MW"
prices = [{at = "00:00", price = "0.2100/kWh"}]
"""
SPECS = ("street:4", "ring:5", "ladder:4", "tree:2,2,2", "tree:1,2,1,3")
LOSS_PPM = 50_000
REFRESH_NS = 5 * NS_PER_S
# lifetimes, and the time until the last message is given up
SETTLED_NS = 90 * NS_PER_S
# a smaller seed is no simpler day
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
Disturb = Callable[[Wire, bytes, Instant], list[tuple[bytes, int]]]


def city(dice: Random, *, has_pdp: bool = False) -> Topology:
    """Return a small network whose links lose, and of which some carry few lamps."""
    made = generate_topology(dice.choice(SPECS), has_pdp=has_pdp)
    links = [
        replace(
            link,
            loss_ppm=dice.choice((0, LOSS_PPM)),
            capacity_mw=dice.choice((link.capacity_mw, 100_000, 130_000, 200_000)),
        )
        for link in made.links
    ]
    return Topology(made.name, made.base, made.nodes, links)


def day(dice: Random, topology: Topology, style: Style) -> tuple[str, float]:
    """Return a script of random acts, after which all is mended and switched off, and its end."""
    lamps = [node.name for node in topology.of_kind(NodeKind.LAMP)]
    nodes = [node.name for node in topology.nodes if node.kind is not NodeKind.PDP]
    verbs = ["on", "on", "off", "set", "cut", "mend", "derate", "crash", "restart"]
    verbs += ["migrate"] if style is not Style.WF else []
    verbs += ["pdp-down", "pdp-up", "price"] if topology.pdp() is not None else []
    lines, at = ["0s on *"], 0.0
    for _ in range(dice.randrange(8, 20)):
        at += dice.choice((0.001, 0.003, 0.01, 0.5, 1, 3, 7))
        verb, lamp = dice.choice(verbs), dice.choice(lamps)
        link = dice.choice(topology.links).name
        words = {
            "set": f"{lamp} 230V/{dice.choice((100, 260, 400))}mA@50Hz",
            "cut": link, "mend": link, "derate": f"{link} {dice.choice((0, 60, 100, 150, 9999))}W",
            "crash": dice.choice(nodes), "restart": dice.choice(nodes),
            "pdp-down": "", "pdp-up": "", "price": f"7 0.{dice.randrange(10, 60)}",
        }.get(verb, lamp)  # fmt: skip
        lines.append(f"{at:.3f}s {verb} {words}")
    at += dice.choice((0.01, 1, 20))
    lines += [f"{at:.3f}s restart {name}" for name in nodes]
    lines += [f"{at:.3f}s mend {link.name}" for link in topology.links]
    lines += [f"{at:.3f}s pdp-up"] if topology.pdp() is not None else []
    at += dice.choice((0.01, 1, 8))
    return "\n".join([*lines, f"{at:.3f}s off *"]), at


def trouble(dice: Random, rate: float) -> Disturb:
    """Return what doubles, delays and alters messages, each of them at a rate."""

    def disturb(_wire: Wire, octets: bytes, _now: Instant) -> list[tuple[bytes, int]]:
        roll = dice.random()
        if roll < rate:
            late_ns = dice.choice((0, NS_PER_MS, 700 * NS_PER_MS, 3 * NS_PER_S))
            return [(octets, 0), (octets, late_ns)]
        if roll < 2 * rate:
            return [(octets, dice.choice((NS_PER_MS, 50 * NS_PER_MS, 2 * NS_PER_S)))]
        if roll < 3 * rate:
            at, bit = dice.randrange(len(octets)), 1 << dice.randrange(8)
            return [(octets[:at] + bytes((octets[at] ^ bit,)) + octets[at + 1 :], 0)]
        return [(octets, 0)]

    return disturb


@pytest.mark.requirement("MPLA-4.5-03")
@pytest.mark.requirement("MPLA-4.5-08")
@pytest.mark.requirement("MPLA-4.7-03")
@given(seed=st.integers(0, 1 << 32), has_pdp=st.booleans())
@settings(
    max_examples=15, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.too_slow]
)
def test_nothing_is_left_of_a_bad_day(seed: int, has_pdp: bool) -> None:
    dice = Random(seed)
    topology = city(dice, has_pdp=has_pdp)
    style, sharing = dice.choice((Style.SE, Style.FF, Style.WF)), dice.choice(tuple(Sharing))
    model = Model.OVERLAY if style is Style.WF else dice.choice(tuple(Model))
    signalling = Settings(
        is_reliable=dice.random() < 0.8, refresh_ns=REFRESH_NS,
        hello_ns=dice.choice((None, HELLO_NS)),
    )  # fmt: skip
    node = NodeSettings(signalling=signalling, sharing=sharing)
    police = Policeman(topology, parse_market(MARKET, "m", topology), 0) if has_pdp else None
    made = EngineSettings(node=node, style=style, model=model)
    engine = Engine(topology, seed, made, policeman=police)
    engine.disturb = trouble(dice, dice.choice((0, 0.02, 0.1)))
    script, end_s = day(dice, topology, style)
    engine.play(parse_script(script, topology))
    end_ns = round(end_s * NS_PER_S)
    was_lit = 0
    while engine.step(24, end_ns):
        check_powers(engine, style, is_sum=sharing is Sharing.SUM)
        was_lit |= any(lamp.state is LampState.SIGNALLED for lamp in engine.lamps.values())
    event(f"{style.name} {sharing.value}, lit: {bool(was_lit)}, policeman: {has_pdp}")
    engine.disturb = None
    engine.run(end_ns + SETTLED_NS)
    assert leftovers(engine) == []
    assert police is None or len(police) == 0
    assert [node.name for node in engine.nodes() if node.pep is not None and node.pep.untold] == []
    if signalling.hello_ns is None and police is None:
        # no deadline is left either, of a circuit or of a neighbour
        assert [node.get_timer() for node in engine.nodes()] == [None] * len(list(engine.nodes()))


@pytest.mark.requirement("MPLA-4.5-03")
@pytest.mark.requirement("MPLA-4.6-03")
@given(
    capacity_w=st.integers(20, 400),
    gaps_us=st.lists(st.integers(0, 4_000), min_size=6, max_size=6),
    style=st.sampled_from((Style.SE, Style.FF, Style.WF)),
)
@settings(max_examples=40, deadline=None, phases=PHASES)
def test_who_races_for_the_last_ampere_gets_all_of_it_or_nothing(
    capacity_w: int, gaps_us: list[int], style: Style
) -> None:
    made = generate_topology("street:6")
    feeders = ("s1--c1", "s2--c1")
    links = [
        replace(link, capacity_mw=capacity_w * 1_000) if link.name in feeders else link
        for link in made.links
    ]
    topology = Topology(made.name, made.base, made.nodes, links)
    engine = Engine(topology, 1, EngineSettings(node=NodeSettings(), style=style))
    lamps = topology.of_kind(NodeKind.LAMP)
    lines = [f"{gap}us on {lamp.name}" for lamp, gap in zip(lamps, gaps_us, strict=True)]
    engine.play(parse_script("\n".join(lines), topology))
    while engine.step(1, 2 * NS_PER_S):
        check_powers(engine, style)
    states = [lamp.state for lamp in engine.lamps.values()]
    # two feeders, each for whole lamps of 59.8 W; a shared session has no route round a full one
    one_fits = capacity_w * 1_000 // 59_800
    lit = states.count(LampState.SIGNALLED)
    if style is Style.WF:
        assert min(6, one_fits) <= lit <= 2 * one_fits
    else:
        assert lit == min(6, 2 * one_fits)
    for lamp in engine.lamps.values():
        if lamp.state is LampState.DARK:
            assert lamp.refusal is not None
            assert lamp.refusal.code == 100


class Forger:
    """A neighbour that sends what it has heard, altered, to whom it likes."""

    def __init__(self, engine: Engine, dice: Random) -> None:
        self.engine = engine
        self.dice = dice
        self.sent = 0
        self.heard: list[tuple[str, int, bytes]] = []
        engine.disturb = self.hear

    def hear(self, wire: Wire, octets: bytes, _now: Instant) -> list[tuple[bytes, int]]:
        if len(self.heard) < 400:
            self.heard.append((wire.target, wire.number, octets))
        else:
            self.heard[self.dice.randrange(400)] = wire.target, wire.number, octets
        return [(octets, 0)]

    def send(self) -> None:
        """Forge one message; it has no checksum, so that all of it is read."""
        dice, topology = self.dice, self.engine.topology
        name, link, octets = dice.choice(self.heard)
        if dice.random() < 0.15:
            name = dice.choice([node.name for node in self.engine.nodes()])
            link = dice.choice(topology.links_of(name)).number
        forged = bytearray(octets)
        for _ in range(dice.choice((0, 1, 1, 1, 2, 4, 8))):
            at = dice.randrange(8, len(forged))
            old = forged[at]
            one_bit = old ^ 1 << dice.randrange(8)
            forged[at] = dice.choice((one_bit, dice.randrange(256), 0, 255, (old + 1) & 255))
        if dice.random() < 0.1:
            del forged[dice.randrange(8, len(forged)) :]
        if dice.random() < 0.1:
            forged[1] = dice.choice((1, 2, 3, 4, 5, 6, 7, 12, 13, 15, 20, dice.randrange(256)))
        forged[2:4], forged[6:8] = bytes(2), len(forged).to_bytes(2)
        node = self.engine.node(name)
        assert node is not None
        node.receive_rsvp(link, bytes(forged), self.engine.now)
        self.engine.settle(name)
        self.sent += 1


@pytest.mark.requirement("MPLA-4.1-02")
@pytest.mark.requirement("MPLA-4.10-03")
@pytest.mark.parametrize("style", [Style.SE, Style.FF, Style.WF])
@pytest.mark.parametrize("is_reliable", [True, False])
def test_thousands_of_forged_messages_stop_no_node(style: Style, *, is_reliable: bool) -> None:
    dice = Random(f"{style.name}/{is_reliable}")
    topology = generate_topology(dice.choice(("street:3", "ring:3", "ladder:3")))
    node = NodeSettings(signalling=Settings(is_reliable=is_reliable))
    engine = Engine(topology, 1, EngineSettings(node=node, style=style))
    forger = Forger(engine, dice)
    lines = [f"{second}s {verb} lamp-1" for second in range(2, 8, 2) for verb in ("off", "on")]
    engine.play(parse_script("\n".join(["0s on *", *lines, "7s set * 230V/300mA@50Hz"]), topology))
    while engine.now < 8 * NS_PER_S:
        engine.run(engine.now + 20 * NS_PER_MS)
        for _ in range(10):
            forger.send()
        check_powers(engine, style)
    assert forger.sent == 4_000
    engine.disturb = None
    engine.do(parse_script("0s off *", topology)[0])
    # some have stated the longest period of refresh that counts
    engine.run(engine.now + lifetime_ns(MAX_REFRESH_MS) + 1_000 * NS_PER_S)
    assert leftovers(engine) == []
