"""Where veth cables lead, and what links of other namespaces stand on.

A link names its far end by an index there (IFLA_LINK) and by the id that this namespace has
for that one (IFLA_LINK_NETNSID, absent within one namespace). Source: net/core/rtnetlink.c
rtnl_fill_link_netnsid, net/core/net_namespace.c.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress

import msgspec

from kvmdiag.collect.discovery import Identity, Known
from kvmdiag.collect.kernel.links import PAIRED, Attachment
from kvmdiag.collect.kernel.netlink import namespace_ids
from kvmdiag.collect.stack import Reading
from kvmdiag.errors import NotReadableError
from kvmdiag.model.link import Link, LinkRef
from kvmdiag.system.namespaces import entered

UNSEEN = "an unseen namespace"
"""In which a cable ends that leads to nothing that was read."""

_BATCH = 64


def far_namespaces(
    path: str, reading: Reading, known: Known, host: Identity
) -> dict[int, Identity]:
    """Which namespace each id stands for that links of this one are attached to.

    Ids of namespaces that are not known, or may not be opened, are left out.
    """
    wanted = {a.nsid for a in reading.attachments if a.nsid is not None}
    found: dict[int, Identity] = {}
    if not wanted:
        return found
    # Most cables lead to the host: ask for it first, and stop when all are found.
    candidates = sorted(known.namespaces, key=lambda which: which != host)
    with suppress(NotReadableError), entered(path):
        for start in range(0, len(candidates), _BATCH):
            if wanted <= found.keys():
                break
            batch = candidates[start : start + _BATCH]
            found.update(_ids({which: known.namespaces[which].path for which in batch}))
    return {nsid: which for nsid, which in found.items() if nsid in wanted}


def plugged(
    readings: Mapping[Identity, Reading],
    ends: Mapping[Identity, Mapping[int, Identity]],
    unseen: Mapping[Identity, Collection[str]],
) -> dict[Identity, Reading]:
    """The same readings with both ends of each pair tied together.

    ``Link.peer`` is set where both ends were read; ``Link.guest`` where the far stack belongs
    to the host and its inside could not be read. Of other kinds the far end is the lower link:
    ``Link.below``. What the links named in ``unseen`` lead to is in none of the readings.
    """
    by_index = {
        (which, link.index): LinkRef(reading.stack.name, link.name)
        for which, reading in readings.items()
        for link in reading.stack.links or ()
    }

    def far(here: Identity, attachment: Attachment) -> tuple[LinkRef | None, str | None]:
        if attachment.name in unseen[here]:
            return LinkRef(UNSEEN, f"link {attachment.far_index}"), None
        there = here if attachment.nsid is None else ends[here].get(attachment.nsid)
        if there is None or there not in readings:
            return None, None
        beyond = readings[there].stack
        ref = by_index.get((there, attachment.far_index))
        return ref, beyond.name if beyond.links is None else None

    done = {}
    for here, reading in readings.items():
        tied = {a.name: far(here, a) for a in reading.attachments if a.kind in PAIRED}
        below = {a.name: far(here, a)[0] for a in reading.attachments if a.kind not in PAIRED}
        done[here] = _with_far_ends(reading, tied, below)
    return done


def _with_far_ends(
    reading: Reading,
    tied: Mapping[str, tuple[LinkRef | None, str | None]],
    below: Mapping[str, LinkRef | None],
) -> Reading:
    def with_far_end(link: Link) -> Link:
        peer, guest = tied.get(link.name, (None, None))
        return msgspec.structs.replace(link, peer=peer, guest=guest, below=below.get(link.name))

    if reading.stack.links is None:
        return reading
    links = tuple(map(with_far_end, reading.stack.links))
    stack = msgspec.structs.replace(reading.stack, links=links)
    return Reading(stack, reading.gaps, reading.attachments)


def _ids(paths: Mapping[Identity, str]) -> dict[int, Identity]:
    opened: dict[int, Identity] = {}
    try:
        for which, path in paths.items():
            with suppress(OSError):
                opened[os.open(path, os.O_RDONLY | os.O_CLOEXEC)] = which
        return {nsid: opened[fd] for fd, nsid in namespace_ids(opened).items()}
    finally:
        for descriptor in opened:
            os.close(descriptor)
