"""SentenceTransformer, CrossEncoder and util: equal to sentence-transformers, and what is refused. Programs: test_hf_snippets.py."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hf_checkpoints import make
from models import minilm, one_thread, texts
from test_hf_snippets import same

from nativebert.errors import Assumed, BadInputError, NativeBertError, NativeBertWarning, RefusedError, Truncated
from nativebert.hf import CrossEncoder, SentenceTransformer, SimilarityFunction, sentence_transformers_model, util

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore::FutureWarning")]

SOME = [*texts(20, 20, seed=5), "", "a", "a", "naïve café 東京 😀"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def ours() -> SentenceTransformer:
    return SentenceTransformer(minilm(), device="cpu")


@pytest.fixture(scope="module")
def theirs() -> Any:
    import sentence_transformers

    return sentence_transformers.SentenceTransformer(str(minilm()), device="cpu")


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with one_thread():
        yield


# ---- SentenceTransformer


@pytest.mark.parametrize(
    "given",
    [
        {}, {"convert_to_tensor": True}, {"convert_to_numpy": False}, {"normalize_embeddings": True}, {"truncate_dim": 100},
        {"truncate_dim": 100, "normalize_embeddings": True, "convert_to_tensor": True}, {"prompt": "query: "}, {"prompt_name": "document"},
        {"output_value": "token_embeddings"}, {"batch_size": 3}, {"show_progress_bar": False}, {"device": "cpu"}, {"precision": "float32"},
    ],
    ids=str,
)  # fmt: skip
def test_vectors(ours: SentenceTransformer, theirs: Any, given: dict[str, Any]) -> None:
    for inputs in (SOME, SOME[0], SOME[:1], tuple(SOME[:3]), np.array(SOME[:3])):
        same(ours.encode(inputs, **given), theirs.encode(inputs, **given))
        same(ours.encode_query(inputs, **given), theirs.encode_query(inputs, **given))
        same(ours.encode_document(inputs, **given), theirs.encode_document(inputs, **given))


def test_no_texts(ours: SentenceTransformer, theirs: Any) -> None:
    for given in ({}, {"convert_to_tensor": True}, {"convert_to_numpy": False}, {"output_value": "token_embeddings"}):
        a, b = ours.encode([], **given), theirs.encode([], **given)
        assert type(a) is type(b)
        assert len(a) == 0
        assert np.shape(a) == np.shape(b)


def test_names_of_the_argument(ours: SentenceTransformer) -> None:
    same(ours.encode(sentences=SOME), ours.encode(inputs=SOME))
    same(ours.encode(SOME, None, "query: "), ours.encode(SOME, prompt="query: "))


def test_prompts(folders: dict[str, str]) -> None:
    import sentence_transformers

    given = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "passage"}
    a = SentenceTransformer(minilm(), device="cpu", **given)
    b = sentence_transformers.SentenceTransformer(str(minilm()), device="cpu", **given)
    assert a.prompts == b.prompts
    for method in ("encode", "encode_query", "encode_document"):
        same(getattr(a, method)(SOME[:4]), getattr(b, method)(SOME[:4]))
        same(getattr(a, method)(SOME[:4], prompt_name="query"), getattr(b, method)(SOME[:4], prompt_name="query"))
    same(a.encode(SOME[:4], prompt=""), b.encode(SOME[:4], prompt=""))
    same(
        a.encode(SOME[:4], prompt="", output_value="token_embeddings"),
        b.encode(SOME[:4], prompt="", output_value="token_embeddings"),
    )
    with pytest.warns(NativeBertWarning, match="prompt_name is ignored") as caught:
        same(a.encode("x", prompt="one ", prompt_name="query"), b.encode("x", prompt="one ", prompt_name="query"))
    assert caught[0].filename == __file__
    a.prompts["new"] = "new: "
    same(a.encode("x", prompt_name="new"), b.encode("x", prompt="new: "))
    with pytest.raises(BadInputError, match="no prompt named 'nothing'; it has query, document, passage, new"):
        a.encode("x", prompt_name="nothing")
    with pytest.raises(BadInputError, match="default_prompt_name is 'nothing'"):
        SentenceTransformer(minilm(), default_prompt_name="nothing")


def test_length(theirs: Any) -> None:
    model = SentenceTransformer(minilm(), device="cpu")
    assert (
        model.max_seq_length == model.get_max_seq_length() == model.tokenizer.model_max_length == theirs.max_seq_length == 256
    )
    before = theirs.max_seq_length
    try:
        theirs.max_seq_length = model.max_seq_length = 10
        with pytest.warns(Truncated, match="longer than 10 tokens") as caught:
            found = model.encode(SOME)
        assert caught[0].filename == __file__
        same(found, theirs.encode(SOME))
        with pytest.warns(Truncated) as caught:
            found = model.encode(SOME, output_value="token_embeddings")
        assert caught[0].filename == __file__
        same(found, theirs.encode(SOME, output_value="token_embeddings"))
        same(dict(model.tokenize(SOME)), {k: v for k, v in theirs.preprocess(SOME).items() if k != "modality"})
    finally:
        theirs.max_seq_length = before
    model.max_seq_length = 12.0  # from R
    assert model.max_seq_length == 12
    for wrong in (0, 513, "many", 2):
        with pytest.raises(BadInputError):
            model.max_seq_length = wrong


@pytest.mark.parametrize("measure", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity(ours: SentenceTransformer, theirs: Any, measure: str) -> None:
    import sentence_transformers

    a = SentenceTransformer(minilm(), device="cpu", similarity_fn_name=measure)
    b = sentence_transformers.SentenceTransformer(str(minilm()), device="cpu", similarity_fn_name=measure)
    assert a.similarity_fn_name == b.similarity_fn_name
    x = theirs.encode(SOME) * 3
    for left, right in ((x[:4], x), (torch.tensor(x[:4]), x), (list(x[:4]), x.tolist()), (x[0], x[1])):
        same(a.similarity(left, right), b.similarity(left, right))
    same(a.similarity_pairwise(x[:4], x[4:8]), b.similarity_pairwise(x[:4], x[4:8]))
    same(a.similarity_pairwise(x[0], x[1]).item(), b.similarity_pairwise(x[0], x[1]).item())
    a.similarity_fn_name = SimilarityFunction.DOT_PRODUCT
    assert a.similarity_fn_name == "dot"
    with pytest.raises(BadInputError, match="must be one of cosine"):
        a.similarity_fn_name = "maxsim"


def test_what_it_says_of_itself(ours: SentenceTransformer, theirs: Any) -> None:
    assert ours.get_sentence_embedding_dimension() == ours.get_embedding_dimension() == 384
    assert ours.device == torch.device("cpu") == theirs.device
    assert ours.prompts == theirs.prompts
    assert ours.tokenizer.tokenize("Unbelievable café") == theirs.tokenizer.tokenize("Unbelievable café")
    assert ours.config.hidden_size == theirs.config.hidden_size
    assert ours.dtype == torch.float32
    assert ours.eval() is ours
    assert ours.to("cpu") is ours
    with ours.truncate_embeddings(16):
        assert ours.get_embedding_dimension() == 16
        assert ours.encode("a").shape == (16,)
    assert ours.encode("a").shape == (384,)


def test_number_types(ours: SentenceTransformer) -> None:
    exact = ours.encode(SOME)
    for dtype in (torch.bfloat16, "bfloat16", torch.float16):
        rough = SentenceTransformer(minilm(), device="cpu", model_kwargs={"torch_dtype": dtype}).encode(SOME)
        assert rough.dtype == np.float32
        assert 1e-6 < np.abs(rough - exact).max() < 3e-2
    moved = SentenceTransformer(minilm(), device="cpu").bfloat16()
    moved.max_seq_length = 60
    assert moved.float().max_seq_length == 60
    same(moved.encode(SOME[:3]), exact[:3])


def test_names_without_an_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    from nativebert import hub

    asked: list[str] = []
    real = hub.resolve

    def resolve(name: Any, **options: Any) -> Any:
        asked.append(name)
        return real(minilm())

    monkeypatch.setattr(hub, "resolve", resolve)
    for name in ("paraphrase-MiniLM-L3-v2", "bert-base-uncased", "bert-base-nli-mean-tokens", "all-MiniLM-L6-v2", "a/b"):
        SentenceTransformer(name, device="cpu")
    own = "sentence-transformers/"
    assert asked == [
        f"{own}paraphrase-MiniLM-L3-v2",
        "bert-base-uncased",
        f"{own}bert-base-nli-mean-tokens",
        "all-MiniLM-L6-v2",
        "a/b",
    ]
    from sentence_transformers.util import ORIGINAL_TRANSFORMER_MODELS

    families = ("albert-", "bert-", "camembert-", "distilbert-", "distilroberta-", "roberta-", "xlm-roberta-")
    assert {name for name in ORIGINAL_TRANSFORMER_MODELS if name.startswith(families)} == sentence_transformers_model._BARE


def test_where_models_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from nativebert import hub

    asked: dict[str, Any] = {}

    def resolve(name: Any, **options: Any) -> Any:
        asked.update(options)
        raise RefusedError("enough")

    monkeypatch.setattr(hub, "resolve", resolve)
    with pytest.raises(RefusedError, match="enough"):
        SentenceTransformer("a/b", cache_folder="/there", revision="main", token=True, local_files_only=True)
    assert asked == {"cache_dir": "/there", "revision": "main", "token": None, "offline": True}


def test_an_encoder_without_sentence_files(folders: dict[str, str], tmp_path: Path) -> None:
    import sentence_transformers

    with pytest.warns(Assumed, match="pooling was assumed") as caught:
        model = SentenceTransformer(folders["bert"], device="cpu")
    assert caught[0].filename == __file__
    reference = sentence_transformers.SentenceTransformer(folders["bert"], device="cpu")
    same(model.encode(SOME), reference.encode(SOME))
    assert model.max_seq_length == reference.max_seq_length
    model.prompts["query"] = "query: "
    model.save_pretrained(tmp_path / "saved")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = SentenceTransformer(tmp_path / "saved", device="cpu")
    there = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    for method in ("encode", "encode_query"):
        same(getattr(again, method)(SOME), getattr(model, method)(SOME))
        same(getattr(there, method)(SOME), getattr(model, method)(SOME))


def test_the_length_of_vectors_that_a_folder_asks_for(tmp_path: Path) -> None:
    import sentence_transformers

    model = SentenceTransformer(minilm(), device="cpu", truncate_dim=50)
    model.save(tmp_path / "short")
    assert SentenceTransformer(tmp_path / "short", device="cpu").encode("a").shape == (50,)
    assert sentence_transformers.SentenceTransformer(str(tmp_path / "short"), device="cpu").encode("a").shape == (50,)


def test_a_prompt_that_is_not_pooled(tmp_path: Path) -> None:
    import sentence_transformers

    shutil.copytree(minilm(), tmp_path / "m")
    a = SentenceTransformer(tmp_path / "m", device="cpu")
    b = sentence_transformers.SentenceTransformer(str(tmp_path / "m"), device="cpu")
    a.set_pooling_include_prompt(False)
    b.set_pooling_include_prompt(False)
    same(a.encode(SOME[:4], prompt="query: "), b.encode(SOME[:4], prompt="query: "))


@pytest.mark.parametrize(
    ("make_or_call", "match"),
    [
        (lambda m: m.old_fit, "does not support old_fit: fine-tune with SentenceTransformerTrainer"),
        (lambda m: m.encode_multi_process, "start one process for each"),
        (lambda m: m.start_multi_process_pool, "start one process for each"),
        (lambda m: m.push_to_hub, "upload the folder"),
        (lambda m: m.no_such_thing, "has no 'no_such_thing'"),
    ],
)
def test_attributes_that_are_refused(ours: SentenceTransformer, make_or_call: Any, match: str) -> None:
    with pytest.raises(AttributeError, match=match):
        make_or_call(ours)
    assert not hasattr(ours, "old_fit")


@pytest.mark.parametrize(
    ("make_or_call", "match"),
    [
        (lambda m: SentenceTransformer(), "made from a folder or a name"),
        (lambda m: SentenceTransformer(modules=[1]), r"nativebert\.Embedder\(name, pooling='mean'\)"),
        (lambda m: SentenceTransformer(minilm(), backend="onnx"), "does not support backend='onnx'"),
        (lambda m: SentenceTransformer(minilm(), model_kwargs={"attn_implementation": "flash_attention_2"}), "'eager' or 'sdpa'"),
        (lambda m: SentenceTransformer(minilm(), model_kwargs={"torch_dtype": torch.float64}), "dtype must be one of"),
        (lambda m: SentenceTransformer(minilm(), model_kwargs={"load_in_4bit": True}), "use dtype='bfloat16'"),
        (lambda m: SentenceTransformer(minilm(), tokenizer_kwargs={"padding_side": "left"}), "no argument 'padding_side'"),
        (lambda m: SentenceTransformer(minilm(), config_kwargs={"hidden_size": 3}), "change config.json in a copy"),
        (lambda m: SentenceTransformer(minilm(), use_auth_token="x"), "pass token= instead"),
        (lambda m: SentenceTransformer(minilm(), token=False), "unset HF_TOKEN"),
        (lambda m: SentenceTransformer(minilm(), wrong=1), "SentenceTransformer has no argument 'wrong'"),
        (lambda m: m.encode(["a"], precision="int8"), "does not support precision='int8'"),
        (lambda m: m.encode(["a"], output_value=None), "output_value='sentence_embedding'"),
        (lambda m: m.encode(["a"], device=["cuda:0", "cuda:1"]), "several devices"),
        (lambda m: m.encode(["a"], pool={}), "does not support pool="),
        (lambda m: m.encode(["a"], batch_size=0), "batch_size must be at least 1"),
        (lambda m: m.encode(["a", None]), "text 1"),
        (lambda m: m.encode(None), "texts must be a list"),
        (lambda m: m.encode([["a", "b"]]), "where a single text is expected"),
        (lambda m: m({"input_ids": 1}), "call encode or predict"),
        (lambda m: m[0], "max_seq_length, tokenizer and config are attributes"),
        (lambda m: m.save_pretrained("x", safe_serialization=False), "safetensors only"),
    ],
)  # fmt: skip
def test_what_is_refused(ours: SentenceTransformer, make_or_call: Any, match: str) -> None:
    with pytest.raises(NativeBertError, match=match):
        make_or_call(ours)


# ---- CrossEncoder


PAIRS = [("a cat", "the cat sat"), ("", "a dog"), ("deep learning", "is powerful, is it?"), ("naïve", "東京 " * 30)]


@pytest.mark.parametrize("name", ["cross", "nli", "score"])
@pytest.mark.parametrize(
    "given",
    [
        {}, {"activation_fn": torch.nn.Identity()}, {"activation_fn": torch.nn.Sigmoid()}, {"activation_fn": torch.tanh}, {"apply_softmax": True},
        {"convert_to_tensor": True}, {"convert_to_numpy": False}, {"batch_size": 2, "show_progress_bar": False},
    ],
    ids=["defaults", "Identity", "Sigmoid", "tanh", "apply_softmax", "convert_to_tensor", "convert_to_numpy", "batch_size"],
)  # fmt: skip
def test_scores(folders: dict[str, str], name: str, given: dict[str, Any]) -> None:
    import sentence_transformers

    a, b = CrossEncoder(folders[name], device="cpu"), sentence_transformers.CrossEncoder(folders[name], device="cpu")
    for inputs in (PAIRS, [list(pair) for pair in PAIRS], PAIRS[0], list(PAIRS[0]), PAIRS[:1], np.array(PAIRS)):
        same(a.predict(inputs, **given), b.predict(inputs, **given))
    assert len(a.predict([], **given)) == 0
    same(type(a.predict(PAIRS[0])).__name__, type(b.predict(PAIRS[0])).__name__)


def test_ranks(folders: dict[str, str]) -> None:
    import sentence_transformers

    a, b = (
        CrossEncoder(folders["cross"], max_length=32),
        sentence_transformers.CrossEncoder(folders["cross"], max_length=32, device="cpu"),
    )
    documents = [text for text in SOME if text]
    for given in ({}, {"top_k": 3}, {"return_documents": True, "top_k": 2}, {"activation_fn": torch.nn.Identity()}):
        with pytest.warns(Truncated) as caught:
            found = a.rank("a cat " * 10, documents, **given)
        assert caught[0].filename == __file__
        same(found, b.rank("a cat " * 10, documents, **given))
    assert (
        (a.max_length, a.num_labels, a.config.num_labels) == (b.max_seq_length, b.num_labels, b.config.num_labels) == (32, 1, 1)
    )
    a.max_length = 16
    assert a.max_seq_length == a.tokenizer.model_max_length == 16
    with pytest.raises(BadInputError, match="has 3: use predict"):
        CrossEncoder(folders["nli"]).rank("a", ["b"])


def test_old_names_of_arguments(folders: dict[str, str]) -> None:
    model = CrossEncoder(
        model_name=folders["cross"], default_activation_function=torch.nn.Identity(), tokenizer_args={"model_max_length": 40}
    )
    assert model.default_activation_function is model.activation_fn
    assert model.max_length == 40
    raw = CrossEncoder(folders["cross"], 1, 40, torch.nn.Identity(), "cpu").predict(PAIRS[:3])
    same(model.predict(sentences=PAIRS[:3], num_workers=0), raw)
    same(CrossEncoder(folders["cross"]).predict(PAIRS[:3], activation_fct=torch.nn.Identity()), raw)
    same(model.rank("a", ["b", "c"], convert_to_tensor=True), model.rank("a", ["b", "c"]))


def test_what_is_done_with_outputs_is_read(folders: dict[str, str], tmp_path: Path) -> None:
    """From config.json, or as newer versions write it."""
    import sentence_transformers

    sentence_transformers.CrossEncoder(folders["cross"], activation_fn=torch.nn.Identity(), device="cpu").save_pretrained(
        str(tmp_path / "new")
    )
    shutil.copytree(folders["cross"], tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    config["sbert_ce_default_activation_function"] = "torch.nn.modules.linear.Identity"
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    raw = CrossEncoder(folders["cross"], activation_fn=torch.nn.Identity()).predict(PAIRS)
    for kind in ("old", "new"):
        same(CrossEncoder(tmp_path / kind).predict(PAIRS), raw)
        same(sentence_transformers.CrossEncoder(str(tmp_path / kind), device="cpu").predict(PAIRS), raw)
    CrossEncoder(tmp_path / "new").save_pretrained(tmp_path / "again")
    same(sentence_transformers.CrossEncoder(str(tmp_path / "again"), device="cpu").predict(PAIRS), raw)
    settings = json.loads((tmp_path / "new" / "config_sentence_transformers.json").read_text()) | {"activation_fn": "os.system"}
    (tmp_path / "new" / "config_sentence_transformers.json").write_text(json.dumps(settings))
    with pytest.raises(RefusedError, match=r"os\.system"):
        CrossEncoder(tmp_path / "new")


@pytest.mark.parametrize(
    ("make_or_call", "match"),
    [
        (lambda f: CrossEncoder(f["nli"], num_labels=2), "has 3 outputs, and num_labels=2"),
        (lambda f: CrossEncoder(f["bert"], num_labels=1), "no head for 'classify'"),
        (lambda f: CrossEncoder(f["cross"], max_length=1000), "between 1 and the model's 128"),
        (lambda f: CrossEncoder(f["cross"], prompts={"query": "q"}), "put the prompt before the texts"),
        (lambda f: CrossEncoder(f["cross"]).predict([("a", "b")], prompt="c"), "does not support prompts"),
        (lambda f: CrossEncoder(f["cross"]).predict([("a", "b"), ("a", None)]), "pair 1 must be two strings"),
        (lambda f: CrossEncoder(f["cross"]).predict("text"), "pair 0 must be two strings"),
        (lambda f: CrossEncoder(f["cross"]).predict([("a", "b")], pool={}), "does not support pool="),
        (lambda f: CrossEncoder(f["cross"]).rank("a", 3), "documents must be a list"),
    ],
)
def test_what_is_refused_of_cross_encoders(folders: dict[str, str], make_or_call: Any, match: str) -> None:
    with pytest.raises(NativeBertError, match=match):
        make_or_call(folders)
    with pytest.raises(AttributeError, match=r"fine-tune with .*nativebert.train.rank"):
        CrossEncoder(folders["cross"]).fit  # noqa: B018


# ---- util


def test_similarities_of_util() -> None:
    from sentence_transformers import util as reference

    r = np.random.default_rng(0)
    a, b = r.normal(size=(5, 8)).astype(np.float32), r.normal(size=(7, 8)).astype(np.float32)
    for name in ("cos_sim", "pytorch_cos_sim", "dot_score", "euclidean_sim", "manhattan_sim"):
        for x, y in (
            (a, b),
            (torch.tensor(a), b),
            (a.tolist(), b.tolist()),
            (list(torch.tensor(a)), b),
            (a[0], b[0]),
            (torch.tensor(a).half(), b),
        ):
            same(getattr(util, name)(x, y), getattr(reference, name)(x, y), name)
    for name in ("pairwise_cos_sim", "pairwise_dot_score", "pairwise_euclidean_sim", "pairwise_manhattan_sim"):
        same(getattr(util, name)(a, b[:5]), getattr(reference, name)(a, b[:5]), name)
    same(util.normalize_embeddings(torch.tensor(a)), reference.normalize_embeddings(torch.tensor(a)))
    same(util.truncate_embeddings(a, 3), reference.truncate_embeddings(a, 3))
    assert util.batch_to_device({"a": torch.ones(1), "b": "c"}, "cpu")["b"] == "c"
    assert util.SimilarityFunction.possible_values() == [*reference.SimilarityFunction.possible_values()][:4]


def test_search_and_mining(ours: SentenceTransformer) -> None:
    from sentence_transformers import util as reference

    r = np.random.default_rng(1)
    queries, corpus = (
        torch.tensor(r.normal(size=(9, 16)), dtype=torch.float32),
        torch.tensor(r.normal(size=(300, 16)), dtype=torch.float32),
    )
    for name in ("cos_sim", "dot_score", "euclidean_sim", "manhattan_sim"):
        given = ({"score_function": getattr(module, name), "top_k": 7} for module in (util, reference))
        same(*(module.semantic_search(queries, corpus, **more) for module, more in zip((util, reference), given)))
        given = ({"score_function": getattr(module, name), "top_k": 5, "max_pairs": 50} for module in (util, reference))
        same(*(module.paraphrase_mining_embeddings(corpus, **more) for module, more in zip((util, reference), given)))
    same(
        util.semantic_search(queries[0], corpus.numpy(), top_k=500),
        reference.semantic_search(queries[0], corpus.numpy(), top_k=500),
    )
    assert util.semantic_search(ours.encode(["a", "b"]), ours.encode([])) == [[], []]
    assert util.semantic_search(ours.encode([]), ours.encode(["a"])) == []
    assert util.paraphrase_mining(ours, []) == util.paraphrase_mining(ours, ["a"]) == []
    # of equal scores the reference takes either first: two equal texts have the same neighbours here
    assert [pair[1:] for pair in util.paraphrase_mining(ours, ["a", "b", "a"])] == [[0, 2], [0, 1], [1, 2]]
    with pytest.raises(RefusedError, match="score_function must be one of cos_sim"):
        util.semantic_search(queries, corpus, score_function=torch.matmul)
    with pytest.raises(BadInputError, match="corpus_chunk_size must be at least 1"):
        util.semantic_search(queries, corpus, corpus_chunk_size=0)
    for name in ("http_get", "community_detection", "quantize_embeddings"):
        with pytest.raises(AttributeError, match=f"does not support {name}"):
            getattr(util, name)


def test_bits_do_not_depend_on_company(ours: SentenceTransformer, folders: dict[str, str]) -> None:
    together = ours.encode(SOME)
    assert all(np.array_equal(ours.encode(text), row) for text, row in zip(SOME, together))
    model = CrossEncoder(folders["cross"], device="cpu")
    assert all(model.predict(pair) == score for pair, score in zip(PAIRS, model.predict(PAIRS)))
