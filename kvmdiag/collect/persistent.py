"""The files that configure the host's network at its next boot, bounded in number and size.

Source: sysctl.d(5), netplan(5), systemd.network(5), interfaces(5), nm-settings-keyfile(5),
netfilter-persistent(8), nftables.service, modules-load.d(5).
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from kvmdiag.model.persistent import Persistent, Source, StoredFile
from kvmdiag.model.snapshot import Gap

_ROOT = Path("/")
_LONGEST = 256 << 10
_MOST_FILES = 512
_TOTAL = 8 << 20
# In each folder the file of a name hides those of the same name in the folders after it.
_SYSCTL = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
_NETPLAN = ("/run/netplan", "/etc/netplan", "/lib/netplan")
_NETWORKD = ("/etc/systemd/network", "/run/systemd/network", "/usr/lib/systemd/network")
_MODULES = ("/etc/modules-load.d", "/run/modules-load.d", "/usr/lib/modules-load.d")
_PLACES: tuple[tuple[Source, tuple[str, ...], tuple[str, ...]], ...] = (
    ("sysctl", _SYSCTL, (".conf",)),
    ("netplan", _NETPLAN, (".yaml",)),
    ("networkd", _NETWORKD, (".network", ".netdev", ".link")),
    ("networkmanager", ("/etc/NetworkManager/system-connections",), (".nmconnection",)),
    ("ifupdown", ("/etc/network/interfaces.d",), ("",)),
    ("modules", _MODULES, (".conf",)),
)
_SINGLE: tuple[tuple[Source, str], ...] = (
    ("sysctl", "/etc/sysctl.conf"),
    ("ifupdown", "/etc/network/interfaces"),
    ("iptables", "/etc/iptables/rules.v4"),
    ("iptables", "/etc/iptables/rules.v6"),
    ("iptables", "/etc/sysconfig/iptables"),
    ("iptables", "/etc/sysconfig/ip6tables"),
    ("nftables", "/etc/nftables.conf"),
    ("nftables", "/etc/sysconfig/nftables.conf"),
    ("resolv", "/etc/resolv.conf"),
    ("modules", "/etc/modules"),
)
_SECRET = re.compile(
    r"(?im)^(\s*[\w.-]*(?:psk|password|passphrase|secret|private-?key|preshared-?key)[\w.-]*\s*[=:])"
    r".*$"
)


def read_persistent(root: Path = _ROOT) -> tuple[Persistent, tuple[Gap, ...]]:
    """The files, and a gap for each and for each folder that could not be read."""
    files: list[StoredFile] = []
    unread: list[Path] = []
    left = _TOTAL
    found = [*_in_folders(root, unread), *_alone(root, unread)]
    for source, path in found[:_MOST_FILES]:
        content = _content(path, min(_LONGEST, left))
        left -= len(content or "")
        files.append(StoredFile(source=source, path=_named(root, path), content=content))
    unread += (path for _, path in found[_MOST_FILES:])
    gaps = tuple(
        Gap(
            stack=None,
            fact=f"content of {path}",
            why="it may not be read, or is too long",
            help="run as root (sudo)",
        )
        for path in (
            *(file.path for file in files if file.content is None),
            *(_named(root, path) for path in unread),
        )
    )
    settings = _sysctls(file for file in files if file.source == "sysctl")
    return Persistent(files=tuple(files), sysctls=settings), gaps


def _named(root: Path, path: Path) -> str:
    return f"/{path.relative_to(root)}"


def _in_folders(root: Path, unread: list[Path]) -> Iterator[tuple[Source, Path]]:
    for source, folders, endings in _PLACES:
        found: dict[str, Path] = {}
        for folder in folders:
            for path in _listed(root / folder.lstrip("/"), unread):
                if path.name.endswith(endings) and _is_file(path, unread):
                    found.setdefault(path.name, path)
        for name in sorted(found):
            yield source, found[name]


def _alone(root: Path, unread: list[Path]) -> Iterator[tuple[Source, Path]]:
    for source, place in _SINGLE:
        path = root / place.lstrip("/")
        if _is_file(path, unread):
            yield source, path


def _listed(folder: Path, unread: list[Path]) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except PermissionError:
        unread.append(folder)
    except OSError:  # it is not there, or no folder
        pass
    return []


def _is_file(path: Path, unread: list[Path]) -> bool:
    """A plain file, also behind a link; nothing that would be waited for."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except PermissionError:
        unread.append(path)
    except OSError:  # it is not there
        pass
    return False


def _content(path: Path, most: int) -> str | None:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(most + 1)
    except OSError:
        return None
    return None if len(text) > most else _SECRET.sub(r"\1 ***", text)


def _sysctls(files: Iterable[StoredFile]) -> tuple[tuple[str, str], ...]:
    """What all files together set; later lines win (sysctl.d(5))."""
    found: dict[str, str] = {}
    for file in files:
        for line in (file.content or "").splitlines():
            word = line.strip()
            if not word or word.startswith(("#", ";")) or "=" not in word:
                continue
            key, _, value = word.partition("=")
            name = key.strip().removeprefix("-").replace("/", ".")
            found.pop(name, None)
            found[name] = value.strip()
    return tuple(found.items())
