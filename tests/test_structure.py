"""Who may import whom, and what must not be imported at all. Reads the sources; runs nothing of them."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each room with the rooms it may import from; docs/architecture.md draws the same. A room is a file or a folder of nativebert.
MAY = {
    "errors": set(),
    "checks": {"errors"},
    "files": {"errors"},
    "config": {"checks", "errors"},
    "arch": {"config", "errors"},
    "hub": {"errors", "files"},
    "text": {"arch", "checks", "errors", "files"},
    "sentence": {"checks", "config", "errors", "hub"},
    "forking": set(),
    "nn": {"config", "errors", "forking"},
    "kernels": {"errors"},
    "engine": {"checks", "config", "errors", "kernels", "nn"},
    "initialization": {"arch", "config", "errors", "nn"},
    "saving": {"config", "errors", "files", "hub", "nn"},
    "adapters": {"arch", "config", "errors", "files", "hub"},
    "loading": {
        "adapters",
        "arch",
        "checks",
        "config",
        "engine",
        "errors",
        "files",
        "hub",
        "initialization",
        "nn",
        "saving",
        "text",
    },
    "pickling": {"errors", "hub", "loading", "nn"},
    "tasks": {"adapters", "config", "engine", "errors", "hub", "loading", "nn", "pickling", "sentence", "text", "checks"},
    "train": {
        "arch",
        "checks",
        "config",
        "engine",
        "errors",
        "files",
        "hub",
        "io",
        "kernels",
        "loading",
        "nn",
        "pickling",
        "saving",
    }
    | {"console", "sentence", "tasks", "text"},
    "parity": {
        "arch",
        "config",
        "console",
        "engine",
        "errors",
        "hub",
        "io",
        "loading",
        "nn",
        "pictures",
        "tasks",
        "text",
        "checks",
    },
    "bench": {"config", "engine", "errors", "hub", "kernels", "loading", "nn", "tasks", "text", "checks"},
    "search": {"errors", "forking", "checks"},
    "saliency": {"errors", "loading", "nn", "checks"},
    "pictures": {"errors", "io", "loading", "nn", "checks"},
    "hf": {
        "arch",
        "checks",
        "config",
        "engine",
        "errors",
        "files",
        "hub",
        "loading",
        "nn",
        "pickling",
        "saving",
        "search",
        "sentence",
        "tasks",
        "text",
        "train",
    },
    "r": {"checks", "errors", "hub", "io", "loading", "search", "tasks", "text", "train"},
    "inspect": {"adapters", "arch", "config", "errors", "hub", "sentence", "text"},
    "io": {"errors", "files"},
    "console": {"errors"},
    "convert": {"arch", "errors", "files", "hub"},
    "jobs": {"checks", "errors", "files", "io", "search", "tasks", "text"},
    "analysis": {"checks", "errors", "jobs", "search", "tasks", "train"},
    "serve": {"errors", "tasks"},
    "cli": {"bench", "console", "convert", "engine", "errors", "files", "hub", "inspect", "io", "loading", "parity", "pictures"}
    | {"analysis", "jobs", "kernels", "saliency", "search", "sentence", "serve", "tasks", "text", "train"},
    "integrations": {"errors", "hub", "tasks"},
    "__main__": {"cli"},
    "__init__": {"hf", "pictures", "config", "errors", "jobs", "loading", "search", "tasks", "text", "train"},
}


def imports(path: Path) -> list[tuple[str, bool]]:
    """(module, whether it is imported only inside a function or for type checking)."""
    found = []

    def walk(node: ast.AST, late: bool) -> None:
        for child in ast.iter_child_nodes(node):
            guard = isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"
            inner = late or guard or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            if isinstance(child, ast.Import):
                found.extend((alias.name, late) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                names = [f"{child.module}.{alias.name}" for alias in child.names]
                found.extend((name, late) for name in names)
            walk(child, inner)

    walk(ast.parse(path.read_text("utf-8")), False)
    return found


SOURCES = sorted([*(ROOT / "nativebert").rglob("*.py"), *(ROOT / "weights_map").rglob("*.py")])


def room(path: Path) -> str:
    inside = path.relative_to(ROOT / "nativebert").parts
    return inside[0].removesuffix(".py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_follow_the_order_of_the_rooms(path: Path) -> None:
    for module, late in imports(path):
        package, _, rest = module.partition(".")
        if path.is_relative_to(ROOT / "weights_map"):
            assert package != "nativebert", f"{path.name} imports {module}: weights_map knows nothing of nativebert"
            assert package != "torch" or path.name == "torch.py", f"{path.name} imports torch: only torch.py may"
            continue
        mine = room(path)
        if package == "transformers":
            assert mine == "parity", f"{path} imports transformers: only parity may"
        if package == "torch":
            assert (
                mine
                in {
                    "nn",
                    "engine",
                    "initialization",
                    "saving",
                    "loading",
                    "tasks",
                    "parity",
                    "bench",
                    "search",
                    "saliency",
                    "hf",
                    "pickling",
                    "train",
                }
                or late
            ), f"{path} imports torch when it is imported"
        if package == "nativebert" and rest:
            theirs = rest.split(".")[0]
            if theirs == "__version__" or theirs == mine:
                continue
            assert theirs in MAY[mine], f"{path.relative_to(ROOT)} imports {module}: {mine} may import {sorted(MAY[mine])}"


def test_rooms_have_no_circles() -> None:
    done: set[str] = set()
    while len(done) < len(MAY):
        ready = {name for name, needs in MAY.items() if name not in done and needs <= done}
        assert ready, f"a circle among {sorted(set(MAY) - done)}"
        done |= ready


def test_every_room_is_listed() -> None:
    rooms = {room(path) for path in (ROOT / "nativebert").rglob("*.py")}
    assert rooms == set(MAY)


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined(tree: ast.AST) -> set[str]:
    """Private names that a file defines: functions, classes, variables, and attributes that are assigned or declared."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return set(filter(private, names))


def private_names_of_others(sources: dict[Path, str]) -> list[str]:
    """Uses of a name with an underscore that another room defines, and the room itself does not: ``file:line name``."""
    trees = {path: ast.parse(source) for path, source in sources.items()}
    names: dict[str, set[str]] = {}
    for path, tree in trees.items():
        names.setdefault(room(path), set()).update(defined(tree))
    uses = []
    for path, tree in trees.items():
        others = set().union(*(theirs for name, theirs in names.items() if name != room(path))) - names[room(path)]
        for node in ast.walk(tree):
            used = [node.attr] if isinstance(node, ast.Attribute) else []
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nativebert"):
                used = [alias.name for alias in node.names]
            uses += [f"{path.relative_to(ROOT)}:{node.lineno} {name}" for name in used if name in others]
    return uses


def test_no_room_uses_private_names_of_another() -> None:
    """What another room needs is public. Of objects of other packages (``namedtuple._replace``) nothing is known here."""
    sources = {path: path.read_text("utf-8") for path in (ROOT / "nativebert").rglob("*.py")}
    assert private_names_of_others(sources) == []
    # and such a use would be seen: of an attribute, through self in a subclass, and imported
    tasks, other = ROOT / "nativebert/tasks/base.py", ROOT / "nativebert/bench.py"
    for use in (
        "task._run(0)",
        "class A(Task):\n    def f(self): self._sequence_rows()",
        "from nativebert.tasks.base import _SHRINKING",
    ):
        assert private_names_of_others({tasks: sources[tasks], other: use}), use


def test_nothing_is_unpickled() -> None:
    """But for `nativebert convert`, which is asked for by name: there torch.load reads weights and nothing else."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called == "torch.load" and path == ROOT / "nativebert" / "convert.py":
                assert {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only") == "True", path
                continue
            assert called not in {"torch.load", "pickle.load", "pickle.loads", "eval", "exec"}, path


# -------------------------------------------------------------------- weights_map

# Each module of weights_map with the modules it may import.
WEIGHTS_MAP_MAY = {
    "errors": set(),
    "rows": set(),
    "template": {"errors"},
    "rules": {"errors", "template"},
    "files": {"errors"},
    "safetensors": {"errors", "files"},
    "eightbit": {"errors", "safetensors"},
    "report": {"rows", "safetensors", "template"},
    "mapping": {"errors", "rules", "safetensors", "template"},
    "ledger": {"eightbit", "errors", "mapping", "report", "rows", "safetensors"},
    "matching": {"eightbit", "ledger", "mapping", "rows", "rules", "safetensors"},
    "torch": {"eightbit", "errors", "ledger", "mapping", "safetensors"},
    "__main__": {"errors", "files", "ledger", "mapping", "matching", "report", "safetensors"},
}
WEIGHTS_MAP_TYPES = {("report", "ledger")}  # imported for type checking only


def test_weights_map_has_no_circles() -> None:
    TopologicalSorter(WEIGHTS_MAP_MAY).prepare()
    assert {path.stem for path in (ROOT / "weights_map").glob("*.py")} == set(WEIGHTS_MAP_MAY) | {"__init__"}


@pytest.mark.parametrize("module", sorted(WEIGHTS_MAP_MAY))
def test_imports_follow_the_order_of_weights_map(module: str) -> None:
    path = ROOT / "weights_map" / f"{module}.py"
    for name, late in imports(path):
        package, _, rest = name.partition(".")
        if package == "weights_map":
            other = rest.partition(".")[0]
            assert other in WEIGHTS_MAP_MAY[module] or (late and (module, other) in WEIGHTS_MAP_TYPES), (
                f"{module} imports {name}"
            )
    functions = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef))
    late_imports = [
        node for function in functions for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not late_imports, f"{module} imports inside a function"
