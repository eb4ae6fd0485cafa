"""What changing the keys costs power under way: blocks lost, and their delay.

    python -m tools.rekeys [--count 1000] [--pattern ik]

Two real connections behind their tunnels, a socket pair between them, one thread: what a rekey
computes at both ends delays the block beside it. The same blocks without rekeys are the peer.
Exit status: 0, or 1 when a quantum was lost or a rekey did not come.
"""

import argparse
import json
import os
import socket
import sys
import time
from dataclasses import dataclass

import numpy as np

from powertcp.crypto import ExchangeKey
from powertcp.dve import encode_block
from powertcp.machine import Event
from powertcp.potcp import ConnectionConfig, PowerConnection, TicketOffice
from powertcp.potcp.events import Ask, PowerAccepted, PowerRequested, SamplesReceived
from powertcp.profile import PowerProfile
from powertcp.units import NS_PER_MS, NS_PER_S
from powertcp.vppn.config import SealConfig
from powertcp.vppn.epochs import EpochLimits
from powertcp.vppn.noise import PatternId
from powertcp.vppn.office import SealOffice
from powertcp.vppn.session import Session
from powertcp.vppn.tunnel import Tunnel

SAMPLES = np.array([[12_000, 1_000_000]] * 10)
BLOCK_NS = 5 * NS_PER_MS
PROFILE = PowerProfile.parse("12V/2A")


@dataclass
class Run:
    """One run. delays_ns: of each block, from its making to its banking."""

    delays_ns: list[int]
    rekeys: int
    sent_uj: int
    banked_uj: int

    def at(self, part: float) -> float:
        """Return a delay in us that this part of the blocks does not pass."""
        return float(np.quantile(self.delays_ns, part)) / 1000


class Ends:
    """Sink and source behind tunnels on a socket pair."""

    def __init__(self, pattern: PatternId, rekey_ns: int) -> None:
        """Connect them; keys change each `rekey_ns`."""
        limits = EpochLimits(rekey_ns=rekey_ns, spread_ns=0, gap_ns=NS_PER_MS)
        provider, device = ExchangeKey(os.urandom(32)), ExchangeKey(os.urandom(32))
        is_guest = pattern in (PatternId.NK, PatternId.NK_CLASSIC)
        ours = SealConfig(
            key=None if is_guest else device,
            peer=provider.public,
            pattern=pattern,
            allow_classic=True,
            limits=limits,
        )
        theirs = SealConfig(key=provider, allow_classic=True, limits=limits)
        config = ConnectionConfig(msp=65535, window_ns=3600 * NS_PER_S)
        tickets = TicketOffice(os.urandom)
        offset_ns = time.time_ns() - time.monotonic_ns()
        office = SealOffice(tickets, time.time_ns() - NS_PER_S)
        self.sink = PowerConnection(client=True, config=config, entropy=os.urandom)
        self.source = PowerConnection(
            client=False, config=config, entropy=os.urandom, office=tickets
        )
        now = time.monotonic_ns()
        sessions = (
            Session(ours, is_initiator=True, entropy=os.urandom, unix_offset_ns=offset_ns),
            Session(
                theirs, is_initiator=False, entropy=os.urandom, office=office, peer=b"peer",
                unix_offset_ns=offset_ns,
            ),
        )  # fmt: skip
        self.tunnels = (
            Tunnel(self.sink, sessions[0], now, is_initiator=True),
            Tunnel(self.source, sessions[1], now, is_initiator=False),
        )
        self.tunnels[1].start(now)
        self.source.start(now)
        self.sockets = socket.socketpair()
        for each in self.sockets:
            each.settimeout(0)
        self.events: tuple[list[Event], list[Event]] = ([], [])

    def pump(self) -> None:
        """Carry octets until both ends are silent."""
        moved = True
        while moved:
            moved = False
            for side in (0, 1):
                octets = self.tunnels[side].data_to_send()
                if octets:
                    self.sockets[side].sendall(octets)
                    moved = True
                    self.tunnels[1 - side].receive_data(
                        self.sockets[1 - side].recv(1 << 20), time.monotonic_ns()
                    )
        for side in (0, 1):
            while (event := self.tunnels[side].next_event()) is not None:
                self.events[side].append(event)

    def tick(self) -> None:
        """Let both ends do what is due."""
        for tunnel in self.tunnels:
            tunnel.handle_timer(time.monotonic_ns())
        self.pump()

    def took(self, side: int, kind: type[Event]) -> bool:
        """Return whether an event of this kind came, and forget all events."""
        found = any(isinstance(event, kind) for event in self.events[side])
        self.events[side].clear()
        return found

    def energise(self) -> int:
        """Open a flow and bring it to READY."""
        flow = self.sink.open_flow([Ask(PROFILE)], want_samples=True, now=time.monotonic_ns())
        self.pump()
        if not self.took(1, PowerRequested):
            raise SystemExit("no request came")
        self.source.grant(flow, PROFILE, now=time.monotonic_ns())
        self.pump()
        if not self.took(1, PowerAccepted):
            raise SystemExit("the grant was not accepted")
        self.source.ready(flow, now=time.monotonic_ns())
        self.pump()
        return flow


def run(pattern: PatternId, blocks: int, rekeys: int, rekey_ns: int) -> Run:
    """Deliver `blocks` and more until there were `rekeys`, one each 5 ms, and measure their delay."""
    ends = Ends(pattern, rekey_ns)
    flow = ends.energise()
    delays: list[int] = []
    due = time.monotonic_ns()
    while len(delays) < blocks or (
        ends.tunnels[1].session.epoch < rekeys and len(delays) < 10 * blocks
    ):
        index = len(delays)
        due += BLOCK_NS
        time.sleep(max(0, due - time.monotonic_ns()) / NS_PER_S)
        # a block is made when its time has come, whatever else is due then
        began = time.monotonic_ns()
        ends.tick()
        block = encode_block(index * len(SAMPLES), SAMPLES)
        ends.events[0].clear()
        if not ends.source.send_samples(flow, [block], now=time.monotonic_ns()):
            raise SystemExit("no credit")
        ends.pump()
        if not ends.took(0, SamplesReceived):
            raise SystemExit("a block did not arrive")
        delays.append(time.monotonic_ns() - began)
    epoch = ends.tunnels[1].session.epoch
    sent, banked = ends.source.status(flow).esn_uj, ends.sink.status(flow).esn_uj
    for each in ends.sockets:
        each.close()
    return Run(delays, epoch, sent, banked)


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000, help="rekeys (1000)")
    parser.add_argument("--pattern", choices=[one.word for one in PatternId], default="ik")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    pattern = next(one for one in PatternId if one.word == given.pattern)
    # a rekey with each fourth block
    changed = run(pattern, given.count * 4, given.count, 4 * BLOCK_NS - NS_PER_MS)
    without = run(pattern, len(changed.delays_ns), 0, 120 * NS_PER_S)
    facts = {
        "pattern": given.pattern,
        "blocks": len(changed.delays_ns),
        "rekeys": changed.rekeys,
        "lost_uj": changed.sent_uj - changed.banked_uj,
        "banked_uj": changed.banked_uj,
        "p50_us": round(changed.at(0.5)),
        "p99_us": round(changed.at(0.99)),
        "max_us": round(changed.at(1)),
        "p50_without_us": round(without.at(0.5)),
        "p99_without_us": round(without.at(0.99)),
        "p99_added_us": round(changed.at(0.99) - without.at(0.99)),
    }
    print(
        json.dumps(facts)
        if given.json
        else "\n".join(
            f"{k:16} {v:,}" if isinstance(v, int) else f"{k:16} {v}" for k, v in facts.items()
        )
    )
    return 0 if not facts["lost_uj"] and changed.rekeys >= given.count else 1


if __name__ == "__main__":
    sys.exit(main())
