"""`powertcp demo`: a provider, a consumer that powers a real process, live readings."""

import os
import sys

from powertcp.cli.parser import Parser
from powertcp.errors import ConfigError

EXAMPLE = """example:
  powertcp demo --terminal --scene light --for 20s

Scene light: a provider on a free loopback port and a consumer that powers a prime counter; half
way the rating is halved, so that the counting slows down, and restored. Simulated power, real
protocol, real process. Ends by itself when the output is not a terminal, else with Ctrl-C."""

BOUNDED = "20s"


def parser() -> Parser:
    """Build the options of this command."""
    parse = Parser("demo", "Show Power over TCP on this machine.", EXAMPLE)
    add = parse.add_argument
    add("--terminal", action="store_true", help="in this terminal, no browser")
    add("--scene", choices=("light",), default="light", help="what is shown (light)")
    add("--for", dest="for_", metavar="TIME", default="", help=f"end after this time ({BOUNDED})")
    add("--request", default="12V/1.5A", metavar="V/I", help="what the process asks for (12V/1.5A)")
    add("--json", action="store_true", help="one event per line")
    return parse


def main(argv: list[str]) -> int:
    """Run the demonstration; returns its exit status."""
    given = parser().parse_args(argv)
    if not given.terminal:
        raise ConfigError(
            "command line", "--terminal", "shown in the terminal only: powertcp demo --terminal"
        )
    import trio

    from powertcp.cli.consumer_options import read
    from powertcp.drivers.daemon import set_up_logging
    from powertcp.drivers.light import Light
    from powertcp.drivers.panel import Panel
    from powertcp.drivers.spool import spool_streams
    from powertcp.units import parse_duration_ns

    is_live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    bounded = "" if is_live else BOUNDED
    for_ns = read("--for", given.for_ or bounded, parse_duration_ns)
    spool_streams()
    set_up_logging(os.environ, level=40)
    panel = Panel(
        sys.stdout,
        is_live=is_live and not given.json,
        is_json=given.json,
        has_colour=is_live and "NO_COLOR" not in os.environ,
    )
    light = Light(request=given.request, for_ns=for_ns, panel=panel, environ=os.environ)
    with panel:
        status = trio.run(light.run)
    panel.summary(light.summary())
    return status
