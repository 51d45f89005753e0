"""Which processes hold which sockets, and which read and write which taps.

One look at the open files of all processes serves every namespace: inodes of sockets are
unique on the machine. A tap's name is not, so the kernel is asked in which namespace the
device behind a file is; of a macvtap it does not tell, and it is taken to be where the process
is, as libvirt and KubeVirt have it. Source: proc(5), drivers/net/tun.c (tun_chr_show_fdinfo,
TUNGETDEVNETNS), drivers/net/tap.c (tap_ioctl), pidfd_getfd(2).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from kvmdiag.model.link_kinds import Process
from kvmdiag.system.namespaces import identity_of

Identity = tuple[int, int]
_Key = TypeVar("_Key")

# More processes, or more open files of one, are not looked at.
_MOST_PROCESSES = 32768
_MOST_FILES = 16384
_SOCKET = "socket:["
_TUN = "/dev/net/tun"
_MACVTAP = "/dev/tap"
_IFF = re.compile(r"^iff:\s*(\S+)", re.MULTILINE)
_PIDFD_GETFD = 438
_TUNGETIFF = 0x800454D2
_TUNGETDEVNETNS = 0x54E3
_IFREQ = 40
_NAME = 16


@dataclass(frozen=True)
class Holders:
    """Processes by the inode of a socket, and by namespace and name of a tap.

    ``complete`` is false when there are processes whose files may not be looked at;
    ``all_taps`` when each file that belongs to a tap could be told which.
    """

    sockets: Mapping[int, tuple[Process, ...]] = field(default_factory=dict)
    taps: Mapping[tuple[Identity, str], tuple[Process, ...]] = field(default_factory=dict)
    complete: bool = False
    all_taps: bool = False


def read_holders() -> Holders:
    """Look at the open files of all processes that may be looked at."""
    sockets: dict[int, set[Process]] = defaultdict(set)
    taps: dict[tuple[Identity, str], set[Process]] = defaultdict(set)
    pids = sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    complete = len(pids) <= _MOST_PROCESSES
    all_taps = True
    for pid in pids[:_MOST_PROCESSES]:
        try:
            files = [(d, t) for d, t in _files(pid) if t.startswith((_SOCKET, _TUN, _MACVTAP))]
            process = Process(pid=pid, name=_name(pid)) if files else None
        except (PermissionError, OverflowError):
            complete = False
            continue
        except OSError:
            # It has ended since.
            continue
        for descriptor, target in files:
            assert process is not None  # noqa: S101 - there are files
            if target.startswith(_SOCKET):
                sockets[int(target[len(_SOCKET) : -1])].add(process)
                continue
            try:
                look = _macvtap if target.startswith(_MACVTAP) else _tap
                tap = look(pid, descriptor)
            except OSError:
                all_taps = False
                continue
            if tap is not None:
                taps[tap].add(process)
    return Holders(_in_order(sockets), _in_order(taps), complete, complete and all_taps)


def _files(pid: int) -> Iterator[tuple[int, str]]:
    """Descriptors and what they are open on.

    Raises:
        OverflowError: there are too many.
        OSError: they may not be looked at, or the process has ended.

    """
    folder = f"/proc/{pid}/fd"
    descriptors = os.listdir(folder)
    if len(descriptors) > _MOST_FILES:
        raise OverflowError
    for descriptor in descriptors:
        with suppress(FileNotFoundError):
            yield int(descriptor), os.readlink(f"{folder}/{descriptor}")


def _name(pid: int) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().strip()


def _tap(pid: int, descriptor: int) -> tuple[Identity, str] | None:
    """The namespace and the name of the tap an open file is attached to, if it is to one.

    Raises:
        OSError: that may not be looked at, or this kernel cannot tell.

    """
    with open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii", errors="replace") as file:
        name = _IFF.search(file.read())
    if name is None:
        return None
    with _borrowed(pid, descriptor) as tun:
        namespace = fcntl.ioctl(tun, _TUNGETDEVNETNS)
        try:
            return identity_of(namespace), name[1]
        finally:
            os.close(namespace)


def _macvtap(pid: int, descriptor: int) -> tuple[Identity, str]:
    """The same of a macvtap or ipvtap, whose file is of its own."""
    asked = bytearray(_IFREQ)
    with _borrowed(pid, descriptor) as tap:
        fcntl.ioctl(tap, _TUNGETIFF, asked)
    namespace = os.stat(f"/proc/{pid}/ns/net")
    name = bytes(asked[:_NAME]).rstrip(b"\0").decode("utf-8", "surrogateescape")
    return (namespace.st_dev, namespace.st_ino), name


@contextmanager
def _borrowed(pid: int, descriptor: int) -> Iterator[int]:
    """A copy of another process's open file; having it changes nothing."""
    process = os.pidfd_open(pid)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        copy = libc.syscall(_PIDFD_GETFD, process, descriptor, 0)
        if copy < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(process)
    try:
        yield copy
    finally:
        os.close(copy)


def _in_order(found: Mapping[_Key, set[Process]]) -> dict[_Key, tuple[Process, ...]]:
    return {key: tuple(sorted(held, key=lambda p: p.pid)) for key, held in found.items()}
