"""ZeroShot: against the zero-shot-classification pipeline of transformers, and what it promises beyond."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classifiers import FAMILIES, LIMIT, classifier, pipeline
from models import one_thread, texts

from nativebert.errors import BadInputError, RefusedError, TooLongError, Truncated
from nativebert.tasks.classify import Classifier
from nativebert.tasks.zeroshot import PairFrame, ZeroShot

# Names of the outputs in orders that are found on the Hub.
ORDERS = {
    "cne": ["contradiction", "neutral", "entailment"],
    "enc": ["ENTAILMENT", "NEUTRAL", "CONTRADICTION"],
    "cen": ["contradiction", "entailment", "neutral"],
    "two": ["entailment", "not_entailment"],
    "nec": ["neutral", "entailment", "contradiction"],
    "unnamed": ["LABEL_0", "LABEL_1", "LABEL_2"],
    "no contradiction": ["yes", "entailment", "no"],
}
LABELS = ["the cat", "deep learning", "mat", "dog , running"]
SOME = [text or "a" for text in [*texts(20, 8), *texts(3, 50, seed=1)]]
LONG = " ".join(random.Random(0).choices("the cat sat on mat a dog deep is . ?".split(), k=150))  # a token each


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with one_thread():
        yield


# SOME has texts that are cut; the tests that care ask for the warning
pytestmark = pytest.mark.filterwarnings("ignore::nativebert.errors.Truncated")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder for a family and one of ORDERS, made once."""
    root, made = tmp_path_factory.mktemp("entailment"), {}

    def folder(family: str = "bert", order: str = "cne") -> Path:
        key = f"{family} {order}".replace(" ", "_")
        if key not in made:
            made[key] = classifier(root / key, family, ORDERS[order])
        return made[key]

    return folder


@pytest.fixture
def zero(folders: Any) -> ZeroShot:
    return ZeroShot(folders(), device="cpu")


def equal(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a["text"] == b["sequence"]
        assert a["labels"] == b["labels"]
        assert np.abs(np.subtract(a["scores"], b["scores"])).max() <= 1e-5


# -- against transformers


@pytest.mark.reference
@pytest.mark.parametrize("multi_label", [False, True], ids=["one", "multi"])
@pytest.mark.parametrize("family", FAMILIES)
def test_labels_and_scores_as_in_the_reference(folders: Any, family: str, multi_label: bool) -> None:
    ours = ZeroShot(folders(family), device="cpu")
    theirs = pipeline("zero-shot-classification", folders(family), family)
    usual = "This example is {}."
    for labels, hypothesis in [
        (LABELS, usual), (LABELS, "{0} , {0} ?"), (LABELS[:1], "the {}"), ("the cat, dog ,, mat", usual), ("dog", usual),
    ]:  # fmt: skip
        found = ours(SOME, labels, hypothesis=hypothesis, multi_label=multi_label)
        equal(found, theirs(SOME, labels, hypothesis_template=hypothesis, multi_label=multi_label))
    assert np.ptp([found["scores"][0] for found in ours(SOME, LABELS, multi_label=multi_label)]) > 1e-3


@pytest.mark.reference
@pytest.mark.parametrize("order", ["cne", "enc", "cen", "two"])
def test_the_outputs_are_found_by_name(folders: Any, order: str) -> None:
    ours = ZeroShot(folders(order=order), device="cpu")
    theirs = pipeline("zero-shot-classification", folders(order=order), "bert")
    for multi_label in (False, True):
        equal(ours(SOME, LABELS, multi_label=multi_label), theirs(SOME, LABELS, multi_label=multi_label))
    assert ORDERS[order][ours.entailment].lower() == "entailment"
    assert ours.contradiction is not None
    assert ORDERS[order][ours.contradiction].lower() in ("contradiction", "not_entailment")


@pytest.mark.reference
def test_contradiction_is_not_mistaken_for_neutral(folders: Any) -> None:
    """The reference takes output 0 for contradiction unless that is entailment, whatever its name."""
    folder = folders(order="nec")
    ours, classify = ZeroShot(folder, device="cpu"), Classifier(folder, device="cpu")
    assert (ours.entailment, ours.contradiction) == (1, 2)
    p = classify.scores([("the cat", "This example is dog.")])[0]
    score = ours("the cat", "dog")[0]["scores"][0]
    assert score == pytest.approx(p[1] / (p[1] + p[2]), abs=1e-6)
    theirs = pipeline("zero-shot-classification", folder, "bert")("the cat", "dog")["scores"][0]
    assert theirs == pytest.approx(p[1] / (p[0] + p[1]), abs=1e-6)
    assert abs(theirs - score) > 1e-3


# -- what is promised


def test_scores_worked_out_from_a_classifier(folders: Any, zero: ZeroShot) -> None:
    logits = Classifier(folders(), device="cpu", problem="regression")
    some = texts(8, 5, seed=3)
    raw = logits.scores([(text, f"This example is {label}.") for text in some for label in LABELS]).reshape(8, 4, 3)
    exclusive = np.exp(raw[..., 2]) / np.exp(raw[..., 2]).sum(1, keepdims=True)
    single = np.exp(raw[..., 2]) / (np.exp(raw[..., 2]) + np.exp(raw[..., 0]))
    for expected, multi_label in ((exclusive, False), (single, True)):
        for row, found in zip(expected, zero(some, LABELS, multi_label=multi_label), strict=True):
            assert found["scores"] == sorted(found["scores"], reverse=True)
            by_label = dict(zip(found["labels"], found["scores"], strict=True))
            assert [by_label[label] for label in LABELS] == pytest.approx(row.tolist(), abs=1e-6)


def test_what_comes_back(zero: ZeroShot) -> None:
    results, report = zero(["the cat", "a dog"], LABELS, return_report=True)
    assert results.report is report
    assert [found["text"] for found in results] == ["the cat", "a dog"]
    assert zero("the cat", LABELS) == results[:1]
    assert zero([], LABELS) == []
    assert type(results[0]["scores"][0]) is float
    assert sum(results[0]["scores"]) == pytest.approx(1, abs=1e-6)
    longest = max(len(zero.tokenizer.encode("the cat", f"This example is {label}.")) for label in LABELS)
    assert report.tokens.tolist() == [longest, longest]
    rows = results.rows()
    assert len(rows) == 8
    assert rows[0] == {
        "item": 0, "text": "the cat", "rank": 0, "label": results[0]["labels"][0], "score": results[0]["scores"][0],
    }  # fmt: skip


def test_labels_in_a_list_are_kept_whole(zero: ZeroShot) -> None:
    assert set(zero("the cat", ["a , b", "dog"])[0]["labels"]) == {"a , b", "dog"}
    assert set(zero("the cat", "a , b, dog")[0]["labels"]) == {"a", "b", "dog"}
    assert set(zero("the cat", np.array(["a", "dog"]))[0]["labels"]) == {"a", "dog"}
    assert zero("the cat", ("a", "dog")) == zero("the cat", "a,dog")


def test_equal_scores_keep_the_order_of_the_labels(zero: ZeroShot) -> None:
    # different labels, the same tokens
    assert zero("the cat", ["dog", "DOG", "Dog"])[0]["labels"] == ["dog", "DOG", "Dog"]
    assert zero("the cat", ["Dog", "dog"], multi_label=True)[0]["labels"] == ["Dog", "dog"]


@pytest.mark.parametrize("policy", ["truncate", "window"])
@pytest.mark.parametrize("family", FAMILIES)
def test_bits_do_not_depend_on_order_or_company(folders: Any, family: str, policy: str) -> None:
    zero = ZeroShot(folders(family), device="cpu", too_long=policy)
    whole = zero(SOME, LABELS)
    order = random.Random(0).sample(range(len(SOME)), len(SOME))
    assert zero([SOME[n] for n in order], LABELS) == [whole[n] for n in order]
    assert ZeroShot(folders(family), device="cpu", too_long=policy, batch_tokens=60)(SOME, LABELS) == whole
    for n in order[:6]:
        assert zero(SOME[n], LABELS) == [whole[n]]
    # a label by itself is scored by itself, whatever the others
    several = zero(SOME, LABELS, multi_label=True)
    for label in LABELS[:2]:
        for one, all_ in zip(zero(SOME, [label], multi_label=True), several, strict=True):
            if policy == "truncate" or len(zero.tokenizer.encode(one["text"], LABELS[3])) < 20:
                assert one["scores"][0] == all_["scores"][all_["labels"].index(label)]


def test_long_lists_are_worked_on_in_stretches(zero: ZeroShot, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = zero(SOME, LABELS)
    monkeypatch.setattr("nativebert.tasks.call.CHUNK_TEXTS", 7)
    assert zero(SOME, LABELS) == whole
    with pytest.raises(BadInputError, match="text 9 is None"):
        zero([*SOME[:9], None], LABELS)  # type: ignore[list-item]
    with pytest.raises(BadInputError, match="text 7 is a tuple"):
        zero([*SOME[:7], ("a", "b")], LABELS)  # type: ignore[list-item]


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_put_together_are_pairs_tokenised_together(folders: Any, family: str) -> None:
    tokenizer = ZeroShot(folders(family), device="cpu").tokenizer
    frame = PairFrame.of(tokenizer)
    hard = [*texts(30, 8), "", " a", "a ", "\n", " a [SEP] b", "the</s>cat <mask>", "[MASK]", "é 猫 \U0001f600", "don't"]
    some = [(a, b) for a in hard for b in hard[-12:]]
    whole = tokenizer.ids_batch(some)
    assert whole.type_ids is not None
    for (a, b), ids, segments in zip(some, whole.ids, whole.type_ids, strict=True):
        parts = tokenizer.ids_batch([a, b], special_tokens=False).ids
        assert frame.ids(*parts) == ids
        assert frame.segments(*parts) == segments
        assert len(frame) == len(ids) - len(parts[0]) - len(parts[1])
    assert frame.segmented == (family in ("bert", "distilbert", "electra", "ernie", "albert"))


# -- long texts


def test_the_text_is_cut_and_never_the_label(folders: Any, zero: ZeroShot) -> None:
    classify = Classifier(folders(), device="cpu", problem="regression")
    words, labels = LONG.split(), ["cat", "the cat sat on the mat"]
    fixed = [len(zero.tokenizer.encode("", f"This example is {label}.")) for label in labels]
    with pytest.warns(Truncated, match=f"1 of 2 texts is longer than {LIMIT} tokens and was cut") as told:
        found, report = zero(["the cat", LONG], labels, return_report=True)
    assert len(told) == 1
    assert told[0].filename == __file__
    raw = [
        classify.scores([(" ".join(words[: LIMIT - n]), f"This example is {label}.")])[0, 2] for n, label in zip(fixed, labels)
    ]
    expected = dict(zip(labels, np.exp(raw) / np.exp(raw).sum(), strict=True))
    assert dict(zip(found[1]["labels"], found[1]["scores"], strict=True)) == pytest.approx(expected, abs=1e-6)
    assert report.cut.tolist() == [0, len(words) + fixed[1] - LIMIT]
    assert report.tokens.tolist() == [2 + fixed[1], LIMIT]


@pytest.mark.parametrize("multi_label", [False, True], ids=["one", "multi"])
def test_windows_slide_over_the_text(folders: Any, zero: ZeroShot, multi_label: bool) -> None:
    words, labels = LONG.split(), ["cat", "the cat sat on the mat"]
    room = LIMIT - max(len(zero.tokenizer.encode("", f"This example is {label}.")) for label in labels)
    starts = [*range(0, len(words) - room, room - 5), len(words) - room]
    parts = [" ".join(words[start : start + room]) for start in starts]
    each = [dict(zip(found["labels"], found["scores"], strict=True)) for found in zero(parts, labels, multi_label=multi_label)]
    expected = {label: np.mean([scores[label] for scores in each]) for label in labels}
    windowed = ZeroShot(folders(), device="cpu", too_long="window", stride=5)
    found, report = windowed(["cat", LONG], labels, multi_label=multi_label, return_report=True)
    assert dict(zip(found[1]["labels"], found[1]["scores"], strict=True)) == pytest.approx(expected, abs=1e-6)
    assert found[0] == zero("cat", labels, multi_label=multi_label)[0]
    assert report.windows.tolist() == [1, len(parts)]
    assert report.cut.sum() == 0


def test_too_long_is_an_error_where_asked_for(folders: Any, zero: ZeroShot) -> None:
    strict = ZeroShot(folders(), device="cpu", too_long="error")
    assert strict("the cat", LABELS) == zero("the cat", LABELS)
    with pytest.raises(TooLongError, match=rf"text 2 has 1\d\d tokens and the limit is {LIMIT}"):
        strict(["a", "the cat", LONG], LABELS)
    with pytest.raises(BadInputError, match=rf"the label 'the cat.*takes \d+ of {LIMIT} tokens and leaves no room for text"):
        zero("a", ["dog", "the cat " * 40])


# -- what is wrong


def test_what_the_config_does_not_say_is_asked_for(folders: Any) -> None:
    with pytest.raises(RefusedError, match=r"'LABEL_0', 'LABEL_1', 'LABEL_2': none is named 'entailment'.*pass entailment="):
        ZeroShot(folders(order="unnamed"), device="cpu")
    given = ZeroShot(folders(order="unnamed"), device="cpu", entailment=2, contradiction=0)
    assert (given.entailment, given.contradiction) == (2, 0)
    vague = ZeroShot(folders(order="no contradiction"), device="cpu")
    assert len(vague("a", LABELS)) == 1
    for labels, multi_label in ((LABELS, True), (["dog"], False)):
        with pytest.raises(RefusedError, match=r"none is named 'contradiction'.*pass contradiction="):
            vague("a", labels, multi_label=multi_label)
    assert ZeroShot(folders(order="no contradiction"), device="cpu", contradiction=2)("a", ["dog"])
    for wrong in (3, -1, True, "entailment"):
        with pytest.raises(BadInputError, match="entailment must be an output between 0 and 2"):
            ZeroShot(folders(), device="cpu", entailment=wrong)
    with pytest.raises(BadInputError, match="both output 0"):
        ZeroShot(folders(), device="cpu", entailment=0)


def test_a_config_that_disagrees_with_itself(folders: Any, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for file in folders().iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config["label2id"] = {"entailment": 0, "neutral": 1, "contradiction": 2}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RefusedError, match="do not agree on which output is 'entailment'; pass entailment="):
        ZeroShot(folder, device="cpu")
    assert ZeroShot(folder, device="cpu", entailment=2, contradiction=0)("a", ["dog"]) == ZeroShot(folders(), device="cpu")(
        "a", ["dog"]
    )
    # names in label2id alone will do
    config["id2label"] = {str(n): f"LABEL_{n}" for n in range(3)}
    (folder / "config.json").write_text(json.dumps(config))
    assert ZeroShot(folder, device="cpu").entailment == 0
    config["label2id"]["entailment"] = 7
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RefusedError, match="do not agree"):
        ZeroShot(folder, device="cpu")


def test_what_is_wrong_is_told(zero: ZeroShot) -> None:
    for labels, message in [
        ([], "no labels"), ("", "no labels"), (" , ", "no labels"), (["a", ""], "not empty"), (["a", None], "not None"),
        (["a", "b", "a"], "'a' is given twice"), ("a, b, a", "'a' is given twice"), (3, "labels must be a list of strings"),
    ]:  # fmt: skip
        with pytest.raises(BadInputError, match=message):
            zero("text", labels)  # type: ignore[arg-type]
    for hypothesis in ("This is it.", "This is {label}.", "This is {1}.", "This is {", "", "{{}}", None):
        with pytest.raises(BadInputError, match=r"hypothesis must be a sentence with \{\}"):
            zero("text", LABELS, hypothesis=hypothesis)  # type: ignore[arg-type]
    for wrong, message in [([None], "text 0 is None"), (["a", 3], "text 1 is a int"), ([("a", "b")], "text 0 is a tuple")]:
        with pytest.raises(BadInputError, match=message):
            zero(wrong, LABELS)  # type: ignore[arg-type]
