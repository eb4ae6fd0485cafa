"""The audit as a Sankey diagram: what was generated, and the miracle, on the left; what became of it
on the right. The text of the SVG depends on the audit alone: all coordinates are integers.
"""

from collections.abc import Iterator
from html import escape
from textwrap import wrap
from typing import Final, NamedTuple

from powertcp.ledger.audit import CLAIMED, WALL, FeedLaw, FirstLaw, chi, short
from powertcp.units import format_energy

WIDTH: Final = 1200
BAND: Final = 400  # of all energy together
TOP: Final = 60
GAP: Final = 26
BAR: Final = 18
LEFT: Final = 370
MIDDLE: Final = 616
RIGHT: Final = 862
LINE: Final = 22
COLUMNS: Final = 150  # of text below the bands
# feeds that have a band of their own; the miracle of the rest is one band
MAX_FEEDS: Final = 6
# coordinates are hundredths of a pixel
UNIT: Final = 100

_STYLE = """
text{font:14px sans-serif;fill:#1a1a1a}
.title{font-size:18px;font-weight:bold}
.value{fill:#444}
.generated{fill:#2f6f9f}.outside{fill:#6d7b87}.stored{fill:#3c7d4a}.used{fill:#b07a1e}
.heat{fill:#a33b2e}.lost{fill:#7a5a8c}.miracle{fill:url(#hatch)}.network{fill:#1a1a1a}
.band{opacity:.45}
"""


class _Share(NamedTuple):
    """One band: what it is called, how it is drawn, how much it is."""

    label: str
    style: str
    amount: int


def sankey(law: FirstLaw) -> str:
    """Return the diagram as SVG."""
    given, taken = _shares(law)
    total = sum(share.amount for share in given)
    said = [_apart(law), *wrap(law.sentence(), COLUMNS)]
    bottom = TOP + BAND + GAP * max(len(given), len(taken), 1) + LINE
    height = bottom + LINE * len(said)
    rows = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title law">',
        f'<title id="title">Energy of {_nodes(law)}</title>',
        f'<desc id="law">{escape(law.sentence())}</desc>',
        f"<style>{_STYLE}</style>",
        '<defs><pattern id="hatch" width="8" height="8" patternUnits="userSpaceOnUse"'
        ' patternTransform="rotate(45)"><rect width="8" height="8" fill="#f2c6d8"/>'
        '<rect width="4" height="8" fill="#b3125e"/></pattern></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text class="title" x="20" y="32">Energy of {_nodes(law)}</text>',
    ]
    if total:
        rows += _column(given, total, is_left=True)
        rows += _column(taken, total, is_left=False)
        rows.append(
            f'<rect class="network" x="{MIDDLE}" y="{TOP}" width="{BAR}" height="{BAND}">'
            f"<title>{total:,} uJ</title></rect>"
        )
    else:
        rows.append(f'<text x="20" y="{TOP + 20}">No energy was moved.</text>')
    rows += [
        *(
            f'<text x="20" y="{bottom + LINE * number}">{escape(line)}</text>'
            for number, line in enumerate(said)
        ),
        "</svg>",
    ]
    return "\n".join(rows) + "\n"


def _nodes(law: FirstLaw) -> str:
    count = len(law.nodes)
    return f"{count:,} {'node' if count == 1 else 'nodes'}"


def _apart(law: FirstLaw) -> str:
    """Return what is never summed with the bands."""
    return (
        f"Not in the bands: claimed {format_energy(law.moved(CLAIMED))},"
        f" wall energy {format_energy(law.moved(WALL))}."
    )


def _shares(law: FirstLaw) -> tuple[list[_Share], list[_Share]]:
    """Return the bands of both sides; they add up to the same. What is negative changes sides."""
    given = [
        _Share("generated", "generated", law.total("generated_uj")),
        _Share("from outside", "outside", law.outside_in_uj),
        *_miracles(law.feeds),
    ]
    taken = [
        _Share("used", "used", law.total("used_uj")),
        _Share("delivered outside", "outside", law.outside_out_uj),
        _Share("stored", "stored", law.total("stored_uj")),
        _Share("heat", "heat", law.total("heat_uj")),
        _Share("not received", "lost", law.lost_uj),
        # only in books that are wrong
        _Share("residual", "lost", law.signed_residual_uj),
    ]
    back = {"stored": "from stores"}
    turned = [_Share(back.get(it.label, it.label), it.style, -it.amount) for it in given + taken]
    return (
        [it for it in given if it.amount > 0]
        + [it for it in turned[len(given) :] if it.amount > 0],
        [it for it in taken if it.amount > 0]
        + [it for it in turned[: len(given)] if it.amount > 0],
    )


def _miracles(feeds: tuple[FeedLaw, ...]) -> list[_Share]:
    found = sorted((feed for feed in feeds if feed.miracle_uj), key=lambda it: -it.miracle_uj)
    shares = [
        _Share(f"the miracle, feed {short(feed)} (chi = {chi(feed)})", "miracle", feed.miracle_uj)
        for feed in found[:MAX_FEEDS]
    ]
    rest = sum(feed.miracle_uj for feed in found[MAX_FEEDS:])
    name = f"the miracle, {len(found) - MAX_FEEDS} more feeds"
    return [*shares, _Share(name, "miracle", rest)] if rest else shares


def _column(shares: list[_Share], total: int, *, is_left: bool) -> Iterator[str]:
    """Yield bars, bands and labels of one side; heights are differences of exact sums."""
    before = 0
    for number, share in enumerate(shares):
        inner = TOP * UNIT + BAND * UNIT * before // total
        before += share.amount
        size = TOP * UNIT + BAND * UNIT * before // total - inner
        outer = inner + number * GAP * UNIT
        bar = LEFT if is_left else RIGHT
        from_x, to_x = (LEFT + BAR, MIDDLE) if is_left else (RIGHT, MIDDLE + BAR)
        said = f"{escape(share.label)}: {share.amount:,} uJ"
        yield _band(share.style, said, from_x, to_x, outer, inner, size)
        yield (
            f'<rect class="{share.style}" x="{bar}" y="{_px(outer)}" width="{BAR}"'
            f' height="{_px(max(size, UNIT))}"><title>{said}</title></rect>'
        )
        at, anchor = (LEFT - 10, "end") if is_left else (RIGHT + BAR + 10, "start")
        # the middle of the bar, a little lower than half for the height of letters
        middle = outer + size // 2 + 5 * UNIT
        yield (
            f'<text x="{at}" y="{_px(middle)}" text-anchor="{anchor}">{escape(share.label)}'
            f' <tspan class="value">{format_energy(share.amount)}</tspan></text>'
        )


def _band(style: str, said: str, from_x: int, to_x: int, outer: int, inner: int, size: int) -> str:
    half = (from_x + to_x) // 2
    low, deep = _px(outer + size), _px(inner + size)
    return (
        f'<path class="{style} band" d="M{from_x} {_px(outer)}C{half} {_px(outer)} {half}'
        f" {_px(inner)} {to_x} {_px(inner)}L{to_x} {deep}C{half} {deep} {half} {low} {from_x} {low}Z"
        f'"><title>{said}</title></path>'
    )


def _px(hundredths: int) -> str:
    whole, part = divmod(hundredths, UNIT)
    return f"{whole}.{part:02}" if part else f"{whole}"
