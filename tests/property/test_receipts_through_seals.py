"""Sealed paths cut at any octet, also within handshakes and rekeys: receipts cover each joule once."""

import pytest

from powertcp.potcp.events import FlowCut, FlowResumed
from powertcp.vppn.noise import PatternId
from powertcp.vppn.record import Privacy
from powertcp.vppn.tunnel import TunnelBroken, TunnelOpened, TunnelRekeyed
from tests.conversation import SINK, SOURCE, START
from tests.full import size
from tests.metered import MeteredPair
from tests.property.test_receipts_over_cuts import Owners, cut_and_resume
from tests.sealed import ALL_PATTERNS, OFTEN, SealedPair, device_config, provider_config


class SealedMeteredPair(MeteredPair, SealedPair):
    """Two ends with meters, each in a tunnel."""


class SealedOwners(Owners):
    """Owners whose power is sealed; keys change each second.

    opened, rekeyed, stumbled: handshakes and rekeys that were done, and paths that were cut before.
    """

    def __init__(self, seed: int, pattern: PatternId, privacy: Privacy) -> None:
        super().__init__(seed)
        self.device = device_config(pattern, limits=OFTEN, privacy=privacy)
        self.provider = provider_config(limits=OFTEN, privacy=privacy)
        self.opened = self.rekeyed = self.stumbled = self.paths = 0

    def connect(self, before: MeteredPair | None = None) -> MeteredPair:
        self.paths += 1
        pair = SealedMeteredPair(
            books=self.books,
            device=self.device,
            provider=self.provider,
            # keys of its own
            seed=10_000 * self.paths,
            office=before.office if before else None,
            now=before.now + 1 if before else START,
        )
        pair.answers = pair.keeps = False
        return pair

    def heed(self, pair: MeteredPair, flow: int) -> None:
        super().heed(pair, flow)
        self.opened += len(pair.take(SINK, TunnelOpened))
        self.rekeyed += len(pair.take(SINK, TunnelRekeyed))
        assert not [*pair.take(SINK, TunnelBroken), *pair.take(SOURCE, TunnelBroken)]

    def resume(self, pair: MeteredPair, cut: FlowCut) -> tuple[MeteredPair, int]:
        """Resume on another path; some are lost before the ticket has arrived."""
        while self.random.random() < 0.4:
            pair = self.connect(pair)
            self.ask_again(pair, cut)
            for side, other in ((SINK, SOURCE), (SOURCE, SINK)):
                octets = pair.carriers[side].data_to_send()
                some = octets[: self.random.randrange(len(octets) + 1)]
                pair.carriers[other].receive_data(some, pair.now)
            pair.cut()
            assert not pair.take(SOURCE, FlowResumed)
            self.stumbled += 1
        return super().resume(pair, cut)


KINDS = [
    (number, pattern, privacy) for number, pattern in enumerate(ALL_PATTERNS) for privacy in Privacy
]


@pytest.mark.requirement("LEDG-6-01", "LEDG-6-12", "PTCP-10-03", "VPPN-2.3-07", "VPPN-3-08")
@pytest.mark.parametrize(
    ("seed", "pattern", "privacy"),
    KINDS,
    ids=[f"{pattern.word} {privacy}" for _, pattern, privacy in KINDS],
)
def test_both_ends_have_the_same_pages_however_often_a_sealed_path_is_cut(
    seed: int, pattern: PatternId, privacy: Privacy
) -> None:
    owners = SealedOwners(seed, pattern, privacy)
    cut_and_resume(owners)
    assert owners.opened > size(50, 900)
    assert owners.rekeyed > size(10, 200)
    assert owners.stumbled > size(10, 200)
