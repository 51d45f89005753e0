"""What the snapshot says of a namespace is what pyroute2, which is not ours, reads there.

The configurations are drawn from a small grammar by seeds, so that a failure comes again.
"""

from __future__ import annotations

import random

import msgspec
import pytest

from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.stack import Stack

from .configuration import PROXIES, configure
from .pyroute2_names import BRIDGE, PORT, VXLAN
from .pyroute2_reading import ORDERED, read_all

# The kernel makes these for itself; the snapshot leaves them out (ip neigh show nud noarp).
_NOBODY = ("224.", "ff", "127.", "::1")


@pytest.mark.parametrize("seed", range(8))
def test_the_snapshot_says_what_pyroute2_reads(host, eventually, seed):
    """Links, addresses, routes, policy rules, neighbours, FDB, tunnels and disciplines."""
    configure(host, random.Random(seed))
    taken = []

    def stood_still():
        """Carrier and operational state come in their own time."""
        before = read_all(host.path, PROXIES)
        stack = collect(Scope(host=host.path, libvirt=False)).stack("host")
        taken[:] = [_as_read(stack), before]
        return before == read_all(host.path, PROXIES)

    eventually(stood_still, "the namespace never settled", seconds=30)
    ours, theirs = taken
    theirs["neighbours"] = [one for one in theirs["neighbours"] if not _of_nobody(one)]
    told = {key for key, _ in theirs["links"]}
    ours["links"] = [one for one in ours["links"] if one[0] in told or "." not in one[0][1]]
    for what, entries in theirs.items():
        said = ours[what] if what in ORDERED else sorted(ours[what], key=repr)
        only = [one for one in said if one not in entries]
        assert (only, [one for one in entries if one not in said]) == ([], [])
        assert said == entries
    assert all(len(theirs[what]) > 2 for what in theirs if what != "tunnels")


def _of_nobody(neighbour) -> bool:
    return neighbour.state == "noarp" and neighbour.address.startswith(_NOBODY)


def _as_read(stack: Stack) -> dict[str, list]:
    """What of the stack pyroute2 tells too."""
    return {
        "links": [one for link in stack.links for one in _link(link).items()],
        "addresses": list(stack.addresses),
        # Nexthop objects pyroute2 does not know: only what the kernel makes of them.
        "routes": [msgspec.structs.replace(route, nexthop=None) for route in stack.routes],
        "rules": list(stack.policy_rules),
        "neighbours": list(stack.neighbours),
        "fdb": list(stack.fdb),
        "tunnels": list(stack.tunnels),
        "qdiscs": [
            (link.name, one.kind, int(one.handle.rstrip(":") or "0", 16))
            for link in stack.links
            for one in link.qdiscs
        ],
    }


def _link(link) -> dict[tuple[str, str], object]:
    same = (
        *("index", "name", "kind", "mac", "mtu", "up", "arp", "promiscuous", "all_multicast"),
        *("carrier", "carrier_changes", "operstate", "master", "lower", "group", "alias"),
        *("alternative_names", "tx_queue_length", "tx_queues", "rx_queues"),
    )
    found = {name: getattr(link, name) for name in same} | {"loopback": link.is_loopback}
    parts = {"bridge": (link.bridge, BRIDGE), "port": (link.port, PORT)}
    for what, (part, names) in (parts | {"vxlan": (link.vxlan, VXLAN)}).items():
        if part is not None:
            found |= {f"{what}.{name}": getattr(part, name) for name in names.values()}
    if link.port is not None:
        found["port.state"] = link.port.state
    if link.macvlan is not None:
        found["macvlan"] = link.macvlan.mode
    return {(link.name, what): value for what, value in found.items()}
