"""How long ``kvmdiag snapshot`` takes, beside the programs that tell people the same.

    sudo .venv/bin/python bench/snapshot [--write]

builds 2,000 taps on bridges, 4,000 routes and 50,000 iptables rules in a namespace, runs the
programs one after the other and then kvmdiag, in several rounds, and takes the quickest of
each: what else the machine does can only make them slower. Then the same with a table of nft's
own beside those of iptables', and the whole ``kvmdiag check`` at 20 taps and 200 rules. With
``--write`` the results are kept in bench/results/snapshot.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from place import Size, add_native_table, place

sys.path.append(str(Path(__file__).parent.parent))  # what all measurements share
from machine import machine, now

LARGE = Size(taps=2000, routes=4000, rules=50_000)
SMALL = Size(taps=20, routes=40, rules=200)
PROGRAMS = (
    "ip -j -d link",
    "ip -j addr",
    "ip -j route show table all",
    "ip -j -6 route show table all",
    "ip -j neigh",
    "bridge -j fdb",
    "bridge -j vlan",
    "bridge -j link",
    "iptables-save -c",
    "nft -j list ruleset",
)
KVMDIAG = str(Path(sys.executable).with_name("kvmdiag"))
RESULTS = Path(__file__).parent.parent / "results" / "snapshot.json"
# A program that is installed has its bytecode; the first round makes it.
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"},
    "PYTHONPYCACHEPREFIX": f"{tempfile.gettempdir()}/kvmdiag-bench-bytecode",
}
ROUNDS = 5
MOST_TIMES = 1.5
MOST_MIB = 400
MOST_SECONDS = 0.7


class Used(NamedTuple):
    """What a program took: seconds by the clock and of the processors, MiB at its peak."""

    seconds: float
    cpu: float
    peak: float


def main() -> int:
    """Measure, print, and say whether the limits are kept."""
    ran_on = machine() | {name: _version(name) for name in ("nft", "iptables", "ip")}
    with place(LARGE) as name, tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "large.kvm")
        iptables_alone = _compared(name, file)
        add_native_table(name)
        with_native = _compared(name, file)
    with place(SMALL) as name:
        check = _rounds(name, ((KVMDIAG, "check"),))[KVMDIAG, "check"]
    report = {
        "machine": ran_on,
        "taken_at": now(),
        "iptables_alone": iptables_alone.report,
        "with_native_table": with_native.report,
        "small_check": {
            "seconds": round(check.seconds, 3),
            "cpu": round(check.cpu, 3),
            "peak_mib": round(check.peak),
        },
    }
    print(json.dumps(report, indent=2))
    if "--write" in sys.argv[1:]:
        RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    kept = iptables_alone.kept and with_native.kept and check.seconds <= MOST_SECONDS
    print("limits kept" if kept else "limits NOT kept")
    return 0 if kept else 1


class Compared(NamedTuple):
    """What came of a comparison, and whether its limits are kept."""

    report: dict[str, Any]
    kept: bool


def _compared(name: str, file: Path) -> Compared:
    """The programs one after the other, and ``kvmdiag snapshot``, in a namespace."""
    snapshot = (KVMDIAG, "snapshot", "-q", "-o", str(file))
    used = _rounds(name, (*(tuple(program.split()) for program in PROGRAMS), snapshot))
    ours = used.pop(snapshot)
    theirs = sum(each.seconds for each in used.values())
    theirs_cpu = sum(each.cpu for each in used.values())
    report = {
        "programs": {" ".join(argv): round(each.seconds, 3) for argv, each in used.items()},
        "programs_together": round(theirs, 3),
        "programs_cpu": round(theirs_cpu, 3),
        "snapshot": {
            "seconds": round(ours.seconds, 3),
            "times_theirs": round(ours.seconds / theirs, 2),
            "cpu": round(ours.cpu, 3),
            "cpu_times_theirs": round(ours.cpu / theirs_cpu, 2),
            "peak_mib": round(ours.peak),
            "file_kib": file.stat().st_size >> 10,
        },
    }
    return Compared(report, ours.seconds <= MOST_TIMES * theirs and ours.peak <= MOST_MIB)


def _rounds(name: str, programs: tuple[tuple[str, ...], ...]) -> dict[tuple[str, ...], Used]:
    """The quickest run of each; all of them in turn, so that load hits them alike."""
    runs: dict[tuple[str, ...], list[Used]] = {argv: [] for argv in programs}
    for _ in range(ROUNDS):
        for argv in programs:
            runs[argv].append(_run(["ip", "netns", "exec", name, *argv]))
    return {argv: min(several) for argv, several in runs.items()}


def _run(argv: list[str]) -> Used:
    start = time.perf_counter()
    program = subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    assert program.stderr is not None  # noqa: S101 - a pipe was asked for
    said = program.stderr.read()
    # Its children's time is counted with it (wait4(2)), and only its own memory.
    _, status, used = os.wait4(program.pid, 0)
    seconds = time.perf_counter() - start
    program.returncode = os.waitstatus_to_exitcode(status)
    if program.returncode not in (0, 3) or b"Traceback" in said:
        raise SystemExit(f"{' '.join(argv)}: exit {program.returncode}: {said.decode()}")
    return Used(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def _version(program: str) -> str:
    flag = "-V" if program == "ip" else "--version"
    done = subprocess.run([program, flag], capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip()


if __name__ == "__main__":
    sys.exit(main())
