"""Starting a network of libvirt's, with what libvirt makes for it.

Sources: libvirt, src/network/bridge_driver.c (networkStartNetworkVirtual), network_iptables.c.
"""

from __future__ import annotations

import shlex
from ipaddress import ip_interface

import msgspec

from kvmdiag.actions.address import AddAddress
from kvmdiag.actions.libvirt import virsh
from kvmdiag.actions.link_effects import link_named
from kvmdiag.actions.rule import AppendRule, InsertRule, backend_in_use
from kvmdiag.model.daemons import Daemon
from kvmdiag.model.libvirt import Network
from kvmdiag.model.link import Bridge, Link
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import OWN_NETNS, Stack

_DEFAULT = ".conf.default."
_TRANSLATED, _ROUTED = "nat", "route"


class StartNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """``virsh net-start NETWORK``."""

    stack: str
    network: str
    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``virsh net-start NETWORK``."""
        return virsh(snapshot, "net-start", self.network)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``virsh net-destroy NETWORK``."""
        return virsh(snapshot, "net-destroy", self.network)

    def persist(self, snapshot: Snapshot) -> str:
        """``virsh net-autostart``."""
        return shlex.join(virsh(snapshot, "net-autostart", self.network))

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The network is active: its bridge with its addresses, and rules that let it out.

        Guests that run are not plugged in; dnsmasq is not modelled.
        """
        network = next((n for n in snapshot.networks or () if n.name == self.network), None)
        if network is None:
            return snapshot
        networks = tuple(
            msgspec.structs.replace(other, active=True) if other is network else other
            for other in snapshot.networks or ()
        )
        snapshot = msgspec.structs.replace(snapshot, networks=networks)
        stack = snapshot.stack(self.stack)
        if network.bridge is None or link_named(stack, network.bridge) is not None:
            return snapshot
        snapshot = snapshot.with_stack(_with_bridge(stack, network, network.bridge))
        for address in network.addresses:
            add = AddAddress(stack=self.stack, link=network.bridge, address=address)
            snapshot = add.apply(snapshot)
        return with_rules(snapshot, self.stack, network, network.bridge)


class RestartNetworkDaemon(msgspec.Struct, frozen=True, kw_only=True):
    """``systemctl restart virtnetworkd`` (or libvirtd): libvirt writes its rules anew.

    Only for the machine that kvmdiag runs on: a namespace has no systemd of its own, and the
    command would reach the real one.
    """

    stack: str
    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The daemon that has the networks: its own one, or the one for all."""
        daemon = network_daemon(snapshot)
        return ("systemctl", "restart", "virtnetworkd" if daemon is None else daemon.name)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Nothing: it only puts back what libvirt means to be there. Guests go on running."""
        del snapshot
        return ()

    def persist(self, snapshot: Snapshot) -> str:
        """It lasts until the rules are flushed again."""
        del snapshot
        return "keep whatever flushed the rules from doing so, or order it before libvirt"

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The rules of active networks of which none is left, as measured with libvirt 9.0.

        It does not switch forwarding on.
        """
        for network in snapshot.networks or ():
            if network.active and network.bridge is not None:
                tables = snapshot.stack(self.stack).tables or ()
                texts = (rule.text for t in tables for c in t.chains for rule in c.rules)
                if not any(network.bridge in text.replace('"', " ").split() for text in texts):
                    snapshot = with_rules(snapshot, self.stack, network, network.bridge)
        return snapshot


def network_daemon(snapshot: Snapshot) -> Daemon | None:
    """The daemon that has libvirt's networks, if it runs: the one for all, or their own."""
    running = {daemon.name: daemon for daemon in snapshot.daemons or () if daemon.running}
    return running.get("libvirtd") or running.get("virtnetworkd")


def can_restart(snapshot: Snapshot, stack: Stack) -> bool:
    """Whether libvirt's daemon can be restarted from where kvmdiag runs."""
    return snapshot.libvirt is not None and stack.netns == OWN_NETNS and stack.kind == "host"


def with_rules(snapshot: Snapshot, stack: str, network: Network, bridge: str) -> Snapshot:
    """What libvirt's own chains come to for IPv4, in the chains that call them."""
    backend = backend_in_use(snapshot.stack(stack))
    for address in network.addresses:
        subnet = ip_interface(address).network
        if subnet.version != 4 or network.mode not in (_TRANSLATED, _ROUTED):
            continue
        known = " -m conntrack --ctstate RELATED,ESTABLISHED" * (network.mode == _TRANSLATED)
        for rule in (
            f"-i {bridge} -j REJECT --reject-with icmp-port-unreachable",
            f"-s {subnet} -i {bridge} -j ACCEPT",
            f"-o {bridge} -j REJECT --reject-with icmp-port-unreachable",
            f"-d {subnet} -o {bridge}{known} -j ACCEPT",
            f"-i {bridge} -o {bridge} -j ACCEPT",
        ):
            insert = InsertRule(stack=stack, chain="FORWARD", rule=rule, backend=backend)
            snapshot = insert.apply(snapshot)
        if network.mode == _TRANSLATED:
            translate = AppendRule(
                stack=stack,
                table="nat",
                chain="POSTROUTING",
                rule=f"-s {subnet} ! -d {subnet} -j MASQUERADE",
                backend=backend,
            )
            snapshot = translate.apply(snapshot)
    return snapshot


def _with_bridge(stack: Stack, network: Network, bridge: str) -> Stack:
    """The stack with the network's bridge, which has no port and so no carrier yet."""
    index = max((link.index for link in stack.links or ()), default=0) + 1
    made = Link(
        index=index,
        name=bridge,
        kind="bridge",
        mac=network.mac,
        mtu=network.mtu or 1500,
        carrier=False,
        operstate="down",
        bridge=Bridge(),
    )
    sysctls = dict(stack.sysctls or {})
    for name, value in (stack.sysctls or {}).items():
        if _DEFAULT in name:
            sysctls.setdefault(name.replace(_DEFAULT, f".conf.{bridge}."), value)
    return msgspec.structs.replace(
        stack,
        links=(*(stack.links or ()), made),
        sysctls=None if stack.sysctls is None else sysctls,
    )
