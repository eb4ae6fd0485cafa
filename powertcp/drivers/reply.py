"""What a consumer answers on a flow: to offers and proposals, and credit for what it still wants."""

from contextlib import suppress

from powertcp.drivers.appliance import Appliance
from powertcp.drivers.price import MaxPrice
from powertcp.errors import LocalProtocolError
from powertcp.machine import Event
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import (
    PowerGranted,
    PowerOffered,
    PowerReady,
    RenegotiationRequested,
    SamplesReceived,
    SupplyBlocked,
)
from powertcp.potcp.terms import is_within
from powertcp.registry import Reason, Refusal
from powertcp.units import Instant
from powertcp.wire.options import Tariff


def lease_until(machine: PowerConnection, flow: int) -> Instant:
    """Return when the lease of `flow` ends, 0 for a flow that is over."""
    return (machine.status(flow).lease_until_ns or 0) if flow in machine.flows else 0


def reply(
    machine: PowerConnection,
    each: Appliance,
    event: Event,
    now: Instant,
    price: MaxPrice | None = None,
) -> None:
    """Say to the provider what an event of a live flow asks for. price: the most that is paid."""
    match event:
        case PowerGranted(flow=flow, tariff=tariff):
            refusal = tariff_refusal(each, tariff, price)
            if refusal is not None:
                machine.close_flow(flow, refusal=refusal, now=now)
        case PowerOffered(flow=flow, offers=offers):
            least = each.ask.minimum or each.ask.desired
            best_mw = max((pair.offer.power_mw for pair in offers), default=0)
            refusal = Refusal(Reason.NOT_OFFERED, least.power_mw, best_mw)
            machine.decline(flow, refusal, now=now)
        case RenegotiationRequested(flow=flow, asks=asks, tariff=tariff):
            no = tariff_refusal(each, tariff, price)
            if not all(is_within(proposal, each.ask) for proposal in asks):
                no = Refusal(Reason.POLICY, rule="not what was asked for")
            # LEDG-6-04
            machine.answer(flow, accept=no is None, refusal=no, now=now)
        case SamplesReceived() | PowerReady() | SupplyBlocked():
            if isinstance(event, PowerReady):
                answer_page(machine, each, now)
            ration(machine, each, now, blocked=isinstance(event, SupplyBlocked))


def tariff_refusal(
    each: Appliance, tariff: Tariff | None, price: MaxPrice | None
) -> Refusal | None:
    """Return why `tariff` is not taken: it is too dear, or cannot be booked."""
    refusal = price.refusal(tariff) if price else None
    return refusal or (each.book.foreign(tariff) if each.book else None)


def answer_page(machine: PowerConnection, each: Appliance, now: Instant) -> None:
    """Countersign or dispute the page under way, if its answer is known; else it waits for READY."""
    if each.book is not None:
        with suppress(LocalProtocolError):
            each.book.answer(machine, each.flow, now)


def ration(machine: PowerConnection, each: Appliance, now: Instant, *, blocked: bool) -> None:
    """Take no more than is wanted, and close the flow with the block that completes it."""
    if each.closing or each.granted is None or each.profile is None:
        return
    if each.quota.is_spent:
        each.end_load()
        with suppress(LocalProtocolError):  # it tripped in this wake-up, which comes next
            machine.close_flow(each.flow, now=now)
        return
    wanted_uj = each.quota.headroom_uj(each.profile, each.granted.sampling, blocked=blocked)
    if wanted_uj is not None:
        machine.set_headroom(each.flow, wanted_uj, now=now)
