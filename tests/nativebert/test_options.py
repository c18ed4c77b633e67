"""The options of a task are one value: fixed when it is made, changed for a call by the call, and smaller batches remembered."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from every_task import TEXTS, same
from hf_checkpoints import make
from models import one_thread, texts

import nativebert as nb
from nativebert import hf
from nativebert.errors import BadInputError, OutOfMemoryError, SmallerBatches, TooLongError, Truncated
from nativebert.hf.pipelines import PIPELINES
from nativebert.tasks.options import CALL_OPTIONS, TASK_OPTIONS

LONG = ["Anna paid Acme in Oslo. " * 12, "Rain.", "The ferry leaves at half past nine, says Anna. " * 8]
MASKED = ["The ferry [MASK] at nine, " + "says Anna, " * 20, "[MASK]"]
CALLS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "embed": (nb.Embedder, "minilm", lambda task, **how: task(LONG, **how)),
    "tokens": (nb.Embedder, "minilm", lambda task, **how: list(task.tokens(LONG, **how))),
    "words": (nb.Embedder, "minilm", lambda task, **how: list(task.words(LONG, **how))),
    "states": (nb.Embedder, "minilm", lambda task, **how: [x.numpy() for x in task.states(LONG, **how)]),
    "classify": (nb.Classifier, "sentiment", lambda task, **how: list(task(LONG, top_k=None, **how))),
    "scores": (nb.Classifier, "sentiment", lambda task, **how: task.scores([(LONG[1], text) for text in LONG], **how)),
    "tag": (nb.Tagger, "ner", lambda task, **how: list(task(LONG, **how))),
    "tagged words": (nb.Tagger, "ner", lambda task, **how: list(task.words([text.split() for text in LONG], **how))),
    "probabilities": (nb.Tagger, "ner", lambda task, **how: [p for _, p in task.probabilities(LONG, **how)]),
    "answer": (nb.Answerer, "qa", lambda task, **how: list(task("Who?", LONG, **how))),
    "fill": (nb.MaskFiller, "mlm", lambda task, **how: list(task(MASKED, **how))),
    "rank": (nb.Ranker, "cross", lambda task, **how: task([("Who?", text) for text in LONG], **how)),
    "logits": (nb.Ranker, "cross", lambda task, **how: task.logits([("Who?", text) for text in LONG], **how)),
    "ranked": (nb.Ranker, "cross", lambda task, **how: task.rank("Who?", LONG, **how)),
    "zero-shot": (nb.ZeroShot, "nli", lambda task, **how: list(task(LONG, ["travel", "rain"], **how))),
}
TASKS = {kind: folder for kind, folder, _ in CALLS.values()}


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make(tmp_path_factory.mktemp("models"))


# -- fixed when the task is made


@pytest.mark.parametrize("kind", TASKS, ids=lambda kind: kind.__name__)
def test_settings_cannot_be_set(kind: Any, folders: dict[str, str]) -> None:
    task = kind(folders[TASKS[kind]], device="cpu")
    own = {"Embedder": ("pooling", "normalize", "truncate_dim"), "Classifier": ("problem", "combine"), "Tagger": ("aggregation", "ignore"),
           "Answerer": ("max_answer_tokens", "align_to_words"), "ZeroShot": ("entailment", "contradiction")}  # fmt: skip
    for name in (*TASK_OPTIONS, *own.get(kind.__name__, ())):
        message = rf"^{kind.__name__}.{name} is fixed when the {kind.__name__} is made: pass {name}= to {kind.__name__}\(...\)"
        with pytest.raises(AttributeError, match=message + (" or to the call$" if name in CALL_OPTIONS else "$")):
            setattr(task, name, getattr(task, name, None))
    for name in ("tokenizer", "plan", "options", "encoder", "snapshot", "states"):
        with pytest.raises(
            AttributeError, match=f"^{kind.__name__}.{name} is fixed when the {kind.__name__} is made: make another"
        ):
            setattr(task, name, getattr(task, name))
    task.own_remark = "attributes of your own are nobody's business"  # type: ignore[attr-defined]


def test_copies_are_the_task_itself(folders: dict[str, str]) -> None:
    task = nb.Embedder(folders["minilm"], device="cpu")
    assert copy.copy(task) is copy.deepcopy(task) is task
    assert copy.deepcopy([task])[0] is task


def test_options_are_one_value(folders: dict[str, str]) -> None:
    task = nb.Answerer(folders["qa"], device="cpu", max_tokens=40.0)  # type: ignore[arg-type]
    options = task.options
    assert (
        (options.max_tokens, options.too_long, options.stride)
        == (task.max_tokens, task.too_long, task.stride)
        == (40, "window", 128)
    )
    assert (options.device, options.precision, options.batch_tokens) == (task.device, task.precision, task.batch_tokens)
    assert type(options.max_tokens) is int
    assert options.batch_tokens == task.plan.batch_tokens
    assert replace(options, stride=7.0).stride == 7  # type: ignore[arg-type]
    assert task.file_max_tokens == nb.Answerer(folders["qa"], device="cpu").max_tokens
    for wrong, message in (
        ({"max_tokens": options.positions + 1}, "max_tokens must be between 1 and the model's"),
        ({"max_tokens": options.special_tokens}, "leaves no room for text"),
        ({"too_long": "cut"}, "too_long must be"),
        ({"stride": -1}, "stride must be a whole number"),
        ({"batch_tokens": 0}, "batch_tokens must be a whole number"),
    ):
        with pytest.raises(BadInputError, match=message):
            replace(options, **wrong)  # type: ignore[arg-type]


def test_an_option_that_does_not_exist(folders: dict[str, str]) -> None:
    with pytest.raises(
        TypeError, match=r"^Embedder\(\) got an unexpected keyword argument 'max_token': did you mean max_tokens\?$"
    ):
        nb.Embedder(folders["minilm"], max_token=8)  # type: ignore[call-arg]
    for kind, folder, call in CALLS.values():
        task = kind(folders[folder], device="cpu")
        with pytest.raises(
            TypeError, match=r"the call of a task has no keyword argument 'max_token': did you mean max_tokens\?$"
        ):
            call(task, max_token=8)
        with pytest.raises(TypeError, match="no keyword argument 'device': device is given when the task is made"):
            call(task, device="cpu")


def test_names_of_other_libraries(folders: dict[str, str]) -> None:
    embed: Any = nb.Embedder(folders["minilm"], device=torch.device("cpu"), precision=torch.float32)
    assert (embed.device, embed.precision) == ("cpu", "float32")
    for wrong, says in (
        ({"batch_size": 8}, "a batch is as many tokens as batch_tokens= says"),
        ({"show_progress_bar": True}, "it is called progress"),
        ({"convert_to_tensor": True}, "it is called as_tensor"),
        ({"return_tensors": "pt"}, "it is called as_tensor"),
        ({"max_length": 8}, "it is called max_tokens"),
        ({"truncation": True}, "it is called too_long: 'truncate', 'window' or 'error'"),
        ({"torch_dtype": "float16"}, "it is called precision, and given when the task is made"),
        ({"device_map": "auto"}, "it is called device, and given when the task is made"),
        ({"normalize_embeddings": True}, "it is called normalize, and given when the task is made"),
        ({"devcie": "cpu"}, r"did you mean device, which is given when the task is made\?$"),
        ({"candidate_labels": []}, r"'candidate_labels': other tasks have it, under the name labels$"),
    ):
        with pytest.raises(TypeError, match=says):
            embed("a", **wrong)
    for wrong, says in (
        ({"torch_dtype": torch.float16}, "'torch_dtype': it is called precision$"),
        ({"device_map": "auto"}, "it is called device$"),
        ({"normalize_embeddings": True}, "it is called normalize$"),
        ({"show_progress_bar": True}, "it is called progress, and given in the call$"),
        ({"return_tensors": "pt"}, "it is called as_tensor, and given in the call$"),
        ({"prompt_nmae": "query"}, r"did you mean prompt_name, which is given in the call\?$"),
    ):
        with pytest.raises(TypeError, match=says):
            nb.Embedder(folders["minilm"], **wrong)  # type: ignore[arg-type]
    model = nb.load(folders["minilm"], device=torch.device("cpu"), precision=torch.bfloat16)
    assert (model.device.type, model.dtype) == ("cpu", torch.bfloat16)
    with pytest.raises(BadInputError, match=r"no device 'cuda:97'"):
        nb.load(folders["minilm"], device=97)
    for name, says in (
        ("encode", "call the task itself"),
        ("eval", "always in evaluation mode"),
        ("cuda", "pass device= when the task is made"),
        ("half", "pass precision= when the task is made"),
        ("similarty", r"did you mean similarity\?$"),
        ("no_such", r"attribute 'no_such'$"),
    ):
        with pytest.raises(AttributeError, match=says):
            getattr(embed, name)
    with pytest.raises(BadInputError, match="or the number of a GPU, not -1"):
        nb.Embedder(folders["minilm"], device=-1)
    with pytest.raises(BadInputError, match=r"no device 'cuda:97'"):
        nb.Embedder(folders["minilm"], device=97)
    with pytest.raises(BadInputError, match="precision must be one of"):
        nb.Embedder(folders["minilm"], precision=torch.int32)


def test_a_precision_that_was_asked_for_is_not_advised_against(folders: dict[str, str]) -> None:
    class OfFiles(nb.Embedder):
        def _read_settings(self) -> None:
            super()._read_settings()
            self._file_settings = replace(self._file_settings, dtype="bfloat16")

    with pytest.warns(nb.errors.Assumed, match="its files ask for bfloat16, and float32 is computed"):
        OfFiles(folders["minilm"], device="cpu")
    with warnings.catch_warnings(action="error"):
        OfFiles(folders["minilm"], device="cpu", precision="float32")


# -- changed for a call


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "options",
    [{"max_tokens": 20, "too_long": "truncate"}, {"max_tokens": 24, "too_long": "window", "stride": 3}, {"batch_tokens": 40}],
    ids=["truncate", "window", "batch"],
)
def test_a_call_with_options_is_as_of_a_task_made_with_them(
    name: str, options: dict[str, Any], folders: dict[str, str]
) -> None:
    kind, folder, call = CALLS[name]
    task, other = kind(folders[folder], device="cpu"), kind(folders[folder], device="cpu", **options)
    with warnings.catch_warnings(action="ignore", category=Truncated):
        before, expected = call(task), call(other)
        assert same(call(task, **options), expected)
        assert same(call(task, **dict.fromkeys(CALL_OPTIONS)), before)  # None changes nothing
        assert same(call(task), before)
        assert "batch_tokens" in options or not same(expected, before)
    assert task.options == kind(folders[folder], device="cpu").options


@pytest.mark.parametrize("name", CALLS)
def test_options_of_a_call_are_checked_as_those_of_a_task(name: str, folders: dict[str, str]) -> None:
    kind, folder, call = CALLS[name]
    task = kind(folders[folder], device="cpu")
    for wrong in (
        {"max_tokens": 10**6},
        {"max_tokens": 1},
        {"max_tokens": 8.5},
        {"too_long": "cut"},
        {"stride": -1},
        {"batch_tokens": 0},
    ):
        with pytest.raises(BadInputError) as of_call:
            call(task, **wrong)
        with pytest.raises(BadInputError) as of_task:
            kind(folders[folder], device="cpu", **wrong)
        assert str(of_call.value) == str(of_task.value)
    with pytest.raises(TooLongError, match="the limit is 16"):
        call(task, max_tokens=16, too_long="error")


def test_what_else_a_call_may_say(folders: dict[str, str]) -> None:
    classify = nb.Classifier(folders["sentiment"], device="cpu")
    assert same(
        classify.scores(TEXTS, problem="multi"),
        nb.Classifier(folders["sentiment"], device="cpu", problem="multi").scores(TEXTS),
    )
    assert same(
        classify(TEXTS[:1], problem="regression", top_k=None)[0][0]["score"],
        classify.scores(TEXTS, problem="regression")[0].max(),
    )
    with pytest.raises(BadInputError, match="problem must be one of"):
        classify(TEXTS, problem="softmax")
    answer = nb.Answerer(folders["qa"], device="cpu")
    other = nb.Answerer(folders["qa"], device="cpu", max_answer_tokens=2, align_to_words=False)
    assert same(list(answer("Who?", LONG, max_answer_tokens=2, align_to_words=False)), list(other("Who?", LONG)))
    with pytest.raises(BadInputError, match="max_answer_tokens must be a whole number, 1 or more"):
        answer("Who?", LONG, max_answer_tokens=0)
    embed = nb.Embedder(folders["minilm"], device="cpu")
    skipped = embed(TEXTS, prompt="query: ", include_prompt=False)
    assert not same(skipped, embed(TEXTS, prompt="query: "))
    assert same(skipped[2:3], embed(TEXTS[2:3], prompt="query: ", include_prompt=False))
    fill = nb.MaskFiller(folders["mlm"], device="cpu")
    words = [one["token"] for one in fill("[MASK]")[0][0]]
    assert same(
        list(fill("[MASK]", targets=[fill.tokenizer.token_to_id(word) for word in words])), list(fill("[MASK]", targets=words))
    )
    for wrong in (-1, 10**6, 2.5, True):
        with pytest.raises(BadInputError, match=r"a target must be a word or a token id|is not a single token"):
            fill("[MASK]", targets=[wrong])


def test_logits_of_a_ranker(folders: dict[str, str]) -> None:
    rank = nb.Ranker(folders["cross"], device="cpu")
    pairs = [("Who?", text) for text in TEXTS]
    logits, report = rank.logits(pairs, return_report=True)
    assert logits.shape == (len(TEXTS), rank.outputs)
    assert len(report.tokens) == len(TEXTS)
    assert rank.activation == "sigmoid"
    assert np.abs(rank(pairs) - 1 / (1 + np.exp(-logits[:, 0].astype(np.float64)))).max() < 1e-6


def test_states_hold_the_special_tokens(folders: dict[str, str]) -> None:
    task = nb.Embedder(folders["minilm"], device="cpu")
    for text, states, tokens in zip(TEXTS, task.states(TEXTS), task.tokens(TEXTS), strict=True):
        assert len(states) == len(task.tokenizer.encode(text))
        assert np.array_equal(states[1:-1].numpy(), tokens["vectors"])
    (states,), (tokens,) = (
        task.states(LONG[:1], max_tokens=20, too_long="window"),
        task.tokens(LONG[:1], max_tokens=20, too_long="window"),
    )
    assert np.array_equal(states[1:-1].numpy(), tokens["vectors"])
    assert len(states) == len(task.tokenizer.encode(LONG[0]))


# -- batches that the memory does not hold


class Small:
    """A plan on a device that holds so many tokens."""

    def __init__(self, plan: Any, room: int, error: RuntimeError | None = None) -> None:
        self._plan, self._room = plan, room
        self._error = torch.OutOfMemoryError("CUDA out of memory.") if error is None else error
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._plan, name)
        return partial_of(self, value) if name in ("hidden", "states", "pooled", "logits") else value

    def hold(self, tokens: int) -> None:
        self.sizes.append(tokens)
        if tokens > self._room:
            raise self._error


def partial_of(small: Small, method: Callable[..., Any]) -> Callable[..., Any]:
    def run(batch: Any, *args: Any, **more: Any) -> Any:
        small.hold(sum(batch.lengths))
        return method(batch, *args, **more)

    return run


def put_small(task: Any, room: int, error: RuntimeError | None = None) -> Small:
    """Let the task run in so little memory."""
    vars(task)["plan"] = small = Small(task.plan, room, error)
    return small


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("MPS backend out of memory (...)")],
    ids=["cuda", "mps"],
)
def test_a_batch_beyond_the_memory_is_made_smaller(folders: dict[str, str], error: RuntimeError) -> None:
    some = texts(60, 6, seed=4)
    embed = nb.Embedder(folders["minilm"], device="cpu", batch_tokens=400)
    expected = embed(some)
    plan = put_small(embed, 110, error)
    with pytest.warns(SmallerBatches, match=r"400 tokens: they now have at most (\d+), here and in later calls") as told:
        found, report = embed(some, return_report=True)
    assert len(told) == 1
    assert f"at most {embed.batch_tokens}, here" in str(told[0].message)
    assert embed.batch_tokens <= 110
    assert np.array_equal(found, expected)
    assert report.batches == sum(size <= 110 for size in plan.sizes)
    assert sum(size for size in plan.sizes if size <= 110) == report.tokens.sum()
    plan.sizes.clear()
    with warnings.catch_warnings(action="error"):
        assert np.array_equal(embed(some), expected)
    assert max(plan.sizes) <= embed.batch_tokens
    # nor is it forgotten by what is made of the task
    assert copy.deepcopy(embed).batch_tokens == pickle.loads(pickle.dumps(embed)).batch_tokens == embed.batch_tokens
    # a call that asks for more is tried, told and leaves the task as it was
    before = embed.batch_tokens
    with pytest.warns(SmallerBatches, match="300 tokens"):
        assert np.array_equal(embed(some, batch_tokens=300), expected)
    assert max(plan.sizes) > 110
    assert embed.batch_tokens <= before


def test_a_text_beyond_the_memory(folders: dict[str, str]) -> None:
    embed = nb.Embedder(folders["minilm"], device="cpu")
    plan = embed.plan
    put_small(embed, 10)
    with pytest.raises(OutOfMemoryError, match=r"cpu has no room for one text of 1[1-9] tokens: .* lower max_tokens"):
        embed(["the cat sat on the mat the dog sat on", "a"])
    vars(embed)["plan"] = plan
    put_small(embed, 0, RuntimeError("another"))
    with pytest.raises(RuntimeError, match="another"):
        embed(["a"])


def test_threads_leave_the_smallest_batches(folders: dict[str, str]) -> None:
    task, sizes = nb.Embedder(folders["minilm"], device="cpu"), list(range(2000, 100, -1))
    threads = [threading.Thread(target=lambda n=n: [task.shrink_batches(size) for size in sizes[n::4]]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert task.batch_tokens == 101
    task.shrink_batches(5000)
    assert task.batch_tokens == 101


PIPELINE_CALLS: dict[str, tuple[str, Callable[..., Any]]] = {
    "text-classification": ("sentiment", lambda pipe, some, **how: pipe(some, **how)),
    "token-classification": ("ner", lambda pipe, some, **how: pipe(some, **how)),
    "question-answering": (
        "qa",
        lambda pipe, some, **how: pipe([{"question": "Who?", "context": text} for text in some], **how),
    ),
    "fill-mask": ("mlm", lambda pipe, some, **how: pipe([f"{text} [MASK]" for text in some], **how)),
    "feature-extraction": ("bert", lambda pipe, some, **how: pipe(some, **how)),
    "zero-shot-classification": ("nli", lambda pipe, some, **how: pipe(some, candidate_labels=["rain", "travel"], **how)),
    "sentence-similarity": (
        "minilm",
        lambda pipe, some, **how: pipe({"source_sentence": some[0], "sentences": some[1:]}, **how),
    ),
}
# arguments of a call that are options of the native call
WITH: dict[str, dict[str, Any]] = {
    "text-classification": {"truncation": True, "max_length": 30, "function_to_apply": "sigmoid"},
    "token-classification": {"stride": 3, "aggregation_strategy": "first"},
    "question-answering": {"max_seq_len": 40, "doc_stride": 4, "max_answer_len": 3},
    "fill-mask": {"tokenizer_kwargs": {"truncation": True, "max_length": 40}, "targets": ["the"]},
    "feature-extraction": {"truncation": True, "max_length": 30},
}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("with_arguments", [False, True], ids=["plain", "arguments"])
def test_pipelines_remember_smaller_batches(name: str, with_arguments: bool, folders: dict[str, str]) -> None:
    folder, call = PIPELINE_CALLS[name]
    arguments = WITH.get(name, {}) if with_arguments else {}
    some = [text or "?" for text in texts(60, 6, seed=4)]
    pipe = hf.pipeline(name, folders[folder], device="cpu")
    expected = call(pipe, some, **arguments)
    plan = put_small(pipe.native, 110)
    with pytest.warns(SmallerBatches, match="here and in later calls") as told:
        assert call(pipe, some, **arguments) == expected
    assert len(told) == 1
    assert pipe.native.batch_tokens <= 110
    plan.sizes.clear()
    with warnings.catch_warnings(action="error"):
        assert call(pipe, some, **arguments) == expected
        assert call(copy.copy(pipe), some, **arguments) == expected
    assert max(plan.sizes) <= pipe.native.batch_tokens


@pytest.mark.parametrize("kind", ["SentenceTransformer", "CrossEncoder"])
def test_sentence_models_remember_smaller_batches(kind: str, folders: dict[str, str]) -> None:
    some = texts(60, 6, seed=4)
    model: Any = hf.SentenceTransformer(folders["minilm"], device="cpu") if kind == "SentenceTransformer" else None
    model = model or hf.CrossEncoder(folders["cross"], device="cpu")
    run = (
        (lambda: model.encode(some))
        if kind == "SentenceTransformer"
        else lambda: model.predict([(some[0], text) for text in some])
    )
    expected = run()
    put_small(model._native, 110)
    with pytest.warns(SmallerBatches):
        assert np.array_equal(run(), expected)
    with warnings.catch_warnings(action="error"):
        assert np.array_equal(run(), expected)
