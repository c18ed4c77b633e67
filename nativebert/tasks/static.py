"""Static models (model2vec): a table of token vectors and their mean. No encoder, no positions: fast, and about as good as a bag of words can be."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nativebert.errors import BadInputError, CorruptError, NotFoundError, RefusedError
from nativebert.hub import Snapshot
from nativebert.tasks.call import as_list, as_single_items
from nativebert.tasks.steps import normalize as to_unit_length
from nativebert.text.tokenizer import Tokenizer
from weights_map import Checkpoint
from weights_map.torch import tensor

TEXTS_AT_ONCE = 4096


class StaticEmbedder:
    """Vectors of texts from a static model: the mean of the vectors of a text's tokens.

    Args:
        model: a folder of model2vec, or of sentence-transformers with a ``StaticEmbedding``.
        normalize: True or False in place of what the files say about unit length.

    Attributes:
        tokenizer: its tokenizer.
        table: a vector for each token, float32 ``(tokens, dimension)``.
        normalize: whether vectors are brought to unit length.

    Raises:
        NotFoundError: a file is missing.
        CorruptError: a file is damaged, or the table has fewer rows than the vocabulary.
        RefusedError: modules that nativebert does not compute, or another kind of model.
    """

    def __init__(self, model: str | PathLike[str], *, normalize: bool | None = None) -> None:
        root = Path(model).expanduser()
        if not root.is_dir():
            raise NotFoundError(f"{root} is not a folder: download the static model, and pass its folder")
        self.reference = str(model)
        folder, own = _read_settings(root)
        self.normalize = own if normalize is None else bool(normalize)
        self.tokenizer = Tokenizer.from_folder(folder)
        self.table = _table(folder / "model.safetensors")
        if len(self.table) < self.tokenizer.vocab_size:
            raise CorruptError(
                f"{folder}: {len(self.table)} vectors for a vocabulary of {self.tokenizer.vocab_size} tokens: the files do not belong together"
            )

    def __repr__(self) -> str:
        return f"StaticEmbedder({self.reference!r}, dimension={self.dimension}{', normalize' if self.normalize else ''})"

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        return int(self.table.shape[1])

    def __call__(self, texts: Iterable[str], *, prompt: str = "") -> NDArray[np.float32]:
        """Vectors of texts.

        Args:
            texts: a list (tuple, array, series, iterator) of strings; a single string is taken as a list of one.
            prompt: text to put before each text.

        Returns:
            float32 ``(n, dimension)``; zeros for a text without tokens.

        Raises:
            BadInputError: something that is not a string.
        """
        if not isinstance(prompt, str):
            raise BadInputError(f"prompt must be a string, not {prompt!r}")
        items = as_list(texts)
        out = np.zeros((len(items), self.dimension), np.float32)
        for start in range(0, len(items), TEXTS_AT_ONCE):
            part = as_single_items(items[start : start + TEXTS_AT_ONCE], start)
            given = [prompt + text if isinstance(text, str) else text for text in part] if prompt else part
            for n, ids in enumerate(self.tokenizer.ids_batch(given, special_tokens=False, first=start).ids, start):
                if ids:
                    out[n] = self.table[ids].mean(0)
        return to_unit_length(out) if self.normalize else out


def _read_settings(root: Path) -> tuple[Path, bool]:
    """The folder with table and tokenizer, and whether vectors are brought to unit length."""
    snapshot = Snapshot(str(root), root, None, None, "folder")
    modules = snapshot.modules() if (root / "modules.json").is_file() else []
    config = (snapshot.read_json("config.json") or {}) if (root / "config.json").is_file() else {}
    if not modules:
        if config.get("model_type") != "model2vec":
            raise RefusedError(
                f"{root} is not a static model: it has no modules.json, and its config.json says no model_type 'model2vec'"
            )
        return root, bool(config.get("normalize", True))
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if kinds not in (["StaticEmbedding"], ["StaticEmbedding", "Normalize"]):
        raise RefusedError(
            f"{root / 'modules.json'} lists {', '.join(kinds) or 'nothing'}; a static model is a StaticEmbedding, with or without Normalize. "
            "Use Embedder for a model with an encoder."
        )
    inner = str(modules[0].get("path", ""))
    folder = (root / inner).resolve()
    if folder != root.resolve() and root.resolve() not in folder.parents:
        raise RefusedError(f"{root / 'modules.json'} leads out of the folder: {inner!r}")
    return folder, len(kinds) == 2


def _table(path: Path) -> NDArray[np.float32]:
    """A vector for each token. Files of model2vec may have fewer, a ``mapping`` of tokens to them, and ``weights`` of tokens."""
    if not path.is_file():
        raise NotFoundError(f"{path} does not exist: a static model keeps its vectors there")
    checkpoint = Checkpoint.open(path)
    parts = {name: tensor(checkpoint.view(name)) for name in checkpoint.tensors}
    name = next((name for name in ("embedding.weight", "embeddings") if name in parts), None)
    if name is None or parts[name].dim() != 2 or parts.keys() - {name, "mapping", "weights"}:
        raise CorruptError(
            f"{path} holds {', '.join(sorted(parts)) or 'nothing'}; a static model has 'embeddings' or 'embedding.weight', and maybe 'mapping' and 'weights'"
        )
    table = parts[name].float().numpy()
    if "mapping" in parts:
        mapping = parts["mapping"].long().numpy()
        if mapping.ndim != 1 or (len(mapping) and not 0 <= mapping.min() <= mapping.max() < len(table)):
            raise CorruptError(f"{path}: 'mapping' names vectors that are not there")
        table = table[mapping]
    if "weights" in parts:
        weights = parts["weights"].float().numpy()
        if weights.shape != (len(table),):
            raise CorruptError(f"{path}: {len(table)} vectors, and weights of shape {weights.shape}")
        table = table * weights[:, None]
    if not np.isfinite(table).all():
        raise CorruptError(f"{path} holds infinities or NaN")
    return np.ascontiguousarray(table)
