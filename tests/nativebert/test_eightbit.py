"""Models stored in eight bits: every family saved so and read again; and what it costs, as `quality` measures it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from classifiers import classifier
from models import TINY, minilm, texts, write_folder

import nativebert as nb
from nativebert.cli import main
from nativebert.engine.int8 import quantise_weight
from nativebert.errors import Assumed, BadInputError, RefusedError
from nativebert.parity import quality
from nativebert.parity.quality import rank_correlation


@pytest.mark.parametrize("family", sorted(TINY.keys() - {"gpt2"}))  # refused: test_gpt2.py
def test_every_family(family: str, tmp_path: Path) -> None:
    model = nb.load(write_folder(tmp_path / "m", TINY[family]))
    model.save(tmp_path / "small", precision="int8")
    again = nb.load(tmp_path / "small")
    small = 0
    for name, weight in model.named_parameters():
        if (name.startswith("layers.") and weight.dim() == 2 and "norm" not in name) or name == "embed.token.weight":
            units, scale = quantise_weight(weight.detach())
            weight, small = units * scale[:, None], small + 1
        assert torch.equal(again.get_parameter(name), weight), name
    assert small >= 7
    assert len(again.ledger.eight_bits) >= small  # type: ignore[union-attr]
    again.save(tmp_path / "again")
    files = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("small", "again")]
    assert files[0] == files[1]
    config = json.loads((tmp_path / "again" / "config.json").read_bytes())
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"


def test_int8_of_the_file_is_int8_of_the_weights_it_was_made_from(tmp_path: Path) -> None:
    """Only the token table makes a difference."""
    folder = write_folder(tmp_path / "m", TINY["bert"])
    model = nb.load(folder)
    units, scale = quantise_weight(model.embed.token.weight.detach())
    with torch.no_grad():
        model.embed.token.weight.copy_(units * scale[:, None])
    model.save(tmp_path / "table")
    model.save(tmp_path / "small", precision="int8")
    some = texts(20, 9)
    with pytest.warns(Assumed):
        a, b = (nb.Embedder(tmp_path / name, device="cpu", precision="int8")(some) for name in ("table", "small"))
    assert np.array_equal(a, b)


def test_a_quarter_of_the_size_and_what_it_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", str(minilm()), "-o", str(tmp_path / "small")]) == 0
    said = capsys.readouterr().out
    assert "37 of 104 tensors" in said
    assert "90.9 MB -> 24.1 MB (26%)" in said
    assert (tmp_path / "small" / "model.safetensors").stat().st_size < 0.27 * (minilm() / "model.safetensors").stat().st_size
    report = tmp_path / "report.json"
    (tmp_path / "texts.txt").write_text("\n".join(texts(100, 20, seed=3)) + "\n")
    (tmp_path / "pairs.csv").write_text(
        "a,b,how\na boat,a ship,5\na boat,the weather,1\na king,a queen,4\nred wine,a red car,2\n"
    )
    args = ["quality", str(tmp_path / "small"), "--against", str(minilm()), "--texts", str(tmp_path / "texts.txt")]
    assert main([*args, "--pairs", str(tmp_path / "pairs.csv"), "--columns", "a,b,how", "--json", str(report)]) == 0
    found = json.loads(report.read_bytes())
    assert 0.997 <= found["cosine_mean"] < 1
    assert 0.98 <= found["cosine_min"] <= found["cosine_mean"]
    assert found["ranks"] > 0.99
    assert found["spearman"] == pytest.approx([100, 100])
    assert found["labels"] is None
    said = capsys.readouterr().out
    assert f"mean {found['cosine_mean']:.4f}, min {found['cosine_min']:.4f}" in said
    assert "Spearman x 100: float32 100.00, int8 100.00 (+0.00)" in said


def test_the_same_model_costs_nothing(tmp_path: Path) -> None:
    with pytest.warns(Assumed):
        found = quality.check(write_folder(tmp_path / "m", TINY["bert"]), precision="float32", texts=texts(9, 9))
    assert found.cosine_min == pytest.approx(1, abs=1e-12)
    assert found.ranks == pytest.approx(1)
    assert found.texts == 9


def test_labels(tmp_path: Path) -> None:
    folder = classifier(tmp_path / "c", "bert", ["bad", "fair", "good"])
    found = quality.check(folder, texts=texts(40, 9))
    a, b = (nb.Classifier(folder, device="cpu", precision=p).scores(texts(40, 9)) for p in ("float32", "int8"))
    assert found.labels == pytest.approx(float((a.argmax(1) == b.argmax(1)).mean()))
    assert found.scores == pytest.approx(float(np.abs(a - b).max()))
    assert found.scores > 0
    assert found.cosine_mean is None
    with pytest.raises(BadInputError, match="this model is a classifier"):
        quality.check(folder, pairs=[("a", "b", 1.0)])


def test_rank_correlation() -> None:
    assert rank_correlation(np.array([1, 2, 3, 4]), np.array([10, 20, 30, 400])) == pytest.approx(1)
    assert rank_correlation(np.array([1, 2, 3]), np.array([3, 2, 1])) == pytest.approx(-1)
    # worked by hand: ranks 1.5, 1.5, 3, 4 and 1, 2, 3, 4
    assert rank_correlation(np.array([5, 5, 6, 9]), np.array([0.1, 0.2, 0.3, 0.4])) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "m", TINY["bert"])
    model = nb.load(folder)
    with pytest.raises(BadInputError, match="'int8', not 'int4'"):
        model.save(tmp_path / "x", precision="int4")
    model.save(tmp_path / "small", precision="int8")
    small = nb.load(tmp_path / "small")
    with torch.no_grad():
        small.layers[0].mlp.up.weight[1, 2] += 1e-4
    with pytest.raises(RefusedError, match=r"layers\.0\.mlp\.up\.weight: changed since .* precision='int8'"):
        small.save(tmp_path / "y")
    small.save(tmp_path / "y", precision="int8")
    for pairs, why in (([("a", "b", 1.0)], "at least three"), ([("a", "b", 1.0)] * 3, "different scores")):
        with pytest.raises(BadInputError, match=why), pytest.warns(Assumed):
            quality.check(folder, pairs=pairs)
    (tmp_path / "p.csv").write_text("sentence1,sentence2,score\na,b,high\n")
    for columns, why in ((["--columns", "a,b"], "three column names"), ([], "record 1: the score 'high' is not a number")):
        assert main(["quality", str(folder), "--pairs", str(tmp_path / "p.csv"), *columns]) == 2
        assert why in capsys.readouterr().err


def test_int8_without_scales_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_folder(tmp_path / "m", TINY["bert"])
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("query.weight"))
    tensors[name] = tensors[name].to(torch.int8)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(RefusedError, match=r"is stored as I8; weights must be .* `nativebert quantize`"):
        nb.load(folder)
