"""The sysctls that decide about packets, of the calling thread's network namespace.

``/proc/sys/net`` shows the namespace of the thread that opens a file there
(net/sysctl_net.c), unlike ``/proc/net``. Source: Documentation/networking/ip-sysctl.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/proc/sys")
_SINGLE = (
    "net/ipv4/ip_forward",
    "net/ipv4/icmp_echo_ignore_all",
    "net/ipv4/ip_default_ttl",
    "net/ipv4/fib_multipath_hash_policy",
    # Absent, and so without effect, as long as br_netfilter is not there.
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-arptables",
)
_PER_LINK = {
    "net/ipv4/conf": (
        "forwarding",
        "rp_filter",
        "accept_local",
        "src_valid_mark",
        "arp_ignore",
        "arp_announce",
        "arp_filter",
        "proxy_arp",
        "route_localnet",
        "send_redirects",
    ),
    "net/ipv6/conf": ("forwarding", "disable_ipv6", "accept_ra"),
}


def read_sysctls(root: Path = _ROOT) -> dict[str, str]:
    """Values by dotted name, sorted; what this kernel does not have is not among them.

    A dot in a link's name becomes a slash, as in sysctl(8).

    Raises:
        OSError: they may not be read.

    """
    # Without these there is no IPv4, or no /proc: that is not "read, and there is nothing".
    (root / "net/ipv4/ip_forward").read_text()
    return dict(sorted(_values(root)))


def _values(root: Path) -> Iterator[tuple[str, str]]:
    for path in _SINGLE:
        yield from _value(root, path, path.replace("/", "."))
    for folder, settings in _PER_LINK.items():
        try:
            links = sorted(entry.name for entry in (root / folder).iterdir())
        except FileNotFoundError:
            continue
        for link in links:
            prefix = f"{folder.replace('/', '.')}.{link.replace('.', '/')}"
            for setting in settings:
                yield from _value(root, f"{folder}/{link}/{setting}", f"{prefix}.{setting}")


def _value(root: Path, path: str, name: str) -> Iterator[tuple[str, str]]:
    try:
        yield name, (root / path).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        # Not in this kernel, or the link has gone since.
        return
