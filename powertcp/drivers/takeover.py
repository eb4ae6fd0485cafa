"""A contract that another provider of the realm held goes on here. DPDP section 10."""

from collections.abc import Callable
from typing import Protocol

from powertcp.drivers.billing import Billing
from powertcp.drivers.chronicle import Chronicle
from powertcp.drivers.requests import Requests
from powertcp.drivers.session import FlowRecord, Session
from powertcp.potcp.events import Ask, FlowResumed, Origin
from powertcp.registry import Reason, Refusal
from powertcp.sources import Breaker
from powertcp.sources.adoption import adopt
from powertcp.units import Instant


class House(Protocol):
    """Whoever admits the flows of a provider."""

    billing: Billing
    breaker: Breaker
    requests: Requests
    chronicle: Chronicle
    needs_seal: bool
    delivered_uj: int
    on_return: Callable[[int], None]

    def spare(self, record: FlowRecord, now: Instant) -> None:
        """Raise nothing on a flow for a while."""


# DPDP-10-05
def take_over(
    house: House, session: Session, event: FlowResumed, origin: Origin, now: Instant
) -> None:
    """Hold the power of a contract that a ticket moved here; refuse it when that cannot be."""
    record = session.flows[event.flow] = FlowRecord(session, event.flow)
    record.state, record.sampling, record.origin = "resumed", event.sampling, event
    record.metered = origin.signed_uj is not None
    wanted = Ask(origin.desired, origin.minimum)
    excess = house.requests.judge_moved(record, event.profile)
    # VPPN-2.2-04
    if house.needs_seal and not session.identity.is_sealed:
        excess = Refusal(Reason.SEAL_REQUIRED)
    if excess is None:
        record.supply, excess = adopt(
            house.breaker, record, event.profile, wanted, session.peer, now
        )
    if excess is None:
        # PTCP-7-06, PTCP-7-07
        house.spare(record, now)
        supply = house.breaker.supplies[record.supply].profile
        house.billing.taken_over(record, supply, event.esn_uj, origin)
    else:
        house.chronicle.note(record, "refused", excess, now, wanted=event.profile)
        session.machine.reset_flow(event.flow, excess, now=now)
        house.on_return(event.key)
    # what it has had before is the other one's
    house.delivered_uj -= event.esn_uj
