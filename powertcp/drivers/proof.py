"""What a provider has shown of itself by its handshakes: VPPN, certificate, meter (DPDP 7.3)."""

from powertcp.dpdp.advert import TYPE_TCP
from powertcp.dpdp.entry import Signed
from powertcp.dpdp.signing import verify
from powertcp.dpdp.trust import Shown
from powertcp.drivers.clock import unix_ns
from powertcp.drivers.guide import Place
from powertcp.errors import PowerError
from powertcp.units import NS_PER_S
from powertcp.vppn.certificate import parse_certificate
from powertcp.vppn.identity import Algorithm


def shown_by(place: Place, certificate: bytes, now_s: int) -> Shown:
    """Return what a VPPN handshake with the provider of `place` has shown, at a Unix time."""
    key = place.seal.peer if place.seal is not None else None
    if not certificate:
        return Shown(static_key=key)
    try:
        read = parse_certificate(certificate)
    except PowerError:
        return Shown(static_key=key)
    if not read.not_before_s <= now_s < read.not_after_s:
        return Shown(static_key=key)
    is_meter_key = read.subject.algorithm is Algorithm.ED25519
    return Shown(
        static_key=key,
        issuer=read.issuer.octets,
        subject=read.subject.octets,
        is_meter_key=is_meter_key,
        has_signed=is_meter_key and has_signed(place, read.subject.octets),
    )


def has_signed(place: Place, meter_key: bytes) -> bool:
    """Return whether the advert that led here is signed by a meter key, as far as the clock says."""
    if place.entry is None:
        return False
    service = place.entry.service
    now_s = unix_ns() // NS_PER_S
    signed = verify(service.txt, service.instance, TYPE_TCP, service.port, meter_key, now_s)
    return signed is Signed.GOOD
