"""What `powertcp firewall run` does once its words are read: configuration, and the daemon."""

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

import msgspec
import trio

from powertcp.cli.config import CONFIGURATION, DurationNs, PowerMw, ServingOptions
from powertcp.cli.daemon import Command, enter_ledger, run_daemon
from powertcp.cli.firewall_policy import load_policy
from powertcp.drivers.clock import unix_ns
from powertcp.drivers.control import Channel, Fields, Put, Verb
from powertcp.drivers.dial import parse_address
from powertcp.drivers.firewall import FirewallConfig, Mode
from powertcp.drivers.firewall_desk import FirewallDesk
from powertcp.drivers.firewall_panel import FirewallPanel
from powertcp.drivers.firewall_report import FirewallReport
from powertcp.drivers.offers import Identity, identity_octets
from powertcp.drivers.reserves import recover
from powertcp.drivers.scripting import SCRIPT_LIMIT, Script, load_scripts
from powertcp.drivers.tracer import open_tracer
from powertcp.errors import ConfigError, PowerError, known
from powertcp.reclaim.policy import Policy
from powertcp.reclaim.policy_lines import PolicyError
from powertcp.reclaim.policy_text import parse_policy
from powertcp.registry import Refusal
from powertcp.units import NS_PER_S, format_energy

PORT = 3261
# what SIGHUP takes of the configuration
_log = logging.getLogger("firewall")
_RELOADED = ("policy", "script", "script_limit")


class FirewallOptions(ServingOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of firewall.toml, beside those of every daemon; named as the flags."""

    listen: tuple[str, ...] = (f"127.0.0.1:{PORT}",)
    policy: str = ""
    mode: Literal["explicit", "redirect", "tproxy"] = "explicit"
    upstream: str = ""
    other: Literal["close", "pass"] = "close"
    rating: PowerMw | None = None
    name: str = ""
    script: tuple[str, ...] = ()
    script_limit: DurationNs = DurationNs(SCRIPT_LIMIT)
    mdns: bool = True
    lab: bool = False


def filter_power(arguments: Mapping[str, Any]) -> int:
    """Do what the words of `powertcp firewall run` say; returns the exit status."""
    words = {name: value for name, value in arguments.items() if name != "live"}

    def serve(options: FirewallOptions) -> _Filtered:
        panel = make_panel(
            arguments["live"],
            is_json=arguments["json"],
            is_quiet=arguments["quiet"],
            environ=os.environ,
        )
        return _Filtered(options, panel)

    command = Command(
        name="firewall",
        options=FirewallOptions,
        check=firewall_config,
        inspect=lambda options: (read_policy(options), read_scripts(options)),
        serve=serve,
    )
    return run_daemon(command, words)


def make_panel(
    live: bool | None, *, is_json: bool, is_quiet: bool, environ: Mapping[str, str]
) -> FirewallPanel | None:
    """Return what shows the powers of each second. live: None: where that is a terminal."""
    is_terminal = sys.stdout.isatty() and environ.get("TERM", "dumb") != "dumb" and not is_json
    if live is False or (live is None and (is_quiet or not is_terminal)):
        return None
    return FirewallPanel(
        sys.stdout,
        is_live=is_terminal,
        is_json=is_json,
        has_colour=is_terminal and "NO_COLOR" not in environ,
    )


def firewall_config(options: FirewallOptions) -> FirewallConfig:
    """Return what the driver needs. Raises ConfigError naming the key and what is wrong."""
    if not options.policy:
        said = "what may pass? name a POLICY, for example attic.policy"
        raise ConfigError(CONFIGURATION, "policy", said)
    mode = Mode(options.mode)
    if options.upstream and mode is not Mode.EXPLICIT:
        said = f"in {mode} mode the far side is where the connection was going"
        raise ConfigError(CONFIGURATION, "upstream", said)
    return FirewallConfig(
        mode=mode,
        upstream=parse_address(options.upstream) if options.upstream else None,
        passes_other=options.other == "pass",
        per_address=options.connections,
    )


def read_policy(options: FirewallOptions) -> Policy:
    """Read the policy. Raises PolicyError with line and column, HostError."""
    return load_policy(Path(options.policy), is_lab=options.lab)


def read_scripts(options: FirewallOptions) -> tuple[Script, ...]:
    """Read the scripts of the operator. Raises ConfigError with file and line."""
    return load_scripts([Path(name) for name in options.script], options.script_limit)


def local_time() -> tuple[int | None, int | None]:
    """Return the minute of the day here, and Unix time in s."""
    unix_s = unix_ns() // NS_PER_S
    here = time.localtime(unix_s)
    return here.tm_hour * 60 + here.tm_min, unix_s


class _Filtered:
    """What is a firewall's own of its daemon: a policy, scripts, reservoirs in its ledger."""

    def __init__(self, options: FirewallOptions, panel: FirewallPanel | None) -> None:
        # options: as they are in force; begun: as they were at the start
        self._options, self._begun, self._panel = options, options, panel
        self._config = firewall_config(options)
        # FWRL-1-01: what cannot be read whole is not served at all
        self._policy, self._scripts = read_policy(options), read_scripts(options)
        self._desk: FirewallDesk | None = None
        self._tracer = open_tracer(options.trace)
        self.facts: Fields = {"mode": options.mode}
        self.orders: Mapping[str, Verb] = {"load": self._on_load, "reset": self._on_reset}
        self.views: Mapping[str, Verb] = {"list": self._on_list}
        self.channels: Mapping[str, Channel] = {"trace": self._on_trace}

    @property
    def server(self) -> FirewallDesk:
        """Who serves connections."""
        return known(self._desk, "nobody is served before the ledger is open")

    @property
    def report(self) -> FirewallReport:
        """Who tells of it."""
        return self.server.report

    async def open(self, stack: AsyncExitStack, state: Path) -> None:
        """Open the ledger, in which the reservoirs are."""
        options, ledger = self._options, await enter_ledger(stack, state)
        if self._tracer is not None:
            stack.callback(self._tracer.close)
        if lost_uj := await recover(ledger):
            _log.warning("%s that may have been lent as it crashed is heat", format_energy(lost_uj))
        identity = Identity(id=identity_octets(state, ledger.meter), key=ledger.meter)
        self._desk = FirewallDesk(
            self._config,
            self._policy,
            ledger,
            identity=identity if options.mdns else None,
            node=options.name or socket.gethostname(),
            unix_ns=unix_ns,
            clock=local_time,
            rating_mw=options.rating,
            layers=self._scripts,
            tracer=self._tracer,
        )

    async def watch(self) -> None:
        """Let seconds pass, write the books, show what is to be seen."""
        panel = self._panel
        if panel is None:
            await self.server.run()
            return
        with panel:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.server.run)
                await panel.run(self.report.status)

    def listening(self, where: Sequence[str]) -> tuple[Fields, str]:
        """Return what to say of the addresses that are served."""
        options, policy = self._options, self.server.firewall.policy
        facts: Fields = {"mode": options.mode, "policy": policy.file, "rules": len(policy.rules)}
        said = f"listening on {', '.join(where)}, {options.mode}, by {policy.file}"
        return facts, said

    # FWRL-3-02
    def reload(self, options: FirewallOptions) -> None:
        """Read policy and scripts again. Raises PowerError, nothing changed then.

        That is the policy in force, which `load` may have named, unless the configuration has
        another one than before.
        """
        firewall_config(options)
        begun = self._begun
        if options.policy == begun.policy:
            options = msgspec.structs.replace(options, policy=self._options.policy)
        else:
            self._begun = msgspec.structs.replace(begun, policy=options.policy)
        policy, scripts = read_policy(options), read_scripts(options)
        self.server.take(policy, scripts)
        self._options = msgspec.structs.replace(
            self._options,
            policy=options.policy,
            script=options.script,
            script_limit=options.script_limit,
        )
        before, now = msgspec.structs.asdict(begun), msgspec.structs.asdict(options)
        if stays := [key for key in now if key not in _RELOADED and now[key] != before[key]]:
            _log.warning("settled at the start, a change needs a restart: %s", ", ".join(stays))

    # -- verbs ---------------------------------------------------------------------------------

    async def _on_list(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Answer `list`."""
        return await self.report.list_all(request)

    def _on_trace(self, request: Mapping[str, object], put: Put) -> Callable[[], None]:
        """Tell of each evaluation; peer: only of those that an address has to do with."""
        return self.server.traces.watch(str(request.get("peer") or ""), put)

    # FWRL-3-02
    async def _on_load(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Answer `load`: the policy in the file `policy`, or in `text`; the whole or nothing."""
        try:
            # 10,000 rules take a second: power goes on meanwhile
            policy, name = await trio.to_thread.run_sync(self._asked, request)
            self.server.take(policy)
        except PolicyError as error:
            faults = [fault._asdict() for fault in error.faults]
            return {"loaded": False, "file": error.file, "faults": faults}
        except PowerError as error:
            return {"loaded": False, "file": str(request.get("policy") or ""), "error": str(error)}
        self._options = msgspec.structs.replace(self._options, policy=name)
        return {
            "loaded": True,
            "file": policy.file,
            "rules": len(policy.rules),
            "otherwise": str(policy.default),
        }

    def _asked(self, request: Mapping[str, object]) -> tuple[Policy, str]:
        """Return the policy that a request names or holds, and its file. Raises PowerError."""
        options, name = self._options, str(request.get("policy") or "")
        text = request.get("text")
        if isinstance(text, str):
            return parse_policy(
                text.encode(), name or "control", is_lab=options.lab
            ), options.policy
        name = name or options.policy
        return load_policy(Path(name), is_lab=options.lab), name

    async def _on_reset(self, _: Mapping[str, object]) -> Fields | Refusal:
        """Answer `reset`: rules and counters are counted anew."""
        await trio.lowlevel.checkpoint()
        self.server.reset()
        return {"reset": True}
