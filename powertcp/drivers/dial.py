"""Connect and listen: plain non-blocking TCP sockets, tuned for segments."""

import errno
import os
import socket
from collections.abc import Callable, Iterable

import trio

from powertcp.errors import ConfigError

DEFAULT_PORT = 3251
BACKLOG = 4096  # a hall of consumers may come back at once
ACCEPTS_PER_WAKE = 64
STAGGER_S = 0.25  # between attempts on different addresses of one name
LOWAT_BULK = 131_072  # TCP_NOTSENT_LOWAT where DATA is sent in bulk
LOWAT_SMALL = 16_384
_TCP_NOTSENT_LOWAT = 25


def parse_address(text: str, *, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """Parse HOST, HOST:PORT, [v6] or [v6]:PORT. Raises ConfigError with a sentence."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigError("command line", text, "an IPv6 address is written [ADDRESS]:PORT")
        port = rest[1:]
        given = bool(rest)
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        given = True
    else:
        given = False
    if not host:
        raise ConfigError("command line", text, "an address is written HOST:PORT")
    try:
        host.encode("idna")
    except UnicodeError as error:
        said = f'"{host}" is no name of a host: labels of 1..63 letters between dots'
        raise ConfigError("command line", text, said) from error
    if not given:
        return host, default_port
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError("command line", text, f'a port is a number 0..65535, got "{port}"')
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """Return HOST:PORT, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tune(sock: socket.socket, *, bulk: bool = False) -> None:
    """Make `sock` non-blocking, without Nagle, with little unsent data in the kernel (P2)."""
    sock.settimeout(0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lowat = LOWAT_BULK if bulk else LOWAT_SMALL
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, lowat)


async def connect(
    host: str, port: int, *, bind: Callable[[socket.socket], None] | None = None
) -> socket.socket:
    """Open TCP to the first address of `host` that answers; the caller owns the deadline.

    bind: gives each socket the address it comes from, None: the kernel does. Raises OSError: of the only address, or one that names all that failed.
    """
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    won: list[socket.socket] = []
    failed: list[OSError] = []

    async def attempt(family: int, address: object, ended: trio.Event) -> None:
        try:
            sock = await _connect_one(family, address, bind)
        except OSError as error:
            failed.append(error)
            ended.set()
            return
        if won:
            sock.close()
            return
        won.append(sock)
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for family, _, _, _, address in found:
                ended = trio.Event()
                nursery.start_soon(attempt, family, address, ended)
                with trio.move_on_after(STAGGER_S):
                    await ended.wait()
    except BaseException:
        for sock in won:
            sock.close()
        raise
    if won:
        return won[0]
    if len(failed) == 1:
        raise failed[0]
    texts = "; ".join(dict.fromkeys(str(error) for error in failed))
    raise OSError(failed[-1].errno if failed else errno.EHOSTUNREACH, texts or "no address")


async def _connect_one(
    family: int, address: object, bind: Callable[[socket.socket], None] | None
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        tune(sock)
        if bind is not None:
            bind(sock)
        code = sock.connect_ex(address)  # type: ignore[arg-type]
        if code == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        else:
            await trio.lowlevel.checkpoint()
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock


def listen(addresses: Iterable[tuple[str, int]]) -> list[socket.socket]:
    """Open a listener on each (host, port); [::] also serves IPv4. Raises OSError.

    All of them or none.
    """
    listeners: list[socket.socket] = []
    try:
        for host, port in addresses:
            listeners.append(_listen_one(host, port))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _listen_one(host: str, port: int) -> socket.socket:
    if host == "::" and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # noqa: S104 - what [::] means on a host without IPv6
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.settimeout(0)
    except BaseException:
        sock.close()
        raise
    return sock


def accept(
    listener: socket.socket, most: int = ACCEPTS_PER_WAKE
) -> list[tuple[socket.socket, tuple[str, int]]]:
    """Accept what waits, at most `most`: tuned sockets with their peers' addresses (P7).

    Raises OSError (EMFILE and the like) only when nothing was accepted.
    """
    accepted: list[tuple[socket.socket, tuple[str, int]]] = []
    while len(accepted) < most:
        try:
            sock, address = listener.accept()
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno == errno.ECONNABORTED:
                continue
            if accepted:
                break
            raise
        try:
            tune(sock, bulk=True)
        except OSError:
            sock.close()
            continue
        accepted.append((sock, (address[0], address[1])))
    return accepted
