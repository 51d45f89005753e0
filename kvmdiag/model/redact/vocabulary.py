"""Words that everybody uses in rules, and prefixes by which names tell whose they are.

What is listed here stays in a redacted snapshot; every other word of a rule is replaced.
Sources: iptables(8), iptables-extensions(8), ebtables-nft(8), nft(8), ipset(8), sysctl names of
the kernel, and the chain and link names of the programs named beside them.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_RULES = """
accept account addr addrtype ah all any arp arpreply audit bridge broadcast bpf burst cgroup
checksum chain classify clamp-mss-to-pmtu clusterip comment connbytes connlabel connlimit connmark
connsecmark conntrack counter cpu ct daddr dccp default destination dev device devgroup dhcp
dir dnat dnat-to dns dport drop dscp dst dst-type dup ecn egress element elements ether expires
expiration false fib fin filter flow flowtable flush forward from fwd fragments frag goto hash
hashlimit hbh helper hl hmark hook hop-limit hoplimit host hour hoplimit iif iifname iiftype
icmp icmpv6 icmp6 icmpx id idletimer igmp in inet input interval ip ip6 ipcomp iplist iprange
ipsec ipv4 ipv6 ipv4_addr ipv6_addr inet_proto inet_service ether_addr ifname invert invalid ipvs
jump key kernel l2tp l4proto last led length limit list local localhost log lo loose mac mangle map
mark masquerade match mh meta minute missing multicast multiport nat netdev netmap new nexthop nf
nfacct nflog nfproto nfqueue nftables no notrack nth numgen of offload oif oifname oiftype or
established related untracked original reply osf out output owner packet packets packet-type
persistent physdev pkttype policy position postrouting port prefix prerouting priority prio
proto protocol psh ack syn rst urg cwr ece none and xor quota queue random fully-random rate
rateest raw recent redirect reject reset return reverse rp rpfilter rt rule saddr sctp second
secmark security set socket snat snat-to source sport src src-type state states statistic
status seen-reply assured confirmed snat dnat dying string strict stop synproxy table tables
target tc tcp tcpmss tcpoptstrip tee th time timeout tos to tproxy trace ttl tunnel type u32
udp udplite unknown unicast unreachable untagged untracked update user vlan vmap with
xt zone true yes esp sets sub add delete inline static dynamic constant nomatch wildmark
net mac port iface bitmap range hashsize maxelem family netmask forceadd skbinfo counters size
blackhole prohibit throw anycast lookup scope link global nop metric via onlink dead pervasive
linkdown encap proxy permanent reachable stale
echo-request echo-reply destination-unreachable network-unreachable host-unreachable
protocol-unreachable port-unreachable fragmentation-needed source-route-failed
time-exceeded ttl-exceeded parameter-problem redirect router-advertisement router-solicitation
neighbour-advertisement neighbour-solicitation neighbor-advertisement neighbor-solicitation
nd-router-solicit nd-router-advert nd-neighbor-solicit nd-neighbor-advert nd-redirect
mld-listener-query mld-listener-report mld-listener-done mld2-listener-report packet-too-big
admin-prohibited no-route addr-unreachable icmp-port-unreachable icmp-net-unreachable
icmp-host-unreachable icmp-proto-unreachable icmp-net-prohibited icmp-host-prohibited
icmp-admin-prohibited icmp6-no-route icmp6-adm-prohibited icmp6-addr-unreachable
icmp6-port-unreachable tcp-reset policy-fail reject-route timestamp-request timestamp-reply
address-mask-request address-mask-reply bcast mcast linkaddr otherhost
b kb mb gb byte bytes kbytes mbytes day week s m h d ms over until each mod offset symmetric
jhash seed sreg data right left op expr elem val key range concat payload base len
"""

_CHAINS = """
INPUT OUTPUT FORWARD PREROUTING POSTROUTING BROUTING BROUTE ACCEPT DROP RETURN REJECT LOG NFLOG
MASQUERADE SNAT DNAT REDIRECT MARK CONNMARK CHECKSUM NOTRACK CT TCPMSS TPROXY QUEUE NFQUEUE
NETMAP TRACE AUDIT CLASSIFY DSCP ECN TOS TTL HL SET SECMARK CONNSECMARK ULOG LOCAL UNICAST
BROADCAST MULTICAST ANYCAST BLACKHOLE UNREACHABLE PROHIBIT NONE NEW ESTABLISHED RELATED
INVALID UNTRACKED SYN ACK FIN RST URG PSH ALL ORIGINAL REPLY IPv4 IPv6 ARP CONTINUE A I D
LIBVIRT_INP LIBVIRT_OUT LIBVIRT_FWI LIBVIRT_FWO LIBVIRT_FWX LIBVIRT_PRT libvirt_network
guest_input guest_output guest_cross guest_nat host_input host_output
DOCKER DOCKER-USER DOCKER-FORWARD DOCKER-BRIDGE DOCKER-CT DOCKER-INTERNAL DOCKER-INGRESS
DOCKER-ISOLATION-STAGE-1 DOCKER-ISOLATION-STAGE-2 docker-bridges
KUBE-SERVICES KUBE-NODEPORTS KUBE-POSTROUTING KUBE-FORWARD KUBE-FIREWALL KUBE-MARK-MASQ
KUBE-MARK-DROP KUBE-EXTERNAL-SERVICES KUBE-PROXY-CANARY KUBE-KUBELET-CANARY KUBE-PROXY-FIREWALL
KUBE-HOSTPORTS KUBE-IPVS-FILTER KUBE-LOAD-BALANCER KUBE-NODE-PORT CNI-FORWARD CNI-ADMIN
CNI-HOSTPORT-DNAT CNI-HOSTPORT-MASQ CNI-HOSTPORT-SETMARK FLANNEL-FWD FLANNEL-POSTRTG
cali-INPUT cali-OUTPUT cali-FORWARD cali-PREROUTING cali-POSTROUTING cali-fip-dnat cali-fip-snat
cali-nat-outgoing cali-wl-to-host cali-from-wl-dispatch cali-to-wl-dispatch
cali-from-host-endpoint cali-to-host-endpoint cali-from-hep-forward cali-to-hep-forward
cali-cidr-block cali-rpf-skip firewalld masquerading kube-proxy calico antrea
"""

_PROGRAMS = """
dnsmasq qemu-system-x86_64 qemu-system-x86 qemu-system-aar qemu-kvm systemd-resolved systemd-resolve
systemd-networkd systemd-network named unbound docker-proxy dockerd containerd sshd kubelet
coredns haproxy nginx NetworkManager libvirtd virtlogd virtqemud virtnetworkd passt dhcpd dhclient
chronyd ntpd rpcbind systemd init ovs-vswitchd conmon podman virt-launcher kubernetes
service portals nodeports rules forwarding ufw flanneld masq
"""

_NWFILTER = """
root protocolid srcmacaddr srcmacmask dstmacaddr dstmacmask srcipaddr srcipmask dstipaddr dstipmask
srcipfrom srcipto dstipfrom dstipto srcportstart srcportend dstportstart dstportend arpsrcipaddr
arpdstipaddr arpsrcmacaddr arpdstmacaddr gratuitous opcode hwtype protocoltype vlanid encap-protocol
flags ipset ipsetflags connlimit-above statematch MAC IP IPV6 CTRL_IP_LEARNING DHCPSERVER $MAC $IP
$IPV6 $DHCPSERVER inout
"""

_PROSE = """
ip6tables iptables iptables-save ip6tables-save iptables-nft iptables-legacy iptables-nft-save
iptables-legacy-save ip6tables-nft-save ip6tables-legacy-save nft ebtables ebtables-save ipset
iproute2 nsenter libvirt libvirtd virtqemud virtnetworkd qemu-guest-agent qemu-ga qemu:///system
net.ipv4 net.ipv6 net.bridge network-get-interfaces read-only not-read br_netfilter nf_tables
python3-libvirt libvirt-python kvmdiag netlink netns exec dev mybr systemd-networkd
NetworkManager systemd-resolved dnsmasq dockerd ufw -w --lab --snapshot --guest-access agent sysctl
"""

WORDS = frozenset(_words(_RULES + _CHAINS + _PROGRAMS + _NWFILTER))
"""Words of rules."""

PROSE = WORDS | frozenset(_words(_PROSE))
"""Words of sentences that are more than letters."""

NAMES = WORDS | frozenset(
    _words(
        """
    docker0 cni0 tunl0 flannel.1 vxlan.calico ovs-system br-int br-ex br-tun br-provider gre0
    gretap0 sit0 ip6tnl0 ip6_vti0 ip_vti0 erspan0 ip6gre0 kube-ipvs0 nodelocaldns podman0 lxcbr0
    lxdbr0 k6t-eth0 dummy0 bonding_masters clean-traffic clean-traffic-gateway allow-arp
    allow-dhcp allow-dhcp-server allow-incoming-ipv4 allow-ipv4 allow-ipv6 no-arp-ip-spoofing
    no-arp-mac-spoofing no-arp-spoofing no-ip-multicast no-ip-spoofing no-ipv6-spoofing
    no-mac-broadcast no-mac-spoofing no-other-l2-traffic no-other-rarp-traffic qemu-announce-self
    """
    )
)
"""Names that many hosts have."""

LINK_CLASSES = _words(
    """
    virbr vnet macvtap macvlan ipvlan vxlan veth cali docker flannel weave cni lxc lxdbr lxcbr br-
    br bond team eth ens eno enp enx en em wlan wlp wlx wl wwan tap tun wg ppp qbr qvb qvo qr- qg-
    ha- sg- fg- fpr- rfp- patch- dummy gre sit vti nlmon vrf ifb k6t- pod vmnet nm- ovs-
    """
)
"""What names of links begin with that says what made them; patterns in rules ask for it."""

CHAIN_CLASSES = _words(
    """
    LIBVIRT_ DOCKER- KUBE-SVC- KUBE-SEP- KUBE-FW- KUBE-XLB- KUBE-EXT- KUBE-SVL- KUBE-POD-FW-
    KUBE-NWPLCY- KUBE- CNI-DN- CNI-SN- CNI- cali-fw- cali-tw- cali-pi- cali-po- cali-pri- cali-pro-
    cali- neutron-openvswi- neutron-linuxbri- neutron-l3-agent- neutron-meter- neutron- nova-
    libvirt-I- libvirt-O- libvirt-J- libvirt-P- FI- FO- HI- HO- FJ- FP- HJ- I- O- J- P- ufw-
    ufw6- IN_ FWDI_ FWDO_ FWD_ PRE_ POST_ nat_ filter_ mangle_ raw_ ANTREA- FLANNEL- NETAVARK-
    """
)
"""What names of chains begin with that says whose they are; often a link's name follows."""

PATH_PARTS = frozenset(
    _words(
        """
    run var lib etc proc sys self ns net netns usr sbin bin tmp libvirt qemu network networks
    autostart docker containerd kubelet NetworkManager system-connections systemd netplan
    interfaces.d interfaces sysctl.d sysctl.conf iptables nftables.conf rules.v4 rules.v6 cni netd
    dnsmasq conf default status libvirt-sock libvirt-sock-ro virtqemud-sock virtnetworkd-sock
    virtqemud-sock-ro virtnetworkd-sock-ro core class bridge ipv4 ipv6 socket task fd channel target
    """
    )
)
"""Parts of paths that many hosts have."""
