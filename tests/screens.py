"""Two ends with the firewall between them, and attackers at either side of it. Not collected."""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from powertcp.dve import EnergyRegister, encode_block
from powertcp.machine import Event
from powertcp.profile import ProfileType
from powertcp.reclaim.accounts import FlowAccount, Posting, Ruled
from powertcp.reclaim.attack import Attack, AttackTerms
from powertcp.reclaim.firewall import Firewall
from powertcp.reclaim.harvest import DEFAULT_SAMPLING
from powertcp.reclaim.leg import Hung, Leg
from powertcp.reclaim.policy import Policy, State
from powertcp.reclaim.policy_facts import Facts
from powertcp.reclaim.screen import NameWanted, Screen, TargetWanted
from powertcp.reclaim.track import End
from powertcp.reclaim.watch import Party
from powertcp.registry import Reason, Refusal, SegmentType
from powertcp.units import NS_PER_MS, NS_PER_S
from powertcp.wire.frames import encode_segment, pack_segment
from powertcp.wire.options import Options, Sampling, encode_options
from powertcp.wire.segments import Data, Segment
from tests.conversation import SINK, SOURCE, START, profile, segments
from tests.metered import MeteredPair
from tests.policies import load

EventT = TypeVar("EventT", bound=Event)
ENDS = (End.CLIENT, End.SERVER)
GRANT = profile("12V/1A", ProfileType.GRANT)
RESERVOIR = "reservoir main capacity 5kWh charge 95% discharge 95%"
ACCEPT = "policy accept"
# what nobody asked for is kept, all the rest passes
RECLAIM = f"{RESERVOIR}\npolicy accept\nrule state unsolicited -> reclaim main"
UNREACHABLE = Refusal(Reason.NO_CAPACITY, text="no answer")


def party(text: str, key: bytes | None = None) -> Party:
    """Return who is at ADDRESS:PORT."""
    return Party(text, ipaddress.ip_address(text.rpartition(":")[0].strip("[]")), key)


DEVICE = party("10.0.0.7:4711")
PROVIDER = party("198.51.100.7:3251")
OTHER = party("198.51.100.8:3251")
STRANGER = party("192.0.2.66:4711")


def postings(firewall: Firewall) -> dict[tuple[str, str, str], int]:
    """Take what the ledger is to be told: amounts by (debit, credit, unit)."""
    found: dict[tuple[str, str, str], int] = {}
    for one in firewall.take_postings():
        key = (one.debit, one.credit, one.unit)
        found[key] = found.get(key, 0) + one.amount
    return found


def told(firewall: Firewall) -> list[str]:
    """Return what became of flows, in order."""
    return [event.what for event in firewall.events]


def ruled(firewall: Firewall, what: str) -> Ruled:
    """Return the one event of that kind."""
    (found,) = [event for event in firewall.events if event.what == what]
    return found


def account_named(firewall: Firewall, name: str) -> FlowAccount:
    """Return the account of a flow."""
    found = firewall.flows.find(name)
    assert found is not None, name
    return found


def joules(firewall: Firewall) -> tuple[int, int, int, int]:
    """Return what came, was passed on, kept and lost: uJ."""
    sums = firewall.joules
    return sums.in_uj, sums.authorised_uj, sums.reclaimed_uj, sums.heat_uj


def reservoir_postings(posted: Sequence[Posting]) -> int:
    """Return by how much the ledger says that reservoirs have grown: uJ."""
    sum_uj = 0
    for one in posted:
        sum_uj += one.amount * one.debit.startswith("reservoir:")
        sum_uj -= one.amount * one.credit.startswith("reservoir:")
    return sum_uj


class Judged:
    """Every evaluation of a firewall: the state and the line that decided."""

    def __init__(self, firewall: Firewall) -> None:
        self.facts: list[Facts] = []
        self.lines: list[tuple[State | None, int]] = []
        firewall.on_judged = self._hear

    def _hear(self, _: FlowAccount, facts: Facts, decision: Any) -> None:
        self.facts.append(facts)
        self.lines.append((facts.state, decision.line))

    @property
    def states(self) -> list[State | None]:
        return [state for state, _ in self.lines]


def firewall_of(policy: str | Policy, *, now: int = START, **options: Any) -> Firewall:
    """Return a firewall under a policy or its text."""
    return Firewall(
        load(policy) if isinstance(policy, str) else policy, node="fw", now=now, **options
    )


def watts(volts_mv: int, current_ua: int, counter: int = 0, samples: int = 100) -> bytes:
    """Return a block of equal samples, at 1 mV and 1 uA."""
    one = np.array([[volts_mv, current_ua]], np.int64)
    return encode_block(counter, np.repeat(one, samples, axis=0))


def worth(*blocks: tuple[int, int, int], sampling: Sampling = DEFAULT_SAMPLING) -> int:
    """Return the energy of (mV, uA, samples), one by one added up: uJ."""
    register = EnergyRegister(sampling)
    for volts_mv, current_ua, samples in blocks:
        register.add(volts_mv * current_ua * samples)
    return register.esn_uj


def power(flow: int, esn: int = 0, volts_mv: int = 12_000, current_ua: int = 1_000_000,
          *, counter: int = 0, samples: int = 100) -> Data:  # fmt: skip
    """Return DATA of equal samples: 1.2 J if nothing else is said."""
    return Data(flow, esn, False, watts(volts_mv, current_ua, counter, samples))


class ScreenedPair(MeteredPair):
    """A device, the firewall and a provider; the device opened the connection.

    target: where it goes, None: as the first SYN names it, in `names`. unreachable: why the far side
    cannot be had. told: what the screen reported. heard, passed: octets of each side as they came
    in, and as they went out to it.
    """

    def __init__(
        self,
        policy: str | Policy = ACCEPT,
        *,
        client: Party = DEVICE,
        target: Party | None = PROVIDER,
        names: Mapping[str | None, Party] | None = None,
        is_client_inside: bool = True,
        passes_other: bool = False,
        firewall: Firewall | None = None,
        chunk: Callable[[bytes], Sequence[bytes]] | None = None,
        rules: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if chunk is not None:
            self.chunk = chunk
        self.firewall = firewall or firewall_of(policy, now=self.now, **(rules or {}))
        self.screen = Screen(
            self.firewall,
            client,
            target,
            is_client_inside=is_client_inside,
            passes_other=passes_other,
        )
        self.names = names or {}
        self.unreachable: Refusal | None = None
        self.resolves = True
        self.told: list[Event] = []
        self.heard: list[list[bytes]] = [[], []]
        self.passed: list[list[bytes]] = [[], []]
        self._is_hung = [False, False]
        self._second = self.now

    @property
    def legs(self) -> tuple[Leg, Leg]:
        return self.screen.client, self.screen.server

    def pump(self, side: int) -> bytes:
        octets = self.carriers[side].data_to_send()
        self.sent[side].extend(segments(octets))
        if octets:
            self.hear(side, octets)
        return octets + self.flush()

    def hear(self, side: int, octets: bytes) -> None:
        """Let the screen hear octets of one side."""
        self.heard[side].append(octets)
        for part in self.chunk(octets):
            self.legs[side].receive_data(part, self.now)
            self._react()

    def flush(self) -> bytes:
        """Carry what the screen says to both ends; a connection that hung up ends for them."""
        self._react()
        octets = b""
        for side, leg in enumerate(self.legs):
            while out := leg.data_to_send():
                self.passed[side].append(out)
                self.carriers[side].receive_data(out, self.now)
                octets += out
            if self.screen.is_over and not self._is_hung[side]:
                self._is_hung[side] = True
                self.carriers[side].receive_eof(self.now)
        self.collect()
        assert self.firewall.joules.residual_uj == 0
        return octets

    def _react(self) -> None:
        for leg in self.legs:
            while (event := leg.next_event()) is not None:
                self.told.append(event)
                if isinstance(event, NameWanted) and self.resolves:
                    found = self.names.get(event.via)
                    self.screen.settle(found, None, self.now)
                elif isinstance(event, TargetWanted) and self.unreachable is not None:
                    self.screen.give_up(self.unreachable, self.now)

    def say(self, side: int, *said: Segment | bytes) -> None:
        """Let the owner of a side say what its machine would not, then exchange."""
        self.hear(
            side, b"".join(one if isinstance(one, bytes) else encode_segment(one) for one in said)
        )
        self.exchange()

    def run(self, flow: int, blocks: int) -> int:
        """Deliver so many blocks, as long as the flow lasts; returns how many were taken."""
        taken = 0
        for _ in range(blocks):
            self.advance(0.1)
            if flow not in self.source.flows:
                break
            taken += self.deliver(flow)
        return taken

    def advance(self, seconds: float, step_ms: int = 100) -> None:
        end = self.now + round(seconds * NS_PER_S)
        while self.now < end:
            self.now = min(self.now + step_ms * NS_PER_MS, end)
            for one in (*self.carriers, self.screen.client):
                one.handle_timer(self.now)
            while self.now - self._second >= NS_PER_S:
                self._second += NS_PER_S
                self.firewall.tick(self.now)
            self.exchange()

    def reload(self, policy: str) -> None:
        """Go by another policy, and exchange."""
        self.firewall.take(load(policy), self.now)
        self.exchange()

    def inject(self, side: int, octets: bytes) -> None:
        """Let `side` hear octets as if the screen had said them."""
        self.carriers[side].receive_data(octets, self.now)
        self.collect()
        self.exchange()

    def account(self, flow: int | str = 1) -> FlowAccount:
        return account_named(self.firewall, f"{self.screen.party.name}/{flow}")

    def octets(self, side: int) -> tuple[bytes, bytes]:
        """Return what `side` said, and what the other one was told."""
        return b"".join(self.heard[side]), b"".join(self.passed[1 - side])

    def were_told(self, side: int) -> list[Segment]:
        """Return what a side was told, the probes left out."""
        return segments(b"".join(self.passed[side]))

    def all(self, kind: type[EventT]) -> list[EventT]:
        return [one for one in self.told if isinstance(one, kind)]

    @property
    def hung(self) -> Hung:
        (hung,) = self.all(Hung)
        return hung

    def cut_one(self, side: int) -> None:
        """One side is gone."""
        self.carriers[side].receive_eof(self.now)
        self._is_hung[side] = True
        self.legs[side].receive_eof(self.now)
        self.exchange()


class Besieged:
    """An attack on one side of a screen, and who says nothing at the other.

    side: whom the attack speaks for. ticks: the firewall's seconds pass here. answers: segments to the attacker. leaked: octets to the other
    side.
    """

    def __init__(
        self,
        policy: str | Policy = RECLAIM,
        terms: AttackTerms | None = None,
        *,
        side: End = End.CLIENT,
        firewall: Firewall | None = None,
        client: Party = STRANGER,
        now: int = START,
        ticks: bool = True,
        rules: Mapping[str, Any] | None = None,
    ) -> None:
        self.now, self._second = now, now if ticks else now + 10**18
        self.firewall = firewall or firewall_of(policy, now=now, **(rules or {}))
        self.screen = Screen(self.firewall, client, PROVIDER, is_client_inside=side is End.SERVER)
        self.leg = self.screen.leg(side)
        self.other = self.screen.leg(side.other)
        self.attack = Attack(terms or AttackTerms())
        self.answers: list[Segment] = []
        self.leaked = b""
        self.told: list[Event] = []

    def exchange(self) -> None:
        """Carry octets both ways until the attack has nothing more to say at this time."""
        while True:
            octets = b"" if self.screen.is_over else self.attack.data_to_send(self.now)
            if octets:
                self.leg.receive_data(octets, self.now)
            answer = self.leg.data_to_send()
            if answer:
                self.answers += segments(answer)
                self.attack.receive(answer, self.now)
            self.leaked += self.other.data_to_send()
            for leg in (self.leg, self.other):
                while (event := leg.next_event()) is not None:
                    self.told.append(event)
            assert self.firewall.joules.residual_uj == 0
            if not octets and not answer:
                return

    def say(self, *said: Segment | bytes) -> list[Segment]:
        """Say something for the attacker; return what is answered."""
        before = len(self.answers)
        for one in said:
            octets = one if isinstance(one, bytes) else encode_segment(one)
            self.leg.receive_data(octets, self.now)
        answer = self.leg.data_to_send()
        self.answers += segments(answer)
        self.leaked += self.other.data_to_send()
        for leg in (self.leg, self.other):
            while (event := leg.next_event()) is not None:
                self.told.append(event)
        assert self.firewall.joules.residual_uj == 0
        return self.answers[before:]

    def wait(self, seconds: float) -> list[Segment]:
        """Let time pass without the attack; return what is said meanwhile."""
        before = len(self.answers)
        end = self.now + round(seconds * NS_PER_S)
        while self.now < end:
            due = [
                at for at in (self.screen.get_timer(), self._second + NS_PER_S) if at is not None
            ]
            self.now = min(end, max(self.now + 1, min(due)))
            self._pass()
            self.say()
        return self.answers[before:]

    def run(self, seconds: float) -> None:
        """Let time pass, from deadline to deadline."""
        end = self.now + round(seconds * NS_PER_S)
        self.exchange()
        while self.now < end and not self.attack.is_over and not self.screen.is_over:
            times = (self.attack.get_timer(), self.screen.get_timer(), self._second + NS_PER_S)
            self.now = min(end, max(self.now, min(at for at in times if at is not None)))
            self._pass()
            self.exchange()

    def _pass(self) -> None:
        while self.now - self._second >= NS_PER_S:
            self._second += NS_PER_S
            self.firewall.tick(self.now)
        due = self.screen.client.get_timer()
        if due is not None and due <= self.now:
            self.screen.client.handle_timer(self.now)

    def account(self, flow: int | str = 1) -> FlowAccount:
        return account_named(self.firewall, f"{self.screen.party.name}/{flow}")

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the answers of one kind."""
        return [one for one in self.answers if isinstance(one, kind)]


def data_with_options(flow: int, esn: int, payload: bytes, **options: Any) -> bytes:
    """Return DATA that has options, as no endpoint of this version sends it."""
    return pack_segment(
        int(SegmentType.DATA), 0, flow, esn, encode_options(Options(**options)), payload
    )


__all__ = [
    "ACCEPT", "DEVICE", "ENDS", "GRANT", "OTHER", "PROVIDER", "RECLAIM", "RESERVOIR", "SINK",
    "SOURCE", "STRANGER", "UNREACHABLE", "Besieged", "Judged", "ScreenedPair", "account_named",
    "data_with_options", "firewall_of", "joules", "party", "postings", "power",
    "reservoir_postings", "ruled", "told", "watts", "worth",
]  # fmt: skip
