"""What all pipelines do alike."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from os import PathLike
from types import GeneratorType
from typing import Any, ClassVar

import torch
from torch.utils.data import Dataset

import nativebert.hf.models as models
from nativebert.checks import whole_number
from nativebert.errors import BadInputError, NotFoundError, RefusedError
from nativebert.hf.arguments import checked
from nativebert.hf.models import PreTrainedModel
from nativebert.hf.states import device_name, precision_name
from nativebert.hf.tokenizer import AutoTokenizer, PreTrainedTokenizerBase
from nativebert.hub import Snapshot
from nativebert.loading import LoadedModel
from nativebert.pickling import Referred
from nativebert.tasks.base import Task
from nativebert.tasks.call import as_list
from nativebert.tasks.options import CallOptions

TOKENIZING = frozenset({"truncation", "max_length", "padding"})  # arguments that Pipeline._call_options reads
_STREAM = 256  # items of a data set that are read at once


class Pipeline:
    """What all pipelines do alike. Made by :func:`pipeline`; called with one text, a list, a data set or a generator.

    Args:
        model: a folder, a Hub id, a :class:`~nativebert.hub.Snapshot`, or a model of :mod:`nativebert.hf`.
        tokenizer: in place of the model's own: a folder, a Hub id, or a tokenizer of :mod:`nativebert.hf`.
        config: a config of :mod:`nativebert.hf`, whose labels are used.
        task: what the pipeline is called.
        device: ``"cpu"``, ``"cuda:1"``, a number (-1 is the CPU), a ``torch.device``; None for the best there is.
        dtype: of the encoder; scores are float32 always. None and ``"auto"`` are float32, or what a model that is passed has.
        where: ``revision``, ``token``, ``local_files_only`` and the like, for the files.
        **settings: arguments of a call, for all calls.

    Attributes:
        model, tokenizer: those of :mod:`nativebert.hf`.
        native: the task of nativebert that does the work.
    """

    auto: ClassVar[str]  # the class of its models
    supported: ClassVar[frozenset[str]] = frozenset()  # arguments of a call
    instead: ClassVar[Mapping[str, str]] = {}  # those that are not supported -> what to do
    framework = "pt"

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        config: Any = None,
        *,
        task: str = "",
        device: Any = None,
        dtype: Any = None,
        where: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.task = task
        where = dict(where or {})
        if not isinstance(model, PreTrainedModel):
            if not isinstance(model, (str, PathLike, Snapshot)):
                raise BadInputError(
                    f"model must be a folder, a name or a model of nativebert.hf, not a {type(model).__module__}.{type(model).__name__}"
                )
            more = {} if config is None else {"config": config}
            model = getattr(models, self.auto).from_pretrained(model, dtype="float32", **more, **where)
            if model.native.newly_initialized:
                raise NotFoundError(
                    f"{model.name_or_path} has no head for {task}: a new one is random, and so were its results. Train it "
                    f"({self.auto}.from_pretrained), and pass the model, or choose another"
                )
        elif dtype in (None, "auto"):
            dtype = model.dtype
        snapshot = model.native.snapshot
        if tokenizer is None and snapshot is None:
            raise BadInputError("this model comes without a tokenizer: pass tokenizer=")
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            named = {name: value for name, value in where.items() if name != "revision"}  # that is the model's
            tokenizer = AutoTokenizer.from_pretrained(snapshot if tokenizer is None else tokenizer, **named)
        self.model: PreTrainedModel = model
        self.tokenizer: PreTrainedTokenizerBase = tokenizer
        self._batch = int(settings.pop("batch_size", None) or 1)
        settings.pop("num_workers", None)
        limit = min(tokenizer.model_max_length, model.native.config.max_tokens)
        options: dict[str, Any] = {"device": device_name(device), "max_tokens": limit}
        if dtype not in (None, "auto"):
            options["precision"] = precision_name(dtype)
        self.native = self._make_task(_with_settings(model, tokenizer), options)
        self._settings = self._checked(settings)

    def _make_task(self, model: LoadedModel, options: dict[str, Any]) -> Task:
        """The native task."""
        raise NotImplementedError

    def _run(self, items: list[Any], arguments: Mapping[str, Any]) -> list[Any]:
        """The results of some items."""
        raise NotImplementedError

    def __call__(self, inputs: Any = None, *args: Any, **settings: Any) -> Any:
        """Results of one item, a list, a data set or a generator: a result, a list, or an iterator of them.

        Args:
            inputs: the items.
            *args: none, but where the class says so.
            **settings: arguments of the task, over those that the pipeline was made with. ``batch_size`` and ``num_workers`` do nothing for
                lists: batches are made by tokens, and do not change the result.

        Raises:
            BadInputError: an item that the task cannot read, or an unknown argument.
            RefusedError: an argument that is not supported.
        """
        if args:
            raise BadInputError(f"the {self.task} pipeline takes its inputs and nothing else without a name")
        if inputs is None:
            raise BadInputError("pass a text, or a list of texts")
        batch = settings.pop("batch_size", None) or self._batch
        settings.pop("num_workers", None)
        arguments = {**self._settings, **self._checked(settings)}
        if isinstance(inputs, GeneratorType):
            return self._stream(inputs, arguments, whole_number("batch_size", batch))
        if isinstance(inputs, Dataset):
            rows = (inputs[n] for n in range(len(inputs))) if hasattr(inputs, "__len__") else iter(inputs)
            return self._stream(rows, arguments, _STREAM)
        if self._is_single(inputs):
            return self._run([inputs], arguments)[0]
        return self._run(as_list(inputs), arguments)

    predict = transform = __call__

    def _is_single(self, inputs: Any) -> bool:
        """Is this one item, and not several?"""
        return isinstance(inputs, (str, Mapping))

    def _stream(self, items: Iterator[Any], arguments: Mapping[str, Any], size: int) -> Iterator[Any]:
        while batch := list(islice(items, size)):
            yield from self._run(batch, arguments)

    def _checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        for name, value in settings.items():
            if name in self.instead and value is not None and value is not False:
                raise RefusedError(f"the {self.task} pipeline does not support {name}=: {self.instead[name]}")
        known = {name: value for name, value in settings.items() if name not in self.instead}
        checked(f"the {self.task} pipeline", known, self.supported)
        return known

    def _call_options(self, arguments: Mapping[str, Any]) -> CallOptions:
        """What ``truncation`` and ``max_length`` ask for, as options of a native call."""
        options: CallOptions = {}
        if arguments.get("max_length") is not None:
            options["max_tokens"] = whole_number("max_length", arguments["max_length"])
        truncation = arguments.get("truncation")
        if truncation is False or truncation == "do_not_truncate":
            options["too_long"] = "error"
        elif truncation not in (None, True, "longest_first", "only_first"):
            raise RefusedError(f"truncation={truncation!r} is not supported: use True, or False to refuse long texts")
        return options

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return torch.device(self.native.device)

    @property
    def dtype(self) -> torch.dtype:
        """What the encoder computes in."""
        return getattr(torch, self.native.precision)  # type: ignore[no-any-return]

    torch_dtype = dtype

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """Write model and tokenizer to a folder."""
        self.model.save_pretrained(save_directory, **options)
        self.tokenizer.save_pretrained(save_directory)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.native!r})"

    def __getstate__(self) -> dict[str, Any]:
        """The model travels as where its files are, while it is what they hold."""
        model = type(self.model), Referred(self.model.native), self.model.config
        return {**vars(self), "model": model, "tokenizer": self.tokenizer.beside(self.native.tokenizer)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kind, native, config = state["model"]
        native = native.model if isinstance(native, Referred) else native  # as it is in a shallow copy, which nothing pickled
        vars(self).update(state, model=kind(config, native).eval())
        self.tokenizer.rejoin(self.native.tokenizer)


def _with_settings(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    """The native model, of the same weights, with this tokenizer and with what was changed of the config."""
    native = copy.copy(model.native)
    native.__dict__["tokenizer"] = tokenizer.native
    changed = {
        name: value for name, value in model.config.changes().items() if name in ("id2label", "label2id", "problem_type")
    }
    if changed:
        names = {int(number): str(name) for number, name in model.config.id2label.items()}
        labels = tuple(names[number] for number in sorted(names))
        source = {**native.config.source, **changed}
        native.config = replace(native.config, labels=labels, problem_type=model.config.problem_type or "", source=source)
    return native


def positive(name: str, value: Any, usual: int) -> int:
    """An argument that is a whole number of at least 1; None for the usual one."""
    number = usual if value is None else whole_number(name, value)
    if number < 1:
        raise BadInputError(f"{name} must be at least 1, not {value}")
    return number
