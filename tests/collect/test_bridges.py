"""Bridges, their ports and what they learn: set with ip and bridge, found in the snapshot."""

from __future__ import annotations

from kvmdiag.model.link import Bridge, BridgePort
from kvmdiag.model.stack import FdbEntry

from .reading import link, links, read


def test_settings_of_a_bridge(host):
    """Those that decide what it does with a frame."""
    host.ip(
        "link add br0 type bridge stp_state 1 forward_delay 400 nf_call_iptables 1"
        " nf_call_ip6tables 1 nf_call_arptables 1 mcast_snooping 0 group_fwd_mask 8"
    )
    assert link(host, "br0").bridge == Bridge(
        stp=True,
        forward_delay=400,
        nf_call_iptables=True,
        nf_call_ip6tables=True,
        nf_call_arptables=True,
        multicast_snooping=False,
        group_fwd_mask=8,
    )


def test_more_settings_of_a_bridge(host):
    """Times, its place in the spanning tree, who asks for multicast groups."""
    host.ip(
        "link add br0 type bridge ageing_time 12000 priority 4096 mcast_querier 1 mcast_snooping 1"
    )
    bridge = links(host)["br0"].bridge
    assert (bridge.ageing_time, bridge.priority) == (12000, 4096)
    assert (bridge.multicast_querier, bridge.multicast_snooping) == (True, True)


def test_settings_of_a_bridge_port(host):
    """Its master, and what the bridge may do with it."""
    host.ip(
        "link add br0 type bridge",
        "link add v1 type veth peer name v2",
        "link set v1 master br0",
        "link set v1 type bridge_slave isolated on hairpin on learning off flood off",
    )
    port = link(host, "v1")
    assert (port.kind, port.master) == ("veth", "br0")
    assert port.port == BridgePort(
        state="disabled", isolated=True, hairpin=True, learning=False, flood=False
    )
    assert link(host, "v2").port is None


def test_every_setting_of_a_bridge_port(host):
    """Each one, other than it is by itself."""
    host.ip(
        "link add br0 type bridge",
        "link add v1 type veth peer name v2",
        "link set v1 master br0",
        "link set v1 type bridge_slave mcast_flood off bcast_flood off neigh_suppress on"
        " proxy_arp on guard on root_block on fastleave on mcast_to_unicast on vlan_tunnel on"
        " locked on priority 8 cost 77 group_fwd_mask 16",
    )
    port = links(host)["v1"].port
    assert (port.multicast_flood, port.broadcast_flood) == (False, False)
    assert (port.priority, port.cost, port.group_fwd_mask) == (8, 77, 16)
    assert port.neigh_suppress
    assert port.proxy_arp
    assert port.guard
    assert port.root_block
    assert port.fast_leave
    assert port.multicast_to_unicast
    assert port.vlan_tunnel
    assert port.locked


def test_a_port_in_use_forwards(host, eventually):
    """Once both ends are up."""
    host.ip(
        "link add br0 up type bridge",
        "link add v1 type veth peer name v2",
        "link set v1 master br0 up",
        "link set v2 up",
    )
    eventually(
        lambda: (link(host, "v1").port.state, link(host, "v1").operstate) == ("forwarding", "up"),
        "the port never forwarded",
    )
    assert link(host, "v1").carrier


def test_what_a_bridge_has_learnt(host):
    """Its own entries, not the filter lists of the devices."""
    host.ip(
        "link add br0 up type bridge",
        "link add v1 address 02:00:00:00:00:01 type veth peer name v2",
        "link set v1 master br0 up",
        "link set v2 up",
    )
    host.run("bridge fdb add 02:00:00:00:00:05 dev v1 master static")
    host.run("bridge fdb add 02:00:00:00:00:06 dev v1 master dynamic")
    host.run("bridge fdb add 02:00:00:00:00:07 dev v1 self")
    entries = {
        entry.mac: entry for entry in read(host).fdb if entry.mac.startswith("02:00:00:00:00:")
    }
    assert entries == {
        "02:00:00:00:00:01": FdbEntry(bridge="br0", port="v1", mac="02:00:00:00:00:01", local=True),
        "02:00:00:00:00:05": FdbEntry(
            bridge="br0", port="v1", mac="02:00:00:00:00:05", static=True
        ),
        "02:00:00:00:00:06": FdbEntry(bridge="br0", port="v1", mac="02:00:00:00:00:06"),
    }
