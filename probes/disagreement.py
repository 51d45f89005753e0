"""Where the model was wrong: prediction and observation compared."""

from __future__ import annotations

import msgspec

from kvmdiag.model.trace import Hop, Outcome, Trace, Walk
from kvmdiag.probes.fuse import REFUSED, fuse
from kvmdiag.probes.observation import Observation


def disagreement(predicted: Walk, fused: Walk) -> str | None:
    """One sentence when the model was wrong about the end; ``None`` when it was right.

    A prediction of "unknown" is never wrong.
    """
    return _wrong_end(predicted, fused) or _wrong_address(predicted, fused)


def _wrong_address(predicted: Walk, fused: Walk) -> str | None:
    """The first place where the packet bore other addresses than expected."""
    found = {(hop.direction, hop.place, hop.stage): hop for hop in fused.hops if hop.seen}
    for hop in predicted.hops:
        seen = found.get((hop.direction, hop.place, hop.stage))
        if seen and (seen.packet.src, seen.packet.dst) != (hop.packet.src, hop.packet.dst):
            return (
                f"the model expected {hop.packet.describe()} at {hop.place}; "
                f"it was {seen.packet.describe()}"
            )
    return None


def _wrong_end(predicted: Walk, fused: Walk) -> str | None:
    if predicted.works is None or fused.works is None:
        return None
    expected, found = predicted.decisive, fused.decisive
    if predicted.request.outcome is Outcome.LEFT and found.end.decision == REFUSED:
        return None  # who is out there, and what listens, is in no facts
    if predicted.works != fused.works:
        wanted = "to get through" if predicted.works else _ending(expected)
        return f"the model expected the packet {wanted}; it was {_ending(found)}"
    if fused.works or found.end.predicted:
        return None
    if (expected.direction, expected.end.stack) == (found.direction, found.end.stack):
        if found.end.kernel_reason is None and found.end.decider is None:
            return None  # nothing is known but the place, and that is right
        wanted, was = _cause(expected), _cause(found)
        return f"the model expected it {_ending(expected)}: {wanted}; it was: {was}"
    return f"the model expected it {_ending(expected)}; it was {_ending(found)}"


def divergence(predicted: Walk, fused: Walk) -> Hop | None:
    """The first hop at which what happened is not what was expected.

    ``None`` when all was as expected, apart from copies that bridges flood to other ports.
    """
    if disagreement(predicted, fused) is None:
        return None
    for hop in fused.hops:
        if (hop.predicted and hop.seen is False) or (
            not hop.predicted and hop is not fused.hops[0]
        ):
            return hop
    return None


def _cause(trace: Trace) -> str:
    end = trace.end
    return str(end.decider) if end.decider is not None else end.because or end.decision


def _ending(trace: Trace) -> str:
    what = "getting through" if trace.arrived else trace.outcome.value
    return f"{what} ({trace.direction}, at {trace.end.place})"


def likeliest(walk: Walk, observation: Observation) -> Walk:
    """Of all ways that chance leaves open, the one that fits what was seen best."""

    def misses(way: Walk) -> tuple[bool, int]:
        fused = fuse(way, observation)
        strays = sum(hop.seen is False or not hop.predicted for hop in fused.hops)
        return disagreement(way, fused) is not None, strays

    ways = (walk, *walk.alternatives)
    if len(ways) == 1:
        return walk
    best = min(ways, key=misses)
    return msgspec.structs.replace(best, alternatives=())
