"""Correcting the address that an nwfilter of libvirt's is pinned to.

Sources: https://libvirt.org/formatnwfilter.html, virsh(1) (update-device), libvirt,
src/qemu/qemu_hotplug.c (qemuDomainChangeNetFilter).
"""

from __future__ import annotations

import re
import shlex
from ipaddress import IPv4Address

import msgspec

from kvmdiag.actions.libvirt import virsh
from kvmdiag.model.libvirt import Domain, GuestNic
from kvmdiag.model.netfilter import Chain, Rule, Table
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.parse.ebtables import parse_rule

_PARAMETER = "IP"


class CorrectFilterAddress(msgspec.Struct, frozen=True, kw_only=True):
    """The parameter IP of the filter on a running guest's NIC: ``old`` becomes ``new``.

    libvirt takes it from the NIC's whole XML, which is therefore read and given back.
    """

    stack: str
    guest: str
    tap: str
    old: str
    new: str
    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``virsh dumpxml | sed | virsh update-device --live``, which leaves the NIC plugged in."""
        return self._replacing(snapshot, self.old, self.new)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The same the other way round."""
        return self._replacing(snapshot, self.new, self.old)

    def persist(self, snapshot: Snapshot) -> str:
        """The stored definition has a filter of its own."""
        edit = shlex.join(virsh(snapshot, "edit", self.guest))
        return f"{edit}: there too the filter's parameter {_PARAMETER} is to be {self.new}"

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The NIC's parameter, and the rules that libvirt makes of it in the tap's chains."""
        domains = tuple(
            self._of_domain(domain) if domain.name == self.guest else domain
            for domain in snapshot.domains or ()
        )
        if snapshot.domains is not None:
            snapshot = msgspec.structs.replace(snapshot, domains=domains)
        host = snapshot.stack(self.stack)
        if host.tables is None:
            return snapshot
        tables = tuple(map(self._of_table, host.tables))
        return snapshot.with_stack(msgspec.structs.replace(host, tables=tables))

    def _replacing(self, snapshot: Snapshot, old: str, new: str) -> tuple[str, ...]:
        nic = f'"//interface[target/@dev=\\"{self.tap}\\"]"'
        read = shlex.join(virsh(snapshot, "dumpxml", self.guest))
        write = shlex.join(virsh(snapshot, "update-device", self.guest, "/dev/stdin", "--live"))
        return ("sh", "-c", f"{read} --xpath {nic} | sed s/{old}/{new}/ | {write}")

    def _of_domain(self, domain: Domain) -> Domain:
        return msgspec.structs.replace(domain, nics=tuple(map(self._of_nic, domain.nics)))

    def _of_nic(self, nic: GuestNic) -> GuestNic:
        if nic.target != self.tap:
            return nic
        named = tuple(
            (name, self.new if (name, value) == (_PARAMETER, self.old) else value)
            for name, value in nic.filter_parameters
        )
        return msgspec.structs.replace(nic, filter_parameters=named)

    def _of_table(self, table: Table) -> Table:
        if table.family != "bridge":
            return table
        return msgspec.structs.replace(table, chains=tuple(map(self._of_chain, table.chains)))

    def _of_chain(self, chain: Chain) -> Chain:
        if self.tap not in chain.name.split("-"):
            return chain
        return msgspec.structs.replace(chain, rules=tuple(map(self._of_rule, chain.rules)))

    def _of_rule(self, rule: Rule) -> Rule:
        words = rule.text.split()
        if self.old not in words or words[0] != "-A":
            return rule
        text = " ".join(self.new if word == self.old else word for word in words)
        made = parse_rule(text)
        return msgspec.structs.replace(rule, text=text, body=made.body)


def pinned_address(nic: GuestNic) -> str | None:
    """The one IPv4 address that a NIC's filter is pinned to by its XML, if it is pinned to one."""
    pinned = [value for name, value in nic.filter_parameters if name == _PARAMETER]
    return pinned[0] if len(pinned) == 1 and _is_ipv4(pinned[0]) else None


def is_plain(name: str) -> bool:
    """Whether a tap's name can stand in a line of shell and of XPath; the kernel allows others."""
    return re.fullmatch(r"[\w.-]+", name, re.ASCII) is not None


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True
