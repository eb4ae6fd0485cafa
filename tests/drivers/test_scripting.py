"""Scripts of the operator: what is no good is refused at load, what fails lets nothing pass."""

import json
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Final

import pytest
import trio

from powertcp.cli.main import main
from powertcp.drivers.deadline import DEADLINE
from powertcp.drivers.scripting import SCRIPT_MAX, SCRIPTS_MAX, Script, load_scripts
from powertcp.errors import ConfigError
from powertcp.reclaim import (
    Accept,
    Decision,
    Drop,
    Facts,
    Reclaim,
    Reject,
    State,
    Verdict,
)
from powertcp.reclaim.accounts import FlowAccount
from powertcp.reclaim.firewall import Firewall
from powertcp.reclaim.watch import Party
from powertcp.registry import Reason
from powertcp.units import NS_PER_MS, NS_PER_S
from tests.conversation import ask
from tests.policies import load
from tests.screens import ScreenedPair

ROOT: Final = Path(__file__).resolve().parent.parent.parent
# a script that is good answers in time, however busy this machine is
PATIENT: Final = NS_PER_S
HASTY: Final = 20 * NS_PER_MS
POLICY: Final = """\
reservoir main capacity 1kWh
policy drop
rule state unsolicited -> reclaim main
rule power > 500W      -> reject 204
rule state new         -> accept limit 100W
"""
NOTHING: Final = "def on_flow_judged(asked):\n    pass\n"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return what makes a script."""

    def write(text: str | bytes, name: str = "night.py") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
        path.chmod(0o644)
        return path

    return write


def firewall(scripts: tuple[Script, ...]) -> Firewall:
    return Firewall(load(POLICY), node="fw", now=0, layers=scripts)


def judge(wall: Firewall, power_mw: int = 50_000) -> Decision:
    flow = FlowAccount("192.0.2.1:4711/1", "192.0.2.1", 0)
    return wall.judge(flow, Facts(state=State.NEW, power_mw=power_mw), 0)


def refused(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_scripts([path])
    assert caught.value.file == str(path)
    return caught.value


# ---- good scripts -------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-09")
def test_a_script_is_asked_after_the_rules_and_named_for_what_it_says(write: Write) -> None:
    path = write("""\
        from powertcp.reclaim import FlowJudged, Reject, Verdict

        def on_flow_judged(asked: FlowJudged) -> Verdict | None:
            if asked.facts.power_mw > 40_000:
                return Reject(206)
    """)
    wall = firewall(load_scripts([path], PATIENT))
    decision = judge(wall)
    assert decision.verdict == Reject(Reason.POLICY)
    assert decision.place == f"{path}:3"
    assert judge(wall, 30_000).verdict == Accept(100_000, 200_000_000)
    assert wall.failures == 0


def test_scripts_are_asked_in_their_order(write: Write) -> None:
    first = write("""\
        from powertcp.reclaim import Accept
        def on_flow_judged(asked):
            return Accept(10_000)
    """, "first.py")  # fmt: skip
    second = write("""\
        from powertcp.reclaim import Drop
        def on_flow_judged(asked):
            return Drop() if asked.decision.verdict.limit_mw == 10_000 else None
    """, "second.py")  # fmt: skip
    assert judge(firewall(load_scripts([first, second], PATIENT))).verdict == Drop()
    assert judge(firewall(load_scripts([second, first], PATIENT))).verdict == Accept(
        10_000, 20_000_000
    )


def test_every_hook_reaches_its_script(write: Write) -> None:
    path = write("""\
        import dataclasses

        @dataclasses.dataclass
        class Seen:
            names: "list[str]"

        seen = Seen([])

        def _note(hook):
            seen.names.append(type(hook).__name__)

        on_connection_opened = _note
        on_flow_judged = on_flow_ended = lambda hook: _note(hook)

        def on_second_passed(hook, *rest):
            _note(hook)
    """)
    scripts = load_scripts([path], PATIENT)
    wall = firewall(scripts)
    wall.meet(Party("192.0.2.1:4711", None), None, 0)
    judge(wall)
    wall.flows.close(FlowAccount("192.0.2.1:4711/1", "192.0.2.1", 0))
    wall.tick(NS_PER_S)
    assert sys.modules["script_night"].seen.names == [
        "ConnectionOpened", "FlowJudged", "FlowEnded", "SecondPassed",
    ]  # fmt: skip
    assert (wall.failures, wall.condemned) == (0, set())


def test_print_is_a_line_of_the_log(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write("""\
        print("loaded")
        def on_flow_judged(asked):
            print("power\\n", asked.facts.power_mw, sep="=")
    """)
    with caplog.at_level(logging.INFO, "script"):
        assert judge(firewall(load_scripts([path], PATIENT))).verdict == Accept(
            100_000, 200_000_000
        )
    said = [record.getMessage() for record in caplog.records]
    assert said == ["night.py: loaded", "night.py: power\\x0a=50000"]


@pytest.mark.requirement("FWRL-3-09")
def test_the_example_closes_the_house_at_night() -> None:
    [night] = load_scripts([ROOT / "tools" / "firewall" / "night.py"], PATIENT)
    rules = load(
        "reservoir main capacity 1kWh\npolicy drop\n"
        "rule state unsolicited -> reclaim main\nrule sealed no -> accept limit 50W"
    )
    minute: list[int | None] = [12 * 60]
    wall = Firewall(rules, node="fw", now=0, layers=[night], clock=lambda: (minute[0], None))

    def said(**facts: object) -> Verdict:
        flow = FlowAccount("192.0.2.1:4711/1", "192.0.2.1", 0)
        return wall.judge(flow, Facts(is_sealed=False, **facts), 0).verdict  # type: ignore[arg-type]

    guard = bytes(range(32))
    assert said() == said(peer=guard) == Accept(50_000, 100_000_000)
    assert said(state=State.UNSOLICITED) == Reclaim("main")
    for at in (22 * 60, 5 * 60 + 59, None):
        minute[0] = at
        assert said() == said(peer=bytes(32)) == Reject(Reason.POLICY)
        assert said(peer=guard) == Accept(20_000, 40_000_000)
        assert said(state=State.UNSOLICITED) == Drop()
    assert wall.failures == 0


# ---- refused at load ----------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-09", "FWRL-1-01")
@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        (f"{NOTHING}def on_flow_juged(asked): pass", "line 3",
         'unknown hook "on_flow_juged", did you mean "on_flow_judged"?'),
        (f"{NOTHING}def on_x(asked): pass", "line 3", "known are on_connection_opened, on_flow_judged"),
        (f"{NOTHING}on_fire = 3", "line 3", 'unknown hook "on_fire"'),
        (f"{NOTHING}from os import path as on_path", "line 3", 'unknown hook "on_path"'),
        (f"{NOTHING}class on_call: pass", "line 3", 'unknown hook "on_call"'),
        (f"{NOTHING}if True:\n    def on_time(x): pass", "line 4", 'unknown hook "on_time"'),
        (f"{NOTHING}globals()['on_' + 'my_way'] = 1", "line 1", 'unknown hook "on_my_way"'),
        ("def flow_judged(asked): pass", "line 1", '"flow_judged" is no hook, did you mean'),
        ("def On_Flow_Judged(asked): pass", "line 1", 'did you mean "on_flow_judged"?'),
        ("def onFlowJudged(asked): pass", "line 1", 'did you mean "on_flow_judged"?'),
        ("on_flow_judged = 5", "line 1", '"on_flow_judged" is int, no function'),
        ("class on_flow_judged: pass", "line 1", "is type, no function"),
        ("on_flow_judged = len", "line 1", "is builtin_function_or_method, no function"),
        ("def on_flow_judged(): pass", "line 1", "it is called with one argument, FlowJudged"),
        ("def on_flow_judged(facts, decision): pass", "line 1", "missing a required argument"),
        ("def on_flow_judged(*, asked): pass", "line 1", "too many positional arguments"),
        ("async def on_flow_judged(asked): pass", "line 1", "must be a plain function"),
        ("def on_flow_judged(asked): yield", "line 1", "must be a plain function"),
        ("async def on_flow_judged(asked): yield", "line 1", "must be a plain function"),
        (f"{NOTHING}{NOTHING}", "line 3", 'a second "on_flow_judged"'),
        ("x = 1", "line 1", "it has no hook, known are"),
        ("", "line 1", "it has no hook"),
        ("def on_flow_judged(asked)\n    pass", "line 1, column 26", "expected ':'"),
        ("x = (", "line 1, column 5", "'(' was never closed"),
        ("return 5", "line 1", "'return' outside function"),
        (b"x = '\xff'", "line 1", "codec can't decode"),
        (b"x = 1\x00", "line 1", "null bytes"),
        ("# coding: nonsense\n", "line 1", "unknown encoding"),
        ("(" * 300 + ")" * 300, "line 1", "too many nested parentheses"),
        ("-" * 100_000 + "1", "line 1", None),
        ("import no_such_module_of_ours", "line 1", "ModuleNotFoundError: No module named"),
        ("from powertcp.reclaim import Acept", "line 1", "ImportError: cannot import name 'Acept'"),
        ("\nx = 1 / 0", "line 2", "ZeroDivisionError: division by zero"),
        ("def f():\n    raise OSError('x')\n\nf()", "line 2", "OSError: x"),
        ("import sys\nsys.exit(0)", "line 2", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "line 1", "KeyboardInterrupt"),
        ("def f(): f()\nf()", "line 1", "RecursionError: maximum recursion depth exceeded"),
        ("x = [0] * 10**15", "line 1", "MemoryError"),
    ],
)  # fmt: skip
def test_a_script_that_is_no_good_is_refused_with_its_place(
    write: Write, text: str | bytes, place: str, said: str | None
) -> None:
    error = refused(write(text))
    assert error.path.startswith(place)
    assert said is None or said in error.text
    assert "\n" not in str(error)


def test_a_script_that_does_not_come_to_an_end_is_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("powertcp.drivers.scripting.LOAD_LIMIT_S", 0.02)
    assert refused(write("while True: pass")).text == "it took more than 0.02 s to load"


def test_a_file_that_is_no_script_is_refused(write: Write, tmp_path: Path) -> None:
    assert refused(tmp_path / "none.py").text == "No such file or directory"
    assert refused(tmp_path).text == "it is no file"
    assert refused(Path("/dev/zero")).text == "it is no file"
    path = write(b"#" * (SCRIPT_MAX + 1))
    assert refused(path).text == "1,048,577 octets, at most 1,048,576 are read"
    path = write(NOTHING.encode() + b"#" * (SCRIPT_MAX - len(NOTHING)))
    load_scripts([path])
    path.chmod(0o646)
    assert refused(path).text == "everybody may write it: chmod o-w"


@pytest.mark.parametrize("limit", [0, NS_PER_MS - 1, NS_PER_S + 1, -NS_PER_S])
def test_a_limit_that_no_hook_could_keep_is_refused(write: Write, limit: int) -> None:
    with pytest.raises(ConfigError, match=r"script_limit: .* ms, from 1 ms to 1000 ms"):
        load_scripts([write(NOTHING)], limit)


def test_there_are_at_most_so_many_scripts(write: Write) -> None:
    path = write(NOTHING)
    assert len(load_scripts([path] * SCRIPTS_MAX)) == SCRIPTS_MAX
    with pytest.raises(ConfigError, match="17 scripts, at most 16"):
        load_scripts([path] * (SCRIPTS_MAX + 1))


@pytest.mark.requirement("FWRL-3-02", "FWRL-1-01")
def test_a_reload_takes_all_scripts_or_none(write: Write) -> None:
    good, other = write(NOTHING), write(NOTHING, "other.py")
    wall = firewall(load_scripts([good, other], PATIENT))
    write("def on_flow_judged(asked):\n    return 1 / 0\n")
    write("def on_flow_judge(asked): pass", "other.py")
    with pytest.raises(ConfigError, match=r"other\.py"):
        load_scripts([good, other], PATIENT)
    assert judge(wall).verdict == Accept(100_000, 200_000_000)
    write(NOTHING, "other.py")
    wall.take(load(POLICY), 0, load_scripts([good, other], PATIENT))
    assert judge(wall).verdict == Drop()


# ---- what fails when it is asked ----------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-09", "FWRL-1-01")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise KeyError", "KeyError"),
        ("raise ValueError('a\\nb')", "ValueError: a\\x0ab"),
        ("import sys; sys.exit()", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("import no_such_module_of_ours", "ModuleNotFoundError: No module named"),
        ("on_flow_judged(asked)", "RecursionError: maximum recursion depth exceeded"),
        ("x = [0] * 10**15", "MemoryError"),
        ("assert False, 'never'", "AssertionError: never"),
        ("asked.facts = None", "FrozenInstanceError: cannot assign to field 'facts'"),
        ("asked.decision.verdict = None", "AttributeError: can't set attribute"),
        ("asked.decision.verdict.limit_mw = None", "FrozenInstanceError"),
        ("import trio; trio.lowlevel.current_task().nothing", None),
        ("return True", "on_flow_judged answered bool, which is no verdict"),
        ("return 'accept'", "answered str, which is no verdict"),
        ("return p.Accept", "answered type, which is no verdict"),
        ("return asked.decision", "answered Decision, which is no verdict"),
        ("return p.Accept()", "answered accept, which is milder than accept limit 100W"),
        ("return p.Accept(200_000)", "which is milder than"),
        ("return p.Accept(-1)", "a limit_mw that is no whole number"),
        ("return p.Accept(1.5)", "a limit_mw that is no whole number"),
        ("return p.Accept('1W')", "a limit_mw that is no whole number"),
        ("return p.Reclaim('attic')", "no reservoir of the policy, there is: main"),
        ("return p.Reclaim(None)", "no reservoir of the policy"),
        ("return p.Reject(7)", "a reject with no code"),
        ("return p.Reject(None)", "a reject with no code"),
        ("return (x for x in [p.Accept()])", "answered generator, which is no verdict"),
        ("return object.__new__(p.Accept)", "answered 'Accept' object has no attribute"),
        ("return p.Reclaim(type('S', (str,), {'__eq__': lambda *_: True})('x'))", "no reservoir"),
        ("return p.Reject(type('I', (int,), {'__hash__': lambda _: 1 // 0})(7))", "with no code"),
        ("raise type('E', (Exception,), {'__str__': lambda _: exit()})", "E"),
        ("raise type('E', (BaseException,), {})", "E"),
        ("raise ValueError('\\ud800')", "ValueError: \\ud800"),
        ("print('a', sep=5)", "AttributeError: 'int' object has no attribute 'join'"),
        ("import os; os.read(-1, 1)", "OSError: [Errno 9] Bad file descriptor"),
    ],
)
def test_a_hook_that_fails_drops_the_flow_it_was_asked_about(
    write: Write, body: str, said: str | None
) -> None:
    path = write(f"import powertcp.reclaim as p\ndef on_flow_judged(asked):\n    {body}\n")
    wall = firewall(load_scripts([path], PATIENT))
    decision = judge(wall)
    assert decision.verdict == Drop()
    assert said is None or said in decision.text
    assert decision.place in (f"{path}:2", f"{path}:3")
    assert "\n" not in decision.text
    assert (wall.failures, wall.events.pop().what) == (1, "failed")


def test_a_script_that_spoils_what_it_is_shown_changes_nothing(write: Write) -> None:
    path = write("""\
        def on_flow_judged(asked):
            asked.facts.power_mw = 0
            asked.facts.state = None
    """)
    wall = firewall(load_scripts([path, path], PATIENT))
    flow, facts = FlowAccount("a:1/1", "a", 0), Facts(state=State.NEW, power_mw=600_000)
    assert wall.judge(flow, facts, 0).verdict == Reject(Reason.WATT_LIMIT)
    assert (facts.power_mw, flow.facts) == (600_000, facts)


@pytest.mark.requirement("FWRL-3-09")
@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "import time; time.sleep(3600)",
        "import threading; threading.Lock().acquire() and threading.Event().wait()",
        "for _ in iter(int, 1): str(asked)",
        "sum(iter(int, 1), start=0) if [0 for _ in iter(int, 1)] else 0",
        "while True: print('again')",
        "return next(x for x in iter(int, 1) if x)",
        "import re; re.match('(a+)+$', 'a' * 22 + 'b')",
        "7 ** 10**6",
        "import signal; signal.signal(signal.SIGALRM, signal.SIG_IGN); [0 for _ in range(4 * 10**6)]",
        "import signal; signal.setitimer(signal.ITIMER_REAL, 0); [0 for _ in range(4 * 10**6)]",
        "\n    class E(Exception):\n        def __str__(self):\n            while True: pass\n    raise E",
    ],
)
def test_a_hook_that_takes_too_long_drops_the_flow(write: Write, body: str) -> None:
    path = write(f"def on_flow_judged(asked):\n    {body}\n")
    wall = firewall(load_scripts([path], HASTY))
    decision = judge(wall)
    assert decision.verdict == Drop()
    assert decision.text == "on_flow_judged took more than 20 ms"
    assert decision.place == f"{path}:1"


@pytest.mark.requirement("FWRL-3-09")
@pytest.mark.parametrize("error", ["", " Exception", " BaseException"])
def test_a_hook_that_goes_on_after_its_time_has_lost(write: Write, error: str) -> None:
    path = write(f"""\
        from powertcp.reclaim import Accept
        def on_flow_judged(asked):
            for _ in range(3):
                try:
                    while True: pass
                except{error}: pass
            return Accept(1)
    """)
    decision = judge(firewall(load_scripts([path], HASTY)))
    assert decision.verdict == Drop()
    assert decision.text == "on_flow_judged took more than 20 ms"


def test_after_a_hook_that_failed_the_next_is_asked_in_earnest(write: Write) -> None:
    path = write("""\
        times = [0]
        def on_flow_judged(asked):
            times.append(0)
            while len(times) == 2: pass
    """)
    wall = firewall(load_scripts([path], HASTY))
    assert judge(wall).verdict == Drop()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    wall.take(load(POLICY), 0, load_scripts([write(NOTHING)], PATIENT))
    assert judge(wall).verdict == Accept(100_000, 200_000_000)


# ---- in the daemon's loop, and on a connection --------------------------------------------------


def busy() -> None:
    sum(range(10_000))


async def test_scripts_are_asked_within_trio_and_leave_it_whole(write: Write) -> None:
    loops = write("def on_flow_judged(asked):\n    while True: pass\n")
    good = write(NOTHING, "good.py")
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        wall = firewall(load_scripts([loops], HASTY))
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(trio.to_thread.run_sync, busy)
                assert judge(wall).verdict == Drop()
                await trio.lowlevel.checkpoint()
        signal.raise_signal(signal.SIGHUP)
        assert await anext(signals) == signal.SIGHUP
        wall.take(load(POLICY), 0, load_scripts([good], PATIENT))
        assert judge(wall).verdict == Accept(100_000, 200_000_000)
    DEADLINE.restore()
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


async def test_a_script_is_not_asked_in_another_thread(write: Write) -> None:
    wall = firewall(load_scripts([write(NOTHING)], PATIENT))
    decision = await trio.to_thread.run_sync(judge, wall)
    assert decision.verdict == Drop()
    assert "main thread" in decision.text


@pytest.mark.requirement("FWRL-1-01", "FWRL-3-09")
def test_no_octet_passes_a_script_that_fails(write: Write) -> None:
    path = write("def on_flow_judged(asked):\n    return asked.nothing\n")
    pair = ScreenedPair("policy accept", rules={"layers": load_scripts([path], PATIENT)})
    pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    pair.exchange()
    assert pair.screen.is_over
    assert pair.passed == [[], []]
    assert pair.firewall.failures == 1


def test_what_scripts_let_be_passes_as_it_came(write: Write) -> None:
    path = write(NOTHING)
    pair = ScreenedPair("policy accept", rules={"layers": load_scripts([path], PATIENT)})
    pair.energise("12V/1A")
    heard, passed = pair.octets(0)
    assert heard == passed != b""
    assert not pair.screen.is_over


# ---- the commands -------------------------------------------------------------------------------


def check(*words: object) -> int:
    return main(["firewall", "check", *map(str, words)])


def test_check_looks_at_scripts_too(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    policy, good = write(POLICY, "attic.policy"), write(NOTHING)
    bad = write("def on_flow_judge(asked): pass", "bad.py")
    assert check(policy, "--script", good) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"VALID  {good}: on_flow_judged in line 1"
    assert check(policy, "--script", good, "--script", bad) == 2
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("VALID")
    assert (
        said[2]
        == f'INVALID  {bad}: line 1: unknown hook "on_flow_judge", did you mean "on_flow_judged"?'
    )
    assert check("--json", policy, "--script", bad, "--script", good) == 2
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[1]["faults"][0]["place"] == "line 1"
    assert rows[2] == {
        "file": str(good),
        "valid": True,
        "faults": [],
        "hooks": {"on_flow_judged": 1},
    }


def test_a_script_belongs_to_check_and_run(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["firewall", "test", str(write(POLICY, "a.policy")), "--script", "x.py"]) == 2
    assert "--script is for check, not for test" in capsys.readouterr().err


@pytest.mark.requirement("FWRL-3-09", "FWRL-1-01")
@pytest.mark.parametrize(
    ("script", "limit", "said"),
    [
        ("def on_flow_judge(asked): pass", "50ms", 'unknown hook "on_flow_judge"'),
        (NOTHING, "2s", "2000 ms, from 1 ms to 1000 ms are possible"),
        (NOTHING, "1s", None),
    ],
)
def test_a_daemon_does_not_start_with_a_script_that_is_no_good(
    write: Write, capfd: pytest.CaptureFixture[str], script: str, limit: str, said: str | None
) -> None:
    policy, path = write(POLICY, "a.policy"), write(script)
    words = ["--script", str(path), "--script-limit", limit, "--check"]
    status = main(["firewall", "run", str(policy), *words])
    assert status == (0 if said is None else 2)
    assert (said or "") in capfd.readouterr().err
