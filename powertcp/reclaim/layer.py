"""What stands between the policy and a flow: ordered layers, each of which may only be stricter.

A layer sees what a flow is and what was decided so far, and returns a decision that lets through no
more than that one. One that raises is the end of the flow. FWRL-1-01, FWRL-3-09.
"""

from typing import Protocol

from powertcp.errors import PowerError
from powertcp.reclaim.policy import Accept, Decision, Facts, Verdict
from powertcp.units import Instant


class LayerFailed(PowerError):
    """A layer could not decide. file, line: where it failed."""

    def __init__(self, said: str, file: str, line: int) -> None:
        super().__init__(said)
        self.file, self.line = file, line


class Layer(Protocol):
    """One layer."""

    def judge(self, facts: Facts, decision: Decision, now: Instant) -> Decision:
        """Return `decision` or a stricter one; whatever it raises closes the flow."""


# FWRL-3-09
def is_stricter(verdict: Verdict, than: Verdict) -> bool:
    """Return whether `verdict` lets nothing through that `than` does not."""
    if not isinstance(than, Accept):
        # what is refused stays so; it may be refused otherwise
        return not isinstance(verdict, Accept)
    if not isinstance(verdict, Accept) or than.limit_mw is None:
        return True
    return verdict.limit_mw is not None and verdict.limit_mw <= than.limit_mw
