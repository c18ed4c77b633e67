"""Who may import whom, and what must not be imported at all. Reads the sources; runs nothing of them."""

import ast
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
    "engine": {"config", "errors", "kernels", "nn"},
    "saving": {"config", "errors", "files", "hub"},
    "loading": {"arch", "config", "engine", "errors", "hub", "nn"},
    "pickling": {"errors", "hub", "loading", "nn"},
    "tasks": {"config", "engine", "errors", "hub", "loading", "nn", "pickling", "sentence", "text", "checks"},
    "parity": {"arch", "config", "engine", "errors", "hub", "io", "loading", "nn", "tasks", "text", "checks"},
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
    },
    "inspect": {"arch", "config", "errors", "hub", "sentence", "text"},
    "io": {"errors", "files"},
    "console": {"errors"},
    "convert": {"arch", "errors", "files", "hub"},
    "cli": {"bench", "console", "convert", "engine", "errors", "files", "hub", "inspect", "io", "loading", "parity", "pictures"}
    | {"saliency", "search", "tasks", "text"},
    "integrations": {"errors", "hub", "tasks"},
    "__main__": {"cli"},
}
# The model needs its tokenizer and how to save itself, by name and at call time only: they are built on it.
LATE = {
    ("nn", "saving"),
    ("saving", "nn"),  # the type of what it saves
    ("nn", "text"),
    ("nn", "hub"),
    ("__init__", "loading"),
    ("__init__", "search"),
    ("__init__", "tasks"),
    ("__init__", "text"),
    ("__init__", "errors"),
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
                in {"nn", "engine", "saving", "loading", "tasks", "parity", "bench", "search", "saliency", "hf", "pickling"}
                or late
            ), f"{path} imports torch when it is imported"
        if package == "nativebert" and rest:
            theirs = rest.split(".")[0]
            if theirs == "__version__" or theirs == mine:
                continue
            allowed = theirs in MAY.get(mine, set()) or (late and (mine, theirs) in LATE)
            assert allowed, f"{path.relative_to(ROOT)} imports {module}: {mine} may import {sorted(MAY.get(mine, set()))}"


def test_rooms_have_no_circles() -> None:
    done: set[str] = set()
    while len(done) < len(MAY):
        ready = {name for name, needs in MAY.items() if name not in done and needs <= done}
        assert ready, f"a circle among {sorted(set(MAY) - done)}"
        done |= ready


def test_every_room_is_listed() -> None:
    rooms = {room(path) for path in (ROOT / "nativebert").rglob("*.py")} - {"__init__"}
    assert rooms == set(MAY)


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
