"""Providers found on a link: 500 of them beside avahi, and one of them until power flows."""

import contextlib
import json
import os
import re
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tools.bench.harness import Options, Pair, Sample, Side, WrongResultError, bench, measured
from tools.bench.responders import announced, instance
from tools.bench.spaces import Commands, alone, need_tools, started

HOSTS, EACH = 10, 50
FEW = 5  # providers of a host, in a smoke run
RUNS = 3
STARTS = 10
SLOW_S = 30.0
AVAHI = {
    "avahi-daemon": "avahi-daemon",
    "avahi-browse": "avahi-utils",
    "dbus-daemon": "dbus",
}
CONF = """[server]
host-name=browser
use-ipv4=yes
use-ipv6=yes
allow-interfaces=e0
objects-per-client-max=4096
ratelimit-interval-usec=1000000
ratelimit-burst=1000
[publish]
publish-hinfo=no
publish-workstation=no
"""
BUS = "/run/dbus/system_bus_socket"
WISH = ("--request", "12V/1A", "--json")
_TICKS = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def workshop() -> Iterator[Path]:
    """A folder for what is written meanwhile."""
    with tempfile.TemporaryDirectory(prefix="powertcp-bench-") as name:
        yield Path(name)


@contextlib.contextmanager
def _bounded(process: "subprocess.Popen[str]", seconds: float = SLOW_S) -> Iterator[None]:
    """End a program whose lines are waited for in vain."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    """Yield each line that a program prints, as it comes, for at most half a minute."""
    with _bounded(process):
        for line in process.stdout or ():  # noqa: UP028  delegating would close it at a break
            yield line


@contextlib.contextmanager
def _drained(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Read and forget what a program prints, as long as the block lasts; then end it."""
    thread = threading.Thread(target=lambda: list(process.stdout or ()), daemon=True)
    thread.start()
    try:
        yield
    finally:
        process.terminate()
        thread.join(SLOW_S)


def _seconds_of(pid: int) -> float:
    """CPU seconds of a process so far, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


# ---- 500 providers ------------------------------------------------------------------------------


def _seen(number: int, names: set[str], who: str) -> None:
    wanted = {instance(each) for each in range(number)}
    if names != wanted:
        raise WrongResultError(f"{who} sees {len(names & wanted)} providers of {number}")


def watched(commands: Commands, each: int) -> Side:
    """`powertcp discover --watch --json`, from its start until the last one has its line."""

    def run(seconds: float) -> Sample:
        alone()
        names: set[str] = set()
        first = 0.0
        with workshop() as folder, announced(HOSTS, each):
            began = time.monotonic()
            with commands.running(folder, "discover", "--watch", "--json") as process:
                for line in _lines(process):
                    facts = json.loads(line)
                    if facts["event"] in ("new", "changed") and facts["standing"] == "good":
                        first = first or time.monotonic() - began
                        names.add(facts["name"])
                    if len(names) == HOSTS * each:
                        break
                took, cpu = time.monotonic() - began, _seconds_of(process.pid)
        _seen(HOSTS * each, names, "powertcp discover")
        return Sample(took, {"first_s": first, "cpu_s": cpu})

    return run


def ended(commands: Commands, each: int) -> Side:
    """`powertcp discover --json`, from its start to its end, which is 1 s after the last news."""

    def run(seconds: float) -> Sample:
        alone()
        with workshop() as folder, announced(HOSTS, each):
            began = time.monotonic()
            words = ("discover", "--json", "--timeout", f"{SLOW_S:g}s")
            with commands.running(folder, *words) as process:
                names = {json.loads(line)["name"] for line in _lines(process)}
                took = time.monotonic() - began
        _seen(HOSTS * each, names, "powertcp discover")
        return Sample(took)

    return run


def avahi_browsed(each: int) -> Side:
    """`avahi-browse -rp`, left running until it has them all; its daemon is up, and knows nobody."""

    def run(seconds: float) -> Sample:
        need_tools(AVAHI)
        alone()
        names: set[str] = set()
        first = 0.0
        with workshop() as folder, announced(HOSTS, each), avahi(folder) as daemon:
            before, began = _seconds_of(daemon), time.monotonic()
            with started(("avahi-browse", "-rp", "_powertcp._tcp")) as process:
                for line in _lines(process):
                    fields = line.split(";")
                    if fields[0] == "=":
                        first = first or time.monotonic() - began
                        names.add(_unescaped(fields[3]))
                    if len(names) == HOSTS * each:
                        break
                took = time.monotonic() - began
                cpu = _seconds_of(daemon) - before + _seconds_of(process.pid)
        _seen(HOSTS * each, names, "avahi-browse")
        return Sample(took, {"first_s": first, "cpu_s": cpu})

    return run


def _unescaped(text: str) -> str:
    """Return a name as it is: avahi writes \\032 for a blank."""
    return re.sub(r"\\(\d{3})", lambda found: chr(int(found[1])), text)


@contextlib.contextmanager
def avahi(folder: Path) -> Iterator[int]:
    """avahi-daemon on e0 with a bus of its own, below our /run; yields its process id."""
    conf = folder / "avahi.conf"
    conf.write_text(CONF)
    for name in ("dbus", "avahi-daemon"):
        Path("/run", name).mkdir()
    with started(("dbus-daemon", "--system", "--nofork", "--nopidfile", "--print-address")) as bus:
        if not next(_lines(bus), ""):
            raise RuntimeError(f"dbus-daemon does not serve {BUS}")
        words = ("avahi-daemon", "--no-drop-root", "--no-chroot", "--no-rlimits", "-f", f"{conf}")
        with started(words, log=subprocess.STDOUT) as daemon:
            for line in _lines(daemon):
                if "Server startup complete" in line:
                    break
            else:
                raise RuntimeError("avahi-daemon does not start")
            with _drained(daemon):
                yield daemon.pid


def _complete(commands: Commands, options: Options, each: int) -> Mapping[str, float]:
    """The command that ends by itself, three times, each of them complete."""
    if options.smoke:
        return {}
    took = [measured(ended(commands, each), 0).value for _ in range(RUNS)]
    return {"discover_s": statistics.median(took), "discover_max_s": max(took), "complete": RUNS}


@bench(
    "dpdp-500",
    unit="s until 500 providers of 10 hosts are resolved",
    peer="avahi-browse -rp until the last line",
    stretch=1.0,
    seconds=5.0,
    lower=True,
)
def dpdp_500(options: Options) -> Pair:
    """From the start of a command to the line of its last provider; each round all 500, or 70."""
    commands, each = Commands(), FEW if options.smoke else EACH
    return Pair(
        watched(commands, each),
        avahi_browsed(each),
        figures=lambda: _complete(commands, options, each),
    )


# ---- from nothing to power ----------------------------------------------------------------------


@contextlib.contextmanager
def offering(commands: Commands, folder: Path) -> Iterator[str]:
    """A provider on the loopback, announced; yields its address."""
    words = ("provider", "--listen", "127.0.0.1:0", "--supply", "12V/60A", "--json")
    with commands.running(folder, *words, log=subprocess.STDOUT) as source:
        address = ""
        for line in _lines(source):
            if line.startswith("{"):
                address = address or next(iter(json.loads(line).get("addresses", ())), "")
            elif "announced as" in line:
                break
        else:
            raise RuntimeError("the provider is not announced")
        with _drained(source):
            yield address


def start(commands: Commands, folder: Path, *words: str) -> dict[str, float]:
    """Start a consumer; seconds from exec to each event until READY, and of CPU."""
    seen: dict[str, float] = {}
    began = time.monotonic()
    with commands.running(folder, "consumer", *words, *WISH) as sink:
        for line in _lines(sink):
            facts = json.loads(line)
            seen.setdefault(facts["event"], time.monotonic() - began)
            if facts["event"] == "found":
                seen["settled"] = facts.get("settled_ms", 0) / 1000
            if facts["event"] == "ready":
                break
        else:
            raise WrongResultError(f"a consumer did not come to READY: {list(seen)}")
        seen["cpu"] = _seconds_of(sink.pid)
    return seen


def powered(commands: Commands, *, is_named: bool) -> Side:
    """One start of a consumer, that is told the address of the provider or nothing at all."""

    def run(seconds: float) -> Sample:
        alone()
        with workshop() as folder, offering(commands, folder) as address:
            words = ("--connect", address) if is_named else ()
            seen = start(commands, folder, *words)
        return Sample(seen["ready"], {"cpu_s": seen["cpu"]})

    return run


def _parts(commands: Commands, count: int) -> Side:
    """Where the time goes: medians of `count` starts of each kind, one after another."""

    def run(seconds: float) -> Sample:
        alone()
        found: list[dict[str, float]] = []
        named: list[dict[str, float]] = []
        with workshop() as folder, offering(commands, folder) as address:
            for _ in range(count):
                found.append(start(commands, folder))
                named.append(start(commands, folder, "--connect", address))

        def median(of: list[dict[str, float]], last: str, first: str = "") -> float:
            return statistics.median(one[last] - one.get(first, 0.0) for one in of)

        settle = statistics.median(one["settled"] for one in found)
        return Sample(
            median(found, "ready"),
            {
                "load_s": median(found, "warning"),
                "advert_s": median(found, "found", "warning") - settle,
                "choice_s": settle,
                "power_s": median(found, "ready", "found"),
                "named_s": median(named, "ready"),
            },
        )

    return run


def _breakdown(commands: Commands, options: Options) -> Mapping[str, float]:
    if options.smoke:
        return {}
    sample = measured(_parts(commands, STARTS), 0)
    return {f"median_of_{STARTS}_s": sample.value, **sample.extra}


@bench(
    "dpdp-to-ready",
    unit="s from the start of a consumer to READY",
    peer="the same with --connect",
    stretch=0.5,
    seconds=2.0,
    lower=True,
)
def dpdp_to_ready(options: Options) -> Pair:
    """Nothing is configured: one provider is on the loopback, and found.

    extra: load_s from exec to the search (interpreter, imports), advert_s until something that
    would do is known, choice_s until it is chosen, power_s TCP, handshake and transcript.
    """
    commands = Commands()
    return Pair(
        powered(commands, is_named=False),
        powered(commands, is_named=True),
        figures=lambda: _breakdown(commands, options),
    )
