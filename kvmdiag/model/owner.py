"""Which program made a rule, told by the names it gives to its tables and chains.

Who restarts, and puts the rules back, is who must be asked to change them.
"""

from __future__ import annotations

import re

from kvmdiag.model.trace import RuleRef

# Names of chains (iptables style), then of whole nft tables; the first that fits counts.
_CHAINS = tuple(
    (re.compile(pattern), owner)
    for pattern, owner in (
        (r"LIBVIRT_", "libvirt"),
        (r"libvirt-|[FH]?[IJO][IJ]?-vnet|[FH][IJO]-", "libvirt (nwfilter)"),
        (r"DOCKER", "Docker"),
        (r"ufw6?-", "ufw"),
        (r"neutron-", "OpenStack Neutron"),
        (r"nova-", "OpenStack Nova"),
        (r"KUBE-ROUTER|KUBE-(POD-FW|NWPLCY)", "kube-router"),
        (r"KUBE-", "kube-proxy"),
        (r"KUBEVIRT", "KubeVirt"),
        (r"cali-", "Calico"),
        (r"CILIUM", "Cilium"),
        (r"FLANNEL", "flannel"),
        (r"WEAVE", "Weave Net"),
        (r"ANTREA", "Antrea"),
        (r"ISTIO", "Istio"),
        (r"CNI-", "CNI plugins"),
        (r"NETAVARK", "Podman"),
        (r"f2b-|fail2ban-", "fail2ban"),
        (r"ts-(input|forward|postrouting)", "Tailscale"),
        (r"MINIUPNPD", "miniupnpd"),
        (r"lxd_|lxc_", "LXD"),
        (
            r"(INPUT|FORWARD|OUTPUT|PREROUTING|POSTROUTING)_((IN|OUT)_)?(direct|ZONES|POLICIES)"
            r"|(IN|FWDI|FWDO|FWD|PRE|POST)_(\w+_(log|deny|allow|pre|post)$"
            r"|(public|home|work|internal|external|dmz|block|drop|trusted|libvirt|docker)\b)",
            "firewalld",
        ),
    )
)  # fmt: skip
_TABLES = {
    "libvirt_network": "libvirt",
    "firewalld": "firewalld",
    "docker-bridges": "Docker",
    "netavark": "Podman",
    "incus": "Incus",
    "lxd": "LXD",
    "lxc": "LXC",
    "kube-proxy": "kube-proxy",
    "calico": "Calico",
    "flannel-ipv4": "flannel",
    "flannel-ipv6": "flannel",
    "cilium": "Cilium",
    "f2b-table": "fail2ban",
    "miniupnpd": "miniupnpd",
    "fw4": "OpenWrt's fw4",
    "kubevirt": "KubeVirt",
}
_JUMP = re.compile(r"(?:^| )(?:-j|-g|jump|goto) (\S+)")
_COMMENTS = (
    (re.compile(r"generated for LXD"), "LXD"),
    (re.compile(r"generated for (LXC|Incus)"), "Incus"),
    (re.compile(r"kubernetes|kubelet"), "Kubernetes"),
    (re.compile(r"cali:|Calico"), "Calico"),
    (re.compile(r"libvirt"), "libvirt"),
    (re.compile(r"\bdocker\b", re.IGNORECASE), "Docker"),
    (re.compile(r"\bpuppet\b", re.IGNORECASE), "Puppet"),
)
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_COMMENT = re.compile(rf"--comment (?:{_QUOTED}|\S+)|\bcomment {_QUOTED}")


def owner_of(rule: RuleRef) -> str | None:
    """The program whose rule it is, by its table, its chain, its target or its comment.

    ``None``: nobody known; somebody's own rule, most likely. A policy has no owner that its
    name would tell.
    """
    if rule.backend == "nft" and rule.table in _TABLES:
        return _TABLES[rule.table]
    for name in (rule.chain, *_JUMP.findall(rule.text)):
        for pattern, owner in _CHAINS:
            if pattern.match(name):
                return owner
    for comment in _COMMENT.findall(rule.text):
        for pattern, owner in _COMMENTS:
            if pattern.search(comment):
                return owner
    return None
