"""What to say of a reply that nobody predicted, or of which nothing was seen."""

from __future__ import annotations

import msgspec

from kvmdiag.model.packet import Packet
from kvmdiag.model.trace import NO_ANSWER, Hop, Outcome, Reason, Stage, Trace, Walk
from kvmdiag.probes.marks import unexpected
from kvmdiag.probes.observation import Observation


def never_came(
    walk: Walk, request: Trace, reply: Trace | None, observation: Observation
) -> Trace | None:
    """What to say of a reply of which nothing was seen, though the request arrived."""
    if reply is not None and reply.arrived is False and not _expected_somewhere(reply):
        return reply
    silent = walk.question.proto == "udp"
    where = request.end
    expected = reply is not None and not reply.arrived and not _expected_somewhere(reply)
    end = Hop(
        direction="reply",
        stack=where.stack,
        link=where.link,
        stage=Stage.INGRESS if request.outcome is Outcome.LEFT else Stage.OUTPUT,
        packet=_reversed(where.packet),
        decision=NO_ANSWER,
        because=_silence(request, reply if expected else None, observation),
        predicted=False,
        seen=False if observation.looked_for(where) else None,
    )
    # Many a UDP service says nothing to what it does not understand.
    outcome = Outcome.UNKNOWN if silent else Outcome.DROPPED
    hops = (*(reply.hops if reply is not None else ()), end)
    return Trace(
        direction="reply",
        outcome=outcome,
        reason=reply.reason if reply is not None and expected else Reason.NOT_MODELLED,
        hops=hops,
        assumptions=reply.assumptions if reply is not None else (),
    )


def _silence(request: Trace, expected: Trace | None, observation: Observation) -> str:
    """That nothing came, and why, as far as the model expected it or it can be told."""
    end = request.end
    whence = "" if request.outcome is Outcome.LEFT else f" from {end.stack}"
    nothing = f"nothing came back{whence} within {observation.waited:.1f} s"
    if expected is not None:
        return f"{nothing}, as expected: {expected.end.because or expected.end.decision}"
    if request.outcome is Outcome.LEFT:
        return f"{nothing}; what happens beyond this link cannot be seen"
    return nothing


def _expected_somewhere(trace: Trace) -> bool:
    return any(hop.seen is False for hop in trace.hops)


def unpredicted_reply(walk: Walk, observation: Observation) -> Trace:
    """A reply trace made of sightings alone."""
    hops = [unexpected(sighting, observation) for sighting in observation.travelling("reply")]
    if not hops:
        end = walk.request.end
        hops = [
            Hop(
                direction="reply",
                stack=walk.request.hops[0].stack,
                link=None,
                stage=Stage.DELIVER,
                packet=_reversed(end.packet),
                decision="arrived",
                because="the source's socket got the reply",
                predicted=False,
                seen=True,
            )
        ]
    return Trace(
        direction="reply",
        outcome=Outcome.UNKNOWN,
        reason=Reason.NOT_MODELLED,
        hops=tuple(hops),
    )


def _reversed(packet: Packet) -> Packet:
    return msgspec.structs.replace(
        packet, src=packet.dst, dst=packet.src, sport=packet.dport, dport=packet.sport
    )
