"""Each evaluation of a policy as it happens, rule by rule, for who watches; it costs nobody else."""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from powertcp.drivers.control import Fields, Put
from powertcp.drivers.firewall_log import decision_facts
from powertcp.reclaim.accounts import FlowAccount
from powertcp.reclaim.firewall import Firewall
from powertcp.reclaim.policy import Address, Decision, Facts, Step, said
from powertcp.reclaim.policy_match import plain_address

# of one evaluation, the last ones: a line has 64 KiB
STEPS_MAX: Final = 64
# characters of a rule that are told
TEXT_MAX: Final = 256


class Traces:
    """Who watches the evaluations of `firewall`."""

    def __init__(self, firewall: Firewall) -> None:
        """Nobody watches yet."""
        self._firewall = firewall
        self._watchers: dict[object, tuple[str, Put]] = {}

    def __len__(self) -> int:
        """Return how many watch."""
        return len(self._watchers)

    def watch(self, peer: str, put: Put) -> Callable[[], None]:
        """Let `put` have each evaluation that `peer` has to do with, "" for all of them.

        Returns what ends that.
        """
        watcher = object()
        self._watchers[watcher] = (_plain(peer), put)
        self._firewall.on_judged = self._judged

        def end() -> None:
            self._watchers.pop(watcher, None)
            if not self._watchers:
                self._firewall.on_judged = None

        return end

    def _judged(self, account: FlowAccount, facts: Facts, decision: Decision) -> None:
        ends = {account.peer, *(_name(one) for one in (facts.src, facts.dst))}
        wanted = [put for peer, put in self._watchers.values() if not peer or peer in ends]
        if not wanted:
            return
        line = self._line(account, facts, decision)
        for put in wanted:
            put(line)

    def _line(self, account: FlowAccount, facts: Facts, decision: Decision) -> Fields:
        steps = self._firewall.policy.trace(facts)
        return {
            "t": "trace",
            "flow": account.name,
            "peer": account.peer,
            "facts": dict(said(facts)),
            **decision_facts(decision),
            "rule": decision.text[:TEXT_MAX],
            "skipped": max(0, len(steps) - STEPS_MAX),
            "steps": [_step(one) for one in steps[-STEPS_MAX:]],
        }


def _step(step: Step) -> Fields:
    """Return what became of one rule: the match that failed and what it saw, or that it decides."""
    return {
        "line": step.rule.line,
        "text": step.rule.text[:TEXT_MAX],
        "failed": str(step.failed.word) if step.failed is not None else None,
        "seen": step.seen,
    }


def _plain(text: str) -> str:
    """Return an address as accounts have it; what is none stays as it is."""
    try:
        return _name(ip_address(text))
    except ValueError:
        return text


def _name(address: Address | None) -> str:
    return str(plain_address(address)) if address is not None else ""
