"""What healthy networks are put together from, and how one is described."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvmdiag.lab.spec import Fault, Link, Machine, Network, Step

ENO1 = Link(name="eno1", mac="52:54:00:10:00:10", addresses=("10.0.0.10/24",), peer="outside:lan")
UP = "default via 10.0.0.1 dev eno1"
OUTSIDE = Machine(
    name="outside",
    links=(Link(name="lan", mac="52:54:00:10:00:01", addresses=("10.0.0.1/24", "10.0.0.9/24")),),
)
FORWARDING = {"net.ipv4.ip_forward": "1"}
BRIDGE_NF = {"net.bridge.bridge-nf-call-iptables": "1"}
STRICT = {"net.ipv4.conf.all.rp_filter": "1", "net.ipv4.conf.default.rp_filter": "1"}


@dataclass(frozen=True)
class Healthy:
    """A network in which nothing is wrong.

    ``pings`` are real ones that must be answered, ``silent`` those that by intent are not, as
    (machine, address). ``commands`` (machine, command) are run once it stands; ``services``
    (machine, command) go on running.
    """

    name: str
    machines: tuple[Machine, ...]
    pings: tuple[tuple[str, str], ...]
    silent: tuple[tuple[str, str], ...] = ()
    decoys: tuple[Step, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    services: tuple[tuple[str, str], ...] = ()
    virtual: Mapping[str, str] = field(default_factory=dict)
    domains: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ("outside",)

    @property
    def network(self) -> Network:
        """As a practice network, its decoys as the one fault it can have."""
        decoys = Fault(
            name="decoys", machine="host", summary="what looks bad", check=None, steps=self.decoys
        )
        return Network(
            name=self.name,
            summary=self.name,
            example="host 10.0.0.1",
            machines=self.machines,
            faults=(decoys,),
            hidden=self.hidden,
            virtual=self.virtual,
        )


def bridge(name: str, number: int, *addresses: str) -> Link:
    """A bridge of the host's."""
    return Link(name=name, kind="bridge", mac=f"52:54:00:1e:07:{number:02x}", addresses=addresses)


def tap(number: int, master: str, guest: str, link: str = "eth0") -> Link:
    """The host's end of a guest's cable."""
    mac = f"fe:54:00:aa:00:{number:02x}"
    return Link(name=f"vnet{number}", mac=mac, master=master, peer=f"{guest}:{link}")


def guest(name: str, number: int, *addresses: str, via: str | None = None) -> Machine:
    """A guest with one NIC."""
    mac = f"52:54:00:aa:00:{number:02x}"
    return Machine(
        name=name,
        links=(Link(name="eth0", mac=mac, addresses=addresses),),
        routes=(f"default via {via} dev eth0",) if via else (),
    )


def dnsmasq(link: str, address: str, first: str, last: str) -> str:
    """A DHCP and DNS server as libvirt starts it."""
    return (
        "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --bind-dynamic"
        f" --user=root --interface={link} --except-interface=lo --listen-address={address}"
        f" --dhcp-range={first},{last},1h --pid-file= --dhcp-leasefile=/dev/null"
    )


def xml(name: str, link: str, address: str, forward: str = "", inner: str = "") -> str:
    """A libvirt network; ``forward`` is a mode, ``inner`` what stands in ``<ip>``."""
    mode = f"<forward mode='{forward}'/>" if forward else ""
    return (
        f"<network><name>{name}</name>{mode}<bridge name='{link}'/>"
        f"<ip address='{address}' netmask='255.255.255.0'>{inner}</ip></network>"
    )


def dhcp(first: str, last: str) -> str:
    """The inside of an ``<ip>`` that serves DHCP."""
    return f"<dhcp><range start='{first}' end='{last}'/></dhcp>"
