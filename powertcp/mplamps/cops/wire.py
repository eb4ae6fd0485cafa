"""Messages of COPS to octets and back, and out of a stream (RFC 2748 sections 2 and 3).

```
 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-------+-------+---------------+-------------------------------+
|   1   | flags |    op code    |          client type          |
+-------+-------+---------------+-------------------------------+
|                  message length, header too                   |
+-------------------------------+---------------+---------------+
|     length, header too        |     C-Num     |    C-Type     |
+-------------------------------+---------------+---------------+
|            content, padded with zeros to 4 octets             |
+---------------------------------------------------------------+
```
MPLampS section 6. Objects stand in the order of the RFC.
"""

import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from struct import Struct
from typing import Final, NamedTuple

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.mplamps.cops.messages import (
    ClientAccept,
    ClientClose,
    ClientOpen,
    Code,
    Command,
    Context,
    Decision,
    DecisionError,
    DeleteRequest,
    InnerObject,
    Interface,
    KeepAlive,
    Message,
    Operation,
    Report,
    ReportKind,
    Request,
    ServerAddress,
    SynchronizeComplete,
    SynchronizeRequest,
)
from powertcp.mplamps.power import CLASS, parse_object
from powertcp.registry import Reason
from powertcp.wire.buffer import Buffer

PORT: Final = 3288
CLIENT_TYPE: Final = 1
VERSION: Final = 1
# MPLampS section 4.10
MAX_MESSAGE: Final = 65_536
# a Handle is ours, and 4 octets; that of another PEP may be longer
MAX_HANDLE: Final = 64
# a domain name is not longer
MAX_PEP_ID: Final = 255
# an object of a PATH has at least 4 octets
MAX_INNER: Final = 256

_HEADER = Struct(">BBHI")
_OBJECT = Struct(">HBB")
_PAIR = Struct(">HH")
_INTERFACE = Struct(">II")
_SERVER = Struct(">IHH")
_WORD = 4
_SOLICITED = 1
_TRIGGER_ERROR = 1

# C-Num and C-Type
_HANDLE = 0x0101
_CONTEXT = 0x0201
_IN_INTERFACE = 0x0301
_OUT_INTERFACE = 0x0401
_REASON = 0x0501
_FLAGS = 0x0601
_REPLACEMENT = 0x0603
_ERROR = 0x0801
_INFO = 0x0901
_NAMED_INFO = 0x0902
_KEEP_ALIVE = 0x0A01
_PEP_ID = 0x0B01
_REPORT = 0x0C01
_REDIRECT = 0x0D01
_LAST_PDP = 0x0E01
_ACCOUNTING = 0x0F01
_INTEGRITY = 0x1001

# octets of content of those that have a fixed number
_SIZES = {
    _CONTEXT: _PAIR.size,
    _IN_INTERFACE: _INTERFACE.size,
    _OUT_INTERFACE: _INTERFACE.size,
    _REASON: _PAIR.size,
    _FLAGS: _PAIR.size,
    _ERROR: _PAIR.size,
    _KEEP_ALIVE: _PAIR.size,
    _REPORT: _PAIR.size,
    _REDIRECT: _SERVER.size,
    _LAST_PDP: _SERVER.size,
    _ACCOUNTING: _PAIR.size,
}


def _bad(offset: int, field: str, value: int = 0, limit: int = 0) -> DecodeError:
    return DecodeError(offset, field, Reason.BAD_OPTION, value, limit)


# ---- decoding -----------------------------------------------------------------------------------


class _Entity(NamedTuple):
    """One object: where it begins, what it is, what it holds."""

    offset: int
    code: int
    content: bytes


class _Objects:
    """The objects of a message, taken in the order of the RFC."""

    def __init__(self, octets: bytes, *, is_solicited: bool, client_type: int) -> None:
        self.is_solicited = is_solicited
        self.client_type = client_type
        self._end = len(octets)
        self._rows = list(_entities(octets))
        self._at = 0

    def peek(self) -> int:
        """Return the code of the next object, 0 if there is none."""
        return self._rows[self._at].code if self._at < len(self._rows) else 0

    def find(self, code: int) -> _Entity | None:
        """Take the next object if it is of this code."""
        if self.peek() != code:
            return None
        row = self._rows[self._at]
        self._at += 1
        size = _SIZES.get(code, len(row.content))
        if len(row.content) != size:
            raise _bad(row.offset, "length of an object", len(row.content), size)
        return row

    def take(self, code: int, field: str) -> _Entity:
        """Take the next object, which must be of this code."""
        row = self.find(code)
        if row is None:
            at = self._rows[self._at].offset if self._at < len(self._rows) else self._end
            raise DecodeError(at, field, Reason.STATE, self.peek(), code)
        return row

    def pair(self, code: int, field: str) -> tuple[int, int]:
        """Take an object of two numbers of 16 bits."""
        first, second = _PAIR.unpack(self.take(code, field).content)
        return first, second

    def handle(self) -> bytes:
        """Take the handle."""
        row = self.take(_HANDLE, "handle")
        if not 0 < len(row.content) <= MAX_HANDLE:
            raise _bad(row.offset, "handle", len(row.content), MAX_HANDLE)
        return row.content

    def server(self, code: int) -> ServerAddress | None:
        """Take the address of a PDP if it is next."""
        row = self.find(code)
        if row is None:
            return None
        address, _, port = _SERVER.unpack(row.content)
        return ServerAddress(IPv4Address(address), port)

    def info(self) -> bytes:
        """Take the signaled client information, all of it."""
        parts = []
        while row := self.find(_INFO):
            parts.append(row.content)
        return b"".join(parts)

    def finish(self) -> None:
        """Take the last object if it signs the message; nothing may be left."""
        self.find(_INTEGRITY)
        if self._at < len(self._rows):
            row = self._rows[self._at]
            raise DecodeError(row.offset, "object", Reason.UNSUPPORTED_OPTION, row.code)


def _entities(octets: bytes) -> Iterator[_Entity]:
    at, end = _HEADER.size, len(octets)
    while at < end:
        length, number, c_type = _OBJECT.unpack_from(octets, at)
        if length < _OBJECT.size or at + length > end:
            raise DecodeError(at, "length of an object", Reason.BAD_LENGTH, length, end - at)
        yield _Entity(at, number << 8 | c_type, octets[at + _OBJECT.size : at + length])
        at += length + -length % _WORD


def _request(objects: _Objects) -> Message:
    handle = objects.handle()
    context = Context(*objects.pair(_CONTEXT, "context"))
    address, link = _INTERFACE.unpack(objects.take(_IN_INTERFACE, "in interface").content)
    objects.find(_OUT_INTERFACE)
    interface = Interface(IPv4Address(address), link)
    return Request(handle=handle, context=context, interface=interface, info=objects.info())


def _decision(objects: _Objects) -> Message:
    handle, is_solicited = objects.handle(), objects.is_solicited
    if objects.peek() == _ERROR:
        error = Code(*objects.pair(_ERROR, "error"))
        return DecisionError(handle=handle, error=error, is_solicited=is_solicited)
    context = Context(*objects.pair(_CONTEXT, "context"))
    row = objects.take(_FLAGS, "decision flags")
    command, flags = _PAIR.unpack(row.content)
    if command > Command.REMOVE:
        raise _bad(row.offset, "command", command, Command.REMOVE)
    data = objects.find(_REPLACEMENT)
    return Decision(
        handle=handle,
        context=context,
        command=Command(command),
        is_error_triggered=bool(flags & _TRIGGER_ERROR),
        data=data.content if data else b"",
        is_solicited=is_solicited,
    )


def _report(objects: _Objects) -> Message:
    handle = objects.handle()
    row = objects.take(_REPORT, "report type")
    kind, _ = _PAIR.unpack(row.content)
    if not ReportKind.SUCCESS <= kind <= ReportKind.ACCOUNTING:
        raise _bad(row.offset, "report type", kind, ReportKind.ACCOUNTING)
    return Report(
        handle=handle,
        kind=ReportKind(kind),
        info=objects.info(),
        is_solicited=objects.is_solicited,
    )


def _delete(objects: _Objects) -> Message:
    handle = objects.handle()
    return DeleteRequest(handle=handle, reason=Code(*objects.pair(_REASON, "reason")))


def _synchronize(objects: _Objects) -> Message:
    return SynchronizeRequest(handle=objects.handle() if objects.peek() == _HANDLE else None)


def _complete(objects: _Objects) -> Message:
    return SynchronizeComplete(handle=objects.handle() if objects.peek() == _HANDLE else None)


def _open(objects: _Objects) -> Message:
    row = objects.take(_PEP_ID, "PEPID")
    name, zero, rest = row.content.partition(b"\0")
    is_name = name.isascii() and name.decode("latin-1").isprintable()
    if not zero or any(rest) or not is_name or not 0 < len(name) <= MAX_PEP_ID:
        raise _bad(row.offset, "PEPID", len(name), MAX_PEP_ID)
    objects.find(_NAMED_INFO)
    return ClientOpen(pep_id=name.decode("ascii"), last_pdp=objects.server(_LAST_PDP))


def _accept(objects: _Objects) -> Message:
    _, keep_alive_s = objects.pair(_KEEP_ALIVE, "keep-alive timer")
    accounting_s = None
    if objects.peek() == _ACCOUNTING:
        _, accounting_s = objects.pair(_ACCOUNTING, "accounting timer")
    return ClientAccept(keep_alive_s=keep_alive_s, accounting_s=accounting_s)


def _close(objects: _Objects) -> Message:
    error = Code(*objects.pair(_ERROR, "error"))
    redirect = objects.server(_REDIRECT)
    return ClientClose(error=error, redirect=redirect, of_all=objects.client_type == 0)


def _keep_alive(_: _Objects) -> Message:
    return KeepAlive()


_DECODERS: dict[int, Callable[[_Objects], Message]] = {
    Operation.REQUEST: _request,
    Operation.DECISION: _decision,
    Operation.REPORT: _report,
    Operation.DELETE: _delete,
    Operation.SYNCHRONIZE: _synchronize,
    Operation.OPEN: _open,
    Operation.ACCEPT: _accept,
    Operation.CLOSE: _close,
    Operation.KEEP_ALIVE: _keep_alive,
    Operation.COMPLETE: _complete,
}


def _length_at(octets: Buffer, offset: int) -> int:
    """Return the length of the message whose header is at `offset`. Raises DecodeError."""
    flags, _, _, length = _HEADER.unpack_from(octets, offset)
    if flags >> 4 != VERSION:
        raise DecodeError(0, "version", Reason.BAD_VERSION, flags >> 4, VERSION)
    if not _HEADER.size <= length <= MAX_MESSAGE or length % _WORD:
        raise DecodeError(4, "message length", Reason.BAD_LENGTH, length, MAX_MESSAGE)
    return int(length)


def decode_message(octets: Buffer) -> Message:
    """Return the message that these octets are, all of them. Raises DecodeError.

    Integrity (16) is accepted where it belongs and not verified: what is not asked for is not
    checked. Unknown and misplaced objects have code 505 and C-Num * 256 + C-Type as value, as the
    Error object with code 13 tells them.
    """
    if len(octets) < _HEADER.size:
        raise DecodeError(0, "header", Reason.BAD_LENGTH, len(octets), _HEADER.size)
    if _length_at(octets, 0) != len(octets):
        raise DecodeError(4, "message length", Reason.BAD_LENGTH, len(octets))
    flags, operation, client_type, _ = _HEADER.unpack_from(octets)
    decode = _DECODERS.get(operation)
    if decode is None:
        raise DecodeError(1, "op code", Reason.UNSUPPORTED_TYPE, operation, Operation.COMPLETE)
    # MPLA-6-03
    if client_type not in _client_types(operation):
        raise DecodeError(2, "client type", Reason.UNSUPPORTED_TYPE, client_type, CLIENT_TYPE)
    if flags & 0xF & ~_SOLICITED:
        raise _bad(0, "flags", flags & 0xF, _SOLICITED)
    is_solicited = bool(flags & _SOLICITED)
    if is_solicited and operation not in (Operation.DECISION, Operation.REPORT):
        raise _bad(0, "flags", flags & 0xF)
    objects = _Objects(bytes(octets), is_solicited=is_solicited, client_type=client_type)
    message = decode(objects)
    objects.finish()
    return message


def _client_types(operation: int) -> tuple[int, ...]:
    """Return the client types of an operation: KA is of the connection, CC may be."""
    if operation == Operation.KEEP_ALIVE:
        return (0,)
    return (CLIENT_TYPE, 0) if operation == Operation.CLOSE else (CLIENT_TYPE,)


class Splitter:
    """Messages out of the octets of a TCP connection, however they are cut."""

    def __init__(self) -> None:
        """Begin at the first octet of the connection."""
        self._buffer = bytearray()
        self._failure: DecodeError | None = None

    def receive(self, octets: Buffer) -> Iterator[bytes]:
        """Take `octets`, then yield each message that is complete, for `decode_message`.

        Of an incomplete one less than 65,536 octets are kept. Raises DecodeError after the last
        good message where a header is none, and from then on: where the next one begins is not
        known, the connection is to be closed.
        """
        self._buffer += octets
        return self._messages()

    def _messages(self) -> Iterator[bytes]:
        while self._failure is None and len(self._buffer) >= _HEADER.size:
            try:
                length = _length_at(self._buffer, 0)
            except DecodeError as error:
                self._failure = error
                break
            if len(self._buffer) < length:
                return
            message = bytes(self._buffer[:length])
            del self._buffer[:length]
            yield message
        if self._failure is not None:
            self._buffer.clear()
            raise self._failure


def inner_objects(octets: bytes) -> tuple[InnerObject, ...]:
    """Return the objects of RSVP in the info or the data of a message, ours decoded.

    Raises DecodeError for what is not whole objects, for more than 256 and for one of class 252
    that is malformed.
    """
    found: list[InnerObject] = []
    at, end = 0, len(octets)
    while at < end:
        if end - at < _OBJECT.size:
            raise DecodeError(at, "object header", Reason.BAD_LENGTH, end - at, _OBJECT.size)
        length, number, c_type = _OBJECT.unpack_from(octets, at)
        if length < _OBJECT.size or length % _WORD or at + length > end:
            raise DecodeError(at, "length of an object", Reason.BAD_LENGTH, length, end - at)
        if len(found) == MAX_INNER:
            raise DecodeError(at, "objects", Reason.LIMIT, MAX_INNER + 1, MAX_INNER)
        private = parse_object(octets[: at + length], at) if number == CLASS else None
        found.append(InnerObject(number, c_type, octets[at : at + length], private))
        at += length
    return tuple(found)


# ---- encoding -----------------------------------------------------------------------------------


def encode_message(message: Message) -> bytes:
    """Return the octets of a message.

    Raises LocalProtocolError for more than 65,536 octets and for values that do not fit.
    """
    try:
        operation, is_solicited, parts = _parts(message)
        body = b"".join(_enclose(code, content) for code, content in parts)
    except (struct.error, UnicodeEncodeError) as error:
        text = f"a value of {type(message).__name__} does not fit: {error}"
        raise LocalProtocolError(text) from error
    size = _HEADER.size + len(body)
    if size > MAX_MESSAGE:
        text = f"{operation.name} has {size:,} octets, limit {MAX_MESSAGE:,}"
        raise LocalProtocolError(text)
    is_of_all = isinstance(message, ClientClose) and message.of_all
    client_type = 0 if operation is Operation.KEEP_ALIVE or is_of_all else CLIENT_TYPE
    return _HEADER.pack(VERSION << 4 | is_solicited, operation, client_type, size) + body


def _enclose(code: int, content: bytes) -> bytes:
    head = _OBJECT.pack(_OBJECT.size + len(content), code >> 8, code & 0xFF)
    return head + content + bytes(-len(content) % _WORD)


_Parts = tuple[Operation, bool, list[tuple[int, bytes]]]


def _parts(message: Message) -> _Parts:
    """Return the operation of a message, whether it is solicited, and its objects."""
    match message:
        case ClientOpen():
            return Operation.OPEN, False, _open_parts(message)
        case ClientAccept(keep_alive_s=keep_alive_s, accounting_s=accounting_s):
            parts = [(_KEEP_ALIVE, _PAIR.pack(0, keep_alive_s))]
            if accounting_s is not None:
                parts.append((_ACCOUNTING, _PAIR.pack(0, accounting_s)))
            return Operation.ACCEPT, False, parts
        case ClientClose(error=error, redirect=redirect):
            parts = [(_ERROR, _PAIR.pack(*error)), *_server_parts(_REDIRECT, redirect)]
            return Operation.CLOSE, False, parts
        case KeepAlive():
            return Operation.KEEP_ALIVE, False, []
        case SynchronizeRequest(handle=handle):
            return Operation.SYNCHRONIZE, False, [] if handle is None else [_handle_part(handle)]
        case SynchronizeComplete(handle=handle):
            return Operation.COMPLETE, False, [] if handle is None else [_handle_part(handle)]
    operation, is_solicited, parts = _circuit_parts(message)
    return operation, is_solicited, [_handle_part(message.handle), *parts]


def _circuit_parts(
    message: Request | Decision | DecisionError | Report | DeleteRequest,
) -> _Parts:
    """Return what stands after the handle in the messages about one circuit."""
    # MPLA-6-04
    match message:
        case Request(context=context, interface=(address, link), info=info):
            parts = [
                (_CONTEXT, _PAIR.pack(*context)),
                (_IN_INTERFACE, _INTERFACE.pack(int(address), link)),
                (_INFO, info),
            ]
            return Operation.REQUEST, False, parts
        case Decision(context=context, data=data):
            flags = message.is_error_triggered * _TRIGGER_ERROR
            parts = [
                (_CONTEXT, _PAIR.pack(*context)),
                (_FLAGS, _PAIR.pack(message.command, flags)),
            ]
            if data:
                parts.append((_REPLACEMENT, data))
            return Operation.DECISION, message.is_solicited, parts
        case DecisionError(error=error):
            return Operation.DECISION, message.is_solicited, [(_ERROR, _PAIR.pack(*error))]
        case Report(kind=kind, info=info):
            parts = [(_REPORT, _PAIR.pack(kind, 0))]
            if info:
                parts.append((_INFO, info))
            return Operation.REPORT, message.is_solicited, parts
        case DeleteRequest(reason=reason):
            return Operation.DELETE, False, [(_REASON, _PAIR.pack(*reason))]


def _open_parts(message: ClientOpen) -> list[tuple[int, bytes]]:
    name = message.pep_id.encode("ascii")
    if not 0 < len(name) <= MAX_PEP_ID or not message.pep_id.isprintable():
        text = f'a PEPID has 1 to {MAX_PEP_ID} printable characters, got "{message.pep_id[:40]}"'
        raise LocalProtocolError(text)
    padded = name + bytes(_WORD - len(name) % _WORD)
    return [(_PEP_ID, padded), *_server_parts(_LAST_PDP, message.last_pdp)]


def _server_parts(code: int, server: ServerAddress | None) -> list[tuple[int, bytes]]:
    if server is None:
        return []
    return [(code, _SERVER.pack(int(server.address), 0, server.port))]


def _handle_part(handle: bytes) -> tuple[int, bytes]:
    if not 0 < len(handle) <= MAX_HANDLE:
        raise LocalProtocolError(f"a handle has 1 to {MAX_HANDLE} octets, got {len(handle)}")
    return _HANDLE, handle
