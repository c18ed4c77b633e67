"""pipeline(): what it returns and refuses. Whole programs are compared in test_hf_snippets.py."""

from __future__ import annotations

import json
import random
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hf_checkpoints import make
from models import one_thread, unlike
from test_hf_snippets import same

import nativebert.hf as hf
from nativebert.errors import BadInputError, NativeBertError, NativeBertWarning, RefusedError, TooLongError, Truncated
from nativebert.hf import pipelines, unsupported

pytestmark = pytest.mark.reference

ODD = [
    "Angela", "Merkel", "café", "naïve", "日本語", "東京", "😀", "U.K.", "jean-baptiste", "unbelievable", "\t", "ﬁne", "Straße", "don't",
    "$1,000.50", "中", "XYZ123", "—", "ελληνικά", "مرحبا", "[SEP]", "a",
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with one_thread():
        yield


def odd(count: int, seed: int = 0) -> list[str]:
    """Texts that tokenizers find hard."""
    r = random.Random(seed)
    return [r.choice((" ", "")).join(r.choices(ODD, k=r.randint(1, 10))) for _ in range(count)]


def theirs(task: str, folder: str, **more: Any) -> Any:
    from transformers import pipeline

    return pipeline(task, model=folder, device="cpu", **more)


# ---- equal to the reference


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_entities_of_odd_texts(folders: dict[str, str], strategy: str) -> None:
    some = odd(60)
    reference = theirs("ner", folders["ner"], aggregation_strategy=strategy)
    found = hf.pipeline("ner", folders["ner"], aggregation_strategy=strategy)(some)
    same(found, [reference(text) for text in some])
    kinds = {one.get("entity", one.get("entity_group")) for entities in found for one in entities}
    assert len(kinds) > 1, "the model should find several kinds"
    assert json.loads(json.dumps(found)) == found


def test_words_are_those_of_the_vocabulary(folders: dict[str, str]) -> None:
    """The reference compares lengths to tell whether a token goes on with a word; with a combining accent they differ, and it is wrong."""
    text = "Angela sees an e\u0301clair"
    ours = hf.pipeline("ner", folders["ner"])._tokens(text, *_encoding(hf.pipeline("ner", folders["ner"]), text))
    assert [token["word"] for token in ours if not token["inside"]] == ["angela", "sees", "an", "ec"]
    reference = theirs("ner", folders["ner"], aggregation_strategy="first")
    pre = reference.gather_pre_entities
    calls: list[Any] = []
    reference.gather_pre_entities = lambda *args, **more: calls.append(pre(*args, **more)) or calls[-1]
    reference(text)
    (token,) = (token for token in calls[0] if token["word"] == "ec")
    assert token["is_subword"], "if transformers gets this right one day, the difference goes from the docs"


def _encoding(pipe: Any, text: str) -> tuple[Any, int]:
    ((encoding, p),) = pipe.native.probabilities([text])
    return encoding, len(p)


def test_words_given_one_by_one(folders: dict[str, str]) -> None:
    words = [["Angela", "Merkel", "visited", "U.K.", "today"], ["don't", "Jean-Baptiste"]]
    reference, ours = (f("ner", folders["ner"], aggregation_strategy="simple") for f in (theirs, hf.pipeline))
    same(ours(words, is_split_into_words=True), reference(words, is_split_into_words=True))
    same(ours(words[0], is_split_into_words=True), reference(words[0], is_split_into_words=True))


@pytest.mark.parametrize("name", ["sentiment", "emotions", "toxic", "score", "cross"])
@pytest.mark.parametrize(
    "given",
    [{}, {"top_k": 1}, {"top_k": 2}, {"top_k": None}, {"function_to_apply": "none"}, {"function_to_apply": "sigmoid", "top_k": None}, {"function_to_apply": "softmax"}],
    ids=str,
)  # fmt: skip
def test_labels_in_every_shape(folders: dict[str, str], name: str, given: dict[str, Any]) -> None:
    reference, ours = (f("text-classification", folders[name]) for f in (theirs, hf.pipeline))
    some = odd(6, 1)
    pair = {"text": some[0], "text_pair": some[1]}
    for inputs in (some[0], some, [some[0]], pair, [pair, pair]):
        same(ours(inputs, **given), reference(inputs, **given), repr(inputs))
    if "top_k" in given:
        same(
            hf.pipeline("text-classification", folders[name], **given)(some[0]),
            theirs("text-classification", folders[name], **given)(some[0]),
        )


def test_pairs_and_single_texts_in_one_list(folders: dict[str, str]) -> None:
    pipe = hf.pipeline("text-classification", folders["nli"])
    pair, text = {"text": "a", "text_pair": "b"}, "c"
    assert pipe([pair, text, pair, {"text": "c"}]) == [pipe(pair), *pipe(text), pipe(pair), *pipe(text)]


def test_masks(folders: dict[str, str]) -> None:
    reference, ours = (f("fill-mask", folders["mlm"]) for f in (theirs, hf.pipeline))
    some = [f"{a} [MASK] {b}" for a, b in zip(odd(40), odd(40, 1))]
    same(ours(some), reference(some))
    same(ours(["a [MASK]"]), reference(["a [MASK]"]))
    same(ours("[MASK] and [MASK]", top_k=2), reference("[MASK] and [MASK]", top_k=2))
    for targets in ("dog", ["dog", "cat", "dog"], ["Cat", "unbelievability"]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            same(ours(some[:3], targets=targets), reference(some[:3], targets=targets))
    with pytest.warns(NativeBertWarning, match="'unbelievability' is not in the vocabulary: 'un' is taken in its place"):
        ours("a [MASK]", targets=["unbelievability"])
    with pytest.raises(BadInputError, match="no mask"):
        ours("nothing to fill")


def test_states_and_labels_of_ones_own(folders: dict[str, str]) -> None:
    some = odd(8)
    reference, ours = (f("feature-extraction", folders["bert"]) for f in (theirs, hf.pipeline))
    same(ours(some), reference(some))
    same(ours(some, return_tensors=True), reference(some, return_tensors=True))
    reference, ours = (f("zero-shot-classification", folders["nli"]) for f in (theirs, hf.pipeline))
    for given in ({}, {"multi_label": True}, {"hypothesis_template": "It is {}!"}):
        same(ours(some, ["food", "sport", "art"], **given), reference(some, ["food", "sport", "art"], **given))
        same(ours(some[0], "food, sport", **given), reference(some[0], "food, sport", **given))
    same(ours(some[:1], candidate_labels="food"), reference(some[:1], candidate_labels="food"))


def test_defaults_are_those_of_transformers() -> None:
    from transformers.pipelines import REMOVED_TASKS, SUPPORTED_TASKS, TASK_ALIASES

    for task, (model, revision) in pipelines.DEFAULTS.items():
        if task in SUPPORTED_TASKS:
            assert SUPPORTED_TASKS[task]["default"]["model"] == (model, revision), task
    ours = {**pipelines.PIPELINES, **pipelines.ALIASES}
    for task in (*SUPPORTED_TASKS, *TASK_ALIASES, *REMOVED_TASKS):
        assert (task in ours) != (task in unsupported.TASKS), task


def test_a_limit_in_tokens(folders: dict[str, str]) -> None:
    text = "a very long text " * 60
    reference, ours = (f("text-classification", folders["sentiment"]) for f in (theirs, hf.pipeline))
    for given in ({"truncation": True}, {"truncation": True, "max_length": 20}):
        with pytest.warns(Truncated):
            found = ours(text, **given)
        same(found, reference(text, **given))
    with pytest.warns(Truncated) as caught:
        ours(text)  # the reference fails
    assert caught[0].filename == __file__
    with pytest.raises(TooLongError):
        ours(text, truncation=False)
    with pytest.raises(BadInputError, match="between 1 and"):
        ours(text, max_length=1000)
    reference, ours = (f("fill-mask", folders["mlm"], tokenizer_kwargs={"truncation": True}) for f in (theirs, hf.pipeline))
    with pytest.warns(Truncated):
        found = ours("[MASK] " + text)
    same(found, reference("[MASK] " + text))
    reference, ours = (f("feature-extraction", folders["bert"], truncation=True) for f in (theirs, hf.pipeline))
    with pytest.warns(Truncated):
        found = ours(text)
    same(found, reference(text))


def test_a_vocabulary_of_bytes(tmp_path: Path) -> None:
    """RoBERTa: tokens with the space before them, and no mark for the inside of a word."""
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    core = ByteLevelBPETokenizer()
    core.train_from_iterator(odd(300), vocab_size=500, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    core.save_model(str(tmp_path))
    tokenizer = transformers.RobertaTokenizer(
        vocab=str(tmp_path / "vocab.json"), merges=str(tmp_path / "merges.txt"), model_max_length=126
    )
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "max_position_embeddings": 128, "pad_token_id": 1, "type_vocab_size": 1,
    }  # fmt: skip
    some = [text for text in odd(40) if text.strip()]
    for head, task, labels, inputs in (
        ("ForTokenClassification", "ner", ("O", "B-PER", "I-PER", "B-ORG", "I-ORG"), some),
        ("ForMaskedLM", "fill-mask", ("a", "b"), [*(f"{text} <mask> {text}" for text in some), "<mask> x", "a<mask>"]),
        ("ForSequenceClassification", "zero-shot-classification", ("entailment", "neutral", "contradiction"), some),
        ("Model", "feature-extraction", ("a", "b"), some),
    ):
        folder = tmp_path / head
        config = transformers.RobertaConfig(
            **sizes, id2label=dict(enumerate(labels)), label2id={name: n for n, name in enumerate(labels)}
        )
        unlike(getattr(transformers, f"Roberta{head}")(config), 3).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        settings: list[dict[str, Any]] = [{}]
        if task == "ner":
            settings = [{"aggregation_strategy": strategy} for strategy in ("none", "simple", "first", "average", "max")]
        if task == "zero-shot-classification":
            settings = [{"candidate_labels": ["a cat", "Angela"], "multi_label": several} for several in (False, True)]
        for given in settings:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the reference, that it has no real words
                expected = theirs(task, str(folder), **given)(inputs)
            same(hf.pipeline(task, folder, **given)(inputs), expected, f"{task} {given}")


# ---- what is passed in


def test_objects_with_changes(folders: dict[str, str]) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    names = {0: "bad", 1: "good"}
    found = []
    for module in (
        types.SimpleNamespace(
            AutoModelForSequenceClassification=AutoModelForSequenceClassification,
            AutoTokenizer=AutoTokenizer,
            pipeline=pipeline,
        ),
        hf,
    ):
        model = module.AutoModelForSequenceClassification.from_pretrained(
            folders["sentiment"], id2label=names, label2id={v: k for k, v in names.items()}
        )
        tokenizer = module.AutoTokenizer.from_pretrained(folders["bert"], model_max_length=16)
        pipe = module.pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
        assert pipe.model.config.id2label == names
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(pipe(["a word", "word " * 40], top_k=None, truncation=True))
    same(found[1], found[0])
    assert found[0][0][0]["label"] in ("bad", "good")


def test_a_model_without_a_task_and_a_task_without_a_model(folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {
        "sentiment": "TextClassification", "ner": "TokenClassification", "qa": "QuestionAnswering", "mlm": "FillMask", "bert": "FeatureExtraction",
    }  # fmt: skip
    for name, kind in kinds.items():
        assert type(hf.pipeline(model=folders[name])).__name__ == f"{kind}Pipeline"
    assert hf.pipeline(model=hf.AutoModelForMaskedLM.from_pretrained(folders["mlm"])).task == "fill-mask"
    monkeypatch.setitem(pipelines.DEFAULTS, "text-classification", (folders["sentiment"], None))
    with pytest.warns(NativeBertWarning, match="no model was given") as caught:
        pipe = hf.pipeline("sentiment-analysis")
    assert caught[0].filename == __file__
    assert pipe("fine")[0]["label"] in ("POSITIVE", "NEGATIVE")
    with pytest.raises(BadInputError, match="name a task or a model"):
        hf.pipeline()
    with pytest.raises(BadInputError, match="does not say what it is for"):
        hf.pipeline(model=folders["choice"])


def test_devices_and_numbers(folders: dict[str, str]) -> None:
    one = hf.pipeline("sentiment-analysis", folders["sentiment"], device="cpu")("a text")
    for given in (
        {"device": -1}, {"device": torch.device("cpu")}, {"device": -1.0}, {"device_map": "cpu"}, {"device_map": {"": "cpu"}},
        {"device": "cpu", "torch_dtype": torch.float32}, {"device": "cpu", "dtype": "auto"}, {"device": "cpu", "model_kwargs": {"torch_dtype": "float32"}},
        {"device": "cpu", "batch_size": 8, "num_workers": 2, "framework": "pt", "use_fast": True, "trust_remote_code": False},
    ):  # fmt: skip
        pipe = hf.pipeline("sentiment-analysis", folders["sentiment"], **given)
        assert pipe.device.type == "cpu"
        assert pipe("a text") == one, given
    half = hf.pipeline("sentiment-analysis", folders["sentiment"], device="cpu", dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert 0 < abs(half("a text")[0]["score"] - one[0]["score"]) < 0.02
    halved = hf.AutoModelForSequenceClassification.from_pretrained(folders["sentiment"], dtype=torch.bfloat16)
    assert hf.pipeline("sentiment-analysis", halved, device="cpu").dtype == torch.bfloat16
    assert hf.pipeline("sentiment-analysis", folders["sentiment"])(["a"], top_k=2.0) == hf.pipeline(
        "sentiment-analysis", folders["sentiment"]
    )(["a"], top_k=2)


def test_generators_are_read_as_they_come(folders: dict[str, str]) -> None:
    pipe = hf.pipeline("text-classification", folders["sentiment"])
    taken = []

    def data() -> Iterator[str]:
        for number in range(10**9):
            taken.append(number)
            yield f"text {number}"

    found = pipe(data())
    assert not taken
    first = [next(found) for _ in range(3)]
    assert len(taken) == 3
    assert first == pipe([f"text {n}" for n in range(3)])
    some = pipe(data(), batch_size=4)
    next(some)
    assert len(taken) == 7


def test_what_holds_texts(folders: dict[str, str]) -> None:
    pipe, some = hf.pipeline("text-classification", folders["sentiment"]), ["a", "b", "c"]
    expected = pipe(some)
    assert pipe(tuple(some)) == pipe(np.array(some)) == expected
    assert pipe([]) == []
    assert pipe.predict(some) == pipe.transform(some) == expected
    ner = hf.pipeline("ner", folders["ner"])
    assert ner([]) == []
    assert ner("") == []


def test_answers(folders: dict[str, str]) -> None:
    qa = hf.pipeline("question-answering", folders["qa"])
    context = "The house is red. The roof is blue, and its door has been green since 1999."
    one = qa(question="Which roof?", context=context)
    assert list(one) == ["score", "start", "end", "answer"]
    assert context[one["start"] : one["end"]] == one["answer"]
    item = {"question": "Which roof?", "context": context}
    assert qa(item) == qa([item]) == qa("Which roof?", context) == qa(data=item) == one
    assert qa([item, item]) == qa(question=["Which roof?"] * 2, context=context) == [one, one]
    assert qa(question="Which roof?", context=[context] * 2) == [one, one]
    three = qa(item, top_k=3)
    assert len(three) == 3
    assert three[0] == one
    assert qa(item, topk=3) == three
    long = qa(question="Which roof?", context=context * 30, max_seq_len=40, doc_stride=10)
    assert (context * 30)[long["start"] : long["end"]] == long["answer"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        qa(question="Which roof?", context=context * 30)
    for wrong in ({"question": "", "context": "a"}, {"question": "a"}, {"question": "a", "context": 3}, "a"):
        with pytest.raises(BadInputError):
            qa(wrong)
    with pytest.raises(BadInputError, match="2 questions and 3 contexts"):
        qa(question=["a", "b"], context=["a", "b", "c"])


def test_similarities_of_sentences(folders: dict[str, str]) -> None:
    from sentence_transformers import SentenceTransformer

    pipe = hf.pipeline("sentence-similarity", folders["minilm"])
    item = {"source_sentence": "A cat sleeps", "sentences": ["A kitten naps", "The interest rate rose"]}
    model = SentenceTransformer(folders["minilm"], device="cpu")
    expected = model.similarity(model.encode(item["source_sentence"]), model.encode(item["sentences"]))[0].tolist()
    same(pipe(item), expected)
    assert pipe([item]) == [pipe(item)]
    assert pipe({"source_sentence": "a", "sentences": []}) == []


def test_long_texts_have_all_their_entities(folders: dict[str, str]) -> None:
    text = "Angela Merkel visited the stone island. " * 40
    ner = hf.pipeline("ner", folders["ner"], aggregation_strategy="simple")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, wide = ner(text), ner(text, stride=30)
    assert found[-1]["end"] > len(text) - 60
    assert wide[-1]["end"] > len(text) - 60
    assert all(text[one["start"] : one["end"]].lower().split()[0] == one["word"].removeprefix("##").split()[0] for one in found)


def test_saving(folders: dict[str, str], tmp_path: Path) -> None:
    pipe = hf.pipeline("ner", folders["ner"], aggregation_strategy="simple")
    pipe.save_pretrained(tmp_path / "saved")
    text = "Angela Merkel visited the stone island."
    same(pipe(text), theirs("ner", str(tmp_path / "saved"), aggregation_strategy="simple")(text))


# ---- what is refused


@pytest.mark.parametrize(
    ("make_or_call", "match"),
    [
        (lambda f: hf.pipeline("text-generation"), "encoders only"),
        (lambda f: hf.pipeline("translation_en_to_fr"), "encoders only"),
        (lambda f: hf.pipeline("image-classification"), "reads text only"),
        (lambda f: hf.pipeline("clairvoyance"), "there is no task 'clairvoyance'; there are text-classification"),
        (lambda f: hf.pipeline("zero-shot-classification"), "bart-large-mnli, is not an encoder"),
        (lambda f: hf.pipeline("ner", f["ner"], framework="tf"), "torch is the only one"),
        (lambda f: hf.pipeline("ner", f["ner"], image_processor="x"), "does not support image_processor="),
        (lambda f: hf.pipeline("ner", f["ner"], device=["cuda:0", "cuda:1"]), "several devices"),
        (lambda f: hf.pipeline("ner", f["ner"], dtype="int8"), "dtype must be one of"),
        (lambda f: hf.pipeline("ner", f["ner"], model_kwargs={"load_in_8bit": True}), "load_in_8bit=: use dtype='bfloat16'"),
        (lambda f: hf.pipeline("ner", f["ner"], use_auth_token="x"), "pass token= instead"),
        (lambda f: hf.pipeline("ner", f["ner"], wrong=1), "the token-classification pipeline has no argument 'wrong'"),
        (lambda f: hf.pipeline("ner", f["ner"])("a", truncation=True), "does not support truncation=: long texts"),
        (lambda f: hf.pipeline("ner", f["ner"], aggregation_strategy="best")("a"), "aggregation_strategy must be"),
        (lambda f: hf.pipeline("ner", f["ner"])("a", stride=3), "stride needs an aggregation_strategy"),
        (lambda f: hf.pipeline("ner", f["ner"])([["a", "b"]]), "is_split_into_words=True"),
        (lambda f: hf.pipeline("ner", f["bert"]), "no head for token-classification"),
        (lambda f: hf.pipeline("ner", hf.AutoModel.from_pretrained(f["bert"])), "needs a model with the head 'tag'"),
        (lambda f: hf.pipeline("ner", torch.nn.Linear(2, 2)), "model must be a folder, a name or a model of nativebert.hf"),
        (lambda f: hf.pipeline("ner", tokenizer=f["ner"]), "a tokenizer without a model"),
        (lambda f: hf.pipeline("text-classification", f["sentiment"])(), "pass a text"),
        (lambda f: hf.pipeline("text-classification", f["sentiment"])(None), "pass a text"),
        (lambda f: hf.pipeline("text-classification", f["sentiment"])([3]), "text 0"),
        (lambda f: hf.pipeline("text-classification", f["sentiment"])([["a", "b"]]), "pass a pair as"),
        (lambda f: hf.pipeline("text-classification", f["sentiment"])({"txt": "a"}), "the keys 'text' and 'text_pair'"),
        (lambda f: hf.pipeline("text-classification", f["sentiment"])("a", return_all_scores=True), "pass top_k=None"),
        (
            lambda f: hf.pipeline("text-classification", f["sentiment"])("a", function_to_apply="tanh"),
            "function_to_apply must be",
        ),
        (lambda f: hf.pipeline("text-classification", f["sentiment"])("a", top_k="two"), "top_k must be a whole number"),
        (lambda f: hf.pipeline("zero-shot-classification", f["nli"])("a"), "pass candidate_labels="),
        (lambda f: hf.pipeline("zero-shot-classification", f["nli"])("a", "b", multi_class=True), "pass multi_label"),
        (lambda f: hf.pipeline("fill-mask", f["mlm"])("a [MASK]", targets=[]), "no target is in the vocabulary"),
        (lambda f: hf.pipeline("question-answering", f["qa"])(question="a"), "pass question= and context="),
        (
            lambda f: hf.pipeline("question-answering", f["qa"])(question="a", context="b", max_question_len=3),
            "a question is never cut",
        ),
        (lambda f: hf.pipeline("sentence-similarity", f["minilm"])("a"), "'source_sentence'"),
    ],
)
def test_what_is_refused_says_what_to_do(folders: dict[str, str], make_or_call: Any, match: str) -> None:
    with pytest.raises(NativeBertError, match=match) as caught:
        make_or_call(folders)
    assert isinstance(caught.value, (BadInputError, RefusedError)) or "head" in match
