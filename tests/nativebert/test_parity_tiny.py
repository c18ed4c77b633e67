"""Many tiny models of both families, made by transformers, read here, and written back: full tensors, every byte."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import masks, minilm, one_thread, their_logits, unlike
from safetensors import safe_open
from safetensors.torch import save_file

import nativebert as nb
from nativebert.config import ACTIVATIONS
from nativebert.nn.model import Model
from nativebert.parity.compare import Steps, compare, run

pytestmark = pytest.mark.reference

EACH = 72  # models of each family

# Class in transformers that makes the checkpoint -> whether it has a pooler. "BertModel" comes with and without.
CLASSES = {
    "bert": {
        "BertModel": True, "BertModel without pooler": False, "BertForMaskedLM": False, "BertForPreTraining": True,
        "BertForSequenceClassification": True, "BertForTokenClassification": False, "BertForQuestionAnswering": False,
    },
    "distilbert": dict.fromkeys([
        "DistilBertModel", "DistilBertForMaskedLM", "DistilBertForSequenceClassification",
        "DistilBertForTokenClassification", "DistilBertForQuestionAnswering",
    ], False),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One cell of the grid."""

    family: str
    made_by: str
    seed: int
    config: dict[str, Any]
    dtype: str
    sharded: bool
    old_spelling: bool  # LayerNorm.gamma and .beta

    def __str__(self) -> str:
        act = self.config.get("hidden_act") or self.config["activation"]
        extras = "-shards" * self.sharded + "-gamma" * self.old_spelling
        return f"{self.seed}-{self.made_by.replace(' ', '_')}-{act}-{self.dtype}{extras}"


def grid(family: str) -> list[Case]:
    """Every value of every axis comes round; how they meet is drawn by lot, the same way each time."""
    cases = []
    classes, activations = list(CLASSES[family]), sorted(ACTIVATIONS)
    for n in range(EACH):
        r = random.Random(f"{family} {n}")
        heads = r.choice([1, 2, 3, 4])
        common = {
            "vocab_size": r.choice([11, 30, 97]), "max_position_embeddings": r.choice([12, 16, 33]),
            "pad_token_id": r.choice([0, 0, 1]),
        }  # fmt: skip
        depth, width, inner = 1 + n % 4, heads * r.choice([3, 4, 8, 16]), r.choice([5, 16, 40, 96])
        act = activations[n % len(activations)]
        if family == "bert":
            config = common | {
                "num_hidden_layers": depth, "hidden_size": width, "num_attention_heads": heads,
                "intermediate_size": inner, "hidden_act": act, "type_vocab_size": r.choice([1, 2, 3]),
                "layer_norm_eps": [1e-12, 1e-5, 1e-7, 1e-3][n // 2 % 4],
            }  # fmt: skip
        else:
            config = common | {
                "n_layers": depth, "dim": width, "n_heads": heads, "hidden_dim": inner, "activation": act,
                "sinusoidal_pos_embds": r.random() < 0.3,
            }  # fmt: skip
        dtype = ["float32", "float32", "bfloat16", "float16"][n // 7 % 4]
        sharded, old = n % 5 == 1, n % 5 == 3
        cases.append(Case(family, r.choice(classes), n, config, dtype, sharded, old))
    return cases


GRID = [*grid("bert"), *grid("distilbert")]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def make(case: Case, folder: Path) -> Any:
    """Have transformers write the folder; returns its model, which computes in float32 what the file says."""
    import transformers

    name, _, rest = case.made_by.partition(" ")
    kind = getattr(transformers, name)
    options = {"add_pooling_layer": False} if rest else {}
    labels = 2 if name.endswith("QuestionAnswering") else 3
    model = kind(kind.config_class(**case.config, num_labels=labels), **options).eval()
    unlike(model, case.seed)
    model.to(getattr(torch, case.dtype)).save_pretrained(folder, max_shard_size=300 if case.sharded else 2**30)
    if case.old_spelling:
        respell(folder / "model.safetensors")
    model.set_attn_implementation("eager")
    return model.float()


def respell(path: Path) -> None:
    """The names of layer norms as TensorFlow left them in the first checkpoints."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    spell = lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")  # noqa: E731
    old = {spell(name): tensor for name, tensor in tensors.items()}
    assert old.keys() != tensors.keys()
    save_file(old, path, {"format": "pt"})


def inputs(case: Case) -> list[tuple[str, torch.Tensor, torch.Tensor | None, torch.Tensor | None]]:
    """Batches: (what is special, ids, mask, segments)."""
    g = torch.Generator().manual_seed(case.seed)
    L, V, S = case.config["max_position_embeddings"], case.config["vocab_size"], case.config.get("type_vocab_size", 0)
    ids = torch.randint(0, V, (4, L), generator=g)
    kinds = torch.randint(0, S, (4, L), generator=g) if S else None
    found = [("whole", ids, None, kinds), ("alone", ids[:1, : max(1, case.seed % L)], None, None)]
    return found + [(name, ids, mask, None if name == "left" else kinds) for name, mask in masks(4, L).items()]


def steps_of(reference: Any, ids: torch.Tensor, mask: torch.Tensor | None, kinds: torch.Tensor | None) -> Steps:
    """What transformers computes.

    Its pooler takes the first cell, whatever the mask says of it; ours the first token. Here its pooler is run on that.
    """
    found = run(reference, ids, mask, kinds)
    if "pooler" in found and mask is not None:
        last = found[f"layers.{reference.config.num_hidden_layers - 1}"]
        first = last[torch.arange(len(ids)), mask.argmax(1)]
        with torch.no_grad():
            found["pooler"] = reference.pooler(first[:, None])
    return found


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of the weight files and of their index."""
    files = [*folder.glob("*.safetensors"), *folder.glob("*.index.json")]
    assert files
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def reload(case: Case, folder: Path, **options: Any) -> Any:
    """transformers' model from a folder that we wrote, with nothing missing and nothing left over."""
    import transformers

    name, _, rest = case.made_by.partition(" ")
    more = {"add_pooling_layer": False} if rest else {}
    kind = getattr(transformers, name)
    model, info = kind.from_pretrained(folder, output_loading_info=True, attn_implementation="eager", **more, **options)
    assert not any(info.values()), info
    return model.eval()


@pytest.mark.parametrize("case", GRID, ids=str)
def test_every_step_of_a_tiny_model_and_every_byte_of_it_saved(case: Case, tmp_path: Path) -> None:
    made = make(case, tmp_path / "theirs").base_model
    model = nb.load(tmp_path / "theirs")
    back = tmp_path / "ours"
    model.save(back)
    assert hashes(back) == hashes(tmp_path / "theirs")
    assert (len(hashes(back)) > 1) == case.sharded
    reread = reload(case, back, dtype=torch.float64).base_model
    batches = inputs(case)
    reference = [steps_of(made, *batch[1:]) for batch in batches]
    truth = [steps_of(made.double(), *batch[1:]) for batch in batches]
    for (name, *batch), fp32, fp64 in zip(batches, reference, truth, strict=True):
        verdict = compare(run(model, *batch), fp64, fp32)
        assert verdict.passed, f"{name}:\n{verdict}"
        assert len(verdict.steps) == 1 + 2 * len(model.layers) + CLASSES[case.family][case.made_by]
        again = steps_of(reread, *batch)
        assert all(torch.equal(again[step], fp64[step]) for step in fp64), "what was saved is not what was loaded"


def test_the_grid_is_wide(capsys: pytest.CaptureFixture[str]) -> None:
    from transformers.activations import ACT2FN

    assert set(ACT2FN) >= ACTIVATIONS
    with capsys.disabled():
        print(f"\n{len(GRID)} tiny models are compared with transformers, {EACH} of each family", end="")
    assert len(GRID) >= 120
    for family, classes in CLASSES.items():
        cases = [c for c in GRID if c.family == family]
        seen = lambda key: {c.config[key] for c in cases}  # noqa: B023, E731
        assert len(cases) >= 60
        assert {c.made_by for c in cases} == set(classes)
        assert {c.dtype for c in cases} == {"float32", "bfloat16", "float16"}
        assert {(c.sharded, c.old_spelling) for c in cases} == {(False, False), (True, False), (False, True)}
        keys = {
            "bert": ["num_hidden_layers", "num_attention_heads", "hidden_act"],
            "distilbert": ["n_layers", "n_heads", "activation"],
        }
        depth, heads, act = keys[family]
        assert seen(depth) == seen(heads) == {1, 2, 3, 4}
        assert seen(act) == ACTIVATIONS
        if family == "bert":
            assert seen("type_vocab_size") == {1, 2, 3}
            assert len(seen("layer_norm_eps")) == 4


def test_a_sequence_without_tokens_is_zeros(tmp_path: Path) -> None:
    make(GRID[0], tmp_path)
    model = nb.load(tmp_path)
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    out = run(model, ids, torch.tensor([[0, 0, 0], [1, 1, 1]]))
    assert all(torch.equal(t[0], torch.zeros_like(t[0])) for name, t in out.items() if name != "pooler")
    alone = run(model, ids[1:])
    assert all(torch.allclose(out[name][1:], alone[name], atol=1e-6) for name in alone)


# ---- changed models


def trained(model: Model, seed: int) -> Model:
    """One step of gradient descent on random targets, so that every weight moves."""
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, model.config.vocab_size, (3, 8), generator=g)
    out = model(ids)
    pooled = 0.0 if out.pooler_output is None else out.pooler_output.sum()
    heads = sum((logits * torch.randn(logits.shape, generator=g)).sum() for logits in out.all_logits.values())
    ((out.last_hidden_state * torch.randn(out.last_hidden_state.shape, generator=g)).sum() + pooled + heads).backward()
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    model.zero_grad()
    return model


def same_weights(a: Model, b: Model) -> None:
    """Bit for bit. (What they compute may differ in its last bit: it depends also on how a file aligns its tensors.)"""
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def same_heads(model: Model, theirs: Any, case: Case) -> None:
    """Both in float64: the logits of every head."""
    given = {"input_ids": inputs(case)[0][1]}
    with torch.no_grad():
        truth, found = deepcopy(theirs).double()(**given), deepcopy(model).double()(**given).all_logits
    assert bool(found) == ("For" in case.made_by)
    for task, logits in found.items():
        assert (logits - their_logits(truth, task)).abs().max() <= 1e-11, task


CHANGED = [
    next(c for c in GRID if (c.family, c.dtype, c.sharded) == (family, dtype, sharded))
    for family in CLASSES
    for dtype in ("float32", "bfloat16", "float16")
    for sharded in (False, True)
]


@pytest.mark.parametrize("case", CHANGED, ids=str)
def test_a_trained_model_is_what_transformers_reloads(case: Case, tmp_path: Path) -> None:
    make(case, tmp_path / "theirs")
    before = hashes(tmp_path / "theirs")
    model = trained(nb.load(tmp_path / "theirs"), case.seed)
    model.save(tmp_path / "ours")
    assert hashes(tmp_path / "theirs") == before, "the file that was loaded has changed"
    assert hashes(tmp_path / "ours").keys() == before.keys()
    assert hashes(tmp_path / "ours") != before
    same_weights(model, nb.load(tmp_path / "ours"))
    for options in ({}, {"dtype": torch.float32}):  # {}: what config.json says, which must not be narrower
        whole = reload(case, tmp_path / "ours", **options)
        same_heads(model, whole, case)
        theirs = whole.base_model
        for name, *batch in inputs(case):
            fp32, fp64 = steps_of(theirs, *batch), steps_of(deepcopy(theirs).double(), *batch)
            verdict = compare(run(model, *batch), fp64, fp32)
            assert verdict.passed, f"{name}:\n{verdict}"
            # both in float64, where rounding hides nothing: far below the 1e-6 that is promised
            exact = compare(run(deepcopy(model).double(), *batch), fp64, tolerance=1e-11)
            assert exact.passed, f"{name} in float64:\n{exact}"
    pairs = zip(nb.load(tmp_path / "theirs").parameters(), model.parameters(), strict=True)
    # gradients of the keys' biases are zero: they do not change a softmax
    assert sum(torch.equal(p, q) for p, q in pairs) <= len(model.layers)


@pytest.mark.parametrize("case", [c for c in CHANGED if c.dtype != "float16"], ids=str)
def test_saving_onto_the_folder_it_came_from(case: Case, tmp_path: Path) -> None:
    make(case, tmp_path)
    before, config = hashes(tmp_path), (tmp_path / "config.json").read_bytes()
    names = {f.name for f in tmp_path.iterdir()}
    model = nb.load(tmp_path)
    model.save(tmp_path)
    assert (hashes(tmp_path), (tmp_path / "config.json").read_bytes()) == (before, config)
    with torch.no_grad():
        model.layers[0].attn.q.weight += 0.25
    batch = inputs(case)[0][1:]
    found = run(model, *batch)
    model.save(tmp_path)
    assert hashes(tmp_path) != before
    same_weights(model, nb.load(tmp_path))
    assert all(torch.equal(t, found[step]) for step, t in run(model, *batch).items()), "the model in memory has changed"
    assert {f.name for f in tmp_path.iterdir()} == names, "something was left lying about"
    reload(case, tmp_path)


def test_config_says_what_a_changed_half_precision_model_is_stored_as(tmp_path: Path) -> None:
    case = next(c for c in CHANGED if c.dtype == "bfloat16" and not c.sharded)
    make(case, tmp_path / "theirs")
    model = nb.load(tmp_path / "theirs")
    with torch.no_grad():
        model.layers[0].mlp.up.bias.mul_(2.0)  # bfloat16 holds that exactly
    model.save(tmp_path / "exact")
    with torch.no_grad():
        model.layers[0].mlp.up.bias.add_(1e-6)  # and not that
    model.save(tmp_path / "wider")
    says = lambda name: json.loads((tmp_path / name / "config.json").read_text())["dtype"]  # noqa: E731
    assert [says(name) for name in ("theirs", "exact", "wider")] == ["bfloat16", "bfloat16", "float32"]
    assert reload(case, tmp_path / "wider").dtype == torch.float32


def test_shards_are_not_written_beside_a_single_file_that_would_win(tmp_path: Path) -> None:
    one, many = (next(c for c in GRID if c.sharded == sharded) for sharded in (False, True))
    make(one, tmp_path / "one")
    make(many, tmp_path / "many")
    with pytest.raises(nb.errors.RefusedError, match="Save to another folder"):
        nb.load(tmp_path / "many").save(tmp_path / "one")
    assert len(list((tmp_path / "one").glob("*.safetensors"))) == 1


# ---- the real one


def test_minilm_saved_is_byte_identical_and_sentence_transformers_reads_it(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = nb.load(minilm())
    model.save(tmp_path / "copy")
    assert hashes(tmp_path / "copy") == hashes(minilm())
    texts = ["the cat sat on the mat", "deep learning is powerful", "", "a dog, a cat! a house? " * 20]
    same = SentenceTransformer(str(tmp_path / "copy"), device="cpu").encode(texts)
    assert np.abs(nb.Embedder(tmp_path / "copy", device="cpu")(texts) - same).max() <= 1e-6
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.01)
    model.save(tmp_path / "changed")
    theirs = SentenceTransformer(str(tmp_path / "changed"), device="cpu").encode(texts)
    assert np.abs(nb.Embedder(model, device="cpu")(texts) - theirs).max() <= 1e-6
    assert np.abs(nb.Embedder(tmp_path / "changed", device="cpu")(texts) - theirs).max() <= 1e-6
    assert np.abs(theirs - same).max() > 1e-3
    assert hashes(minilm()) == hashes(tmp_path / "copy")
