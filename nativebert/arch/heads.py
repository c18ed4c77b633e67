"""Heads that several families share, as data: see :class:`nativebert.config.Head`."""

from __future__ import annotations

from nativebert.config import Head


def bert_like(
    *, width: int, vocab: int, labels: int, activation: str, dropout: float, dense: int | None = None
) -> dict[str, Head]:
    """BERT's heads: one linear layer on the pooler's output, or on every token.

    Args:
        width: of the model.
        vocab: tokens.
        labels: classes.
        activation: of the masked-LM transform.
        dropout: before a classifier.
        dense: width of the masked-LM transform; the model's own by default.
    """
    return {
        "lm": Head("lm", "tokens", vocab, dense=dense or width, activation=activation, norm=True),
        "classify": Head("classifier", "pooled", labels, dropout=dropout),
        "tag": Head("classifier", "tokens", labels, dropout=dropout),
        "answer": Head("qa", "tokens", 2),
        "choose": Head("classifier", "pooled", 1, dropout=dropout),
    }


def roberta_like(*, width: int, vocab: int, labels: int, dropout: float) -> dict[str, Head]:
    """RoBERTa's heads: classification by a dense layer with tanh on the first token, not by the pooler; gelu before the vocabulary."""
    heads = bert_like(width=width, vocab=vocab, labels=labels, activation="gelu", dropout=dropout)
    classify = Head("sequence", "first", labels, dense=width, activation="tanh", dropout=dropout, dropout_first=True)
    return {**heads, "classify": classify}
