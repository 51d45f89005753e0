"""Chains that see frames: those of bridges, and those that hang on a link itself."""

from __future__ import annotations

from kvmdiag.model.link import Link
from kvmdiag.model.netfilter import HookName
from kvmdiag.model.trace import Stage
from kvmdiag.simulate.way.journey import Journey
from kvmdiag.simulate.way.netfilter import hook_context, pass_hook
from kvmdiag.simulate.way.steps import Frame


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
    view = journey.stack(stack)
    found = view.base_chains("bridge", hook)
    chains = tuple(base for base in found if base.chain.priority in priorities)
    if not chains:
        return frame
    at = hook_context(view, hook, frame, in_link, out_link, family="bridge")
    return pass_hook(journey, frame, at, Stage.BRIDGE, in_link or out_link, chains=chains)


def device_hook(journey: Journey, stack: str, hook: HookName, frame: Frame, link: Link) -> Frame:
    """Chains that hang on the link itself, before and after everything else."""
    view = journey.stack(stack)
    chains = view.device_chains(hook, link.name)
    if not chains:
        return frame
    into, out = (link.name, None) if hook == "ingress" else (None, link.name)
    at = hook_context(view, hook, frame, into, out, family="netdev")
    stage = Stage.INGRESS if hook == "ingress" else Stage.EGRESS
    return pass_hook(journey, frame, at, stage, link.name, chains=chains)
