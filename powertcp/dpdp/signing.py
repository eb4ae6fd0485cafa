"""Signed adverts: the octets that a meter key signs, and what a signature is worth (section 7.2).

```
powertcp dpdp 1
Bench PSU._powertcp._tcp.local.
3251
cap=36000
exp=1795212000
id=7f31a2c4d5e60718293a4b5c6d7e8f90
...
```
"""

from dataclasses import replace
from typing import Final

from powertcp.crypto import SIGNATURE_OCTETS, SigningKey, is_signed_by
from powertcp.dpdp.advert import Advert, decode_txt, encode_txt, fit, provider_id
from powertcp.dpdp.entry import Signed
from powertcp.dpdp.txt import read_txt
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.registry import Reason

# a copied advert leads nowhere, and a lost key is a matter of a day
MAX_LIFE_S: Final = 86_400
# how far the clocks of two hosts may differ, for one that signs for a whole day
MAX_SKEW_S: Final = 300
PREFIX: Final = b"powertcp dpdp 1\n"
_SIGNATURE: Final = "sig"


def signing_input(instance: str, kind: str, port: int, txt: bytes) -> bytes:
    """Return the octets that are signed for one instance of a service type.

    instance: without the type. kind: TYPE_TCP or TYPE_UDP. txt: the TXT record, all of whose pairs
    but the signature are covered. Raises DecodeError for a record that is none, and 503 for a line
    feed in a name or a value, which would let two records have one signature.
    """
    # DPDP-7-03
    lines = [f"{instance}.{kind}".encode("utf-8", "surrogatepass"), b"%d" % port]
    if b"\n" in lines[0]:
        raise DecodeError(0, "instance", Reason.BAD_OPTION)
    for key, (offset, _, value) in sorted(read_txt(txt).items()):
        if value is not None and b"\n" in value:
            raise DecodeError(offset, key, Reason.BAD_OPTION)
        if key != _SIGNATURE:
            lines.append(key.encode() + (b"" if value is None else b"=" + value))
    return PREFIX + b"".join(line + b"\n" for line in lines)


def sign(
    advert: Advert, instance: str, kind: str, port: int, key: SigningKey, expires_s: int
) -> Advert:
    """Return `advert` as it is sent, signed by the meter key whose hash its id is.

    expires_s: Unix time, at most MAX_LIFE_S ahead; renew at half of that. Another name or port
    needs another signature. Raises LocalProtocolError for another key, for a name with a line
    feed, and as `encode_txt`.
    """
    if provider_id(key.public) != advert.id:
        raise LocalProtocolError(f"this key is not that of provider {advert.id.hex()}")
    if "\n" in instance:
        raise LocalProtocolError(f"a name of one line is needed, got {instance!r}")
    draft = fit(replace(advert, expires_s=expires_s, signature=bytes(SIGNATURE_OCTETS)))
    text = signing_input(instance, kind, port, encode_txt(draft))
    return replace(draft, signature=key.sign(text))


def is_timely(expires_s: int, now_s: int) -> bool:
    """Return whether a signature that ends at `expires_s` counts at `now_s`, both Unix time."""
    # DPDP-7-03
    return now_s < expires_s <= now_s + MAX_LIFE_S + MAX_SKEW_S


def verify(
    txt: bytes, instance: str, kind: str, port: int, meter_key: bytes | None, now_s: int
) -> Signed:
    """Return what the signature of a TXT record is worth at a Unix time.

    meter_key: the one that is known for its id; without it a signature is UNKNOWN. BAD: expired,
    for too long a time, of another key, over other pairs, or no signature at all. Never raises.
    """
    try:
        if _SIGNATURE not in read_txt(txt):
            return Signed.NONE
        if meter_key is None:
            return Signed.UNKNOWN
        advert = decode_txt(txt)
        text = signing_input(instance, kind, port, txt)
    except DecodeError:
        return Signed.BAD
    if advert.signature is None or advert.expires_s is None:
        return Signed.BAD
    if not is_timely(advert.expires_s, now_s):
        return Signed.BAD
    is_good = provider_id(meter_key) == advert.id and is_signed_by(
        meter_key, text, advert.signature
    )
    return Signed.GOOD if is_good else Signed.BAD
