"""A guest made of a tap and whoever holds its other end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from kvmdiag.model.libvirt import Domain, GuestNic
from kvmdiag.model.question import Endpoint, Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address

from .conftest import Net

MAC = "52:54:00:00:00:01"
ADDRESSES = {4: "192.0.2.9", 6: "2001:db8:1::9"}

_OPEN = """
import fcntl, os, socket, struct, sys
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", sys.argv[2].encode(), 0x1002))
there = socket.socket(fileno=int(sys.argv[1]))
socket.send_fds(there, [b"x"], [tap])
"""


@contextmanager
def guest_end(namespace: Any, link: str) -> Iterator[int]:
    """The guest's end of a tap, as QEMU has it: what is read from it was sent to the guest."""
    here, there = socket.socketpair()
    with here, there:
        done = subprocess.run(
            ["ip", "netns", "exec", namespace.name, sys.executable, "-c", _OPEN,
             str(there.fileno()), link],
            pass_fds=[there.fileno()], check=False, capture_output=True, text=True, timeout=10,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        _, (tap, *_), _, _ = socket.recv_fds(here, 1, 1)
    try:
        yield tap
    finally:
        os.close(tap)


def build_host(host: Any) -> None:
    """A bridge ``br0`` with a guest's tap ``vnet0``, and 198.51.100.1 behind it."""
    host.sysctl("net.ipv6.conf.default.accept_dad", 0)
    host.ip(
        "link set lo up",
        "link add br0 type bridge forward_delay 0",
        "link set br0 address 02:00:00:00:00:01 up",
        "addr add 192.0.2.1/24 dev br0",
        "addr add 2001:db8:1::1/64 dev br0 nodad",
        "addr add 198.51.100.1/32 dev lo",
        "tuntap add vnet0 mode tap",
        "link set vnet0 master br0 up",
        f"neigh add {ADDRESSES[4]} lladdr {MAC} dev br0",
        f"neigh add {ADDRESSES[6]} lladdr {MAC} dev br0",
    )


def snapshot(host: Any) -> Snapshot:
    """The host, and a guest of which libvirt knows the MAC address and nothing else is known."""
    seen = Net({"host": host}).snapshot()
    stack = seen.stack("host")
    links = tuple(
        msgspec.structs.replace(link, guest="vm", peer=None) if link.name == "vnet0" else link
        for link in stack.links or ()
    )
    addresses = (
        Address(link="br0", address="192.0.2.1", prefix_length=24),
        Address(link="br0", address="2001:db8:1::1", prefix_length=64),
        Address(link="lo", address="198.51.100.1", prefix_length=32),
    )
    nic = GuestNic(type="network", mac=MAC, target="vnet0")
    return msgspec.structs.replace(
        seen,
        stacks=(msgspec.structs.replace(stack, links=links, addresses=addresses),),
        domains=(Domain(name="vm", state="running", nics=(nic,)),),
    )


def asked(destination: str, **more: Any) -> Question:
    """From the guest, whose address is known from its lease."""
    source = ADDRESSES[6 if ":" in destination else 4]
    return Question(
        source=Endpoint(text="vm", stack="vm", address=source, assumed=("as its lease says",)),
        destination=Endpoint(text=destination, address=destination),
        **more,
    )


def received(tap: int) -> list[bytes]:
    """What the guest has been sent so far."""
    os.set_blocking(tap, False)
    found = []
    while True:
        try:
            found.append(os.read(tap, 4096))
        except BlockingIOError:
            return found
