"""What the next restart or reboot will do: told before it happens, and only when a path needs it.

libvirt's order after a restart was measured with libvirt 9.0 (kvmdiag.actions.restarts); the
files for a boot are recorded, since a namespace that stands for a host never boots.
"""

import os

import msgspec
import pytest

from kvmdiag.actions.restarts import after_docker, after_libvirt
from kvmdiag.collect.snapshot import collect
from kvmdiag.diagnose.check import load_checks
from kvmdiag.diagnose.engine import diagnose
from kvmdiag.diagnose.reboot import lost_at_reboot
from kvmdiag.lab import libvirt_rules, manager
from kvmdiag.lab.spec import namespace
from kvmdiag.model.libvirt import Network
from kvmdiag.model.link import Bridge, BridgePort, Link
from kvmdiag.model.persistent import Persistent, StoredFile
from kvmdiag.model.stack import Address
from kvmdiag.parse.iptables import parse_save
from kvmdiag.system.programs import run

from ..checks.many import host_with  # noqa: TID252 - a helper of the neighbouring tests

CHECKS = load_checks()
NETWORKD = StoredFile(
    source="networkd",
    path="/etc/systemd/network/eth.network",
    content="[Match]\nName=eth0\n\n[Network]\nDHCP=yes\n",
)


def told(snapshot, check):
    """Severity, subject and summary of what one check says of the whole."""
    report = diagnose(snapshot, CHECKS)
    return [(f.severity.value, f.subject, f.summary) for f in report.findings if f.check == check]


def with_host(snapshot, **changes):
    """The snapshot with its host changed."""
    host = msgspec.structs.replace(snapshot.stack("host"), **changes)
    return snapshot.with_stack(host)


def by_hand(*files, sysctls=(), masquerade="-A POSTROUTING -s 192.168.0.0/16 -j MASQUERADE"):
    """Two guests on a bridge br7 made by hand, translated by a rule made by hand."""
    snapshot = host_with(2)
    host = snapshot.stack("host")
    renamed = {"virbr0": "br7"}
    links = tuple(
        msgspec.structs.replace(
            link, name=renamed.get(link.name, link.name), master=renamed.get(link.master or "")
        )
        for link in host.links
    )
    routes = tuple(
        msgspec.structs.replace(
            route,
            next_hops=tuple(
                msgspec.structs.replace(hop, link=renamed.get(hop.link, hop.link))
                for hop in route.next_hops
            ),
        )
        for route in host.routes
    )
    text = f"*nat\n:POSTROUTING ACCEPT [0:0]\n{masquerade}\nCOMMIT\n"
    changed = with_host(
        snapshot,
        links=links,
        routes=routes,
        addresses=tuple(
            msgspec.structs.replace(a, link=renamed.get(a.link, a.link)) for a in host.addresses
        ),
        fdb=tuple(msgspec.structs.replace(entry, bridge="br7") for entry in host.fdb),
        sysctls={**host.sysctls, "net.ipv4.conf.br7.forwarding": "1"},
        tables=parse_save(text, family="ip", backend="iptables-nft"),
        sockets=(),
    )
    return msgspec.structs.replace(
        changed, networks=(), persistent=Persistent(files=files, sysctls=sysctls)
    )


def test_what_was_made_by_hand_and_is_in_no_file_is_told():
    """The bridge, the translation and the switch for forwarding; each with a path that needs it."""
    found = told(by_hand(NETWORKD), "runtime-config-lost-after-reboot")
    assert [(severity, subject) for severity, subject, _ in found] == [
        ("info", "host/br7"),
        ("info", "host/rules"),
        ("info", "host/net.ipv4.ip_forward"),
    ]
    assert all("after a reboot vm" in summary for *_, summary in found)


@pytest.mark.parametrize(
    ("file", "subject"),
    [
        (
            StoredFile(
                source="networkd",
                path="/etc/systemd/network/b.network",
                content="[Match]\nName=br7\n\n[Network]\nAddress=192.168.0.1/16\n",
            ),
            "host/br7",
        ),
        (
            StoredFile(
                source="iptables",
                path="/etc/iptables/rules.v4",
                content="*nat\n-A POSTROUTING -s 192.168.0.0/16 -j MASQUERADE\nCOMMIT\n",
            ),
            "host/rules",
        ),
    ],
    ids=["bridge", "rule"],
)
def test_what_a_file_has_is_not(file, subject):
    """The rest is still told."""
    found = told(by_hand(NETWORKD, file), "runtime-config-lost-after-reboot")
    assert subject not in {name for _, name, _ in found}
    assert len(found) == 2


UPLINK = "[Match]\nName=eth0\n[Network]\n"


@pytest.mark.parametrize(
    ("content", "count"),
    [(UPLINK, 1), (f"{UPLINK}Address=10.0.0.10/24\n", 0), (f"{UPLINK}DHCP=yes\n", 0)],
    ids=["without it", "with it", "by DHCP"],
)
def test_an_address_that_its_links_file_does_not_have(content, count):
    """The uplink's own; without it nobody gets out."""
    file = StoredFile(source="networkd", path="/etc/systemd/network/eth.network", content=content)
    found = told(by_hand(file), "runtime-config-lost-after-reboot")
    mine = [summary for _, subject, summary in found if subject == "host/eth0"]
    assert len(mine) == count
    assert all("10.0.0.10/24 on eth0 was added by hand: after a reboot" in text for text in mine)


@pytest.mark.parametrize(("ports", "count"), [("none", 1), ("eno9", 0), ("eno99", 1)])
def test_a_nic_that_no_file_plugs_into_its_bridge(ports, count):
    """Of a LAN bridge, whose guests get out by it."""
    content = f"auto br7\niface br7 inet manual\n  bridge_ports {ports}\n"
    file = StoredFile(source="ifupdown", path="/etc/network/interfaces", content=content)
    snapshot = by_hand(file)
    host = snapshot.stack("host")
    nic = Link(index=800, name="eno9", mac="02:00:00:00:08:00", master="br7", port=BridgePort())
    snapshot = with_host(snapshot, links=(*host.links, nic))
    lost = [one.subject for one in lost_at_reboot(snapshot)]
    assert lost.count("host/eno9") == count


def test_nothing_is_said_where_no_file_was_read():
    """A namespace that stands for a host has none; a host configured in another way has others."""
    snapshot = by_hand(NETWORKD)
    unread = msgspec.structs.replace(snapshot, persistent=None)
    assert told(unread, "runtime-config-lost-after-reboot") == []
    elsewhere = {name for _, name, _ in told(by_hand(), "runtime-config-lost-after-reboot")}
    assert "host/br7" not in elsewhere


def test_libvirts_own_comes_back_by_itself():
    """Its bridge, its rules, and the switch that it sets when a network starts with the host."""
    snapshot = host_with(2)
    (network,) = snapshot.networks
    network = msgspec.structs.replace(network, autostart=True)
    snapshot = msgspec.structs.replace(
        snapshot, networks=(network,), persistent=Persistent(files=(NETWORKD,))
    )
    assert told(snapshot, "runtime-config-lost-after-reboot") == []


@pytest.mark.parametrize(("value", "count"), [("0", 1), ("1", 0)])
def test_a_file_that_contradicts_what_works_now(value, count):
    """A hardening file switches off what somebody has switched on; one that agrees is fine."""
    file = StoredFile(
        source="sysctl", path="/etc/sysctl.d/99-cis.conf", content=f"net.ipv4.ip_forward={value}\n"
    )
    snapshot = by_hand(NETWORKD, file, sysctls=(("net.ipv4.ip_forward", value),))
    found = told(snapshot, "live-vs-config-drift")
    assert len(found) == count
    for severity, subject, summary in found:
        assert (severity, subject) == ("warning", "host/net.ipv4.ip_forward")
        assert "is 1, and will be 0 after a reboot: vm" in summary


def test_a_setting_that_no_path_depends_on_is_not_told():
    """Strict reverse paths in a file, loose ones now; everything is symmetric."""
    file = StoredFile(source="sysctl", path="/etc/sysctl.d/10.conf", content="")
    name = "net.ipv4.conf.all.rp_filter"
    snapshot = by_hand(NETWORKD, file, sysctls=((name, "1"),))
    host = snapshot.stack("host")
    snapshot = with_host(snapshot, sysctls={**host.sysctls, name: "2"})
    assert told(snapshot, "live-vs-config-drift") == []


def test_a_nat_network_without_its_rules_is_told_before_a_guest_starts_on_it():
    """Its definition says NAT, and nothing translates it; routed ones need nothing."""
    snapshot = host_with(2)
    host = snapshot.stack("host")
    empty = Link(index=900, name="virbr9", kind="bridge", mac="02:00:00:00:09:00", bridge=Bridge())
    snapshot = with_host(
        snapshot,
        links=(*host.links, empty),
        addresses=(*host.addresses, Address(link="virbr9", address="172.30.9.1", prefix_length=24)),
    )
    lonely = Network(
        name="lab", active=True, bridge="virbr9", mode="nat", addresses=("172.30.9.1/24",)
    )
    bad = msgspec.structs.replace(snapshot, networks=(*snapshot.networks, lonely))
    ((severity, subject, summary),) = told(bad, "live-vs-config-drift")
    assert (severity, subject) == ("warning", "host/virbr9")
    assert "no rule translates 172.30.9.0/24" in summary
    for fine in (
        msgspec.structs.replace(lonely, mode="route"),
        msgspec.structs.replace(lonely, active=False),
    ):
        good = msgspec.structs.replace(snapshot, networks=(*snapshot.networks, fine))
        assert told(good, "live-vs-config-drift") == []
    plugged = Link(
        index=901, name="vnet900", kind="tun", master="virbr9", port=BridgePort(), mac="02:9::"
    )
    busy = with_host(bad, links=(*bad.stack("host").links, plugged))
    assert told(busy, "live-vs-config-drift") == []


def order(snapshot, chain):
    """The rules of a chain of the filter table, by their text."""
    for table in snapshot.stack("host").tables:
        if table.name == "filter" and table.chain(chain) is not None:
            return [rule.text for rule in table.chain(chain).rules]
    return []


def rules(*more):
    """A host with libvirt's chains and some rules beside."""
    text = libvirt_rules.chains() + libvirt_rules.network_rules(
        libvirt_rules.NatNetwork("virbr0", "192.168.0.0/16")
    )
    body = [line for line in text.split("*nat")[0].splitlines() if line.startswith((":", "-A"))]
    heads = [":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]"]
    saved = "\n".join(["*filter", *heads, *body, *more, "COMMIT", ""])
    # Chains first, as iptables-save prints them.
    lines = saved.splitlines()
    chains = [line for line in lines if line.startswith(":")]
    others = [line for line in lines if not line.startswith((":", "*", "COMMIT"))]
    saved = "\n".join(["*filter", *chains, *others, "COMMIT", ""])
    return with_host(host_with(1), tables=parse_save(saved, family="ip", backend="iptables-nft"))


def test_libvirt_leaves_jumps_alone_and_puts_its_rules_in_front_in_its_chains():
    """As measured: what stands in FORWARD stays; what was put into LIBVIRT_FWI goes behind."""
    mine = "-A LIBVIRT_FWI -d 192.168.1.3/32 -o virbr0 -p tcp -m tcp --dport 80 -j ACCEPT"
    before = rules(mine)
    assert order(after_libvirt(before), "FORWARD") == order(before, "FORWARD")
    assert order(after_libvirt(before), "LIBVIRT_FWI")[-1] == mine
    assert after_libvirt(rules()) == rules()


def test_docker_puts_its_jumps_in_front():
    """Whatever had been inserted before them."""
    before = rules(
        ":DOCKER-USER - [0:0]",
        ":DOCKER-FORWARD - [0:0]",
        "-A FORWARD -s 10.0.0.0/8 -j ACCEPT",
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -j DOCKER-FORWARD",
    )
    after = order(after_docker(before), "FORWARD")
    assert after[:2] == ["-A FORWARD -j DOCKER-USER", "-A FORWARD -j DOCKER-FORWARD"]
    assert sorted(after) == sorted(order(before, "FORWARD"))


@pytest.mark.kernel
def test_a_rule_that_the_next_restart_puts_behind_is_told_before():
    """In LIBVIRT_FWI a port forward works until libvirt starts anew; in FORWARD it lasts."""
    label = f"durable{os.getpid()}"
    manager.up("models", label=label)
    try:
        rule = "-d 192.168.122.2/32 -o virbr0 -p tcp -m tcp --dport 80 -j ACCEPT"
        inside = ("ip", "netns", "exec", namespace(label, "host"), "iptables")
        assert told(collect(manager.scope(label)), "accept-rule-after-reject") == []
        for words in ("-D FORWARD", "-I LIBVIRT_FWI"):
            assert run((*inside, *words.split(), *rule.split())).returncode == 0
        ((severity, subject, summary),) = told(
            collect(manager.scope(label)), "accept-rule-after-reject"
        )
        assert (severity, subject) == ("warning", "host/libvirt")
        assert "10.0.0.1 does not reach 10.0.0.10 (tcp port 8080)" in summary
    finally:
        manager.down(label)
