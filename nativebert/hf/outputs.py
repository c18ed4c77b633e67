"""What models return: the outputs of transformers, by the same names and in the same order."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar, NoReturn


class ModelOutput(OrderedDict[str, Any]):
    """Named values: ``out.logits``, ``out["logits"]``, ``out[0]``, ``out[:2]``. What is None counts as absent, except attributes.

    Iterating gives names, as in transformers; :meth:`to_tuple` gives the values.
    """

    names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **values: Any) -> None:
        super().__init__()
        if strangers := set(values) - set(self.names):
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(strangers))}; it has {', '.join(self.names)}")
        for name in self.names:
            setattr(self, name, values.get(name))

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if value is not None:
            super().__setitem__(name, value)

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        object.__setattr__(self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __reduce__(self) -> Any:
        return _remake, (type(self), dict(self.items()))

    def to_tuple(self) -> tuple[Any, ...]:
        """The values that are not None."""
        return tuple(self.values())

    def _fixed(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot lose or merge values; make a dict of it first: dict(output.items())")

    __delitem__ = setdefault = pop = update = _fixed


def _remake(kind: type[ModelOutput], values: dict[str, Any]) -> ModelOutput:
    return kind(**values)


def _output(name: str, names: str) -> type[ModelOutput]:
    return type(name, (ModelOutput,), {"names": tuple(names.split()), "__module__": __name__})


_STEPS = "hidden_states attentions"
BaseModelOutput = _output("BaseModelOutput", f"last_hidden_state {_STEPS}")
BaseModelOutputWithPooling = _output("BaseModelOutputWithPooling", f"last_hidden_state pooler_output {_STEPS}")
# BERT and RoBERTa can be decoders in transformers, and their outputs have names for that
BaseModelOutputWithPoolingAndCrossAttentions = _output(
    "BaseModelOutputWithPoolingAndCrossAttentions",
    "last_hidden_state pooler_output hidden_states past_key_values attentions cross_attentions",
)
BaseModelOutputWithPastAndCrossAttentions = _output(
    "BaseModelOutputWithPastAndCrossAttentions", "last_hidden_state past_key_values hidden_states attentions cross_attentions"
)
MaskedLMOutput = _output("MaskedLMOutput", f"loss logits {_STEPS}")
SequenceClassifierOutput = _output("SequenceClassifierOutput", f"loss logits {_STEPS}")
TokenClassifierOutput = _output("TokenClassifierOutput", f"loss logits {_STEPS}")
QuestionAnsweringModelOutput = _output("QuestionAnsweringModelOutput", f"loss start_logits end_logits {_STEPS}")
MultipleChoiceModelOutput = _output("MultipleChoiceModelOutput", f"loss logits {_STEPS}")
NextSentencePredictorOutput = _output("NextSentencePredictorOutput", f"loss logits {_STEPS}")
BertForPreTrainingOutput = _output("BertForPreTrainingOutput", f"loss prediction_logits seq_relationship_logits {_STEPS}")
ErnieForPreTrainingOutput = _output("ErnieForPreTrainingOutput", f"loss prediction_logits seq_relationship_logits {_STEPS}")
AlbertForPreTrainingOutput = _output("AlbertForPreTrainingOutput", f"loss prediction_logits sop_logits {_STEPS}")
ElectraForPreTrainingOutput = _output("ElectraForPreTrainingOutput", f"loss logits {_STEPS}")
