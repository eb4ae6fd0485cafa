"""The terminal of a firewall: what it shows each second, and that it gives the screen back."""

import io
import json
import logging
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import trio

from powertcp.drivers.firewall_panel import FirewallPanel, readings
from tests.drivers.firewalls import POLICY, attacker, firewall

STATUS = {
    "state": "ready",
    "policy": "attic.policy",
    "flow_count": 3,
    "in_mw": 1_024_000,
    "authorised_mw": 24_000,
    "reclaimed_mw": 950_000,
    "heat_mw": 50_000,
    "out_mw": 60_000,
    "in_uj": 61_440_000_000,
    "authorised_uj": 1_440_000_000,
    "banked_uj": 57_000_000_000,
    "heat_uj": 3_000_000_000,
    "claimed_uj": 0,
    "residual_uj": 0,
    "reservoirs": [
        {"name": "main", "percent": 25, "stored_uj": 57_000_000_000, "capacity_uj": 228_000_000_000}
    ],
    "lending": [{"offer": "12V/5A", "flows": 1, "lent_uj": 3_600_000_000, "because": ""}],
    "infrastructure": {"sentence": "it would run this host for 3 h 12 min"},
}


def panel(out: io.StringIO, **words: bool) -> FirewallPanel:
    given = {"is_live": False, "is_json": False, "has_colour": False, **words}
    return FirewallPanel(out, **given)


def test_the_screen_shows_powers_the_level_of_the_reservoir_and_where_it_goes() -> None:
    rows = panel(io.StringIO(), is_live=True).rows(STATUS)
    text = "\n".join(rows)
    assert "attic.policy, simulated power, real protocol" in rows[0]
    assert re.search(r"^attack in +#{32} 1 kW$", text, re.M)
    assert re.search(r"^reclaimed +#{31}\. 950 W$", text, re.M)
    assert re.search(r"^heat +#{2}\.{30} 50 W$", text, re.M)
    assert re.search(r"^internal load +#{2}\.{30} 60 W$", text, re.M)
    assert re.search(r"^main +#{8}\.{24} 25%  57 kJ of 228 kJ$", text, re.M)
    assert "61.44 kJ in, 1,440 J authorised, 57 kJ reclaimed, 3,000 J heat" in text
    assert "lending 12V/5A: 1 flows, 3,600 J lent" in text
    assert "it would run this host for 3 h 12 min" in text


def test_without_a_terminal_it_is_one_line_or_one_object_a_second() -> None:
    out = io.StringIO()
    with panel(out) as one:
        one.show(STATUS)
    assert out.getvalue() == (
        "attack in 1 kW, reclaimed 950 W, heat 50 W, authorised 24 W, internal load 60 W;"
        " 25% stored, 57 kJ\n"
    )
    out = io.StringIO()
    with panel(out, is_json=True) as one:
        one.show(STATUS)
    said = json.loads(out.getvalue())
    assert said == {"event": "readings", **readings(STATUS)}
    assert said["attack_mw"] == 1_000_000


def test_the_log_is_on_the_screen_while_that_is_taken_and_again_below_it() -> None:
    out, log = io.StringIO(), logging.getLogger("firewall")
    before = list(logging.getLogger().handlers)
    usual = [logging.StreamHandler(io.StringIO())]
    logging.getLogger().handlers[:] = usual
    try:
        with panel(out, is_live=True) as one:
            for number in range(20):
                log.error("flow %d refused", number)
            assert one.rows(STATUS)[-8:] == [f"flow {number} refused" for number in range(12, 20)]
        assert logging.getLogger().handlers == usual
    finally:
        logging.getLogger().handlers[:] = before
    assert out.getvalue().startswith("\x1b[?1049h")
    assert "\x1b[?1049l" in out.getvalue()
    assert out.getvalue().endswith("flow 19 refused\n")


async def test_a_running_firewall_shows_what_attacks_it(tmp_path: Path) -> None:
    async with (
        firewall(tmp_path, "--live") as fire,
        attacker(fire.address, "--for", "60s") as attack,
    ):
        await attack.until("connected")
        await fire.process.until("readings", when=lambda one: one["reclaimed_mw"] > 500_000)
        attack.signal(signal.SIGTERM)
        await attack.end()


async def test_in_a_terminal_it_draws_and_leaves_the_screen_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "attic.policy"
    file.write_text(POLICY)
    ours, theirs = pty.openpty()
    words = ("firewall", "run", str(file), "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path))
    process: trio.Process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "powertcp", *words],
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm", "XDG_RUNTIME_DIR": str(tmp_path), "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(theirs)
    seen, reader = b"", trio.lowlevel.FdStream(ours)
    with trio.fail_after(30):
        while b"internal load" not in seen:
            seen += await reader.receive_some(4096)
        process.send_signal(signal.SIGTERM)
        try:
            while octets := await reader.receive_some(4096):
                seen += octets
        except (OSError, trio.BrokenResourceError):
            pass
        assert await process.wait() == 0
    await reader.aclose()
    assert b"\x1b[?1049h" in seen
    assert seen.rindex(b"\x1b[?1049l") > seen.rindex(b"internal load")
