"""What `powertcp mplamps lamp run` does once its words are read."""

import logging
import os
import shutil
import signal
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import trio

from powertcp.cli.consumer import build_loads, check_minimum, read_end, read_profile
from powertcp.cli.consumer_ledger import open_books
from powertcp.cli.consumer_options import Options
from powertcp.cli.lamp_orders import lamp_lines
from powertcp.cli.readings import JsonReport, TextReport
from powertcp.cli.topologies import load_topology
from powertcp.drivers.consumer import Consumer
from powertcp.drivers.consumer_books import ConsumerBooks
from powertcp.drivers.daemon import (
    listen_error,
    make_private,
    runtime_folder,
    set_up_logging,
    state_folder,
)
from powertcp.drivers.dial import listen, parse_address
from powertcp.drivers.guide import Guide
from powertcp.drivers.lsr import Carrier
from powertcp.drivers.lsr_capture import CaptureFile
from powertcp.drivers.lsr_desk import LampDesk
from powertcp.drivers.lsr_keys import LinkKeys, check_keyless, read_link_keys
from powertcp.drivers.lsr_lamp import LiveLamp, Say, Terms
from powertcp.drivers.lsr_own import OwnPower
from powertcp.drivers.lsr_splice import SpliceServer
from powertcp.drivers.price import parse_price
from powertcp.drivers.spool import spool_streams
from powertcp.drivers.tracer import Tracer, open_tracer
from powertcp.drivers.wishes import Wishes
from powertcp.errors import ConfigError, known
from powertcp.loads import CommandLoad
from powertcp.mplamps.node import Model
from powertcp.mplamps.power import TariffKind, TariffObject
from powertcp.mplamps.ted import Ted
from powertcp.mplamps.topology import Node, NodeKind, Topology
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.units import Duration, parse_duration_ns

_LINE = "command line"
_log = logging.getLogger("lamp")
# what a price without a currency is in
_CURRENCY = "EUR"


class Plan(NamedTuple):
    """What is to be run. request: what the lamp asks for by itself."""

    topology: Topology
    node: Node
    terms: Terms
    request: PowerProfile
    keys: LinkKeys | None


def run_lamp(arguments: Namespace) -> int:
    """Do what the words of `powertcp mplamps lamp run` say; returns the exit status."""
    plan = read_plan(arguments)
    options = consumer_options(arguments)
    check_load(options)
    for_ns = read_end("--for", options.for_, parse_duration_ns)
    spool_streams()
    level = logging.DEBUG if arguments.verbose else logging.INFO
    set_up_logging(os.environ, level=logging.WARNING if arguments.quiet else level)
    report = JsonReport(sys.stdout) if arguments.json else LampText()
    tracer = open_tracer(arguments.trace or "")
    try:
        return trio.run(_Run(arguments, plan, options, for_ns, report, tracer).run)
    finally:
        report.end()
        if tracer is not None:
            tracer.close()


def read_plan(arguments: Namespace) -> Plan:
    """Return what is to be run. Raises ConfigError and HostError."""
    topology = load_topology(arguments.topology)
    if arguments.name not in topology:
        said = f'no node of topology {topology.name} is called "{arguments.name}"'
        raise ConfigError(_LINE, "NAME", said)
    node = topology.node(arguments.name)
    if node.kind is not NodeKind.LAMP:
        raise ConfigError(_LINE, "NAME", f"{node.name} is a {node.kind.value}, and no lamp")
    keys = read_link_keys(Path(arguments.keys)) if arguments.keys else None
    if keys is None:
        check_keyless([node.address])
    asked = read_profile("--request", arguments.request or "", ProfileType.REQUEST)
    request = asked or known(node.request, "a lamp of a topology has a request")
    if not request.power_mw:
        raise ConfigError(_LINE, "--request", f"{request.format()} is no power")
    minimum = read_profile("--minimum", arguments.minimum or "", ProfileType.MINIMUM)
    if minimum is not None:
        check_minimum(request, minimum)
        if arguments.splice:
            said = "a splice asks for what its consumers ask for, without a minimum"
            raise ConfigError(_LINE, "--minimum", said)
    terms = Terms(
        request=asked,
        minimum=minimum,
        limit=read_limit(arguments.max_price or ""),
        supplier=read_supplier(arguments.supplier or ""),
        model=Model(arguments.model or Model.OVERLAY),
    )
    return Plan(topology, node, terms, request, keys)


def read_limit(text: str) -> TariffObject | None:
    """Return the most that is paid, None for no limit. Raises ConfigError."""
    if not text:
        return None
    try:
        price = parse_price(text)
    except ValueError as error:
        raise ConfigError(_LINE, "--max-price", str(error)) from error
    return TariffObject.make(TariffKind.LIMIT, price.micro, price.currency or _CURRENCY)


def read_supplier(text: str) -> int:
    """Return the number of a supplier, 0 for any. Raises ConfigError."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 32):
        said = f"a supplier has a number of 1..4,294,967,295, got {text[:20]}"
        raise ConfigError(_LINE, "--supplier", said)
    return int(text)


def consumer_options(arguments: Namespace) -> Options:
    """Return what the consumer of the lamp is told."""
    return Options(
        run=(arguments.run,) if arguments.run else (),
        load=(arguments.load,) if arguments.load else (),
        on_shed=arguments.on_shed or "cap",
        for_=arguments.for_ or "",
        state_dir=arguments.state_dir or "",
        no_ledger=arguments.no_ledger,
        json=arguments.json,
    )


def check_load(options: Options) -> None:
    """Refuse a load that there is not, before anything is asked for. Raises ConfigError."""
    for load in build_loads(options, 1):
        if isinstance(load, CommandLoad) and shutil.which(load.argv[0]) is None:
            raise ConfigError(_LINE, "--run", f"no such command: {load.argv[0]}")


class LampText(TextReport):
    """Sentences of a lamp, and those of its consumer."""

    COMMAND = "powertcp mplamps lamp"

    def __init__(self) -> None:
        """Write to standard output, errors to standard error."""
        super().__init__(sys.stdout, sys.stderr)

    def __call__(self, event: str, facts: Mapping[str, object]) -> None:
        """Show one event."""
        if event == "lamp":
            since = f" after {int(str(facts['since_us'])) / 1000:.1f} ms"
            said = f": {facts['sentence']}" if facts.get("sentence") else ""
            grant = f", {facts['grant']} from {facts['source']}" if facts.get("grant") else ""
            super().__call__(f"{facts['state']}{grant}{since}{said}", {})
        elif event == "supplier":
            super().__call__("another supplier", {})
        else:
            super().__call__(event, facts)


async def _tell_status(
    lamp: LiveLamp, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Log the state of the lamp at each SIGUSR1."""
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        task_status.started()
        async for _ in signals:
            for line in lamp_lines(lamp.live.name, lamp.status()):
                _log.info("status: %s", line.strip())


class _Run:
    """One run of a lamp with its control socket and signals."""

    _books: ConsumerBooks | None

    def __init__(
        self,
        arguments: Namespace,
        plan: Plan,
        options: Options,
        for_ns: Duration | None,
        say: Say,
        tracer: Tracer | None,
    ) -> None:
        self._arguments = arguments
        self._plan = plan
        self._options = options
        self._say = say
        self._tracer = tracer
        self._for_ns = for_ns
        self._books = None

    async def run(self) -> int:
        """Serve until told to end, or until the load has; returns the exit status."""
        arguments, plan = self._arguments, self._plan
        with ExitStack() as stack:
            capture = None
            if arguments.capture:
                here = [plan.node.address]
                capture = CaptureFile(Path(arguments.capture), plan.topology, here)
                stack.callback(capture.close)
            is_kept = not arguments.splice
            async with (
                open_books(self._options, is_kept=is_kept) as self._books,
                trio.open_nursery() as nursery,
            ):
                carrier = Carrier(
                    plan.topology,
                    nursery,
                    Ted(plan.topology),
                    keys=plan.keys,
                    capture=capture,
                    tracer=self._tracer,
                )
                lamp = LiveLamp(plan.node.name, carrier, plan.terms, self._say)
                nursery.start_soon(carrier.run)
                await nursery.start(_tell_status, lamp)
                try:
                    status = await self._serve(lamp, nursery)
                finally:
                    lamp.close()
                nursery.cancel_scope.cancel()
        return status

    async def _serve(self, lamp: LiveLamp, nursery: trio.Nursery) -> int:
        own = OwnPower(lamp, self._plan.request, self._consumer, self._say)
        splicing = SpliceServer(lamp)
        desk = LampDesk(lamp, splicing if self._arguments.splice else own)
        await nursery.start(desk.control().serve, self._control_path())
        if not self._arguments.splice:
            return await self._until_signal(own.run)
        lamp.on_supplier = None
        address = parse_address(self._arguments.splice)
        try:
            listeners = listen([address])
        except OSError as error:
            raise listen_error(error, self._arguments.splice) from error

        async def serve() -> int:
            async with trio.open_nursery() as inner:
                where = await inner.start(splicing.serve, listeners)
                self._say("listening", {"where": ", ".join(where), "addresses": where})
                await trio.sleep_forever()
            return 0

        return await self._until_signal(serve)

    async def _until_signal(self, serve: Callable[[], Awaitable[int]]) -> int:
        """Serve to its end, or to a signal; a consumer that runs hears the signals itself."""
        status = 0
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._heed, signals, nursery.cancel_scope)
                status = await serve()
                nursery.cancel_scope.cancel()
        return status

    async def _heed(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for _ in signals:
            scope.cancel()
            return

    def _control_path(self) -> Path:
        if self._arguments.control:
            return Path(self._arguments.control)
        folder = runtime_folder(os.environ, state_folder(os.environ, "lamp"))
        make_private(folder)
        return folder / f"lamp-{os.getpid()}.sock"

    def _consumer(self, guide: Guide, ask: Ask) -> Consumer:
        """Return the consumer of the lamp, which finds its provider by `guide`."""
        wishes = Wishes(guide=guide, asks=[ask], for_ns=self._for_ns)
        loads = build_loads(self._options, 1)
        return Consumer(wishes, loads, self._say, self._tracer, None, self._books)
