"""The options by which provider and consumer seal their power: read, checked, ready for a driver."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from powertcp.errors import ConfigError, DecodeError
from powertcp.units import NS_PER_S, parse_duration_ns

if TYPE_CHECKING:
    from powertcp.cli.config import DaemonOptions, ProviderOptions
    from powertcp.cli.consumer_options import Options
    from powertcp.vppn.config import SealConfig
    from powertcp.vppn.identity import PublicKey
    from powertcp.vppn.noise import PatternId

_DEVICE = (
    "peer", "cert", "pattern", "rekey", "key", "allow_classic", "privacy", "keylog",
)  # fmt: skip
PATTERNS = ("ik", "xk", "nk")
FIREWALL_PORT = 3261
_COMMAND_LINE = "command line"
_CONFIGURATION = "configuration"
NO_KEM = "the cryptography library of this machine has no ML-KEM-768; --allow-classic does without"


def add_shared(parse: argparse.ArgumentParser) -> None:
    """Add the options of both sides."""
    add = parse.add_argument
    add("--key", metavar="FILE", help="our identity, of powertcp vppn keygen (XDG: identity)")
    add(
        "--allow-classic",
        action="store_true",
        default=None,
        help="handshakes without ML-KEM too, where both sides do",
    )
    add(
        "--privacy",
        choices=("police", "private"),
        help="police: length and ESN tell who listens what appliance runs; private: padded. The same"
        " at both ends (police)",
    )
    add("--keylog", metavar="FILE", help="write every key: who has it reads all power (off)")


def add_device(parse: argparse.ArgumentParser) -> None:
    """Add the options of a consumer."""
    add = parse.add_argument
    add("--vppn", metavar="HOST[:PORT]", help="the employer's gateway: --connect with --seal")
    add(
        "--via",
        metavar="NAME",
        help="the provider behind a gateway, by its name there; in clear: HOST[:PORT] of a firewall"
        " (port 3261)",
    )
    add(
        "--seal",
        action="store_true",
        default=None,
        help="encrypt the power; --connect needs --peer",
    )
    add("--peer", metavar="KEY", help="the provider's identity: x25519:...")
    add("--cert", metavar="FILE", help="the employer's certificate of our key (none)")
    choices = [*PATTERNS, *(f"{pattern}-classic" for pattern in PATTERNS)]
    add("--pattern", choices=choices, help="xk hides who we are, nk: a guest without a key (ik)")
    add("--rekey", metavar="TIME", help="change the keys this often, 1s..120s (120s)")
    add_shared(parse)


def add_daemon(parse: argparse.ArgumentParser, otherwise: str = "") -> None:
    """Add the options of whoever is asked for sealed power. otherwise: what --stealth leaves out."""
    parse.add_argument(
        "--stealth",
        action="store_true",
        default=None,
        help=f"no answer at all to whoever does not know our key{otherwise}",
    )
    said = "the certificate of our key by a site, for who trusts the site only (none)"
    parse.add_argument("--cert", metavar="FILE", help=said)
    add_shared(parse)


def add_provider(parse: argparse.ArgumentParser) -> None:
    """Add the options of a provider."""
    add = parse.add_argument
    add("--seal", choices=("req", "opt", "off"), help="sealed power only, too, or never (off)")
    add_daemon(parse, "; sealed power only")


def device_seal(options: "Options", environ: Mapping[str, str]) -> "SealConfig | None":
    """Return how a consumer seals, None in clear. Raises ConfigError, HostError.

    Its `peer` is None where the provider is to be found.
    """
    if not options.seal:
        plain = type(options)()
        for name in _DEVICE:
            if getattr(options, name) != getattr(plain, name):
                flag = f"--{name.replace('_', '-')}"
                raise ConfigError(_COMMAND_LINE, flag, "it is about --seal, or --vppn HOST")
        return None
    from powertcp.cli.consumer_options import read
    from powertcp.cli.keys import identity_path, read_key
    from powertcp.crypto import ExchangeKey
    from powertcp.drivers.sealing import CertificateFile
    from powertcp.vppn.config import SealConfig
    from powertcp.vppn.epochs import EpochLimits
    from powertcp.vppn.identity import Algorithm
    from powertcp.vppn.noise import PatternId
    from powertcp.vppn.record import Privacy

    pattern = PatternId[options.pattern.upper().replace("-", "_")]
    _check_pattern(pattern, allow_classic=options.allow_classic)
    # whoever is found shows its key in its advert
    peer = _read_peer(options.peer) if options.peer or options.connect else None
    secret = None
    if pattern not in (PatternId.NK, PatternId.NK_CLASSIC):
        path = Path(options.key) if options.key else identity_path(environ)
        secret = read_key(path, Algorithm.X25519)
    elif options.cert:
        said = "a guest shows no key, so no certificate speaks for it: take --pattern ik or xk"
        raise ConfigError(_COMMAND_LINE, "--cert", said)
    rekey_ns = read("--rekey", options.rekey, parse_duration_ns) or EpochLimits().rekey_ns
    if not NS_PER_S <= rekey_ns <= EpochLimits().rekey_ns:
        raise ConfigError(_COMMAND_LINE, "--rekey", f"1s..120s, got {options.rekey}")
    certificate = CertificateFile(options.cert, secret.public) if secret and options.cert else None
    return SealConfig(
        key=None if secret is None else ExchangeKey(secret.octets),
        peer=peer.octets if peer else None,
        pattern=pattern,
        renewed=certificate,
        allow_classic=options.allow_classic,
        privacy=Privacy(options.privacy),
        limits=EpochLimits(rekey_ns=rekey_ns),
    )


def read_firewall(options: "Options") -> tuple[str, int] | None:
    """Return where the firewall listens that power in clear comes through. Raises ConfigError."""
    from powertcp.drivers.dial import parse_address

    if not options.via or options.seal:
        return None
    return parse_address(options.via, default_port=FIREWALL_PORT)


def read_via(options: "Options") -> str | None:
    """Return the name of a provider behind a gateway, None: any. Raises ConfigError."""
    from powertcp.wire.options import MAX_VIA

    name = options.via
    if not name or not options.seal:
        return None
    if len(name) > MAX_VIA or not name.isascii() or not name.isprintable() or " " in name:
        said = f"a name of at most {MAX_VIA} letters of ASCII, without blanks"
        raise ConfigError(_COMMAND_LINE, "--via", said)
    return name


def provider_seal(
    options: "ProviderOptions", environ: Mapping[str, str]
) -> "tuple[SealConfig, bool] | None":
    """Return how a provider seals and whether it must be, None: never. Raises ConfigError."""
    if options.seal == "off":
        for name in ("key", "stealth", "keylog", "cert"):
            if getattr(options, name):
                raise ConfigError(_CONFIGURATION, name, "it is about --seal req or --seal opt")
        return None
    if options.stealth and options.seal != "req":
        raise ConfigError(_CONFIGURATION, "stealth", "it needs --seal req: clear power answers")
    return daemon_seal(options, environ), options.seal == "req"


def daemon_seal(options: "DaemonOptions", environ: Mapping[str, str]) -> "SealConfig":
    """Return how a daemon seals towards whoever asks it. Raises ConfigError, HostError."""
    from powertcp.cli.keys import identity_path, read_key
    from powertcp.crypto import HAS_KEM, ExchangeKey
    from powertcp.drivers.sealing import CertificateFile
    from powertcp.vppn.config import SealConfig
    from powertcp.vppn.identity import Algorithm
    from powertcp.vppn.record import Privacy

    if not HAS_KEM and not options.allow_classic:
        raise ConfigError(_CONFIGURATION, "allow_classic", NO_KEM)
    path = Path(options.key) if options.key else identity_path(environ)
    secret = read_key(path, Algorithm.X25519)
    return SealConfig(
        key=ExchangeKey(secret.octets),
        renewed=CertificateFile(options.cert, secret.public) if options.cert else None,
        allow_classic=options.allow_classic,
        stealth=options.stealth,
        privacy=Privacy(options.privacy),
    )


def _check_pattern(pattern: "PatternId", *, allow_classic: bool) -> None:
    from powertcp.crypto import HAS_KEM

    if pattern.is_classic and not allow_classic:
        said = f"{pattern.word} goes without ML-KEM-768: it needs --allow-classic, at both ends"
        raise ConfigError(_COMMAND_LINE, "--pattern", said)
    # VPPN-2.1-02
    if not pattern.is_classic and not HAS_KEM:
        raise ConfigError(_COMMAND_LINE, "--pattern", NO_KEM)


def _read_peer(text: str) -> "PublicKey":
    from powertcp.vppn.identity import Algorithm, PublicKey

    if not text:
        said = "whose power? --peer x25519:..., as `powertcp vppn show` prints it at the provider"
        raise ConfigError(_COMMAND_LINE, "--peer", said)
    from powertcp.crypto import KEY_OCTETS, ExchangeKey

    try:
        peer = PublicKey.parse(text, Algorithm.X25519)
    except ValueError as error:
        raise ConfigError(_COMMAND_LINE, "--peer", str(error)) from error
    try:
        ExchangeKey(bytes(KEY_OCTETS)).exchange(peer.octets)
    except DecodeError as error:
        raise ConfigError(
            _COMMAND_LINE, "--peer", "a point of low order is nobody's key"
        ) from error
    return peer


def log_keys(config: "SealConfig", name: str, environ: Mapping[str, str]) -> "SealConfig":
    """Return `config` with the key log `name`, or of the environment, if there is one. Raises HostError."""
    name = name or environ.get("POWERTCP_KEYLOGFILE", "")
    if not name:
        return config
    from dataclasses import replace

    from powertcp.drivers.sealing import KeyLog

    return replace(config, key_log=KeyLog(Path(name)).write)
