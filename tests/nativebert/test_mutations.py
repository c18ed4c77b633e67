"""Does the parity check see anything? Each mistake that is made here on purpose must be caught, and at its own step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models import BERT, bert_tensors, minilm, one_thread, write_folder
from test_golden import GOLDEN, Inputs, golden

import nativebert as nb
from nativebert.arch.bert import MAP
from nativebert.nn.activation import ACTIVATION
from nativebert.nn.model import Model
from nativebert.parity.compare import Steps, Verdict, compare, run
from weights_map import Checkpoint, match

Mistake = Callable[[Model], None]


def swap(a: torch.Tensor, b: torch.Tensor) -> None:
    kept = a.clone()
    a.copy_(b)
    b.copy_(kept)


def swap_q_and_k(m: Model) -> None:
    attn = m.layers[1].attn
    swap(attn.q.weight, attn.k.weight)
    swap(attn.q.bias, attn.k.bias)


def swap_k_and_v(m: Model) -> None:
    attn = m.layers[2].attn
    swap(attn.k.weight, attn.v.weight)
    swap(attn.k.bias, attn.v.bias)


def wrong_eps_everywhere(m: Model) -> None:
    for part in m.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.eps = 1e-5  # RoBERTa's, in place of 1e-12


def wrong_eps_in_one_norm(m: Model) -> None:
    m.layers[2].mlp_norm.eps = 1e-4


def tanh_gelu(m: Model) -> None:
    for layer in m.layers:
        layer.mlp.act = ACTIVATION["gelu_new"]


def tanh_gelu_in_the_last_layer(m: Model) -> None:
    m.layers[-1].mlp.act = ACTIVATION["gelu_new"]


def shift_positions(m: Model) -> None:
    m.embed.position.weight.copy_(m.embed.position.weight.roll(1, 0))


def swap_segments(m: Model) -> None:
    swap(m.embed.segment.weight[0], m.embed.segment.weight[1])


def forget_segments(m: Model) -> None:
    m.embed.segment.weight.zero_()


def forget_the_norm_of_the_embeddings(m: Model) -> None:
    m.embed.norm = torch.nn.Identity()


def drop(name: str) -> Mistake:
    def mistake(m: Model) -> None:
        m.get_parameter(name).zero_()

    return mistake


def perturb(name: str) -> Mistake:
    """One number among all, by 1e-3: the one that matters most is not sought, the first is taken."""

    def mistake(m: Model) -> None:
        m.get_parameter(name).view(-1)[0] += 1e-3

    return mistake


def exchange_layers(m: Model) -> None:
    m.layers[1], m.layers[2] = m.layers[2], m.layers[1]


def exchange_norms(m: Model) -> None:
    layer = m.layers[1]
    layer.attn_norm, layer.mlp_norm = layer.mlp_norm, layer.attn_norm


def half_the_heads(m: Model) -> None:
    attn = m.layers[0].attn
    attn.heads, attn.width = attn.heads // 2, attn.width * 2


def transpose_a_square(m: Model) -> None:
    m.layers[1].attn.o.weight.copy_(m.layers[1].attn.o.weight.T.clone())


def forget_a_layer(m: Model) -> None:
    m.config = replace(m.config, layers=m.config.layers[:-1])


def one_nan(m: Model) -> None:
    m.layers[1].mlp.down.weight[0, 0] = float("nan")


def forget_the_pooler(m: Model) -> None:
    m.pool, m.tasks = None, ()


# What is done -> the step at which it must be noticed. "last" is the last layer.
MISTAKES: dict[str, tuple[Mistake, str]] = {
    "q and k swapped": (swap_q_and_k, "layers.1.attention"),
    "k and v swapped": (swap_k_and_v, "layers.2.attention"),
    "wrong eps": (wrong_eps_everywhere, "embeddings"),
    "wrong eps in one norm": (wrong_eps_in_one_norm, "layers.2"),
    "tanh for erf GELU": (tanh_gelu, "layers.0"),
    "tanh for erf GELU at the end": (tanh_gelu_in_the_last_layer, "last"),
    "positions shifted by one": (shift_positions, "embeddings"),
    "embeddings not normed": (forget_the_norm_of_the_embeddings, "embeddings"),
    "bias of embed.norm dropped": (drop("embed.norm.bias"), "embeddings"),
    "bias of q dropped": (drop("layers.1.attn.q.bias"), "layers.1.attention"),
    "bias of v dropped": (drop("layers.1.attn.v.bias"), "layers.1"),
    "bias of o dropped": (drop("layers.1.attn.o.bias"), "layers.1"),
    "bias of attn_norm dropped": (drop("layers.0.attn_norm.bias"), "layers.0"),
    "bias of up dropped": (drop("layers.2.mlp.up.bias"), "layers.2"),
    "bias of down dropped": (drop("layers.2.mlp.down.bias"), "layers.2"),
    "bias of mlp_norm dropped": (drop("layers.3.mlp_norm.bias"), "layers.3"),
    "one number of q off by 1e-3": (perturb("layers.3.attn.q.weight"), "layers.3.attention"),
    "one number of v off by 1e-3": (perturb("layers.3.attn.v.weight"), "layers.3"),
    "one number of up off by 1e-3": (perturb("layers.3.mlp.up.weight"), "layers.3"),
    "one number of down off by 1e-3": (perturb("layers.3.mlp.down.weight"), "layers.3"),
    "layers exchanged": (exchange_layers, "layers.1.attention"),
    "norms exchanged": (exchange_norms, "layers.1"),
    "half the heads": (half_the_heads, "layers.0.attention"),
    "o transposed": (transpose_a_square, "layers.1"),
    "last layer forgotten": (forget_a_layer, "last.attention"),
    "one NaN": (one_nan, "layers.1"),
}
ONLY_BERT: dict[str, tuple[Mistake, str]] = {
    "segments swapped": (swap_segments, "embeddings"),
    "segments forgotten": (forget_segments, "embeddings"),
    "weights of the pooler dropped": (drop("pool.dense.weight"), "pooler"),  # in MiniLM its bias is zero
    "pooler forgotten": (forget_the_pooler, "pooler"),
}


class Subject:
    """A model that is right, and what the reference computes from some inputs."""

    def __init__(self, folder: Path, inputs: Inputs, truth: Steps, reference: Steps | None = None) -> None:
        self.model, self.inputs, self.truth, self.reference = nb.load(folder), inputs, truth, reference

    def judge(self, mistake: Mistake | None = None) -> Verdict:
        model = deepcopy(self.model)
        if mistake:
            with torch.no_grad():
                mistake(model)
        return compare(run(model, *self.inputs), self.truth, self.reference)


@pytest.fixture(scope="module")
def minilm_subject() -> Subject:
    from transformers import AutoModel

    g = torch.Generator().manual_seed(0)
    ids, segments = torch.randint(1000, 30000, (3, 20), generator=g), torch.randint(0, 2, (3, 20), generator=g)
    mask = torch.ones_like(ids)
    mask[1, 14:] = mask[2, 5:] = 0
    inputs = ids, mask, segments
    make = lambda dtype: AutoModel.from_pretrained(minilm(), attn_implementation="eager", dtype=dtype).eval()  # noqa: E731
    return Subject(minilm(), inputs, run(make(torch.float64), *inputs), run(make(torch.float32), *inputs))


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def tiny_subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    with one_thread():
        yield Subject(GOLDEN / request.param, *golden(request.param, "right"))


def check(subject: Subject, mistake: Mistake, where: str) -> None:
    verdict = subject.judge(mistake)
    assert not verdict.passed
    assert verdict.first is not None
    where = where.replace("last", f"layers.{len(subject.model.layers) - 1}")
    assert verdict.first.name == where, f"noticed at {verdict.first.name}, made at {where}:\n{verdict}"
    assert "<-- too far" in str(verdict)


@pytest.mark.reference
def test_minilm_passes_and_stays_what_it_is(minilm_subject: Subject) -> None:
    assert minilm_subject.judge().passed
    minilm_subject.judge(shift_positions)
    verdict = minilm_subject.judge()
    assert verdict.passed
    assert verdict.first is None
    assert verdict.worst.max_abs <= 1e-5


@pytest.mark.reference
@pytest.mark.parametrize("name", [*MISTAKES, *ONLY_BERT])
def test_a_mistake_in_minilm_is_caught_where_it_is(minilm_subject: Subject, name: str) -> None:
    check(minilm_subject, *(MISTAKES | ONLY_BERT)[name])


def test_tiny_models_pass(tiny_subject: Subject) -> None:
    assert tiny_subject.judge().passed


@pytest.mark.parametrize("name", [*MISTAKES, *ONLY_BERT])
def test_a_mistake_in_a_tiny_model_is_caught_where_it_is(tiny_subject: Subject, name: str) -> None:
    mistake, where = (MISTAKES | ONLY_BERT)[name]
    if name in ONLY_BERT and tiny_subject.model.config.family != "bert":
        with pytest.raises(AttributeError):  # there is no such part to be mistaken about
            drop("pool.dense.bias")(tiny_subject.model)
        return
    check(tiny_subject, mistake, where)


def test_the_bias_of_the_keys_changes_nothing(tiny_subject: Subject) -> None:
    """It adds the same to all scores of a query, and a softmax does not see that: no check of outputs can catch it."""
    assert tiny_subject.judge(drop("layers.1.attn.k.bias")).passed


# ---- the comparison itself


def one(value: float, *shape: int) -> torch.Tensor:
    return torch.full(shape or (2, 3), value)


def test_a_difference_is_measured_on_the_worst_cell_and_allowed_up_to_the_tolerance() -> None:
    off = one(0.0)
    off[1, 2] = 9e-6
    assert compare({"a": off}, {"a": one(0.0)}).passed
    off[1, 2] = 1.1e-5
    verdict = compare({"a": off}, {"a": one(0.0)})
    assert not verdict.passed
    assert verdict.worst.max_abs == pytest.approx(1.1e-5)


def test_the_references_own_error_is_allowed_one_and_a_half_times() -> None:
    truth, reference = {"a": one(0.0)}, {"a": one(2e-5)}
    assert compare({"a": one(2.9e-5)}, truth, reference).passed
    assert not compare({"a": one(3.1e-5)}, truth, reference).passed


@pytest.mark.parametrize("reference", [one(float("inf")), one(float("nan")), one(0.0, 7)], ids=["inf", "nan", "shape"])
def test_a_broken_reference_allows_nothing_more(reference: torch.Tensor) -> None:
    assert not compare({"a": one(1.0)}, {"a": one(0.0)}, {"a": reference}).passed
    assert compare({"a": one(0.0)}, {"a": one(0.0)}, {"a": reference}).passed
    assert not compare({"a": one(1.0)}, {"a": one(0.0)}, {}).passed


def test_nothing_passes_by_being_left_out() -> None:
    both = {"a": one(0.0), "b": one(0.0)}
    for found, truth in [(both, {"a": one(0.0)}), ({"a": one(0.0)}, both)]:
        verdict = compare(found, truth)
        assert not verdict.passed
        assert verdict.first is not None
        assert verdict.first.name == "b"
    assert not compare({}, {}).passed
    assert not compare({"a": one(0.0, 2, 4)}, {"a": one(0.0)}).passed
    assert not compare({"a": one(float("nan"))}, {"a": one(0.0)}).passed


# ---- ties: heads come later, their map is here


@pytest.mark.parametrize(
    ("decoder", "status"), [("absent", "tied"), ("same", "tied"), ("other", "untied"), ("one bit", "untied")]
)
def test_a_tie_that_a_file_breaks_is_reported(tmp_path: Path, decoder: str, status: str) -> None:
    tensors = bert_tensors(BERT)
    table = tensors["embeddings.word_embeddings.weight"]
    if decoder != "absent":
        tensors["cls.predictions.decoder.weight"] = {"same": table.clone(), "other": table * 2}.get(decoder, table.clone())
    if decoder == "one bit":
        tensors["cls.predictions.decoder.weight"].view(torch.int32)[3, 5] ^= 1
    folder = write_folder(tmp_path, BERT, tensors)
    model = nb.load(folder)
    ledger = match(MAP, Checkpoint.open(folder), wanted=[*model.state_dict(), "head.lm.out.weight"]).check()
    (row,) = [row for row in ledger.rows if "head.lm.out.weight" in row.targets]
    assert row.status == status
    assert ("differs from embed.token.weight" in ledger.explain("head.lm.out.weight")) == (status == "untied")
    assert model.ledger is not None
    kept = [row.status for row in model.ledger.rows if "head.lm.out.weight" in row.targets]
    assert kept in ([], ["carried"], ["tied"])  # the base model has no such head
    model.save(tmp_path / "back")
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
