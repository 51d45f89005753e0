"""What is configured to come back after a reboot."""

from __future__ import annotations

from typing import Literal

from kvmdiag.model.fact import Fact

Source = Literal[
    "sysctl",
    "netplan",
    "networkd",
    "ifupdown",
    "networkmanager",
    "iptables",
    "nftables",
    "resolv",
    "modules",
]


class StoredFile(Fact, frozen=True, kw_only=True):
    """A file that configures the network at boot, by its path, as it is.

    ``content`` is ``None`` when it could not be read or is too long; secrets (keys,
    passwords) are replaced by asterisks. Files are in the order in which they take effect.
    """

    source: Source
    path: str
    content: str | None = None


class Persistent(Fact, frozen=True, kw_only=True):
    """The configuration of the host at its next boot, as far as it is plain to read.

    ``sysctls`` are those of all sysctl.d files together, the last one wins; patterns with
    ``*`` are kept as they are.
    """

    files: tuple[StoredFile, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
