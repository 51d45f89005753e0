"""Frames that enter a link as if received, on kernels that cannot do it by BPF.

A cable is laid into the link's namespace; what comes out of it there is redirected to the
link's ingress. The cable's far end lies in a namespace without a name, which nothing but this
process holds: when the process ends, however it ends, the kernel removes that namespace, the
cable with it, and with the cable its filter. Nobody has to clean up.
Source: tc-mirred(8), net/core/net_namespace.c cleanup_net.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path

from kvmdiag.errors import NotReadableError
from kvmdiag.system.namespaces import THREAD_NETNS, entered
from kvmdiag.system.programs import ProgramError, run

_CLONE_NEWNET = 0x40000000
_ETHERNET_HEADER = 14


class TapRedirect:
    """Puts frames on one link, as received; a context manager.

    ``mtu`` is the link's, so that everything fits that the link takes.

    Raises:
        NotReadableError: it is not allowed, or the kernel lacks what it takes.

    """

    how = "by way of a redirected veth"

    def __init__(self, netns: str, link: str, mtu: int) -> None:
        self._namespace = _nameless_namespace()
        try:
            path = f"/proc/{os.getpid()}/fd/{self._namespace}"
            near, far = (f"kvmdiag{secrets.token_hex(3)}" for _ in range(2))
            with entered(path):
                # Else this end would speak of its own accord, in the guest's name.
                _set("net/ipv6/conf/default/disable_ipv6", "1")
            with entered(netns):
                self._lay_cable(near, far, path, mtu)
                _redirect(near, link)
            with entered(path):
                _ip(f"link set {far} up")
                self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                self._socket.bind((far, 0))
        except BaseException:
            self._remove()
            raise

    def _lay_cable(self, near: str, far: str, path: str, mtu: int) -> None:
        _ip(f"link add {near} mtu {mtu} type veth peer name {far} mtu {mtu} netns {path}")
        _ip(f"link set {near} addrgenmode none")
        _ip(f"link set {near} up")

    def __enter__(self) -> TapRedirect:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._remove()

    def _remove(self) -> None:
        os.close(self._namespace)

    def put(self, frame: bytes) -> None:
        """Let the link receive this Ethernet frame.

        Raises:
            NotReadableError: it does not fit, or the link is down.

        """
        try:
            self._socket.send(frame.ljust(_ETHERNET_HEADER, b"\0"))
        except OSError as error:
            raise NotReadableError(
                f"cannot put a frame of {len(frame)} bytes on the link: {error.strerror}"
            ) from None


def _nameless_namespace() -> int:
    """A descriptor that alone keeps a new network namespace alive."""
    before = os.open(THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.unshare(_CLONE_NEWNET):
            reason = os.strerror(ctypes.get_errno())
            raise NotReadableError(f"not allowed to make a network namespace: {reason}")
        try:
            return os.open(THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            if libc.setns(before, _CLONE_NEWNET):
                raise NotReadableError("cannot get back into the namespace it came from")
    finally:
        os.close(before)


def _set(name: str, value: str) -> None:
    with suppress(FileNotFoundError):  # no IPv6 at all
        Path("/proc/sys", name).write_text(value)


def _ip(arguments: str) -> None:
    _run(["ip", *arguments.split()])


def _redirect(near: str, link: str) -> None:
    """All that comes in at ``near`` comes in at ``link`` instead."""
    _run(["tc", "qdisc", "add", "dev", near, "ingress"])
    add = ["tc", "filter", "add", "dev", near, "parent", "ffff:", "protocol", "all"]
    action = ["action", "mirred", "ingress", "redirect", "dev", link]
    try:
        _run([*add, "matchall", *action])
    except NotReadableError:  # a kernel without that classifier; this program takes all, too
        _run([*add, "bpf", "bytecode", "1,6 0 0 4294967295", *action])


def _run(argv: list[str]) -> None:
    try:
        done = run(argv, timeout=5)
    except ProgramError as error:
        raise NotReadableError(str(error)) from None
    if done.returncode:
        raise NotReadableError(f"{' '.join(argv)}: {done.stderr.strip()}")
