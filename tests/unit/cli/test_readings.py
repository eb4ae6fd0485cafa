"""What a consumer's events look like, for people and for programs."""

import io
import json

import pytest

from powertcp.cli.readings import JsonReport, TextReport, reading_line, sentence

READING = {
    "load": "lamp",
    "power_mw": 229_950,
    "voltage_mv": 230_001,
    "current_ma": 1_000,
    "frequency_mhz": 50_000,
    "reactive_mvar": 120,
    "power_factor_ppm": 999_000,
    "thd_ppm": 12_300,
    "energy_uj": 1_204_331_000,
    "currency": "EUR",
    "cost_micro": 84_800,
    "lease_ms": 59_200,
    "simulated": True,
}


def test_a_reading_names_every_quantity_with_its_unit() -> None:
    line = reading_line(READING)
    for word in (
        "lamp powered",
        "229.95 W",
        "230.00 V",
        "1.000 A",
        "0.1 var",
        "PF 0.999",
        "THD 1.23 %",
        "50.000 Hz",
        "1,204.331 J",
        "cost 84.8000 mEUR",
        "lease 59 s",
        "(simulated)",
    ):
        assert word in line


def test_direct_current_has_no_frequency_and_nothing_measured_shows_power_alone() -> None:
    line = reading_line({**READING, "frequency_mhz": 0})
    assert "Hz" not in line
    assert "PF" not in line
    assert reading_line({"load": "lamp", "power_mw": 0}).split()[:2] == ["lamp", "powered"]


@pytest.mark.parametrize(
    ("event", "facts", "text"),
    [
        (
            "granted",
            {"voltage_mv": 12_000, "current_ma": 1_500, "lease_s": 60},
            "granted 12 V 1.5 A",
        ),
        ("ready", {"power_mw": 18_000, "load": "lamp"}, "ready: 18 W for lamp"),
        ("ready", {"power_mw": 18_000, "load": "x", "resumed": True}, "resumed: 18 W for x"),
        ("shed", {"limit_mw": 9_000, "sentence": "309 BUDGET"}, "shed, at most 9 W: 309 BUDGET"),
        ("demand", {"demand_mw": 6_000, "load": "lamp"}, "lamp keeps up with 6 W"),
        ("lease over", {"limit_mw": 0}, "lease over, at most 0 mW"),
        ("refused", {"sentence": "100 NO_CAPACITY"}, "refused 100 NO_CAPACITY"),
        (
            "refused",
            {"sentence": "100 NO_CAPACITY", "text": "h1 has\n\x1b[2J no more"},
            "refused 100 NO_CAPACITY (h1 has??[2J no more)",
        ),
        ("offered", {"request": "5V/1A", "offers": ["12V/1A"]}, "offered instead of 5V/1A: 12V/1A"),
        ("heat", {"energy_uj": 2_000_000, "sentence": "305"}, "heat 2 J: 305"),
        ("closed", {"esn_uj": 5_000_000, "heat_uj": 1_000_000}, "closed at 5 J, heat 1 J"),
        ("off", {"trips": 5}, "off after 5 trips in 10 minutes, until --reset"),
        ("load ended", {"load": "sleep", "status": 3}, "sleep ended, exit 3"),
        ("done", {"energy_uj": 0}, ""),
        ("done", {"energy_uj": 1_500_000, "simulated": True}, "banked 1.500 J   (simulated)"),
        (
            "done",
            {
                "energy_uj": 1_221_004_000,
                "cost_micro": 85,
                "currency": "EUR",
                "pages": 3,
                "signed_uj": 1_221_004_000,
                "unsigned_uj": 0,
                "disputed": 0,
            },
            "banked 1,221.004 J, cost 0.0850 mEUR, receipt 3 pages, countersigned",
        ),
        (
            "done",
            {
                "energy_uj": 2_000_000,
                "costs_micro": {"CHF": 7, "EUR": -85},
                "pages": 1,
                "unsigned_uj": 500_000,
                "disputed": 1,
            },
            "banked 2.000 J, cost 0.0070 mCHF, cost -0.0850 mEUR, receipt 1 page, 1 disputed,"
            " 0.500 J without",
        ),
        (
            "done",
            {"energy_uj": 2_000_000, "pages": 0, "unsigned_uj": 0, "disputed": 0},
            "banked 2.000 J, no receipt",
        ),
        ("disputed", {"sentence": "receipt not signed: why"}, "disputed: receipt not signed: why"),
        ("stale", {}, "stale"),
        ("listening", {"where": "239.255.80.84:3251"}, "listening to 239.255.80.84:3251"),
        (
            "joined",
            {"feed": "7f3a", "profile": "12V/0.5A", "epoch": 7},
            "joined feed 7f3a of 12V/0.5A, epoch 7",
        ),
        ("receipt", {"energy_uj": 2_000_000}, "page signed, 2 J"),
        ("unsigned", {"energy_uj": 2_000_000, "sentence": "602"}, "page not signed, 2 J: 602"),
        ("silent", {}, "silent"),
    ],
)
def test_sentences(event: str, facts: dict[str, object], text: str) -> None:
    assert sentence(event, facts).startswith(text)


def test_json_is_one_object_per_line() -> None:
    out = io.StringIO()
    report = JsonReport(out)
    report("ready", {"power_mw": 5})
    report("done", {})
    report.end()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["ready", "done"]
    assert lines[0]["power_mw"] == 5


def test_errors_go_to_the_other_stream_in_one_line() -> None:
    out, errors = io.StringIO(), io.StringIO()
    report = TextReport(out, errors)
    report("refused", {"sentence": "101 VOLTAGE_RANGE: asked 12,000 mV"})
    report("unreachable", {"sentence": "127.0.0.1:1: Connection refused"})
    assert errors.getvalue().splitlines() == [
        "powertcp consumer: refused 101 VOLTAGE_RANGE: asked 12,000 mV",
        "powertcp consumer: 127.0.0.1:1: Connection refused",
    ]
    assert out.getvalue() == ""


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_of_readings_that_is_rewritten() -> None:
    screen, pipe = Screen(), io.StringIO()
    for out in (screen, pipe):
        report = TextReport(out, out)
        report("readings", READING)
        report("readings", READING)
        report("stale", {})
        report.end()
    assert screen.getvalue().count("\n") == 2
    assert screen.getvalue().count("\r\x1b[K") == 2
    assert pipe.getvalue().count("\n") == 3
