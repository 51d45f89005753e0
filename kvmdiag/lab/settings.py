"""The sysctls of a practice network's machines: pinned when built, restored when mended.

All functions act on the network namespace of the calling thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from kvmdiag.errors import LabError
from kvmdiag.lab.spec import Machine

_PROC_SYS = Path("/proc/sys")
_BRIDGE_NF = "net.bridge."

# A new namespace inherits some settings from the real host, so each is pinned. IPv6 is off:
# no network here has it, and its router solicitations would be noise in captures.
_ANY = ("all", "default", "lo")
_SYSCTLS: Mapping[str, str] = {
    "net.ipv4.ip_forward": "0",
    "net.ipv4.icmp_echo_ignore_all": "0",
    **{f"net.ipv4.conf.{key}.rp_filter": "0" for key in _ANY},
    **{f"net.ipv4.conf.{key}.accept_local": "0" for key in _ANY},
    **{f"net.ipv4.conf.{key}.src_valid_mark": "0" for key in _ANY},
    **{f"net.ipv4.conf.{key}.arp_filter": "0" for key in _ANY},
    **{f"net.ipv4.conf.{key}.arp_ignore": "0" for key in _ANY},
    **{f"net.ipv4.conf.{key}.arp_announce": "0" for key in _ANY},
    **{f"net.ipv4.conf.{key}.proxy_arp": "0" for key in _ANY},
    **{f"net.ipv6.conf.{key}.disable_ipv6": "1" for key in _ANY},
    "net.bridge.bridge-nf-call-iptables": "0",
    "net.bridge.bridge-nf-call-ip6tables": "0",
    "net.bridge.bridge-nf-call-arptables": "0",
}


def pinned(machine: Machine) -> Mapping[str, str]:
    """What a machine's settings are when it is healthy, before it has links."""
    values = {**_SYSCTLS, **machine.sysctls}
    # Writing ip_forward sets these too, but only when it changes ip_forward.
    forward = values["net.ipv4.ip_forward"]
    return values | {f"net.ipv4.conf.{key}.forwarding": forward for key in ("default", "lo")}


def of_links(machine: Machine) -> Mapping[str, str]:
    """The settings that single links of a machine have, once these are there."""
    return {
        f"net.ipv4.{kind}.{link.name.replace('.', '/')}.{key}": value
        for link in machine.links
        for kind, key, value in (
            (*name.split(".", 1), value) for name, value in link.settings.items()
        )
    }


def file_of(key: str) -> Path:
    """Where a setting is written to, by its dotted name; a dot in a link's name is a slash."""
    return _PROC_SYS / key.translate(str.maketrans("./", "/."))


def write(values: Mapping[str, str], machine: str) -> None:
    """Write settings by dotted name.

    Raises:
        LabError: the kernel has no such setting, or refuses the value.

    """
    for key, value in values.items():
        try:
            file_of(key).write_text(value)
        except FileNotFoundError:
            # Without br_netfilter bridged frames never meet iptables, which is what 0 says.
            if key.startswith(_BRIDGE_NF) and value == "0":
                continue
            if key.startswith("net.ipv6."):  # a kernel without IPv6
                continue
            hint = "; it comes with: modprobe br_netfilter" * key.startswith(_BRIDGE_NF)
            raise LabError(f"{machine}: this kernel has no setting {key}{hint}") from None
        except OSError as error:
            raise LabError(f"{machine}: cannot set {key}: {error.strerror}") from None


def read_all() -> dict[str, str]:
    """All settings by path below /proc/sys, but those of links other than lo.

    Those come and go with the link, and a new link takes them from ``default``.
    """
    found = {}
    for folder, folders, files in os.walk(_PROC_SYS / "net"):
        if Path(folder).name in ("conf", "neigh"):
            folders[:] = [name for name in folders if name in _ANY]
        for name in files:
            path = f"{folder}/{name}"
            with suppress(OSError, UnicodeDecodeError):  # some can only be written
                found[path.removeprefix(f"{_PROC_SYS}/")] = _content(path)
    return found


def _content(path: str) -> str:
    with open(path, "rb", buffering=0) as file:  # a third of the time that read_text takes
        return file.read().decode()


def restore(before: Mapping[str, str]) -> None:
    """Write back what has changed since ``read_all``."""
    now = read_all()
    for name, value in before.items():
        if now.get(name) != value:
            with suppress(OSError):  # counters can only be read
                (_PROC_SYS / name).write_text(value)
