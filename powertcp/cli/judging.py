"""`powertcp discover --why`: each provider as a consumer would judge it."""

import argparse
import json
import os
from collections.abc import Sequence

from powertcp.cli.adverts import SHORT, facts
from powertcp.cli.consumer import read_asks
from powertcp.cli.consumer_options import read
from powertcp.cli.keys import identity_path
from powertcp.dpdp.entry import Entry
from powertcp.dpdp.select import MAX_MEASURED, Candidate, Need, Situation
from powertcp.dpdp.trust import Trust
from powertcp.dpdp.txt import show_text
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.distance import measure
from powertcp.drivers.needs import judge, make_need
from powertcp.drivers.price import parse_price
from powertcp.errors import ConfigError

SEED = b"powertcp discover"


def read_need(given: argparse.Namespace) -> Need | None:
    """Return what is looked for, None for nothing in particular. Raises ConfigError."""
    if not given.request:
        return None
    requests = [one["request"] for one in given.request]
    minimums = [one.get("minimum", "") for one in given.request]
    return make_need(
        read_asks(requests, minimums),
        max_price=read("--max-price", given.max_price or "", parse_price),
        sources=_sources(given.src) if given.src else None,
        can_seal=identity_path(os.environ).exists(),
    )


def _sources(text: str) -> frozenset[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(word and word.isascii() and word.isprintable() for word in words):
        said = f"sources, for example battery,grid, got {text}"
        raise ConfigError("command line", "--src", said)
    return frozenset(words)


async def measured(
    entries: Sequence[Entry], need: Need, trust: Trust, own: frozenset[str], *, is_passive: bool
) -> list[Candidate]:
    """Return each provider with why it would be taken, or not; the best ones are measured.

    is_passive: nobody is asked how far it is.
    """
    first = judge(entries, need, trust, SEED, Situation(now=now_ns()))
    # DPDP-7-06
    if is_passive:
        return first
    near = [each.entry for each in first if each.merits is not None][:MAX_MEASURED]
    rtt = await measure(near, own)
    return judge(entries, need, trust, SEED, Situation(now=now_ns(), rtt=rtt))


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
