"""Seals for the connections of a daemon: tunnels, who their peers are, and the key log."""

import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from powertcp.drivers.clock import unix_ns
from powertcp.drivers.daemon import unix_offset_ns
from powertcp.drivers.session import CLEAR, Identity
from powertcp.errors import ConfigError, HostError, PowerError
from powertcp.machine import Entropy, Event
from powertcp.potcp import ConnectionConfig, PowerConnection, TicketOffice
from powertcp.potcp.traced import TracedConnection
from powertcp.units import Instant
from powertcp.vppn.certificate import MAX_OCTETS, parse_certificate
from powertcp.vppn.config import SealConfig
from powertcp.vppn.identity import Algorithm, PublicKey
from powertcp.vppn.office import SealOffice
from powertcp.vppn.record import OVERHEAD_OCTETS
from powertcp.vppn.session import Session
from powertcp.vppn.tunnel import Inner, Tunnel, TunnelBroken, TunnelOpened, TunnelRekeyed
from powertcp.wire.frames import MAX_MSP

_log = logging.getLogger("vppn")


def sealed_limits(config: ConnectionConfig) -> ConnectionConfig:
    """Return the limits of a connection that may be sealed: sealed segments are as long as can be."""
    return replace(config, msp=MAX_MSP)


def seal_client(
    machine: PowerConnection, config: SealConfig, entropy: Entropy, now: Instant
) -> Tunnel:
    """Return the tunnel of a connection that we open."""
    machine.wrapping = OVERHEAD_OCTETS
    session = Session(
        config, is_initiator=True, entropy=entropy, unix_offset_ns=machine.unix_offset_ns
    )
    tunnel = Tunnel(machine, session, now, is_initiator=True)
    hush(machine, tunnel)
    return tunnel


class Seals:
    """The tunnels of whoever accepts connections.

    is_required: whether a SYN in clear is refused. Half-done handshakes are counted over all.
    """

    def __init__(
        self, config: SealConfig, cookies: TicketOffice, entropy: Entropy, *, is_required: bool
    ) -> None:
        """Begin without tunnels."""
        self.config = config
        self.is_required = is_required
        self.office = SealOffice(cookies, unix_ns())
        self._entropy = entropy

    def wrap(self, machine: PowerConnection, peer: bytes, now: Instant) -> Tunnel:
        """Return the tunnel of a connection that was accepted."""
        machine.wrapping = OVERHEAD_OCTETS
        tunnel = self.carry(machine, peer, now)
        hush(machine, tunnel)
        return tunnel

    def carry(self, inner: Inner, peer: bytes, now: Instant) -> Tunnel:
        """Return the tunnel of a connection that was accepted, for any `inner`."""
        session = Session(
            self.config,
            is_initiator=False,
            entropy=self._entropy,
            office=self.office,
            peer=peer,
            address=peer[:-2],
            unix_offset_ns=unix_offset_ns(),
        )
        # VPPN-2.2-03
        may_be_clear = not self.config.stealth
        tunnel = Tunnel(inner, session, now, is_initiator=False, may_be_clear=may_be_clear)
        tunnel.start(now)
        return tunnel


def hush(machine: PowerConnection, tunnel: Tunnel) -> None:
    """Let a traced connection keep to itself what travels sealed."""
    if isinstance(machine, TracedConnection):
        machine.is_sealed = lambda: tunnel.is_sealed


def identity_of(tunnel: Tunnel | None) -> Identity:
    """Return who is at the other end of a tunnel."""
    if tunnel is None or not tunnel.is_sealed:
        return CLEAR
    proven = tunnel.identity
    if proven is None:
        return Identity(is_sealed=True)
    key = None if proven.key is None else PublicKey(Algorithm.X25519, proven.key)
    return Identity(is_sealed=True, key=key, certificate=proven.certificate)


def log_tunnel(where: str, events: Iterable[Event], tunnel: Tunnel | None = None) -> None:
    """Log what became of the tunnel to `where`; strangers, who may come often, are no warning."""
    level = logging.WARNING if tunnel and tunnel.session.is_confirmed else logging.INFO
    for event in events:
        match event:
            case TunnelOpened(identity=who):
                key = PublicKey(Algorithm.X25519, who.key) if who.key else "a guest"
                _log.info("%s: sealed, %s, %s", where, who.pattern.word, key)
            case TunnelRekeyed(epoch=epoch):
                _log.debug("%s: epoch %d", where, epoch)
            case TunnelBroken(refusal=refusal):
                _log.log(level, "%s: seal broken, %s", where, refusal.sentence())
            case _:
                pass


class CertificateFile:
    """The certificate of our key as its file has it now, for each handshake.

    Raises ConfigError or HostError when it is made; later the last good one stays in use.
    """

    def __init__(self, path: str, key: PublicKey) -> None:
        """Read it once."""
        self._path, self._key = path, key
        self._octets = self._read()

    def __call__(self) -> bytes:
        """Return its text."""
        try:
            self._octets = self._read()
        except PowerError as error:
            _log.warning("the certificate of before stays in use: %s", error)
        return self._octets

    def _read(self) -> bytes:
        try:
            # a pipe without a writer would hold us
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                octets = file.read(MAX_OCTETS + 1) or b""
        except OSError as error:
            raise HostError(error.errno or 5, self._path, "read a certificate") from error
        certificate = parse_certificate(octets, self._path)
        # VPPN-2.2-01
        is_meter_key = (
            certificate.subject.algorithm is Algorithm.ED25519
        )  # of a provider: VPPN-5-04
        if not is_meter_key and certificate.subject != self._key:
            said = f"it speaks for {certificate.subject}, our key is {self._key}"
            raise ConfigError("certificate", self._path, said)
        return octets


class KeyLog:
    """A file of the keys of every tunnel, for those who debug: who has it reads all power."""

    def __init__(self, path: Path) -> None:
        """Open `path` for its owner alone, and say so aloud. Raises HostError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        flags |= os.O_NONBLOCK  # a pipe without a reader would hold us
        try:
            self._file = os.open(path, flags, 0o600)
            os.fchmod(self._file, 0o600)
        except OSError as error:
            raise HostError(error.errno or 5, str(path), "write the key log") from error
        _log.warning("KEY LOG: the keys of all sealed power are written to %s", path)

    def write(self, ephemeral: bytes, epoch: int, sender: str, key: bytes) -> None:
        """Append one key; a log that cannot be written does not stop power."""
        line = f"VPPN_KEY {ephemeral.hex()} {epoch:08x} {sender} {key.hex()}\n"
        try:
            os.write(self._file, line.encode())
        except OSError as error:
            _log.error("key log: %s", error.strerror)
