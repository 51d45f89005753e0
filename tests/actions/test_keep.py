"""How a change is kept: in the words of the program that is in charge, told from its files."""

import msgspec
import pytest

from kvmdiag.actions.address import AddAddress, DeleteAddress
from kvmdiag.actions.device import SetMtu
from kvmdiag.actions.link import SetMaster
from kvmdiag.actions.managers import Manager, defined, manager_of
from kvmdiag.actions.nft import InsertNftRule
from kvmdiag.actions.route import AddRoute
from kvmdiag.actions.rule import AppendRule, InsertRule
from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.model.daemons import Daemon
from kvmdiag.model.libvirt import Network
from kvmdiag.model.link import Bridge, Link
from kvmdiag.model.netfilter import Chain, Table
from kvmdiag.model.persistent import Persistent, StoredFile
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import OWN_NETNS, Stack

NETPLAN = StoredFile(
    source="netplan",
    path="/etc/netplan/01.yaml",
    content="network:\n  bridges:\n    br0:\n      addresses: [10.0.0.2/24]\n",
)
NETWORKD = StoredFile(
    source="networkd",
    path="/etc/systemd/network/br.network",
    content="[Match]\nName=lo br*\n\n[Network]\nAddress=10.0.0.2/24\n",
)
MANAGER = StoredFile(
    source="networkmanager",
    path="/etc/NetworkManager/system-connections/lan.nmconnection",
    content="[connection]\nid=Wired LAN\ntype=bridge\ninterface-name=br0\n",
)
IFUPDOWN = StoredFile(
    source="ifupdown",
    path="/etc/network/interfaces",
    content="auto br0\niface br0 inet static\n  address 10.0.0.2/24\n  bridge_ports eno1\n",
)
FILES = (NETPLAN, NETWORKD, MANAGER, IFUPDOWN)


def host(*files: StoredFile, chains=(), daemons=(), networks=None, table="filter") -> Snapshot:
    """A host with a bridge br0 and an uplink eno1, and these files for its next boot."""
    stack = Stack(
        name="host",
        kind="host",
        netns=OWN_NETNS,
        links=(
            Link(index=2, name="eno1"),
            Link(index=3, name="br0", kind="bridge", bridge=Bridge()),
        ),
        tables=tuple(
            Table(family="ip", name=table, backend="iptables-nft", chains=(Chain(name=name),))
            for name in chains
        ),
    )
    return Snapshot(
        tool="test",
        taken_at="2026-01-01T00:00:00Z",
        kernel="6.1",
        stacks=(stack,),
        networks=networks,
        daemons=tuple(Daemon(name=name, running=True, stack="host") for name in daemons),
        persistent=Persistent(files=files),
    )


@pytest.mark.parametrize(
    ("file", "found"),
    [
        (NETPLAN, Manager("netplan", "/etc/netplan/01.yaml")),
        (NETWORKD, Manager("networkd", "/etc/systemd/network/br.network")),
        (MANAGER, Manager("networkmanager", "Wired LAN")),
        (IFUPDOWN, Manager("ifupdown", "/etc/network/interfaces")),
    ],
    ids=lambda value: getattr(value, "source", ""),
)
def test_who_configures_a_link_is_told_by_the_files(file, found):
    """And of a link that no file names, nobody does."""
    snapshot = host(file)
    assert manager_of(snapshot, "host", "br0") == found
    assert defined(snapshot, "br0") is True
    assert manager_of(snapshot, "host", "eth9") is None
    assert defined(snapshot, "eth9") is False
    assert manager_of(snapshot, "other", "br0") is None


def test_what_was_not_read_is_not_known():
    """No files of a namespace that stands for a host; a file that may not be read."""
    snapshot = host(NETPLAN)
    assert defined(msgspec.structs.replace(snapshot, persistent=None), "br0") is None
    closed = StoredFile(source="netplan", path="/etc/netplan/99.yaml", content=None)
    assert defined(host(closed), "br0") is None


def test_a_network_of_libvirts_is_libvirts():
    """Whatever the files say; a network of mode bridge only uses what is there."""
    nat = Network(name="lab", active=True, bridge="br0", mode="nat")
    assert manager_of(host(NETPLAN, networks=(nat,)), "host", "br0") == Manager("libvirt", "lab")
    used = msgspec.structs.replace(nat, mode="bridge")
    assert manager_of(host(NETPLAN, networks=(used,)), "host", "br0").kind == "netplan"


ADDRESS = AddAddress(stack="host", link="br0", address="10.0.0.3/24")
GONE = DeleteAddress(stack="host", link="br0", address="10.0.0.3/24")
ROUTE = AddRoute(stack="host", destination="10.9.0.0/16", gateway="10.0.0.1", link="br0")
PORT = SetMaster(stack="host", link="eno1", master="br0")
MTU = SetMtu(stack="host", link="br0", mtu=1400)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (ADDRESS, ("addresses: [10.0.0.3/24]", "Address=10.0.0.3/24", "+ipv4.addresses 10.0.0.3/24",
                   "address 10.0.0.3/24")),
        (GONE, ("take 10.0.0.3/24", "take 'Address=", "-ipv4.addresses 10.0.0.3/24", "manual")),
        (ROUTE, ("routes: [{to: 10.9.0.0/16, via: 10.0.0.1}]", "[Route] Gateway=10.0.0.1",
                 "+ipv4.routes '10.9.0.0/16 10.0.0.1'", "up ip route add 10.9.0.0/16 via")),
        (PORT, ("interfaces: [eno1]", "Bridge=br0", "ifname eno1 master br0", "bridge_ports eno1")),
        (MTU, ("mtu: 1400", "MTUBytes=1400", "802-3-ethernet.mtu 1400", "mtu 1400")),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_each_manager_is_spoken_to_in_its_own_words(action, words):
    """And where nobody is known to be in charge, more than one is offered."""
    for file, word in zip(FILES, words, strict=True):
        told = action.persist(host(file))
        assert word in told
        place = "'Wired LAN'" if file is MANAGER else file.path
        assert place in told or action is PORT
    told = action.persist(host())
    assert "netplan" in told
    assert ".network" in told


def test_a_sysctl_says_which_file_contradicts_it():
    """The last file wins, and a hardening file of last year's may be that one."""
    hardening = StoredFile(
        source="sysctl", path="/etc/sysctl.d/99-zzz.conf", content="net/ipv4/ip_forward=0\n"
    )
    on = SetSysctl(stack="host", values=(("net.ipv4.ip_forward", "1"),))
    assert "99-zz-kvmdiag.conf" in on.persist(host())
    assert "take that out" not in on.persist(host())
    told = on.persist(host(hardening))
    assert "/etc/sysctl.d/99-zzz.conf says net.ipv4.ip_forward = 0: take that out" in told
    assert "/etc/ufw/sysctl.conf" in on.persist(host(daemons=("ufw",)))
    bridge = SetSysctl(stack="host", values=(("net.bridge.bridge-nf-call-iptables", "0"),))
    assert "modules-load.d" in bridge.persist(host())


OUT = InsertRule(stack="host", chain="FORWARD", rule="-i virbr0 -o eno1 -j ACCEPT")
DNS = InsertRule(stack="host", chain="INPUT", rule="-i virbr0 -p udp -m udp --dport 53 -j ACCEPT")
NAT = AppendRule(
    stack="host", table="nat", chain="POSTROUTING", rule="-s 10.1.0.0/24 -j MASQUERADE"
)
NFT = InsertNftRule(
    stack="host", family="inet", table="fw", chain="forward", text="accept", body=()
)


@pytest.mark.parametrize(
    ("snapshot", "action", "word"),
    [
        (host(chains=("DOCKER-USER",)), OUT, "After=docker.service: ExecStart=iptables -I FORWARD"),
        (
            host(daemons=("firewalld",)),
            OUT,
            "firewall-cmd --permanent --direct --add-rule ipv4 filter FORWARD 0 -i virbr0 -o eno1"
            " -j ACCEPT; then firewall-cmd --reload",
        ),
        (host(daemons=("firewalld",)), NAT, "--add-rule ipv4 nat POSTROUTING 0 -s 10.1.0.0/24"),
        (host(daemons=("firewalld",)), NFT, "After=firewalld.service: ExecStart=nft"),
        (host(daemons=("ufw",)), OUT, "ufw route allow in on virbr0 out on eno1"),
        (host(daemons=("ufw",)), DNS, "ufw allow in on virbr0 to any port 53 proto udp"),
        (host(daemons=("ufw",)), NAT, "/etc/ufw/before.rules"),
        (
            host(networks=(Network(name="default", active=True, bridge="virbr0", mode="nat"),)),
            OUT,
            '/etc/libvirt/hooks/network, a script that libvirt runs: [ "$1 $2" = "default started"'
            " ] && iptables -I FORWARD 1",
        ),
        (host(chains=("LIBVIRT_FWI",)), NAT, "/etc/libvirt/hooks/network (action started)"),
        (host(), NFT, "/etc/nftables.conf"),
        (
            host(StoredFile(source="iptables", path="/etc/sysconfig/iptables", content="")),
            OUT,
            "service iptables save",
        ),
        (host(), OUT, "netfilter-persistent save"),
    ],
)
def test_a_rule_is_kept_by_the_firewall_in_charge(snapshot, action, word):
    """Docker, firewalld, ufw, libvirt's hook, the files of nft or of iptables."""
    assert word in action.persist(snapshot)


@pytest.mark.parametrize(
    ("stack", "word"),
    [
        (
            Stack(
                name="launcher",
                kind="namespace",
                netns="/proc/7/ns/net",
                links=(Link(index=2, name="k6t-eth0"),),
            ),
            "the VirtualMachine's spec",
        ),
        (
            Stack(name="qrouter-1", kind="namespace", netns="/run/netns/qrouter-1"),
            "neutron-l3-agent",
        ),
        (Stack(name="ns1", kind="namespace", netns="/run/netns/ns1"), "whatever sets up ns1"),
        (Stack(name="web", kind="guest", netns=None), "inside web: "),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_is_not_the_host_is_kept_by_whoever_makes_it(stack, word):
    """A pod lives no longer than its machine; Neutron makes its routers anew."""
    snapshot = host()
    snapshot = msgspec.structs.replace(snapshot, stacks=(*snapshot.stacks, stack))
    for action in (SetSysctl(stack=stack.name, values=(("net.ipv4.ip_forward", "1"),)),):
        assert word in action.persist(snapshot)


def test_a_name_with_braces_is_only_a_name():
    """Links may be called almost anything."""
    link = "a{0}{x"
    file = StoredFile(
        source="ifupdown", path="/etc/network/interfaces", content=f"iface {link} inet"
    )
    assert link in AddAddress(stack="host", link=link, address="10.0.0.3/24").persist(host(file))
