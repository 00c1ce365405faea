"""The order of the rooms: a package imports only from those to its left, and Pyro, matplotlib and nibabel keep to theirs."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = [
    {"errors", "launch", "signals"},
    {"checks", "files", "progress"},
    {"safe_yaml"},
    {"settings"},
    {"distributions"},
    {"nn", "metrics"},
    {"kernels", "data"},
    {"sites"},
    {"priors"},
    {"likelihoods"},
    {"infer"},
    {"train"},
    {"transfer", "predict"},
    {"report"},
    {"intake", "timing"},
    {"runs", "mini"},
    {"experiments"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
ROOMS = {
    "pyro": {"mini", "distributions", "priors", "sites", "likelihoods", "infer", "train", "predict"},
    "matplotlib": {"report"},
    "nibabel": {"data/nifti.py"},
    "PIL": {"data/png.py"},
}
MODULE = re.compile(r"(pyro_dwp|guides|models|run|tests)(\.\w+)+")
FILES = sorted((ROOT / "pyro_dwp").rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, and those that it names in strings, docstrings aside."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE.fullmatch(node.value):
            names.add(node.value)
    return names


def room(path: Path) -> str:
    return path.relative_to(ROOT / "pyro_dwp").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_from_itself_and_those_to_its_left(path: Path) -> None:
    if path.parent == ROOT / "pyro_dwp" and path.name == "__init__.py":
        return
    here = room(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "pyro_dwp" and len(parts) > 1 and parts[1] in RANK and parts[1] != here:
            assert RANK[parts[1]] < RANK[here], f"{here} imports {name}"
        assert parts[0] not in ("models", "guides", "run", "tests"), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pyro_matplotlib_and_nibabel_stay_in_their_rooms(path: Path) -> None:
    tops = {name.split(".")[0] for name in imported(path)}
    where = {room(path), str(path.relative_to(ROOT / "pyro_dwp"))}
    for library, rooms in ROOMS.items():
        assert library not in tops or where & rooms


@pytest.mark.parametrize("path", sorted((ROOT / "guides").rglob("*.py")), ids=lambda path: path.name)
def test_guides_never_import_models(path: Path) -> None:
    assert not {name for name in imported(path) if name.split(".")[0] == "models"}


def test_nothing_unpickles() -> None:
    for path in [
        *FILES,
        *(ROOT / "models").rglob("*.py"),
        *(ROOT / "guides").rglob("*.py"),
        *(ROOT / "run").rglob("*.py"),
    ]:
        text = path.read_text()
        assert "pickle" not in imported(path), path
        assert "torch.load(" not in text, path
        assert "allow_pickle" not in text, path
