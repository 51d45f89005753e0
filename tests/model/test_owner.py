"""Whose rule it is."""

from __future__ import annotations

import pytest

from kvmdiag.model.netfilter import Backend
from kvmdiag.model.owner import owner_of
from kvmdiag.model.trace import RuleRef


def ref(chain: str, text: str = "", table: str = "filter", backend: Backend = "nft") -> RuleRef:
    """A rule, by what tells its owner."""
    return RuleRef(
        stack="host", family="ip", backend=backend, table=table, chain=chain, index=0, text=text
    )


@pytest.mark.parametrize(
    ("rule", "owner"),
    [
        (ref("LIBVIRT_FWI"), "libvirt"),
        (ref("FORWARD", "-A FORWARD -j LIBVIRT_FWX"), "libvirt"),
        (ref("guest_output", table="libvirt_network"), "libvirt"),
        (ref("libvirt-I-vnet0"), "libvirt (nwfilter)"),
        (ref("FI-vnet0"), "libvirt (nwfilter)"),
        (ref("DOCKER-USER"), "Docker"),
        (ref("filter-forward", table="docker-bridges"), "Docker"),
        (ref("filter_FORWARD", table="firewalld"), "firewalld"),
        (ref("IN_public_deny"), "firewalld"),
        (ref("FORWARD_direct"), "firewalld"),
        (ref("ufw-before-forward"), "ufw"),
        (ref("ufw6-user-input"), "ufw"),
        (ref("neutron-openvswi-FORWARD"), "OpenStack Neutron"),
        (ref("KUBE-SERVICES"), "kube-proxy"),
        (ref("KUBE-ROUTER-FORWARD"), "kube-router"),
        (ref("cali-FORWARD"), "Calico"),
        (ref("KUBEVIRT_PREINBOUND"), "KubeVirt"),
        (ref("CNI-FORWARD"), "CNI plugins"),
        (ref("FLANNEL-FWD"), "flannel"),
        (ref("NETAVARK_FORWARD"), "Podman"),
        (ref("f2b-sshd"), "fail2ban"),
        (ref("INPUT", '-A INPUT -m comment --comment "generated for LXD network" -j X'), "LXD"),
        (ref("FORWARD", "-A FORWARD -i eth0 -j DROP"), None),
        (ref("forward", "ip daddr 10.0.0.9 drop"), None),
        (ref("IN_THE_WAY"), None),
        (ref("POSTROUTING", table="nat"), None),
    ],
    ids=lambda value: value.chain if isinstance(value, RuleRef) else str(value),
)
def test_owner(rule: RuleRef, owner: str | None) -> None:
    """By table, chain, target or comment; nobody where nothing tells."""
    assert owner_of(rule) == owner


def test_a_table_of_that_name_is_only_nfts_own() -> None:
    """An iptables table is called filter or nat, whoever filled it."""
    assert owner_of(ref("FORWARD", table="firewalld", backend="iptables-legacy")) is None
