"""A libvirt of a practice network's own, in the namespace that stands for the host.

libvirt keeps its sockets and files in fixed places. A private mount namespace puts folders of
the practice network there, so that several libvirts stand side by side, and hides what must
not be touched: the machine's D-Bus (firewalld, machined) and its control groups. /dev/kvm is
hidden too, because where machines are themselves virtual it may be there and never answer; by
a file mounted read-only, since libvirt takes whatever can be written to for a working one and
asks QEMU about it again and again.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from kvmdiag.collect.libvirt.files import Places
from kvmdiag.errors import LabError
from kvmdiag.lab.state import DIRECTORY
from kvmdiag.system.programs import Completed, run

_DAEMON = "libvirtd"
_SHELL_SECONDS = 120.0  # Docker takes its time to start
_FOLDERS = ("run", "etc", "lib", "log")
# What libvirt has learnt of QEMU, which takes it seconds; it looks itself whether that still holds.
_CACHE = Path("/var/cache/kvmdiag/libvirt")
# $1 is the practice network's folder; libvirtd's own path is found before /run is replaced.
_START = """
set -e
mount -t sysfs sys /sys
for place in etc:/etc/libvirt lib:/var/lib/libvirt log:/var/log/libvirt; do
    mkdir -p "${place#*:}"
    mount --bind "$1/${place%%:*}" "${place#*:}"
done
mkdir -p /var/cache/libvirt
mount --bind "$3" /var/cache/libvirt
if [ -e /dev/kvm ]; then
    mount --bind "$1/kvm" /dev/kvm
    mount -o remount,bind,ro /dev/kvm
fi
mount --bind "$1/run" /run
exec "$2" --daemon --pid-file /run/libvirtd.pid
"""
_LIBVIRTD_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
"""
# Without a log daemon, control groups, and users other than root.
_QEMU_CONF = """\
stdio_handler = "file"
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
"""


def folder(label: str) -> Path:
    """Where the files of a practice network's libvirt and guests are."""
    return DIRECTORY / f"{label}.real"


def uri(label: str) -> str:
    """How its libvirt is reached, from any namespace."""
    return f"qemu+unix:///system?socket={folder(label)}/run/libvirt/libvirt-sock"


def places(label: str) -> Places:
    """Where its files are, seen from outside."""
    home = folder(label)
    return Places(run=f"{home}/run/libvirt", etc=f"{home}/etc", lib=f"{home}/lib")


def start(label: str, netns: str) -> None:
    """Start libvirt in the network namespace at ``netns``.

    Raises:
        LabError: it is not installed, or does not start.

    """
    daemon = _installed()
    home = folder(label)
    for name in _FOLDERS:
        (home / name).mkdir(parents=True)
    _CACHE.mkdir(parents=True, exist_ok=True)
    (home / "kvm").touch()
    (home / "etc/libvirtd.conf").write_text(_LIBVIRTD_CONF)
    (home / "etc/qemu.conf").write_text(_QEMU_CONF)
    (home / "etc/nwfilter").mkdir()
    for known in Path("/etc/libvirt/nwfilter").glob("*.xml"):
        shutil.copy(known, home / "etc/nwfilter")
    inside = ("nsenter", f"--net={netns}", "unshare", "--mount", "--propagation", "private")
    done = run(
        (*inside, "--", "sh", "-c", _START, "sh", str(home), daemon, str(_CACHE)), timeout=30
    )
    if done.returncode:
        raise LabError(f"{_DAEMON} does not start: {complaint(done)}")


def beside(label: str, netns: str) -> tuple[str, ...]:
    """What to put in front of a command that is to see what the libvirt there sees.

    Raises:
        LabError: that libvirt has ended.

    """
    daemon = next((pid for pid in _processes(label) if _name(pid) == _DAEMON), None)
    if daemon is None:
        raise LabError(f"the libvirt of {label} has ended")
    return ("nsenter", f"--net={netns}", f"--mount=/proc/{daemon}/ns/mnt", "--")


def shell(label: str, netns: str, text: str) -> None:
    """Run a few lines of shell in a network namespace, among the files of its libvirt.

    Raises:
        LabError: one of them does not succeed, or its libvirt has ended.

    """
    script = f"PATH=$PATH:/usr/sbin:/sbin\n{text}"  # where a bare PATH lacks the daemons
    done = run((*beside(label, netns), "sh", "-ec", script), timeout=_SHELL_SECONDS)
    if done.returncode:
        raise LabError(complaint(done))


def complaint(done: Completed) -> str:
    """What a program that failed said last."""
    return (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]


def pretend(label: str, networks: Mapping[str, str]) -> None:
    """Leave the files of a libvirt that started these networks (XML, by name) and was ended."""
    folder_of_networks = Path(places(label).run, "network")
    folder_of_networks.mkdir(parents=True)
    for name, xml in networks.items():
        text = f"<networkstatus>\n{xml.strip()}\n</networkstatus>\n"
        (folder_of_networks / f"{name}.xml").write_text(text)


def stop(label: str) -> bool:
    """End everything that runs for a practice network, and remove its files.

    Returns whether there was anything.

    Raises:
        LabError: a process does not end.

    """
    home = folder(label)
    if not home.exists():
        return False
    while left := list(_processes(label)):  # one that ends may just have started another
        for pid in left:
            _end(pid)
    shutil.rmtree(home, ignore_errors=True)
    return True


def running(label: str) -> bool:
    """Whether its libvirt is still there."""
    return any(_name(pid) == _DAEMON for pid in _processes(label))


def _installed() -> str:
    path = shutil.which(_DAEMON, path="/usr/sbin:/sbin:/usr/bin")
    emulator = shutil.which("qemu-system-x86_64")
    if path is None or emulator is None:
        missing = "libvirt's daemon" if path is None else "QEMU"
        raise LabError(f"real guests need {missing}; install it: scripts/bootstrap --real")
    return path


def _processes(label: str) -> Iterator[int]:
    """What runs in the mount namespace of a practice network: there, /run is its own folder."""
    ours = re.compile(rf"^\S+ \S+ \S+ \S*/{re.escape(folder(label).name)}/run /run ", re.MULTILINE)
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        with suppress(OSError):
            if ours.search(Path(f"/proc/{entry}/mountinfo").read_text()):
                yield int(entry)


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _end(pid: int) -> None:
    """End a process and wait until it is gone; a descriptor of it cannot come to mean another."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number, seconds in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
            signal.pidfd_send_signal(process, number)
            if select.select([process], [], [], seconds)[0]:
                return
    except ProcessLookupError:
        return
    finally:
        os.close(process)
    raise LabError(f"process {pid} of the practice network does not end")
