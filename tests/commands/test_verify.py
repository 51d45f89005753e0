"""What is known after a repair: snapshot and probe are put in by the tests."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from kvmdiag.commands import verify as module
from kvmdiag.commands.options import Options
from kvmdiag.commands.verify import Verified, verify
from kvmdiag.errors import NotReadableError
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.probes import ping

from ..checks.many import host_with  # noqa: TID252 - a helper of the neighbouring tests

ENDS = ("vm0", "10.0.0.9")
WELL = host_with(2)


def without_address(snapshot: Snapshot) -> Snapshot:
    """A guest that has not asked DHCP yet, on a network that has one."""
    guest = msgspec.structs.replace(snapshot.stack("vm0"), addresses=(), routes=())
    return snapshot.with_stack(guest)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What is read, one snapshot after the other and the last for ever; and what a probe says."""
    told = SimpleNamespace(snapshots=[WELL], probe=True, read=0)

    def read(_options: Options) -> Snapshot:
        told.read += 1
        return told.snapshots.pop(0) if len(told.snapshots) > 1 else told.snapshots[0]

    def reaches(*_: object, **__: object) -> bool:
        if isinstance(told.probe, Exception):
            raise told.probe
        return bool(told.probe)

    monkeypatch.setattr(module, "facts", read)
    monkeypatch.setattr(module, "_PAUSE", 0)
    monkeypatch.setattr(ping, "reaches", reaches)
    return told


@pytest.fixture
def fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by ten seconds whenever it is looked at."""
    ticks = iter(range(0, 10_000, 10))
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)), sleep=lambda _seconds: None)
    monkeypatch.setattr(module, "time", clock)


@pytest.mark.usefixtures("world")
def test_a_packet_that_gets_through_is_the_proof() -> None:
    """Nothing is left to say."""
    assert verify(ENDS, Options()) == Verified()


def test_a_packet_that_is_lost_says_more_than_the_simulation(world: SimpleNamespace) -> None:
    """The walk works; the path does not."""
    world.probe = False
    assert "got no answer" in (verify(ENDS, Options()).failure or "")


def test_the_kernel_is_right_where_the_simulation_says_otherwise(world: SimpleNamespace) -> None:
    """It walks through what could be read; both are told."""
    host = msgspec.structs.replace(WELL.stack("host"), routes=())
    world.snapshots = [WELL.with_stack(host)]
    proved = verify(ENDS, Options())
    assert proved.failure is None
    assert proved.against is not None
    world.probe = False
    assert verify(ENDS, Options()).failure == proved.against


def test_where_none_can_be_sent_the_reason_is_kept(world: SimpleNamespace) -> None:
    """The walk alone says yes."""
    world.probe = NotReadableError("vm0 is closed")
    assert verify(ENDS, Options()) == Verified(unprobed="vm0 is closed")


@pytest.mark.parametrize("ends", [ENDS, ("vm1", "vm0")])
def test_a_guest_is_given_time_to_ask_for_its_address(
    world: SimpleNamespace, ends: tuple[str, str]
) -> None:
    """Whichever end it is."""
    world.snapshots = [without_address(WELL), without_address(WELL), WELL]
    assert verify(ends, Options()) == Verified()
    assert world.read == 3


@pytest.mark.usefixtures("fast_clock")
def test_a_guest_that_never_asks_is_not_waited_for_for_ever(world: SimpleNamespace) -> None:
    """Half a minute; then it has failed."""
    world.snapshots, world.probe = [without_address(WELL)], False
    assert verify(ENDS, Options()).failure is not None
    assert 2 < world.read < 10
