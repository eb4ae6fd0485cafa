"""Handshakes of sealed power, both sides in one thread: against TLS, and against a Noise library."""

import datetime
import secrets
import ssl
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from powertcp.crypto import ExchangeKey
from powertcp.vppn import PROTOCOLS, Handshake, PatternId, prologue
from tools.bench.harness import Options, Pair, WrongResultError, bench, loop, measured

UNIT = "handshakes/CPU s"
TLS = "TLS 1.3, mutual ECDSA P-256, ssl.MemoryBIO"
HOST = "localhost"
GROUP = 8
RATIO_ROUNDS = 5


def noise_ends(pattern: PatternId) -> Callable[[], tuple[Handshake, Handshake]]:
    """Return what makes both sides of a handshake whose static keys stand."""
    protocol = PROTOCOLS[pattern]
    device, provider = (ExchangeKey(secrets.token_bytes(32)) for _ in "ir")

    def make() -> tuple[Handshake, Handshake]:
        return (
            Handshake(
                protocol,
                is_initiator=True,
                entropy=secrets.token_bytes,
                prologue=prologue(pattern),
                static=device,
                remote_static=provider.public,
            ),
            Handshake(
                protocol,
                is_initiator=False,
                entropy=secrets.token_bytes,
                prologue=prologue(pattern),
                static=provider,
            ),
        )

    return make


def own_steps(pattern: PatternId) -> Callable[[], int]:
    """Return a step of whole handshakes, each of which ends in equal keys."""
    make = noise_ends(pattern)

    def step() -> int:
        for _ in range(GROUP):
            initiator, responder = make()
            responder.read_message(initiator.write_message())
            initiator.read_message(responder.write_message())
            is_one = initiator.handshake_hash == responder.handshake_hash
            if not is_one or initiator.split() != responder.split():
                raise WrongResultError(f"{pattern.word}: the sides have different keys")
        return GROUP

    return step


def library_steps() -> Callable[[], int]:
    """Return the same with the Noise library of PyPI, its default backend."""
    from noise.connection import Keypair, NoiseConnection

    name = PROTOCOLS[PatternId.IK_CLASSIC].name.encode()
    mine, theirs = secrets.token_bytes(32), secrets.token_bytes(32)
    public, words = ExchangeKey(theirs).public, prologue(PatternId.IK_CLASSIC)

    def side(*, starts: bool) -> NoiseConnection:
        made = NoiseConnection.from_name(name)
        made.set_prologue(words)
        made.set_keypair_from_private_bytes(Keypair.STATIC, mine if starts else theirs)
        if starts:
            made.set_as_initiator()
            made.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, public)
        else:
            made.set_as_responder()
        made.start_handshake()
        return made

    def both() -> tuple[NoiseConnection, NoiseConnection]:
        initiator, responder = side(starts=True), side(starts=False)
        responder.read_message(initiator.write_message())
        initiator.read_message(responder.write_message())
        if initiator.get_handshake_hash() != responder.get_handshake_hash():
            raise WrongResultError("noiseprotocol: the sides do not agree")
        return initiator, responder

    for one, other in (both(), both()[::-1]):
        if other.decrypt(one.encrypt(b"power")) != b"power":
            raise WrongResultError("noiseprotocol: the sides have different keys")

    def step() -> int:
        for _ in range(GROUP):
            both()
        return GROUP

    return step


def certified(name: str) -> tuple[bytes, bytes]:
    """Return a key and a certificate of P-256 in one PEM, and the certificate: its own issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + public, public


def tls_contexts(*, is_mutual: bool) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return contexts of client and server: TLS 1.3, each side trusts the other's certificate.

    A certificate that is trusted itself spares the peer the signatures of a chain, and there are
    no session tickets.
    """
    client, server = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
    )
    pems = certified(HOST), certified("device")
    with tempfile.TemporaryDirectory(prefix="powertcp-bench-") as folder:
        for context, (private, _) in zip((server, client), pems, strict=True):
            path = Path(folder) / "key.pem"
            path.write_bytes(private)
            context.load_cert_chain(path)
    client.load_verify_locations(cadata=pems[0][1].decode())
    server.load_verify_locations(cadata=pems[1][1].decode())
    server.num_tickets = 0
    if is_mutual:
        server.verify_mode = ssl.CERT_REQUIRED
    for context in (client, server):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    return client, server


class _TlsSide:
    """One side of TLS over memory."""

    def __init__(self, context: ssl.SSLContext, *, serves: bool) -> None:
        self.coming, self.going = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.coming, self.going, server_side=serves, server_hostname=None if serves else HOST
        )

    def shake(self, peer: "_TlsSide") -> bool:
        """Go on as far as the peer's octets lead; whether the handshake is complete."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            peer.coming.write(self.going.read())
        return True


def tls_steps() -> Callable[[], int]:
    """Return a step of whole TLS handshakes in which both sides prove who they are."""
    contexts = tls_contexts(is_mutual=True)

    def both() -> tuple[_TlsSide, _TlsSide]:
        client, server = _TlsSide(contexts[0], serves=False), _TlsSide(contexts[1], serves=True)
        client.shake(server)
        server.shake(client)
        if not client.shake(server) or not server.shake(client):
            raise WrongResultError("TLS: the handshake takes more than two flights")
        return client, server

    def talk() -> None:
        client, server = both()
        for one, other in ((client, server), (server, client)):
            one.tls.write(b"power")
            other.coming.write(one.going.read())
            if other.tls.read() != b"power" or not other.tls.getpeercert(binary_form=True):
                raise WrongResultError("TLS: the sides have different keys")
        if client.tls.version() != "TLSv1.3":
            raise WrongResultError(f"TLS: version {client.tls.version()}")

    talk()

    def step() -> int:
        for _ in range(GROUP):
            both()
        return GROUP

    return step


def _against_classic(options: Options) -> Mapping[str, float]:
    """What ML-KEM costs: the time of a hybrid handshake over that of a classic one."""
    seconds, rounds = (0.1, 1) if options.smoke else (0.5, RATIO_ROUNDS)
    classic, hybrid = loop(own_steps(PatternId.IK_CLASSIC)), loop(own_steps(PatternId.IK))
    ratios = []
    for number in range(rounds):
        order = (classic, hybrid) if number % 2 else (hybrid, classic)
        values = {side: measured(side, seconds).value for side in order}
        ratios.append(values[classic] / values[hybrid])
    return {"hybrid_per_classic": statistics.median(ratios)}


@bench("vppn-handshake", unit=UNIT, peer=TLS, must=2.0, stretch=3.5)
def vppn_handshake(options: Options) -> Pair:
    """IK with X25519 alone."""
    return Pair(loop(own_steps(PatternId.IK_CLASSIC)), loop(tls_steps()))


@bench("vppn-handshake-hybrid", unit=UNIT, peer=TLS, must=1.2, stretch=2.2)
def vppn_handshake_hybrid(options: Options) -> Pair:
    """IK with X25519 and ML-KEM-768, as is the default."""
    own, tls = loop(own_steps(PatternId.IK)), loop(tls_steps())
    return Pair(own, tls, figures=lambda: _against_classic(options))


@bench(
    "vppn-noiseprotocol", unit=UNIT, peer="PyPI noiseprotocol, same suite", must=1.2, stretch=1.7
)
def vppn_noiseprotocol(options: Options) -> Pair:
    """IK with X25519 alone."""
    return Pair(loop(own_steps(PatternId.IK_CLASSIC)), loop(library_steps()))
