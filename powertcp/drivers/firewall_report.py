"""What a firewall tells of itself: status, rules and reservoirs, why."""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final

import trio

from powertcp.drivers.bugs import BUGS
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.firewall import FirewallServer
from powertcp.drivers.firewall_books import FirewallBooks
from powertcp.drivers.firewall_log import explain_flow
from powertcp.reclaim.accounts import FlowAccount
from powertcp.reclaim.firewall import Firewall, RuleCount
from powertcp.reclaim.harvest import Intake
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S, Instant, format_energy, format_power

# rows of one answer: 64 KiB
ROWS_MAX: Final = 150
LAST: Final = 20

Fields = dict[str, object]


class FirewallReport:
    """Verbs of the control socket that only look."""

    def __init__(self, server: FirewallServer, books: FirewallBooks) -> None:
        """Tell of `server`."""
        self._server, self._books = server, books
        # what else has something to say in `status`, by its name there
        self.more: dict[str, Callable[[], object]] = {}
        # of the last second: in, reclaimed, heat, out, in mW
        self._rates: Fields = {}
        self._before: tuple[Instant, int, int, int, int, int] | None = None

    @property
    def _firewall(self) -> Firewall:
        return self._server.firewall

    def tick(self, now: Instant) -> None:
        """Measure the powers of the last second."""
        joules = self._firewall.joules
        banked_uj = self._firewall.banked_uj
        here = (now, joules.in_uj, joules.authorised_uj, banked_uj, joules.heat_uj, joules.out_uj)
        before, self._before = self._before, here
        if before is None or now <= before[0]:
            return
        names = ("in_mw", "authorised_mw", "reclaimed_mw", "heat_mw", "out_mw")
        span_ns = now - before[0]
        self._rates = {
            name: (after - earlier) * (NS_PER_S // 1000) // span_ns
            for name, after, earlier in zip(names, here[1:], before[1:], strict=True)
        }

    def line(self) -> str:
        """Return one line for people."""
        firewall, joules = self._firewall, self._firewall.joules
        state = "nothing passes" if firewall.is_shut else "serving"
        return (
            f"{state}: {len(firewall.flows.live)} flows, {format_energy(joules.authorised_uj)}"
            f" authorised, {format_energy(firewall.stored_uj)} stored"
        )

    # -- verbs ---------------------------------------------------------------------------------

    async def status(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Answer `status`; with flows: true at most 150 of them."""
        await trio.lowlevel.checkpoint()
        server, firewall = self._server, self._firewall
        joules = firewall.joules
        answer: Fields = {
            "state": self._state(),
            "mode": server.config.mode.value,
            "policy": firewall.policy.file,
            "connections": len(server.sessions),
            "refused_connections": server.refused_connections,
            "flow_count": len(firewall.flows.live),
            "harvests": firewall.harvests,
            "scripts": [layer.file for layer in firewall.layers.layers],
            "failures": firewall.failures,
            "load_percent": firewall.load_percent,
            "rating_mw": firewall.rating_mw,
            **joules.fields(),
            "banked_uj": firewall.banked_uj,
            "powertcp_authorised_joules_total": joules.authorised_uj / 1e6,
            "powertcp_heat_joules_total": joules.heat_uj / 1e6,
            "powertcp_reclaimed_joules_total": firewall.banked_uj / 1e6,
            "powertcp_claimed_joules_total": joules.claimed_uj / 1e6,
            **self._rates,
            "stored_uj": firewall.stored_uj,
            "reservoirs": [reservoir_fields(one) for one in firewall.intakes.values()],
            "bugs": BUGS.count,
            "books": self._books.fields(),
        }
        for name, told in self.more.items():
            answer[name] = told()
        if request.get("flows"):
            answer["flows"] = self._flows()
        return answer

    def _state(self) -> str:
        if self._firewall.stopped is not None:
            return f"nothing passes: {self._firewall.stopped.sentence()}"
        if (failed := self._firewall.failed) is not None:
            return f"nothing passes: {failed}, at {failed.file}:{failed.line}"
        return "draining" if self._server.draining else "ready"

    async def list_all(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Answer `list`: rules with hits and joules, counters, sets, reservoirs, flows."""
        await trio.lowlevel.checkpoint()
        firewall = self._firewall
        policy = firewall.policy
        # rules by the hundred do not fit into one answer: the next ones begin after `from`
        first = request.get("from")
        begin = first if isinstance(first, int) and first > 0 else 0
        rules = list(islice(policy.rules, begin, begin + ROWS_MAX))
        answer: Fields = {
            "policy": policy.file,
            "rule_count": len(policy.rules),
            "rules": [
                {
                    "line": rule.line,
                    "text": rule.text,
                    **count_fields(firewall.rules.get(rule.line)),
                }
                for rule in rules
            ],
        }
        if begin:
            return answer
        answer |= {
            "default": {
                "line": policy.default_line,
                "text": policy.default_text,
                **count_fields(firewall.rules.get(policy.default_line)),
            },
            "counters": {
                name: count_fields(count)
                for name, count in islice(firewall.counters.items(), ROWS_MAX)
            },
            "sets": {
                name: type(one).__name__.removesuffix("Set").lower()
                for name, one in islice(policy.sets.items(), ROWS_MAX)
            },
            "reservoirs": [reservoir_fields(one) for one in firewall.intakes.values()],
            "flow_count": len(firewall.flows.live),
            "flows": self._flows()[: ROWS_MAX // 3],
        }
        return answer

    def _flows(self) -> list[Fields]:
        return [flow_fields(one) for one in islice(self._firewall.flows.live.values(), ROWS_MAX)]

    # FWRL-1-02
    async def explain(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Answer `explain`: the last decision on a flow; without `what` the last ones on any."""
        await trio.lowlevel.checkpoint()
        what, flows = str(request.get("what") or ""), self._firewall.flows
        found = flows.find(what) if what else None
        accounts = [found] if found is not None else []
        if not what:
            accounts = [one for one in flows.last(ROWS_MAX) if is_refused(one)][:LAST]
        now, policy = now_ns(), self._firewall.policy
        if accounts or not what:
            return {"explanations": [explain_flow(one, policy, now) for one in accounts]}
        return Refusal(Reason.STATE, rule="no such flow")


def is_refused(account: FlowAccount) -> bool:
    """Say whether a flow was not simply accepted."""
    return account.refusal is not None or account.joules.reclaimed_uj > 0


def flow_fields(account: FlowAccount) -> Fields:
    """Return one flow as `status` and `list` show it."""
    decision, facts = account.decision, account.facts
    return {
        "id": account.name,
        "peer": account.peer,
        "other": account.other,
        "state": account.what,
        "verdict": str(decision.verdict) if decision is not None else "",
        "rule": decision.place if decision is not None else "",
        "way": facts.way or "" if facts is not None else "",
        "power_mw": facts.power_mw if facts is not None else None,
        "energy_uj": account.joules.in_uj,
        **account.joules.fields(),
        "holds": account.holds,
        "refusal": account.refusal.sentence() if account.refusal is not None else "",
    }


def count_fields(count: RuleCount | None) -> Fields:
    """Return how often a rule decided, and on how much."""
    return {"hits": count.hits if count else 0, "energy_uj": count.uj if count else 0}


def reservoir_fields(intake: Intake) -> Fields:
    """Return what a reservoir holds."""
    reservoir = intake.reservoir
    terms = reservoir.terms
    return {
        "name": terms.name,
        "stored_uj": reservoir.stored_uj,
        "capacity_uj": terms.capacity_uj,
        "percent": reservoir.percent,
        "room_uj": reservoir.room_uj,
        "available_uj": reservoir.available_uj,
        "promised_in_uj": intake.promised_uj,
        "max_in": format_power(terms.max_in_mw) if terms.max_in_mw else "",
        "max_out": format_power(terms.max_out_mw) if terms.max_out_mw else "",
    }
