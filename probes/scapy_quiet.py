"""Loading scapy quickly and without any trace on the machine.

Left to itself scapy, when imported, lists all interfaces and routes of the namespace (four
seconds with 400 interfaces), parses a list of 50,000 hardware makers and writes caches to the
home directory. None of that is of use to build and to dissect packets.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from types import ModuleType
from typing import Any


class Layers:
    """The layers of scapy that are used here; attributes bear scapy's own names."""

    def __init__(self) -> None:
        from scapy.layers.inet import ICMP, IP, TCP, UDP
        from scapy.layers.inet6 import (
            ICMPv6EchoRequest,
            ICMPv6ND_NS,
            ICMPv6NDOptSrcLLAddr,
            IPv6,
        )
        from scapy.layers.l2 import ARP, Ether
        from scapy.packet import Raw

        self.IP: Any = IP
        self.IPv6: Any = IPv6
        self.ICMP: Any = ICMP
        self.ICMPv6EchoRequest: Any = ICMPv6EchoRequest
        self.ICMPv6ND_NS: Any = ICMPv6ND_NS
        self.ICMPv6NDOptSrcLLAddr: Any = ICMPv6NDOptSrcLLAddr
        self.ARP: Any = ARP
        self.Ether: Any = Ether
        self.TCP: Any = TCP
        self.UDP: Any = UDP
        self.Raw: Any = Raw


class Services:
    """The layers of DHCP and DNS, which take some time to load and are seldom needed."""

    def __init__(self) -> None:
        from scapy.layers.dhcp import BOOTP, DHCP
        from scapy.layers.dns import DNS, DNSQR

        self.BOOTP: Any = BOOTP
        self.DHCP: Any = DHCP
        self.DNS: Any = DNS
        self.DNSQR: Any = DNSQR


@cache
def services() -> Services:
    """Import scapy's layers of DHCP and DNS, once per process."""
    layers()
    with _quiet_import():
        return Services()


@cache
def layers() -> Layers:
    """Import scapy's layers, once per process (about 0.1 s)."""
    with _quiet_import():
        return Layers()


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Keep scapy from looking at the machine while it is being imported."""
    if "scapy.layers.inet" in sys.modules:
        yield
        return
    collecting = gc.isenabled()
    gc.disable()  # thousands of classes and not one cycle to free: a fifth of the time
    try:
        with ExitStack() as undo:
            _keep_from_files(undo)
            _keep_from_network(undo)
            yield
    finally:
        if collecting:
            gc.enable()


def _keep_from_files(undo: ExitStack) -> None:
    """No folders or caches in the home directory, hence nothing large to parse either."""
    with ExitStack() as environment:
        for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
            environment.callback(_set, name, os.environ.get(name))
            os.environ[name] = os.sep  # exists, so scapy does not make it
        import scapy.main

    undo.callback(setattr, scapy.main, "SCAPY_CACHE_FOLDER", scapy.main.SCAPY_CACHE_FOLDER)
    scapy.main.SCAPY_CACHE_FOLDER = None
    _hide(undo, "share/wireshark/manuf")
    for name, nothing in (("manuf", ""), ("bluetoothids", {})):
        module = ModuleType(f"scapy.libs.{name}")
        module.DATA = nothing  # type: ignore[attr-defined]
        sys.modules[module.__name__] = module
        undo.callback(sys.modules.pop, module.__name__, None)


def _hide(undo: ExitStack, ending: str) -> None:
    """Let scapy find no such file: of Wireshark's list it would parse 40,000 lines."""
    exists = os.path.exists
    undo.callback(setattr, os.path, "exists", exists)
    os.path.exists = lambda path: not str(path).endswith(ending) and exists(path)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _keep_from_network(undo: ExitStack) -> None:
    """Neither routes nor interfaces are read."""
    import scapy.config
    import scapy.interfaces

    scapy.config.conf.route_autoload = False
    scapy.config.conf.route6_autoload = False
    known = scapy.interfaces.NetworkInterfaceDict
    undo.callback(setattr, known, "reload", known.reload)
    known.reload = lambda _: None
