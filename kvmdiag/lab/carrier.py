"""Waiting for cables to be in use once they are plugged in."""

from __future__ import annotations

import json
import time

from kvmdiag.errors import LabError
from kvmdiag.system.programs import run

_PATIENCE = 20.0
_PAUSE = 0.02


def await_carrier(machine: str) -> None:
    """Return once every link of the calling thread's namespace that has carrier is in use.

    Where both ends of a veth pair have the same number, the kernel looks at them only once a
    second (linkwatch_urgent_event in net/core/link_watch.c); until then a bridge forwards
    nothing by such a port.

    Raises:
        LabError: a link has carrier and is still not in use after 20 seconds.

    """
    end = time.monotonic() + _PATIENCE
    while waiting := _not_in_use():
        if time.monotonic() > end:
            raise LabError(f"{machine}: {waiting[0]} does not come up")
        time.sleep(_PAUSE)


def _not_in_use() -> list[str]:
    listed = run(("ip", "-j", "link"))
    return [
        link["ifname"]
        for link in json.loads(listed.stdout or "[]")
        if "LOWER_UP" in link["flags"] and link["operstate"] in ("DOWN", "LOWERLAYERDOWN")
    ]
