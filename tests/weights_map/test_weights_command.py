"""Reports, the command line, and rules of the package: torch in one module only, public names, errors with data."""

from __future__ import annotations

import ast
import json
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from map_samples import Blob, bert, bert_tensors, put, put_shards

import weights_map
from weights_map import Checkpoint, Ledger, WeightMap, __main__, match, report, tensor

PACKAGE = Path(weights_map.__file__).parent


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    tensors = bert_tensors(12) | {
        "a|b\x1b[31m\n": Blob.of((2,)),
        "bert.encoder.layer.14.output.dense.bias": Blob.of((4,)),
    }
    return match(bert(), Checkpoint.open(put(tmp_path / "m.safetensors", tensors)))


# -------------------------------------------------------------------- reports


def test_the_table_folds_layers_and_keeps_gaps_visible(ledger: Ledger) -> None:
    lines = str(ledger).splitlines()
    assert lines[2].split() == ["source", "target", "shape", "dtype", "count", "status", "note"]
    (line,) = [line for line in lines if "output.dense.bias" in line]
    assert line.split() == [
        "bert.encoder.layer.{0-11,14}.output.dense.bias",
        "layers.{0-11,14}.mlp.down.bias",
        "4",
        "F32",
        "x13",
        "loaded",
    ]
    columns = [line.index("F32") for line in lines if " F32 " in line]
    assert len(set(columns)) == 1  # aligned
    assert lines[-1] == "79 loaded, 1 unexpected"
    assert sum(int(line.split(" x")[-1].split()[0]) for line in lines if " F32 " in line) == 80
    assert len(report.text(ledger, every=True).splitlines()) == 80 + 6


def test_names_from_a_file_cannot_write_to_the_terminal(ledger: Ledger) -> None:
    for text in (report.text(ledger), report.markdown(ledger), ledger.explain("a|b\x1b[31m\n")):
        assert "\x1b" not in text
        assert r"\x1b[31m\n" in text


def test_markdown_is_a_table(ledger: Ledger) -> None:
    lines = [line for line in report.markdown(ledger).splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {8}
    assert set(lines[1]) == set("| -")


def test_json_has_every_row_and_is_stable(ledger: Ledger) -> None:
    text = report.as_json(ledger)
    content = json.loads(text)
    assert content["counts"] == {"loaded": 79, "unexpected": 1}
    assert content["dims"] == {"F": 6, "H": 4, "P": 5, "V": 11}
    assert [tuple(row["sources"]) for row in content["rows"]] == [row.sources for row in ledger.rows]
    assert text == report.as_json(match(bert(), ledger.checkpoint))
    assert json.loads(report.as_json(match(WeightMap("none", []), ledger.checkpoint, wanted=[])))["dims"] == {}


@pytest.mark.parametrize(("numbers", "text"), [([0], "0"), ([2, 0, 1], "0-2"), ([0, 1, 3, 5, 6], "0-1,3,5-6"), ([], "")])
def test_ranges(numbers: list[int], text: str) -> None:
    assert report.ranges(numbers) == text


def test_an_empty_file_has_a_report_too(tmp_path: Path) -> None:
    ledger = match(bert(), Checkpoint.open(put(tmp_path / "e.safetensors", {})))
    for render in (report.text, report.markdown, report.as_json):
        assert render(ledger)
        assert render(ledger.checkpoint)
    assert bert().covers(ledger.checkpoint) == 0.0


# -------------------------------------------------------------------- the command line


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> object:
        raise ImportError("no such module")

    known = {
        "bert": bert,
        "small": lambda: WeightMap("small", [tensor("extra", "extra", "N")]),
        "broken": broken,
        "odd": int,
    }
    entries = [SimpleNamespace(name=name, load=load) for name, load in known.items()]
    monkeypatch.setattr(__main__, "entry_points", lambda group: entries if group == "weights_map.families" else [])


@pytest.mark.usefixtures("installed")
def test_the_command_finds_the_family_that_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(tmp_path / "m.safetensors", bert_tensors() | {"extra": Blob.of((1,))}, metadata={"format": "pt"})
    assert __main__.main([str(path)]) == 0
    out, err = capsys.readouterr()
    assert "embed.token.weight" in out and "metadata" in out and "format=pt" in out and " as bert;" in out  # noqa: PT018
    assert err == "weights_map: family 'broken' is left out: ImportError: no such module\n"
    assert __main__.main([str(path), "--family", "small", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["map"] == "small"
    assert __main__.main([str(path), "--format", "markdown", "--all"]) == 0
    assert "| bert.encoder.layer.2.output.dense.bias | layers.2.mlp.down.bias |" in capsys.readouterr().out
    assert __main__.main([str(path), "--family", "gpt"]) == 2
    assert "family 'gpt' is not installed; installed are bert, small" in capsys.readouterr().err


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_a_file_of_no_family_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    put_shards(tmp_path, [{"w.0": Blob.of((2, 3))}, {"w.1": Blob.of((2, 3), "F16")}])
    assert __main__.main([str(tmp_path), "--format", form]) == 0
    out = capsys.readouterr().out
    assert "w.0" in out and "F16" in out and "model-00002-of-00002.safetensors" in out  # noqa: PT018
    assert "unexpected" not in out


def run(*arguments: str) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONIOENCODING": "ascii"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)


def test_an_error_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"<html>")
    done = run("-m", "weights_map", str(tmp_path / "bad.safetensors"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("weights_map: ")
    assert "HTML" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_is_quick_and_imports_no_torch(tmp_path: Path) -> None:
    path = put(tmp_path / "m.safetensors", bert_tensors() | {"ü": Blob.of((1,))})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = f"""
import sys
from weights_map.__main__ import main
code = main([{str(path)!r}])
assert "torch" not in sys.modules
sys.exit(code)
"""
    done = run("-c", code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "bert.embeddings.LayerNorm.bias" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


# -------------------------------------------------------------------- the package


@pytest.mark.parametrize("file", sorted(PACKAGE.glob("*.py")), ids=lambda file: file.name)
def test_only_two_modules_need_numpy_or_torch(file: Path) -> None:
    roots = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute: a module here is called safetensors, another torch"
            roots.add((node.module or "").split(".")[0])
    allowed = {"weights_map", "safetensors"} | {"torch.py": {"torch"}, "eightbit.py": {"numpy"}}.get(file.name, set())
    assert roots - set(sys.stdlib_module_names) <= allowed


def test_public_names_exist() -> None:
    assert all(hasattr(weights_map, name) for name in weights_map.__all__)
    assert sorted(weights_map.__all__) == weights_map.__all__


def test_old_names_are_aliases(tmp_path: Path) -> None:
    for old in ("BadFile", "BadRule", "BadTensor", "Mismatch", "UnknownName"):
        assert getattr(weights_map, old) is getattr(weights_map.errors, old) is getattr(weights_map, f"{old}Error")
    assert weights_map.Ambiguous is weights_map.errors.Ambiguous is weights_map.AmbiguousRuleError
    checkpoint = Checkpoint.open(put(tmp_path / "m.safetensors", bert_tensors()))
    assert bert().on(checkpoint, dims={"H": 4}).rows == match(bert(), checkpoint, dims={"H": 4}).rows  # type: ignore[attr-defined]


def test_errors_carry_data(tmp_path: Path) -> None:
    path = put(tmp_path / "m.safetensors", bert_tensors())
    ledger = match(bert(), Checkpoint.open(path), wanted=["head.out.bias", "embed.token.weight"], dims={"V": 9})
    with pytest.raises(weights_map.MismatchError) as mismatch:
        ledger.check(unexpected="*.layer.*")
    assert mismatch.value.ledger is ledger
    assert {row.status for row in mismatch.value.rows} == {"missing", "shape", "unexpected"}
    assert not [row for row in mismatch.value.rows if "layer" in str(row.sources)]
    assert {"head.out.bias", "embed.token.weight", "pool.dense.bias"} & set(mismatch.value.names) == {
        "head.out.bias",
        "embed.token.weight",
    }
    with pytest.raises(weights_map.UnknownNameError) as unknown:
        ledger.explain("embed.tokn.weight")
    assert unknown.value.names == ("embed.tokn.weight",)
    with pytest.raises(weights_map.BadTensorError) as tensor_error:
        ledger.save({"embed.token.weight": [1.0]}, path)
    assert tensor_error.value.names == ("embed.token.weight",)
    with pytest.raises(weights_map.AmbiguousRuleError) as ambiguous:
        WeightMap("m", [tensor("l.{i}", "x.{i}", "H"), tensor("l.0", "y", "H")])
    assert set(ambiguous.value.names) == {"l.{i}", "l.0"}
    path.write_bytes(b"")
    with pytest.raises(weights_map.BadFileError) as file_error:
        Checkpoint.open(tmp_path / "m.safetensors")
    assert (file_error.value.path, file_error.value.names) == (path, ())
    unpickled = pickle.loads(pickle.dumps(file_error.value))  # as from a worker process
    assert (str(unpickled), unpickled.path) == (str(file_error.value), path)
