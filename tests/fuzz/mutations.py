"""Snapshots that nobody has ever had: a real one, changed at a few places of its structure."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from random import Random
from typing import Any

# Numbers and texts at which programs break: limits, controls, markup, other languages.
_NUMBERS = (-1, 0, 1, 2, 32, 33, 64, 128, 255, 1500, 65535, 65536, 2**31, 2**32 - 1, 2**64 - 1)
_TEXTS = (
    "", " ", "*", "lo", "all", "host", "node1", "virbr0", "\x1b[2J\x07", "\n\n\r", "\u202egnp",
    "a" * 5000,
    "0.0.0.0", "0.0.0.0/0", "::/0", "fe80::1", "10.0.0.9", "255.255.255.255", "224.0.0.1/4", "::1",
    "10.0.0.0/33", "9" * 400, "-1", "1e9", "%s{0}", "[red]", "52:54:00:00:00:00", "\u0661",
    "10.0.0.1-10.0.0.0", "<b>&amp;", "../../etc", "net.ipv4.ip_forward", "fe80::1%eth0",
)  # fmt: skip
Place = tuple[Any, Any]  # a container and a key or index in it


# Objects whose keys are no fields: names of settings and counters.
_MAPS = ("sysctls", "counters", "stats")


def mutated(original: Any, random: Random, *, changes: int) -> Any:
    """A copy of JSON data with that many changes; each keeps to the types it finds, mostly."""
    data = json.loads(json.dumps(original))
    # By the name of the field first: else the few links would drown in the many settings.
    by_field = _places(data)
    fields = list(by_field)
    for _ in range(changes):
        own = by_field[random.choice(fields)]
        container, key = random.choice(own)
        with suppress(LookupError):  # it is not there any more, after an earlier change
            random.choice(_CHANGES)(random, container, key, own)
    return data


def as_file(data: Any) -> bytes:
    """The snapshot file of it."""
    import gzip

    return gzip.compress(json.dumps(data).encode("utf-8", "surrogatepass"), compresslevel=1)


def _places(data: Any) -> dict[str, list[Place]]:
    """All places by the name of the field; those of a list or a map by that and ``[]``."""
    found: dict[str, list[Place]] = {}
    waiting = [("", data)]
    while waiting:
        name, container = waiting.pop()
        has_fields = isinstance(container, dict) and name not in _MAPS
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, value in items:
            field = key if has_fields else f"{name}[]"
            found.setdefault(field, []).append((container, key))
            if isinstance(value, dict | list):
                waiting.append((field, value))
    return found


def _replace(random: Random, container: Any, key: Any, _own: list[Place]) -> None:
    value = container[key]
    if isinstance(value, bool):
        container[key] = not value
    elif isinstance(value, int):
        container[key] = random.choice(_NUMBERS)
    elif isinstance(value, str):
        container[key] = random.choice(_TEXTS)
    elif isinstance(value, list):
        container[key] = []
    else:
        container[key] = None


def _swap(random: Random, container: Any, key: Any, own: list[Place]) -> None:
    """The value that the same field has elsewhere: links and chains in circles."""
    other, where = random.choice(own)
    container[key] = copy.deepcopy(other[where])


def _alike(random: Random, container: Any, key: Any, _own: list[Place]) -> None:
    """The value of a neighbouring field of the same type."""
    values = container.values() if isinstance(container, dict) else container
    same = [value for value in values if type(value) is type(container[key])]
    container[key] = copy.deepcopy(random.choice(same))


def _drop(random: Random, container: Any, key: Any, _own: list[Place]) -> None:
    del random
    if isinstance(container, list):
        del container[key]
    else:
        container[key] = None


def _double(random: Random, container: Any, key: Any, _own: list[Place]) -> None:
    if isinstance(container, list):
        container.insert(random.randrange(len(container) + 1), copy.deepcopy(container[key]))


def _shuffle(random: Random, container: Any, key: Any, _own: list[Place]) -> None:
    del key
    if isinstance(container, list):
        random.shuffle(container)


_CHANGES = (_replace, _replace, _swap, _swap, _swap, _alike, _drop, _double, _shuffle)
