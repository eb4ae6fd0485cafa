"""What a provider tells of itself: status, flows, why; and the orders it takes."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import trio

from powertcp.drivers.bugs import BUGS
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.explained import explained
from powertcp.drivers.feed import FeedStation
from powertcp.drivers.provider import Provider
from powertcp.drivers.session import FlowRecord
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S, Instant, format_power

if TYPE_CHECKING:
    from powertcp.drivers.realm import RealmMember

SLICE = 256  # flows between two checkpoints, P19
MAX_FLOWS = 150  # lines of one answer: 64 KiB

Fields = dict[str, object]


class ProviderReport:
    """Verbs of the control socket that only look, and `set`.

    adverts: what is told to the link. realm: the one it is a member of, None for none.
    """

    def __init__(self, provider: Provider) -> None:
        """Tell of `provider`."""
        self.adverts: Callable[[], list[Fields]] = list
        self.realm: RealmMember | None = None
        self._provider = provider

    def line(self) -> str:
        """Return one line for people: what is delivered to how many."""
        flows = len(self._provider.breaker.holdings)
        drawn = format_power(self._provider.admissions.drawn_mw)
        return f"delivering {drawn} to {flows} flows of {format_power(self._provider.breaker.rating_mw)}"

    async def status(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Answer `status`; with flows: true at most 150 of them, from `after` on."""
        await trio.lowlevel.checkpoint()
        provider, now = self._provider, now_ns()
        breaker, books = provider.breaker, provider.admissions
        delivered = [0] * len(breaker.supplies)
        energy_uj, count = books.delivered_uj, 0
        flows: list[Fields] = []
        wanted, after = bool(request.get("flows")), _number(request.get("after"))
        for session in list(provider.sessions):
            for record in list(session.flows.values()):
                count += 1
                if not count % SLICE:
                    await trio.lowlevel.checkpoint()
                if record not in breaker.holdings:
                    continue
                delivered[breaker.holdings[record].supply] += record.wanted_mw
                if record.flow not in session.machine.flows:
                    continue
                energy_uj += session.machine.status(record.flow).acked_uj
                if wanted and after < count and len(flows) < MAX_FLOWS:
                    flows.append(self._flow(record, now))
        answer: Fields = {
            "state": "draining" if books.draining else "ready",
            "rating_mw": breaker.rating_mw,
            "reserved_mw": breaker.held_mw,
            "delivered_mw": books.drawn_mw,
            "connections": sum(not session.wire.closed for session in provider.sessions),
            "flow_count": len(breaker.holdings),
            "waiting": len(breaker.waiting),
            "energy_uj": energy_uj,
            "returned_uj": books.returned_uj,
            "heat_uj": books.heat_uj,
            "bugs": BUGS.count,
            "counts": dict(books.chronicle.counts),
            "supplies": [
                {
                    "profile": supply.profile.to_wire().hex(),
                    "text": supply.profile.format(),
                    "rating_mw": supply.rating_mw,
                    "reserved_ma": breaker.held_ma[index],
                    "reserved_mw": supply.profile.pairs
                    * supply.profile.voltage_mv
                    * breaker.held_ma[index]
                    // 1000,
                    "delivered_mw": delivered[index],
                    "retiring": supply.retiring,
                }
                for index, supply in enumerate(breaker.supplies)
            ],
            "adverts": self.adverts(),
        }
        if books.billing.books is not None:
            answer["ledger"] = books.billing.books.balance(energy_uj)
        if wanted:
            answer["flows"] = flows
        if provider.station is not None:
            answer["feed"] = _feed(provider.station)
        if self.realm is not None:
            answer["realm"] = self.realm.facts()
        if provider.hotspot is not None:
            answer["hotspot"] = provider.hotspot.facts()
        return answer

    def _flow(self, record: FlowRecord, now: Instant) -> Fields:
        status = record.session.machine.status(record.flow)
        refusal = self._provider.breaker.explain(record)
        lease_s = max(0, (status.lease_until_ns or now) - now) // NS_PER_S
        return {
            "id": record.name,
            "peer": record.session.host,
            "name": record.rights.name if record.rights else "",
            "rule": record.rights.rule if record.rights else "",
            "state": record.state,
            "contract": record.profile.to_wire().hex() if record.profile else "",
            "text": record.profile.format() if record.profile else "",
            "power_mw": record.wanted_mw,
            "energy_uj": status.acked_uj,
            "lease_s": lease_s,
            "refusal": refusal.sentence() if refusal else "",
        }

    async def explain(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Answer `explain`: a flow as it stands and the last decision on it; without `what` the
        last decisions on any.
        """
        await trio.lowlevel.checkpoint()
        what = str(request.get("what") or "")
        rows = explained(self._provider.explanations, what, now_ns())
        live = self._live(what) if what else None
        if live is not None:
            rows.insert(0, live)
        return (
            {"explanations": rows}
            if rows or not what
            else Refusal(Reason.STATE, rule="no such flow")
        )

    def _live(self, name: str) -> Fields | None:
        """Return why the flow of this name has what it has, None for one that is over."""
        breaker = self._provider.breaker
        for session in self._provider.sessions:
            for record in session.flows.values():
                holding = breaker.holdings.get(record)
                if record.name != name or holding is None or record.profile is None:
                    continue
                less = breaker.explain(record)
                held, rating = format_power(breaker.held_mw), format_power(breaker.rating_mw)
                return {
                    "flow": name,
                    "identity": record.rights.name if record.rights else "",
                    "rule": record.rights.rule if record.rights else "",
                    "what": "has what it asked for"
                    if less is None
                    else "has less than it asked for",
                    "code": less.code if less else Reason.NORMAL,
                    "sentence": less.sentence() if less else f"{held} of {rating} are held",
                    "state": record.state,
                    "wanted": holding.desired.format(),
                    "given": record.profile.format(),
                }
        return None

    async def set(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Answer `set`: {"rating_mw"} or {"flow", "ceiling_mw"}; a ceiling of null lifts it."""
        await trio.lowlevel.checkpoint()
        rating, flow = request.get("rating_mw"), request.get("flow")
        if isinstance(rating, int) and not isinstance(rating, bool) and rating >= 0:
            self._provider.set_rating(rating)
            return {"rating_mw": rating}
        ceiling = request.get("ceiling_mw")
        lawful = ceiling is None or (isinstance(ceiling, int) and ceiling >= 0)
        if isinstance(flow, str) and lawful and "ceiling_mw" in request:
            order = ceiling if isinstance(ceiling, int) else None
            if self._provider.set_ceiling(flow, order):
                return {"flow": flow, "ceiling_mw": order}
            return Refusal(Reason.STATE, rule="no such flow")
        return Refusal(Reason.STATE, rule="set needs rating_mw, or flow and ceiling_mw")


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _feed(station: FeedStation) -> Fields:
    """Return what is broadcast: signed_uj is what receivers sent pages of, a lower bound."""
    source, sender, shelf = station.source, station.sender, station.shelf
    return {
        "id": source.feed.feed_id.hex(),
        "epoch": source.feed.epoch,
        "profile": source.profile.to_wire().hex(),
        "text": source.profile.format(),
        "groups": sender.groups if sender else [],
        "energy_uj": station.energy_uj,
        "blocks": source.blocks,
        "subscribers": len(station.subscribers),
        "lost_blocks": station.lost,
        "receivers": shelf.receivers if shelf else 0,
        "signed_uj": shelf.signed_uj if shelf else 0,
    }
