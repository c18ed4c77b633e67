"""Every family with every head: what transformers made is read, computed and written back, full tensors and every byte."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from families import EVERY, VARIANTS, WITH_HEADS, Batch, Made, ours, theirs, write
from models import BERT, ELSEWHERE, FLOAT32_PARTS, LACKS, bert_tensors, one_thread, write_folder

import nativebert as nb
from nativebert.arch import FAMILIES
from nativebert.engine import prepare
from nativebert.errors import BadInputError, NotFoundError
from nativebert.nn.packed import Packed
from nativebert.nn.positions import relative_position_bucket
from nativebert.parity.compare import compare

pytestmark = pytest.mark.reference

FILES = ("float32", "bfloat16", "float16", "shards", "gamma")  # precisions, shards, the old names of layer norms
TWO_HEADS = ("ForMaskedLM", "ForSequenceClassification")  # a decoder tied to the token table and a norm of its own; labels


# Every head as float32, every way to store a checkpoint with two heads: how tensors are stored changes nothing of what a head computes.
GRID = [
    (made, how)
    for made in EVERY
    for how in FILES
    if how == "float32"
    or (
        made.end in TWO_HEADS
        and (how, made.family in ("eurobert", "modernbert", "nomic_bert", "gte", "jina_embeddings_v3")) != ("gamma", True)
    )
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def hashes(folder: Path) -> dict[str, str]:
    found = [*folder.glob("*.safetensors"), *folder.glob("*.index.json")]
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in found}


@pytest.mark.parametrize(("made", "how"), GRID, ids=str)
def test_a_family_with_a_head(made: Made, how: str, tmp_path: Path) -> None:
    """Computed as transformers computes it; saved as it was; and what was saved loads in transformers as if it had saved it."""
    folder, back, batch = tmp_path / "theirs", tmp_path / "again", Batch.of(made)
    reference = write(made.model(), folder, how)
    model = nb.load(folder)
    assert model.tasks == made.tasks
    fp32, fp64 = theirs(reference, made, batch), theirs(deepcopy(reference).double(), made, batch)
    verdict = compare(ours(model, made, batch), fp64, fp32)
    assert verdict.passed, verdict
    assert len(verdict.steps) == 1 + 2 * len(model.config.layers) + ("pooler" in fp64) + len(made.tasks)

    model.save(back)
    assert hashes(back) == hashes(folder)
    assert (len(hashes(back)) > 1) == (how == "shards")
    reread, info = made.kind.from_pretrained(back, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not any(info.values()), info
    again = theirs(reread.eval(), made, batch)
    assert max(float((again[step] - fp32[step]).abs().max()) for step in fp32) <= 1e-6


def test_the_grid_is_whole() -> None:
    import transformers

    assert {made.family for made in EVERY} == set(FAMILIES) - ELSEWHERE
    heads = [name.removeprefix("Bert") for name in dir(transformers) if name.startswith("BertFor") and "LMHead" not in name]
    for made in EVERY:  # no class of transformers' is left out
        stem = made.kind.__name__.removesuffix(made.end)
        has = {end for end in heads if hasattr(transformers, stem + end)} - {"ForCausalLM"}
        listed = {other.end for other in EVERY if other.variant == made.variant} - {"Model"}
        # the RoBERTa family has no pretraining class; MPNet's is a bare base class
        assert has - listed <= {"ForPreTraining"} or made.family == "gpt2", made  # of which the encoder alone is here
        assert listed <= has, made
    assert {made for made, how in GRID if how == "float32"} == set(EVERY)
    assert {(made.variant, made.end) for made, how in GRID if how == "shards"} == {
        (v, end) for v in WITH_HEADS for end in TWO_HEADS
    }


# ---- other files than the usual


def same_in_transformers(folder: Path, model: nb.Model, made: Made, batch: Batch) -> None:
    """Both in float64, so that no rounding hides anything: transformers reloads the folder as the model that was saved there."""
    reread, info = made.kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not any(info.values()), info
    tolerance = 1e-5 if made.family in FLOAT32_PARTS else 1e-11
    exact = compare(
        ours(deepcopy(model).double(), made, batch), theirs(reread.eval().double(), made, batch), tolerance=tolerance
    )
    assert exact.passed, exact


@pytest.mark.parametrize("how", ["float32", "bfloat16", "shards"])
@pytest.mark.parametrize("variant", WITH_HEADS)
def test_a_trained_model_is_what_transformers_reloads(variant: str, how: str, tmp_path: Path) -> None:
    made = Made(variant, "ForMaskedLM")
    batch = Batch.of(made)
    write(made.model(), tmp_path / "theirs", how)
    before = hashes(tmp_path / "theirs")
    model = nb.load(tmp_path / "theirs")
    g = torch.Generator().manual_seed(0)
    output = model(**batch.given())
    assert output.logits is not None
    (output.logits * torch.randn(output.logits.shape, generator=g)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.003).step()
    model.save(tmp_path / "ours")
    assert hashes(tmp_path / "theirs") == before, "the file that was loaded has changed"
    again = nb.load(tmp_path / "ours")
    old = dict(nb.load(tmp_path / "theirs").named_parameters())
    same = 0
    for name, p in again.named_parameters():
        assert torch.equal(p, model.get_parameter(name)), name
        same += torch.equal(p, old[name])
    # gradients of the keys' biases are zero, and a pooler that nothing reads has none
    assert same <= 2 + len(model.layers) * 2
    same_in_transformers(tmp_path / "ours", again, made, batch)


@pytest.mark.parametrize("variant", [v for v in WITH_HEADS if VARIANTS[v].get("legacy", True)])  # else it always is the table
def test_a_decoder_of_its_own(variant: str, tmp_path: Path) -> None:
    """``tie_word_embeddings`` is false: the output has other weights than the token table, and they are in the file."""
    made = Made(variant, "ForMaskedLM")
    batch = Batch.of(made)
    base = made.model(tie_word_embeddings=False)
    reference = write(base, tmp_path / "file", "float32")
    model = nb.load(tmp_path / "file")
    assert not torch.equal(model.get_parameter(_decoder(model)), model.embed.token.weight)
    fp32 = theirs(reference, made, batch)
    verdict = compare(ours(model, made, batch), theirs(deepcopy(reference).double(), made, batch), fp32)
    assert verdict.passed, verdict
    model.save(tmp_path / "back")
    assert hashes(tmp_path / "back") == hashes(tmp_path / "file")
    same_in_transformers(tmp_path / "back", model, made, batch)
    nb.load(tmp_path / "file", head=None).save(tmp_path / "bare")
    assert hashes(tmp_path / "bare") == hashes(tmp_path / "file")


def test_buckets_of_distance_are_those_of_mpnet() -> None:
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    distance = torch.arange(-2000, 2001)
    for count in (8, 32, 64):
        assert torch.equal(
            relative_position_bucket(distance, count),
            MPNetEncoder.relative_position_bucket(distance, num_buckets=count, max_distance=128),
        )


# ---- heads that are asked for


@pytest.mark.parametrize("variant", WITH_HEADS)
def test_heads_by_name(variant: str, tmp_path: Path) -> None:
    made = Made(variant, "ForTokenClassification")
    write(made.model(), tmp_path / "tag", "float32")
    assert nb.load(tmp_path / "tag", head="tag").tasks == nb.load(tmp_path / "tag").tasks == ("tag",)
    assert nb.load(tmp_path / "tag", head=None).tasks == ()
    if "ForQuestionAnswering" in LACKS.get(made.family, ()):
        with pytest.raises(BadInputError, match="has no head 'answer'; it has lm, classify, tag, or head=None"):
            nb.load(tmp_path / "tag", head="answer")
    elif made.family == "modernbert":  # which has the same names for both
        with pytest.raises(BadInputError, match="saved as ModernBertForTokenClassification: its head is for 'tag'"):
            nb.load(tmp_path / "tag", head="answer")
    else:
        with pytest.raises(
            NotFoundError, match=r"no head for 'answer': these would be new.*: head\.qa\.out\.weight, head\.qa\.out\.bias"
        ):
            nb.load(tmp_path / "tag", head="answer")
    with pytest.raises(BadInputError, match=r"has no head 'sentiment'; it has lm, classify, tag.* or head=None"):
        nb.load(tmp_path / "tag", head="sentiment")


@pytest.mark.parametrize("variant", WITH_HEADS)
def test_a_head_that_is_left_out_is_kept(variant: str, tmp_path: Path) -> None:
    made = Made(variant, "ForMaskedLM")
    write(made.model(), tmp_path / "file", "float32")
    model = nb.load(tmp_path / "file", head=None)
    assert model.ledger is not None
    assert not any(name.startswith("head.") for name in model.state_dict())
    # EuroBERT's is nothing but the token table
    assert any(row.status == "carried" for row in model.ledger.rows) or not model.config.heads["lm"].last_bias
    with torch.no_grad():
        model.embed.token.weight.mul_(2.0)
    model.save(tmp_path / "changed")
    with torch.no_grad():
        model.embed.token.weight.mul_(0.5)
    model.save(tmp_path / "back")
    assert hashes(tmp_path / "back") == hashes(tmp_path / "file") != hashes(tmp_path / "changed")
    # the decoder goes with the table that it is tied to
    changed, table = nb.load(tmp_path / "changed"), nb.load(tmp_path / "changed").embed.token.weight
    assert torch.equal(changed.get_parameter(_decoder(changed)), table)


def _decoder(model: nb.Model) -> str:
    head = model.config.heads["lm"]
    return f"head.{head.name}.{head.last}.weight"


# ---- the plan for the CPU


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_plan_for_the_cpu_is_the_reference_and_the_same_bits_in_any_company(variant: str, tmp_path: Path) -> None:
    made = Made(variant, "Model")
    write(made.model(), tmp_path, "float32")
    model = nb.load(tmp_path)
    plan, r, pad = prepare(model, "cpu"), random.Random(variant), model.config.position_pad_id
    longest = model.config.max_tokens
    texts = [[r.randrange(60) for _ in range(r.randint(1, longest))] for _ in range(40)]
    texts[3] = [7, 1, 9, 0, 8]
    together = Packed.of(texts, position_pad_id=pad)
    hidden = plan.hidden(together)
    with torch.no_grad():
        exact = deepcopy(model).double().encode(together).hidden
        own = float((model.encode(together).hidden - exact).abs().max())  # float32's, where states are large
    assert (hidden - exact).abs().max() <= max(1e-5, 1.5 * own)
    parts = hidden.split([len(text) for text in texts])
    by_length = sorted(range(len(texts)), key=lambda n: -len(texts[n]))
    in_order = plan.hidden(Packed.of([texts[n] for n in by_length], position_pad_id=pad)).split(
        [len(texts[n]) for n in by_length]
    )
    for n, part in zip(by_length, in_order, strict=True):
        assert torch.equal(part, parts[n])
    for text, part in zip(texts, parts, strict=True):
        assert torch.equal(plan.hidden(Packed.of([text], position_pad_id=pad)), part)


def test_a_head_is_not_read_as_another_one(tmp_path: Path) -> None:
    """BERT's classifiers of tokens and of sequences have the same names in a file."""
    config = {**BERT, "architectures": ["BertForTokenClassification"], "id2label": {str(n): f"L{n}" for n in range(4)}}
    tensors = bert_tensors(config, prefix="bert.") | {
        "classifier.weight": torch.randn(4, 32),
        "classifier.bias": torch.randn(4),
    }
    folder = write_folder(tmp_path / "m", config, tensors)
    assert nb.load(folder).tasks == ("tag",)
    with pytest.raises(BadInputError, match=r"saved as BertForTokenClassification: its head is for 'tag'"):
        nb.load(folder, head="classify")
