"""Checks on a host with one NAT network, as the kernel has it: the fault, and the cure for real."""

import pytest

from .build import carry_out, judge, nat_host, pings, proved

pytestmark = pytest.mark.kernel

# By check: who injects what, and the asked path.
FAULTS = {
    "docker-forward-drop-vs-libvirt-nft": (
        [("host", "iptables -N DOCKER"), ("host", "iptables -P FORWARD DROP")],
        ("vm1", "10.0.0.9"),
    ),
    "firewall-drop": (
        [("host", "iptables -A FORWARD -s 192.168.122.0/24 -j DROP")],
        ("vm1", "10.0.0.9"),
    ),
    "bridge-filter-drop": (
        [
            ("host", "nft add table bridge filter"),
            (
                "host",
                "nft add chain bridge filter fw"
                " { type filter hook forward priority 0 ; policy drop ; }",
            ),
        ],
        ("vm1", "192.168.122.12"),
    ),
    "link-admin-down": ([("host", "ip link set virbr0 down")], ("vm1", "10.0.0.9")),
    "accept-rule-after-reject": (
        [
            ("host", "iptables -A FORWARD -i virbr0 -j REJECT"),
            ("host", "iptables -A FORWARD -s 192.168.122.0/24 -j ACCEPT"),
        ],
        ("vm1", "10.0.0.9"),
    ),
    "guest-firewall": (
        [("vm2", "iptables -A INPUT -p icmp --icmp-type echo-request -j DROP")],
        ("vm1", "192.168.122.12"),
    ),
    "vpn-killswitch-or-full-tunnel": (
        [("host", "iptables -A FORWARD ! -o wg0 -j DROP")],
        ("vm1", "10.0.0.9"),
    ),
    "iptables-legacy-nft-mix": (
        [
            ("host", "iptables-legacy -A FORWARD -i virbr0 -j DROP"),
            ("host", "iptables -A FORWARD -j ACCEPT"),
        ],
        ("vm1", "10.0.0.9"),
    ),
    "masquerade-pinned-to-wrong-egress": (
        [
            ("host", "iptables -t nat -F POSTROUTING"),
            ("host", "iptables -t nat -A POSTROUTING -s 192.168.122.0/24 -o eth9 -j MASQUERADE"),
        ],
        ("vm1", "10.0.0.9"),
    ),
    "snat-fixed-address-stale": (
        [
            ("host", "iptables -t nat -F POSTROUTING"),
            (
                "host",
                "iptables -t nat -A POSTROUTING -s 192.168.122.0/24 -o eth0 -j SNAT"
                " --to-source 172.30.0.99",
            ),
        ],
        ("vm1", "10.0.0.9"),
    ),
    "fw-flush-lost-libvirt-rules": ([("host", "nft flush ruleset")], ("vm1", "10.0.0.9")),
    "policy-or-blackhole-route": (
        [("host", "ip route add blackhole 10.0.0.9/32")],
        ("vm1", "10.0.0.9"),
    ),
    "static-neigh-wrong": (
        [("vm1", "ip neigh add 192.168.122.12 dev eth0 lladdr 52:54:00:00:09:99 nud permanent")],
        ("vm1", "192.168.122.12"),
    ),
    "arp-policy-blocks": (
        [("vm2", "sysctl -qw net.ipv4.conf.all.arp_ignore=8")],
        ("vm1", "192.168.122.12"),
    ),
    "port-isolated": (
        [
            ("host", "bridge link set dev vnet1 isolated on"),
            ("host", "bridge link set dev vnet2 isolated on"),
        ],
        ("vm1", "192.168.122.12"),
    ),
    "vpn-specific-route-steals-guest-net": (
        [("host", "ip route add 192.168.122.0/28 dev eth0")],
        ("host", "192.168.122.12"),
    ),
    "nested-or-lan-subnet-overlap": (
        [
            ("host", "ip addr add 192.168.122.200/25 dev eth0"),
            ("host", "ip addr add 192.168.122.100/25 dev eth0"),
        ],
        ("host", "192.168.122.12"),
    ),
    "two-default-routes": (
        [
            ("host", "ip link add dum0 type veth peer name dum1"),
            ("host", "ip addr add 172.31.0.1/24 dev dum0"),
            ("host", "ip link set dum0 up"),
            ("host", "ip link set dum1 up"),
            ("host", "ip route replace default via 10.0.0.1 metric 100"),
            ("host", "ip route add default via 172.31.0.9 metric 50"),
            ("host", "ip route del default via 10.0.0.1 metric 0"),
        ],
        ("vm1", "203.0.113.9"),
    ),
    "conntrack-bypassed": (
        [("host", "iptables -t raw -A PREROUTING -i virbr0 -j NOTRACK")],
        ("vm1", "10.0.0.9"),
    ),
    "route-source-wrong": (
        [
            ("vm1", "ip addr add 172.30.0.5/32 dev eth0"),
            ("vm1", "ip route replace default via 192.168.122.1 src 172.30.0.5"),
        ],
        ("vm1", "10.0.0.9"),
    ),
    "route-without-gateway": (
        [("vm1", "ip route replace default dev eth0")],
        ("vm1", "10.0.0.9"),
    ),
    "wrong-netmask": (
        [
            ("vm2", "ip addr del 192.168.122.12/24 dev eth0"),
            ("vm2", "ip addr add 192.168.122.12/32 dev eth0"),
        ],
        ("vm1", "192.168.122.12"),
    ),
    "bridge-port-blocked": (
        [("host", "bridge link set dev vnet2 state 0")],
        ("vm1", "192.168.122.12"),
    ),
    "bridge-flood-learning-off": (
        [
            ("host", "bridge link set dev vnet2 learning off flood off"),
            ("host", "bridge fdb flush dev vnet2 master dynamic"),
        ],
        ("vm1", "192.168.122.12"),
    ),
}


def test_nothing_is_said_of_the_host_as_it_is(namespaces, eventually):
    """On none of the asked paths, while nobody has changed anything."""
    snapshot = nat_host(namespaces, eventually).read()
    for source, target in {path for _, path in FAULTS.values()}:
        said = judge(snapshot, source, target).findings
        assert [finding.check for finding in said if finding.check in FAULTS] == []


@pytest.mark.parametrize("check", proved(FAULTS, silent=False))
def test_the_fault_is_named_first_and_its_plan_cures_for_real(check, namespaces, eventually):
    """The cause; then the plan's commands make it ping."""
    site = nat_host(namespaces, eventually)
    commands, (source, target) = FAULTS[check]
    for machine, command in commands:
        site[machine].run(command, check="flush" not in command and "metric 0" not in command)
    report = judge(site.read(), source, target)
    causes = [(f.check, f.role, f.verified) for f in report.findings if f.role == "cause"]
    assert causes[0] == (check, "cause", True), causes
    assert report.plan is not None
    assert report.plan.works is True
    reachable = target.startswith(("10.", "192.168."))
    assert not reachable or not pings(site[source], target)
    carry_out(report)
    if reachable:
        eventually(lambda: pings(site[source], target), "the plan does not cure")
    again = judge(site.read(), source, target)
    assert [f for f in again.findings if f.role == "cause"] == []
