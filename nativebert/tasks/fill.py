"""Masked language modelling: which tokens could stand in place of a mask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any, ClassVar, Literal, NamedTuple, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray

from nativebert.checks import at_least, whole
from nativebert.engine import where
from nativebert.errors import BadInputError, TooLongError
from nativebert.hub import Snapshot
from nativebert.loading import LoadedModel
from nativebert.nn.model import Model
from nativebert.tasks.base import Task
from nativebert.tasks.call import Call, Chunk, as_list
from nativebert.tasks.options import CallOptions, ReportOptions, TaskOptions
from nativebert.tasks.results import Candidate, Report, Results
from nativebert.tasks.scores import highest, softmax
from nativebert.tasks.windows import Windows, of_ids
from nativebert.text.tokenizer import Encoding

Ids = NDArray[np.int64]
Stands = Literal["first", "after space", "inside"]  # see _Mask

_SPACES = ("Ġ", "▁")  # how byte-level BPE and SentencePiece write a space within a token

# Masks whose scores over the whole vocabulary are held at once: with 250,000 tokens, as in XLM-RoBERTa, one of them takes 4 MB.
_ROWS = 32


class MaskFiller(Task):
    """Tokens for the masks of texts, by a masked language model.

    A mask is written as the model's own mask token (``filler.tokenizer.mask_token``: ``[MASK]``, ``<mask>``). Several masks in a text
    are each filled while the others stay masks. A score is the token's probability among the whole vocabulary.

    Args:
        model: a folder, a Hub id, a :class:`~nativebert.hub.Snapshot`, or a loaded model with the head ``"lm"``.
        **options: see :class:`~nativebert.tasks.options.TaskOptions`. ``too_long="truncate"`` raises where a mask would be cut off;
            ``"window"`` fills each mask as seen in the window in which it stands farthest from an edge, and reads no window without a mask.

    Attributes:
        mask_token: the model's mask token.

    Raises:
        NativeBertError: one of its kinds, for a model that cannot be had, is not understood, or has no masked-language-model head or no
            mask token.
    """

    head = "lm"

    def __init__(self, model: str | PathLike[str] | Snapshot | Model, **options: Unpack[TaskOptions]) -> None:
        super().__init__(model, **options)
        self.mask_token = self.tokenizer.mask_token
        self._mask_id = self.tokenizer.mask_id

    _prepared: ClassVar[frozenset[str]] = Task._prepared | {"_known", "_continues"}

    def _prepare(self, model: LoadedModel, device: str, precision: str) -> None:
        super()._prepare(model, device, precision)
        # a model may have more outputs than the tokenizer has tokens: tables are filled up to round sizes
        numbers = self.tokenizer.vocab.values()
        self._known = np.array(sorted(n for n in numbers if n < self.encoder.heads["lm"].classes), np.int64)
        core = self.tokenizer.core().model
        # what marks a token that continues a word ("##"), where the vocabulary is of that sort; in others, a mark is a space before
        self._continues: str | None = core.continuing_subword_prefix if type(core).__name__ == "WordPiece" else None

    def __repr__(self) -> str:
        return f"MaskFiller({self.reference!r}, mask_token={self.mask_token!r}, max_tokens={self.max_tokens}, {where(self.device)})"

    @overload
    def __call__(
        self,
        texts: str | Iterable[str],
        *,
        top_k: int = 5,
        targets: str | Iterable[str | int] | None = None,
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> Results[list[list[Candidate]]]: ...
    @overload
    def __call__(
        self,
        texts: str | Iterable[str],
        *,
        top_k: int = 5,
        targets: str | Iterable[str | int] | None = None,
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[Results[list[list[Candidate]]], Report]: ...
    def __call__(
        self,
        texts: str | Iterable[str],
        *,
        top_k: int = 5,
        targets: str | Iterable[str | int] | None = None,
        **options: Unpack[ReportOptions],
    ) -> Any:
        """Candidates for the masks of texts.

        Args:
            texts: strings with at least one mask token each; a single string is taken as a list of one.
            top_k: how many candidates to give for a mask.
            targets: consider only these: words, each of which must be a single token where the mask stands (with or without a space before
                it, in vocabularies where that makes a difference), or tokens with the mark that the vocabulary gives them (``"##ing"``,
                ``"Ġword"``, ``"▁word"``), or token ids. Scores remain shares of the whole vocabulary.
            **options: see :class:`~nativebert.tasks.options.CallOptions`.

        Returns:
            For each text, for each of its masks in order, a list of at most ``top_k`` candidates, best first (of equal ones, the one of the
            lower id): ``{"token": str, "id": int, "score": float, "text": str}``. ``text`` is the whole text with this mask replaced,
            other masks left as they are.

        Raises:
            BadInputError: something that is not a string, a text without a mask, a target that is not a single token, or a ``top_k`` below 1.
            TooLongError: a text is longer than ``max_tokens`` and ``too_long="error"``, or a mask lies in what would be cut off.
        """
        top_k = at_least(1, "top_k", top_k)
        items = as_list(texts)
        for n, text in enumerate(items):
            if not isinstance(text, str):
                raise BadInputError(f"text {n} must be a string, not {type(text).__name__}")
        targets = None if targets is None else as_list(targets, "targets")
        ids_of: dict[Stands, Ids] = {}  # the tokens that may fill a mask, by how it stands
        results: list[list[list[dict[str, Any]]]] = []
        with Call(self, items, options) as call:
            for chunk in call.chunks():
                encodings = self.tokenizer.encode_batch(chunk.items, first=chunk.start)
                masks = [self._masks(text, e, n) for n, (text, e) in enumerate(zip(chunk.items, encodings), chunk.start)]
                for stands in {mask.stands: None for of_text in masks for mask in of_text}:
                    if stands not in ids_of:
                        ids_of[stands] = self._known if targets is None else self._ids(targets, stands)
                windows = of_ids(chunk, [e.ids for e in encodings])
                windows, owned = self._owners(windows, masks, chunk)
                filled = self._fill(windows, owned, ids_of, top_k, chunk)
                by_text: list[list[list[dict[str, Any]]]] = [[] for _ in encodings]
                for n, candidates in zip(windows.text, filled, strict=True):
                    by_text[n] += candidates
                results += by_text
        return call.results(results, [[{"token": "", "id": 0, "score": 0.0, "text": ""}]])

    def _masks(self, text: str, e: Encoding, n: int) -> list[_Mask]:
        """The masks of text ``n``."""
        masks, tokens = [], e.raw.tokens
        for index in (index for index, number in enumerate(e.ids) if number == self._mask_id):
            span = e.raw.token_to_chars(index)
            assert span is not None  # no template has a mask
            written = text[slice(*span)]
            start = span[0] + len(written) - len(written.lstrip())
            # some mask tokens take the white space before them as their own: RoBERTa's does, BERT's does not
            stands: Stands = "after space" if tokens[index][0].isspace() else "inside" if start else "first"
            masks.append(_Mask(index, start, start + len(written.strip()), stands))
        if not masks:
            raise BadInputError(f"text {n} has no mask: write {self.mask_token} where a token is to be found ({text[:60]!r})")
        return masks

    def _owners(self, windows: Windows, masks: list[list[_Mask]], chunk: Chunk) -> tuple[Windows, list[list[_Owned]]]:
        """The sequences that have to be read, and the masks that each of them answers for."""
        call, prefix = chunk.call, len(self.tokenizer.frame[0])
        owned: list[list[_Owned]] = []
        for n, w, prefix_len in zip(windows.text, windows.spans, windows.prefix_len, strict=True):
            inside = [mask for mask in masks[n] if w.own_start <= mask.token - prefix < w.own_end]
            owned.append([_Owned(mask, prefix_len + mask.token - prefix - w.start) for mask in inside])
        counts = np.bincount(windows.text, weights=[len(masks) for masks in owned], minlength=len(masks))
        for n, of_text in enumerate(masks):
            if counts[n] < len(of_text):
                raise TooLongError(
                    f"text {chunk.start + n} has a mask beyond its first {call.options.max_tokens} tokens, where it is cut: pass "
                    "too_long='window' to fill it, or shorten the text"
                )
        needed = np.flatnonzero([len(masks) > 0 for masks in owned])
        if len(needed) < len(owned):
            windows, owned = windows.select(needed), [owned[n] for n in needed]
            special, ends = self.tokenizer.n_special(), np.zeros(len(masks), np.int64)
            call.windows[chunk.rows] = np.bincount(windows.text, minlength=len(masks))
            call.used[chunk.rows] = special
            for n, w in zip(windows.text, windows.spans, strict=True):
                call.used[chunk.start + n] += w.end - max(w.start, int(ends[n]))  # what windows share counts once
                ends[n] = w.end
        return windows, owned

    def _fill(
        self, windows: Windows, owned: list[list[_Owned]], ids_of: Mapping[Stands, Ids], top_k: int, chunk: Chunk
    ) -> list[list[list[dict[str, Any]]]]:
        """The candidates of the masks of each sequence."""
        filled: list[list[list[dict[str, Any]]]] = [[] for _ in range(len(windows))]
        for rows, batch, hidden in self._run(windows, chunk):
            starts = np.cumsum([0, *batch.lengths]).tolist()
            jobs = [(n, mask, start + column) for n, start in zip(rows.tolist(), starts) for mask, column in owned[n]]
            for begin in range(0, len(jobs), _ROWS):  # the head runs on the masks alone: all tokens of a batch would be (T, V)
                part = jobs[begin : begin + _ROWS]
                tokens = torch.tensor([token for _, _, token in part], device=hidden.device)
                logits = self.plan.head_logits("lm", hidden[tokens]).cpu()  # (masks, V)
                for (n, mask, _), x, p in zip(part, logits.numpy(), softmax(logits), strict=True):
                    ids = ids_of[mask.stands]
                    best = ids[highest(x[ids], top_k)]
                    text = chunk.items[windows.text[n]]
                    filled[n].append([self._candidate(text, mask, int(i), float(p[i])) for i in best])
        return filled

    def _candidate(self, text: str, mask: _Mask, number: int, score: float) -> dict[str, Any]:
        token, written = self.tokenizer.decode([number], skip_special_tokens=False), self.tokenizer.id_to_token(number)
        assert written is not None
        word, before = token, text[: mask.start]
        if self._continues is not None:
            if _marked(written, self._continues):
                word, before = written.removeprefix(self._continues), before.rstrip()
        elif written.startswith(_SPACES):
            word, before = token.lstrip(), before if not before or before[-1].isspace() else before + " "
        elif mask.stands == "after space":
            before = before.rstrip()
        return {"token": token, "id": number, "score": score, "text": before + word + text[mask.end :]}

    def _ids(self, targets: list[Any], stands: Stands) -> Ids:
        """The ids of targets for masks that stand so; sorted, each once."""
        if not targets:
            raise BadInputError("targets is empty: name at least one word, or pass None for the whole vocabulary")
        ids = set()
        for target in targets:
            number = whole(target)
            if number is None and (not isinstance(target, str) or not target):
                raise BadInputError(f"a target must be a word or a token id, not {target!r}")
            numbers = self._tokens(target, stands) if number is None else [number]
            if len(numbers) != 1 or numbers[0] not in self._known:
                tokens = " ".join(str(self.tokenizer.id_to_token(n)) for n in numbers)
                raise BadInputError(
                    f"the target {target!r} is not a single token of {self.reference}"
                    + (f" but {len(numbers)}: {tokens}" if len(numbers) > 1 else "")
                    + ". Leave it out, or name a word that is"
                )
            ids.add(numbers[0])
        return np.array(sorted(ids), np.int64)

    def _tokens(self, target: str, stands: Stands) -> list[int]:
        """The tokens that a target is where a mask stands so."""
        written = self.tokenizer.encode(target, special_tokens=False)  # refuses what is not text, as token_to_id does not
        mark = _SPACES if self._continues is None else self._continues
        number = self.tokenizer.token_to_id(target)
        if number is not None and (_marked(target, mark) or number in self.tokenizer.special_ids):
            return [number]
        if self._continues is None and stands == "inside":
            return [] if number is None else [number]
        if self._continues is None and stands == "after space":
            written = self.tokenizer.encode(" " + target, special_tokens=False)
        unknown = self.tokenizer.settings.get("unk_token") and self.tokenizer.unk_id
        numbers = written.ids
        return [] if unknown in numbers else numbers


class _Mask(NamedTuple):
    """A mask in a text: its token, its characters, and how it stands: at the very beginning, after white space that is part of the mask
    token, or in any other way."""

    token: int
    start: int
    end: int
    stands: Stands


class _Owned(NamedTuple):
    """A mask, and its token in the sequence that answers for it."""

    mask: _Mask
    column: int


def _marked(token: str, mark: str | tuple[str, ...]) -> bool:
    """Whether a token is written with a mark before something."""
    return len(token) > 1 and token.startswith(mark)
