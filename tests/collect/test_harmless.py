"""Reading changes nothing, whatever is there and whatever is not."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.system.namespaces import THREAD_NETNS, identity

_STATE = (
    "ip -d link",
    "ip addr",
    "ip route show table all",
    "ip -6 route show table all",
    "ip rule",
    "ip -6 rule",
    "ip neigh",
    "ip nexthop",
    "ip netns list-id",
    "bridge fdb",
    "bridge vlan",
    "bridge mdb",
    "tc qdisc",
    "nft -s list ruleset",
    # What the kernel itself hangs in, where it tells.
    "nft list hooks",
    "ipset save",
    "sysctl -a --pattern ^net",
    "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names /proc/net/arp_tables_names",
    "cat /proc/net/nf_conntrack_expect",
    "ethtool -k vnet0",
    "cat /proc/modules",
    "ls /sys/module",
    "ss -lntup",
)
# One after the other in one process, which takes a while to start.
_KVMDIAG = """
import sys
from kvmdiag.commands.main import main
sys.exit(not all(main(words.split()) in (0, 1, 3) for words in sys.argv[1:]))
"""
# A bridge's timers run by themselves, and groups are joined when the kernel finds the time.
_PASSING = re.compile(r"\w+_timer +\S+|nf_conntrack_count = \d+")


def _state(namespace):
    """What the programs print, line by line, so that a failure shows what has changed."""
    script = "\n".join(f"{command} 2>/dev/null | sed 's|^|{command}: |'" for command in _STATE)
    printed = namespace.run(["sh", "-c", script]).stdout
    return [_PASSING.sub("", line) for line in printed.splitlines()]


@pytest.fixture
def cabled(namespaces, eventually):
    """A host with a bridge and a guest 192.0.2.2 on it; no rules of any kind, nothing tracked."""
    host, guest = namespaces("host"), namespaces("guest")
    host.cable("vnet0", guest, "eth0")
    # IPv6 does things by itself, and the state of a link follows a little later.
    for namespace in (host, guest):
        namespace.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    host.ip(
        "link add br0 up type bridge",
        "link set br0 address 02:00:00:00:00:01",
        "link set vnet0 master br0 up",
        "addr add 192.0.2.1/24 dev br0",
    )
    guest.ip(
        "link set eth0 address 02:00:00:00:00:02 up",
        "addr add 192.0.2.2/24 dev eth0",
        "route add default via 192.0.2.1",
    )
    eventually(lambda: guest.run("ping -c1 -W1 192.0.2.1", check=False).returncode == 0, "no link")
    eventually(
        lambda: (
            host.run("ip -br link show br0").stdout.split()[1] == "UP"
            and host.run("ip -br link show vnet0").stdout.split()[1] == "UP"
            and guest.run("ip -br link show eth0").stdout.split()[1] == "UP"
        ),
        "the links never came up",
    )
    # Neighbours and FDB entries grow old; these stay.
    host.ip("neigh replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev br0")
    guest.ip("neigh replace 192.0.2.1 lladdr 02:00:00:00:00:01 dev eth0")
    return host, guest


def _with_rules_of_every_kind(host):
    host.run("iptables-nft -t nat -A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE")
    host.run("ip6tables-nft -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT")
    host.run("iptables-legacy -A INPUT -i lo -j ACCEPT")
    host.run("ebtables-nft -A FORWARD -p ARP -j ACCEPT")
    host.run("ipset create allowed hash:ip")
    host.run("ipset add allowed 192.0.2.9")
    host.run("iptables-nft -A FORWARD -m set --match-set allowed src -j ACCEPT")
    host.run("nft add table inet mine")
    host.run("nft add set inet mine ports { type inet_service; elements = { 22, 80 }; }")
    host.run("nft add table netdev early")
    host.run("tc qdisc add dev vnet0 clsact")


@pytest.mark.parametrize("rules", [False, True], ids=["no rules", "rules of every kind"])
def test_nothing_is_different_afterwards(cabled, rules):
    """Links, addresses, rulesets, hooks, sysctls, modules, and which legacy tables there are.

    After ``snapshot`` and ``check``, with a path that is named and without.
    """
    host, guest = cabled
    if rules:
        _with_rules_of_every_kind(host)
    before = _state(host), _state(guest)
    commands = ("snapshot -o /dev/null", "check", f"check {guest.name} 198.51.100.9")
    host.run([sys.executable, "-c", _KVMDIAG, *commands], timeout=60)
    after = _state(host), _state(guest)
    for one, other in zip(before, after, strict=True):
        assert sorted(set(one) ^ set(other)) == []
        assert len(one) == len(other)
    legacy = "filter\n" if rules else ""
    assert host.run("cat /proc/net/ip_tables_names").stdout == legacy
    # A packet is tracked where a rule asks for it, and nowhere else.
    assert guest.run("ping -c1 -W2 192.0.2.1").returncode == 0
    count = host.run("cat /proc/sys/net/netfilter/nf_conntrack_count").stdout
    assert (int(count) > 0) is rules


def test_the_thread_is_where_it_was(namespaces):
    """After having been in every namespace."""
    here = identity(THREAD_NETNS)
    collect(Scope(host=namespaces("host").path, libvirt=False))
    assert identity(THREAD_NETNS) == here
    assert Path("/proc/self/ns/net").samefile(THREAD_NETNS)
