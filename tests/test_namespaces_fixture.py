"""The shared namespaces fixture: real, apart from each other, and gone afterwards."""

from pathlib import Path

import pytest

from kvmdiag.lab import state


def test_a_namespace_is_real_and_can_be_cabled(namespaces, eventually):
    """Two namespaces on one cable reach each other."""
    left, right = namespaces("left"), namespaces("right")
    left.cable("eth0", right, "eth0")
    left.ip("addr add 192.0.2.1/24 dev eth0", "link set eth0 up")
    right.ip("addr add 192.0.2.2/24 dev eth0", "link set eth0 up")

    def reached():
        return left.run("ping -c1 -W1 192.0.2.2", check=False).returncode == 0

    eventually(reached, "no answer over the cable")


def test_a_failing_command_fails_the_test_with_its_own_words(namespaces):
    """The message is what the program said, not a bare exit code."""
    with pytest.raises(pytest.fail.Exception, match="does not exist"):
        namespaces("a").run("ip link show dev nothing0")


def test_sysctls_are_the_namespace_s_own(namespaces):
    """Setting one namespace's sysctl leaves the other's alone."""
    one, two = namespaces("one"), namespaces("two")
    before = two.sysctl("net.ipv4.ip_forward")
    assert one.sysctl("net.ipv4.ip_forward", 1) == "1"
    assert two.sysctl("net.ipv4.ip_forward") == before


@pytest.fixture
def project(pytester, request):
    """A project of its own that has these fixtures."""
    for name in ("conftest.py", "reaper.py"):
        text = Path(request.config.rootpath, "tests", name).read_text()
        pytester.path.joinpath(name).write_text(text)
    return pytester


@pytest.mark.kernel
def test_nothing_is_left_when_a_test_fails(project):
    """Namespaces and the programs in them are gone even when the test that made them failed."""
    project.makepyfile(
        """
        from pathlib import Path

        def test_fails(namespaces):
            namespace = namespaces("doomed")
            program = namespace.start("sleep 60")
            Path("made").write_text(f"{namespace.path} {program.pid}")
            raise AssertionError
        """
    )
    project.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    path, pid = project.path.joinpath("made").read_text().split()
    assert not Path(path).exists()
    assert not Path("/proc", pid).exists()


@pytest.mark.kernel
def test_nothing_is_left_when_the_tests_are_killed(project, eventually):
    """SIGKILL leaves no time for clean-up: practice networks and namespaces go all the same."""
    project.makepyfile(
        """
        import os, signal
        from pathlib import Path
        from kvmdiag.lab import manager

        def test_is_killed(namespaces):
            namespace = namespaces("doomed")
            program = namespace.start("sleep 60")
            label = manager.up("cluster", label=f"doomed{os.getpid()}")
            Path("made").write_text(f"{namespace.path} {program.pid} {label}")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    project.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    path, pid, label = project.path.joinpath("made").read_text().split()

    def gone():
        left = [Path(path), Path("/proc", pid), *Path(path).parent.glob(f"kvmdiag-{label}-*")]
        return not any(each.exists() for each in left) and state.read(label) is None

    eventually(gone, "the reaper did not come", seconds=60)
