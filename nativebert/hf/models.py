"""``AutoModel``, ``BertForSequenceClassification``, ...: a native :class:`nativebert.loading.LoadedModel` with the calls of transformers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nativebert.arch import families, family, read_config
from nativebert.checks import is_number, plain, whole_number
from nativebert.config import ARCHITECTURES
from nativebert.engine import choose_device
from nativebert.errors import BadInputError, NotFoundError, RefusedError
from nativebert.hf import outputs, unsupported
from nativebert.hf.arguments import check_attention, checked, offline
from nativebert.hf.config import PreTrainedConfig
from nativebert.hf.outputs import ModelOutput
from nativebert.hub import Snapshot
from nativebert.loading import PRECISIONS, LoadedModel, load, open_snapshot
from nativebert.nn.model import Output
from nativebert.saving import declare_dtype
from weights_map import Checkpoint
from weights_map import torch as views

_TRAINING = "a new head, with random weights, comes with fine-tuning, which is not in this version"
_OPTIONS = (
    "revision", "token", "local_files_only", "config", "dtype", "torch_dtype", "device_map", "attn_implementation", "add_pooling_layer",
)  # fmt: skip
_SETTINGS = ("num_labels", "id2label", "label2id", "problem_type", "output_hidden_states", "output_attentions", "return_dict")
# What a tokenizer may return besides what a model reads; and a cache, which encoders have not.
_IGNORED = (
    "special_tokens_mask",
    "offset_mapping",
    "length",
    "overflow_to_sample_mapping",
    "use_cache",
    "interpolate_pos_encoding",
)
# Task of the second head of ForPreTraining -> its logits, and the argument with its labels
_SECOND = {"nsp": ("seq_relationship_logits", "next_sentence_label"), "sop": ("sop_logits", "sentence_order_label")}
_WITHOUT_SEGMENTS = "pass what follows attention_mask by name: its order differs between families"


class PreTrainedModel(nn.Module):
    """A model as transformers' scripts know it. Made by ``from_pretrained``; the native model is :attr:`native`.

    Padding cells are computed, as transformers does, so that whole tensors agree; the native model leaves them out.
    """

    family: ClassVar[str] = ""
    end: ClassVar[str] = ""  # of the class's name
    native: LoadedModel
    config: PreTrainedConfig

    def __init__(self, native: LoadedModel, config: PreTrainedConfig | None = None) -> None:
        super().__init__()
        if not isinstance(native, LoadedModel) or config is None:
            raise RefusedError(
                f"{type(self).__name__} is not built from a config: {_TRAINING}. Use {type(self).__name__}.from_pretrained(folder or name)."
            )
        self.native, self.config = native, config

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **options: Any) -> PreTrainedModel:
        """The model of a folder, or of one on the Hub, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder, ``owner/name``, or a :class:`nativebert.hub.Snapshot`.
            *args: none.
            **options: ``revision``, ``token``, ``local_files_only``; ``config``; ``dtype`` (``"auto"`` for the file's own); ``device_map``;
                ``attn_implementation`` (``"eager"`` or ``"sdpa"``, the same here); ``add_pooling_layer``; ``id2label``, ``label2id``,
                ``num_labels``, ``problem_type``, ``output_hidden_states``, ``output_attentions``, ``return_dict``.

        Raises:
            RefusedError: another family's class, an option that is not supported, or a head that would be new.
            NotFoundError: there is no such model, or it has no such head.
            NativeBertError, weights_map.WeightsMapError: see :func:`nativebert.load`.
        """
        call = f"{cls.__name__}.from_pretrained"
        if args:
            raise BadInputError(f"{call} takes one argument without a name; pass the others by name")
        checked(call, options, (*_OPTIONS, *_SETTINGS), "; other keys of a config are those of the folder's config.json")
        snapshot = open_snapshot(
            pretrained_model_name_or_path,
            revision=options.get("revision"),
            offline=offline(options),
            token=options.get("token"),
        )
        source = snapshot.read_json("config.json") or {}
        parsed = read_config(source)[1]
        kind = cls._of(parsed.family, snapshot)
        config = PreTrainedConfig.from_snapshot(snapshot, {})
        check_attention(call, options)
        tasks = kind.tasks_of(parsed.pretraining)
        asked = {name: options[name] for name in _SETTINGS if options.get(name) is not None}
        if options.get("config") is not None:
            asked = _differences(options["config"], config) | asked
        dtype = _dtype(options.get("dtype", options.get("torch_dtype")), config, snapshot)
        several = len(tasks) > 1
        if several and parsed.tasks != tasks:
            raise RefusedError(
                f"{snapshot.reference} was saved as {parsed.architecture or 'an encoder'}, which {kind.__name__} is not: {_TRAINING}"
            )
        head = "auto" if several else tasks[0] if tasks else None
        precision = str(dtype).removeprefix("torch.")
        try:
            native = load(snapshot, head=head, device=_device(options.get("device_map")), precision=precision)
        except NotFoundError as error:
            raise NotFoundError(f"{kind.__name__}: {error} In this library {_TRAINING}.") from error
        if native.tasks != tasks:
            raise RefusedError(
                f"{snapshot.reference} holds no weights for {', '.join(set(tasks) - set(native.tasks))}: {_TRAINING}"
            )
        reads_pooler = not tasks or any(native.config.heads[task].on == "pooled" for task in tasks)
        if not reads_pooler or options.get("add_pooling_layer") is False:
            native.pool = None  # its weights stay in the file, and are saved with it
        _set(config, asked, kind.__name__, "classify" in tasks or "tag" in tasks)
        config.dtype = dtype
        return kind(native, config).eval()

    @classmethod
    def _of(cls, name: str, snapshot: Snapshot) -> type[PreTrainedModel]:
        """The class for a family: this one, or for an Auto class the family's."""
        right = MODELS.get(family(name).stem + cls.end)
        if right is None:
            raise RefusedError(
                f"{snapshot.reference} is a {name}, and that family has no {cls.end}; see docs/hf.md for those it has"
            )
        if cls.family and cls.family != name:
            raise RefusedError(
                f"{snapshot.reference} is a {name}, not a {cls.family}: use {right.__name__}, or Auto{_auto(cls.end)}"
            )
        return right

    @classmethod
    def tasks_of(cls, pretraining: tuple[str, ...]) -> tuple[str, ...]:
        """The tasks of the class's heads."""
        return pretraining if cls.end == "ForPreTraining" else ARCHITECTURES.get(cls.end, ())

    @classmethod
    def targets(cls) -> tuple[str, ...]:
        """The arguments that make the class's loss."""
        if cls.end == "Model":
            return ()
        if cls.end == "ForQuestionAnswering":
            return ("start_positions", "end_positions")
        second = (label for logits, label in _SECOND.values() if logits in cls._output_class().names)
        return ("labels", *second)

    @classmethod
    def _output_class(cls) -> type[ModelOutput]:
        """What the class returns."""
        if cls.end in _HEADS:
            return _HEADS[cls.end]
        known = family(cls.family)
        name = known.output if cls.end == "Model" else f"{known.stem}{cls.end}Output"
        return getattr(outputs, name)  # type: ignore[no-any-return]

    @classmethod
    def from_config(cls, config: Any, **_: Any) -> PreTrainedModel:
        """RefusedError: new weights are for training."""
        raise RefusedError(f"a model of a config alone has random weights: {_TRAINING}. Use {cls.__name__}.from_pretrained.")

    # ---- running

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *more: Tensor | None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **named: Any,
    ) -> Any:
        """Run the model.

        Args:
            input_ids: token ids, ``(B, L)``; ``(B, choices, L)`` for multiple choice.
            attention_mask: as large, 1 for a real token; None where all are.
            *more: ``token_type_ids`` and ``position_ids``, in the families that have segments.
            output_hidden_states, output_attentions, return_dict: None for what the config says.
            **named: ``token_type_ids``, ``position_ids``, and what the class's loss is made of: ``labels``; ``start_positions`` and
                ``end_positions``; ``next_sentence_label``; ``sentence_order_label``.

        Returns:
            The :class:`ModelOutput` of the class, or its tuple with ``return_dict=False``.

        Raises:
            BadInputError, RefusedError: an argument that is unknown or not supported.
            TooLongError: more tokens than the model has positions.
        """
        segments = self.native.config.segments > 0
        if more and (not segments or self.end == "ForMultipleChoice" or len(more) > 2):
            raise BadInputError(f"{type(self).__name__}: {_WITHOUT_SEGMENTS}")
        named = {**dict(zip(("token_type_ids", "position_ids"), more)), **named}
        targets = self.targets()
        given = {name: value for name, value in named.items() if name not in _IGNORED and value is not None}
        checked(f"{type(self).__name__}()", given, ("input_ids", "attention_mask", "token_type_ids", "position_ids", *targets))
        if not isinstance(input_ids, Tensor):
            raise BadInputError("pass input_ids as a tensor: tokenizer(texts, return_tensors='pt')")
        run = partial(
            self.native,
            input_ids,
            attention_mask,
            given.get("token_type_ids") if segments else None,  # families without segments ignore them, as in transformers
            given.get("position_ids"),
        )
        states = self.config.output_hidden_states if output_hidden_states is None else bool(output_hidden_states)
        weights = self.config.output_attentions if output_attentions is None else bool(output_attentions)
        padded = attention_mask is not None and bool((attention_mask == 0).any())
        found = run(output_hidden_states=states, output_attentions=weights, keep_padding=padded)
        if padded and self._reads_the_mask:
            found.all_logits = run().all_logits
        made = self._output(found, {name: _on(given[name], self.device) for name in targets if name in given}, attention_mask)
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return made if as_dict else made.to_tuple()

    @property
    def _reads_the_mask(self) -> bool:
        """Whether the head reads the first real token in transformers, too, and not the first position."""
        return not set(family(self.family).mask_heads).isdisjoint(self.native.tasks)

    def _output(self, found: Output, targets: dict[str, Tensor], mask: Tensor | None) -> ModelOutput:
        steps = {"hidden_states": found.hidden_states, "attentions": found.attentions}
        kind = self._output_class()
        if self.end == "Model":
            values = {**steps, "last_hidden_state": found.last_hidden_state, "pooler_output": found.pooler_output}
            if found.attentions is not None:
                values["cross_attentions"] = ()  # of a decoder; transformers has it, and empty, wherever the class could be one
            return kind(**{name: value for name, value in values.items() if name in kind.names})
        tasks = self.native.tasks
        if self.end == "ForQuestionAnswering":
            logits = {"start_logits": found.start_logits, "end_logits": found.end_logits}
        elif len(tasks) > 1:
            logits = {"prediction_logits": found.all_logits["lm"], _SECOND[tasks[1]][0]: found.all_logits[tasks[1]]}
        else:
            logits = {"logits": found.all_logits[tasks[0]]}
        complete = len(targets) == len(self.targets())
        loss = _LOSSES[self.end](self, list(logits.values()), targets, mask) if complete else None
        return kind(loss=loss, **logits, **steps)

    # ---- what scripts ask of a model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.native.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return self.native.dtype

    @property
    def num_labels(self) -> int:
        """Classes of the head."""
        return int(self.config.num_labels)

    @property
    def name_or_path(self) -> str:
        """Where the model came from, as its user wrote it."""
        return self.native.reference

    @property
    def base_model_prefix(self) -> str:
        """The name under which the encoder's weights stand beside a head: ``bert``."""
        return family(self.native.config.family).map.prefixes[0].removesuffix(".")

    @property
    def base_model(self) -> PreTrainedModel:
        """The encoder without its head, of the same weights; this model itself where there is no head."""
        if not self.native.tasks:
            return self
        bare = copy.copy(self.native)
        bare._modules = {name: part for name, part in self.native._modules.items() if name != "head"}
        bare.tasks = ()
        return MODELS[family(self.family).stem + "Model"](bare, self.config).train(self.training)

    def __getattr__(self, name: str) -> Any:
        if name in unsupported.MODEL:
            raise AttributeError(f"{type(self).__name__} does not support {name}: {unsupported.MODEL[name]}")
        if name != "native" and "native" in self._modules and self.native.tasks and name == self.base_model_prefix:
            return self.base_model
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            if "native" in self._modules and any(name in source.split(".") for source, _, _ in self._names.values()):
                raise AttributeError(
                    f"{type(self).__name__} does not support {name}, a part of the model: named_parameters() has its weights, "
                    "get_input_embeddings() the token table, and .native the parts by their own names"
                ) from error
            raise

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module | nn.Parameter) and name != "native":
            raise RefusedError(f"{type(self).__name__} would not run a new {name}: {_TRAINING}")
        super().__setattr__(name, value)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """How many numbers the weights hold; shared ones count once."""
        tables = {id(p) for p in self.native.embed.parameters() if p.dim() > 1} if exclude_embeddings else set()
        return sum(p.numel() for p in self.parameters() if id(p) not in tables and (p.requires_grad or not only_trainable))

    def get_input_embeddings(self) -> nn.Module:
        """The token table."""
        return self.native.embed.token

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """Write the model to a folder that transformers loads; see :func:`nativebert.saving.save`.

        The files keep the layout that was loaded. The tokenizer's files are copied with them. What was changed of the config is written,
        and the number type, if it is not the one that would be loaded: the weights have its values, in the file's own type.

        Raises:
            RefusedError: see :func:`nativebert.saving.save`.
        """
        checked("save_pretrained", options, ("max_shard_size", "safe_serialization", "is_main_process"))
        if options.get("safe_serialization", True) is False:
            raise RefusedError("save_pretrained writes safetensors only: leave safe_serialization out")
        self.native.save(save_directory)
        saved = open_snapshot(Path(save_directory))
        self.config.write_changes(saved.encoder, leave=("dtype",))
        if _dtype(None, PreTrainedConfig.from_snapshot(saved, {}), saved) != self.dtype:  # what half(), to(dtype), dtype= left
            declare_dtype(saved.encoder / "config.json", self.dtype)

    # ---- weights under the checkpoint's names

    @cached_property
    def _names(self) -> dict[str, tuple[str, int, int]]:
        """Native name -> the tensor of a checkpoint, which piece of it, of how many."""
        weights = family(self.native.config.family).map
        prefix = weights.prefixes[0] if self.native.tasks else ""
        names = {}
        for name in self.native.state_dict():
            (source,) = weights.sources_of(name, prefix)
            pieces = weights.targets_of(source)
            names[name] = (source, pieces.index(name), len(pieces))
        return names

    @cached_property
    def _twice(self) -> dict[str, str]:
        """Tensors that a checkpoint holds besides, with the values of another: the bias of the masked-LM output."""
        weights = family(self.native.config.family).map
        ties = weights.ties.items()
        return {
            weights.sources_of(tied, "")[0]: leader
            for tied, leader in ties
            if leader in self._names and tied not in self._names and leader.startswith(tied.rpartition(".")[0])
        }

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """The weights by the names that transformers gives them.

        Where a checkpoint holds several of ours in one tensor (ModernBERT's ``Wqkv``), they are its pieces: ``Wqkv.weight.0``, ``.1``, ``.2``.
        """
        for name, parameter in self.native.named_parameters("", recurse, remove_duplicate):
            source, piece, count = self._names[name]
            whole = f"{prefix}.{source}" if prefix else source
            yield (f"{whole}.{piece}" if count > 1 else whole), parameter

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """The parts of the model, those with weights by the names that transformers gives them, too.

        A module that this model is a part of names its parameters by these.
        """
        start = f"{prefix}." if prefix else ""
        for name, part in super().named_modules(memo, prefix, remove_duplicate):
            own = name.removeprefix(f"{start}native.")
            first = next((f"{own}.{weight}" for weight in part._parameters if f"{own}.{weight}" in self._names), None)
            if first is None:
                yield name, part
            else:
                source, piece, count = self._names[first]
                yield start + source.rpartition(".")[0] + (f".{piece}" if count > 1 else ""), part

    def state_dict(  # type: ignore[override]
        self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """The weights as a checkpoint holds them: by the names that transformers gives them, pieces joined."""
        ours = self.native.state_dict(keep_vars=keep_vars)
        pieces: dict[str, list[Tensor]] = {}
        for name, (source, _, _) in self._names.items():
            pieces.setdefault(source, []).append(ours[name])
        found = {} if destination is None else destination
        found.update({prefix + source: p[0] if len(p) == 1 else torch.cat(p) for source, p in pieces.items()})
        found.update({prefix + source: ours[leader] for source, leader in self._twice.items()})
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take weights by the names that :meth:`state_dict` gives them.

        Raises:
            RuntimeError: names are missing or unknown (unless not ``strict``), or shapes differ.
        """
        sources = {source for source, _, _ in self._names.values()}
        missing, unknown = sorted(sources - set(state_dict)), sorted(set(state_dict) - sources - set(self._twice))
        if strict and (missing or unknown):
            raise RuntimeError(
                f"the weights do not fit {type(self).__name__}: missing {missing or 'none'}, unknown {unknown or 'none'}"
            )
        ours = {
            name: state_dict[source].chunk(count)[piece] if count > 1 else state_dict[source]
            for name, (source, piece, count) in self._names.items()
            if source in state_dict
        }
        self.native.load_state_dict(ours, strict=False, assign=assign)
        return torch.nn.modules.module._IncompatibleKeys(missing, unknown)

    def _load_from_state_dict(  # type: ignore[no-untyped-def]
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ) -> None:
        """Where this model is a part of another module, which loads: the same names, for the parts that torch comes to next."""
        given = {name.removeprefix(prefix): state_dict.pop(name) for name in list(state_dict) if name.startswith(prefix)}
        # what is not given stays as it is: the parts would report it by their own names
        ours = self.native.state_dict(keep_vars=True)
        sources = {source for source, _, _ in self._names.values()}
        missing_keys += [prefix + source for source in sorted(sources - set(given))]
        unexpected_keys += [prefix + name for name in sorted(set(given) - sources - set(self._twice))]
        for name, (source, piece, count) in self._names.items():
            if source in given:
                ours[name] = given[source].chunk(count)[piece] if count > 1 else given[source]
        state_dict.update({f"{prefix}native.{name}": value for name, value in ours.items()})


def _differences(given: Any, ours: PreTrainedConfig) -> dict[str, Any]:
    """What a config that was passed says otherwise than the folder's."""
    if not isinstance(given, PreTrainedConfig):
        raise BadInputError(
            f"config must come from nativebert.hf (AutoConfig.from_pretrained), not be a {type(given).__name__}"
        )
    theirs, known = given.to_dict(), ours.to_dict()
    left_out = ("dtype", "architectures", "transformers_version")
    return {key: value for key, value in theirs.items() if key not in left_out and (key not in known or known[key] != value)}


def _set(config: PreTrainedConfig, asked: Mapping[str, Any], kind: str, labelled: bool) -> None:
    """Take over what may differ from the folder's config.json; refuse what the weights decide."""
    labels = asked.get("id2label")
    count = len(labels) if labels else asked.get("num_labels")
    if count is not None and labelled and whole_number("num_labels", count) != config.num_labels:
        raise RefusedError(
            f"the checkpoint's head has {config.num_labels} labels, and {kind} was asked for {count}: {_TRAINING}"
        )
    for name, value in asked.items():
        if name == "num_labels":
            continue
        if name not in _SETTINGS:
            raise RefusedError(
                f"{name}={value!r} is not what the folder's config.json says: change it there, in a copy of the folder"
            )
        setattr(config, name, value)


def _dtype(asked: Any, config: PreTrainedConfig, snapshot: Snapshot) -> torch.dtype:
    """``"auto"``, and None, are what the config says, or else the first tensor of the file."""
    if asked in (None, "auto"):
        asked = config.dtype
        if asked is None:
            codes = [info.dtype for info in Checkpoint.open(snapshot.encoder).tensors.values()]
            asked = next(
                (t for code in codes if (t := views.DTYPES.get(code)) is not None and t.is_floating_point), torch.float32
            )
    name = str(asked).removeprefix("torch.")
    if name not in PRECISIONS:
        raise BadInputError(f"dtype must be 'auto', torch.float32 or one of {', '.join(PRECISIONS)}, not {asked!r}")
    return getattr(torch, name)  # type: ignore[no-any-return]


def _device(wanted: Any) -> str:
    if isinstance(wanted, Mapping):
        if set(wanted) != {""}:
            raise RefusedError("device_map cannot spread a model over devices: pass one device, as device_map='cuda:0'")
        wanted = wanted[""]
    if wanted is None:
        return "cpu"
    name = f"cuda:{whole_number('device_map', wanted)}" if is_number(plain(wanted)) else str(wanted)
    return str(choose_device("auto" if name in ("balanced", "sequential", "balanced_low_0") else name))


def _on(value: Any, device: torch.device) -> Tensor:
    return (value if isinstance(value, Tensor) else torch.as_tensor(value)).to(device)


def _auto(end: str) -> str:
    return end if end == "Model" else f"Model{end}"


# ---- losses, as transformers computes them


def _tokens(model: PreTrainedModel, logits: list[Tensor], targets: dict[str, Tensor], mask: Tensor | None) -> Tensor:
    """Cross-entropy over tokens or rows; -100 is left out."""
    in_float32 = not set(family(model.family).float32_losses).isdisjoint(model.native.tasks)
    scores = logits[0].float() if in_float32 else logits[0]
    return F.cross_entropy(scores.flatten(0, -2), targets["labels"].flatten())


def _classes(model: PreTrainedModel, logits: list[Tensor], targets: dict[str, Tensor], mask: Tensor | None) -> Tensor:
    """Of classification. What the config does not say is told by the first labels, and remembered, as in transformers."""
    scores, labels, config = logits[0], targets["labels"], model.config
    if config.problem_type is None:
        single = labels.dtype in (torch.long, torch.int)
        config.problem_type = "multi_label_classification"
        if model.num_labels == 1 or single:
            config.problem_type = "regression" if model.num_labels == 1 else "single_label_classification"
    if config.problem_type == "regression":
        return F.mse_loss(scores.squeeze(), labels.squeeze()) if model.num_labels == 1 else F.mse_loss(scores, labels)
    if config.problem_type == "single_label_classification":
        return F.cross_entropy(scores, labels.flatten())
    return F.binary_cross_entropy_with_logits(scores, labels)


def _spans(model: PreTrainedModel, logits: list[Tensor], targets: dict[str, Tensor], mask: Tensor | None) -> Tensor:
    """The mean of both ends' cross-entropies; positions beyond the tokens are left out."""
    ends = (targets["start_positions"], targets["end_positions"])
    ends = tuple(end.squeeze(-1) if end.dim() > 1 else end for end in ends)  # type: ignore[assignment]
    length = logits[0].shape[1]
    losses = [F.cross_entropy(scores, end.clamp(0, length), ignore_index=length) for scores, end in zip(logits, ends)]
    return (losses[0] + losses[1]) / 2


def _choices(model: PreTrainedModel, logits: list[Tensor], targets: dict[str, Tensor], mask: Tensor | None) -> Tensor:
    """Cross-entropy over the choices."""
    return F.cross_entropy(logits[0], targets["labels"])


def _pretraining(model: PreTrainedModel, logits: list[Tensor], targets: dict[str, Tensor], mask: Tensor | None) -> Tensor:
    """Both heads' cross-entropies together; for ELECTRA, of each real token being replaced."""
    if model.native.tasks == ("rtd",):
        scores, labels = logits[0], targets["labels"]
        real = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask.to(labels.device) == 1
        return F.binary_cross_entropy_with_logits(scores[real], labels[real].float())
    return sum(
        (F.cross_entropy(scores.flatten(0, -2), labels.flatten()) for scores, labels in zip(logits, targets.values())),
        torch.zeros((), device=logits[0].device),
    )


_LOSSES: dict[str, Callable[..., Tensor]] = {
    "ForMaskedLM": _tokens, "ForTokenClassification": _tokens, "ForNextSentencePrediction": _tokens, "ForSequenceClassification": _classes,
    "ForQuestionAnswering": _spans, "ForMultipleChoice": _choices, "ForPreTraining": _pretraining,
}  # fmt: skip
# ---- the classes, from one table

_HEADS = {
    "ForMaskedLM": outputs.MaskedLMOutput,
    "ForSequenceClassification": outputs.SequenceClassifierOutput,
    "ForTokenClassification": outputs.TokenClassifierOutput,
    "ForQuestionAnswering": outputs.QuestionAnsweringModelOutput,
    "ForMultipleChoice": outputs.MultipleChoiceModelOutput,
    "ForNextSentencePrediction": outputs.NextSentencePredictorOutput,
}
MODELS: dict[str, type[PreTrainedModel]] = {
    f"{known.stem}{end}": type(
        f"{known.stem}{end}", (PreTrainedModel,), {"family": known.name, "end": end, "__module__": __name__}
    )
    for known in families()
    for end in known.classes
}
AUTO = {
    f"Auto{_auto(end)}": type(f"Auto{_auto(end)}", (PreTrainedModel,), {"end": end, "__module__": __name__})
    for end in {end: None for known in families() for end in known.classes}
}
globals().update(MODELS | AUTO)
