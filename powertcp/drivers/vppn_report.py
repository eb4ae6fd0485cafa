"""What a gateway tells of itself: status, flows, why."""

from collections.abc import Mapping

import trio

from powertcp.drivers.bugs import BUGS
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.explained import explained
from powertcp.drivers.vppn_desk import GatewayDesk
from powertcp.drivers.vppn_gateway import RelaySession, VppnGateway
from powertcp.reclaim.track import TrackedFlow
from powertcp.registry import Reason, Refusal
from powertcp.units import format_power

MAX_FLOWS = 150  # lines of one answer: 64 KiB

Fields = dict[str, object]


class GatewayReport:
    """Verbs of the control socket that only look."""

    def __init__(self, gateway: VppnGateway, desk: GatewayDesk) -> None:
        """Tell of `gateway`."""
        self._gateway, self._desk = gateway, desk

    @property
    def _contract_mw(self) -> int:
        return sum(flow.profile.power_mw for flow, _ in self._desk.flows if flow.profile)

    def line(self) -> str:
        """Return one line for people: how much is relayed for how many."""
        devices, flows = len(self._gateway.sessions), len(self._desk.flows)
        contract = format_power(self._contract_mw)
        return f"relaying {flows} flows of {contract} for {devices} devices"

    async def status(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Answer `status`; with flows: true at most 150 of them."""
        await trio.lowlevel.checkpoint()
        desk, gateway = self._desk, self._gateway
        flows = desk.flows
        answer: Fields = {
            "state": "draining" if gateway.draining else "ready",
            "devices": len(gateway.sessions),
            "flow_count": len(flows),
            "contract_mw": self._contract_mw,
            "energy_uj": sum(flow.verified_uj for flow, _ in flows),
            "heat_uj": sum(flow.heat_uj for flow, _ in flows),
            "upstreams": [one.name for one in gateway.config.upstreams],
            "vias": list(gateway.config.vias),
            "bugs": BUGS.count,
            "counts": dict(desk.counts),
        }
        if desk.books is not None:
            answer["ledger"] = desk.books.balance()
        if request.get("flows"):
            answer["flows"] = [self._flow(*one) for one in flows[:MAX_FLOWS]]
        return answer

    def _flow(self, flow: TrackedFlow, session: RelaySession) -> Fields:
        admitted = self._desk.admitted(session)
        rights = admitted.rights if admitted else None
        is_known = rights is not None and not isinstance(rights, Refusal)
        return {
            "id": session.name_of(flow),
            "peer": session.host,
            "name": admitted.name if admitted else "",
            "rule": rights.rule if rights is not None and is_known else "",
            "upstream": session.upstream.name if session.upstream else "",
            "state": flow.phase.name.lower(),
            "contract": flow.profile.to_wire().hex() if flow.profile else "",
            "text": flow.profile.format() if flow.profile else "",
            "power_mw": flow.profile.power_mw if flow.profile else 0,
            "energy_uj": flow.verified_uj,
            "refusal": flow.fault.sentence() if flow.fault else "",
        }

    async def explain(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Answer `explain`: the last decision on a flow; without `what` the last ones on any."""
        await trio.lowlevel.checkpoint()
        what = str(request.get("what") or "")
        rows = explained(self._desk.explanations, what, now_ns())
        if live := self._live(what):
            rows.insert(0, live)
        if rows or not what:
            return {"explanations": rows}
        return Refusal(Reason.STATE, rule="no such flow")

    def _live(self, name: str) -> Fields | None:
        """Return why the flow of this name has what it has, None for one that is over."""
        for flow, session in self._desk.flows:
            if session.name_of(flow) != name or flow.profile is None:
                continue
            facts = self._flow(flow, session)
            return {
                "flow": name,
                "identity": facts["name"],
                "rule": facts["rule"],
                "what": "is relayed",
                "code": Reason.NORMAL,
                "sentence": f"from {facts['upstream']}, limits by {facts['rule']}",
                "state": facts["state"],
                "wanted": flow.asks[0].desired.format() if flow.asks else "",
                "given": flow.profile.format(),
            }
        return None
