"""Making namespaces what a practice network's data says, and taking them away.

Nothing here touches the namespace it is called from: links are made inside the practice
namespaces from the start, so names like ``virbr0`` cannot clash with the real host's.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, assert_never

from kvmdiag.errors import LabError
from kvmdiag.lab import settings
from kvmdiag.lab.carrier import await_carrier
from kvmdiag.lab.spec import Ip, Link, Machine, Network, Nft, Rules, Step, Sysctls, namespace
from kvmdiag.model.stack import NAMED_NETNS
from kvmdiag.system.namespaces import entered
from kvmdiag.system.programs import ProgramMissing, run

# All links of a network have different numbers, for the sake of cables: carrier.py says why. The
# kernel counts from 1 in each namespace, and goes on counting however often links are deleted.
_FIRST_NUMBER = 1000
# Links are in this group while they are deleted.
_GROUP = 4711
# Routing as in a new namespace, once all rules are gone.
_ROUTING = (
    "rule add pref 0 lookup local",
    "rule add pref 32766 lookup main",
    "rule add pref 32767 lookup default",
)


def build(network: Network, label: str, made: Callable[[str], None]) -> None:
    """Make all namespaces of a network and fill them; ``made`` is told each one's name.

    Raises:
        LabError: a program refused; what was made so far is left to the caller.

    """
    names = [namespace(label, machine.name) for machine in network.machines]
    for name in names:
        made(name)
    _batch((f"netns add {name}" for name in names), f"cannot make the namespaces of {label}")
    fill(network, label)


def fill(network: Network, label: str) -> None:
    """Give empty namespaces their settings, links, addresses, routes and rules.

    Raises:
        LabError: a program refused.

    """
    for machine in network.machines:
        with _inside(label, machine.name):
            settings.write(settings.pinned(machine), machine.name)
    with _inside(label, network.host):
        _batch(_creation(network, label), f"{network.name}: ip")
    for machine in network.machines:
        with _inside(label, machine.name):
            _ip(_configuration(machine), machine.name)
            settings.write(settings.of_links(machine), machine.name)
            _fill_rules(machine)
    for machine in network.machines:
        with _inside(label, machine.name):
            await_carrier(machine)


def all_settings(network: Network, label: str) -> dict[str, dict[str, str]]:
    """Every setting of every machine, to be restored by ``empty``."""
    found = {}
    for machine in network.machines:
        with _inside(label, machine.name):
            found[machine.name] = settings.read_all()
    return found


def empty(network: Network, label: str, before: Mapping[str, Mapping[str, str]]) -> None:
    """Take out of the namespaces whatever anybody put there, and restore their settings.

    Raises:
        LabError: a namespace is gone, or a program refused.

    """
    for machine in network.machines:
        with _inside(label, machine.name):
            _ip(_removal(machine.name), machine.name)
            _flush_rules(machine.name)
            if machine.ipsets and _has_ipsets():
                _program(("ipset", "destroy"), f"{machine.name}: ipset")
            _forget_flows()
            settings.restore(before.get(machine.name, {}))


def carry_out(steps: Iterable[Step], network: Network, label: str) -> None:
    """Change a standing network.

    Raises:
        LabError: a program refused, or the kernel lacks a setting.

    """
    names = {machine.name: namespace(label, machine.name) for machine in network.machines}
    for step in steps:
        with _inside(label, step.machine):
            match step:
                case Ip(machine, lines):
                    _ip(lines.format_map(names).splitlines(), machine)
                case Sysctls(machine, values):
                    settings.write(values, machine)
                case Rules(machine, text):
                    _restore(text, machine)
                case Nft(machine, text):
                    _nft(text, machine)
                case _:
                    assert_never(step)


def remove(names: Iterable[str]) -> None:
    """Delete those of the named namespaces that exist.

    Raises:
        LabError: one could not be deleted.

    """
    there = (name for name in names if os.path.lexists(NAMED_NETNS + name))
    _batch((f"netns del {name}" for name in there), "cannot delete namespaces", "-force")


def _inside(label: str, machine: str) -> AbstractContextManager[None]:
    return entered(NAMED_NETNS + namespace(label, machine))


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


def _removal(machine: str) -> Iterable[str]:
    """What takes links, addresses, routes and policy rules out of a namespace."""
    # Deleted together they keep the kernel waiting once, not each. Those without a kind, as lo,
    # cannot be deleted. The other end of a veth pair goes too, in whatever machine it is.
    links = [link["ifname"] for link in _listed("link", machine) if _kind(link)]
    yield from (f"link set dev {name} group {_GROUP}" for name in links)
    if links:
        yield f"link del group {_GROUP}"
    # The kernel gives lo its address again when it comes up.
    yield from ("address flush dev lo", "link set lo down", "route flush table all")
    # That leaves those of priority 0, of which there may be several.
    yield "rule flush"
    yield from ("rule del pref 0" for rule in _listed("rule", machine) if rule["priority"] == 0)
    yield from _ROUTING


def _listed(what: str, machine: str) -> list[dict[str, Any]]:
    """What ``ip`` lists in the calling thread's namespace."""
    text = _program(("ip", "-d", "-j", what), f"{machine}: cannot list each {what}")
    found: list[dict[str, Any]] = json.loads(text or "[]")
    return found


def _kind(link: Mapping[str, Any]) -> str | None:
    kind: str | None = link.get("linkinfo", {}).get("info_kind")
    return kind


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
    if machine.ipsets and not _make_ipsets(machine.ipsets):
        rules = machine.rules_without_ipsets
    if rules:
        _restore(rules, machine.name)
    if machine.nft:
        _nft(machine.nft, machine.name)


def _make_ipsets(text: str) -> bool:
    """Make ipsets, where this system and its kernel have any."""
    if not _has_ipsets():
        return False
    _program(("ipset", "restore"), "ipset", text)
    return True


def _has_ipsets() -> bool:
    try:
        return run(("ipset", "list", "-n")).returncode == 0
    except ProgramMissing:
        return False


def _ip(lines: Iterable[str], machine: str) -> None:
    _batch(lines, f"{machine}: ip")


def _batch(lines: Iterable[str], doing: str, *options: str) -> None:
    text = "\n".join(lines)
    if text:
        _program(("ip", *options, "-batch", "-"), doing, text + "\n")


def _restore(rules: str, machine: str) -> None:
    _program(("iptables-nft-restore", "--noflush"), f"{machine}: iptables", rules)


def _nft(text: str, machine: str) -> None:
    _program(("nft", "-f", "-"), f"{machine}: nft", text)


def _flush_rules(machine: str) -> None:
    _program(("nft", "flush", "ruleset"), f"{machine}: nft")
    # A legacy table cannot be removed, only emptied. Naming one that is not there makes it.
    for family, program in (("ip", "iptables"), ("ip6", "ip6tables")):
        try:
            tables = Path(f"/proc/thread-self/net/{family}_tables_names").read_text().split()
        except FileNotFoundError:
            continue
        for table in tables:
            listed = _program((f"{program}-legacy-save", "-t", table), f"{machine}: {program}")
            policies = (
                f"{line.split()[0]} ACCEPT [0:0]"
                for line in listed.splitlines()
                if line.startswith(":") and line.split()[1] != "-"
            )
            text = "\n".join([f"*{table}", *policies, "COMMIT", ""])
            _program((f"{program}-legacy-restore",), f"{machine}: {program}", text)


def _forget_flows() -> None:
    """Empty the connection table: a flow keeps the translation, or none, that it began with."""
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

    # A kernel that cannot be asked this (nf_conntrack_netlink) forgets them by and by.
    with suppress(OSError, NetlinkError), NFCTSocket() as table:
        table.flush()


def _program(argv: tuple[str, ...], doing: str, text: str | None = None) -> str:
    """Run a program; its output. The first line it complains with becomes the error."""
    done = run(argv, input=text)
    if done.returncode:
        complaint = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
        raise LabError(f"{doing}: {complaint}")
    return done.stdout
