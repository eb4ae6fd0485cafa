"""Whatever happens, the kernel forwards who holds a lease and nobody else, by a model of its set."""

import re
from ipaddress import ip_address

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from powertcp.dpdp.leases import GATHER_NS, SPACING_NS, Address, LeasedAddresses
from powertcp.units import NS_PER_MS, NS_PER_S, Instant

NOW = 1_000 * NS_PER_S
ADDRESSES = [ip_address(text) for text in ("10.8.0.2", "10.8.0.3", "fd00::2", "fd00::3")]
# (what, flow, address, lease in ms, time that passes in ms)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("hold", "hold", "release", "wait", "reload")),
        st.integers(0, 5),
        st.sampled_from(ADDRESSES),
        st.integers(1, 5_000),
        st.integers(0, 400),
    ),
    max_size=60,
)


class Kernel:
    """A set with time-outs, as nftables has it: a transaction is done whole, or raises."""

    def __init__(self) -> None:
        self.ends: dict[Address, Instant] = {}

    def take(self, script: str, now: Instant) -> None:
        ends = {one: end for one, end in self.ends.items() if end > now}
        if "delete table" in script:
            ends = {}
        for verb, body in re.findall(
            r"^(add|delete) element \S+ \S+ \S+ \{ (.*) \}$", script, re.M
        ):
            for text, _, time_out in re.findall(r"([0-9a-f.:]+)( timeout (\d+)ms)?", body):
                address = ip_address(text)
                if verb == "delete":
                    del ends[address]
                else:
                    # an add of what is there changes nothing
                    until = now + int(time_out) * NS_PER_MS if time_out else 1 << 62
                    ends.setdefault(address, until)
        self.ends = ends


@pytest.mark.requirement("DPDP-9-02")
@given(STEPS)
def test_who_holds_a_lease_is_forwarded_and_nobody_else(
    steps: list[tuple[str, int, Address, int, int]],
) -> None:
    leased, kernel, now = LeasedAddresses("wlan0"), Kernel(), NOW
    truth: dict[int, tuple[Address, Instant]] = {}
    changed: dict[Address, Instant] = dict.fromkeys(ADDRESSES, NOW)
    for what, flow, address, lease_ms, pass_ms in steps:
        if what == "hold":
            until = now + lease_ms * NS_PER_MS
            leased.hold(flow, address, until, now)
            if flow in truth:
                changed[truth[flow][0]] = now
            truth[flow], changed[address] = (address, until), now
        elif what == "release" and flow in truth:
            leased.release(flow, now)
            changed[truth.pop(flow)[0]] = now
        elif what == "reload":
            kernel.take(leased.load(now), now)
        later = now + pass_ms * NS_PER_MS
        while (due := leased.get_timer()) is not None and due <= later:
            now = max(now, due)
            kernel.take(leased.changes(now), now)
            event("told the kernel")
        now = later
        for one in ADDRESSES:
            end = max((until for at, until in truth.values() if at == one), default=0)
            said = kernel.ends.get(one, 0)
            # never longer than the lease, but for the time in which a close is on its way
            if now - changed[one] > SPACING_NS:
                assert said <= max(end, now)
            if now - changed[one] > SPACING_NS + GATHER_NS and end > now:
                assert said > now - NS_PER_MS
        assert all(end < 1 << 62 for end in kernel.ends.values())
