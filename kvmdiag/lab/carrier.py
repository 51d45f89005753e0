"""Waiting for cables to be in use once they are plugged in.

The kernel tells of a carrier a moment after it is there, and until then a bridge forwards nothing
by that port. Where both ends of a veth pair have the same number, it takes them for links without
a lower one and looks only once a second (linkwatch_urgent_event in net/core/link_watch.c);
therefore the builder numbers them apart.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import time

from kvmdiag.errors import LabError
from kvmdiag.lab.spec import Machine

_PATIENCE = 20.0
_PAUSE = 0.002
# netdevice(7); struct ifreq is a name of 16 bytes and then the flags.
_SIOCGIFFLAGS = 0x8913
_IFF_RUNNING = 0x40
_IFREQ = "16sH22x"


def await_carrier(machine: Machine) -> None:
    """Return once all cables of a machine are in use, and the bridges that they are ports of.

    The calling thread is in its namespace.

    Raises:
        LabError: a link is still not in use after 20 seconds.

    """
    end = time.monotonic() + _PATIENCE
    cables = [link for link in machine.links if link.kind == "veth"]
    waiting = {link.name for link in cables} | {link.master for link in cables if link.master}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        while waiting := {name for name in waiting if not _in_use(asked, name)}:
            if time.monotonic() > end:
                raise LabError(f"{machine.name}: {min(waiting)} does not come up")
            time.sleep(_PAUSE)


def _in_use(asked: socket.socket, name: str) -> bool:
    answer = fcntl.ioctl(asked, _SIOCGIFFLAGS, struct.pack(_IFREQ, name.encode(), 0))
    return bool(struct.unpack(_IFREQ, answer)[1] & _IFF_RUNNING)
