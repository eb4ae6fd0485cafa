"""Attacks on the firewall through sockets end as they do without: to the microjoule."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
import trio
import trio.testing

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.dial import listen, parse_address
from powertcp.drivers.firewall import FirewallConfig, FirewallServer
from powertcp.reclaim.attack import Attack
from powertcp.reclaim.firewall import Firewall
from powertcp.reclaim.policy_text import parse_policy
from powertcp.reclaim.scenario import SCENARIOS, Scenario, policy_text
from powertcp.reclaim.simulation import play
from powertcp.reclaim.stage import Journal
from powertcp.units import NS_PER_S

SECONDS = 12
MIDDLE = 60
READ_OCTETS = 65_536
# nothing of an attack passes: nobody connects to it
NOWHERE = ("192.0.2.1", 3251)
NAMES = ("S1", "S2", "S3", "S5", "S7", "S8")


def shortened(name: str) -> Scenario:
    """Return a scenario of 12 s: 120 blocks, and what happens in the middle of it in the 60th."""
    scenario = SCENARIOS[name]
    spike = None if scenario.attack.spike_block is None else MIDDLE
    attack = replace(scenario.attack, duration_ns=SECONDS * NS_PER_S, spike_block=spike)
    policy = policy_text(capacity="6kJ") if name == "S5" else scenario.policy
    return replace(scenario, attack=attack, policy=policy, reload_after=MIDDLE)


class Served:
    """A firewall on a loopback port, its seconds, and the ledger it is to keep."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        policy = parse_policy(scenario.policy.encode(), "scenario.policy")
        self.firewall = Firewall(policy, node="firewall", now=now_ns())
        self.server = FirewallServer(FirewallConfig(upstream=NOWHERE), self.firewall)
        self.journal = Journal(scenario.name)
        self.port = 0

    async def seconds(self) -> None:
        due_s = trio.current_time()
        while True:
            due_s += 1.0
            await trio.sleep_until(due_s)
            self.server.tick(now_ns())
            self.post()

    def post(self) -> None:
        self.journal.post(self.firewall.take_postings(), now_ns())

    def reload(self) -> None:
        policy = parse_policy(self.scenario.reload.encode(), "reloaded.policy")
        self.server.take(policy, now_ns())


@asynccontextmanager
async def serving(scenario: Scenario) -> AsyncIterator[Served]:
    served = Served(scenario)
    listeners = listen([("127.0.0.1", 0)])
    async with trio.open_nursery() as nursery:
        (where,) = await nursery.start(served.server.serve, listeners)
        served.port = parse_address(where)[1]
        nursery.start_soon(served.seconds)
        try:
            yield served
        finally:
            nursery.cancel_scope.cancel()


async def attack(served: Served, attack: Attack) -> None:
    """Attack through a socket until it is over, or the firewall is gone; then hang up."""
    stream = await trio.open_tcp_stream("127.0.0.1", served.port)
    news = trio.Event()

    async def hear(scope: trio.CancelScope) -> None:
        nonlocal news
        # what is dropped is reset
        with suppress(trio.BrokenResourceError):
            while octets := await stream.receive_some(READ_OCTETS):
                attack.receive(octets, now_ns())
                news.set()
        scope.cancel()

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(hear, nursery.cancel_scope)
        while not attack.is_over:
            if octets := attack.data_to_send(now_ns()):
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(octets)
                if served.scenario.reload and attack.blocks == served.scenario.reload_after:
                    await trio.testing.wait_all_tasks_blocked()
                    served.reload()
                continue
            news = trio.Event()
            due_ns = attack.get_timer()
            with trio.move_on_at(trio.current_time() + 60 if due_ns is None else due_ns / NS_PER_S):
                await news.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.requirement("FWRL-5-01")
@pytest.mark.parametrize("name", NAMES)
async def test_sockets_change_no_joule(name: str, autojump_clock: trio.testing.MockClock) -> None:
    scenario = shortened(name)
    expected = play(scenario, 3)
    enemy = Attack(replace(scenario.attack, seed=3))
    async with serving(scenario) as served:
        await attack(served, enemy)
        await trio.testing.wait_all_tasks_blocked()
        served.post()
        found = served.firewall
        assert found.joules == expected.joules
        assert found.joules.residual_uj == 0
        assert (enemy.sent_uj, enemy.blocks) == (expected.sent_uj, expected.blocks)
        # what a rule decided, and on how much
        decided = [(hit.text, hit.hits, hit.energy_uj) for hit in expected.rules]
        texts = {rule.line: rule.text for rule in found.policy.rules}
        counts = [(texts[line], one.hits, one.uj) for line, one in found.rules.items()]
        assert counts == decided[-len(counts) :]
        # the ledger is told the same, and nothing is left
        assert served.journal.check() == ""
        assert served.journal.joules == found.joules
        assert not found.flows.live
        assert not found.harvests
        assert not found.screens


@pytest.mark.requirement("FWRL-5-01")
async def test_the_next_connection_of_the_same_address_is_served(
    autojump_clock: trio.testing.MockClock,
) -> None:
    scenario = shortened("S1")
    once = play(scenario, 1).joules
    async with serving(scenario) as served:
        for _ in range(3):
            await attack(served, Attack(scenario.attack))
        assert served.firewall.joules.in_uj == 3 * once.in_uj
        assert served.firewall.joules.reclaimed_uj == 3 * once.reclaimed_uj


@pytest.mark.requirement("FWRL-5-01")
async def test_ten_attacks_at_once_are_bounded_by_what_may_come_in(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """All come from one address: the first is harvested, the others of its second are not."""
    scenario = shortened("S1")
    enemies = [Attack(scenario.attack) for _ in range(10)]
    async with serving(scenario) as served:
        async with trio.open_nursery() as nursery:
            for enemy in enemies:
                nursery.start_soon(attack, served, enemy)
        await trio.testing.wait_all_tasks_blocked()
        joules = served.firewall.joules
        assert joules.in_uj == sum(enemy.sent_uj for enemy in enemies)
        assert joules.residual_uj == 0
        once = play(scenario, 1).joules
        # nine blocks of 100 J came before they were told
        assert joules.in_uj == once.in_uj + 9 * 100_000_000
        assert joules.reclaimed_uj == once.reclaimed_uj
