"""The dnsmasq of a network of libvirt's: whether it can start, and whether it is there."""

from __future__ import annotations

from ipaddress import ip_interface

from kvmdiag.model.activity import ListeningSocket
from kvmdiag.model.libvirt import Network
from kvmdiag.model.stack import Stack

_DNS, _DHCP = 53, 67
_ANY = ("0.0.0.0", "::")  # noqa: S104 - what a socket says, nothing is bound


def holder_of_port_53(host: Stack) -> ListeningSocket | None:
    """A socket of the host for port 53 of every address."""
    taken = (s for s in host.sockets or () if s.port == _DNS and s.address in _ANY)
    return next(taken, None)


def kept_from_starting(network: Network, host: Stack) -> ListeningSocket | None:
    """What holds the port that this network would need for its name server to start."""
    if network.active or not network.addresses or not network.dns:
        return None
    return holder_of_port_53(host)


def lacks_dhcp(network: Network, host: Stack) -> bool:
    """Whether a network that is to serve DHCP is active and no program does."""
    if host.sockets is None or not network.active or not network.dhcp or network.bridge is None:
        return False
    # libvirt's dnsmasq binds its socket to the bridge: another network's is no help.
    return not any(
        s.port == _DHCP and s.protocol == "udp" and s.serves(network.bridge) is not False
        for s in host.sockets
    )


def lacks_dns(network: Network, host: Stack) -> bool:
    """Whether a network that is to answer DNS is active and no program takes such questions."""
    if host.sockets is None or not network.active or not network.dns:
        return False
    own = (_ANY[0], *(str(ip_interface(address).ip) for address in network.addresses))
    return not any(s.port == _DNS and s.address in (*own, _ANY[1]) for s in host.sockets)
