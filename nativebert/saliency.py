"""Token attributions by integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365)."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nativebert.checks import at_least, whole
from nativebert.errors import BadInputError, TooLongError
from nativebert.loading import LoadedModel, load

if TYPE_CHECKING:
    from nativebert.nn.model import Model

BASELINES = ("pad", "mask", "zero")
HEADS = ("classify", "tag", "lm", "nsp", "sop", "answer")
_TOKENS_AT_ONCE = 2048


class Score(NamedTuple):
    """Contribution of a token (or word) to the logit, relative to an uninformative baseline.

    ``text[start:end]`` is where it came from; ``part`` says of which text of a pair, 0 or 1, and is None for a token of the template, which
    has no place. ``word`` counts the words of each text.
    """

    text: str
    start: int
    end: int
    score: float
    part: int | None
    word: int | None


class Saliency(list[Score]):
    """A score for each token, in order.

    Attributes:
        target: the class whose logit was explained.
        token: the token whose logit it is; None for a head on the whole text.
        logit: that logit.
        baseline: the same with the baseline's embeddings in place of the text's.
        parts: the text, or the pair.
    """

    def __init__(
        self, scores: Iterable[Score], *, target: int, token: int | None, logit: float, baseline: float, parts: tuple[str, ...]
    ) -> None:
        super().__init__(scores)
        self.target, self.token, self.logit, self.baseline, self.parts = target, token, logit, baseline, parts

    @property
    def error(self) -> float:
        """Distance of the scores' sum from ``logit - baseline``, which it equals with infinitely many steps."""
        return abs(sum(score.score for score in self) - (self.logit - self.baseline))

    @property
    def words(self) -> list[Score]:
        """The scores of each word's tokens summed up; tokens of the template stand by themselves."""
        merged: list[Score] = []
        for token in self:
            last = merged[-1] if merged else None
            if last is None or token.part is None or token.word is None or (last.part, last.word) != (token.part, token.word):
                merged.append(
                    token if token.part is None else token._replace(text=self.parts[token.part][token.start : token.end])
                )
                continue
            text = self.parts[token.part][last.start : token.end]
            merged[-1] = last._replace(text=text, end=token.end, score=last.score + token.score)
        return merged


def saliency(
    model: str | PathLike[str] | Model,
    text: str,
    pair: str | None = None,
    *,
    target: int | None = None,
    token: int | None = None,
    steps: int = 64,
    baseline: str = "pad",
) -> Saliency:
    """Divide a logit among the tokens of a text.

    The path goes straight from the baseline's token embeddings to the text's; positions and segments stay, and so do the special tokens,
    whose score is therefore 0. The integral is taken by Gauss and Legendre's rule. The model is left as it was.

    Args:
        model: a loaded model with a head, or a folder or Hub id to load it from.
        text: the text.
        pair: a second text, for models that read pairs.
        target: the class to explain; None for the one with the highest logit. A vocabulary id for the head ``"lm"``; 0 (start) or 1 (end)
            for ``"answer"``.
        token: which token's logit (0 is the first, mostly ``[CLS]``), for heads that give one to each.
        steps: points of the integral. Look at :attr:`Saliency.error` to see whether they are enough.
        baseline: uninformative input that scores are relative to: the embedding of the padding token (``"pad"``), of the mask token (``"mask"``), or ``"zero"``.

    Returns:
        A list of :class:`Score`, one for each token, whose sum is the logit less the baseline's; ``.words`` has them by word.

    Raises:
        BadInputError: no head, or a class, token or baseline that does not exist.
        TooLongError: the text has more tokens than the model takes.
    """
    model = load(model) if isinstance(model, (str, PathLike)) else LoadedModel.of(model)
    if not model.tasks or model.tasks[0] not in HEADS:
        raise BadInputError(f"this model has no logits to explain: load a model with one of the heads {', '.join(HEADS)}")
    steps = at_least(1, "steps", steps)
    if baseline not in BASELINES:
        raise BadInputError(f"baseline must be one of {', '.join(BASELINES)}, not {baseline!r}")
    if baseline == "pad" and model.config.pad_id >= model.config.vocab_size:
        raise BadInputError("this model has no padding embedding: use baseline='mask' or 'zero'")
    encoding = model.tokenizer.encode(text, pair)
    if len(encoding) > model.config.max_tokens:
        raise TooLongError(
            f"the text has {len(encoding):,} tokens, and the maximum length of {model.reference} is {model.config.max_tokens:,}: use a shorter text"
        )
    spec = model.config.heads[model.tasks[0]]
    if (spec.on == "tokens") != (token is not None):
        raise BadInputError(
            "this head has one prediction per token: select one with token=, from 0"
            if token is None
            else "this head has one prediction for the whole text: remove token="
        )
    position = whole(token)
    if token is not None and (position is None or not 0 <= position < len(encoding)):
        raise BadInputError(f"token {token!r} does not exist: the text has tokens 0 to {len(encoding) - 1}")
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            model.eval()
            path = _Path(model, encoding, position, baseline)
            logits = path.logits(path.text[None])[0].detach()
            chosen = int(logits.argmax()) if target is None else whole(target)
            if chosen is None or not 0 <= chosen < len(logits):
                raise BadInputError(
                    f"class {target!r} does not exist: the head {model.tasks[0]!r} has classes 0 to {len(logits) - 1}"
                )
            before = float(path.logits(path.uninformative[None])[0, chosen].detach())
            scores = path.integrate(chosen, steps)
    finally:
        for module, training in modes:
            module.training = training
    columns = zip(encoding.tokens, encoding.offsets, scores.tolist(), encoding.sequence_ids, encoding.word_ids)
    return Saliency(
        (Score(name, start, end, score, part, word) for name, (start, end), score, part, word in columns),
        target=chosen,
        token=position,
        logit=float(logits[chosen]),
        baseline=before,
        parts=(text,) if pair is None else (text, pair),
    )


class _Path:
    """Straight path from a baseline's embeddings to a text's, and the model's logits along it."""

    def __init__(self, model: LoadedModel, encoding: Any, token: int | None, baseline: str) -> None:
        self.model, self.token = model, token
        self.ids = torch.tensor([encoding.ids], device=model.device)
        self.segments = torch.tensor([encoding.type_ids], device=model.device) if model.config.segments > 1 else None
        table = model.embed.token.weight.detach()
        self.text = table[self.ids[0]]  # (L, E)
        self.uninformative = torch.zeros_like(self.text)
        if baseline != "zero":
            self.uninformative += table[model.tokenizer.mask_id if baseline == "mask" else model.config.pad_id]
        special = torch.tensor(encoding.special, device=model.device)
        self.uninformative[special] = self.text[special]

    def logits(self, points: Tensor) -> Tensor:
        """Logits ``(n, classes)`` of embeddings ``(n, L, E)``; of one token if the head is on tokens."""
        n = len(points)
        # the hook replaces the output of the token table, so that the rest of the model runs unchanged
        hook = self.model.embed.token.register_forward_hook(lambda *_: points.flatten(0, 1))
        try:
            segments = None if self.segments is None else self.segments.expand(n, -1)
            outputs: Tensor = self.model(self.ids.expand(n, -1), None, segments).logits
        finally:
            hook.remove()
        return outputs if self.token is None else outputs[:, self.token]

    def integrate(self, target: int, steps: int) -> NDArray[np.float64]:
        """The score of each token, ``(L,)``."""
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        gradient = torch.zeros_like(self.text, dtype=torch.float64 if self.text.device.type != "mps" else None)
        size = max(1, _TOKENS_AT_ONCE // len(self.text))
        for start in range(0, steps, size):
            position = torch.tensor((nodes[start : start + size] + 1) / 2).to(self.text)
            points = (self.uninformative + position[:, None, None] * (self.text - self.uninformative)).requires_grad_()
            (gradients,) = torch.autograd.grad(self.logits(points)[:, target].sum(), points)
            share = torch.tensor(weights[start : start + size] / 2).to(gradient)
            gradient += (share[:, None, None] * gradients.to(gradient)).sum(0)
        scores: NDArray[np.float64] = ((self.text - self.uninformative).to(gradient) * gradient).sum(-1).cpu().double().numpy()
        return scores
