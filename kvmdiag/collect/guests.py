"""The insides of all running guests, several at once, and the cables that lead to them."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from kvmdiag.collect.discovery import unique
from kvmdiag.collect.guest.agent import Agent, AgentRefuses, AgentSilent, Send
from kvmdiag.collect.guest.facts import GuestReading, read_guest
from kvmdiag.model.guest import Inside
from kvmdiag.model.libvirt import Domain
from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.snapshot import Gap
from kvmdiag.model.stack import Stack

SECONDS = 10.0
"""The longest wait for one guest; half as much again for all of them."""

_AT_ONCE = 16

Connect = Callable[[], Callable[[str], Send]]
"""Makes a way to libvirt; that gives, by the name of a domain, a way to its agent."""


def read_guests(
    domains: Sequence[Domain],
    connect: Connect,
    taken: Iterable[str],
    *,
    seconds: float = SECONDS,
) -> tuple[GuestReading, ...]:
    """The inside of each running guest, in the order of ``domains``; what fails becomes gaps.

    ``taken`` are names that other stacks have.
    """
    names = _stack_names(domains, taken)
    readings: dict[str, GuestReading] = {}
    waiting: queue.SimpleQueue[Domain] = queue.SimpleQueue()
    for domain in domains:
        why = _silent(domain)
        if why is None:
            waiting.put(domain)
        elif domain.state != "shutoff":
            readings[domain.name] = _unread(domain, *why)
    due = [domain for domain in domains if _silent(domain) is None]
    end = time.monotonic() + seconds * 1.5
    threads = [
        # A call into libvirt cannot be interrupted; a thread that hangs is left behind.
        threading.Thread(
            target=_work, args=(waiting, connect, names, readings, seconds, end), daemon=True
        )
        for _ in range(min(_AT_ONCE, len(due)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    done = dict(readings)
    late = f"its agent did not answer within {seconds * 1.5:g} s"
    for domain in due:
        done.setdefault(domain.name, _unread(domain, late, "is the guest overloaded or frozen?"))
    return tuple(done[domain.name] for domain in domains if domain.name in done)


def not_looked_into(domains: Sequence[Domain] | None) -> tuple[Gap, ...]:
    """What is said when guests are not to be looked into."""
    return _none_inside(
        domains, "guests were not to be looked into", "leave out --guest-access none"
    )


def unreachable(domains: Sequence[Domain] | None) -> tuple[Gap, ...]:
    """What is said when there is no daemon that could ask the agents."""
    why = "agents of guests can be asked through libvirt's daemon only, and it does not answer"
    return _none_inside(domains, why, "start libvirt, or see why it hangs")


def _none_inside(domains: Sequence[Domain] | None, why: str, help_: str) -> tuple[Gap, ...]:
    if not any(domain.state != "shutoff" for domain in domains or ()):
        return ()
    return (Gap(stack=None, fact="guests", why=why, help=help_),)


def plugged_in(
    host: Stack, domains: Sequence[Domain] | None, readings: Sequence[GuestReading]
) -> tuple[Stack, ...]:
    """The host and the guests' stacks, with taps and NICs tied together.

    A guest's NIC is known by its MAC address, and only among those of its own domain.
    ``Link.guest`` names the guest behind a tap also where its inside is not seen.
    """
    owners = {
        nic.target: (domain.name, nic.mac)
        for domain in domains or ()
        if domain.state != "shutoff"
        for nic in domain.nics
        if nic.target is not None
    }
    by_domain = {reading.inside.domain: reading for reading in readings}
    ends: dict[LinkRef, LinkRef] = {}
    for tap, (name, mac) in owners.items():
        reading = by_domain.get(name)
        nic = _nic(reading, mac) if reading is not None else None
        if nic is not None:
            here = LinkRef(host.name, tap)
            ends[here], ends[nic] = nic, here
    guests = [reading.stack for reading in readings if reading.stack is not None]
    tied = [_tied(stack, ends) for stack in (host, *guests)]
    return (_named(tied[0], {tap: name for tap, (name, _) in owners.items()}), *tied[1:])


def libvirt_agents(uri: str) -> Connect:
    """Ways to agents through libvirt, each on a connection of its own.

    The agent wants a connection that may write; only commands of a fixed list pass it.
    """

    def connect() -> Callable[[str], Send]:
        import libvirt

        libvirt.registerErrorHandler(lambda *_: None, None)
        try:
            connection = libvirt.open(uri)
        except libvirt.libvirtError as error:
            raise AgentSilent(f"{uri}: {error}") from None
        return lambda name: _sender(connection, name)

    return connect


def _sender(connection: Any, name: str) -> Send:
    import libvirt
    import libvirt_qemu

    silent = (
        libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
        libvirt.VIR_ERR_AGENT_UNSYNCED,
        libvirt.VIR_ERR_OPERATION_TIMEOUT,
        libvirt.VIR_ERR_OPERATION_INVALID,
        libvirt.VIR_ERR_NO_DOMAIN,
    )

    def send(command: str, seconds: float) -> str:
        try:
            domain = connection.lookupByName(name)
            answer = libvirt_qemu.qemuAgentCommand(domain, command, math.ceil(seconds), 0)
        except libvirt.libvirtError as error:
            kind = AgentSilent if error.get_error_code() in silent else AgentRefuses
            raise kind(str(error)[:200]) from None
        return str(answer)

    return send


def _work(
    waiting: queue.SimpleQueue[Domain],
    connect: Connect,
    names: Mapping[str, str],
    readings: dict[str, GuestReading],
    seconds: float,
    end: float,
) -> None:
    """Read one guest after the other until none is left, or there is no time left."""
    try:
        to = connect()
    except AgentSilent as error:
        for domain in _taken(waiting):
            readings[domain.name] = _unread(domain, str(error), "run as root (sudo)")
        return
    for domain in _taken(waiting):
        deadline = min(time.monotonic() + seconds, end)
        agent = Agent(to(domain.name), deadline)
        readings[domain.name] = read_guest(domain.name, names[domain.name], agent)


def _taken(waiting: queue.SimpleQueue[Domain]) -> Iterable[Domain]:
    while True:
        try:
            yield waiting.get_nowait()
        except queue.Empty:
            return


def _silent(domain: Domain) -> tuple[str, str] | None:
    """Why a guest need not be asked, and what would help; ``None`` when it may answer."""
    if domain.state != "running":
        return f"{domain.name} is {domain.state}", f"virsh resume {domain.name}"
    if domain.agent is None:
        return (
            f"{domain.name} has no channel for an agent",
            f"add org.qemu.guest_agent.0 to it (virsh edit {domain.name}) and restart it",
        )
    if domain.agent != "connected":
        return (
            f"no agent runs in {domain.name}",
            f"install and start qemu-guest-agent in {domain.name}",
        )
    return None


def _unread(domain: Domain, why: str, help_: str) -> GuestReading:
    gap = Gap(stack=None, fact=f"inside of {domain.name}", why=why, help=help_)
    return GuestReading(Inside(domain=domain.name, access="none"), gaps=(gap,))


def _stack_names(domains: Iterable[Domain], taken: Iterable[str]) -> dict[str, str]:
    given = set(taken)
    names = {}
    for domain in domains:
        names[domain.name] = unique(domain.name, given)
        given.add(names[domain.name])
    return names


def _nic(reading: GuestReading, mac: str | None) -> LinkRef | None:
    """The guest's hardware with that MAC address; what is stacked on it may have the same."""
    stack = reading.stack
    if stack is None or mac is None:
        return None
    for link in stack.links or ():
        own = reading.permanent_macs.get(link.name, link.mac)
        if link.kind is None and not link.is_loopback and own == mac.lower():
            return LinkRef(stack.name, link.name)
    return None


def _tied(stack: Stack, ends: Mapping[LinkRef, LinkRef]) -> Stack:
    def with_end(link: Link) -> Link:
        far = ends.get(LinkRef(stack.name, link.name))
        return link if far is None else msgspec.structs.replace(link, peer=far)

    if stack.links is None:
        return stack
    return msgspec.structs.replace(stack, links=tuple(map(with_end, stack.links)))


def _named(host: Stack, owners: Mapping[str, str]) -> Stack:
    def named(link: Link) -> Link:
        return msgspec.structs.replace(link, guest=owners.get(link.name, link.guest))

    if not owners or host.links is None:
        return host
    return msgspec.structs.replace(host, links=tuple(map(named, host.links)))
