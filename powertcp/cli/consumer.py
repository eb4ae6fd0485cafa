"""`powertcp consumer`: ask a provider for power and run something with it."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from powertcp.cli.finding import add_finding, check_named
from powertcp.cli.parser import Parser
from powertcp.cli.sealing import add_device, device_seal, log_keys, read_firewall, read_via
from powertcp.errors import ConfigError, HostError
from powertcp.units import parse_duration_ns, parse_energy_uj

if TYPE_CHECKING:
    from pathlib import Path

    from powertcp.cli.consumer_options import Options
    from powertcp.dpdp.roam import Roam
    from powertcp.drivers.consumer import Wishes
    from powertcp.drivers.feed_wish import FeedWish
    from powertcp.loads import Load
    from powertcp.potcp.events import Ask
    from powertcp.profile import PowerProfile, ProfileType
    from powertcp.vppn.config import SealConfig

LOADS = "lamp, hum[=FILE.wav], hostcap, none"
EXAMPLE = """example:
  powertcp consumer --connect 127.0.0.1 --request 12V/1.5A --minimum 5V/0.5A \\
      --run 'sha256sum /dev/zero'
  powertcp consumer --connect [::1]:3251 --request 230V/1A@50Hz --load lamp --for 60s
  powertcp consumer --request 12V/1A --run 'make'          from whoever is found on this network
  powertcp consumer --feed multicast --load lamp

exit status: 0 done (with --run: the command's own), 1 refused, tripped, a receipt disputed or the
  ledger not written, 2 usage, 3 no answer or connection lost, 70 a bug"""


class Request(argparse.Action):
    """Collects --request with the --minimum and the --fallback that follow it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Add a request, or complete the last one."""
        requests: list[dict[str, str]] = list(namespace.request or [])
        key = (option_string or "").removeprefix("--")
        if key == "request":
            requests.append({key: str(values)})
        elif not requests or key in requests[-1]:
            parser.error(f"--{key} follows the --request it belongs to")
        else:
            requests[-1] = {**requests[-1], key: str(values)}
        namespace.request = requests


def parser() -> Parser:
    """Build the options of this command."""
    parse = Parser(
        "consumer", "Ask a provider for power; run something exactly while it is powered.", EXAMPLE
    )
    add = parse.add_argument
    add("--connect", metavar="HOST[:PORT]", help="the provider (port 3251; whoever is found)")
    add_finding(parse)
    add_device(parse)
    add("--request", action=Request, metavar="V/I[@Hz]", help="power, repeatable: 12V/1.5A")
    add("--minimum", action=Request, metavar="V/I[@Hz]", help="least for the --request before it")
    add("--fallback", action=Request, metavar="V/I[@Hz]", help="kept after its lease (none)")
    add("--run", metavar="CMD", action="append", help="a command that runs while powered")
    add("--load", metavar="LOAD", action="append", help=f"{LOADS} (none)")
    add(
        "--roam",
        choices=("never", "needed", "better"),
        help="leave a provider that was found: never before lease and --give-up are over; needed: if"
        " it drains, is silent for 2 intervals or has no link; better: for one better for 10 s, too"
        " (needed)",
    )
    add("--on-shed", choices=("cap", "stop", "term"), help="the command while shed (cap)")
    add("--for", dest="for_", metavar="TIME", help="end after this time of samples: 60s (no end)")
    add("--energy", metavar="ENERGY", help="end after this energy of each flow: 10kJ (no end)")
    add("--mux", action="store_true", default=None, help="all requests on one connection")
    add(
        "--feed",
        metavar="[ID@]WHERE",
        help="hear a broadcast: HOST[:PORT], GROUP[:PORT], multicast",
    )
    add("--feed-interface", metavar="IF", help="multicast is heard on it (on all)")
    add("--state-dir", metavar="DIR", help="ledger and meter key (XDG state folder; --feed: none)")
    add("--no-ledger", action="store_true", default=None, help="keep no books, sign no receipts")
    add("--receipts", metavar="TIME/ENERGY", help="how often a receipt is wished for (60s/360kJ)")
    add("--max-price", metavar="PRICE", help="most that is paid per kWh: 0.30, 0.30EUR (no limit)")
    add("--give-up", metavar="TIME", help="look this long for a lost provider or for room (10min)")
    add("--reset", metavar="LOAD", help="let a running consumer's tripped load try again")
    add("--control", metavar="PATH", help="control socket (consumer-PID.sock)")
    add("--json", action="store_true", default=None, help="one event per line, integers with units")
    add("--config", metavar="FILE", help="TOML file (XDG, then /etc/powertcp/consumer.toml)")
    add("--check", action="store_true", help="read the configuration and exit")
    add("--trace", metavar="DIR", help="a file of events of each connection (none)")
    add("-v", "--verbose", action="store_true", help="say more")
    add("-q", "--quiet", action="store_true", help="only warnings and the end")
    return parse


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    given = parser().parse_args(argv)
    from powertcp.cli.consumer_options import settle

    options, file = settle(given, os.environ)
    if given.check:
        print(f"{file or 'command line'}: ok")
        return 0
    if given.reset:
        return reset(given.reset, options.control)
    if options.feed:
        if options.seal:
            raise ConfigError("command line", "--seal", "a feed is for everybody, and in clear")
        if options.connect or options.request or options.mux:
            said = "a feed is heard, nothing is asked for: without --connect, --request and --mux"
            raise ConfigError("command line", "--feed", said)
        check_named(options)
        return consume(options)
    if options.connect:
        check_named(options)
    if not options.request:
        raise ConfigError("command line", "--request", "no power asked for, try --request 12V/1A")
    return consume(options)


def consume(options: "Options") -> int:
    """Build the consumer and run it under trio."""
    from pathlib import Path

    import trio

    from powertcp.cli.consumer_ledger import open_books
    from powertcp.cli.finding import desk, guided, read_search
    from powertcp.cli.readings import JsonReport, TextReport
    from powertcp.drivers.consumer import Consumer
    from powertcp.drivers.daemon import set_up_logging
    from powertcp.drivers.feed_link import open_feed
    from powertcp.drivers.spool import spool_streams
    from powertcp.drivers.tracer import open_tracer

    asks = read_asks(options.request, options.minimum)
    spool_streams()
    level = logging.WARNING if options.quiet else logging.INFO
    set_up_logging(os.environ, level=logging.DEBUG if options.verbose else level)
    seal = read_seal(options)
    wishes = read_wishes(options, asks, seal)
    loads = build_loads(options, len(asks) or 1)
    report = JsonReport(sys.stdout) if options.json else TextReport(sys.stdout, sys.stderr)
    tracer = open_tracer(options.trace)
    search = None
    if not options.connect and not options.feed:
        search = read_search(options, seal)
    path, feed = control_path(options), feed_wish(options, wishes.give_up_ns)
    state = Path(options.state_dir) if options.state_dir else None

    async def serve() -> int:
        async with (
            open_feed(feed, state) as heard,
            open_books(options, is_kept=feed is None) as books,
            guided(wishes, search, report) as guided_wishes,
            trio.open_nursery() as nursery,
        ):
            consumer = Consumer(guided_wishes, loads, report, tracer, heard, books)
            await nursery.start(desk(consumer, guided_wishes).control().serve, path)
            status = await consumer.run()
            nursery.cancel_scope.cancel()
        return status

    try:
        return trio.run(serve)
    finally:
        report.end()
        if tracer is not None:
            tracer.close()


def read_seal(options: "Options") -> "SealConfig | None":
    """Return how power is sealed, None in clear. Raises ConfigError, HostError."""
    seal = device_seal(options, os.environ)
    return seal if seal is None else log_keys(seal, options.keylog, os.environ)


def read_wishes(options: "Options", asks: "list[Ask]", seal: "SealConfig | None") -> "Wishes":
    """Return what a consumer is asked to do. Raises ConfigError with a sentence."""
    from powertcp.cli.consumer_options import read
    from powertcp.drivers.consumer import Wishes
    from powertcp.drivers.dial import parse_address
    from powertcp.drivers.guide import Named, Place
    from powertcp.drivers.price import parse_price

    host, port = parse_address(options.connect) if options.connect else ("", 0)
    return Wishes(
        guide=Named(Place(host=host, port=port, seal=seal)),
        asks=asks,
        fallbacks=read_fallbacks(options, asks),
        mux=options.mux,
        for_ns=read_end("--for", options.for_, parse_duration_ns),
        energy_uj=read_end("--energy", options.energy, parse_energy_uj),
        give_up_ns=read("--give-up", options.give_up, parse_duration_ns) or 0,
        max_price=read("--max-price", options.max_price, parse_price),
        via=read_via(options),
        firewall=read_firewall(options),
        roam=read_roam(options.roam),
    )


def read_roam(text: str) -> "Roam":
    """Read for what a provider is left. Raises ConfigError."""
    from powertcp.dpdp.roam import Roam

    if text not in tuple(Roam):
        said = f"{', '.join(Roam)}, got {text}"
        raise ConfigError("command line", "--roam", said)
    return Roam(text)


def feed_wish(options: "Options", give_up_ns: int) -> "FeedWish | None":
    """Return the feed to hear, None for none. Raises ConfigError with a sentence."""
    from powertcp.drivers.feed_wish import parse_wish
    from powertcp.drivers.groups import find_interface

    if not options.feed:
        return None
    find_interface(options.feed_interface)
    return parse_wish(options.feed, interface=options.feed_interface, give_up_ns=give_up_ns)


def control_path(options: "Options") -> "Path":
    """Return where the control socket stands; its folder is made when it is ours to make."""
    from pathlib import Path

    from powertcp.drivers.daemon import make_private, runtime_folder, state_folder
    from powertcp.drivers.desk import socket_path

    if options.control:
        return Path(options.control)
    folder = runtime_folder(os.environ, state_folder(os.environ, "consumer"))
    make_private(folder)
    return socket_path(folder)


def reset(load: str, control: str) -> int:
    """Tell the running consumers that `load` may try again; 3 when no consumer has it off."""
    from pathlib import Path

    from powertcp.drivers.control import ask, find_sockets
    from powertcp.drivers.daemon import state_folder

    state = state_folder(os.environ, "consumer")
    paths = [Path(control)] if control else find_sockets(os.environ, state)
    for path in paths:
        try:
            _, answer = ask(path, {"op": "reset", "load": load})
        except (OSError, HostError):
            continue
        if "ok" in answer:
            print(f"{load} may try again")
            return 0
    print(f"powertcp consumer: no running consumer has a load {load} that is off", file=sys.stderr)
    return 3


def read_end(path: str, text: str, parse: Callable[[str], int]) -> int | None:
    """Read after how much to end, None for "". Raises ConfigError when it is nothing."""
    from powertcp.cli.consumer_options import read

    end = read(path, text, parse)
    if end == 0:
        raise ConfigError("command line", path, f"{text} ends before it begins")
    return end


def read_asks(requests: Sequence[str], minimums: Sequence[str]) -> "list[Ask]":
    """Read each request with its minimum. Raises ConfigError with a sentence."""
    from powertcp.potcp.events import Ask
    from powertcp.profile import ProfileType

    if len(minimums) > len(requests):
        raise ConfigError("command line", "--minimum", "each follows the --request it belongs to")

    asks = []
    for index, text in enumerate(requests):
        least = minimums[index] if index < len(minimums) else ""
        desired = read_profile("--request", text, ProfileType.REQUEST)
        minimum = read_profile("--minimum", least, ProfileType.MINIMUM)
        # PTCP-1-03
        if desired is not None and minimum is not None:
            check_minimum(desired, minimum)
        if desired is not None:
            if desired.current_ma == 0 or desired.voltage_mv == 0:
                raise ConfigError("command line", "--request", f"{text} asks for no power")
            asks.append(Ask(desired, minimum))
    return asks


def check_minimum(desired: "PowerProfile", minimum: "PowerProfile") -> None:
    """Raise ConfigError when nothing lies between `minimum` and `desired`."""
    from powertcp.profile import in_range

    if not in_range(minimum, desired, minimum):
        said = f"{minimum.format()} is not a lesser power of the kind of {desired.format()}"
        raise ConfigError("command line", "--minimum", said)


def read_fallbacks(options: "Options", asks: "list[Ask]") -> "list[PowerProfile | None]":
    """Read what each request keeps after its lease: its own power with less current."""
    from powertcp.profile import ProfileType, is_fallback_of

    if len(options.fallback) > len(asks):
        raise ConfigError("command line", "--fallback", "each follows the --request it belongs to")
    found: list[PowerProfile | None] = []
    for index, ask in enumerate(asks):
        text = options.fallback[index] if index < len(options.fallback) else ""
        floor = read_profile("--fallback", text, ProfileType.FALLBACK)
        # PTCP-1-04
        if floor is not None and not is_fallback_of(floor, ask.desired):
            asked = ask.desired.format()
            why = f"{text} differs from {asked} in more than a smaller current"
            raise ConfigError("command line", "--fallback", why)
        found.append(floor)
    return found


def read_profile(path: str, text: str, kind: "ProfileType") -> "PowerProfile | None":
    """Read one power of the command line, None for "". Raises ConfigError with a sentence."""
    from powertcp.cli.consumer_options import read
    from powertcp.errors import LocalProtocolError
    from powertcp.profile import PowerProfile

    try:
        return read(path, text, lambda given: PowerProfile.parse(given, kind))
    except LocalProtocolError as error:
        raise ConfigError("command line", path, str(error)) from error


def build_loads(options: "Options", count: int) -> "list[Load]":
    """Return a load for each request: the commands, then the loads, then none."""
    from powertcp.loads import make_load

    specs = [f"run={command}" for command in options.run] + list(options.load)
    if len(specs) > count:
        raise ConfigError(
            "command line", "--load", f"{len(specs)} loads for {count} requests: one each"
        )
    specs += ["none"] * (count - len(specs))
    # standard output is for programs then, one object on each line
    out = sys.stderr if options.json else None
    return [make_load(spec, on_shed=options.on_shed, out=out) for spec in specs]
