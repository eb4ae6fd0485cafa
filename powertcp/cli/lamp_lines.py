"""The ladder of a network of lamps: each message as a line, and as JSON values."""

from typing import Final

from powertcp.cli.lamp_rungs import CircuitSaid, Rung
from powertcp.cli.lamp_sightings import Told
from powertcp.mplamps import rsvp
from powertcp.mplamps.label import NEUTRAL, is_voltage, voltage_of
from powertcp.mplamps.power import MeterObject, PowerObject, TariffKind, TariffObject
from powertcp.mplamps.rsvp.errors import format_price, reason_of
from powertcp.profile import ProfileType
from powertcp.units import NS_PER_MS, Duration, Instant, format_energy, format_power, format_voltage

# a lamp that names a supplier and no price
_ANY_PRICE: Final = (1 << 63) - 1
_PRICES: Final = {TariffKind.LIMIT: "limit", TariffKind.QUOTE: "quote", TariffKind.OFFER: "offer"}


def said_at(since_ns: Duration) -> str:
    """Return ns as ms with six decimals, in a column."""
    ms, ns = divmod(since_ns, NS_PER_MS)
    return f"{ms:>9,}.{ns:06} ms"


def printable(line: str) -> str:
    """Return a line in which what cannot be printed is a question mark: files may say anything."""
    return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)


def line_of(rung: Rung, begin_ns: Instant) -> str:
    """Return the line of a rung: time since the first one, way, type, and what it says."""
    way = f"{rung.seen.source} -> {rung.seen.target}"
    parts = [rung.more] if rung.more else []
    parts += [_said_of_circuit(one, has_sentence=bool(rung.sentence)) for one in rung.circuits]
    if rung.meter is not None:
        parts.append(_said_of_meter(rung.meter))
    parts += [rung.sentence] if rung.sentence else []
    at = said_at(rung.seen.at_ns - begin_ns)
    return printable(f"{at}  {way:<22}  {rung.kind:<8}  {'; '.join(parts)}".rstrip())


def _said_of_circuit(one: CircuitSaid, *, has_sentence: bool) -> str:
    words = [one.lamp or "all lamps"]
    if one.lsp is not None:
        words[0] += f"/{one.lsp}"
    if one.label is not None:
        words.append(_said_of_label(one.label))
    if one.flow_label is not None:
        words.append(f"F {one.flow_label}")
    # a sentence has its own numbers
    if one.power is not None and not has_sentence:
        words.append(_said_of_power(one.power))
    if not has_sentence:
        words += map(_said_of_tariff, one.tariffs)
    return "  ".join(words)


def _said_of_label(label: int) -> str:
    if label == NEUTRAL:
        return "label 0 = neutral"
    volts = f" = {format_voltage(voltage_of(label))}" if is_voltage(label) else ""
    return f"label {label}{volts}"


def _said_of_power(power: PowerObject) -> str:
    first, second = power.profile, power.second
    verb = "grants" if first.type is ProfileType.GRANT else "asks for"
    said = f"{verb} {first.format()} = {format_power(first.power_mw)}"
    if second is None:
        return said
    word = "at least" if second.type is ProfileType.MINIMUM else "could have"
    return f"{said}, {word} {format_power(second.power_mw)}"


def _said_of_tariff(tariff: TariffObject) -> str:
    supplier = f" of supplier {tariff.supplier}" if tariff.supplier else ""
    if tariff.kind is TariffKind.LIMIT and tariff.price == _ANY_PRICE:
        return f"any price{supplier}"
    return f"{_PRICES[tariff.kind]} {format_price(tariff.price, tariff.currency)}{supplier}"


def _said_of_meter(meter: MeterObject) -> str:
    flags = [word for word, is_set in (("estimated", meter.is_estimated), ("final", meter.is_final))
             if is_set]  # fmt: skip
    said = f"{format_energy(meter.energy_uj)} in {meter.seconds:,} s"
    return ", ".join((said, *flags))


def told_line(told: Told, begin_ns: Instant) -> str:
    """Return the line of an event that is no message."""
    node = str(told.data.get("node", ""))
    words = [f"{key} {_word(value)}" for key, value in told.data.items() if key != "node"]
    at = said_at(told.at_ns - begin_ns)
    return printable(f"{at}  {node:<22}  {told.name}  {', '.join(words)}".rstrip())


def _word(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value)


# ---- JSON ---------------------------------------------------------------------------------------


def values_of(rung: Rung) -> dict[str, object]:
    """Return a rung as JSON has it: integers with the unit in the key, nothing that is not there."""
    values: dict[str, object] = {
        "at_ns": rung.seen.at_ns, "from": rung.seen.source, "to": rung.seen.target,
        "link": rung.seen.link,
        "type": rung.kind, "circuits": [_circuit_values(one) for one in rung.circuits],
    }  # fmt: skip
    if rung.error is not None:
        values["error"] = error_values(rung.error, rung.refuser)
        values["sentence"] = rung.sentence
    if rung.meter is not None:
        meter = rung.meter
        values["meter"] = {
            "energy_uj": meter.energy_uj, "seconds": meter.seconds, "packets": meter.packets,
            "octets": meter.octets, "is_estimated": meter.is_estimated, "is_final": meter.is_final,
        }  # fmt: skip
    return values | ({"text": rung.more} if rung.more else {})


def error_values(error: rsvp.ErrorSpec, node: str) -> dict[str, object]:
    """Return an error: which node says it, with which code and value, and the reason."""
    return {
        "node": node, "address": str(error.node), "code": error.code, "value": error.value,
        "reason": int(reason_of(error)), "is_in_place": bool(error.flags & rsvp.IN_PLACE),
    }  # fmt: skip


def _circuit_values(one: CircuitSaid) -> dict[str, object]:
    values: dict[str, object] = {"lamp": one.lamp or None, "lsp": one.lsp}
    if one.label is not None:
        values["label"] = one.label
        values["voltage_mv"] = voltage_of(one.label) if is_voltage(one.label) else None
    if one.flow_label is not None:
        values["flow_label"] = one.flow_label
    if one.power is not None:
        for profile in (one.power.profile, one.power.second):
            if profile is not None:
                name = profile.type.name.lower()
                values[name] = profile.format()
                values[f"{name}_mw"] = profile.power_mw
    if one.tariffs:
        values["tariffs"] = [_tariff_values(tariff) for tariff in one.tariffs]
    return values


def _tariff_values(tariff: TariffObject) -> dict[str, object]:
    return {
        "kind": tariff.kind.name, "supplier": tariff.supplier, "source": str(tariff.source),
        "price_micro_per_kwh": tariff.price, "currency": tariff.currency,
        "valid_s": tariff.valid_s,
    }  # fmt: skip
