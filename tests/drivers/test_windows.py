"""What is remembered of quotas, and for how long."""

import os
from pathlib import Path

import pytest

from powertcp.drivers import windows as module
from powertcp.drivers.ledger import open_ledger
from powertcp.drivers.windows import SETTLED_S, Windows
from powertcp.ledger import Code, Transfer
from powertcp.units import NS_PER_S
from powertcp.vppn.access import Rights
from powertcp.vppn.limits import Limits, Period

NOON_S = 1_795_262_400  # 2026-11-21T12:00:00Z


def rights(*quotas: tuple[Period, int]) -> Rights:
    return Rights("guest", "file:1 guest", Limits(quotas=quotas), ())


class Wall:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.s = NOON_S

    def __call__(self) -> int:
        return self.s * NS_PER_S


async def test_only_who_has_a_quota_is_remembered_until_its_window_is_over(
    tmp_path: Path,
) -> None:
    wall, limited = Wall(), rights((Period.HOUR, 10))
    async with open_ledger(tmp_path, os.urandom, unix_ns=wall) as ledger:
        windows = Windows(ledger, wall)
        for number in range(100):
            windows.note(f"guest:{number}", rights(), number)
        assert len(windows) == 0
        for number in range(100):
            windows.note(f"guest:{number}", limited, number)
        windows.note("guest:7", limited, "another flow")
        assert len(windows) == 100
        await ledger.post(
            Transfer(
                key=bytes(16), debit="sink:guest:9", credit="source:12V", unit="uJ", amount=10,
                code=Code.UNSIGNED,
            )
        )  # fmt: skip
        for number in range(100):
            windows.drop(f"guest:{number}", number)
        wall.s += SETTLED_S
        # one that still draws, and one that has had all it may have this hour
        assert windows.has_room("guest:0", limited)
        assert len(windows) == 2
        refusal = windows.refusal("sink:guest:9", limited)
        assert refusal is not None
        assert (refusal.value, refusal.limit) == (10, 10)
        wall.s += 3600
        windows.note("guest:7", limited, "another flow")
        assert len(windows) == 1
        assert windows.refusal("sink:guest:9", limited) is None


async def test_there_is_a_bound_and_who_had_energy_is_not_forgotten_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_COUNTED", 4)
    wall, limited = Wall(), rights((Period.HOUR, 10), (Period.DAY, 20))
    async with open_ledger(tmp_path, os.urandom, unix_ns=wall) as ledger:
        windows = Windows(ledger, wall)
        for party in "ab":
            assert windows.has_room(party, limited)
            windows.note(party, limited, party)
        assert not windows.has_room("c", limited)
        assert windows.has_room("c", rights())
        assert windows.has_room("a", limited)
        windows.drop("a", "a")
        wall.s += SETTLED_S
        assert windows.has_room("c", limited)


async def test_each_flow_has_the_quota_of_its_own_rights(tmp_path: Path) -> None:
    wall = Wall()
    async with open_ledger(tmp_path, os.urandom, unix_ns=wall) as ledger:
        windows, narrow, wide = (
            Windows(ledger, wall), rights((Period.DAY, 10)), rights((Period.DAY, 30)),
        )  # fmt: skip
        windows.note("a", narrow, 1)
        assert not windows.is_mixed("sink:a")
        windows.note("a", wide, 2)
        assert windows.is_mixed("sink:a")
        assert (windows.most_uj("sink:a", narrow), windows.most_uj("sink:a", wide)) == (10, 30)
        assert windows.most_uj("sink:a", rights()) is None
        assert windows.account_most_uj("sink:a") == 30
        windows.drop("a", 2)
        assert windows.account_most_uj("sink:a") == 10


async def test_who_may_have_energy_open_is_counted_in_every_window_and_then_forgotten(
    tmp_path: Path,
) -> None:
    wall, opened = Wall(), {"b"}
    async with open_ledger(tmp_path, os.urandom, unix_ns=wall) as ledger:
        windows = Windows(ledger, wall, "employee", is_open=opened.__contains__)
        for name in "abc":
            windows.note(name, rights(), name)
            windows.drop(name, name)
        await ledger.post(
            Transfer(
                key=bytes(16), debit="employee:c", credit="source:x", unit="uJ", amount=10,
                code=Code.UNSIGNED,
            )
        )  # fmt: skip
        assert len(windows) == 3 * len(Period)
        wall.s += SETTLED_S
        assert windows.has_room("d", rights())
        # who had nothing is forgotten, unless it may still come; who had some has had it
        assert len(windows) == 2 * len(Period)
        assert windows.used_uj("c")[Period.DAY] == 10
        opened.clear()
        wall.s += 32 * 86_400
        assert windows.has_room("d", rights())
        assert len(windows) == 0
        # who is asked for and draws nothing
        assert windows.used_uj("e")[Period.DAY] == 0
        assert len(windows) == len(Period)
        wall.s += SETTLED_S
        assert windows.has_room("d", rights())
        assert len(windows) == 0


async def test_at_the_bound_who_has_no_quota_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_COUNTED", len(Period))
    wall, limited = Wall(), rights((Period.HOUR, 10))
    async with open_ledger(tmp_path, os.urandom, unix_ns=wall) as ledger:
        windows = Windows(ledger, wall, "employee", is_open=lambda name: False)
        windows.note("a", rights(), "a")
        windows.note("b", rights(), "b")
        assert windows.used_uj("b") == dict.fromkeys(Period, 0)
        assert len(windows) == len(Period)
        assert windows.has_room("a", limited)
        assert not windows.has_room("b", limited)
