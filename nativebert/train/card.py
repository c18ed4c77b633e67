"""Model card: ``README.md`` of a trained model, with the metadata that the Hub reads."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from nativebert.errors import BadInputError
from nativebert.io.write import output_file
from nativebert.train.data import DataReport
from nativebert.train.metrics import NAMES
from nativebert.train.report import versions

NAME = "README.md"


class CardTask(NamedTuple):
    """What a card says of a task.

    Attributes:
        pipeline: the Hub's name of it.
        title: for people.
        library: that loads the model.
        use: lines of Python with which nativebert does.
        theirs: lines with which that library does.
    """

    pipeline: str
    title: str
    library: str
    use: str
    theirs: str


def _pipeline(name: str, call: str) -> str:
    return f'from transformers import pipeline\n\npipe = pipeline("{name}", "{{model}}")\npipe({call})'


TASKS = {
    "classify": CardTask(
        "text-classification", "text classification", "transformers",
        'nb.Classifier("{model}")(["..."])', _pipeline("text-classification", '"..."'),
    ),
    "tag": CardTask(
        "token-classification", "token classification", "transformers",
        'nb.Tagger("{model}")(["..."])', _pipeline("token-classification", '"...", aggregation_strategy="first"'),
    ),
    "answer": CardTask(
        "question-answering", "question answering", "transformers",
        'nb.Answerer("{model}")("question", "text with the answer")',
        'from transformers import AutoModelForQuestionAnswering, AutoTokenizer\n\nmodel = AutoModelForQuestionAnswering.from_pretrained("{model}")\n'
        'tokenizer = AutoTokenizer.from_pretrained("{model}")',
    ),
    "fill": CardTask(
        "fill-mask", "masked language modelling", "transformers",
        'nb.MaskFiller("{model}")("... [MASK] ...")', _pipeline("fill-mask", '"... [MASK] ..."'),
    ),
    "embed": CardTask(
        "sentence-similarity", "sentence embeddings", "sentence-transformers",
        'nb.Embedder("{model}")(["..."])',
        'from sentence_transformers import SentenceTransformer\n\nSentenceTransformer("{model}").encode(["..."])',
    ),
    "rank": CardTask(
        "text-ranking", "ranking of documents by a query", "sentence-transformers",
        'nb.Ranker("{model}")([("query", "document")])',
        'from sentence_transformers import CrossEncoder\n\nCrossEncoder("{model}").predict([("query", "document")])',
    ),
}  # fmt: skip


def write_card(
    folder: str | PathLike[str],
    task: str,
    *,
    base_model: str,
    metrics: Mapping[str, float],
    data: DataReport,
    fingerprint: str,
    settings: Mapping[str, Any],
    command: str,
    repo: str | None = None,
    labels: Sequence[str] = (),
    language: str | None = None,
    license: str | None = None,
) -> Path:
    """Write ``README.md``; one that came with the base model is replaced, since it is about another model.

    Args:
        folder: of the trained model; its name is the model's.
        task: one of :data:`TASKS`.
        base_model: what was trained, as the user wrote it.
        metrics: of the evaluation of the saved model, by the names of :data:`nativebert.train.metrics.NAMES`; empty without one.
        data: what was found in the training data.
        fingerprint: SHA-256 of the data (:attr:`nativebert.train.data.Table.fingerprint`).
        settings: of the run, by name.
        command: that it was started with.
        repo: the base model on the Hub, ``"owner/name"``; None for one that did not come from there.
        labels: names of the labels, in order.
        language: of the texts, as ``"en"``; None where it is not known: it is left out.
        license: of the model, as ``"apache-2.0"``; None likewise.

    Returns:
        The card's path.

    Raises:
        BadInputError: another task, or the folder cannot be written to.
        DiskFullError: no room.
    """
    if task not in TASKS:
        raise BadInputError(f"task must be one of {', '.join(TASKS)}, not {task!r}")
    from huggingface_hub import EvalResult, ModelCardData

    of, name, dataset = TASKS[task], Path(folder).resolve().name, Path(data.name).name
    known = {key: float(value) for key, value in metrics.items() if math.isfinite(value) and key != "loss"}
    results = [
        EvalResult(
            task_type=of.pipeline,
            dataset_type="unknown",  # of data that is not on the Hub
            dataset_name=dataset,
            metric_type=NAMES[key].hub if key in NAMES else key,
            metric_name=NAMES[key].title if key in NAMES else key,
            metric_value=value,
        )
        for key, value in known.items()
    ]
    header = ModelCardData(
        language=language,
        license=license,
        library_name=of.library,
        pipeline_tag=of.pipeline,
        base_model=repo,
        tags=["nativebert", *([of.library, "feature-extraction"] if task == "embed" else [])],
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=name,
        eval_results=results or None,
    )
    origin = f"[{repo}](https://huggingface.co/{repo})" if repo else _inline(base_model)
    parts = [
        f"# {_inline(name)}",
        f"This model was fine-tuned from {origin} for {of.title}, with nativebert.",
        *([f"Labels: {_listed(labels)}."] if labels else []),
        "## Use",
        _code(f"import nativebert as nb\n\n{of.use.format(model=name)}", "python"),
        f"Or with {of.library}:",
        _code(of.theirs.format(model=name), "python"),
        "## Evaluation",
        _table(("Metric", "Value"), [(NAMES[key].title if key in NAMES else key, f"{value:.4f}") for key, value in metrics.items()])
        if metrics
        else "The model was not evaluated.",
        "## Training data",
        _table(("", dataset), data.lines()),
        f"SHA-256 of the data: `{fingerprint}`",
        "## Training",
        _code(command, "sh"),
        "<details><summary>Settings</summary>",
        _table(("Setting", "Value"), [(key, str(value)) for key, value in sorted(settings.items())]),
        "</details>",
        _table(("Package", "Version"), list(versions().items())),
    ]  # fmt: skip
    path = Path(folder) / NAME
    with output_file(os.fspath(path)) as file:
        text = f"---\n{header.to_yaml(line_break=chr(10))}\n---\n\n" + "\n\n".join(parts) + "\n"
        file.write(text.encode("utf-8", "replace"))
    return path


def _inline(text: str) -> str:
    """Text from strangers within a line of Markdown: no HTML, no markup, no line break."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _listed(names: Sequence[str], most: int = 50) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(_inline, names[:most])) + more


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell if cell == '---' else _inline(cell) for cell in line)} |" for line in lines)


def _code(code: str, language: str) -> str:
    """A block of code, within more backticks than it has in a row."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
    return f"{fence}{language}\n{code}\n{fence}"
