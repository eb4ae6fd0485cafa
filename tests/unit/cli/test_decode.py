import io
import json
import sys
from pathlib import Path

import pytest

from powertcp.cli import decode
from powertcp.cli.decode import main

REQUEST = "4402002ee00005dc00000e1000001000"
SYN = (
    "504f0115010200000000000100000000000000000204400003124402002ee00005dc00000e1000001000"
    "031264020013880001f400000000000010000610000003e8000f4240000003e80100070603e803000000"
)
CREDIT = "504f010503800010000000010000000000000005" + "00" * 15 + "07"
DATA = "504f01050240001000000001000000000000000000000000800100010000138800 07a120"


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, list[str]]:
    status = main(list(argv))
    return status, capsys.readouterr().out.splitlines()


@pytest.mark.requirement("PTCP-1-05")
def test_a_profile_field_by_field(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = run(capsys, "-v", REQUEST)
    assert status == 0
    squeezed = [" ".join(line.split()) for line in lines]
    assert squeezed[0] == "0000 44 version 1, REQUEST, C=1, mV/mA"
    assert squeezed[1] == "0001 02 DC, one phase, priority 2"
    assert squeezed[2].startswith("0002 00 2e e0 voltage 12.000 V")
    assert squeezed[3] == "0005 00 05 dc current 1.500 A power 18.000 W"
    assert [line[:4] for line in lines] == ["0000", "0001", "0002", "0005", "000a", "000e"]


def test_one_line_for_each_layout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, REQUEST) == (0, ["REQUEST 12V/1.5A priority=2 energy_j=3600 tag=0x1000"])
    ac = "44430382700 03e80138800000000beef"
    assert run(capsys, ac)[1] == ["REQUEST 230V/16A@50Hz priority=3 tag=0xbeef"]
    status, lines = run(capsys, SYN + CREDIT + DATA + "504f010590000000000000010000000000000000")
    assert status == 0
    assert lines[0].startswith("0000  SYN flow 1 ESN 0 uJ  MSP msp=16384  REQUEST 12V/1.5A")
    assert lines[1] == "0054  CREDIT|CWR flow 1 ESN 5 uJ  limit_uj=0  demand_mw=7"
    assert "DATA|ECE" in lines[2]
    assert lines[2].endswith("samples=1")
    assert lines[3].endswith("type 0x90 not known, skipped, 20 octets")


def test_json_is_one_object_per_segment(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = run(capsys, "--json", SYN + CREDIT)
    assert status == 0
    rows = [json.loads(line) for line in lines]
    assert [row["type"] for row in rows] == ["CTL", "CREDIT"]
    assert [row["offset"] for row in rows] == [0, 84]
    assert rows[1]["payload"] == {"limit_uj": 0, "demand_mw": 7}


@pytest.mark.requirement("PTCP-2.1-03", "PTCP-2.3-02")
@pytest.mark.parametrize(
    ("octets", "code", "requirement"),
    [
        ("47" * 20, "500 BAD_MAGIC", "PTCP-2.1-03"),
        ("504f010301" + "00" * 15, "502 BAD_LENGTH", "PTCP-2.1-03"),
        ("504f01050100000000000001" + "00" * 8, "506 STATE", "PTCP-2.1-04"),
        ("504f01050a00001000000001" + "00" * 24, "506 STATE", "PTCP-2.2-03"),
        ("504f01050400000000000001" + "00" * 8, "502 BAD_LENGTH", "PTCP-2.2-02"),
        ("504f01057f00000000000001" + "00" * 8, "504 UNSUPPORTED_TYPE", "PTCP-2.2-01"),
        (
            "504f01060500000000000001" + "00" * 8 + "83020000",
            "505 UNSUPPORTED_OPTION",
            "PTCP-2.3-01",
        ),
        ("504f01060500000000000001" + "00" * 8 + "0d010000", "503 BAD_OPTION", "PTCP-2.3-02"),
        ("504f010e0500000000000001" + "00" * 8 + "01" * 36, "508 LIMIT", "PTCP-2.3-03"),
        ("84" + "00" * 15, "503 BAD_OPTION", "PTCP-1-05"),
        ("504f01", "502 BAD_LENGTH", "PTCP-2.2-02"),
    ],
)
def test_an_error_names_code_offset_and_requirement(
    capsys: pytest.CaptureFixture[str], octets: str, code: str, requirement: str
) -> None:
    for flags in ([], ["-v"]):
        status, lines = run(capsys, *flags, octets)
        assert status == 1
        assert f"error {code}" in lines[-1]
        assert lines[-1].endswith(f"[{requirement}]")
    status, lines = run(capsys, "--json", octets)
    assert status == 1
    assert json.loads(lines[-1])["requirement"] == requirement


def test_a_table_of_two_segments_has_offsets_of_the_input(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, lines = run(capsys, "-v", CREDIT + CREDIT)
    assert status == 0
    assert lines[lines.index("") + 1].startswith("0024  50 4f")


@pytest.mark.requirement("PTCP-2.2-03")
def test_octets_come_from_an_argument_a_file_or_standard_input(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(capsys, SYN)
    text = tmp_path / "syn.hex"
    text.write_text(f"; a SYN\n{SYN[:40]}\n{SYN[40:]} ; end\n")
    raw = tmp_path / "syn.bin"
    raw.write_bytes(bytes.fromhex(SYN))
    assert run(capsys, str(text)) == expected
    assert run(capsys, str(raw)) == expected
    stdin = io.TextIOWrapper(io.BytesIO(bytes.fromhex(SYN)))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert run(capsys, "-") == expected
    http = tmp_path / "http"
    http.write_bytes(b"GET / HTTP/1.1\r\n\r\n\r\n")
    assert run(capsys, str(http))[0] == 1


def test_usage_errors_are_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    assert main([]) == 2
    monkeypatch.setattr(decode, "MAX_INPUT", 3)
    (tmp_path / "long").write_bytes(b"\xff" * 4)
    assert main([str(tmp_path / "long")]) == 2
    assert main(["--as", "nonsense", REQUEST]) == 2
    assert main([str(tmp_path / "missing")]) == 2
    assert main([str(empty)]) == 2
    assert "neither hex digits nor a file" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "powertcp decode -v 4402" in capsys.readouterr().out


def test_as_overrules_the_guess(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--as", "segment", REQUEST)[0] == 1
    assert run(capsys, "--as", "profile", SYN)[0] == 1


def test_reason_options_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    rst = "504f010b0104000000000001" + "00" * 8
    for code, name in (("0064", "100 NO_CAPACITY"), ("03e7", "999 REASON")):
        value, limit = "000000000000ea60", "0000000000003778"
        line = run(capsys, rst + "0518" + code + "00000000" + value + limit)[1][0]
        assert line.endswith(f"RST flow 1 ESN 0 uJ  {name} 60,000 limit 14,200")


VECTORS = Path(__file__).resolve().parents[3] / "rfc" / "vectors" / "protocol"
PAGES = [
    "".join(line.partition(";")[0] for line in (VECTORS / f"{name}.hex").read_text().splitlines())
    for name in ("receipt-page-0", "receipt-page-1", "receipt-as-sent", "receipt-least")
]


@pytest.mark.requirement("LEDG-6-07")
def test_pages_of_receipts_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = run(capsys, "".join(PAGES))
    assert status == 0
    assert [line.split("  ")[0] for line in lines] == ["0000", "017c", "02f8", "0474"]
    assert lines[1].split("  ")[1:] == [
        "page 1 of 2de3c32336254d66",
        "energy 1,080,000,000 uJ to ESN 2,160,000,000 uJ",
        "samples 10",
        "cost 0 micro-units",
        "clock S",
        "simulated",
        "signature by source and sink",
    ]
    assert lines[2].endswith("signature by source")
    unsigned = PAGES[3].replace(" ", "")[: 2 * 252] + "00" * 128
    assert run(capsys, "--as", "receipt", unsigned)[1][0].endswith("not signed")
    (line,) = run(capsys, "--json", PAGES[1])[1]
    assert json.loads(line)["end_uj"] == 2_160_000_000


@pytest.mark.requirement("LEDG-6-07")
def test_a_page_field_by_field_also_inside_its_segment(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = run(capsys, "-v", "--as", "receipt", PAGES[1])
    assert status == 0
    assert [line[:4] for line in lines][:5] == ["0000", "0001", "0002", "0003", "0004"]
    assert "2027-01-15T08:02:00.000000000Z" in lines[11]
    segment = f"504f01050b00017c000000010000000000000000{PAGES[1]}"
    inside = run(capsys, "-v", segment)[1][-20:]
    assert [line.split()[-1] for line in inside] == [line.split()[-1] for line in lines]


@pytest.mark.requirement("LEDG-6-07")
def test_octets_that_are_no_page(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = run(capsys, "--as", "receipt", "00" + PAGES[0].replace(" ", "")[2:] + "01")
    assert status == 1
    assert lines == [
        "0000  error 403 RECEIPT_INVALID: field version, value 0 [LEDG-6-07]",
        "017c  error 502 BAD_LENGTH: field page, value 1 [LEDG-6-07]",
    ]
    clock = PAGES[3].replace(" ", "")
    far = clock[:4] + "07" + clock[6 : 2 * 76] + "ff" * 8 + clock[2 * 84 :]
    status, lines = run(capsys, "-v", "--as", "receipt", far)
    assert (status, len(lines)) == (1, 21)
    assert "0x07" in lines[2]
    assert "2554-07-21T23:34:33.709551615Z" in lines[11]
