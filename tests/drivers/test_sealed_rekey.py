"""Rekeys between real daemons: power goes on, and a path cut at any octet of them heals."""

import os
import random
from pathlib import Path

import pytest

from powertcp.registry import Flag, SegmentType
from powertcp.wire.frames import Splitter
from tests.drivers.processes import asked, running
from tests.drivers.test_sealed_processes import device, site

IS_LONG = "POWERTCP_LONG" in os.environ
CUTS = 200 if IS_LONG else 6
SYN = int(Flag.SYN)


class Cutter:
    """Cuts the path at a random octet from the beginning of a rekey on, so many times.

    Watches the outer headers: a SEALED SYN of an epoch above 0 begins a rekey.
    """

    def __init__(self, cuts: int, seed: int) -> None:
        self.left = cuts
        self.done = 0
        self._chance = random.Random(seed)
        self._until = -1
        self._passed = 0
        self._splitters = [Splitter(65535), Splitter(65535)]

    def alter(self, direction: int, at: int, octets: bytes) -> bytes | None:
        if not at:
            self._splitters[direction] = Splitter(65535)
            self._until = -1 if not direction else self._until
        for raw in self._splitters[direction].receive(octets):
            is_rekey = raw[0] == SegmentType.SEALED and raw[1] & SYN and raw[4][2:6] != bytes(4)
            if is_rekey and self._until < 0 and self.left:
                # message 1 of 1,4 kB, message 2 of 1,2 kB, what confirms, and data between
                self._until, self._passed = self._chance.randrange(4_000), 0
        if self._until < 0:
            return octets
        self._passed += len(octets)
        if self._passed < self._until:
            return octets
        self._until = -1
        self.left -= 1
        self.done += 1
        return None


@pytest.mark.requirement("VPPN-4-05", "VPPN-4-01")
@pytest.mark.parametrize("pattern", ["ik", "xk"])
async def test_a_path_that_is_cut_within_a_rekey_heals(tmp_path: Path, pattern: str) -> None:
    async with site(tmp_path) as where:
        cutter = Cutter(CUTS, seed=len(pattern))
        where.relay.alter = cutter.alter
        words = device(where, "--pattern", pattern, "--rekey", "1s", time=f"{CUTS * 3}s")
        async with running(tmp_path, *words) as sink:
            with_patience = 60 + 8 * CUTS
            await sink.until("done", within_s=with_patience)
            assert await sink.end() == 0
        (done,) = sink.all("done")
        status = await asked(tmp_path, f"provider-{where.provider.pid}.sock", op="status")
    assert cutter.done >= min(CUTS, 3)
    assert where.relay.connections == cutter.done + 1
    assert done["energy_uj"] == status["energy_uj"] == 24_000_000 * CUTS * 3
    # each new path carries the flow on by its ticket
    assert len(sink.all("granted")) + len(sink.all("resumed")) >= 1
