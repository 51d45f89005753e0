"""Who else makes rules on a host with guests: Docker, firewalld, ufw, a VPN.

    web ens3 -- vnet0 virbr0 host eno1 -- outside

Docker, firewalld and ufw are the real ones, started beside libvirt in the host's namespace.
libvirt 10.4 and later makes its rules in a table of nft's own; the libvirt of Debian 12 is older,
so that table is put in the place of its chains, written as its documentation shows it.
"""

from __future__ import annotations

from kvmdiag.lab.faults import fault, in_table
from kvmdiag.lab.machines import OUTSIDE, host
from kvmdiag.lab.real_networks import parts
from kvmdiag.lab.real_spec import RealNetwork
from kvmdiag.lab.spec import Fault, Network, Shell

_WEB = parts.Lease("web", "52:54:00:00:00:77", "192.168.122.77")
_NET = "192.168.122.0/24"

# libvirt, src/network/network_nftables.c
_LIBVIRT_NFT = f"""\
nft flush ruleset
nft -f - <<END
table ip libvirt_network {{
    chain guest_output {{
        ip saddr {_NET} iifname "virbr0" counter accept
        iifname "virbr0" counter reject
    }}
    chain guest_input {{
        oifname "virbr0" ip daddr {_NET} ct state established,related counter accept
        oifname "virbr0" counter reject
    }}
    chain guest_cross {{
        iifname "virbr0" oifname "virbr0" counter accept
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        counter jump guest_cross
        counter jump guest_input
        counter jump guest_output
    }}
    chain guest_nat {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {_NET} ip daddr 224.0.0.0/24 counter return
        ip saddr {_NET} ip daddr 255.255.255.255 counter return
        meta l4proto tcp ip saddr {_NET} ip daddr != {_NET} counter masquerade to :1024-65535
        meta l4proto udp ip saddr {_NET} ip daddr != {_NET} counter masquerade to :1024-65535
        ip saddr {_NET} ip daddr != {_NET} counter masquerade
    }}
}}
END
"""
# Docker wants control groups, which the libvirt of a practice network must not see: the mount
# that hides them is taken off for Docker alone. It sets the policy DROP when it is the first to
# turn forwarding on, as at boot.
_DOCKER = """\
sysctl -qw net.ipv4.ip_forward=0
unshare --mount sh -c 'umount /sys; exec dockerd --data-root /var/lib/libvirt/docker \
    --exec-root /run/docker --pidfile /run/docker.pid --host unix:///run/docker.sock \
    --storage-driver vfs' > /var/log/libvirt/docker.log 2>&1 < /dev/null &
until iptables -S DOCKER-USER > /dev/null 2>&1 && [ -S /run/docker.sock ]; do
    kill -0 $! || { tail -n 1 /var/log/libvirt/docker.log >&2; exit 1; }
    sleep 0.2
done
"""
# firewalld flushes iptables when it starts. libvirt, started again, finds it on the bus: it makes
# its rules anew and puts virbr0 into its zone, out of which somebody takes it.
_FIREWALLD = """\
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/bus
cp -r /etc/firewalld /run/firewalld.conf.d
dbus-daemon --system --nofork --nopidfile --address=$DBUS_SYSTEM_BUS_ADDRESS \
    > /var/log/libvirt/bus.log 2>&1 < /dev/null &
until [ -S /run/bus ]; do sleep 0.1; done
firewalld --nofork --nopid --system-config /run/firewalld.conf.d \
    > /var/log/libvirt/firewalld.log 2>&1 < /dev/null &
until firewall-cmd --state > /dev/null 2>&1; do
    kill -0 $! || { tail -n 1 /var/log/libvirt/firewalld.log >&2; exit 1; }
    sleep 0.2
done
"""
_OTHER_ZONE = """\
until [ "$(firewall-cmd --get-zone-of-interface=virbr0 2> /dev/null)" = libvirt ]; do
    sleep 0.2
done
firewall-cmd --zone=public --change-interface=virbr0
"""
# ufw keeps its settings in /etc/ufw; here it gets a copy of its own.
_UFW = """\
cp -r /etc/ufw /run/ufw.d
unshare --mount sh -ec '
    mount --bind /run/ufw.d /etc/ufw
    ufw default deny incoming
    ufw default allow routed
    ufw --force enable' > /var/log/libvirt/ufw.log 2>&1 < /dev/null
"""
_HALF = "iptables -I DOCKER-USER -i virbr0 -j ACCEPT"


def _daemon(program: str) -> Shell:
    """That a program is there, before anything is changed."""
    missing = f"{program} is missing; install it: scripts/bootstrap --real"
    return Shell("host", f"command -v {program} > /dev/null || {{ echo '{missing}' >&2; exit 1; }}")


_FAULTS = (
    fault(
        "docker-forward-drop-vs-libvirt-nft",
        "Docker is started; its FORWARD drops what libvirt's own table accepts",
        _daemon("dockerd"),
        Shell("host", _LIBVIRT_NFT + _DOCKER),
    ),
    Fault(
        name="docker-user-half-fixed",
        machine="host",
        summary="Docker is started, and DOCKER-USER accepts what guests send, not the replies",
        check="docker-forward-drop-vs-libvirt-nft",
        steps=(_daemon("dockerd"), Shell("host", _LIBVIRT_NFT + _DOCKER + _HALF)),
    ),
    fault(
        "firewalld-libvirt-zone",
        "firewalld is started; somebody has put virbr0 into another zone than libvirt's",
        _daemon("firewalld"),
        Shell("host", _FIREWALLD + parts.RESTART_LIBVIRT + _OTHER_ZONE),
    ),
    fault(
        "host-input-fw-blocks-dhcp-dns",
        "ufw is started; it lets neither DHCP nor DNS in by virbr0",
        _daemon("ufw"),
        Shell("host", _LIBVIRT_NFT + _UFW),
    ),
    fault(
        "vpn-killswitch-or-full-tunnel",
        "a VPN's kill switch lets nothing out but by wg0 (its rules; no VPN runs)",
        in_table(
            "host",
            "filter",
            "-I FORWARD 1 -i wg0 -j ACCEPT",
            "-I FORWARD 2 ! -o wg0 -j REJECT --reject-with icmp-port-unreachable",
        ),
    ),
)

REAL_NETWORK = RealNetwork(
    namespaces=Network(
        name="neighbours",
        summary="a guest on libvirt's default network, and Docker, firewalld, ufw or a VPN beside",
        example="web 10.0.0.9",
        machines=(host(), OUTSIDE),
        faults=_FAULTS,
    ),
    virtual={"default": parts.default(_WEB)},
    guests=(parts.guest(_WEB),),
)
