"""`powertcp firewall nft`: what is printed, and what is no name, port or mode."""

import pytest

from powertcp.cli.main import main

REDIRECT = """\
# Connections to TCP port 3251 that come in by e0 go to port 3261 of this host:
#   powertcp firewall run POLICY --mode redirect --listen '[::]:3261'
# load:   powertcp firewall nft --mode redirect --iface e0 --dport 3251 --to 3261 | nft -f -
# remove: nft delete table inet powertcp_firewall
table inet powertcp_firewall
delete table inet powertcp_firewall
table inet powertcp_firewall {
  chain divert {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "e0" fib daddr type != local tcp dport 3251 counter redirect to :3261
  }
}
"""


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    try:
        status = main(["firewall", "nft", *words])
    except SystemExit as left:
        status = int(str(left.code))
    text = capsys.readouterr()
    return status, text.out, text.err


def test_redirect_is_one_rule_of_an_own_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--iface", "e0") == (0, REDIRECT, "")


def test_ports_and_interfaces_are_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--iface", "wan0", "--iface", "lan.7", "--dport", "4000", "--to", "5000")
    status, text, _ = said(capsys, *words)
    assert status == 0
    rule = 'iifname { "wan0", "lan.7" } fib daddr type != local tcp dport 4000'
    assert f"    {rule} counter redirect to :5000\n" in text
    assert f"nft --mode redirect {' '.join(words)} | nft -f -" in text


def test_tproxy_marks_both_families_and_tells_the_routes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, text, _ = said(capsys, "--iface", "e0", "--mode", "tproxy")
    assert status == 0
    assert text.count("meta mark set 0x3261 accept") == 3
    assert "meta nfproto ipv4 counter tproxy ip to :3261" in text
    assert "meta nfproto ipv6 counter tproxy ip6 to :3261" in text
    for ip, everything in (("ip", "0.0.0.0/0"), ("ip -6", "::/0")):
        assert f"#   {ip} rule add fwmark 0x3261 lookup 3261\n" in text
        assert f"#   {ip} route add local {everything} dev lo table 3261\n" in text
        assert f"#   {ip} rule del fwmark 0x3261 lookup 3261\n" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "nft needs --iface, the interface that connections come in by"),
        (
            ("--iface", 'e0"; flush ruleset; "'),
            '"e0"; flush ruleset; "" is no name of an interface',
        ),
        (("--iface", "e0\n"), '"e0\n" is no name of an interface'),
        (("--iface", ""), '"" is no name of an interface'),
        (("--iface", "a" * 16), "is no name of an interface"),
        (("--iface", "e0", "--dport", "0"), "port 0 is not 1 to 65535"),
        (("--iface", "e0", "--to", "65536"), "port 65536 is not 1 to 65535"),
        (
            ("--iface", "e0", "--mode", "explicit"),
            "nft --mode is one of redirect, tproxy, got explicit",
        ),
        (("--iface", "e0", "attic.policy"), 'nft takes no word, got "attic.policy" as well'),
        (("--iface", "e0", "--json"), "--json is for check"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    status, text, error = said(capsys, *words)
    assert (status, text) == (2, "")
    assert sentence in error


def test_its_options_are_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["firewall", "check", "attic.policy", "--iface", "e0"]) == 2
    assert "--iface is for nft" in capsys.readouterr().err
