"""By which name people know a process's network namespace: its container, pod or service.

    /system.slice/docker-0123456789ab....scope                         docker-0123456789ab
    /kubepods.slice/...-pod<uid>.slice/cri-containerd-<id>.scope       pod-<host name of the pod>
    the same, with a process ``virt-launcher --name testvm``           virt-launcher-testvm
    /lxc.payload.web, /machine.slice/machine-web.scope                 lxc-web, machine-web

Source: cgroups(7), systemd's unit names (systemd-escape(1)), the cgroup drivers of Docker,
containerd, CRI-O, Podman and LXC, KubeVirt's cmd/virt-launcher.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_ID = r"(?P<id>[0-9a-f]{12})[0-9a-f]{52}"
_POD = re.compile(r"kubepods.*[/-]pod(?P<uid>[0-9a-f_-]{32,36})")
_CONTAINERS = (
    (re.compile(rf"(?:/docker/|docker-){_ID}"), "docker"),
    (re.compile(rf"libpod-{_ID}"), "podman"),
    (re.compile(rf"crio-{_ID}"), "crio"),
    (re.compile(rf"(?:cri-containerd|nerdctl)-{_ID}"), "containerd"),
    (re.compile(rf"/{_ID}(?![0-9a-f])"), "container"),
)
_NAMED = (
    (re.compile(r"/lxc(?:\.payload)?[./](?P<name>[^/\s]+)"), "lxc"),
    (re.compile(r"/machine-(?P<name>[^/\s]+)\.scope"), "machine"),
    (re.compile(r"systemd-nspawn@(?P<name>[^/\s]+)\.service"), "machine"),
)
_SERVICE = re.compile(r"/(?P<name>[^/\s]+\.service)(?![^/\s])")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_LAUNCHER = "virt-launcher"
_ODD = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST = 64


@dataclass(frozen=True)
class Holder:
    """What is known of a process: all of it written by whoever runs it."""

    pid: int
    command: str
    cgroup: str = ""
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Owner:
    """The name for people, and others by which it may be asked for.

    ``in_pod`` tells that the pod's host name would be a better name.
    """

    name: str
    others: tuple[str, ...] = ()
    in_pod: bool = False


def owner(holders: Sequence[Holder]) -> Owner:
    """Who owns the namespace that these processes, oldest first, are in."""
    first = holders[0]
    pod = next((found for one in holders if (found := _POD.search(one.cgroup))), None)
    container = next((name for one in holders if (name := _container(one.cgroup))), None)
    if pod is not None:
        uid = "pod-" + pod["uid"].replace("_", "-")
        others = (uid, container) if container else (uid,)
        machine = next((name for one in holders if (name := _machine(one))), None)
        if machine is not None:
            return Owner(f"{_LAUNCHER}-{plain(machine)}", others)
        return Owner(uid, others, in_pod=True)
    process = f"{plain(first.command) or 'process'}-{first.pid}"
    if container is not None:
        return Owner(container, (process,))
    service = _SERVICE.search(first.cgroup)
    if service is not None:
        return Owner(process, (plain(service["name"]),))
    return Owner(process)


def plain(text: str) -> str:
    """The text as part of a name: short, and without anything a shell or terminal obeys."""
    return _ODD.sub("_", text)[:_LONGEST]


def _container(cgroup: str) -> str | None:
    for pattern, runtime in _CONTAINERS:
        if found := pattern.search(cgroup):
            return f"{runtime}-{found['id']}"
    for pattern, manager in _NAMED:
        if found := pattern.search(cgroup):
            name = _ESCAPED.sub(lambda code: chr(int(code[1], 16)), found["name"])
            return f"{manager}-{plain(name)}"
    return None


def _machine(holder: Holder) -> str | None:
    """The name of the virtual machine that a virt-launcher was started for."""
    program, *arguments = holder.arguments or ("",)
    if not program.rpartition("/")[2].startswith(_LAUNCHER):
        return None
    for number, argument in enumerate(arguments):
        if argument == "--name" and number + 1 < len(arguments):
            return arguments[number + 1]
        if argument.startswith("--name="):
            return argument.removeprefix("--name=")
    return None
