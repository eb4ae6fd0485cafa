"""A hostile provider on a socket: `python -m tests.drivers.attacker HOST PORT --power 1kW --for 30s`.

With --listen it waits at HOST:PORT and attacks who connects first. It prints JSON lines: listening
(port), connected, and done with what it sent, also when it is ended by SIGTERM or SIGINT.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import trio

from powertcp.reclaim import Attack, AttackTerms, Style
from powertcp.units import NS_PER_S, parse_duration_ns, parse_power_mw, parse_voltage_mv
from powertcp.wire.options import Sampling

_READ_OCTETS = 64 * 1024
_UW_PER_MW = 1000


def say(event: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    said = argparse.ArgumentParser(prog="attacker", description=__doc__)
    said.add_argument("host")
    said.add_argument("port", type=int)
    said.add_argument("--listen", action="store_true", help="attack who connects")
    said.add_argument("--power", type=parse_power_mw, default=1_000_000, metavar="W")
    said.add_argument("--voltage", type=parse_voltage_mv, default=250_000, metavar="V")
    said.add_argument("--for", dest="span", type=parse_duration_ns, default=60 * NS_PER_S)
    said.add_argument("--block", type=int, default=100, metavar="SAMPLES")
    said.add_argument("--rate", type=int, default=1000, metavar="HZ")
    said.add_argument("--style", choices=[one.name.lower() for one in Style], default="clear")
    said.add_argument("--flow", type=int, default=1)
    said.add_argument("--flows", type=int, default=1)
    said.add_argument("--claim", type=int, default=1, metavar="TIMES", help="what headers say")
    said.add_argument("--spike", type=int, metavar="BLOCK", help="400 kV in that block")
    said.add_argument("--ignore-credit", action="store_true")
    said.add_argument("--stubborn", action="store_true", help="go on after RST, FIN and TRIP")
    said.add_argument("--probe", type=parse_duration_ns, default=0)
    said.add_argument("--seed", type=int, default=0)
    return said


def terms_of(asked: argparse.Namespace) -> AttackTerms:
    return AttackTerms(
        voltage_mv=asked.voltage,
        current_ua=asked.power * _UW_PER_MW * 1000 // asked.voltage,
        sampling=Sampling(asked.rate),
        block_samples=asked.block,
        duration_ns=asked.span,
        style=Style[asked.style.upper()],
        flow=asked.flow,
        flows=asked.flows,
        claim_factor=asked.claim,
        spike_block=asked.spike,
        honours_credit=not asked.ignore_credit,
        is_stubborn=asked.stubborn,
        probe_ns=asked.probe,
        seed=asked.seed,
    )


class Attacker:
    """An attack and the stream it goes through."""

    def __init__(self, attack: Attack) -> None:
        self.attack = attack
        self.octets = 0
        self.end = "nobody came"
        self._news = trio.Event()

    async def run(self, stream: trio.SocketStream) -> None:
        """Attack until it is over, or the other side is gone."""
        self.end = "ended"
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._read, stream, nursery.cancel_scope)
            try:
                await self._write(stream)
                self.end = "over"
            except trio.BrokenResourceError:
                self.end = "closed"
            nursery.cancel_scope.cancel()

    async def _write(self, stream: trio.SocketStream) -> None:
        attack = self.attack
        while True:
            self._news = trio.Event()
            if octets := attack.data_to_send(time.monotonic_ns()):
                await stream.send_all(octets)
                self.octets += len(octets)
                continue
            if attack.is_over:
                return
            due = attack.get_timer()
            if due is None:
                await self._news.wait()
                continue
            with trio.move_on_after(max(0, due - time.monotonic_ns()) / NS_PER_S):
                await self._news.wait()

    async def _read(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError):
            while octets := await stream.receive_some(_READ_OCTETS):
                self.attack.receive(octets, time.monotonic_ns())
                self._news.set()
        self.end = "closed"
        scope.cancel()

    def report(self) -> None:
        attack = self.attack
        say(
            "done",
            end=self.end,
            sent_uj=attack.sent_uj,
            claimed_uj=attack.claimed_uj,
            credit_uj=attack.credit_uj,
            blocks=attack.blocks,
            segments=attack.segments,
            blocked=attack.blocked,
            octets=self.octets,
            answers=attack.answers,
        )


async def who_connects(host: str, port: int) -> trio.SocketStream:
    """Return the first connection; nobody else is served."""
    listener, *rest = await trio.open_tcp_listeners(port, host=host)
    for other in rest:
        await other.aclose()
    async with listener:
        say("listening", port=listener.socket.getsockname()[1])
        return await listener.accept()


async def go(attacker: Attacker, asked: argparse.Namespace) -> None:
    reach = who_connects if asked.listen else trio.open_tcp_stream
    stream = await reach(asked.host, asked.port)
    say("connected")
    await attacker.run(stream)


async def until_ended(attacker: Attacker, asked: argparse.Namespace) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def attack() -> None:
                await go(attacker, asked)
                nursery.cancel_scope.cancel()

            nursery.start_soon(attack)
            async for _ in signals:
                nursery.cancel_scope.cancel()


def main(arguments: Sequence[str] | None = None) -> None:
    asked = parser().parse_args(arguments)
    attacker = Attacker(Attack(terms_of(asked)))
    trio.run(partial(until_ended, attacker, asked))
    attacker.report()


if __name__ == "__main__":
    main()
