"""The hand-written codec against the declared layouts, on the mix of segments of a session."""

from typing import Any

from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag
from powertcp.wire import (
    HEADER_OCTETS,
    Control,
    Credit,
    Data,
    Maintain,
    MaintainProbe,
    Ready,
    Sampling,
    Segment,
    Splitter,
    decode_segment,
    encode_segment,
    schema,
)
from powertcp.wire import (
    Options as WireOptions,
)
from tools.bench.harness import Options, Pair, Sample, Side, WrongResultError, bench, loop, measured

DATA = 2
SAMPLES = 80
REPEATS = 16
EXTRA_S = 0.3


def control_segments() -> list[Segment]:
    """SYN, SYN+ACK, ACK and READY of a DC lamp."""
    request = PowerProfile.parse("12V/1.5A,prio=2")
    minimum = PowerProfile.parse("5V/0.5A", ProfileType.MINIMUM)
    grant = PowerProfile.parse("12V/1A,prio=2,lease=60s", ProfileType.GRANT)
    fallback = PowerProfile.parse("12V/0.1A,prio=2,lease=60s", ProfileType.FALLBACK)
    sampling, maintain = Sampling(1000), Maintain()
    syn = WireOptions(msp=16384, profiles=(request, minimum), sampling=sampling, maintain=maintain)
    syn_ack = WireOptions(
        msp=16384, profiles=(grant, fallback), contract=1, sampling=sampling, maintain=maintain
    )
    return [
        Control(1, int(Flag.SYN), 0, syn),
        Control(1, int(Flag.SYN | Flag.ACK), 0, syn_ack),
        Control(1, int(Flag.ACK), 0, WireOptions(contract=1, profiles=(grant,))),
        Ready(1, 0, WireOptions(contract=1, profiles=(grant, fallback))),
    ]


def mixed_segments() -> list[Segment]:
    """The mix: the four of a handshake, 4 CREDIT, 4 MAINTAIN, 8 DATA of 80 samples."""
    block = bytes(8 + 8 * SAMPLES)
    credits_ = [Credit(1, at, 24_000_000 + at, 12_000) for at in range(4)]
    probes = [MaintainProbe(at + 1, 0, 1_700_000_000_000_000_000 + at) for at in range(4)]
    data = [Data(1, 1_000 * at, ece=False, payload=block) for at in range(8)]
    return [*control_segments(), *credits_, *probes, *data]


def by_hand(octets: bytes) -> list[Segment | None]:
    """Split a stream and decode it to what the machine uses."""
    return [decode_segment(raw) for raw in Splitter().receive(octets)]


def by_schema(segments: list[bytes]) -> list[schema.Parsed]:
    """Parse segments already cut; samples stay octets, as they do by hand."""
    found = []
    for octets in segments:
        if octets[4] == DATA:
            header = schema.check_header(octets, schema.DEFAULT_MSP)
            row = schema.type_of(header)
            found.append(schema.Parsed(header, row, [], octets[HEADER_OCTETS:]))
        else:
            found.append(schema.parse_segment(octets))
    return found


def build_by_schema(parsed: list[schema.Parsed]) -> list[bytes]:
    """Build segments from their fields."""
    built = []
    for header, row, options, payload in parsed:
        area = b""
        for option, fields in options:
            value = schema.OPTIONS[option.kind][1].struct.build(fields)
            area += bytes((option.kind, len(value) + 2)) + value
        area += bytes(-len(area) % 4)
        built.append(schema.HEADER.struct.build(header) + area + row.payload.struct.build(payload))
    return built


def facts(segment: Segment | None) -> tuple[Any, ...]:
    """What both codecs must agree on of a segment decoded by hand."""
    match segment:
        case Credit(flow, esn, limit_uj, demand_mw):
            return flow, esn, limit_uj, demand_mw
        case MaintainProbe(nonce, echo, time_ns):
            return nonce, echo, time_ns
        case Data(flow, esn, _, payload):
            return flow, esn, bytes(payload)
        case Control(flow, _, esn, options) | Ready(flow, esn, options):
            profiles = tuple((it.voltage_mv, it.current_ma) for it in options.profiles)
            rate = None if options.sampling is None else options.sampling.rate_hz
            return flow, esn, options.msp, options.contract, profiles, rate
    raise WrongResultError(f"unexpected {segment}")


def schema_facts(parsed: schema.Parsed) -> tuple[Any, ...]:
    """The same of a segment parsed by schema."""
    header, row, options, payload = parsed
    match row.name:
        case "CREDIT":
            return header.flow, header.esn, payload.limit_uj, payload.demand_mw
        case "MAINTAIN":
            return payload.nonce, payload.echo, payload.time_ns
        case "DATA":
            return header.flow, header.esn, bytes(payload)
    values = {option.kind: fields for option, fields in options}
    profiles = tuple((it.voltage, it.current) for option, it in options if option.kind == 3)
    msp = values[2].msp if 2 in values else None
    contract = values[4].contract if 4 in values else None
    rate = values[6].rate_hz if 6 in values else None
    return header.flow, header.esn, msp, contract, profiles, rate


def check(segments: list[Segment]) -> None:
    """Both codecs must read and write the same; WrongResultError otherwise."""
    octets = [encode_segment(segment) for segment in segments]
    hand = [facts(segment) for segment in by_hand(b"".join(octets))]
    declared = [schema_facts(parsed) for parsed in by_schema(octets)]
    if hand != declared:
        wrong = next(pair for pair in zip(hand, declared, strict=True) if pair[0] != pair[1])
        raise WrongResultError(f"by hand {wrong[0]}, by schema {wrong[1]}")


def parse_sides(segments: list[Segment]) -> tuple[Side, Side]:
    """Parse `segments`, by hand and by schema."""
    octets = [encode_segment(segment) for segment in segments]
    stream = b"".join(octets) * REPEATS

    def ours() -> int:
        return len(by_hand(stream))

    def declared() -> int:
        return len(by_schema(octets))

    return loop(ours, check=lambda: check(segments)), loop(declared)


def build_sides(segments: list[Segment]) -> tuple[Side, Side]:
    """Build `segments`, by hand and by schema."""
    octets = [encode_segment(segment) for segment in segments]
    parsed = by_schema(octets)

    def ours() -> int:
        for _ in range(REPEATS):
            for segment in segments:
                encode_segment(segment)
        return REPEATS * len(segments)

    def declared() -> int:
        return len(build_by_schema(parsed))

    def equal() -> None:
        if build_by_schema(parsed) != octets:
            raise WrongResultError("schema builds other octets than the codec")

    return loop(ours, check=equal), loop(declared)


def figures(options: Options) -> dict[str, float]:
    """Control segments alone, parse and build: ratios of one round."""
    seconds = 0.05 if options.smoke else EXTRA_S
    found = {}
    for name, sides in ("parse", parse_sides), ("build", build_sides):
        ours, declared = sides(control_segments())
        value: Sample = measured(ours, seconds)
        found[f"control_{name}"] = value.value / measured(declared, seconds).value
    return found


@bench("decode", unit="segments/CPU s", peer="wire/schema.py interpreted", must=10, stretch=40)
def decode(options: Options) -> Pair:
    """The mix, decoded to what the machine uses."""
    ours, declared = parse_sides(mixed_segments())
    return Pair(ours, declared, figures=lambda: figures(options))
