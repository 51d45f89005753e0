"""What a check is, what it says, and how the checks are found.

A check is one file in ``checks/`` with one function of the file's name. The function gets a
:class:`~kvmdiag.diagnose.case.Case`, a path that fails, and yields a :class:`Suspicion` for
each fault that could be why. It need not be right: the engine applies the remedy to a copy of
the snapshot and walks again, and only a remedy that changes the packet's fate makes a cause.
What can be told without a path that fails is for a survey: it gets a
:class:`~kvmdiag.diagnose.survey.Survey`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

import msgspec

from kvmdiag.diagnose.explanation import Explanation, parse_explanation
from kvmdiag.model.action import Action
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Hop

if TYPE_CHECKING:
    from kvmdiag.diagnose.case import Case
    from kvmdiag.diagnose.survey import Survey

Remedy = tuple[Action, ...]


class Facts(StrEnum):
    """What a check can need: fields of a stack, then fields of the snapshot."""

    LINKS = "links"
    ADDRESSES = "addresses"
    ROUTES = "routes"
    POLICY_RULES = "policy_rules"
    NEIGHBOURS = "neighbours"
    FDB = "fdb"
    SYSCTLS = "sysctls"
    TABLES = "tables"
    BRIDGE_VLANS = "bridge_vlans"
    MDB = "mdb"
    SOCKETS = "sockets"
    CONNTRACK = "conntrack"
    DOMAINS = "domains"
    NETWORKS = "networks"
    GUESTS = "guests"
    DAEMONS = "daemons"
    PERSISTENT = "persistent"


SNAPSHOT_FACTS = frozenset(
    {
        Facts.DOMAINS,
        Facts.NETWORKS,
        Facts.GUESTS,
        Facts.DAEMONS,
        Facts.PERSISTENT,
    }
)


class Turn(IntEnum):
    """When a check's remedies are tried, among those for the same place of a path.

    FIRST is for links and addresses, from whose loss a missing route and more follows. LAST is
    for checks that name a fault in general terms: they are asked when no other check knows
    better, and not at all when another calls what became of the packet intended.
    """

    FIRST = 0
    ORDINARY = 1
    LAST = 2


class Suspicion(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that could be why a path fails.

    ``remedies`` are alternatives, the least harmful first; each is a tuple of actions.
    ``at`` is the hop where the fault does its harm, when that is not where the walk ended.
    ``severity`` stands in for the check's own. ``by_design`` marks what is meant to be so: it
    is told and never counts. ``proof`` is what would prove a fault that the facts can only
    suggest; such a one is told and not acted upon. ``decides`` marks what a survey found to
    stop a connection of the asked path that is there already, though a new one would pass.
    """

    subject: str
    summary: str
    evidence: tuple[Evidence, ...]
    remedies: tuple[Remedy, ...] = ()
    at: Hop | None = None
    severity: Severity | None = None
    by_design: bool = False
    proof: str = ""
    decides: bool = False


CheckFunction = Callable[["Case"], Iterator[Suspicion]]
SurveyFunction = Callable[["Survey"], Iterator[Suspicion]]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A check, ready to be asked. ``id`` is its function's name in kebab case.

    ``run`` is asked about a path that is not known to work. ``survey`` is asked once about the
    whole, for what is wrong or worth knowing though no packet has ended at it.
    """

    id: str
    severity: Severity
    needs: frozenset[Facts]
    explanation: Explanation
    run: CheckFunction | None = None
    survey: SurveyFunction | None = None
    turn: Turn = Turn.ORDINARY


def check(
    *,
    severity: Severity,
    needs: set[Facts],
    survey: SurveyFunction | None = None,
    turn: Turn = Turn.ORDINARY,
) -> Callable[[CheckFunction], Check]:
    """Make a function a check of paths. Its module's docstring is the explanation.

    ``needs`` names the facts of the stacks on the path without which the check cannot tell;
    a stack that lacks one is not shown to it, and it is reported as skipped. ``survey`` is
    what the same check has to say apart from any path.

    Raises:
        ValueError: the module's docstring lacks a heading.

    """

    def decorate(function: CheckFunction) -> Check:
        made = _made(function, severity, needs, run=function, survey=survey)
        return msgspec.structs.replace(made, turn=turn)

    return decorate


def survey_check(*, severity: Severity, needs: set[Facts]) -> Callable[[SurveyFunction], Check]:
    """Make a function a check of the whole, which no path need have failed for.

    Raises:
        ValueError: the module's docstring lacks a heading.

    """

    def decorate(function: SurveyFunction) -> Check:
        return _made(function, severity, needs, survey=function)

    return decorate


def _made(
    function: CheckFunction | SurveyFunction,
    severity: Severity,
    needs: set[Facts],
    *,
    run: CheckFunction | None = None,
    survey: SurveyFunction | None = None,
) -> Check:
    name = function.__name__
    try:
        explanation = parse_explanation(str(function.__globals__.get("__doc__") or ""))
    except (ValueError, IndexError) as error:
        raise ValueError(f"the docstring of check {name} {error}") from error
    return Check(
        id=name.replace("_", "-"),
        severity=severity,
        needs=frozenset(needs),
        explanation=explanation,
        run=run,
        survey=survey,
    )


def load_checks(package: str = "kvmdiag.checks") -> tuple[Check, ...]:
    """All checks of ``package``, by name of file: there is no list to keep.

    Raises:
        TypeError: a file has no check of its own name.

    """
    paths = importlib.import_module(package).__path__
    checks = []
    for module in sorted(pkgutil.iter_modules(paths), key=lambda module: module.name):
        loaded = importlib.import_module(f"{package}.{module.name}")
        found = getattr(loaded, module.name, None)
        if not isinstance(found, Check):
            raise TypeError(f"{package}.{module.name} has no check named {module.name}")
        checks.append(found)
    return tuple(checks)
