"""What a reboot would take away: bridges, addresses, rules, settings that no file brings back.

Only what some path needs is told: everything that would be lost is taken out of a copy of the
facts, and the judged paths are walked there. Where the files were not read nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_interface
from typing import NamedTuple

import msgspec

from kvmdiag.actions.address import DeleteAddress
from kvmdiag.actions.managers import defined, manager_of, runs, stored
from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.nets import is_guest_bridge, leads_to_guest
from kvmdiag.diagnose.owners import owner_of
from kvmdiag.diagnose.rules import Placed, has_chain, rules_of
from kvmdiag.model.netfilter import Chain, Table
from kvmdiag.model.persistent import Source, StoredFile
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address, Stack

# How the kernel marks addresses that DHCP, router announcements or itself have given.
_GIVEN = frozenset({"dynamic", "temporary", "mngtmpaddr"})
_FORWARD = "net.ipv4.ip_forward"
# Programs that make bridges of their own at every start, by how these are called.
_MADE_ANEW = re.compile(
    r"docker0|br-[0-9a-f]{12}|virbr\d+|lxdbr\d+|incusbr\d+|cni0|kube-.*|podman\d+"
)
_NETWORK_FILES: tuple[Source, ...] = ("netplan", "networkd", "networkmanager", "ifupdown")
# Firewalls that keep their rules in files of their own, which are not read.
_OTHER_FILES = ("firewalld", "ufw")


class Lost(NamedTuple):
    """Something that a reboot takes away: what, where it should be, and the state without it."""

    subject: str
    what: str
    where: str
    after: Snapshot


def lost_at_reboot(snapshot: Snapshot) -> Iterator[Lost]:
    """Everything of the host's that is in no file, as far as files were read."""
    if snapshot.persistent is None:
        return
    host = snapshot.stack(snapshot.host)
    yield from _bridges(snapshot, host)
    yield from _addresses(snapshot, host)
    yield from _ports(snapshot, host)
    yield from _rules(snapshot, host)
    yield from _forwarding(snapshot, host)


def contradicted(snapshot: Snapshot) -> Iterator[Lost]:
    """The settings that a file gives another value than they have now."""
    host = snapshot.stack(snapshot.host)
    live: Mapping[str, str] = host.sysctls or {}
    for name, value in () if snapshot.persistent is None else snapshot.persistent.sysctls:
        now = live.get(name)
        if now is None or now == value or (name == _FORWARD and _set_by_program(snapshot, host)):
            continue
        after = SetSysctl(stack=host.name, values=((name, value),)).apply(snapshot)
        what = f"{name} is {now}, and will be {value}"
        yield Lost(f"{host.name}/{name}", what, _file_with(snapshot, name), after)


def _bridges(snapshot: Snapshot, host: Stack) -> Iterator[Lost]:
    if not any(stored(snapshot, source) for source in _NETWORK_FILES):
        return  # configured in a way that is not known here
    for link in host.links or ():
        is_made = _MADE_ANEW.fullmatch(link.name) is not None
        if link.kind != "bridge" or is_made or not is_guest_bridge(host, link.name):
            continue
        if defined(snapshot, link.name) is False:
            links = tuple(
                msgspec.structs.replace(other, up=False) if other is link else other
                for other in host.links or ()
            )
            after = snapshot.with_stack(msgspec.structs.replace(host, links=links))
            yield Lost(
                f"{host.name}/{link.name}",
                f"bridge {link.name} was made by hand",
                "netplan, systemd-networkd, NetworkManager and ifupdown",
                after,
            )


def _addresses(snapshot: Snapshot, host: Stack) -> Iterator[Lost]:
    """Addresses that the file which configures their link does not have, nor DHCP gives."""
    for address in host.addresses or ():
        file = _file_of(snapshot, address.link)
        if file is None or address.scope != "global" or address.flags & _GIVEN:
            continue
        if address.address in (file.content or "") or "dhcp" in (file.content or "").lower():
            continue
        action = DeleteAddress(stack=host.name, link=address.link, address=address.network)
        what = f"{address.network} on {address.link} was added by hand"
        after = _without_routes(action.apply(snapshot), address)
        yield Lost(f"{host.name}/{address.link}", what, file.path, after)


def _without_routes(snapshot: Snapshot, address: Address) -> Snapshot:
    """Nor can there be routes by a gateway that only this address made known."""
    host = snapshot.stack(snapshot.host)
    network = ip_interface(address.network).network
    routes = tuple(
        route
        for route in host.routes or ()
        if not any(hop.gateway and ip_address(hop.gateway) in network for hop in route.next_hops)
    )
    if host.routes is None:
        return snapshot
    return snapshot.with_stack(msgspec.structs.replace(host, routes=routes))


def _ports(snapshot: Snapshot, host: Stack) -> Iterator[Lost]:
    """NICs that were plugged into a bridge, of which neither's file says so."""
    for link in host.links or ():
        file = None if link.master is None else _file_of(snapshot, link.master)
        if file is None or link.master is None or leads_to_guest(link):
            continue
        own = _file_of(snapshot, link.name)
        if _names(file, link.name) or (own is not None and _names(own, link.master)):
            continue
        links = tuple(
            msgspec.structs.replace(other, master=None, port=None) if other is link else other
            for other in host.links or ()
        )
        after = snapshot.with_stack(msgspec.structs.replace(host, links=links))
        what = f"{link.name} was made a port of {link.master} by hand"
        yield Lost(f"{host.name}/{link.name}", what, file.path, after)


def _names(file: StoredFile, word: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", file.content or "") is not None


def _file_of(snapshot: Snapshot, link: str) -> StoredFile | None:
    """The file that configures a link of the host, when it is one to read addresses from."""
    manager = manager_of(snapshot, snapshot.host, link)
    if manager is None or manager.kind not in ("netplan", "networkd", "ifupdown"):
        return None
    files = () if snapshot.persistent is None else snapshot.persistent.files
    return next((file for file in files if file.path == manager.name), None)


def _rules(snapshot: Snapshot, host: Stack) -> Iterator[Lost]:
    """A person's rules, all at once: one of them rarely makes sense without the others."""
    if host.tables is None or any(runs(snapshot, name) for name in _OTHER_FILES):
        return
    files = (*stored(snapshot, "iptables"), *stored(snapshot, "nftables"))
    kept = "\n".join(file.content or "" for file in files)
    found = [placed for placed in rules_of(host) if _is_lost(host, placed, kept)]
    if not found:
        return
    tables = tuple(_without(table, found) for table in host.tables)
    first = found[0].rule.text
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    yield Lost(
        f"{host.name}/rules",
        f"rules made by hand are in no file: {first}{more}",
        "/etc/iptables, /etc/nftables.conf and their like",
        snapshot.with_stack(msgspec.structs.replace(host, tables=tables)),
    )


def _is_lost(host: Stack, placed: Placed, kept: str) -> bool:
    if owner_of(placed.ref(host)) is not None or placed.rule.text in kept:
        return False
    if placed.table.backend == "nft":
        return (
            re.search(rf"table\s+{placed.table.family}\s+{re.escape(placed.table.name)}\b", kept)
            is None
        )
    # The jumps into the chains of a program are that program's.
    targets = [getattr(part, "chain", "") for part in placed.rule.body]
    return not any(
        owner_of(msgspec.structs.replace(placed.ref(host), chain=target)) or target == "DOCKER-USER"
        for target in targets
        if target
    )


def _without(table: Table, gone: list[Placed]) -> Table:
    def changed(chain: Chain) -> Chain:
        lost = {id(placed.rule) for placed in gone if placed.chain is chain}
        rules = tuple(rule for rule in chain.rules if id(rule) not in lost)
        return msgspec.structs.replace(chain, rules=rules)

    return msgspec.structs.replace(table, chains=tuple(map(changed, table.chains)))


def _forwarding(snapshot: Snapshot, host: Stack) -> Iterator[Lost]:
    stored_names = {name for name, _ in snapshot.persistent.sysctls} if snapshot.persistent else ()
    if (host.sysctls or {}).get(_FORWARD) != "1" or _set_by_program(snapshot, host):
        return
    if any(name in (_FORWARD, "net.ipv4.conf.all.forwarding") for name in stored_names):
        return
    after = SetSysctl(stack=host.name, values=((_FORWARD, "0"),)).apply(snapshot)
    yield Lost(f"{host.name}/{_FORWARD}", f"{_FORWARD} = 1 is in no file", "sysctl.d", after)


def _set_by_program(snapshot: Snapshot, host: Stack) -> bool:
    """Whether libvirt or Docker switches forwarding on at its start, as both do."""
    libvirt = any(
        network.active and network.autostart and network.mode in ("nat", "route", "open")
        for network in snapshot.networks or ()
    )
    return libvirt or has_chain(host, "DOCKER") or has_chain(host, "KUBE-")


def _file_with(snapshot: Snapshot, name: str) -> str:
    slashed = name.translate(str.maketrans("./", "/."))
    files = [
        file.path
        for file in stored(snapshot, "sysctl")
        if name in (file.content or "") or slashed in (file.content or "")
    ]
    return files[-1] if files else "sysctl.d"
