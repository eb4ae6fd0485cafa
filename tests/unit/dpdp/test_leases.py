"""Which addresses a hot spot forwards, and what nftables reads of it."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from powertcp.dpdp.leases import (
    GATHER_NS,
    MAX_ADDRESSES,
    MAX_ELEMENTS,
    SPACING_NS,
    LeasedAddresses,
    check_name,
)
from powertcp.units import NS_PER_MS, NS_PER_S

LAMP, DESK = ip_address("10.8.0.2"), ip_address("10.8.0.3")
SIX = ip_address("fd00:8::2")
NOW = 1_000 * NS_PER_S
LEASE = 10 * NS_PER_S


def spot() -> LeasedAddresses:
    return LeasedAddresses("wlan0")


def address(number: int) -> IPv4Address:
    return IPv4Address(int(ip_address("10.0.0.0")) + number)


@pytest.mark.requirement("DPDP-9-02")
def test_a_lease_lets_its_address_in_at_once_with_its_time() -> None:
    leased = spot()
    assert (leased.get_timer(), leased.changes(NOW)) == (None, "")
    assert leased.hold("a", LAMP, NOW + LEASE, NOW)
    assert leased.get_timer() == NOW
    assert "a" in leased
    later = NOW + 3 * NS_PER_MS
    assert leased.changes(later).splitlines() == [
        "add element inet powertcp leased4 { 10.8.0.2 }",
        "delete element inet powertcp leased4 { 10.8.0.2 }",
        "add element inet powertcp leased4 { 10.8.0.2 timeout 9997ms }",
    ]
    assert (leased.get_timer(), leased.changes(later)) == (None, "")


@pytest.mark.requirement("DPDP-9-02")
def test_ipv6_has_a_set_of_its_own_in_the_same_transaction() -> None:
    leased = spot()
    leased.hold("a", LAMP, NOW + LEASE, NOW)
    leased.hold("b", SIX, NOW + LEASE, NOW)
    assert leased.changes(NOW).splitlines() == [
        "add element inet powertcp leased4 { 10.8.0.2 }",
        "add element inet powertcp leased6 { fd00:8::2 }",
        "delete element inet powertcp leased4 { 10.8.0.2 }",
        "delete element inet powertcp leased6 { fd00:8::2 }",
        "add element inet powertcp leased4 { 10.8.0.2 timeout 10000ms }",
        "add element inet powertcp leased6 { fd00:8::2 timeout 10000ms }",
    ]


@pytest.mark.requirement("DPDP-9-02")
def test_renewals_wait_for_each_other_and_no_longer() -> None:
    leased = spot()
    leased.hold("a", LAMP, NOW + LEASE, NOW)
    leased.hold("b", DESK, NOW + LEASE, NOW)
    leased.changes(NOW)
    first, second = NOW + NS_PER_S, NOW + NS_PER_S + GATHER_NS // 2
    leased.hold("a", LAMP, first + LEASE, first)
    assert leased.get_timer() == first + GATHER_NS
    leased.hold("b", DESK, second + LEASE, second)
    assert leased.get_timer() == first + GATHER_NS
    *_, last = leased.changes(first + GATHER_NS).splitlines()
    assert last == (
        "add element inet powertcp leased4 { 10.8.0.2 timeout 9800ms, 10.8.0.3 timeout 9900ms }"
    )


def test_a_renewal_does_not_wait_beyond_the_end_of_what_the_kernel_has() -> None:
    leased = spot()
    leased.hold("a", LAMP, NOW + LEASE, NOW)
    leased.changes(NOW)
    late = NOW + LEASE - GATHER_NS // 4
    leased.hold("a", LAMP, late + LEASE, late)
    assert leased.get_timer() == NOW + LEASE


def test_a_lease_that_stays_as_it_was_is_no_news() -> None:
    leased = spot()
    leased.hold("a", LAMP, NOW + LEASE, NOW)
    leased.changes(NOW)
    leased.hold("a", LAMP, NOW + LEASE, NOW + 1)
    leased.hold("b", LAMP, NOW + LEASE // 2, NOW + 1)
    assert leased.get_timer() is None


@pytest.mark.requirement("DPDP-9-02")
def test_a_close_takes_the_address_out_at_once() -> None:
    leased = spot()
    leased.hold("a", LAMP, NOW + LEASE, NOW)
    leased.changes(NOW)
    then = NOW + SPACING_NS
    leased.release("a", then)
    assert leased.get_timer() == then
    assert "a" not in leased
    assert leased.changes(then).splitlines() == [
        "add element inet powertcp leased4 { 10.8.0.2 }",
        "delete element inet powertcp leased4 { 10.8.0.2 }",
    ]
    leased.release("a", then)
    assert leased.changes(then) == ""


def test_who_comes_and_goes_all_the_time_costs_ten_transactions_a_second() -> None:
    leased = spot()
    scripts, now, every = 0, NOW, NS_PER_S // 100
    while now < NOW + NS_PER_S:
        leased.hold("a", LAMP, now + LEASE, now)
        leased.release("a", now + every // 2)
        leased.hold("b", DESK, now + LEASE, now + every // 2)
        now += every
        due = leased.get_timer()
        assert due is None or due <= now + SPACING_NS
        if due is not None and due <= now:
            scripts += bool(leased.changes(now))
    assert scripts == 10


def test_who_comes_and_goes_before_anything_was_written_was_never_there() -> None:
    leased = spot()
    leased.hold("a", LAMP, NOW + LEASE, NOW)
    leased.release("a", NOW)
    assert leased.changes(NOW) == ""


@pytest.mark.requirement("DPDP-9-03")
def test_an_address_is_one_entry_until_the_last_of_its_leases_ends() -> None:
    leased = spot()
    leased.hold("a", LAMP, NOW + LEASE, NOW)
    leased.hold("b", LAMP, NOW + 2 * LEASE, NOW)
    assert len(leased) == 1
    assert "10.8.0.2 timeout 20000ms }" in leased.changes(NOW)
    leased.release("a", NOW)
    assert leased.get_timer() is None
    leased.hold("a", LAMP, NOW + LEASE, NOW)
    # what is left is shorter: the kernel is told at once
    then = NOW + SPACING_NS
    leased.release("b", then)
    assert leased.get_timer() == then
    assert "10.8.0.2 timeout 9900ms }" in leased.changes(then)
    assert len(leased) == 1


def test_a_flow_that_moves_takes_its_lease_to_another_address() -> None:
    leased = spot()
    leased.hold("a", LAMP, NOW + LEASE, NOW)
    leased.changes(NOW)
    leased.hold("a", DESK, NOW + LEASE, NOW)
    script = leased.changes(NOW)
    assert "delete element inet powertcp leased4 { 10.8.0.2, 10.8.0.3 }" in script
    assert script.endswith("add element inet powertcp leased4 { 10.8.0.3 timeout 10000ms }\n")
    assert len(leased) == 1


def test_a_lease_that_is_over_lets_nobody_in_and_takes_out_who_was() -> None:
    leased = spot()
    assert leased.hold("a", LAMP, NOW, NOW)
    assert (len(leased), leased.get_timer()) == (0, None)
    leased.hold("a", LAMP, NOW + LEASE, NOW)
    leased.changes(NOW)
    leased.hold("a", LAMP, NOW + LEASE, NOW + LEASE)
    assert len(leased) == 0
    assert leased.changes(NOW + LEASE).count("\n") == 2


@pytest.mark.requirement("DPDP-9-03")
def test_the_address_after_the_last_one_has_no_room_until_another_leaves() -> None:
    leased = spot()
    for number in range(MAX_ADDRESSES):
        assert leased.hold(number, address(number), NOW + LEASE, NOW)
    assert not leased.hold("late", LAMP, NOW + LEASE, NOW)
    assert (len(leased), leased.refused) == (MAX_ADDRESSES, 1)
    assert leased.hold("more", address(7), NOW + LEASE, NOW)
    leased.release(3, NOW)
    assert leased.hold("late", LAMP, NOW + LEASE, NOW)
    assert not leased.hold("later", SIX, NOW + LEASE, NOW)
    script = leased.changes(NOW)
    assert script.count(" timeout ") == MAX_ADDRESSES


def test_leases_that_nobody_ended_make_room_once_they_are_over() -> None:
    leased = spot()
    for number in range(MAX_ADDRESSES):
        leased.hold(number, address(number), NOW + LEASE, NOW)
    leased.changes(NOW)
    then = NOW + LEASE
    assert leased.hold("late", LAMP, then + LEASE, then)
    assert len(leased) == 1
    script = leased.changes(then)
    assert script.splitlines()[1].count("10.0.") == MAX_ADDRESSES
    assert script.endswith("{ 10.8.0.2 timeout 10000ms }\n")


@pytest.mark.requirement("DPDP-9-02")
def test_the_table_is_made_anew_in_one_script_with_whoever_has_a_lease() -> None:
    leased = LeasedAddresses("wlan0", "eth0")
    leased.hold("a", SIX, NOW + LEASE, NOW)
    leased.hold("b", LAMP, NOW + NS_PER_MS, NOW)
    assert leased.load(NOW + NS_PER_MS).splitlines() == [
        "add table inet powertcp",
        "delete table inet powertcp",
        "table inet powertcp {",
        f"set leased4 {{ type ipv4_addr; size {MAX_ELEMENTS}; flags timeout; }}",
        f"set leased6 {{ type ipv6_addr; size {MAX_ELEMENTS}; flags timeout; }}",
        "chain forward {",
        "type filter hook forward priority 0; policy accept;",
        'iifname "wlan0" oifname "eth0" ip saddr @leased4 accept',
        'oifname "wlan0" iifname "eth0" ip daddr @leased4 accept',
        'iifname "wlan0" oifname "eth0" ip6 saddr @leased6 accept',
        'oifname "wlan0" iifname "eth0" ip6 daddr @leased6 accept',
        'iifname "wlan0" drop',
        'oifname "wlan0" drop',
        "}",
        "}",
        "add element inet powertcp leased6 { fd00:8::2 timeout 9999ms }",
    ]
    assert leased.get_timer() is None
    assert leased.unload().splitlines() == [
        "add table inet powertcp", "delete table inet powertcp",
    ]  # fmt: skip


def test_any_outside_is_no_condition_of_a_rule() -> None:
    script = spot().load(NOW)
    assert 'iifname "wlan0" ip saddr @leased4 accept\n' in script
    assert 'oifname "wlan0" ip6 daddr @leased6 accept\n' in script
    # what is established would outlive its lease
    assert "ct state" not in script


def test_what_was_lost_on_its_way_is_in_the_next_table() -> None:
    leased = spot()
    leased.hold("a", LAMP, NOW + LEASE, NOW)
    leased.changes(NOW)
    leased.hold("b", IPv6Address("fd00::1"), NOW + LEASE, NOW)
    script = leased.load(NOW)
    assert re.findall(r"(\S+) timeout \d", script) == ["10.8.0.2", "fd00::1"]
    assert leased.changes(NOW) == ""


@pytest.mark.parametrize(
    "name", ["", "a" * 16, 'w"; flush ruleset #', "wlan0\n", "e 0", "../e0", "e*", "e\\", "ü"]
)
def test_what_is_no_name_of_an_interface_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="signs of ASCII"):
        check_name(name)
    with pytest.raises(ValueError, match="signs of ASCII"):
        LeasedAddresses(name)
    if name:
        with pytest.raises(ValueError, match="signs of ASCII"):
            LeasedAddresses("wlan0", name)


def test_names_of_fifteen_signs_are_taken() -> None:
    assert check_name("wlx0011223344.7") == "wlx0011223344.7"
