"""A process of live nodes: sources and load-switching routers, from the first HELLO to the last.

MPLampS section 9.
"""

import logging
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import trio

from powertcp.drivers.control import Fields
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.lsr import Carrier, LiveNode
from powertcp.drivers.lsr_capture import CaptureFile
from powertcp.drivers.lsr_keys import LinkKeys
from powertcp.drivers.lsr_source import SourceEnd, provider_of, serve_itself
from powertcp.drivers.tracer import Tracer
from powertcp.mplamps.node import NodeEvent, StreamOpened
from powertcp.mplamps.ted import Ted
from powertcp.mplamps.topology import NodeKind, Topology
from powertcp.registry import Reason, Refusal
from powertcp.units import Instant, format_power

_log = logging.getLogger("lsr")


@dataclass(frozen=True, slots=True, kw_only=True)
class LsrConfig:
    """What a process runs. capture: path of a pcapng, None for none. keys: None without."""

    topology: Topology
    names: Sequence[str]
    keys: LinkKeys | None = None
    capture: Path | None = None
    tracer: Tracer | None = field(default=None)


class LsrServer:
    """Nodes of one topology in one process. lives: by name, once `serve` has started."""

    def __init__(self, config: LsrConfig) -> None:
        """Prepare to serve; nothing is opened yet."""
        self.config = config
        self.lives: dict[str, LiveNode] = {}
        self.draining = False
        self._sources: dict[str, SourceEnd] = {}
        self._stop = trio.Event()

    async def serve(
        self,
        listeners: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until drained; started with the addresses of the nodes. listeners: none.

        Raises ConfigError where an address cannot be had, HostError for a capture.
        """
        config = self.config
        with ExitStack() as stack:
            stack.callback(self._close)
            capture = None
            if config.capture is not None:
                here = [config.topology.node(name).address for name in config.names]
                capture = CaptureFile(config.capture, config.topology, here)
                stack.callback(capture.close)
            async with trio.open_nursery() as nursery:
                carrier = Carrier(
                    config.topology,
                    nursery,
                    Ted(config.topology),
                    keys=config.keys,
                    capture=capture,
                    tracer=config.tracer,
                )
                await self._open(carrier)
                nursery.start_soon(carrier.run)
                task_status.started([str(live.node.address) for live in self.lives.values()])
                await self._stop.wait()
                self._close()
                nursery.cancel_scope.cancel()

    async def _open(self, carrier: Carrier) -> None:
        for name in self.config.names:
            live = self.lives[name] = LiveNode(name, carrier, self._heed)
            node = carrier.topology.node(name)
            if node.kind is NodeKind.ES:
                provider = provider_of(node)
                if provider is None:
                    provider = await carrier.nursery.start(serve_itself, carrier.topology, node)
                self._sources[name] = SourceEnd(live, provider, carrier.nursery)

    def _heed(self, live: LiveNode, event: NodeEvent) -> None:
        source = self._sources.get(live.name)
        if isinstance(event, StreamOpened) and source is not None:
            source.take(event)

    def _close(self) -> None:
        for live in self.lives.values():
            live.close()

    async def drain(self) -> None:
        """End what sources have reserved, so that lamps know at once, then end `serve`."""
        self.draining = True
        for name in self._sources:
            live = self.lives[name]
            live.node.withdraw(now_ns())
            live.settle(now_ns())
        await trio.lowlevel.checkpoint()
        self._stop.set()

    def stop(self) -> None:
        """End `serve` at once."""
        self._stop.set()

    # ---- what it tells ----------------------------------------------------------------------

    def line(self) -> str:
        """Return one line for people."""
        now = now_ns()
        count = sum(len(live.node.circuits(now)) for live in self.lives.values())
        return f"{len(self.lives)} nodes of {self.config.topology.name}, {count} circuits"

    async def status(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Return what each node holds; with "flows": true its circuits and labels."""
        await trio.lowlevel.checkpoint()
        now, is_long = now_ns(), bool(request.get("flows"))
        rows = [self._row(live, now, is_long=is_long) for live in self.lives.values()]
        state = "draining" if self.draining else "serving"
        return {"state": state, "topology": self.config.topology.name, "nodes": rows}

    def _row(self, live: LiveNode, now: Instant, *, is_long: bool) -> Fields:
        node, topology = live.node, self.config.topology
        circuits = node.circuits(now)
        row: Fields = {
            "node": live.name,
            "kind": node.kind.value,
            "address": str(node.address),
            "circuits": len(circuits),
            "held_mw": {topology.link(link).name: mw for link, mw in node.holds().items()},
            "drops": live.drops(),
            "links": live.neighbours(),
        }
        if is_long:
            row["labels"] = node.label_table()
            row["flows"] = [
                {
                    "lamp": str(one.owner.sender[0]),
                    "lsp": one.owner.sender[1],
                    "request_mw": one.request.power_mw,
                    "grant_mw": one.grant.power_mw if one.grant is not None else 0,
                    "energy_uj": one.energy_uj,
                    "packets": one.packets,
                    "closed": one.is_closed,
                }
                for one in circuits
            ]
        return row

    async def explain(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Return each circuit of a node by the name of `what`, or of all, in sentences."""
        await trio.lowlevel.checkpoint()
        what = str(request.get("what") or "")
        if what and what not in self.lives:
            return Refusal(Reason.STATE, rule="no such node here")
        now = now_ns()
        rows: list[Fields] = []
        for live in self.lives.values():
            if what in ("", live.name):
                rows += [
                    {
                        "flow": f"{live.name}/{one.owner.sender[0]}",
                        "what": "a closed circuit" if one.is_closed else "an open circuit",
                        "wanted": one.request.format(),
                        "given": one.grant.format() if one.grant is not None else "",
                        "sentence": _sentence(one.grant.power_mw if one.grant else 0),
                    }
                    for one in live.node.circuits(now)
                ]
        return {"explanations": rows}


def _sentence(grant_mw: int) -> str:
    return f"{format_power(grant_mw)} are reserved" if grant_mw else "no RESV has come"
