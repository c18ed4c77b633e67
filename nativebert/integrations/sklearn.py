"""scikit-learn: texts to vectors as a step of a ``Pipeline``."""

from __future__ import annotations

import inspect
from typing import Any

from nativebert.integrations.common import DEFAULT_MODEL, missing, prepared
from nativebert.tasks.embed import Embedder, Vectors

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
except ImportError as error:
    raise missing("scikit-learn", error) from error


class NativeBertVectorizer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Vectors of texts, in the place of a ``TfidfVectorizer``.

    There is nothing to fit. The model is loaded when it is first needed, and anew when a parameter changed; it is not part of a pickle or
    of a clone, which load it themselves.

    Args:
        model: a folder, or a model on the Hub; or an :class:`~nativebert.Embedder`, with all that follows but the prompts left as it is.
        prompt, prompt_name: as of a call of the Embedder.
        device, precision, batch_tokens, too_long, max_tokens, stride, pooling, normalize, truncate_dim, revision, offline: as of
            :class:`~nativebert.Embedder`.
    """

    def __init__(
        self,
        model: Any = DEFAULT_MODEL,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        device: str = "auto",
        precision: str = "float32",
        batch_tokens: int | None = None,
        too_long: str = "truncate",
        max_tokens: int | None = None,
        stride: int = 64,
        pooling: Any = None,
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        revision: str | None = None,
        offline: bool | None = None,
    ) -> None:
        self.model = model
        self.prompt, self.prompt_name = prompt, prompt_name
        self.device, self.precision, self.batch_tokens = device, precision, batch_tokens
        self.too_long, self.max_tokens, self.stride = too_long, max_tokens, stride
        self.pooling, self.normalize, self.truncate_dim = pooling, normalize, truncate_dim
        self.revision, self.offline = revision, offline

    def fit(self, X: Any = None, y: Any = None) -> NativeBertVectorizer:
        """Load the model; texts and labels are not looked at."""
        self._embedder()
        return self

    def transform(self, X: Any) -> Vectors:
        """Vectors of texts, float32 ``(n, dimension)``.

        Args:
            X: strings: a list, an array or one column of a table.

        Raises:
            BadInputError, TooLongError: as of an Embedder.
        """
        vectors: Vectors = self._embedder()(X, prompt=self.prompt, prompt_name=self.prompt_name)
        return vectors

    def _embedder(self) -> Embedder:
        """The Embedder that the parameters say."""
        params = self.get_params(deep=False)
        model, _, _ = (params.pop(name) for name in ("model", "prompt", "prompt_name"))
        cached: tuple[Any, Embedder] | None = self.__dict__.get("_made")
        if cached is None or cached[0] != (model, params):
            usual = inspect.signature(type(self)).parameters
            options = {name: value for name, value in params.items() if value != usual[name].default}
            cached = self._made = (model, params), prepared(Embedder, model, options)
        return cached[1]

    # -- what scikit-learn asks of an estimator

    @property
    def _n_features_out(self) -> int:
        return self._embedder().dimension

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_made"}
