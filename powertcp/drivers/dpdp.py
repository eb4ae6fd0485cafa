"""The door of python-zeroconf: its own thread, its caches, its names. Nothing here knows of trio.

Every method may wait: call them in a worker thread, where no event loop runs, and so the resolver
starts its own. What it tells, it tells in threads of its own. Import this in a worker thread too:
it takes 0.2 s.
"""

import errno
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import zeroconf
from zeroconf import DNSQuestionType, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from powertcp.dpdp.entry import Address, Service
from powertcp.drivers.sightings import Own, Sighting
from powertcp.errors import HostError

VERIFY_S = 1.8  # an answer counts for 2 s, and passes through two threads
PROBE_S = 0.5
REGISTER_S = 2.0  # what registering takes at the most, after the probe
LATE_MS = 150  # for what an answer left out
# a hall of 500 providers answers one question within 0.1 s, over IPv4 and IPv6, twice what it says
HEARD_OCTETS = 1 << 20
# RFC 6762, section 10.2: for 1 s what a host said before is not over
FLUSH_S = 1.1
MAX_MOVED = 2048  # hosts that are looked at once more: a table full
# an answer to one address may reach another program that has the port as well
_MULTICAST = DNSQuestionType.QM
_CLASS_IN = 1
_TYPE_A, _TYPE_PTR, _TYPE_TXT, _TYPE_AAAA, _TYPE_SRV = 1, 12, 16, 28, 33
_QUERY = 0
_MOST_LABEL = 63
_log = logging.getLogger("dpdp")
# it warns of what we say ourselves, or what is no fault
logging.getLogger("zeroconf").setLevel(logging.CRITICAL)


class Resolver:
    """One instance of zeroconf on some interfaces: browses, resolves, announces."""

    def __init__(self, speakers: Sequence[str | int], tell: Callable[[Sighting], None]) -> None:
        """Begin to listen; `tell` is called in other threads. Raises HostError."""
        self._tell = tell
        self._own: dict[str, ServiceInfo] = {}  # by kind
        self._wanted: set[str] = set()  # kinds; one that leaves it while it is probed is taken back
        self._busy = threading.Lock()  # held by who registers
        self._lock = threading.Lock()  # of the two below: who browses may be late
        self._browser: ServiceBrowser | None = None
        self._is_closed = False
        try:
            self._zc = Zeroconf(interfaces=list(speakers))
        except (zeroconf.Error, OSError, RuntimeError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) else None
            raise HostError(number or errno.EIO, "UDP port 5353", "speak mDNS") from error
        self._listen_well()

    def close(self) -> None:
        """Say goodbye for what is announced, and end; 0.4 s, 2 s more while it is being announced."""
        with self._lock:
            self._is_closed = True
            browser, self._browser = self._browser, None
        if browser is not None:
            # its thread outlives the resolver otherwise
            with suppress(zeroconf.Error, OSError, RuntimeError):
                browser.cancel()
        # whoever registers waits 10 s for an answer of a resolver that is closed
        if self._busy.acquire(timeout=REGISTER_S):
            self._busy.release()
        with suppress(zeroconf.Error, OSError, RuntimeError):
            self._zc.close()

    def set_speakers(self, speakers: Sequence[str | int]) -> None:
        """Speak on other interfaces. Raises HostError."""
        try:
            self._zc.update_interfaces(list(speakers))
        except (zeroconf.Error, OSError, RuntimeError) as error:
            raise _host_error(error, "speak on other interfaces") from error
        self._listen_well()

    def _listen_well(self) -> None:
        """Let a burst of answers wait in the kernel: what is lost is asked for again seconds later.

        The kernel gives as much of it as it gives anybody.
        """
        for reader in tuple(self._zc.engine.readers):
            with suppress(OSError):
                reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, HEARD_OCTETS)

    # -- browsing ------------------------------------------------------------------------------

    def browse(self, kinds: Sequence[str], *, is_passive: bool) -> None:
        """Tell of every instance of `kinds`; without a query if `is_passive`. Closed, of none."""
        with self._lock:
            if self._is_closed:
                return
            self._zc.add_listener(_Hearer(self._zc, kinds, self._see, is_alone=is_passive), None)
            # DPDP-7-06
            if not is_passive:
                self._browser = ServiceBrowser(
                    self._zc, list(kinds), handlers=[self._heed], question_type=_MULTICAST
                )

    def _heed(
        self,
        zeroconf: Zeroconf,
        service_type: str,
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        self._see(service_type, name, is_gone=state_change is ServiceStateChange.Removed)

    def _see(self, kind: str, name: str, *, is_gone: bool) -> None:
        """Tell of one name; a stranger chose it, so that nothing it causes ends the thread."""
        try:
            info = ServiceInfo(kind, name)
            is_whole = not is_gone and info.load_from_cache(self._zc)
            self._tell(
                Sighting(kind, info.get_name(), _service(info) if is_whole else None, is_gone)
            )
        except (zeroconf.Error, ValueError, OSError) as error:
            _log.debug("%r: %s", name, error)

    def names(self, kinds: Sequence[str]) -> list[tuple[str, str]]:
        """Return (kind, instance) of everything in the cache."""
        return [
            (kind, record.alias.removesuffix(f".{kind}"))
            for kind in kinds
            for record in self._zc.cache.entries_with_name(kind)
            if isinstance(record, zeroconf.DNSPointer)
        ]

    def resolve(self, kind: str, instance: str, most_ms: int) -> Service | None:
        """Ask for what is missing of an instance; None when nothing answered in time."""
        return self._ask(kind, instance, lambda info: info.request(self._zc, most_ms, _MULTICAST))

    def recall(self, kind: str, instance: str) -> Service | None:
        """Return what the cache holds of an instance, if that is anything; asks nobody."""
        return self._ask(
            kind, instance, lambda info: bool(info.load_from_cache(self._zc) or info.port)
        )

    def _ask(self, kind: str, instance: str, ask: Callable[[ServiceInfo], bool]) -> Service | None:
        try:
            info = ServiceInfo(kind, f"{instance}.{kind}")
            return _service(info) if ask(info) else None
        except (zeroconf.Error, ValueError, OSError, AssertionError) as error:
            _log.debug("%r: %s", instance, error)
            return None

    # DPDP-4-05
    def verify(self, kind: str, instance: str) -> Service | None:
        """Ask once whether an instance is still there, whatever the cache says; within 2 s."""
        is_there = self._answers(f"{instance}.{kind}", VERIFY_S)
        return self.resolve(kind, instance, LATE_MS) if is_there else None

    def _answers(self, name: str, wait_s: float) -> bool:
        """Return whether somebody announces `name` when all are asked."""
        fresh = _Fresh(name)
        self._zc.add_listener(fresh, None)
        try:
            out = zeroconf.DNSOutgoing(_QUERY)
            for kind in (_TYPE_SRV, _TYPE_TXT):
                out.add_question(zeroconf.DNSQuestion(name, kind, _CLASS_IN))
            self._zc.send(out)
            return fresh.heard.wait(wait_s)
        except (zeroconf.Error, ValueError) as error:
            _log.debug("%r: %s", name, error)
            return False
        finally:
            self._zc.remove_listener(fresh)

    # -- announcing ----------------------------------------------------------------------------

    def register(self, own: Own) -> bool:
        """Probe and announce; 1.7 s. Returns False when the name is taken. Raises HostError.

        What is unregistered meanwhile is not announced, or taken back.
        """
        info = _info(own)
        self._wanted.add(own.kind)
        # the answer to a probe goes to one program of those that share the port on this host
        if self._answers(info.name, PROBE_S):
            return False
        with self._busy:
            if own.kind not in self._wanted or self._is_closed:
                return True
            try:
                self._zc.register_service(info)
            except (zeroconf.NonUniqueNameException, zeroconf.ServiceNameAlreadyRegistered):
                return False
            except (zeroconf.Error, OSError, RuntimeError) as error:
                raise _host_error(error, "announce power") from error
        self._own[own.kind] = info
        if own.kind not in self._wanted:
            self.unregister(own.kind)
        return True

    def update(self, own: Own) -> None:
        """Announce other values under the same name. Raises HostError."""
        info = _info(own)
        try:
            self._zc.update_service(info)
        except (zeroconf.Error, OSError, RuntimeError, KeyError) as error:
            raise _host_error(error, "announce power") from error
        self._own[own.kind] = info

    def readdress(self, kind: str, addresses: Sequence[str]) -> None:
        """Answer with other addresses from now on; does not wait."""
        if info := self._own.get(kind):
            info.addresses = list(addresses)

    def unregister(self, kind: str) -> None:
        """Begin to say goodbye, which goes on for 0.3 s. Raises HostError."""
        self._wanted.discard(kind)
        info = self._own.pop(kind, None)
        if info is None:
            return
        try:
            self._zc.unregister_service(info)
        except (zeroconf.Error, OSError, RuntimeError, KeyError) as error:
            raise _host_error(error, "say goodbye") from error

    # DPDP-5-02
    def under(self, kind: str, instance: str) -> list[tuple[bytes, int, str]]:
        """Return (TXT, port, host) of every record that others gave this name, ours included."""
        name = f"{instance}.{kind}"
        cache = self._zc.cache
        texts = cache.get_all_by_details(name, _TYPE_TXT, _CLASS_IN)
        places = cache.get_all_by_details(name, _TYPE_SRV, _CLASS_IN)
        found = [each for each in places if isinstance(each, zeroconf.DNSService)]
        port, host = (found[-1].port, found[-1].server) if found else (0, "")
        return [(each.text, port, host) for each in texts if isinstance(each, zeroconf.DNSText)]


class _Hearer(zeroconf.RecordUpdateListener):
    """Hears of TXT records and addresses that go, which a browser does not tell; if alone, of all."""

    def __init__(
        self, zc: Zeroconf, kinds: Sequence[str], see: Callable[..., None], *, is_alone: bool
    ) -> None:
        super().__init__()
        self._kinds, self._see, self._zc, self._is_alone = tuple(kinds), see, zc, is_alone
        self._changed: dict[tuple[str, str], None] = {}
        self._gone: dict[tuple[str, str], None] = {}
        self._moved: set[str] = set()  # hosts some of whose addresses go
        self._looked: set[str] = set()  # those that are looked at soon

    def async_update_records(
        self, zc: Zeroconf, now: float, records: list[zeroconf.RecordUpdate]
    ) -> None:
        """Note what is said; the cache has it when `async_update_records_complete` is called."""
        for update in records:
            record = update.new
            is_over = record.is_expired(now)
            if isinstance(record, zeroconf.DNSPointer):
                if self._is_alone and record.name in self._kinds:
                    (self._gone if is_over else self._changed)[record.name, record.alias] = None
                continue
            if record.type in (_TYPE_A, _TYPE_AAAA):
                if is_over or update.old is None:
                    self._moved.add(record.key)
                continue
            for kind in self._kinds:
                if not record.name.endswith(f".{kind}"):
                    continue
                if not is_over and self._is_alone:
                    self._changed[kind, record.name] = None
                elif is_over and record.type == _TYPE_TXT:
                    self._gone[kind, record.name] = None

    def async_update_records_complete(self) -> None:
        """Tell of it."""
        changed, self._changed = self._changed, {}
        gone, self._gone = self._gone, {}
        for kind, name in changed:
            self._see(kind, name, is_gone=False)
        for kind, name in gone:
            # another value may have taken its place
            if self._zc.cache.get_by_details(name, _TYPE_TXT, _CLASS_IN) is None:
                self._see(kind, name, is_gone=True)
        moved, self._moved = self._moved, set()
        for host in moved - self._looked:
            self._look_later(host)

    # DPDP-8-04
    def _look_later(self, host: str) -> None:
        """Look at a host once more when what it does not say any more is over."""
        loop, cache = self._zc.loop, self._zc.cache
        if loop is None or len(self._looked) >= MAX_MOVED or not cache.entries_with_server(host):
            return
        self._looked.add(host)
        loop.call_later(FLUSH_S, self._look, host)

    def _look(self, host: str) -> None:
        self._looked.discard(host)
        now = zeroconf.current_time_millis()
        kept = self._zc.cache.entries_with_name(host)
        if any(each.ttl <= FLUSH_S and not each.is_expired(now) for each in kept):
            # it was told again, and what is not said any more goes on for 1 s more
            self._look_later(host)
        for record in self._zc.cache.entries_with_server(host):
            for kind in self._kinds:
                if record.name.endswith(f".{kind}"):
                    self._see(kind, record.name, is_gone=False)


class _Fresh(zeroconf.RecordUpdateListener):
    """Hears whether somebody says that an instance is there."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.heard = threading.Event()
        self._name = name.lower()

    def async_update_records(
        self, zc: Zeroconf, now: float, records: list[zeroconf.RecordUpdate]
    ) -> None:
        if any(
            update.new.key == self._name
            and update.new.type in (_TYPE_SRV, _TYPE_TXT)
            and not update.new.is_expired(now)
            for update in records
        ):
            self.heard.set()

    def async_update_records_complete(self) -> None:
        pass


def _service(info: ServiceInfo) -> Service:
    port = info.port or 0
    return Service(
        instance=info.get_name(),
        kind=info.type,
        host=info.server or "",
        port=port,
        addresses=tuple(
            address
            for text in info.parsed_scoped_addresses()
            if (address := _address(text, port)) is not None
        ),
        txt=info.text or b"",
    )


# DPDP-8-03
def _address(text: str, port: int) -> Address | None:
    """Return an address with the name of its interface, None for a useless one."""
    host, _, index = text.partition("%")
    if not host.lower().startswith("fe80:"):
        return Address(host, "", port)
    try:
        return Address(host, socket.if_indextoname(int(index)), port)
    except (ValueError, OSError):
        return None


def _info(own: Own) -> ServiceInfo:
    return ServiceInfo(
        own.kind,
        f"{own.instance}.{own.kind}",
        own.port,
        properties=own.txt,
        server=own.host,
        parsed_addresses=list(own.addresses),
    )


def _host_error(error: Exception, wanted: str) -> HostError:
    number = error.errno if isinstance(error, OSError) else None
    return HostError(number or errno.ETIMEDOUT, "mDNS", wanted)
