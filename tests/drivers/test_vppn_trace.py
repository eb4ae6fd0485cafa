"""The trace of a gateway: a file of each side, and nothing of what is behind a seal."""

from pathlib import Path
from typing import Any

import pytest

from powertcp.drivers.tracer import OPEN_FILES, Tracer
from powertcp.drivers.vppn_trace import SideTraces, event_data
from powertcp.machine import Event
from powertcp.reclaim.leg import Hung
from powertcp.reclaim.relay import Denial, Denied, FlowLeft, Relay, Seen, UpstreamWanted
from powertcp.reclaim.track import End, Sighting, TrackedFlow, What
from powertcp.registry import Flag, Reason, Refusal
from powertcp.vppn.config import Identity
from powertcp.vppn.noise import PatternId
from powertcp.vppn.tunnel import TunnelBroken, TunnelRekeyed
from powertcp.wire.frames import encode_segment
from powertcp.wire.segments import Control
from tests.drivers.gateways import gateway, inside
from tests.drivers.processes import running
from tests.drivers.test_tracer import records, ticking

FLOW = TrackedFlow(1, End.CLIENT, 0)
WHO = Identity(PatternId.NK, None, b"")
SAID = Refusal(Reason.WATT_LIMIT, 66_000, 65_000)
SENT, HEARD = "potcp:segment_sent", "potcp:segment_received"
RST = encode_segment(Control(0, Flag.RST, 0))


def relay() -> Relay:
    return Relay(lambda flow, asks, via: None, lambda: True)


@pytest.mark.parametrize(
    ("event", "name", "data"),
    [
        (TunnelRekeyed(identity=WHO, epoch=3), "vppn:rekeyed", {"epoch": 3}),
        (TunnelBroken(refusal=SAID), "vppn:rejected", {"code": 204}),
        (UpstreamWanted(via=None, resumes=True), "reclaim:upstream_wanted", {"resumes": True}),
        (Denied(flow=FLOW, asks=(), denial=Denial(SAID)), "reclaim:verdict", {"value": 66_000}),
        (FlowLeft(flow=FLOW, refusal=None, is_cut=True), "reclaim:flow_left", {"is_cut": True}),
        (FlowLeft(flow=FLOW, refusal=SAID), "reclaim:flow_left", {"flow": 1, "limit": 65_000}),
        (Hung(end=End.SERVER, refusal=None), "reclaim:side_left", {"side": "server"}),
        (Hung(end=End.CLIENT, refusal=SAID), "reclaim:side_left", {"code": 204}),
    ],
)
def test_an_event_is_told_with_its_numbers(event: Event, name: str, data: dict[str, Any]) -> None:
    told = event_data(event)
    assert told is not None
    assert told[0] == name
    assert data.items() <= told[1].items()


def test_what_a_device_said_behind_its_seal_is_told_to_nobody() -> None:
    assert event_data(Seen(sighting=Sighting(What.BLOCK, FLOW))) is None


def test_each_side_has_a_file_and_events_have_one_before_there_is_a_provider(
    tmp_path: Path,
) -> None:
    tracer, machines = Tracer(tmp_path, ticking), relay()
    traces = SideTraces(tracer)
    device = traces.follow(End.CLIENT, "[::1]:9", machines.device)
    traces.tell(End.SERVER, [UpstreamWanted(via="lab", resumes=False)])
    provider = traces.follow(End.SERVER, "[::1]:9-lab", machines.provider)
    machines.proven(0)
    provider.receive_data(RST, 0)
    assert device.queued == len(RST)
    assert device.data_to_send() == RST
    assert (device.queued, device.get_timer(), device.next_event()) == (0, None, None)
    device.handle_timer(1)
    device.receive_eof(1)
    hung = provider.next_event()
    assert isinstance(hung, Hung)
    traces.tell(End.SERVER, [hung])
    traces.close()
    tracer.close()
    [ours] = tmp_path.glob("*-gateway-_1_9-1.sqlog")
    [theirs] = tmp_path.glob("*-gateway-_1_9-lab-2.sqlog")
    names = ["reclaim:upstream_wanted", SENT]
    assert [one["name"] for one in records(ours)[1:]] == names
    names = [HEARD, "reclaim:side_left"]
    assert [one["name"] for one in records(theirs)[1:]] == names


def test_without_a_file_a_machine_stays_as_it_is(tmp_path: Path) -> None:
    machines, traces = relay(), SideTraces(None)
    assert traces.follow(End.CLIENT, "a", machines.device) is machines.device
    traces.tell(End.CLIENT, [Hung(end=End.SERVER, refusal=None)])
    tracer = Tracer(tmp_path, ticking)
    for _ in range(OPEN_FILES):
        tracer.open("source", "a")
    traces = SideTraces(tracer)
    assert traces.follow(End.CLIENT, "a", machines.device) is machines.device
    traces.close()
    tracer.close()


async def test_a_gateway_traces_what_is_on_both_wires(tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    words = ("--trace", str(traces))
    async with (
        inside(tmp_path, *words) as (_, upstream),
        gateway(tmp_path, upstream, *words) as gate,
    ):
        async with running(tmp_path, *gate.device(time="1s")) as sink:
            assert await sink.end() == 0
        device = gate.device("--give-up", "1s", power="12V/17A", time="1s")
        async with running(tmp_path, *device) as sink:
            assert await sink.end() == 1
    files = sorted(traces.glob("*-gateway-*"))
    ours = [path for path in files if upstream.replace(":", "_") not in path.name]
    [theirs] = [path for path in files if path not in ours]
    [inner] = traces.glob("*-source-*")
    told = [one for path in ours for one in records(path)[1:]]
    kinds = {one["data"]["type"] for one in told if one["name"].startswith("potcp:segment")}
    assert kinds == {"SEALED"}
    assert {"vppn:handshake_done", "reclaim:upstream_wanted"} <= {one["name"] for one in told}
    assert [one["data"]["code"] for one in told if one["name"] == "reclaim:verdict"] == [204]
    # a provider in clear hears what goes to it, and what it says is what comes
    for end, other, least in ((theirs, inner, 5), (inner, theirs, 10)):
        sent = [one["data"] for one in records(end) if one.get("name") == SENT]
        heard = [one["data"] for one in records(other) if one.get("name") == HEARD]
        assert sent[: len(heard)] == heard
        assert len(heard) > least
