"""The practice networks with real guests."""

from __future__ import annotations

from kvmdiag.lab.real_networks import cluster, kubevirt, libvirt_nat, models, neighbours

_ALL = (
    cluster.REAL_NETWORK,
    kubevirt.REAL_NETWORK,
    libvirt_nat.REAL_NETWORK,
    models.REAL_NETWORK,
    neighbours.REAL_NETWORK,
)
REAL_NETWORKS = {made.namespaces.name: made for made in _ALL}
"""By name."""
