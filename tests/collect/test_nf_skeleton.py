"""Tables of iptables read without nft: the same as with it."""

from __future__ import annotations

import struct

import pytest

from kvmdiag.collect import netfilter, nf_skeleton
from kvmdiag.system.namespaces import entered

RULES = """\
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -i vnet0 -j NOTRACK
COMMIT
*mangle
:OUTPUT ACCEPT [0:0]
:POSTROUTING DROP [0:0]
-A OUTPUT -p tcp -j MARK --set-xmark 0x7/0xffffffff
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:OWN - [0:0]
-A POSTROUTING -j OWN
-A OWN -s 192.0.2.0/24 -m comment --comment "two words" -j MASQUERADE
COMMIT
*filter
:FORWARD DROP [0:0]
:LAST - [0:0]
:FIRST - [0:0]
-A FORWARD -i br0 -o br0 -j ACCEPT
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -j LAST
-A LAST -p tcp -m multiport --dports 80,443 -j ACCEPT
-A FORWARD -g FIRST
-A FIRST -m hashlimit --hashlimit-above 5/sec --hashlimit-name x -j DROP
COMMIT
"""


@pytest.fixture
def host(namespaces):
    """A namespace with rules of iptables in every table and both families."""
    host = namespaces("host")
    host.run("iptables-nft-restore", input=RULES)
    rules6 = RULES.replace("192.0.2.0/24", "2001:db8::/64")
    host.run("ip6tables-nft-restore", input=rules6)
    host.run("iptables-nft -D FORWARD 2")
    host.run("iptables-nft -I FORWARD 1 -i late -j ACCEPT")
    return host


def read(host):
    """All tables by family and name."""
    with entered(host.path):
        tables, _ = netfilter.read_tables("host")
    return {(table.family, table.name): table for table in tables}


def test_it_is_the_same_with_and_without_nft(host, monkeypatch):
    """Chains in their order, hooks, priorities, policies, handles, meanings, counts."""
    with monkeypatch.context() as patched:
        patched.setattr(nf_skeleton, "FAMILIES", {})
        expected = read(host)
    asked = []
    run = netfilter.run
    monkeypatch.setattr(netfilter, "run", lambda argv: asked.append(argv[0]) or run(argv))
    assert read(host) == expected
    assert asked
    assert "nft" not in asked
    assert len(expected) == 8
    assert all(rule.handle for table in expected.values() for c in table.chains for rule in c.rules)


@pytest.mark.parametrize(
    "command",
    [
        "nft add set ip filter s { type ipv4_addr; }",
        "nft add table inet other",
        "nft add table ip own",
        "nft add rule ip filter FORWARD ip daddr 192.0.2.9 counter meta mark set 7 drop",
    ],
)
def test_anything_else_is_for_nft_to_tell(host, monkeypatch, command):
    """Sets, other tables and families, rules that iptables does not explain."""
    host.run(command)
    asked = []
    run = netfilter.run
    monkeypatch.setattr(netfilter, "run", lambda argv: asked.append(argv[0]) or run(argv))
    assert read(host)
    assert "nft" in asked


def test_a_hook_of_another_kind_is_for_nft_to_tell(monkeypatch):
    """And is never taken for one of iptables'."""

    class Kernel:
        def __init__(self, protocol):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def dump(self, kind, _):
            return [odd] if kind & 0xFF == 4 else []

    def attribute(kind, value):
        return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)

    hook = attribute(1, struct.pack(">I", 5)) + attribute(2, struct.pack(">i", -300))
    odd = bytes(4) + attribute(1, b"filter\0") + attribute(3, b"c\0") + attribute(4, hook)
    monkeypatch.setattr(nf_skeleton, "Netlink", Kernel)
    assert nf_skeleton.skeleton({("ip", "filter")}) is None
