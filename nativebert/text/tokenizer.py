"""Text to token ids, and back: the ids that a model was trained with.

A folder says how to tokenise in several files, and they may disagree. Which reading applies follows transformers 5 where that gives what the
model was trained with; :attr:`Tokenizer.notes` says what was found, and where two readings give different ids a warning
(:class:`nativebert.errors.Assumed`) says which one was taken.

* *BERT's own* (``tokenizer_class`` is ``BertTokenizer``, ``DistilBertTokenizer``, ... or, where that is not given, the model is of such a
  family), over a WordPiece: only the vocabulary and the added tokens are taken from the files. The rest is built from
  ``tokenizer_config.json``, **also where tokenizer.json says otherwise**: a missing ``do_lower_case`` means True.
* *RoBERTa's own*, over a plain byte-level BPE: ``add_prefix_space`` and the special tokens around a text are those of
  ``tokenizer_config.json``. *GPT-2's own* likewise, without special tokens around a text.
* *As it stands* (any other class, or none; and those classes over any other model): ``tokenizer.json`` is the whole truth, plus the named
  special tokens. Here transformers 5 may give other ids: it builds XLM-RoBERTa's, CamemBERT's, ALBERT's and MPNet's tokenizers again from
  the vocabulary, with ``do_lower_case``, ``keep_accents`` and ``add_prefix_space`` of ``tokenizer_config.json``, and reads a Unigram as a
  WordPiece where the class is BERT's.
* *From the vocabulary*, where there is no tokenizer.json: vocab.txt (BERT's classes, MPNet), vocab.json with merges.txt (RoBERTa, GPT-2),
  sentencepiece.bpe.model (XLM-RoBERTa, CamemBERT), spiece.model (ALBERT) or spm.model (DeBERTa v2 and v3), as transformers 5 builds the class.

What all have in common: nothing is truncated or padded here, whatever tokenizer.json says (long text is the business of
:mod:`nativebert.text.window`); nothing is left to chance (the dropout of a BPE is for training); and the text of a special token inside a
text *is* that token: ``"a [SEP] b"`` holds a separator. Escape such text before, if it comes from strangers and that matters.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from nativebert.arch import FAMILIES, family
from nativebert.checks import whole_number
from nativebert.errors import Assumed, BadInputError, CorruptError, NativeBertError, NotFoundError, RefusedError, warn
from nativebert.files import dump_json, parse_json
from nativebert.text import sentencepiece

if TYPE_CHECKING:  # the library itself is imported by the first tokenizer that is loaded
    import numpy as np
    import tokenizers
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

VOCABULARIES = {
    "vocab.txt": (), "vocab.json": ("merges.txt",), "sentencepiece.bpe.model": (), "spiece.model": (), "spm.model": (),
}  # fmt: skip
"""The files that a tokenizer can be built from where there is no tokenizer.json, each with what goes with it."""
FILES = (
    "tokenizer.json", *VOCABULARIES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
"""The files that make a tokenizer, and that :meth:`Tokenizer.save` writes back."""
NO_CLASS = ("", "PreTrainedTokenizer", "TokenizersBackend")
"""Values of :attr:`Tokenizer.kind` that say nothing about how text is read."""

READING = (
    "do_lower_case", "strip_accents", "tokenize_chinese_chars", "add_prefix_space", "trim_offsets", "keep_accents", "split_by_punct",
)  # fmt: skip
"""Settings of tokenizer_config.json about how text is read."""
SETTINGS = (
    "model_max_length", "padding_side", "truncation_side", "model_input_names", "clean_up_tokenization_spaces", "split_special_tokens",
    "additional_special_tokens", "extra_special_tokens", "tokenizer_class", *READING,
)  # fmt: skip
"""Settings that :meth:`Tokenizer.from_folder` takes over those of the files, besides special tokens (``"pad_token"``)."""

_BERT_CLASSES = {"BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer"}
_BERT_CLASSES |= {"SqueezeBertTokenizer", "LayoutLMTokenizer"}
# Families that nativebert has no encoder for, and whose tokenizer is BERT's
_BERT_FAMILIES = {"mobilebert", "squeezebert", "layoutlm", "convbert"}
_BERT_NAMES = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
_ROBERTA_NAMES = {
    "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>", "cls_token": "<s>",
    "mask_token": "<mask>",
}  # fmt: skip
# Special tokens that transformers assumes where the files name none
_DEFAULT_SPECIAL_TOKENS = {
    **dict.fromkeys(("RobertaTokenizer", "XLMRobertaTokenizer", "CamembertTokenizer"), _ROBERTA_NAMES),
    "MPNetTokenizer": _ROBERTA_NAMES | {"unk_token": "[UNK]"},
    "AlbertTokenizer": _BERT_NAMES | {"bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "<unk>", "pad_token": "<pad>"},
    "DebertaV2Tokenizer": _BERT_NAMES | {"bos_token": "[CLS]", "eos_token": "[SEP]"},
    "GPT2Tokenizer": dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"),
}
BUILT_FROM = {
    **dict.fromkeys((*sorted(_BERT_CLASSES), "MPNetTokenizer"), "vocab.txt"),
    **dict.fromkeys(("RobertaTokenizer", "GPT2Tokenizer"), "vocab.json"),
    **dict.fromkeys(("XLMRobertaTokenizer", "CamembertTokenizer"), "sentencepiece.bpe.model"), "AlbertTokenizer": "spiece.model",
    "DebertaV2Tokenizer": "spm.model",
}  # fmt: skip
"""The vocabulary that a class of transformers is built from where there is no tokenizer.json."""
# What it reads of READING then.
_READS = {
    "vocab.txt": ("do_lower_case", "strip_accents", "tokenize_chinese_chars"), "vocab.json": ("add_prefix_space", "trim_offsets"),
    "sentencepiece.bpe.model": ("add_prefix_space",), "spiece.model": ("do_lower_case", "keep_accents", "add_prefix_space"),
    "spm.model": ("do_lower_case", "split_by_punct", "add_prefix_space"),
}  # fmt: skip
# Vocabularies that nobody looks at beside a tokenizer.json, and that may be large.
_UNREAD = ("vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model", "spm.model")
_WHITE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
_DECODER = "added_tokens_decoder"  # of tokenizer_config.json: every added token by its id
_NAMES = ("bos_token", "eos_token", *_BERT_NAMES)  # in the order in which the reference adds them
_CLEAN_UP = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


@dataclass(frozen=True, slots=True)
class Encoding:
    """One text, or pair of texts, as tokens. The lists are made when asked for: embedding needs ``ids`` only."""

    raw: tokenizers.Encoding

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def ids(self) -> list[int]:
        """The row of each token in the embedding table."""
        return self.raw.ids

    @property
    def tokens(self) -> list[str]:
        """The tokens as written in the vocabulary: ``["[CLS]", "deep", "##er", "[SEP]"]``."""
        return self.raw.tokens

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """First and last-plus-one character of each token in the *original* text; (0, 0) for an added special token."""
        return self.raw.offsets

    @property
    def type_ids(self) -> list[int]:
        """The segment of each token: 1 for the second text of a pair and the separator after it, else 0."""
        return self.raw.type_ids

    @property
    def word_ids(self) -> list[int | None]:
        """The word of its text that each token belongs to, counted from 0; None for an added special token."""
        return self.raw.word_ids

    @property
    def sequence_ids(self) -> list[int | None]:
        """Which text each token came from, 0 or 1; None for an added special token."""
        return self.raw.sequence_ids

    @property
    def special(self) -> list[bool]:
        """True where the token was put there by the template (and not found in the text)."""
        return [flag == 1 for flag in self.raw.special_tokens_mask]

    @property
    def own(self) -> list[int]:
        """The places of the tokens that came from the text."""
        return [place for place, flag in enumerate(self.raw.special_tokens_mask) if not flag]


class Ids(NamedTuple):
    """Token ids of a batch; ``type_ids`` is None where all would be 0, as for single texts."""

    ids: list[list[int]]
    type_ids: list[list[int]] | None


T = TypeVar("T", int, str)


class _Special(Generic[T]):
    """``tokenizer.pad_id``, ``tokenizer.pad_token``: the id or the text of a named special token."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.place = name.replace("_id", "_token"), int(name.endswith("_id"))

    def __get__(self, tokenizer: Tokenizer, owner: type) -> T:
        return tokenizer._named(self.name)[self.place]  # type: ignore[return-value]


class Tokenizer:
    """A folder's tokenizer. Make one with :meth:`from_folder`; it never changes afterwards and may be shared."""

    pad_id, pad_token = _Special[int](), _Special[str]()
    cls_id, cls_token = _Special[int](), _Special[str]()
    sep_id, sep_token = _Special[int](), _Special[str]()
    mask_id, mask_token = _Special[int](), _Special[str]()
    unk_id, unk_token = _Special[int](), _Special[str]()

    def __init__(self, core: tokenizers.Tokenizer, config: Mapping[str, Any], files: Mapping[str, bytes], where: Path):
        self._core, self._config, self._files, self._where = core, config, dict(files), where
        self.notes: tuple[str, ...] = ()
        """What the files disagreed about, and which of them was followed."""
        self.kind = ""
        """The class of transformers that the files are for ("BertTokenizer"); empty where they name none."""
        self._assumed: tuple[str, ...] = ()  # those of the notes that are warned of
        self._unsaid = ""  # what this tokenizer does that its files do not say
        self._detached = False  # whether somebody may have changed it

    @classmethod
    def from_folder(cls, folder: str | Path, settings: Mapping[str, Any] | None = None, kind: str = "") -> Tokenizer:
        """Read the tokenizer of a model folder: tokenizer.json, or else a vocabulary, with what stands beside it.

        Args:
            folder: the folder.
            settings: keys to read as if tokenizer_config.json had them (``do_lower_case``); :meth:`save` writes them into it.
            kind: the class of transformers to read the files as (``"XLMRobertaTokenizer"``), where they name none.

        Raises:
            NotFoundError: there is no such folder, or no tokenizer in it.
            CorruptError: a file is damaged.
            RefusedError: a tokenizer that is not supported, or a setting that it does not take.

        Warns:
            Assumed: the files leave open, or contradict each other about, how text is read.
        """
        where = Path(folder)
        if not where.is_dir():
            raise NotFoundError(f"{where} is not a folder: give the folder that holds tokenizer.json or vocab.txt")
        names = [name for name in (*FILES, "config.json") if (where / name).is_file()]
        if "tokenizer.json" in names:
            names = [name for name in names if name not in _UNREAD]
        try:
            files = {name: (where / name).read_bytes() for name in names}
        except OSError as error:
            raise NotFoundError(f"{error.filename} cannot be read: {error.strerror}") from error
        return cls.from_files(files, where, settings, kind)

    @classmethod
    def from_files(
        cls, files: Mapping[str, bytes], where: Path, settings: Mapping[str, Any] | None = None, kind: str = ""
    ) -> Tokenizer:
        """As :meth:`from_folder`, of files that have been read: name -> content. ``where`` is what messages call the folder."""
        made = cls._read(files, where, settings, kind)
        for note in made._assumed:
            warn(f"{where}: {note}", Assumed)
        return made

    @classmethod
    def _read(cls, files: Mapping[str, bytes], where: Path, settings: Mapping[str, Any] | None, kind: str) -> Tokenizer:
        if "tokenizer.json" not in files and not any(name in files for name in VOCABULARIES):
            raise NotFoundError(
                f"{where} holds no tokenizer.json and no vocab.txt (nor vocab.json with merges.txt, sentencepiece.bpe.model, spiece.model or spm.model): "
                "download one of them into it"
            )
        content = {name: parse_json(data, where / name) for name, data in files.items() if name.endswith(".json")}
        model = content.pop("config.json", {})
        before, settings = dict(content), dict(settings or {})
        with _wrap_errors_as_corrupt(where):
            told = _class_name(content.get("tokenizer_config.json", {}), model)
            told = kind if told in NO_CLASS and kind else told
            if told and (told == kind or not content.get("tokenizer_config.json", {}).get("tokenizer_class")):
                settings["tokenizer_class"] = told  # so that it is saved: the folder may have no config.json then
            _settle(content, settings)
            config = content["tokenizer_config.json"]
            made = _make(told, content, files, model.get("model_type"), where)
            core, options = made.core, made.options
            for side in ("padding", "truncation"):
                if part := content.get("tokenizer.json", {}).get(side):
                    options.setdefault(f"{side}_side", str(part.get("direction", "right")).lower())
                    if "pad_token" in part:
                        options.setdefault("pad_token", part["pad_token"])
            core.no_truncation()
            core.no_padding()
            core.encode_special_tokens = bool(config.get("split_special_tokens", False))
            unknown = "\N{SNOWMAN}" * 101
            core.encode_batch([unknown, (unknown, "a")])  # a broken template, a missing [UNK] show here, not later
        kept = {name: data for name, data in files.items() if name in FILES}
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            if (now := content.get(name, {})) != before.get(name, {}):
                kept[name] = dump_json(now).encode()
        tokenizer = cls(core, options, kept, where)
        tokenizer.kind, tokenizer.notes = made.kind, (*made.notes, *made.assumed)
        tokenizer._assumed = tuple(made.assumed)
        for name in READING:
            same = name == "do_lower_case" and settings.get(name) is tokenizer.lowercase
            if name in settings and name not in made.reads and not same:
                takes = (
                    f"one of its kind takes {', '.join(made.reads)}"
                    if made.reads
                    else "its tokenizer.json alone says how text is read"
                )
                raise RefusedError(
                    f"the tokenizer of {where} does not support {name}=: {takes}. Change the files, in a copy of the folder."
                )
        _ = tokenizer.max_length
        return tokenizer

    def changed(self, settings: Mapping[str, Any]) -> Tokenizer:
        """What :meth:`save` and :meth:`from_folder` would make of this tokenizer's files with settings over what they say."""
        # a token that loses its name is special all the same, and a library's tokenizer that was handed out may have got tokens
        if self._detached or any(name.endswith("_token") for name in settings):
            return self._reread(self._core, settings)
        return self._read(self._files, self._where, settings, self.kind)

    def with_tokens(
        self, tokens: Iterable[str | tokenizers.AddedToken], *, special: bool = False, extra: Sequence[str] | None = None
    ) -> Tokenizer:
        """A tokenizer like this one with tokens added at the end of its vocabulary. :meth:`save` writes them, and the model's token table needs
        as many rows as there are tokens then: ``model.resize_token_embeddings(tokenizer.vocab_size)``.

        Args:
            tokens: the tokens. One that was added before stays what it is, and a special token special; one of the vocabulary keeps its id, and is
                found inside words from then on.
            special: whether they are special: left out by ``decode``, and found in a text as it is written, before it is lower-cased.
            extra: all special tokens without a name of their own (``extra_special_tokens``); None for those that there are.

        Raises:
            BadInputError: a token that is not text, or empty.
            RefusedError: the files cannot say it.
        """
        from tokenizers import Tokenizer

        listed = list(tokens)
        if bad := [
            token for token in listed if (not isinstance(token, str) and not hasattr(token, "content")) or not str(token)
        ]:
            raise BadInputError(f"a token must be a text that is not empty, or a tokenizers.AddedToken, not {bad[0]!r}")
        core = Tokenizer.from_str(self._core.to_str())
        there = {token.content: token for token in core.get_added_tokens_decoder().values()}
        new = [there.get(token, token) if isinstance(token, str) and not special else token for token in listed]
        (core.add_special_tokens if special else core.add_tokens)(new)
        made = self._reread(core, {} if extra is None else {"extra_special_tokens": list(extra)})
        if self._unsaid:
            made = made.lowercased()
        if _content(made._core) != _content(core):
            raise RefusedError(
                f"a folder with {', '.join(map(str, listed[:3]))} would tokenize text differently from this tokenizer: add tokens that are in no "
                "other token's way, or write a tokenizer.json with the tokenizers library"
            )
        return made

    def _reread(self, core: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> Tokenizer:
        """This tokenizer's files with the added tokens of ``core``, read with settings over what they say."""
        files = dict(self._files)
        told = {
            name: _text(token)
            for name, token in self._config.items()
            if name.endswith("_token") and isinstance(token, str | dict)
        }
        tokens = {number: _flags(token) for number, token in sorted(core.get_added_tokens_decoder().items())}
        extra = [_text(token) for token in self._config["extra_special_tokens"] if not self._config["named"]]
        decoder = {_DECODER: {str(number): flags for number, flags in tokens.items()}}
        if any(name.endswith(".model") for name in files):  # the names are in the vocabulary that is built of it: write that
            files = {name: data for name, data in files.items() if name not in VOCABULARIES}
            files["tokenizer.json"] = core.to_str().encode()
        elif "tokenizer.json" in files and core.get_vocab_size() > self.vocab_size:
            whole = parse_json(files["tokenizer.json"], self._where / "tokenizer.json")
            files["tokenizer.json"] = dump_json(
                whole | {"added_tokens": [{"id": number, **flags} for number, flags in tokens.items()]}
            ).encode()
        return self._read(
            files, self._where, told | ({"extra_special_tokens": extra} if extra else {}) | decoder | dict(settings), self.kind
        )

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the files. The library's own pickles round the scores of a Unigram, and forget whether special tokens are split."""
        state: dict[str, Any] = {"files": self._files, "where": self._where, "kind": self.kind, "unsaid": self._unsaid}
        if self._detached:
            state |= {"core": self._core.to_str(), "split": self._core.encode_special_tokens}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        made = type(self)._read(state["files"], state["where"], None, state["kind"])
        if state["unsaid"]:
            made = made.lowercased()
        self.__dict__.update(made.__dict__)
        if "core" in state:
            self._core, self._detached = Tokenizer.from_str(state["core"]), True
            self._core.encode_special_tokens = state["split"]

    def __copy__(self) -> Tokenizer:
        return self  # it never changes

    def __deepcopy__(self, memo: dict[int, Any]) -> Tokenizer:
        return self

    # ---- text to ids

    def encode(self, text: str, pair: str | None = None, *, special_tokens: bool = True) -> Encoding:
        """Tokenise one text, or a pair of texts. Nothing is truncated or padded."""
        for given in (text,) if pair is None else (text, pair):
            if not isinstance(given, str):
                raise BadInputError(f"the text {_complaint(given)}")
        item = text if pair is None else (text, pair)
        return Encoding(self._run([item], self._core.encode_batch, special_tokens)[0])

    def encode_batch(
        self, texts: Iterable[str] | Iterable[tuple[str, str]], *, special_tokens: bool = True, first: int = 0
    ) -> list[Encoding]:
        """Tokenise many texts, or many pairs, on all cores: a list, a numpy array or a pandas column of them.

        ``first`` is what error messages call the first text, where ``texts`` are a stretch of a longer list.
        """
        return [Encoding(raw) for raw in self._run(_checked(texts, first), self._core.encode_batch, special_tokens, first)]

    def ids_batch(
        self, texts: Iterable[str] | Iterable[tuple[str, str]], *, special_tokens: bool = True, first: int = 0
    ) -> Ids:
        """The ids alone, for when speed matters: no offsets are tracked. ``first`` as for :meth:`encode_batch`."""
        items = _checked(texts, first)
        raws = self._encode_fast(items, special_tokens, first)
        segments = [raw.type_ids for raw in raws] if items and not isinstance(items[0], str) else None
        return Ids([raw.ids for raw in raws], segments)

    def ids_soon(self, texts: Iterable[str], *, first: int = 0) -> Callable[[], tuple[IntArray, IntArray]]:
        """Ids of single texts in two steps: this one runs beside other Python threads, and the function that it returns takes the ids into
        arrays: those of all texts one after another, ``(T,)``, and the number of each text, ``(n,)``."""
        import numpy as np

        raws = self._encode_fast(_checked(texts, first), True, first)

        def ids() -> tuple[IntArray, IntArray]:
            lengths = np.fromiter(map(len, raws), np.int64, len(raws))
            rows = map(attrgetter("ids"), raws)  # one list at a time: a list for each text takes three times as long
            return np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum())), lengths

        return ids

    def _encode_fast(self, items: list[Any], special_tokens: bool, first: int) -> list[tokenizers.Encoding]:
        encode = self._core.encode_batch_fast if len(items) > 1 else self._encode_one  # a batch goes by way of other threads
        return self._run(items, encode, special_tokens, first)

    def lowercased(self) -> Tokenizer:
        """The same tokenizer for texts put in lower case first, as ``do_lower_case`` of sentence-transformers asks."""
        if self.lowercase:
            return self
        from tokenizers import normalizers

        core = self.core()
        # letter by letter, unlike str.lower(), which knows the end of a Greek word
        steps = [normalizers.Lowercase(), *([core.normalizer] if core.normalizer is not None else [])]
        core.normalizer = normalizers.Sequence(steps)
        return self._with(core, "puts texts in lower case first, as the sentence-transformers files ask")

    def detached(self) -> Tokenizer:
        """The same tokenizer over a library's one of its own, which shares nothing and may be changed."""
        from tokenizers import Tokenizer

        core = Tokenizer.from_str(self._core.to_str())
        core.encode_special_tokens = self._core.encode_special_tokens
        twin = self._with(core, self._unsaid)
        twin._detached = True
        return twin

    def _with(self, core: tokenizers.Tokenizer, unsaid: str) -> Tokenizer:
        twin = Tokenizer(core, self._config, self._files, self._where)
        twin.notes, twin.kind, twin._unsaid = self.notes, self.kind, unsaid
        return twin

    def same_ids(self, other: Tokenizer) -> bool:
        """Are the two made alike, so that every text has the same ids?"""
        split = self._core.encode_special_tokens, other._core.encode_special_tokens
        return split[0] == split[1] and _content(self._core) == _content(other._core)

    @property
    def model(self) -> Any:
        """The model of the library's tokenizer inside: a WordPiece, a BPE, a Unigram. Not to be changed."""
        return self._core.model

    def core(self) -> tokenizers.Tokenizer:
        """A tokenizer of the library as the one inside, to be set up at will; the two share the vocabulary's memory."""
        return twin_of(self._core)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What tokenizer_config.json and special_tokens_map.json say together, and the customary special tokens."""
        return MappingProxyType(dict(self._config))

    def _encode_one(self, items: list[Any], add_special_tokens: bool) -> list[tokenizers.Encoding]:
        """The only one of ``items``, if there is one."""
        pairs = [(item, None) if isinstance(item, str) else item for item in items]
        return [self._core.encode(text, pair, add_special_tokens=add_special_tokens) for text, pair in pairs]

    def _run(
        self, items: list[Any], encode: Callable[..., Any], special_tokens: bool, first: int = 0
    ) -> list[tokenizers.Encoding]:
        try:
            with _wrap_errors_as_corrupt(self._where):
                return encode(items, add_special_tokens=special_tokens)  # type: ignore[no-any-return]
        except CorruptError:
            _find_surrogate(items, first)  # the one fault of a str that the library refuses: found only when it did
            raise

    # ---- ids to text

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True, clean_up: bool | None = None) -> str:
        """The text that ids stand for, as closely as possible: case, accents and spaces may be lost.

        Args:
            ids: the ids.
            skip_special_tokens: leave out special tokens.
            clean_up: take spaces before punctuation away; None for what the files say. It is never done to a BPE's text, as in transformers.
        """
        numbers = [whole_number("an id", number) for number in ids]
        for number in set(numbers):
            if self.id_to_token(number) is None:
                top = max(self.vocab.values())
                raise BadInputError(f"id {number} is not in the vocabulary of {self._where}: its ids go from 0 to {top}")
        text = self._core.decode(numbers, skip_special_tokens=skip_special_tokens)
        wanted = self._config.get("clean_up_tokenization_spaces") if clean_up is None else clean_up
        if wanted and type(self._core.model).__name__ != "BPE":
            for piece in _CLEAN_UP:
                text = text.replace(piece, piece.strip())
        return text

    # ---- the vocabulary

    @property
    def backend(self) -> tokenizers.Tokenizer:
        """The tokenizer of the tokenizers library. Change that of :meth:`detached`, which no other object uses."""
        return self._core

    def token_to_id(self, token: str) -> int | None:
        """The id of a token, or None if the vocabulary does not have it."""
        return self._core.token_to_id(token)

    def id_to_token(self, number: int) -> str | None:
        """The token of an id, or None if the vocabulary does not have it."""
        return self._core.id_to_token(number) if 0 <= number < 2**32 else None

    @property
    def vocab(self) -> dict[str, int]:
        """Every token and its id, added tokens included."""
        return self._core.get_vocab()

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, added tokens included."""
        return self._core.get_vocab_size()

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of all special tokens: the named ones, and those that only the files call special."""
        return frozenset(number for number, token in self._core.get_added_tokens_decoder().items() if token.special)

    @property
    def lowercase(self) -> bool:
        """Does upper case make no difference?"""
        normalizer = self._core.normalizer
        return normalizer is not None and normalizer.normalize_str("A") == "a"

    @property
    def max_length(self) -> int | None:
        """``model_max_length`` of the configuration; None if absent, or so large that it means none."""
        limit = self._config.get("model_max_length", self._config.get("max_len"))
        if limit is None:
            return None
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 1:
            raise CorruptError(f"{self._where / 'tokenizer_config.json'}: model_max_length is {limit!r}, not a length")
        return None if limit >= 1e9 else int(limit)

    def n_special(self, pair: bool = False) -> int:
        """How many tokens the template adds to a text, or to a pair: 2 and 3 for BERT."""
        return self._core.num_special_tokens_to_add(pair)

    @cached_property
    def frame(self) -> tuple[list[int], list[int]]:
        """The ids that the template puts before and after a single text: ``([101], [102])`` for BERT."""
        raw = self._core.encode("a")
        own = [place for place, added in enumerate(raw.special_tokens_mask) if not added]
        return raw.ids[: own[0]], raw.ids[own[-1] + 1 :]

    @property
    def digest(self) -> str:
        """SHA-256 of the file that holds the vocabulary: tokenizer.json, or else vocab.txt or its like."""
        name = next(name for name in ("tokenizer.json", *VOCABULARIES) if name in self._files)
        return hashlib.sha256(self._files[name]).hexdigest()

    @property
    def files(self) -> Mapping[str, bytes]:
        """The files that :meth:`save` writes: name -> content."""
        return MappingProxyType(self._files)

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files, byte for byte as they were read, except: settings that were passed, and the class where
        only the model's config.json had told it, stand in tokenizer_config.json.

        Raises:
            RefusedError: the files do not say all that this tokenizer does.
        """
        if self._unsaid:
            raise RefusedError(
                f"this tokenizer {self._unsaid}, which its own files do not say: save the model, not its tokenizer alone"
            )
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, data in self._files.items():
            (Path(folder) / name).write_bytes(data)

    def __repr__(self) -> str:
        return f"Tokenizer({str(self._where)!r}, vocab_size={self.vocab_size}, lowercase={self.lowercase})"

    def _named(self, name: str) -> tuple[str, int]:
        token = self._config.get(name)
        number = None if token is None else self.token_to_id(_text(token))
        if token is None or number is None:
            raise RefusedError(f"the tokenizer of {self._where} has no {name}: this task needs a model that has one")
        return _text(token), number


# ---- reading the files


@contextmanager
def _wrap_errors_as_corrupt(where: Path) -> Iterator[None]:
    """Whatever hostile files set off inside the library, even a Rust panic, leaves as ``CorruptError``."""
    try:
        yield
    except (NativeBertError, MemoryError, ImportError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # KeyboardInterrupt and similar
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise CorruptError(f"the tokenizer files in {where} are damaged: download them again ({reason})") from error


def _class_name(config: dict[str, Any], model: dict[str, Any]) -> str:
    """The class of transformers that the files are for, without "Fast"; empty where no file says."""
    named, family_name = config.get("tokenizer_class") or model.get("tokenizer_class"), model.get("model_type")
    if not all(isinstance(name, str | None) for name in (named, family_name)):
        raise TypeError(f"tokenizer_class and model_type must be strings, not {named!r} and {family_name!r}")
    return (named or _default_class(str(family_name))).removesuffix("Fast")


def _default_class(family_name: str) -> str:
    """The class that transformers takes for a family where the files name none."""
    if family_name in FAMILIES:
        return family(family_name).tokenizer
    return "BertTokenizer" if family_name in _BERT_FAMILIES else ""


def _settle(content: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Put settings over what the files say, in both files that may say it."""
    for name, value in settings.items():
        if name not in (*SETTINGS, _DECODER) and not name.endswith("_token"):
            raise RefusedError(
                f"a tokenizer does not support {name}=; it takes {', '.join(SETTINGS)} and special tokens, like pad_token"
            )
        if name.endswith("_side") and value not in ("left", "right"):
            raise BadInputError(f"{name} must be 'left' or 'right', not {value!r}")
    content["tokenizer_config.json"] = content.get("tokenizer_config.json", {}) | dict(settings)
    extra = {"extra_special_tokens", "additional_special_tokens"}
    over = set(settings) | (extra if extra & set(settings) else set())
    if (told := content.get("special_tokens_map.json")) and over & set(told):
        content["special_tokens_map.json"] = {name: value for name, value in told.items() if name not in over}


class _Made(NamedTuple):
    """What reading the files comes to."""

    kind: str
    core: tokenizers.Tokenizer
    options: dict[str, Any]
    notes: list[str]
    assumed: list[str]  # notes on what makes other ids
    reads: tuple[str, ...] = ()  # what of READING was followed


def _make(kind: str, content: dict[str, Any], files: Mapping[str, bytes], family: Any, where: Path) -> _Made:
    """The reading that is for the class ``kind`` and the files that there are."""
    if content.get("tokenizer_config.json", {}).get("auto_map") and kind not in _BERT_CLASSES:
        raise RefusedError(
            f"{where}: tokenizer_config.json asks for code of its own ({kind or 'auto_map'}), which is never run"
        )
    if "tokenizer.json" in content:
        plain = kind in _BERT_CLASSES and _is_wordpiece(content["tokenizer.json"]["model"])
        return _wordpiece(kind, content, files) if plain else _from_tokenizer_json(kind, content, files)
    present = [name for name in VOCABULARIES if name in files]
    if not kind and present == ["vocab.txt"] and not family:
        kind = "BertTokenizer"
    source = BUILT_FROM.get(kind)
    if source not in present:
        raise _not_built(kind, family, source, present, where)
    if missing := [name for name in VOCABULARIES[source] if name not in files]:
        raise NotFoundError(f"{where} has {source} without {missing[0]}, which goes with it: download it, too")
    build = {"vocab.txt": _wordpiece, "vocab.json": _byte_level}.get(source, _unigram)
    return build(kind, content, files)


def _not_built(kind: str, family: Any, source: str | None, present: list[str], where: Path) -> RefusedError:
    """Why there is no tokenizer to build from these vocabularies, and what to do."""
    have = " and ".join(present)
    if source is not None:
        parts = " and ".join((source, *VOCABULARIES[source]))
        return RefusedError(f"{where} has {have} alone, and a {kind} is built from {parts}: download that, or tokenizer.json")
    if kind in NO_CLASS and not family:
        classes = ", ".join(dict.fromkeys(name for name, file in BUILT_FROM.items() if file in present))
        return RefusedError(
            f"{where} has {have} alone, and no file says which tokenizer it is for: write a tokenizer_config.json beside it, "
            f'{{"tokenizer_class": "..."}}, with one of {classes}'
        )
    named = f"its tokenizer is {kind or family!r}" + (", which names no way to read it" if kind in NO_CLASS[1:] else "")
    return RefusedError(
        f"{where} has {'a ' if len(present) == 1 else ''}{have} alone, and {named}, not BERT's: transformers' "
        "AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes a tokenizer.json for most classes. Where it does not, because "
        "the tokenizer is a program of its own, tokenise with it and give the ids to nativebert.load(folder)."
    )


def _is_wordpiece(model: dict[str, Any]) -> bool:
    """Is the model of a tokenizer.json one that BERT's own reading is meant for?"""
    return _type(model) == "WordPiece" and model.get("continuing_subword_prefix", "##") == "##"


def _is_byte_level(whole: dict[str, Any]) -> bool:
    """Does a tokenizer.json hold a plain byte-level BPE, which RoBERTa's own reading is meant for?"""
    model, cut = whole["model"], whole.get("pre_tokenizer") or {}
    affixes = any(model.get(name) for name in ("continuing_subword_prefix", "end_of_word_suffix"))
    plain = cut.get("type") == "ByteLevel" and cut.get("use_regex", True)
    return _type(model) == "BPE" and bool(plain) and not affixes and not whole.get("normalizer")


def _type(model: dict[str, Any]) -> str:
    """The kind of model; old files leave the word out."""
    vocab = "Unigram" if isinstance(model.get("vocab"), list) else "WordPiece"
    return str(model.get("type") or ("BPE" if "merges" in model else vocab))


def _wordpiece(kind: str, content: dict[str, Any], files: Mapping[str, bytes]) -> _Made:
    """BERT's own tokenizer, or MPNet's: the vocabulary of the files, the pipeline of tokenizer_config.json."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    whole: dict[str, Any] | None = content.get("tokenizer.json")
    mpnet = kind == "MPNetTokenizer"
    options = _DEFAULT_SPECIAL_TOKENS.get(kind, _BERT_NAMES) | _options(content)
    vocab = _lines(files["vocab.txt"]) if whole is None else whole["model"]["vocab"]
    settings = {
        "clean_text": True,
        "handle_chinese_chars": options.get("tokenize_chinese_chars", True),
        "strip_accents": options.get("strip_accents"),  # None: as lowercase says
        "lowercase": options.get("do_lower_case", True),
    }
    unk, sep, cls = (_text(options[name]) for name in ("unk_token", "sep_token", "cls_token"))
    core = Tokenizer(models.WordPiece(vocab, unk_token=unk))
    core.normalizer = normalizers.BertNormalizer(**settings)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##")
    if mpnet:
        _open_mask(options)
    notes = _add_tokens(core, content, options)
    if mpnet:
        last, first = ((token, core.token_to_id(token) or 0) for token in (sep, cls))
        core.post_processor = processors.RobertaProcessing(last, first, trim_offsets=True, add_prefix_space=False)
    else:
        core.post_processor = processors.TemplateProcessing(
            single=f"{cls}:0 $A:0 {sep}:0",
            pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
            special_tokens=[(token, core.token_to_id(token)) for token in (cls, sep)],
        )
    followed = {("normalizer", key): value for key, value in settings.items()}
    followed |= {("pre_tokenizer", "type"): "BertPreTokenizer", ("model", "max_input_chars_per_word"): 100}
    followed |= {("model", "unk_token"): unk}
    assumed = [
        f"tokenizer.json says {part}.{key} = {theirs!r}; followed, as transformers does: {ours!r}"
        + (", which tokenizer_config.json does not say: pass do_lower_case, or write it there" if silent else "")
        for (part, key), ours in followed.items()
        if whole is not None and (theirs := (whole.get(part) or {}).get(key)) != ours
        for silent in (key == "lowercase" and "do_lower_case" not in options,)
    ]
    if whole is not None and (theirs := _template(whole)) not in ([], ours := core.encode("", "").ids):
        assumed.append(f"tokenizer.json puts the ids {theirs} around an empty pair; followed, as transformers does: {ours}")
    assumed += _lowered_by_default(vocab, options) if whole is None else []
    return _Made(kind, core, options, notes, assumed, _READS["vocab.txt"])


def _template(whole: dict[str, Any]) -> list[int]:
    """The ids that a tokenizer.json puts around a pair of empty texts; none where it cannot be determined."""
    from tokenizers import Tokenizer

    empty = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
    parts: dict[str, Any] = {
        **dict.fromkeys(("normalizer", "pre_tokenizer", "decoder", "truncation", "padding")),
        "added_tokens": [],
        "model": empty,
    }
    try:
        with _wrap_errors_as_corrupt(Path()):
            return (
                Tokenizer.from_str(json.dumps({"version": "1.0", **parts, "post_processor": whole.get("post_processor")}))
                .encode("", "")
                .ids
            )
    except CorruptError:
        return []  # nobody reads it


def _open_mask(options: dict[str, Any]) -> None:
    """Let the mask take the space before it, where the files say nothing of that: some classes make it so."""
    if isinstance(options["mask_token"], str):
        options["mask_token"] = {"content": options["mask_token"], "lstrip": True, "normalized": False, "special": True}


def _lines(data: bytes) -> dict[str, int]:
    """The tokens of a vocab.txt and their ids, as the tokenizers library reads it."""
    lines = data.decode("utf-8").split("\n")
    return {line.rstrip(_WHITE): number for number, line in enumerate(lines if lines[-1] else lines[:-1])}


def _lowered_by_default(vocab: Iterable[str], options: dict[str, Any]) -> list[str]:
    """What to say where texts are lower-cased because no file says otherwise, and the vocabulary looks as if they should not be."""
    special = ("[]", "<>")  # the brackets around special tokens
    cased = [token for token in vocab if token != token.lower() and not (len(token) > 2 and token[0] + token[-1] in special)]
    if "do_lower_case" in options or not cased:
        return []
    return [
        f"no file says whether to lower-case, and the vocabulary looks like a cased one: upper case is in {len(cased):,} of its tokens, as "
        f"{cased[0]!r}. Texts are lower-cased, as transformers does: pass do_lower_case, or write it into tokenizer_config.json."
    ]


def _from_tokenizer_json(kind: str, content: dict[str, Any], files: Mapping[str, bytes]) -> _Made:
    """Any other tokenizer: tokenizer.json, and the special tokens that the other files name."""
    from tokenizers import Tokenizer

    whole, notes, assumed = content["tokenizer.json"], [], []
    text = files["tokenizer.json"].decode("utf-8")
    if isinstance(whole.get("model"), dict) and (chance := whole["model"].get("dropout")):
        text = json.dumps({**whole, "model": {**whole["model"], "dropout": None}})
        notes.append(f"tokenizer.json has a dropout of {chance!r}, which is for training: nothing is dropped here")
    core = Tokenizer.from_str(text)
    options = _options(content)
    notes += _add_tokens(core, content, options)
    names = _DEFAULT_SPECIAL_TOKENS.get(kind, _BERT_NAMES)
    options = {name: token for name, token in names.items() if core.token_to_id(token) is not None} | options
    reads: tuple[str, ...] = ()
    around = {"RobertaTokenizer": {"sep_token", "cls_token"}, "GPT2Tokenizer": set()}.get(kind)
    if around is not None and _is_byte_level(whole) and around <= set(options):
        reads = _READS["vocab.json"] if around else ("add_prefix_space",)
        before = core.encode("", "").ids
        _split_bytes(kind, core, options)
        if before and before != core.encode("", "").ids:
            assumed.append(
                f"tokenizer.json puts the ids {before} around an empty pair; followed, as transformers does: RoBERTa's template"
            )
        if (space := bool(options.get("add_prefix_space", False))) is not bool(whole["pre_tokenizer"].get("add_prefix_space")):
            assumed.append(f"tokenizer.json says add_prefix_space = {not space!r}; followed, as transformers does: {space!r}")
    elif around is not None or kind in _BERT_CLASSES:
        notes.append(f"{kind} is not for the {_type(whole['model'])} in tokenizer.json, which is taken as it stands")
    assumed += [
        f"tokenizer_config.json says {name} = {options[name]!r}, and tokenizer.json reads text otherwise; followed: tokenizer.json"
        for name, does in _behaviour(core).items()
        if name not in reads and isinstance(options.get(name), bool) and options[name] is not does
    ]
    return _Made(kind, core, options, notes, assumed, reads)


def _behaviour(core: tokenizers.Tokenizer) -> dict[str, bool]:
    """What a tokenizer does, under the names that tokenizer_config.json has for it."""
    normal = core.normalizer.normalize_str if core.normalizer is not None else str
    strips = normal("\N{LATIN SMALL LETTER E WITH ACUTE}") == "e"
    found = {"do_lower_case": normal("A") == "a", "strip_accents": strips, "keep_accents": not strips}
    if type(core.model).__name__ in ("BPE", "Unigram"):  # the models that know where a word begins by its space
        pieces = core.pre_tokenizer.pre_tokenize_str(normal("a")) if core.pre_tokenizer is not None else [(normal("a"), (0, 1))]
        found["add_prefix_space"] = bool(pieces) and pieces[0][0][:1] in ("\N{LOWER ONE EIGHTH BLOCK}", "\u0120", " ")
    return found


def _byte_level(kind: str, content: dict[str, Any], files: Mapping[str, bytes]) -> _Made:
    """RoBERTa's own tokenizer, or GPT-2's, from vocab.json and merges.txt."""
    from tokenizers import Tokenizer, decoders, models

    options = _DEFAULT_SPECIAL_TOKENS[kind] | _options(content)
    if options.get("add_bos_token"):
        raise RefusedError(
            "tokenizer_config.json says add_bos_token: true, which is read from a tokenizer.json only: transformers' save_pretrained writes one"
        )
    lines = (line.rstrip("\r") for line in files["merges.txt"].decode("utf-8").split("\n"))
    merges: Any = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    core = Tokenizer(
        models.BPE(content["vocab.json"], merges, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False)
    )
    core.decoder = decoders.ByteLevel()
    notes = _add_tokens(core, content, options)
    _split_bytes(kind, core, options)
    return _Made(kind, core, options, notes, [], _READS["vocab.json"][: 1 + (kind == "RobertaTokenizer")])


def _split_bytes(kind: str, core: tokenizers.Tokenizer, options: dict[str, Any]) -> None:
    """Give a byte-level BPE its class's way with spaces, as tokenizer_config.json has it, and RoBERTa's its template."""
    from tokenizers import pre_tokenizers, processors

    space, trim = bool(options.get("add_prefix_space", False)), bool(options.get("trim_offsets", True))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    if kind == "GPT2Tokenizer":
        return
    sep, cls = ((token := _text(options[name]), core.token_to_id(token) or 0) for name in ("sep_token", "cls_token"))
    core.post_processor = processors.RobertaProcessing(sep, cls, trim_offsets=trim, add_prefix_space=space)


def _unigram(kind: str, content: dict[str, Any], files: Mapping[str, bytes]) -> _Made:
    """XLM-RoBERTa's, CamemBERT's, ALBERT's or DeBERTa's own tokenizer, from a file of sentencepiece."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    source = BUILT_FROM[kind]
    read = sentencepiece.read(files[source])
    if read.algorithm != sentencepiece.UNIGRAM:
        raise RefusedError(
            f"{source} holds another model of sentencepiece than a Unigram, which a {kind} is: the files do not belong together"
        )
    options = _DEFAULT_SPECIAL_TOKENS[kind] | _options(content)
    name = {
        name: _text(options[name])
        for name in ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
    }
    vocab = [(piece.text, piece.score) for piece in read.pieces]
    unknown = 1
    # the ids of fairseq, in which the first two were trained: four tokens before the pieces, the mask after them
    if kind == "XLMRobertaTokenizer":
        lead_tokens, unknown = ("bos_token", "pad_token", "eos_token", "unk_token"), 3
        vocab = [*((name[token], 0.0) for token in lead_tokens), *vocab[3:], (name["mask_token"], 0.0)]
    elif kind == "CamembertTokenizer":
        lead = [
            ("<s>NOTUSED", 0.0),
            (name["pad_token"], 0.0),
            ("</s>NOTUSED", 0.0),
            (name["unk_token"], 0.0),
            ("<unk>NOTUSED", -100.0),
        ]
        vocab, unknown = [*lead, *vocab[1:], (name["mask_token"], 0.0)], 3
        _open_mask(options)
    elif kind == "DebertaV2Tokenizer" and (name["unk_token"], 0.0) in vocab:
        unknown = vocab.index((name["unk_token"], 0.0))
    core = Tokenizer(models.Unigram(vocab, unk_id=unknown, byte_fallback=False))
    steps: list[Any] = []
    if kind == "AlbertTokenizer":
        steps = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
        steps += [] if options.get("keep_accents", False) else [normalizers.NFKD(), normalizers.StripAccents()]
        steps += [normalizers.Lowercase()] if options.get("do_lower_case", True) else []
    if kind == "DebertaV2Tokenizer":  # which does without the table of characters
        steps = [normalizers.Lowercase()] if options.get("do_lower_case", False) else []
        steps += [
            normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "),
            normalizers.NFC(),
            normalizers.Strip(left=False, right=True),
        ]
    elif read.charsmap:
        steps += [normalizers.Precompiled(read.charsmap)]
    if steps:
        core.normalizer = normalizers.Sequence(steps)
    first: Any = pre_tokenizers.WhitespaceSplit()
    prefix = "always" if options.get("add_prefix_space", True) else "never"
    if kind == "DebertaV2Tokenizer":
        first = pre_tokenizers.Punctuation(behavior="isolated") if options.get("split_by_punct", False) else None
        prefix = prefix.replace("never", "first")
    space: dict[str, Any] = {"replacement": "\N{LOWER ONE EIGHTH BLOCK}", "prepend_scheme": prefix}
    cuts = [first] if first is not None else []
    core.pre_tokenizer = pre_tokenizers.Sequence([*cuts, pre_tokenizers.Metaspace(**space)])
    core.decoder = decoders.Metaspace(**space)
    extra = ("extra_special_tokens", "additional_special_tokens")
    told = content.get("tokenizer_config.json", {})
    told = told if "added_tokens_decoder" in told else told | content.get("special_tokens_map.json", {})
    if not any(key in told for key in extra):
        kinds = (sentencepiece.CONTROL, sentencepiece.USER_DEFINED)
        options[extra[0]] = [
            {"content": piece.text, "normalized": False, "special": piece.kind == sentencepiece.CONTROL}
            for piece in read.pieces
            if piece.kind in kinds
        ]
    notes = _add_tokens(core, content, options)
    if kind in ("AlbertTokenizer", "DebertaV2Tokenizer"):
        single, pair, ends = (
            "[CLS]:0 $A:0 [SEP]:0",
            "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            {"[CLS]": "cls_token", "[SEP]": "sep_token"},
        )
    else:
        a, z = name["bos_token"], name["eos_token"]
        single, pair, ends = f"{a} $A {z}", f"{a} $A {z} {z} $B {z}", {a: "bos_token", z: "eos_token"}
    tokens = [(written, core.token_to_id(name[token])) for written, token in ends.items()]
    core.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=tokens)
    assumed = _lowered_by_default((text for text, _ in vocab), options) if kind == "AlbertTokenizer" else []
    if read.byte_fallback:
        assumed.append(f"{source} asks for the bytes of unknown characters; they are unknown here, as in transformers' {kind}")
    return _Made(kind, core, options, notes, assumed, _READS[source])


def _content(core: tokenizers.Tokenizer) -> Any:
    """All that a tokenizer of the library is, to be compared. The last bit of a score is lost when the library reads it from JSON."""
    whole = json.loads(core.to_str())
    if type(core.model).__name__ == "Unigram":
        whole["model"]["vocab"] = [(text, struct.pack("<f", score)) for text, score in whole["model"]["vocab"]]
    return whole


def twin_of(core: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """A tokenizer of the library like another, to be set up otherwise: it is made in microseconds and shares the vocabulary's memory."""
    from tokenizers import Tokenizer

    twin, tokens = Tokenizer(core.model), core.get_added_tokens_decoder()
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if (value := getattr(core, part)) is not None:
            setattr(twin, part, value)
    twin.add_tokens([token for _, token in sorted(tokens.items())])
    if twin.get_added_tokens_decoder() != tokens:  # their ids do not follow from their order
        twin = Tokenizer.from_str(core.to_str())
        twin.no_truncation()
        twin.no_padding()
    twin.encode_special_tokens = core.encode_special_tokens
    return twin


def _options(content: dict[str, Any]) -> dict[str, Any]:
    """tokenizer_config.json, and over it special_tokens_map.json, unless the former describes all added tokens."""
    config: dict[str, Any] = content.get("tokenizer_config.json", {})
    more: dict[str, Any] = content.get("special_tokens_map.json", {})
    if "added_tokens_decoder" in config:
        more = {}
    extra, old = "extra_special_tokens", "additional_special_tokens"
    ours, theirs = config.get(extra) or config.get(old) or [], more.get(extra) or []
    lists = [group for group in (ours, theirs) if not isinstance(group, dict)]
    if isinstance(ours, dict) or not (extra in config or old in config or theirs):
        lists.append(more.get(old) or config.get(old) or [])
    if not all(isinstance(group, list) for group in lists):
        raise TypeError(f"{extra} is neither a list nor an object")
    named = {**(ours if isinstance(ours, dict) else {}), **(theirs if isinstance(theirs, dict) else {})}
    return config | more | {extra: [token for group in lists for token in group], "named": named}


def _add_tokens(core: tokenizers.Tokenizer, content: dict[str, Any], options: dict[str, Any]) -> list[str]:
    """Make the special and added tokens known, in the reference's order, which decides about new ids."""
    others = {name: token for name, token in options.items() if name.endswith("_token") and isinstance(token, str | dict)}
    order = [options.get(name) for name in _NAMES] + [*others.values(), *options["named"].values()]
    named = {_text(token): token for token in order if token is not None}
    extra = {_text(token): token for token in options["extra_special_tokens"]}
    listed: dict[int, tokenizers.AddedToken] = {}
    if "added_tokens_decoder" in options:
        listed = {int(number): _added(token) for number, token in options["added_tokens_decoder"].items()}
    else:
        told = {_text(value) for name, value in _options(content).items() if name in _NAMES and value} | set(extra)
        for text, number in content.get("added_tokens.json", {}).items():
            listed[number] = _added({"content": text, "normalized": text not in told, "special": text in told})
        for token in content.get("tokenizer.json", {}).get("added_tokens", []):
            listed[token["id"]] = _added(token)
    present = core.get_added_tokens_decoder().values()
    same = {repr(token) for token in present}
    new = [token for _, token in sorted(listed.items()) if repr(token) not in same]
    seen = {token.content for token in (*present, *new)}
    new += [_added(token, special=True) for text, token in (*named.items(), *extra.items()) if text not in seen]
    for token in new:
        token.special = token.special or token.content in named
    size = core.get_vocab_size()
    core.add_tokens(new)
    late = {token.content: core.token_to_id(token.content) or 0 for token in new}
    return [f"{token} is not in the vocabulary: it became id {at}" for token, at in late.items() if at >= size]


def _flags(token: tokenizers.AddedToken) -> dict[str, Any]:
    names = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    return {name: getattr(token, name) for name in names}


def _added(value: Any, special: bool = False) -> tokenizers.AddedToken:
    from tokenizers import AddedToken

    known = ("single_word", "lstrip", "rstrip", "normalized", "special")
    told = {key: value[key] for key in known if key in value} if isinstance(value, dict) else {}
    return AddedToken(_text(value), **({"special": special} | told))


def _text(token: Any) -> str:
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str):
        raise TypeError(f"a special token is {token!r}, which is not text")  # and so CorruptError, with the folder's name
    return text


# ---- checking what the user gives


def _checked(texts: Any, first: int = 0) -> list[Any]:
    """A list of str, or of pairs of str; or an error that names the first text that is neither."""
    if type(texts) is list and set(map(type, texts)) <= {str}:
        return texts
    for method in ("tolist", "to_pylist", "to_list"):  # numpy and pandas, pyarrow, polars
        if hasattr(texts, method):
            texts = getattr(texts, method)()
            break
    if isinstance(texts, str | bytes):
        raise BadInputError("a single text was given where a list of texts was expected: write [text]")
    if not isinstance(texts, Iterable) or isinstance(texts, Mapping | Set) or hasattr(texts, "columns"):
        raise BadInputError(f"texts is a {type(texts).__name__}: give a list of texts, or one column of a table")
    items = list(texts)
    if set(map(type, items)) <= {str}:
        return items
    paired = isinstance(items[0], tuple | list)
    for index, item in enumerate(items, first):
        parts = tuple(item) if paired and isinstance(item, tuple | list) else (item,)
        for part in parts:
            if not isinstance(part, str):
                raise BadInputError(f"text {index} {_complaint(part)}")
        if paired and len(parts) != 2:
            raise BadInputError(f"text {index} is not a pair of texts, and text {first} is one: give all as pairs, or none")
    return items


def _complaint(given: Any) -> str:
    shown = repr(given) if len(repr(given)) < 60 else repr(given)[:57] + "..."
    if shown in ("None", "nan", "<NA>", "NaT"):
        return f"is {shown}: a missing text; drop it, or put an empty string in its place"
    if isinstance(given, bytes | bytearray):
        return f"is bytes, {shown}: decode it first, with .decode('utf-8')"
    return f"is a {type(given).__name__}, {shown}, not a str: convert it first"


def _find_surrogate(items: list[Any], first: int) -> None:
    for index, item in enumerate(items, first):
        for text in (item,) if isinstance(item, str) else item:
            try:
                text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise BadInputError(
                    f"text {index} holds half a character (a lone surrogate, {text[error.start]!r}, at {error.start}): "
                    "it was decoded wrongly; read it again, or use text.encode('utf-8', 'replace').decode()"
                ) from None
