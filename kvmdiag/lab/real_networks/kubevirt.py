"""The KubeVirt machine behind its pod and its node, as a real virtual machine.

    guest eth0 -- tap0 k6t-eth0 launcher eth0 -- cali... host ens192 -- outside

libvirt and QEMU run in the pod's namespace, as those of virt-launcher do, where nobody on the
node asks them: the guest is known by its QEMU alone.
"""

from __future__ import annotations

import msgspec

from kvmdiag.lab.networks import kubevirt
from kvmdiag.lab.real_spec import RealGuest, RealNetwork, RealNic
from kvmdiag.lab.spec import Fault, Machine, Shell

_IP = "/usr/sbin/ip"
_SETUP = f"""\
{_IP} link set eth0 mtu 1480 up
{_IP} address add 10.0.2.2/24 broadcast + dev eth0
{_IP} route add default via 10.0.2.1
"""


def _machine(machine: Machine) -> Machine:
    """A machine of the network without the cable to the guest, which QEMU brings."""
    links = tuple(link for link in machine.links if link.name != "tap0")
    return msgspec.structs.replace(machine, links=links)


def _fault(fault: Fault) -> Fault:
    if fault.machine != "guest":
        return fault
    return msgspec.structs.replace(fault, steps=(Shell("guest", f"{_IP} route del default"),))


REAL_NETWORK = RealNetwork(
    namespaces=msgspec.structs.replace(
        kubevirt.NETWORK,
        machines=tuple(_machine(m) for m in kubevirt.NETWORK.machines if m.name != "guest"),
        faults=tuple(map(_fault, kubevirt.NETWORK.faults)),
    ),
    virtual={},
    guests=(
        RealGuest(
            name="guest",
            nics=(RealNic(name="eth0", mac="52:54:00:02:00:02", bridge="k6t-eth0", target="tap0"),),
            setup=_SETUP,
        ),
    ),
    libvirt_in="launcher",
)
