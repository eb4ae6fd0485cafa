"""The harness of tools/bench: paired rounds, honest exits."""

import json
import sys
from collections.abc import Iterator

import pytest

from tools.bench import __main__ as command
from tools.bench.harness import (
    BENCHES,
    Bench,
    MissingError,
    Options,
    Pair,
    Sample,
    Side,
    WrongResultError,
    bench,
    loop,
)

FLOOR = 14
Rows = dict[str, Bench]
Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]


def _fixed(value: float) -> Side:
    return lambda seconds: Sample(value, {"wall": value * 2})


@pytest.fixture
def rows() -> Iterator[Rows]:
    command.load_areas()
    kept = dict(BENCHES)
    yield BENCHES
    BENCHES.clear()
    BENCHES.update(kept)


def _run(monkeypatch: Patch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    return command.main()


def _plant(
    name: str, ours: Side, peer: Side, must: float | None = None, *, lower: bool = False
) -> None:
    @bench(name, unit="things/CPU s", peer="a constant", must=must, seconds=0.01, lower=lower)
    def make(options: Options) -> Pair:
        return Pair(ours, peer)


def test_line_has_every_field_and_the_ratio(
    rows: Rows, monkeypatch: Patch, capsys: Capture
) -> None:
    _plant("planted", _fixed(30.0), _fixed(20.0), must=1.0)
    assert _run(monkeypatch, "planted", "--json", "--rounds", "5") == 0
    row = json.loads(capsys.readouterr().out)
    assert list(row) == [
        "name",
        "value",
        "unit",
        "peer",
        "peer_value",
        "ratio",
        "must",
        "stretch",
        "ok",
        "rounds",
        "spread",
        "extra",
        "machine",
    ]
    assert (row["ratio"], row["ok"], row["rounds"], row["spread"]) == (1.5, True, 5, 0.0)
    assert row["extra"] == {"wall_ratio": 1.5}


def test_smaller_is_better_turns_the_ratio_round(
    rows: Rows, monkeypatch: Patch, capsys: Capture
) -> None:
    _plant("planted", _fixed(30.0), _fixed(20.0), must=1.0, lower=True)
    assert _run(monkeypatch, "planted", "--json", "--rounds", "5") == 0, "missed, but no gate"
    row = json.loads(capsys.readouterr().out)
    assert (row["ratio"], row["ok"]) == (0.6667, False)


def test_missed_must_is_an_exit_with_gate(rows: Rows, monkeypatch: Patch, capsys: Capture) -> None:
    _plant("planted", _fixed(1.0), _fixed(2.0), must=1.0)
    assert _run(monkeypatch, "planted", "--gate", "--rounds", "5") == 1
    assert "MISSED" in capsys.readouterr().out


def test_planted_wrong_count_exits_70_without_a_ratio(
    rows: Rows, monkeypatch: Patch, capsys: Capture
) -> None:
    def wrong(seconds: float) -> Sample:
        raise WrongResultError("9 segments arrived of 10")

    _plant("planted", wrong, _fixed(1.0))
    assert _run(monkeypatch, "planted", "--smoke", "--json") == 70
    out, err = capsys.readouterr()
    assert out == ""
    assert "9 segments arrived of 10" in err


def test_missing_peer_exits_3_and_smoke_lists_it(
    rows: Rows, monkeypatch: Patch, capsys: Capture
) -> None:
    def missing(seconds: float) -> Sample:
        raise MissingError("avahi-browse")

    _plant("planted", _fixed(1.0), missing)
    assert _run(monkeypatch, "planted", "--json") == 3
    row = json.loads(capsys.readouterr().out)
    assert (row["ratio"], row["missing"]) == (None, "avahi-browse")
    assert _run(monkeypatch, "planted", "--smoke", "--json") == 0


def test_unknown_name_exits_2_and_names_the_nearest(
    rows: Rows, monkeypatch: Patch, capsys: Capture
) -> None:
    _plant("ticks-planted", _fixed(1.0), _fixed(1.0))
    with pytest.raises(SystemExit) as ended:
        _run(monkeypatch, "tick-planted")
    assert ended.value.code == 2
    assert "ticks-planted" in capsys.readouterr().err


def test_loop_counts_units_per_cpu_second(rows: Rows) -> None:
    def step() -> int:
        sum(range(1000))
        return 3

    sample = loop(step)(0.02)
    assert sample.value > 0
    assert sample.extra["wall"] > 0


def test_every_bench_registers_with_its_peer(rows: Rows) -> None:
    assert len(rows) >= FLOOR
    for row in rows.values():
        assert row.unit
        assert row.peer
        assert Options().rounds % 2 == 1
