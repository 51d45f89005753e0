"""The kernel and first file system that real guests of practice networks boot.

The kernel is Debian's for clouds, with its modules; the programs are those of this machine
(busybox, iproute2, nftables, iptables, dnsmasq) with the libraries they name, and Debian's
guest agent. All is kept in a cache and made again when one of the programs changes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kvmdiag.errors import LabError
from kvmdiag.lab import cpio, guest_files
from kvmdiag.lab.locks import held
from kvmdiag.system.programs import ProgramMissing, run

CACHE = Path("/var/cache/kvmdiag/guest")

_KERNEL = "linux-image-cloud-amd64"
_AGENT = "qemu-guest-agent"
_LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")
_SEARCH = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
# Where the guest finds a program, and the package that brings it here.
_PROGRAMS = {
    "ip": "iproute2",
    "bridge": "iproute2",
    "nft": "nftables",
    "xtables-nft-multi": "iptables",
    "xtables-legacy-multi": "iptables",
    "dnsmasq": "dnsmasq-base",
    "tcpdump": "tcpdump",
}
_MODULES = re.compile(
    r"kernel/(drivers/virtio/virtio(_ring|_pci|_pci_legacy_dev|_pci_modern_dev)?"
    r"|drivers/net/virtio_net|drivers/char/virtio_console|net/packet/af_packet"
    r"|net/bridge/(bridge|br_netfilter)|net/8021q/8021q|net/ipv[46]/netfilter/(ip6?t|ip6?table|nf)_\w+"
    r"|net/netfilter/(nf_conntrack|nf_conntrack_netlink|nf_nat|nf_tables|nfnetlink|nft_\w+|x_tables"
    r"|xt_(addrtype|conntrack|comment|mark|MASQUERADE|nat|tcpudp|multiport|LOG|state|set))"
    r"|crypto/crc32c_generic)\.ko"
)


@dataclass(frozen=True)
class Image:
    """What a guest boots. ``initrd`` is the part that all guests share."""

    kernel: Path
    initrd: Path


def image() -> Image:
    """The image from the cache, made first if it is not there.

    Raises:
        LabError: a program or package it is made of is missing and cannot be had.

    """
    with held(CACHE, "image"):  # two networks may be built at the same time
        programs = {name: _found(name, package) for name, package in _PROGRAMS.items()}
        programs["busybox"] = _found("busybox", "busybox-static")
        made = Image(CACHE / "vmlinuz", CACHE / "initrd")
        key = _key(programs)
        mark = CACHE / "key"
        if not (mark.exists() and mark.read_text() == key):
            mark.unlink(missing_ok=True)
            _make(made, programs)
            mark.write_text(key)
        return made


def _found(name: str, package: str) -> Path:
    path = shutil.which(name, path=":".join(_SEARCH))
    if path is None:
        raise LabError(f"real guests need {name}; install {package}: scripts/bootstrap --real")
    return Path(path).resolve()


def _key(programs: Mapping[str, Path]) -> str:
    """What the image was made from; another value means that it must be made again."""
    told = hashlib.sha256()
    for source in (Path(__file__), Path(guest_files.__file__), Path(cpio.__file__)):
        told.update(source.read_bytes())
    for path in programs.values():
        status = path.stat()
        told.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return told.hexdigest()


def _make(made: Image, programs: Mapping[str, Path]) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="making.") as folder:
        tree = Path(folder)
        for package in (_kernel_package(), _AGENT):
            for archive in _packages(package):
                _program(("dpkg", "-x", str(archive), str(tree)))
        kernel = next(iter(tree.glob("boot/vmlinuz-*")), None)
        agent = tree / "usr/sbin/qemu-ga"
        if kernel is None or not agent.exists():
            raise LabError(f"the packages of {_KERNEL} and {_AGENT} lack what guests boot")
        entries = {
            **guest_files.entries(),
            **_tools({**programs, "qemu-ga": agent}),
            **_modules(tree, programs["busybox"], kernel.name.removeprefix("vmlinuz-")),
        }
        # Not compressed: an emulated processor would spend seconds on unpacking.
        packed = tree / made.initrd.name
        packed.write_bytes(cpio.archive(entries))
        # Whoever starts a guest at this moment finds the old one or the new one, and all of it.
        os.replace(packed, made.initrd)
        os.replace(kernel, made.kernel)


def _kernel_package() -> str:
    """The package that the one for the newest kernel depends on."""
    listed = _program(("apt-cache", "depends", _KERNEL))
    names: list[str] = re.findall(r"Depends: (linux-image-\S+)", listed)
    if not names:
        raise LabError(f"no package {_KERNEL} is known here; run apt-get update")
    return names[0]


def _packages(name: str) -> list[Path]:
    """The package's file, from the cache or fetched into it."""
    if not list(CACHE.glob(f"{name}_*.deb")):
        run_in = ("env", f"--chdir={CACHE}", "apt-get", "download", "-qq", name)
        _program(run_in, timeout=300)
    return sorted(CACHE.glob(f"{name}_*.deb"))[-1:]


def _tools(programs: Mapping[str, Path]) -> dict[str, cpio.Entry]:
    """The programs, the libraries that they name, and the names that they are known by."""
    entries = {f"usr/sbin/{name}": _copied(path) for name, path in programs.items()}
    dynamic = [str(path) for name, path in programs.items() if name != "busybox"]
    extensions = _extensions()
    for library in _libraries([*dynamic, *map(str, extensions)]):
        entries[library.lstrip("/")] = _copied(Path(library))
    entries.update({str(path).lstrip("/"): _copied(path) for path in extensions})
    for family in ("iptables", "ip6tables"):
        for kind in ("nft", "legacy"):
            for action in ("", "-save", "-restore"):
                multi = cpio.link(f"xtables-{kind}-multi")
                entries[f"usr/sbin/{family}-{kind}{action}"] = multi
        for action in ("", "-save", "-restore"):
            entries[f"usr/sbin/{family}{action}"] = cpio.link("xtables-nft-multi")
    return entries


def _extensions() -> list[Path]:
    """The plug-ins of iptables, one for each match and target."""
    return sorted(path for path in Path("/usr/lib").glob("*/xtables/lib*.so"))


def _libraries(programs: Iterable[str]) -> set[str]:
    """What the loader would load for them; by the paths the loader looks at."""
    found: set[str] = set()
    listed = _program(("ldd", *programs))
    if "not found" in listed:
        missing = next(line for line in listed.splitlines() if "not found" in line)
        raise LabError(f"real guests need the library {missing.split()[0]}; install its package")
    for line in listed.splitlines():
        match = _LIBRARY.search(line)
        if match is not None:
            found.add(match[1])
    return found


def _modules(tree: Path, busybox: Path, version: str) -> dict[str, cpio.Entry]:
    """The modules that guests may want, those that these depend on, and the indexes."""
    _program((str(busybox), "depmod", "-b", str(tree), version))
    root = tree / "lib/modules" / version
    depends = {}
    for line in (root / "modules.dep").read_text().splitlines():
        name, _, rest = line.partition(":")
        depends[_relative(name, version)] = [_relative(other, version) for other in rest.split()]
    wanted = {name for name in depends if _MODULES.fullmatch(name)}
    wanted |= {other for name in wanted for other in depends[name]}
    if "kernel/net/netfilter/nf_tables.ko" not in wanted:
        raise LabError(f"the kernel package {version} lacks its modules")
    entries = {f"lib/modules/{version}/{name}": _copied(root / name) for name in sorted(wanted)}
    for index in ("modules.dep", "modules.alias", "modules.symbols", "modules.builtin"):
        entries[f"lib/modules/{version}/{index}"] = cpio.file((root / index).read_bytes())
    return entries


def _relative(name: str, version: str) -> str:
    """``kernel/...``; depmod names modules by the folder it was pointed at or below it."""
    return name.partition(f"lib/modules/{version}/")[2] or name


def _copied(path: Path) -> cpio.Entry:
    return cpio.file(path.read_bytes(), executable=os.access(path, os.X_OK))


def _program(argv: tuple[str, ...], timeout: float = 60) -> str:
    try:
        done = run(argv, timeout=timeout)
    except ProgramMissing as error:
        raise LabError(f"real guests are made from Debian's packages: {error}") from None
    if done.returncode:
        complaint = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise LabError(f"{argv[0]}: {complaint}")
    return done.stdout
