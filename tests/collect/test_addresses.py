"""Addresses, policy rules, neighbours and sysctls: set with ip, found in the snapshot."""

from __future__ import annotations

import re

import pytest

from kvmdiag.model.stack import Address

from .reading import read


def policy(host, priority):
    """The only rule of that priority."""
    (found,) = (rule for rule in read(host).policy_rules if rule.priority == priority)
    return found


def test_addresses_in_the_kernels_order(host):
    """Primary and secondary, scopes, far ends, both versions."""
    host.ip(
        "link add br0 type bridge",
        "addr add 192.0.2.1/24 dev br0",
        "addr add 192.0.2.2/24 dev br0",
        "addr add 198.51.100.1 peer 198.51.100.9/32 dev br0 scope link",
        "addr add 2001:db8::1/64 dev br0 nodad",
    )
    found = read(host).addresses
    shown = host.run("ip -o addr").stdout
    assert [a.address for a in found] == re.findall(r"inet6? ([0-9a-f.:]+)", shown)
    assert set(found) == {
        Address(link="br0", address="192.0.2.1", prefix_length=24),
        Address(link="br0", address="192.0.2.2", prefix_length=24, secondary=True),
        Address(
            link="br0", address="198.51.100.1", prefix_length=32, scope="link", peer="198.51.100.9"
        ),
        Address(link="br0", address="2001:db8::1", prefix_length=64, flags=frozenset({"nodad"})),
    }


def test_the_rules_every_namespace_has(host):
    """local, main and default, and what IPv6 has of them."""
    rules = read(host).policy_rules
    assert [(r.version, r.priority, r.table) for r in rules] == [
        (4, 0, 255),
        (4, 32766, 254),
        (4, 32767, 253),
        (6, 0, 255),
        (6, 32766, 254),
    ]


def test_a_rule_with_all_its_selectors(host):
    """Each of them is understood."""
    host.ip(
        "rule add pref 100 from 10.0.0.0/8 to 192.0.2.0/24 iif a0 oif b0 fwmark 0x1/0xff tos 0x10"
        " ipproto tcp sport 1000-2000 dport 80 lookup 1000"
    )
    rule = policy(host, 100)
    assert (rule.source, rule.destination, rule.iif, rule.oif) == (
        "10.0.0.0/8",
        "192.0.2.0/24",
        "a0",
        "b0",
    )
    assert (rule.fwmark, rule.fwmask, rule.tos, rule.protocol) == (1, 0xFF, 0x10, "tcp")
    assert (rule.source_ports, rule.destination_ports) == ((1000, 2000), (80, 80))
    assert (rule.action, rule.table, rule.unknown) == ("lookup", 1000, ())


def test_rules_that_do_something_else(host):
    """Inverted, refusing, jumping, or ignoring a default route."""
    host.ip(
        "rule add pref 100 not from 10.0.0.0/8 lookup 77 suppress_prefixlength 0",
        "rule add pref 101 goto 32766",
        "rule add pref 102 from 10.0.0.1 prohibit",
    )
    host.run("ip -6 rule add pref 103 from 2001:db8::/32 blackhole")
    inverted = policy(host, 100)
    assert (inverted.invert, inverted.suppress_prefix_length, inverted.unknown) == (True, 0, ())
    assert (policy(host, 101).action, policy(host, 101).goto) == ("goto", 32766)
    assert (policy(host, 102).action, policy(host, 102).table) == ("prohibit", None)
    assert (policy(host, 103).action, policy(host, 103).version) == ("blackhole", 6)


def test_selectors_that_are_not_understood_are_named(host):
    """Such a rule may or may not apply."""
    host.ip("rule add pref 100 uidrange 0-100 lookup 77")
    assert policy(host, 100).unknown == ("uidrange",)


def test_neighbours_of_both_versions(router):
    """Their MAC and their state; those answered for others are marked."""
    router.ip(
        "neigh add 192.0.2.7 lladdr 02:00:00:00:00:07 dev br0 nud permanent",
        "neigh add 2001:db8::7 lladdr 02:00:00:00:00:07 dev br0 nud stale",
        "neigh add proxy 192.0.2.77 dev br0",
    )
    found = {
        (n.address, n.mac, n.state, n.proxy) for n in read(router).neighbours if n.link == "br0"
    }
    assert found == {
        ("192.0.2.7", "02:00:00:00:00:07", "permanent", False),
        ("2001:db8::7", "02:00:00:00:00:07", "stale", False),
        ("192.0.2.77", None, "none", True),
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.conf.br0.forwarding", "1"),
        ("net.ipv4.conf.all.rp_filter", "2"),
        ("net.ipv4.conf.br0.arp_ignore", "8"),
        ("net.ipv4.icmp_echo_ignore_all", "1"),
        ("net.ipv6.conf.br0.disable_ipv6", "1"),
        ("net.ipv4.fib_multipath_hash_policy", "1"),
    ],
)
def test_sysctls_are_those_of_the_namespace(router, name, value):
    """Not of the namespace the program was started in."""
    assert read(router).sysctls[name] != value
    router.sysctl(name, value)
    assert read(router).sysctls[name] == value
