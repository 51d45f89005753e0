"""The place that is measured: a network namespace with many taps, routes and rules."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# A bridge takes 1,023 ports (BR_PORT_BITS in net/bridge/br_private.h).
_PORTS = 500


@dataclass(frozen=True)
class Size:
    """How much there is of everything."""

    taps: int
    routes: int
    rules: int


@contextmanager
def place(size: Size) -> Iterator[str]:
    """A namespace of that size; its name. It is gone afterwards."""
    name = f"kvmdiag-bench-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        _batch(name, ["ip", "-batch", "-"], _links(size))
        _batch(name, ["ip", "-batch", "-"], _routes(size))
        _batch(name, ["iptables-nft-restore"], _rules(size))
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


NATIVE = """
table inet mine {
  set ports { type inet_service; elements = { 22, 80, 443 } }
  chain forward {
    type filter hook forward priority 10; policy accept;
    tcp dport @ports counter accept
  }
}
"""


def add_native_table(name: str) -> None:
    """A table of nft's own beside those of iptables', as libvirt and firewalld make them."""
    _batch(name, ["nft", "-f", "-"], iter((NATIVE,)))


def _batch(name: str, argv: list[str], lines: Iterator[str]) -> None:
    text = "\n".join(lines) + "\n"
    subprocess.run(["ip", "netns", "exec", name, *argv], input=text, text=True, check=True)


def _links(size: Size) -> Iterator[str]:
    yield "link set lo up"
    bridges = -(-size.taps // _PORTS)
    for bridge in range(bridges):
        yield f"link add br{bridge} up type bridge"
        yield f"addr add 10.{bridge}.0.1/16 dev br{bridge}"
    for tap in range(size.taps):
        yield f"tuntap add vnet{tap} mode tap"
        yield f"link set vnet{tap} up master br{tap // _PORTS}"
        bridge, rest = tap // _PORTS, tap % _PORTS
        address = f"10.{bridge}.{1 + rest // 250}.{1 + rest % 250}"
        mac = f"52:54:00:00:{tap >> 8:02x}:{tap & 255:02x}"
        # Only permanent ones are not counted against gc_thresh3, which all namespaces share.
        yield f"neigh add {address} lladdr {mac} dev br{bridge} nud permanent"


def _routes(size: Size) -> Iterator[str]:
    for route in range(size.routes):
        where = f"172.{16 + (route >> 12)}.{(route >> 4) & 255}.{(route & 15) << 4}/28"
        # The gateway's ARP entry need not be there for a route to be.
        yield f"route add {where} via 10.0.1.{1 + route % 250} dev br0"


def _rules(size: Size) -> Iterator[str]:
    """Like those of a host with many guests: a chain of six rules for each."""
    guests = size.rules // 8
    yield "*filter"
    yield ":FORWARD DROP [0:0]"
    for guest in range(guests):
        yield f":G-{guest} - [0:0]"
    for guest in range(guests):
        address = f"10.{guest // 62500}.{guest // 250 % 250}.{1 + guest % 250}"
        yield f"-A FORWARD -m physdev --physdev-out vnet{guest} --physdev-is-bridged -j G-{guest}"
        yield f"-A FORWARD -d {address}/32 -o br0 -j G-{guest}"
        yield f"-A G-{guest} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"
        yield f"-A G-{guest} -m conntrack --ctstate INVALID -m comment --comment bad -j DROP"
        yield f"-A G-{guest} -s 192.0.2.0/24 -p tcp -m tcp --dport {1024 + guest} -j RETURN"
        yield f"-A G-{guest} -p tcp -m multiport --dports 80,443 -j ACCEPT"
        yield f"-A G-{guest} -d {address}/32 -p udp -m udp --sport 67 --dport 68 -j ACCEPT"
        yield f"-A G-{guest} -j REJECT --reject-with icmp-port-unreachable"
    yield "COMMIT"
