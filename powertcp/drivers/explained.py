"""What a daemon answers to `explain`: its last decisions, as fields."""

from powertcp.drivers.control import Fields
from powertcp.sources import Explanations
from powertcp.units import Instant

LAST = 20


def explained(memory: Explanations, what: str, now: Instant) -> list[Fields]:
    """Return the last decision on the flow `what`; the last ones on any where it is empty."""
    found = [memory.about(what)] if what else list(memory.last(LAST))
    return [
        {
            "flow": one.flow,
            "identity": one.identity,
            "what": one.what,
            "code": one.refusal.code,
            "sentence": one.refusal.sentence(),
            "value": one.refusal.value,
            "limit": one.refusal.limit,
            "rule": one.refusal.rule,
            "state": one.state,
            "ago_ns": now - one.now_ns,
            "wanted": one.wanted.format() if one.wanted else "",
            "given": one.given.format() if one.given else "",
        }
        for one in found
        if one is not None
    ]
