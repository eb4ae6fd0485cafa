"""An employer, a lamp of an employee, and the certificate for one shift."""

from powertcp.vppn.certificate import Certificate
from powertcp.vppn.faults import tokens
from powertcp.vppn.identity import Algorithm, SecretKey
from powertcp.vppn.limits import parse_moment, parse_words

BOSS = SecretKey(Algorithm.ED25519, bytes([1]) * 32)
LAMP = SecretKey(Algorithm.X25519, bytes([2]) * 32)
CERTIFICATE = Certificate(
    serial=4711,
    subject=LAMP.public,
    name="alice@lamp",
    groups=("staff",),
    limits=parse_words(tokens("max-power=65W voltage=5V-20V quota=2kWh/day"))[0],
    not_before_s=parse_moment("2026-11-21T08:00:00Z"),
    not_after_s=parse_moment("2026-11-21T16:00:00Z"),
    issuer=BOSS.public,
    limits_line=6,
)
