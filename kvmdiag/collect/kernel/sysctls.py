"""The sysctls that decide about packets, of the calling thread's network namespace.

Those of each link come with the link itself (IFLA_INET_CONF, IFLA_INET6_CONF): one message
instead of dozens of files. The others are files: ``/proc/sys/net`` shows the namespace of the
thread that opens a file there (net/sysctl_net.c), unlike ``/proc/net``.
Source: Documentation/networking/ip-sysctl.rst, bridge.rst, nf_conntrack-sysctl.rst;
include/uapi/linux/ip.h and ipv6.h (the numbers); net/ipv4/devinet.c, net/ipv6/addrconf.c.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from kvmdiag.collect.kernel.attributes import each
from kvmdiag.collect.kernel.links import RawLink

_ROOT = Path("/proc/sys")
_SINGLE = (
    "net/ipv4/ip_forward",
    "net/ipv4/ip_default_ttl",
    "net/ipv4/ip_nonlocal_bind",
    "net/ipv4/ip_no_pmtu_disc",
    "net/ipv4/ip_forward_use_pmtu",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_early_demux",
    "net/ipv4/icmp_echo_ignore_all",
    "net/ipv4/icmp_echo_ignore_broadcasts",
    "net/ipv4/icmp_ratelimit",
    "net/ipv4/icmp_ratemask",
    "net/ipv4/icmp_errors_use_inbound_ifaddr",
    "net/ipv4/fib_multipath_hash_policy",
    "net/ipv4/fib_multipath_use_neigh",
    "net/ipv4/fwmark_reflect",
    "net/ipv4/nexthop_compat_mode",
    "net/ipv4/raw_l3mdev_accept",
    "net/ipv4/tcp_l3mdev_accept",
    "net/ipv4/udp_l3mdev_accept",
    "net/ipv4/tcp_fwmark_accept",
    "net/ipv4/tcp_mtu_probing",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv4/neigh/default/gc_thresh1",
    "net/ipv4/neigh/default/gc_thresh2",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv6/bindv6only",
    "net/ipv6/ip_nonlocal_bind",
    "net/ipv6/fib_multipath_hash_policy",
    "net/ipv6/fwmark_reflect",
    "net/ipv6/icmp/echo_ignore_all",
    "net/ipv6/icmp/ratelimit",
    "net/ipv6/neigh/default/gc_thresh1",
    "net/ipv6/neigh/default/gc_thresh2",
    "net/ipv6/neigh/default/gc_thresh3",
    "net/ipv6/route/max_size",
    # Absent, and so without effect, as long as br_netfilter is not there.
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-arptables",
    "net/bridge/bridge-nf-filter-vlan-tagged",
    "net/bridge/bridge-nf-filter-pppoe-tagged",
    "net/bridge/bridge-nf-pass-vlan-input-dev",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_buckets",
    "net/netfilter/nf_conntrack_expect_max",
    "net/netfilter/nf_conntrack_acct",
    "net/netfilter/nf_conntrack_checksum",
    "net/netfilter/nf_conntrack_helper",
    "net/netfilter/nf_conntrack_log_invalid",
    "net/netfilter/nf_conntrack_tcp_be_liberal",
    "net/netfilter/nf_conntrack_tcp_loose",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "net/netfilter/nf_conntrack_udp_timeout",
    "net/netfilter/nf_conntrack_icmp_timeout",
    "net/netfilter/nf_hooks_lwtunnel",
    "net/netfilter/nf_log/2",
    "net/netfilter/nf_log/7",
    "net/netfilter/nf_log/10",
    "net/core/default_qdisc",
    "net/core/netdev_max_backlog",
    "net/core/netdev_budget",
    "net/core/fb_tunnels_only_for_init_net",
    "net/core/devconf_inherit_init_net",
)
# By number, counted from 1 (IPV4_DEVCONF_*).
_IPV4: Mapping[int, str] = {
    1: "forwarding",
    3: "proxy_arp",
    4: "accept_redirects",
    6: "send_redirects",
    7: "shared_media",
    8: "rp_filter",
    9: "accept_source_route",
    11: "log_martians",
    13: "arp_filter",
    15: "disable_xfrm",
    16: "disable_policy",
    18: "arp_announce",
    19: "arp_ignore",
    20: "promote_secondaries",
    21: "arp_accept",
    23: "accept_local",
    24: "src_valid_mark",
    25: "proxy_arp_pvlan",
    26: "route_localnet",
    29: "ignore_routes_with_linkdown",
    30: "drop_unicast_in_l2_multicast",
    31: "drop_gratuitous_arp",
    32: "bc_forwarding",
}
# By number, counted from 0 (DEVCONF_*).
_IPV6: Mapping[int, str] = {
    0: "forwarding",
    1: "hop_limit",
    2: "mtu",
    3: "accept_ra",
    4: "accept_redirects",
    5: "autoconf",
    6: "dad_transmits",
    10: "use_tempaddr",
    17: "accept_ra_defrtr",
    18: "accept_ra_pinfo",
    21: "accept_ra_rt_info_max_plen",
    22: "proxy_ndp",
    24: "accept_source_route",
    26: "disable_ipv6",
    27: "accept_dad",
    33: "accept_ra_from_local",
    35: "accept_ra_mtu",
    39: "ignore_routes_with_linkdown",
    42: "keep_addr_on_down",
    47: "addr_gen_mode",
    48: "disable_policy",
}
_ALL = ("all", "default")
_CONF = 1  # IFLA_INET_CONF
_CONF6 = 2  # IFLA_INET6_CONF


def read_sysctls(links: Iterable[RawLink], root: Path = _ROOT) -> dict[str, str]:
    """Values by dotted name, sorted; what this kernel does not have is not among them.

    A dot in a link's name becomes a slash, as in sysctl(8).

    Raises:
        OSError: they may not be read.

    """
    # Without these there is no IPv4, or no /proc: that is not "read, and there is nothing".
    (root / "net/ipv4/ip_forward").read_text()
    found = dict(_from_files(root))
    for link in links:
        found.update(of_link(link))
    return dict(sorted(found.items()))


def of_link(link: RawLink) -> Iterator[tuple[str, str]]:
    """The sysctls of one link, out of what the kernel says of it; none without IP on it."""
    name = link.name.replace(".", "/")
    for family, data in each(link.fields.get("families", b"")):
        if family == socket.AF_INET:
            prefix, wanted, attribute, first = f"net.ipv4.conf.{name}.", _IPV4, _CONF, 1
        elif family == socket.AF_INET6:
            prefix, wanted, attribute, first = f"net.ipv6.conf.{name}.", _IPV6, _CONF6, 0
        else:
            continue
        for kind, packed in each(data):
            if kind == attribute:
                values = struct.unpack_from(f"={len(packed) // 4}i", packed)
                for number, setting in wanted.items():
                    if number - first < len(values):
                        yield prefix + setting, str(values[number - first])


def _from_files(root: Path) -> Iterator[tuple[str, str]]:
    for path in _SINGLE:
        yield from _value(root, path)
    for folder, settings in (("net/ipv4/conf", _IPV4), ("net/ipv6/conf", _IPV6)):
        for link in _ALL:
            for setting in settings.values():
                yield from _value(root, f"{folder}/{link}/{setting}")


def _value(root: Path, path: str) -> Iterator[tuple[str, str]]:
    try:
        with open(f"{root}/{path}", encoding="ascii", errors="replace") as file:
            yield path.replace("/", "."), file.read().strip()
    except FileNotFoundError:
        # Not in this kernel, or not in this namespace.
        return
