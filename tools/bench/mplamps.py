"""MPLampS: labels swapped in batches against packet by packet, RSVP in struct against construct."""

import pathlib
from ipaddress import IPv4Address
from random import Random

import numpy as np

from powertcp.mplamps.batch import forward_batch
from powertcp.mplamps.label import stack_octets
from powertcp.mplamps.lfib import STACK_OCTETS, Lfib, Out, Owner
from powertcp.mplamps.rsvp import Bundle, Message, Rejected, decode_message, encode_message
from powertcp.wire.rsvp_values import build_message, parse_message
from tools.bench.harness import Options, Pair, WrongResultError, bench, loop

UNIT = "packets/CPU s"
PACKETS = 4096
CIRCUITS = 10_000
# a block of 160 samples with its headers
BODY_OCTETS = 20 + 20 + 20 + 8 + 1280
LINK, LABEL = 1, 20_000
ES = IPv4Address("10.0.0.1")


def substation(circuits: int) -> Lfib:
    """Return a transformer with both entries of each circuit closed."""
    lfib = Lfib({LINK: LABEL, 2: 400, 3: 400}, is_transformer=True)
    for number in range(circuits):
        lamp = IPv4Address((10 << 24) + number + 2)
        owner = Owner((ES, 1, lamp), (lamp, 1))
        phase, neutral = lfib.allocate(owner, LABEL, 0), lfib.allocate(owner, 0, 0)
        lfib.close_entry(LABEL, phase, [Out(2 + number % 2, 400, 16 + number)])
        lfib.close_entry(0, neutral, [Out(LINK, 0, 16 + number)])
    return lfib


def arrivals(circuits: int) -> list[bytes]:
    """Return a batch of packets toward the lamps, of circuits at random."""
    random = Random(3251)
    body = random.randbytes(BODY_OCTETS)
    flows = [16 + random.randrange(circuits) for _ in range(PACKETS)]
    return [stack_octets((LABEL, flow), 3) + body for flow in flows]


class Ring:
    """Packets as a receiver has them: in one buffer, their stacks as they came before each step."""

    def __init__(self, packets: list[bytes]) -> None:
        self.octets = bytearray().join(packets)
        self.sizes = np.array([len(one) for one in packets], np.int64)
        self.starts = np.cumsum(self.sizes) - self.sizes
        shape = (len(self.octets) - STACK_OCTETS + 1,)
        self._words = np.ndarray(shape, np.uint64, self.octets, 0, (1,))
        self._stacks = self._words[self.starts]

    def refill(self) -> None:
        """Put the stacks back as they came."""
        self._words[self.starts] = self._stacks

    def packets(self) -> list[bytes]:
        """Return the packets as they are now."""
        places = zip(self.starts.tolist(), self.sizes.tolist(), strict=True)
        return [bytes(self.octets[start : start + size]) for start, size in places]


@bench("mplamps-swap", unit=UNIT, peer="the same table, packet by packet", must=10)
def swap(options: Options) -> Pair:
    """Batches of 4096 packets of 10,000 circuits; both ways give the same octets and links."""
    circuits = 500 if options.smoke else CIRCUITS
    packets = arrivals(circuits)
    batched, single = substation(circuits), substation(circuits)
    ring = Ring(packets)

    def check() -> None:
        expected = [single.forward(LINK, packet) for packet in packets]
        batch = forward_batch(batched, LINK, ring.octets, ring.starts, ring.sizes)
        found = [[pair] for pair in zip(batch.links.tolist(), ring.packets(), strict=True)]
        ring.refill()
        if found != expected or batch.others:
            raise WrongResultError("a batch and its packets one by one leave differently")
        if list(batched.entries()) != list(single.entries()):
            raise WrongResultError("a batch and its packets one by one are counted differently")

    def ours() -> int:
        ring.refill()
        forward_batch(batched, LINK, ring.octets, ring.starts, ring.sizes)
        return PACKETS

    def theirs() -> int:
        for packet in packets:
            single.forward(LINK, packet)
        return PACKETS

    return Pair(loop(ours, check=check), loop(theirs, check=check))


def lamp_messages() -> list[bytes]:
    """Return a PATH and its RESV, as the draft prints them, and 63 more of other lamps."""
    folder = pathlib.Path(__file__).parent.parent.parent / "rfc" / "vectors" / "mplamps"
    made = []
    for name in ("path", "resv"):
        lines = (folder / f"{name}.hex").read_text().splitlines()
        printed = bytes.fromhex("".join(line.partition(";")[0] for line in lines))
        values = parse_message(printed)
        for number in range(1, 65):
            for one in values["objects"]:
                if one["object"] in ("SENDER_TEMPLATE", "FILTER_SPEC", "SESSION"):
                    one["lamp"] = f"10.0.1.{number}"
                if one["object"] == "MESSAGE_ID":
                    one["number"] = number
            made.append(build_message(values))
    return made


def again(message: Message) -> bytes:
    """Return the octets of a PATH or RESV that was decoded."""
    if isinstance(message, Rejected | Bundle):
        raise WrongResultError("a message of the draft is rejected")
    return encode_message(message)


@bench("mplamps-rsvp", unit="messages/CPU s", peer="the schema in construct", must=10)
def rsvp(options: Options) -> Pair:
    """PATH and RESV of 64 lamps: checksum verified, every object decoded, and encoded again."""
    messages = lamp_messages()
    few = messages[::32]

    def check() -> None:
        for octets in messages:
            if again(decode_message(octets).message) != octets:
                raise WrongResultError("what was decoded is encoded in another way")
            if build_message(parse_message(octets)) != octets:
                raise WrongResultError("the schema encodes in another way")

    def ours() -> int:
        for octets in messages:
            again(decode_message(octets).message)
        return len(messages)

    def theirs() -> int:
        for octets in few:
            build_message(parse_message(octets))
        return len(few)

    return Pair(loop(ours, check=check), loop(theirs, check=check))
