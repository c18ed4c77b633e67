"""The fast step against plain autograd with torch's AdamW, and against itself: resumed, with other threads, with layers computed again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import training
from classifiers import FAMILIES
from training import losses, run, same_bits

import nativebert as nb
from nativebert import kernels
from nativebert.loading import LoadedModel
from nativebert.nn.packed import Packed
from nativebert.train.classification import Classification
from nativebert.train.distributed import Processes
from nativebert.train.fast import FastStep, why_not
from nativebert.train.fast.native import Native
from nativebert.train.parameters import freeze, parameter_groups, set_dropout

pytestmark = pytest.mark.skipif(not kernels.available(), reason=kernels.why_not())
CARRIED = [family for family in FAMILIES if family not in ("mpnet", "modernbert")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.folder(tmp_path_factory.mktemp("tiny"))


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def largest_difference(model: LoadedModel, other: LoadedModel) -> float:
    """Of all parameters but those that nothing depends on: the gradient of the keys' bias is rounding, of which AdamW makes whole steps."""
    theirs = dict(other.named_parameters())
    return max(
        float((p.detach().double() - theirs[name].detach().double()).abs().max())
        for name, p in model.named_parameters()
        if not name.endswith("attn.k.bias")
    )


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("family", CARRIED)
def test_five_steps_of_every_family(family: str, accumulated: int, tmp_path: Path) -> None:
    folder = training.folder(tmp_path, family)
    settings = {
        "max_steps": 5,
        "learning_rate": 2e-4,
        "gradient_accumulation_steps": accumulated,
        "weight_decay": 0.1,
        "count": 150,
    }
    exact, expected = run(folder, precision="float64", **settings)
    slow, theirs = run(folder, **settings)
    fast, found = run(folder, step=FastStep, **settings)
    # where float32 itself is further from the truth (small gradients, which AdamW makes whole steps of), torch's error is the measure
    assert largest_difference(fast, exact) < max(5e-6, 1.5 * largest_difference(slow, exact))
    error = [abs(a - b) for a, b in zip(losses(theirs), losses(expected))]
    assert losses(found) == pytest.approx(losses(expected), abs=max(1e-6, 1.5 * max(error)))


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu", "gelu_10"])
def test_activations(activation: str, tmp_path: Path) -> None:
    from classifiers import classifier

    torch.manual_seed(0)
    folder = classifier(tmp_path, "bert", ["bad", "good"], hidden_act=activation)
    slow, _ = run(folder, max_steps=3, learning_rate=2e-4)
    fast, _ = run(folder, step=FastStep, max_steps=3, learning_rate=2e-4)
    assert largest_difference(fast, slow) < 5e-6


def test_rows_that_no_batch_has_for_long(tiny: Path) -> None:
    """A token of few texts is brought up to date over more steps than its momentum is followed for, with a rate that changes."""
    settings = {
        "max_steps": 240,
        "learning_rate": 1e-4,
        "weight_decay": 0.5,
        "batch_size": 2,
        "lr_scheduler_type": "cosine",
        "count": 480,
    }
    slow, _ = run(tiny, **settings)
    fast, _ = run(tiny, step=FastStep, **settings)
    table = "embed.token.weight"
    before = nb.load(tiny).get_parameter(table)
    untouched = (slow.get_parameter(table) - before).abs().max(1).values > 0
    assert bool(untouched.all()), "every row decays at least"
    torch.testing.assert_close(fast.get_parameter(table), slow.get_parameter(table), atol=3e-4, rtol=0)
    rare = torch.ones(len(before), dtype=torch.bool)
    rare[[n for text in training.reviews(480)[0] for n in nb.load(tiny).tokenizer.encode(text).ids]] = False
    assert bool(rare.any())
    torch.testing.assert_close(fast.get_parameter(table)[rare], slow.get_parameter(table)[rare], atol=1e-7, rtol=1e-5)


def test_the_encoder_gives_the_same_with_any_number_of_threads(tiny: Path) -> None:
    gradients = []
    for count in (1, 2, 3):
        with threads(count):
            model = nb.load(tiny).train()
            step = FastStep(model, parameter_groups(model, 0.01), seed=7)
            step.begin(1)
            hidden = step.encode(Packed.of([list(range(2, 2 + n)) for n in (3, 9, 9, 40)]))
            hidden.backward(torch.linspace(-1, 1, hidden.numel()).view_as(hidden))
            gradients.append(
                [
                    hidden.detach(),
                    *(p.grad.clone() for block in model.blocks() for p in block.parameters() if p.grad is not None),
                ]
            )
            step.close()
    for others in gradients[1:]:
        assert all(torch.equal(a, b) for a, b in zip(gradients[0], others, strict=True))


def test_layers_computed_again_have_the_same_bits(tiny: Path) -> None:
    plain, _ = run(tiny, step=FastStep, dropout=0.2)
    again, _ = run(tiny, step=partial(FastStep, checkpointing=True), dropout=0.2)
    assert same_bits(plain, again)


def test_evaluating_and_saving_change_nothing(tiny: Path, tmp_path: Path) -> None:
    plain, _ = run(tiny, step=FastStep, dropout=0.1)
    busy, _ = run(
        tiny, tmp_path, step=FastStep, dropout=0.1, save_strategy="steps", save_steps=1, eval_strategy="steps", eval_steps=1
    )
    assert same_bits(plain, busy)


@pytest.mark.parametrize("at", [1, 7, 11])
def test_a_resumed_run_has_the_same_bits(tiny: Path, tmp_path: Path, at: int) -> None:
    whole, result = run(tiny, step=FastStep, dropout=0.1)
    run(tiny, tmp_path, step=FastStep, dropout=0.1, save_strategy="steps", save_steps=at, save_total_limit=None)
    resumed, again = run(tiny, tmp_path, step=FastStep, dropout=0.1, resume=tmp_path / f"checkpoint-{at}")
    assert same_bits(whole, resumed)
    assert losses(again)[at:] == losses(result)[at:]


def test_what_is_saved_is_what_is_trained(tiny: Path, tmp_path: Path) -> None:
    trained, _ = run(tiny, tmp_path, step=FastStep, weight_decay=0.3, save_strategy="steps", save_steps=12)
    assert same_bits(trained, nb.load(tmp_path / "checkpoint-12"))


def test_dropout(tiny: Path) -> None:
    """About that share is dropped, what is left is scaled up, and each step and micro-batch draws anew."""
    x = torch.ones(200_000)
    native = Native()
    dropped = native.drop(x, 0.3, 12345)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.005)
    assert float(dropped.max()) == pytest.approx(1 / 0.7)
    assert torch.equal(dropped, native.drop(x, 0.3, 12345))
    other = native.drop(x, 0.3, 12346)
    both = float(((dropped == 0) & (other == 0)).float().mean())
    assert both == pytest.approx(0.09, abs=0.005)
    assert float(((dropped[1:] == 0) & (dropped[:-1] == 0)).float().mean()) == pytest.approx(0.09, abs=0.005)

    model = nb.load(tiny).train()
    set_dropout(model, 0.3)
    step = FastStep(model, parameter_groups(model, 0.01), seed=1)
    batch = Packed.of([[2, 40, 41, 42, 3], [2, 43, 44, 3]])
    states = []
    for number, micro in ((1, 0), (1, 1), (2, 0), (1, 0)):
        step.begin(number)
        step.micro_batch(micro)
        states.append(step.encode(batch).detach())
    assert torch.equal(states[0], states[3])
    assert not torch.allclose(states[0], states[1])
    assert not torch.allclose(states[0], states[2])
    step.close()


def test_models_run_through_their_own_forward_pass(tiny: Path) -> None:
    """With padding, too, where a caller wants the cells of padding."""
    model = nb.load(tiny).train()
    set_dropout(model, 0.0)
    ids = torch.tensor([[2, 40, 41, 42, 3], [2, 43, 3, 0, 0]])
    mask = (ids != 0).long()
    for keep in (False, True):
        model.zero_grad()
        expected = model(ids, mask, keep_padding=keep).logits
        expected.square().sum().backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        step = FastStep(model, parameter_groups(model, 0.01))
        step.begin(1)
        found = model(ids, mask, keep_padding=keep).logits
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
        found.square().sum().backward()
        for name in ("layers.0.attn.q.weight", "layers.1.mlp.down.weight", "embed.norm.bias", "layers.0.mlp.up.bias"):
            grad = model.get_parameter(name).grad
            assert grad is not None
            torch.testing.assert_close(grad, gradients[name], atol=1e-5, rtol=1e-4)
        step.close()
        assert model.training_encoder is None
        assert model.embed.token.weight.requires_grad
    assert model.eval()(ids).logits.shape == (2, 2)


def test_why_not(tmp_path: Path) -> None:
    def reason(family: str, **how: Any) -> str:
        folder = tmp_path / f"{family}{len(how)}"
        if not folder.exists():
            training.folder(folder, family)
        model = nb.load(folder, **how)
        return why_not(model, parameter_groups(model, 0.01))

    assert reason("bert") == ""
    assert "mpnet has other layers" in reason("mpnet")
    assert "modernbert has other layers" in reason("modernbert")
    assert "float64" in reason("bert", precision="float64")
    model = nb.load(tmp_path / "bert0")
    freeze(model, ["layers.0"])
    assert "frozen" in why_not(model, parameter_groups(model, 0.01))
    with pytest.raises(ValueError, match="frozen"):
        FastStep(model, parameter_groups(model, 0.01))


@pytest.mark.parametrize("level", kernels.levels())
@pytest.mark.parametrize(
    ("M", "N", "K"), [(1, 1, 1), (7, 33, 5), (50, 70, 200), (33, 384, 384), (210, 96, 500), (3, 500, 1024)]
)
def test_products(level: str, M: int, N: int, K: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In all three directions, of every size."""
    monkeypatch.setenv(kernels.VARIABLE, level)
    native, g = Native(), torch.Generator().manual_seed(M + N + K)
    a, b = torch.randn(M, K, generator=g), torch.randn(N, K, generator=g)
    bias, residual = torch.randn(N, generator=g), torch.randn(M, N, generator=g)
    exact = (a.double() @ b.double().t()).float()
    bound = {"atol": 3e-7 * (K + 20), "rtol": 0}
    for a_turned in (False, True):
        for b_turned in (False, True):
            turned = [x.t().contiguous() if t else x for x, t in ((a, a_turned), (b, b_turned))]
            how = {"a_transposed": a_turned, "b_transposed": b_turned}
            torch.testing.assert_close(native.product(*turned, **how), exact, **bound)
            found = native.product(*turned, bias=bias, residual=residual, **how)
            torch.testing.assert_close(found, exact + bias + residual, **bound)
            out = residual.clone()
            native.product(*turned, residual=out, out=out, **how)
            torch.testing.assert_close(out, exact + residual, **bound)


@pytest.mark.parametrize("level", kernels.levels())
@pytest.mark.parametrize("width", [4, 16, 17, 32, 64])
def test_attention(level: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and back, of sequences of every length, against torch."""
    monkeypatch.setenv(kernels.VARIABLE, level)
    from nativebert.train.fast.layer import Sequences

    native, heads, g = Native(), 3, torch.Generator().manual_seed(0)
    lengths = [1, 2, 15, 16, 17, 33, 50]
    batch = Packed.of([[1] * n for n in lengths])
    T, H = sum(lengths), heads * width
    qkv = torch.randn(T, 3 * H, generator=g).requires_grad_()
    direction = torch.randn(T, H, generator=g)
    parts = []
    for part in qkv.split(lengths):
        q, k, v = part.view(len(part), 3, heads, width).permute(1, 2, 0, 3)
        parts.append((torch.softmax(q @ k.transpose(1, 2) * width**-0.5, -1) @ v).transpose(0, 1).reshape(len(part), H))
    expected = torch.cat(parts)
    expected.backward(direction)
    s = Sequences.of(batch, heads)
    context, weights = native.attend(qkv.detach(), s.starts, s.longest, s.where, s.size, heads, 0.0, 0)
    torch.testing.assert_close(context, expected.detach(), atol=2e-6, rtol=0)
    d_qkv = native.attend_back(qkv.detach(), s.starts, s.longest, s.where, weights, direction, heads, 0.0, 0)
    torch.testing.assert_close(d_qkv, qkv.grad, atol=1e-5, rtol=0)


def test_a_diverged_gradient_changes_nothing(tiny: Path) -> None:
    from nativebert.errors import DivergedError

    model = nb.load(tiny).train()
    work = Classification(model, training.labelled(model, *training.reviews(8)), None, training.options())
    step = FastStep(model, parameter_groups(model, 0.01))
    step.begin(1)
    work.backward(step, [work.batch(item, 0) for item in work.epoch_batches(0, Processes())], Processes())
    gradient = model.get_parameter("layers.0.mlp.up.weight").grad
    assert gradient is not None
    gradient[0, 0] = torch.nan
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(DivergedError):
        step.update(1e-3, 1.0)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    step.close()
