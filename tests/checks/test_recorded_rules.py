"""Netfilter rules that decide, and those that only look so, on recorded facts."""

import pytest

from kvmdiag.model.link import Bridge, BridgePort, LinkRef
from kvmdiag.model.link_kinds import Xdp
from kvmdiag.model.netfilter import Chain, Rule, Table
from kvmdiag.model.statements import Accept, Drop, Jump, Reject
from kvmdiag.parse.ebtables import parse_rule

from .build import judge, proved
from .many import host_with
from .recorded import (
    MAC0,
    Proof,
    address,
    every,
    link,
    more_tables,
    network,
    no_address,
    policy,
    prove,
    route,
    rule,
    stack,
    sysctls,
)

OUT = ("vm0", "10.0.0.9")
PEER = ("vm0", "192.168.1.2")
IN = ("10.0.0.9", "10.0.0.10", "tcp", 8080)


def base_chain(name: str, hook: str, *rules: Rule, **fields: object) -> Chain:
    """A base chain of a table of type filter."""
    return Chain(
        **{"name": name, "hook": hook, "type": "filter", "priority": 0, **fields}, rules=rules
    )


def nft(family: str, name: str, *chains: Chain):
    """A table that nft made."""
    return more_tables(Table(family=family, name=name, backend="nft", chains=chains))


def spoken(text: str, *body: object) -> Rule:
    """A rule of nft's with what it means."""
    return Rule(text=text, body=body)


DROPPED = spoken("drop", Drop())


def nwfilter(chain: str, text: str):
    """What libvirt's nwfilter makes in ebtables for vnet0, with one rule in the last chain."""
    return more_tables(
        Table(
            family="bridge",
            name="nat",
            backend="iptables-nft",
            chains=(
                base_chain(
                    "PREROUTING",
                    "prerouting",
                    parse_rule("-A PREROUTING -i vnet0 -j libvirt-I-vnet0"),
                    priority=-300,
                ),
                Chain(
                    name="libvirt-I-vnet0",
                    rules=(parse_rule(f"-A libvirt-I-vnet0 -j {chain}"),),
                ),
                Chain(name=chain, rules=(parse_rule(f"-A {chain} {text}"),)),
            ),
        )
    )


def firewalld(chain: str):
    """Firewalld rejects what is forwarded, in this chain of its own."""
    jump = spoken(f"jump {chain}", Jump(chain=chain))
    return nft(
        "inet",
        "firewalld",
        base_chain("filter_FORWARD", "forward", jump, priority=10),
        Chain(name=chain, rules=(spoken("reject with icmpx admin-prohibited", Reject()),)),
    )


def dnat(condition: str, to: str = "192.168.1.1:80", chain: str = "PREROUTING"):
    """A forwarded port."""
    return rule(
        f"{condition} -p tcp -m tcp --dport 8080 -j DNAT --to-destination {to}", chain, "nat"
    )


DOCKER0 = every(
    link("docker0", kind="bridge", mac="02:42:00:00:00:01", bridge=Bridge(), carrier=False),
    address("docker0", "172.17.0.1/16"),
)
CONTAINER_RAW = rule("-d 172.17.0.2/32 ! -i docker0 -j DROP", "PREROUTING", "raw")
# vm0 is in two networks; vm1, in the second, answers the first by way of the host.
ONE_WAY = every(
    link("virbr1", kind="bridge", mac="02:00:00:00:00:04", bridge=Bridge()),
    address("virbr1", "172.16.0.1/24"),
    link("vnet1", master="virbr1"),
    link("vnet9", kind="tun", master="virbr1", port=BridgePort(), peer=LinkRef("vm0", "eth1")),
    link("eth1", "vm0", mac="52:54:00:01:00:09", peer=LinkRef("host", "vnet9")),
    address("eth1", "172.16.0.11/24", "vm0"),
    no_address("eth0", "vm1"),
    address("eth0", "172.16.0.12/24", "vm1"),
    route("0.0.0.0/0", "vm1", link="eth0", gateway="172.16.0.1"),
    rule("-j ACCEPT"),
    rule("-j ACCEPT", "POSTROUTING", "nat"),
    sysctls(
        net__ipv4__conf__virbr1__forwarding="1", **{"net__bridge__bridge-nf-call-iptables": "0"}
    ),
)
INVALID = rule("-m conntrack --ctstate INVALID -j DROP")
LEGACY = Table(
    family="ip",
    name="filter",
    backend="iptables-legacy",
    chains=(base_chain("FORWARD", "forward"),),
)

# By check: what makes it fire, and what looks like it and is harmless.
CASES = {
    "firewall-drop": Proof(
        rule("-s 192.168.0.0/16 -j DROP"),
        rule("-i virbr0 -j REJECT", "LIBVIRT_FWO"),
        OUT,
        says="cause",
        trap_says="context",
    ),
    "bridge-filter-drop": Proof(
        nft("bridge", "f", base_chain("fw", "forward", policy="drop")),
        nft("bridge", "f", base_chain("fw", "forward", spoken("accept", Accept()), policy="drop")),
        PEER,
        says="cause",
    ),
    "nwfilter-wrong-ip": Proof(
        nwfilter("I-vnet0-ipv4-ip", "-p IPv4 --ip-src ! 192.168.1.77 -j DROP"),
        nwfilter("I-vnet0-ipv4-ip", "-p IPv4 --ip-src ! 192.168.1.1 -j DROP"),
        PEER,
        says="cause",
    ),
    "nwfilter-mac-spoof-nested": Proof(
        nwfilter("I-vnet0-mac", "-s ! 52:54:00:77:77:77 -j DROP"),
        nwfilter("I-vnet0-mac", f"-s ! {MAC0} -j DROP"),
        PEER,
        says="cause",
    ),
    "firewalld-libvirt-zone": Proof(
        firewalld("filter_FWD_public"), firewalld("filter_FWD_libvirt"), OUT, says="cause"
    ),
    "nft-netdev-or-xdp-drop": Proof(
        nft("netdev", "d", base_chain("in", "ingress", DROPPED, devices=("vnet0",))),
        link("vnet0", xdp=(Xdp(mode="native", program=3),)),
        OUT,
        says="cause",
    ),
    "nft-stale-ifindex": Proof(
        nft("inet", "t", base_chain("fw", "forward", spoken("iif 4 accept"))),
        nft("inet", "t", base_chain("fw", "forward", spoken('iif "virbr0" accept'))),
        says="latent",
    ),
    "conntrack-invalid-asymmetric": Proof(
        INVALID,
        INVALID,
        ("192.168.1.1", "172.16.0.12", "tcp", 80),
        ("vm1", "10.0.0.9", "tcp", 80),
        says="cause",
        base=ONE_WAY,
    ),
    "docker-forward-drop-vs-libvirt-nft": Proof(
        every(
            more_tables(Table(family="ip", name="libvirt_network", backend="nft")),
            policy("FORWARD", "drop"),
            rule("-j RETURN", "LIBVIRT_FWO"),
        ),
        policy("FORWARD", "drop"),
        OUT,
        says="cause",
    ),
    "docker-raw-drop-to-container": Proof(
        every(DOCKER0, CONTAINER_RAW),
        every(DOCKER0, CONTAINER_RAW),
        ("vm0", "172.17.0.2"),
        OUT,
        says="context",
    ),
    "docker-subnet-overlap": Proof(DOCKER0, DOCKER0, ("vm0", "172.17.5.5"), OUT, says="cause"),
    "dnat-iface-mismatch": Proof(dnat("-i eth9"), every(dnat("-i eth9"), dnat("-i eth0")), IN),
    "dnat-local-test": Proof(
        dnat("-d 10.0.0.10/32"),
        every(dnat("-d 10.0.0.10/32"), dnat("-d 10.0.0.10/32", chain="OUTPUT")),
        ("host", "10.0.0.10", "tcp", 8080),
        says="context",
    ),
    "hairpin-nat": Proof(
        dnat("-i eth0", "192.168.1.2:80"),
        dnat("-i eth0", "192.168.1.2:80"),
        ("vm0", "10.0.0.10", "tcp", 8080),
        IN,
        says="cause",
    ),
    "accept-rule-after-reject": Proof(
        every(rule("-s 192.168.1.1/32 -j ACCEPT"), rule("-i virbr0 -j REJECT")),
        every(rule("-s 172.31.0.0/16 -j ACCEPT"), rule("-i virbr0 -j REJECT")),
        OUT,
        says="cause",
    ),
    "fw-flush-lost-libvirt-rules": Proof(
        stack(tables=()), every(stack(tables=()), network(mode="route")), OUT, says="cause"
    ),
    "guest-firewall": Proof(
        rule("-p icmp -j DROP", "INPUT", stack="vm1"),
        rule("-p tcp -j DROP", "INPUT", stack="vm1"),
        PEER,
        says="cause",
    ),
    "iptables-legacy-nft-mix": Proof(
        more_tables(
            Table(
                family="ip",
                name="filter",
                backend="iptables-legacy",
                chains=(base_chain("FORWARD", "forward", policy="drop"),),
            )
        ),
        more_tables(LEGACY),
        OUT,
        says="cause",
    ),
    "masquerade-pinned-to-wrong-egress": Proof(
        every(
            stack(tables=()), rule("-s 192.168.0.0/16 -o eth9 -j MASQUERADE", "POSTROUTING", "nat")
        ),
        rule("-s 192.168.0.0/16 -o eth9 -j MASQUERADE", "POSTROUTING", "nat"),
        OUT,
        says="cause",
    ),
    "snat-fixed-address-stale": Proof(
        rule("-s 192.168.0.0/16 -o eth0 -j SNAT --to-source 10.0.0.99", "POSTROUTING", "nat"),
        every(
            address("lo", "203.0.113.5/32"),
            rule("-s 192.168.0.0/16 -o eth0 -j SNAT --to-source 203.0.113.5", "POSTROUTING", "nat"),
        ),
        OUT,
        says="cause",
    ),
    "vpn-killswitch-or-full-tunnel": Proof(
        rule("! -o wg0 -j DROP"), rule("-s 10.9.0.0/16 ! -o wg0 -j DROP"), OUT, says="cause"
    ),
    "dhcp-checksum-offload": Proof(
        every(stack(tables=()), no_address("eth0", "vm0")),
        no_address("eth0", "vm0"),
        OUT,
        says="context",
    ),
}


@pytest.mark.parametrize("check", proved(CASES))
def test_it_fires_on_its_fault_and_is_silent_on_its_trap(check):
    """The rule that decides is named, and one that does not is not."""
    prove(check, CASES[check])


def test_a_policy_between_firewalls_zones_is_no_wrong_zone():
    """firewalld(5): a policy that rejects is obeyed, whatever zone the bridge is in."""
    report = judge(firewalld("filter_FWD_policy_p1")(host_with(2)), *OUT)
    assert [f.check for f in report.findings if f.role == "cause"] == ["firewall-drop"]
