"""Entering a network namespace concerns one thread, and it always comes back."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from kvmdiag.errors import NotReadableError
from kvmdiag.model.stack import OWN_NETNS
from kvmdiag.system.namespaces import THREAD_NETNS, entered, identity


def _links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def test_a_new_socket_belongs_to_the_entered_namespace(namespaces):
    """Links that only exist there are seen there and nowhere else."""
    there = namespaces("there")
    there.ip("link add only0 type bridge")
    with entered(there.path):
        assert "only0" in _links()
    assert "only0" not in _links()


def test_the_namespace_is_left_again_after_an_error(namespaces):
    """An exception in the body does not leave the thread behind."""
    before = identity(THREAD_NETNS)
    there = namespaces()
    with pytest.raises(KeyError), entered(there.path):
        raise KeyError
    assert identity(THREAD_NETNS) == before


def test_other_threads_stay_where_they_are(namespaces):
    """While one thread is away, another one still sees its own namespace."""
    before = identity(THREAD_NETNS)
    seen = []
    away, looked = threading.Event(), threading.Event()

    def look() -> None:
        away.wait(5)
        seen.append(identity(THREAD_NETNS))
        looked.set()

    thread = threading.Thread(target=look)
    thread.start()
    with entered(namespaces().path):
        away.set()
        assert looked.wait(5)
    thread.join()
    assert seen == [before]


def test_nested_namespaces_are_left_one_by_one(namespaces):
    """Leaving the inner one leads back to the outer one."""
    outer, inner = namespaces("outer"), namespaces("inner")
    with entered(outer.path):
        with entered(inner.path):
            assert identity(THREAD_NETNS) == identity(inner.path)
        assert identity(THREAD_NETNS) == identity(outer.path)


def test_the_own_namespace_needs_no_entering():
    """OWN_NETNS changes nothing and works without rights."""
    before = identity(THREAD_NETNS)
    with entered(OWN_NETNS):
        assert identity(THREAD_NETNS) == before


def test_a_missing_namespace_is_named():
    """The message has the path and what to do."""
    with (
        pytest.raises(NotReadableError, match=r"no network namespace at /run/netns/.*ip netns"),
        entered("/run/netns/kvmdiag-there-is-none"),
    ):
        pass


def test_a_file_that_is_no_namespace_is_named(tmp_path):
    """A left-over file in /run/netns is not taken for a namespace."""
    stale = tmp_path / "stale"
    stale.touch()
    with pytest.raises(NotReadableError, match="is not a network namespace"), entered(str(stale)):
        pass


def test_without_rights_the_message_says_root(namespaces):
    """Another namespace cannot be entered by an ordinary user."""
    there = namespaces("there")
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            with entered(there.path):
                pass
        except NotReadableError as error:
            os._exit(7 if "root" in str(error) and there.path in str(error) else 8)
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
