"""Settings that look wrong on the host of any practice network, and do no harm there."""

from __future__ import annotations

from kvmdiag.lab.spec import Fault, Ip, Nft, Rules, Step, Sysctls


def _decoy(name: str, *steps: Step) -> Fault:
    return Fault(name=name, machine="host", summary=name, check=None, steps=steps)


DECOYS = (
    _decoy(
        "rejects that nothing meets",
        Rules(
            "host",
            "*filter\n-A FORWARD -s 203.0.113.0/24 -j REJECT\n-A FORWARD -i wlan0 -j DROP\n"
            "-I FORWARD 1 -p tcp -m tcp --dport 25 -j DROP\nCOMMIT\n",
        ),
    ),
    _decoy("loose reverse paths", Sysctls("host", {"net.ipv4.conf.all.rp_filter": "2"})),
    _decoy("martians are logged", Sysctls("host", {"net.ipv4.conf.all.log_martians": "1"})),
    _decoy(
        "an empty bridge without carrier",
        Ip(
            "host",
            "link add br99 type bridge\naddr add 172.31.99.1/24 dev br99\nlink set br99 up\n",
        ),
    ),
    _decoy(
        "a blackhole for nobody",
        Ip("host", "route add blackhole 198.51.100.0/24 metric 4000\n"),
    ),
    _decoy(
        "a policy rule for a mark that nobody sets",
        Ip("host", "rule add pref 99 fwmark 0x7777 blackhole\n"),
    ),
    _decoy(
        "translation for a link that is not there",
        Rules("host", "*nat\n-A POSTROUTING -s 172.31.0.0/16 -o wlan0 -j MASQUERADE\nCOMMIT\n"),
    ),
    _decoy(
        "a table of nft that accepts",
        Nft(
            "host",
            "table inet watch {\n"
            "  chain onwards { type filter hook forward priority 5; policy accept; counter; }\n"
            "  chain spoof { type filter hook prerouting priority -150; policy accept;\n"
            "    ip saddr 203.0.113.0/24 drop; }\n}\n",
        ),
    ),
)
