"""What every execution plan offers: facts, hidden states, vectors, and logits of its own heads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from models import BERT, TINY, tensors_of, unlike, write_folder
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import nativebert as nb
from nativebert import kernels
from nativebert.arch import read_config
from nativebert.engine import plan as plans
from nativebert.engine import prepare
from nativebert.engine.plan import ExecutionPlan, NonFiniteStates
from nativebert.errors import BadInputError, NotFiniteError, TooLongError
from nativebert.nn.attention import Attention
from nativebert.nn.encoder import check
from nativebert.nn.heads import READS
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed, pack
from nativebert.nn.positions import AttentionContext

ROWS = [[3, 7, 9, 4], [3, 4], [], [3, 8, 8, 8, 8, 8, 4], [3, 5, 4, 6]]
HEADS = {"lm": "tokens", "tag": "tokens", "classify": "sequences", "answer": "tokens", "nsp": "sequences"}
HOW = ["float32", "int8", "float32 by torch", "int8 by torch", "bfloat16"]


@pytest.fixture(scope="module")
def model() -> Model:
    return unlike(Model(read_config(BERT)[1], tasks=tuple(HEADS)), 3).eval()


def plan_of(model: Model, how: str, monkeypatch: pytest.MonkeyPatch) -> ExecutionPlan:
    precision, _, by = how.partition(" by ")
    if by:
        monkeypatch.setenv(kernels.VARIABLE, "0")
    return prepare(model, "cpu", precision)


@pytest.mark.parametrize("how", HOW)
def test_facts(model: Model, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(model, how, monkeypatch)
    assert plan.device == torch.device("cpu")
    assert plan.precision == how.split()[0]
    assert plan.min_rows == (16 if plan.backend == "oneDNN" else 1)
    assert plan.batch_tokens >= 2048
    assert plan.backend == (
        "torch" if how == "bfloat16" else "oneDNN" if "torch" in how else f"C kernels ({kernels.levels()[0]})"
    )
    assert tuple(plan.heads) == model.tasks
    assert tuple(prepare(model, "cpu", heads=["tag"]).heads) == ("tag",)
    plan.clear_cache()


@pytest.mark.parametrize("how", HOW)
def test_logits_of_every_head(model: Model, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, batch = plan_of(model, how, monkeypatch), Packed.of(ROWS)
    hidden = plan.hidden(batch).float()
    with torch.no_grad():
        firsts = torch.stack([x[0] if len(x) else x.new_zeros(32) for x in hidden.split(list(batch.lengths))])
        for task, of in HEADS.items():
            spec = model.config.heads[task]
            assert model.pool is not None
            read = model.pool(firsts) if spec.on == "pooled" else hidden
            logits = plan.logits(batch, task)
            assert logits.dtype == torch.float32
            assert logits.shape == (sum(batch.lengths) if of == "tokens" else len(ROWS), spec.classes)
            torch.testing.assert_close(logits, model.head[spec.name].logits(read), rtol=0, atol=2e-5)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("at_once", [1, 100, 2**24])
def test_the_maximum_over_tokens(model: Model, how: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, batch = plan_of(model, how, monkeypatch), Packed.of(ROWS)
    every = plan.logits(batch, "lm").split(list(batch.lengths))
    monkeypatch.setattr(plans, "LOGITS_AT_ONCE", at_once)
    rows: list[int] = []
    head = plan.heads["lm"]
    whole = head.logits
    monkeypatch.setattr(head, "logits", lambda x: rows.append(len(x)) or whole(x))
    found = plan.logits(batch, "lm", reduce="max")
    expected = [x.amax(0) if len(x) else torch.full((len(found[0]),), -torch.inf) for x in every]
    assert torch.equal(found, torch.stack(expected))
    assert max(rows) <= max(plan.min_rows, at_once // len(found[0]))
    assert sum(rows) == sum(batch.lengths)


def test_what_cannot_be_reduced(model: Model) -> None:
    plan = prepare(model, "cpu")
    for task, reduce in (("lm", "mean"), ("classify", "max")):
        with pytest.raises(ValueError, match="reduce must be None"):
            plan.logits(Packed.of(ROWS), task, reduce=reduce)


def test_states_that_overflow_are_not_read(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = prepare(model, "cpu")
    spoilt = plan.hidden(Packed.of(ROWS))
    spoilt[3, 1] = torch.inf
    monkeypatch.setattr(type(plan), "hidden", lambda *_: spoilt)
    monkeypatch.setattr(type(plan), "pooled", lambda *_: spoilt[:5])  # and tanh would make it 1
    for task in HEADS:
        with pytest.raises(NonFiniteStates) as caught:
            plan.logits(Packed.of(ROWS), task)
        assert not caught.value.states.isfinite().all()


def test_a_head_that_overflows_is_named(model: Model) -> None:
    plan = prepare(model, "cpu")
    with pytest.raises(NotFiniteError, match="the head 'lm' gives infinities or NaN"):
        plan.head_logits("lm", torch.full((1, 32), torch.inf))


# -- batches


class Waits(TorchDispatchMode):
    """Notes each operation whose result the host has to wait for, were the tensors on an accelerator."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal", "item")

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.name().split("::")[1].split(".")[0]
        indices = args[1] if name in ("index", "index_put") else ()
        if name in self.NAMES or any(isinstance(i, Tensor) and i.dtype == torch.bool for i in indices):
            self.noted.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("mask", ["real tokens", "holes", "padding kept"])
def test_nothing_in_the_model_waits_for_a_device(family: str, mask: str) -> None:
    config = read_config(TINY[family])[1]
    model = unlike(Model(config, tasks=tuple(config.heads)), 0).eval()
    ids, attended = torch.randint(5, 20, (3, 12)), torch.ones(3, 12, dtype=torch.long)
    attended[1, 5:] = 0
    if mask == "holes":
        attended[0, 2:5] = 0
    batch, padding = pack(ids, attended, None, position_pad_id=config.position_pad_id, keep_padding=mask == "padding kept")
    with torch.inference_mode(), Waits() as waits:
        trace = model.encode(batch, states=True)
        for read in READS.values():
            read(trace.hidden, batch)
        padding.pad(trace.hidden)
    assert waits.noted == []
    with Waits() as waits:  # the instrument works
        bool(attended.any())
        attended[attended > 0]
    assert len(waits.noted) == 2


def test_a_batch_knows_its_largest_indices() -> None:
    config = read_config(BERT)[1]
    for rows, segments, error, message in [
        ([[5, 9999]], None, BadInputError, f"token id 9999 is outside this model's table of {config.vocab_size}"),
        ([[5], [6, -3]], None, BadInputError, "token id -3 is outside"),
        ([[5, 6]], [[0, 2]], BadInputError, "token type id 2 is outside this model's table of 2"),
        ([[5] * 41], None, TooLongError, "position 40 is outside this model's table of 40"),
    ]:
        with pytest.raises(error, match=message):
            check(config, Packed.of(rows, segments))
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        real = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        with pytest.raises(error, match=message):
            check(config, pack(ids, real, None if segments is None else torch.tensor(segments))[0])
    for batch in (Packed.of([]), Packed.of([[]]), Packed.of(ROWS)):
        check(config, batch)
        assert batch.cu_seqlens.dtype == torch.int32
        assert batch.cu_seqlens.diff().tolist() == list(batch.lengths)
        assert batch.max_length == max(batch.lengths, default=0)


def test_a_bias_may_depend_on_queries_and_keys() -> None:
    """As in DeBERTa: the bias of a group is made of its own queries and keys."""
    config = read_config(BERT)[1]
    attention = unlike(Attention(config, config.layers[0]), 0).eval()
    batch, x = Packed.of([[5] * 3, [5] * 3, [5] * 4]), torch.randn(10, 32)
    groups = []

    def bias(group: int, q: Tensor, k: Tensor) -> Tensor:
        groups.append((group, tuple(q.shape)))
        return (q.sum(-1, keepdim=True) - k.sum(-1)[..., None, :]) / 3

    with torch.no_grad():
        weights: list[Tensor] = []
        found, traced = (
            attention(x, batch, AttentionContext(bias=bias)),
            attention(x, batch, AttentionContext(bias=bias), weights),
        )
        q, k, v = (part(x).view(10, 4, 8).transpose(0, 1) for part in (attention.q, attention.k, attention.v))  # (A, T, D)
        scores = q @ k.transpose(1, 2) / 8**0.5 + (q.sum(-1, keepdim=True) - k.sum(-1)[:, None]) / 3
        owner = torch.tensor([0] * 3 + [1] * 3 + [2] * 4)
        scores = scores.masked_fill(owner[:, None] != owner, -torch.inf)
        expected = attention.o((scores.softmax(-1) @ v).transpose(0, 1).reshape(10, 32))
    assert groups == [(0, (2, 4, 3, 8)), (1, (1, 4, 4, 8))] * 2
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(traced, expected, rtol=0, atol=1e-6)


def test_a_plan_of_a_loaded_model_leaves_its_files_alone(tmp_path: Path) -> None:
    model = nb.load(write_folder(tmp_path, BERT, tensors_of(BERT)))
    bare = model.bare()
    assert type(bare) is Model
    assert not {"ledger", "snapshot", "tokenizer"} & vars(bare).keys()
    assert bare.embed is model.embed
