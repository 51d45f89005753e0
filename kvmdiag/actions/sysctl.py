"""Writing sysctls, with what the kernel changes along with them."""

from __future__ import annotations

import msgspec

from kvmdiag.actions.keep import keep_sysctls
from kvmdiag.model.snapshot import Snapshot

_ALL_FORWARDING = {
    "net.ipv4.ip_forward": "net.ipv4.conf.",
    "net.ipv4.conf.all.forwarding": "net.ipv4.conf.",
    "net.ipv6.conf.all.forwarding": "net.ipv6.conf.",
}


class SetSysctl(msgspec.Struct, frozen=True, kw_only=True):
    """Write sysctls, in order. ``values`` are pairs of dotted name and value."""

    stack: str
    values: tuple[tuple[str, str], ...]
    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``sysctl -w NAME=VALUE ...``."""
        del snapshot  # the command does not depend on what was there
        return ("sysctl", "-w", *(f"{name}={value}" for name, value in self.values))

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The old values of all that this changes, also of what the kernel sets along with it."""
        before = snapshot.stack(self.stack).sysctls or {}
        restored = {name: before[name] for name, _ in self.values if name in before}
        after = write(dict(before), self.values)
        state = write(after, tuple(restored.items()))
        restored |= {
            name: value for name, value in before.items() if state.get(name, value) != value
        }
        return ("sysctl", "-w", *(f"{name}={value}" for name, value in restored.items()))

    def persist(self, snapshot: Snapshot) -> str:
        """A file in sysctl.d."""
        return keep_sysctls(snapshot, snapshot.stack(self.stack), self.values)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The sysctls after the write; a stack whose sysctls were not read stays unread."""
        stack = snapshot.stack(self.stack)
        if stack.sysctls is None:
            return snapshot
        changed = write(dict(stack.sysctls), self.values)
        return snapshot.with_stack(msgspec.structs.replace(stack, sysctls=changed))


def write(sysctls: dict[str, str], values: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """``sysctls`` after writing ``values`` one by one.

    ``ip_forward`` and ``conf.all.forwarding`` are one variable. A write that changes it sets
    every interface and the opposite ``accept_redirects``; a write of the value it has already
    changes nothing (devinet_sysctl_forward and inet_forward_change, net/ipv4/devinet.c).
    """
    result = dict(sysctls)
    for name, value in values:
        prefix = _ALL_FORWARDING.get(name)
        unchanged = result.get(name) == value
        result[name] = value
        if prefix is None or unchanged:
            continue
        for other in result:
            if other.startswith(prefix) and other.endswith(".forwarding"):
                result[other] = value
        if prefix == "net.ipv4.conf.":
            _set_known(result, "net.ipv4.ip_forward", value)
            _set_known(result, "net.ipv4.conf.all.accept_redirects", "0" if value != "0" else "1")
    return result


def _set_known(sysctls: dict[str, str], name: str, value: str) -> None:
    """Sets what was read; a key that was not read stays unread."""
    if name in sysctls:
        sysctls[name] = value
