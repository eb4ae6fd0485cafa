"""What signatures of adverts are worth, each looked at once (7.2)."""

from collections import OrderedDict
from hashlib import blake2s
from typing import Final

from powertcp.dpdp.advert import Advert
from powertcp.dpdp.entry import Service, Signed
from powertcp.dpdp.signing import is_timely, verify

# records whose verdict is remembered: as many as there are adverts
MAX_VERDICTS: Final = 2048


class Verdicts:
    """The verdict on each record by its digest."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: OrderedDict[bytes, Signed] = OrderedDict()

    def of(self, service: Service, advert: Advert, meter_key: bytes | None, now_s: int) -> Signed:
        """Return what the signature of `advert`, which `service` says, is worth at a Unix time."""
        if meter_key is None:
            return Signed.NONE if advert.signature is None else Signed.UNKNOWN
        # whatever it is worth at another time, by another clock
        expires_s = advert.expires_s
        if advert.signature and expires_s is not None and not is_timely(expires_s, now_s):
            return Signed.BAD
        named = service.instance, service.kind, service.port
        digest = blake2s(repr((named, service.txt, meter_key)).encode()).digest()
        verdict = self._found.get(digest)
        if verdict is None:
            # DPDP-7-03
            verdict = self._found[digest] = verify(service.txt, *named, meter_key, now_s)
            if len(self._found) > MAX_VERDICTS:
                self._found.popitem(last=False)
        return verdict
