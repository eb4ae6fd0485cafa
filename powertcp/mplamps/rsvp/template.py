"""A PATH that is sent many times, with other numbers: a template whose octets are patched.

MPLampS section 12. The checksum of a patched message is that of the template and of what was put
in: 2^16 is 1 modulo 65535, so that a number adds itself at any place that begins at an even octet.
"""

from ipaddress import IPv4Address
from struct import Struct, error
from typing import Final

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.power import PrivateType
from powertcp.mplamps.rsvp.codec import Header, code_of
from powertcp.mplamps.rsvp.messages import Path
from powertcp.mplamps.rsvp.objects import Class, Hop
from powertcp.mplamps.rsvp.walk import HEADER_OCTETS
from powertcp.mplamps.rsvp.wire import FIRST_TTL, encode_message

_MODULUS: Final = 0xFFFF
_NAME = code_of(Class.SESSION_ATTRIBUTE, 7)
# of each object with a number to patch: where that begins, in the order in which they are sent
_WORDS: Final = {
    code_of(Class.MESSAGE_ID, 1): (8,),
    code_of(Class.SESSION, 7): (12,),
    code_of(Class.HOP, 1): (4, 8),
    _NAME: (8,),
    code_of(Class.SENDER_TEMPLATE, 7): (4,),
    code_of(Class.UPSTREAM_LABEL, 1): (4,),
    code_of(Class.PRIVATE, PrivateType.FLOW_LABEL): (8,),
}


class PathTemplate:
    """PATHs that differ in their number, lamp, name of the lamp, hop and labels, and in nothing else.

    path: any of them, with a MESSAGE_ID. Raises LocalProtocolError for one without. MPLA-4.2-01.
    """

    __slots__ = ("_base", "_fixed", "_name_octets", "_pack", "_room")

    def __init__(self, path: Path, ttl: int = FIRST_TTL) -> None:
        if path.message_id is None or path.acks or path.others:
            raise LocalProtocolError("a template is a PATH with a MESSAGE_ID and nothing of others")
        octets = encode_message(path, ttl)
        self._name_octets = len(path.attribute.name.encode())
        self._room = self._name_octets + -self._name_octets % 4
        places = [2, *self._places(octets)]
        form, fixed, at, base = [">"], [], 0, octets
        for number, place in enumerate(places):
            width = 2 if not number else self._room if number == 5 else 4
            fixed.append(octets[at:place])
            form.append(
                f"{place - at}s" + ("H" if not number else f"{width}s" if number == 5 else "I")
            )
            base = base[:place] + bytes(width) + base[place + width :]
            at = place + width
        fixed.append(octets[at:])
        form.append(f"{len(octets) - at}s")
        self._fixed = tuple(fixed)
        self._pack = Struct("".join(form)).pack
        self._base = int.from_bytes(base, "big") % _MODULUS

    @staticmethod
    def _places(octets: bytes) -> list[int]:
        found = []
        at = HEADER_OCTETS
        while at < len(octets):
            length, code = Header.unpack_from(octets, at)
            found += [at + place for place in _WORDS.get(code, ())]
            at += length
        return found

    def octets(
        self, number: int, lamp: IPv4Address, name: str, hop: Hop, upstream_label: int,
        flow_label: int,
    ) -> bytes:  # fmt: skip
        """Return the octets of a PATH: those of `encode_message`, several times as fast.

        name: of as many octets as that of the template. Labels are not checked.
        Raises LocalProtocolError for a name of another length or a number that does not fit.
        """
        named = name.encode()
        if len(named) != self._name_octets:
            text = f'"{name}" has {len(named)} octets, that of the template {self._name_octets}'
            raise LocalProtocolError(text)
        named = named.ljust(self._room, b"\0")
        address, node, link = int(lamp), int(hop.node), hop.link
        # MPLA-4.1-02
        total = (self._base + number + 2 * address + node + link + upstream_label + flow_label
                 + int.from_bytes(named, "big"))  # fmt: skip
        a, b, c, d, e, f, g, h, i, j = self._fixed
        try:
            return self._pack(
                a, _MODULUS - total % _MODULUS, b, number, c, address, d, node, e, link,
                f, named, g, address, h, upstream_label, i, flow_label, j,
            )  # fmt: skip
        except error as fault:
            raise LocalProtocolError(f"PATH of {name}: {fault}") from fault
