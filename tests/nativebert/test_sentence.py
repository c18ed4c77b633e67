"""Sentence-transformers folders: what they say is read in every style, what cannot be honoured is refused.

And the vectors are those of sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import BERT, DISTILBERT, write_folder

import nativebert as nb
from nativebert import sentence
from nativebert.errors import Assumed, CorruptError, RefusedError
from nativebert.hub import Snapshot, resolve
from nativebert.sentence import Dense

ST = "sentence_transformers.models"
TEXTS = [
    "the cat sat on the mat",
    "a dog",
    "",
    "deep learning is powerful, the cat is on the mat. the dog sat!",
    "?",
    "cats",
]


def snapshot(folder: Path) -> Snapshot:
    return Snapshot(str(folder), folder, None, None, "folder")


def put(folder: Path, name: str, content: Any) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def saved(folder: Path, *modules: tuple[str, Any], **files: Any) -> Snapshot:
    """A folder with these modules, ``(type, config)``, and other files by their stems."""
    folder.mkdir(exist_ok=True)
    listed = []
    for place, (kind, config) in enumerate(modules):
        name = "" if kind.endswith("Transformer") else f"{place}_{kind.rpartition('.')[2]}"
        listed.append({"idx": place, "name": str(place), "path": name, "type": kind if "." in kind else f"{ST}.{kind}"})
        if config is not None:
            put(folder, f"{name}/config.json", config)
    put(folder, "modules.json", listed)
    for stem, content in files.items():
        put(folder, f"{stem}.json", content)
    return snapshot(folder)


TRANSFORMER: tuple[str, Any] = ("Transformer", None)
MEAN: tuple[str, Any] = ("Pooling", {"pooling_mode": "mean"})
DENSE = {"in_features": 4, "out_features": 3, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
NARROW = {"in_features": 3, "out_features": 5, "bias": False, "activation_function": "torch.nn.modules.linear.Identity"}
OLD = {f"pooling_mode_{flag}": False for flag in ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens")}


# ---- reading


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({**OLD, "pooling_mode_mean_tokens": True}, ("mean",)),
        ({**OLD, "pooling_mode_cls_token": True}, ("cls",)),
        ({**OLD, "pooling_mode_max_tokens": True}, ("max",)),
        ({**OLD, "pooling_mode_mean_sqrt_len_tokens": True}, ("mean_sqrt_len_tokens",)),
        ({**OLD, "pooling_mode_weightedmean_tokens": True}, ("weightedmean",)),
        ({**OLD, "pooling_mode_lasttoken": True}, ("lasttoken",)),
        # several: in the order of sentence-transformers, not of the file
        (dict.fromkeys([*reversed(OLD)][1:], True), ("cls", "max", "mean")),
        (OLD, ("mean",)),
        ({"pooling_mode": "cls"}, ("cls",)),
        ({"pooling_mode": ["mean", "cls"]}, ("mean", "cls")),
        ({"pooling_mode": "max", **OLD, "pooling_mode_mean_tokens": True}, ("max",)),
        ({"pooling_mode": "lasttoken", "embedding_dimension": 32}, ("lasttoken",)),
    ],
)  # fmt: skip
def test_pooling(tmp_path: Path, config: dict[str, Any], pooling: tuple[str, ...]) -> None:
    read = sentence.read(saved(tmp_path, TRANSFORMER, ("Pooling", config)))
    assert read.pooling == pooling
    assert read.include_prompt
    assert not read.assumed
    assert not sentence.read(saved(tmp_path, TRANSFORMER, ("Pooling", {**config, "include_prompt": False}))).include_prompt


def test_all_that_a_folder_says(tmp_path: Path) -> None:
    read = sentence.read(
        saved(
            tmp_path,
            TRANSFORMER,
            MEAN,
            ("Dense", DENSE),
            ("Dropout", {"dropout": 0.1}),
            ("sentence_transformers.base.modules.normalize.Normalize", None),
            ("Dense", {**DENSE, **NARROW}),
            sentence_bert_config={"max_seq_length": 17, "do_lower_case": True},
            config_sentence_transformers={
                "prompts": {"q": "query: ", "d": ""}, "default_prompt_name": "q", "similarity_fn_name": "dot",
            },
        )
    )  # fmt: skip
    assert read.then == (Dense("2_Dense", 4, 3, True, "tanh"), "normalize", Dense("5_Dense", 3, 5, False, "linear"))
    assert (read.max_tokens, read.lowercase, read.similarity) == (17, True, "dot")
    assert read.prompts == {"q": "query: ", "d": ""}
    assert read.default_prompt == "q"


def test_what_is_not_said(tmp_path: Path) -> None:
    read = sentence.read(saved(tmp_path, TRANSFORMER, MEAN, sentence_bert_config={"do_lower_case": None}))
    assert (read.max_tokens, read.lowercase, read.prompts, read.default_prompt) == (None, False, {}, None)
    assert (read.similarity, read.then) == ("cosine", ())


def test_no_modules(tmp_path: Path) -> None:
    read = sentence.read(snapshot(tmp_path))
    assert read.pooling == ("mean",)
    assert "no modules.json" in read.assumed[0]
    folder = write_folder(tmp_path / "tiny", BERT)
    with pytest.warns(Assumed, match="pooling was assumed"):
        nb.Embedder(folder, device="cpu")
    nb.Embedder(folder, device="cpu", pooling="cls")  # no warning, which would be an error here


@pytest.mark.parametrize("family", ["roberta", "distilbert", "xlm-roberta"])
def test_limits_under_the_names_of_old_versions(tmp_path: Path, family: str) -> None:
    where = saved(tmp_path, TRANSFORMER, MEAN, **{f"sentence_{family}_config": {"max_seq_length": 11}})
    assert sentence.read(where).max_tokens == 11
    put(tmp_path, "sentence_bert_config.json", {"max_seq_length": 12})  # the first of them counts, as in the reference
    assert sentence.read(where).max_tokens == 12


NEW = {  # as version 6 writes it
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}


@pytest.mark.parametrize(
    ("modules", "files", "kind", "message"),
    [
        ([TRANSFORMER, ("WeightedLayerPooling", {})], {}, RefusedError, "module of type 'WeightedLayerPooling'"),
        ([TRANSFORMER, MEAN, ("evil.Normalize", {})], {}, RefusedError, "module of type 'evil.Normalize'"),
        ([("Router", {})], {}, RefusedError, "module of type 'Router'"),
        ([MEAN, TRANSFORMER], {}, RefusedError, "has Pooling as module 0"),
        ([TRANSFORMER, ("Dense", DENSE), MEAN], {}, RefusedError, "has Dense as module 1"),
        ([TRANSFORMER, MEAN, MEAN], {}, RefusedError, "has Pooling as module 2"),
        ([TRANSFORMER], {}, RefusedError, "no Pooling module"),
        ([], {}, RefusedError, "no Pooling module"),
        ([TRANSFORMER, ("Pooling", {"pooling_mode": "median"})], {}, RefusedError, "1_Pooling.*median.*knows cls"),
        ([TRANSFORMER, ("Pooling", {"pooling_mode": 3})], {}, RefusedError, "pooling 3"),
        ([TRANSFORMER, ("Pooling", {"pooling_mode": []})], {}, RefusedError, "pooling"),
        ([TRANSFORMER, ("Pooling", {})], {}, CorruptError, "1_Pooling/config.json says nothing about how to pool"),
        ([TRANSFORMER, ("Pooling", None)], {}, CorruptError, "says nothing about how to pool"),
        ([TRANSFORMER, ("Pooling", [1])], {}, CorruptError, "instead of a JSON dict"),
        ([TRANSFORMER, ("Pooling", {**OLD, "pooling_mode_cls_token": "false"})], {}, CorruptError, "must be true or false"),
        ([TRANSFORMER, ("Pooling", {"pooling_mode": "cls", "include_prompt": 0})], {}, CorruptError, "include_prompt"),
        ([TRANSFORMER, MEAN, ("Dense", {**DENSE, "in_features": "4"})], {}, CorruptError, "in_features"),
        ([TRANSFORMER, MEAN, ("Dense", {**DENSE, "out_features": 0})], {}, CorruptError, "out_features"),
        ([TRANSFORMER, MEAN, ("Dense", {**DENSE, "bias": "no"})], {}, CorruptError, "'bias' must be true or false"),
        ([TRANSFORMER, MEAN, ("Dense", {**DENSE, "activation_function": "os.system"})], {}, RefusedError, "os.system"),
        ([TRANSFORMER, MEAN, ("Dense", {**DENSE, "activation_function": "torch.nn.PReLU"})], {}, RefusedError, "PReLU"),
        ([TRANSFORMER, MEAN, ("Dense", {**DENSE, "use_residual": "yes"})], {}, CorruptError, "residual"),
        ([TRANSFORMER, MEAN, ("Dense", {**DENSE, "activation_function": "torch.nn.Softmax"})], {}, RefusedError, "Softmax"),
        ([TRANSFORMER, MEAN, ("Dense", {**DENSE, "scale": 2.0})], {}, RefusedError, "2_Dense/config.json.*'scale', which is 2.0"),
        ([TRANSFORMER, MEAN, ("Normalize", {"p": 1})], {}, RefusedError, "2_Normalize.*'p'"),
        ([TRANSFORMER, MEAN, ("LayerNorm", {"dimension": 4, "eps": 0.1})], {}, RefusedError, "2_LayerNorm.*'eps'"),
        ([TRANSFORMER, ("Pooling", {**OLD, "pooling_mode_median": True})], {}, RefusedError, "1_Pooling.*'pooling_mode_median'"),
        ([TRANSFORMER, ("Pooling", {**OLD, "skip_special_tokens": True})], {}, RefusedError, "'skip_special_tokens'"),
        ([TRANSFORMER, MEAN, ("Dense", {**DENSE, "module_input_name": "token_embeddings"})], {}, RefusedError, "input_name"),
        ([TRANSFORMER, MEAN, ("Dense", {**DENSE, "module_output_name": "other"})], {}, RefusedError, "output_name"),
        ([TRANSFORMER, MEAN, ("Normalize", {"module_input_name": "token_embeddings"})], {}, RefusedError, "input_name"),
        ([TRANSFORMER, MEAN], {"sentence_bert_config": {"max_seq_length": "128"}}, CorruptError, "max_seq_length"),
        ([TRANSFORMER, MEAN], {"sentence_bert_config": {"max_seq_length": 0}}, CorruptError, "max_seq_length"),
        ([TRANSFORMER, MEAN], {"sentence_bert_config": {"max_seq_length": True}}, CorruptError, "max_seq_length"),
        ([TRANSFORMER, MEAN], {"sentence_bert_config": {"do_lower_case": "false"}}, CorruptError, "do_lower_case"),
        ([TRANSFORMER, MEAN], {"sentence_bert_config": {**NEW, "transformer_task": "fill-mask"}}, RefusedError, "fill-mask"),
        ([TRANSFORMER, MEAN], {"sentence_bert_config": {**NEW, "module_output_name": "x"}}, RefusedError, "module_output"),
        ([TRANSFORMER, MEAN], {"sentence_bert_config": {**NEW, "processing_kwargs": {"text": {}}}}, RefusedError, "process"),
        (
            [TRANSFORMER, MEAN],
            {"sentence_bert_config": {"modality_config": {"text": {"method_output_name": "pooler_output"}}}},
            RefusedError,
            "pooler_output",
        ),
        *[
            ([TRANSFORMER, MEAN], {"sentence_bert_config": {name: {key: value}}}, kind, message)
            for name, key, value, kind, message in (
                ("tokenizer_args", "truncation_side", "left", RefusedError, "tokenizer_args sets truncation_side to 'left'"),
                ("tokenizer_args", "padding_side", "left", RefusedError, "padding_side"),
                ("processor_kwargs", "mask_token", "[X]", RefusedError, "processor_kwargs sets mask_token"),
                ("tokenizer_args", "do_lower_case", "no", CorruptError, "do_lower_case is 'no'"),
                ("tokenizer_args", "model_max_length", 0, CorruptError, "model_max_length is 0"),
                ("model_args", "num_hidden_layers", 1, RefusedError, "model_args sets num_hidden_layers to 1"),
                ("model_kwargs", "quantization_config", {"bits": 4}, RefusedError, "quantization_config"),
                ("model_args", "dtype", "float8", RefusedError, "dtype"),
                ("model_args", "attn_implementation", "sparse", RefusedError, "attn_implementation"),
                ("config_args", "num_hidden_layers", 1, RefusedError, "config_args sets num_hidden_layers to 1"),
                ("config_kwargs", "hidden_act", "relu", RefusedError, "config_kwargs sets hidden_act"),
            )
        ],
        ([TRANSFORMER, MEAN], {"sentence_bert_config": {"tokenizer_args": ["x"]}}, CorruptError, "must be an object"),
        ([TRANSFORMER, MEAN], {"sentence_bert_config": {"query_expansion": {"length": 32}}}, RefusedError, "'query_expansion'"),
        ([TRANSFORMER, MEAN], {"sentence_bert_config": {"document_length": 9}}, RefusedError, "'document_length'"),
        ([TRANSFORMER, MEAN], {"config_sentence_transformers": {"query_prefix": "[Q] "}}, RefusedError, "'query_prefix'"),
        ([TRANSFORMER, MEAN], {"config_sentence_transformers": {"model_type": "SparseEncoder"}}, RefusedError, "SparseEncoder"),
        ([TRANSFORMER, MEAN], {"config_sentence_transformers": {"prompts": {"q": 1}}}, CorruptError, "prompts"),
        ([TRANSFORMER, MEAN], {"config_sentence_transformers": {"prompts": ["q"]}}, CorruptError, "prompts"),
        ([TRANSFORMER, MEAN], {"config_sentence_transformers": {"default_prompt_name": "q"}}, CorruptError, "are none"),
        ([TRANSFORMER, MEAN], {"config_sentence_transformers": {"similarity_fn_name": "l3"}}, RefusedError, "'l3'"),
        ([TRANSFORMER, MEAN], {"modules": {"path": ""}}, CorruptError, "instead of a JSON list"),
        ([TRANSFORMER, MEAN], {"modules": ["Pooling"]}, CorruptError, "must be a list of objects"),
        ([TRANSFORMER, MEAN], {"modules": [{"path": 3, "type": f"{ST}.Pooling"}]}, CorruptError, "path 3 is not a string"),
        ([TRANSFORMER, MEAN], {"modules": [{"path": "0_T", "type": f"{ST}.Transformer"}]}, RefusedError, "subfolder '0_T'"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, modules: Any, files: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        sentence.read(saved(tmp_path, *modules, **files))


def test_what_asks_for_nothing_passes(tmp_path: Path) -> None:
    extra = {
        "model_args": {"trust_remote_code": True, "attn_implementation": "sdpa", "torch_dtype": "auto"},
        "tokenizer_args": {"trust_remote_code": True, "use_fast": True, "padding_side": "right"},
        "config_args": {"trust_remote_code": True, "hidden_act": "gelu"}, "unpad_inputs": True, "query_length": None,
    }  # fmt: skip
    pooling = ("Pooling", {"pooling_mode": "cls", "pooling_mode_median": False, "word_embedding_dimension": 32})
    whole = {"requirements": ["transformers>=5"], "keep_in_fp32_modules": ["classifier"]}
    folder = saved(tmp_path, TRANSFORMER, pooling, sentence_bert_config=extra, config_sentence_transformers=whole, config=BERT)
    assert sentence.read(folder).transformer == sentence.TransformerConfig()


def test_names_of_prompts_that_stand_for_none(tmp_path: Path) -> None:
    read = sentence.read(
        saved(tmp_path, TRANSFORMER, MEAN, config_sentence_transformers={"prompts": {"query": None, "d": "a "}})
    )
    assert read.prompts == {"query": "", "d": "a "}
    for name in ("query", "document"):
        read = sentence.read(saved(tmp_path, TRANSFORMER, MEAN, config_sentence_transformers={"default_prompt_name": name}))
        assert (read.default_prompt, read.prompts) == (name, {name: ""})


def test_the_new_style_is_read(tmp_path: Path) -> None:
    assert sentence.read(saved(tmp_path, TRANSFORMER, MEAN, sentence_bert_config=NEW)).pooling == ("mean",)


@pytest.mark.parametrize("path", ["../outside", "/etc", "a/../../outside", "..", "C:\\x"])
@pytest.mark.parametrize("kind", ["Pooling", "Dense", "Normalize"])
def test_no_way_out_of_the_folder(tmp_path: Path, path: str, kind: str) -> None:
    folder = write_folder(tmp_path / "m", BERT)
    put(tmp_path, "outside/config.json", {"pooling_mode": "cls", **DENSE})
    modules = [TRANSFORMER, MEAN] if kind != "Pooling" else [TRANSFORMER]
    saved(folder, *modules)
    listed = json.loads((folder / "modules.json").read_text())
    put(folder, "modules.json", [*listed, {"path": path, "type": f"{ST}.{kind}"}])
    with pytest.raises(RefusedError, match="outside its folder"):
        sentence.read(snapshot(folder))
    with pytest.raises(RefusedError, match="outside its folder"):
        resolve(str(folder))


# ---- the vectors of sentence-transformers


def reference(folder: Path, model: dict[str, Any], *modules: Any, **options: Any) -> Path:
    """A folder that sentence-transformers itself saves, around a tiny model."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    limit = options.pop("max_seq_length", None)
    first = Transformer(str(write_folder(folder / "encoder", model)), max_seq_length=limit)
    SentenceTransformer(modules=[first, *modules], device="cpu", **options).save(str(folder / "model"))
    return folder / "model"


def both(folder: Path, texts: list[str] = TEXTS, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(folder), device="cpu").encode(texts, **options)
    return nb.Embedder(folder, device="cpu")(texts, **options), theirs


def same(vectors: tuple[np.ndarray, np.ndarray]) -> bool:
    ours, theirs = vectors
    assert ours.shape == theirs.shape
    return bool(np.abs(ours - theirs).max() <= 1e-6 * max(1.0, np.abs(theirs).max()))


def pooling(mode: Any, **options: Any) -> Any:
    from sentence_transformers.sentence_transformer.modules import Pooling

    return Pooling(32, mode, **options)


def dense(inward: int, outward: int, seed: int = 0, **options: Any) -> Any:
    from sentence_transformers.base.modules import Dense as Theirs

    torch.manual_seed(seed)
    return Theirs(inward, outward, **options)


def normalize() -> Any:
    from sentence_transformers.base.modules import Normalize

    return Normalize()


@pytest.mark.reference
@pytest.mark.parametrize(
    "mode",
    [
        "mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken",
        ("mean", "cls"), ("lasttoken", "max", "mean"),
    ],
    ids=str,
)  # fmt: skip
def test_pooling_and_prompts_as_in_the_reference(tmp_path: Path, mode: Any) -> None:
    prompts = {"q": "the dog is ", "none": ""}
    folder = reference(tmp_path, BERT, pooling(mode, include_prompt=False), prompts=prompts)
    plain = both(folder)
    assert same(plain)
    assert same(both(folder, prompt_name="none"))
    left_out = both(folder, prompt_name="q")
    assert same(left_out)
    config = json.loads((folder / "1_Pooling" / "config.json").read_text())
    put(folder, "1_Pooling/config.json", {**config, "include_prompt": True})
    pooled = both(folder, prompt="the dog is ")
    assert same(pooled)
    if mode != "lasttoken":  # [SEP] is the last token in either case
        assert np.abs(pooled[0] - left_out[0]).max() > 1e-3
    assert np.abs(pooled[0] - plain[0]).max() > 1e-3


@pytest.mark.reference
@pytest.mark.parametrize("activation", sentence.DENSE_ACTIVATIONS)
def test_dense_as_in_the_reference(tmp_path: Path, activation: str) -> None:
    make = getattr(torch.nn, activation)
    layers = dense(32, 24, activation_function=make()), dense(24, 5, 1, bias=False, activation_function=make())
    assert same(both(reference(tmp_path, BERT, pooling("mean"), *layers)))


@pytest.mark.reference
@pytest.mark.parametrize("outward", [32, 20])
@pytest.mark.parametrize("activation", ["Tanh", "ELU"])
def test_a_residual_as_in_the_reference(tmp_path: Path, outward: int, activation: str) -> None:
    layer = dense(32, outward, use_residual=True, activation_function=getattr(torch.nn, activation)())
    folder = reference(tmp_path, BERT, pooling("mean"), layer)
    assert same(both(folder))
    embed = nb.Embedder(folder, device="cpu")
    assert np.array_equal(embed(TEXTS)[1:2], embed(TEXTS[1]))


CASED = ["The Emile CAT sat.", "The \u00c9mile CAT sat.", "deep LEARNING"]


@pytest.mark.reference
@pytest.mark.parametrize("where", ["tokenizer_args", "processor_kwargs"])
@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": False}, {"strip_accents": False}, {"do_lower_case": False, "strip_accents": True}, {"model_max_length": 5},
        {"tokenize_chinese_chars": False}, {"do_lower_case": True, "trust_remote_code": True},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::nativebert.errors.Truncated", "ignore::nativebert.errors.Assumed")
def test_settings_of_the_tokenizer_are_followed(tmp_path: Path, where: str, settings: dict[str, Any]) -> None:
    folder = reference(tmp_path, BERT, pooling("mean"))
    put(folder, "sentence_bert_config.json", {"max_seq_length": 20, where: settings})
    assert same(both(folder, CASED))
    sizes = {"max_seq_length": 9, "processor_kwargs": {"model_max_length": 6}}
    put(folder, "sentence_bert_config.json", sizes)
    assert same(both(folder, CASED))


def test_a_number_type_that_the_files_ask_for_is_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", BERT)
    saved(folder, TRANSFORMER, MEAN, sentence_bert_config={"model_args": {"torch_dtype": "torch.bfloat16"}})
    with pytest.warns(Assumed, match="ask for bfloat16, and float32 is computed"):
        nb.Embedder(folder, device="cpu")
    nb.Embedder(folder, device="cpu", precision="bfloat16")


@pytest.mark.reference
@pytest.mark.parametrize("last", [True, False], ids=["normalize-last", "normalize-first"])
def test_order_of_dense_and_normalize(tmp_path: Path, last: bool) -> None:
    from sentence_transformers.sentence_transformer.modules import Dropout

    layers = [dense(64, 8), Dropout(0.5), normalize()] if last else [normalize(), dense(64, 8)]
    ours, theirs = both(reference(tmp_path, DISTILBERT, pooling(("cls", "mean")), *layers))
    assert same((ours, theirs))
    assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6) == last


@pytest.mark.reference
def test_layer_norm_as_in_the_reference(tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import LayerNorm

    layer = LayerNorm(32)
    torch.nn.init.normal_(layer.norm.weight)
    torch.nn.init.normal_(layer.norm.bias)
    folder = reference(tmp_path, BERT, pooling("mean"), layer, dense(32, 6))
    assert same(both(folder))
    assert [type(step).__name__ for step in nb.Embedder(folder, device="cpu").steps] == ["LayerNorm", "Dense"]


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore::nativebert.errors.Truncated")
def test_default_prompt_and_limit(tmp_path: Path) -> None:
    prompts = {"q": "the cat: ", "d": "a "}
    folder = reference(tmp_path, BERT, pooling("mean"), prompts=prompts, default_prompt_name="q", max_seq_length=9)
    default, other, none = both(folder), both(folder, prompt_name="d"), both(folder, prompt="")
    assert same(default)
    assert same(other)
    assert same(none)
    assert np.abs(default[0] - other[0]).max() > 1e-3
    put(folder, "sentence_bert_config.json", {"max_seq_length": 7, "do_lower_case": False})  # as older versions wrote it
    shorter = both(folder)
    assert same(shorter)
    assert np.abs(shorter[0] - default[0]).max() > 1e-3


@pytest.mark.reference
def test_lower_case_before_a_cased_vocabulary(tmp_path: Path) -> None:
    folder = reference(tmp_path, BERT, pooling("mean"))
    (folder / "tokenizer.json").unlink()
    put(folder, "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": False})
    (folder / "vocab.txt").write_bytes((tmp_path / "encoder" / "vocab.txt").read_bytes())
    shouted = [text.upper() for text in TEXTS]
    put(folder, "sentence_bert_config.json", {"max_seq_length": 20, "do_lower_case": True})
    lowered = both(folder, shouted)
    assert same(lowered)
    put(folder, "sentence_bert_config.json", {"max_seq_length": 20, "do_lower_case": False})
    kept = both(folder, shouted)
    assert same(kept)
    assert np.abs(lowered[0] - kept[0]).max() > 1e-3


@pytest.mark.reference
def test_vectors_are_shortened_as_the_files_or_the_caller_say(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = write_folder(tmp_path / "m", BERT)
    mean = ("Pooling", {"word_embedding_dimension": 32, "pooling_mode": "mean"})
    saved(folder, TRANSFORMER, mean, ("Normalize", None), config_sentence_transformers={"truncate_dim": 12})
    embed, theirs = nb.Embedder(folder, device="cpu"), SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    assert embed.dimension == 12
    np.testing.assert_allclose(embed(TEXTS), theirs, atol=1e-6)
    whole = nb.Embedder(folder, device="cpu", truncate_dim=1000)
    assert whole.dimension == 32
    assert np.array_equal(whole(TEXTS)[:, :12], embed(TEXTS))
    short = nb.Embedder(folder, device="cpu", truncate_dim=5, normalize=True)(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("written", [0, -3, True, "12", 1.5])
def test_a_strange_truncate_dim_is_told(written: Any, tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="'truncate_dim' must be a whole number above 0"):
        sentence.read(saved(tmp_path / "m", TRANSFORMER, MEAN, config_sentence_transformers={"truncate_dim": written}))
