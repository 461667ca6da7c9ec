"""House rules that a machine can check."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for name in ("model", "harness") for path in (ROOT / name).rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]
MAX_LINES = 400
HEAVY = ("torch", "pandas", "matplotlib", "scipy", "pyarrow")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def test_there_are_files_to_check() -> None:
    assert {"model/clip_model.py", "harness/engine/run.py"} <= set(NAMES)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_model_knows_nothing_of_the_harness(path: Path) -> None:
    names = {module.split(".")[0] for module in imported_modules(path)}
    assert "" not in names, "relative import"
    assert "tests" not in names
    assert "benchmarks" not in names
    if path.is_relative_to(ROOT / "model"):
        assert "harness" not in names


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_names_say_what_is_inside(path: Path) -> None:
    vague = {"utils", "util", "misc", "helpers", "helper", "common", "core", "base", "stuff"}
    assert not vague & {part.lower() for part in path.relative_to(ROOT).with_suffix("").parts}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def public_definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Functions, classes and methods that others may call."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name.startswith("_") or node.name == "forward":  # the class says what it computes
                continue
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef) and not is_protocol(node):
                yield from public_definitions(node.body, f"{prefix}{node.name}.")


def is_protocol(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_public_names_have_docstrings(path: Path) -> None:
    tree = parsed(path)
    if tree.body:
        assert ast.get_docstring(tree), "the module"
    lacking = [
        name
        for name, node in public_definitions(tree.body)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not ast.get_docstring(node)
    ]
    assert lacking == []


def test_a_dry_run_imports_nothing_heavy(tmp_path: Path) -> None:
    """It answers in a second because it pays for none of these."""
    script = (
        "import sys\n"
        "from harness.command_line import sweep_command\n"
        "try:\n"
        "    sweep_command(sys.argv[1:])\n"
        "except SystemExit as ended:\n"
        "    assert not ended.code, ended.code\n"
        f"print('LOADED', sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    out = ["--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports")]
    done = subprocess.run(
        [sys.executable, "-c", script, "sweeps/table3a.yaml", "--scale", "tiny", "--dry-run", *out],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "8 trials: 8 trainings, 32 evaluations" in done.stdout
    assert done.stdout.splitlines()[-1] == "LOADED []"
    assert list(tmp_path.iterdir()) == []
