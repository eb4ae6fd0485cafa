"""Simulations of the command line: made of files and options, run, and told."""

import gc
import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from powertcp.cli.lamp_ladder import Ladder, label_lines
from powertcp.cli.topologies import DONE, load_topology
from powertcp.errors import ConfigError, HostError
from powertcp.mplamps.engine import MAX_SEED, Engine, EngineSettings
from powertcp.mplamps.market import Market
from powertcp.mplamps.node import LampState, Model, NodeSettings
from powertcp.mplamps.policeman import Policeman
from powertcp.mplamps.recorder import Recorder
from powertcp.mplamps.rsvp import Style
from powertcp.mplamps.rsvp.admission import Sharing
from powertcp.mplamps.rsvp.settings import HELLO_NS, Settings
from powertcp.mplamps.scenario import (
    DEFAULT_CITY,
    Outcome,
    Spread,
    dusk,
    find_overdraws,
    outcome_of,
)
from powertcp.mplamps.script import DEFAULT_SCRIPT, Act, Verb, parse_script
from powertcp.mplamps.tariffs import parse_market
from powertcp.mplamps.ted import Metric
from powertcp.mplamps.topology import Topology, find_warnings
from powertcp.units import NS_PER_S, Instant, format_duration, format_power, parse_duration_ns

if TYPE_CHECKING:
    from powertcp.cli.powered_lamps import PoweredLamps

UNLIT = 1
SIM_UNTIL = "60s"
# a storm that takes longer is no storm
STORM_UNTIL_NS: Instant = 3_600 * NS_PER_S
MAX_UNTIL_NS: Instant = 7 * 86_400 * NS_PER_S
MAX_OCTETS = 1 << 24
# lamps of a network whose messages are shown
SHOWN_LAMPS = 8
TOLD_NAMES = 20
_EVENTS = 5_000
# steps after which what has come and gone is looked through
_SWEEP = 200
_EVERY_S = 0.5
_EIO = 5
_STYLES = {"se": Style.SE, "ff": Style.FF, "wf": Style.WF}


def run(verb: str, arguments: Namespace) -> int:
    """Run `sim` or `storm`; UNLIT if a lamp that should be lit, without power signalled, is not."""
    simulation = Simulation(verb, arguments)
    return simulation.run()


class Simulation:
    """One simulation as it was asked for."""

    def __init__(self, verb: str, arguments: Namespace) -> None:
        """Read all that is named. Raises ConfigError or HostError for what is not right."""
        self._arguments = arguments
        self._is_storm = verb == "storm"
        self.topology = load_topology(arguments.topology or DEFAULT_CITY)
        if not 0 <= arguments.seed <= MAX_SEED:
            text = f"{arguments.seed:,} is not 0 to {MAX_SEED:,}"
            raise ConfigError("command line", "--seed", text)
        self.until_ns = self._until()
        self._acts = self._script()
        self._market = _market(arguments.market, self.topology)
        self._policeman: Policeman | None = None
        self._settings = self._engine_settings()

    def _until(self) -> Instant:
        said = self._arguments.until
        if said is None:
            return STORM_UNTIL_NS if self._is_storm else parse_duration_ns(SIM_UNTIL)
        return _read("--until", said, parse_duration_ns, 1, MAX_UNTIL_NS)

    def _script(self) -> list[Act]:
        arguments = self._arguments
        if self._is_storm:
            spread_ns = _read(
                "--spread", arguments.spread, parse_duration_ns, 0, STORM_UNTIL_NS // 8
            )
            return dusk(self.topology, arguments.seed, spread_ns)
        if arguments.script is None:
            return parse_script(DEFAULT_SCRIPT, self.topology)
        return parse_script(_text(arguments.script, "script"), self.topology, arguments.script)

    def _engine_settings(self) -> EngineSettings:
        arguments = self._arguments
        if arguments.style == "wf" and arguments.model == "peer":
            text = "a session that all lamps share has no route of its own: with wf it is overlay"
            raise ConfigError("command line", "--model", text)
        if arguments.style == "wf" and any(_goes_peer(act) for act in self._acts):
            text = "a session that all lamps share has no route of its own: with wf none migrates"
            raise ConfigError("command line", "--style", text)
        refresh_ns = _read("--refresh", arguments.refresh, parse_duration_ns, 10**7, 10**13)
        signalling = Settings(
            is_reliable=not self._is_storm or arguments.reliable,
            refresh_ns=refresh_ns,
            hello_ns=HELLO_NS if arguments.hello else None,
        )
        return EngineSettings(
            node=NodeSettings(signalling=signalling, sharing=Sharing(arguments.kirchhoff)),
            metric=Metric(arguments.metric),
            service_ns=_read("--service", arguments.service, parse_duration_ns, 0, NS_PER_S),
            model=Model(arguments.model),
            style=_STYLES[arguments.style],
            suppliers=_suppliers(self._market, self.topology),
        )

    # ---- running ------------------------------------------------------------------------------

    def run(self) -> int:
        """Simulate, and say what came of it; returns the exit status."""
        arguments = self._arguments
        if not arguments.suppress_sanity:
            for warning in find_warnings(self.topology):
                print(f"SANITY   {warning}", file=sys.stderr)
        with ExitStack() as stack:
            capture = stack.enter_context(_writing(arguments.capture, "capture"))
            trace = stack.enter_context(_writing(arguments.trace, "trace"))
            recorder = Recorder(
                self.topology,
                capture=capture.write if capture else None,
                trace=trace.write if trace else None,
            )
            began_s = time.process_time()
            engine = self._engine(recorder)
            powered = self._power(engine) if arguments.power else None
            built_s = time.process_time()
            self._play(engine)
            cpu_s = time.process_time() - built_s
            outcome = outcome_of(engine, is_powered=arguments.power)
            labels = engine.labels_hash()
            is_shown = len(engine.lamps) <= SHOWN_LAMPS
            if arguments.json:
                values = self._values(engine, outcome, built_s - began_s, cpu_s)
            elif is_shown:
                _tell_lamps(engine, outcome)
            lines = [] if arguments.json else list(_sums(engine, outcome, cpu_s))
            if powered is not None:
                engine.observe = None
                powered.finish()
        if arguments.json:
            print(json.dumps(values | self._final_values(engine, powered, labels)))
        else:
            for line in (*lines, *self._energy_lines(powered)):
                print(line)
        return UNLIT if outcome.unlit else DONE

    def _power(self, engine: Engine) -> "PoweredLamps":
        # numpy comes with it
        from powertcp.cli.powered_lamps import PoweredLamps

        return PoweredLamps(engine, self._arguments.seed)

    def _engine(self, recorder: Recorder) -> Engine:
        self._policeman = Policeman(self.topology, self._market, 0) if self._market else None
        engine = Engine(
            self.topology,
            self._arguments.seed,
            self._settings,
            recorder=recorder,
            policeman=self._policeman,
        )
        engine.play(self._acts)
        return engine

    def _play(self, engine: Engine) -> None:
        is_small = len(engine.lamps) <= SHOWN_LAMPS and not self._arguments.json
        ladder = Ladder(self.topology, print) if is_small else None
        if ladder is not None:
            engine.observe = ladder.message
        gc.collect()
        # a network lives as long as the simulation: looking through it again and again is in vain
        gc.freeze()
        gc.disable()
        try:
            self._step(engine)
        finally:
            gc.enable()
            gc.unfreeze()
            _clear_progress()
        if ladder is not None and ladder.left_out:
            print(f"{'':>14}  and {ladder.left_out:,} messages more")

    def _step(self, engine: Engine) -> None:
        """Let simulated time pass, and say on a terminal how far it is."""
        is_settled = self._is_storm and self._arguments.until is None
        next_s = time.monotonic() + _EVERY_S
        steps = 0
        while engine.step(_EVENTS, self.until_ns, is_settled=is_settled):
            steps += 1
            if not steps % _SWEEP:
                gc.collect()
                gc.freeze()
            if sys.stderr.isatty() and time.monotonic() >= next_s:
                next_s = time.monotonic() + _EVERY_S
                _tell_progress(engine, is_powered=self._arguments.power)

    # ---- telling ------------------------------------------------------------------------------

    def _values(
        self, engine: Engine, outcome: Outcome, built_s: float, cpu_s: float
    ) -> dict[str, object]:
        name, messages = engine.busiest()
        return {
            "topology": self.topology.name,
            "seed": self._arguments.seed,
            "simulated_ns": engine.now,
            "lamps": outcome.lamps,
            "wanted": outcome.wanted,
            "signalled": outcome.signalled,
            "lit": outcome.lit,
            "unlit": list(outcome.unlit[:TOLD_NAMES]),
            "is_powered": outcome.is_powered,
            "signalled_ns": _spread_values(outcome.to_signalled),
            "lit_ns": _spread_values(outcome.to_lit),
            "candles": outcome.candles,
            "busiest": {"node": name, "messages": messages},
            "rro_labels": self._labels(engine),
            "first_law_residual_mw": outcome.residual_mw,
            "overdraws": [one._asdict() | {"chi": one.chi} for one in find_overdraws(engine)],
            "events": engine.events,
            "built_cpu_s": round(built_s, 3),
            "cpu_s": round(cpu_s, 3),
            "lamps_per_cpu_s": round(outcome.signalled / cpu_s) if cpu_s else None,
        }

    def _labels(self, engine: Engine) -> dict[str, list[int]]:
        """Return the recorded phase labels of the first lamps, from the source on."""
        found = {}
        for name in list(engine.lamps)[:SHOWN_LAMPS]:
            labels = engine.recorded_labels(name)
            if labels:
                found[name] = labels
        return found

    def _final_values(
        self, engine: Engine, powered: "PoweredLamps | None", labels: str
    ) -> dict[str, object]:
        """Return what is only known when the files are complete."""
        recorder = engine.recorder
        hashes = {
            "trace": recorder.trace_hash(),
            "capture": recorder.capture_hash(),
            "labels": labels,
        }
        # with power its flows end after the time that was simulated: that is in the files too
        counts = recorder.messages()
        found: dict[str, object] = {
            "messages": dict(counts),
            "messages_sum": counts.total(),
            "packets": recorder.packets,
            "lost": engine.lost(),
            "hashes": hashes,
        }
        if powered is not None:
            supplies = powered.supplies()
            found["energy_uj"] = {
                "sent": sum(one.sent_uj for one in supplies.values()),
                "banked": sum(one.banked_uj for one in supplies.values()),
                "cut": sum(one.cut_uj for one in supplies.values()),
            }
            found["first_law_residual_uj"] = powered.residual_uj()
        if self._policeman is not None:
            found["bills"] = [bill._asdict() for bill in self._policeman.bills()]
        return found

    def _energy_lines(self, powered: "PoweredLamps | None") -> Iterator[str]:
        if powered is not None:
            supplies = powered.supplies().values()
            sent, banked, cut = (
                f"{sum(getattr(one, name) for one in supplies):,} uJ"
                for name in ("sent_uj", "banked_uj", "cut_uj")
            )
            yield (
                f"first law: sources have sent {sent}, lamps have verified {banked}, {cut} were"
                f" cut off, difference {powered.residual_uj():,} uJ"
            )
        for bill in self._policeman.bills() if self._policeman is not None else ():
            yield (
                f"bill: {bill.customer or 'anybody'} has had {bill.energy_uj:,} uJ of supplier"
                f" {bill.supplier}, {bill.amount:,} millionths"
            )


def _goes_peer(act: Act) -> bool:
    """Return whether an act lets lamps make their own routes, or might."""
    return act.verb is Verb.MIGRATE and act.model != "overlay"


def _tell_lamps(engine: Engine, outcome: Outcome) -> None:
    print()
    for line in label_lines(engine):
        print(line)
    print()
    for name in engine.lamps:
        print(_said_of_lamp(engine, name, is_powered=outcome.is_powered))


def _said_of_lamp(engine: Engine, name: str, *, is_powered: bool) -> str:
    record = engine.lamps[name]
    if record.on_at is None:
        return f"{name}: dark, nobody switched it on"
    if record.state not in (LampState.SIGNALLED, LampState.LIT):
        if not record.is_wanted:
            return f"{name}: dark, switched off"
        refusal = record.refusal
        why = refusal.text or refusal.sentence() if refusal else "no answer has come"
        return f"{name}: {record.state}, {why}"
    grant = format_power(record.grant.power_mw) if record.grant else "what it asked for"
    since = (record.signalled_at or record.on_at) - record.on_at
    labels = " -> ".join(str(label) for label in engine.recorded_labels(name))
    said = f"{name}: {record.state}, {grant}, signalled after {since:,} ns over {labels}"
    if is_powered and record.lit_at is not None:
        said += f", lit after {record.lit_at - record.on_at:,} ns"
    return said


def _sums(engine: Engine, outcome: Outcome, cpu_s: float) -> Iterator[str]:
    counts = engine.recorder.messages()
    name, messages = engine.busiest()
    yield ""
    goal = "lit" if outcome.is_powered else "signalled"
    said = goal if outcome.is_powered else "signalled (circuit closed)"
    yield f"{outcome.met:,} of {outcome.wanted:,} lamps {said}, {format_duration(engine.now)} simulated"
    spread = outcome.to_goal
    if spread is not None and outcome.candles is not None:
        times = (f"{key} {format_duration(value)}" for key, value in spread._asdict().items())
        yield f"switched on to {goal}: {', '.join(times)}; {outcome.candles:.3g} candles"
    sums = ", ".join(f"{kind} {count:,}" for kind, count in counts.items())
    yield f"{counts.total():,} messages: {sums or 'none'}; most at {name}: {messages:,}"
    yield from (one.sentence() for one in find_overdraws(engine))
    yield f"grants: sources hold {outcome.residual_mw:,} mW more than lamps have"
    for names in (outcome.unlit[:TOLD_NAMES],) if outcome.unlit else ():
        more = len(outcome.unlit) - len(names)
        yield f"not {goal}: {', '.join(names)}{f' and {more:,} more' if more else ''}"
    rate = f", {outcome.signalled / cpu_s:,.0f} lamps/CPU s" if cpu_s else ""
    yield f"trace {engine.recorder.trace_hash()[:16]}, labels {engine.labels_hash()[:16]}{rate}"


def _spread_values(spread: Spread | None) -> dict[str, int] | None:
    return None if spread is None else spread._asdict()


# ---- what is named on the command line ----------------------------------------------------------


def _read(option: str, text: str, parse: Callable[[str], int], least: int, most: int) -> int:
    """Return a duration within bounds. Raises ConfigError with a sentence."""
    try:
        value = parse(text)
    except ValueError as error:
        raise ConfigError("command line", option, str(error)) from error
    if not least <= value <= most:
        said = f"{format_duration(least)} to {format_duration(most)}, got {text}"
        raise ConfigError("command line", option, said)
    return value


def _text(name: str, what: str) -> str:
    try:
        with open(Path(name), "rb", opener=_at_once) as file:
            octets = file.read(MAX_OCTETS + 1)
    except OSError as error:
        raise HostError(error.errno or _EIO, name, f"read a {what}") from error
    if len(octets) > MAX_OCTETS:
        raise ConfigError(name, what, f"more than {MAX_OCTETS:,} octets")
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(name, what, "it is not UTF-8") from error


def _at_once(name: str, flags: int) -> int:
    # a pipe that nobody writes into is empty
    return os.open(name, flags | os.O_NONBLOCK)


def _market(name: str | None, topology: Topology) -> Market | None:
    policeman = topology.pdp()
    if name is None and policeman is not None:
        text = f"the edge LSRs of topology {topology.name} ask {policeman.name}: it needs a market"
        raise ConfigError("command line", "--market", text)
    if name is None:
        return None
    if policeman is None:
        text = f"topology {topology.name} has no node of kind pdp to ask"
        raise ConfigError("command line", "--market", text)
    return parse_market(_text(name, "market"), name, topology)


def _suppliers(market: Market | None, topology: Topology) -> dict[str, frozenset[int]]:
    """Return by source to which suppliers it belongs."""
    found: dict[str, frozenset[int]] = {}
    for supplier in market.suppliers.values() if market is not None else ():
        for address in supplier.sources:
            source = topology.at(address)
            if source is not None:
                found[source.name] = found.get(source.name, frozenset()) | {supplier.number}
    return found


@contextmanager
def _writing(name: str | None, what: str) -> Iterator[BinaryIO | None]:
    """Yield a file that is written, None if none is wanted. Raises HostError if it cannot be."""
    if name is None:
        yield None
        return
    try:
        with open(name, "wb") as file:
            yield file
    except OSError as error:
        raise HostError(error.errno or _EIO, name, f"write a {what}") from error


def _tell_progress(engine: Engine, *, is_powered: bool) -> None:
    lamps = engine.lamps.values()
    text = f"{sum(one.signalled_at is not None for one in lamps):,} lamps signalled"
    if is_powered:
        text += f", {sum(one.lit_at is not None for one in lamps):,} lit"
    said = f"{format_duration(engine.now)} simulated, {text}, {engine.events:,} events"
    print(f"\r{said}\x1b[K", end="", file=sys.stderr)


def _clear_progress() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
