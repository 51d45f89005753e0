"""Which programs with a hand in the network run, by /proc, and how they are configured.

systemctl is not asked: it may not be there, and what counts is what runs.
Source: proc(5); dnsmasq(8), daemon.json of Docker, firewalld.conf(5), ufw(8),
NetworkManager.conf(5), networkd.conf(5), resolved.conf(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from kvmdiag.collect.processes.arguments import COMMAND_LINE, read_arguments, setting
from kvmdiag.model.daemons import ConfigFile, Daemon, Setting
from kvmdiag.model.snapshot import Gap

Identity = tuple[int, int]

_ROOT, _PROC = Path("/"), Path("/proc")
_LONGEST = 256 << 10
_MOST_SETTINGS = 2000
_ARGUMENTS = 1 << 16
# The name the kernel knows a process by has 15 letters (comm in proc(5)).
_COMM = 15
_PROGRAMS = (
    "dnsmasq",
    "dockerd",
    "containerd",
    "firewalld",
    "NetworkManager",
    "systemd-networkd",
    "systemd-resolved",
    "libvirtd",
    "virtqemud",
    "virtnetworkd",
    "dhcpcd",
    "dhclient",
    "named",
    "unbound",
    "kubelet",
    "ovs-vswitchd",
)
_BY_COMM = {name[:_COMM]: name for name in _PROGRAMS}
_FILES: Mapping[str, tuple[str, ...]] = {
    "dnsmasq": ("/etc/dnsmasq.conf", "/etc/dnsmasq.d/*.conf"),
    "dockerd": ("/etc/docker/daemon.json",),
    "firewalld": ("/etc/firewalld/firewalld.conf",),
    "ufw": ("/etc/ufw/ufw.conf", "/etc/default/ufw"),
    "NetworkManager": ("/etc/NetworkManager/NetworkManager.conf", "/etc/NetworkManager/conf.d/*"),
    "systemd-networkd": ("/etc/systemd/networkd.conf", "/etc/systemd/networkd.conf.d/*.conf"),
    "systemd-resolved": ("/etc/systemd/resolved.conf", "/etc/systemd/resolved.conf.d/*.conf"),
}


def read_daemons(
    stacks: Mapping[Identity, str],
    *,
    configured: bool = True,
    root: Path = _ROOT,
    proc: Path = _PROC,
) -> tuple[tuple[Daemon, ...], tuple[Gap, ...]]:
    """The daemons that run in one of the stacks; with ``configured`` also those that do not.

    ``stacks`` are the names of stacks by their network namespace. Those that run in another
    namespace are somebody else's.
    """
    found = [
        Daemon(
            name=name,
            running=True,
            pid=pid,
            stack=stacks[namespace],
            files=tuple(_config(root, name, _arguments(proc, pid))),
        )
        for pid, name, namespace in _running(proc)
        if namespace in stacks
    ]
    running = {daemon.name for daemon in found}
    for name in _FILES if configured else ():
        if name in running:
            continue
        files = tuple(_config(root, name, ()))
        if files:
            found.append(Daemon(name=name, running=name == "ufw" and _enabled(files), files=files))
    gaps = [
        Gap(
            stack=None,
            fact=f"configuration of {daemon.name}",
            why=f"{file.path} cannot be read",
            help="run as root (sudo)",
        )
        for daemon in found
        for file in daemon.files
        if file.settings is None
    ]
    return tuple(found), tuple(gaps)


def _running(proc: Path) -> Iterator[tuple[int, str, Identity]]:
    for pid in sorted(int(entry) for entry in os.listdir(proc) if entry.isdecimal()):
        folder = proc / str(pid)
        try:
            name = _BY_COMM.get((folder / "comm").read_text(errors="replace").strip())
            # firewalld and others are scripts; their interpreter goes by the script's name.
            if name is None:
                continue
            namespace = os.stat(folder / "ns/net")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        yield pid, name, (namespace.st_dev, namespace.st_ino)


def _arguments(proc: Path, pid: int) -> Sequence[str]:
    try:
        with (proc / str(pid) / "cmdline").open(errors="replace") as file:
            return file.read(_ARGUMENTS).split("\0")
    except OSError:
        return ()


def _config(root: Path, name: str, arguments: Sequence[str]) -> Iterator[ConfigFile]:
    """Its command line, and the files that this names, else those in their usual places."""
    said = tuple(read_arguments(name, arguments[1:]))
    if said:
        yield ConfigFile(path=COMMAND_LINE, settings=said)
    named = [s.value for s in said if s.key in ("conf-file", "config-file") and s.value]
    for pattern in named or _FILES.get(name, ()):
        relative = pattern.lstrip("/")
        try:
            paths = sorted(root.glob(relative)) if "*" in relative else [root / relative]
        except OSError:
            continue
        for path in paths:
            if path.is_file():
                yield ConfigFile(path=f"/{path.relative_to(root)}", settings=_settings(path))


def _settings(path: Path) -> tuple[Setting, ...] | None:
    try:
        with path.open(errors="replace") as file:
            text = file.read(_LONGEST + 1)
    except OSError:
        return None
    if len(text) > _LONGEST:
        return None
    lines = _json_lines(text) if path.suffix == ".json" else text.splitlines()
    found = []
    for line in lines:
        word = line.strip()
        if not word or word.startswith(("#", ";")):
            continue
        key, _, value = word.partition("=")
        found.append(setting(key.strip(), value.strip()))
    return tuple(found) if len(found) <= _MOST_SETTINGS else None


def _json_lines(text: str) -> list[str]:
    """The members of a JSON object, each as ``key=value``."""
    try:
        told = msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError):
        return text.splitlines()
    return [f"{key}={msgspec.json.encode(value).decode()}" for key, value in told.items()]


def _enabled(files: Sequence[ConfigFile]) -> bool:
    """``ENABLED=yes`` in ufw.conf."""
    return any(
        setting.key == "ENABLED" and setting.value.strip('"').lower() == "yes"
        for file in files
        for setting in file.settings or ()
    )
