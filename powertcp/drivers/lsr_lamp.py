"""A live lamp: tunnels that are asked for on its behalf, and the connections spliced into them.

MPLampS sections 4.9 and 9.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import trio

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.lsr import Carrier, LiveNode
from powertcp.drivers.lsr_watch import LightWatch
from powertcp.drivers.splice import splice
from powertcp.mplamps.node import (
    LampChanged,
    LampState,
    Model,
    Node,
    NodeEvent,
    SupplierChanged,
)
from powertcp.mplamps.power import TariffObject
from powertcp.mplamps.topology import Topology
from powertcp.profile import PowerProfile
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_MS, NS_PER_S, NS_PER_US, Duration, Instant

Say = Callable[[str, Mapping[str, object]], None]
# after which a lamp that has no answer is told to be dark: PATH is sent again after 0.5, 1 and 2 s
ANSWER_S: Final = 10
# in which both ends of an inner connection hear that the other has finished
LINGER_S: Final = 1
_ANSWERED: Final = (LampState.SIGNALLED, LampState.LIT, LampState.FLICKER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms a lamp asks. request: None for what a consumer asks. See `node.Wish`."""

    request: PowerProfile | None = None
    minimum: PowerProfile | None = None
    limit: TariffObject | None = None
    supplier: int = 0
    model: Model = Model.OVERLAY


@dataclass(slots=True)
class _Tunnel:
    """A tunnel that is wanted. asked_at: when it was switched on; news: set at each change.

    refusal: why the last change was for the worse; denied: the last of these since it was cleared.
    """

    number: int
    asked_at: Instant
    news: trio.Event
    state: LampState = LampState.REQUESTING
    refusal: Refusal | None = None
    denied: Refusal | None = None
    grant: PowerProfile | None = None
    signalled_ns: Duration | None = None
    lit_ns: Duration | None = None


class LiveLamp:
    """A lamp on its sockets. say: told of each change of a tunnel, as event "lamp".

    on_supplier: told of the old and the new tunnel; without it the lamp stays where it is.
    on_grant: told of each grant of a tunnel that is not the one before.
    """

    on_supplier: Callable[[int, int], None] | None
    on_grant: Callable[[PowerProfile], None] | None

    def __init__(self, name: str, carrier: Carrier, terms: Terms, say: Say) -> None:
        """Begin dark. Raises ConfigError as LiveNode does."""
        self.terms = terms
        self.on_supplier = self.on_grant = None
        self._topology = carrier.topology
        self._wheel = carrier.wheel
        self._say = say
        self._tunnels: dict[int, _Tunnel] = {}
        self.live = LiveNode(name, carrier, self._heed)

    @property
    def node(self) -> Node:
        """The machine of the lamp."""
        return self.live.node

    @property
    def voltage_mv(self) -> int:
        """The voltage of the link of the lamp."""
        [link, *_] = self._topology.links_of(self.live.name)
        return link.voltage_mv

    # ---- verbs ------------------------------------------------------------------------------

    def switch_on(self, request: PowerProfile, *, minimum: PowerProfile | None = None) -> int:
        """Ask for power; return the number of the tunnel."""
        now, terms = now_ns(), self.terms
        number = self.node.switch_on(
            request,
            now,
            minimum=minimum,
            limit=terms.limit,
            supplier=terms.supplier,
            model=terms.model,
        )
        self._tunnels[number] = _Tunnel(number, now, trio.Event())
        self.live.settle(now)
        return number

    def switch_off(self, number: int) -> None:
        """Give up a tunnel, if it is still there."""
        if number in self._tunnels:
            now = now_ns()
            self.node.switch_off(number, now)
            self.live.settle(now)
            self._tunnels.pop(number, None)

    async def set_request(self, request: PowerProfile) -> int | Refusal:
        """Want another power in each tunnel, make before break, and wait for what becomes of it.

        Return how many there are, or why one stays what it was: then so do the terms.
        """
        before = self.terms
        self.terms = replace(before, request=request, minimum=None)
        for tunnel in self._tunnels.values():
            tunnel.denied = None
        count = self._each(lambda number, now: self.node.set_request(number, request, now))
        for number in tuple(self._tunnels):
            refusal = await self._granted(number, request)
            if refusal is not None:
                self.terms = before
                return refusal
        return count

    def migrate(self, model: Model) -> int:
        """Let somebody else make the routes; return how many tunnels move."""
        self.terms = replace(self.terms, model=model)
        return self._each(lambda number, now: self.node.migrate(number, model, now))

    def _each(self, verb: Callable[[int, Instant], None]) -> int:
        for number in self._tunnels:
            verb(number, now_ns())
        self.live.settle(now_ns())
        return len(self._tunnels)

    # ---- waiting ----------------------------------------------------------------------------

    async def answer(self, number: int) -> PowerProfile | Refusal:
        """Return what a tunnel was granted, once it is, or why it was not."""
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(ANSWER_S):
            while (tunnel := self._tunnels.get(number)) is not None:
                if tunnel.state in _ANSWERED and tunnel.grant is not None:
                    return tunnel.grant
                if tunnel.state is not LampState.REQUESTING and tunnel.refusal is not None:
                    return tunnel.refusal
                await tunnel.news.wait()
        return _late()

    @property
    def is_answered(self) -> bool:
        """Whether there are tunnels, and no answer of any is missing."""
        states = [tunnel.state for tunnel in self._tunnels.values()]
        return bool(states) and LampState.REQUESTING not in states

    async def _granted(self, number: int, request: PowerProfile) -> Refusal | None:
        """Wait until a tunnel carries a power, or say why it does not."""
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(ANSWER_S):
            while (tunnel := self._tunnels.get(number)) is not None:
                if tunnel.denied is not None:
                    return tunnel.denied
                grant = tunnel.grant if tunnel.state in _ANSWERED else None
                if grant is not None and grant.power_mw == request.power_mw:
                    return None
                await tunnel.news.wait()
            return None
        return _late()

    # ---- splices ----------------------------------------------------------------------------

    async def join(
        self,
        number: int,
        plain: trio.SocketStream,
        first: bytes = b"",
        leave: trio.Event | None = None,
    ) -> bool:
        """Splice a plain connection into a tunnel that is signalled; False where one end broke.

        leave: see `splice`.
        """
        now = now_ns()
        end = self.node.open_stream(number, now)
        circuit = self.live.stream(end)
        self.live.settle(now)
        watch = LightWatch(
            partial(self._banked, number), partial(self._missed, number), self._wheel.arm
        )
        try:
            is_whole = await splice(plain, circuit, first, watch.look, leave)
        finally:
            self._wheel.disarm(watch)
        with trio.move_on_after(LINGER_S):
            await circuit.wait_over()
        return is_whole

    # ---- what comes -------------------------------------------------------------------------

    def _heed(self, _: LiveNode, event: NodeEvent) -> None:
        match event:
            case LampChanged():
                self._change(event)
            case SupplierChanged(old=old, new=new):
                self._change_supplier(old, new)
            case _:
                return

    def _change(self, event: LampChanged) -> None:
        tunnel = self._tunnels.get(event.tunnel)
        if tunnel is None:
            # one that takes the place of another
            tunnel = self._tunnels[event.tunnel] = _Tunnel(event.tunnel, event.at, trio.Event())
        before, tunnel.grant = tunnel.grant, event.grant
        tunnel.state, tunnel.refusal = event.state, event.refusal
        tunnel.denied = event.refusal or tunnel.denied
        since_ns = event.at - tunnel.asked_at
        if event.state is LampState.SIGNALLED and tunnel.signalled_ns is None:
            tunnel.signalled_ns = since_ns
        if event.state is LampState.LIT and tunnel.lit_ns is None:
            tunnel.lit_ns = since_ns
        self._say(
            "lamp", {"since_us": since_ns // NS_PER_US, **change_facts(event, self._topology)}
        )
        if before is not None and event.grant not in (None, before) and self.on_grant is not None:
            self.on_grant(event.grant)
        tunnel.news.set()
        tunnel.news = trio.Event()
        is_over = event.state is LampState.DARK and event.refusal is None
        if is_over:
            self._tunnels.pop(event.tunnel, None)

    # MPLA-4.9-03
    def _change_supplier(self, old: int, new: int) -> None:
        if self.on_supplier is not None:
            self.on_supplier(old, new)
        else:
            # a splice waits for its next connection, which asks by itself
            self.switch_off(new)

    # ---- light ------------------------------------------------------------------------------

    def _banked(self, number: int, now: Instant) -> None:
        """A verified block was banked in a tunnel."""
        if number in self._tunnels:
            self.node.lamp_banked(number, now)
            self.live.settle(now)

    def _missed(self, number: int, now: Instant) -> None:
        """No block came for 2 block times."""
        if number in self._tunnels:
            self.node.lamp_flickered(number, now)
            self.live.settle(now)

    def status(self) -> dict[str, object]:
        """Return the state of the lamp and of its tunnels."""
        rows = []
        for row in self.node.tunnels():
            known = self._tunnels.get(row.number)
            rows.append(
                {
                    "tunnel": row.number,
                    "state": row.state.value,
                    "lsp": row.circuit.sender.lsp if row.circuit is not None else 0,
                    "source": _name_at(self._topology, row.es),
                    "supplier": row.supplier,
                    "grant": row.grant.format() if row.grant is not None else "",
                    "grant_mw": row.grant.power_mw if row.grant is not None else 0,
                    "signalled_us": _us(known.signalled_ns if known else None),
                    "lit_us": _us(known.lit_ns if known else None),
                }
            )
        return {"state": self.node.lamp_state.value, "tunnels": rows}

    def refusals(self) -> list[dict[str, object]]:
        """Return why tunnels are not, or were not, as they were asked for."""
        return [
            {
                "flow": f"{self.live.name}/{tunnel.number}",
                "what": tunnel.state.value,
                "wanted": "",
                "given": tunnel.grant.format() if tunnel.grant is not None else "",
                "code": tunnel.refusal.code,
                "sentence": tunnel.refusal.text or tunnel.refusal.sentence(),
            }
            for tunnel in self._tunnels.values()
            if tunnel.refusal is not None
        ]

    def close(self) -> None:
        """Tear what is signalled and close the sockets."""
        for number in tuple(self._tunnels):
            self.switch_off(number)
        self.live.close()


def _late() -> Refusal:
    waited_ms = ANSWER_S * NS_PER_S // NS_PER_MS
    return Refusal(Reason.TIMEOUT, waited_ms, waited_ms)


def why(refusal: Refusal) -> str:
    """Return what a refusal says beside its code, which is said before it."""
    text = refusal.text.removeprefix(f"refused {refusal.code} {refusal.name}: ")
    return text or refusal.rule


def _us(span_ns: Duration | None) -> int | None:
    return span_ns // NS_PER_US if span_ns is not None else None


def _name_at(topology: Topology, address: object) -> str:
    found = next((node.name for node in topology.nodes if node.address == address), "")
    return found or str(address)


def change_facts(event: LampChanged, topology: Topology) -> dict[str, object]:
    """Return what is said of a change, integers with the unit in the key."""
    facts: dict[str, object] = {"tunnel": event.tunnel, "state": event.state.value}
    if event.circuit is not None:
        facts["source"] = _name_at(topology, event.circuit.session.es)
        facts["lsp"] = event.circuit.sender.lsp
    if event.grant is not None:
        facts |= {"grant": event.grant.format(), "grant_mw": event.grant.power_mw}
    if event.quote is not None:
        quote = event.quote
        facts |= {
            "supplier": quote.supplier,
            "price_micro_per_kwh": quote.price,
            "currency": quote.currency,
        }
    if event.refusal is not None:
        refusal = event.refusal
        facts |= {"code": refusal.code, "sentence": refusal.text or refusal.sentence()}
    return facts
