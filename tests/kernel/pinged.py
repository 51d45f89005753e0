"""Networks of namespaces in which a walk is held against a real ping."""

from __future__ import annotations

from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Walk
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.walk import walk


class Pinged:
    """Stacks by the names that tests call them; the first one is the host.

    Loopbacks are up; there is no IPv6 unless asked for, so nothing speaks unasked.
    """

    def __init__(self, namespaces, *names, ipv6=False):
        self.stacks = {name: namespaces(name) for name in names}
        self._version = 6 if ipv6 else 4
        for stack in self.stacks.values():
            if ipv6:
                stack.sysctl("net.ipv6.conf.default.accept_dad", 0)
            else:
                stack.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
            stack.ip("link set lo up")

    def __getitem__(self, name):
        return self.stacks[name]

    def cable(self, one: str, link: str, other: str, other_link: str) -> None:
        """A cable with both ends up."""
        self[one].cable(link, self[other], other_link)
        self[one].ip(f"link set {link} up")
        self[other].ip(f"link set {other_link} up")

    def ready(self, eventually) -> None:
        """Wait until all links that are up have carrier."""
        for stack in self.stacks.values():
            eventually(
                lambda stack=stack: not stack.run("ip -o link show up").stdout.count("NO-CARRIER"),
                "links never got carrier",
            )

    def snapshot(self) -> Snapshot:
        """All that can be read."""
        first = next(iter(self.stacks.values()))
        return collect(
            Scope(
                host=first.path,
                include=tuple(stack.name for stack in self.stacks.values()),
                names={stack.path: name for name, stack in self.stacks.items()},
                libvirt=False,
            )
        )

    def walk(self, source: str, address: str) -> Walk:
        """What the walk says of a ping."""
        snapshot = self.snapshot()
        return walk(snapshot, resolve(snapshot, source, address, version=self._version))

    def pinged(self, source: str, address: str) -> bool:
        """What the kernel says."""
        done = self[source].run(f"ping -c1 -W1 {address}", check=False)
        return done.returncode == 0

    def judged(self, source: str, address: str) -> Walk:
        """The walk, after it was held against a real ping."""
        predicted = self.walk(source, address)
        assert predicted.works is self.pinged(source, address), predicted.decisive.end
        return predicted
