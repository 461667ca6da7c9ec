"""Code versions: what counts as code, and that no file which decides a number is forgotten."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness import provenance
from harness.provenance import (
    EVALUATION_CODE,
    PACKAGES,
    PROJECT,
    SCORE_CODE,
    TRAINING_CODE,
    code_only,
    code_version,
)

NOT_TRAINING = {
    "harness/config.py": "defaults reach the identity as values of the resolved configuration",
    "model/__init__.py": "names only, and a call of the listed clip_model.py",
    "model/array_pickles.py": "arrays of a pickle, bit for bit (test_checkpoint)",
    "model/errors.py": "an exception",
    "model/weight_files.py": "moves tensors between memory and files, exactly (test_checkpoint, test_train)",
    "model/whole_file.py": "puts files in place, whole, with the bytes it was given",
}
NOT_EVALUATION = {
    **NOT_TRAINING,
    "harness/control_groups.py": "how many frames are kept; clips are the same (test_frame_cache)",
    "harness/metrics.py": "names only",
    "harness/loggers.py": "carries numbers out; a training is the same without (test_loggers)",
    "harness/provenance.py": "describes a result, decides none",
}
PACKAGE_FILES = {"harness/__init__.py", "harness/data/__init__.py"}

SOURCE = '''"""Module."""
import os  # why


@decorated
class Shape(Base):
    """A shape."""

    sides: int = 3
    """How many."""

    def area(self) -> float:
        # by hand
        text = """one
    two # no comment"""
        return self.sides * len(text)
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Module."""\n', ""),
        ("  # why", ""),
        ("# why", "# another reason"),
        ('    """A shape."""\n\n', ""),
        ('"""How many."""', '"""How\n\n    many # sides\n    it has."""'),
        ("        # by hand\n", "\n\n"),
        ("\n\n@decorated", "\n\n\n\n# decorators\n@decorated"),
        ("float:\n", "float:   # square metres\n"),
    ],
)
def test_comments_docstrings_and_blank_lines_do_not_count(old: str, new: str) -> None:
    assert old in SOURCE
    assert code_only(SOURCE.replace(old, new, 1)) == code_only(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("= 3", "= 4"),
        ("import os", "import sys"),
        ("@decorated\n", ""),
        ("self.sides *", "self.sides +"),
        ("# no comment", "# no  comment"),
        ("one\n", "one\n\n"),
        ("one\n", "one  \n"),
        ("        return", "    return"),
    ],
)
def test_everything_else_counts(old: str, new: str) -> None:
    assert old in SOURCE
    assert code_only(SOURCE.replace(old, new, 1)) != code_only(SOURCE)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('class A(ValueError): "doc"', 'class A(OSError): "doc"'),
        ("def f(a): ...", "def f(b): ..."),
        ('def f():\n    "é"; return 1', 'def f():\n    "é"; return 2'),
        ('s = f"""\n{x}\n\n"""', 's = f"""\n{x}\n"""'),
    ],
)
def test_code_beside_a_docstring_counts(first: str, second: str) -> None:
    assert code_only(first) != code_only(second)


def test_code_version_follows_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PROJECT", tmp_path)

    def version_of(**files: str) -> str:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        provenance.code_version.cache_clear()
        return code_version(("a.py", "b.py"))

    try:
        plain = version_of(a="x = 1\n", b="y = 2\n")
        assert version_of(a="# new\nx = 1  # one\n") == plain
        assert version_of(a="x = 2\n") != plain
        assert version_of(a="x = 1\n") == plain
        assert version_of(b="y = 3\n") != plain
        assert version_of(a="y = 2\n", b="x = 1\n") != plain, "which file holds what counts"
    finally:
        provenance.code_version.cache_clear()


def test_listed_files_are_there_once() -> None:
    listed = (*TRAINING_CODE, *EVALUATION_CODE)
    assert len(set(listed)) == len(listed)
    for name in listed:
        assert (PROJECT / name).is_file(), name


def imported_from(start: str) -> set[str]:
    """Files of the project that ``start`` imports, directly or not, wherever the import stands."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for node in ast.walk(ast.parse((PROJECT / name).read_text(encoding="utf-8"))):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: relative imports are not followed here"
                modules = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            for module in modules:
                path = Path(*module.split("."))
                waiting += [
                    file.as_posix()
                    for file in (path.with_suffix(".py"), path / "__init__.py")
                    if module and (PROJECT / file).is_file()
                ]
    return found - PACKAGE_FILES


def test_all_code_that_trains_is_in_the_identity() -> None:
    imported = imported_from("harness/train.py")
    assert "model/attention.py" in imported, "the walk follows imports of imports"
    assert imported - set(TRAINING_CODE) - set(NOT_TRAINING) == set()
    assert set(TRAINING_CODE) - imported == set(), "listed, but no training runs it"


def test_all_code_that_evaluates_is_in_the_identity() -> None:
    imported = imported_from("harness/trial.py")
    listed = {*TRAINING_CODE, *EVALUATION_CODE}
    scored = {name for files in SCORE_CODE.values() for name in files}
    assert imported - listed - scored - set(NOT_EVALUATION) == set()
    assert scored <= imported
    assert not scored & listed, "of records that say their own code version"
    assert listed - imported == set(), "listed, but no trial runs it"
    assert set(NOT_EVALUATION) <= imported, "an exception that is none any more"


def test_machine_names_every_package_a_number_depends_on() -> None:
    host = provenance.machine()
    assert {f"{name}_version" for name in PACKAGES} <= set(host)
    assert all(host.values())
    assert provenance.hardware("cpu") == f"{host['cpu']}, {host['cpu_count']} cores"


INTEL = "model name\t: Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz"


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ((INTEL, "flags\t\t: fpu sse avx avx2 avx512f"), f"{INTEL.split(': ')[1]}, AVX-512"),
        ((INTEL, "flags\t\t: avx avx2 avx512f avx512_bf16 amx_bf16"), f"{INTEL.split(': ')[1]}, AMX"),
        (
            ("cpu family\t: 25", "model\t\t: 1", "model name\t: AMD EPYC", "flags\t\t: avx avx2"),
            "AMD EPYC (family 25 model 1), AVX2",
        ),
        (
            (
                "cpu family\t: 25",
                "model\t\t: 17",
                "model name\t: AMD EPYC",
                "flags\t: avx2 avx512f avx512_bf16",
            ),
            "AMD EPYC (family 25 model 17), AVX-512 with bf16",
        ),
        (("model name\t: Old CPU 1", "flags\t\t: sse"), "Old CPU 1"),
    ],
)
def test_processors_that_round_differently_have_different_names(
    lines: tuple[str, ...], name: str, tmp_path: Path
) -> None:
    info = tmp_path / "cpuinfo"
    one = "\n".join(("processor\t: 0", *lines))
    info.write_text(f"{one}\n\n{one.replace(': 0', ': 1', 1)}\n")
    assert provenance.cpu_name(info) == name


def test_a_processor_that_says_nothing_still_has_a_name(tmp_path: Path) -> None:
    assert provenance.cpu_name(tmp_path / "none")
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd\n\n")
    assert provenance.cpu_name(tmp_path / "arm") == provenance.cpu_name(tmp_path / "none")


def test_git_state_outside_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PROJECT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    nothing = {"git_commit": None, "git_dirty": None, "git_diff_hash": None}
    assert provenance.git_state() == nothing
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_state() == nothing, "no git at all"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, and the project in a folder of it."""
    project = tmp_path / "repository" / "project"
    project.mkdir(parents=True)
    for name in ("a.py", "b.py"):
        (project / name).write_text(f"{name} = 1\n")
    (project / ".gitignore").write_text("ignored/\n")
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "First"]):
        subprocess.run(["git", *command], cwd=project.parent, check=True)
    monkeypatch.setattr(provenance, "PROJECT", project)
    return project


def state_of(checkout: Path) -> tuple[str, bool, str | None]:
    state = provenance.git_state()
    return state["git_commit"], state["git_dirty"], state["git_diff_hash"]


def test_a_clean_checkout_has_a_commit_alone(checkout: Path) -> None:
    (checkout / "ignored").mkdir()
    (checkout / "ignored" / "results.json").write_text("1")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True)
    assert state_of(checkout) == (head.stdout.strip(), False, None)


def changes() -> dict[str, Callable[[Path], object]]:
    return {
        "changed": lambda project: (project / "a.py").write_text("a = 2\n"),
        "changed otherwise": lambda project: (project / "a.py").write_text("a = 3\n"),
        "executable": lambda project: (project / "a.py").chmod(0o755),
        "removed": lambda project: (project / "a.py").unlink(),
        "moved": lambda project: (project / "a.py").rename(project / "c.py"),
        "new": lambda project: (project / "new\nline é.py").write_text("a = 2\n"),
        "new, elsewhere": lambda project: (project / "n.py").write_text("a = 2\n"),
        "new link": lambda project: (project / "n.py").symlink_to("a.py"),
        "above the project": lambda project: (project.parent / "setup.py").write_text("a = 2\n"),
        "large": lambda project: (project / "n.bin").write_bytes(bytes(2**20 + 1)),
        "larger": lambda project: (project / "n.bin").write_bytes(bytes(2**20 + 2)),
    }


def test_every_change_has_a_hash_of_its_own(checkout: Path) -> None:
    clean = state_of(checkout)
    seen: dict[str | None, str] = {clean[2]: "clean"}
    for name, change in changes().items():
        change(checkout)
        commit, dirty, diff = state_of(checkout)
        assert (commit, dirty) == (clean[0], True), name
        assert diff not in seen, f"{name} looks like {seen[diff]}"
        assert state_of(checkout)[2] == diff, "the same again"
        subprocess.run(["git", "add", "--all", ":/"], cwd=checkout, check=True)
        assert state_of(checkout)[2] == diff, f"{name}: staged or not, the files are the same"
        seen[diff] = name
        subprocess.run(["git", "reset", "-q", "--hard"], cwd=checkout, check=True)
        assert state_of(checkout) == clean


def test_a_slow_git_is_not_waited_for(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(provenance, "GIT_SECONDS", 0.2)
    started = time.monotonic()
    assert set(provenance.git_state().values()) == {None}
    assert time.monotonic() - started < 10


def test_packages_are_all_that_is_installed() -> None:
    found = provenance.packages()
    for name in (*PACKAGES, "pytest", "typing-extensions"):
        assert found[name] == importlib.metadata.version(name)
    assert list(found) == sorted(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n",
            "550.54.15",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n", "580.95.05"),
        ("470.103\n470.103\n", "470.103"),
        ("No devices were found\n", None),
    ],
)
def test_the_driver_says_its_version(text: str, expected: str | None) -> None:
    assert provenance.driver_of(text) == expected


def test_determinism_follows_the_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    before = provenance.determinism()
    assert "deterministic_algorithms=off" in before
    assert "float32_matmul_precision=highest" in before
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    after = provenance.determinism()
    assert "cudnn.deterministic=on" in after
    assert after.endswith("CUBLAS_WORKSPACE_CONFIG=:4096:8")
    assert f"cpu_capability={torch.backends.cpu.get_cpu_capability()}" in after
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert provenance.determinism().endswith(" ONEDNN_MAX_CPU_ISA=AVX2")


def test_device_hours() -> None:
    assert provenance.device_hours(1800, 4) == 2
