"""What is installed is what is in the folders: a forgotten subpackage vanishes without a word."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP_LEVEL = ("checks", "probes", "reports")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages_on_disk() -> dict[str, Path]:
    """Every folder with Python files, by the name it is imported by."""
    found = {}
    for top in ("kvmdiag", *TOP_LEVEL):
        for folder, below, files in os.walk(ROOT / top):
            below[:] = [name for name in below if name != "__pycache__"]
            if any(name.endswith(".py") for name in files):
                path = Path(folder).relative_to(ROOT)
                parts = path.parts if top == "kvmdiag" else ("kvmdiag", *path.parts)
                found[".".join(parts)] = path
    return found


def test_every_folder_is_listed_as_a_package():
    """The list in pyproject.toml is the folders that hold Python files, sorted, no more."""
    assert PYPROJECT["tool"]["setuptools"]["packages"] == sorted(packages_on_disk())


def test_every_package_has_an_init_file():
    """A folder without one would be a namespace package, which type checkers treat apart."""
    without = [
        str(p) for p in packages_on_disk().values() if not (ROOT / p / "__init__.py").exists()
    ]
    assert without == []


def test_top_level_folders_are_mapped_into_the_package():
    """The mapping names the three folders beside the engine, and their links agree with it."""
    mapping = PYPROJECT["tool"]["setuptools"]["package-dir"]
    assert mapping == {"kvmdiag": "kvmdiag"} | {f"kvmdiag.{top}": top for top in TOP_LEVEL}


@pytest.mark.parametrize("top", TOP_LEVEL)
def test_links_serve_uninstalled_runs(top):
    """kvmdiag/checks and the like are relative links, so that they survive a move."""
    assert (ROOT / "kvmdiag" / top).readlink() == Path("..", top)


def test_all_folders_are_measured_by_coverage():
    """The links do not hide the top-level folders from coverage."""
    assert PYPROJECT["tool"]["coverage"]["run"]["source"] == ["kvmdiag", *TOP_LEVEL]


def test_the_wheel_holds_every_file_and_the_licence(tmp_path):
    """Built for real, from a copy: each file on disk is in the wheel, under its import name."""
    source, output = tmp_path / "source", tmp_path / "output"
    output.mkdir()
    for folder in ("kvmdiag", *TOP_LEVEL):
        shutil.copytree(
            ROOT / folder,
            source / folder,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)

    build = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, str(output)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]

    (wheel,) = output.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        "/".join((*package.split("."), file.name))
        for package, folder in packages_on_disk().items()
        for file in (source / folder).iterdir()
        if file.is_file()
    }
    metadata = {name for name in inside if ".dist-info/" in name}
    assert inside - metadata == expected
    assert any(name.endswith("licenses/LICENSE") for name in metadata)
    assert any(name.endswith("entry_points.txt") for name in metadata)
