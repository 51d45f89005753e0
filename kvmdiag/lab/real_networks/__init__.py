"""The practice networks with real guests."""

from __future__ import annotations

from kvmdiag.lab.real_networks import cluster, libvirt_nat, models, neighbours, stand_in

_ALL = (
    cluster.REAL_NETWORK,
    stand_in.DEVSTACK,
    stand_in.KUBEVIRT,
    libvirt_nat.REAL_NETWORK,
    models.REAL_NETWORK,
    neighbours.REAL_NETWORK,
)
REAL_NETWORKS = {made.namespaces.name: made for made in _ALL}
"""By name."""
