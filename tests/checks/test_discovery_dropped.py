"""A guest whose own rules drop ARP or neighbour discovery: nobody finds it."""

import pytest

from .build import carry_out, judge, nat_host, pings

RULES = {
    "ip6tables policy": ("fd00::12", ["ip6tables -P INPUT DROP"]),
    "nft arp": (
        "192.168.122.12",
        [
            "nft add table arp f",
            "nft add chain arp f i { type filter hook input priority 0 ; policy drop ; }",
        ],
    ),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", RULES)
def test_the_guest_is_named_and_found_again(name, namespaces, eventually):
    """Accepting what finds a machine comes first; for IPv6 the ping itself may be next."""
    site = nat_host(namespaces, eventually)
    target, commands = RULES[name]
    for machine, address in (("vm1", "fd00::11"), ("vm2", "fd00::12")):
        site[machine].run("sysctl -qw net.ipv6.conf.all.disable_ipv6=0")
        site[machine].run("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0")
        site[machine].run(f"ip addr add {address}/64 dev eth0 nodad")
    for command in commands:
        site["vm2"].run(command)
    site["vm1"].run("ip neigh flush all")
    assert not pings(site["vm1"], target)
    report = judge(site.read(), "vm1", target)
    causes = {(f.check, f.subject) for f in report.findings if f.role == "cause"}
    assert causes == {("guest-firewall", "vm2")}
    assert report.plan.works is True
    carry_out(report)
    eventually(lambda: pings(site["vm1"], target), "the plan does not cure")
