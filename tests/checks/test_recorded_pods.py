"""Pods, the virtual machines in them, and their nodes, on recorded facts."""

import pytest

from kvmdiag.model.link import Bridge, LinkRef
from kvmdiag.model.matches import AddressIs
from kvmdiag.model.netfilter import Chain, Rule, Table
from kvmdiag.model.statements import Masquerade

from .build import proved
from .recorded import (
    Proof,
    address,
    every,
    link,
    more_tables,
    no_address,
    no_default_route,
    prove,
    route,
    rule,
    stack,
    sysctls,
)

OUT = ("vm0", "10.0.0.9")
IN = ("10.0.0.9", "10.0.0.10", "tcp", 8080)
POD = every(
    link("k6t-eth0", kind="bridge", mac="02:00:00:00:00:00", bridge=Bridge()),
    address("k6t-eth0", "10.0.2.1/24"),
)
IN_POD = every(
    POD,
    link("vnet0", master="k6t-eth0"),
    no_address("eth0", "vm0"),
    address("eth0", "10.0.2.2/24", "vm0"),
)
# The machine in the pod has its way out by the pod, whose rules are gone.
BARE_POD = every(
    IN_POD,
    no_default_route("vm0"),
    route("0.0.0.0/0", "vm0", link="eth0", gateway="10.0.2.1"),
    sysctls(**{"net__ipv4__conf__k6t-eth0__forwarding": "1"}),
    stack(tables=()),
)
TRANSLATED = Rule(
    text="ip saddr 10.0.2.0/24 masquerade",
    body=(AddressIs(side="src", networks=("10.0.2.0/24",)), Masquerade()),
)
IN_NFT = Table(
    family="ip",
    name="kubevirt",
    backend="nft",
    chains=(Chain(name="post", hook="postrouting", type="nat", priority=100, rules=(TRANSLATED,)),),
)


def calico(pod: str):
    """vm0 as a pod of Calico's with this address, and a pool without natOutgoing."""
    return every(
        link("vnet0", name="cali0", kind="veth", master=None, port=None),
        no_address("eth0", "vm0"),
        link("eth0", "vm0", peer=LinkRef("host", "cali0")),
        address("eth0", f"{pod}/32", "vm0"),
        route("169.254.1.1/32", "vm0", link="eth0", scope="link"),
        route("0.0.0.0/0", "vm0", link="eth0", gateway="169.254.1.1"),
        route(f"{pod}/32", link="cali0", scope="link"),
        sysctls(net__ipv4__conf__cali0__proxy_arp="1", net__ipv4__conf__cali0__forwarding="1"),
        rule("-j ACCEPT"),
        more_tables(
            Table(
                family="ip",
                name="calico",
                backend="nft",
                chains=(Chain(name="cali-nat-outgoing"),),
            )
        ),
    )


# By check: what makes it fire, and what looks like it and is harmless.
CASES = {
    "calico-natoutgoing-off": Proof(calico("10.233.70.50"), calico("8.8.4.4"), OUT, says="cause"),
    "kubevirt-launcher-nat-missing": Proof(
        BARE_POD, every(BARE_POD, more_tables(IN_NFT)), OUT, says="cause"
    ),
    "kubevirt-ports-list": Proof(
        every(
            POD,
            rule("-p tcp -m tcp --dport 22 -j DNAT --to-destination 10.0.2.2", "PREROUTING", "nat"),
        ),
        every(POD, rule("-p tcp -j DNAT --to-destination 192.168.1.1", "PREROUTING", "nat")),
        IN,
        says="context",
    ),
    "kubevirt-cidr-overlap": Proof(IN_POD, IN_POD, ("vm0", "10.0.2.99"), OUT, says="cause"),
    "kubevirt-pod-ip-changed": Proof(
        POD, every(POD, no_address("virbr0")), ("vm0", "192.168.9.9"), OUT, says="context"
    ),
}


@pytest.mark.parametrize("check", proved(CASES))
def test_it_fires_on_its_fault_and_is_silent_on_its_trap(check):
    """What a pod or its node lacks is named, and what is only unlike other hosts is not."""
    prove(check, CASES[check])
