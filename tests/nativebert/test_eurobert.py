"""EuroBERT: shared heads of keys and values, norms by the root mean square, rotary positions of Llama 3, a masked-LM output without a bias."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from families import Batch, Made, ours, theirs, write
from models import TINY, VARIANTS, one_thread, texts, write_folder

import nativebert as nb
from nativebert.arch import read_config
from nativebert.engine import prepare
from nativebert.errors import CorruptError, RefusedError
from nativebert.nn.packed import Packed
from nativebert.nn.positions import cos_sin
from nativebert.parity.compare import compare


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.mark.reference
@pytest.mark.parametrize("trained", [20, 400, 8192])
def test_llama3_scales_each_angle_as_transformers_does(trained: int) -> None:
    import transformers
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": trained}  # fmt: skip
    sizes = {"hidden_size": 128, "num_attention_heads": 2, "max_position_embeddings": 16384}
    hf = transformers.EuroBertConfig(**VARIANTS["eurobert"] | sizes, rope_parameters=rope)
    (layer,) = set(read_config(hf.to_dict())[1].layers)
    steps, _ = ROPE_INIT_FUNCTIONS["llama3"](hf, torch.device("cpu"))
    assert isinstance(layer.rope_scale, tuple)
    assert len(set(layer.rope_scale)) > 2, "some angles in between"
    assert layer.rope_theta is not None
    cos, sin = cos_sin(torch.arange(99), layer.rope_theta, 64, layer.rope_scale)
    angles = torch.arange(99)[:, None] * steps
    torch.testing.assert_close(cos[:, :32], angles.cos(), rtol=0, atol=2e-5)
    torch.testing.assert_close(sin[:, 32:], angles.sin(), rtol=0, atol=2e-5)


@pytest.mark.reference
def test_an_output_of_its_own_is_new_where_a_bare_encoder_gets_a_head(tmp_path: Path) -> None:
    """Not tied, as its published configs are; a tied one needs no tensor in the file."""
    untied, tied = ({"tie_word_embeddings": value} for value in (False, True))
    write(Made("eurobert", "Model").model(**untied), tmp_path / "bare", "float32")
    with pytest.warns(nb.errors.NewlyInitialized, match=r"lm_head\.weight"):
        model = nb.load(tmp_path / "bare", head=nb.NewHead("lm"))
    assert not torch.equal(model.get_parameter("head.lm.out.weight"), model.embed.token.weight)
    model.save(tmp_path / "new")
    again = nb.load(tmp_path / "new")
    assert again.tasks == ("lm",)
    assert torch.equal(again.get_parameter("head.lm.out.weight"), model.get_parameter("head.lm.out.weight"))
    made = Made("eurobert", "ForMaskedLM")
    reference = write(made.model(**tied), tmp_path / "tied", "float32")
    model, batch = nb.load(tmp_path / "tied"), Batch.of(made)
    assert model.get_parameter("head.lm.out.weight") is model.embed.token.weight
    assert compare(ours(model, made, batch), theirs(reference.double(), made, batch), tolerance=2e-5).passed
    model.resize_token_embeddings(66)
    assert model(batch.ids).logits.shape[-1] == 66  # type: ignore[union-attr]


def test_late_pooling_is_the_mean_of_the_logits_in_every_plan(tmp_path: Path) -> None:
    from nativebert.loading import from_config

    torch.manual_seed(0)
    model = from_config(TINY["eurobert"] | {"num_labels": 3}, head="classify")
    rows = [[5, 6, 7, 8], [9], [10, 11]]
    with torch.no_grad():
        expected = [model.head["classifier"].logits(model.encode(Packed.of([row])).hidden).mean(0) for row in rows]
    plan, batch = prepare(model, "cpu", heads=["classify"]), Packed.of(rows)
    assert torch.allclose(plan.logits(batch, "classify"), torch.stack(expected), atol=1e-6)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]])
    ids = torch.tensor([row + [0] * (4 - len(row)) for row in rows])
    for keep in (False, True):
        with torch.no_grad():
            logits = model(ids, mask, keep_padding=keep).logits
        assert logits is not None
        assert torch.allclose(logits, torch.stack(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "error", "why"),
    [({"head_dim": 16}, RefusedError, "another width"), ({"num_key_value_heads": 3}, CorruptError, "cannot share 3 heads"),
     ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, RefusedError, "'yarn'"),
     ({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}, CorruptError, "original_max_position_embeddings")],
)  # fmt: skip
def test_other_models_of_its_code_are_refused(changes: dict[str, Any], error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        read_config(TINY["eurobert"] | changes)


def test_an_unknown_pooling_is_an_error_of_the_classifier_alone() -> None:
    for changes in (
        {"classifier_pooling": "max"},
        {"clf_pooling": "mean"},
    ):  # the second of the Hub's code, which transformers does not read
        config = read_config(TINY["eurobert"] | changes)[1]
        assert set(config.faults) == {"classify"}


def test_a_published_config_has_no_key_that_is_unread() -> None:
    keys = {"clf_pooling": "late", "hidden_dropout": 0.0, "rope_theta": 250000, "rope_scaling": None, "head_dim": 8, "pretraining_tp": 1,
            "bos_token": "<|begin_of_text|>", "auto_map": {}, "torch_dtype": "bfloat16", "tie_word_embeddings": False}  # fmt: skip
    config = read_config(TINY["eurobert"] | keys)[1]
    assert (config.unread, config.faults, config.tied) == ((), {}, False)
    assert config.layers[0].rope_theta == 250000


@pytest.mark.parametrize("shared", [1, 2, 4])
def test_vectors(shared: int, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", TINY["eurobert"] | {"num_key_value_heads": shared})
    embed, model = nb.Embedder(folder, pooling="mean"), nb.load(folder)
    lines = [text for text in texts(12, 9, seed=4) if text]
    vectors = embed(lines, as_tensor=True)
    for text, vector in zip(lines, vectors):
        with torch.no_grad():
            states = model(torch.tensor(embed.tokenizer.ids_batch([text]).ids)).last_hidden_state[0]
        assert torch.allclose(vector, states.mean(0), atol=2e-5)
        assert torch.equal(embed([text], as_tensor=True)[0], vector)
