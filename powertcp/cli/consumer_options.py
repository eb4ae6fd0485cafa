"""What a consumer is told: flags before environment before file before defaults."""

import argparse
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from powertcp.cli.config import load
from powertcp.errors import ConfigError
from powertcp.units import NS_PER_S, parse_duration_ns, parse_energy_uj

ResultT = TypeVar("ResultT")
# a page bounds what is unsigned: not less often than each day, and each GWh
MAX_RECEIPT_S = 24 * 3600
MAX_RECEIPT_UJ = 3_600_000_000_000_000_000


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of consumer.toml, named as the flags; quantities are texts with units.

    request, minimum and fallback go together by position; "" stands for none. run powers the
    first request, load the ones after it, in order.
    """

    connect: str = ""
    request: tuple[str, ...] = ()
    minimum: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    voltage: str = ""
    current: str = ""
    run: tuple[str, ...] = ()
    load: tuple[str, ...] = ()
    on_shed: str = "cap"
    for_: str = msgspec.field(name="for", default="")
    energy: str = ""
    mux: bool = False
    feed: str = ""
    feed_interface: str = ""
    state_dir: str = ""
    no_ledger: bool = False
    receipts: str = ""
    max_price: str = ""
    vppn: str = ""
    trust: str = ""
    pin: tuple[str, ...] = ()
    site: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    prefer: str = ""
    src: str = ""
    interface: tuple[str, ...] = ()
    roam: str = "needed"
    via: str = ""
    seal: bool = False
    peer: str = ""
    cert: str = ""
    pattern: str = "ik"
    rekey: str = ""
    key: str = ""
    allow_classic: bool = False
    privacy: str = "police"
    keylog: str = ""
    give_up: str = "10min"
    control: str = ""
    trace: str = ""
    json: bool = False
    verbose: bool = False
    quiet: bool = False


def settle(given: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Options, str]:
    """Merge flags over the file over the defaults; also return the name of the file, "" for none."""
    requests = given.request or []
    flags: dict[str, object] = {
        "connect": given.connect,
        **{
            name: tuple(one.get(name, "") for one in requests) or None
            for name in ("request", "minimum", "fallback")
        },
        "run": given.run and tuple(given.run),
        "load": given.load and tuple(given.load),
        "on_shed": given.on_shed,
        "for": given.for_,
        "energy": given.energy,
        "mux": given.mux,
        "feed": given.feed,
        "feed_interface": given.feed_interface,
        "state_dir": given.state_dir,
        "no_ledger": given.no_ledger,
        "receipts": given.receipts,
        "max_price": given.max_price,
        "vppn": given.vppn,
        "trust": given.trust,
        "pin": given.pin and tuple(given.pin),
        "site": given.site and tuple(given.site),
        "static": given.static and tuple(given.static),
        "prefer": given.prefer,
        "src": given.src,
        "interface": given.interface and tuple(given.interface),
        "roam": given.roam,
        "via": given.via,
        "seal": given.seal,
        "peer": given.peer,
        "cert": given.cert,
        "pattern": given.pattern,
        "rekey": given.rekey,
        "key": given.key,
        "allow_classic": given.allow_classic,
        "privacy": given.privacy,
        "keylog": given.keylog,
        "give_up": given.give_up,
        "control": given.control,
        "trace": given.trace,
        "json": given.json,
        "verbose": given.verbose or None,
        "quiet": given.quiet or None,
    }
    effective = load(Options, "consumer", flags, config=given.config, environ=environ)
    options, file = effective.options, effective.file
    if options.voltage and options.current and not options.request:
        request = (f"{options.voltage}/{options.current}",)
        options = msgspec.structs.replace(options, request=request)
    if options.vppn:
        if options.connect:
            raise ConfigError("command line", "--vppn", "it is --connect and --seal in one")
        options = msgspec.structs.replace(options, connect=options.vppn, seal=True)
    return options, str(file) if file is not None else ""


def read(path: str, text: str, parse: Callable[[str], ResultT]) -> ResultT | None:
    """Parse a quantity; "" is none. Raises ConfigError with the parser's sentence."""
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError("command line", path, str(error)) from error


def parse_receipts(text: str) -> tuple[int, int]:
    """Parse "60s/360kJ", "60s" or "360kJ" to s and uJ; 0: not by this measure.

    Raises ValueError with a sentence.
    """
    time, bar, energy = text.partition("/")
    if not bar and time.strip().endswith(("J", "Wh")):
        time, energy = "", time
    receipt_s = parse_duration_ns(time) // NS_PER_S if time else 0
    receipt_uj = parse_energy_uj(energy) if energy else 0
    if receipt_s > MAX_RECEIPT_S or receipt_uj > MAX_RECEIPT_UJ:
        raise ValueError(f"a receipt is due at least each day and each GWh, got {text}")
    if not receipt_s and not receipt_uj:
        raise ValueError(f"a receipt is due each second at most, got {text}")
    return receipt_s, receipt_uj
