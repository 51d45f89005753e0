"""Whether a piece of the kernel is there, so that asking for it does not load a module.

A netlink question to a subsystem that is not there makes the kernel load it (nfnetlink.c,
genetlink.c, sock_diag.c: request_module), and reading must not change the system.
Source: proc(5), kmod(8), Documentation/kbuild/kbuild.rst (modules.builtin).
"""

from __future__ import annotations

import os
from pathlib import Path

_LOADED = Path("/proc/modules")
_BUILT_IN = Path("/lib/modules")


def is_there(module: str, loaded: Path = _LOADED, built_in: Path = _BUILT_IN) -> bool | None:
    """True when it is loaded or built in, ``None`` when that cannot be told.

    In a kernel without modules, asking loads nothing: that counts as there.
    """
    try:
        modules = loaded.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return True
    if any(line.split(" ", 1)[0] == module for line in modules.splitlines()):
        return True
    try:
        listing = (built_in / os.uname().release / "modules.builtin").read_text(errors="replace")
    except OSError:
        return None
    names = {Path(line).name.removesuffix(".ko").replace("-", "_") for line in listing.split()}
    return module in names
