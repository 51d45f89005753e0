"""Running programs inside a guest: several at once, each found in the usual folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvmdiag.collect.guest.agent import Agent, AgentError, AgentRefuses, Ran

_FOLDERS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")


class Programs:
    """The programs of one guest, by their names; a folder that has one is remembered."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._paths: dict[str, str] = {}

    def run_all(
        self, asked: Mapping[str, tuple[str, Sequence[str]]]
    ) -> dict[str, Ran | AgentError]:
        """Start several programs at once and wait for all."""
        done: dict[str, Ran | AgentError] = {}
        started: dict[str, int] = {}
        for key, (program, arguments) in asked.items():
            try:
                started[key] = self._start(program, arguments)
            except AgentError as error:
                done[key] = error
        for key, pid in started.items():
            try:
                done[key] = self._agent.result(pid)
            except AgentError as error:
                done[key] = error
        return done

    def run(self, program: str, arguments: Sequence[str]) -> str:
        """What a program prints.

        Raises:
            AgentError: it is not there, or failed.

        """
        return printed(self._agent.result(self._start(program, arguments)))

    def _start(self, program: str, arguments: Sequence[str]) -> int:
        """Start a program from the first folder that has it."""
        known = self._paths.get(program)
        if known is not None:
            return self._agent.start(known, arguments)
        for folder in _FOLDERS:
            try:
                pid = self._agent.start(f"{folder}/{program}", arguments)
            except AgentRefuses:
                continue
            self._paths[program] = f"{folder}/{program}"
            return pid
        raise AgentRefuses(f"{program} is not installed in the guest, or may not be run")


def printed(ran: Ran | AgentError) -> str:
    """What a program printed.

    Raises:
        AgentError: it could not be run, or failed.

    """
    if isinstance(ran, AgentError):
        raise ran
    if ran.code:
        complaint = (ran.complaint.strip() or "no message").splitlines()[0]
        raise AgentRefuses(f"a program in the guest failed: {complaint}")
    return ran.out
