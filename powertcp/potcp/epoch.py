"""One epoch of a feed as a receiver accounts for it: seen, signed, banked, the open page.

What is said to the owner, and when, is the business of `receiver`.
"""

from typing import Final, NamedTuple

from powertcp.dve import EnergyRegister
from powertcp.potcp.protect import Protector
from powertcp.profile import PowerProfile
from powertcp.units import Instant
from powertcp.wire.options import Feed, Sampling

# PTCP-12-01: blocks within which a duplicate is known
WINDOW_BLOCKS: Final = 8128
# signatures of an epoch that are known again; those before them are too old
STARTS_MAX: Final = 512


class SeenBlocks:
    """The indices of the last 8128 blocks that were banked, one bit each."""

    __slots__ = ("_bits", "top")

    def __init__(self, top: int = -1) -> None:
        """Everything up to `top` was seen."""
        self.top = top
        self._bits = (1 << WINDOW_BLOCKS) - 1 if top >= 0 else 0

    def has(self, index: int) -> bool:
        """Return whether block `index` was seen, or is too old to tell. PTCP-12-01."""
        age = self.top - index
        # PTCP-12-01
        return age >= 0 and (age >= WINDOW_BLOCKS or bool(self._bits >> age & 1))

    def add(self, index: int) -> None:
        """Note block `index`, which was not seen."""
        ahead = index - self.top
        if ahead <= 0:
            self._bits |= 1 << -ahead
            return
        kept = (1 << max(WINDOW_BLOCKS - ahead, 0)) - 1
        self._bits = (self._bits & kept) << min(ahead, WINDOW_BLOCKS) | 1
        self.top = index


class Block(NamedTuple):
    """A block that arrived: of which feed, under which terms, where it stands.

    esn_uj: energy emitted before it, as its source says. n: samples, the first is `counter`.
    """

    feed: Feed
    profile: PowerProfile
    sampling: Sampling
    esn_uj: int
    counter: int
    n: int
    ece: bool
    payload: bytes


class Account(NamedTuple):
    """What an earlier run left of an epoch: the next page, energy banked, newest block signed."""

    page: int
    energy_uj: int
    top: int


NO_ACCOUNT: Final = Account(0, 0, -1)


class Terms(NamedTuple):
    """What the first block of an epoch settles for all of them."""

    profile: PowerProfile
    sampling: Sampling
    n: int

    def fit(self, block: Block) -> bool:
        """Say whether a signed block keeps to them. PTCP-12-07."""
        # PTCP-12-07
        return (
            block.n == self.n
            and block.counter % self.n == 0
            and block.sampling == self.sampling
            and block.profile == self.profile
        )


class Epoch:
    """The account of one epoch: what is signed, what is banked, the open page.

    terms: None before the first signed block. seen: indices of what was counted. promised:
    digests that are signed and whose blocks have not come. starts: first counters of signatures,
    newest_start: the highest; up to old_start none is taken any more.
    first_index, signed_top: of what signatures cover since the first block counted. first_esn_uj, end_uj:
    energy emitted before and after that, as the source says; heard_uj: what arrived of it.
    page, page_at, page_start_uj, samples, digest, resumed: the open page.
    """

    __slots__ = (
        "counted", "digest", "end_uj", "energy", "feed", "first_esn_uj", "first_index",
        "heard_uj", "key", "newest_start", "old_start", "page", "page_at", "page_start_uj",
        "promised", "protector", "resumed", "samples", "seen", "signed_top", "sim", "starts",
        "terms", "top_esn_uj",
    )  # fmt: skip

    energy: EnergyRegister
    protector: Protector

    def __init__(self, feed: Feed, key: bytes, account: Account, now: Instant) -> None:
        """Go on with `account`; terms, energy and protection come with the first block."""
        self.feed, self.key = feed, key
        self.terms: Terms | None = None
        self.seen = SeenBlocks(account.top)
        self.promised: dict[bytes, None] = {}
        self.starts: dict[int, None] = {}
        self.newest_start = self.old_start = -1
        self.first_index = self.signed_top = -1
        self.first_esn_uj = self.top_esn_uj = self.end_uj = 0
        self.counted = self.heard_uj = self.samples = 0
        self.page, self.page_start_uj = account.page, account.energy_uj
        self.page_at = now
        self.digest = bytes(32)
        self.resumed = account.page > 0
        self.sim = False

    def begin(self, block: Block) -> Terms:
        """Settle the terms by the first block that is signed."""
        self.terms = terms = Terms(block.profile, block.sampling, block.n)
        self.energy = EnergyRegister(block.sampling, self.page_start_uj)
        self.protector = Protector(block.profile, block.sampling)
        return terms

    def has(self, block: Block) -> bool:
        """Say whether this block was counted before, or is too old to tell."""
        return self.terms is not None and self.seen.has(block.counter // self.terms.n)

    def is_behind(self, first: int, count: int) -> bool:
        """Say whether a signature covers nothing that could be banked any more."""
        if first <= self.old_start or self.terms is None:
            return first <= self.old_start
        # PTCP-12-01
        return self.seen.top - (first // self.terms.n + count - 1) >= WINDOW_BLOCKS

    def note_start(self, first: int) -> bool:
        """Note a signature that holds; whether it is newer than every one before."""
        is_newest = first > self.newest_start
        if is_newest:
            self.newest_start = first
        self.starts[first] = None
        # PTCP-14-01
        if len(self.starts) > STARTS_MAX:
            self.old_start = min(self.starts)
            del self.starts[self.old_start]
        return is_newest

    def locate(self, block: Block, index: int, energy_uj: int) -> None:
        """Note where a block stands in what the source says it emitted."""
        self.heard_uj += energy_uj
        if not self.counted or index < self.first_index:
            self.first_index, self.first_esn_uj = index, block.esn_uj
        self.signed_top = max(self.signed_top, index)
        self.counted += 1
        if block.esn_uj >= self.top_esn_uj:
            self.top_esn_uj, self.end_uj = block.esn_uj, block.esn_uj + energy_uj
