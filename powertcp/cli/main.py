"""The entry: finds the command, turns its errors into one line and an exit code."""

import os
import sys
from collections.abc import Callable

import powertcp
from powertcp.errors import (
    ConfigError,
    HostError,
    LedgerBroken,
    PowerError,
    PowerRefused,
    RemoteProtocolError,
)

DONE = 0
NO = 1  # the answer is no
USAGE = 2
NO_ANSWER = 3
BUG = 70
INTERRUPTED = 130
PIPE_CLOSED = 141

COMMANDS = {
    "provider": "offer power: a breaker that admits, meters and sheds",
    "consumer": "ask for power and run something with it",
    "discover": "the providers on this link",
    "status": "what the running daemons do",
    "ledger": "the books: accounts, receipts, bills, and the first law",
    "vppn": "identities, and who may draw what: keys, certificates, revocation, gateway",
    "firewall": "the reclaim firewall: a policy that keeps the power it is attacked with",
    "mplamps": "lamps switched by labels that are volts, over IP",
    "realm": "providers of one operator that go on with each other's contracts",
    "decode": "explain octets field by field",
    "explain": "why a flow was refused, shed or tripped; the packaged drafts",
    "demo": "a provider, a consumer that powers a real process, live readings",
}
Command = Callable[[list[str]], int]


def find(name: str) -> Command:
    """Import one command."""
    match name:
        case "provider":
            from powertcp.cli.provider import main as command
        case "consumer":
            from powertcp.cli.consumer import main as command
        case "discover":
            from powertcp.cli.discover import main as command
        case "status":
            from powertcp.cli.status import main as command
        case "ledger":
            from powertcp.cli.ledger import main as command
        case "vppn":
            from powertcp.cli.vppn import main as command
        case "firewall":
            from powertcp.cli.firewall import main as command
        case "mplamps":
            from powertcp.cli.mplamps import main as command
        case "realm":
            from powertcp.cli.realm import main as command
        case "decode":
            from powertcp.cli.decode import main as command
        case "explain":
            from powertcp.cli.explain import main as command
        case _:
            from powertcp.cli.demo import main as command
    return command


def usage() -> str:
    """Return the help of `powertcp` itself."""
    rows = [f"  {name:<10} {purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join(
        [
            "usage: powertcp COMMAND [OPTIONS]",
            "",
            "Power over TCP: ask for volts and amperes in a handshake, receive them as payload.",
            "",
            *rows,
            "",
            "example: powertcp provider --supply 12V/5A --listen 127.0.0.1:3251",
            "         powertcp consumer --connect 127.0.0.1 --request 12V/1.5A --load lamp",
            "",
            "powertcp COMMAND --help shows options, defaults and an example; --version the version.",
            "exit status: 0 done, 1 the answer is no, 2 usage, 3 no answer, 70 a bug",
        ]
    )


def open_streams() -> None:
    """Give a process that was started without standard streams some that lead nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # the lowest free descriptor is the missing one: no socket takes its place
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - it has no name
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good


def main(argv: list[str] | None = None) -> int:
    """Run the command that `argv` names; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    open_streams()
    if not words:
        print(usage(), file=sys.stderr)
        return USAGE
    name = words[0]
    if name in ("--version", "-V", "version"):
        print(f"powertcp {powertcp.__version__}")
        return DONE
    if name in ("--help", "-h", "help"):
        print(usage())
        return DONE
    if name not in COMMANDS:
        from powertcp.errors import nearest

        hint = nearest(name, [*COMMANDS, "--version", "--help"])
        print(f'powertcp: unknown command "{name}"{hint}', file=sys.stderr)
        return USAGE
    if words[1:] == ["--version"]:
        print(f"powertcp {powertcp.__version__}")
        return DONE
    return run(name, words[1:])


def run(name: str, words: list[str]) -> int:
    """Run one command; whatever it raises becomes one line on stderr and an exit status."""
    try:
        status = find(name)(words)
        sys.stdout.flush()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else USAGE
    except BaseException as error:  # noqa: BLE001 - the last door: nothing is swallowed, see `judge`
        return judge(name, error)
    finally:
        from powertcp.cli.output import finish

        finish(sys.stdout)
        finish(sys.stderr)
    return status


def judge(name: str, error: BaseException) -> int:
    """Say in one line what went wrong and return the exit status; a traceback is only ever a bug."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED
        case BrokenPipeError():
            # whoever read our output left
            return PIPE_CLOSED
        case ConfigError() | HostError():
            status = USAGE
        case PowerRefused() | LedgerBroken():
            status = NO
        case OSError() | RemoteProtocolError():
            status = NO_ANSWER
        case _:
            return bug(name, error)
    print(f"powertcp {name}: {error}", file=sys.stderr)
    return status


def bug(name: str, error: BaseException) -> int:
    """Print the traceback of what must not happen, and ask for the trace."""
    import traceback

    traceback.print_exception(error)
    kind = "misuse of a machine" if isinstance(error, PowerError) else type(error).__name__
    print(
        f"powertcp {name}: this is a bug ({kind}); please report it with the lines above"
        " and a trace (--trace DIR)",
        file=sys.stderr,
    )
    return BUG


if __name__ == "__main__":
    sys.exit(main())
