"""The tokenizer classes of transformers, ``AutoTokenizer``, ``BertTokenizer`` ...: the calls of :class:`nativebert.Tokenizer` by those names."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nativebert.checks import is_number, plain, whole_number
from nativebert.errors import BadInputError, NotFoundError, RefusedError
from nativebert.hf import unsupported
from nativebert.hf.arguments import checked, offline
from nativebert.hf.encoding import BatchEncoding
from nativebert.hf.padding import NO_LIMIT, as_lists, batch_of, pad_rows, padding_side_of, strategies
from nativebert.loading import open_snapshot
from nativebert.text.tokenizer import BUILT_FROM, SETTINGS, VOCABULARIES, Tokenizer

if TYPE_CHECKING:
    import tokenizers

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_IDLE = (
    "verbose",
    "spaces_between_special_tokens",
    "use_source_tokenizer",
)  # they do nothing here, nor in transformers' fast tokenizers


class PreTrainedTokenizerBase:
    """A tokenizer as transformers' scripts know it. Made by ``from_pretrained``."""

    kind: ClassVar[str] = ""
    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask")
    is_fast = True
    pad_token_type_id = 0

    def __init__(self, *vocabulary: Any, **settings: Any) -> None:
        """Made from a vocabulary's files; :meth:`from_pretrained` takes a folder or a name.

        Args:
            *vocabulary: the paths of the class's files: ``BertTokenizer("vocab.txt")``, ``RobertaTokenizer("vocab.json", "merges.txt")``; or
                a :class:`nativebert.Tokenizer`, and what to call it.
            **settings: ``vocab_file`` and ``merges_file`` for the same, ``tokenizer_file`` or ``tokenizer_object`` (of the tokenizers
                library) for a whole tokenizer; and settings as of :meth:`from_pretrained`.

        Raises:
            BadInputError: no vocabulary, or not that of the class.
            NativeBertError: see :meth:`nativebert.Tokenizer.from_folder`.
        """
        name = ""
        if vocabulary and isinstance(vocabulary[0], Tokenizer):
            native, name = vocabulary[0], str(vocabulary[1]) if len(vocabulary) > 1 else ""
        else:
            native = self._built(vocabulary, settings)
        self._take(native, name)

    def _take(self, native: Tokenizer, name_or_path: str) -> None:
        settings = native.settings
        self.native = native
        self._idle: list[tokenizers.Tokenizer] = []  # see _encoded
        self._split = bool(settings.get("split_special_tokens", False))
        self.name_or_path = name_or_path
        self.model_max_length: int = native.max_length or NO_LIMIT
        self.padding_side: str = settings.get("padding_side", "right")
        self.truncation_side: str = settings.get("truncation_side", "right")
        self.model_input_names: list[str] = list(settings.get("model_input_names", self.inputs))
        self.clean_up_tokenization_spaces = bool(settings.get("clean_up_tokenization_spaces", False))
        names = [*SPECIAL, *settings["named"]] if "named" in settings else SPECIAL
        given = {name: settings.get(name, settings.get("named", {}).get(name)) for name in names}
        self._special = {name: _text(token) for name, token in given.items() if token is not None}
        self._extra = [_text(token) for token in settings.get("extra_special_tokens") or []]
        self._as_loaded = self._state()

    def _state(self) -> dict[str, Any]:
        """What may be set later, by the names of tokenizer_config.json."""
        names = ("model_max_length", "padding_side", "truncation_side", "model_input_names", "clean_up_tokenization_spaces")
        return {name: copy.copy(getattr(self, name)) for name in names} | dict.fromkeys(SPECIAL) | self._special

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_idle": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def beside(self, native: Tokenizer) -> PreTrainedTokenizerBase:
        """What a pickle holds of it beside a task that holds ``native``: no second one, if it is the same."""
        if self.native is not native:
            return self
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__getstate__() | {"native": None})
        return twin

    def rejoin(self, native: Tokenizer) -> None:
        """Undo :meth:`beside`, where the pickle arrives."""
        self.native = self.native or native

    @classmethod
    def _built(cls, vocabulary: Sequence[Any], settings: Mapping[str, Any]) -> Tokenizer:
        """The native tokenizer of a vocabulary's files."""
        call = cls.__name__
        source = BUILT_FROM.get(cls.kind)
        names = () if source is None else (source, *VOCABULARIES[source])
        arguments = {argument: name for pair in zip(("vocab_file", "merges_file"), names) for argument, name in (pair,)}
        arguments |= {argument.removesuffix("_file"): name for argument, name in arguments.items()}
        if not issubclass(cls, PreTrainedTokenizerFast) or len(vocabulary) > len(names):
            raise BadInputError(
                f"{call} takes {' and '.join(names) or 'no file'} without a name: use {call}.from_pretrained(folder or name) for a folder"
            )
        given = {
            arguments.get(name, "tokenizer.json"): value
            for name, value in settings.items()
            if name in (*arguments, "tokenizer_file")
        }
        given = dict(zip(names, vocabulary)) | {name: value for name, value in given.items() if value is not None}
        told = {
            name: value for name, value in settings.items() if name not in (*arguments, "tokenizer_file", "tokenizer_object")
        }
        told = _settings(call, told, ())
        files = {name: _content(call, value, name) for name, value in given.items()}
        if (whole := settings.get("tokenizer_object")) is not None:
            if not hasattr(whole, "to_str"):
                raise BadInputError(f"tokenizer_object must be a tokenizers.Tokenizer, not a {type(whole).__name__}")
            files["tokenizer.json"] = whole.to_str().encode()
        if not files:
            raise BadInputError(
                f"{call} is made from tokenizer_file= or tokenizer_object={', or from ' + ' and '.join(names) if names else ''}; "
                f"of a folder or a name by {call}.from_pretrained"
            )
        first = next(iter(given.values()), "tokenizer_object")
        return Tokenizer.from_files(files, Path(str(first)), told, cls.kind or "PreTrainedTokenizerFast")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **options: Any) -> PreTrainedTokenizerBase:
        """The tokenizer of a folder, or of a model on the Hub.

        Args:
            pretrained_model_name_or_path: a folder, ``owner/name``, or a :class:`nativebert.hub.Snapshot`.
            **options: ``revision``, ``token``, ``local_files_only``; and settings that are read over tokenizer_config.json: the lengths and sides,
                special tokens, ``do_lower_case``, ``strip_accents``, ``tokenize_chinese_chars`` (BERT's), ``add_prefix_space`` (RoBERTa's).

        Raises:
            RefusedError: the files are for another class, or an option is not supported.
            NativeBertError: see :func:`nativebert.hub.resolve` and :meth:`nativebert.Tokenizer.from_folder`.
        """
        where = ("revision", "token", "local_files_only", "config")
        settings = _settings(f"{cls.__name__}.from_pretrained", options, where)
        snapshot = open_snapshot(
            pretrained_model_name_or_path,
            revision=options.get("revision"),
            offline=offline(options),
            token=options.get("token"),
            weights=False,
        )
        native = Tokenizer.from_folder(snapshot.tokenizer, settings, cls.kind)
        if cls.kind and native.kind != cls.kind and not {cls.kind, native.kind} <= _LIKE_BERT:
            raise RefusedError(
                f"{snapshot.reference} has a {native.kind}, not a {cls.__name__}: use {native.kind} or AutoTokenizer"
            )
        found = cls if cls.kind else TOKENIZERS.get(native.kind, PreTrainedTokenizerFast)
        return found(native, snapshot.reference)

    # ---- special tokens

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_special" not in self.__dict__:
            raise AttributeError(name)
        if name in unsupported.TOKENIZER:
            raise AttributeError(f"{type(self).__name__} does not support {name}: {unsupported.TOKENIZER[name]}")
        text = name.removesuffix("_id")
        if text in SPECIAL or text in self._special:
            token = self._special.get(text)
            return token if text == name or token is None else self.native.token_to_id(token)
        if name in ("extra_special_tokens", "additional_special_tokens"):
            return list(self._extra)
        if name in ("extra_special_tokens_ids", "additional_special_tokens_ids"):
            return self.convert_tokens_to_ids(self._extra)
        raise AttributeError(f"{type(self).__name__} has no {name!r} (see docs/hf.md)")

    def __setattr__(self, name: str, value: Any) -> None:
        text = name.removesuffix("_id")
        if text not in SPECIAL and text not in self.__dict__.get("_special", ()):
            if name in _SETTLED or isinstance(getattr(type(self), name, None), property):
                raise RefusedError(
                    f"{name} is read when the tokenizer is loaded: pass it to from_pretrained, as {name}={value!r}"
                )
            if name.endswith("_side") and value not in ("left", "right"):
                raise BadInputError(f"{name} must be 'left' or 'right', not {value!r}")
            if name == "model_max_length":
                value = NO_LIMIT if value is None else min(whole_number(name, value), NO_LIMIT)
            self.__dict__[name] = value
            return
        token = value if text == name or value is None else self.convert_ids_to_tokens(value)
        if token is not None and self.native.token_to_id(str(token)) is None:
            raise RefusedError(
                f"{text} cannot become {value!r}, which is not in the vocabulary: tokenizer.add_special_tokens({{{text!r}: {str(value)!r}}}) adds it"
            )
        self._special.pop(text, None)
        if token is not None:
            self._special[text] = str(token)

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """Name of each special token -> the token."""
        return {name: self._special[name] for name in (*SPECIAL, *self._special) if name in self._special}

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens, each once."""
        return list(dict.fromkeys([*self.special_tokens_map.values(), *self._extra]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of :attr:`all_special_tokens`."""
        return self.convert_tokens_to_ids(self.all_special_tokens)  # type: ignore[return-value]

    def get_special_tokens_mask(
        self, token_ids_0: Sequence[int], token_ids_1: None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """1 for each id of a special token, else 0."""
        if not already_has_special_tokens or token_ids_1 is not None:
            raise RefusedError(
                "this mask is made of ids with their special tokens: pass them alone, with already_has_special_tokens=True"
            )
        special = set(self.all_special_ids)
        return [int(int(number) in special) for number in token_ids_0]

    # ---- vocabulary

    @property
    def vocab_size(self) -> int:
        """Tokens in the vocabulary, without added ones."""
        return self.native.backend.get_vocab_size(with_added_tokens=False)

    def __len__(self) -> int:
        return self.native.vocab_size

    def __bool__(self) -> bool:
        return True

    @property
    def vocab(self) -> dict[str, int]:
        """Every token and its id."""
        return self.native.vocab

    def get_vocab(self) -> dict[str, int]:
        """Every token and its id."""
        return self.native.vocab

    @property
    def added_tokens_decoder(self) -> dict[int, tokenizers.AddedToken]:
        """Id -> added token."""
        return self.native.backend.get_added_tokens_decoder()

    def get_added_vocab(self) -> dict[str, int]:
        """Added token -> id."""
        return {token.content: number for number, token in sorted(self.added_tokens_decoder.items())}

    added_tokens_encoder = property(get_added_vocab)

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """Add tokens at the end of the vocabulary; the model then needs ``model.resize_token_embeddings(len(tokenizer))``.

        Args:
            new_tokens: a text, an AddedToken of the tokenizers library, or a list of either.
            special_tokens: whether they are special.

        Returns:
            How many were added: those too that the vocabulary had, and that are found inside words from now on.

        Raises:
            BadInputError, RefusedError: see :meth:`nativebert.Tokenizer.with_tokens`.
        """
        many = isinstance(new_tokens, list | tuple)
        return self._add(list(new_tokens) if many else [new_tokens] if new_tokens else [], bool(special_tokens), None)

    def add_special_tokens(self, special_tokens_dict: Mapping[str, Any], replace_extra_special_tokens: bool = True) -> int:
        """Name special tokens, and add those that are not in the vocabulary, as :meth:`add_tokens` does.

        Args:
            special_tokens_dict: ``pad_token`` and similar -> the token; ``additional_special_tokens``, or ``extra_special_tokens`` -> a list.
            replace_extra_special_tokens: whether that list takes the place of the one that there is.

        Returns:
            How many were added.

        Raises:
            BadInputError: an unknown name, or a token that is not text; and see :meth:`add_tokens`.
        """
        told = dict(special_tokens_dict)
        extra = told.pop("additional_special_tokens", None)
        extra = told.pop("extra_special_tokens", extra)
        if strangers := [name for name in told if name not in SPECIAL]:
            raise BadInputError(
                f"{strangers[0]!r} is not a special token; they are {', '.join((*SPECIAL, 'extra_special_tokens'))}"
            )
        if extra is not None and not isinstance(extra, list | tuple):
            raise BadInputError(f"extra_special_tokens must be a list of tokens, not {extra!r}")
        old = [] if replace_extra_special_tokens and extra else self._extra
        new = [*told.values(), *(token for token in extra or () if str(token) not in old)]
        extras = None if extra is None else list(dict.fromkeys([*old, *map(str, extra)]))
        count = self._add(new, True, extras)
        for name, token in told.items():
            setattr(self, name, str(token))
        return count

    def _add(self, tokens: list[Any], special: bool, extra: list[str] | None) -> int:
        """Add tokens, and set the extra special ones; the number of those that were added."""
        before = set(self.get_added_vocab())
        native = self.native.with_tokens(tokens, special=special, extra=extra) if tokens or extra is not None else self.native
        if "_own" in self.__dict__:  # the tokenizer that was handed out stays the one that counts
            core = self.native.backend
            (core.add_special_tokens if special else core.add_tokens)(tokens)
        else:
            self.native, self._idle = native, []
        if extra is not None:
            self._extra = extra
        return len(set(self.get_added_vocab()) - before)

    @property
    def backend_tokenizer(self) -> tokenizers.Tokenizer:
        """A tokenizer of the tokenizers library, this object's own: what is changed of it counts here, and nowhere else."""
        if "_own" not in self.__dict__:  # of several threads that come here at once, one makes it
            self.native = self.__dict__.setdefault("_own", self.native.detached())
        return self.native.backend

    @property
    def do_lower_case(self) -> bool:
        """Does upper case make no difference?"""
        return self.native.lowercase

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many special tokens a text gets, or a pair."""
        return self.native.n_special(pair)

    @property
    def max_len_single_sentence(self) -> int:
        """Most tokens of a text, without special tokens."""
        return self.model_max_length - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        """Most tokens of a pair, without special tokens."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> int | list[int | None] | None:
        """The id of a token, or of each; that of ``unk_token`` where the vocabulary does not have it."""
        if isinstance(tokens, str):
            number = self.native.token_to_id(tokens)
            return self.unk_token_id if number is None else number
        return [self.convert_tokens_to_ids(token) for token in tokens]  # type: ignore[misc]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The token of an id, or of each."""
        if is_number(plain(ids)):
            return self.native.id_to_token(whole_number("an id", ids))
        left_out = set(self.all_special_ids) if skip_special_tokens else set()
        numbers = (whole_number("an id", number) for number in ids)
        return [self.native.id_to_token(number) for number in numbers if number not in left_out]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text that tokens stand for."""
        decoder = self.native.backend.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(tokens))

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **more: Any,
    ) -> str | list[str]:
        """The text that ids stand for; a list of texts for a list of lists, or a tensor of two dimensions."""
        _known("decode", more)
        ids = token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids
        if not is_number(ids) and (isinstance(ids, str | bytes) or not isinstance(ids, Iterable)):
            raise BadInputError(f"ids must be whole numbers, or a list of them, not {token_ids!r}")
        ids = [ids] if is_number(ids) else list(ids)
        if ids and (isinstance(ids[0], list | tuple) or hasattr(ids[0], "tolist")) and np.ndim(ids[0]):
            return [str(self.decode(row, skip_special_tokens, clean_up_tokenization_spaces)) for row in ids]
        clean = self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        return self.native.decode([whole_number("an id", number) for number in ids], skip_special_tokens, clean)

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **more: Any,
    ) -> list[str]:
        """The text that each list of ids stands for."""
        if hasattr(sequences, "__len__") and not len(sequences):
            return []
        found = self.decode(sequences, skip_special_tokens, clean_up_tokenization_spaces, **more)
        return [found] if isinstance(found, str) else found

    # ---- text to ids

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        split_special_tokens: bool | None = None,
        **more: Any,
    ) -> BatchEncoding:
        """Tokenise a text, a pair of texts, or a list of either.

        Args:
            text: a text or a list of them; with ``is_split_into_words``, words or a list of lists of words; a list may hold pairs.
            text_pair: the second text of each pair.
            add_special_tokens: put ``[CLS]`` and ``[SEP]``, or their like, where they belong.
            padding: True or ``"longest"`` to the longest of the list, ``"max_length"`` to that, False for none.
            truncation: True or ``"longest_first"``, ``"only_first"``, ``"only_second"``, False for none.
            max_length: for both; None for ``model_max_length``. Given alone, it truncates.
            stride: tokens that an overflowing piece shares with the one before it.
            is_split_into_words: the texts are lists of words.
            pad_to_multiple_of: pad to a multiple of this.
            padding_side: ``"left"`` or ``"right"``; None for the tokenizer's own.
            return_tensors: ``"pt"`` for torch, ``"np"`` for numpy, None for lists.
            return_token_type_ids, return_attention_mask: None for what ``model_input_names`` says.
            return_overflowing_tokens: a row for each piece of a text that was too long, and ``overflow_to_sample_mapping``.
            return_special_tokens_mask, return_offsets_mapping, return_length: more values to return.
            split_special_tokens: read the text of a special token as text; None for what the files say.
            **more: ``verbose``, which does nothing here.

        Raises:
            BadInputError: an argument, or a text, that cannot be used.
            RefusedError: an argument that is not supported, or that nobody knows.
        """
        _known("the tokenizer", more)
        if text is None:
            raise BadInputError("give the text, or a list of texts")
        length = None if max_length is None else whole_number("max_length", max_length)
        multiple = None if pad_to_multiple_of is None else whole_number("pad_to_multiple_of", pad_to_multiple_of)
        pad, cut, length = self._strategies(padding, truncation, length, multiple)
        texts, single = _listed(text, text_pair, is_split_into_words)
        split = self._split if split_special_tokens is None else bool(split_special_tokens)
        settings: dict[str, Any] = {"split": split, "pad": None, "cut": None}
        if pad != "do_not_pad":
            settings["pad"] = {
                "length": length if pad == "max_length" else None,
                "direction": padding_side_of(self.padding_side if padding_side is None else padding_side),
                "pad_id": self.pad_token_id,
                "pad_token": self.pad_token,
                "pad_type_id": 0,
                "pad_to_multiple_of": multiple,
            }
        if cut != "do_not_truncate":
            share = {"stride": whole_number("stride", stride), "strategy": cut, "direction": self.truncation_side}
            settings["cut"] = {"max_length": length or 0, **share}
        try:
            raws = self._encoded(texts, add_special_tokens, is_split_into_words, **settings)
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise BadInputError(_why(error, texts, is_split_into_words, length, stride, cut)) from error
        groups = [[raw, *raw.overflowing] if return_overflowing_tokens else [raw] for raw in raws]
        rows = [row for group in groups for row in group]
        names = self.model_input_names
        wanted = {
            "input_ids": (True, "ids"),
            "token_type_ids": (
                "token_type_ids" in names if return_token_type_ids is None else return_token_type_ids,
                "type_ids",
            ),
            "attention_mask": (
                "attention_mask" in names if return_attention_mask is None else return_attention_mask,
                "attention_mask",
            ),
            "special_tokens_mask": (return_special_tokens_mask, "special_tokens_mask"),
            "offset_mapping": (return_offsets_mapping, "offsets"),
        }
        data: dict[str, Any] = {name: [getattr(row, of) for row in rows] for name, (yes, of) in wanted.items() if yes}
        if return_length:
            data["length"] = [len(row) for row in rows]
        if return_overflowing_tokens:
            data["overflow_to_sample_mapping"] = [number for number, group in enumerate(groups) for _ in group]
        if single and return_tensors is None and not return_overflowing_tokens:
            data = {name: value[0] if isinstance(value[0], list) else value for name, value in data.items()}
        return BatchEncoding(data, rows, return_tensors)

    def _encoded(
        self,
        texts: list[Any],
        special: bool,
        words: bool,
        *,
        split: bool,
        pad: dict[str, Any] | None,
        cut: dict[str, Any] | None,
    ) -> list[tokenizers.Encoding]:
        """The library's encodings. It keeps how to pad and to cut in the tokenizer and not in the call, so each call has a tokenizer to
        itself: another thread's would change it. They share the vocabulary, and wait here for the next call."""
        own = "_own" in self.__dict__  # what a user has in hand may be changed at any time
        try:
            core = self.native.core() if own else self._idle.pop()
        except IndexError:
            core = self.native.core()
        core.encode_special_tokens = split
        core.no_padding()
        core.no_truncation()
        if pad is not None:
            core.enable_padding(**pad)
        if cut is not None:
            core.enable_truncation(**cut)
        found = core.encode_batch(texts, add_special_tokens=special, is_pretokenized=words)
        if not own:
            self._idle.append(core)
        return found

    def _strategies(
        self, padding: Any, truncation: Any, length: int | None, multiple: int | None
    ) -> tuple[str, str, int | None]:
        """:func:`strategies` with the limit and the padding token of this tokenizer."""
        return strategies(padding, truncation, length, multiple, self.model_max_length, self.pad_token_id)

    def encode(self, text: Any, text_pair: Any = None, **options: Any) -> Any:
        """The ids alone; see :meth:`__call__`."""
        return self(text, text_pair, **options)["input_ids"]

    def encode_plus(self, text: Any, text_pair: Any = None, **options: Any) -> BatchEncoding:
        """Old name of :meth:`__call__`."""
        return self(text, text_pair, **options)

    def batch_encode_plus(self, batch_text_or_text_pairs: Any, **options: Any) -> BatchEncoding:
        """Old name of :meth:`__call__` with a list."""
        return self(batch_text_or_text_pairs, **options)

    def tokenize(self, text: Any, pair: Any = None, add_special_tokens: bool = False, **options: Any) -> list[str]:
        """The tokens of a text."""
        return self(text, pair, add_special_tokens=add_special_tokens, **options).tokens()

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        **more: Any,
    ) -> BatchEncoding:
        """Pad encodings that were made before, one or a list of them: what a DataLoader's ``collate_fn`` does. Arguments as of a call."""
        _known("pad", more)
        data, single, kind = batch_of(encoded_inputs)
        length = None if max_length is None else whole_number("max_length", max_length)
        multiple = None if pad_to_multiple_of is None else whole_number("pad_to_multiple_of", pad_to_multiple_of)
        how, _, length = self._strategies(padding, False, length, None)
        if how == "longest":
            length = max(map(len, data["input_ids"]))
        if length is not None and multiple:
            length = -(-length // multiple) * multiple
        masked = "attention_mask" in self.model_input_names if return_attention_mask is None else return_attention_mask
        side = padding_side_of(self.padding_side if padding_side is None else padding_side)
        data = pad_rows(data, 0 if how == "do_not_pad" else length or 0, self.pad_token_id, side, masked)
        return BatchEncoding(
            {name: rows[0] for name, rows in data.items()} if single else data,
            tensor_type=kind if return_tensors is None else return_tensors,
        )

    def save_pretrained(self, save_directory: Any, **options: Any) -> tuple[str, ...]:
        """Write the tokenizer's files: byte for byte as they were read, except the settings that were passed or set since, which stand in
        tokenizer_config.json. What is saved reads text as this tokenizer does.

        Raises:
            RefusedError: the files cannot say what was changed of this tokenizer.
        """
        checked("save_pretrained", options, ("legacy_format", "filename_prefix") if not any(options.values()) else ())
        now = self._state()
        changed = {name: value for name, value in now.items() if value != self._as_loaded.get(name)}
        changed |= dict.fromkeys(name for name in self._as_loaded if name not in now)
        native = self.native
        if changed or "_own" in self.__dict__:
            native = self.native.changed(changed)
            if not native.same_ids(self.native) or type(self)(native)._state() != now:
                what = (
                    ", ".join(f"{name}={value!r}" for name, value in changed.items()) or "what was changed of backend_tokenizer"
                )
                raise RefusedError(
                    f"a folder with {what} would tokenize text differently from this tokenizer, so it is not saved: choose special tokens among "
                    "those that are special already, and save a tokenizers.Tokenizer that was changed with its own save(path)"
                )
        native.save(save_directory)
        return tuple(str(Path(save_directory) / name) for name in native.files)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(name_or_path={self.name_or_path!r}, vocab_size={self.vocab_size}, "
            f"model_max_length={self.model_max_length}, padding_side={self.padding_side!r}, "
            f"truncation_side={self.truncation_side!r}, special_tokens={self.special_tokens_map})"
        )


def _text(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _known(call: str, more: Mapping[str, Any]) -> None:
    """Refuse by name what else was passed."""
    for name, value in more.items():
        if name in unsupported.TOKENIZER_ARGUMENTS and value is not None:
            raise RefusedError(f"{call} does not support {name}=: {unsupported.TOKENIZER_ARGUMENTS[name]}")
        if name not in (*_IDLE, *unsupported.TOKENIZER_ARGUMENTS):
            raise RefusedError(f"{call} has no argument {name!r} (see docs/hf.md)")


def _settings(call: str, given: Mapping[str, Any], besides: Sequence[str]) -> dict[str, Any]:
    """The settings of a tokenizer among arguments, as tokenizer_config.json has them; an error for what is neither one nor in ``besides``."""
    own = {name for name in given if name.endswith("_token")}
    checked(call, given, (*besides, *(name for name in SETTINGS if name != "tokenizer_class"), *SPECIAL, *own))
    settings = {name: value for name, value in given.items() if name in {*SETTINGS, *SPECIAL, *own} and name not in besides}
    if settings.get("model_max_length") is not None:
        settings["model_max_length"] = whole_number("model_max_length", settings["model_max_length"])
    return {name: _as_written(value) for name, value in settings.items()}


def _as_written(value: Any) -> Any:
    """A special token as a file has it: an AddedToken becomes an object."""
    if isinstance(value, list | tuple):
        return [_as_written(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _as_written(item) for name, item in value.items()}
    if not hasattr(value, "single_word"):
        return plain(value)
    return {"__type": "AddedToken", **value.__getstate__()}


def _content(call: str, path: Any, name: str) -> bytes:
    """The bytes of a file that is to be read as ``name``."""
    if not isinstance(path, str | PathLike):
        raise BadInputError(
            f"{call} takes the path of {name}, not a {type(path).__name__}: write the vocabulary to a file first"
        )
    found = Path(path).expanduser()
    if found.is_dir():
        raise BadInputError(f"{path} is a folder: use {call}.from_pretrained({str(path)!r})")
    if found.suffix not in ("", Path(name).suffix):
        raise BadInputError(f"{path} is no {name}, which a {call} is made from; a tokenizer.json is passed as tokenizer_file=")
    try:
        return found.read_bytes()
    except OSError as error:
        raise NotFoundError(f"{path} cannot be read: {error.strerror}") from error


def _listed(text: Any, pair: Any, split: bool) -> tuple[list[Any], bool]:
    """The texts as the library takes them, and whether it was one alone."""
    text, pair = (as_lists(value) if hasattr(value, "tolist") else value for value in (text, pair))
    if not isinstance(text, str | list | tuple):
        raise BadInputError(f"the text must be a str or a list, not {type(text).__name__}")
    many = isinstance(text, list | tuple) and not (split and not (text and isinstance(text[0], list | tuple)))
    if not many:
        return [(text, pair)] if pair else [text], True
    if not text:
        raise BadInputError("the list of texts is empty")
    if pair is None:
        return list(text), False
    if isinstance(pair, str) or len(pair) != len(text):
        raise BadInputError(
            f"text is a list of {len(text)}: text_pair must be one as long, not {1 if isinstance(pair, str) else len(pair)}"
        )
    return list(zip(text, pair)), False


def _why(error: BaseException, texts: list[Any], split: bool, length: int | None, stride: Any, cut: str) -> str:
    """What to say of a text or a length that the library refuses."""
    for number, item in enumerate(texts):
        parts = item if isinstance(item, tuple | list) else (item,)
        words = [word for part in parts for word in (part if isinstance(part, tuple | list) else (part,))]
        for word in words:
            if not isinstance(word, str):
                return f"text {number} holds {word!r}, which is not a str: a missing text must be dropped or made ''; numbers, converted"
        if not split and (len(parts) > 2 or any(isinstance(part, tuple | list) for part in parts)):
            return f"text {number} is a list of words: pass is_split_into_words=True"
    shown = str(error).partition("\n")[0]
    if cut != "do_not_truncate":
        return f"cannot truncate ({shown}): max_length={length} must leave room for the special tokens and exceed stride={stride}; truncation={cut!r}"
    return f"the text cannot be tokenised: {shown}"


class PreTrainedTokenizerFast(PreTrainedTokenizerBase):
    """A tokenizer that is all in its tokenizer.json."""


class AutoTokenizer(PreTrainedTokenizerBase):
    """Makes the tokenizer of whatever class a folder's files are for."""


_ALIASES = dict.fromkeys(
    ("ElectraTokenizer", "MobileBertTokenizer", "SqueezeBertTokenizer", "LayoutLMTokenizer"), "BertTokenizer"
)
_SETTLED = {*SETTINGS, "vocab_file"} - {
    "model_max_length", "padding_side", "truncation_side", "model_input_names", "clean_up_tokenization_spaces",
}  # fmt: skip
_LIKE_BERT = {"BertTokenizer", "DistilBertTokenizer", *_ALIASES}
TOKENIZERS: dict[str, type[PreTrainedTokenizerBase]] = {
    name: type(name, (PreTrainedTokenizerFast,), {"kind": name, "__module__": __name__})
    for name in (
        "BertTokenizer", "DistilBertTokenizer", "RobertaTokenizer", "XLMRobertaTokenizer", "CamembertTokenizer", "AlbertTokenizer",
        "MPNetTokenizer", "GPT2Tokenizer",
    )
}  # fmt: skip
TOKENIZERS["BertTokenizer"].inputs = ("input_ids", "token_type_ids", "attention_mask")
TOKENIZERS |= {alias: TOKENIZERS[name] for alias, name in _ALIASES.items()}
globals().update(TOKENIZERS | {f"{name}Fast": kind for name, kind in TOKENIZERS.items()})
