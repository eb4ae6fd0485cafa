"""`python -m tools.bench`: run benches by name, or list them."""

import argparse
import datetime
import difflib
import importlib
import os
import pathlib
import sys

from tools.bench.facts import host_class, machine_facts, machine_line
from tools.bench.harness import (
    BENCHES,
    RESULTS,
    Bench,
    Options,
    Result,
    WrongResultError,
    run_bench,
)
from tools.bench.inspection import (
    count_calls,
    inspect_side,
    memory_side,
    run_ours,
    sample_side,
)

AREAS = (
    "transport",
    "metered",
    "handshake",
    "ticks",
    "decode",
    "dve",
    "feed",
    "ledger",
    "sealed",
    "agreement",
    "discovery",
    "firewall",
    "mplamps",
    "lamps",
)
EXIT_MUST, EXIT_NAME, EXIT_MISSING, EXIT_WRONG = 1, 2, 3, 70


def load_areas(areas: tuple[str, ...] = AREAS) -> None:
    """Import every module of benches, which registers its rows."""
    here = pathlib.Path(__file__).parent
    for area in areas:
        if (here / f"{area}.py").exists():
            importlib.import_module(f"tools.bench.{area}")


def other_tree(folder: str) -> None:
    """In a forked child: forget the package and the benches, take the package of `folder`."""
    if not (pathlib.Path(folder) / "powertcp").is_dir():
        raise FileNotFoundError(f"{folder} has no folder powertcp")
    kept = {"tools.bench.harness", "tools.bench.__main__"}
    for name in list(sys.modules):
        if name.partition(".")[0] == "powertcp" or (
            name.startswith("tools.bench.") and name not in kept
        ):
            del sys.modules[name]
    sys.path.insert(0, os.path.abspath(folder))
    load_areas()


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench",
        description="Measure powertcp against peers in the same run, in CPU time.",
        epilog="Example: python -m tools.bench transport-16k --json",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benches to run; none: list them")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--all", action="store_true", help="run every bench")
    parser.add_argument("--list", action="store_true", help="show names, peers and goals")
    parser.add_argument("--smoke", action="store_true", help="one short round, ratios not judged")
    parser.add_argument("--gate", action="store_true", help="exit 1 if a must is missed")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="odd, at least 5 (7)")
    parser.add_argument("--write", action="store_true", help="write tools/bench/results/")
    parser.add_argument("--against", metavar="DIR", help="the peer is our side of that checkout")
    parser.add_argument("--rate", type=int, default=1, metavar="HZ", help="of ticks-*: 1, 2, 4, 5")
    parser.add_argument(
        "--steps", action="store_true", help="task steps of our side: p50, p99, max"
    )
    parser.add_argument("--sample", action="store_true", help="flame graph of our side (py-spy)")
    parser.add_argument("--memory", action="store_true", help="RSS of a connection, top lines")
    parser.add_argument("--profile", action="store_true", help="cProfile of our side, top 25")
    parser.add_argument("--count", action="store_true", help="system calls of our side (strace)")
    parser.add_argument("--ours", action="store_true", help="one round of our side, no ratio")
    return parser


def show_list() -> None:
    """Name, peer, must, stretch and seconds of every bench."""
    print(f"{'name':<22}{'must':>6}{'stretch':>9}{'s':>6}  peer")
    for row in BENCHES.values():
        must = "-" if row.must is None else f"{row.must:g}"
        stretch = "-" if row.stretch is None else f"{row.stretch:g}"
        print(f"{row.name:<22}{must:>6}{stretch:>9}{row.seconds:>6g}  {row.peer}")


def table_line(result: Result) -> str:
    """One line of the table for people."""
    row = result.bench
    if result.ratio is None or result.value is None or result.peer_value is None:
        return f"{row.name:<22} missing: {result.missing}"
    verdict = {True: "ok", False: "MISSED", None: "-"}[result.ok]
    must = "-" if row.must is None else f"{row.must:g}"
    noisy = " noisy" if result.noisy else ""
    lines = [
        f"{row.name:<22}{_figure(result.value):>12}{_figure(result.peer_value):>12}"
        f"{result.ratio:>8.2f}"
        f"{must:>7}  {verdict:<7}{row.unit}{noisy}"
    ]
    if result.extra:
        figures = ", ".join(f"{key} {value:.4g}" for key, value in result.extra.items())
        lines.append(f"{'':<22}  {figures}")
    return "\n".join(lines)


def _figure(value: float) -> str:
    """A value for people: three digits at least."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def head() -> str:
    """The heading of the table."""
    return f"{'name':<22}{'ours':>12}{'peer':>12}{'ratio':>8}{'must':>7}  {'':<7}unit"


def chosen(names: list[str], everything: bool) -> list[Bench]:
    """The rows asked for; SystemExit 2 with the nearest name for an unknown one."""
    if everything:
        return list(BENCHES.values())
    for name in names:
        if name not in BENCHES:
            near = difflib.get_close_matches(name, BENCHES, n=1, cutoff=0.0)
            print(f"no bench {name}; the nearest is {near[0]}", file=sys.stderr)
            raise SystemExit(EXIT_NAME)
    return [BENCHES[name] for name in names]


def run_all(rows: list[Bench], options: Options, *, as_json: bool) -> tuple[list[Result], int]:
    """Run and print; the results and the exit status."""
    against = options.against
    tree = None if against is None else (lambda: other_tree(against))
    results: list[Result] = []
    status = 0
    if not as_json:
        print(head())
    for row in rows:
        try:
            result = run_bench(row, options, tree)
        except WrongResultError as wrong:
            print(f"{row.name}: wrong result: {wrong}", file=sys.stderr)
            return results, EXIT_WRONG
        print(result.as_json(machine_line()) if as_json else table_line(result), flush=True)
        results.append(result)
        if result.missing is not None:
            print(f"{row.name}: missing: {result.missing}", file=sys.stderr)
            status = EXIT_MISSING
    return results, status


def write_results(results: list[Result], before: str) -> pathlib.Path:
    """The table and the facts of the machine as a file to commit."""
    RESULTS.mkdir(exist_ok=True)
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    path = RESULTS / f"{day}-{host_class()}.txt"
    lines = [*machine_facts(), f"load before: {before}", f"load after: {load()}", "", head()]
    lines += [table_line(result) for result in results]
    path.write_text("\n".join(lines) + "\n")
    return path


def load() -> str:
    """The load averages over 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def inspected(rows: list[Bench], options: Options, asked: argparse.Namespace) -> int | None:
    """The exit status of what looks at our side alone, None if nothing of that was asked."""
    if asked.ours:
        for row in rows:
            run_ours(row, options)
        return 0
    if asked.profile or asked.steps:
        return inspect_side(rows, options, "profile" if asked.profile else "steps")
    if asked.memory:
        return memory_side(rows, options)
    if asked.sample:
        return sample_side(rows)
    return count_calls(rows) if asked.count else None


def main() -> int:
    """Run what the command line asks for; the exit status."""
    asked = arguments().parse_args()
    load_areas()
    if asked.list or not (asked.names or asked.all or asked.smoke):
        show_list()
        return 0
    rows = chosen(asked.names, asked.all or (asked.smoke and not asked.names))
    rounds = max(5, asked.rounds | 1)
    options = Options(smoke=asked.smoke, rounds=rounds, rate=asked.rate, against=asked.against)
    status = inspected(rows, options, asked)
    if status is not None:
        return status
    before = load()
    results, status = run_all(rows, options, as_json=asked.json)
    if status == EXIT_WRONG:
        return status
    if asked.write:
        print(write_results(results, before), file=sys.stderr)
    if asked.gate and any(result.ok is False for result in results):
        return EXIT_MUST
    return 0 if asked.smoke else status


if __name__ == "__main__":
    sys.exit(main())
