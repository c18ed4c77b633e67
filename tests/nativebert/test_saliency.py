"""Integrated gradients: completeness, known answers, and a model that is left as it was."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from models import TINY, one_thread, unlike, write_folder

from nativebert.arch import read_config
from nativebert.errors import BadInputError, TooLongError
from nativebert.loading import LoadedModel
from nativebert.nn.model import Model
from nativebert.saliency import saliency
from nativebert.text.tokenizer import Tokenizer

TEXT, PAIR = "the cat sat on the mat", "deep learning is powerful."


@pytest.fixture(autouse=True)
def _quickly():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_folder(write_folder(tmp_path_factory.mktemp("models") / "bert", TINY["bert"]))


def model_of(family: str, task: str, tokenizer: Tokenizer) -> Model:
    labels = {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    model = unlike(Model(read_config(TINY[family] | labels)[1], tasks=(task,)), 0).eval().double()
    model.tokenizer = tokenizer
    return model


@pytest.mark.parametrize("family", sorted(TINY.keys() - {"gpt2"}))  # it has no head
def test_scores_add_up_to_the_logit(family: str, tokenizer: Tokenizer) -> None:
    model = model_of(family, "classify", tokenizer)
    found = saliency(model, TEXT, PAIR, steps=128)
    encoding = tokenizer.encode(TEXT, PAIR)
    segments = torch.tensor([encoding.type_ids]) if model.config.segments > 1 else None
    with torch.no_grad():
        logits = model(torch.tensor([encoding.ids]), None, segments).logits[0]
    assert found.target == int(logits.argmax())
    assert found.logit == pytest.approx(float(logits.max()), abs=1e-12)
    assert abs(found.logit - found.baseline) > 3e-3  # well above the tolerance
    # DistilBERT's classifier has a kink (ReLU), which no rule for smooth functions integrates exactly
    tolerance = 1e-3 if family == "distilbert" else 1e-6
    assert found.error < tolerance
    assert sum(score.score for score in found) == pytest.approx(found.logit - found.baseline, abs=tolerance)
    assert [score.text for score in found] == encoding.tokens
    assert {score.score for score in found if score.part is None} == {0.0}
    assert all(score.score for score in found if score.part is not None)


def test_the_baseline_is_the_text_of_padding(tokenizer: Tokenizer) -> None:
    model = model_of("bert", "classify", tokenizer)
    ids = torch.tensor([tokenizer.encode(TEXT).ids])
    for name, number in (("pad", tokenizer.pad_id), ("mask", tokenizer.mask_id)):
        ids[0, 1:-1] = number
        with torch.no_grad():
            expected = model(ids, None, torch.zeros_like(ids)).logits[0, 1]
        assert saliency(model, TEXT, target=1, steps=2, baseline=name).baseline == pytest.approx(float(expected), abs=1e-12)
    assert saliency(model, TEXT, steps=64, baseline="zero").error < 1e-6


def test_a_linear_model_has_a_known_answer(tokenizer: Tokenizer) -> None:
    """Without layers and norm the logit is linear in the embeddings, and each score is a product."""

    class Linear(LoadedModel):
        def forward(self, input_ids, attention_mask=None, token_type_ids=None, position_ids=None, **_):
            x = self.embed.token(input_ids.flatten()).view(*input_ids.shape, -1)
            return type(
                "Output", (), {"logits": torch.stack([x[..., 0].sum(1), (x[..., 1] * torch.arange(x.shape[1])).sum(1)], 1)}
            )

    model = LoadedModel.of(model_of("bert", "classify", tokenizer))
    model.__class__ = Linear
    encoding, table = tokenizer.encode(TEXT), model.embed.token.weight.detach().numpy()
    for target, weight in ((0, np.ones(len(encoding))), (1, np.arange(len(encoding)))):
        expected = (table[encoding.ids, target] - table[0, target]) * weight
        expected[[0, -1]] = 0
        assert [s.score for s in saliency(model, TEXT, target=target, steps=1)] == pytest.approx(expected.tolist(), abs=1e-12)


def test_places_and_words(tokenizer: Tokenizer) -> None:
    found = saliency(model_of("bert", "classify", tokenizer), TEXT, PAIR, steps=2)
    parts = (TEXT, PAIR)
    own = [score for score in found if score.part is not None]
    assert all(parts[s.part][s.start : s.end].lower() == s.text.removeprefix("##") for s in own)
    words = [word for word in found.words if word.part is not None]
    assert [word.text for word in words] == [*TEXT.split(), "deep", "learning", "is", "powerful", "."]
    assert all(parts[word.part][word.start : word.end] == word.text for word in words)
    powerful = [s.score for s in own if s.part == 1 and s.text in ("power", "##ful")]
    assert len(powerful) == 2
    assert words[-2].score == sum(powerful)
    assert sum(word.score for word in found.words) == pytest.approx(sum(score.score for score in found), abs=1e-12)


def test_a_head_on_tokens(tokenizer: Tokenizer) -> None:
    model = model_of("bert", "tag", tokenizer)
    ids = tokenizer.encode(TEXT).ids
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    for token in (1, 5):
        found = saliency(model, TEXT, token=token)
        assert found.target == int(logits[token].argmax())
        assert found.logit == pytest.approx(float(logits[token].max()), abs=1e-12)
        assert found.error < 1e-6


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(training: bool, tokenizer: Tokenizer) -> None:
    model = model_of("bert", "classify", tokenizer).train(training)
    model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():  # as in a caller's loop
        first = saliency(model, TEXT, steps=3)
    assert first == saliency(model, TEXT, steps=3)  # no dropout
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not model.embed.token._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_many_steps_are_taken_in_parts(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("bert", "classify", tokenizer)
    whole = saliency(model, TEXT, steps=9)
    monkeypatch.setattr("nativebert.saliency._TOKENS_AT_ONCE", 20)
    for a, b in itertools.zip_longest(whole, saliency(model, TEXT, steps=9)):
        assert a.score == pytest.approx(b.score, abs=1e-12)


def test_what_cannot_be_explained(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model, tag = model_of("bert", "classify", tokenizer), model_of("bert", "tag", tokenizer)
    for given, message in [
        ({"target": 3}, "class 3 does not exist"),
        ({"target": -1}, "class -1 does not exist"),
        ({"token": 1}, "remove token="),
        ({"target": 0.5}, "class 0.5 does not exist"),
        ({"steps": 0}, "steps must be"),
        ({"baseline": "none"}, "baseline must be"),
    ]:
        with pytest.raises(BadInputError, match=message):
            saliency(model, TEXT, **given)
    assert saliency(model, TEXT, target=1.0, steps=8.0) == saliency(model, TEXT, target=1, steps=8)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="select one with token="):
        saliency(tag, TEXT)
    with pytest.raises(BadInputError, match="token 99 does not exist"):
        saliency(tag, TEXT, token=99)
    with pytest.raises(BadInputError, match="no logits to explain"):
        saliency(write_folder(tmp_path / "bare", TINY["bert"]), TEXT)
    with pytest.raises(TooLongError, match=r"62 tokens, and the maximum length of .* is 40"):
        saliency(model, "cat " * 60)
