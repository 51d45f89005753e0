"""How long ``kvmdiag snapshot`` takes, beside the programs that tell people the same.

    sudo .venv/bin/python bench/snapshot [--write]

builds 2,000 taps on bridges, 4,000 routes and 50,000 iptables rules in a namespace, runs the
programs one after the other and then kvmdiag, each several times, and takes the median. Then
the whole ``kvmdiag check`` at 20 taps and 200 rules. With ``--write`` the results are kept in
bench/results/snapshot.json.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from place import Size, place

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
ROUNDS = 3
MOST_TIMES = 1.5
MOST_MIB = 400
MOST_SECONDS = 0.7


def main() -> int:
    """Measure, print, and say whether the limits are kept."""
    with place(LARGE) as name:
        programs = {command: _median(name, command.split()) for command in PROGRAMS}
        snapshot = [KVMDIAG, "snapshot", "-q", "-o"]
        with tempfile.TemporaryDirectory() as folder:
            file = f"{folder}/large.kvm"
            ours = _median(name, [*snapshot, file])
            size = os.path.getsize(file)
    with place(SMALL) as name:
        check = _median(name, [KVMDIAG, "check"])
    theirs = sum(seconds for seconds, _ in programs.values())
    seconds, mib = ours
    report = {
        "machine": _machine(),
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "programs": {command: round(each[0], 3) for command, each in programs.items()},
        "programs_together": round(theirs, 3),
        "snapshot": {
            "seconds": round(seconds, 3),
            "times_theirs": round(seconds / theirs, 2),
            "peak_mib": round(mib),
            "file_kib": size >> 10,
        },
        "small_check": {"seconds": round(check[0], 3), "peak_mib": round(check[1])},
    }
    print(json.dumps(report, indent=2))
    if "--write" in sys.argv[1:]:
        RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    kept = seconds <= MOST_TIMES * theirs and mib <= MOST_MIB and check[0] <= MOST_SECONDS
    print("limits kept" if kept else "limits NOT kept")
    return 0 if kept else 1


def _median(name: str, argv: list[str]) -> tuple[float, float]:
    """Seconds and peak MiB of memory (of the program itself) in the middle of all rounds."""
    rounds = [_run(["ip", "netns", "exec", name, *argv]) for _ in range(ROUNDS)]
    return statistics.median(r[0] for r in rounds), statistics.median(r[1] for r in rounds)


def _run(argv: list[str]) -> tuple[float, float]:
    start = time.perf_counter()
    program = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert program.stderr is not None
    said = program.stderr.read()
    _, status, used = os.wait4(program.pid, 0)
    program.returncode = os.waitstatus_to_exitcode(status)
    if program.returncode not in (0, 3) or b"Traceback" in said:
        raise SystemExit(f"{' '.join(argv)}: exit {program.returncode}: {said.decode()}")
    return time.perf_counter() - start, used.ru_maxrss / 1024


def _machine() -> dict[str, str | int]:
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return {
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.machine(),
        "cpus": os.cpu_count() or 0,
        "memory_mib": memory,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nft": _version("nft"),
        "iptables": _version("iptables"),
        "ip": _version("ip"),
    }


def _version(program: str) -> str:
    flag = "-V" if program == "ip" else "--version"
    done = subprocess.run([program, flag], capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip()


if __name__ == "__main__":
    sys.exit(main())
