"""Carries out a plan in namespaces of its own, with few processes."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from differential.plan import Case, Stack
from differential.render import nft_text, restore_text
from kvmdiag.system.namespaces import entered

_numbers = itertools.count(1)
# What keeps a namespace quiet, and a question to a dead neighbour short.
_QUIET: dict[int, tuple[tuple[str, int], ...]] = {
    4: (("disable_ipv6", 1),),
    6: (
        ("accept_dad", 0),
        ("accept_ra", 0),
        ("accept_redirects", 0),
        ("router_solicitations", 0),
    ),
}
_ALWAYS = (
    ("net.ipv4.icmp_ratelimit", 0),
    ("net.ipv6.icmp.ratelimit", 0),
    ("net.ipv4.conf.all.send_redirects", 0),
    ("net.ipv4.conf.default.send_redirects", 0),
)
_BUILD_TIMEOUT = 30
_SIOCGIFFLAGS = 0x8913
_IFF_RUNNING = 0x40
_TENTATIVE = 0x40


class BuildError(Exception):
    """A tool would not take what the plan says: the generator is wrong, or the machine is."""


class Built:
    """A network that stands: its namespaces by the names the plan uses."""

    def __init__(self, prefix: str, case: Case) -> None:
        self.case = case
        self._prefix = prefix

    @property
    def glob(self) -> str:
        """A pattern for the names of all its namespaces."""
        return f"{self._prefix}-*"

    def path(self, stack: str) -> str:
        """Where a stack's namespace can be entered."""
        return f"/run/netns/{self.namespace(stack)}"

    def namespace(self, stack: str) -> str:
        """The name of a stack's namespace."""
        return f"{self._prefix}-{stack}"


@contextlib.contextmanager
def built(case: Case) -> Iterator[Built]:
    """The network of a case, gone without trace afterwards."""
    network = Built(f"kvmdiag-diff-{os.getpid()}-{next(_numbers)}", case)
    names = [network.namespace(stack.name) for stack in case.stacks]
    _run(["ip", "-batch", "-"], "".join(f"netns add {name}\n" for name in names))
    try:
        _lay_cables(network)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda stack: _prepare(network, stack), case.stacks))
            list(pool.map(lambda stack: _finish(network, stack), case.stacks))
        yield network
    finally:
        _run(["ip", "-force", "-batch", "-"], "".join(f"netns del {name}\n" for name in names))


def _lay_cables(network: Built) -> None:
    # Ends with different numbers get carrier at once. Where both have the same, the kernel takes
    # the link for one without a lower one and looks only once a second (linkwatch_urgent_event).
    lines = [
        f"link add name {cable.one[1]} index {number} netns {network.namespace(cable.one[0])}"
        f" type veth peer name {cable.other[1]} index {number + 1}"
        f" netns {network.namespace(cable.other[0])}\n"
        for number, cable in zip(itertools.count(100, 2), network.case.cables, strict=False)
    ]
    with entered(network.path(network.case.stacks[0].name)):
        _run(["ip", "-batch", "-"], "".join(lines))
    standing = ((stack, link) for stack in network.case.stacks for link in stack.links)
    for number, (stack, link) in enumerate(standing, 300):
        if link.over is not None:
            below, lower, mode = link.over
            name, namespace = link.name, network.namespace(stack.name)
            line = f"link add link {lower} name {name} index {number} netns {namespace}"
            with entered(network.path(below)):
                _run(["ip", "-batch", "-"], f"{line} type macvlan mode {mode}\n")


def _prepare(network: Built, stack: Stack) -> None:
    version = network.case.version
    with entered(network.path(stack.name)):
        _set(_ALWAYS)
        for device in ("all", "default", *(link.name for link in stack.links)):
            _set(tuple((f"net.ipv6.conf.{device}.{key}", value) for key, value in _QUIET[version]))
        lines = [*_devices(stack, version), *(_addressing(stack) if version == 4 else ())]
        _run(["ip", f"-{version}", "-batch", "-"], "\n".join([*lines, ""]))


def _finish(network: Built, stack: Stack) -> None:
    """What the kernel would undo, or refuse, before the cables have carrier."""
    with entered(network.path(stack.name)):
        _await_carrier(link.name for link in stack.links)
        if network.case.version == 6:  # its routes want gateways that can be reached already
            _run(["ip", "-6", "-batch", "-"], "\n".join([*_addressing(stack), ""]))
            _await_addresses(stack)
        ports = [
            f"link set dev {link.name} {' '.join(link.port)}\n" for link in stack.links if link.port
        ]
        ports += [
            f"fdb replace {mac} dev {port} master static {' '.join(more)}\n"
            for port, mac, *more in stack.fdb
        ]
        if ports:
            _run(["bridge", "-batch", "-"], "".join(ports))
        devices = (*stack.bridges, *stack.links)
        # Long enough for the owner of an address to answer first, as he does with the default.
        _set(tuple((f"net.ipv4.neigh.{device.name}.proxy_delay", 2) for device in devices))
        _set(stack.sysctls)  # those of a link were not there before
        _load_tables(stack, network.case.version)


def _await_carrier(links: Iterable[str]) -> None:
    end = time.monotonic() + _BUILD_TIMEOUT
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for link in links:
            request = struct.pack("=16sH14x", link.encode(), 0)
            while not struct.unpack_from("=H", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)[0] & (
                _IFF_RUNNING
            ):
                if time.monotonic() > end:
                    raise BuildError(f"{link} never came up")
                time.sleep(0.005)


def _await_addresses(stack: Stack) -> None:
    """Until every link has its own address and all are in use: a work queue sees to that."""
    masters = {link.master for link in stack.links}
    wanted = {link.name for link in stack.links if link.master is None}
    wanted |= {bridge.name for bridge in stack.bridges if bridge.name in masters}
    end = time.monotonic() + _BUILD_TIMEOUT
    while True:
        text = Path("/proc/thread-self/net/if_inet6").read_text()
        entries = [line.split() for line in text.splitlines()]
        near = {words[5] for words in entries if words[0].startswith("fe80")}
        if wanted <= near and not any(int(words[4], 16) & _TENTATIVE for words in entries):
            return
        if time.monotonic() > end:
            raise BuildError(f"addresses of {stack.name} never settled: {text}")
        time.sleep(0.005)


def _devices(stack: Stack, version: int) -> Iterator[str]:
    yield "link set lo up"
    # Made after the cables, so numbered after them: the kernel goes through links in the order
    # of their making, and shows them in that of their numbers.
    for number, bridge in enumerate(stack.bridges, 1000):
        call = int(bridge.nf_call)
        stp = "stp_state 1 forward_delay 3000" if bridge.stp else ""
        calls = f"nf_call_{'iptables' if version == 4 else 'ip6tables'} {call}"
        yield f"link add {bridge.name} index {number} type bridge {calls} mcast_snooping 0 {stp}"
    for link in stack.links:
        if link.mac:
            yield f"link set {link.name} address {link.mac}"
        if link.mtu:
            yield f"link set {link.name} mtu {link.mtu}"
        if link.master:
            yield f"link set {link.name} master {link.master}"
        yield f"link set {link.name} up"
    for bridge in stack.bridges:
        yield f"link set {bridge.name} up"


def _addressing(stack: Stack) -> Iterator[str]:
    for device in (*stack.bridges, *stack.links):
        if device.address:
            yield f"addr add {device.address} dev {device.name}"
    yield from (f"route replace {route}" for route in stack.routes)
    yield from (f"rule add {rule}" for rule in dict.fromkeys(stack.rules))
    yield from stack.extra


def _set(sysctls: tuple[tuple[str, int], ...]) -> None:
    """Into the calling thread's namespace: /proc/sys/net shows that of whoever opens it."""
    for name, value in sysctls:
        path = Path("/proc/sys", *(part.replace("/", ".") for part in name.split(".")))
        path.write_text(str(value))


def _load_tables(stack: Stack, version: int) -> None:
    if stack.ipsets:
        _run(["ipset", "restore"], "".join(f"{line}\n" for line in stack.ipsets))
    scripts: dict[str, list[str]] = {}
    for table in stack.tables:
        text = nft_text(table) if table.backend == "nft" else restore_text(table)
        scripts.setdefault(table.backend, []).append(text)
    iptables = "iptables" if version == 4 else "ip6tables"
    programs = {
        "iptables": [f"{iptables}-nft-restore"],
        "nft": ["nft", "-f", "-"],
        "legacy": [f"{iptables}-legacy-restore", "-w", "10"],
    }
    # Of chains with one priority the latest goes first; no snapshot can tell how legacy ones
    # stand to those of nf_tables, so they always come last here.
    for backend, program in programs.items():
        if backend in scripts:
            _run(program, "".join(scripts[backend]))


def _run(argv: list[str], text: str) -> None:
    done = subprocess.run(
        argv, input=text, capture_output=True, text=True, timeout=_BUILD_TIMEOUT, check=False
    )
    if done.returncode:
        raise BuildError(f"{' '.join(argv)}: {done.stderr.strip()}\n{text}")
