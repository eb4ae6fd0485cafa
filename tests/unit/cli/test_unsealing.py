"""Sealed segments as `powertcp decode` shows them: with the right keys, with others, with none."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from powertcp.cli.decode import main
from powertcp.registry import Flag
from powertcp.vppn.message import MESSAGE_1, MESSAGE_2, MESSAGE_3, encode_message
from powertcp.vppn.record import PRIVATE_ESN, Sealer
from powertcp.wire.frames import pack_segment

RFC = Path(__file__).resolve().parents[3] / "rfc"
VECTOR: dict[str, Any] = json.loads((RFC / "vectors/vppn/sealed-exchange.json").read_text())
SENDERS = [one["from"] for one in VECTOR["segments"]]
PLAIN = [one["plain"] for one in VECTOR["segments"]]
SEGMENTS = ["".join(one["octets"]) for one in VECTOR["segments"]]
ALL = "".join(SEGMENTS)
KEYS = {who: "".join(key) for who, key in VECTOR["keys"].items()}
FIRST = bytes.fromhex(SEGMENTS[0])
EPHEMERAL = FIRST[38:70].hex()
LOG = "".join(f"VPPN_KEY {EPHEMERAL} 00000000 {who} {key}\n" for who, key in KEYS.items())
Run = Callable[..., tuple[int, list[str]]]


def octets_of(name: str) -> bytes:
    lines = (RFC / "vectors" / "protocol" / f"{name}.hex").read_text().splitlines()
    return bytes.fromhex("".join(line.partition(";")[0] for line in lines))


def values_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RFC / "vectors/protocol" / f"{name}.json").read_text())
    return dict(found["decoded"])


NAMES = [name for row in PLAIN[2:] for name in row]
CLEAR = {name: octets_of(name) for name in NAMES}
VALUES = {name: values_of(name) for name in NAMES}
READY, CREDIT = CLEAR["ready"], CLEAR["credit"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run decode on octets; log: text of a key log, None for none."""

    def running(octets: str | bytes, *words: str, log: str | None = LOG) -> tuple[int, list[str]]:
        path = tmp_path / "keys.log"
        path.write_text(log or "")
        given = () if log is None else ("--keys", str(path))
        status = main([*given, *words, octets if isinstance(octets, str) else octets.hex()])
        return status, capsys.readouterr().out.splitlines()

    return running


def sealed(plain: bytes, flow: int = 1, esn: int = 0, sender: str = "R", counter: int = 0) -> bytes:
    """Return a segment sealed with a key of the exchange."""
    sealer = Sealer(0, bytes.fromhex(KEYS[sender]))
    for _ in range(counter):
        sealer.seal(b"", 0, 0)
    return sealer.seal(plain, flow, esn)


# ---- with the right keys ------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-3-01", "VPPN-3-02", "VPPN-3-03")
def test_the_exchange_of_the_draft_is_opened(run: Run) -> None:
    status, lines = run(ALL)
    assert status == 0
    assert [line[:14] for line in lines] == [
        "0000  SEALED|S", "0594  SEALED|S", "0aca  SEALED f", "0aee    ACK fl", "0b1a    CREDIT",
        "0b4e  SEALED f", "0b82    READY ", "0bc2    DATA f", "0c3e  SEALED f", "0c62    MAINTA",
    ]  # fmt: skip
    assert lines[0].endswith("message 1 of ik, epoch 0, 1,392 octets, handshake 197fc2c567dc")
    assert lines[1].endswith("message 2 of ik, epoch 0, 1,298 octets")
    opened = "opened with the key of the {}, handshake 197fc2c567dc"
    assert lines[2].endswith("96 octets, " + opened.format("initiator"))
    assert lines[5].endswith("188 octets, " + opened.format("responder"))
    assert lines[3].endswith(
        "GRANT 12V/1A priority=2 energy_j=3600 lease_s=60 tag=0x1000  CONTRACT contract=1"
    )


@pytest.mark.requirement("VPPN-3-01")
def test_each_segment_inside_is_one_object_with_the_values_of_its_vector(run: Run) -> None:
    status, lines = run(ALL, "--json")
    rows = [json.loads(line) for line in lines]
    assert status == 0
    handshakes = [row.pop("handshake") for row in rows[:2]]
    assert handshakes[0] == {"message": 1, "epoch": 0, "pattern": "ik", "ephemeral": EPHEMERAL}
    assert (handshakes[1]["message"], handshakes[1]["pattern"]) == (2, "ik")
    opened = [row["opened"] for row in rows if "opened" in row]
    assert [one["sender"] for one in opened] == SENDERS[2:]
    assert [one["counter"] for one in opened] == [0, 0, 1]
    assert all(one["handshake"] == EPHEMERAL and one["epoch"] == 0 for one in opened)
    assert not any(key in line for key in KEYS.values() for line in lines)
    inside = [row for row in rows if "sealed_in" in row]
    assert [row.pop("sealed_in") for row in inside] == [0xACA, 0xACA, 0xB4E, 0xB4E, 0xC3E]
    assert [row.pop("offset") for row in inside] == [0xAEE, 0xB1A, 0xB82, 0xBC2, 0xC62]
    assert inside == [{"layout": "segment", **VALUES[name]} for name in NAMES]


@pytest.mark.requirement("VPPN-3-01")
def test_fields_inside_are_those_in_clear_at_the_places_of_the_sealed_ones(run: Run) -> None:
    status, lines = run(ALL, "-v")
    assert status == 0
    tables = "\n".join(lines).split("\n\n")
    assert len(tables) == 10
    at = {"ack-grant": 3, "credit": 4, "ready": 6, "data-10-samples": 7, "maintain-probe": 9}
    for name, number in at.items():
        shown, clear = tables[number].splitlines(), run(CLEAR[name], "-v")[1]
        start = int(shown[0][:4], 16)
        assert [int(line[:4], 16) - start for line in shown] == [
            int(line[:4], 16) for line in clear
        ]
        assert [line[4:] for line in shown] == [f"{it[4:33]}  {it[33:]}" for it in clear]
    first = tables[0].splitlines()
    assert [line[:4] for line in first[-4:]] == ["0024", "0025", "0026", "0046"]
    assert [line.split()[-1] for line in first[-4:-2]] == ["ik", "0"]
    assert "197fc2c567dc   X25519 key of the initiator" in first[-2]
    assert "1,358 octets   under keys of the handshake: in no log" in first[-1]
    assert "ciphertext   80 octets      opened with the key of the initiator" in tables[2]
    assert tables[2].splitlines()[-1].startswith("0b3e  02 7c c3 f7 73 94 d5 48 ..   tag")


@pytest.mark.parametrize("sender", ["initiator", "responder"])
def test_one_direction_alone_is_enough(run: Run, sender: str) -> None:
    heard = [octets for who, octets in zip(SENDERS, SEGMENTS, strict=True) if who == sender]
    _, whole = run(ALL, "--json")
    status, lines = run("".join(heard), "--json")
    assert status == 0
    found = [json.loads(line).get("payload") for line in lines if "sealed_in" in line]
    assert found
    assert all(json.dumps(one) in "".join(whole) for one in found)
    if sender == "responder":
        text = run("".join(heard))[1][0]
        assert text.endswith("message 2, epoch 0, 1,298 octets")


def test_the_order_of_captured_segments_is_free(run: Run) -> None:
    status, lines = run("".join(SEGMENTS[::-1]))
    assert status == 0
    assert sum("opened with the key" in line for line in lines) == 3


@pytest.mark.requirement("VPPN-3-05")
def test_padding_of_private_power_is_told(run: Run) -> None:
    plain = READY + CREDIT
    octets = sealed(plain.ljust(1024, b"\0"), 0, PRIVATE_ESN)
    status, lines = run(octets)
    assert status == 0
    assert [line.split()[1] for line in lines] == ["SEALED", "READY", "CREDIT", "padding"]
    assert lines[-1] == f"{36 + len(plain):04x}    padding {1024 - len(plain)} octets"
    assert run(octets, "-v")[1][-1] == lines[-1]
    assert len(run(octets, "--json")[1]) == 3


@pytest.mark.requirement("VPPN-3-02")
def test_a_mark_of_congestion_opens(run: Run) -> None:
    octets = bytearray.fromhex(SEGMENTS[2])
    octets[5] |= Flag.ECE
    status, lines = run(bytes(octets))
    assert status == 0
    assert lines[0].split()[1] == "SEALED|ECE"
    assert len(lines) == 3


# ---- without ------------------------------------------------------------------------------------


def test_without_a_log_handshakes_are_named_and_power_stays_closed(run: Run) -> None:
    status, lines = run(ALL, log=None)
    assert status == 0
    assert len(lines) == 5
    assert lines[0].endswith("message 1 of ik, epoch 0, 1,392 octets, handshake 197fc2c567dc")
    assert lines[2].endswith("SEAL epoch=0,counter=0  96 octets")
    shown = run(SEGMENTS[2], "-v", log=None)[1]
    assert "ciphertext   80 octets      closed" in shown[-2]


def test_a_log_of_others_opens_nothing_and_says_so_of_each(run: Run) -> None:
    others = LOG.replace(KEYS["I"], KEYS["I"][::-1]).replace(KEYS["R"], "5a" * 32)
    for words in ((), ("-v",), ("--json",)):
        status, lines = run(ALL, *words, log=others)
        assert status == 1
        text = "\n".join(lines)
        for secret in (
            "READY",
            "DATA ",
            "  ACK flow",
            "limit_uj",
            "samples",
            *KEYS.values(),
            "5a5a",
        ):
            assert secret not in text
        assert text.count("the tag is wrong under each") == 3
    assert run(ALL, log=others)[1][3] == (
        "0b3e    error 509 DECRYPT: epoch 0, counter 0: 2 keys tried, the tag is wrong under each"
        " [VPPN-3-02]"
    )
    last = json.loads(run(ALL, "--json", log=others)[1][-1])
    assert last["sentence"] == "epoch 0, counter 1: 2 keys tried, the tag is wrong under each"
    assert (last["error"], last["value"], last["requirement"]) == (509, 2, "VPPN-3-02")


def test_an_epoch_that_the_log_has_not_is_named(run: Run) -> None:
    later = LOG.replace(" 00000000 ", " 0000002a ")
    status, lines = run(ALL, log=later)
    assert status == 1
    assert lines[3] == (
        "0aee    error 509 DECRYPT: epoch 0, counter 0: no key of this epoch among 2 of the log"
    )
    half = LOG.splitlines()[0]
    status, lines = run(ALL, log=half)
    assert status == 1
    assert sum("opened with the key of the initiator" in line for line in lines) == 2
    assert "1 key tried, the tag is wrong" in "".join(lines)
    assert "among 0 of the log" in run(ALL, log="")[1][3]


@pytest.mark.requirement("VPPN-3-02")
def test_an_altered_segment_stays_closed_and_the_next_ones_open(run: Run) -> None:
    bent = bytearray.fromhex(ALL)
    bent[0xB90] ^= 1
    status, lines = run(bytes(bent))
    assert status == 1
    assert [line.split()[1] for line in lines[-3:]] == ["error", "SEALED", "MAINTAIN"]
    assert lines[-3].startswith("0c2e    error 509 DECRYPT: epoch 0, counter 0: 2 keys tried")
    assert not any("READY" in line for line in lines)


# ---- what an end would refuse -------------------------------------------------------------------


@pytest.mark.requirement("VPPN-3-01", "VPPN-3-04", "VPPN-3-05")
@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (
            sealed(READY, flow=2),
            "0024    error 509 DECRYPT: field flow identifier, value 1 [VPPN-3-04]",
        ),
        (
            sealed(READY, esn=9),
            "0024    error 509 DECRYPT: field flow identifier, value 1 [VPPN-3-04]",
        ),
        (
            sealed(sealed(READY), flow=1),
            "0024    error 509 DECRYPT: field type, value 16 [VPPN-3-01]",
        ),
        (sealed(bytes(40)), "0024    error 509 DECRYPT: field plain, value 40 [VPPN-3-01]"),
        (sealed(b""), "0024    error 509 DECRYPT: field plain, value 0 [VPPN-3-01]"),
        (sealed(READY[:30]), "0038    error 502 BAD_LENGTH: field segment, value 30 [PTCP-2.2-02]"),
        (
            sealed(READY + b"\0\1"),
            "0064    error 502 BAD_LENGTH: field header, value 2 [PTCP-2.2-02]",
        ),
        (
            sealed(READY + b"G" * 40),
            "0064    error 500 BAD_MAGIC: field magic, value 18247 [PTCP-2.1-03]",
        ),
    ],
)
def test_what_is_inside_and_must_not_be_is_an_error(run: Run, octets: bytes, said: str) -> None:
    status, lines = run(octets)
    assert (status, lines[-1]) == (1, said)
    assert sum(" error " in line for line in lines) == 1
    assert run(octets, "-v")[0] == run(octets, "--json")[0] == 1


def bent_handshake(flags: int, octets: bytes, flow: int = 0, epoch: int = 0) -> bytes:
    whole = encode_message(flags, epoch, octets)
    return whole[:8] + flow.to_bytes(4, "big") + whole[12:]


@pytest.mark.requirement("VPPN-2.2-05", "VPPN-2.1-01")
@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (bent_handshake(MESSAGE_1, b"\x4d\0" + bytes(96)), "field pattern, value 77 [VPPN-2.1-01]"),
        (bent_handshake(MESSAGE_1, b""), "field pattern, value 0 [VPPN-2.1-01]"),
        (bent_handshake(MESSAGE_1, b"\1\1" + bytes(96)), "field pattern, value 1 [VPPN-2.1-01]"),
        (bent_handshake(MESSAGE_2, bytes(48), 7), "field flow identifier, value 7 [VPPN-2.2-05]"),
        (pack_segment(16, MESSAGE_3, 0, 0, b"", bytes(64)), "field options, value 0 [VPPN-2.2-05]"),
        (pack_segment(16, Flag.FIN, 0, 0, b"", bytes(64)), "field flags, value 1 [VPPN-2.2-05]"),
        (pack_segment(16, 0, 0, 0, b"", bytes(64)), "field SEAL, value 0 [VPPN-3-03]"),
    ],
)
def test_a_segment_of_another_form_than_the_one_is_an_error(
    run: Run, octets: bytes, said: str
) -> None:
    for log in (None, LOG):
        status, lines = run(octets, log=log)
        assert status == 1
        assert lines[-1].endswith(said)
        assert run(octets, "-v", log=log)[1][-1] == lines[-1]


def test_messages_of_any_length_are_named(run: Run) -> None:
    for flags, octets, said in (
        (MESSAGE_1, b"\2\0" + bytes(31), "message 1 of xk, epoch 3, 33 octets"),
        (MESSAGE_2, b"", "message 2, epoch 3, 0 octets"),
        (MESSAGE_3, bytes(64), "message 3, epoch 3, 64 octets"),
    ):
        for words in ((), ("-v",), ("--json",)):
            assert run(encode_message(flags, 3, octets), *words)[0] == 0
        assert run(encode_message(flags, 3, octets))[1][0].endswith(said)
    cookie = encode_message(MESSAGE_1, 0, b"\1\0" + bytes(96), bytes(32))
    assert run(cookie)[0] == 0


def test_a_segment_shorter_than_a_tag(run: Run) -> None:
    octets = bytes.fromhex(SEGMENTS[2])
    for size in (0, 7, 15, 16):
        short = octets[:6] + size.to_bytes(2, "big") + octets[8 : 36 + size]
        for words in ((), ("-v",), ("--json",)):
            status, lines = run(short, *words)
            assert status == 1
            assert "2 keys tried" in lines[-1]


def test_hostile_octets_end_in_errors_of_one_kind(run: Run) -> None:
    dice = random.Random(7)
    segments = [bytes.fromhex(one) for one in SEGMENTS]
    statuses = set()
    for number in range(150):
        octets = bytearray(b"".join(dice.sample(segments, 3)))
        for _ in range(dice.randrange(1, 6)):
            octets[dice.randrange(len(octets))] = dice.randrange(256)
        if number % 3 == 0:
            del octets[dice.randrange(len(octets)) :]
        status, _ = run(bytes(octets) or b"\0", *dice.choice(((), ("-v",), ("--json",))))
        statuses.add(status)
    assert statuses == {0, 1}


# ---- the file of keys ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LOG + LOG[:-2], "line 4, column 86: a key has 64 hex digits, here stand 63 octets"),
        ("\x7fELF\0\0", "line 1, column 1: a line begins with VPPN_KEY"),
    ],
)
def test_a_file_that_is_no_key_log_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "keys.log"
    path.write_text(text)
    assert main(["--keys", str(path), ALL]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"powertcp decode: {path}: {said}")
    assert err.count("\n") == 1
    assert not any(key[:40] in err for key in KEYS.values())


def test_a_file_that_cannot_be_read_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, said in ((str(tmp_path / "none"), "No such file"), (str(tmp_path), "Is a directory")):
        assert main(["--keys", name, ALL]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert said in err
