"""A probe that enters the host on a guest's tap, as if the guest had sent it.

For guests that cannot be entered. The guest itself sends nothing and notices only the reply;
what its own routing and filters would have done to the packet is not tested. A bridge learns
the sender's MAC address from the frame, which is why it must be the guest's own.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from contextlib import ExitStack
from typing import Self

from kvmdiag.errors import NotReadableError
from kvmdiag.model.link import Link
from kvmdiag.model.stack import Stack
from kvmdiag.probes import bpf, bpf_messages
from kvmdiag.probes.behind_tap import BehindTap
from kvmdiag.probes.capture import Frame, without_link_layer
from kvmdiag.probes.errors import PORT_UNREACHABLE
from kvmdiag.probes.frames import answering_mac, as_frame, resolution_request
from kvmdiag.probes.live_frames import LONGEST_FRAME, LiveFrames
from kvmdiag.probes.observation import RESET, Answer
from kvmdiag.probes.packet import Probe, build_packet, dissect
from kvmdiag.probes.tap_redirect import TapRedirect
from kvmdiag.system.namespaces import entered

_ATTEMPTS, _PATIENCE = 3, 0.15
_OUTGOING, _ALL_PROTOCOLS = 4, 3


class TapSender:
    """Puts one probe on a tap; see ``Sender``.

    ``redirect`` avoids BPF, as on kernels before 5.18. ``why`` it is not sent from inside goes
    to the remarks.

    Raises:
        NotReadableError: frames cannot be put on links here, or it is not allowed.

    """

    delay = 0.0
    over = False

    def __init__(
        self, behind: BehindTap, probe: Probe, *, redirect: bool = False, why: str | None = None
    ) -> None:
        self.probe = probe
        self.sent_ns = 0
        self.remarks: tuple[str, ...] = ()
        self._why = () if why is None else (why,)
        self.bypassed: str | None = behind.guest_stack
        self._behind = behind
        self._frame: bytes | None = None
        self._refusal: str | None = None
        self._opened = ExitStack()
        try:
            self._port = _injector(behind, probe, redirect)
            self._opened.enter_context(self._port)
        except BaseException:
            self._opened.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def polled(self) -> None:
        """There is no socket: the answer is what leaves by the tap."""

    def prepare(self) -> None:
        """Ask for the next hop's MAC address in the guest's name, and build the frame.

        Raises:
            NotReadableError: the tap is gone, or takes no frames of ours.

        """
        behind = self._behind
        where = f"{behind.stack.name}/{behind.link.name}"
        try:
            mac = self._resolved()
        except OSError as error:
            if error.errno != errno.ENETDOWN:
                raise NotReadableError(f"cannot send by {where}: {error.strerror}") from None
            mac = None  # a tap that is down receives nothing
            self._refusal = f"{behind.link.name} takes nothing in: {error.strerror}"
        self.remarks = (
            f"sent into {where} {self._port.how}, as if {behind.guest} had sent it: from "
            f"{behind.source}, {behind.mac}, by way of {behind.next_hop}; {behind.guest}'s own "
            "routes and filters are not tested",
            *self._why,
            *behind.assumed,
        )
        if mac is not None:
            packet = build_packet(self.probe, str(behind.source), str(behind.destination))
            self._frame = as_frame(packet, behind.mac, mac)

    def _resolved(self) -> str | None:
        """The next hop's MAC address, by ARP or ND; ``None`` when nobody answers."""
        behind = self._behind
        if behind.next_mac is not None:
            return behind.next_mac
        request = resolution_request(behind.mac, behind.source, behind.next_hop)
        with entered(behind.stack.netns or ""):
            listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with listener, selectors.DefaultSelector() as selector:
            listener.setblocking(False)
            bpf.attach_code(listener, bpf_messages.resolution_answer(behind.next_hop))
            with entered(behind.stack.netns or ""):
                listener.bind((behind.link.name, _ALL_PROTOCOLS))
            selector.register(listener, selectors.EVENT_READ)
            for _ in range(_ATTEMPTS):
                self._port.put(request)
                end = time.monotonic() + _PATIENCE
                while (left := end - time.monotonic()) > 0:
                    for _ in selector.select(left):
                        data, address = listener.recvfrom(256)
                        if address[2] == _OUTGOING:
                            return answering_mac(data)
        return None

    def send(self) -> Answer | None:
        """Put the frame on the tap."""
        self.sent_ns = time.time_ns()
        if self._frame is None:
            how = "ARP" if self.probe.version == 4 else "neighbour solicitation"
            silent = (
                f"{self._behind.next_hop} does not answer {how} from {self._behind.guest}'s tap"
            )
            text = self._refusal or silent
            return Answer(kind="error", text=text, time_ns=self.sent_ns, local=True)
        self._port.put(self._frame)
        return None

    def receive(self) -> None:
        """There is no socket."""

    def recognise(self, stack: str, frame: Frame) -> Answer | None:
        """The answer is what leaves by the tap, towards the guest."""
        here = (self._behind.stack.name, self._behind.link.name)
        if not frame.outgoing or (stack, frame.link) != here:
            return None
        found = dissect(without_link_layer(frame), self.probe)
        if found is None or found.direction != "reply":
            return None
        if found.quoted:
            kind = found.packet.icmp_type, found.packet.icmp_code
            who = self._behind.destination
            if kind == PORT_UNREACHABLE[who.version] and found.packet.src == who:
                text = f"{who} says that nobody listens on that port"
                return Answer(kind="refused", text=text, time_ns=frame.time_ns)
            text = f"ICMP error {found.packet.icmp_type}/{found.packet.icmp_code}"
            text = f"{text} from {found.packet.src}"
            return Answer(kind="error", text=text, time_ns=frame.time_ns, mtu=found.mtu)
        if "rst" in found.packet.tcp_flags:
            return Answer(kind="refused", text=RESET, time_ns=frame.time_ns)
        text = f"the reply left by {frame.link}, towards {self._behind.guest}"
        return Answer(kind="reply", text=text, time_ns=frame.time_ns)


def _injector(behind: BehindTap, probe: Probe, redirect: bool) -> LiveFrames | TapRedirect:
    if redirect or (probe.size or 0) > LONGEST_FRAME:
        return TapRedirect(_netns(behind.stack), behind.link.name, max(behind.link.mtu, 1280))
    return injector(behind.stack, behind.link)


def injector(stack: Stack, tap: Link) -> LiveFrames | TapRedirect:
    """What puts frames on a tap: BPF where the kernel can, else the redirected veth.

    Raises:
        NotReadableError: neither is possible.

    """
    live = LiveFrames(_netns(stack), tap.index)
    if live.works():
        return live
    live.__exit__()
    return TapRedirect(_netns(stack), tap.name, max(tap.mtu, 1280))


def _netns(stack: Stack) -> str:
    if stack.netns is None:
        raise NotReadableError(f"{stack.name} cannot be entered")
    return stack.netns
