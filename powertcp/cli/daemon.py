"""A daemon of the command line, whatever it serves: from its configuration to the end of its drain.

A command says what is its own in a `Service` and hands that to `run_daemon`. Signals: TERM and INT
drain, at once the second time; HUP reads the files again; USR1 logs a status.
"""

import errno
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import trio

import powertcp
from powertcp.cli.config import CONFIGURATION, Effective, ServingOptions, check_lines, load
from powertcp.cli.output import Output, finish
from powertcp.cli.status import lines
from powertcp.drivers.clock import unix_ns
from powertcp.drivers.control import Channel, Control, Fields, Verb
from powertcp.drivers.daemon import (
    Notifier,
    activated_sockets,
    listen_error,
    make_private,
    raise_file_limit,
    runtime_folder,
    set_up_logging,
    settle_memory,
    state_folder,
)
from powertcp.drivers.dial import listen, parse_address
from powertcp.drivers.ledger import Ledger, open_ledger
from powertcp.drivers.spool import spool_streams
from powertcp.errors import ConfigError, HostError, PowerError
from powertcp.registry import Refusal

# words that are no keys of the configuration
_NOT_KEYS = ("config", "check", "drain", "json", "verbose", "quiet")
OptionsT = TypeVar("OptionsT", bound=ServingOptions)
TakenT = TypeVar("TakenT", bound=ServingOptions, contravariant=True)


class Server(Protocol):
    """Who serves connections: a provider, a gateway."""

    @property
    def draining(self) -> bool:
        """Whether nobody new is served."""

    async def serve(
        self,
        listeners: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until drained; started with the addresses of `listeners`."""

    async def drain(self) -> None:
        """End every flow, then `serve`."""

    def stop(self) -> None:
        """End `serve` at once."""


class Report(Protocol):
    """What a daemon tells of itself."""

    def line(self) -> str:
        """Return one line for people."""

    async def status(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Answer `status`."""

    async def explain(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Answer `explain`."""


class Service(Protocol[TakenT]):
    """What is a daemon's own. facts: of its greeting. orders: verbs beside those of every daemon.

    views: verbs that only look, beside `status` and `explain`. channels: what may be subscribed to,
    beside `status`.
    """

    @property
    def server(self) -> Server:
        """Who serves connections."""

    @property
    def report(self) -> Report:
        """Who tells of it."""

    @property
    def facts(self) -> Fields:
        """What its greeting says beside role, pid and version."""

    @property
    def orders(self) -> Mapping[str, Verb]:
        """Verbs of its control socket that change something, beside `reload` and `drain`."""

    @property
    def views(self) -> Mapping[str, Verb]:
        """Verbs of its control socket that only look."""

    @property
    def channels(self) -> Mapping[str, Channel]:
        """What may be subscribed to."""

    async def open(self, stack: AsyncExitStack, state: Path) -> None:
        """Open on `stack` what it needs, before anybody is served. state: folder of the ledger."""

    async def watch(self) -> None:
        """Do what is to be done all the while; cancelled at the end."""

    def listening(self, where: Sequence[str]) -> tuple[Fields, str]:
        """Return what to say of the addresses that are served: to programs, to people."""

    def reload(self, options: TakenT) -> None:
        """Go by `options` and by the files they name. Raises PowerError, nothing changed then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Generic[OptionsT]):
    """One command that runs a daemon.

    name: its role, and the name of its file and its log. options: their kind. check: raises
    ConfigError for what cannot be served; inspect: the same for the files that are named, of
    `--check`. serve: makes the service.
    """

    name: str
    options: type[OptionsT]
    check: Callable[[OptionsT], object]
    inspect: Callable[[OptionsT], object]
    serve: Callable[[OptionsT], Service[OptionsT]]


def run_daemon(command: Command[OptionsT], arguments: Mapping[str, Any]) -> int:
    """Do what the words of a command say; returns the exit status.

    Raises ConfigError, HostError when it cannot begin.
    """
    read = reader(command, arguments)
    effective = read()
    options = effective.options
    command.check(options)
    if arguments["check"]:
        command.inspect(options)
        _say_check(command.name, effective, as_json=arguments["json"])
        return 0
    spool_streams()
    level = logging.DEBUG if arguments["verbose"] else logging.INFO
    level = logging.WARNING if arguments["quiet"] else level
    set_up_logging(os.environ, level=level, form=options.log_format)
    raise_file_limit()
    settle_memory()
    service = command.serve(options)
    trio.run(_Daemon(command.name, read, options, service, as_json=arguments["json"]).run)
    finish(sys.stdout)
    return 0


def reader(
    command: Command[OptionsT], arguments: Mapping[str, Any]
) -> Callable[[], Effective[OptionsT]]:
    """Return what reads the configuration of `command`, each time from its file.

    It raises ConfigError.
    """
    flags = {name: value for name, value in arguments.items() if name not in _NOT_KEYS}
    config: str | None = arguments["config"]

    def read() -> Effective[OptionsT]:
        found = load(command.options, command.name, flags, config=config, environ=os.environ)
        _check_listening(found.options)
        return found

    return read


def _check_listening(options: ServingOptions) -> None:
    for address in options.listen:
        parse_address(address)
    if options.connections < 1:
        said = f"at least 1 is needed, got {options.connections}"
        raise ConfigError(CONFIGURATION, "connections", said)


def _say_check(name: str, effective: Effective[OptionsT], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(check_lines(name, effective)))
        return
    keys = sum(origin in ("file", "environment") for origin in effective.origins.values())
    said = effective.file.name if effective.file else "command line"
    print(f"{said}: ok ({keys} keys)")


async def enter_ledger(
    stack: AsyncExitStack, state: Path, otherwise: str = "", *, meter: bytes | None = None
) -> Ledger:
    """Open the ledger in `state`, until `stack` ends.

    otherwise: what else than another folder helps when another process has it. meter: seed of the
    key that signs, None that of the folder. Raises ConfigError then, HostError for what the host
    refuses.
    """
    try:
        opened = open_ledger(state, os.urandom, unix_ns=unix_ns, meter=meter)
        return await stack.enter_async_context(opened)
    except HostError as error:
        if error.errno != errno.EAGAIN:
            raise
        said = f"{error}; give this one another --state-dir{otherwise}"
        raise ConfigError(CONFIGURATION, "state_dir", said) from error


class _Daemon(Generic[OptionsT]):
    """One run of a service with its listeners, control socket and signals."""

    def __init__(
        self,
        name: str,
        read: Callable[[], Effective[OptionsT]],
        options: OptionsT,
        service: Service[OptionsT],
        *,
        as_json: bool,
    ) -> None:
        self._name = name
        self._read = read
        self._options = options
        self._service = service
        self._json = as_json
        self._log = logging.getLogger(name)
        self._notifier = Notifier(os.environ)
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Serve until drained or told to stop."""
        listeners, options = self._listen(), self._options
        state = state_folder(os.environ, self._name, options.state_dir)
        path = Path(options.control) if options.control else (
            runtime_folder(os.environ, state) / f"{self._name}-{os.getpid()}.sock"
        )  # fmt: skip
        if not options.control:
            make_private(path.parent)
        with trio.open_signal_receiver(
            signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1
        ) as signals:
            async with AsyncExitStack() as stack:
                await self._service.open(stack, state)
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    await nursery.start(self._control().serve, path)
                    nursery.start_soon(self._heed, signals)
                    nursery.start_soon(self._notifier.watch)
                    nursery.start_soon(self._service.watch)
                    await self._serve(nursery, listeners)
                    nursery.cancel_scope.cancel()
        self._notifier.send(STOPPING=1)

    def _listen(self) -> list[socket.socket]:
        listeners, wanted = activated_sockets(os.environ), self._options.listen
        addresses = [] if listeners else [parse_address(text) for text in wanted]
        try:
            return listeners + listen(addresses)
        except OSError as error:
            raise listen_error(error, ", ".join(wanted)) from error

    async def _serve(self, nursery: trio.Nursery, listeners: list[socket.socket]) -> None:
        done = trio.Event()

        async def serve(
            *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
        ) -> None:
            await self._service.server.serve(listeners, task_status=task_status)
            done.set()

        where: list[str] = await nursery.start(serve)
        facts, said = self._service.listening(where)
        if self._json:
            said = json.dumps({"event": "listening", "addresses": where, **facts})
        Output(sys.stdout).write(f"{said}\n")
        self._notifier.send(READY=1, STATUS=self._service.report.line())
        await done.wait()

    # -- orders ------------------------------------------------------------------------------

    def _greeting(self) -> Fields:
        return {
            "powertcp": 1, "role": self._name, **self._service.facts, "pid": os.getpid(),
            "version": powertcp.__version__,
        }  # fmt: skip

    def _control(self) -> Control:
        service = self._service
        orders = {**service.orders, "reload": self._on_reload, "drain": self._on_drain}
        looks = {"status": service.report.status, "explain": service.report.explain}
        return Control(
            self._greeting(),
            {**looks, **service.views, **orders},
            guarded=frozenset(orders),
            channels=service.channels,
        )

    async def _on_reload(self, _: Mapping[str, object]) -> Fields | Refusal:
        await trio.lowlevel.checkpoint()
        return {"reloaded": self._reload()}

    async def _on_drain(self, _: Mapping[str, object]) -> Fields | Refusal:
        await trio.lowlevel.checkpoint()
        self._drain()
        return {"state": "draining"}

    async def _heed(self, signals: AsyncIterator[int]) -> None:
        """Act on signals: drain, at once the second time; reload; a status line."""
        async for number in signals:
            if number == signal.SIGHUP:
                self._reload()
            elif number == signal.SIGUSR1:
                await self._log_status()
            elif self._service.server.draining:
                self._service.server.stop()
            else:
                self._drain()

    def _drain(self) -> None:
        if self._nursery is not None and not self._service.server.draining:
            self._notifier.send(STOPPING=1)
            self._nursery.start_soon(self._service.server.drain)

    async def _log_status(self) -> None:
        """Log what `powertcp status --flows` shows of us."""
        status = await self._service.report.status({"flows": True})
        if isinstance(status, dict):
            for line in lines(self._greeting(), status):
                self._log.info("status: %s", line)

    def _reload(self) -> bool:
        """Read the configuration again: the whole of it valid, or the old one stays."""
        self._notifier.reloading()
        try:
            # VPPN-5-03
            self._service.reload(self._read().options)
        except PowerError as error:
            self._log.warning("configuration kept: %s", error)
            return False
        finally:
            self._notifier.send(READY=1, STATUS=self._service.report.line())
        return True
