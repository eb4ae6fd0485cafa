"""Somebody who is hard of hearing: `python -m tests.drivers.mute NAME WHAT SECONDS`, on 127.0.0.1.

Announces the name of a provider, with WHAT `srv` its place, too, with `ptr` nothing else, and hears
what is asked about it. It answers SECONDS after the first question, with a negative number never.
Prints `asked 0.0` for each question, the seconds since the first, and runs until it is ended.
"""

import socket
import struct
import sys
import time

from powertcp.dpdp.advert import TYPE_TCP, Advert, encode_txt
from tests.drivers.responders import OFFER
from tests.drivers.rogue import GROUP, LONG_S, PTR, SRV, A, name, opened, packet, provider, record

ADVERT = Advert(id=bytes(16), offers=(OFFER,), cap_mw=60_000, source="grid")
HOST = "mute.local."
LOCAL = name("local")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def listener() -> socket.socket:
    """Return a socket that hears what the programs of this namespace ask."""
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    end.bind(GROUP)
    own = struct.pack("4s4s", socket.inet_aton(GROUP[0]), socket.inet_aton("127.0.0.1"))
    end.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, own)
    return end


def announced(instance: str, what: str) -> bytes:
    own = name(f"{instance}.{TYPE_TCP}")
    records = [record(TYPE_TCP, PTR, own, LONG_S, False)]
    if what == "srv":
        place = struct.pack(">HHH", 0, 0, 3251) + name(HOST)
        records.append(record(f"{instance}.{TYPE_TCP}", SRV, place, LONG_S, True))
        records.append(record(HOST, A, socket.inet_aton("127.0.0.1"), LONG_S, True))
    return packet(*records)


def main(instance: str, what: str, answers_s: float) -> None:
    end, ear = opened(), listener()
    # without the domain: where it stands twice in a packet, the second is a pointer
    wanted, kind = (name(text).removesuffix(LOCAL) for text in (f"{instance}.{TYPE_TCP}", TYPE_TCP))
    first: float | None = None
    say("ready")
    while True:
        octets = ear.recv(9000)
        if octets[2] & 0x80:
            continue
        # the question of a browser: everybody who gives power
        if wanted not in octets:
            if kind in octets:
                end.sendto(announced(instance, what), GROUP)
            continue
        now = time.monotonic()
        first = now if first is None else first
        say(f"asked {now - first:.1f}")
        if 0 <= answers_s <= now - first:
            end.sendto(provider(instance, encode_txt(ADVERT), HOST), GROUP)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
