"""The control socket of a daemon: JSON lines over a Unix socket; clients may crash, power stays."""

import errno
import grp
import json
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

import trio

from powertcp.errors import ConfigError, HostError
from powertcp.registry import Reason, Refusal

LINE_OCTETS = 64 * 1024
CLIENTS = 64
QUEUE_LINES = 64  # of a client that does not read: further status lines are lost and counted
ACCEPT_PAUSE_S = 0.1
GROUP = "powertcp"
_PEER = struct.Struct("iII")
_log = logging.getLogger("control")

Fields = dict[str, object]
Verb = Callable[[Mapping[str, object]], Awaitable[Fields | Refusal]]
Put = Callable[[Fields], None]
# begins to put lines for a request, and returns what ends that
Channel = Callable[[Mapping[str, object], Put], Callable[[], None]]


def refusal_fields(refusal: Refusal) -> Fields:
    """Return a refusal as it stands in an answer."""
    return {
        "code": refusal.code,
        "sentence": refusal.sentence(),
        "value": refusal.value,
        "limit": refusal.limit,
    }


class Control:
    """Verbs behind a Unix socket.

    verbs: by op; those in `guarded` need the same uid, root or the group. status: pushed to
    subscribers of that channel at least every second. channels: what else may be subscribed to.
    """

    def __init__(
        self,
        greeting: Fields,
        verbs: Mapping[str, Verb],
        *,
        guarded: frozenset[str],
        channels: Mapping[str, Channel] = MappingProxyType({}),
    ) -> None:
        """Serve `verbs` once `serve` runs."""
        self._greeting = greeting
        self._verbs, self._channels = verbs, channels
        self._guarded = guarded
        self._clients = 0
        self._subscribers: set[trio.MemorySendChannel[Fields]] = set()
        # of each client, what ends its channels, by their names
        self._ends: dict[trio.MemorySendChannel[Fields], dict[str, Callable[[], None]]] = {}

    async def serve(
        self, path: Path, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve on `path` until cancelled; the socket file is removed then.

        Raises ConfigError when another process answers there, HostError when it cannot be made.
        """
        listener = open_listener(path)
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    try:
                        sock, _ = await trio.socket.from_stdlib_socket(listener).accept()
                    except OSError as error:
                        # out of descriptors: whoever asks waits, the power stays on
                        _log.warning("control: accept: %s", error)
                        await trio.sleep_until(trio.current_time() + ACCEPT_PAUSE_S)
                        continue
                    if self._clients >= CLIENTS:
                        sock.close()
                        continue
                    self._clients += 1
                    nursery.start_soon(self._serve_client, trio.SocketStream(sock))
        finally:
            listener.close()
            remove(path)

    async def _serve_client(self, stream: trio.SocketStream) -> None:
        """Greet, then answer line by line; errors end at this client."""
        send, receive = trio.open_memory_channel[Fields](QUEUE_LINES)
        try:
            async with stream, trio.open_nursery() as nursery:
                pump = _Pump(stream, receive)
                nursery.start_soon(pump.run)
                send.send_nowait(self._greeting)
                await self._read(stream, send, nursery)
                nursery.cancel_scope.cancel()
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as group:
            _log.debug("control client: %s", group.exceptions[0])
        finally:
            self._clients -= 1
            self._subscribers.discard(send)
            for end in self._ends.pop(send, {}).values():
                end()

    async def _read(
        self, stream: trio.SocketStream, send: trio.MemorySendChannel[Fields], nursery: trio.Nursery
    ) -> None:
        pending = bytearray()
        async for octets in stream:
            pending += octets
            while (end := pending.find(b"\n")) >= 0:
                line = bytes(pending[:end])
                del pending[: end + 1]
                answer = await self._answer(stream, line, send, nursery)
                await send.send(answer)
            if len(pending) > LINE_OCTETS:
                return

    async def _answer(
        self,
        stream: trio.SocketStream,
        line: bytes,
        send: trio.MemorySendChannel[Fields],
        nursery: trio.Nursery,
    ) -> Fields:
        request = _parse(line)
        if request is None:
            return {"id": None, "refusal": refusal_fields(Refusal(Reason.BAD_LENGTH, len(line)))}
        number, op = request.get("id"), str(request.get("op"))
        if op == "subscribe":
            return {"id": number, **self._subscribe(request, send, nursery)}
        verb = self._verbs.get(op)
        if verb is None:
            return {"id": number, "refusal": refusal_fields(Refusal(Reason.STATE))}
        if op in self._guarded:
            pid, uid = _credentials(stream)
            if not may_command(uid, pid):
                return {"id": number, "refusal": refusal_fields(Refusal(Reason.POLICY))}
            _log.warning(
                "audit: %s by pid %d uid %d", line.decode("utf-8", "replace")[:128], pid, uid
            )
        result = await verb(request)
        if isinstance(result, Refusal):
            return {"id": number, "refusal": refusal_fields(result)}
        return {"id": number, "ok": result}

    def _subscribe(
        self,
        request: Mapping[str, object],
        send: trio.MemorySendChannel[Fields],
        nursery: trio.Nursery,
    ) -> Fields:
        """Let a client have the lines of a channel, once; again: as it asks for them now."""
        name = str(request.get("channel") or "status")
        if name == "status":
            if send not in self._subscribers:
                self._subscribers.add(send)
                nursery.start_soon(self._push, send)
        elif name in self._channels:
            ends = self._ends.setdefault(send, {})
            if name in ends:
                ends.pop(name)()
            ends[name] = self._channels[name](request, _Lines(send).put)
        else:
            return {"refusal": refusal_fields(Refusal(Reason.STATE))}
        return {"ok": {"channels": ["status", *self._channels]}}

    async def _push(self, send: trio.MemorySendChannel[Fields]) -> None:
        """Send a status line each second; a client that does not read loses lines."""
        lines = _Lines(send)
        while True:
            result = await self._verbs["status"]({})
            if isinstance(result, dict):
                lines.put({"t": "status", **result})
            await trio.sleep_until(trio.current_time() + 1)


class _Lines:
    """What is put for a client that may not read: it is told how many lines it lost."""

    def __init__(self, send: trio.MemorySendChannel[Fields]) -> None:
        self._send, self._lost = send, 0

    def put(self, fields: Fields) -> None:
        """Let the client have a line, or count it as lost."""
        try:
            if self._lost:
                self._send.send_nowait({"t": "lost", "n": self._lost})
                self._lost = 0
            self._send.send_nowait(fields)
        except (trio.WouldBlock, trio.BrokenResourceError):
            self._lost += 1


class _Pump:
    """The one writer of a client."""

    def __init__(
        self, stream: trio.SocketStream, receive: trio.MemoryReceiveChannel[Fields]
    ) -> None:
        self._stream = stream
        self._receive = receive

    async def run(self) -> None:
        async for fields in self._receive:
            await self._stream.send_all(json.dumps(fields).encode() + b"\n")


def _parse(line: bytes) -> dict[str, object] | None:
    if len(line) > LINE_OCTETS:
        return None
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return request if isinstance(request, dict) else None


def _credentials(stream: trio.SocketStream) -> tuple[int, int]:
    """Return pid and uid of the client."""
    octets = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    if not isinstance(octets, bytes):
        return 0, -1
    pid, uid, _ = _PEER.unpack(octets)
    return pid, uid


def may_command(uid: int, pid: int) -> bool:
    """Say whether a client may change something: root, our own user, a member of the group."""
    if uid in (0, os.getuid()):
        return True
    try:
        group = grp.getgrnam(GROUP).gr_gid
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except (KeyError, OSError):
        return False
    for line in status.splitlines():
        if line.startswith(("Groups:", "Gid:")) and str(group) in line.split()[1:]:
            return True
    return False


def open_listener(path: Path) -> socket.socket:
    """Listen on `path`, mode 0660 with the group powertcp, 0600 without it.

    A socket nobody answers is replaced. Raises ConfigError when somebody does, HostError.
    """
    try:
        if path.exists():
            if _answers(path):
                raise ConfigError("command line", "control", f"{path} belongs to a running daemon")
            if not stat.S_ISSOCK(path.stat().st_mode):
                raise HostError(errno.EEXIST, str(path), "make a control socket")
            path.unlink()
    except OSError as error:
        raise HostError(error.errno or 0, str(path), "make a control socket") from error
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        old = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(old)
        with suppress(KeyError, PermissionError):
            os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
            path.chmod(0o660)
        listener.listen(CLIENTS)
        listener.settimeout(0)
    except OSError as error:
        listener.close()
        # a path of more than 107 octets has no errno
        number = error.errno or errno.ENAMETOOLONG
        raise HostError(number, str(path), "make a control socket") from error
    return listener


def remove(path: Path) -> None:
    """Remove a control socket's file, if that is still allowed."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        try:
            end.connect(str(path))
        except OSError:
            return False
        return True


def ask(path: Path, request: Mapping[str, object], wait_s: float = 5.0) -> tuple[Fields, Fields]:
    """Ask a running daemon one thing, blocking; return its greeting and its answer.

    Raises OSError when nobody answers, HostError for what is no answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.settimeout(wait_s)
        end.connect(str(path))
        end.sendall(json.dumps({"id": 1, **request}).encode() + b"\n")
        with end.makefile("rb") as lines:
            greeting = _parse(lines.readline(LINE_OCTETS))
            for line in lines:
                answer = _parse(line)
                if answer is not None and answer.get("id") == 1 and greeting is not None:
                    return greeting, answer
    raise HostError(errno.EPROTO, str(path), "get an answer of a daemon")


def find_sockets(environ: Mapping[str, str], state: Path) -> list[Path]:
    """Return the control sockets of every daemon of this user and of the system."""
    places = [Path("/run/powertcp"), state.parent]
    session = environ.get("XDG_RUNTIME_DIR", "")
    if session:
        places.insert(0, Path(session) / "powertcp")
    runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if runtime:
        places.insert(0, Path(runtime))
    found: dict[Path, None] = {}
    for place in places:
        for pattern in ("*.sock", "*/*.sock"):
            with suppress(OSError):
                found.update(dict.fromkeys(sorted(place.glob(pattern))))
    return list(found)
