"""Tables of iptables read without nft: the same as with it."""

from __future__ import annotations

import socket
import struct
from contextlib import contextmanager

import pytest

from kvmdiag.collect.kernel.attributes import attribute
from kvmdiag.collect.netfilter import programs as nf_programs
from kvmdiag.collect.netfilter import skeleton as nf_skeleton
from kvmdiag.collect.netfilter import tables as netfilter
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
    with asked_of_nft(monkeypatch) as asked:
        assert read(host) == expected
    assert asked == []
    assert len(expected) == 8
    assert all(rule.handle for table in expected.values() for c in table.chains for rule in c.rules)


@contextmanager
def asked_of_nft(monkeypatch):
    """A list that fills with what nft is asked."""
    asked = []
    run = nf_programs.run

    def noted(argv):
        if argv[0] == "nft":
            asked.append(" ".join(argv[2:]))
        return run(argv)

    with monkeypatch.context() as patched:
        patched.setattr(nf_programs, "run", noted)
        yield asked


@pytest.mark.parametrize(
    ("command", "table"),
    [
        ("nft add set ip filter s { type ipv4_addr; }", "ip filter"),
        ("nft add table inet other", "inet other"),
        ("nft add table ip own", "ip own"),
        (
            "nft add rule ip filter FORWARD ip daddr 192.0.2.9 counter meta mark set 7 drop",
            "ip filter",
        ),
    ],
)
def test_anything_else_is_for_nft_to_tell(host, monkeypatch, command, table):
    """Sets, other tables and families, rules that iptables does not explain; and nothing more."""
    host.run(command)
    with monkeypatch.context() as patched:
        patched.setattr(nf_skeleton, "FAMILIES", {})
        expected = read(host)
    with asked_of_nft(monkeypatch) as asked:
        assert read(host) == expected
    assert [one for one in asked if not one.startswith("-f")] == [f"list table {table}"]


def test_tables_have_the_order_nft_lists_them_in(host):
    """Whoever told of them: that of the kernel."""
    for command in ("add table inet b", "add table ip z", "add table inet a", "add table arp c"):
        host.run(f"nft {command}")
    with entered(host.path):
        tables, _ = netfilter.read_tables("host")
    listing = host.run("nft list tables").stdout.splitlines()
    assert [f"table {table.family} {table.name}" for table in tables] == listing


def test_many_tables_are_asked_for_at_once(host, monkeypatch):
    """A program for each would take longer."""
    for number in range(9):
        host.run(f"nft add table inet t{number}")
    with asked_of_nft(monkeypatch) as asked:
        tables = read(host)
    assert asked == ["list ruleset"]
    assert len(tables) == 17
    assert all(rule.handle for table in tables.values() for c in table.chains for rule in c.rules)


def test_a_name_that_is_a_command_is_never_one(host, monkeypatch):
    """The kernel takes any name, and the owner of a container chooses it."""
    name = b"x; flush ruleset"
    new_table = (10 << 8) | 0
    batch_begin, batch_end = 16, 17

    def message(kind, flags, body):
        return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body

    head = struct.pack(">BBH", 0, 0, 10)
    table = struct.pack(">BBH", 2, 0, 0) + attribute(1, name + b"\0")
    with entered(host.path), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as kernel:
        kernel.bind((0, 0))
        kernel.send(
            message(batch_begin, 1, head)
            + message(new_table, 0x401, table)
            + message(batch_end, 1, head)
        )
    with asked_of_nft(monkeypatch) as asked:
        tables = read(host)
    assert ("ip", name.decode()) in tables
    assert asked == ["list ruleset"]
    assert len(tables) == 9


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

        each = dump

    hook = attribute(1, struct.pack(">I", 5)) + attribute(2, struct.pack(">i", -300))
    odd = bytes(4) + attribute(1, b"filter\0") + attribute(3, b"c\0") + attribute(4, hook)
    monkeypatch.setattr(nf_skeleton, "Netlink", Kernel)
    assert nf_skeleton.skeletons([("ip", "filter")]) == {}
