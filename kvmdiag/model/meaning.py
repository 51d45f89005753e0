"""What each text of a snapshot is: an address, a name, a word of the kernel's, free text.

Redaction, comparison and the documentation go by this table, and walk the structs by their
types (:mod:`kvmdiag.model.fields`), so that a new field needs one line here and nothing else.
A field whose text nobody has classified is treated as a secret, and a test names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Meaning(StrEnum):
    """What kind of text a field holds.

    WORD     a term of the kernel, of a protocol or of kvmdiag itself: nobody's secret
    ADDRESS  an IP address
    NETWORK  an address with its prefix length, or a range ``first-last``
    MAC      a hardware address
    LINK     the name of a network device, or a pattern that ends in ``*``
    CHAIN    the name of a netfilter chain
    NAME     any other name: of a guest, a namespace, a network, a table, a set
    PATH     a path in the file system
    SYSCTLS  dotted sysctl names, which hold names of devices, and their values
    RULE     a piece of a rule, a set's element, a command line: a language with few words
    TEXT     what somebody called something: a comment, a label, a program
    PROSE    a sentence of kvmdiag's, or an error message
    UNKNOWN  not classified: treated as a secret
    """

    WORD = "word"
    ADDRESS = "address"
    NETWORK = "network"
    MAC = "mac"
    LINK = "link"
    CHAIN = "chain"
    NAME = "name"
    PATH = "path"
    SYSCTLS = "sysctls"
    RULE = "rule"
    TEXT = "text"
    PROSE = "prose"
    UNKNOWN = "unknown"


_W, _L, _N, _R = Meaning.WORD, Meaning.LINK, Meaning.NAME, Meaning.RULE
_A, _CIDR, _M, _C = Meaning.ADDRESS, Meaning.NETWORK, Meaning.MAC, Meaning.CHAIN

MEANINGS: Mapping[str, Meaning] = {
    "AddToSet.name": _N,
    "TakeFromSet.name": _N,
    "Address.address": _A,
    "Address.flags": _W,
    "Address.link": _L,
    "Address.peer": _A,
    "Address.scope": _W,
    "AddressIs.networks": _CIDR,
    "AddressTypeIs.types": _W,
    "Bond.active": _L,
    "Bond.hash_policy": _W,
    "Bond.lacp_rate": _W,
    "Bond.mode": _W,
    "Bond.primary": _L,
    "BondPort.mii_status": _W,
    "BondPort.state": _W,
    "Bridge.vlan_protocol": _W,
    "BridgePort.state": _W,
    "BridgePortIs.names": _L,
    "BridgeVlan.link": _L,
    "Chain.devices": _L,
    "Chain.name": _C,
    "ConfigFile.path": Meaning.PATH,
    "Conntrack.stats": _W,
    "ConntrackStateIs.states": _W,
    "Daemon.name": _W,
    "Daemon.stack": _N,
    "DestinationNat.first": _A,
    "DestinationNat.last": _A,
    "Domain.agent": _W,
    "Domain.name": _N,
    "Domain.reason": _W,
    "Domain.state": _W,
    "Domain.uuid": _N,
    "FamilyIs.families": _W,
    "FdbEntry.bridge": _L,
    "FdbEntry.mac": _M,
    "FdbEntry.port": _L,
    "FieldIs.field": _R,
    "FilterBinding.filter": _N,
    "FilterBinding.parameters": Meaning.TEXT,
    "FilterBinding.tap": _L,
    "FilterRule.action": _W,
    "FilterRule.direction": _W,
    "FilterRule.match": Meaning.TEXT,
    "FilterRule.protocol": _W,
    "Flow.protocol": _W,
    "Flow.status": _W,
    "Flow.tcp_state": _W,
    "FlowTuple.destination": _A,
    "FlowTuple.source": _A,
    "Flowtable.devices": _L,
    "Flowtable.name": _N,
    "Gap.fact": _W,
    "Gap.help": Meaning.PROSE,
    "Gap.stack": _N,
    "Gap.why": Meaning.PROSE,
    "Goto.chain": _C,
    "GuestNic.bridge": _L,
    "GuestNic.filter": _N,
    "GuestNic.filter_parameters": Meaning.TEXT,
    "GuestNic.link_state": _W,
    "GuestNic.mac": _M,
    "GuestNic.mode": _W,
    "GuestNic.model": _W,
    "GuestNic.port_group": _N,
    "GuestNic.source": _N,
    "GuestNic.target": _L,
    "GuestNic.type": _W,
    "GuestNic.virtualport": _W,
    "InSet.elements": _R,
    "InSet.fields": _R,
    "InSet.name": _N,
    "Inside.agent": _W,
    "Inside.domain": _N,
    "Inside.stack": _N,
    "InterfaceIs.names": _L,
    "Ipvlan.mode": _W,
    "Jump.chain": _C,
    "Lease.address": Meaning.TEXT,
    "Lease.client_id": _N,
    "Lease.hostname": _N,
    "Lease.mac": _M,
    "Libvirt.firewall_backend": _W,
    "Libvirt.uri": Meaning.PATH,
    "Libvirt.version": _W,
    "Link.address_assigned": _W,
    "Link.alias": Meaning.TEXT,
    "Link.alternative_names": _L,
    "Link.guest": _N,
    "Link.kind": _W,
    "Link.lower": _L,
    "Link.mac": _M,
    "Link.master": _L,
    "Link.name": _L,
    "Link.offloads": _W,
    "Link.operstate": _W,
    "Link.permanent_mac": _M,
    "Link.type": _W,
    "LinkRef.link": _L,
    "LinkRef.stack": _N,
    "ListeningSocket.address": _A,
    "ListeningSocket.links": _L,
    "ListeningSocket.protocol": _W,
    "MacIs.macs": _M,
    "Macvlan.mode": _W,
    "MdbEntry.bridge": _L,
    "MdbEntry.group": _R,
    "MdbEntry.port": _L,
    "NamedSet.elements": _R,
    "NamedSet.name": _N,
    "NamedSet.type": _R,
    "Neighbour.address": _A,
    "Neighbour.link": _L,
    "Neighbour.mac": _M,
    "Neighbour.state": _W,
    "NetMap.network": _CIDR,
    "Network.addresses": _CIDR,
    "Network.bridge": _L,
    "Network.changes_at_start": _W,
    "Network.domain": _N,
    "Network.forward_link": _L,
    "Network.mac": _M,
    "Network.mode": _W,
    "Network.name": _N,
    "Network.ranges": Meaning.TEXT,
    "NextHop.flags": _W,
    "NextHop.gateway": _A,
    "NextHop.link": _L,
    "NoEffect.text": _R,
    "NwFilter.chain": _R,
    "NwFilter.includes": _N,
    "NwFilter.name": _N,
    "OwnerIs.text": _R,
    "Persistent.sysctls": Meaning.TEXT,
    "PolicyRule.action": _W,
    "PolicyRule.destination": _CIDR,
    "PolicyRule.iif": _L,
    "PolicyRule.oif": _L,
    "PolicyRule.protocol": _W,
    "PolicyRule.source": _CIDR,
    "PolicyRule.unknown": _R,
    "Process.name": Meaning.TEXT,
    "ProtocolIs.protocols": _W,
    "Qdisc.handle": _W,
    "Qdisc.kind": _W,
    "Qdisc.parent": _W,
    "Reject.reply": _W,
    "Reservation.address": Meaning.TEXT,
    "Reservation.mac": _M,
    "Reservation.name": _N,
    "Resolver.nameservers": Meaning.TEXT,
    "Resolver.options": _W,
    "Resolver.search": Meaning.TEXT,
    "ReverseRouteIs.links": _L,
    "Route.destination": _CIDR,
    "Route.preferred_source": _A,
    "Route.protocol": _W,
    "Route.scope": _W,
    "Route.source": _CIDR,
    "Route.type": _W,
    "Rule.comment": Meaning.TEXT,
    "Rule.text": _R,
    "SetContains.fields": _W,
    "SetContains.name": _N,
    "Setting.key": _W,
    "Setting.value": Meaning.TEXT,
    "Snapshot.flows_between": _A,
    "Snapshot.host": _N,
    "Snapshot.kernel": _W,
    "Snapshot.taken_at": _W,
    "Snapshot.tool": _W,
    "SourceNat.first": _A,
    "SourceNat.last": _A,
    "Stack.assumed": Meaning.PROSE,
    "Stack.counters": _W,
    "Stack.name": _N,
    "Stack.netns": Meaning.PATH,
    "Stack.sysctls": Meaning.SYSCTLS,
    "StoredFile.content": Meaning.TEXT,
    "StoredFile.path": Meaning.PATH,
    "StoredFile.source": _W,
    "Table.name": _N,
    "Tap.mode": _W,
    "TcFilter.actions": _W,
    "TcFilter.kind": _W,
    "TcFilter.program": _R,
    "TcFilter.redirects": _L,
    "TcFilter.where": _W,
    "TcpFlagsAre.flags": _W,
    "TcpFlagsAre.mask": _W,
    "TunnelEntry.link": _L,
    "TunnelEntry.mac": _M,
    "TunnelEntry.remote": _A,
    "TunnelEntry.via": _L,
    "UnknownMatch.text": _R,
    "UnknownStatement.text": _R,
    "ValueMap.elements": _R,
    "ValueMap.fields": _R,
    "ValueMap.name": _N,
    "VerdictMap.elements": _R,
    "VerdictMap.fields": _R,
    "VerdictMap.name": _N,
    "VirtualFunction.link_state": _W,
    "VirtualFunction.mac": _M,
    "Vlan.protocol": _W,
    "Vxlan.local": _A,
    "Vxlan.remote": _A,
    "Wireless.mode": _W,
    "Xdp.mode": _W,
}

PASSING = frozenset(
    {
        "Chain.bytes",
        "Chain.packets",
        "Conntrack.count",
        "Conntrack.stats",
        "Daemon.pid",
        "Flow.timeout",
        "Lease.expires",
        "Link.carrier_changes",
        "Link.counters",
        "ListeningSocket.inode",
        "Neighbour.state",
        "Process.pid",
        "Rule.bytes",
        "Rule.handle",
        "Rule.packets",
        "Snapshot.flows_between",
        "Snapshot.taken_at",
        "Stack.counters",
        "Stack.flows",
    }
)
"""What differs from one moment to the next without anybody having changed anything."""

UNORDERED = frozenset(
    {
        "NamedSet.elements",
        "Stack.fdb",
        "Stack.mdb",
        "Stack.neighbours",
        "Stack.sockets",
        "Stack.tunnels",
    }
)
"""Tuples whose order means nothing: the kernel lists them as its hash tables have them."""
