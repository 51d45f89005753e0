"""Where the MAC addresses of links are from: the one fact that only sysfs tells.

``/sys/class/net`` shows the namespace that sysfs was mounted in, not the thread's
(fs/sysfs/mount.c), so it is believed only when every link there is the one of the same name
and index here. Source: Documentation/ABI/testing/sysfs-class-net, include/uapi/linux/netdevice.h.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path("/sys/class/net")
_ASSIGNED = ("permanent", "random", "stolen", "set")


def addresses_assigned(names: Mapping[int, str], root: Path = _ROOT) -> dict[int, str]:
    """By link index: permanent, random, stolen (from another link) or set (by somebody).

    Raises:
        OSError: sysfs is not there, or shows another namespace.

    """
    shown = {name for name in os.listdir(root) if (root / name).is_dir()}
    if shown != set(names.values()):
        raise OSError(0, "/sys/class/net shows another network namespace")
    found = {}
    for index, name in names.items():
        if _number(root, name, "ifindex") != index:
            raise OSError(0, "/sys/class/net shows another network namespace")
        assigned = _number(root, name, "addr_assign_type")
        found[index] = _ASSIGNED[assigned] if assigned < len(_ASSIGNED) else str(assigned)
    return found


def _number(root: Path, name: str, file: str) -> int:
    with open(f"{root}/{name}/{file}", encoding="ascii") as opened:
        return int(opened.read())
