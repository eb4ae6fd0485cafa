"""What a firewall says of its flows: to the log of the operator, to the audit log, to `explain`."""

import logging
from typing import Final

from powertcp.reclaim.accounts import FlowAccount, Joules, Ruled
from powertcp.reclaim.policy import Accept, Decision, Policy, Reclaim, said
from powertcp.registry import Reason
from powertcp.units import Instant, format_energy

# what came of a flow that is no news to who keeps an audit log
_ORDINARY: Final = ("accepted", "powered", "clamped", "closed", "cut")
# of the rules that would have accepted a flow; a policy has thousands
LACKS_MAX: Final = 8
_log = logging.getLogger("firewall")

Fields = dict[str, object]


# FWRL-1-04
def is_audited(event: Ruled) -> bool:
    """Say whether an event belongs in the audit log: it is no accept, or its rule says log."""
    decision = event.decision
    if event.what not in _ORDINARY or (decision is not None and decision.is_logging):
        return True
    is_reclaimed = decision is not None and isinstance(decision.verdict, Reclaim)
    return is_reclaimed or event.account.joules.reclaimed_uj > 0


def say(event: Ruled) -> None:
    """Say in one line what came of a flow."""
    if not _log.isEnabledFor(logging.INFO):
        return
    account, decision = event.account, event.decision
    why = event.refusal.sentence() if event.refusal is not None else ""
    if decision is not None and not why:
        why = f"{decision.verdict} by {decision.place}"
    if decision is not None and event.what == "failed":
        # FWRL-1-01
        _log.warning(
            "flow %-24s failed      %s, at %s: it is dropped",
            account.name,
            decision.text,
            decision.place,
        )
        return
    joules = account.joules
    had = f", {_split(joules)}" if account.is_over and joules.in_uj else ""
    _log.info("flow %-24s %-11s %s%s", account.name, event.what, why, had)


def event_facts(event: Ruled) -> Fields:
    """Return an event for the audit log: flow, verdict, rule, values, joules."""
    account = event.account
    facts: Fields = {
        "flow": account.name,
        "peer": account.peer,
        "other": account.other,
        "what": event.what,
        "joules": account.joules.fields(),
    }
    if event.decision is not None:
        facts |= decision_facts(event.decision)
    if event.refusal is not None:
        facts |= {"code": event.refusal.code, "sentence": event.refusal.sentence()}
    return facts


def decision_facts(decision: Decision) -> Fields:
    """Return a decision: verdict, rule, file and line, and the values of its matches."""
    return {
        "verdict": str(decision.verdict),
        "file": decision.file,
        "line": decision.line,
        "rule": decision.text,
        "values": dict(decision.values),
    }


def policy_facts(policy: Policy) -> Fields:
    """Return what is told of a policy that was loaded."""
    return {
        "file": policy.file,
        "rules": len(policy.rules),
        "reservoirs": len(policy.reservoirs),
        "otherwise": str(policy.default),
    }


# FWRL-1-02
def explain_flow(account: FlowAccount, policy: Policy, now: Instant) -> Fields:
    """Return why a flow has what it has, and what would have been accepted."""
    decision, refusal, joules = account.decision, account.refusal, account.joules
    row: Fields = {
        "flow": account.name,
        "what": account.what,
        "identity": "",
        "code": refusal.code if refusal is not None else Reason.NORMAL,
        "sentence": refusal.sentence() if refusal is not None else _split(joules),
        "value": refusal.value if refusal is not None else 0,
        "limit": refusal.limit if refusal is not None else 0,
        "ago_ns": now - account.opened_at,
        "peer": account.peer,
        "other": account.other,
        "joules": joules.fields(),
        "holds": account.holds,
    }
    if decision is not None:
        row |= decision_facts(decision)
        row["rule"] = f"{decision.place} {decision.text}"
        row["text"] = decision.text
    if account.facts is not None:
        row["state"] = account.facts.state or ""
        row["facts"] = dict(said(account.facts))
        row["accepted"] = accepted_instead(account, policy)
    return row


def accepted_instead(account: FlowAccount, policy: Policy) -> list[str]:
    """Return which rules would have accepted such a flow, and what each of them lacks."""
    facts, found = account.facts, []
    if facts is None:
        return []
    for rule in policy.rules:
        if not isinstance(rule.verdict, Accept):
            continue
        lacks = [match for match in rule.matches if not match.holds(facts)]
        if len(lacks) == 1:
            seen = lacks[0].seen(facts)
            found.append(f"line {rule.line}: {rule.text}; it is {lacks[0].word} {seen}")
        if len(found) == LACKS_MAX:
            break
    return found


def _split(joules: Joules) -> str:
    """Return where the joules of a flow went, for people."""
    words = [
        f"{format_energy(value)} {word}"
        for word, value in (
            ("authorised", joules.authorised_uj),
            ("reclaimed", joules.reclaimed_uj),
            ("heat", joules.heat_uj),
            ("claimed and not verified", joules.claimed_uj),
        )
        if value
    ]
    return f"{format_energy(joules.in_uj)} in: {', '.join(words)}" if words else "nothing came in"
