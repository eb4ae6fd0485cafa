"""TXT records and the adverts that they say: the bench supply of the DPDP draft, and any other."""

from hypothesis import strategies as st

from powertcp.crypto import SigningKey
from powertcp.dpdp.advert import HOTS, SEALS, SOURCES, Advert, Offer, Tariff, provider_id
from powertcp.profile import Phases, PowerProfile, ProfileType, Waveform

METER = SigningKey(bytes([7]) * 32)
BENCH = (
    "txtvers=1",
    "id=7f31a2c4d5e60718293a4b5c6d7e8f90",
    "p1=4c00002ee0000bb8000000000000000064000013880000000000000000000000",
    "cap=36000",
    "src=grid",
    "tariff=EUR:250000",
)
OFFER = PowerProfile.make(ProfileType.OFFER, 12_000, 3_000)
FULL = Advert(
    id=provider_id(METER.public),
    offers=(Offer(offer=OFFER),),
    cap_mw=36_000,
    source="battery",
    tariff=Tariff(currency="EUR", micro_per_kwh=-1),
    exchange_key=bytes(range(32)),
    seal="req",
    group="239.255.80.84",
    feed=bytes(range(16)),
    hot="ticket",
    soc=100,
    loc="hall Ä",
    others=(("note", b"x"), ("spare", None)),
)


def record(*strings: str | bytes) -> bytes:
    """Return the octets of a TXT record of these strings."""
    encoded = [text.encode() if isinstance(text, str) else text for text in strings]
    return b"".join(bytes([len(text)]) + text for text in encoded)


@st.composite
def offers(draw: st.DrawFn) -> Offer:
    """Draw an offer, alone or with its minimum."""
    shape = {
        "waveform": draw(st.sampled_from(Waveform)),
        "phases": draw(st.sampled_from(Phases)),
        "frequency_chz": draw(st.integers(0, 0xFFFF)),
    }
    volts, amps = draw(st.integers(0, 0xFFFFFF)), draw(st.integers(0, 0xFFFFFF))
    most = PowerProfile.make(
        ProfileType.OFFER,
        volts,
        amps,
        **shape,
        priority=draw(st.integers(0, 15)),
        energy_j=draw(st.integers(0, 8191)),
        profile_id=draw(st.integers(0, 255)),
    )
    if draw(st.booleans()):
        return Offer(offer=most)
    least = PowerProfile.make(
        ProfileType.MINIMUM, draw(st.integers(0, volts)), draw(st.integers(0, amps)), **shape
    )
    return Offer(offer=most, minimum=least)


_WORDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=32)
_KEYS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=8).map("x".__add__)
_VALUES = st.binary(max_size=20).map(lambda raw: bytes(0x20 + octet % 95 for octet in raw))
_TARIFFS = st.builds(
    Tariff,
    currency=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=3, max_size=3),
    micro_per_kwh=st.integers(-(10**12), 10**12),
)
ADVERTS = st.builds(
    Advert,
    id=st.binary(min_size=16, max_size=16),
    offers=st.lists(offers(), min_size=1, max_size=2).map(tuple),
    cap_mw=st.integers(0, 10**18 - 1),
    source=st.sampled_from(SOURCES) | _WORDS,
    tariff=st.none() | st.just(Tariff(currency="", micro_per_kwh=0)) | _TARIFFS,
    exchange_key=st.none() | st.binary(min_size=32, max_size=32),
    seal=st.none() | st.sampled_from(SEALS),
    group=st.sampled_from(("", "239.255.80.84", "ff15::5054")),
    feed=st.none() | st.binary(min_size=16, max_size=16),
    hot=st.sampled_from(("", *HOTS)),
    soc=st.none() | st.integers(0, 100),
    loc=st.sampled_from(("", "hall B, rack 12", "Küche")),
    others=st.dictionaries(_KEYS, st.none() | _VALUES, max_size=2).map(lambda d: tuple(d.items())),
)
