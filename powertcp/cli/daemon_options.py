"""The options of every daemon: where it listens, who may draw, where it writes, what it says."""

import argparse


def add_listening(parse: argparse.ArgumentParser) -> None:
    """Add the options of listeners."""
    add = parse.add_argument
    add("--listen", action="append", metavar="ADDR", help="HOST:PORT, repeatable ([::]:3251)")
    add("--connections", type=int, metavar="N", help="of one address or IPv6 /64 (64)")


def add_access(parse: argparse.ArgumentParser, otherwise: str = "") -> None:
    """Add the options that say who may draw what. otherwise: what holds without a file."""
    add = parse.add_argument
    add("--authorized", metavar="FILE", help=f"authorized_watts: who may draw what{otherwise}")
    add("--krl", action="append", metavar="FILE", help="revocation list, repeatable (none)")
    add(
        "--krl-fail", choices=("closed", "open"),
        help="certificates without a fresh list: refused, or not (closed)",
    )  # fmt: skip


def add_running(parse: argparse.ArgumentParser, name: str) -> None:
    """Add the options of a process that runs on. name: of the daemon."""
    add = parse.add_argument
    add("--control", metavar="PATH", help=f"control socket ({name}-PID.sock)")
    add("--state-dir", metavar="DIR", help="ledger, meter key, control socket")
    add("--trace", metavar="DIR", help="a file of events of each connection (none)")
    add("--log-format", choices=("text", "json"), help="of the log on stderr (text)")
    add("--config", metavar="FILE", help=f"TOML file (XDG, then /etc/powertcp/{name}.toml)")
    add("--check", action="store_true", help="decode the configuration and exit")
    add("--json", action="store_true", help="one JSON object per line on stdout")
    add("-v", "--verbose", action="store_true", help="say more")
    add("-q", "--quiet", action="store_true", help="say less")
