"""Random admissions, settlements, releases and deratings, beside a count of all from the start."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from powertcp.mplamps.power import PowerObject
from powertcp.mplamps.rsvp.admission import LinkAdmission, NoRoom, Sharing
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.objects import Sender, Session, Style
from powertcp.mplamps.ted import PRIORITIES, Reservations
from powertcp.mplamps.topology import Link
from powertcp.profile import PowerProfile, ProfileType

STEPS = 60
# octets/s
RATE = 200


@dataclass
class Held:
    """What the count from the start knows of a circuit."""

    mw: int
    rate: int
    holding: int
    style: Style


def greatest(parts: dict[CircuitId, Held], sharing: Sharing, priority: int) -> tuple[int, int]:
    """Return the mW and octets/s of all circuits that hold with a priority or a better one."""
    groups: dict[object, list[Held]] = defaultdict(list)
    for circuit, held in parts.items():
        is_pooled = held.style is Style.SE or (held.style is Style.WF and sharing is Sharing.MAX)
        if held.holding <= priority:
            groups[circuit.session if is_pooled else circuit].append(held)
    return (
        sum(max(held.mw for held in group) for group in groups.values()),
        sum(max(held.rate for held in group) for group in groups.values()),
    )


class Model:
    """A link, and beside it what its circuits hold, counted anew each time."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.capacity_mw = random.randint(0, 400)
        self.sharing = random.choice(list(Sharing))
        link = Link(
            number=1,
            a="a",
            b="b",
            voltage_mv=400_000,
            label=400,
            capacity_mw=self.capacity_mw,
            rate_bps=8 * RATE,
        )
        self.link = LinkAdmission(Reservations(link), link.name, link.voltage_mv, self.sharing)
        self.held: dict[CircuitId, Held] = {}
        self.seen: Counter[str] = Counter()

    def circuit(self) -> tuple[CircuitId, Style]:
        number = self.random.randint(1, 6)
        lamp = IPv4Address("10.0.0.0") + number
        # FF and SE do not mix in a session
        style = (Style.FF, Style.SE, Style.WF)[number % 3]
        owner = IPv4Address(0) if style is Style.WF else lamp
        session = Session(IPv4Address("10.9.9.9"), 1, owner)
        return CircuitId(session, Sender(lamp, self.random.randint(1, 3))), style

    def step(self) -> None:
        draw = self.random.random()
        if draw < 0.6:
            self.admit()
        elif draw < 0.75 and self.held:
            circuit = self.random.choice(sorted(self.held))
            grant_mw = self.random.randint(0, 150)
            self.held[circuit].mw = min(grant_mw, self.held[circuit].mw)
            assert self.link.settle(circuit, grant_mw) == self.held[circuit].mw
        elif draw < 0.9:
            circuit, _ = self.circuit()
            self.link.release(circuit)
            self.held.pop(circuit, None)
        else:
            self.capacity_mw = self.random.randint(0, 400)
            self.drop(self.link.derate(self.capacity_mw), above=-1)

    def admit(self) -> None:
        circuit, style = self.circuit()
        request = PowerProfile.make(ProfileType.REQUEST, 1000, self.random.randint(0, 150))
        least = self.random.choice((None, self.random.randint(0, request.current_ma)))
        minimum = None if least is None else PowerProfile.make(ProfileType.MINIMUM, 1000, least)
        rate, setup = self.random.randint(0, 60), self.random.randrange(PRIORITIES)
        holding = self.random.choice((setup, self.random.randrange(PRIORITIES)))
        others = {who: held for who, held in self.held.items() if who != circuit}

        def fits(mw: int) -> bool:
            # whatever holds less importantly than the setup priority may go
            new = others | {circuit: Held(mw, rate, 0, style)}
            all_mw, all_rate = greatest(new, self.sharing, setup)
            return all_mw <= self.capacity_mw and all_rate <= RATE

        # at 1 V a mA is a mW; to nothing at all nothing is lowered
        least_mw = request.power_mw if least is None else min(max(least, 1), request.power_mw)
        try:
            admitted = self.link.admit(
                circuit, style, PowerObject(request, minimum), rate, setup, holding
            )
        except NoRoom:
            assert not fits(least_mw)
            self.seen["refused"] += 1
            return
        mw = admitted.power.profile.power_mw
        assert least_mw <= mw <= request.power_mw
        assert fits(mw)
        assert mw == request.power_mw or not fits(mw + 1)
        self.seen["lowered" if mw < request.power_mw else "admitted"] += 1
        self.held = others | {circuit: Held(mw, rate, holding, style)}
        self.drop(admitted.preempted, above=setup, but=circuit)

    def drop(
        self, circuits: tuple[CircuitId, ...], above: int, but: CircuitId | None = None
    ) -> None:
        """Check that each was in the way, and that none was more important than one that stays."""
        for circuit in circuits:
            all_mw, all_rate = greatest(self.held, self.sharing, PRIORITIES)
            assert all_mw > self.capacity_mw or all_rate > RATE
            gone = self.held.pop(circuit)
            assert gone.holding > above
            stay = [held.holding for circuit, held in self.held.items() if circuit != but]
            assert gone.holding >= max(stay, default=0)
            self.seen["dropped"] += 1

    def check(self) -> None:
        assert set(self.link) == set(self.held)
        for priority in range(PRIORITIES):
            mw, rate = greatest(self.held, self.sharing, priority)
            assert self.link.free_mw(priority) == self.capacity_mw - mw
            assert self.link.state().free_rate[priority] == RATE - rate
        assert 0 <= self.link.held_mw <= self.capacity_mw


@pytest.mark.requirement("MPLA-4.5-03")
@pytest.mark.requirement("MPLA-4.6-01")
@pytest.mark.requirement("MPLA-4.6-02")
@pytest.mark.requirement("MPLA-4.6-03")
@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_link_ever_holds_more_than_it_has_and_all_of_it_comes_back(random: Random) -> None:
    model = Model(random)
    for _ in range(STEPS):
        model.step()
        model.check()
    for word in model.seen:
        event(word)
    for circuit in list(model.held):
        model.link.release(circuit)
    assert model.link.held_mw == 0
    assert model.link.state().free_rate == (RATE,) * PRIORITIES


def test_the_model_meets_every_outcome() -> None:
    model = Model(Random(4))
    for _ in range(40 * STEPS):
        model.step()
        model.check()
    for word in ("admitted", "lowered", "refused", "dropped"):
        assert model.seen[word] >= 50, word
