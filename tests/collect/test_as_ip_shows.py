"""Every attribute of links that ip shows, beside what the snapshot has."""

from __future__ import annotations

import json

from .reading import links

_AS_IP_SAYS = {
    "mtu": "mtu",
    "operstate": "operstate",
    "txqlen": "tx_queue_length",
    "num_tx_queues": "tx_queues",
    "num_rx_queues": "rx_queues",
    "address": "mac",
    "master": "master",
}


_BRIDGE_AS_IP_SAYS = {
    "forward_delay": "forward_delay",
    "ageing_time": "ageing_time",
    "stp_state": "stp",
    "priority": "priority",
    "vlan_filtering": "vlan_filtering",
    "vlan_protocol": "vlan_protocol",
    "root_port": "root_port",
    "mcast_snooping": "multicast_snooping",
    "mcast_querier": "multicast_querier",
    "nf_call_iptables": "nf_call_iptables",
    "nf_call_ip6tables": "nf_call_ip6tables",
    "nf_call_arptables": "nf_call_arptables",
}


_PORT_AS_IP_SAYS = {
    "state": "state",
    "priority": "priority",
    "cost": "cost",
    "hairpin": "hairpin",
    "guard": "guard",
    "root_block": "root_block",
    "fastleave": "fast_leave",
    "learning": "learning",
    "flood": "flood",
    "mcast_flood": "multicast_flood",
    "bcast_flood": "broadcast_flood",
    "mcast_to_unicast": "multicast_to_unicast",
    "neigh_suppress": "neigh_suppress",
    "isolated": "isolated",
    "locked": "locked",
}


def test_links_are_as_ip_shows_them(host, eventually):
    """Attribute by attribute, on a host with something of everything."""
    host.ip(
        "link set lo up",
        "link add br0 up mtu 1400 type bridge stp_state 1 forward_delay 300 nf_call_iptables 1",
        "link add br1 type bridge mcast_snooping 0",
        "link add v1 up type veth peer name v2",
        "link set v1 master br0",
        "link set v2 up",
        "link set v1 type bridge_slave hairpin on isolated on learning off priority 3",
        "link add m0 link v2 up type macvtap mode bridge",
        "tuntap add tap0 mode tap",
        "link set tap0 master br0",
        "link add i0 type ifb",
    )

    def without_timers(one):
        return {key: value for key, value in one.items() if not key.endswith("_timer")}

    def shown():
        listed = host.run("ip -j -d link").stdout
        return json.loads(listed, object_hook=without_timers)

    taken = []

    def stood_still():
        """Bridge ports go on to their next states, and links come up, in their own time."""
        taken[:] = [shown(), links(host), shown()]
        return taken[0] == taken[2]

    eventually(stood_still, "the links never settled", seconds=30)
    before, found, _ = taken
    assert [one["ifname"] for one in before] == list(found)
    for one in before:
        link, info = found[one["ifname"]], one.get("linkinfo", {})
        assert link.kind == info.get("info_kind")
        for theirs, ours in _AS_IP_SAYS.items():
            if theirs in one:
                value = getattr(link, ours)
                assert str(value).lower() == str(one[theirs]).lower(), (link.name, ours)
        if link.bridge is not None:
            same(link.bridge, info["info_data"], _BRIDGE_AS_IP_SAYS)
        if link.port is not None:
            same(link.port, info["info_slave_data"], _PORT_AS_IP_SAYS)


def same(ours, theirs, names):
    """What both have is the same."""
    shown = {own: theirs[name] for name, own in names.items() if name in theirs}
    assert {own: getattr(ours, own) for own in shown} == shown
    assert len(shown) > 8
