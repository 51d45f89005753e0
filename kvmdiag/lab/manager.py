"""Building, breaking, mending and removing practice networks by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from kvmdiag.collect.scope import Scope
from kvmdiag.errors import KvmdiagError, LabError
from kvmdiag.lab import builder, emptying, real, real_daemon, state
from kvmdiag.lab.networks import networks
from kvmdiag.lab.real_networks import REAL_NETWORKS
from kvmdiag.lab.real_spec import RealNetwork
from kvmdiag.lab.spec import Fault, Network, Shell, is_label, namespace
from kvmdiag.lab.state import State
from kvmdiag.model.stack import NAMED_NETNS
from kvmdiag.system.interrupts import deferred, raised


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A practice network and those of its kind that stand; ``None`` for who may not look.

    ``real`` is what it is with real guests, ``None`` when it cannot be had with them.
    """

    network: Network
    standing: tuple[State, ...] | None
    real: RealNetwork | None = None


def listing() -> tuple[Listed, ...]:
    """All practice networks, whether they stand or not."""
    states = state.read_all()

    def standing(name: str) -> tuple[State, ...] | None:
        if states is None:
            return None
        return tuple(known for known in states if known.network == name and _stands(known))

    with_real = {name: made.namespaces for name, made in REAL_NETWORKS.items()}
    return tuple(
        Listed(network=network, standing=standing(name), real=REAL_NETWORKS.get(name))
        for name, network in (with_real | networks()).items()
    )


def named(name: str, *, real_guests: bool) -> Network:
    """A practice network; with real guests, those of its machines that are namespaces.

    Raises:
        LabError: no such network.

    """
    if real_guests and name in REAL_NETWORKS:
        return REAL_NETWORKS[name].namespaces
    if not real_guests and name in networks():
        return networks()[name]
    if name in networks():
        there = ", ".join(REAL_NETWORKS)
        raise LabError(f"{name} cannot be had with real guests, but: {there}")
    if name in REAL_NETWORKS:
        raise LabError(f"{name} needs real guests: sudo kvmdiag lab up {name} --real")
    there = ", ".join({**networks(), **REAL_NETWORKS})
    raise LabError(f"no practice network is called {name!r}; there are: {there}")


def up(name: str, *, label: str | None = None, real_guests: bool = False) -> str:
    """Build a practice network; the label it stands under, which is its name by default.

    Its guests are network namespaces, or virtual machines of a libvirt of its own. Whatever
    stops the build half way, an error or Ctrl-C, nothing of it remains.

    Raises:
        LabError: no such network, it stands already, no root, or a program refused.

    """
    network = named(name, real_guests=real_guests)
    label = _checked(name if label is None else label)
    command = f"lab up {name}{' --real' * real_guests}{f' --as {label}' * (label != name)}"
    with _changing(label, command):
        known = state.read(label)
        if known is not None and _stands(known):
            raise LabError(f"{label} stands already; remove it first: kvmdiag lab down {label}")
        if known is None and _namespaces(label):
            raise LabError(f"namespaces of {label} are left over: kvmdiag lab down {label}")
        _clear(label)
        made: list[str] = []
        try:
            with raised():
                known = State(label=label, network=name, ready=False, real=real_guests)
                state.write(known)
                builder.build(network, label, made.append)
                settings = builder.all_settings(network, label)
                _start_libvirt(known, network)
                state.write(msgspec.structs.replace(known, ready=True, settings=settings))
        except BaseException:
            with deferred():
                real_daemon.stop(label)
                builder.remove(made)
                state.forget(label)
            raise
    return label


def down(label: str) -> None:
    """Remove a practice network, also one that is half there.

    Raises:
        LabError: there is nothing of that name, or no root.

    """
    with _changing(label, f"lab down {label}"), deferred():
        if not _clear(label):
            raise LabError(_absent(label))


def break_(label: str, fault: str) -> Fault:
    """Inject a fault; several may stand in one network.

    Raises:
        LabError: no such network or fault, it is there already, or a program refused, in
            which case the network is as it was built, with the faults that it had.

    """
    with _changing(label, f"lab break {label} {fault}"), deferred():
        known, network = _standing(label)
        wanted = _fault(network, fault)
        if wanted.name in known.faults:
            raise LabError(f"{wanted.name} is in {label} already")
        for other in known.faults:
            if wanted.excludes(_fault(network, other)):
                raise LabError(
                    f"{wanted.name} and {other} cannot be in {label} together;"
                    f" first: kvmdiag lab mend {label} {other}"
                )
        try:
            _carry_out(wanted, network, known)
        except KvmdiagError:
            _renew(known, network)
            raise
        state.write(msgspec.structs.replace(known, faults=(*known.faults, wanted.name)))
    return wanted


def mend(label: str, fault: str | None = None) -> tuple[str, ...]:
    """Take one fault or all out of a network; the names of those that were in it.

    The insides of all machines are built anew, so what anybody else changed goes too; then
    the faults that are to stay are injected again.

    Raises:
        LabError: no such network, that fault is not in it, or a program refused.

    """
    with _changing(label, f"lab mend {label}"), deferred():
        known, network = _standing(label)
        gone = known.faults
        if fault is not None:
            gone = (_fault(network, fault).name,)
            if gone[0] not in known.faults:
                raise LabError(f"{gone[0]} is not in {label}")
        kept = tuple(name for name in known.faults if name not in gone)
        _renew(msgspec.structs.replace(known, faults=kept), network)
    return gone


def scope(label: str) -> Scope:
    """What the host of a practice network may look at.

    Raises:
        LabError: no such network stands.

    """
    known, network = _standing(_checked(label))
    asked = known.real and REAL_NETWORKS[known.network].libvirt_in == network.host
    names = {machine.name: namespace(known.label, machine.name) for machine in network.machines}
    return Scope(
        host=NAMED_NETNS + names[network.host],
        include=tuple(name for machine, name in names.items() if machine not in network.hidden),
        exclude=tuple(names[machine] for machine in network.hidden),
        names={NAMED_NETNS + name: machine for machine, name in names.items()},
        connect=real_daemon.uri(label),
        places=real_daemon.places(label),
        libvirt=asked or bool(network.virtual),
        daemon=asked,
    )


def _renew(known: State, network: Network) -> None:
    """Build the insides of a standing network anew, with the faults that ``known`` lists.

    Real guests boot again.
    """
    if known.real:
        real_daemon.stop(known.label)
    emptying.empty(network, known.label, known.settings)
    builder.fill(network, known.label)
    if known.real:
        _start_libvirt(known, network)
    for name in known.faults:
        _carry_out(_fault(network, name), network, known)
    state.write(known)


def _start_libvirt(known: State, network: Network) -> None:
    """A libvirt with guests, or the files of one that was here."""
    if known.real:
        real.start(REAL_NETWORKS[known.network], known.label)
    elif network.virtual:
        real_daemon.pretend(known.label, network.virtual)


def _carry_out(fault: Fault, network: Network, known: State) -> None:
    namespaces = {machine.name for machine in network.machines}
    for step in fault.steps:
        if isinstance(step, Shell) or step.machine not in namespaces:
            real.carry_out(step, REAL_NETWORKS[known.network], known.label)
        else:
            builder.carry_out((step,), network, known.label)


@contextmanager
def _changing(label: str, command: str) -> Iterator[None]:
    if os.geteuid() != 0:
        raise LabError(f"practice networks need root; run it as root: sudo kvmdiag {command}")
    try:
        with state.locked(_checked(label)):
            yield
    except OSError as error:  # no space left, too many open files
        place = f": {error.filename}" if error.filename else ""
        raise LabError(f"{command}: {error.strerror}{place}") from error


def _standing(label: str) -> tuple[State, Network]:
    known = state.read(_checked(label))
    if known is None or not _stands(known):
        raise LabError(_absent(label))
    return known, named(known.network, real_guests=known.real)


def _stands(known: State) -> bool:
    if not known.ready or known.network not in (REAL_NETWORKS if known.real else networks()):
        return False
    if known.real and not real_daemon.running(known.label):
        return False
    machines = named(known.network, real_guests=known.real).machines
    return {namespace(known.label, machine.name) for machine in machines} <= _namespaces(
        known.label
    )


def _fault(network: Network, name: str) -> Fault:
    fault = network.fault(name)
    if fault is None:
        raise LabError(
            f"{network.name} has no fault {name!r}; list them: kvmdiag lab list {network.name}"
        )
    return fault


def _absent(label: str) -> str:
    if label in networks():
        return f"no practice network {label} stands; build it: sudo kvmdiag lab up {label}"
    return f"no practice network {label!r} stands; see: kvmdiag lab list"


def _checked(label: str) -> str:
    if not is_label(label):
        raise LabError(f"{label!r} is no name for a practice network: letters, digits, - and _")
    return label


def _namespaces(label: str) -> set[str]:
    """The namespaces under this label. Machine names hold no dash, labels may."""
    prefix = namespace(label, "")
    found = (path.name for path in Path(NAMED_NETNS).glob(f"{prefix}*"))
    return {name for name in found if "-" not in name.removeprefix(prefix)}


def _clear(label: str) -> bool:
    """Remove all there is under a label; whether there was anything."""
    names = _namespaces(label)
    there = bool(names) or state.exists(label)
    there |= real_daemon.stop(label)
    builder.remove(sorted(names))
    state.forget(label)
    return there
