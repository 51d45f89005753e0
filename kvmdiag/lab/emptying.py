"""Taking everything out of the namespaces of a practice network, whoever put it there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kvmdiag.lab import settings
from kvmdiag.lab.spec import Network
from kvmdiag.lab.tools import has_ipsets, inside, ip, listed, program
from kvmdiag.system.programs import run

# Links are in this group while they are deleted.
_GROUP = 4711
# Routing as in a new namespace, once all rules are gone.
_ROUTING = (
    "rule add pref 0 lookup local",
    "rule add pref 32766 lookup main",
    "rule add pref 32767 lookup default",
)


def empty(network: Network, label: str, before: Mapping[str, Mapping[str, str]]) -> None:
    """Take out of the namespaces whatever anybody put there, and restore their settings.

    Raises:
        LabError: a namespace is gone, or a program refused.

    """
    for machine in network.machines:
        with inside(label, machine.name):
            links, rules = listed(machine.name, "link", "rule")
            _delete([link["ifname"] for link in links if _can_go(link)])
            _forget_routing(machine.name, sum(rule["priority"] == 0 for rule in rules))
            _flush_rules(machine.name)
            if machine.ipsets and has_ipsets():
                program(("ipset", "destroy"), f"{machine.name}: ipset")
            _forget_flows()
            settings.restore(before.get(machine.name, {}))


def _can_go(link: Mapping[str, Any]) -> bool:
    """Whether a link can be deleted; lo and others without a kind, as hardware, cannot."""
    return bool(link.get("linkinfo", {}).get("info_kind"))


def _delete(links: Sequence[str]) -> None:
    """Delete links, with the other ends of veth pairs, in whatever machine these are.

    All together, so that the kernel waits once for those who may be using them. One that went by
    itself meanwhile is no loss.
    """
    if links:
        lines = [
            *(f"link set dev {link} group {_GROUP}" for link in links),
            f"link del group {_GROUP}",
        ]
        run(("ip", "-force", "-batch", "-"), input="\n".join([*lines, ""]))


def _forget_routing(machine: str, first: int) -> None:
    """Leave the routing of a new namespace; ``first`` policy rules have priority 0."""
    ip(
        (
            # The kernel gives lo its address again when it comes up.
            "address flush dev lo",
            "link set lo down",
            "route flush table all",
            "rule flush",
            *["rule del pref 0"] * first,  # flush leaves those
            *_ROUTING,
        ),
        machine,
    )


def _flush_rules(machine: str) -> None:
    program(("nft", "flush", "ruleset"), f"{machine}: nft")
    # A legacy table cannot be removed, only emptied. Naming one that is not there makes it.
    for family, name in (("ip", "iptables"), ("ip6", "ip6tables")):
        try:
            tables = Path(f"/proc/thread-self/net/{family}_tables_names").read_text().split()
        except FileNotFoundError:
            continue
        for table in tables:
            listed = program((f"{name}-legacy-save", "-t", table), f"{machine}: {name}")
            policies = (
                f"{line.split()[0]} ACCEPT [0:0]"
                for line in listed.splitlines()
                if line.startswith(":") and line.split()[1] != "-"
            )
            text = "\n".join([f"*{table}", *policies, "COMMIT", ""])
            program((f"{name}-legacy-restore",), f"{machine}: {name}", text)


def _forget_flows() -> None:
    """Empty the connection table: a flow keeps the translation, or none, that it began with."""
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

    # A kernel that cannot be asked this (nf_conntrack_netlink) forgets them by and by.
    with suppress(OSError, NetlinkError), NFCTSocket() as table:
        table.flush()
