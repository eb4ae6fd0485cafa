"""`powertcp decode`: explains octets of Power over TCP, field by field."""

import json
import string
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from powertcp.cli.parser import Parser
from powertcp.errors import ConfigError
from powertcp.registry import REASONS

if TYPE_CHECKING:
    from powertcp.cli.unsealing import Seen, Unsealer
    from powertcp.wire.schema import Rejected
    from powertcp.wire.values import Row

    Wanted = Callable[[], Unsealer]

HEADER_OCTETS = 20
TAG_OCTETS = 16
SEALED = b"\x10"
PAGE_OCTETS = 380
MAX_MSP = 65535
# a file is read whole: more than an hour of a lamp's DATA
MAX_INPUT = 64 << 20
EXAMPLES = """examples:
  powertcp decode 4402002ee00005dc00000e1000001000            a power profile, one line
  powertcp decode -v 4402002ee00005dc00000e1000001000         each field with its offset
  powertcp decode -v rfc/vectors/protocol/syn-dc-lamp.hex     a file of hex digits, or of octets
  powertcp decode --as receipt pages.ptr                      pages of receipts, 380 octets each
  powertcp decode --keys keys.log -v sealed.bin               sealed power, opened with a key log
  tail -c +1 stream.bin | powertcp decode --json -            a stream, one JSON object per segment

exit codes: 0 all understood, 1 an error in the octets or no key for them, 2 usage
"""


class Piece(NamedTuple):
    """One layout to explain: its octets and their offset in the input.

    sealed_in: offset of the segment in which it was sealed, None where it is in clear.
    """

    layout: str
    octets: bytes
    offset: int
    sealed_in: int | None = None

    @property
    def depth(self) -> int:
        """How far its lines are indented."""
        return 0 if self.sealed_in is None else 1


class Fault(NamedTuple):
    """An error. offset: in the input. requirement: what refuses it. said: instead of the numbers."""

    offset: int
    field: str
    value: int
    requirement: str
    said: str = ""
    code: int = 0


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
    parser.add_argument(
        "--keys",
        metavar="FILE",
        help="open sealed segments with the keys that --keylog of either end wrote (none)",
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


def segment_line(values: dict[str, Any], octets: int, seen: "Seen | None" = None) -> str:
    """Return one line for a segment. seen: what is known of it if it is sealed."""
    if "skipped" in values:
        return f"type {values['type']:#04x} not known, skipped, {octets} octets"
    kind = "+".join(values["flags"]) if values["type"] == "CTL" else values["type"]
    if values["type"] != "CTL" and values["flags"]:
        kind += "|" + "+".join(values["flags"])
    payload = dict(values["payload"])
    samples = payload.pop("samples", None)
    if samples is not None:
        payload["samples"] = len(samples) // (2 * payload["pairs"])
    said = [f"{key}={value}" for key, value in payload.items()] if seen is None else []
    said += [option_line(option) for option in values["options"]]
    said += [] if seen is None else [seen.said]
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


class Said(NamedTuple):
    """The lines of a piece; its fault, if it has one; what is known of it if it is sealed."""

    lines: list[str]
    fault: "Rejected | None" = None
    seen: "Seen | None" = None


def table(piece: Piece, unsealer: "Wanted | None") -> Said:
    """Return the table of a piece."""
    # construct comes with the schema: help and wrong words do without
    from powertcp.wire.values import Row, explain

    said = explain(piece.octets, piece.layout, MAX_MSP)
    shown = [row for row in said.rows if any(row.octets) or row.field not in QUIET]
    seen = look(piece, unsealer) if said.fault is None else None
    if seen is not None and seen.parts:
        if shown[-1].field == "octets":
            shown.pop()
        shown += [Row(*part, depth=1) for part in seen.parts]
    rows = (row._replace(depth=row.depth + piece.depth) for row in shown)
    return Said([row_line(row, piece.offset) for row in rows], said.fault, seen)


def summary(piece: Piece, unsealer: "Wanted | None", as_json: bool) -> Said:
    """Return one line for a piece, as text or JSON."""
    from powertcp.wire.schema import Rejected
    from powertcp.wire.values import parse

    try:
        values = parse(piece.layout, piece.octets, MAX_MSP)
    except Rejected as fault:
        return Said([], fault)
    seen = look(piece, unsealer)
    if as_json:
        where = {} if piece.sealed_in is None else {"sealed_in": piece.sealed_in}
        known = seen.values if seen else {}
        said = {"offset": piece.offset, "layout": piece.layout, **where, **values, **known}
        return Said([json.dumps(said)], seen=seen)
    if piece.layout == "profile":
        return Said([profile_line(values)])
    if piece.layout == "receipt":
        return Said([f"{piece.offset:04x}  {receipt_line(values)}"])
    line = segment_line(values, len(piece.octets), seen)
    return Said([f"{piece.offset:04x}  {'  ' * piece.depth}{line}"], seen=seen)


def look(piece: Piece, unsealer: "Wanted | None") -> "Seen | None":
    """Return what is known of a piece that the schema takes if it is sealed, else None."""
    if unsealer is None or piece.layout != "segment" or piece.octets[4:5] != SEALED:
        return None
    return unsealer().look(piece.octets)


def fault_line(fault: Fault, as_json: bool, depth: int = 0) -> str:
    """Return the line that names an error: code, offset, field, value, requirement."""
    row = REASONS.get(fault.code)
    name = row.name if row else str(fault.code)
    if as_json:
        known = {"offset": fault.offset, "error": fault.code, "name": name, "field": fault.field}
        known |= {"value": fault.value, "requirement": fault.requirement}
        return json.dumps(known | ({"sentence": fault.said} if fault.said else {}))
    text = fault.said or f"field {fault.field}, value {fault.value}"
    line = f"{fault.offset:04x}  {'  ' * depth}error {fault.code} {name}: {text}"
    return f"{line} [{fault.requirement}]" if fault.requirement else line


def fault_of(fault: "Rejected", piece: Piece) -> Fault:
    """Return an error that the schema found in a piece."""
    at = piece.offset + fault.offset
    return Fault(at, fault.field, fault.value, requirement_of(fault), code=fault.code)


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


def report(
    found: Iterable[Piece], verbose: bool, as_json: bool, unsealer: "Wanted | None" = None
) -> Iterator[tuple[str, bool]]:
    """Yield (line, is an error) for each piece. unsealer: gives who knows the sealed ones."""
    first = True
    for piece in found:
        if verbose and not as_json:
            if not first:
                yield "", False
            said = table(piece, unsealer)
        else:
            said = summary(piece, unsealer, as_json)
        for line in said.lines:
            yield line, False
        if said.fault is not None:
            yield fault_line(fault_of(said.fault, piece), as_json, piece.depth), True
        elif said.seen is not None:
            yield from inside(piece, said.seen, verbose, as_json)
        first = False


def inside(piece: Piece, seen: "Seen", verbose: bool, as_json: bool) -> Iterator[tuple[str, bool]]:
    """Yield (line, is an error) for what a sealed segment holds, and why it would be refused."""
    plain = seen.inside or b""
    # a cipher of streams: each octet has the place of its sealed one
    start = piece.offset + len(piece.octets) - TAG_OCTETS - len(plain)
    has_fault = False
    for each in pieces(plain, "segment"):
        one = each._replace(offset=start + each.offset, sealed_in=piece.offset)
        if verbose and not as_json:
            yield "", False
        # VPPN-3-01
        if not any(one.octets):
            if not as_json:
                yield f"{one.offset:04x}    padding {len(one.octets):,} octets", False
            break
        for line, is_fault in report([one], verbose, as_json):
            has_fault |= is_fault
            yield line, is_fault
    if seen.wrong is not None and not has_fault:
        wrong = seen.wrong._replace(offset=piece.offset + seen.wrong.offset)
        yield fault_line(Fault(*wrong), as_json, 1), True


def main(argv: list[str]) -> int:
    """Run the command. Returns 0, 1 for an error in the octets or no key, 2 for usage."""
    try:
        options = build_parser().parse_args(argv)
    except SystemExit as exit_:
        return int(exit_.code or 0)
    unsealer = cache(partial(unsealer_of, options.keys))
    try:
        octets = read_input(options.input, lambda: sys.stdin.buffer.read(MAX_INPUT))
        if options.keys is not None:
            unsealer()
    except (ValueError, ConfigError) as error:
        print(f"powertcp decode: {error}", file=sys.stderr)
        return 2
    if not octets:
        print("powertcp decode: no octets", file=sys.stderr)
        return 2
    found = pieces(octets, options.layout)
    status = 0
    for line, is_error in report(found, options.verbose, options.json, unsealer):
        print(line)
        status |= is_error
    return status


def unsealer_of(keys: str | None) -> "Unsealer":
    """Return who knows sealed segments. keys: name of a key log. Raises ConfigError."""
    # it comes with ciphers: octets in clear do without
    from powertcp.cli.unsealing import Unsealer, read_keys

    return Unsealer(None if keys is None else read_keys(keys))
