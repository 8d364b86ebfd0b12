"""The house keeps its measures: short modules, short functions, no unsafe calls."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MAX_MODULE, MAX_FUNCTION = 400, 60
BANNED_CALLS = {"eval", "exec", "compile", "__import__"}
BANNED_MODULES = {"pickle", "joblib", "cloudpickle", "dill", "shelve", "marshal"}


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_modules_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_MODULE
    for function in _functions(ast.parse(text)):
        assert function.end_lineno is not None
        length = function.end_lineno - function.lineno + 1
        assert length <= MAX_FUNCTION, f"{function.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_nothing_loads_code_from_data(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "").split(".")[0]]
        assert not BANNED_MODULES & set(names), node.lineno
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                assert node.func.id not in BANNED_CALLS, node.lineno
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle":
                    assert isinstance(keyword.value, ast.Constant)
                    assert keyword.value.value is False


def test_only_the_launcher_prints() -> None:
    for path in SOURCES:
        if "ares_launcher" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", f"{path}:{node.lineno}"


def test_test_modules_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


USERS_MEET = ("market/reading", "market/exchange", "market/stored", "market/timerange.py",
              "market/calendars.py", "market/files.py", "core/settings.py", "store/workspace.py")  # fmt: skip


def test_errors_that_a_person_meets_say_what_to_do() -> None:
    """Of files, exchanges, datasets and configurations; a list of choices is a remedy, too."""
    found = 0
    for path in SOURCES:
        if not str(path.relative_to(ROOT / "src" / "ares")).startswith(USERS_MEET):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            named = (
                node.func.id
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                else ""
            )
            if named not in {"DataError", "ConfigError", "InputError"}:
                continue
            assert isinstance(node, ast.Call)
            found += 1
            rule = ast.unparse(node.args[0])
            remedy = "remedy" in {keyword.arg for keyword in node.keywords}
            assert remedy or "must be one of" in rule, f"{path}:{node.lineno} {rule}"
    assert found > 100
