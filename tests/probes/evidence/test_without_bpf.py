"""Drop reasons by the tracepoints alone, on kernels or with rights that allow no BPF."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvmdiag.probes.evidence import drops, perf_drops

from .test_drop_reasons import (
    OTHER_SIDE,
    SAME_BRIDGE,
    bridge_drop,
    iptables_drop,
    isolated,
    legacy_drop,
    mtu,
    no_route,
    rp_filter,
)


@pytest.fixture(autouse=True)
def _no_bpf(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(drops, "Ring", refuse)


CASES: list[tuple[Callable[[Any], None], str, dict[str, Any], str]] = [
    (iptables_drop, OTHER_SIDE, {}, "NETFILTER_DROP at nft_do_chain"),
    (legacy_drop, OTHER_SIDE, {}, "NETFILTER_DROP at nf_hook_slow"),
    (bridge_drop, SAME_BRIDGE, {}, "NETFILTER_DROP at nft_do_chain"),
    (rp_filter, OTHER_SIDE, {}, "IP_RPFILTER at ip_rcv_finish_core"),
    (no_route, OTHER_SIDE, {}, "IP_INNOROUTES at ip_error"),
    (mtu, OTHER_SIDE, {}, "PKT_TOO_BIG at ip_forward"),
    (iptables_drop, OTHER_SIDE, {"proto": "tcp", "port": 7}, "NETFILTER_DROP at nft_do_chain"),
    (iptables_drop, OTHER_SIDE, {"proto": "udp", "port": 7}, "NETFILTER_DROP at nft_do_chain"),
    (isolated, SAME_BRIDGE, {}, "NOT_SPECIFIED at br_handle_frame_finish"),
]
_ATTEMPTS = 5
NAMES = ["-".join([case[0].__name__, *map(str, case[2].values())]) for case in CASES]


@pytest.mark.parametrize(("fault", "destination", "more", "reason"), CASES, ids=NAMES)
def test_the_same_reason_and_function(
    routed: Any,
    tracing: Callable[..., Any],
    before: Any,
    fault: Callable[[Any], None],
    destination: str,
    more: dict[str, Any],
    reason: str,
) -> None:
    """As by BPF, also where the model knew nothing of the fault; and it is told how it is known."""
    expected = before(routed)
    fault(routed)
    # Where a busy machine does something else between tracepoint and capture, nothing is claimed.
    attempts = (tracing(destination, expected=expected, **more) for _ in range(_ATTEMPTS))
    traced = next(one for one in attempts if one.reason is not None)
    assert traced.predicted.decisive.end.stack != "host" or traced.predicted.works
    assert traced.fused.decisive.end.stack == "host"
    assert str(traced.reason).startswith(reason)
    assert [one.source for one in traced.evidence.unavailable] == ["BPF"]
    assert "tracepoints instead" in traced.evidence.unavailable[0].why


def test_what_gets_through_was_not_dropped(tracing: Callable[..., Any]) -> None:
    """Other packets that end in the same place in memory are not taken for the probe."""
    traced = tracing(OTHER_SIDE)
    assert traced.seen.reached
    assert traced.evidence.drops == ()
    mounted = Path("/proc/mounts").read_text().split("\n")
    assert [line for line in mounted if line.startswith("tracefs /sys/kernel/debug")] == []


def test_nothing_at_all_is_said_so(
    tracing: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With neither, both reasons stand there."""

    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(perf_drops, "Tracepoints", refuse)
    missing = {one.source: one.why for one in tracing(OTHER_SIDE).evidence.unavailable}
    assert "CAP_BPF" in missing["drop reasons"]
    assert "nor by tracepoints" in missing["drop reasons"]
