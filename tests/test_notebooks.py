"""examples/notebooks: their cells run in order, and the last line of each can be shown."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from models import one_thread

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples" / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = 0
    with one_thread():
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            if cell["cell_type"] != "code":
                continue
            program = ast.parse("".join(cell["source"]), path.name)
            last = program.body.pop() if program.body and isinstance(program.body[-1], ast.Expr) else None
            exec(compile(program, path.name, "exec"), names)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), path.name, "eval"), names)  # type: ignore[attr-defined]
                if value is not None:
                    shown += 1
                    assert value is not False  # as where bits are compared
                    assert repr(value)
                    getattr(value, "_repr_html_", lambda: None)()
    assert shown > 0


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) == 4
