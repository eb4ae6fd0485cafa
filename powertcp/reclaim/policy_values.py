"""Values of a policy: what each word takes, with its unit, and how it is read."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from powertcp.profile import Waveform
from powertcp.reclaim.policy_match import DAY_MIN, Network
from powertcp.registry import REASONS, Reason
from powertcp.units import (
    parse_current_ma,
    parse_energy_uj,
    parse_frequency_chz,
    parse_power_mw,
    parse_voltage_mv,
)
from powertcp.vppn.faults import shown
from powertcp.vppn.identity import Algorithm, PublicKey

# an account of the ledger and a limit of a REASON have 63 bits
MAX_VALUE: Final = (1 << 63) - 1
# of the load: a firewall may be overloaded
MAX_LOAD: Final = 1000
WORST_PRIORITY: Final = 15
MAX_NAME: Final = 64
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]*")
_PERCENT: Final = re.compile(r"([0-9]{1,4})%")
_PRICE: Final = re.compile(r"(-?)([0-9]{1,9})(?:\.([0-9]{1,6}))?([A-Z]{3})")
_CLOCK: Final = re.compile(r"([0-9]{2}):([0-9]{2})")
_HEX: Final = re.compile(r"[0-9a-f]{32}")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Quantity(NamedTuple):
    """How a value is read. expected: what it is, in a sentence."""

    expected: str
    parse: Callable[[str], int]


def _bounded(parse: Callable[[str], int]) -> Callable[[str], int]:
    def bounded(text: str) -> int:
        value = parse(text)
        if value > MAX_VALUE:
            raise ValueError(f"{shown(text)} is more than 63 bits hold")
        return value

    return bounded


def parse_priority(text: str) -> int:
    """Parse 1 to 15. Raises ValueError with a sentence."""
    if not re.fullmatch(r"[1-9]|1[0-5]", text):
        raise ValueError(f"a priority is 1 (best) to {WORST_PRIORITY}, got {shown(text)}")
    return int(text)


def parse_percent(text: str, most: int) -> int:
    """Parse "90%", a whole number up to `most`. Raises ValueError with a sentence."""
    found = _PERCENT.fullmatch(text)
    if found is None or int(found[1]) > most:
        raise ValueError(f"a share is a whole number of % up to {most}%, got {shown(text)}")
    return int(found[1])


def parse_percent_of_all(text: str) -> int:
    """Parse 0% to 100%. Raises ValueError with a sentence."""
    return parse_percent(text, 100)


POWER: Final = Quantity("a power (uW, mW, W, kW, MW)", _bounded(parse_power_mw))
ENERGY: Final = Quantity(
    "an energy (uJ, mJ, J, kJ, MJ, mWh, Wh, kWh, MWh)", _bounded(parse_energy_uj)
)
PERCENT: Final = Quantity("a percentage (%)", parse_percent_of_all)
VOLTAGE: Final = Quantity("a voltage (uV, mV, V, kV)", _bounded(parse_voltage_mv))
NUMBERS: Final[Mapping[str, Quantity]] = {
    "voltage": VOLTAGE,
    "current": Quantity("a current (uA, mA, A, kA)", _bounded(parse_current_ma)),
    "power": POWER,
    "energy": ENERGY,
    "priority": Quantity("a priority (1 to 15)", parse_priority),
    "frequency": Quantity("a frequency (cHz, Hz, kHz)", _bounded(parse_frequency_chz)),
    "load": Quantity("a percentage (%)", lambda text: parse_percent(text, MAX_LOAD)),
}

RANGE: Final = "a range of voltage (207V-253V)"
PRICE: Final = "a price per kWh (0.40EUR)"
CLOCK: Final = "a time of day (06:00)"
TIMES: Final = "two times of day (22:00-06:00)"
NAME: Final = "a name"
KEY: Final = "a key (x25519:BASE64)"
NETWORK: Final = "a network (10.0.0.0/8, fd00::/8)"
ADDRESS: Final = "an address (10.0.0.1, fd00::1)"
ENTITY: Final = "an entity (32 hexadecimal digits)"
FEED: Final = "a feed (32 hexadecimal digits)"
CODE: Final = "a reason code (206)"
LISTEN: Final = "an address and a port ([::]:3251)"


def parse_name(text: str) -> str:
    """Parse the name of a set, a reservoir, a counter. Raises ValueError with a sentence."""
    if not _NAME.fullmatch(text) or len(text) > MAX_NAME:
        raise ValueError(f"a name has 1 to {MAX_NAME} letters, digits, - or _, got {shown(text)}")
    return text


def parse_range(text: str) -> tuple[int, int]:
    """Parse "207V-253V" or "12V" to the least and the most, mV. Raises ValueError."""
    least, dash, most = text.partition("-")
    low = VOLTAGE.parse(least)
    high = VOLTAGE.parse(most) if dash else low
    if low > high:
        raise ValueError(f"a range is LEAST-MOST, got {shown(text)}")
    return low, high


def parse_price(text: str) -> tuple[int, str]:
    """Parse "0.40EUR" to millionths per kWh and the currency. Raises ValueError with a sentence."""
    found = _PRICE.fullmatch(text)
    if found is None:
        raise ValueError(f"a price is a number and three capital letters, got {shown(text)}")
    sign, whole, part, currency = found.groups()
    micro = int(whole) * 10**6 + int((part or "").ljust(6, "0"))
    return -micro if sign else micro, currency


def parse_clock(text: str) -> int:
    """Parse "06:00" to the minute of the day, up to 24:00. Raises ValueError with a sentence."""
    found = _CLOCK.fullmatch(text)
    minute = int(found[1]) * 60 + int(found[2]) if found else DAY_MIN + 1
    if found is None or int(found[2]) > 59 or minute > DAY_MIN:
        raise ValueError(f"a time is 00:00 to 24:00, got {shown(text)}")
    return minute


def parse_moment(text: str) -> int:
    """Parse a minute that a day has, 00:00 to 23:59. Raises ValueError with a sentence."""
    minute = parse_clock(text)
    if minute == DAY_MIN:
        raise ValueError(f"a minute of the day is 00:00 to 23:59, got {shown(text)}")
    return minute


def parse_times(text: str) -> tuple[int, int]:
    """Parse "22:00-06:00" to the first minute and the one behind the last. Raises ValueError."""
    first, dash, end = text.partition("-")
    if not dash:
        raise ValueError(f"a time is FROM-TO, got {shown(text)}")
    begins, ends = parse_moment(first), parse_clock(end)
    if begins == ends % DAY_MIN and (begins or ends != DAY_MIN):
        raise ValueError(f"no time is between them, got {shown(text)}")
    return begins, ends


def parse_network(text: str) -> Network:
    """Parse a network or an address. Raises ValueError with a sentence."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        beyond = ": bits beyond the prefix are set" if "host bits" in str(error) else ""
        raise ValueError(f"it is no network, got {shown(text)}{beyond}") from error
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        raise ValueError(f"an IPv4 network is written as one, got {shown(text)}")
    return network


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parse an address. Raises ValueError with a sentence."""
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise ValueError(f"it is no address, got {shown(text)}") from error


def parse_octets(text: str) -> bytes:
    """Parse 32 hexadecimal digits or a UUID to 16 octets. Raises ValueError with a sentence."""
    small = text.lower()
    if _UUID.fullmatch(small):
        small = small.replace("-", "")
    if not _HEX.fullmatch(small):
        raise ValueError(f"it has 32 hexadecimal digits, got {shown(text)}")
    return bytes.fromhex(small)


def parse_key(text: str) -> bytes:
    """Parse "x25519:BASE64" to 32 octets. Raises ValueError with a sentence."""
    return PublicKey.parse(text, Algorithm.X25519).octets


def parse_code(text: str) -> Reason:
    """Parse the number of a registered reason. Raises ValueError with a sentence."""
    if text in Reason.__members__:
        raise ValueError(f"a reason is written as its number, {text} is {Reason[text].value}")
    if not re.fullmatch(r"[0-9]{3}", text) or int(text) not in REASONS:
        raise ValueError(f"no reason has the code {shown(text)}")
    return Reason(int(text))


def parse_listen(text: str) -> tuple[str, int]:
    """Parse "[::]:3251" or "127.0.0.1:3251"; port 0 is any free one. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host, wanted = host[1:-1], 6
    else:
        wanted = 4
    try:
        is_address = ipaddress.ip_address(host).version == wanted
    except ValueError:
        is_address = False
    if not colon or not is_address or not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError(f"it is ADDRESS:PORT, got {shown(text)}")
    if int(port) > 0xFFFF:
        raise ValueError(f"a port is at most 65535, got {shown(text)}")
    return host, int(port)


# by-id and arbitrary shapes are no steady voltage
SHAPES: Final[Mapping[str, frozenset[Waveform]]] = {
    "dc": frozenset({Waveform.DC}),
    "ac": frozenset(set(Waveform) - {Waveform.DC}),
    "any": frozenset(Waveform),
}
