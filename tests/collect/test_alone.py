"""Each source stands alone: what one does not tell is a gap, and everything else is there."""

from __future__ import annotations

import socket

import msgspec
import pytest

from kvmdiag.collect import snapshot as snapshots
from kvmdiag.collect import stack as stacks
from kvmdiag.collect.kernel import generic
from kvmdiag.collect.netfilter import programs as nf_programs
from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.diagnose.difference import changes
from kvmdiag.model.codec import load, save
from kvmdiag.system.namespaces import entered
from kvmdiag.system.netlink import Netlink
from kvmdiag.system.programs import Completed, ProgramMissing, ProgramTimeout, run

# How a source of the kernel's fails, and what is said of it.
KERNEL_FAILURES = {
    "not permitted": (PermissionError(1, "Operation not permitted"), "permitted"),
    "timed out": (TimeoutError("timed out"), "timed out"),
    "failed": (OSError(12, "Cannot allocate memory"), "allocate"),
}

# Each dump of rtnetlink, by its number, with the facts that it alone tells.
DUMPS = {
    "link": (18, {"links", "addresses", "routes", "neighbours", "fdb", "sysctls", "nexthops"}),
    "address": (22, {"addresses"}),
    "route": (26, {"routes"}),
    "neighbour, proxy, fdb": (30, {"neighbours", "fdb", "tunnels"}),
    "rule": (34, {"policy_rules"}),
    "qdisc": (38, {"qdiscs", "filters"}),
    "mdb": (86, {"mdb"}),
    "stats": (94, {"counters of links"}),
    "nexthop": (106, {"nexthops"}),
}
READERS = {
    "offloads": (generic, "read_offloads", {"offloads"}),
    "wireless": (generic, "read_wireless", {"wireless"}),
    "tc filters": (stacks, "read_filters", {"filters"}),
    "sysctls": (stacks, "read_sysctls", {"sysctls"}),
    "sockets": (stacks, "read_sockets", {"sockets"}),
    "links of sockets": (stacks, "read_bound", {"links of sockets"}),
    "conntrack": (stacks, "read_conntrack", {"conntrack"}),
    "counters": (stacks, "read_counters", {"counters"}),
}


@pytest.fixture(scope="module")
def host(shared_namespaces):
    """A namespace with something for every source to tell."""
    host = shared_namespaces("host")
    # IPv6 does things by itself, when it likes.
    host.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    host.ip(
        "link set lo up",
        "link add br0 up type bridge",
        "addr add 192.0.2.1/24 dev br0",
        "neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev br0",
        "route add 198.51.100.0/24 via 192.0.2.2",
        "nexthop add id 1 via 192.0.2.2 dev br0",
        "rule add from 192.0.2.2 lookup 100",
    )
    host.run("tc qdisc add dev br0 clsact")
    host.run("ipset create allowed hash:ip")
    host.run("iptables-nft -A FORWARD -m set --match-set allowed src -j ACCEPT")
    host.run("ip6tables-nft -A FORWARD -m hashlimit --hashlimit-upto 5/sec --hashlimit-name x")
    host.run("iptables-legacy -A INPUT -i lo -j ACCEPT")
    host.run("ebtables-nft -A FORWARD --ip-proto 17 -p IPv4 -j ACCEPT")
    host.run("nft add table inet mine")
    with entered(host.path):
        server = socket.create_server(("127.0.0.1", 53))
    with server:
        yield host


@pytest.fixture(scope="module")
def healthy(host):
    """What is read when nothing fails."""
    return _read(host)


def _read(host):
    return collect(Scope(host=host.path, libvirt=False))


def _only_these_differ(healthy, snapshot, facts):
    """Put back, nothing is different, but for what is counted and passes by itself."""
    one, other = (taken.stack("host") for taken in (healthy, snapshot))
    back = {fact: getattr(one, fact) for fact in facts if fact in one.__struct_fields__}
    of_links = {fact for fact in facts if fact in ("qdiscs", "filters", "offloads", "wireless")}
    if "links" not in back:
        back["links"] = tuple(
            msgspec.structs.replace(link, **{fact: getattr(was, fact) for fact in of_links})
            for was, link in zip(one.links, other.links, strict=True)
        )
    restored = snapshot.with_stack(msgspec.structs.replace(other, **back))
    restored = msgspec.structs.replace(restored, gaps=healthy.gaps)
    assert [change.text for change in changes(healthy, restored)] == []
    assert save(load(save(snapshot))) == save(snapshot)


def _gaps(snapshot):
    return {gap.fact: gap for gap in snapshot.gaps if gap.stack == "host"}


def test_nothing_is_missing_when_nothing_fails(healthy):
    """Else the other tests would show nothing."""
    assert _gaps(healthy) == {}


@pytest.mark.parametrize("failure", KERNEL_FAILURES)
@pytest.mark.parametrize("dump", DUMPS)
def test_a_dump_that_fails(host, healthy, monkeypatch, dump, failure):
    """Its facts are unknown and named with the reason; no other is."""
    number, facts = DUMPS[dump]
    error, said = KERNEL_FAILURES[failure]
    answer = Netlink.dump

    def failing(self, kind, body):
        if kind == number:
            raise error
        return answer(self, kind, body)

    monkeypatch.setattr(Netlink, "dump", failing)
    snapshot = _read(host)
    gaps = _gaps(snapshot)
    assert facts <= gaps.keys()
    assert all(said in gap.why for fact, gap in gaps.items() if fact in facts - {"filters"})
    assert all(gap.help for gap in gaps.values())
    stack = snapshot.stack("host")
    assert all(getattr(stack, fact, None) is None for fact in gaps)
    _only_these_differ(healthy, snapshot, gaps)


@pytest.mark.parametrize("failure", KERNEL_FAILURES)
@pytest.mark.parametrize("reader", READERS)
def test_a_reader_that_fails(host, healthy, monkeypatch, reader, failure):
    """The same, for what comes from files and other sockets."""
    module, name, facts = READERS[reader]
    error, said = KERNEL_FAILURES[failure]

    def failing(*_args, **_options):
        raise error

    monkeypatch.setattr(module, name, failing)
    snapshot = _read(host)
    gaps = _gaps(snapshot)
    assert gaps.keys() == facts
    assert all(said in gap.why for gap in gaps.values())
    _only_these_differ(healthy, snapshot, {*facts, *(("sockets",) if "socket" in reader else ())})


def _missing(argv):
    raise ProgramMissing(argv[0])


def _slow(argv):
    raise ProgramTimeout(f"{argv[0]} took longer than 10 s")


def _refusing(argv):
    return Completed(4, "", f"{argv[0]}: Permission denied (you must be root)")


@pytest.mark.parametrize(
    "fail", [_missing, _slow, _refusing], ids=["missing", "timed out", "not permitted"]
)
@pytest.mark.parametrize(
    "program",
    ["nft", "iptables-nft-save", "ip6tables-nft-save", "ebtables-nft-save",
     "iptables-legacy-save", "ipset"],
)  # fmt: skip
def test_a_program_that_fails(host, healthy, monkeypatch, program, fail):
    """Rules that only it can tell are unknown, never absent; nothing but rules is."""
    monkeypatch.setattr(
        nf_programs, "run", lambda argv: fail(argv) if argv[0] == program else run(argv)
    )
    snapshot = _read(host)
    gaps = _gaps(snapshot)
    assert gaps
    assert any(program in gap.why for gap in gaps.values())
    assert all(gap.help for gap in gaps.values())
    _only_these_differ(healthy, snapshot, {"tables"})
    tables = snapshot.stack("host").tables
    assert (tables is None) == ("tables" in gaps)
    if tables is not None:
        # Each table is there, with as many rules as it has.
        assert [_size(table) for table in tables] == [
            _size(table) for table in healthy.stack("host").tables
        ]


def _size(table):
    return table.family, table.name, [len(chain.rules) for chain in table.chains]


def test_processes_that_cannot_be_looked_at(host, healthy, monkeypatch):
    """Who listens is known, and which program it is is not."""
    monkeypatch.setattr(
        "kvmdiag.collect.processes.holders._files", _raising(PermissionError(13, "no"))
    )
    snapshot = _read(host)
    _only_these_differ(healthy, snapshot, {"sockets"})
    assert [one.processes for one in snapshot.stack("host").sockets] == [None]


@pytest.mark.parametrize("source", ["read_daemons", "read_persistent"])
def test_what_is_told_of_the_machine_stands_alone(monkeypatch, source):
    """Programs and files are no matter of the network."""
    monkeypatch.setattr(snapshots, source, _raising(PermissionError(13, "Permission denied")))
    snapshot = collect(Scope(libvirt=False, include=("none of them",)))
    fact = source.removeprefix("read_")
    assert getattr(snapshot, fact) is None
    (gap,) = (gap for gap in snapshot.gaps if gap.fact == fact)
    assert "Permission denied" in gap.why
    assert snapshot.stack("host").links


def _raising(error):
    def fail(*_args, **_options):
        raise error

    return fail
