"""Text to token ids, and back: exactly the ids that transformers gives for the same folder.

A folder says how to tokenise in up to five files, and they may disagree. Two readings exist, and which of them
applies follows transformers 5:

* *BERT's own* (``tokenizer_class`` is ``BertTokenizer``, ``DistilBertTokenizer``, ... or, where that is not given,
  the model is of such a family): only the vocabulary and the added tokens are taken from the files. The rest is
  built from ``tokenizer_config.json``, **also where tokenizer.json says otherwise**: a missing ``do_lower_case``
  means True. Each such disagreement stands in :attr:`Tokenizer.notes`.
* *As it stands* (any other class, or none): ``tokenizer.json`` is the whole truth, plus the named special tokens.

What both have in common: nothing is truncated or padded here, whatever tokenizer.json says (long text is the
business of :mod:`nativebert.text.window`), and the text of a special token inside a text *is* that token:
``"a [SEP] b"`` holds a separator. Escape such text before, if it comes from strangers and that matters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from nativebert.errors import BadInput, Corrupt, NativeBertError, NotFound, Refused

if TYPE_CHECKING:  # the library itself is imported by the first tokenizer that is loaded
    import tokenizers

FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
"""The files that make a tokenizer, and that :meth:`Tokenizer.save` writes back."""

_BERT_CLASSES = {"BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer"}
_BERT_CLASSES |= {"SqueezeBertTokenizer", "LayoutLMTokenizer"}
_BERT_FAMILIES = {"bert", "distilbert", "electra", "mobilebert", "squeezebert", "layoutlm", "convbert"}
_BERT_NAMES = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
# The tokenizer that transformers takes for a family where the files name none, and the special tokens it assumes.
_CLASSES = {
    "roberta": "RobertaTokenizer", "xlm-roberta": "XLMRobertaTokenizer", "camembert": "CamembertTokenizer", "albert": "AlbertTokenizer",
    "mpnet": "MPNetTokenizer",
}  # fmt: skip
_ROBERTA_NAMES = {
    "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>", "cls_token": "<s>",
    "mask_token": "<mask>",
}  # fmt: skip
_CUSTOMARY = {
    **dict.fromkeys(("RobertaTokenizer", "XLMRobertaTokenizer", "CamembertTokenizer"), _ROBERTA_NAMES),
    "MPNetTokenizer": _ROBERTA_NAMES | {"unk_token": "[UNK]"},
    "AlbertTokenizer": _BERT_NAMES | {"bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "<unk>", "pad_token": "<pad>"},
}
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

    @classmethod
    def from_folder(cls, folder: str | Path, settings: Mapping[str, Any] | None = None) -> Tokenizer:
        """Read the tokenizer of a model folder: tokenizer.json, or else vocab.txt, with what stands beside it.

        Args:
            folder: the folder.
            settings: keys to read as if tokenizer_config.json had them (``do_lower_case``); :meth:`save` writes them into it.
        """
        where = Path(folder)
        if not where.is_dir():
            raise NotFound(f"{where} is no folder: give the folder that holds tokenizer.json or vocab.txt")
        try:
            files = {name: (where / name).read_bytes() for name in FILES if (where / name).is_file()}
            model = (where / "config.json").read_bytes() if (where / "config.json").is_file() else b"{}"
        except OSError as error:
            raise NotFound(f"{error.filename} cannot be read: {error.strerror}") from error
        if "tokenizer.json" not in files and "vocab.txt" not in files:
            raise NotFound(f"{where} holds no tokenizer.json and no vocab.txt: download one of them into it")
        content = {name: _parse(data, where / name) for name, data in files.items() if name != "vocab.txt"}
        if settings:
            content["tokenizer_config.json"] = content.get("tokenizer_config.json", {}) | dict(settings)
            files["tokenizer_config.json"] = (json.dumps(content["tokenizer_config.json"], indent=2) + "\n").encode()
        config = content.get("tokenizer_config.json", {})
        family = _parse(model, where / "config.json")
        with _trusting_nothing(where):
            if _is_bert(config, family, where, "tokenizer.json" in files):
                kind = _class_name(config, family) or "BertTokenizer"
                core, options, notes = _bert(content, where)
            else:
                kind = _class_name(config, family)
                core, options, notes = _as_it_stands(content, where, kind)
            for side in ("padding", "truncation"):
                if part := content.get("tokenizer.json", {}).get(side):
                    options.setdefault(f"{side}_side", str(part.get("direction", "right")).lower())
            core.no_truncation()
            core.no_padding()
            core.encode_special_tokens = bool(config.get("split_special_tokens", False))
            unknown = "\N{SNOWMAN}" * 101
            core.encode_batch([unknown, (unknown, "a")])  # a broken template, a missing [UNK] show here, not later
        tokenizer = cls(core, options, files, where)
        tokenizer.notes, tokenizer.kind = tuple(notes), kind
        _ = tokenizer.max_length
        return tokenizer

    # ---- text to ids

    def encode(self, text: str, pair: str | None = None, *, special_tokens: bool = True) -> Encoding:
        """Tokenise one text, or a pair of texts. Nothing is truncated or padded."""
        for given in (text,) if pair is None else (text, pair):
            if not isinstance(given, str):
                raise BadInput(f"the text {_complaint(given)}")
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
        encode = self._core.encode_batch_fast if len(items) > 1 else self._encode_one  # a batch goes by way of other threads
        raws = self._run(items, encode, special_tokens, first)
        segments = [raw.type_ids for raw in raws] if items and not isinstance(items[0], str) else None
        return Ids([raw.ids for raw in raws], segments)

    def lowercased(self) -> Tokenizer:
        """The same tokenizer for texts put in lower case first, as ``do_lower_case`` of sentence-transformers asks."""
        if self.lowercase:
            return self
        from tokenizers import normalizers

        core = self.core()
        # letter by letter, unlike str.lower(), which knows the end of a Greek word
        steps = [normalizers.Lowercase(), *([core.normalizer] if core.normalizer is not None else [])]
        core.normalizer = normalizers.Sequence(steps)
        twin = copy(self)
        twin._core = core
        return twin

    def core(self) -> tokenizers.Tokenizer:
        """A copy of the library's tokenizer inside, to be set up at will."""
        from tokenizers import Tokenizer

        core = Tokenizer.from_str(self._core.to_str())
        core.encode_special_tokens = self._core.encode_special_tokens
        return core

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
            with _trusting_nothing(self._where):
                return encode(items, add_special_tokens=special_tokens)  # type: ignore[no-any-return]
        except Corrupt:
            _find_surrogate(items, first)  # the one fault of a str that the library refuses: found only when it did
            raise

    # ---- ids to text

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True, clean_up: bool | None = None) -> str:
        """The text that ids stand for, as well as it can be told: case, accents and spaces may be lost.

        Args:
            ids: the ids.
            skip_special_tokens: leave out special tokens.
            clean_up: take spaces before punctuation away; None for what the files say. It is never done to a BPE's text, as in transformers.
        """
        numbers = [int(number) for number in ids]
        for number in set(numbers):
            if self.id_to_token(number) is None:
                top = max(self.vocab.values())
                raise BadInput(f"id {number} is not in the vocabulary of {self._where}: its ids go from 0 to {top}")
        text = self._core.decode(numbers, skip_special_tokens=skip_special_tokens)
        wanted = self._config.get("clean_up_tokenization_spaces") if clean_up is None else clean_up
        if wanted and type(self._core.model).__name__ != "BPE":
            for piece in _CLEAN_UP:
                text = text.replace(piece, piece.strip())
        return text

    # ---- the vocabulary

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
            raise Corrupt(f"{self._where / 'tokenizer_config.json'}: model_max_length is {limit!r}, not a length")
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
        """SHA-256 of the file that holds the vocabulary: tokenizer.json, or else vocab.txt."""
        return hashlib.sha256(self._files.get("tokenizer.json") or self._files["vocab.txt"]).hexdigest()

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that :meth:`save` writes."""
        return tuple(self._files)

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files, byte for byte as they were read."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, data in self._files.items():
            (Path(folder) / name).write_bytes(data)

    def __repr__(self) -> str:
        return f"Tokenizer({str(self._where)!r}, vocab_size={self.vocab_size}, lowercase={self.lowercase})"

    def _named(self, name: str) -> tuple[str, int]:
        token = self._config.get(name)
        number = None if token is None else self.token_to_id(_text(token))
        if token is None or number is None:
            raise Refused(f"the tokenizer of {self._where} has no {name}: this task needs a model that has one")
        return _text(token), number


# ---- reading the files


def _parse(data: bytes, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{path} is not JSON ({error}): download it again") from error
    if not isinstance(content, dict):
        raise Corrupt(f"{path} holds a {type(content).__name__} where an object was expected: download it again")
    return content


@contextmanager
def _trusting_nothing(where: Path) -> Iterator[None]:
    """Whatever hostile files set off inside the library, even a Rust panic, leaves as ``Corrupt``."""
    try:
        yield
    except (NativeBertError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # KeyboardInterrupt and its like
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise Corrupt(f"the tokenizer files in {where} are damaged: download them again ({reason})") from error


def _is_bert(config: dict[str, Any], model: dict[str, Any], where: Path, whole: bool) -> bool:
    """Is it for BERT's own reading, or is tokenizer.json taken as it stands?"""
    name = config.get("tokenizer_class") or model.get("tokenizer_class")
    if str(name).removesuffix("Fast") in _BERT_CLASSES or (not name and model.get("model_type") in _BERT_FAMILIES):
        return True
    if config.get("auto_map"):
        raise Refused(f"{where}: tokenizer_config.json asks for code of its own ({name}), which is never run")
    name = name or model.get("model_type")
    if name and not whole:
        reason = f"a vocab.txt alone, and its tokenizer is {name!r}, not BERT's"
        raise Refused(f"{where} has {reason}: save it with transformers as tokenizer.json first")
    return not whole


def _class_name(config: dict[str, Any], model: dict[str, Any]) -> str:
    """The class of transformers that the files are for, without "Fast"; empty where nothing tells."""
    family = model.get("model_type")
    usual = "BertTokenizer" if family in _BERT_FAMILIES else _CLASSES.get(str(family), "")
    return str(config.get("tokenizer_class") or model.get("tokenizer_class") or usual).removesuffix("Fast")


Made = tuple["tokenizers.Tokenizer", dict[str, Any], list[str]]


def _bert(content: dict[str, Any], where: Path) -> Made:
    """BERT's own tokenizer: the vocabulary of the files, the pipeline of tokenizer_config.json."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    whole: dict[str, Any] | None = content.get("tokenizer.json")
    options = _BERT_NAMES | _options(content)
    model = {"type": "WordPiece"} if whole is None else whole["model"]
    if model.get("type", "WordPiece") != "WordPiece":
        raise Refused(f"{where}: BERT's tokenizer is a WordPiece, and tokenizer.json holds a {model['type']}")
    vocab = models.WordPiece.read_file(str(where / "vocab.txt")) if whole is None else model["vocab"]
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
    notes = _add_tokens(core, content, options)
    core.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(token, core.token_to_id(token)) for token in (cls, sep)],
    )
    followed = {("normalizer", key): value for key, value in settings.items()}
    followed |= {("pre_tokenizer", "type"): "BertPreTokenizer", ("model", "max_input_chars_per_word"): 100}
    for (part, key), ours in followed.items():
        if whole is not None and (theirs := (whole.get(part) or {}).get(key)) != ours:
            notes.append(f"tokenizer.json says {part}.{key} = {theirs!r}; followed, as transformers does: {ours!r}")
    return core, options, notes


def _as_it_stands(content: dict[str, Any], where: Path, kind: str) -> Made:
    """Any other tokenizer: tokenizer.json, and the special tokens that the other files name."""
    from tokenizers import Tokenizer, pre_tokenizers, processors

    core = Tokenizer.from_file(str(where / "tokenizer.json"))
    options = _options(content)
    notes = _add_tokens(core, content, options)
    names = _CUSTOMARY.get(kind, _BERT_NAMES)
    options = {name: token for name, token in names.items() if core.token_to_id(token) is not None} | options
    if kind == "RobertaTokenizer" and {"sep_token", "cls_token"} <= set(
        options
    ):  # as BERT's, it follows tokenizer_config.json in this
        space, trim = bool(options.get("add_prefix_space", False)), bool(options.get("trim_offsets", True))
        sep, cls = ((token := _text(options[name]), core.token_to_id(token) or 0) for name in ("sep_token", "cls_token"))
        if (content["tokenizer.json"].get("pre_tokenizer") or {}).get("add_prefix_space") is not space:
            notes.append(f"tokenizer_config.json says add_prefix_space = {space!r}; followed, as transformers does")
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
        core.post_processor = processors.RobertaProcessing(sep, cls, trim_offsets=trim, add_prefix_space=space)
    return core, options, notes


def _options(content: dict[str, Any]) -> dict[str, Any]:
    """tokenizer_config.json, and over it special_tokens_map.json, unless the former tells all about added tokens."""
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


def _added(value: Any, special: bool = False) -> tokenizers.AddedToken:
    from tokenizers import AddedToken

    known = ("single_word", "lstrip", "rstrip", "normalized", "special")
    told = {key: value[key] for key in known if key in value} if isinstance(value, dict) else {}
    return AddedToken(_text(value), **({"special": special} | told))


def _text(token: Any) -> str:
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str):
        raise TypeError(f"a special token is {token!r}, which is no text")  # and so Corrupt, with the folder's name
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
        raise BadInput("a single text was given where a list of texts was expected: write [text]")
    if not isinstance(texts, Iterable) or isinstance(texts, Mapping | Set) or hasattr(texts, "columns"):
        raise BadInput(f"texts is a {type(texts).__name__}: give a list of texts, or one column of a table")
    items = list(texts)
    if set(map(type, items)) <= {str}:
        return items
    paired = isinstance(items[0], tuple | list)
    for index, item in enumerate(items, first):
        parts = tuple(item) if paired and isinstance(item, tuple | list) else (item,)
        for part in parts:
            if not isinstance(part, str):
                raise BadInput(f"text {index} {_complaint(part)}")
        if paired and len(parts) != 2:
            raise BadInput(f"text {index} is no pair of texts, and text {first} is one: give all as pairs, or none")
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
                raise BadInput(
                    f"text {index} holds half a character (a lone surrogate, {text[error.start]!r}, at {error.start}): "
                    "it was decoded wrongly; read it again, or use text.encode('utf-8', 'replace').decode()"
                ) from None
