"""Programs beside the kernel that make or change networks: whether they run, and their settings."""

from __future__ import annotations

from kvmdiag.model.fact import Fact


class Setting(Fact, frozen=True, kw_only=True):
    """A setting in a configuration file, in that file's own words; repeated ones stand apart."""

    key: str
    value: str


class ConfigFile(Fact, frozen=True, kw_only=True):
    """A configuration file; ``settings`` are ``None`` when it could not be read.

    The ``path`` of a daemon's options is ``command line``; they bear the names that they have in
    its file.
    """

    path: str
    settings: tuple[Setting, ...] | None = None


class Daemon(Fact, frozen=True, kw_only=True):
    """A program that may have a hand in the network.

    ``name`` is one of dnsmasq, dockerd, firewalld, ufw, NetworkManager, systemd-networkd,
    systemd-resolved, libvirtd and the like. ``pid`` is ``None`` when it does not run;
    ``stack`` is the network stack it runs in, where that is one of the snapshot. ufw is no
    process: it runs when it is enabled.
    """

    name: str
    running: bool
    pid: int | None = None
    stack: str | None = None
    files: tuple[ConfigFile, ...] = ()
