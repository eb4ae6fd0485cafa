"""Somebody on the link who means no good: `python -m tests.drivers.rogue WHAT [..]`, on 127.0.0.1.

goodbye NAME: says ten times a second that NAME is gone. flood: announces 5,000 providers.
broken: records of 1,400 octets and 2,000 that are adverts with octets changed.
tell NAME HOST PORT TXT: announces that one, its TXT record in hex. Ends by itself.
insist: the same five times a second, until it is ended.
"""

import random
import socket
import struct
import sys
import time
from collections.abc import Callable

from powertcp.dpdp.advert import TYPE_TCP, Advert, encode_txt
from tests.drivers.responders import OFFER

GROUP = ("224.0.0.251", 5353)
PTR, TXT, SRV, A = 12, 16, 33, 1
LONG_S = 4500


def name(text: str) -> bytes:
    """Return a name of DNS; what is before the type is one label."""
    instance, labels = (
        text.removesuffix(TYPE_TCP).removesuffix("."),
        TYPE_TCP.rstrip(".").split("."),
    )
    if not text.endswith(TYPE_TCP):
        instance, labels = "", text.rstrip(".").split(".")
    words = [instance, *labels] if instance else labels
    return b"".join(bytes([len(word.encode())]) + word.encode() for word in words) + b"\0"


def record(owner: str, kind: int, data: bytes, ttl_s: int, unique: bool) -> bytes:
    head = struct.pack(">HHIH", kind, 0x8001 if unique else 1, ttl_s, len(data))
    return name(owner) + head + data


def packet(*records: bytes) -> bytes:
    return struct.pack(">HHHHHH", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def provider(
    instance: str, txt: bytes, host: str, ttl_s: int = LONG_S, *, port: int = 3251
) -> bytes:
    """Return the packet that announces a provider, or with a TTL of 0 that it is gone."""
    own = f"{instance}.{TYPE_TCP}"
    return packet(
        record(TYPE_TCP, PTR, name(own), ttl_s, False),
        record(own, SRV, struct.pack(">HHH", 0, 0, port) + name(host), ttl_s, True),
        record(own, TXT, txt, ttl_s, True),
        record(host, A, socket.inet_aton("127.0.0.1"), ttl_s, True),
    )


def opened() -> socket.socket:
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    end.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    end.bind(("127.0.0.1", 5353))
    return end


def advert(number: int) -> bytes:
    said = Advert(id=number.to_bytes(16, "big"), offers=(OFFER,), cap_mw=60_000, source="grid")
    return encode_txt(said)


def goodbye(end: socket.socket, instance: str) -> None:
    own = f"{instance}.{TYPE_TCP}"
    for _ in range(20):
        end.sendto(packet(record(TYPE_TCP, PTR, name(own), 0, False)), GROUP)
        time.sleep(0.1)


def flood(end: socket.socket) -> None:
    for number in range(5_000):
        end.sendto(provider(f"fake {number}", advert(number), f"host{number % 200}.local."), GROUP)
        if not number % 50:
            time.sleep(0.02)


def broken(end: socket.socket) -> None:
    chance = random.Random(7)
    for number in range(20):
        end.sendto(provider(f"long {number}", b"\x01x" * 700, "long.local."), GROUP)
    for number in range(2_000):
        txt = bytearray(advert(number))
        for _ in range(chance.randrange(1, 6)):
            txt[chance.randrange(len(txt))] = chance.randrange(256)
        end.sendto(provider(f"odd {number % 60}", bytes(txt), "odd.local."), GROUP)
        if not number % 50:
            time.sleep(0.02)


def tell(end: socket.socket, instance: str, host: str, port: str, txt: str) -> None:
    for _ in range(2):
        end.sendto(provider(instance, bytes.fromhex(txt), host, port=int(port)), GROUP)
        time.sleep(0.1)


def insist(end: socket.socket, *words: str) -> None:
    while True:
        tell(end, *words)
        sys.stdout.write("said\n")
        sys.stdout.flush()


DEEDS: dict[str, Callable[..., None]] = {
    "flood": flood,
    "broken": broken,
    "goodbye": goodbye,
    "tell": tell,
    "insist": insist,
}

if __name__ == "__main__":
    what, *words = sys.argv[1:]
    with opened() as link:
        DEEDS[what](link, *words)
    sys.stdout.write("said\n")
