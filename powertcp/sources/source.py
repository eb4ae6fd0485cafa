"""What a provider has to give: supplies, their source, the factories of `--supply` and `--source`."""

import re
from dataclasses import dataclass, replace

from powertcp.dve import Harmonic
from powertcp.dve.waveform import PPM, VoltageEvent, sag, swell
from powertcp.errors import ConfigError
from powertcp.profile import PowerProfile, ProfileType
from powertcp.units import NS_PER_S, Duration, parse_duration_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """One voltage a provider serves; its profile's current is the rating in amperes.

    retiring: flows that have it keep it, nobody gets it any more.
    """

    profile: PowerProfile
    retiring: bool = False

    @property
    def rating_mw(self) -> int:
        """Rating in mW: the power of the profile."""
        return self.profile.power_mw

    def feeds(self, profile: PowerProfile) -> bool:
        """Say whether `profile` is power of this supply: same kind, same voltage."""
        return self.profile.voltage_mv == profile.voltage_mv and self.profile.same_kind(profile)

    def retire(self) -> "Supply":
        """Return this supply closed for new flows."""
        return replace(self, retiring=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """A sag or swell: the voltage at `gain_ppm` for `for_ns`, `at_ns` after a flow's first sample."""

    at_ns: Duration
    for_ns: Duration
    gain_ppm: int

    def event(self, rate_hz: int) -> VoltageEvent:
        """Return it by sample index at `rate_hz`, at least one sample long."""
        start = self.at_ns * rate_hz // NS_PER_S
        count = max(self.for_ns * rate_hz // NS_PER_S, 1)
        if self.gain_ppm < PPM:
            return sag(start, count, self.gain_ppm)
        return swell(start, count, self.gain_ppm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the energy of a provider comes from, and how clean its voltage is.

    noise_ppm: rms of the noise, in ppm of the voltage. harmonics: of AC supplies only.
    """

    name: str = "mains"
    noise_ppm: int = 0
    harmonics: tuple[Harmonic, ...] = ()
    disturbances: tuple[Disturbance, ...] = ()


KINDS = ("mains",)
EXAMPLE = "mains:noise=0.2%,harmonic=3/5%,sag=70%@10s/500ms,swell=150%@20s/1s"
MAX_FAULTS = 64  # of one source: more is no description of a supply but a waveform


def make_source(spec: str) -> Source:
    """Return the source of `KIND[:ARGS]`, as in EXAMPLE. Raises ConfigError saying what is wrong."""
    kind, _, arguments = spec.partition(":")
    if kind not in KINDS:
        raise _wrong(f'unknown source "{spec}", known are: {", ".join(KINDS)}')
    noise_ppm = 0
    harmonics: list[Harmonic] = []
    disturbances: list[Disturbance] = []
    for word in arguments.split(",") if arguments else ():
        name, _, value = word.partition("=")
        if name == "noise":
            noise_ppm = _share_ppm(word, value)
        elif name == "harmonic":
            harmonics.append(_harmonic(word, value))
        elif name in ("sag", "swell"):
            disturbances.append(_disturbance(word, name, value))
        else:
            raise _wrong(f'"{word}" is none of noise, harmonic, sag, swell: {EXAMPLE}')
    if len(harmonics) + len(disturbances) > MAX_FAULTS:
        raise _wrong(f"{len(harmonics) + len(disturbances)} faults, at most {MAX_FAULTS}")
    return Source(
        name=kind,
        noise_ppm=noise_ppm,
        harmonics=tuple(harmonics),
        disturbances=tuple(disturbances),
    )


def _wrong(text: str) -> ConfigError:
    return ConfigError("--source", "source", text)


def _share_ppm(word: str, text: str) -> int:
    """Return the ppm of `5%`, 0 to 1000 %."""
    found = re.fullmatch(r"(\d{1,4})(?:\.(\d{1,4}))?%", text)
    ppm = int(found[1]) * 10_000 + int((found[2] or "0").ljust(4, "0")) if found else -1
    if not 0 <= ppm <= 10 * PPM:
        raise _wrong(f'"{word}": "{text}" is no share of 0% to 1000%')
    return ppm


def _harmonic(word: str, value: str) -> Harmonic:
    order, _, share = value.partition("/")
    if not re.fullmatch(r"\d{1,2}", order) or int(order) < 2:
        raise _wrong(f'"{word}": the order of a harmonic is 2 to 99, as in harmonic=3/5%')
    return Harmonic(int(order), _share_ppm(word, share))


def _disturbance(word: str, name: str, value: str) -> Disturbance:
    share, _, when = value.partition("@")
    at, _, length = when.partition("/")
    gain_ppm = _share_ppm(word, share)
    if (name == "sag") != (gain_ppm < PPM) or gain_ppm == PPM:
        raise _wrong(f'"{word}": a sag is below 100%, a swell above')
    try:
        at_ns, for_ns = parse_duration_ns(at), parse_duration_ns(length)
    except ValueError as error:
        raise _wrong(f'"{word}": {error}; as in {name}={share}@10s/500ms') from error
    return Disturbance(at_ns=at_ns, for_ns=for_ns, gain_ppm=gain_ppm)


def parse_supply(text: str) -> Supply:
    """Return the supply that the text form of a profile names, as octets can say it (PTCP-1-02).

    Raises ValueError.
    """
    # PTCP-1-02
    profile = PowerProfile.parse(text, ProfileType.OFFER).as_sent()
    if not profile.current_ma or not profile.voltage_mv:
        raise ValueError(f'a supply needs a voltage and a current above 0, got "{text}"')
    return Supply(profile=profile)
