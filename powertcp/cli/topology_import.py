"""Topologies from the libraries of the extra `grid`: power grids of pandapower, cities of topohub."""

import inspect
import json
import logging
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from ipaddress import IPv4Address
from typing import Any, Final

from powertcp.cli.config import COMMAND_LINE
from powertcp.errors import ConfigError, nearest
from powertcp.mplamps.districts import Imported, make_topology
from powertcp.mplamps.grids import TABLES, Grid, read_graph, read_tables
from powertcp.mplamps.plans import format_topology
from powertcp.mplamps.topology import DEFAULT_BASE, Topology

DEFAULT_LAMPS: Final = 1000

_WORD = re.compile(r"([a-z]+):([^,]*)(?:,([0-9]{1,9}))?")
_FORMS = {
    "pandapower": "pandapower:NAME[,LAMPS]",
    "simbench": "simbench:CODE[,LAMPS]",
    "topohub": "topohub:GROUP/NAME[,LAMPS]",
}


def is_import(word: str) -> bool:
    """Return whether a word names a grid of a library, and no file."""
    return word.partition(":")[0] in _FORMS and ":" in word


def import_topology(word: str) -> Topology:
    """Return the topology of a grid by its word. Raises ConfigError with a sentence."""
    return _make(word, None, DEFAULT_BASE, has_pdp=False).topology


def print_import(arguments: Namespace, base: IPv4Address) -> int:
    """Print the document of an imported topology, and in its first lines what it was made from."""
    word = arguments.what[0]
    made = _make(word, arguments.lamps, base, has_pdp=arguments.pdp)
    library = word.partition(":")[0]
    print(f"# {word}, {library} {version(library)}")
    if made.left_out:
        print(f"# places that are left out, as they have no way to its sources: {made.left_out:,}")
    sys.stdout.write(format_topology(made.topology))
    return 0


def _make(word: str, lamps: int | None, base: IPv4Address, *, has_pdp: bool) -> Imported:
    found = _WORD.fullmatch(word)
    if found is None or found[1] not in _FORMS or not found[2]:
        known = ", ".join(_FORMS.values())
        raise _wrong(f'a grid is {known}, got "{word[:60]}"')
    count = lamps if lamps is not None else int(found[3] or DEFAULT_LAMPS)
    try:
        grid = _READERS[found[1]](found[2])
        return make_topology(grid, count, base, has_pdp=has_pdp)
    except ValueError as error:
        raise _wrong(str(error)) from error
    except ImportError as error:
        text = f'{found[1]} is not there ({error}): pip install "powertcp[grid]"'
        raise _wrong(text) from error


def _wrong(text: str) -> ConfigError:
    return ConfigError(COMMAND_LINE, "TOPOLOGY", text)


# ---- libraries ----------------------------------------------------------------------------------


def _pandapower(name: str) -> Grid:
    from pandapower import networks

    # it advises to install what it would be faster with
    logging.getLogger("pandapower").setLevel(logging.ERROR)
    known = _networks(vars(networks))
    if name not in known:
        raise ValueError(f'pandapower has no network "{name[:40]}"{nearest(name, known)}')
    return _grid_of(f"pandapower:{name}", known[name]())


def _networks(names: Mapping[str, object]) -> dict[str, Callable[[], Any]]:
    """Return the networks that a library makes without being told anything, by their names."""
    return {
        name: made
        for name, made in names.items()
        if inspect.isfunction(made)
        and made.__module__.startswith("pandapower.networks.")
        and not name.startswith("_")
        and all(it.default is not it.empty or it.kind is it.VAR_KEYWORD
                for it in inspect.signature(made).parameters.values())
    }  # fmt: skip


def _simbench(name: str) -> Grid:
    import simbench

    known = simbench.collect_all_simbench_codes()
    if name not in known:
        raise ValueError(f'simbench has no grid "{name[:60]}"{nearest(name, known)}')
    return _grid_of(f"simbench:{name}", simbench.get_simbench_net(name))


def _grid_of(name: str, network: Any) -> Grid:  # noqa: ANN401 - a library without types
    """Return the grid of a network of pandapower. Raises ValueError for what is none."""
    try:
        return read_tables(name, tables_of(network))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{name} makes no network: {error!r}") from error


def tables_of(network: Any) -> dict[str, Sequence[Mapping[str, object]]]:  # noqa: ANN401
    """Return the tables of a network of pandapower, only the columns that are read, as plain rows."""
    tables: dict[str, Sequence[Mapping[str, object]]] = {}
    for name, columns in TABLES.items():
        if name in network and len(network[name]):
            frame = network[name]
            kept = frame[[column for column in columns if column in frame]]
            # what is not a number becomes null
            rows = json.loads(kept.to_json(orient="records", double_precision=12))
            numbers = map(int, frame.index)
            tables[name] = [{"index": at} | row for at, row in zip(numbers, rows, strict=True)]
    return tables


def _topohub(name: str) -> Grid:
    import topohub

    # the name is a part of a path
    if not re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+", name):
        raise ValueError(f'topohub has names such as sndlib/germany50, got "{name[:40]}"')
    # its own function leaves the file open
    path = files(topohub) / "data" / f"{name}.json"
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f'topohub has no network "{name[:40]}"') from error
    return read_graph(f"topohub:{name}", document)


_READERS: dict[str, Callable[[str], Grid]] = {
    "pandapower": _pandapower,
    "simbench": _simbench,
    "topohub": _topohub,
}
