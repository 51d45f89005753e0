"""What real guests of practice networks run when they boot: a few lines of shell.

A guest's own part comes as a second archive: ``etc/nics`` names its NICs by MAC address,
``etc/setup`` configures them.
"""

from __future__ import annotations

from collections.abc import Mapping

from kvmdiag.lab import cpio

READY = "/run/ready"
"""What is there once a guest is set up."""

_INIT = """\
#!/usr/sbin/busybox sh
/usr/sbin/busybox mkdir -p /proc /sys /dev /run /tmp /bin /sbin /usr/bin /var/lib/misc /var/run
/usr/sbin/busybox --install -s /bin
/usr/sbin/busybox ln -s /usr/sbin/busybox /sbin/modprobe
export PATH=/usr/sbin:/sbin:/usr/bin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo /sbin/modprobe > /proc/sys/kernel/modprobe
for module in virtio_pci virtio_net virtio_console af_packet; do modprobe $module; done
exec /bin/init
"""

# The agent starts beside the setup, which waits for DHCP.
_INITTAB = """\
::sysinit:/etc/names
::once:/etc/rc
::respawn:/etc/agent
ttyS0::respawn:/bin/sh
"""

# A NIC whose address was changed in libvirt takes the name that is left.
_NAMES = """\
#!/bin/sh
hostname "$(cat /etc/hostname)"
ip link set lo up
while read -r mac name; do
    for nic in /sys/class/net/eth*; do
        [ "$(cat $nic/address)" = "$mac" ] && ip link set "${nic##*/}" name "$name"
    done
done < /etc/nics
while read -r mac name; do
    for nic in /sys/class/net/eth*; do
        [ -e "/sys/class/net/$name" ] || ip link set "${nic##*/}" name "$name"
    done
done < /etc/nics
"""

_RC = f"""\
#!/bin/sh
. /etc/setup
echo up > {READY}
"""

_AGENT = """\
#!/bin/sh
for port in /sys/class/virtio-ports/*; do
    if [ "$(cat $port/name)" = org.qemu.guest_agent.0 ]; then
        exec qemu-ga -m virtio-serial -p "/dev/${port##*/}" -t /run
    fi
done
sleep 1
"""

_DHCP = """\
#!/bin/sh
case $1 in
bound|renew)
    ip address replace "$ip/$mask" dev "$interface"
    [ -z "$router" ] || ip route replace default via ${router%% *} dev "$interface"
    { [ -z "$domain" ] || echo "search $domain"
      for server in $dns; do echo "nameserver $server"; done; } > /etc/resolv.conf
    ;;
esac
"""


def entries() -> dict[str, cpio.Entry]:
    """The files that all guests share, by path."""
    return {
        "init": cpio.file(_INIT.encode(), executable=True),
        "dev/console": cpio.device(),
        "etc/inittab": cpio.file(_INITTAB.encode()),
        "etc/names": cpio.file(_NAMES.encode(), executable=True),
        "etc/rc": cpio.file(_RC.encode(), executable=True),
        "etc/agent": cpio.file(_AGENT.encode(), executable=True),
        "etc/dhcp": cpio.file(_DHCP.encode(), executable=True),
        "etc/passwd": cpio.file(
            b"root:x:0:0:root:/:/bin/sh\n"
            b"tcpdump:x:65533:65533::/:/bin/false\n"
            b"nobody:x:65534:65534::/:/bin/false\n"
        ),
        "etc/group": cpio.file(b"root:x:0:\ntcpdump:x:65533:\nnogroup:x:65534:\ndip:x:30:\n"),
    }


def own(name: str, nics: Mapping[str, str], setup: str) -> bytes:
    """The archive with a guest's own files; ``nics`` are names by MAC address."""
    names = "".join(f"{mac} {nic}\n" for mac, nic in nics.items())
    return cpio.archive(
        {
            "etc/hostname": cpio.file(f"{name}\n".encode()),
            "etc/hosts": cpio.file(f"127.0.0.1 localhost\n127.0.1.1 {name}\n".encode()),
            "etc/nics": cpio.file(names.encode()),
            "etc/setup": cpio.file(setup.encode()),
        }
    )
