"""What checkpoints of the Hub have and transformers does not: other spellings of config.json, other rotary positions, families of their own code."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import Batch, Made, ours, theirs, write
from models import TINY, VARIANTS, one_thread, tensors_of, write_folder
from safetensors.torch import load_file

import nativebert as nb
from nativebert import hf
from nativebert.arch import family, read_config
from nativebert.config import RelativePositions
from nativebert.engine import prepare
from nativebert.errors import BadInputError, NewlyInitialized, RefusedError, TooLongError
from nativebert.hub import resolve
from nativebert.inspect import inspect
from nativebert.nn.packed import Packed
from nativebert.nn.positions import cos_sin, relative_row
from nativebert.parity.check import check
from nativebert.parity.compare import compare


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def rewrite(folder: Path, config: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(config))


NOMIC_ON_THE_HUB = {
    "model_type": "nomic_bert", "architectures": ["NomicBertModel"], "activation_function": "swiglu", "attn_pdrop": 0.0, "causal": False,
    "embd_pdrop": 0.0, "fused_bias_fc": True, "layer_norm_epsilon": 1e-12, "max_trained_positions": 20, "mlp_fc1_bias": False,
    "mlp_fc2_bias": False, "n_embd": 32, "n_head": 4, "n_inner": 48, "n_layer": 3, "n_positions": 30, "parallel_block": False, "prenorm": False,
    "qkv_proj_bias": False, "resid_pdrop": 0.0, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None, "rotary_scaling_factor": None, "scale_attn_weights": True, "type_vocab_size": 2, "use_rms_norm": False,
    "vocab_size": 60, "pad_token_id": 0, "use_flash_attn": True,
}  # fmt: skip


@pytest.mark.reference
def test_nomic_with_the_keys_of_gpt2(tmp_path: Path) -> None:
    made = Made("nomic_bert", "Model")
    batch, reference = Batch.of(made), write(made.model(), tmp_path, "float32")
    same = nb.load(tmp_path).config
    rewrite(tmp_path, NOMIC_ON_THE_HUB)
    model = nb.load(tmp_path)
    assert model.config == read_config(NOMIC_ON_THE_HUB)[1]
    assert (model.config.layers, model.config.positions, model.config.unread) == (same.layers, same.positions, ())
    assert compare(ours(model, made, batch), theirs(reference.double(), made, batch)).passed
    model.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == NOMIC_ON_THE_HUB
    # v1 says a factor: angles change beyond the trained positions, by the longest text of a batch
    scaled = read_config(NOMIC_ON_THE_HUB | {"rotary_scaling_factor": 2})[1]
    assert (scaled.layers, scaled.positions) == (same.layers, 20)
    rewrite(tmp_path, NOMIC_ON_THE_HUB | {"rotary_scaling_factor": 2})
    with pytest.raises(TooLongError):
        nb.load(tmp_path)(torch.full((1, 21), 7))


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"num_experts": 8}, "mixtures of experts"), ({"moe_every_n_layers": 2}, "mixtures of experts"), ({"prenorm": True}, "norms come before"),
     ({"rotary_emb_fraction": 0.5}, "a part of each head"), ({"rotary_emb_interleaved": True}, "neighbouring numbers"),
     ({"qkv_proj_bias": True}, "biases"), ({"activation_function": "gelu"}, "not gated"), ({"causal": True}, "earlier ones")],
)  # fmt: skip
def test_other_models_of_nomics_code_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        read_config(NOMIC_ON_THE_HUB | changes)


GTE_ON_THE_HUB = VARIANTS["gte"] | {
    "model_type": "new", "architectures": ["NewModel"], "position_embedding_type": "rope", "rope_theta": 500000, "pack_qkv": True,
    "rope_scaling": {"type": "ntk", "factor": 2.0}, "layer_norm_type": "layer_norm", "logn_attention_scale": False, "unpad_inputs": False,
    "logn_attention_clip1": False, "use_memory_efficient_attention": False, "hidden_act": "gelu",
}  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("prefix", ["new.", ""])
def test_gte_of_its_own_code_with_stretched_positions(prefix: str, tmp_path: Path) -> None:
    """gte-*-en-v1.5: the base grows by the factor, then all frequencies shrink by factor^(2/D) (equation 6 of Su's NTK-aware scaling)."""
    from safetensors.torch import load_file, save_file

    made = Made("gte", "Model")
    batch, reference = Batch.of(made), made.model()
    write(reference, tmp_path, "float32")
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({prefix + name: t for name, t in tensors.items()}, tmp_path / "model.safetensors", {"format": "pt"})
    rewrite(tmp_path, GTE_ON_THE_HUB)
    model = nb.load(tmp_path)
    assert model.config.unread == ()
    reference.rotary_emb.inv_freq = 1.0 / (1e6 ** (torch.arange(0, 8, 2).float() / 8)) / 2.0 ** (2 / 8)
    assert compare(ours(model, made, batch), theirs(reference, made, batch)).passed
    hidden = prepare(model, "cpu").hidden(Packed.of([batch.ids[0].tolist()]))
    assert (hidden - model(batch.ids[:1]).last_hidden_state[0]).abs().max() <= 1e-5
    model.save(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"position_embedding_type": "absolute"}, "positions are learned"), ({"layer_norm_type": "rms_norm"}, "root mean squares"),
     ({"logn_attention_scale": True}, "length of a text"), ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "'yarn'"),
     ({"rope_scaling": {"type": "ntk", "factor": 4.0, "mixed_b": 0.3}}, "unevenly")],
)  # fmt: skip
def test_other_models_of_gtes_code_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        read_config(GTE_ON_THE_HUB | changes)


JINA = TINY["jina_bert"] | {"num_attention_heads": 4, "emb_pooler": "mean"}


def jina_in_float64(tensors: dict[str, torch.Tensor], ids: torch.Tensor, heads: int, act: Any) -> torch.Tensor:
    """JinaBERT as its paper has it, one sequence, ``(l,)`` -> ``(l, H)``."""
    t = {name: value.double() for name, value in tensors.items()}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt() * t[f"{name}.weight"] + t[f"{name}.bias"]

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ t[f"{name}.weight"].T + t.get(f"{name}.bias", 0.0)

    x = norm(
        t["embeddings.word_embeddings.weight"][ids] + t["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm"
    )
    length, slopes = len(ids), {4: [2**-2, 2**-4, 2**-6, 2**-8], 3: [2**-4, 2**-8, 2**-2]}[heads]
    distance = (torch.arange(length)[:, None] - torch.arange(length)).abs()
    for n in range(2):
        layer = f"encoder.layer.{n}"
        q, k, v = (linear(x, f"{layer}.attention.self.{part}").view(length, heads, -1) for part in ("query", "key", "value"))
        mixed = []
        for head in range(heads):
            scores = q[:, head] @ k[:, head].T / q.shape[-1] ** 0.5 - slopes[head] * distance
            mixed.append(torch.softmax(scores, -1) @ v[:, head])
        x = norm(linear(torch.cat(mixed, -1), f"{layer}.attention.output.dense") + x, f"{layer}.attention.output.LayerNorm")
        first, second = linear(x, f"{layer}.mlp.gated_layers").chunk(2, -1)
        x = norm(linear(act(first) * second, f"{layer}.mlp.wo") + x, f"{layer}.mlp.layernorm")
    return x


@pytest.mark.parametrize(("heads", "kind"), [(4, "geglu"), (4, "reglu"), (3, "geglu")])
def test_jina_bert(heads: int, kind: str, tmp_path: Path) -> None:
    config = JINA | {"num_attention_heads": heads, "feed_forward_type": kind, "hidden_size": 36}
    folder = write_folder(tmp_path / "m", config, tensors_of(config, 5))
    model, r = nb.load(folder), random.Random(0)
    assert (model.config.family, model.config.unread) == ("jina_bert", ())
    assert model.ledger is not None
    tensors = {name.removeprefix("bert."): t for name, t in load_file(folder / "model.safetensors").items()}
    act = torch.nn.functional.gelu if kind == "geglu" else torch.relu
    rows = [[r.randrange(5, 60) for _ in range(n)] for n in (40, 17, 17, 1)]
    expected = [jina_in_float64(tensors, torch.tensor(row), heads, act) for row in rows]
    exact = nb.load(folder, precision="float64").encode(Packed.of(rows)).hidden
    assert (exact - torch.cat(expected)).abs().max() <= 1e-6  # the slopes are float32
    hidden = prepare(model, "cpu").hidden(Packed.of(rows))
    assert (hidden - torch.cat(expected)).abs().max() <= 1e-5
    assert torch.equal(prepare(model, "cpu").hidden(Packed.of([rows[1]])), hidden[40:57])
    model.save(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    with pytest.raises(RefusedError, match="feed_forward_type is 'original'"):
        read_config(JINA | {"feed_forward_type": "original"})
    theirs = hf.AutoModel.from_pretrained(folder, trust_remote_code=True)
    assert isinstance(theirs, hf.JinaBertModel)
    assert isinstance(theirs.config, hf.JinaBertConfig)
    with torch.no_grad():
        found = theirs(torch.tensor(rows[1:2]))
    assert (found.last_hidden_state[0] - expected[1]).abs().max() <= 1e-5
    pooled = torch.tanh(expected[1][0] @ tensors["pooler.dense.weight"].double().T + tensors["pooler.dense.bias"].double())
    assert (found.pooler_output[0] - pooled).abs().max() <= 1e-5
    theirs.save_pretrained(tmp_path / "theirs")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "theirs" / name).read_bytes() == (folder / name).read_bytes()
    inspection = inspect(resolve(folder))
    assert (inspection.facts["encoder"]["family"], inspection.problems) == ("jina_bert", ())


def test_heads_of_jina_bert(tmp_path: Path) -> None:
    """A head is the one of BERT on the same states; it is trained, saved and loaded as any other."""
    folder = write_folder(tmp_path / "m", JINA, tensors_of(JINA, 5))
    torch.manual_seed(0)
    with pytest.warns(NewlyInitialized, match="classifier.weight"):
        model = hf.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    assert isinstance(model, hf.JinaBertForSequenceClassification)
    ids = torch.randint(5, 60, (2, 9))
    model(ids, labels=torch.tensor([0, 2])).loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    model.save_pretrained(tmp_path / "again")
    again = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "again")
    with torch.no_grad():
        pooled = again.native(ids).pooler_output if again.native.pool is not None else None
        assert pooled is not None
        expected = pooled @ again.state_dict()["classifier.weight"].T + again.state_dict()["classifier.bias"]
        torch.testing.assert_close(again(ids).logits, expected)
        torch.testing.assert_close(again(ids).logits, model.eval()(ids).logits)
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert (config["model_type"], config["position_embedding_type"]) == ("bert", "alibi")
    assert hf.AutoModelForMaskedLM.from_config(hf.AutoConfig.from_pretrained(folder))(ids).logits.shape == (
        2,
        9,
        JINA["vocab_size"],
    )


def _weight(m: Any) -> None:
    m.layers[1].mlp.gate.weight[3, 5] += 1e-2


def _swapped(m: Any) -> None:
    m.layers[0].attn.q, m.layers[0].attn.k = m.layers[0].attn.k, m.layers[0].attn.q


def _gate(m: Any) -> None:
    m.layers[1].mlp.gate, m.layers[1].mlp.up = m.layers[1].mlp.up, m.layers[1].mlp.gate


def _eps(m: Any) -> None:
    m.layers[1].mlp_norm.eps = 1e-3


def _activation(m: Any) -> None:
    m.layers[0].mlp.act = torch.nn.functional.silu


def _no_distance(m: Any) -> None:
    m.config = replace(m.config, alibi=False)


def _segment(m: Any) -> None:
    m.embed.segment.weight[0, 3] += 1e-2


def _norms(m: Any) -> None:
    m.layers[0].attn_norm, m.layers[0].mlp_norm = m.layers[0].mlp_norm, m.layers[0].attn_norm


@pytest.mark.parametrize("fault", [_weight, _swapped, _gate, _eps, _activation, _no_distance, _segment, _norms])
def test_mistakes_in_jina_bert_are_seen(fault: Any, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", JINA, tensors_of(JINA, 5))
    tensors = {name.removeprefix("bert."): t for name, t in load_file(folder / "model.safetensors").items()}
    model, row = nb.load(folder, precision="float64"), [7, 9, 30, 11, 5, 21, 40]
    expected = jina_in_float64(tensors, torch.tensor(row), JINA["num_attention_heads"], torch.nn.functional.gelu)
    assert (model.encode(Packed.of([row])).hidden - expected).abs().max() <= 1e-6
    with torch.no_grad():
        fault(model)
        assert (model.encode(Packed.of([row])).hidden - expected).abs().max() > 1e-5


@pytest.mark.parametrize("kind", ["linear", "dynamic"])
def test_other_rotary_positions(kind: str) -> None:
    """As transformers' own functions have them."""
    rope_utils = pytest.importorskip("transformers.modeling_rope_utils")
    import transformers

    rope = {"rope_type": kind, "factor": 4.0, "rope_theta": 500.0}
    hf = transformers.GteConfig(**VARIANTS["gte"], rope_parameters=rope)
    config = read_config(hf.to_dict())[1]
    (layer,) = set(config.layers)
    steps, _ = rope_utils.ROPE_INIT_FUNCTIONS[kind](hf, torch.device("cpu"))
    angles = torch.arange(9)[:, None] * steps
    assert layer.rope_theta is not None
    cos, sin = cos_sin(torch.arange(9), layer.rope_theta, 8, layer.rope_scale)
    torch.testing.assert_close(cos[:, :4], angles.cos())
    torch.testing.assert_close(sin[:, 4:], angles.sin())


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"pos_att_type": "c2p"}, "both terms"), ({"share_att_key": False}, "projections of their own"),
     ({"relative_attention": False}, "without relative_attention"), ({"embedding_size": 16}, "another width"),
     ({"conv_kernel_size": 4}, "an odd one"), ({"attention_head_size": 16}, "another width")],
)  # fmt: skip
def test_other_models_of_debertas_code_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        read_config(TINY["deberta-v2"] | changes)


@pytest.mark.reference
@pytest.mark.parametrize(("buckets", "most"), [(256, 512), (8, 30), (16, 64), (6, 512)])
def test_buckets_of_relative_positions_are_debertas(buckets: int, most: int) -> None:
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    distance = torch.arange(-1000, 1001)
    expected = (make_log_bucket_position(distance, buckets, most).long() + buckets).clamp(0, 2 * buckets - 1)
    assert torch.equal(relative_row(distance, RelativePositions(buckets, most, True)), expected)


@pytest.mark.reference
def test_the_table_of_positions_that_debertas_files_have_and_nothing_reads(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    made = Made("deberta-v2", "ForSequenceClassification")
    write(made.model(), tmp_path, "float32")
    tensors = load_file(tmp_path / "model.safetensors") | {"deberta.embeddings.position_embeddings.weight": torch.ones(30, 32)}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    model = nb.load(tmp_path)
    assert model.embed.position is None
    assert model.tasks == ("classify",)
    model.save(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


# Keys of published configs that transformers' own do not have, or that have other values there.
_FRENCH = {
    "attention_probs_dropout_prob": 0.1, "classifier_dropout": None, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02, "layer_norm_eps": 1e-07, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32",
}  # fmt: skip
PUBLISHED = {
    "camembertv2": ("roberta", _FRENCH | {"position_embedding_type": "absolute", "type_vocab_size": 1, "use_cache": True}),
    "camembertav2": ("deberta-v2", _FRENCH | {
        "max_relative_positions": -1, "norm_rel_ebd": "layer_norm", "pooler_dropout": 0, "pooler_hidden_act": "gelu", "pooler_hidden_size": 32,
        "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "position_buckets": 8, "relative_attention": True, "share_att_key": True,
        "type_vocab_size": 0, "conv_kernel_size": 0, "conv_act": "gelu", "legacy": True,
    }),
    "ernie-3.0": ("ernie", {
        "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "initializer_range": 0.02,
        "layer_norm_eps": 1e-05, "task_type_vocab_size": 3, "type_vocab_size": 4, "use_task_id": True, "pad_token_id": 0,
    }),
}  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("end", ["Model", "ForMaskedLM", "ForTokenClassification"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_models_that_are_published_under_the_name_of_another(name: str, end: str, tmp_path: Path) -> None:
    kind, keys = PUBLISHED[name]
    sizes = {key: VARIANTS[kind][key] for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")}
    keys = keys | sizes | {"intermediate_size": 48, "max_position_embeddings": 31}
    made = Made(kind, end)
    reference = write(made.model(**keys), tmp_path, "float32")
    rewrite(tmp_path, keys | {"model_type": kind, "architectures": [type(reference).__name__], "num_labels": 5})
    model = nb.load(tmp_path)
    assert (model.tasks, model.config.unread) == (made.tasks, ())
    assert model.config.max_tokens == (30 if kind == "roberta" else 31)
    batch = Batch.of(made)
    batch = Batch(batch.ids * batch.mask, batch.mask, batch.segments if keys["type_vocab_size"] > 1 else None)
    fp32 = theirs(reference, made, batch)
    verdict = compare(ours(model, made, batch), theirs(reference.double(), made, batch), fp32)
    assert verdict.passed, verdict
    before = (tmp_path / "model.safetensors").read_bytes()
    model.save(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == before


@pytest.mark.reference
def test_every_token_of_ernie_is_of_the_first_task(tmp_path: Path) -> None:
    from nativebert import hf

    made = Made("ernie", "Model")
    reference = write(made.model(), tmp_path, "float32")
    model, ids = hf.AutoModel.from_pretrained(tmp_path), Batch.of(made).ids
    with torch.no_grad():
        first, second = (reference(ids, task_type_ids=torch.full_like(ids, n)).last_hidden_state for n in (0, 1))
        mine = model(ids).last_hidden_state
    assert torch.allclose(mine, first, atol=1e-5)
    assert not torch.allclose(mine, second, atol=1e-1)
    with pytest.raises(RefusedError, match="task_type_ids"):
        model(ids, task_type_ids=torch.ones_like(ids))
    with pytest.raises(BadInputError, match="by name"):  # transformers has task_type_ids in third place
        model(ids, None, torch.zeros_like(ids), torch.zeros_like(ids))


@pytest.mark.reference
@pytest.mark.parametrize("name", ["new", "jina_bert"])
def test_parity_says_that_there_is_nothing_to_compare_with(name: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=f"transformers has no {name}"):
        check(write_folder(tmp_path / "m", TINY[name]))
    assert not family(name).in_transformers
