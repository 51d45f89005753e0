"""Fuzzes one parser, for as long as one likes; the inputs that broke it are kept in a folder."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "fuzz"))

# A parser that takes longer than this (seconds) hangs, as far as a user can tell.
SLOW = 5


def main() -> int:
    """Exit code 0: nothing found; 1: something was, and its input is kept."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("parser", nargs="?", help="which one; without it, all are listed")
    arguments.add_argument("--seconds", type=int, default=60)
    arguments.add_argument("--seed", type=int, default=time.time_ns())
    arguments.add_argument("--snapshots", type=Path, nargs="*", default=[], help="to start from")
    arguments.add_argument("--plain", action="store_true", help="without atheris")
    given = arguments.parse_args()
    if importlib.util.find_spec("atheris") is None or given.plain or given.parser is None:
        targets = _targets(given.snapshots)
        if given.parser not in targets:
            print("\n".join(targets))
            return 0 if given.parser is None else 2
        return _plain(targets[given.parser], given)
    return _guided(given)


def _targets(snapshots: list[Path]) -> dict[str, Any]:
    from targets import TARGETS, snapshot_targets

    from kvmdiag.model.codec import save
    from kvmdiag.model.snapshot import Snapshot
    from kvmdiag.model.stack import Stack

    host = Stack(name="host", kind="host", netns=None, sysctls={"net.ipv4.ip_forward": "1"})
    small = save(Snapshot(tool="", taken_at="", kernel="", stacks=(host,)))
    files = [path.read_bytes() for path in snapshots] or [small]
    return {**TARGETS, **snapshot_targets(files)}


def _plain(target: Any, given: argparse.Namespace) -> int:
    """Seeds changed at random."""
    random = Random(given.seed)
    end = time.monotonic() + given.seconds
    tried, found = 0, set()
    while time.monotonic() < end:
        text = target.variant(random)
        tried += 1
        problem = _problem(target, text)
        if problem is not None and problem not in found:
            found.add(problem)
            print(f"{problem}\n  {_keep(given.parser, text)}")
    print(f"{given.parser}: {tried} inputs, {len(found)} problems (seed {given.seed})")
    return 1 if found else 0


def _problem(target: Any, text: str) -> str | None:
    """What went wrong, and where, in a line."""
    began = time.monotonic()
    try:
        target.check(text)
    except Exception as error:  # noqa: BLE001  finding any is the purpose
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"[:300]
    return "too slow" if time.monotonic() - began > SLOW else None


def _keep(parser: str, text: str) -> Path:
    folder = Path(tempfile.gettempdir()) / "kvmdiag-fuzz"
    folder.mkdir(exist_ok=True)
    data = text.encode("utf-8", "surrogatepass")
    path = folder / f"{parser}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return path


def _guided(given: argparse.Namespace) -> int:
    """By coverage; libFuzzer ends the process itself when something is found."""
    import atheris

    with atheris.instrument_imports(include=["kvmdiag"]):
        targets = _targets(given.snapshots)
    target = targets[given.parser]
    is_binary = given.parser == "snapshot"
    folder = Path(tempfile.mkdtemp(prefix=f"kvmdiag-fuzz-{given.parser}-"))
    for number, seed in enumerate(target.seeds):
        data = seed.encode("latin-1") if is_binary else seed.encode()
        (folder / f"seed{number}").write_bytes(data)

    def one(data: bytes) -> None:
        text = data.decode("latin-1") if is_binary else data.decode("utf-8", "surrogateescape")
        target.check(text)

    print(f"inputs are kept in {folder}")
    options = [f"-max_total_time={given.seconds}", f"-timeout={SLOW}", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(folder)], one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
