"""Shared code of the adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from nativebert.errors import BadInputError
from nativebert.tasks.base import Task
from nativebert.tasks.embed import Embedder, Vectors

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

AnyTask = TypeVar("AnyTask", bound=Task)


def prepared(kind: type[AnyTask], model: Any, options: Mapping[str, Any]) -> AnyTask:
    """The task that the user made already, or a new one.

    Args:
        kind: :class:`~nativebert.Embedder`, :class:`~nativebert.Ranker`, ...
        model: one of that kind; or what makes one: a folder, a name on the Hub, a loaded model.
        options: for making it.

    Raises:
        BadInputError: options for a task that is made already: they would have no effect.
        NativeBertError: as of ``kind``.
    """
    if not isinstance(model, kind):
        return kind(model, **options)
    if options:
        raise BadInputError(
            f"{', '.join(options)}: given with {kind.__name__} that is made already, where it would have no effect. Make the {kind.__name__} so, "
            "or pass the model's name"
        )
    return model


def missing(package: str, error: ImportError) -> ImportError:
    """The error to raise where a program's package cannot be imported."""
    return ImportError(
        f"nativebert's adapter needs the package {package}, which cannot be imported ({error}): pip install {package}",
        name=error.name,
    )


class Backend:
    """Mixin with the methods of a BERTopic or KeyBERT backend; the class that makes it one stands behind it among the bases.

    Args:
        model: an :class:`~nativebert.Embedder`; or a folder, or a model on the Hub.
        **options: of the Embedder that is made of it.
    """

    embedding_model: Embedder

    def __init__(self, model: Any, **options: Any) -> None:
        super().__init__(embedding_model=prepared(Embedder, model, options))  # type: ignore[call-arg]

    def embed(self, documents: Any, verbose: bool = False) -> Vectors:
        """Vectors of texts, float32 ``(n, dimension)``.

        Args:
            documents: strings: documents, words, or candidates for them.
            verbose: show a progress bar on a terminal.
        """
        vectors: Vectors = self.embedding_model(documents, progress=None if verbose else False)
        return vectors
