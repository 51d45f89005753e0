"""What a person is shown: commands that can be pasted, for the right place."""

from kvmdiag.actions.link import SetMaster
from kvmdiag.actions.route import AddRoute
from kvmdiag.actions.rule import AppendRule, InsertRule, backend_in_use
from kvmdiag.actions.step import step
from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.model.link import Link
from kvmdiag.model.netfilter import Chain, Table
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import OWN_NETNS, Stack


def snapshot(*stacks: Stack) -> Snapshot:
    """A snapshot of these stacks."""
    return Snapshot(tool="test", taken_at="2026-01-01T00:00:00Z", kernel="6.1", stacks=stacks)


HOST = Stack(name="host", kind="host", netns=OWN_NETNS)
FORWARD = SetSysctl(stack="host", values=(("net.ipv4.ip_forward", "1"),))


def test_on_the_host_the_command_stands_alone():
    """No prefix where kvmdiag ran."""
    line = step(FORWARD, "ip-forward-off", snapshot(HOST))
    assert (line.where, line.command) == ("host", "sysctl -w net.ipv4.ip_forward=1")


def test_a_namespace_is_entered_by_the_command_itself():
    """Command and undo carry their own prefix."""
    stack = Stack(name="node1", kind="namespace", netns="/run/netns/kvmdiag-cluster-node1")
    route = AddRoute(stack="node1", destination="0.0.0.0/0", gateway="192.0.2.1", link="eth0")
    line = step(route, "guest-no-default-route", snapshot(HOST, stack))
    assert line.where == "node1"
    prefix = "ip netns exec kvmdiag-cluster-node1 ip route"
    assert line.command == f"{prefix} add default via 192.0.2.1 dev eth0"
    assert line.undo == f"{prefix} del default via 192.0.2.1 dev eth0"


def test_a_guest_is_for_a_shell_inside_it():
    """Nobody but its owner can enter it."""
    stack = Stack(name="web", kind="guest", netns=None)
    action = SetSysctl(stack="web", values=(("net.ipv4.conf.eth0.rp_filter", "2"),))
    line = step(action, "guest-rp-filter-multihomed", snapshot(HOST, stack))
    assert line.where == "inside web"
    assert line.command == "sysctl -w net.ipv4.conf.eth0.rp_filter=2"
    assert line.persist.startswith("inside web: ")


def test_a_hostile_name_cannot_break_out_of_the_command():
    """Link names may hold almost anything; the shell must not see it."""
    action = SetMaster(stack="host", link="x;reboot", master="br0")
    host = Stack(name="host", kind="host", netns=OWN_NETNS, links=(Link(index=1, name="x;reboot"),))
    line = step(action, "net-restart-orphan-taps", snapshot(host))
    assert line.command == "ip link set dev 'x;reboot' master br0"


def test_a_rule_goes_to_the_iptables_in_use():
    """A rule in a backend of its own would be seen by nobody who reads the other."""
    legacy = Table(family="ip", name="filter", backend="iptables-legacy")
    host = Stack(name="host", kind="host", netns=OWN_NETNS, tables=(legacy,))
    assert backend_in_use(host) == "iptables-legacy"
    assert backend_in_use(HOST) == "iptables-nft"
    rule = AppendRule(
        stack="host",
        table="nat",
        chain="POSTROUTING",
        rule="-j MASQUERADE",
        backend=backend_in_use(host),
    )
    line = step(rule, "masquerade-missing", snapshot(host))
    assert line.command == "iptables-legacy -t nat -A POSTROUTING -j MASQUERADE"


def test_a_rule_near_libvirts_is_kept_by_its_hook():
    """Libvirt puts its own rules in front again whenever a network starts."""
    table = Table(
        family="ip", name="filter", backend="iptables-nft", chains=(Chain(name="LIBVIRT_FWI"),)
    )
    host = Stack(name="host", kind="host", netns=OWN_NETNS, tables=(table,))
    rule = InsertRule(stack="host", chain="FORWARD", rule="-i br0 -o br0 -j ACCEPT")
    assert "/etc/libvirt/hooks/network" in step(rule, "x", snapshot(host)).persist
    assert "netfilter-persistent" in step(rule, "x", snapshot(HOST)).persist


def test_what_was_not_read_stays_unread():
    """Nothing is invented for a stack whose facts are missing."""
    route = AddRoute(stack="host", destination="0.0.0.0/0", gateway="192.0.2.1", link="eth0")
    rule = InsertRule(stack="host", chain="FORWARD", rule="-j ACCEPT")
    before = snapshot(HOST)
    for action in (FORWARD, route, rule):
        assert action.apply(before) == before
