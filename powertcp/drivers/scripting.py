"""Scripts of the operator: plain Python that is asked by the hooks of `powertcp.reclaim.layer`.

A script is a file with functions named after hooks, `on_flow_judged` and so on, each with one
argument. It is the operator's own code: it may do what this process may. What it does wrong lets
nothing pass that the policy would not. FWRL-1-01, FWRL-3-09.
"""

import ast
import inspect
import logging
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Final

from powertcp.drivers.daemon import printable
from powertcp.drivers.deadline import DEADLINE, Expired
from powertcp.errors import ConfigError, nearest
from powertcp.reclaim.layer import HOOKS, Hook, LayerFailed, failure_of
from powertcp.units import NS_PER_MS, NS_PER_S, Duration

# FWRL-3-09
SCRIPT_LIMIT: Final[Duration] = 50 * NS_PER_MS
# the least and the most that an operator may choose
LIMIT_LEAST: Final[Duration] = NS_PER_MS
LIMIT_MOST: Final[Duration] = NS_PER_S
# a script is loaded, its imports included, while nothing else runs
LOAD_LIMIT_S: Final = 2.0
# octets of a script; people write them
SCRIPT_MAX: Final = 1024 * 1024
# every flow waits for all of them
SCRIPTS_MAX: Final = 16
_PREFIX: Final = "on_"
_log = logging.getLogger("script")

Handler = Callable[[Hook], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A script that is loaded: a layer. limit_s: within which a hook must have answered."""

    file: str
    limit_s: float
    hooks: dict[type[Hook], Handler]
    lines: dict[type[Hook], int]

    def line_of(self, kind: type[Hook]) -> int | None:
        """Return the line of a hook, None: the script has none of that kind."""
        return self.lines.get(kind)

    # FWRL-3-09
    def handle(self, hook: Hook) -> object:
        """Return what the script answers. Raises LayerFailed when it fails or takes too long."""
        kind = type(hook)
        try:
            return DEADLINE.call(self.limit_s, self._answer, hook)
        except Expired:
            said = f"{self.hooks[kind].__name__} took more than {self.limit_s * 1000:g} ms"
            raise LayerFailed(said, self.file, self.lines[kind]) from None

    def _answer(self, hook: Hook) -> object:
        kind = type(hook)
        with _Foreign(self.file, self.lines[kind]):
            return self.hooks[kind](hook)


class _Foreign:
    """Code of the operator: whatever it raises, SystemExit included, is LayerFailed with its line."""

    __slots__ = ("_file", "_line")

    def __init__(self, file: str, line: int) -> None:
        self._file, self._line = file, line

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Let nothing out but Expired."""
        if error is None or isinstance(error, Expired):
            return
        failed = failure_of(error, self._file, self._line)
        raise LayerFailed(printable(str(failed)), failed.file, failed.line) from None


def load_scripts(paths: Sequence[Path], limit: Duration = SCRIPT_LIMIT) -> tuple[Script, ...]:
    """Run scripts, in order, and return them as layers: all of them, or none.

    limit: within which a hook must have answered, ns. Raises ConfigError with file and line. To
    reload, load anew; hand the layers to `Firewall.take` together with the policy.
    """
    if not LIMIT_LEAST <= limit <= LIMIT_MOST:
        said = f"{limit / NS_PER_MS:g} ms, from 1 ms to 1000 ms are possible"
        raise ConfigError("command line", "script_limit", said)
    if len(paths) > SCRIPTS_MAX:
        said = f"{len(paths)} scripts, at most {SCRIPTS_MAX} are possible"
        raise ConfigError("command line", "script", said)
    return tuple(_load(path, limit / NS_PER_S) for path in paths)


# ---- loading ------------------------------------------------------------------------------------


def _load(path: Path, limit_s: float) -> Script:
    file = str(path)
    tree, code = _compile(_read(path), file)
    _check_names(tree, file)
    module = ModuleType(f"script_{path.stem}")
    module.__file__ = file
    module.__dict__["print"] = _printer(path.name)
    _run(code, module, file)
    hooks: dict[type[Hook], Handler] = {}
    lines: dict[type[Hook], int] = {}
    for name, value in vars(module).items():
        if str(name).startswith(_PREFIX):
            line = _line_of(tree, name)
            kind = _known(name, file, line)
            hooks[kind] = _function(name, value, kind, file, line)
            lines[kind] = line
    # FWRL-1-01: one that is never asked is no script that anybody meant
    if not hooks:
        raise ConfigError(file, "line 1", f"it has no hook, known are {', '.join(HOOKS)}")
    return Script(file=file, limit_s=limit_s, hooks=hooks, lines=lines)


def _read(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(str(path), "script", "it is no file")
        if found.st_mode & stat.S_IWOTH:
            raise ConfigError(str(path), "script", "everybody may write it: chmod o-w")
        if found.st_size > SCRIPT_MAX:
            said = f"{found.st_size:,} octets, at most {SCRIPT_MAX:,} are read"
            raise ConfigError(str(path), "script", said)
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), "script", error.strerror or str(error)) from error


def _compile(source: bytes, file: str) -> tuple[ast.Module, CodeType]:
    try:
        tree = ast.parse(source, file)
        return tree, compile(source, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        said = f"line {error.lineno or 1}, column {error.offset or 1}"
        raise ConfigError(file, said, printable(error.msg)) from None
    # nested too deep, or a number with too many digits
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(file, "line 1", printable(f"{type(error).__name__}: {error}")) from None


# FWRL-3-09
def _check_names(tree: ast.Module, file: str) -> None:
    """Refuse functions that nobody would call, and of two of one name the first."""
    seen: set[str] = set()
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith(_PREFIX):
            _known(node.name, file, node.lineno)
        elif (meant := _resembles(node.name)) is not None:
            said = f'no hook, did you mean "{meant}"? Else let its name begin with "_"'
            raise ConfigError(file, f"line {node.lineno}", f'"{node.name}" is {said}')
        if node.name in HOOKS and node.name in seen:
            said = f'a second "{node.name}", only one of them would be asked'
            raise ConfigError(file, f"line {node.lineno}", said)
        seen.add(node.name)


def _resembles(name: str) -> str | None:
    """Return the hook that a public function is named like but for case, underscores, prefix."""
    plain = name.lower().replace("_", "")
    for hook in HOOKS:
        stem = hook.removeprefix(_PREFIX).replace("_", "")
        if not name.startswith("_") and plain in (stem, f"on{stem}", f"no{stem}"):
            return hook
    return None


def _known(name: str, file: str, line: int) -> type[Hook]:
    if name in HOOKS:
        return HOOKS[name]
    close = nearest(name, HOOKS) or f", known are {', '.join(HOOKS)}"
    raise ConfigError(file, f"line {line}", f'unknown hook "{printable(name)}"{close}')


def _function(name: str, value: object, kind: type[Hook], file: str, line: int) -> Handler:
    """Return a hook as what is called. Raises ConfigError: it cannot be called as it will be."""
    where, asked = f"line {line}", f"it is called with one argument, {kind.__name__}"
    if type(value) is not FunctionType:
        raise ConfigError(file, where, f'"{name}" is {type(value).__name__}, no function: {asked}')
    if (
        inspect.iscoroutinefunction(value)
        or inspect.isgeneratorfunction(value)
        or inspect.isasyncgenfunction(value)
    ):
        raise ConfigError(file, where, f'"{name}" must be a plain function, no async, no yield')
    try:
        inspect.signature(value).bind(None)
    except (TypeError, ValueError) as error:
        raise ConfigError(file, where, f'"{name}": {asked}: {error}') from None
    return value


def _run(code: CodeType, module: ModuleType, file: str) -> None:
    """Execute a script. Raises ConfigError with the line where it failed."""

    def execute(space: ModuleType) -> None:
        # dataclasses and their like look for their module there
        sys.modules[space.__name__] = space
        with _Foreign(file, 1):
            exec(code, vars(space))  # noqa: S102 - the operator's own file

    try:
        DEADLINE.call(LOAD_LIMIT_S, execute, module)
    except Expired:
        said = f"it took more than {LOAD_LIMIT_S:g} s to load"
        raise ConfigError(file, "line 1", said) from None
    except LayerFailed as error:
        raise ConfigError(file, f"line {error.line}", str(error)) from None


def _line_of(tree: ast.Module, name: str) -> int:
    """Return the first line that gives `name` its value."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if node.name == name:
                return node.lineno
            case ast.Name(id=found, ctx=ast.Store()) if found == name:
                return node.lineno
            case ast.alias() if name in (node.asname, node.name):
                return node.lineno
    return 1


def _printer(name: str) -> Callable[..., None]:
    """Return what `print` is to a script: a line of the log."""

    def say(*values: object, sep: str | None = None, end: str | None = None, **_: object) -> None:
        text = (" " if sep is None else sep).join(map(str, values)) + (end or "").rstrip()
        _log.info("%s: %s", name, printable(text.encode(errors="backslashreplace").decode()))
        DEADLINE.check()

    return say
