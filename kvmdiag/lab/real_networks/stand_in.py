"""Practice networks of namespaces in which one guest is a real virtual machine instead."""

from __future__ import annotations

import msgspec

from kvmdiag.lab.networks import devstack, kubevirt
from kvmdiag.lab.real_networks import parts
from kvmdiag.lab.real_spec import RealGuest, RealNetwork, RealNic
from kvmdiag.lab.spec import Link, Machine, Network


def _with_real(network: Network, guest: str, libvirt_in: str = "host") -> RealNetwork:
    """The network with a real guest, configured as its namespace was.

    The veth pair in the place of its tap goes; libvirt, which runs in the machine
    ``libvirt_in``, makes a real one of that name.
    """
    (inside,) = (machine for machine in network.machines if machine.name == guest)
    (nic,) = inside.links
    cables = (link for machine in network.machines for link in machine.links)
    tap = next(link for link in cables if link.peer == f"{guest}:{nic.name}")
    return RealNetwork(
        namespaces=msgspec.structs.replace(
            network,
            machines=tuple(_without(m, tap) for m in network.machines if m is not inside),
        ),
        virtual={},
        guests=(
            RealGuest(
                name=guest,
                nics=(RealNic(name=nic.name, mac=nic.mac, bridge=tap.master, target=tap.name),),
                setup=parts.static(inside),
            ),
        ),
        libvirt_in=libvirt_in,
    )


def _without(machine: Machine, cable: Link) -> Machine:
    links = tuple(link for link in machine.links if link is not cable)
    return msgspec.structs.replace(machine, links=links)


DEVSTACK = _with_real(devstack.NETWORK, "instance")
"""The instance behind Neutron's router is a virtual machine of the host's libvirt."""

KUBEVIRT = _with_real(kubevirt.NETWORK, "guest", libvirt_in="launcher")
"""libvirt and QEMU run in the pod's namespace, as those of virt-launcher do, where nobody on the
node asks them: the guest is known by its QEMU alone."""
