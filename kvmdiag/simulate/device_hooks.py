"""Chains that see frames: those of bridges, and those that hang on a link itself."""

from __future__ import annotations

from kvmdiag.model.link import Link
from kvmdiag.model.netfilter import Family, HookName
from kvmdiag.model.trace import Stage
from kvmdiag.simulate.context import Context
from kvmdiag.simulate.journey import Journey
from kvmdiag.simulate.netfilter import pass_hook
from kvmdiag.simulate.steps import Frame


def bridge_hook(
    journey: Journey,
    stack: str,
    hook: HookName,
    frame: Frame,
    in_link: str | None,
    out_link: str | None,
    priorities: range,
) -> Frame:
    """The bridge family's own chains (ebtables, nft bridge); they see the ports as devices."""
    found = journey.stack(stack).base_chains("bridge", hook)
    chains = tuple(base for base in found if base.chain.priority in priorities)
    if not chains:
        return frame
    at = context(journey, stack, hook, frame, in_link, out_link, family="bridge")
    return pass_hook(journey, frame, at, Stage.BRIDGE, in_link or out_link, chains=chains)


def device_hook(journey: Journey, stack: str, hook: HookName, frame: Frame, link: Link) -> Frame:
    """Chains that hang on the link itself, before and after everything else."""
    chains = journey.stack(stack).device_chains(hook, link.name)
    if not chains:
        return frame
    into, out = (link.name, None) if hook == "ingress" else (None, link.name)
    at = context(journey, stack, hook, frame, into, out, family="netdev")
    stage = Stage.INGRESS if hook == "ingress" else Stage.EGRESS
    return pass_hook(journey, frame, at, stage, link.name, chains=chains)


def context(
    journey: Journey,
    stack: str,
    hook: HookName,
    frame: Frame,
    in_link: str | None,
    out_link: str | None,
    in_port: str | None = None,
    out_port: str | None = None,
    *,
    family: Family | None = None,
    bridged: bool = False,
) -> Context:
    """What the rules of a hook see of a frame."""
    return Context(
        view=journey.stack(stack),
        hook=hook,
        family=family or frame.packet.family,
        packet=frame.packet,
        in_link=in_link,
        out_link=out_link,
        in_port=in_port,
        out_port=out_port,
        bridged=bridged,
        src_mac=frame.src_mac,
        dst_mac=frame.dst_mac,
    )
