"""The catalogue of faults: every fault that is known by name, and how far its check can tell.

The list stands apart from the checks, so that a check that is lost, or a fault that has none,
is noticed. ``suspected`` are those that no fact of a host decides: their checks say what
would prove them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvmdiag.diagnose.check import Check

SUSPECTED = frozenset(
    {
        "bridge-mac-changed",
        "cloud-port-security",
        "dhcp-checksum-offload",
        "dns-forward-loop",
        "dns-upstream-unreachable",
        "guest-nic-renamed",
        "kernel-upgraded-modules-gone",
        "kubevirt-pod-ip-changed",
        "libvirt-fw-binary-missing",
        "macvtap-rxfilter-ipv6",
        "macvtap-vepa-no-reflect",
        "nat-port-exhaustion",
        "networkd-removes-foreign",
        "nm-grabs-tap",
        "ovs-port-dead-or-untagged",
        "provider-mac-filter",
        "qemu-bridge-helper-acl",
        "routed-net-no-return-route",
        "sriov-vf-to-pf-bridge",
        "tap-queue-drops",
        "vhost-net-missing",
        "vmware-promiscuous",
        "vxlan-csum-offload",
    }
)

CATALOGUE: tuple[str, ...] = (
    "bridge-nf-forward-drop",
    "libvirt-net-inactive",
    "docker-forward-drop-vs-libvirt-nft",
    "fw-flush-lost-libvirt-rules",
    "ip-forward-off",
    "dnat-blocked-by-libvirt-reject",
    "nested-or-lan-subnet-overlap",
    "bridge-ip-left-on-port",
    "host-input-fw-blocks-dhcp-dns",
    "net-restart-orphan-taps",
    "macvtap-host-guest-isolated",
    "wifi-cannot-bridge",
    "masquerade-pinned-to-wrong-egress",
    "masquerade-missing",
    "clone-same-machine-id-same-ip",
    "guest-no-lease-or-address",
    "guest-no-default-route",
    "guest-nic-renamed",
    "runtime-config-lost-after-reboot",
    "dnsmasq-port-conflict",
    "dns-single-label-resolved",
    "routed-net-no-return-route",
    "mtu-pmtu-blackhole",
    "firewalld-libvirt-zone",
    "kernel-upgraded-modules-gone",
    "accept-rule-after-reject",
    "nat-inbound-by-design",
    "guest-no-dns",
    "provider-mac-filter",
    "bridge-uplink-missing",
    "bridge-uplink-no-carrier",
    "guest-wrong-bridge",
    "tap-admin-down",
    "guest-link-state-down",
    "tap-no-carrier",
    "guest-paused-tap-drops",
    "masquerade-too-wide",
    "snat-fixed-address-stale",
    "stale-conntrack-after-nat-change",
    "guest-rp-filter-multihomed",
    "host-rp-filter-fwmark",
    "two-default-routes",
    "multi-nic-same-subnet-arp-flux",
    "duplicate-mac",
    "duplicate-ip",
    "public-range-as-private",
    "nat-to-nat-blocked",
    "isolated-no-gateway",
    "bridge-without-ip",
    "missing-bridge-start-fail",
    "virtnetworkd-down",
    "libvirt-fw-binary-missing",
    "qemu-user-mode",
    "qemu-bridge-helper-acl",
    "stp-forward-delay",
    "bridge-loop",
    "bridge-mac-changed",
    "vlan-filter-mismatch",
    "vlan-subif-steals-tags",
    "libvirt-vlan-on-linux-bridge",
    "port-isolated",
    "bridge-flood-learning-off",
    "mcast-snooping-nd-loss",
    "link-local-frames-not-forwarded",
    "bond-alb-under-bridge",
    "fdb-arp-stale-after-migration",
    "static-neigh-wrong",
    "arp-policy-blocks",
    "nwfilter-wrong-ip",
    "nwfilter-mac-spoof-nested",
    "cloud-port-security",
    "vmware-promiscuous",
    "sriov-vf-spoof-trust",
    "sriov-vf-to-pf-bridge",
    "macvtap-rxfilter-ipv6",
    "macvtap-vepa-no-reflect",
    "ovs-virtualport-missing",
    "ovs-port-dead-or-untagged",
    "dhcp-checksum-offload",
    "vxlan-csum-offload",
    "dhcp-pool-exhausted",
    "dhcp-double-or-rogue",
    "libvirt-bridge-owns-uplink",
    "dnsmasq-dead",
    "dnsmasq-hostsfile-in-confdir",
    "dns-forward-loop",
    "dns-upstream-unreachable",
    "vpn-killswitch-or-full-tunnel",
    "vpn-specific-route-steals-guest-net",
    "docker-subnet-overlap",
    "docker-raw-drop-to-container",
    "conntrack-table-full",
    "conntrack-invalid-asymmetric",
    "neigh-table-overflow",
    "hairpin-nat",
    "dnat-local-test",
    "dnat-iface-mismatch",
    "nat-port-exhaustion",
    "iptables-legacy-nft-mix",
    "nft-stale-ifindex",
    "nft-netdev-or-xdp-drop",
    "per-iface-forwarding-off",
    "policy-or-blackhole-route",
    "networkd-removes-foreign",
    "nm-grabs-tap",
    "ipv6-ra-lost-on-forwarding",
    "ipv6-libvirt-refuses",
    "ipv6-no-egress",
    "kubevirt-pod-ip-changed",
    "kubevirt-ports-list",
    "kubevirt-cidr-overlap",
    "kubevirt-launcher-nat-missing",
    "kubevirt-mtu",
    "calico-ip-autodetect",
    "calico-natoutgoing-off",
    "routed-proxy-arp-missing",
    "jumbo-mtu-bridge-min",
    "qos-bandwidth-cap",
    "tap-queue-drops",
    "vhost-net-missing",
    "multiqueue-unused",
    "guest-firewall",
    "guest-driver-missing",
    "live-vs-config-drift",
)
"""Ids, roughly the most common first."""

EXTRA: tuple[str, ...] = (
    "link-admin-down",
    "host-no-default-route",
    "gateway-absent",
    "ping-ignored",
    "firewall-drop",
    "bridge-filter-drop",
    "conntrack-bypassed",
    "route-source-wrong",
    "route-without-gateway",
    "wrong-netmask",
    "strict-rp-filter",
    "destination-absent",
    "bridge-port-blocked",
    "nic-given-to-passthru",
    "ttl-cut-short",
)
"""Checks in addition, for what befalls packets and none of the catalogue's faults covers."""


def state(name: str) -> str:
    """Whether the facts of a host decide a fault, or only suggest it."""
    return "suspected only" if name in SUSPECTED else "built"


def render(checks: Sequence[Check]) -> str:
    """The page of all checks: a table of the catalogue, then each check's explanation."""
    known = {check.id: check for check in checks}
    lines = [
        "# Checks",
        "",
        "Written by scripts/check-catalogue from the checks' own docstrings; `kvmdiag explain` "
        "prints the same text.",
        "",
        "*built*: the facts of the host decide. *suspected only*: they cannot, and the check says "
        "what would prove it.",
        "",
        "| check | what is wrong | state |",
        "|---|---|---|",
    ]
    lines += [_row(name, known) for name in CATALOGUE]
    lines += [
        "",
        f"In addition to these {len(CATALOGUE)} of the catalogue:",
        "",
        "| check | what is wrong | state |",
        "|---|---|---|",
        *(_row(name, known) for name in EXTRA),
    ]
    for name in (*CATALOGUE, *EXTRA):
        if name in known:
            lines += _page(known[name])
    return "\n".join(lines) + "\n"


def _row(name: str, known: Mapping[str, Check]) -> str:
    check = known.get(name)
    summary = "missing" if check is None else check.explanation.summary
    return f"| [{name}](#{name}) | {summary} | {state(name)} |"


def _page(check: Check) -> list[str]:
    lines = ["", f"## {check.id}", "", f"{check.explanation.summary}. ({check.severity.value})", ""]
    for heading, text in check.explanation.sections:
        lines.append(f"- **{heading}:** {text}")
    return lines
