"""How a change outlives a reboot, for the program that manages what is changed.

Sources: sysctl.d(5), ufw(8), firewall-cmd(1), netfilter-persistent(8), nft(8),
https://libvirt.org/hooks.html, https://docs.docker.com/engine/network/packet-filtering-firewalls/.
"""

from __future__ import annotations

import re
import shlex
from itertools import pairwise

from kvmdiag.actions.managers import manager_of, runs, stored
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack

_SYSCTL_FILE = "/etc/sysctl.d/99-zz-kvmdiag.conf"
# Neutron's namespaces, by the beginnings of their names.
_NEUTRON = ("qrouter-", "snat-", "fip-", "qdhcp-")
_HOOK = "/etc/libvirt/hooks/network"


def keep(stack: Stack, how: str) -> str:
    """``how``, with where it must be done when that is not the machine itself.

    A namespace has no configuration of its own: whoever makes it must make it so.
    """
    if stack.kind == "guest":
        return f"inside {stack.name}: {how}"
    maker = _maker(stack) if stack.kind == "namespace" else None
    if maker is not None:
        return f"{maker} ({how})"
    if stack.kind == "namespace":
        return f"whatever sets up {stack.name} must do it again after a reboot; in a guest: {how}"
    return how


def _maker(stack: Stack) -> str | None:
    """Who is known to make a namespace anew, and with it what was done by hand."""
    if any(link.name.startswith("k6t-") for link in stack.links or ()):
        return (
            f"{stack.name} is the pod of a virtual machine, and lives no longer than it: change "
            "the VirtualMachine's spec or what the node lacks, so that the next pod is made so"
        )
    if stack.name.startswith(_NEUTRON) or (stack.netns or "").split("/")[-1].startswith(_NEUTRON):
        return f"Neutron's agent sets up {stack.name}: neutron-l3-agent must do it again"
    return None


def keep_sysctls(snapshot: Snapshot, stack: Stack, values: tuple[tuple[str, str], ...]) -> str:
    """A late file in sysctl.d, because the last file that sets a key wins."""
    lines = "; ".join(f"{name} = {value}" for name, value in values)
    how = [f"put '{lines}' into {_SYSCTL_FILE}"]
    if stack.name == snapshot.host:
        how += _contradictions(snapshot, values)
        if any(name.startswith("net.bridge.") for name, _ in values):
            how.append("and br_netfilter into /etc/modules-load.d, or the file comes too early")
        if runs(snapshot, "ufw"):
            how.append("ufw writes /etc/ufw/sysctl.conf over it when it starts: set it there too")
    return keep(stack, "; ".join(how))


def _contradictions(snapshot: Snapshot, values: tuple[tuple[str, str], ...]) -> list[str]:
    """The files that set one of the values otherwise."""
    found = []
    for file in stored(snapshot, "sysctl"):
        for name, value in values:
            slashed = name.translate(str.maketrans("./", "/."))
            key = rf"-?(?:{re.escape(name)}|{re.escape(slashed)})"
            said = re.findall(rf"^\s*{key}\s*=\s*(\S+)", file.content or "", re.MULTILINE)
            if said and said[-1] != value:
                found.append(f"{file.path} says {name} = {said[-1]}: take that out")
    return found


def keep_link(snapshot: Snapshot, stack: Stack, link: str, ways: dict[str, str]) -> str:
    """A setting of a link's, for whoever configures it.

    ``ways`` are what to do by manager; ``any`` is for when that is not known. ``{name}`` is the
    manager's file, connection or network.
    """
    manager = manager_of(snapshot, stack.name, link)
    if manager is None or manager.kind not in ways:
        return keep(stack, ways["any"])
    # Not str.format: a link or a connection may be named with braces.
    return ways[manager.kind].replace("{name}", shlex.quote(manager.name))


def keep_rule(snapshot: Snapshot, stack: Stack, command: tuple[str, ...]) -> str:
    """By whom a rule is put back: the firewall in charge, else whoever rewrites what is near it.

    ``command`` is the one that makes the rule.
    """
    return keep(stack, _rule_keeper(snapshot, stack, command))


def _rule_keeper(snapshot: Snapshot, stack: Stack, command: tuple[str, ...]) -> str:
    line = shlex.join(command)
    chains = {chain.name for table in stack.tables or () for chain in table.chains}
    tables = {table.name for table in stack.tables or ()}
    on_host = stack.name == snapshot.host
    if "DOCKER-USER" in command or any(name.startswith("DOCKER") for name in chains):
        return f"run it from a systemd unit with After=docker.service: ExecStart={line}"
    if on_host and (runs(snapshot, "firewalld") or "firewalld" in tables):
        return _firewalld(command)
    if on_host and (runs(snapshot, "ufw") or "ufw-user-input" in chains):
        return _ufw(command)
    for network in snapshot.networks or ():
        if network.bridge is not None and network.bridge in line.replace("'", " ").split():
            condition = f'[ "$1 $2" = "{network.name} started" ]'
            return f"in {_HOOK}, a script that libvirt runs: {condition} && {line}"
    if any(name.startswith("LIBVIRT_") for name in chains) or "libvirt_network" in tables:
        return f"run it from the libvirt hook {_HOOK} (action started)"
    if command[0] == "nft" or stored(snapshot, "nftables"):
        return (
            "write it into /etc/nftables.conf (/etc/sysconfig/nftables.conf), which is read at boot"
        )
    if any(file.path.startswith("/etc/sysconfig/") for file in stored(snapshot, "iptables")):
        return "service iptables save (for IPv6: service ip6tables save)"
    return "netfilter-persistent save (Debian, Ubuntu) or iptables-save into the boot rules"


def _firewalld(command: tuple[str, ...]) -> str:
    """An iptables command as a direct rule of firewalld's, which has no words for nft's own."""
    words = list(command)
    if words[0] == "nft" or not {"-I", "-A"} & set(words):
        line = shlex.join(words)
        return f"run it from a systemd unit with After=firewalld.service: ExecStart={line}"
    family = "ipv6" if words[0].startswith("ip6") else "ipv4"
    table = words[words.index("-t") + 1] if "-t" in words else "filter"
    at = next(i for i, word in enumerate(words) if word in ("-I", "-A"))
    rest = words[at + 2 :]
    if words[at] == "-I" and rest[:1] and rest[0].isdigit():
        rest = rest[1:]
    rule = f"{family} {table} {words[at + 1]} 0 {shlex.join(rest)}"
    return f"firewall-cmd --permanent --direct --add-rule {rule}; then firewall-cmd --reload"


def _ufw(command: tuple[str, ...]) -> str:
    """Ufw has words for what is let in and through, and files for the rest."""
    words = list(command)
    option = {a: b for a, b in pairwise(words) if a.startswith("-")}
    if "ACCEPT" in words and "FORWARD" in words and "-i" in option and "--ctstate" not in option:
        out = f" out on {option['-o']}" if "-o" in option else ""
        return f"ufw route allow in on {option['-i']}{out}"
    if "ACCEPT" in words and "INPUT" in words and "-i" in option and "--dport" in option:
        port = f"port {option['--dport']} proto {option.get('-p', 'any')}"
        return f"ufw allow in on {option['-i']} to any {port}"
    file = "/etc/ufw/before6.rules" if words[0].startswith("ip6") else "/etc/ufw/before.rules"
    return f"write it into {file} (before COMMIT), then ufw reload"
