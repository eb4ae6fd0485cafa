"""Why flows were refused, shed, tripped or closed: the last 1024 of them, for `powertcp explain`."""

from collections import OrderedDict
from dataclasses import dataclass

from powertcp.profile import PowerProfile
from powertcp.registry import Refusal
from powertcp.units import Instant

EXPLAIN_MEMORY = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One decision about a flow.

    what: granted, refused, offered, shed, restored, tripped, closed. state: of the flow then.
    now_ns: monotonic. wanted, given: profiles before and after, None when there is none. identity:
    name of who draws, "" where nobody asks.
    """

    flow: str
    what: str
    refusal: Refusal
    now_ns: Instant
    state: str = ""
    wanted: PowerProfile | None = None
    given: PowerProfile | None = None
    identity: str = ""


class Explanations:
    """A bounded memory of decisions, the last one of each flow."""

    def __init__(self, limit: int = EXPLAIN_MEMORY) -> None:
        """Remember at most `limit` flows; the longest untouched goes first."""
        self._limit = limit
        self._kept: OrderedDict[str, Explanation] = OrderedDict()

    def note(self, explanation: Explanation) -> None:
        """Keep `explanation` as the last word on its flow."""
        # PTCP-13-03
        self._kept[explanation.flow] = explanation
        self._kept.move_to_end(explanation.flow)
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def about(self, flow: str) -> Explanation | None:
        """Return the last decision on `flow`, None when nothing is known."""
        return self._kept.get(flow)

    def last(self, count: int) -> list[Explanation]:
        """Return the last `count` decisions, newest first."""
        newest = list(reversed(self._kept.values()))
        return newest[:count]

    def __len__(self) -> int:
        """Return how many flows are remembered."""
        return len(self._kept)
