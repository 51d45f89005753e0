"""Rulesets to read, and what is read of them."""

from __future__ import annotations

from kvmdiag.collect.netfilter import tables as netfilter
from kvmdiag.model.netfilter import Table
from kvmdiag.model.snapshot import Gap
from kvmdiag.system.namespaces import entered

NET = "192.168.122.0/24"
LIBVIRT = f"""\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:LIBVIRT_PRT - [0:0]
-A POSTROUTING -j LIBVIRT_PRT
-A LIBVIRT_PRT -s {NET} -d 224.0.0.0/24 -j RETURN
-A LIBVIRT_PRT -s {NET} ! -d {NET} -p tcp -j MASQUERADE --to-ports 1024-65535
-A LIBVIRT_PRT -s {NET} ! -d {NET} -j MASQUERADE
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:LIBVIRT_FWI - [0:0]
:DOCKER - [0:0]
-A FORWARD -j LIBVIRT_FWI
-A FORWARD -j DOCKER
-A LIBVIRT_FWI -d {NET} -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A LIBVIRT_FWI -o virbr0 -j REJECT --reject-with icmp-port-unreachable
-A DOCKER -p tcp -m multiport --dports 80,443 -j ACCEPT
COMMIT
"""
NATIVE = """
table ip libvirt_network {
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "virbr0" counter reject
  }
}
"""


def read(host) -> tuple[dict[tuple[str, str, str], Table], tuple[Gap, ...]]:
    """The tables by backend, family and name, and the gaps."""
    with entered(host.path):
        tables, gaps = netfilter.read_tables("host")
    assert tables is not None, gaps
    by_name = {(t.backend, t.family, t.name): t for t in tables}
    assert len(by_name) == len(tables)
    return by_name, gaps
