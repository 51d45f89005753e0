"""Which practice networks stand, and what was done to them: one file for each.

/run/kvmdiag/lab/LABEL.json, written as a whole or not at all. A network whose file says that
it is not ready belongs to a build that died.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from kvmdiag.errors import LabError
from kvmdiag.lab.locks import held
from kvmdiag.lab.spec import is_label

DIRECTORY = Path("/run/kvmdiag/lab")


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A practice network that stands, and the faults in it in the order of their injection.

    ``settings`` holds each machine's sysctls as they were when it was built. With ``real``
    its guests are virtual machines.
    """

    label: str
    network: str
    ready: bool = True
    real: bool = False
    faults: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, str]] = msgspec.field(default_factory=dict)


@contextmanager
def locked(label: str) -> Iterator[None]:
    """Let no other process build, change or remove the practice network of that name meanwhile.

    Networks of other names share nothing with it.
    """
    with held(DIRECTORY, label):
        DIRECTORY.chmod(0o700)
        yield


def read(label: str) -> State | None:
    """What is known of one network; ``None`` when nothing is.

    Raises:
        LabError: its file cannot be read or makes no sense.

    """
    path = _path(label)
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise LabError("practice networks are for root: run as root (sudo)") from None
    except OSError as error:
        raise LabError(f"cannot read {path}: {error.strerror}") from None
    except msgspec.MsgspecError:
        raise LabError(f"{path} is damaged; remove the network: kvmdiag lab down {label}") from None


def read_all() -> tuple[State, ...] | None:
    """What is known of all networks, by label; ``None`` for someone who may not look.

    Raises:
        LabError: a file cannot be read or makes no sense.

    """
    try:
        names = sorted(os.listdir(DIRECTORY))
    except FileNotFoundError:
        return ()
    except PermissionError:
        return None
    labels = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    found = (read(label) for label in labels if is_label(label))
    return tuple(state for state in found if state is not None)


def write(state: State) -> None:
    """Store what is known of a network.

    Raises:
        LabError: it cannot be stored.

    """
    path = _path(state.label)
    try:
        _replace(path, msgspec.json.encode(state))
    except OSError as error:
        raise LabError(f"cannot write {path}: {error.strerror}") from None


def _replace(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=DIRECTORY, prefix=f".{path.stem}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def exists(label: str) -> bool:
    """Whether there is a file for this label, readable or not."""
    return _path(label).exists()


def forget(label: str) -> None:
    """Store that there is no such network."""
    _path(label).unlink(missing_ok=True)


def _path(label: str) -> Path:
    return DIRECTORY / f"{label}.json"
