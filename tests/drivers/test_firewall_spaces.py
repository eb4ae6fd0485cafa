"""The firewall between two networks: nftables diverts what was for others, in namespaces."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.drivers.firewalls import attacker, firewall
from tests.drivers.gateways import books
from tests.drivers.processes import running
from tests.drivers.spaces import check_spaces, inside, ip, need, spaces

pytestmark = [pytest.mark.kernel, pytest.mark.interop]

# POWERTCP_LONG: 1 kW for 30 s
ATTACK_S = 30 if "POWERTCP_LONG" in os.environ else 6
POLICY = """\
reservoir main capacity 5kWh charge 95% discharge 95% max-in 2kW when-full stop
set inside net 10.7.1.0/24
policy reclaim main
rule state invalid -> reject 506 log
rule state unsolicited -> reclaim main limit 1kW burst 2kJ count attacks
rule direction in state new -> reject 204 log
rule src @inside power > 50W -> reject 204
rule direction out -> accept
"""


def setup_module() -> None:
    need({"nft": "nftables"})
    check_spaces({"nft": "nftables"})


@contextmanager
def networks() -> Iterator[tuple[str, str, str]]:
    """Make outside 10.7.2.2, the firewall 10.7.2.1 and 10.7.1.1, and inside 10.7.1.2."""
    with spaces(3) as (outside, middle, within):
        for number, space in ((1, within), (2, outside)):
            near = f"e{number}"
            ip(
                "-n",
                middle,
                "link",
                "add",
                near,
                "type",
                "veth",
                "peer",
                "name",
                "e0",
                "netns",
                space,
            )
            ip("-n", middle, "addr", "add", f"10.7.{number}.1/24", "dev", near)
            ip("-n", middle, "link", "set", near, "up")
            ip("-n", space, "addr", "add", f"10.7.{number}.2/24", "dev", "e0")
            ip("-n", space, "link", "set", "e0", "up")
            ip("-n", space, "route", "add", "default", "via", f"10.7.{number}.1")
        run(middle, "sysctl", "-q", "net.ipv4.ip_forward=1")
        yield outside, middle, within


def run(space: str, *words: str, script: str = "") -> str:
    command = [*inside(space), *words]
    ran = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def divert(space: str, mode: str) -> None:
    """Load what `powertcp firewall nft` prints, and the routes that it names."""
    words = (sys.executable, "-m", "powertcp", "firewall", "nft", "--mode", mode)
    text = subprocess.run(
        [*words, "--iface", "e1", "--iface", "e2"], capture_output=True, text=True, check=True
    ).stdout
    for line in text.splitlines():
        if line.startswith("#   ip") and " add " in line:
            ip("-n", space, *line.split()[2:])
    run(space, "nft", "-f", "-", script=text)


@pytest.mark.requirement("FWRL-2-04", "FWRL-2-05", "FWRL-1-03", "FWRL-5-01")
@pytest.mark.parametrize("mode", ["redirect", "tproxy"])
async def test_power_from_outside_passes_diverted_and_attacks_are_kept(
    tmp_path: Path, mode: str
) -> None:
    with networks() as (outside, middle, within):
        divert(middle, mode)
        source = ("--supply", "12V/20A", "--listen", "10.7.2.2:3251", "--no-mdns")
        async with (
            running(
                tmp_path, "provider", *source, "--state-dir", str(tmp_path / "source"),
                before=inside(outside),
            ) as provider,
            firewall(
                tmp_path, "--mode", mode, policy=POLICY, listen="0.0.0.0:3261",
                before=inside(middle),
            ) as fire,
        ):  # fmt: skip
            await provider.until("listening")
            wish = ("--request", "12V/2A", "--for", "4s", "--receipts", "1s")
            async with (
                running(
                    tmp_path, "consumer", "--connect", "10.7.2.2", *wish,
                    "--state-dir", str(tmp_path / "sink"), before=inside(within),
                ) as sink,
                # to an address inside where nobody is: it never gets there
                attacker("10.7.1.77:3251", "--for", "60s", before=inside(outside)) as attack,
            ):  # fmt: skip
                await attack.until("connected")
                assert await sink.end() == 0, sink.log + fire.process.log
                status = await fire.ask(op="status")
                listed = await fire.ask(op="list")
                attack.signal(signal.SIGTERM)
                await attack.end()
            # who connects to the firewall itself leads nowhere
            command = "import socket; print(socket.create_connection(('10.7.2.1', 3261)).recv(9))"
            assert run(outside, sys.executable, "-c", command) == "b''\n"
            provider.signal(signal.SIGTERM)
            fire.process.signal(signal.SIGTERM)
            assert await fire.process.end() == 0, fire.process.log
            assert await provider.end() == 0
    (done,), (sent,) = sink.all("done"), attack.all("done")
    assert done["energy_uj"] == done["signed_uj"] == 96_000_000
    assert status["authorised_uj"] == 96_000_000
    assert status["residual_uj"] == 0
    accounts, name = fire.accounts(), socket.gethostname()
    came = -accounts["intercepted:10.7.2.2"]
    assert came == accounts["reservoir:main"] + accounts[f"heat:{name}"]
    assert 0 < came <= sent["sent_uj"]
    flows = listed["flows"]
    assert isinstance(flows, list)
    assert [row["other"] for row in flows if row["peer"] == "10.7.2.2"] == ["10.7.1.77:3251"]
    # whose address the provider sees
    (row,) = (row for row in books(tmp_path / "source", "show") if "sink:" in row["account"])
    assert row["account"] == {"redirect": "sink:10.7.2.1", "tproxy": "sink:10.7.1.2"}[mode]


@pytest.mark.requirement("FWRL-4-04", "FWRL-5-01", "DPDP-3-01")
async def test_an_attack_of_1_kw_runs_a_process_inside_that_found_the_power(
    tmp_path: Path,
) -> None:
    lends = (
        "lend from main offer 12V/5A,prio=5 above 0% listen 10.7.1.1:3251"
        ' announce "reclaimed power"\n'
    )
    with networks() as (outside, middle, within):
        divert(middle, "redirect")
        source = ("--supply", "12V/20A", "--listen", "10.7.2.2:3251", "--no-mdns")
        async with (
            running(
                tmp_path, "provider", *source, "--state-dir", str(tmp_path / "source"),
                before=inside(outside),
            ) as provider,
            firewall(
                tmp_path, "--mode", "redirect", policy=POLICY + lends, listen="0.0.0.0:3261",
                before=inside(middle),
            ) as fire,
            attacker("10.7.1.77:3251", "--for", f"{ATTACK_S}s", before=inside(outside)) as attack,
        ):  # fmt: skip
            await provider.until("listening")
            await attack.until("connected")
            wish = ("--request", "12V/2A", "--for", "4s", "--receipts", "1s")
            work = f"echo powered >> {tmp_path / 'work'}; exec sleep 60"
            found = ("--request", "12V/4A", "--for", "3s", "--run", f"sh -c '{work}'")
            async with (
                running(
                    tmp_path, "consumer", "--connect", "10.7.2.2", *wish,
                    "--state-dir", str(tmp_path / "good"), before=inside(within),
                ) as good,
                running(
                    tmp_path, "consumer", *found, "--state-dir", str(tmp_path / "device"),
                    before=inside(within),
                ) as device,
            ):  # fmt: skip
                assert await device.end() in (0, 143), (device.events, device.log)
                assert await good.end() == 0, good.log
            assert await attack.end() == 0
            status = await fire.ask(op="status")
            fire.process.signal(signal.SIGTERM)
            assert await fire.process.end() == 0, fire.process.log
    (drawn,), (had,), (sent,) = device.all("done"), good.all("done"), attack.all("done")
    assert (tmp_path / "work").read_text() == "powered\n"
    assert had["energy_uj"] == had["signed_uj"] == status["authorised_uj"] == 96_000_000
    assert drawn["energy_uj"] == 144_000_000
    accounts, name = fire.accounts(), socket.gethostname()
    assert accounts["lent:10.7.1.2"] == 144_000_000
    came = -accounts["intercepted:10.7.2.2"]
    assert came == sent["sent_uj"] == ATTACK_S * 1_000_000_000
    assert came == accounts["reservoir:main"] + accounts[f"heat:{name}"] + 144_000_000
