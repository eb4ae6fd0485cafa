"""Policies for tests: the one of the design, and the keys that it names."""

from powertcp.profile import named_profiles
from powertcp.reclaim.policy import Policy
from powertcp.reclaim.policy_text import parse_policy
from powertcp.vppn.identity import Algorithm, PublicKey

# a table of the package, read once
named_profiles()
ALICE = bytes(range(32))
BOB = bytes(range(32, 64))
CAROL = bytes(range(64, 96))
MALLORY = bytes(range(96, 128))


def name_of(key: bytes) -> str:
    return str(PublicKey(Algorithm.X25519, key))


KEYS = f"""# who may draw what
key {name_of(ALICE)} max-power=65W from=10.1.0.0/16 alice@lamp
key {name_of(BOB)} max-power=65W from=10.1.2.0/24,fd00::/8 bob@drill
key {name_of(CAROL)} max-power=65W expires=2027-01-01 from=10.3.0.0/16 carol@fan
key {name_of(MALLORY)} deny
guest max-power=1W
"""
EXAMPLE = """\
reservoir main capacity 5kWh charge 95% discharge 95% leak 50mW max-in 2kW max-out 1kW floor 10% when-full stop
set trusted keys authorized_watts
set mains  voltage 207V-253V 99V-132V
set inside net 10.0.0.0/8 fd00::/8

policy reclaim main                                                   # when no rule matches
rule state invalid                                  -> reject 506 log
rule sealed yes peer @trusted                       -> accept
rule sealed yes                                     -> drop log
rule direction in state new power > 500W            -> reject 204 log
rule state unsolicited                              -> reclaim main limit 1kW burst 2kJ count attacks
rule direction out voltage != @mains priority >= 9  -> reject 101
rule tariff > 0.40EUR                               -> reject 104
rule src @inside dst @inside                        -> accept
rule direction out                                  -> accept limit 100W
rule load > 90%                                     -> accept mark-ece

infrastructure from main power auto share 50%
lend from main offer 12V/5A,prio=5 above 20% listen [::]:3251 announce "reclaimed power"

test state=unsolicited sealed=no voltage=230V power=1kW         -> reclaim main line 11
test sealed=yes peer=unknown                                    -> drop line 9
"""


def read(name: str) -> bytes:
    """Return the one file that policies of tests name."""
    if name != "authorized_watts":
        raise FileNotFoundError(2, "No such file or directory", name)
    return KEYS.encode()


def load(text: str, *, is_lab: bool = False) -> Policy:
    """Return the policy of a text."""
    return parse_policy(text.encode(), "firewall.policy", read, is_lab=is_lab)


def rules(text: str) -> Policy:
    """Return the policy of some rules, which drops what none of them matches."""
    return load(f"{text}\npolicy drop\n")
