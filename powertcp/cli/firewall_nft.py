"""`powertcp firewall nft`: the rules of nftables that divert connections to a firewall; it loads none."""

import re
from argparse import Namespace
from typing import Final

from powertcp.cli.parser import Parser

TABLE: Final = "powertcp_firewall"
DPORT: Final = 3251
TO: Final = 3261
# of our packets, and of the routing table that keeps them on this host
MARK: Final = 0x3261
ROUTES: Final = 3261
MODES: Final = ("redirect", "tproxy")
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")
_PORT_MAX: Final = 65_535


def nft(parser: Parser, arguments: Namespace) -> int:
    """Print the rules; nothing is changed by it. Returns the exit status, leaves on wrong words."""
    mode = arguments.mode or "redirect"
    if mode not in MODES:
        parser.error(f"nft --mode is one of {', '.join(MODES)}, got {mode}")
    if not arguments.iface:
        parser.error("nft needs --iface, the interface that connections come in by")
    for name in arguments.iface:
        # the name stands between quotation marks in a text that nft carries out
        if not _INTERFACE.fullmatch(name):
            parser.error(f'"{name}" is no name of an interface')
    dport = DPORT if arguments.dport is None else arguments.dport
    to = TO if arguments.to is None else arguments.to
    for port in (dport, to):
        if not 0 < port <= _PORT_MAX:
            parser.error(f"port {port} is not 1 to {_PORT_MAX}")
    print(rules(mode, arguments.iface, dport, to), end="")
    return 0


# FWRL-2-04
def rules(mode: str, interfaces: list[str], dport: int, to: int) -> str:
    """Return a script for `nft -f -`, with how to load and to remove it as comments.

    mode: redirect or tproxy. interfaces: that connections come in by. What is for this host itself
    is left alone: it would be relayed to itself, and a reservoir that lends is reached here.
    """
    names = " ".join(interfaces)
    quoted = ", ".join(f'"{name}"' for name in interfaces)
    ways = f"iifname {{ {quoted} }}" if len(interfaces) > 1 else f"iifname {quoted}"
    chosen = f"{ways} fib daddr type != local tcp dport {dport}"
    head = [
        f"# Connections to TCP port {dport} that come in by {names} go to port {to} of this host:",
        f"#   powertcp firewall run POLICY --mode {mode} --listen '[::]:{to}'",
        f"# load:   powertcp firewall nft {_words(mode, interfaces, dport, to)} | nft -f -",
        f"# remove: nft delete table inet {TABLE}",
    ]
    if mode == "redirect":
        chain = [
            "    type nat hook prerouting priority dstnat; policy accept;",
            f"    {chosen} counter redirect to :{to}",
        ]
    else:
        head += _routes()
        mark = f"meta mark set {MARK:#x} accept"
        chain = [
            "    type filter hook prerouting priority mangle; policy accept;",
            f"    meta l4proto tcp socket transparent 1 {mark}",
            f"    {chosen} meta nfproto ipv4 counter tproxy ip to :{to} {mark}",
            f"    {chosen} meta nfproto ipv6 counter tproxy ip6 to :{to} {mark}",
        ]
    # the table is made, so that there is one to remove, and made anew: all of it at once
    body = [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    return "\n".join([*head, *body, "  chain divert {", *chain, "  }", "}"]) + "\n"


def _words(mode: str, interfaces: list[str], dport: int, to: int) -> str:
    ways = " ".join(f"--iface {name}" for name in interfaces)
    return f"--mode {mode} {ways} --dport {dport} --to {to}"


def _routes() -> list[str]:
    """Return the commands without which what is marked would be forwarded, and those that undo them."""
    said = ["# What is marked stays on this host; before loading, as root:"]
    for ip, everything in (("ip", "0.0.0.0/0"), ("ip -6", "::/0")):
        said.append(f"#   {ip} rule add fwmark {MARK:#x} lookup {ROUTES}")
        said.append(f"#   {ip} route add local {everything} dev lo table {ROUTES}")
    said.append("# and to remove it:")
    for ip in ("ip", "ip -6"):
        said.append(f"#   {ip} rule del fwmark {MARK:#x} lookup {ROUTES}")
        said.append(f"#   {ip} route flush table {ROUTES}")
    return said
