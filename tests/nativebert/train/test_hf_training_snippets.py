"""Short programs as transformers' documentation of training has them, run as they are and with another import line: the same losses."""

from __future__ import annotations

import json
import random
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import minilm, one_thread, unlike

pytestmark = [pytest.mark.reference, pytest.mark.slow]

GOOD, BAD = "happy wonderful great lovely warm".split(), "awful sad cold terrible boring".split()
PLAIN = "the film was a story of people who live in a small house near the river and talk".split()
NAMES = {"PER": "Anna Peter Maria".split(), "LOC": "Paris London Berlin".split()}


class Rows:
    """Examples with the methods of ``datasets.Dataset`` that the snippets call; that library is not a part of the tests."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return [row[key] for row in self.rows]
        if isinstance(key, slice):
            return {name: [row[name] for row in self.rows[key]] for name in self.column_names}
        return self.rows[int(key)]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    @property
    def column_names(self) -> list[str]:
        return list(self.rows[0])

    def map(self, function: Callable[..., Any], batched: bool = False, remove_columns: Any = (), **_: Any) -> Rows:
        if not batched:
            return Rows([{**row, **function(row)} for row in self.rows]).remove_columns(remove_columns)
        columns = dict(function(self[:]))
        made = [dict(zip(columns, values)) for values in zip(*columns.values())]
        same = len(made) == len(self.rows)
        kept = self.remove_columns(remove_columns).rows
        return Rows([{**row, **new} for row, new in zip(kept, made)] if same else made)

    def remove_columns(self, names: Any) -> Rows:
        names = [names] if isinstance(names, str) else names
        return Rows([{k: v for k, v in row.items() if k not in names} for row in self.rows])

    def rename_column(self, old: str, new: str) -> Rows:
        return Rows([{new if k == old else k: v for k, v in row.items()} for row in self.rows])

    def select(self, indices: Any) -> Rows:
        return Rows([self.rows[n] for n in indices])

    def train_test_split(self, test_size: float) -> dict[str, Rows]:
        count = round(len(self) * (1 - test_size))
        return {"train": Rows(self.rows[:count]), "test": Rows(self.rows[count:])}

    def set_format(self, kind: str) -> None:
        assert kind == "torch"
        self.rows = [{k: torch.tensor(v) for k, v in row.items()} for row in self.rows]


def texts(count: int = 48, seed: int = 0) -> Rows:
    """Texts and whether they are happy."""
    r = random.Random(seed)
    rows = []
    for _ in range(count):
        label = r.randint(0, 1)
        words = r.choices(PLAIN, k=r.randint(2, 14)) + r.choices(GOOD if label else BAD, k=2)
        r.shuffle(words)
        rows.append({"text": " ".join(words), "label": label})
    return Rows(rows)


def tagged(count: int = 32) -> Rows:
    """Words, and tags: 0 for none, 1 and 2 for names of people and places."""
    r, rows = random.Random(1), []
    for _ in range(count):
        words = r.choices(PLAIN, k=r.randint(3, 9))
        tags = [0] * len(words)
        for tag, names in enumerate(NAMES.values(), 1):
            n = r.randrange(len(words))
            words[n], tags[n] = r.choice(names), tag
        rows.append({"tokens": words, "ner_tags": tags})
    return Rows(rows)


def questions(count: int = 24) -> Rows:
    """Questions, contexts and answers, as SQuAD has them."""
    r, rows = random.Random(2), []
    for n in range(count):
        words = r.choices(PLAIN, k=r.randint(5, 14))
        place = r.choice(NAMES["LOC"])
        words[r.randrange(len(words))] = place
        context = " ".join(words)
        rows.append(
            {
                "id": str(n),
                "question": "Where is it ?",
                "context": context,
                "answers": {"text": [place], "answer_start": [context.index(place)]},
            }
        )
    return Rows(rows)


def history(trainer: Any) -> list[dict[str, float]]:
    """The log, without what a clock says."""
    clock = re.compile(r".*_(runtime|per_second|preparation_time)|total_flos")
    return [{k: float(v) for k, v in line.items() if not clock.fullmatch(k)} for line in trainer.state.log_history]


HELPERS = {"Rows": Rows, "texts": texts, "tagged": tagged, "questions": questions, "history": history}

# Names of models -> the checkpoint that stands for them, on both sides: without dropout.
_SIZES = {
    "vocab_size": 30522,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
}
_BERT = {**_SIZES, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_DISTIL = {
    "vocab_size": 30522, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 128, "dropout": 0.0,
    "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "qa_dropout": 0.0,
}  # fmt: skip
_MODERN = {**_SIZES, "pad_token_id": 0, "cls_token_id": 101, "sep_token_id": 102, "bos_token_id": 101, "eos_token_id": 102}
MODELS = {
    "google-bert/bert-base-cased": ("BertModel", _BERT),
    "google-bert/bert-base-uncased": ("BertForMaskedLM", _BERT),
    "distilbert/distilbert-base-uncased": ("DistilBertModel", _DISTIL),
    "distilbert-base-uncased-finetuned-sst-2-english": ("DistilBertForSequenceClassification", _DISTIL),
    "answerdotai/ModernBERT-base": ("ModernBertForMaskedLM", _MODERN),
}


@dataclass(frozen=True)
class Snippet:
    """A program, and the names of the values to compare. ``OUT`` stands for a folder."""

    name: str
    results: str
    text: str


QUICK = """logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True"""
START = """
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments
import numpy as np

dataset = texts().train_test_split(test_size=0.25)
tokenizer = AutoTokenizer.from_pretrained("google-bert/bert-base-cased")

def tokenize_function(examples):
    return tokenizer(examples["text"], truncation=True)

train_dataset = dataset["train"].map(tokenize_function, batched=True)
eval_dataset = dataset["test"].map(tokenize_function, batched=True)
model = AutoModelForSequenceClassification.from_pretrained("google-bert/bert-base-cased", num_labels=2)

def compute_metrics(eval_pred):
    logits, labels = eval_pred
    return {"accuracy": float((np.argmax(logits, axis=-1) == labels).mean())}
"""
FIT = f"""
training_args = TrainingArguments(output_dir=OUT, learning_rate=1e-3, num_train_epochs=2, {QUICK})
"""

SNIPPETS = [
    Snippet("training: a pretrained model", "log metrics", START + f'''
training_args = TrainingArguments(output_dir=OUT, eval_strategy="epoch", learning_rate=1e-3, {QUICK})
trainer = Trainer(
    model=model, args=training_args, train_dataset=train_dataset, eval_dataset=eval_dataset, compute_metrics=compute_metrics,
    processing_class=tokenizer,
)
trainer.train()
log = history(trainer)
metrics = {{name: value for name, value in trainer.evaluate().items() if name in ("eval_loss", "eval_accuracy", "epoch")}}
'''),
    Snippet("training: a native loop", "losses accuracy", '''
import torch
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_scheduler

tokenizer = AutoTokenizer.from_pretrained("google-bert/bert-base-cased")
tokenized = texts().map(lambda rows: tokenizer(rows["text"], padding="max_length", max_length=32, truncation=True), batched=True)
tokenized = tokenized.remove_columns(["text"])
tokenized = tokenized.rename_column("label", "labels")
tokenized.set_format("torch")
train_dataloader = DataLoader(tokenized.select(range(32)), shuffle=True, batch_size=8)
eval_dataloader = DataLoader(tokenized.select(range(32, 48)), batch_size=8)
model = AutoModelForSequenceClassification.from_pretrained("google-bert/bert-base-cased", num_labels=2)
optimizer = AdamW(model.parameters(), lr=1e-3)
num_epochs = 3
num_training_steps = num_epochs * len(train_dataloader)
lr_scheduler = get_scheduler(name="linear", optimizer=optimizer, num_warmup_steps=2, num_training_steps=num_training_steps)
device = torch.device("cpu")
model.to(device)
losses = []
model.train()
for epoch in range(num_epochs):
    for batch in train_dataloader:
        batch = {k: v.to(device) for k, v in batch.items()}
        outputs = model(**batch)
        loss = outputs.loss
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
model.eval()
right = []
for batch in eval_dataloader:
    with torch.no_grad():
        outputs = model(**{k: v.to(device) for k, v in batch.items()})
    right += (torch.argmax(outputs.logits, dim=-1) == batch["labels"]).tolist()
accuracy = sum(right) / len(right)
'''),
    Snippet("course: a loop with a collator", "losses rates", '''
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding
from transformers import get_cosine_schedule_with_warmup, set_seed

set_seed(7)
tokenizer = AutoTokenizer.from_pretrained("google-bert/bert-base-cased")
rows = texts().map(lambda row: tokenizer(row["text"]), batched=True).remove_columns("text")
model = AutoModelForSequenceClassification.from_pretrained("google-bert/bert-base-cased", num_labels=2)
loader = DataLoader(rows, batch_size=8, shuffle=True, collate_fn=DataCollatorWithPadding(tokenizer=tokenizer, padding=True))
no_decay = ["bias", "LayerNorm.weight"]
groups = [
    {"params": [p for n, p in model.named_parameters() if not any(nd in n for nd in no_decay)], "weight_decay": 0.1},
    {"params": [p for n, p in model.named_parameters() if any(nd in n for nd in no_decay)], "weight_decay": 0.0},
]
optimizer = torch.optim.AdamW(groups, lr=1e-3)
scheduler = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=2, num_training_steps=12)
losses, rates = [], []
for epoch in range(2):
    model.train()
    for batch in loader:
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
'''),
    Snippet("sequence classification", "log result best", '''
import numpy as np
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments, pipeline

imdb = texts().train_test_split(0.25)
tokenizer = AutoTokenizer.from_pretrained("distilbert/distilbert-base-uncased")
tokenized_imdb = {k: v.map(lambda examples: tokenizer(examples["text"], truncation=True), batched=True) for k, v in imdb.items()}
data_collator = DataCollatorWithPadding(tokenizer=tokenizer)

def compute_metrics(eval_pred):
    predictions, labels = eval_pred
    predictions = np.argmax(predictions, axis=1)
    return {"accuracy": (predictions == labels).mean()}

id2label = {0: "NEGATIVE", 1: "POSITIVE"}
label2id = {"NEGATIVE": 0, "POSITIVE": 1}
model = AutoModelForSequenceClassification.from_pretrained(
    "distilbert/distilbert-base-uncased", num_labels=2, id2label=id2label, label2id=label2id
)
training_args = TrainingArguments(
    output_dir=OUT, learning_rate=2e-3, per_device_train_batch_size=16, per_device_eval_batch_size=16, num_train_epochs=3,
    weight_decay=0.01, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True, push_to_hub=False,
    logging_steps=1, use_cpu=True, disable_tqdm=True,
)
trainer = Trainer(
    model=model, args=training_args, train_dataset=tokenized_imdb["train"], eval_dataset=tokenized_imdb["test"],
    processing_class=tokenizer, data_collator=data_collator, compute_metrics=compute_metrics,
)
trainer.train()
log = history(trainer)
best = [trainer.state.best_metric, trainer.state.best_global_step]
trainer.save_model(OUT + "/best")
result = pipeline("text-classification", model=OUT + "/best")("a great and lovely film")
'''),
    Snippet("token classification", "log predictions", f'''
import numpy as np
from transformers import AutoModelForTokenClassification, AutoTokenizer, DataCollatorForTokenClassification, Trainer, TrainingArguments

wnut = tagged().train_test_split(0.25)
tokenizer = AutoTokenizer.from_pretrained("distilbert/distilbert-base-uncased")

def tokenize_and_align_labels(examples):
    tokenized_inputs = tokenizer(examples["tokens"], truncation=True, is_split_into_words=True)
    labels = []
    for i, label in enumerate(examples["ner_tags"]):
        word_ids = tokenized_inputs.word_ids(batch_index=i)
        previous_word_idx = None
        label_ids = []
        for word_idx in word_ids:
            if word_idx is None:
                label_ids.append(-100)
            elif word_idx != previous_word_idx:
                label_ids.append(label[word_idx])
            else:
                label_ids.append(-100)
            previous_word_idx = word_idx
        labels.append(label_ids)
    tokenized_inputs["labels"] = labels
    return tokenized_inputs

tokenized = {{k: v.map(tokenize_and_align_labels, batched=True) for k, v in wnut.items()}}
data_collator = DataCollatorForTokenClassification(tokenizer=tokenizer)

def compute_metrics(p):
    predictions, labels = p
    predictions = np.argmax(predictions, axis=2)
    kept = labels != -100
    return {{"accuracy": (predictions[kept] == labels[kept]).mean()}}

id2label = {{0: "O", 1: "B-PER", 2: "B-LOC"}}
model = AutoModelForTokenClassification.from_pretrained(
    "distilbert/distilbert-base-uncased", num_labels=3, id2label=id2label, label2id={{v: k for k, v in id2label.items()}}
)
training_args = TrainingArguments(output_dir=OUT, learning_rate=2e-3, num_train_epochs=2, weight_decay=0.01, eval_strategy="epoch", {QUICK})
trainer = Trainer(
    model=model, args=training_args, train_dataset=tokenized["train"], eval_dataset=tokenized["test"], processing_class=tokenizer,
    data_collator=data_collator, compute_metrics=compute_metrics,
)
trainer.train()
log = history(trainer)
output = trainer.predict(tokenized["test"])
predictions = output.predictions[output.label_ids != -100]
'''),
    Snippet("question answering", "log starts", f'''
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, DefaultDataCollator, Trainer, TrainingArguments

squad = questions().train_test_split(test_size=0.25)
tokenizer = AutoTokenizer.from_pretrained("distilbert/distilbert-base-uncased")

def preprocess_function(examples):
    inputs = tokenizer(
        [q.strip() for q in examples["question"]], examples["context"], max_length=40, truncation="only_second",
        return_offsets_mapping=True, padding="max_length",
    )
    offset_mapping = inputs.pop("offset_mapping")
    start_positions, end_positions = [], []
    for i, offset in enumerate(offset_mapping):
        answer = examples["answers"][i]
        start_char = answer["answer_start"][0]
        end_char = start_char + len(answer["text"][0])
        sequence_ids = inputs.sequence_ids(i)
        idx = sequence_ids.index(1)
        context_start = idx
        while idx < len(sequence_ids) and sequence_ids[idx] == 1:
            idx += 1
        context_end = idx - 1
        if offset[context_start][0] > end_char or offset[context_end][1] < start_char:
            start_positions.append(0)
            end_positions.append(0)
        else:
            idx = context_start
            while idx <= context_end and offset[idx][0] <= start_char:
                idx += 1
            start_positions.append(idx - 1)
            idx = context_end
            while idx >= context_start and offset[idx][1] >= end_char:
                idx -= 1
            end_positions.append(idx + 1)
    inputs["start_positions"] = start_positions
    inputs["end_positions"] = end_positions
    return inputs

names = squad["train"].column_names
tokenized_squad = {{k: v.map(preprocess_function, batched=True, remove_columns=names) for k, v in squad.items()}}
model = AutoModelForQuestionAnswering.from_pretrained("distilbert/distilbert-base-uncased")
training_args = TrainingArguments(output_dir=OUT, eval_strategy="epoch", learning_rate=2e-3, num_train_epochs=3, weight_decay=0.01, {QUICK})
trainer = Trainer(
    model=model, args=training_args, train_dataset=tokenized_squad["train"], eval_dataset=tokenized_squad["test"],
    processing_class=tokenizer, data_collator=DefaultDataCollator(),
)
trainer.train()
log = history(trainer)
starts = trainer.predict(tokenized_squad["test"]).predictions[0]
starts -= starts.mean(axis=1, keepdims=True)  # what a bias adds to all of them changes no answer
'''),
    Snippet("masked language modeling", "log perplexity", f'''
import math
from transformers import AutoModelForMaskedLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments

eli5 = texts(64).train_test_split(0.25)
tokenizer = AutoTokenizer.from_pretrained("google-bert/bert-base-uncased")
tokenized = {{
    k: v.map(lambda examples: tokenizer(examples["text"]), batched=True, remove_columns=["text", "label"]) for k, v in eli5.items()
}}
block_size = 24

def group_texts(examples):
    concatenated_examples = {{k: sum(examples[k], []) for k in examples.keys()}}
    total_length = len(concatenated_examples[list(examples.keys())[0]])
    if total_length >= block_size:
        total_length = (total_length // block_size) * block_size
    return {{
        k: [t[i : i + block_size] for i in range(0, total_length, block_size)] for k, t in concatenated_examples.items()
    }}

lm_dataset = {{k: v.map(group_texts, batched=True, remove_columns=v.column_names) for k, v in tokenized.items()}}
data_collator = DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm_probability=0.15)
model = AutoModelForMaskedLM.from_pretrained("google-bert/bert-base-uncased")
training_args = TrainingArguments(output_dir=OUT, eval_strategy="epoch", learning_rate=1e-3, num_train_epochs=3, weight_decay=0.01, {QUICK})
trainer = Trainer(
    model=model, args=training_args, train_dataset=lm_dataset["train"], eval_dataset=lm_dataset["test"], data_collator=data_collator,
    processing_class=tokenizer,
)
trainer.train()
log = history(trainer)
perplexity = math.log(math.exp(trainer.evaluate()["eval_loss"]))
'''),
    Snippet("multiple choice", "log", f'''
import numpy as np
from transformers import AutoModelForMultipleChoice, AutoTokenizer, DataCollatorForMultipleChoice, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("google-bert/bert-base-uncased")
swag = Rows([{{"sent1": row["text"], "endings": ["it is great", "it is awful"], "label": 1 - row["label"]}} for row in texts()])

def preprocess_function(examples):
    first = [[text] * 2 for text in examples["sent1"]]
    first, second = sum(first, []), sum(examples["endings"], [])
    tokenized_examples = tokenizer(first, second, truncation=True)
    return {{k: [v[i : i + 2] for i in range(0, len(v), 2)] for k, v in tokenized_examples.items()}}

tokenized_swag = swag.map(preprocess_function, batched=True)
collator = DataCollatorForMultipleChoice(tokenizer=tokenizer)

def compute_metrics(eval_pred):
    predictions, labels = eval_pred
    return {{"accuracy": float((np.argmax(predictions, axis=1) == labels).mean())}}

model = AutoModelForMultipleChoice.from_pretrained("google-bert/bert-base-uncased")
training_args = TrainingArguments(
    output_dir=OUT, eval_strategy="epoch", learning_rate=1e-3, per_device_train_batch_size=16, num_train_epochs=2, weight_decay=0.01, {QUICK}
)
trainer = Trainer(
    model=model, args=training_args, train_dataset=tokenized_swag.select(range(32)), eval_dataset=tokenized_swag.select(range(32, 48)),
    processing_class=tokenizer, data_collator=collator, compute_metrics=compute_metrics,
)
trainer.train()
log = history(trainer)
'''),
    Snippet("callbacks: events", "events log", START + FIT + '''
from transformers import TrainerCallback

events = []

class MyCallback(TrainerCallback):
    "A callback that writes down what happens"
    def on_init_end(self, args, state, control, **kwargs):
        events.append("init end")
    def on_train_begin(self, args, state, control, **kwargs):
        events.append(f"train begin {state.max_steps} {state.num_train_epochs}")
    def on_epoch_begin(self, args, state, control, **kwargs):
        events.append("epoch begin")
    def on_step_begin(self, args, state, control, **kwargs):
        events.append("step begin")
    def on_substep_end(self, args, state, control, **kwargs):
        events.append("substep end")
    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        events.append("pre optimizer step")
    def on_optimizer_step(self, args, state, control, **kwargs):
        events.append("optimizer step")
    def on_step_end(self, args, state, control, model=None, **kwargs):
        events.append(f"step end {state.global_step} {state.epoch:.3f} {model.training}")
    def on_log(self, args, state, control, logs=None, **kwargs):
        events.append("log " + " ".join(name for name in logs if "model_preparation" not in name))
    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        events.append("evaluate " + " ".join(name for name in metrics if "model_preparation" not in name))
    def on_prediction_step(self, args, state, control, **kwargs):
        events.append("prediction step")
    def on_save(self, args, state, control, **kwargs):
        events.append("save")
    def on_predict(self, args, state, control, metrics, **kwargs):
        events.append("predict")
    def on_epoch_end(self, args, state, control, **kwargs):
        events.append("epoch end")
    def on_train_end(self, args, state, control, **kwargs):
        events.append("train end")

training_args.gradient_accumulation_steps = 2
training_args = TrainingArguments(
    output_dir=OUT, learning_rate=1e-3, num_train_epochs=2, gradient_accumulation_steps=1, eval_strategy="steps", eval_steps=4, logging_steps=3,
    save_strategy="steps", save_steps=4, load_best_model_at_end=True, use_cpu=True, disable_tqdm=True, logging_first_step=True,
)
trainer = Trainer(
    model, training_args, train_dataset=train_dataset, eval_dataset=eval_dataset, processing_class=tokenizer, callbacks=[MyCallback],
    compute_metrics=compute_metrics,
)
trainer.train()
trainer.predict(eval_dataset)
log = history(trainer)
'''),
    Snippet("callbacks: early stopping", "log", START + '''
from transformers import EarlyStoppingCallback

training_args = TrainingArguments(
    output_dir=OUT, learning_rate=1e-3, num_train_epochs=20, eval_strategy="epoch", save_strategy="epoch", logging_strategy="epoch",
    save_total_limit=2, load_best_model_at_end=True, metric_for_best_model="accuracy", greater_is_better=True, use_cpu=True, disable_tqdm=True,
)
trainer = Trainer(
    model=model, args=training_args, train_dataset=train_dataset, eval_dataset=eval_dataset, processing_class=tokenizer,
    compute_metrics=compute_metrics, callbacks=[EarlyStoppingCallback(early_stopping_patience=2, early_stopping_threshold=0.3)],
)
trainer.train()
log = history(trainer)
'''),
    Snippet("callbacks: control", "log seen", START + FIT + '''
from transformers import PrinterCallback, TrainerCallback

seen = []

class EvaluateFirst(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in (1, 3):
            control.should_evaluate = True
        if state.global_step == 7:
            control.should_training_stop = True
        return control
    def on_log(self, args, state, control, lr_scheduler=None, **kwargs):
        seen.append(lr_scheduler.get_last_lr()[0])

trainer = Trainer(model=model, args=training_args, train_dataset=train_dataset, eval_dataset=eval_dataset, processing_class=tokenizer)
trainer.add_callback(EvaluateFirst())
trainer.remove_callback(PrinterCallback)
trainer.train()
log = history(trainer)
'''),
    Snippet("customize: compute_loss", "log predictions", START + f'''
import torch
from torch import nn

class CustomTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        logits = outputs.get("logits")
        reduction = "mean" if num_items_in_batch is None else "sum"
        loss_fct = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0], device=model.device), reduction=reduction)
        loss = loss_fct(logits.view(-1, self.model.config.num_labels), labels.view(-1))
        if num_items_in_batch is not None:
            loss = loss / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

training_args = TrainingArguments(
    output_dir=OUT, learning_rate=1e-3, num_train_epochs=2, gradient_accumulation_steps=2, eval_strategy="epoch", {QUICK}
)
trainer = CustomTrainer(model=model, args=training_args, train_dataset=train_dataset, eval_dataset=eval_dataset, processing_class=tokenizer)
trainer.train()
log = history(trainer)
predictions = trainer.predict(eval_dataset).predictions
'''),
    Snippet("customize: compute_loss_func", "log", START + f'''
import torch.nn.functional as F

def my_loss(outputs, labels, num_items_in_batch=None):
    loss = F.cross_entropy(outputs["logits"], labels, reduction="sum")
    return loss / num_items_in_batch

training_args = TrainingArguments(output_dir=OUT, learning_rate=1e-3, num_train_epochs=2, gradient_accumulation_steps=4, {QUICK})
trainer = Trainer(
    model=model, args=training_args, train_dataset=train_dataset, eval_dataset=eval_dataset, compute_loss_func=my_loss,
    processing_class=tokenizer,
)
trainer.train()
log = history(trainer)
'''),
    Snippet("label smoothing, clipping, warm-up", "log", START + f'''
training_args = TrainingArguments(
    output_dir=OUT, learning_rate=1e-3, num_train_epochs=2, label_smoothing_factor=0.1, max_grad_norm=0.5, warmup_steps=0.2,
    lr_scheduler_type="cosine_with_restarts", lr_scheduler_kwargs={{"num_cycles": 2}}, adam_beta2=0.99, weight_decay=0.1, eval_strategy="epoch", {QUICK}
)
trainer = Trainer(model=model, args=training_args, train_dataset=train_dataset, eval_dataset=eval_dataset, processing_class=tokenizer)
trainer.train()
log = history(trainer)
'''),
    Snippet("several labels for a text", "log predictions", f'''
import numpy as np
from transformers import AutoModelForSequenceClassification, AutoTokenizer, EvalPrediction, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("google-bert/bert-base-cased")

def process(row):
    encoded = tokenizer(row["text"])
    encoded["labels"] = [float(row["label"]), float("film" in row["text"]), float("house" in row["text"])]
    return encoded

data = texts().map(process).remove_columns(["text", "label"])
model = AutoModelForSequenceClassification.from_pretrained(
    "google-bert/bert-base-cased", problem_type="multi_label_classification", num_labels=3,
    id2label={{0: "happy", 1: "film", 2: "house"}}, label2id={{"happy": 0, "film": 1, "house": 2}},
)

def compute_metrics(p: EvalPrediction):
    preds = p.predictions[0] if isinstance(p.predictions, tuple) else p.predictions
    return {{"exact": float(((preds > 0) == (p.label_ids > 0.5)).all(1).mean())}}

args = TrainingArguments(OUT, learning_rate=1e-3, num_train_epochs=2, eval_strategy="epoch", metric_for_best_model="exact", {QUICK})
trainer = Trainer(model, args, train_dataset=data, eval_dataset=data.select(range(16)), processing_class=tokenizer, compute_metrics=compute_metrics)
trainer.train()
log = history(trainer)
predictions = trainer.predict(data).predictions
'''),
    Snippet("a number for a text", "log predictions", f'''
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("google-bert/bert-base-cased")
data = texts().map(lambda row: {{**tokenizer(row["text"]), "label": float(len(row["text"]) / 20)}})
model = AutoModelForSequenceClassification.from_pretrained("google-bert/bert-base-cased", num_labels=1)
args = TrainingArguments(output_dir=OUT, learning_rate=1e-3, num_train_epochs=2, eval_strategy="epoch", {QUICK})
trainer = Trainer(
    model=model, args=args, train_dataset=data, eval_dataset=data.select(range(16)), processing_class=tokenizer,
    compute_metrics=lambda p: {{"mse": float(((p.predictions.squeeze() - p.label_ids) ** 2).mean())}},
)
trainer.train()
log = history(trainer)
predictions = trainer.predict(data).predictions
'''),
    Snippet("optimizers of your own", "log", START + FIT + '''
import torch
from transformers import get_polynomial_decay_schedule_with_warmup

optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
scheduler = get_polynomial_decay_schedule_with_warmup(optimizer, num_warmup_steps=2, num_training_steps=10, power=2.0)
trainer = Trainer(
    model=model, args=training_args, train_dataset=train_dataset, processing_class=tokenizer, optimizers=(optimizer, scheduler)
)
trainer.train()
log = history(trainer)
'''),
    Snippet("create_optimizer", "log", START + FIT + '''
import torch

class LayerwiseTrainer(Trainer):
    def create_optimizer(self):
        head = [p for n, p in self.model.named_parameters() if n.startswith("classifier")]
        rest = [p for n, p in self.model.named_parameters() if not n.startswith("classifier")]
        self.optimizer = torch.optim.AdamW(
            [{"params": head, "lr": 5e-3}, {"params": rest, "lr": self.args.learning_rate}], lr=self.args.learning_rate, weight_decay=0.01
        )
        return self.optimizer

trainer = LayerwiseTrainer(model=model, args=training_args, train_dataset=train_dataset, processing_class=tokenizer)
trainer.train()
log = history(trainer)
'''),
    Snippet("freezing the encoder", "log frozen", START + FIT + '''
for param in model.base_model.parameters():
    param.requires_grad = False
before = model.get_input_embeddings().weight.detach().clone()
trainer = Trainer(model=model, args=training_args, train_dataset=train_dataset, processing_class=tokenizer)
trainer.train()
log = history(trainer)
frozen = bool((model.get_input_embeddings().weight == before).all())
'''),
    Snippet("batches of similar length", "log", START + f'''
training_args = TrainingArguments(
    output_dir=OUT, learning_rate=1e-3, num_train_epochs=3, per_device_train_batch_size=4, train_sampling_strategy="group_by_length", {QUICK}
)
trainer = Trainer(model=model, args=training_args, train_dataset=train_dataset, processing_class=tokenizer)
trainer.train()
log = history(trainer)
'''),
    Snippet("model_init", "log", START + f'''
def model_init():
    return AutoModelForSequenceClassification.from_pretrained("google-bert/bert-base-cased", num_labels=2)

training_args = TrainingArguments(output_dir=OUT, learning_rate=1e-3, max_steps=8, seed=7, data_seed=3, {QUICK})
trainer = Trainer(model_init=model_init, args=training_args, train_dataset=train_dataset, processing_class=tokenizer)
trainer.train()
log = history(trainer)
'''),
    Snippet("checkpoints", "log names state weights", START + '''
import json, os
from transformers import TrainerState

training_args = TrainingArguments(
    output_dir=OUT, learning_rate=1e-3, num_train_epochs=2, logging_steps=1, save_steps=4, save_total_limit=2, use_cpu=True, disable_tqdm=True
)
first = Trainer(model=model, args=training_args, train_dataset=train_dataset, processing_class=tokenizer)
first.train()
again = AutoModelForSequenceClassification.from_pretrained("google-bert/bert-base-cased", num_labels=2)
trainer = Trainer(model=again, args=training_args, train_dataset=train_dataset, processing_class=tokenizer)
trainer.train(resume_from_checkpoint=OUT + "/checkpoint-8")
log = history(trainer)
names = sorted(name for name in os.listdir(OUT) if name.startswith("checkpoint"))
with open(OUT + "/checkpoint-8/trainer_state.json") as file:
    saved = json.load(file)
state = {name: saved[name] for name in ("epoch", "global_step", "max_steps", "num_train_epochs", "save_steps", "logging_steps", "best_metric")}
weights = float(again.state_dict()["classifier.weight"].abs().sum())
'''),
    Snippet("predict with preprocessed logits", "classes metrics labels", START + FIT + '''
def preprocess_logits_for_metrics(logits, labels):
    return logits.argmax(dim=-1)

trainer = Trainer(
    model=model, args=training_args, train_dataset=train_dataset, processing_class=tokenizer,
    preprocess_logits_for_metrics=preprocess_logits_for_metrics, compute_metrics=lambda p: {"right": int((p.predictions == p.label_ids).sum())},
)
trainer.train()
output = trainer.predict(eval_dataset, metric_key_prefix="check")
classes, labels = output.predictions, output.label_ids
metrics = {k: v for k, v in output.metrics.items() if k in ("check_loss", "check_right")}
'''),
    Snippet("a dataset class of torch", "log", f'''
import torch
from transformers import DistilBertForSequenceClassification, DistilBertTokenizerFast, Trainer, TrainingArguments

data = texts()
tokenizer = DistilBertTokenizerFast.from_pretrained("distilbert-base-uncased-finetuned-sst-2-english")
train_encodings = tokenizer(data["text"], truncation=True, padding=True)

class IMDbDataset(torch.utils.data.Dataset):
    def __init__(self, encodings, labels):
        self.encodings = encodings
        self.labels = labels
    def __getitem__(self, idx):
        item = {{key: torch.tensor(val[idx]) for key, val in self.encodings.items()}}
        item["labels"] = torch.tensor(self.labels[idx])
        return item
    def __len__(self):
        return len(self.labels)

train_dataset = IMDbDataset(train_encodings, data["label"])
training_args = TrainingArguments(
    output_dir=OUT, num_train_epochs=2, per_device_train_batch_size=16, per_device_eval_batch_size=64, warmup_steps=3, weight_decay=0.01, {QUICK}
)
model = DistilBertForSequenceClassification.from_pretrained("distilbert-base-uncased-finetuned-sst-2-english")
trainer = Trainer(model=model, args=training_args, train_dataset=train_dataset, eval_dataset=train_dataset)
trainer.train()
log = history(trainer)
'''),
    Snippet("gradient accumulation and checkpointing", "log", f'''
from transformers import AutoModelForMaskedLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("answerdotai/ModernBERT-base")
data = texts().map(lambda rows: {{"input_ids": tokenizer(rows["text"])["input_ids"]}}, batched=True)
model = AutoModelForMaskedLM.from_pretrained("answerdotai/ModernBERT-base")
training_args = TrainingArguments(
    output_dir=OUT, learning_rate=1e-3, num_train_epochs=2, per_device_train_batch_size=2, gradient_accumulation_steps=4,
    activation_checkpointing=True, {QUICK}
)
trainer = Trainer(
    model=model, args=training_args, train_dataset=data, data_collator=DataCollatorForLanguageModeling(tokenizer, seed=3),
)
trainer.train()
log = history(trainer)
'''),
    Snippet("example scripts: run_glue", "log files results", START + '''
import json, os

training_args = TrainingArguments(output_dir=OUT, do_train=True, do_eval=True, learning_rate=1e-3, max_steps=5, logging_steps=2, use_cpu=True,
                                  disable_tqdm=True, per_device_train_batch_size=16)
trainer = Trainer(
    model=model, args=training_args, train_dataset=train_dataset if training_args.do_train else None,
    eval_dataset=eval_dataset if training_args.do_eval else None, compute_metrics=compute_metrics, processing_class=tokenizer,
)
checkpoint = training_args.resume_from_checkpoint
train_result = trainer.train(resume_from_checkpoint=checkpoint)
metrics = train_result.metrics
metrics["train_samples"] = len(train_dataset)
trainer.save_model()
trainer.log_metrics("train", metrics)
trainer.save_metrics("train", metrics)
trainer.save_state()
metrics = trainer.evaluate(eval_dataset=eval_dataset)
metrics["eval_samples"] = len(eval_dataset)
trainer.log_metrics("eval", metrics)
trainer.save_metrics("eval", metrics)
trainer.create_model_card(finetuned_from="google-bert/bert-base-cased", tasks="text-classification")
log = history(trainer)
files = sorted(name for name in os.listdir(OUT) if name.endswith((".json", ".md", ".safetensors")) and not name.startswith("special_"))
with open(OUT + "/all_results.json") as file:
    everything = json.load(file)
results = {k: v for k, v in everything.items() if k in ("eval_loss", "eval_accuracy", "train_loss", "epoch", "train_samples", "eval_samples")}
'''),
    Snippet("get_train_dataloader", "log", START + FIT + '''
import torch
from torch.utils.data import DataLoader, WeightedRandomSampler

class BalancedTrainer(Trainer):
    def get_train_dataloader(self):
        labels = torch.tensor(self.train_dataset["label"])
        weights = 1.0 / torch.bincount(labels)[labels]
        sampler = WeightedRandomSampler(weights, len(labels), generator=torch.Generator().manual_seed(5))
        columns = self.train_dataset.remove_columns(["text"])
        return DataLoader(columns, batch_size=self.args.train_batch_size, sampler=sampler, collate_fn=self.data_collator)

trainer = BalancedTrainer(model=model, args=training_args, train_dataset=train_dataset, processing_class=tokenizer)
trainer.train()
log = history(trainer)
'''),
    Snippet("a model class of your own", "log predictions", f'''
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("google-bert/bert-base-cased")
data = texts().map(lambda rows: tokenizer(rows["text"]), batched=True).rename_column("label", "labels")

class MeanPooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = AutoModel.from_pretrained("google-bert/bert-base-cased")
        self.out = nn.Linear(self.encoder.config.hidden_size, 2)
    def forward(self, input_ids, attention_mask, labels=None):
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).float()
        logits = self.out((hidden * mask).sum(1) / mask.sum(1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {{"loss": loss, "logits": logits}}

torch.manual_seed(1)
training_args = TrainingArguments(
    output_dir=OUT, learning_rate=1e-3, num_train_epochs=2, weight_decay=0.1, gradient_accumulation_steps=2, eval_strategy="epoch", {QUICK}
)
trainer = Trainer(model=MeanPooled(), args=training_args, train_dataset=data, eval_dataset=data.select(range(16)), processing_class=tokenizer)
trainer.train()
log = history(trainer)
predictions = trainer.predict(data).predictions
'''),
    Snippet("new tokens", "log size", START + FIT + '''
tokenizer.add_tokens(["myocarditis", "wonderful great"])
model.resize_token_embeddings(len(tokenizer))
size = model.get_input_embeddings().weight.shape[0]
rows = texts().map(lambda rows: tokenizer([text + " myocarditis" for text in rows["text"]]), batched=True)
trainer = Trainer(model=model, args=training_args, train_dataset=rows, processing_class=tokenizer)
trainer.train()
log = history(trainer)
'''),
    Snippet("several evaluation sets", "log", START + f'''
training_args = TrainingArguments(
    output_dir=OUT, learning_rate=1e-3, max_steps=8, eval_strategy="steps", eval_steps=4, eval_on_start=True, {QUICK}
)
trainer = Trainer(
    model=model, args=training_args, train_dataset=train_dataset, processing_class=tokenizer, compute_metrics=compute_metrics,
    eval_dataset={{"seen": train_dataset, "new": eval_dataset}},
)
trainer.train()
log = history(trainer)
'''),
    Snippet("the seeds: a classifier fine-tuned on", "log", '''
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("distilbert/distilbert-base-uncased")
clf = AutoModelForSequenceClassification.from_pretrained("distilbert-base-uncased-finetuned-sst-2-english")
rows = texts(40)
encoded = tokenizer(rows["text"], padding=True, truncation=True)
dataset = [{"input_ids": i, "attention_mask": a, "labels": l} for i, a, l in zip(encoded["input_ids"], encoded["attention_mask"], rows["label"])]
train_dataset, eval_dataset = dataset[:32], dataset[32:]
args = TrainingArguments(output_dir=OUT, num_train_epochs=3, per_device_train_batch_size=16, learning_rate=2e-5, use_cpu=True, logging_steps=1)
trainer = Trainer(model=clf, args=args, train_dataset=train_dataset, eval_dataset=eval_dataset)
trainer.train()
log = history(trainer)
'''),
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny checkpoint for each name of :data:`MODELS`, with the vocabulary of MiniLM."""
    import transformers

    root, made = tmp_path_factory.mktemp("checkpoints"), {}
    for seed, (name, (kind, sizes)) in enumerate(MODELS.items()):
        cls = getattr(transformers, kind)
        folder = root / name.rpartition("/")[2]
        unlike(cls(cls.config_class(**sizes)), seed).save_pretrained(folder)
        for file in ("tokenizer.json", "vocab.txt", "special_tokens_map.json"):
            shutil.copyfile(minilm() / file, folder / file)
        settings = json.loads((minilm() / "tokenizer_config.json").read_text("utf-8")) | {"model_max_length": 128}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
        made[name] = str(folder)
    return made


def run(text: str, folders: Mapping[str, str], output: Path) -> dict[str, Any]:
    """Run a program with folders in place of names."""
    for name, folder in folders.items():
        text = re.sub(rf"""(["']){re.escape(name)}\1""", repr(folder), text)
    space: dict[str, Any] = {"__name__": "snippet", "OUT": str(output), **HELPERS}
    torch.manual_seed(0)
    exec(compile(text, "<snippet>", "exec"), space)
    return space


def changed(text: str) -> str:
    """Change the import lines, and nothing else."""
    text, count = re.subn(r"(?m)^from transformers import ", r"from nativebert.hf import ", text)
    assert count
    return text


def same(ours: Any, theirs: Any, where: str = "") -> None:
    """Equal; numbers within 1e-4 of their size."""
    if isinstance(theirs, Mapping):
        assert sorted(ours) == sorted(theirs), where
        for key, value in theirs.items():
            same(ours[key], value, f"{where}[{key!r}]")
    elif isinstance(theirs, np.ndarray):
        assert ours.shape == theirs.shape, where
        assert ours.dtype == theirs.dtype, where
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4, err_msg=where)
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs), f"{where}: {ours} {theirs}"
        for n, (a, b) in enumerate(zip(ours, theirs)):
            same(a, b, f"{where}[{n}]")
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4), where
    else:
        assert ours == theirs, where


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.name.replace(" ", "_"))
def test_runs_with_another_import_line(snippet: Snippet, folders: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = run(snippet.text, folders, tmp_path / "theirs")
        ours = run(changed(snippet.text), folders, tmp_path / "ours")
    assert ours["AutoTokenizer" if "AutoTokenizer" in ours else "Trainer"].__module__.startswith("nativebert")
    for name in snippet.results.split():
        same(ours[name], theirs[name], name)
