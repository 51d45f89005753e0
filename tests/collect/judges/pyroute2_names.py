"""Settings of links as pyroute2 names them, and as the model does."""

BRIDGE = {
    "IFLA_BR_STP_STATE": "stp",
    "IFLA_BR_FORWARD_DELAY": "forward_delay",
    "IFLA_BR_AGEING_TIME": "ageing_time",
    "IFLA_BR_PRIORITY": "priority",
    "IFLA_BR_VLAN_FILTERING": "vlan_filtering",
    "IFLA_BR_VLAN_DEFAULT_PVID": "default_pvid",
    "IFLA_BR_GROUP_FWD_MASK": "group_fwd_mask",
    "IFLA_BR_MCAST_SNOOPING": "multicast_snooping",
    "IFLA_BR_MCAST_QUERIER": "multicast_querier",
    "IFLA_BR_NF_CALL_IPTABLES": "nf_call_iptables",
    "IFLA_BR_NF_CALL_IP6TABLES": "nf_call_ip6tables",
    "IFLA_BR_NF_CALL_ARPTABLES": "nf_call_arptables",
}
PORT = {
    "IFLA_BRPORT_PRIORITY": "priority",
    "IFLA_BRPORT_COST": "cost",
    "IFLA_BRPORT_MODE": "hairpin",
    "IFLA_BRPORT_GUARD": "guard",
    "IFLA_BRPORT_PROTECT": "root_block",
    "IFLA_BRPORT_FAST_LEAVE": "fast_leave",
    "IFLA_BRPORT_LEARNING": "learning",
    "IFLA_BRPORT_UNICAST_FLOOD": "flood",
    "IFLA_BRPORT_MCAST_FLOOD": "multicast_flood",
    "IFLA_BRPORT_BCAST_FLOOD": "broadcast_flood",
    "IFLA_BRPORT_MCAST_TO_UCAST": "multicast_to_unicast",
    "IFLA_BRPORT_NEIGH_SUPPRESS": "neigh_suppress",
    "IFLA_BRPORT_ISOLATED": "isolated",
    "IFLA_BRPORT_PROXYARP": "proxy_arp",
    "IFLA_BRPORT_VLAN_TUNNEL": "vlan_tunnel",
    "IFLA_BRPORT_GROUP_FWD_MASK": "group_fwd_mask",
}
VXLAN = {"IFLA_VXLAN_ID": "vni", "IFLA_VXLAN_PORT": "port", "IFLA_VXLAN_LEARNING": "learning"}
