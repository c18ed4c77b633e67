"""Masked language modelling: which tokens could stand in place of a mask."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from nativebert.checks import at_least
from nativebert.errors import BadInputError, TooLongError
from nativebert.hub import Snapshot
from nativebert.tasks.base import Call, Pieces, Task, highest, listed, softmax
from nativebert.tasks.results import Results
from nativebert.text.tokenizer import Encoding

if TYPE_CHECKING:
    from nativebert.nn.model import Model

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
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"`` or, on the CPU, ``"int8"``: of the encoder. The head is computed in float32 always.
        batch_tokens: most tokens in one batch; None chooses by device. It changes the speed, not the result.
        too_long: what happens to a text of more tokens than ``max_tokens``: ``"truncate"`` cuts its end, with one warning per call that
            counts the tokens, and raises where a mask would be cut off; ``"window"`` fills each mask as seen in the window in which it
            stands farthest from an edge, and reads no window without a mask; ``"error"`` raises.
        max_tokens: most tokens of a text, special tokens included; None for what the model's files say.
        stride: tokens that neighbouring windows share.
        revision, offline, token: as of :func:`nativebert.load`.

    Raises:
        NativeBertError: one of its kinds, for a model that cannot be had, is not understood, or has no masked-language-model head or no
            mask token.
    """

    def __init__(
        self,
        model: str | PathLike[str] | Snapshot | Model,
        *,
        device: str = "auto",
        precision: str = "float32",
        batch_tokens: int | None = None,
        too_long: str = "truncate",
        max_tokens: int | None = None,
        stride: int = 64,
        revision: str | None = None,
        offline: bool | None = None,
        token: str | None = None,
    ) -> None:
        super().__init__(
            model, head="lm", device=device, precision=precision, batch_tokens=batch_tokens, too_long=too_long,
            max_tokens=max_tokens, stride=stride, revision=revision, offline=offline, token=token,
        )  # fmt: skip
        self.mask_token = self.tokenizer.mask_token
        self._mask_id = self.tokenizer.mask_id

    _prepared = Task._prepared | {"_known", "_continues"}

    def _prepare(self, model: Model) -> None:
        super()._prepare(model)
        assert self._head is not None
        # a model may have more outputs than the tokenizer has tokens: tables are filled up to round sizes
        numbers = self._files_tokenizer.vocab.values()
        self._known = np.array(sorted(n for n in numbers if n < self._head.spec.classes), np.int64)
        core = self._files_tokenizer.core().model
        # what marks a token that continues a word ("##"), where the vocabulary is of that sort; in others, a mark is a space before
        self._continues: str | None = core.continuing_subword_prefix if type(core).__name__ == "WordPiece" else None

    def __repr__(self) -> str:
        return f"MaskFiller({self.reference!r}, mask_token={self.mask_token!r}, max_tokens={self.max_tokens}, {self.device})"

    def __call__(
        self,
        texts: str | Iterable[str],
        *,
        top_k: int = 5,
        targets: str | Iterable[str] | None = None,
        return_report: bool = False,
        progress: bool | None = None,
    ) -> Any:
        """Candidates for the masks of texts.

        Args:
            texts: strings with at least one mask token each; a single string is taken as a list of one.
            top_k: how many candidates to give for a mask.
            targets: consider only these: words, each of which must be a single token where the mask stands (with or without a space before
                it, in vocabularies where that makes a difference), or tokens with the mark that the vocabulary gives them (``"##ing"``,
                ``"Ġword"``, ``"▁word"``). Scores remain shares of the whole vocabulary.
            return_report: return ``(results, Report)``.
            progress: show a progress bar; None shows one on a terminal for work that takes more than two seconds.

        Returns:
            For each text, for each of its masks in order, a list of at most ``top_k`` candidates, best first (of equal ones, the one of the
            lower id): ``{"token": str, "id": int, "score": float, "text": str}``. ``text`` is the whole text with this mask replaced,
            other masks left as they are.

        Raises:
            BadInputError: something that is not a string, a text without a mask, a target that is not a single token, or a ``top_k`` below 1.
            TooLongError: a text is longer than ``max_tokens`` and ``too_long="error"``, or a mask lies in what would be cut off.
        """
        top_k = at_least(1, "top_k", top_k)
        items = listed(texts)
        for n, text in enumerate(items):
            if not isinstance(text, str):
                raise BadInputError(f"text {n} must be a string, not {type(text).__name__}")
        targets = None if targets is None else listed(targets, "targets")
        chosen: dict[str, Ids] = {}
        found: list[list[list[dict[str, Any]]]] = []
        with Call(self, items, progress) as call:
            for here in call.chunks():
                encodings = self.tokenizer.encode_batch(items[here], first=here.start)
                masks = [self._masks(text, e, n) for n, (text, e) in enumerate(zip(items[here], encodings), here.start)]
                for mask in (mask for some in masks for mask in some):
                    if mask.stands not in chosen:
                        chosen[mask.stands] = self._known if targets is None else self._ids(targets, mask.stands)
                pieces = self._fit_ids([e.ids for e in encodings], here, call)
                pieces, owned = self._owners(pieces, masks, here, call)
                filled = self._fill(pieces, owned, items[here], chosen, top_k, here, call)
                of_text: list[list[list[dict[str, Any]]]] = [[] for _ in encodings]
                for n, candidates in zip(pieces.text, filled, strict=True):
                    of_text[n] += candidates
                found += of_text
        results = Results(found, call.report(), [[{"token": "", "id": 0, "score": 0.0, "text": ""}]])
        return (results, results.report) if return_report else results

    def _masks(self, text: str, e: Encoding, n: int) -> list[_Mask]:
        """The masks of text ``n``."""
        found, tokens = [], e.raw.tokens
        for place in (place for place, number in enumerate(e.ids) if number == self._mask_id):
            span = e.raw.token_to_chars(place)
            assert span is not None  # no template has a mask
            written = text[slice(*span)]
            start = span[0] + len(written) - len(written.lstrip())
            # some mask tokens take the white space before them as their own: RoBERTa's does, BERT's does not
            stands: Stands = "after space" if tokens[place][0].isspace() else "inside" if start else "first"
            found.append(_Mask(place, start, start + len(written.strip()), stands))
        if not found:
            raise BadInputError(f"text {n} has no mask: write {self.mask_token} where a token is to be found ({text[:60]!r})")
        return found

    def _owners(self, pieces: Pieces, masks: list[list[_Mask]], here: slice, call: Call) -> tuple[Pieces, list[list[_Owned]]]:
        """The sequences that have to be read, and the masks that each of them answers for."""
        head = len(self.tokenizer.frame[0])
        owned: list[list[_Owned]] = []
        for n, w, lead in zip(pieces.text, pieces.windows, pieces.lead, strict=True):
            inside = [mask for mask in masks[n] if w.own_start <= mask.place - head < w.own_end]
            owned.append([_Owned(mask, lead + mask.place - head - w.start) for mask in inside])
        seen = np.bincount(pieces.text, weights=[len(some) for some in owned], minlength=len(masks))
        for n, some in enumerate(masks):
            if seen[n] < len(some):
                raise TooLongError(
                    f"text {here.start + n} has a mask beyond its first {self.max_tokens} tokens, where it is cut: pass too_long='window' to "
                    "fill it, or shorten the text"
                )
        wanted = np.flatnonzero([len(some) > 0 for some in owned])
        if len(wanted) < len(owned):
            pieces, owned = pieces.some(wanted), [owned[n] for n in wanted]
            special, ends = self.tokenizer.n_special(), np.zeros(len(masks), np.int64)
            call.windows[here] = np.bincount(pieces.text, minlength=len(masks))
            call.used[here] = special
            for n, w in zip(pieces.text, pieces.windows, strict=True):
                call.used[here.start + n] += w.end - max(w.start, int(ends[n]))  # what windows share counts once
                ends[n] = w.end
        return pieces, owned

    def _fill(
        self,
        pieces: Pieces,
        owned: list[list[_Owned]],
        texts: list[str],
        chosen: dict[str, Ids],
        top_k: int,
        here: slice,
        call: Call,
    ) -> list[list[list[dict[str, Any]]]]:
        """The candidates of the masks of each sequence."""
        assert self._head is not None
        filled: list[list[list[dict[str, Any]]]] = [[] for _ in pieces.ids]
        for rows, batch, hidden in self._run(pieces, here, call):
            starts = np.cumsum([0, *batch.lengths]).tolist()
            jobs = [(n, mask, start + column) for n, start in zip(rows.tolist(), starts) for mask, column in owned[n]]
            for begin in range(0, len(jobs), _ROWS):  # the head runs on the masks alone: all tokens of a batch would be (T, V)
                some = jobs[begin : begin + _ROWS]
                logits = self._head.run(hidden[torch.tensor([place for _, _, place in some], device=hidden.device)], batch)
                for (n, mask, _), x, p in zip(some, logits.numpy(), softmax(logits), strict=True):
                    ids = chosen[mask.stands]
                    best = ids[highest(x[ids], top_k)]
                    text = texts[pieces.text[n]]
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

    def _ids(self, targets: list[Any], stands: str) -> Ids:
        """The ids of targets for masks that stand so; sorted, each once."""
        if not targets:
            raise BadInputError("targets is empty: name at least one word, or pass None for the whole vocabulary")
        found = set()
        for target in targets:
            if not isinstance(target, str) or not target:
                raise BadInputError(f"a target must be a word, not {target!r}")
            numbers = self._tokens(target, stands)
            if len(numbers) != 1 or numbers[0] not in self._known:
                tokens = " ".join(str(self.tokenizer.id_to_token(n)) for n in numbers)
                raise BadInputError(
                    f"the target {target!r} is not a single token of {self.reference}"
                    + (f" but {len(numbers)}: {tokens}" if len(numbers) > 1 else "")
                    + ". Leave it out, or name a word that is"
                )
            found.add(numbers[0])
        return np.array(sorted(found), np.int64)

    def _tokens(self, target: str, stands: str) -> list[int]:
        """The tokens that a target is where a mask stands so."""
        written = self.tokenizer.encode(target, special_tokens=False)  # refuses what is no text, as token_to_id does not
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

    place: int
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
