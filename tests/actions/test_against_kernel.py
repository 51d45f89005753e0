"""Each action's claim against the kernel: carry it out, read again, compare; then undo it.

Handles and counters are the kernel's to choose, learnt addresses and caches come and go:
neither is compared.
"""

import shlex
import subprocess
import time

import msgspec
import pytest

from kvmdiag.actions.address import AddAddress, DeleteAddress
from kvmdiag.actions.bridge import AddFdbEntry, SetPortFlag, SetPortForwarding
from kvmdiag.actions.device import SetMac, SetMtu
from kvmdiag.actions.link import SetLinkUp, SetMaster
from kvmdiag.actions.neighbour import DeleteNeighbour
from kvmdiag.actions.nft import InsertNftRule
from kvmdiag.actions.route import AddRoute, DeleteRoute, ReplaceRoute
from kvmdiag.actions.rule import AppendRule, InsertRule
from kvmdiag.actions.step import step
from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.matches import InterfaceIs
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import NextHop, Route
from kvmdiag.model.statements import Accept

pytestmark = pytest.mark.kernel


@pytest.fixture
def network(namespaces, eventually):
    """A host with a bridge and two cables to a guest: vnet0 a port, vnet1 loose."""
    host, guest = namespaces("host"), namespaces("guest")
    host.cable("vnet0", guest, "eth0")
    host.cable("vnet1", guest, "eth1")
    host.ip(
        "link add br0 address 02:00:00:00:00:01 type bridge",
        "addr add 192.0.2.1/24 dev br0",
        "link set br0 up",
        "link set vnet0 master br0 up",
        "link set vnet1 up",
    )
    guest.ip(
        "addr add 192.0.2.2/24 dev eth0",
        "link set eth0 up",
        "addr add 198.51.100.2/24 dev eth1",
        "link set eth1 up",
        "neigh add 192.0.2.9 dev eth0 lladdr 02:00:00:00:00:99 nud permanent",
        "route add 203.0.113.0/24 via 192.0.2.1 dev eth0",
    )
    guest.run(
        ["nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }"]
    )
    guest.run(["nft", "add rule inet t c tcp dport 99 drop"])
    guest.run("iptables -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT")

    def is_quiet() -> bool:
        shown = [ns.run("ip -d link show").stdout for ns in (host, guest)]
        waiting = ("LOWERLAYERDOWN", "state disabled", "NO-CARRIER")
        return not any(word in text for word in waiting for text in shown)

    eventually(is_quiet, "the links never came up")
    return host, guest


@pytest.fixture
def read(network):
    """Read host and guest under plain names."""
    host, guest = network
    scope = Scope(host=host.path, names={guest.path: "guest"}, libvirt=False)
    return lambda: collect(scope)


def facts(snapshot: Snapshot) -> dict[str, object]:
    """What an action may claim something about, without what the kernel chooses freely."""
    return {stack.name: _facts(stack) for stack in snapshot.stacks}


def _facts(stack):
    return {
        "links": [
            msgspec.structs.replace(link, counters=None, carrier_changes=0) for link in stack.links
        ],
        # No address of IPv6: they come by themselves, and take their time.
        "routes": {
            msgspec.structs.replace(route, protocol="")
            for route in stack.routes
            if route.version == 4
        },
        "addresses": {
            (a.link, a.network, a.scope) for a in stack.addresses if ":" not in a.address
        },
        "permanent neighbours": {
            (n.link, n.address, n.mac) for n in stack.neighbours if n.state == "permanent"
        },
        "static fdb": {(e.bridge, e.port, e.mac) for e in stack.fdb if e.static and not e.local},
        "sysctls": {
            name: value
            for name, value in stack.sysctls.items()
            if name.startswith(("net.ipv4.ip_forward", "net.ipv4.conf."))
        },
        "own addresses in the fdb": {
            (entry.port, entry.mac) for entry in stack.fdb if entry.local and entry.port != "br0"
        },
        "rules": {
            (table.family, table.name, table.backend, chain.name): (
                chain.hook,
                chain.type,
                chain.priority,
                chain.policy,
                tuple((rule.text, rule.body) for rule in chain.rules),
            )
            for table in stack.tables
            for chain in table.chains
        },
    }


def settles_on(expected, read, seconds=5.0):
    """Poll until the kernel shows what is expected; links take a moment. Fails with the diff."""
    end = time.monotonic() + seconds
    while facts(read()) != expected and time.monotonic() < end:
        time.sleep(0.02)
    assert facts(read()) == expected


def carry_out(command: str) -> None:
    """Run a step's command as a person would paste it."""
    subprocess.run(shlex.split(command), check=True, capture_output=True, timeout=20)


VIA_HOST = Route(
    destination="203.0.113.0/24", next_hops=(NextHop(link="eth0", gateway="192.0.2.1"),)
)
ACTIONS = {
    "forwarding everywhere": SetSysctl(stack="host", values=(("net.ipv4.ip_forward", "1"),)),
    "forwarding on one interface": SetSysctl(
        stack="host", values=(("net.ipv4.conf.vnet0.forwarding", "1"),)
    ),
    "several sysctls": SetSysctl(
        stack="guest",
        values=(("net.ipv4.conf.eth0.rp_filter", "2"), ("net.ipv4.conf.eth1.rp_filter", "1")),
    ),
    "a default route": AddRoute(
        stack="guest", destination="0.0.0.0/0", gateway="192.0.2.1", link="eth0"
    ),
    "a route to a network": AddRoute(
        stack="guest", destination="198.18.0.0/24", gateway="192.0.2.1", link="eth0"
    ),
    "a route to a link": AddRoute(stack="guest", destination="198.18.0.7/32", link="eth1"),
    "a route less": DeleteRoute(stack="guest", route=VIA_HOST),
    "another source for a route": ReplaceRoute(
        stack="guest",
        old=VIA_HOST,
        new=msgspec.structs.replace(VIA_HOST, preferred_source="198.51.100.2"),
    ),
    "an address more": AddAddress(stack="host", link="br0", address="198.51.100.1/24"),
    "an address less": DeleteAddress(stack="guest", link="eth1", address="198.51.100.2/24"),
    "a neighbour less": DeleteNeighbour(stack="guest", link="eth0", address="192.0.2.9"),
    "a static fdb entry": AddFdbEntry(
        stack="host", bridge="br0", port="vnet0", mac="02:00:00:00:00:77"
    ),
    "an isolated port": SetPortFlag(stack="host", link="vnet0", flag="isolated", on=True),
    "a port that learns nothing": SetPortFlag(
        stack="host", link="vnet0", flag="learning", on=False
    ),
    "a port that is not flooded": SetPortFlag(stack="host", link="vnet0", flag="flood", on=False),
    "a port without broadcasts": SetPortFlag(
        stack="host", link="vnet0", flag="bcast_flood", on=False
    ),
    "a smaller port": SetMtu(stack="host", link="vnet0", mtu=1400),
    "a larger link": SetMtu(stack="guest", link="eth0", mtu=9000),
    "another mac": SetMac(stack="guest", link="eth1", mac="52:54:00:00:00:77"),
    "an nft rule": InsertNftRule(
        stack="guest",
        family="inet",
        table="t",
        chain="c",
        text="iifname eth0 accept",
        body=(InterfaceIs(direction="in", names=("eth0",)), Accept()),
    ),
    "a clamp": AppendRule(
        stack="host",
        table="mangle",
        chain="FORWARD",
        rule="-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
    ),
    "a port": SetMaster(stack="host", link="vnet1", master="br0"),
    "an inserted rule": InsertRule(stack="host", chain="FORWARD", rule="-i br0 -o br0 -j ACCEPT"),
    "a rule in a table that lacks the chain": InsertRule(
        stack="guest", chain="FORWARD", rule="-m physdev --physdev-is-bridged -j ACCEPT"
    ),
    "an appended rule": AppendRule(
        stack="host",
        table="nat",
        chain="POSTROUTING",
        rule="-s 192.0.2.0/24 ! -d 192.0.2.0/24 -j MASQUERADE",
    ),
    "a legacy rule": AppendRule(
        stack="host",
        table="nat",
        chain="POSTROUTING",
        backend="iptables-legacy",
        rule="-s 192.0.2.0/24 ! -d 192.0.2.0/24 -j MASQUERADE",
    ),
}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
def test_the_kernel_shows_what_the_action_claims(action, read):
    """The snapshot read after the command is the one that apply() made."""
    before = read()
    claimed = facts(action.apply(before))
    assert claimed != facts(before)
    carry_out(step(action, "test", before).command)
    settles_on(claimed, read)


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
def test_undo_restores_what_was_there(action, read, eventually):
    """All but the empty tables that iptables leaves behind."""
    before = read()
    line = step(action, "test", before)
    carry_out(line.command)
    carry_out(line.undo)
    eventually(lambda: _without_empty(facts(read())) == _without_empty(facts(before)), "not undone")


def _without_empty(read):
    for stack in read.values():
        stack["rules"] = {key: chain for key, chain in stack["rules"].items() if chain[-1]}
    return read


@pytest.mark.parametrize(("stack", "link"), [("host", "vnet0"), ("host", "br0")])
def test_a_link_set_up(stack, link, network, read):
    """Carriers at both ends, port state, the bridge's carrier and the routes come back."""
    host, _ = network
    host.ip(f"link set {link} down")
    before = read()
    action = SetLinkUp(stack=stack, link=link)
    claimed = facts(action.apply(before))
    assert claimed != facts(before)
    carry_out(step(action, "test", before).command)
    settles_on(claimed, read)


def test_a_route_by_a_gateway_that_is_not_on_the_link(read):
    """The kernel refuses it, and so nothing is claimed."""
    before = read()
    far = AddRoute(stack="guest", destination="0.0.0.0/0", gateway="203.0.113.1", link="eth0")
    assert far.apply(before) is before
    with pytest.raises(subprocess.CalledProcessError):
        carry_out(step(far, "test", before).command)


def test_a_port_that_forwards_again(network, read):
    """The bridge's only port was disabled by hand, and its carrier went with that."""
    host, _ = network
    host.run("bridge link set dev vnet0 state 0")
    before = read()
    action = SetPortForwarding(stack="host", link="vnet0")
    line = step(action, "test", before)
    carry_out(line.command)
    settles_on(facts(action.apply(before)), read)
    carry_out(line.undo)
    settles_on(facts(before), read)


@pytest.mark.parametrize("state", [0, 4], ids=["disabled", "blocking"])
def test_another_port_of_a_bridge_whose_port_was_set_by_hand(state, network, read):
    """A new port lets a blocked one forward again, and leaves a disabled one alone."""
    host, _ = network
    host.run(f"bridge link set dev vnet0 state {state}")
    before = read()
    action = SetMaster(stack="host", link="vnet1", master="br0")
    carry_out(step(action, "test", before).command)
    settles_on(facts(action.apply(before)), read)


def test_an_address_goes_that_is_there_with_another_prefix_length(network, read):
    """What belongs to the other stays: the local route, and routes by way of the link."""
    _, guest = network
    guest.ip("addr add 192.0.2.2/16 dev eth0")
    before = read()
    action = DeleteAddress(stack="guest", link="eth0", address="192.0.2.2/24")
    line = step(action, "test", before)
    carry_out(line.command)
    settles_on(facts(action.apply(before)), read)


def test_writing_ip_forward_again_changes_nothing(network, read):
    """An interface that is off stays off when ip_forward is 1 already."""
    host, _ = network
    host.sysctl("net.ipv4.ip_forward", 1)
    host.sysctl("net.ipv4.conf.vnet0.forwarding", 0)
    action = SetSysctl(stack="host", values=(("net.ipv4.ip_forward", "1"),))
    before = read()
    carry_out(step(action, "test", before).command)
    assert facts(read()) == facts(before) == facts(action.apply(before))


def test_undo_of_ip_forward_restores_each_interface(network, read):
    """An interface that had forwarding on its own keeps it."""
    host, _ = network
    host.sysctl("net.ipv4.conf.vnet0.forwarding", 1)
    before = read()
    line = step(SetSysctl(stack="host", values=(("net.ipv4.ip_forward", "1"),)), "test", before)
    carry_out(line.command)
    assert facts(read()) != facts(before)
    carry_out(line.undo)
    assert facts(read()) == facts(before)
