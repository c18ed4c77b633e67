"""Attention weights of every layer and head, as a page to explore or as small multiples on paper."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nativebert.checks import whole
from nativebert.errors import BadInputError, TooLongError
from nativebert.pictures.figure import check_target, framed, new_figure, plain, write_figure, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nativebert.nn.model import Model

Weights = NDArray[np.float32]

MOST_IN_PAGE = 24_000_000  # weights, two bytes each: a page of 64 MB


@dataclass(frozen=True)
class AttentionPicture:
    """Attention weights of one text. Layers and heads are counted from 0, as in the names of the weights.

    Attributes:
        tokens: of the text, special ones included.
        weights: float32 ``(layers, heads, tokens, tokens)``: of each token (row), how much of its attention goes to which (column).
        layers, heads: which they are.
        model: where the model came from.
    """

    tokens: tuple[str, ...]
    weights: Weights
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    model: str

    def __repr__(self) -> str:
        return (
            f"AttentionPicture({self.model!r}, {len(self.layers)} layers, {len(self.heads)} heads, {len(self.tokens)} tokens)"
        )

    def _repr_html_(self) -> str | None:
        return framed(self.html, 760)

    @property
    def mean(self) -> Weights:
        """The mean over layers and heads, ``(tokens, tokens)``."""
        mean: Weights = self.weights.mean((0, 1), dtype=np.float64).astype(np.float32)
        return mean

    @property
    def received(self) -> Weights:
        """Attention that each token receives, mean over all tokens, ``(layers, heads, tokens)``; each head's sum is 1."""
        mean: Weights = self.weights.mean(2, dtype=np.float64).astype(np.float32)
        return mean

    def save(self, path: str | PathLike[str]) -> None:
        """Write the picture.

        Args:
            path: ``.html`` for a page of all heads where each can be chosen, seen large and read off; it needs no network. ``.png``, ``.svg``
                or ``.pdf`` for a grid of all heads; tokens are named where there is room for them, as there is with few heads.

        Raises:
            BadInputError: another ending, a place that cannot be written to, or too many weights for a page.
            NativeBertError: matplotlib (extra ``plot``) is not installed.
        """
        target = check_target(path)
        if target.suffix.lower() == ".html":
            write_page(target, self.html())
        else:
            write_figure(target, self._figure())

    def html(self) -> str:
        """The page that :meth:`save` writes.

        Raises:
            BadInputError: there are too many weights for a page that a browser could show.
        """
        if self.weights.size > MOST_IN_PAGE:
            raise BadInputError(
                f"{self.weights.size:,} weights are too many for a page (maximum {MOST_IN_PAGE:,}): select layers= or heads=, or save a .png"
            )
        data = {
            "model": self.model,
            "tokens": self.tokens,
            "layers": self.layers,
            "heads": self.heads,
            "weights": base64.b64encode(np.rint(self.weights.astype(np.float64) * 65535).astype("<u2").tobytes()).decode(),
        }
        template = files("nativebert.pictures").joinpath("attention.html").read_text("utf-8")
        # Tokens come from strangers. JSON as ASCII, without <, cannot end the element that it stands in.
        return template.replace("@DATA@", json.dumps(data).replace("<", "\\u003c"))

    def _figure(self) -> Figure:
        n = len(self.tokens)
        grid = [[self.weights[row, column] for column in range(len(self.heads))] for row in range(len(self.layers))]
        names = [f"layer {layer}" for layer in self.layers], [f"head {head}" for head in self.heads]
        if len(self.heads) > 1:
            grid = [[*line, np.mean(line, 0)] for line in grid]
            names[1].append("mean")
        if len(self.layers) > 1:
            grid.append(list(np.mean(grid, 0)))
            names[0].append("mean")
        rows, columns = len(grid), len(grid[0])
        cells = max(rows, columns)
        side = 1.0 if cells > 4 else min(max(0.17 * n, 3.0), 12.0 / cells)  # inches
        named = side * 72 / n >= 6.5  # points for each token's name
        margin = 1.1 if named else 0.1
        figure = new_figure((side + margin) * columns + 2.2, (side + margin) * rows + 1.0)
        axes: Any = figure.subplots(rows, columns, squeeze=False)
        for r, line in enumerate(grid):
            for c, weights in enumerate(line):
                image = _draw(axes[r, c], weights, self.tokens if named else None)
                if r == 0:
                    axes[r, c].set_title(names[1][c], fontsize=9)
                if c == 0:
                    axes[r, c].set_ylabel(names[0][r], fontsize=9)
        bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 4.0 / (side * rows)), ticks=[0, 0.01, 0.05, 0.1, 0.25, 0.5, 1])
        bar.ax.set_yticklabels(["0", ".01", ".05", ".1", ".25", ".5", "1"])
        bar.ax.tick_params(labelsize=8)
        room = min(60, int(12 * figure.get_figwidth()) - len("Attention of "))  # letters, 12 to the inch
        model = self.model if len(self.model) <= room else "…" + self.model[1 - room :]
        title = f"Attention of {model}\nfrom each of {n} tokens (rows) to each (columns)"
        plain([figure.suptitle(title, fontsize=10)])
        return figure


def attention(
    model: str | PathLike[str] | Model,
    text: str,
    pair: str | None = None,
    *,
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
) -> AttentionPicture:
    """Run a text through a model and keep what attends to what.

    Args:
        model: a loaded model, or a folder or Hub id to load it from.
        text: the text.
        pair: a second text, for models that read pairs.
        layers: which layers to keep, from 0 (negative ones from the end); None for all.
        heads: which heads of each.

    Returns:
        The weights, with ways to draw them.

    Raises:
        BadInputError: a layer or head that the model does not have.
        TooLongError: the text has more tokens than the model takes.
    """
    import torch

    from nativebert.loading import LoadedModel, load

    model = load(model, head=None) if isinstance(model, (str, PathLike)) else LoadedModel.of(model)
    config = model.config
    layers = _chosen("layer", layers, len(config.layers))
    heads = _chosen("head", heads, min((layer.heads for layer in config.layers), default=0))
    encoding = model.tokenizer.encode(text, pair)
    if len(encoding) > config.max_tokens:
        raise TooLongError(
            f"the text has {len(encoding):,} tokens, and the maximum length of {model.reference} is {config.max_tokens:,}: use a shorter text. "
            "It is not truncated, because the attention of a token depends on all other tokens"
        )
    ids = torch.tensor([encoding.ids], device=model.device)
    segments = torch.tensor([encoding.type_ids], device=model.device) if config.segments > 1 else None
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.inference_mode():
            attentions = model.eval()(ids, None, segments, output_attentions=True).attentions
    finally:
        for module, training in modes:
            module.training = training
    assert attentions is not None
    weights = np.stack([attentions[layer][0, list(heads)].float().cpu().numpy() for layer in layers])
    return AttentionPicture(tuple(encoding.tokens), weights, layers, heads, model.reference)


def _chosen(kind: str, wanted: int | Sequence[int] | None, count: int) -> tuple[int, ...]:
    listed = range(count) if wanted is None else list(wanted) if isinstance(wanted, Iterable) else [wanted]
    if not listed:
        raise BadInputError(f"no {kind}s selected")
    chosen = []
    for value in listed:
        number = whole(value)
        if number is None or not -count <= number < count:
            raise BadInputError(f"{kind} {value!r} does not exist: the model has {kind}s 0 to {count - 1}")
        chosen.append(number % count)
    return tuple(chosen)


def _draw(axes: Any, weights: Weights, tokens: Sequence[str] | None) -> Any:
    from matplotlib.colors import PowerNorm

    image = axes.imshow(weights, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.set_yticks([])
    if tokens is not None:
        names = [token if len(token) <= 16 else token[:15] + "…" for token in tokens]
        plain(axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7) and axes.get_xticklabels())
        plain(axes.set_yticks(range(len(names)), names, fontsize=7) and axes.get_yticklabels())
    axes.spines[:].set_color("0.8")
    return image
