"""Groups of parameters, schedules, frozen parts, dropout, LoRA."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import training
from families import WITH_HEADS, Made, write
from training import labelled, options, reviews

import nativebert as nb
from nativebert.errors import BadInputError
from nativebert.train.batches import epoch_batches
from nativebert.train.classification import Classification
from nativebert.train.loop import TrainingLoop
from nativebert.train.lora import Adapters, LoraOptions
from nativebert.train.parameters import freeze, parameter_groups, set_dropout
from nativebert.train.reference import ReferenceStep
from nativebert.train.schedule import SCHEDULES, learning_rates


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.folder(tmp_path_factory.mktemp("tiny"))


@pytest.mark.reference
@pytest.mark.parametrize("variant", WITH_HEADS)
def test_decay_as_in_the_trainer(variant: str, tmp_path: Path) -> None:
    """The parameters with and without weight decay are those of transformers' Trainer."""
    from transformers.trainer import Trainer

    made = Made(variant, "ForSequenceClassification")
    theirs = write(made.model(), tmp_path, "float32")
    trainer = Trainer.__new__(Trainer)
    decayed = sum(p.numel() for n, p in theirs.named_parameters() if n in trainer.get_decay_parameter_names(theirs))
    model = nb.load(tmp_path)
    groups = parameter_groups(model, 0.1)
    assert sum(p.numel() for group in groups for p in group.params if group.weight_decay) == decayed
    assert sum(p.numel() for group in groups for p in group.params) == sum(p.numel() for p in theirs.parameters())


def test_layer_decay(tiny: Path) -> None:
    model = nb.load(tiny)
    rate = {id(p): group.multiplier for group in parameter_groups(model, 0.01, 0.5) for p in group.params}
    assert rate[id(model.get_parameter("embed.token.weight"))] == 0.5 ** (len(model.blocks()) + 1)
    assert rate[id(model.get_parameter("layers.0.attn.q.weight"))] == 0.5 ** len(model.blocks())
    assert rate[id(next(model.head.parameters()))] == 1.0
    with pytest.raises(BadInputError, match="layer_decay must be"):
        parameter_groups(model, 0.01, 1.5)


def test_frozen_parts_stay_as_they_are(tiny: Path) -> None:
    model = nb.load(tiny)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    freeze(model, ["embed", "layers.0-1"])
    work = Classification(model.train(), labelled(model, *reviews(20)), None, options(max_steps=2))
    TrainingLoop(work, ReferenceStep(model, parameter_groups(model, 0.01)), work.options).run()
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == name.startswith(("embed.", "layers.0.", "layers.1.")), name
    with pytest.raises(BadInputError, match=r"'layer.0'; a part of the model is one of embed, layers"):
        freeze(model, ["layer.0"])
    freeze(model, ["embed", "layers", "pool", "head"])
    with pytest.raises(BadInputError, match="nothing to train"):
        parameter_groups(model, 0.01)


def test_dropout_can_be_changed(tiny: Path) -> None:
    model = nb.load(tiny).train()
    ids = torch.tensor([[2, 40, 41, 42, 3]])
    set_dropout(model, 0.0)
    assert torch.equal(model(ids).logits, model(ids).logits)
    set_dropout(model, 0.5)
    assert not torch.equal(model(ids).logits, model(ids).logits)
    set_dropout(model, 0.0, attention=0.5)
    assert not torch.equal(model(ids).logits, model(ids).logits)
    with pytest.raises(BadInputError, match="below 1, not 1"):
        set_dropout(model, 1.0)


@pytest.mark.reference
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.13, 5])
def test_schedules_are_the_references(name: str, warmup: float) -> None:
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    steps = 23
    warm = int(warmup) if warmup >= 1 else -int(-warmup * steps // 1)
    schedule = get_scheduler(name, optimizer, num_warmup_steps=warm, num_training_steps=steps)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert learning_rates(name, 3e-4, steps, warmup) == pytest.approx(expected, abs=1e-18)


def test_batches() -> None:
    import numpy as np

    lengths = np.random.default_rng(0).integers(1, 60, 1000)
    batches = epoch_batches(lengths, 16, 42, 0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    spread = np.mean([lengths[b].max() - lengths[b].min() for b in batches])
    assert spread < 6
    assert lengths[batches[0]].sum() == max(lengths[b].sum() for b in batches)
    assert [b.tolist() for b in batches] == [b.tolist() for b in epoch_batches(lengths, 16, 42, 0)]
    for other in (epoch_batches(lengths, 16, 42, 1), epoch_batches(lengths, 16, 43, 0)):
        assert [b.tolist() for b in batches] != [b.tolist() for b in other]
    plain = epoch_batches(lengths, 16, 42, 0, shuffle=False)
    assert np.concatenate(plain).tolist() == list(range(1000))


def test_lora(tiny: Path, tmp_path: Path) -> None:
    model = nb.load(tiny).train()
    set_dropout(model, 0.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    ids = torch.tensor([[2, 40, 41, 42, 3]])
    expected = model(ids).logits
    work = Classification(model, labelled(model, *reviews(40)), None, options(max_steps=6, save_strategy="steps", save_steps=3))
    torch.manual_seed(0)
    work.adapters = Adapters(model, LoraOptions(rank=4))
    assert torch.equal(model(ids).logits, expected), "the second matrix begins as zeros"
    TrainingLoop(work, ReferenceStep(model, parameter_groups(model, 0.01)), work.options, tmp_path / "run").run()
    trained = model(ids).logits.detach()
    assert not torch.allclose(trained, expected)
    with work.adapters.merged():
        torch.testing.assert_close(model(ids).logits, trained, atol=1e-6, rtol=0)
        assert {name for name, _ in model.named_parameters()} == set(before)
        model.save(tmp_path / "saved")
    torch.testing.assert_close(nb.load(tmp_path / "saved")(ids).logits, trained, atol=1e-6, rtol=0)
    for name, p in model.named_parameters():
        name = name.replace(".base.", ".")
        changed = name.startswith(("head.", "pool."))
        assert "lora" in name or torch.equal(p, before[name]) != changed, name

    resumed = nb.load(tiny).train()
    set_dropout(resumed, 0.0)
    again = Classification(resumed, work.train, None, work.options)
    again.adapters = Adapters(resumed, LoraOptions(rank=4))
    step = ReferenceStep(resumed, parameter_groups(resumed, 0.01))
    TrainingLoop(again, step, work.options, tmp_path / "run").run(resume=tmp_path / "run" / "checkpoint-3")
    assert torch.equal(resumed(ids).logits, trained)
    with pytest.raises(BadInputError, match=r"names no layer; this model has attn.q"):
        Adapters(nb.load(tiny), LoraOptions(targets=("query",)))
