"""`powertcp decode`: explains octets of Power over TCP, field by field."""

import json
import string
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from powertcp.cli.parser import Parser
from powertcp.registry import REASONS

if TYPE_CHECKING:
    from powertcp.wire.schema import Rejected
    from powertcp.wire.values import Row

HEADER_OCTETS = 20
PAGE_OCTETS = 380
MAX_MSP = 65535
# a file is read whole: more than an hour of a lamp's DATA
MAX_INPUT = 64 << 20
EXAMPLES = """examples:
  powertcp decode 4402002ee00005dc00000e1000001000            a power profile, one line
  powertcp decode -v 4402002ee00005dc00000e1000001000         each field with its offset
  powertcp decode -v rfc/vectors/protocol/syn-dc-lamp.hex     a file of hex digits, or of octets
  powertcp decode --as receipt pages.ptr                      pages of receipts, 380 octets each
  tail -c +1 stream.bin | powertcp decode --json -            a stream, one JSON object per segment

exit codes: 0 all understood, 1 an error in the octets, 2 usage
"""


class Piece(NamedTuple):
    """One layout to explain: its octets and their offset in the input."""

    layout: str
    octets: bytes
    offset: int


def build_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        "decode",
        "Explain octets of Power over TCP: segments, a power profile or pages of receipts.",
        EXAMPLES,
        "HEX|FILE|-",
    )
    parser.add_argument("input", metavar="HEX|FILE|-", help="hex digits, a file, or standard input")
    parser.add_argument(
        "--as",
        dest="layout",
        choices=("segment", "profile", "receipt"),
        help="what the octets are (default: 16 octets are a profile, 380 or a multiple of it that"
        " begin with 01 are pages of receipts, all else segments)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="every field with its offset")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    return parser


def octets_of_text(text: str) -> bytes | None:
    """Return the octets of hex digits, white space and `;` comments ignored; None if it is none."""
    digits = "".join("".join(line.partition(";")[0].split()) for line in text.splitlines())
    if not digits or len(digits) % 2 or set(digits) - set(string.hexdigits):
        return None
    return bytes.fromhex(digits)


def octets_of_file(raw: bytes) -> bytes:
    """Return the octets that a file holds: as hex digits if it is a text of them, else as it is."""
    if raw.isascii():
        return octets_of_text(raw.decode("ascii")) or raw
    return raw


def read_input(name: str, stdin: Callable[[], bytes]) -> bytes:
    """Return the octets of a hex argument, a file or `-`. Raises ValueError with a sentence."""
    if name == "-":
        return octets_of_file(stdin())
    octets = octets_of_text(name)
    if octets is not None:
        return octets
    try:
        with Path(name).open("rb") as file:
            raw = file.read(MAX_INPUT + 1)
    except OSError as error:
        why = error.strerror or error
        raise ValueError(f'"{name}" is neither hex digits nor a file: {why}') from error
    if len(raw) > MAX_INPUT:
        raise ValueError(f"{name} has more than {MAX_INPUT:,} octets")
    return octets_of_file(raw)


def is_pages(octets: bytes) -> bool:
    """Return whether octets look like whole pages of receipts of version 1."""
    return octets[:1] == b"\x01" and len(octets) % PAGE_OCTETS == 0


def pieces(octets: bytes, layout: str | None) -> Iterator[Piece]:
    """Cut the input into layouts; a segment that is cut or has a wrong header is the last."""
    if layout == "profile" or (layout is None and len(octets) == 16):
        yield Piece("profile", octets, 0)
        return
    if layout == "receipt" or (layout is None and is_pages(octets)):
        for at in range(0, len(octets), PAGE_OCTETS):
            yield Piece("receipt", octets[at : at + PAGE_OCTETS], at)
        return
    at = 0
    while at < len(octets):
        size = len(octets) - at
        if size >= HEADER_OCTETS and octets[at : at + 2] == b"PO":
            whole = octets[at + 3] * 4 + int.from_bytes(octets[at + 6 : at + 8], "big")
            size = min(size, max(whole, HEADER_OCTETS))
        yield Piece("segment", octets[at : at + size], at)
        at += size


def profile_line(values: dict[str, Any]) -> str:
    """Return one line for a profile."""
    text = f"{values['type']} {values['voltage_mv'] / 1000:g}V/{values['current_ma'] / 1000:g}A"
    if values["frequency_chz"]:
        text += f"@{values['frequency_chz'] / 100:g}Hz"
    for name in ("priority", "energy_j", "lease_s", "profile_id"):
        if values[name]:
            text += f" {name}={values[name]}"
    return f"{text} tag={values['tag']:#06x}"


def option_line(values: dict[str, Any]) -> str:
    """Return one phrase for an option."""
    name = values["option"]
    if name == "PROFILE":
        return profile_line(values)
    if name == "REASON":
        row = REASONS.get(values["code"])
        return f"{values['code']} {row.name if row else 'REASON'} {values['value']:,} limit {values['limit']:,}"
    rest = ",".join(f"{key}={value}" for key, value in values.items() if key != "option")
    return f"{name} {rest}"


def receipt_line(values: dict[str, Any]) -> str:
    """Return one line for a page of a receipt."""
    energy_uj = values["end_uj"] - values["start_uj"]
    signed = [side for side in ("source", "sink") if values[f"{side}_signature"].strip("0")]
    words = [
        f"page {values['page']:,} of {values['transcript'][:16]}",
        f"energy {energy_uj:,} uJ to ESN {values['end_uj']:,} uJ",
        f"samples {values['samples']:,}",
        f"cost {values['cost_micro']:,} micro-units",
        f"clock {values['clock']}",
        *(flag.lower() for flag in values["flags"]),
        f"signature by {' and '.join(signed)}" if signed else "not signed",
    ]
    return "  ".join(words)


def segment_line(values: dict[str, Any], octets: int) -> str:
    """Return one line for a segment."""
    if "skipped" in values:
        return f"type {values['type']:#04x} not known, skipped, {octets} octets"
    kind = "+".join(values["flags"]) if values["type"] == "CTL" else values["type"]
    if values["type"] != "CTL" and values["flags"]:
        kind += "|" + "+".join(values["flags"])
    payload = dict(values["payload"])
    samples = payload.pop("samples", None)
    if samples is not None:
        payload["samples"] = len(samples) // (2 * payload["pairs"])
    said = [f"{key}={value}" for key, value in payload.items()]
    said += [option_line(option) for option in values["options"]]
    return f"{kind} flow {values['flow']} ESN {values['esn']:,} uJ" + "".join(
        f"  {it}" for it in said
    )


# fields of a profile that say nothing when they are 0
QUIET = ("frequency", "energy", "profile_id", "lease")
# bit fields whose value tells their names
NAMELESS = ("head", "shape")


def row_line(row: "Row", offset: int) -> str:
    """Return the line of one row; a long field shows its first octets."""
    digits = row.octets[:8].hex(" ") + (" .." if len(row.octets) > 8 else "")
    said = row.value if row.field in NAMELESS else f"{row.field:<12} {row.value:<14} {row.meaning}"
    return f"{offset + row.offset:04x}  {digits:<26} {'  ' * row.depth}{said}".rstrip()


def table(piece: Piece) -> "tuple[list[str], Rejected | None]":
    """Return the table of a piece and its fault."""
    # construct comes with the schema: help and wrong words do without
    from powertcp.wire.values import explain

    said = explain(piece.octets, piece.layout, MAX_MSP)
    shown = [row for row in said.rows if any(row.octets) or row.field not in QUIET]
    return [row_line(row, piece.offset) for row in shown], said.fault


def summary(piece: Piece, as_json: bool) -> "tuple[list[str], Rejected | None]":
    """Return one line for a piece, as text or JSON, and its fault."""
    from powertcp.wire.schema import Rejected
    from powertcp.wire.values import parse

    try:
        values = parse(piece.layout, piece.octets, MAX_MSP)
    except Rejected as fault:
        return [], fault
    if as_json:
        return [json.dumps({"offset": piece.offset, "layout": piece.layout, **values})], None
    if piece.layout == "profile":
        return [profile_line(values)], None
    if piece.layout == "receipt":
        return [f"{piece.offset:04x}  {receipt_line(values)}"], None
    return [f"{piece.offset:04x}  {segment_line(values, len(piece.octets))}"], None


def fault_line(fault: "Rejected", piece: Piece, as_json: bool) -> str:
    """Return the line that names an error: code, offset, field, value, requirement."""
    row = REASONS.get(fault.code)
    name = row.name if row else str(fault.code)
    at = piece.offset + fault.offset
    if as_json:
        said = {"offset": at, "error": fault.code, "name": name, "field": fault.field}
        return json.dumps({**said, "value": fault.value, "requirement": requirement_of(fault)})
    return (
        f"{at:04x}  error {fault.code} {name}: field {fault.field}, value {fault.value}"
        f" [{requirement_of(fault)}]"
    )


def requirement_of(fault: "Rejected") -> str:
    """Return the id of the sentence that refuses."""
    if fault.field == "head":
        return "PTCP-1-05"
    if fault.code == 403 or fault.field == "page":
        return "LEDG-6-07"
    if fault.code in (500, 501) or fault.field == "offset":
        return "PTCP-2.1-03"
    if fault.code == 506:
        return "PTCP-2.1-04" if fault.field == "flags" else "PTCP-2.2-03"
    by_code = {502: "PTCP-2.2-02", 503: "PTCP-2.3-02", 504: "PTCP-2.2-01", 505: "PTCP-2.3-01"}
    return by_code.get(fault.code, "PTCP-2.3-03")


def report(found: Iterable[Piece], verbose: bool, as_json: bool) -> Iterator[tuple[str, bool]]:
    """Yield (line, is an error) for each piece."""
    first = True
    for piece in found:
        if verbose and not as_json:
            if not first:
                yield "", False
            lines, fault = table(piece)
        else:
            lines, fault = summary(piece, as_json)
        for line in lines:
            yield line, False
        if fault is not None:
            yield fault_line(fault, piece, as_json), True
        first = False


def main(argv: list[str]) -> int:
    """Run the command. Returns 0, 1 for an error in the octets, 2 for usage."""
    try:
        options = build_parser().parse_args(argv)
    except SystemExit as exit_:
        return int(exit_.code or 0)
    try:
        octets = read_input(options.input, lambda: sys.stdin.buffer.read(MAX_INPUT))
    except ValueError as error:
        print(f"powertcp decode: {error}", file=sys.stderr)
        return 2
    if not octets:
        print("powertcp decode: no octets", file=sys.stderr)
        return 2
    status = 0
    for line, is_error in report(pieces(octets, options.layout), options.verbose, options.json):
        print(line)
        status |= is_error
    return status
