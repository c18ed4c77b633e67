"""Heads: what they are, and which of them to load with an encoder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from nativebert.checks import whole
from nativebert.errors import BadInputError

if TYPE_CHECKING:
    from nativebert.config.encoder import EncoderConfig


@dataclass(frozen=True, slots=True)
class Head:
    """A task head: an optional dense layer with activation and norm, then the output layer.

    Attributes:
        name: where its parameters stand, ``head.<name>.*``.
        on: what it reads: every token, the first one, their mean, or the pooler's output; ``"late"`` for every token, the logits being the mean of
            theirs.
        classes: outputs, ``C``.
        dense: width of the dense layer before the last; None for none.
        activation: of that dense layer.
        norm: whether a layer norm follows it.
        dense_bias: whether the dense layer has a bias.
        last: name of the last layer below ``head.<name>``.
        last_bias: whether the last layer has a bias.
        dropout: probability, when training, before the dense (if ``dropout_first``) and the last layer.
        dropout_first: see ``dropout``.
    """

    name: str
    on: Literal["tokens", "first", "mean", "pooled", "late"]
    classes: int
    dense: int | None = None
    activation: str = "linear"
    norm: bool = False
    dense_bias: bool = True
    last: str = "out"
    last_bias: bool = True
    dropout: float = 0.0
    dropout_first: bool = False

    def parameters(self, norm_bias: bool = True) -> list[str]:
        """The names of its parameters; ``norm_bias`` says whether the model's norms have a bias."""
        parts = [(self.last, self.last_bias)]
        parts += [("dense", self.dense_bias)] if self.dense else []
        parts += [("norm", norm_bias)] if self.norm else []
        return [f"head.{self.name}.{part}.{leaf}" for part, bias in parts for leaf in ("weight", "bias")[: 1 + bias]]


# What a class name of transformers ends in -> the heads it has. `ForPreTraining` differs by family: EncoderConfig.pretraining.
ARCHITECTURES = {
    "ForMaskedLM": ("lm",),
    "ForNextSentencePrediction": ("nsp",),
    "ForSequenceClassification": ("classify",),
    "ForTokenClassification": ("tag",),
    "ForQuestionAnswering": ("answer",),
    "ForMultipleChoice": ("choose",),
}


@dataclass(frozen=True, slots=True)
class NewHead:
    """A head to make for a task, where a checkpoint has none for it, or one of another size.

    What the file has of such a head is loaded where it was saved for the same task; the rest is initialised as transformers does, with random
    numbers of torch's global generator (``torch.manual_seed``), and named in a warning.

    Attributes:
        task: ``"classify"``, ``"tag"``, ``"answer"``, ``"choose"``, ``"lm"``, ``"nsp"``, or ``"pretrain"`` for all heads of transformers'
            ``ForPreTraining``.
        labels: names of the classes, or how many there are; None for those of the config.json.
        problem_type: of ``"classify"``: ``"single_label_classification"``, ``"multi_label_classification"``, ``"regression"``; None for what the
            config.json says.
        replace: whether a head of another size is replaced. It is an error otherwise.
    """

    task: str
    labels: Sequence[str] | int | None = None
    problem_type: str | None = None
    replace: bool = False

    def settings(self) -> dict[str, Any]:
        """The keys of config.json that say this.

        Raises:
            BadInputError: no labels, or two of the same name.
        """
        settings: dict[str, Any] = {} if self.problem_type is None else {"problem_type": self.problem_type}
        if self.labels is None:
            return settings
        if isinstance(self.labels, str):
            raise BadInputError(f"labels must be a list of names or a count, not the text {self.labels!r}")
        if isinstance(self.labels, int | Real):
            names = [f"LABEL_{number}" for number in range(whole(self.labels) or 0)]
        else:
            names = [str(label) for label in self.labels]
        if not names:
            raise BadInputError(f"labels must name one class or more, not {self.labels!r}")
        if len(set(names)) < len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise BadInputError(f"labels: {double!r} is there twice; each class needs a name of its own")
        return settings | {
            "id2label": {str(number): name for number, name in enumerate(names)},
            "label2id": {name: number for number, name in enumerate(names)},
        }


def select_heads(config: EncoderConfig, head: str | None, parameters: Collection[str]) -> tuple[str, ...]:
    """The tasks of the heads to load.

    Args:
        config: the model's.
        head: a task; ``"auto"`` for those that the checkpoint was saved with; None for none.
        parameters: names of those in the weight file. A checkpoint may name a class and yet hold the encoder alone.

    Raises:
        BadInputError: the family has no such head, or the checkpoint's head is another one under the same names.
        NativeBertError: what the config.json says of that head makes no sense, or is not computed.
    """
    if head is None:
        return ()
    if head == "auto":
        tasks = tuple(task for task in config.tasks if _is_stored(config, task, parameters))
    else:
        _check_head(config, head, parameters)
        tasks = (head,)
    for task in tasks:
        if task in config.faults:
            raise config.faults[task]
    return tasks


def _is_stored(config: EncoderConfig, task: str, parameters: Collection[str]) -> bool:
    """Whether a file has a head, or need not have it: EuroBERT's masked-LM output is nothing but the token table where the two are tied."""
    head = config.heads[task]
    is_table = task == "lm" and config.tied and not (head.dense or head.norm or head.last_bias)
    return is_table or any(name.startswith(f"head.{head.name}.") for name in parameters)


def _check_head(config: EncoderConfig, task: str, parameters: Collection[str]) -> None:
    if task not in config.heads:
        raise BadInputError(
            f"{config.family} has no head {task!r}; it has {', '.join(config.heads) or 'none'}, or head=None for the encoder alone"
        )
    head = config.heads[task]
    saved = [other for other in config.tasks if config.heads[other].name == head.name]
    if saved and task not in saved and _is_stored(config, task, parameters):
        raise BadInputError(
            f"the checkpoint was saved as {config.architecture}: its head is for {saved[0]!r}, and reading the same tensors as {task!r} "
            f"would give numbers that mean nothing. Load it with head={saved[0]!r}, or head=None."
        )
