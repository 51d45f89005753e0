"""Programs beside the kernel, their configuration, and connections they began; recorded facts."""

import pytest

from kvmdiag.model.activity import Conntrack, Flow, FlowTuple
from kvmdiag.model.daemons import ConfigFile, Daemon, Setting
from kvmdiag.model.guest import Inside
from kvmdiag.model.libvirt import Lease
from kvmdiag.model.link import LinkCounters
from kvmdiag.model.persistent import Persistent, StoredFile
from kvmdiag.model.snapshot import Gap

from .build import found, judge, proved
from .many import host_with
from .recorded import (
    MAC0,
    MAC1,
    Proof,
    domain,
    every,
    link,
    network,
    no_default_route,
    prove,
    snapshot_with,
    stack,
)

OUT = ("vm0", "10.0.0.9")
LOOSE = link("vnet0", up=False, carrier=False, operstate="down")


def runs(name: str, **settings: str):
    """A program that runs on the host, with these settings in one file."""
    listed = tuple(Setting(key=k.replace("_", "-"), value=v) for k, v in settings.items())
    file = ConfigFile(path=f"/etc/{name}.conf", settings=listed)
    return snapshot_with(daemons=(Daemon(name=name, running=True, stack="host", files=(file,)),))


def resolv(content: str):
    """What the host's resolv.conf says."""
    file = StoredFile(source="resolv", path="/etc/resolv.conf", content=content)
    return snapshot_with(persistent=Persistent(files=(file,)))


def tracked(kept: str, timeout: int = 30):
    """A ping from vm0 that the host translates to this address."""
    flow = Flow(
        protocol="icmp",
        original=FlowTuple(source="192.168.1.1", destination="10.0.0.9", icmp_id=77, icmp_type=8),
        reply=FlowTuple(source="10.0.0.9", destination=kept, icmp_id=77, icmp_type=0),
        timeout=timeout,
    )
    return stack(flows=(flow,), conntrack=Conntrack(count=1, maximum=100))


# By check: what makes it fire, and what looks like it and is harmless.
CASES = {
    "stale-conntrack-after-nat-change": Proof(
        tracked("192.168.1.1"), tracked("10.0.0.10"), OUT, says="cause"
    ),
    "dns-forward-loop": Proof(
        every(resolv("nameserver 192.168.0.1\n"), snapshot_with(daemons=())),
        every(resolv("nameserver 10.0.0.1\n"), snapshot_with(daemons=())),
        says="context",
    ),
    "dns-upstream-unreachable": Proof(
        every(no_default_route(), resolv("nameserver 203.0.113.53\n")),
        every(no_default_route(), resolv("nameserver 203.0.113.53\nnameserver 10.0.0.1\n")),
        says="context",
    ),
    "dnsmasq-hostsfile-in-confdir": Proof(
        runs("dnsmasq", conf_dir="/etc/dnsmasq.d", dhcp_hostsfile="/etc/dnsmasq.d/hosts"),
        runs("dnsmasq", conf_dir="/etc/dnsmasq.d/,*.conf", dhcp_hostsfile="/etc/dnsmasq.d/hosts"),
        says="latent",
    ),
    "networkd-removes-foreign": Proof(
        every(no_default_route(), runs("systemd-networkd")),
        every(no_default_route(), runs("systemd-networkd", ManageForeignRoutes="no")),
        ("vm0", "8.8.8.8"),
        says="context",
    ),
    "nm-grabs-tap": Proof(
        every(LOOSE, runs("NetworkManager")),
        every(LOOSE, runs("NetworkManager", unmanaged_devices="interface-name:vnet*")),
        OUT,
        says="context",
    ),
    "clone-same-machine-id-same-ip": Proof(
        network(
            leases=(
                Lease(mac=MAC0, address="192.168.1.1", client_id="ff:01:02:03:04:00:02:aa"),
                Lease(mac=MAC1, address="192.168.1.2", client_id="FF:01:02:03:04:00:02:aa"),
            )
        ),
        network(
            leases=(
                Lease(mac=MAC0, address="192.168.1.1", client_id="ff:01:02:03:04:00:02:aa"),
                Lease(mac=MAC1, address="192.168.1.2", client_id="ff:01:02:03:05:00:02:aa"),
            )
        ),
        says="latent",
    ),
    "guest-driver-missing": Proof(
        every(
            domain(mac="52:54:00:77:00:00"),
            snapshot_with(guests=(Inside(domain="vm0", access="full", stack="vm0"),)),
            link("vnet0", guest="vm0"),
        ),
        every(
            domain(mac=MAC0),
            snapshot_with(guests=(Inside(domain="vm0", access="full", stack="vm0"),)),
            link("vnet0", guest="vm0", counters=LinkCounters(tx_packets=500)),
        ),
        says="latent",
    ),
    "virtnetworkd-down": Proof(
        every(
            snapshot_with(gaps=(Gap(stack=None, fact="libvirt", why="refused", help="start it"),)),
            snapshot_with(daemons=()),
        ),
        snapshot_with(daemons=()),
        says="latent",
    ),
}


@pytest.mark.parametrize("check", proved(CASES))
def test_it_fires_on_its_fault_and_is_silent_on_its_trap(check):
    """What a program's configuration decides is named; that it runs is no fault."""
    prove(check, CASES[check])


def test_a_connection_nobody_uses_any_more_is_no_error():
    """Its entry is still there for some seconds; a new connection works."""
    report = judge(tracked("192.168.1.1", timeout=12)(host_with(2)), *OUT)
    (told,) = found(report, "stale-conntrack-after-nat-change")
    assert (told.role, told.severity, report.verdict) == ("context", "info", "healthy")


def test_with_libvirt_answering_not_but_running_it_is_only_suspected():
    """A daemon that runs may be stuck, or its socket in another place."""
    gap = Gap(stack=None, fact="libvirt", why="timed out", help="start it")
    snapshot = every(snapshot_with(gaps=(gap,)), runs("libvirtd"))(host_with(2))
    (told,) = found(judge(snapshot), "virtnetworkd-down")
    assert told.proof
