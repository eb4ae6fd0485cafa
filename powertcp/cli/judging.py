"""`powertcp discover --why`: each provider as a consumer would judge it."""

import argparse
import json
import os
from collections.abc import Sequence

from powertcp.cli.adverts import SHORT, facts
from powertcp.cli.consumer_options import read
from powertcp.cli.keys import identity_path
from powertcp.dpdp.entry import Entry
from powertcp.dpdp.ranges import Ask
from powertcp.dpdp.select import MAX_ASKS, MAX_MEASURED, Candidate, Need, Situation, select
from powertcp.dpdp.trust import Trust
from powertcp.dpdp.txt import show_text
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.distance import measure
from powertcp.drivers.price import parse_price
from powertcp.errors import ConfigError
from powertcp.profile import PowerProfile, ProfileType, is_minimum_of

_SEED = b"powertcp discover"


def read_need(given: argparse.Namespace) -> Need | None:
    """Return what is looked for, None for nothing in particular. Raises ConfigError."""
    if not given.request:
        return None
    if len(given.request) > MAX_ASKS:
        raise ConfigError("command line", "--request", f"at most {MAX_ASKS} of them")
    price = read("--max-price", given.max_price or "", parse_price)
    return Need(
        asks=tuple(_ask(one) for one in given.request),
        max_price_micro=price.micro if price else None,
        currency=price.currency if price else "",
        sources=_sources(given.src) if given.src else None,
        can_seal=identity_path(os.environ).exists(),
    )


def _ask(words: dict[str, str]) -> Ask:
    desired = _profile("--request", words["request"], ProfileType.REQUEST)
    if "minimum" not in words:
        return Ask(desired)
    least = _profile("--minimum", words["minimum"], ProfileType.MINIMUM)
    if not is_minimum_of(least, desired):
        said = f"of another kind of power than {words['request']}"
        raise ConfigError("command line", "--minimum", said)
    return Ask(desired, least)


def _profile(flag: str, text: str, kind: ProfileType) -> PowerProfile:
    try:
        return PowerProfile.parse(text, kind).as_sent()
    except ValueError as error:
        raise ConfigError("command line", flag, str(error)) from error


def _sources(text: str) -> frozenset[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(word and word.isascii() and word.isprintable() for word in words):
        said = f"sources, for example battery,grid, got {text}"
        raise ConfigError("command line", "--src", said)
    return frozenset(words)


async def judge(
    entries: Sequence[Entry], need: Need, trust: Trust, own: frozenset[str]
) -> list[Candidate]:
    """Return each provider with why it would be taken, or not; the best ones are measured."""
    first = select(entries, need, trust, _SEED, Situation(now=now_ns()))
    near = [each.entry for each in first if each.merits is not None][:MAX_MEASURED]
    rtt = await measure(near, own)
    return select(entries, need, trust, _SEED, Situation(now=now_ns(), rtt=rtt))


def lines(candidates: Sequence[Candidate], *, as_json: bool) -> list[str]:
    """Return one line for each: id, the word, the sentence."""
    if as_json:
        return [
            json.dumps(
                {
                    **facts(each.entry),
                    "verdict": str(each.why),
                    "sentence": each.sentence,
                    "numbers": each.numbers,
                }
            )
            for each in candidates
        ]
    width = max((len(each.why) for each in candidates), default=0)
    return [f"{_named(each.entry)}  {each.why:<{width}}  {each.sentence}" for each in candidates]


def _named(entry: Entry) -> str:
    """Return the first digits of its id, its name where there is none."""
    if entry.advert is None:
        return show_text(entry.service.instance)[:SHORT].ljust(SHORT)
    return entry.advert.id.hex()[:SHORT]
