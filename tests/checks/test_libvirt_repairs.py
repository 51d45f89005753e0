"""What libvirt itself is asked to do, on recorded facts; the real daemon does it in tests/real."""

import pytest

from kvmdiag.actions.libvirt_reload import ReloadNetworkDaemon
from kvmdiag.model.activity import ListeningSocket
from kvmdiag.model.daemons import Daemon
from kvmdiag.model.libvirt import Libvirt, Reservation
from kvmdiag.model.link_kinds import Process
from kvmdiag.model.netfilter import Chain, Table
from kvmdiag.parse.ebtables import parse_rule

from .build import judge
from .many import host_with
from .recorded import (
    MAC0,
    domain,
    every,
    leases,
    link,
    more_tables,
    network,
    no_address,
    rule,
    snapshot_with,
    stack,
    without_link,
)

OUT = ("vm0", "10.0.0.9")
ADDRESS, OTHER = "192.168.1.1", "192.168.1.77"
DAEMON = snapshot_with(
    libvirt=Libvirt(uri="qemu:///system", version="10.0.0"),
    daemons=(Daemon(name="virtnetworkd", running=True, pid=77, stack="host"),),
)
# dnsmasq is gone, and vm0 has lost what it had by DHCP.
DEAD = every(DAEMON, stack(sockets=()), no_address("eth0", "vm0"), stack("vm0", routes=()))
KEPT = network(reservations=(Reservation(address=ADDRESS, mac=MAC0.upper()),))


def report(*changes, asks=OUT):
    """The report on a host that was changed."""
    return judge(every(*changes)(host_with(2)), *asks)


@pytest.mark.parametrize("known", [KEPT, network(leases=leases((MAC0, ADDRESS)))])
def test_a_dead_dnsmasq_comes_back_by_a_reload(known):
    """The network stays as it is; the guest is given what DHCP keeps for it. Nothing to undo."""
    found = report(DEAD, known)
    (line,) = found.plan.steps
    assert (line.check, line.command) == ("dnsmasq-dead", "systemctl reload virtnetworkd")
    assert (line.undo, line.disruptive) == ("", False)
    assert found.plan.works
    assert found.plan.walk.request.hops[0].packet.src.exploded == ADDRESS


def test_a_guest_that_dhcp_knows_nothing_of_gets_nobody_knows_what():
    """Then no plan is proved."""
    found = report(DEAD)
    assert found.plan is None or not found.plan.works


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_it_is_why_nobody_answers_dns(protocol):
    """Asked for the port itself, it is the cause, and not a fault somewhere else."""
    dead = every(DAEMON, stack(sockets=()))(host_with(2))
    found = judge(dead, "vm0", "192.168.0.1", proto=protocol, port=53)
    assert [f.check for f in found.findings if f.role == "cause"] == ["dnsmasq-dead"]
    assert "DHCP or DNS" in found.findings[0].summary
    assert found.plan.works


def test_in_a_namespace_the_signal_goes_to_the_daemon_there():
    """There is no systemd in it: the unit would be that of the machine itself."""
    found = report(DEAD, KEPT, stack(netns="/run/netns/lab"))
    assert [s.command for s in found.plan.steps] == ["ip netns exec lab kill -HUP 77"]


def test_a_daemon_that_cannot_be_reached_is_not_reloaded():
    """It runs in no stack that was read."""
    elsewhere = snapshot_with(daemons=(Daemon(name="virtnetworkd", running=True, pid=77),))
    found = report(DEAD, KEPT, stack(netns="/run/netns/lab"), elsewhere)
    assert found.plan is None
    assert [f.check for f in found.findings if f.role == "cause"] == ["dnsmasq-dead"]


def test_a_reload_writes_libvirts_rules_anew():
    """An accept that somebody put among them ends up behind, as after a restart."""
    snapshot = every(DEAD, rule("-d 192.168.1.1/32 -o virbr0 -j ACCEPT", "LIBVIRT_FWI"))(
        host_with(2)
    )
    after = ReloadNetworkDaemon(stack="host", network="default").apply(snapshot)

    def place(facts):
        (table,) = (t for t in facts.stack("host").tables if t.name == "filter")
        texts = [rule.text for rule in table.chain("LIBVIRT_FWI").rules]
        return next(n for n, text in enumerate(texts) if "192.168.1.1/32" in text), len(texts)

    assert place(snapshot)[0] == 0
    assert place(after) == (place(snapshot)[1] - 1, place(snapshot)[1])
    assert any(isinstance(s, ListeningSocket) and s.port == 67 for s in after.stack("host").sockets)


def test_a_network_whose_port_is_taken_is_not_told_to_start():
    """Who holds the port is named, and nothing else: what it cuts off is no fault of its own."""
    named = ListeningSocket(
        protocol="udp",
        address="0.0.0.0",
        port=53,
        uid=0,
        inode=1,
        links=(),
        processes=(Process(pid=99, name="named"),),
    )
    off = every(network(active=False), without_link("virbr0"), link("vnet0", master=None))
    found = report(DAEMON, off, domain(mac=MAC0), stack(sockets=(named,)))
    assert found.plan is None
    told = [(f.check, f.fix) for f in found.findings if f.severity == "error"]
    assert told == [("dnsmasq-port-conflict", ())]
    (conflict,) = (f for f in found.findings if f.role == "cause")
    assert "process 99, named" in conflict.evidence[0].fact


def pinned(to: str):
    """clean-traffic for vm0 as libvirt 9.0 makes it, pinned to an address."""
    chains = {
        "libvirt-I-vnet0": [
            "-p IPv4 -j I-vnet0-ipv4-ip",
            "-p IPv4 -j ACCEPT",
            "-p ARP -j I-vnet0-arp-ip",
            "-p ARP -j ACCEPT",
            "-j DROP",
        ],
        "I-vnet0-ipv4-ip": [f"-p IPv4 --ip-src {to} -j RETURN", "-j DROP"],
        "I-vnet0-arp-ip": [f"-p ARP --arp-ip-src {to} -j RETURN", "-j DROP"],
    }
    hook = parse_rule("-A PREROUTING -i vnet0 -j libvirt-I-vnet0")
    first = Chain(name="PREROUTING", hook="prerouting", type="filter", priority=-300, rules=(hook,))
    rest = tuple(
        Chain(name=name, rules=tuple(parse_rule(f"-A {name} {text}") for text in texts))
        for name, texts in chains.items()
    )
    table = Table(family="bridge", name="nat", backend="iptables-nft", chains=(first, *rest))
    nic = domain(mac=MAC0, filter="clean-traffic", filter_parameters=(("IP", to),))
    return every(DAEMON, more_tables(table), nic)


def test_a_filter_with_a_wrong_address_is_given_the_one_that_dhcp_keeps():
    """By the NIC's own XML, so that nothing else of it changes; undo is the way back."""
    found = report(pinned(OTHER), KEPT)
    (line,) = found.plan.steps
    assert (line.check, found.plan.works) == ("nwfilter-wrong-ip", True)
    assert line.command == (
        """sh -c 'virsh dumpxml vm0 --xpath "//interface[target/@dev=\\"vnet0\\"]" """
        f"""| sed s/{OTHER}/{ADDRESS}/ | virsh update-device vm0 /dev/stdin --live'"""
    )
    assert line.undo == line.command.replace(f"{OTHER}/{ADDRESS}", f"{ADDRESS}/{OTHER}")
    assert report(pinned(ADDRESS), KEPT).walk.works


@pytest.mark.parametrize("known", [(), ("52:54:00:00:00:99",)])
def test_which_address_is_right_is_not_guessed(known):
    """A filter may be there to keep a guest from taking any address it likes."""
    kept = tuple(Reservation(address=ADDRESS, mac=mac) for mac in known)
    found = report(pinned(OTHER), network(reservations=kept))
    assert found.plan is None
    assert [f.check for f in found.findings if f.role == "cause"] == ["nwfilter-wrong-ip"]


def test_a_name_that_a_shell_would_read_otherwise_stays_out_of_it():
    """The kernel allows almost anything in the name of a link; a snapshot may say what it likes."""
    from kvmdiag.actions.nwfilter import is_plain

    assert is_plain("vnet0")
    assert is_plain("tap9c8d7e6f-1a")
    assert not any(map(is_plain, ("a$(id)", 'a"', "a`id`", "a;id", "", "é")))
