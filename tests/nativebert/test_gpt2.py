"""GPT-2's encoder: matrices that files hold (in, out), tokens that see those before them alone, a tokenizer without special tokens around a text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from families import Batch, Made, ours, theirs, write
from models import TINY, VARIANTS, one_thread, texts, write_folder
from safetensors.torch import load_file, save_file

import nativebert as nb
from nativebert import hf
from nativebert.arch import read_config
from nativebert.cli import main
from nativebert.engine import prepare
from nativebert.errors import BadInputError, RefusedError
from nativebert.nn.packed import Packed
from nativebert.parity.compare import compare
from nativebert.text.tokenizer import Tokenizer

MADE = Made("gpt2", "Model")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def vocabulary() -> dict[str, bytes]:
    """vocab.json and merges.txt of a byte-level BPE that was trained here."""
    from tokenizers import ByteLevelBPETokenizer

    made = ByteLevelBPETokenizer()
    made.train_from_iterator([*texts(30, 12), "naïve dogs, 12 and 345!"], vocab_size=330, special_tokens=["<|endoftext|>"])
    core = json.loads(made.to_str())["model"]
    merges = "#version: 0.2\n" + "".join(f"{' '.join(pair)}\n" for pair in core["merges"])
    return {"vocab.json": json.dumps(core["vocab"]).encode(), "merges.txt": merges.encode()}


@pytest.fixture
def folder(tmp_path: Path, vocabulary: dict[str, bytes]) -> Path:
    """A tiny GPT-2 as the Hub has it: no tokenizer_config.json, no padding token."""
    made = write_folder(tmp_path / "gpt2", TINY["gpt2"] | {"vocab_size": len(json.loads(vocabulary["vocab.json"]))})
    for name in ("vocab.txt", "tokenizer_config.json"):
        (made / name).unlink()
    for name, content in vocabulary.items():
        (made / name).write_bytes(content)
    return made


# ---- the encoder


@pytest.mark.parametrize("level", ["cpu", "reference"])
def test_a_token_sees_those_before_it_alone(level: str, folder: Path) -> None:
    model = nb.load(folder)
    plan = prepare(model, "cpu")

    def states(ids: list[int]) -> torch.Tensor:
        batch = Packed.of([ids])
        with torch.no_grad():
            return plan.hidden(batch) if level == "cpu" else model.encode(batch).hidden

    one, other, short = states([5, 6, 7, 8, 9]), states([5, 6, 7, 1, 2]), states([5, 6, 7])
    assert torch.equal(one[:3], other[:3]) or torch.allclose(one[:3], other[:3], atol=1e-6)
    assert torch.allclose(one[:3], short, atol=1e-5)
    assert not torch.allclose(one[3:], other[3:], atol=1e-2)
    with torch.no_grad():
        weights = model(torch.tensor([[5, 6, 7, 8]]), output_attentions=True).attentions
    assert weights is not None
    assert all(float(w.triu(1).abs().max()) == 0 for w in weights)


@pytest.mark.reference
@pytest.mark.parametrize("repeated", [False, True])
def test_a_language_models_file(repeated: bool, tmp_path: Path) -> None:
    """Prefix ``transformer.``, masks as buffers, maybe the token table once more: all are kept, and follow what is trained."""
    import transformers

    config = transformers.GPT2Config(**VARIANTS["gpt2"])
    reference = transformers.GPT2LMHeadModel(config).eval()
    reference.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    assert all(name.startswith("transformer.") for name in tensors)
    tensors |= {f"transformer.h.{n}.attn.bias": torch.ones(1, 1, 30, 30).tril() for n in range(3)}
    tensors |= {"lm_head.weight": tensors["transformer.wte.weight"].clone()} if repeated else {}
    save_file(tensors, path, {"format": "pt"})
    model = nb.load(tmp_path)
    assert model.tasks == ()
    batch = Batch.of(MADE)
    reference.set_attn_implementation("eager")
    assert compare(ours(model, MADE, batch), theirs(reference.transformer.double(), MADE, batch)).passed
    model.save(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == path.read_bytes()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5)
    model.save(tmp_path / "changed")
    changed = load_file(tmp_path / "changed" / "model.safetensors")
    assert torch.equal(changed["transformer.h.1.mlp.c_fc.weight"], 1.5 * tensors["transformer.h.1.mlp.c_fc.weight"])
    assert torch.equal(changed["transformer.h.2.attn.c_attn.weight"], 1.5 * tensors["transformer.h.2.attn.c_attn.weight"])
    assert not repeated or torch.equal(changed["lm_head.weight"], changed["transformer.wte.weight"])
    assert torch.equal(changed["transformer.h.0.attn.bias"], tensors["transformer.h.0.attn.bias"])


@pytest.mark.reference
def test_state_dict_has_the_matrices_of_transformers(tmp_path: Path) -> None:
    reference = write(MADE.model(), tmp_path, "float32")
    model = hf.GPT2Model.from_pretrained(tmp_path)
    state = model.state_dict()
    assert state.keys() == reference.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in reference.state_dict().items())
    other = MADE.model()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.1)
    model.load_state_dict(other.state_dict())
    ids = torch.randint(0, 60, (2, 9))
    with torch.no_grad():
        assert torch.allclose(model(ids).last_hidden_state, other(ids).last_hidden_state, atol=1e-5)
    assert dict(model.named_parameters())["h.0.mlp.c_fc.weight"].shape == (48, 32)  # (out, in), as all matrices here
    with pytest.raises(RefusedError, match="token_type_ids"):  # of which GPT-2 adds rows of the token table
        model(ids, token_type_ids=torch.zeros_like(ids))


@pytest.mark.reference
@pytest.mark.parametrize(("end", "task"), [("ForSequenceClassification", "classify"), ("ForTokenClassification", "tag")])
def test_its_other_heads_are_refused_by_name(end: str, task: str, tmp_path: Path) -> None:
    import transformers

    getattr(transformers, f"GPT2{end}")(transformers.GPT2Config(**VARIANTS["gpt2"])).save_pretrained(tmp_path)
    with pytest.raises(BadInputError, match=f"gpt2 has no head '{task}'"):
        nb.load(tmp_path, head=task)
    with pytest.raises(hf.NotSupportedError, match=f"GPT2{end}"):
        getattr(hf, f"GPT2{end}")
    with pytest.warns(nb.errors.Unread, match=r"score\.weight|classifier\.weight"):
        assert nb.load(tmp_path).tasks == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"scale_attn_weights": False}, "not scaled"), ({"scale_attn_by_inverse_layer_idx": True}, "by the layer's number"),
     ({"add_cross_attention": True}, "another model's output"), ({"activation_function": "snake"}, "nativebert computes")],
)  # fmt: skip
def test_other_models_of_its_code_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        read_config(TINY["gpt2"] | changes)


def test_it_is_not_saved_in_eight_bits(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"\(in, out\)"):
        nb.load(folder).save(tmp_path / "small", precision="int8")


# ---- text


@pytest.mark.reference
@pytest.mark.parametrize("space", [None, False, True])
def test_tokens_are_those_of_transformers(space: bool | None, folder: Path, tmp_path: Path) -> None:
    import transformers

    if space is not None:
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": space})
        )
    lines = [*texts(20, 9, seed=2), "naïve <|endoftext|> dogs", "  two  spaces ", "", "\n"]
    expected = transformers.GPT2Tokenizer.from_pretrained(folder)
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.kind == "GPT2Tokenizer"
    assert tokenizer.ids_batch(lines).ids == expected(lines)["input_ids"]
    mine = hf.AutoTokenizer.from_pretrained(folder)
    assert (
        mine(lines)["input_ids"] == hf.GPT2Tokenizer.from_pretrained(folder)(lines)["input_ids"] == expected(lines)["input_ids"]
    )
    assert (mine.bos_token, mine.eos_token, mine.unk_token, mine.pad_token) == (*["<|endoftext|>"] * 3, None)
    assert mine.decode(mine("the cat sat")["input_ids"]).strip() == "the cat sat"
    expected.save_pretrained(tmp_path / "json")  # tokenizer.json alone
    (tmp_path / "json" / "config.json").write_text(json.dumps(TINY["gpt2"]))
    assert Tokenizer.from_folder(tmp_path / "json").ids_batch(lines).ids == expected(lines)["input_ids"]


def test_add_bos_token_is_refused_where_it_would_be_lost(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True}))
    with pytest.raises(RefusedError, match="add_bos_token"):
        Tokenizer.from_folder(folder)


@pytest.mark.parametrize("pooling", ["mean", "lasttoken"])
def test_vectors(pooling: str, folder: Path) -> None:
    """No padding token is needed: batches are packed."""
    embed = nb.Embedder(folder, pooling=pooling)
    lines = [text for text in texts(12, 9, seed=4) if text]
    vectors, model = embed(lines, as_tensor=True), nb.load(folder)
    for text, vector in zip(lines, vectors):
        ids = torch.tensor([embed.tokenizer.ids_batch([text]).ids[0]])
        with torch.no_grad():
            states = model(ids).last_hidden_state[0]
        assert torch.allclose(vector, states.mean(0) if pooling == "mean" else states[-1], atol=1e-5)
        assert torch.equal(embed([text], as_tensor=True)[0], vector)  # the same bits in any company


def test_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder)]) == 0
    assert "gpt2" in capsys.readouterr().out
    from weights_map.__main__ import main as map_main

    assert map_main([str(folder / "model.safetensors")]) == 0
    assert "h.{0-1}.attn.c_attn.weight" in capsys.readouterr().out
