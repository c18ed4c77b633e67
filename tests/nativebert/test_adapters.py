"""Adapters for tasks of jina-embeddings-v3, in the files of its first release, against its own way to compute them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models import TINY, VOCAB, one_thread, write_folder
from safetensors.torch import load_file, save_file

import nativebert as nb
from nativebert import cli, hf
from nativebert.adapters import Product
from nativebert.arch import read_config
from nativebert.errors import BadInputError, CorruptError, NotFoundError, RefusedError
from nativebert.hub import resolve
from nativebert.inspect import inspect
from nativebert.nn.packed import Packed
from nativebert.parity.check import check
from weights_map import torch as views

TASKS = ["retrieval.query", "retrieval.passage", "separation", "classification", "text-matching"]
INSTRUCTIONS = dict.fromkeys(TASKS, "") | {"retrieval.query": "the cat: ", "retrieval.passage": "a mat: "}
RANK, ALPHA, WIDTH, HEADS, LAYERS, INNER = 3, 2.0, 32, 4, 2, 48
# as jinaai/jina-embeddings-v3 has it, but for the sizes
CONFIG: dict[str, Any] = {
    "architectures": ["XLMRobertaModel"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 0, "classifier_dropout": None,
    "auto_map": {"AutoModel": "jinaai/xlm-roberta-flash-implementation--modeling_lora.XLMRobertaLoRA"}, "emb_pooler": "mean", "eos_token_id": 2,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": WIDTH, "initializer_range": 0.02, "intermediate_size": INNER,
    "layer_norm_eps": 1e-5, "load_trained_adapters": True, "lora_adaptations": TASKS, "lora_alpha": ALPHA, "lora_dropout_p": 0.0,
    "lora_main_params_trainable": False, "lora_rank": RANK, "matryoshka_dimensions": [8, 16, 32], "max_position_embeddings": 40,
    "model_type": "xlm-roberta", "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "output_past": True, "pad_token_id": 1,
    "position_embedding_type": "rotary", "rotary_emb_base": 20000.0, "task_instructions": INSTRUCTIONS, "torch_dtype": "bfloat16",
    "transformers_version": "4.30.2", "truncate_dim": None, "type_vocab_size": 1, "use_cache": True, "use_flash_attn": True,
    "vocab_size": len(VOCAB),
}  # fmt: skip
SENTENCES = ["the cat sat on the mat", "a dog", "deep learning is powerful, the cat is on the mat.", "?"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def jina_tensors(seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    """Random weights with an adapter for each task, under the names of the Hub's file."""
    g = torch.Generator().manual_seed(seed)

    def random(*shape: int, std: float = 0.3) -> torch.Tensor:
        return (std * torch.randn(shape, generator=g)).to(dtype)

    tensors = {}
    tables = {"embeddings.word_embeddings": (len(VOCAB), WIDTH), "embeddings.token_type_embeddings": (1, WIDTH)}
    linears, norms = {"pooler.dense": (WIDTH, WIDTH)}, ["emb_ln"]
    for n in range(LAYERS):
        at = f"encoder.layers.{n}"
        linears |= {f"{at}.mixer.Wqkv": (3 * WIDTH, WIDTH), f"{at}.mixer.out_proj": (WIDTH, WIDTH)}
        linears |= {f"{at}.mlp.fc1": (INNER, WIDTH), f"{at}.mlp.fc2": (WIDTH, INNER)}
        norms += [f"{at}.norm1", f"{at}.norm2"]
    for name, (rows, columns) in {**tables, **linears}.items():
        pair = f"roberta.{name}.parametrizations.weight"
        tensors[f"{pair}.original"] = random(rows, columns)
        a, b = ((rows, RANK), (RANK, columns)) if name in tables else ((RANK, columns), (rows, RANK))
        tensors |= {f"{pair}.0.lora_A": random(len(TASKS), *a), f"{pair}.0.lora_B": random(len(TASKS), *b)}
        if name in linears:
            tensors[f"roberta.{name}.bias"] = random(rows)
    for name in norms:
        tensors |= {f"roberta.{name}.weight": 1 + random(WIDTH, std=0.2), f"roberta.{name}.bias": random(WIDTH)}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def reference(tensors: dict[str, torch.Tensor], ids: list[int], task: str | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states ``(l, H)`` and the pooler's output of one sequence, in float64: ``modeling_lora.py`` and the modules it wraps, which add
    the pair of a task to a weight in each forward pass."""
    t = {name.removeprefix("roberta."): value.double() for name, value in tensors.items()}

    def weight(name: str) -> torch.Tensor:
        original = t[f"{name}.parametrizations.weight.original"]
        if task is None:
            return original
        a, b = (t[f"{name}.parametrizations.weight.0.lora_{part}"][TASKS.index(task)] for part in "AB")
        return original + (a @ b if name.startswith("embeddings") else b @ a) * (ALPHA / RANK)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (WIDTH,), t[f"{name}.weight"], t[f"{name}.bias"], 1e-5)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, weight(name), t[f"{name}.bias"])

    def rotate(x: torch.Tensor) -> torch.Tensor:  # (l, A, D)
        half = x.shape[-1] // 2
        steps = 1.0 / 20000.0 ** (torch.arange(0, 2 * half, 2).float() / (2 * half))
        angles = torch.outer(torch.arange(len(ids)).float(), steps)[:, None]  # float32, as everywhere
        cos, sin, first, second = angles.cos(), angles.sin(), x[..., :half], x[..., half:]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    x = norm(weight("embeddings.word_embeddings")[ids] + weight("embeddings.token_type_embeddings")[0], "emb_ln")
    for n in range(LAYERS):
        at = f"encoder.layers.{n}"
        q, k, v = linear(x, f"{at}.mixer.Wqkv").view(len(ids), 3, HEADS, -1).unbind(1)
        scores = torch.einsum("qad,kad->aqk", rotate(q), rotate(k)) / (WIDTH / HEADS) ** 0.5
        mixed = torch.einsum("aqk,kad->qad", scores.softmax(-1), v).reshape(len(ids), WIDTH)
        x = norm(x + linear(mixed, f"{at}.mixer.out_proj"), f"{at}.norm1")
        x = norm(x + linear(F.gelu(linear(x, f"{at}.mlp.fc1")), f"{at}.mlp.fc2"), f"{at}.norm2")
    return x, torch.tanh(linear(x[0], "pooler.dense"))


@pytest.fixture
def jina(tmp_path: Path) -> Path:
    """A model in the files of the Hub."""
    folder = write_folder(tmp_path / "jina", CONFIG, jina_tensors())
    kinds = {
        "": "custom_st.Transformer",
        "1_Pooling": "sentence_transformers.models.Pooling",
        "2_Normalize": "sentence_transformers.models.Normalize",
    }
    modules = [{"idx": n, "name": str(n), "path": path, "type": kind} for n, (path, kind) in enumerate(kinds.items())]
    modules[0]["kwargs"] = ["task"]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True})
    )
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": INSTRUCTIONS, "default_prompt_name": None})
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 40, "do_lower_case": False}))
    return folder


@pytest.mark.parametrize("task", [None, *TASKS])
def test_the_numbers_of_a_task_are_those_of_its_adapter(jina: Path, task: str | None) -> None:
    tensors = load_file(jina / "model.safetensors")
    rows = [[0, 7, 9, 30, 2], [0, 2], [0, *range(5, 40), 2]]
    exact = nb.load(jina, adapter=task, precision="float64")
    output = exact.encode(Packed.of(rows))
    assert (
        output.hidden - torch.cat([reference(tensors, row, task)[0] for row in rows])
    ).abs().max() <= 1e-6  # queries and keys are turned in float32
    assert exact.pool is not None
    ids = torch.tensor([rows[0]])
    assert (
        exact(ids).pooler_output[0] - reference(tensors, rows[0], task)[1]
    ).abs().max() <= 1e-6  # queries and keys are turned in float32
    assert (exact.adapter, exact.restructured) == (task, task is not None)


@pytest.mark.parametrize("task", [None, "retrieval.query", "separation"])
def test_an_embedder_of_a_task(jina: Path, task: str | None) -> None:
    embed = nb.Embedder(jina, task=task, device="cpu")
    assert (embed.task, embed.tasks, embed.normalize) == (task, tuple(TASKS), True)
    before = INSTRUCTIONS[task] if task else ""
    tensors = load_file(jina / "model.safetensors")
    expected = []
    for text in SENTENCES:
        hidden, _ = reference(tensors, embed.tokenizer.ids_batch([before + text]).ids[0], task)
        expected.append(F.normalize(hidden.mean(0), dim=0))
    assert np.abs(embed(SENTENCES) - torch.stack(expected).numpy()).max() <= 1e-6
    assert np.array_equal(embed(SENTENCES, prompt=before), embed(SENTENCES))
    assert (task is None) == (not repr(embed).count("task="))
    assert np.array_equal(pickle.loads(pickle.dumps(embed))(SENTENCES), embed(SENTENCES))
    loaded = nb.Embedder(nb.load(jina, adapter=task), device="cpu")  # a model knows its task
    assert np.array_equal(loaded(SENTENCES), embed(SENTENCES))
    assert np.array_equal(pickle.loads(pickle.dumps(loaded))(SENTENCES), embed(SENTENCES))


def test_the_prompt_of_a_task_gives_way_to_that_of_a_call(jina: Path) -> None:
    embed = nb.Embedder(jina, task="retrieval.query", device="cpu")
    plain = embed(SENTENCES, prompt="")
    assert not np.array_equal(plain, embed(SENTENCES))
    assert np.array_equal(embed(SENTENCES, prompt_name="separation"), plain)  # its instruction is empty; the adapter stays
    other = nb.Embedder(jina, task="retrieval.passage", device="cpu")
    assert np.abs(other(SENTENCES, prompt="") - plain).max() > 0.05


def test_tasks_that_there_are_not(jina: Path, tmp_path: Path) -> None:
    with pytest.raises(
        BadInputError, match=r"no adapter for the task 'query'; it has retrieval.query, retrieval.passage, separation, "
    ):
        nb.Embedder(jina, task="query")
    with pytest.raises(BadInputError, match="has no adapters for tasks, so task='query' means nothing"):
        nb.Embedder(write_folder(tmp_path / "m", TINY["bert"]), task="query", pooling="mean")
    with pytest.raises(BadInputError, match=r"a loaded model was passed: nb.load\(..., adapter='separation'\)"):
        nb.Embedder(nb.load(jina), task="separation")


def test_each_weight_is_rounded_once(jina: Path) -> None:
    tensors, model = load_file(jina / "model.safetensors"), nb.load(jina, adapter="separation")
    name = "roberta.encoder.layers.1.mixer.Wqkv.parametrizations.weight"
    a, b = (tensors[f"{name}.0.lora_{part}"][2].double() for part in "AB")
    exact = tensors[f"{name}.original"].double() + ALPHA / RANK * (b @ a)
    attn = model.layers[1].attn
    assert torch.equal(torch.cat([attn.q.weight, attn.k.weight, attn.v.weight]), exact.float())
    half = nb.load(jina, adapter="separation", precision="bfloat16")
    assert torch.equal(half.layers[1].attn.q.weight, exact[:WIDTH].bfloat16())


def test_a_large_table_is_merged_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(0)
    weight, a, b = (torch.randn(shape, generator=g) for shape in ((50, 6), (50, 2), (2, 6)))
    exact = (weight.double() + 0.3 * (a.double() @ b.double())).float()
    monkeypatch.setattr("nativebert.adapters.PRODUCT_ELEMENTS", 42)
    assert torch.equal(Product(views.view(a), views.view(b), 0.3).onto(weight, torch.float32), exact)
    turned = Product(views.view(b.T.contiguous()), views.view(a.T.contiguous()), 0.3, transposed=True)
    assert turned.shape == (50, 6)
    assert torch.equal(turned.onto(weight, torch.float32), exact)


def test_without_a_task_the_file_is_saved_as_it_is(jina: Path, tmp_path: Path) -> None:
    model = nb.load(jina)
    assert model.config.unread == ()
    assert model.ledger is not None
    assert {row.status for row in model.ledger.rows} == {"loaded", "split", "carried"}
    model.save(tmp_path / "again")
    for name in ("model.safetensors", "config.json", "modules.json"):
        assert (tmp_path / "again" / name).read_bytes() == (jina / name).read_bytes()


def test_a_merged_model_is_saved_as_an_ordinary_one(jina: Path, tmp_path: Path) -> None:
    embed = nb.Embedder(jina, task="retrieval.query", device="cpu")
    nb.load(jina, adapter="retrieval.query").save(tmp_path / "again")
    again = nb.Embedder(tmp_path / "again", device="cpu")
    assert (again.tasks, again.config.default_prompt) == ((), "retrieval.query")
    assert np.array_equal(again(SENTENCES), embed(SENTENCES))
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert (config["model_type"], config["dtype"], config["rope_parameters"]["rope_theta"]) == (
        "jina_embeddings_v3",
        "float32",
        20000.0,
    )
    assert not [key for key in config if "lora" in key]
    assert read_config(config)[1].unread == ()


@pytest.mark.reference
def test_transformers_loads_a_merged_model(jina: Path, tmp_path: Path) -> None:
    nb.load(jina, adapter="retrieval.passage").save(tmp_path / "again")
    report = check(tmp_path / "again", texts=SENTENCES)
    assert report.passed, report
    with pytest.raises(RefusedError, match=r"adapter.*save it, and check that folder"):
        check(nb.load(jina, adapter="separation"))
    with pytest.raises(RefusedError, match="transformers has no class for these files"):
        check(jina)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"lora_rank": 2}, CorruptError, "at lora_rank 2 of config.json"),
        ({"lora_adaptations": TASKS[:4]}, CorruptError, "must be floats of 4 tasks"),
        ({"lora_adaptations": ["a", "a"]}, CorruptError, "must be names"),
        ({"task_instructions": {"separation": 3}}, CorruptError, "a text for each"),
        ({"rotary_emb_interleaved": True}, RefusedError, "neighbouring numbers"),
        ({"rotary_emb_scale_base": 512}, RefusedError, "scaled by distance"),
        ({"truncate_dim": 8}, RefusedError, "pass truncate_dim="),
    ],
)
def test_files_that_do_not_fit_are_refused(jina: Path, changes: dict[str, Any], error: type[Exception], says: str) -> None:
    (jina / "config.json").write_text(json.dumps(CONFIG | changes))
    with pytest.raises(error, match=says):
        nb.load(jina, adapter="separation")


def test_files_without_the_adapters_of_their_config(jina: Path) -> None:
    tensors = load_file(jina / "model.safetensors")
    kept = {name.replace("parametrizations.weight.original", "weight"): t for name, t in tensors.items() if "lora_" not in name}
    save_file(kept, jina / "model.safetensors")
    assert nb.load(jina).adapter is None
    with pytest.raises(NotFoundError, match="holds none: take the files of the original model"):
        nb.load(jina, adapter="separation")
    save_file(
        {name: t for name, t in tensors.items() if not name.endswith("fc2.parametrizations.weight.0.lora_B")},
        jina / "model.safetensors",
    )
    with pytest.raises(
        NotFoundError,
        match=r"no roberta.encoder.layers.0.mlp.fc2.parametrizations.weight.0.lora_B, a part of the adapter for 'separation'",
    ):
        nb.load(jina, adapter="separation")


def test_inspect_lists_the_tasks(jina: Path) -> None:
    found = inspect(resolve(jina))
    assert found.problems == ()
    assert found.facts["encoder"]["adapters for tasks"] == TASKS


def test_the_command_line_says_which_task(jina: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(SENTENCES))
    embed = ["embed", str(tmp_path / "texts.txt"), "-m", str(jina), "--device", "cpu", "-o", str(tmp_path / "v.npy")]
    assert cli.main([*embed, "--task", "retrieval.query"]) == 0
    assert "task     retrieval.query\n" in capsys.readouterr().out
    expected = nb.Embedder(jina, task="retrieval.query", device="cpu")(SENTENCES)
    assert np.array_equal(np.load(tmp_path / "v.npy"), expected)
    assert json.loads((tmp_path / "v.npy.json").read_text())["task"] == "retrieval.query"
    assert cli.main(embed) == 0
    assert "none, so the model without an adapter; it has retrieval.query, retrieval.passage" in capsys.readouterr().out
    assert cli.main([*embed, "--task", "query"]) == 2
    assert "has no adapter for the task 'query'; it has" in capsys.readouterr().err


def test_by_the_calls_of_sentence_transformers(jina: Path, tmp_path: Path) -> None:
    """As the model's own module does there: a task chooses the adapter, and only a prompt's name the prompt."""
    model = hf.SentenceTransformer(jina, device="cpu", trust_remote_code=True)
    query, passage = (nb.Embedder(jina, task=f"retrieval.{kind}", device="cpu") for kind in ("query", "passage"))
    assert np.array_equal(model.encode(SENTENCES), nb.Embedder(jina, device="cpu")(SENTENCES))
    assert np.array_equal(model.encode(SENTENCES, task="retrieval.query"), query(SENTENCES, prompt=""))
    both = model.encode(SENTENCES, task="retrieval.passage", prompt_name="retrieval.passage")
    assert np.array_equal(both, passage(SENTENCES))
    assert np.array_equal(model.encode(SENTENCES), nb.Embedder(jina, device="cpu")(SENTENCES))  # no call changes the next
    with pytest.raises(BadInputError, match="no adapter for the task 'query'"):
        model.encode(SENTENCES, task="query")
    half = model.to(torch.bfloat16).encode(SENTENCES, task="retrieval.query")
    expected = nb.Embedder(jina, task="retrieval.query", device="cpu", precision="bfloat16")(SENTENCES, prompt="")
    assert np.array_equal(half, expected)
    usual = hf.SentenceTransformer(jina, device="cpu", model_kwargs={"default_task": "retrieval.query"})
    assert usual.default_prompt_name is None
    assert np.array_equal(usual.encode(SENTENCES), query(SENTENCES, prompt=""))
    assert np.array_equal(usual.encode(SENTENCES, task="retrieval.passage"), passage(SENTENCES, prompt=""))
    usual.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (jina / "model.safetensors").read_bytes()


def test_by_the_calls_of_transformers(jina: Path) -> None:
    """The model without an adapter, as there."""
    model, ids = hf.AutoModel.from_pretrained(jina, dtype=torch.float32), torch.tensor([[0, 7, 9, 30, 2]])
    assert isinstance(model, hf.JinaEmbeddingsV3Model)
    expected, _ = reference(load_file(jina / "model.safetensors"), ids[0].tolist(), None)
    with torch.no_grad():
        assert (model(ids).last_hidden_state[0] - expected).abs().max() <= 1e-5


def test_search_takes_an_adapter_for_texts_and_one_for_queries(
    jina: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(SENTENCES))
    query, passage = (nb.Embedder(jina, task=f"retrieval.{kind}", device="cpu") for kind in ("query", "passage"))
    search = [
        "search",
        str(tmp_path / "texts.txt"),
        "-m",
        str(jina),
        "--device",
        "cpu",
        "--query",
        "the cat",
        "--query-task",
        "retrieval.query",
    ]
    assert cli.main([*search, "--task", "retrieval.passage", "-o", str(tmp_path / "hits.jsonl")]) == 0
    assert "retrieval.passage for texts, retrieval.query for queries" in capsys.readouterr().out
    hits = [json.loads(line) for line in (tmp_path / "hits.jsonl").read_text().splitlines()]
    scores = (query(["the cat"]) @ passage(SENTENCES).T)[0]
    assert [hit["index"] for hit in hits] == np.argsort(-scores, kind="stable").tolist()
    np.testing.assert_allclose([hit["score"] for hit in hits], np.sort(scores)[::-1], rtol=1e-6)
    embed = ["embed", str(tmp_path / "texts.txt"), "-m", str(jina), "--device", "cpu", "--task", "retrieval.passage", "--quiet"]
    assert cli.main([*embed, "-o", str(tmp_path / "v.npy")]) == 0
    again = [*search, "--vectors", str(tmp_path / "v.npy"), "--quiet", "-o", str(tmp_path / "again.jsonl")]
    assert cli.main(again) == 0
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "hits.jsonl").read_bytes()
    assert cli.main([*again, "--task", "separation"]) == 2
    assert (
        "a different task: retrieval.passage in the file, separation in this command; use --task retrieval.passage"
        in capsys.readouterr().err
    )
