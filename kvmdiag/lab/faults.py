"""Faults of practice networks, and what most of them do, in few words.

A step says what to change in which machine; it is the same whether that machine is a namespace
or a guest that is a virtual machine.
"""

from __future__ import annotations

import msgspec

from kvmdiag.lab.spec import Fault, Ip, Rules, Shell, Step, Sysctls


def fault(
    name: str,
    summary: str,
    *steps: Step | Shell,
    machine: str | None = None,
    apart_from: tuple[str, ...] = (),
) -> Fault:
    """A fault, named after the check that should find it, with ``@MACHINE`` or without.

    It is said to be in ``machine``, or else where its first step is.
    """
    return Fault(
        name=name,
        machine=machine or steps[0].machine,
        summary=summary,
        check=name.partition("@")[0],
        steps=steps,
        apart_from=apart_from,
    )


def decoy(
    name: str,
    summary: str,
    *steps: Step | Shell,
    machine: str | None = None,
    apart_from: tuple[str, ...] = (),
) -> Fault:
    """Something that looks wrong and is harmless."""
    made = fault(name, summary, *steps, machine=machine, apart_from=apart_from)
    return msgspec.structs.replace(made, check=None)


def forwarding_off(machine: str, link: str | None = None) -> Step:
    """It forwards nothing, or nothing that one link brings."""
    key = f"conf.{link}.forwarding" if link else "ip_forward"
    return Sysctls(machine, {f"net.ipv4.{key}": "0"})


def forward_policy_drop(machine: str) -> Step:
    """What no rule of FORWARD accepts is dropped."""
    return in_table(machine, "filter", ":FORWARD DROP [0:0]")


def in_table(machine: str, table: str, *lines: str) -> Rules:
    """Changes of one table, each as iptables-restore reads it: ``-D POSTROUTING ...``."""
    return Rules(machine, "\n".join([f"*{table}", *lines, "COMMIT", ""]))


def without_route(machine: str, route: str) -> Step:
    """A route is deleted."""
    return Ip(machine, f"route del {route}\n")


def link_down(machine: str, link: str) -> Step:
    """A link is set down."""
    return Ip(machine, f"link set {link} down\n")
