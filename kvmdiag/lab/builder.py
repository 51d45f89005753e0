"""Making namespaces what a practice network's data says, and removing them.

Nothing here touches the namespace it is called from: links are made inside the practice
namespaces from the start, so names like ``virbr0`` cannot clash with the real host's.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from typing import assert_never

from kvmdiag.lab import settings
from kvmdiag.lab.carrier import await_carrier
from kvmdiag.lab.spec import Ip, Link, Machine, Network, Nft, Rules, Step, Sysctls, namespace
from kvmdiag.lab.tools import has_ipsets, inside, ip, iptables, nft, program
from kvmdiag.model.stack import NAMED_NETNS

# All links of a network have different numbers, for the sake of cables: carrier.py says why. The
# kernel counts from 1 in each namespace, and goes on counting however often links are deleted.
_FIRST_NUMBER = 1000


def build(network: Network, label: str, made: Callable[[str], None]) -> None:
    """Make all namespaces of a network and fill them; ``made`` is told each one's name.

    Raises:
        LabError: a program refused; what was made so far is left to the caller.

    """
    names = [namespace(label, machine.name) for machine in network.machines]
    for name in names:
        made(name)
    ip((f"netns add {name}" for name in names), f"cannot make the namespaces of {label}")
    fill(network, label)


def fill(network: Network, label: str) -> None:
    """Give empty namespaces their settings, links, addresses, routes and rules.

    Raises:
        LabError: a program refused.

    """
    for machine in network.machines:
        with inside(label, machine.name):
            settings.write(settings.pinned(machine), machine.name)
    with inside(label, network.host):
        ip(_creation(network, label), network.name)
    for machine in network.machines:
        with inside(label, machine.name):
            ip(_configuration(machine), machine.name)
            settings.write(settings.of_links(machine), machine.name)
            _fill_rules(machine)
    for machine in network.machines:
        with inside(label, machine.name):
            await_carrier(machine)


def all_settings(network: Network, label: str) -> dict[str, dict[str, str]]:
    """Every setting of every machine, to be restored when it is emptied."""
    found = {}
    for machine in network.machines:
        with inside(label, machine.name):
            found[machine.name] = settings.read_all()
    return found


def carry_out(steps: Iterable[Step], network: Network, label: str) -> None:
    """Change a standing network.

    Raises:
        LabError: a program refused, or the kernel lacks a setting.

    """
    names = {machine.name: namespace(label, machine.name) for machine in network.machines}
    for step in steps:
        with inside(label, step.machine):
            match step:
                case Ip(machine, lines):
                    ip(lines.format_map(names).splitlines(), machine)
                case Sysctls(machine, values):
                    settings.write(values, machine)
                case Rules(machine, text):
                    iptables(text, machine)
                case Nft(machine, text):
                    nft(text, machine)
                case _:
                    assert_never(step)


def remove(names: Iterable[str]) -> None:
    """Delete those of the named namespaces that exist.

    Raises:
        LabError: one could not be deleted.

    """
    lines = [f"netns del {name}\n" for name in names if os.path.lexists(NAMED_NETNS + name)]
    if lines:
        argv = ("ip", "-force", "-batch", "-")  # one that refuses does not keep the others
        program(argv, "cannot delete namespaces", "".join(lines))


def _creation(network: Network, label: str) -> Iterable[str]:
    numbers = itertools.count(_FIRST_NUMBER)

    def new(link: Link) -> str:
        return f"name {link.name} index {next(numbers)} address {link.mac}"

    for machine in network.machines:
        here = f"netns {namespace(label, machine.name)}"
        for link in machine.links:
            if link.kind != "veth":
                yield f"link add {new(link)} {here} type {link.kind}"
            elif link.peer is not None:
                other, _, end = link.peer.partition(":")
                there = f"name {end} index {next(numbers)} netns {namespace(label, other)}"
                yield f"link add {new(link)} {here} type veth peer {there}"


def _configuration(machine: Machine) -> Iterable[str]:
    yield "link set lo up"
    for link in machine.links:
        yield from _link_lines(link)
    for route in machine.routes:
        yield f"route add {route}"


def _link_lines(link: Link) -> Iterable[str]:
    master = f" master {link.master}" if link.master else ""
    mtu = f" mtu {link.mtu}" if link.mtu else ""
    yield f"link set {link.name} address {link.mac}{mtu}{master} up"
    for address in link.addresses:
        # IPv6 has no broadcast, and a network of one address needs none.
        broadcast = "" if ":" in address or address.endswith("/32") else " broadcast +"
        yield f"address add {address} dev {link.name}{broadcast}"


def _fill_rules(machine: Machine) -> None:
    rules = machine.rules
    if machine.ipsets:
        if has_ipsets():
            program(("ipset", "restore"), f"{machine.name}: ipset", machine.ipsets)
        else:
            rules = machine.rules_without_ipsets
    if rules:
        iptables(rules, machine.name)
    if machine.nft:
        nft(machine.nft, machine.name)
