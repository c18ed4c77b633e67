"""``AutoModel``, ``BertForSequenceClassification``, ...: a native :class:`nativebert.loading.LoadedModel` with the calls of transformers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nativebert.arch import families, family, read_config
from nativebert.checks import at_least, is_number, plain, whole_number
from nativebert.config import ARCHITECTURES, EncoderConfig, NewHead
from nativebert.engine import choose_device
from nativebert.errors import BadInputError, NotFoundError, RefusedError
from nativebert.hf import outputs, unsupported
from nativebert.hf.arguments import check_attention, checked, offline
from nativebert.hf.config import PreTrainedConfig
from nativebert.hf.outputs import ModelOutput
from nativebert.hub import Snapshot
from nativebert.loading import PRECISIONS, LoadedModel, from_config, load, open_snapshot
from nativebert.nn.heads import Head
from nativebert.nn.model import Output
from nativebert.saving import declare_dtype
from nativebert.train import losses
from nativebert.train.losses import Loss
from weights_map import Checkpoint, MismatchError
from weights_map import torch as views

_OPTIONS = (
    "revision", "token", "local_files_only", "config", "dtype", "torch_dtype", "device_map", "attn_implementation", "add_pooling_layer",
    "ignore_mismatched_sizes",
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
    settled: Callable[[], AbstractContextManager[None]] = staticmethod(nullcontext)
    """Within it the weights may be read: set by a Trainer while it trains, whose step leaves rows of the token table for later."""

    def __init__(self, config: PreTrainedConfig, native: LoadedModel | None = None) -> None:
        """A model with fresh weights, in training mode; :meth:`from_pretrained` takes those of a checkpoint.

        Args:
            config: of the class's family.
            native: the model itself, where it is there already.

        Raises:
            BadInputError: no config, or that of another family.
        """
        super().__init__()
        if not isinstance(config, PreTrainedConfig):
            raise BadInputError(
                f"{type(self).__name__} is made from a config of nativebert.hf, not from a {type(config).__name__}: use "
                f"{type(self).__name__}.from_pretrained for a folder or a name"
            )
        if self.family != config.model_type:
            right = f"{family(config.model_type).stem}{self.end}" if self.family else f"{type(self).__name__}.from_config"
            raise BadInputError(f"{type(self).__name__} is not made from a {type(config).__name__}: use {right}")
        if native is None:
            precision = str(torch.get_default_dtype()).removeprefix("torch.")
            native = from_config(_plain(config), head=self._task(), precision=precision).train()
        self.native, self.config = native, config

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **options: Any) -> PreTrainedModel:
        """The model of a folder, or of one on the Hub, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder, ``owner/name``, or a :class:`nativebert.hub.Snapshot`.
            *args: none.
            **options: ``revision``, ``token``, ``local_files_only``; ``config``; ``dtype`` (``"auto"`` for the file's own); ``device_map``;
                ``attn_implementation`` (``"eager"`` or ``"sdpa"``, the same here); ``add_pooling_layer``; ``id2label``, ``label2id``,
                ``num_labels``, ``problem_type``, ``output_hidden_states``, ``output_attentions``, ``return_dict``; the config's dropout
                probabilities; ``ignore_mismatched_sizes``, for a new head in place of one of another size.

        Warns:
            NewlyInitialized: the checkpoint has no such head, and the model gets a new one, to be trained.

        Raises:
            RefusedError: another family's class, an option that is not supported, or a head of another size.
            NotFoundError: there is no such model.
            NativeBertError, weights_map.WeightsMapError: see :func:`nativebert.load`.
        """
        call = f"{cls.__name__}.from_pretrained"
        if args:
            raise BadInputError(f"{call} takes one argument without a name; pass the others by name")
        dropouts = {name: value for name, value in options.items() if "dropout" in name and value is not None}
        checked(
            call,
            {name: value for name, value in options.items() if name not in dropouts},
            (*_OPTIONS, *_SETTINGS),
            "; other keys of a config are those of the folder's config.json",
        )
        snapshot = open_snapshot(
            pretrained_model_name_or_path,
            revision=options.get("revision"),
            offline=offline(options),
            token=options.get("token"),
        )
        source = snapshot.read_json("config.json") or {}
        parsed = read_config(source)[1]
        kind = cls._of(parsed.family, snapshot.reference)
        config = PreTrainedConfig.from_snapshot(snapshot, {})
        check_attention(call, options)
        tasks = kind.tasks_of(parsed.pretraining)
        asked = {name: options[name] for name in _SETTINGS if options.get(name) is not None} | dropouts
        if options.get("config") is not None:
            asked = _differences(options["config"], config) | asked
        dtype = _dtype(options.get("dtype", options.get("torch_dtype")), config, snapshot)
        asked = _checked_settings(asked, config)
        count = asked.pop("num_labels", None)
        names = _label_names(asked.get("id2label"), count, config) if "classify" in tasks or "tag" in tasks else None
        load_as = partial(
            load,
            snapshot,
            device=_device(options.get("device_map")),
            precision=str(dtype).removeprefix("torch."),
            settings={name: value for name, value in asked.items() if "dropout" in name},
        )
        native = _with_its_own_head(load_as, tasks, parsed) if names is None or len(names) == config.num_labels else None
        if native is None:
            replace = bool(options.get("ignore_mismatched_sizes"))
            native = load_as(head=NewHead(kind._task() or "", names, asked.get("problem_type"), replace))
            config = PreTrainedConfig.from_dict(native.config.source)
            config.name_or_path = snapshot.reference
        elif snapshot.base is not None:  # an adapter may bring a head with labels of its own
            config = PreTrainedConfig.from_dict(native.config.source)
            config.name_or_path = snapshot.reference
        reads_pooler = not tasks or any(native.config.heads[task].on == "pooled" for task in tasks)
        if not reads_pooler or options.get("add_pooling_layer") is False:
            native.pool = None  # its weights stay in the file, and are saved with it
        for name, value in asked.items():
            setattr(config, name, value)
        config.dtype = dtype
        return kind(config, native).eval()

    @classmethod
    def _of(cls, name: str, reference: str) -> type[PreTrainedModel]:
        """The class for a family: this one, or for an Auto class the family's."""
        right = MODELS.get(family(name).stem + cls.end)
        if right is None:
            raise RefusedError(f"{reference} is a {name}, and that family has no {cls.end}; see docs/hf.md for those it has")
        if cls.family and cls.family != name:
            raise RefusedError(f"{reference} is a {name}, not a {cls.family}: use {right.__name__}, or Auto{_auto(cls.end)}")
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
    def from_config(cls, config: PreTrainedConfig, **options: Any) -> PreTrainedModel:
        """A model with fresh weights from a config alone, in training mode; under one ``torch.manual_seed`` they are transformers' own.

        Args:
            config: the config; its family is the model's.
            **options: ``dtype``; ``attn_implementation``, which is the same here.

        Raises:
            BadInputError, RefusedError: an option, or a config, that cannot be used.
        """
        call = f"{cls.__name__}.from_config"
        checked(call, options, ("dtype", "torch_dtype", "attn_implementation"))
        check_attention(call, options)
        if not isinstance(config, PreTrainedConfig):
            raise BadInputError(f"{call} takes a config of nativebert.hf, not a {type(config).__name__}")
        kind = cls._of(config.model_type, f"the config {config.name_or_path}".rstrip())
        config = copy.deepcopy(config)
        dtype = _number_type(options.get("dtype", options.get("torch_dtype")) or config.dtype or torch.get_default_dtype())
        native = from_config(_plain(config), head=kind._task(), precision=str(dtype).removeprefix("torch."))
        config.dtype = dtype
        return kind(config, native.train())

    @classmethod
    def _task(cls) -> str | None:
        """The task of the class's heads, as of :class:`nativebert.config.NewHead`."""
        if cls.end in ("Model", "ForPreTraining"):
            return None if cls.end == "Model" else "pretrain"
        return ARCHITECTURES[cls.end][0]

    # ---- running

    def forward(
        self,
        input_ids: Tensor | Mapping[str, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        *more: Tensor | None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **named: Any,
    ) -> Any:
        """Run the model.

        Args:
            input_ids: token ids, ``(B, L)``; ``(B, choices, L)`` for multiple choice. What a tokenizer returns, passed whole, is taken for its
                items: ``model(tokens)`` is ``model(**tokens)``, which R has no way to write.
            attention_mask: as large, 1 for a real token; None where all are.
            *more: ``token_type_ids`` and ``position_ids``, in the families that have segments.
            output_hidden_states, output_attentions, return_dict: None for what the config says.
            **named: ``token_type_ids``, ``position_ids``, and what the class's loss is made of: ``labels``; ``start_positions`` and
                ``end_positions``; ``next_sentence_label``; ``sentence_order_label``; ``num_items_in_batch``, to divide the sum of the losses by
                in place of the number of the batch's own labels.

        Returns:
            The :class:`ModelOutput` of the class, or its tuple with ``return_dict=False``.

        Raises:
            BadInputError, RefusedError: an argument that is unknown or not supported.
            TooLongError: more tokens than the model has positions.
        """
        if isinstance(input_ids, Mapping):
            by_place = dict(zip(("attention_mask", "token_type_ids", "position_ids"), (attention_mask, *more)))
            rest: dict[str, Any] = {name: value for name, value in by_place.items() if value is not None} | named
            if twice := rest.keys() & input_ids.keys():
                raise BadInputError(f"{min(twice)} is passed twice: by itself, and in what the tokenizer returned")
            return self.forward(
                **{**input_ids, **rest},
                output_hidden_states=output_hidden_states,
                output_attentions=output_attentions,
                return_dict=return_dict,
            )
        segments = self.native.config.segments > 0
        most = 1 if self.native.config.task_types else 2  # ERNIE has task_type_ids between the two
        if more and (not segments or self.end == "ForMultipleChoice" or len(more) > most):
            raise BadInputError(f"{type(self).__name__}: {_WITHOUT_SEGMENTS}")
        named = {**dict(zip(("token_type_ids", "position_ids"), more)), **named}
        targets = self.targets()
        items = named.pop("num_items_in_batch", None)
        given = {name: value for name, value in named.items() if name not in _IGNORED and value is not None}
        if self.native.config.causal and "token_type_ids" in given:  # which GPT-2 adds rows of its token table for
            raise RefusedError(f"{type(self).__name__}() does not support token_type_ids=: leave it out")
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
        labels = {name: _on(given[name], self.device) for name in targets if name in given}
        padded = attention_mask is not None and bool((attention_mask == 0).any())
        ignored = self.training and self._ignores_padding(labels, attention_mask, states or weights)
        padded = padded and not ignored
        with nullcontext() if self.training else self.settled():
            found = run(output_hidden_states=states, output_attentions=weights, keep_padding=padded)
            if padded and self._reads_the_mask:
                found.all_logits = run().all_logits
        made = self._output(found, labels, attention_mask, items)
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return made if as_dict else made.to_tuple()

    def _ignores_padding(self, labels: Mapping[str, Tensor], mask: Any, states: bool) -> bool:
        """Whether the loss is the same where no cell without a token is computed: there are logits of one row a text alone, or a loss with -100
        for each such cell. The loss of an answer is over all positions, with the padding, in transformers."""
        if (
            self.native.tasks
            and not states
            and all(self.native.config.heads[task].on != "tokens" for task in self.native.tasks)
        ):
            return True
        if len(labels) < len(self.targets()) or not labels or self.end == "ForQuestionAnswering":
            return False
        if self.end == "ForPreTraining" and self.native.tasks == ("rtd",):
            return True  # it leaves out the padding by the mask
        heads = [self.native.config.heads[task].on for task in self.native.tasks]
        padding = _on(mask, self.device) == 0
        return all(
            on != "tokens" or bool((value[padding] == losses.IGNORED).all()) for on, value in zip(heads, labels.values())
        )

    @property
    def _reads_the_mask(self) -> bool:
        """Whether the head reads the first real token in transformers, too, and not the first position."""
        return not set(family(self.family).mask_heads).isdisjoint(self.native.tasks)

    def _output(self, found: Output, targets: dict[str, Tensor], mask: Tensor | None, items: Any = None) -> ModelOutput:
        steps = {"hidden_states": found.hidden_states, "attentions": found.attentions}
        kind = self._output_class()
        if self.end == "Model":
            values = {**steps, "last_hidden_state": found.last_hidden_state, "pooler_output": found.pooler_output}
            if found.attentions is not None:
                values["cross_attentions"] = ()  # of a decoder; transformers has it, and empty, wherever the class could be one
            return kind(**{name: value for name, value in values.items() if name in kind.names})
        tasks = self.native.tasks
        logits: dict[str, Any]
        if self.end == "ForQuestionAnswering":
            logits = {"start_logits": found.start_logits, "end_logits": found.end_logits}
        elif len(tasks) > 1:
            logits = {"prediction_logits": found.all_logits["lm"], _SECOND[tasks[1]][0]: found.all_logits[tasks[1]]}
        else:
            logits = {"logits": found.all_logits[tasks[0]]}
        loss = self._loss(list(logits.values()), targets, mask, items) if len(targets) == len(self.targets()) else None
        return kind(loss=loss, **logits, **steps)

    def _loss(self, logits: list[Tensor], targets: dict[str, Tensor], mask: Tensor | None, items: Any) -> Tensor:
        """The class's loss: the mean over the batch, or its share of a mean over ``items``."""
        terms = _LOSSES[self.end](self, logits, targets, mask)
        total = sum((term.mean if items is None else term.over(items) for term in terms), logits[0].new_zeros(()))
        in_float32 = not set(family(self.family).float32_losses).isdisjoint(self.native.tasks)
        return (total / 2 if self.end == "ForQuestionAnswering" else total).to(torch.float32 if in_float32 else logits[0].dtype)

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
        return MODELS[family(self.family).stem + "Model"](self.config, bare).train(self.training)

    def __getattr__(self, name: str) -> Any:
        if name in unsupported.MODEL:
            raise AttributeError(f"{type(self).__name__} does not support {name}: {unsupported.MODEL[name]}")
        if name != "native" and "native" in self._modules and self.native.tasks and name == self.base_model_prefix:
            return self.base_model
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "native" in self._modules and (part := self._part(name)) is not None:
                return part
            raise

    def _part(self, name: str) -> nn.Module | None:
        """The parts whose weights' names begin with ``name``, nested as those names are: ``model.bert.encoder.layer[0].attention``."""
        modules: dict[str, nn.Module] = {}
        for ours, (source, piece, count) in self._names.items():
            path = source.rpartition(".")[0] + (f".{piece}" if count > 1 else "")
            if f"{path}.".startswith(f"{name}."):
                modules[path.removeprefix(name).removeprefix(".")] = self.native.get_submodule(ours.rpartition(".")[0])
        return _nested(modules) if modules else None

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module | nn.Parameter) and name != "native":
            raise RefusedError(
                f"{type(self).__name__} would not run a new {name}: for another head pass num_labels= to from_pretrained, with "
                "ignore_mismatched_sizes=True where the checkpoint has one; for other weights copy_ them"
            )
        super().__setattr__(name, value)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """How many numbers the weights hold; shared ones count once."""
        tables = {id(p) for p in self.native.embed.parameters() if p.dim() > 1} if exclude_embeddings else set()
        return sum(p.numel() for p in self.parameters() if id(p) not in tables and (p.requires_grad or not only_trainable))

    def get_input_embeddings(self) -> nn.Module:
        """The token table."""
        return self.native.embed.token

    def get_output_embeddings(self) -> nn.Module | None:
        """The layer with an output for each token; None for a class without a masked-LM head."""
        if "lm" not in self.native.tasks:
            return None
        head = self.native.head[self.native.config.heads["lm"].name]
        assert isinstance(head, Head)
        return head.last

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Module:
        """Give the token table another number of rows, and with it the masked-LM output; under one ``torch.manual_seed`` new rows are those of
        transformers. See :meth:`nativebert.loading.LoadedModel.resize_token_embeddings`.

        Args:
            new_num_tokens: how many; None for as many as there are.
            pad_to_multiple_of: round them up to a multiple of this.
            mean_resizing: draw new rows around the mean of the old ones.

        Returns:
            The token table.

        Raises:
            BadInputError: a number that is none, or not above 0.
        """
        table = self.get_input_embeddings()
        rows = self.native.config.vocab_size if new_num_tokens is None else at_least(1, "new_num_tokens", new_num_tokens)
        if pad_to_multiple_of is not None:
            multiple = at_least(1, "pad_to_multiple_of", pad_to_multiple_of)
            rows = -(-rows // multiple) * multiple
        self.native.resize_token_embeddings(rows, mean=bool(mean_resizing))
        self.config.vocab_size = rows
        return table

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None) -> None:
        """In training, keep only the inputs of the layers for the backward pass, and compute the rest again: less memory, more time.

        Args:
            gradient_checkpointing_kwargs: ``use_reentrant``, which changes nothing: it is always False here.
        """
        checked("gradient_checkpointing_enable", gradient_checkpointing_kwargs or {}, ("use_reentrant",))
        self.native.activation_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        """Undo :meth:`gradient_checkpointing_enable`."""
        self.native.activation_checkpointing = False

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether :meth:`gradient_checkpointing_enable` is in force."""
        return self.native.activation_checkpointing

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """Write the model to a folder that transformers loads; see :func:`nativebert.saving.save`.

        The files keep the layout that was loaded; a model with new parts is written to new files. The tokenizer's files are copied with them,
        unless the folder has some: then those stay. What was changed of the config is written, and the number type, if it is not the one that
        would be loaded: the weights have its values, in the file's own type.

        Raises:
            RefusedError: see :func:`nativebert.saving.save`.
        """
        checked("save_pretrained", options, ("max_shard_size", "safe_serialization", "is_main_process"))
        if options.get("safe_serialization", True) is False:
            raise RefusedError("save_pretrained writes safetensors only: leave safe_serialization out")
        with self.settled():
            self.native.save(save_directory, keep_tokenizer=True)
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
        All matrices are (out, in), also GPT-2's, which :meth:`state_dict` has as a checkpoint holds them, (in, out).
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
        with self.settled():
            ours = self.native.state_dict(keep_vars=keep_vars)
            if self.settled is not nullcontext:  # what is read within it does not stay
                ours = {name: value.clone() for name, value in ours.items()}
        weights = family(self.native.config.family).map
        whole = views.pack(weights, ours, weights.prefixes[0] if self.native.tasks else "")
        found = {} if destination is None else destination
        found.update({prefix + source: tensor for source, tensor in whole.items()})
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
        weights, ours = family(self.native.config.family).map, {}
        for source in sources.intersection(state_dict):
            ours.update(views.unpack(weights, source, state_dict[source]))
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
        for source in sources.intersection(given):
            ours.update(views.unpack(family(self.native.config.family).map, source, given[source]))
        state_dict.update({f"{prefix}native.{name}": value for name, value in ours.items()})


def _differences(given: Any, ours: PreTrainedConfig) -> dict[str, Any]:
    """Differences between a config that was passed and the folder's."""
    if not isinstance(given, PreTrainedConfig):
        raise BadInputError(
            f"config must come from nativebert.hf (AutoConfig.from_pretrained), not be a {type(given).__name__}"
        )
    theirs, known = given.to_dict(), ours.to_dict()
    left_out = ("dtype", "architectures", "transformers_version")
    return {key: value for key, value in theirs.items() if key not in left_out and (key not in known or known[key] != value)}


class Parts(nn.Module):
    """Parts of a model by the names that transformers gives them: to read, freeze or count their weights. They run in the model alone."""


def _nested(modules: Mapping[str, nn.Module]) -> nn.Module:
    """Modules by their dotted paths, as a tree; ``""`` is the module itself, and numbers make a list."""
    if "" in modules:
        return modules[""]
    children: dict[str, dict[str, nn.Module]] = {}
    for path, module in modules.items():
        first, _, rest = path.partition(".")
        children.setdefault(first, {})[rest] = module
    if all(name.isdecimal() for name in children):
        return nn.ModuleList(_nested(children[name]) for name in sorted(children, key=int))
    parts = Parts()
    for name, inner in children.items():
        parts.add_module(name, _nested(inner))
    return parts


def _checked_settings(asked: Mapping[str, Any], config: PreTrainedConfig) -> dict[str, Any]:
    """What may differ from the folder's config.json, by its keys; refuses what the weights decide.

    Raises:
        RefusedError: another key than those of labels, outputs and dropout.
    """
    known = config.to_dict()
    for name, value in asked.items():
        if name not in _SETTINGS and not ("dropout" in name and name in known):
            raise RefusedError(
                f"{name}={value!r} is not what the folder's config.json says: change it there, in a copy of the folder"
            )
    return dict(asked)


def _label_names(named: Mapping[Any, Any] | None, count: Any, config: PreTrainedConfig) -> list[str]:
    """The names of the classes that a head is asked for: of ``id2label``, ``num_labels`` numbered ones, or the config's.

    Raises:
        BadInputError: the ids are not 0, 1, 2, ..., or as many as ``num_labels`` says.
    """
    count = None if count is None else whole_number("num_labels", count)
    if not named:
        same = count is None or count == config.num_labels
        names = config.id2label if same else dict(enumerate(f"LABEL_{number}" for number in range(count or 0)))
    else:
        names = {int(number): str(name) for number, name in named.items()}
    if sorted(names) != list(range(len(names))) or not names:
        raise BadInputError(f"id2label must name the classes 0, 1, 2, ..., not {sorted(names) or 'none'}")
    if named and count not in (None, len(names)):
        raise BadInputError(f"num_labels={count}, and id2label names {len(names)} classes")
    return [names[number] for number in range(len(names))]


def _with_its_own_head(load_as: Callable[..., LoadedModel], tasks: tuple[str, ...], saved: EncoderConfig) -> LoadedModel | None:
    """The model with the head that its checkpoint has; None where it has none for these tasks."""
    if len(tasks) > 1 and saved.tasks != tasks:
        return None
    try:
        native = load_as(head="auto" if len(tasks) > 1 else tasks[0] if tasks else None)
    except (NotFoundError, BadInputError):
        if not tasks:
            raise
        return None
    except MismatchError as error:
        if all(row.status == "missing" and row.targets[0].startswith("pool.") for row in error.rows):
            return None
        raise
    return native if native.tasks == tasks else None


def _plain(config: PreTrainedConfig) -> dict[str, Any]:
    """A config as config.json has it."""
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {**values, "model_type": config.model_type}


def _dtype(asked: Any, config: PreTrainedConfig, snapshot: Snapshot) -> torch.dtype:
    """``"auto"``, and None, are what the config says, or else the first tensor of the file."""
    if asked in (None, "auto"):
        asked = config.dtype
        if asked is None:
            codes = [info.dtype for info in Checkpoint.open(snapshot.encoder).tensors.values()]
            asked = next(
                (t for code in codes if (t := views.DTYPES.get(code)) is not None and t.is_floating_point), torch.float32
            )
    return _number_type(asked)


def _number_type(asked: Any) -> torch.dtype:
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


# ---- losses: the terms of each class's loss, and the factor of their sum


def _tokens(model: PreTrainedModel, logits: list[Tensor], targets: dict[str, Tensor], mask: Tensor | None) -> list[Loss]:
    """Over tokens, rows or choices; -100 is left out."""
    return [losses.cross_entropy(logits[0], targets["labels"])]


def _classes(model: PreTrainedModel, logits: list[Tensor], targets: dict[str, Tensor], mask: Tensor | None) -> list[Loss]:
    """Of classification. What the config does not say is inferred from the first labels, and remembered, as in transformers."""
    labels, config = targets["labels"], model.config
    if config.problem_type is None:
        config.problem_type = losses.problem_type_of(labels, model.num_labels)
    return [losses.classification(logits[0], labels, config.problem_type)]


def _spans(model: PreTrainedModel, logits: list[Tensor], targets: dict[str, Tensor], mask: Tensor | None) -> list[Loss]:
    """Of both ends of an answer."""
    return list(losses.spans(logits[0], logits[1], targets["start_positions"], targets["end_positions"]))


def _pretraining(model: PreTrainedModel, logits: list[Tensor], targets: dict[str, Tensor], mask: Tensor | None) -> list[Loss]:
    """Of both heads; for ELECTRA, of each real token being replaced."""
    if model.native.tasks == ("rtd",):
        return [losses.replaced_tokens(logits[0], targets["labels"], mask)]
    return [losses.cross_entropy(scores, labels) for scores, labels in zip(logits, targets.values())]


_LOSSES: dict[str, Callable[..., list[Loss]]] = {
    "ForMaskedLM": _tokens, "ForTokenClassification": _tokens, "ForNextSentencePrediction": _tokens, "ForSequenceClassification": _classes,
    "ForQuestionAnswering": _spans, "ForMultipleChoice": _tokens, "ForPreTraining": _pretraining,
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
