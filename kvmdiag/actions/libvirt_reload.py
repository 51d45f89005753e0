"""Having libvirt start the dnsmasq of a network again, without touching the network.

Measured with libvirt 9.0: on SIGHUP its daemon starts whatever dnsmasq of an active network has
died, and writes its rules anew; bridges, taps and guests stay as they are. Rules that were
flushed with their chains do not come back by it.
Sources: libvirt, src/network/bridge_driver.c (networkStateReload, networkRefreshDhcpDaemon);
virtnetworkd(8).
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface

import msgspec

from kvmdiag.actions.address import AddAddress
from kvmdiag.actions.libvirt_network import can_restart, network_daemon
from kvmdiag.actions.restarts import after_libvirt
from kvmdiag.model.activity import ListeningSocket
from kvmdiag.model.libvirt import Network
from kvmdiag.model.link import Link
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import NextHop, Route, Stack

_DNS, _DHCP = 53, 67
_EVERYWHERE = "0.0.0.0/0"


class ReloadNetworkDaemon(msgspec.Struct, frozen=True, kw_only=True):
    """``systemctl reload virtnetworkd`` (or libvirtd): starts the dnsmasq of ``network``.

    In a namespace, which has no systemd of its own, the signal goes to the daemon directly.
    """

    stack: str
    network: str
    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """By the unit, or ``kill -HUP PID``."""
        daemon = network_daemon(snapshot)
        if daemon is not None and not can_restart(snapshot, snapshot.stack(self.stack)):
            return ("kill", "-HUP", str(daemon.pid))
        return ("systemctl", "reload", "virtnetworkd" if daemon is None else daemon.name)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Nothing: what libvirt means to run runs again."""
        del snapshot
        return ()

    def persist(self, snapshot: Snapshot) -> str:
        """The next start of the network starts dnsmasq by itself."""
        del snapshot
        return "find out what ended it: libvirt starts it with the network, and not when it dies"

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """Somebody serves the network again, and its guests that lack their address get it."""
        network = next((n for n in snapshot.networks or () if n.name == self.network), None)
        if network is None:
            return snapshot
        snapshot = after_libvirt(snapshot)
        host = snapshot.stack(self.stack)
        if host.sockets is not None:
            sockets = (*host.sockets, *_sockets(network))
            snapshot = snapshot.with_stack(msgspec.structs.replace(host, sockets=sockets))
        for tap in host.links or ():
            if tap.master is not None and tap.master == network.bridge:
                snapshot = _with_lease(snapshot, network, tap)
        return snapshot


def can_reload(snapshot: Snapshot, stack: Stack) -> bool:
    """Whether libvirt's daemon can be told to reload from where kvmdiag runs."""
    daemon = network_daemon(snapshot)
    if daemon is None:
        return False
    is_here = daemon.pid is not None and daemon.stack == stack.name
    return is_here or can_restart(snapshot, stack)


def _sockets(network: Network) -> Iterator[ListeningSocket]:
    """What dnsmasq listens on."""
    if network.dhcp:
        links = () if network.bridge is None else (network.bridge,)
        yield _socket("udp", "0.0.0.0", _DHCP, links)  # noqa: S104 - nothing is bound
    for address in network.addresses if network.dns else ():
        for protocol in ("udp", "tcp"):
            yield _socket(protocol, str(ip_interface(address).ip), _DNS)


def _socket(protocol: str, address: str, port: int, links: tuple[str, ...] = ()) -> ListeningSocket:
    return ListeningSocket(
        protocol=protocol,
        address=address,
        port=port,
        uid=0,
        inode=0,
        processes=(),
        links=links,
        only_v6=False,
    )


def _with_lease(snapshot: Snapshot, network: Network, tap: Link) -> Snapshot:
    """The guest behind a tap with the address that DHCP keeps for it, and its gateway.

    Without such an address nobody can say which it gets.
    """
    far = tap.peer
    guest = next((s for s in snapshot.stacks if far is not None and s.name == far.stack), None)
    if far is None or guest is None or guest.addresses is None:
        return snapshot
    nic = next((link for link in guest.links or () if link.name == far.link), None)
    has = any(a.link == far.link and ":" not in a.address for a in guest.addresses)
    kept = () if nic is None or nic.mac is None else network.kept_for(nic.mac)
    address = next((one for one in kept if ":" not in one), None)
    served = next((own for own in network.addresses if ":" not in own), None)
    if has or address is None or served is None:
        return snapshot
    gateway = ip_interface(served)
    add = AddAddress(
        stack=guest.name, link=far.link, address=f"{address}/{gateway.network.prefixlen}"
    )
    guest = add.apply(snapshot).stack(guest.name)
    routes = guest.routes
    # In an isolated network DHCP names no gateway.
    if routes is not None and network.mode is not None:
        hop = NextHop(link=far.link, gateway=str(gateway.ip))
        routes = (*routes, Route(destination=_EVERYWHERE, next_hops=(hop,)))
    said = f"{guest.name} asks DHCP again and is given {address}: network {network.name} keeps it"
    return snapshot.with_stack(
        msgspec.structs.replace(guest, routes=routes, assumed=(*guest.assumed, said))
    )
