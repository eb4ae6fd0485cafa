"""Flows of employees of a gateway, as its books know them. Not collected."""

from powertcp.dve import EnergyRegister
from powertcp.reclaim.track import End, TrackedFlow
from powertcp.wire.options import Sampling


def drawing(uj: int, flow: TrackedFlow | None = None) -> TrackedFlow:
    """Return a flow without receipts of which so much passed, whatever its device says."""
    flow = flow or TrackedFlow(1, End.CLIENT, 0)
    flow.credit_uj = 1 << 40
    flow.register = EnergyRegister(Sampling(rate_hz=1000), uj)
    return flow
