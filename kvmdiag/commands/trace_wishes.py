"""What ``kvmdiag trace`` can be asked for beyond one probe from inside the source."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from kvmdiag.commands.options import Options
from kvmdiag.errors import UsageError

Source = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="A guest, a guest's NIC (node1:ens6), host, a namespace, an address or a name.",
    ),
]
Destination = Annotated[
    str,
    typer.Argument(
        metavar="DST", help="The same, or anything outside; or: arp [ADDRESS], dhcp, dns NAME."
    ),
]
Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="What dns or arp asks for.")]
NoProbe = Annotated[bool, typer.Option("--no-probe", help="Predict only; send nothing.")]
Tcp = Annotated[
    int | None, typer.Option(metavar="PORT", min=1, max=65535, help="A TCP connection to PORT.")
]
Udp = Annotated[
    int | None, typer.Option(metavar="PORT", min=1, max=65535, help="A UDP datagram to PORT.")
]
OnTap = Annotated[
    bool,
    typer.Option(
        "--on-tap",
        help="Send on the tap (or uplink) that SRC is behind, as if SRC had; "
        "done anyway for a guest that has no way in.",
    ),
]
Mtu = Annotated[
    bool, typer.Option("--mtu", help="Find the largest packet that passes, and what limits it.")
]
Count = Annotated[
    int, typer.Option(metavar="N", min=1, max=10_000, help="Send N probes; loss and latency.")
]
Interval = Annotated[
    float, typer.Option(metavar="S", min=0.01, max=3600, help="Seconds from probe to probe.")
]
Watched = Annotated[
    bool, typer.Option("--watch", help="Repeat until interrupted, showing what changes.")
]
Pcap = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write all that was captured (pcapng).")
]
Server = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="The name server that dns asks.")
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wishes:
    """The values of those options."""

    on_tap: bool = False
    mtu: bool = False
    count: int = 1
    interval: float = 1.0
    watch: bool = False
    pcap: Path | None = None
    server: str | None = None

    def refuse(self, why: str, *but: str) -> None:
        """Complain of the first that was wished for, except those named.

        Raises:
            UsageError: there is one.

        """
        for field in dataclasses.fields(self):
            if field.name in ("interval", *but):
                continue
            if getattr(self, field.name) != field.default:
                raise UsageError(f"--{field.name.replace('_', '-')}: {why}")


def with_port(options: Options, tcp: int | None, udp: int | None) -> Options:
    """``--tcp PORT`` and ``--udp PORT`` as what they are short for.

    Raises:
        UsageError: more than one protocol was asked for.

    """
    if tcp is None and udp is None:
        return options
    if (tcp is not None and udp is not None) or options.port is not None:
        raise UsageError("one of --tcp PORT, --udp PORT and --proto with --port; not several")
    if tcp is not None:
        return dataclasses.replace(options, proto="tcp", port=tcp)
    return dataclasses.replace(options, proto="udp", port=udp)
