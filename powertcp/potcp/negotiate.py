"""What a source answers to a request: the grant, the counter-offers, or the refusal; pure.

Ranges, rounding and the order of preference of protocol sections 1 and 4.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from powertcp.potcp.events import Ask, Offer
from powertcp.profile import PowerProfile, ProfileType, in_range
from powertcp.registry import Reason, Refusal

MAX_ASKS = 4  # pairs in a SYN
MAX_OFFERS = 8  # pairs in a counter-offer
LEASE_MIN_S = 5
LEASE_MAX_S = 3600
LEASE_MAX_WIRE_S = 3696  # 3600 s rounded up by the lease octet of a REQUEST


class Choice(NamedTuple):
    """The answer of `choose`: exactly one of grant, offers, bare refusal.

    grant: profile of type GRANT, without a fallback; None if there is none.
    supply_index: supply that feeds the grant; -1 without one.
    offers: pairs of a counter-offer, best first; offer_supplies: the supply of each.
    refusal: why not; set whenever grant is None.
    best: profile of type REFUSE, the best this source could do; None with a grant.
    """

    grant: PowerProfile | None
    supply_index: int
    offers: tuple[Offer, ...] = ()
    refusal: Refusal | None = None
    best: PowerProfile | None = None
    offer_supplies: tuple[int, ...] = ()


def choose(
    asks: Sequence[Ask],
    supplies: Sequence[PowerProfile],
    budget_mw: int,
    free_ma: Sequence[int] | None = None,
) -> Choice:
    """Answer `asks` (best first) from `supplies` with at most `budget_mw`.

    free_ma: what is left of the current of each supply; all of it when omitted.
    The first pair that can be served wins, in it the greatest power, then the voltage nearest
    the request, then the first supply. Never a grant outside the range that was asked for.
    """
    left_ma = [supply.current_ma for supply in supplies] if free_ma is None else free_ma
    # PTCP-4-02
    for ask in asks[:MAX_ASKS]:
        if _lease_refusal(ask) is not None:
            continue
        candidates = list(_candidates(ask, supplies, left_ma, budget_mw))
        if candidates:
            best = candidates[0]
            if len(candidates) > 1:
                best = max(candidates, key=lambda found: _preference(ask, *found))
            return Choice(*best)
    # PTCP-4-01
    return _counter(asks, supplies, budget_mw, left_ma)


def _preference(ask: Ask, grant: PowerProfile, index: int) -> tuple[int, int, int]:
    return (grant.power_mw, -abs(grant.voltage_mv - ask.desired.voltage_mv), -index)


def _candidates(
    ask: Ask, supplies: Sequence[PowerProfile], left_ma: Sequence[int], budget_mw: int
) -> Iterator[tuple[PowerProfile, int]]:
    """Yield a grant within the range of `ask` for each supply that has one."""
    for index, supply in enumerate(supplies):
        if not supply.same_kind(ask.desired):
            continue
        if not _voltage_fits(ask, supply):
            continue
        grant = _answer(ask.desired, supply, left_ma[index], budget_mw, ProfileType.GRANT)
        if in_range(grant, ask.desired, ask.minimum):
            yield grant, index


def _answer(
    desired: PowerProfile, supply: PowerProfile, left_ma: int, budget_mw: int, kind: ProfileType
) -> PowerProfile:
    """Return the most of `supply` that `desired` asks for, as it will stand on the wire."""
    # exact, so that the sum of all powers stays below a rating to the last fraction of a mW
    per_ma = supply.pairs * supply.voltage_mv
    most_ma = 1000 * budget_mw // per_ma if per_ma else 0
    current_ma = max(0, min(desired.current_ma, supply.current_ma, most_ma, left_ma))
    answer = desired.with_type(
        kind,
        voltage_mv=supply.voltage_mv,
        current_ma=current_ma,
        frequency_chz=supply.frequency_chz,
        # 0, not stated, becomes the lease that the connection is configured with
        lease_s=min(desired.lease_s, LEASE_MAX_S),
    )
    # PTCP-1-02: both ends compute with what the octets say
    return answer.as_sent()


def _counter(
    asks: Sequence[Ask], supplies: Sequence[PowerProfile], budget_mw: int, left_ma: Sequence[int]
) -> Choice:
    """Return the counter-offers that come near to `asks`, or the bare refusal."""
    first = asks[0].desired
    refusal = _refusal(asks[0], supplies, left_ma, budget_mw)
    offers: list[tuple[PowerProfile, int]] = []
    for ask in asks[:MAX_ASKS]:
        if _lease_refusal(ask) is not None:
            continue
        alike = [row for row in enumerate(supplies) if row[1].same_kind(ask.desired)]
        fitting = [row for row in alike if _voltage_fits(ask, row[1])]
        for index, supply in fitting or alike:
            offer = _answer(ask.desired, supply, left_ma[index], budget_mw, ProfileType.OFFER)
            if offer.current_ma and (offer, index) not in offers:
                offers.append((offer, index))
    offers.sort(key=lambda row: (abs(row[0].voltage_mv - first.voltage_mv), -row[0].power_mw))
    del offers[MAX_OFFERS:]
    best = offers[0][0].with_type(ProfileType.REFUSE) if offers else _nothing(first)
    return Choice(
        None,
        -1,
        tuple(Offer(offer) for offer, _ in offers),
        refusal,
        best,
        tuple(index for _, index in offers),
    )


def _least(ask: Ask) -> PowerProfile:
    """Return the lower end of the range: the minimum, or the request itself."""
    return ask.minimum or ask.desired


def _voltage_fits(ask: Ask, supply: PowerProfile) -> bool:
    return _least(ask).voltage_mv <= supply.voltage_mv <= ask.desired.voltage_mv


def _nothing(desired: PowerProfile) -> PowerProfile:
    return desired.with_type(ProfileType.REFUSE, current_ma=0)


def _lease_refusal(ask: Ask) -> Refusal | None:
    """Refuse a lease outside 5..3600 s: it would let power stand longer than the sink allows."""
    lease_s = ask.desired.lease_s
    # PTCP-4-06
    if lease_s and lease_s < LEASE_MIN_S:
        return Refusal(Reason.LEASE_RANGE, lease_s, LEASE_MIN_S)
    if lease_s > LEASE_MAX_WIRE_S:
        return Refusal(Reason.LEASE_RANGE, lease_s, LEASE_MAX_S)
    return None


def _refusal(
    ask: Ask, supplies: Sequence[PowerProfile], left_ma: Sequence[int], budget_mw: int
) -> Refusal:
    """Name the first thing in the way of `ask`: voltage, waveform, lease, current, capacity."""
    desired, least = ask.desired, _least(ask)
    if not supplies:
        return Refusal(Reason.NO_CAPACITY, desired.power_mw, 0)
    near = sorted(supplies, key=lambda supply: abs(supply.voltage_mv - desired.voltage_mv))
    fitting = [supply for supply in near if _voltage_fits(ask, supply)]
    # PTCP-4-07
    if not fitting:
        matching = [supply for supply in near if supply.same_kind(desired)]
        limit_mv = (matching or near)[0].voltage_mv
        return Refusal(Reason.VOLTAGE_RANGE, desired.voltage_mv, limit_mv)
    matching = [supply for supply in fitting if supply.same_kind(desired)]
    if not matching:
        return _waveform_refusal(desired, fitting[0])
    lease = _lease_refusal(ask)
    if lease is not None:
        return lease
    most_ma = max(supply.current_ma for supply in matching)
    if most_ma < least.current_ma:
        return Refusal(Reason.CURRENT_RANGE, least.current_ma, most_ma)
    free_mw = max(
        min(supply.pairs * supply.voltage_mv * max(0, left_ma[index]) // 1000, max(0, budget_mw))
        for index, supply in enumerate(supplies)
        if supply in matching
    )
    return Refusal(Reason.NO_CAPACITY, least.power_mw, free_mw)


def _waveform_refusal(desired: PowerProfile, supply: PowerProfile) -> Refusal:
    """Say in words how waveform, phases or frequency differ."""
    text = f"asked {desired.format()}, supplied is {supply.format()}"
    return Refusal(Reason.WAVEFORM, desired.voltage_mv, supply.voltage_mv, text=text)
