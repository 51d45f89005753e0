"""What to read: which namespace is the host, what belongs to it, and by which names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from kvmdiag.collect.libvirt.files import Places
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
        daemon: whether a daemon of libvirt's is meant to run; without one its files tell.
        places: where libvirt keeps its files.
        guest_access: ``agent`` to look into guests by their agents, ``none`` not to.

    """

    host: str = OWN_NETNS
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    connect: str = "qemu:///system"
    libvirt: bool = True
    daemon: bool = True
    places: Places = field(default_factory=Places)
    guest_access: str = "agent"

    def takes(self, *names: str) -> bool:
        """Whether a namespace with those names, other than the host's, is to be looked at."""

        def fits(globs: tuple[str, ...]) -> bool:
            return any(fnmatchcase(name, glob) for name in names for glob in globs)

        return not fits(self.exclude) and (not self.include or fits(self.include))
