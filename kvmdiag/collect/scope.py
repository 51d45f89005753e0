"""What to read: which namespace is the host, what belongs to it, and by which names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from kvmdiag.model.stack import OWN_NETNS


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The part of the machine that is looked at.

    Args:
        host: path of the network namespace that is taken for the host.
        include: globs over names of network namespaces; ``()`` takes all that belong to it.
        exclude: globs over names of network namespaces that are left out.
        names: stack names people recognise, by path of the namespace.
        connect: libvirt's URI.
        libvirt: whether to ask libvirt.
        guest_access: ``agent`` to look into guests by their agents, ``none`` not to.

    """

    host: str = OWN_NETNS
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    connect: str = "qemu:///system"
    libvirt: bool = True
    guest_access: str = "agent"

    def takes(self, name: str) -> bool:
        """Whether a namespace of that name, other than the host's, is to be looked at."""
        if any(fnmatchcase(name, glob) for glob in self.exclude):
            return False
        return not self.include or any(fnmatchcase(name, glob) for glob in self.include)
