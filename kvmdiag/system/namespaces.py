"""Going into a network namespace and coming back, for the calling thread only.

Source: setns(2), network_namespaces(7). A thread's namespace decides which links its new
sockets see, which ``/proc/sys/net`` it reads, and what the programs it starts inherit.
``/proc/net`` is not among them: it follows the process, ``/proc/thread-self/net`` the thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from kvmdiag.errors import NotReadableError
from kvmdiag.model.stack import OWN_NETNS

THREAD_NETNS = "/proc/thread-self/ns/net"
_CLONE_NEWNET = 0x40000000
_CLONE_NEWUTS = 0x04000000


@contextmanager
def entered(path: str) -> Iterator[None]:
    """Run the body with the calling thread in the network namespace at ``path``.

    The namespace the thread was in before is restored in every case. ``OWN_NETNS``, and the
    namespace the thread already is in, need no rights and change nothing.

    Raises:
        NotReadableError: there is no namespace at ``path``, or it may not be entered.

    """
    if path == OWN_NETNS:
        yield
        return
    target = _open(path)
    try:
        if identity_of(target) == identity(THREAD_NETNS):
            yield
            return
        before = _open(THREAD_NETNS)
        try:
            _setns(target, path)
            try:
                yield
            finally:
                _setns(before, "the namespace it came from")
        finally:
            os.close(before)
    finally:
        os.close(target)


def host_name(pid: int) -> str | None:
    """The host name that a process sees (uts_namespaces(7)); ``None`` when it may not be asked.

    The calling thread goes there for a moment.
    """
    try:
        target = os.open(f"/proc/{pid}/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        before = os.open("/proc/thread-self/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(target, _CLONE_NEWUTS) != 0:
                return None
            try:
                return os.uname().nodename
            finally:
                if libc.setns(before, _CLONE_NEWUTS) != 0:
                    raise NotReadableError("cannot get back to the own host name's namespace")
        finally:
            os.close(before)
    finally:
        os.close(target)


def identity(path: str) -> tuple[int, int]:
    """What tells one namespace from all others: device and inode of its file.

    Raises:
        OSError: there is nothing at ``path``, or it may not be looked at.

    """
    status = os.stat(path)
    return status.st_dev, status.st_ino


def identity_of(descriptor: int) -> tuple[int, int]:
    """The same as ``identity``, of an open namespace file."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotReadableError(f"no network namespace at {path}: list them with ip netns") from None
    except PermissionError:
        raise _not_allowed(path) from None
    except OSError as error:
        raise NotReadableError(
            f"cannot open network namespace {path} ({error.strerror}): list them with ip netns"
        ) from None


def _setns(descriptor: int, path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) == 0:
        return
    code = ctypes.get_errno()
    if code in (errno.EPERM, errno.EACCES):
        raise _not_allowed(path)
    if code == errno.EINVAL:
        raise NotReadableError(f"{path} is not a network namespace: list them with ip netns")
    raise NotReadableError(
        f"cannot enter network namespace {path} ({os.strerror(code)}): list them with ip netns"
    )


def _not_allowed(path: str) -> NotReadableError:
    return NotReadableError(f"not allowed to enter network namespace {path}: run as root (sudo)")
