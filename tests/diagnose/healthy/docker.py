"""Docker beside libvirt: a policy of DROP that every guest's packet is accepted before."""

from .nat_network import GUESTS, RULES, SERVER, VIRTUAL, host
from .parts import OUTSIDE, Healthy, bridge, guest, tap

# As dockerd 28 leaves it: moby's daemon/libnetwork/drivers/bridge and iptables(8).
_DOCKER = """\
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-I FORWARD 1 -j DOCKER-USER
-I FORWARD 2 -j DOCKER-FORWARD
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
COMMIT
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*raw
-A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP
COMMIT
"""
_USER = """\
*filter
-A DOCKER-USER -i virbr0 -j ACCEPT
-A DOCKER-USER -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
"""

# libvirt 10.4 and later: src/network/network_nftables.c.
_LIBVIRT_NFT = """\
table ip libvirt_network {
    chain forward {
        type filter hook forward priority filter; policy accept;
        counter jump guest_cross
        counter jump guest_input
        counter jump guest_output
    }
    chain guest_output {
        ip saddr 192.168.122.0/24 iif "virbr0" counter accept
        iif "virbr0" counter reject
    }
    chain guest_input {
        oif "virbr0" ip daddr 192.168.122.0/24 ct state related,established counter accept
        oif "virbr0" counter reject
    }
    chain guest_cross {
        iif "virbr0" oif "virbr0" counter accept
    }
    chain guest_nat {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 192.168.122.0/24 ip daddr 224.0.0.0/24 counter return
        ip saddr 192.168.122.0/24 ip daddr 255.255.255.255 counter return
        meta l4proto tcp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 counter masquerade to :1024-65535
        meta l4proto udp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 counter masquerade to :1024-65535
        ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 counter masquerade
    }
}
"""  # noqa: E501 - as nft prints it


_DOCKERS = (
    bridge("docker0", 0x21, "172.17.0.1/16"),
    bridge("br-5f1d0c2b9a7e", 0x22, "172.18.0.1/16"),
    tap(3, "docker0", "web"),
)
_MACHINES = (*GUESTS, guest("web", 3, "172.17.0.2/16", via="172.17.0.1"), OUTSIDE)


def _docker_beside(name: str, rules: str, nft: str = "") -> Healthy:
    return Healthy(
        name=name,
        machines=(host(rules, nft, _DOCKERS), *_MACHINES),
        pings=(("vm1", "10.0.0.9"), ("vm1", "192.168.122.12"), ("web", "10.0.0.9")),
        silent=(("vm1", "172.17.0.2"),),
        virtual=VIRTUAL,
        services=SERVER,
    )


CASES = (
    _docker_beside("docker-beside-libvirt-iptables", RULES + _DOCKER),
    _docker_beside("docker-beside-libvirt-nft-accepted", _DOCKER + _USER, _LIBVIRT_NFT),
)
