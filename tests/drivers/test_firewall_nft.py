"""The printed rules in a kernel: connections for others are diverted, and it all goes away again."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.spaces import inside, ip, need, pair, peer

pytestmark = [pytest.mark.kernel, pytest.mark.interop]

NFT = {"nft": "nftables"}
OURS = "inet powertcp_firewall"
# what a firewall does: it takes a connection and says where that was going
LISTEN = """
import socket, sys
mode, family, port = sys.argv[1], getattr(socket, sys.argv[2]), int(sys.argv[3])
listener = socket.socket(family)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if family == socket.AF_INET6:
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
if mode == "tproxy" and family == socket.AF_INET:
    listener.setsockopt(socket.SOL_IP, 19, 1)
if mode == "tproxy" and family == socket.AF_INET6:
    listener.setsockopt(socket.IPPROTO_IPV6, 75, 1)
listener.bind(("", port))
listener.listen()
print("listening", flush=True)
while True:
    taken, _ = listener.accept()
    with taken:
        if mode == "tproxy":
            host, to = taken.getsockname()[:2]
        elif family == socket.AF_INET:
            raw = taken.getsockopt(socket.SOL_IP, 80, 16)
            host, to = socket.inet_ntop(family, raw[4:8]), int.from_bytes(raw[2:4], "big")
        else:
            raw = taken.getsockopt(socket.IPPROTO_IPV6, 80, 28)
            host, to = socket.inet_ntop(family, raw[8:24]), int.from_bytes(raw[2:4], "big")
        taken.sendall(f"{host} {to}".encode())
"""
DIAL = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as end:
        print(end.makefile().read())
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def outside_and_firewall() -> Iterator[tuple[str, str]]:
    """Two hosts: 10.9.0.1 and fd09::1 outside, which reaches 10.77.0.0/24 and fd77::/64 by ours."""
    need(NFT)
    with pair() as (outside, firewall):
        for number, space in ((1, outside), (2, firewall)):
            ip("-n", space, "addr", "add", f"fd09::{number}/64", "dev", "e0", "nodad")
        ip("-n", outside, "route", "add", "10.77.0.0/24", "via", "10.9.0.2")
        ip("-n", outside, "route", "add", "fd77::/64", "via", "fd09::2")
        yield outside, firewall


def rules(*words: str) -> str:
    command = (sys.executable, "-m", "powertcp", "firewall", "nft", *words)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def nft(space: str, *words: str, script: str = "") -> str:
    command = [*inside(space), "nft", *words]
    ran = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def told(text: str, verbs: str) -> list[list[str]]:
    """Return the commands `ip` of the comments whose verb is one of `verbs`."""
    found = [line.split()[1:] for line in text.splitlines() if line.startswith("#   ip")]
    return [words[1:] for words in found if re.search(verbs, " ".join(words))]


@pytest.mark.parametrize("mode", ["redirect", "tproxy"])
@pytest.mark.parametrize("ways", [("--iface", "e0"), ("--iface", "e0", "--iface", "not-there")])
def test_nftables_takes_what_is_printed(
    outside_and_firewall: tuple[str, str], mode: str, ways: tuple[str, ...]
) -> None:
    _, firewall = outside_and_firewall
    assert nft(firewall, "-c", "-f", "-", script=rules("--mode", mode, *ways)) == ""
    assert nft(firewall, "list", "tables") == ""


@pytest.mark.requirement("FWRL-2-04")
@pytest.mark.parametrize("mode", ["redirect", "tproxy"])
def test_what_is_for_others_is_diverted_and_its_destination_known(
    outside_and_firewall: tuple[str, str], tmp_path: Path, mode: str
) -> None:
    outside, firewall = outside_and_firewall
    text = rules("--mode", mode, "--iface", "e0")

    def dial(host: str, port: int = 3251) -> str:
        words = [*inside(outside), sys.executable, "-c", DIAL, host, str(port)]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    for words in told(text, " add "):
        ip("-n", firewall, *words)
    # twice: what is loaded takes the place of what was
    nft(firewall, "-f", "-", script=text)
    nft(firewall, "-f", "-", script=text)
    listen = [*inside(firewall), sys.executable, "-c", LISTEN, mode]
    with (
        peer(tmp_path, [*listen, "AF_INET", "3261"]) as four,
        peer(tmp_path, [*listen, "AF_INET6", "3261"]) as six,
    ):
        for one in (four, six):
            one.until(lambda said: "listening" in said)
        assert dial("10.77.0.5") == "10.77.0.5 3251"
        assert dial("fd77::5") == "fd77::5 3251"
        # what is for the host itself is not diverted: nobody listens there
        assert dial("10.9.0.2") == dial("fd09::2") == "ConnectionRefusedError"
    assert len(re.findall(r"counter packets [1-9]", nft(firewall, "list", "table", *OURS.split())))
    nft(firewall, "delete", "table", *OURS.split())
    for words in told(text, " del | flush "):
        ip("-n", firewall, *words)
    assert nft(firewall, "list", "tables") == ""
    for family in ("-4", "-6"):
        shown = ["ip", "-n", firewall, family, "rule"]
        left = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
        assert "3261" not in left
