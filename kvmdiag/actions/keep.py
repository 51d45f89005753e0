"""How a change outlives a reboot, for the system that manages the stack."""

from __future__ import annotations

from kvmdiag.model.stack import Stack


def keep(stack: Stack, how: str) -> str:
    """``how``, with where it must be done when that is not the machine itself.

    A namespace has no configuration of its own: whoever makes it must make it so.
    """
    if stack.kind == "guest":
        return f"inside {stack.name}: {how}"
    if stack.kind == "namespace":
        return f"whatever sets up {stack.name} must do it again after a reboot; in a guest: {how}"
    return how


def keep_sysctls(stack: Stack, values: tuple[tuple[str, str], ...]) -> str:
    """A late file in sysctl.d, because the last file that sets a key wins (sysctl.d(5))."""
    lines = "; ".join(f"{name} = {value}" for name, value in values)
    return keep(stack, f"put '{lines}' into /etc/sysctl.d/99-zz-kvmdiag.conf")


def keep_rule(stack: Stack) -> str:
    """Rules near those of libvirt or Docker must be put back whenever these rewrite theirs."""
    chains = {chain.name for table in stack.tables or () for chain in table.chains}
    tables = {table.name for table in stack.tables or ()}
    if any(name.startswith("DOCKER") for name in chains):
        how = "run it from a systemd unit ordered after docker.service"
    elif any(name.startswith("LIBVIRT_") for name in chains) or "libvirt_network" in tables:
        how = "run it from the libvirt hook /etc/libvirt/hooks/network (action started)"
    else:
        how = "netfilter-persistent save (Debian, Ubuntu) or iptables-save into the boot rules"
    return keep(stack, how)
