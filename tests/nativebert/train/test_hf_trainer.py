"""``nativebert.hf.Trainer`` beside transformers': the same losses in the same order; and what scripts do with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training
from training import reviews

from nativebert import hf
from nativebert.errors import BadInputError, RefusedError
from nativebert.hf.trainer_utils import get_last_checkpoint
from nativebert.train import set_dropout

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.folder(tmp_path_factory.mktemp("tiny"))


def accuracy(found: Any) -> dict[str, float]:
    logits, labels = found
    return {"accuracy": float((np.argmax(logits, axis=-1) == labels).mean())}


def trainer(
    library: Any, folder: Path, output: Path, *, kind: Any = None, parts: dict[str, Any] | None = None, **arguments: Any
) -> Any:
    """A Trainer of either library, in small."""
    words = library.AutoTokenizer.from_pretrained(folder)
    model = library.AutoModelForSequenceClassification.from_pretrained(folder, **NO_DROPOUT)
    texts, labels = reviews(90)
    data = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "label": label, "text": text}
        for ids, label, text in zip(words(texts)["input_ids"], labels, texts)
    ]
    settings = {
        "max_steps": 20, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "logging_steps": 1, "save_strategy": "no",
        "report_to": "none", "use_cpu": True, "disable_tqdm": True,
    }  # fmt: skip
    return (kind or library.Trainer)(
        model=model,
        args=library.TrainingArguments(output_dir=str(output), **settings | arguments),
        train_dataset=data,
        eval_dataset=data[:20],
        data_collator=library.DataCollatorWithPadding(words),
        processing_class=words,
        compute_metrics=accuracy,
        **(parts or {}),
    )


def losses(made: Any) -> list[float]:
    return [line["loss"] for line in made.state.log_history if "loss" in line]


@pytest.mark.reference
@pytest.mark.parametrize("strategy", ["random", "sequential"])
def test_the_losses_are_the_references(strategy: str, tiny: Path, tmp_path: Path) -> None:
    import transformers

    pytest.importorskip("accelerate")
    how = {
        "train_sampling_strategy": strategy, "warmup_steps": 4, "weight_decay": 0.1, "eval_strategy": "steps", "eval_steps": 10,
        "lr_scheduler_type": "cosine",
    }  # fmt: skip
    ours, theirs = trainer(hf, tiny, tmp_path / "a", **how), trainer(transformers, tiny, tmp_path / "b", **how)
    ours.train()
    theirs.train()
    assert losses(ours) == pytest.approx(losses(theirs), abs=1e-5)
    for mine, its in zip(ours.state.log_history, theirs.state.log_history):
        for name in ("learning_rate", "eval_loss", "eval_accuracy", "grad_norm"):
            assert (name in mine) == (name in its)
            if name in mine:
                assert mine[name] == pytest.approx(its[name], abs=1e-4)
        assert (mine["step"], mine["epoch"]) == (its["step"], pytest.approx(its["epoch"], abs=1e-4))


def test_accumulated_batches_are_means(tiny: Path, tmp_path: Path) -> None:
    """Four batches of 4 are one of 16. transformers 5.24 adds the four means up instead, and its losses are four times as large."""
    whole = trainer(hf, tiny, tmp_path, per_device_train_batch_size=16, max_steps=8)
    parts = trainer(hf, tiny, tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=4, max_steps=8)
    whole.train()
    parts.train()
    assert losses(parts)[:5] == pytest.approx(losses(whole)[:5], abs=1e-5)


def test_evaluate_predict_save_resume(tiny: Path, tmp_path: Path) -> None:
    first = trainer(hf, tiny, tmp_path, save_strategy="steps", save_steps=8, eval_strategy="steps", eval_steps=8)
    result = first.train()
    assert result.global_step == 20
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-8", "checkpoint-16", "checkpoint-20"}
    state = json.loads((tmp_path / "checkpoint-8" / "trainer_state.json").read_text())
    assert state["global_step"] == 8
    metrics = first.evaluate()
    assert {"eval_loss", "eval_accuracy", "eval_runtime", "epoch"} <= metrics.keys()
    predicted = first.predict(first.eval_dataset)
    assert predicted.predictions.shape == (20, 2)
    assert predicted.metrics["test_accuracy"] == metrics["eval_accuracy"]
    first.save_model(tmp_path / "saved")
    again = hf.pipeline("text-classification", str(tmp_path / "saved"))
    assert again("deep power")[0]["label"] in ("bad", "good")

    second = trainer(hf, tiny, tmp_path, save_strategy="steps", save_steps=8)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    for (name, mine), (_, other) in zip(first.model.named_parameters(), second.model.named_parameters()):
        assert torch.equal(mine, other), name


def test_what_scripts_override(tiny: Path, tmp_path: Path) -> None:
    class Weighted(hf.Trainer):  # type: ignore[name-defined, misc]
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            loss = torch.nn.functional.cross_entropy(outputs.logits, labels, weight=torch.tensor([1.0, 3.0]))
            return (loss, outputs) if return_outputs else loss

    events: list[str] = []

    class Note(hf.TrainerCallback):  # type: ignore[name-defined, misc]
        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            events.append(f"epoch {state.epoch:.0f}")
            assert kwargs["model"] is not None

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            control.should_training_stop = state.global_step >= 15
            return control

    made = trainer(hf, tiny, tmp_path, kind=Weighted, parts={"callbacks": [Note]}, max_steps=-1, num_train_epochs=9)
    made.train()
    assert made.state.global_step == 15
    assert events == ["epoch 1", "epoch 1"]  # the second is that of the stop, after 1.25 epochs
    plain = trainer(hf, tiny, tmp_path)
    plain.train()
    assert losses(made)[0] != pytest.approx(losses(plain)[0], abs=1e-3)


def test_early_stopping(tiny: Path, tmp_path: Path) -> None:
    how = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True}
    made = trainer(
        hf, tiny, tmp_path, parts={"callbacks": [hf.EarlyStoppingCallback(2, 10.0)]}, metric_for_best_model="loss", **how
    )
    made.train()
    assert made.state.global_step == 6


def test_the_seeds_lines(tiny: Path, tmp_path: Path) -> None:
    """Fine-tuning as it is mostly written."""
    tokenizer = hf.AutoTokenizer.from_pretrained(tiny)
    model = hf.AutoModelForSequenceClassification.from_pretrained(tiny)
    texts, labels = reviews(40)
    dataset = [dict(tokenizer(text), label=label) for text, label in zip(texts, labels)]
    args = hf.TrainingArguments(
        output_dir=str(tmp_path / "results"), num_train_epochs=3, per_device_train_batch_size=16, learning_rate=2e-5
    )
    made = hf.Trainer(model=model, args=args, train_dataset=dataset, eval_dataset=dataset, processing_class=tokenizer)
    assert made.train().global_step == 9
    assert made.evaluate()["eval_loss"] > 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"fp16": True}, RefusedError, "does not support fp16=: leave it out"),
        ({"deepspeed": "x"}, RefusedError, "torchrun"),
        ({"optim": "sgd"}, RefusedError, "or pass optimizers="),
        ({"learning_rat": 1}, BadInputError, "no argument 'learning_rat'"),
        ({"load_best_model_at_end": True}, BadInputError, "chosen by evaluations: set eval_strategy"),
        (
            {"load_best_model_at_end": True, "eval_strategy": "epoch"},
            BadInputError,
            "to be the same; they are 'steps' and 'epoch'",
        ),
        (
            {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 3, "save_steps": 4},
            BadInputError,
            "a multiple of eval_steps: they are 4 and 3",
        ),
        ({"report_to": ["wandb"]}, RefusedError, "report_to='wandb' is not supported"),
        ({"lr_scheduler_type": "greedy"}, RefusedError, "use linear, cosine"),
        ({"torch_compile": True}, RefusedError, "torch_compile="),
        ({"push_to_hub": True}, RefusedError, "huggingface_hub"),
        ({"batch_eval_metrics": True}, RefusedError, "compute_metrics is called once"),
        ({"eval_strategy": "never"}, BadInputError, "must be one of no, steps, epoch, not 'never'"),
        ({"logging_steps": 0}, BadInputError, "needs logging_steps above 0"),
        ({"per_device_train_batch_size": 0}, BadInputError, "per_device_train_batch_size"),
    ],
)
def test_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        hf.TrainingArguments("out", **arguments)


def test_old_names() -> None:
    arguments = hf.TrainingArguments(
        "out", evaluation_strategy="epoch", warmup_ratio=0.1, no_cuda=True, overwrite_output_dir=True, fp16=False, group_by_length=True,
        per_gpu_train_batch_size=4, include_inputs_for_metrics=True,
    )  # fmt: skip
    assert (arguments.eval_strategy, arguments.use_cpu) == ("epoch", True)
    assert arguments.eval_strategy == hf.IntervalStrategy.EPOCH
    assert (arguments.train_batch_size, arguments.train_sampling_strategy) == (4, "group_by_length")
    assert arguments.get_warmup_steps(95) == 10
    assert arguments.include_for_metrics == ["inputs"]
    assert (arguments.fp16, arguments.world_size, arguments.do_eval) == (False, 1, True)
    assert arguments.to_dict()["eval_strategy"] == "epoch"


@pytest.mark.reference
def test_the_defaults_are_the_references() -> None:
    import transformers

    transformers.logging.set_verbosity_warning()  # on which one default depends, and which other tests change
    ours, theirs = hf.TrainingArguments("out", use_cpu=True), transformers.TrainingArguments("out", use_cpu=True)
    mine, its = ours.to_dict(), theirs.to_dict()
    left = {
        "fast",
        "logging_dir",
        "warmup_ratio",
        "group_by_length",
        "hub_token",
        "accelerator_config",
        "dataloader_pin_memory",
    }
    for name in set(mine) & set(its) - left:
        assert mine[name] == its[name] or (not mine[name] and not its[name]), name
    unknown = {name for name in its if not hasattr(ours, name)}
    assert not unknown - {"activation_checkpointing", "activation_checkpointing_kwargs"}, unknown


def test_what_a_trainer_needs(tiny: Path) -> None:
    with pytest.raises(BadInputError, match="needs a model"):
        hf.Trainer()
    with pytest.raises(BadInputError, match=r"a model of nativebert\.hf"):
        hf.Trainer("bert")
    with pytest.raises(BadInputError, match="has no head"):
        hf.Trainer(hf.AutoModel.from_pretrained(tiny))
    model = hf.AutoModelForSequenceClassification.from_pretrained(tiny)
    with pytest.raises(BadInputError, match="needs a train_dataset"):
        hf.Trainer(model).train()
    with pytest.raises(BadInputError, match="needs an eval_dataset"):
        hf.Trainer(model, hf.TrainingArguments("out", eval_strategy="epoch"))
    with pytest.raises(BadInputError, match="no column of the dataset"):
        hf.Trainer(model, train_dataset=[{"text": "a cat"}]).train()
    with pytest.raises(RefusedError, match="does not support push_to_hub: save_model"):
        hf.Trainer(model).push_to_hub()


@pytest.mark.reference
def test_collators(tiny: Path) -> None:
    import transformers

    rows = [
        {"input_ids": [2, 40, 41, 3], "attention_mask": [1] * 4, "labels": [-100, 0, 1, -100]},
        {"input_ids": [2, 3], "attention_mask": [1, 1], "labels": [-100, -100]},
    ]
    plain = [{k: v for k, v in row.items() if k != "labels"} | {"label": n} for n, row in enumerate(rows)]
    ours, theirs = (library.AutoTokenizer.from_pretrained(tiny) for library in (hf, transformers))
    for name, given in (("DataCollatorWithPadding", plain), ("DataCollatorForTokenClassification", rows)):
        found, expected = getattr(hf, name)(ours)(given), getattr(transformers, name)(theirs)(given)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in found)
    texts = [{"input_ids": list(range(2, 60))}] * 4
    torch.manual_seed(3)
    found = hf.DataCollatorForLanguageModeling(ours)(texts)
    torch.manual_seed(3)
    expected = transformers.DataCollatorForLanguageModeling(theirs)(texts)
    assert torch.equal(found["labels"], expected["labels"])
    assert torch.equal(found["input_ids"], expected["input_ids"])


@pytest.mark.reference
def test_accumulated_batches_are_those_of_the_reference_where_it_divides(tiny: Path, tmp_path: Path) -> None:
    """transformers' Trainer divides BERT's losses by the number of batches where ``loss_is_scaled_for_ga`` says that nobody has."""
    import transformers

    pytest.importorskip("accelerate")

    class Divided(transformers.Trainer):  # type: ignore[misc]
        loss_is_scaled_for_ga = False

    how = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "weight_decay": 0.1, "max_grad_norm": 0.5}
    ours, theirs = trainer(hf, tiny, tmp_path / "a", **how), trainer(transformers, tiny, tmp_path / "b", kind=Divided, **how)
    ours.train()
    theirs.train()
    assert losses(ours) == pytest.approx(losses(theirs), abs=1e-5)
    expected = dict(theirs.model.state_dict())
    for name, value in ours.model.state_dict().items():
        if name.endswith(
            "key.bias"
        ):  # the same is added to all scores of a token: no gradient but rounding, which Adam magnifies
            continue
        torch.testing.assert_close(value, expected[name], atol=1e-4, rtol=1e-4, msg=name)


class TwoRates(hf.Trainer):  # type: ignore[name-defined, misc]
    """With an optimizer of its own."""

    def create_optimizer(self) -> Any:
        self.optimizer = torch.optim.Adagrad(self.model.parameters(), lr=1e-2)
        return self.optimizer


@pytest.mark.parametrize("strategy", ["random", "group_by_length", "own optimizer", "torch"])
def test_resumed_runs_have_the_same_bits(strategy: str, tiny: Path, tmp_path: Path) -> None:
    """Within an epoch, with dropout and an evaluation on the way."""
    how: dict[str, Any] = {"save_strategy": "steps", "save_steps": 8, "eval_strategy": "steps", "eval_steps": 5}
    how |= {
        "per_device_train_batch_size": 4,
        "train_sampling_strategy": strategy if strategy == "group_by_length" else "random",
    }
    how |= {"fast": False} if strategy == "torch" else {}
    kind = TwoRates if strategy == "own optimizer" else None

    def made() -> Any:
        one = trainer(hf, tiny, tmp_path, kind=kind, **how)
        set_dropout(one.model.native, 0.1)
        return one

    whole, resumed = made(), made()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert losses(whole) == losses(resumed)
    for (name, mine), (_, other) in zip(whole.model.named_parameters(), resumed.model.named_parameters()):
        assert torch.equal(mine, other), name


def test_callbacks_may_read_the_model_in_every_event(tiny: Path, tmp_path: Path) -> None:
    """Rows of the token table that a step left for later are there when they are asked for, and the run goes on as it was."""
    read: dict[str, Any] = {}

    class Reads(hf.TrainerCallback):  # type: ignore[name-defined, misc]
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            if state.global_step == 20:
                read["state"] = model.state_dict()
                model.save_pretrained(tmp_path / "within")
                model.eval()
                read["logits"] = model(input_ids=torch.tensor([[2, 40, 41, 50, 3]])).logits
                model.train()

    plain, made = trainer(hf, tiny, tmp_path), trainer(hf, tiny, tmp_path, parts={"callbacks": [Reads]})
    plain.train()
    made.train()
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, made.model.state_dict()[name]), name
        assert torch.equal(value, read["state"][name]), name
    saved = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "within")
    ids = torch.tensor([[2, 40, 41, 50, 3]])
    assert all(torch.equal(value, read["state"][name]) for name, value in saved.state_dict().items())
    torch.testing.assert_close(read["logits"], saved(input_ids=ids).logits, atol=1e-6, rtol=1e-6)


def test_each_pass_of_a_loss_has_its_own_dropout(tiny: Path, tmp_path: Path) -> None:
    differences = []

    class Twice(hf.Trainer):  # type: ignore[name-defined, misc]
        def compute_loss(self, model: Any, inputs: Any, **kwargs: Any) -> Any:
            first, second = model(**inputs), model(**inputs)
            differences.append(float((first.logits - second.logits).abs().max().detach()))
            return (first.loss + second.loss) / 2

    made = trainer(hf, tiny, tmp_path, kind=Twice, max_steps=3)
    for layer in made.model.native.layers:
        layer.dropout.p = 0.2
    made.train()
    assert min(differences) > 1e-3


def test_hidden_states_in_a_loss(tiny: Path, tmp_path: Path) -> None:
    class Penalised(hf.Trainer):  # type: ignore[name-defined, misc]
        def compute_loss(self, model: Any, inputs: Any, **kwargs: Any) -> Any:
            outputs = model(**inputs, output_hidden_states=True)
            return outputs.loss + 1e-3 * outputs.hidden_states[1].square().mean()

    with pytest.raises(BadInputError, match="train with fast=False"):
        trainer(hf, tiny, tmp_path, kind=Penalised).train()
    assert trainer(hf, tiny, tmp_path, kind=Penalised, fast=False, max_steps=2).train().global_step == 2


def test_checkpoints_of_the_model_alone(tiny: Path, tmp_path: Path) -> None:
    how = {"save_strategy": "steps", "save_steps": 10, "save_only_model": True}
    trainer(hf, tiny, tmp_path, **how).train()
    hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint-10")
    with pytest.raises(BadInputError, match="holds the model alone"):
        trainer(hf, tiny, tmp_path, **how).train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))


def test_which_checkpoints_stay(tiny: Path, tmp_path: Path) -> None:
    """Those of an earlier run are not touched without a limit; the best stays within it."""
    trainer(hf, tiny, tmp_path, save_strategy="steps", save_steps=15).train()
    trainer(hf, tiny, tmp_path, save_strategy="steps", save_steps=15, max_steps=16).train()
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-15", "checkpoint-16", "checkpoint-20"}
    how = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True}
    best = tmp_path / "best"
    # the first evaluation is the best, by a metric that only falls
    falls = iter(range(100, 0, -1))
    made = trainer(hf, tiny, best, save_total_limit=2, metric_for_best_model="fall", **how)
    made.compute_metrics = lambda p: {"fall": next(falls)}
    made.train()
    assert {path.name for path in best.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-20"}
    assert made.state.best_model_checkpoint == str(best / "checkpoint-2")
    saved = hf.AutoModelForSequenceClassification.from_pretrained(best / "checkpoint-2")
    assert all(torch.equal(a, b) for a, b in zip(saved.state_dict().values(), made.model.state_dict().values()))
    assert get_last_checkpoint(best) == str(best / "checkpoint-20")


def test_a_resumed_run_may_be_longer(tiny: Path, tmp_path: Path) -> None:
    trainer(hf, tiny, tmp_path, save_strategy="steps", save_steps=10).train()
    longer = trainer(hf, tiny, tmp_path, save_strategy="steps", save_steps=10, max_steps=24)
    assert longer.train(resume_from_checkpoint=True).global_step == 24
    other = trainer(hf, tiny, tmp_path, save_strategy="steps", learning_rate=1e-4)
    with pytest.raises(BadInputError, match=r"learning_rate was 0\.001 and is 0\.0001"):
        other.train(resume_from_checkpoint=True)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("linear", {}), ("cosine", {}), ("constant", {}), ("constant_with_warmup", {}), ("polynomial", {"power": 2.0, "lr_end": 1e-5}),
        ("cosine_with_restarts", {"num_cycles": 3}), ("inverse_sqrt", {}), ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
    ],
)  # fmt: skip
def test_schedules(name: str, settings: dict[str, Any]) -> None:
    import transformers

    rates = []
    for library in (hf, transformers):
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
        schedule = library.get_scheduler(
            name, optimizer, num_warmup_steps=3, num_training_steps=20, scheduler_specific_kwargs=settings
        )
        rates.append([])
        for _ in range(20):
            rates[-1].append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
    assert rates[0] == pytest.approx(rates[1], rel=1e-9, abs=1e-15)


def test_settings_of_schedules_are_checked() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    with pytest.raises(BadInputError, match="has no setting 'power'; it has num_cycles"):
        hf.get_scheduler("cosine", optimizer, 1, 2, {"power": 2})
    with pytest.raises(BadInputError, match="linear needs num_training_steps"):
        hf.get_scheduler("linear", optimizer, 1)
    with pytest.raises(BadInputError, match="must be one of linear, cosine"):
        hf.get_scheduler("exponential", optimizer, 1, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda words: hf.DataCollatorForLanguageModeling(words, mlm=False), "leave it out"),
        (lambda words: hf.DataCollatorForLanguageModeling(words, whole_word_mask=True), "whole_word_mask"),
        (lambda words: hf.DataCollatorWithPadding(words, return_tensors="tf"), "return_tensors='tf'"),
    ],
    ids=["mlm", "whole words", "tensors"],
)
def test_what_collators_refuse(make: Any, message: str, tiny: Path) -> None:
    with pytest.raises(RefusedError, match=message):
        make(hf.AutoTokenizer.from_pretrained(tiny))
