"""What a person reads."""

from __future__ import annotations

import io
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console, RenderableType

from kvmdiag.model.report import PathResult, Plan, Report
from kvmdiag.model.trace import Outcome
from kvmdiag.reports import text
from kvmdiag.reports.escape import one_line, safe, xml_safe


def shown(content: RenderableType, width: int = 100) -> str:
    """What appears on a terminal of that width."""
    console = Console(file=io.StringIO(), width=width, emoji=False, markup=False, highlight=False)
    console.print(content, crop=False)
    printed = console.file
    assert isinstance(printed, io.StringIO)
    return printed.getvalue()


EXPECTED = """\
✗ node1 cannot reach 10.0.0.9: frames bridged on mybr0 are dropped by iptables FORWARD's policy DROP

  the packet  node1 ens6 → host vnet3 mybr0 ✗

Cause: bridge-nf-forward-drop  error on host/mybr0, proved in simulation
  frames bridged on mybr0 are dropped by iptables FORWARD's policy DROP
  · net.bridge.bridge-nf-call-iptables = 1  /proc/sys/net/bridge/bridge-nf-call-iptables in host
  · policy DROP  iptables-nft table ip filter chain FORWARD policy

Repair: proved in simulation, with these steps the packet gets through: the packet leaves by eno1 as
10.0.0.10, and a reply gets back to node1
  1. iptables -I FORWARD -i mybr0 -o mybr0 -j ACCEPT
     changes host; for bridge-nf-forward-drop
     undo  iptables -D FORWARD 1
     keep  write it to /etc/sysctl.d/90-kvmdiag.conf

1 fact could not be read, 1 check skipped; -v lists what was missing
"""


def test_answer_comes_first_then_cause_then_plan(faulty: Report) -> None:
    """The whole page, as it stands on a terminal of 100 columns."""
    assert shown(text.render(faulty)) == EXPECTED


def test_what_has_nothing_to_undo_or_no_command(faulty: Report) -> None:
    """No empty line for the former; for the latter, where to read what people do."""
    assert faulty.plan is not None
    lasting = tuple(replace(step, undo="") for step in faulty.plan.steps)
    assert "undo" not in shown(text.render_plan(replace(faulty.plan, steps=lasting)))
    (found,) = faulty.findings
    helpless = replace(faulty, findings=(replace(found, fix=()),), plan=None)
    assert "by hand: kvmdiag explain bridge-nf-forward-drop\n" in shown(text.render(helpless))


def test_a_fix_for_a_guest_says_so_off_the_plan_too(faulty: Report) -> None:
    """Typed on the host, ``ip addr del`` would be no fix but a fault."""
    (found,) = faulty.findings
    inside = replace(found.fix[0], where="inside node1", command="ip addr del 10.0.0.1/24 dev ens6")
    latent = replace(faulty, findings=(replace(found, role="latent", fix=(inside,)),), plan=None)
    assert "fix, inside node1: ip addr del 10.0.0.1/24 dev ens6\n" in shown(text.render(latent))


def test_healthy_path_says_how_the_packet_goes(healthy: Report) -> None:
    """A path that works is told in one sentence, with the rewritten source."""
    first = shown(text.render(healthy)).splitlines()[0]
    assert first == (
        "✓ nothing here keeps node1 from 10.0.0.9: the packet leaves by eno1 as 10.0.0.10, and a "
        "reply gets"
    )


def test_a_path_that_works_is_told_so_though_another_is_unclear(healthy: Report) -> None:
    """Unknown is the verdict on all; the asked path is known."""
    assert healthy.walk is not None
    lost = replace(healthy.walk.request, outcome=Outcome.UNKNOWN)
    other = PathResult(walk=replace(healthy.walk, request=lost))
    page = shown(text.render(replace(healthy, verdict="unknown", paths=(other,))))
    told = " ".join(page.partition("\n\n")[0].split())
    assert told.startswith("✓ nothing here keeps node1 from 10.0.0.9")
    assert told.endswith("elsewhere: 1 path that cannot be told")


def test_an_open_question_bears_no_cross(faulty: Report) -> None:
    """A fault elsewhere makes the exit code 1, and says nothing of the asked path."""
    (found,) = faulty.findings
    assert faulty.walk is not None
    unknown = replace(faulty.walk.request, outcome=Outcome.UNKNOWN)
    walk = replace(faulty.walk, request=unknown, reply=None)
    opened = replace(faulty, findings=(replace(found, role="latent"),), walk=walk, plan=None)
    first = shown(text.render(opened)).splitlines()[0]
    assert first.startswith("? whether node1 reaches 10.0.0.9 cannot be told")


def test_commands_are_never_broken(faulty: Report) -> None:
    """On a narrow terminal prose wraps; a command stays in one piece, to be copied."""
    lines = shown(text.render(faulty), width=40).splitlines()
    assert "  1. iptables -I FORWARD -i mybr0 -o mybr0 -j ACCEPT" in lines
    prose = [line for line in lines if "iptables -" not in line]
    assert max(map(len, prose)) <= 40


def test_unknown_lists_what_was_missing_and_how_to_provide_it(faulty: Report) -> None:
    """Without -v too: the reader needs it to get an answer at all."""
    page = shown(text.render(replace(faulty, verdict="unknown", walk=None, plan=None)))
    assert "networks: libvirt is not running; start libvirtd" in page
    assert "masquerade-missing needs networks: libvirt is not running" in page


def test_plan_that_is_not_enough_says_so(faulty: Report) -> None:
    """A plan the simulation does not believe in is no promise."""
    assert faulty.plan is not None
    plan = Plan(steps=faulty.plan.steps, outcome_after=Outcome.DROPPED, works=False)
    page = shown(text.render(replace(faulty, plan=plan)))
    assert "these steps are not enough; after them the packet ends as dropped" in page
    assert "proved in simulation, with" not in page


def test_quiet_is_one_line(faulty: Report) -> None:
    """Only the verdict, unbroken on any terminal."""
    assert shown(text.render_verdict(faulty), width=40) == EXPECTED.splitlines()[0] + "\n"


def test_names_cannot_redraw_the_terminal(hostile: Report) -> None:
    """Control characters and direction marks are written out wherever they come from."""
    page = shown(text.render(hostile, verbose=1))
    assert "\\x1b[2J" in page
    assert not any(sign in page for sign in "\x1b\x00\u202e")


@given(st.text())
def test_safe_text_is_printable(text: str) -> None:
    """Whatever goes in, no control, format or surrogate character comes out."""
    assert not {unicodedata.category(c) for c in safe(text)} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert "\n" not in one_line(text)


@given(st.text())
def test_xml_text_can_be_held_by_xml(text: str) -> None:
    """Every character is one of XML 1.0's ``Char``."""
    for character in xml_safe(text):
        code = ord(character)
        assert code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or code >= 0xE000
        assert code not in (0xFFFE, 0xFFFF)
