"""`nativebert parity` and its report: clean models pass, and each fault is named where it is."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from families import Made
from models import BERT, MINILM_ID, VOCAB, minilm, one_thread, unlike, write_folder
from safetensors.torch import load_file, save_file

import nativebert as nb
from nativebert import cli
from nativebert.errors import BadInputError, NativeBertError
from nativebert.parity import report
from nativebert.parity.check import check
from nativebert.parity.report import Report, Step
from nativebert.pictures.differences import plot

pytestmark = pytest.mark.reference
TEXTS = ["Deep learning is powerful.", "a", "", "The ferry leaves at half past nine, unless the wind is from the west."]
QUERY, KEY, VALUE = (f"encoder.layer.3.attention.self.{name}.weight" for name in ("query", "key", "value"))


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    def call(*argv: object) -> Result:
        capsys.readouterr()
        return Result(cli.main([str(word) for word in argv]), *capsys.readouterr())

    return call


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(text for text in TEXTS if text) + "\n")
    return path


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(minilm(), folder, ignore=shutil.ignore_patterns("*.onnx", "*.bin", "*.h5"))
    return folder


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = {name: t.clone() for name, t in load_file(folder / "model.safetensors").items()}
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def plain_tokenizer(folder: Path) -> None:
    """A tokenizer with the vocabulary of tests, for any family."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(VOCAB)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')


def test_minilm_passes(run: Callable[..., Result], texts: Path, tmp_path: Path) -> None:
    files = ("--json", tmp_path / "r.json", "--plot", tmp_path / "r.png", "-o", tmp_path / "r.html")
    result = run("parity", MINILM_ID, "--texts", texts, *files, "--all")
    assert result.code == 0, result
    assert result.err == ""
    assert "PASS: the same model" in result.out
    for name in ("embeddings", "layers.0", "layers.5.attention", "pooler", "layers.3.attn.q", "layers.5.mlp.down"):
        assert any(line.split()[0] == name for line in result.out.splitlines() if line), name
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "r.html").read_text()
    assert '<div class="verdict"><b>PASS</b>the same model.' in page
    assert page.count('<th scope="row">layers.') == (2 + 8) * 6
    assert page.count(" differs</td>") == page.count('<tr class="bad">') == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["passed"] is True
    facts = found["facts"]
    assert facts["weights sha256"] == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert len(facts["tokenizer sha256"]) == 64
    assert facts["revision"] == "package"
    assert {"torch", "transformers", "nativebert", "tokenizers", "device", "when"} <= facts.keys()
    outputs = [step for step in found["steps"] if step["kind"] == "output"]
    assert len(outputs) == 1 + 2 * 6 + 1
    assert sum(step["kind"] == "operation" for step in found["steps"]) == 1 + 8 * 6
    assert all(step["passed"] and step["max_abs"] <= 1e-5 and step["cosine"] > 1 - 1e-9 for step in outputs)


EVIL = "</title><script>alert(1)</script> & @BODY@ \x1b[31m"


def test_the_page_of_a_failure_names_it_and_runs_nothing(tmp_path: Path) -> None:
    good = Step("layers.0", "output", 2e-6, 2e-7, 3.0, 1.0, 2e-6, 1e-5)
    bad = Step("layers.1", "output", 4e-5, 2e-7, 3.0, 1.0, 2e-6, 1e-5)
    nowhere = Step("pooler", "output", math.nan, math.inf, math.inf, 0.0, 0.0, 0.0)
    wrong = Step("layers.1.attn.q", "operation", 3e-6, 3e-7, 4.0, 1.0, 3e-6, 2e-5, 9e-4, 3e-5)
    found = Report(
        (good, wrong, bad, nowhere), {"layers.1.attn.q.weight": 1e-3}, {"eps": ("1", EVIL)}, (EVIL,), {"model": EVIL}
    )
    found.save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<b>FAIL</b><ul><li>the first operation that diverges is layers.1.attn.q: 9.0e-04 by itself" in page
    assert re.findall(r'<tr class="bad"><th scope="row">([\w.]+)</th>', page) == ["layers.1", "pooler", "layers.1.attn.q"]
    assert '<tr><th scope="row">layers.0</th><td class="number ratio" style="--share: 0.200">0.20</td>' in page
    assert '--share: 1.000">4.00 differs</td>' in page  # 4e-5 of 1e-5
    assert '--share: 1.000">30.00 differs</td>' in page  # by itself, 9e-4 of 3e-5
    assert '--share: 1.000">NaN differs</td>' in page
    assert page.count('class="bar bad"') == 1 + 3  # the key and three columns
    assert "layers.1.attn.q.weight" in page
    assert "script" not in page.replace("&lt;script&gt;", "").replace("&lt;/script&gt;", "")
    assert "\x1b" not in page
    assert page.count("<section>") == 7
    assert not re.search("https?://", page)
    assert "default-src 'none'" in page
    shown = found._repr_html_()
    assert shown is not None
    assert shown.startswith("<iframe srcdoc=")


def test_a_page_of_nothing_and_one_that_cannot_be_written(run: Callable[..., Result], tmp_path: Path) -> None:
    page = Report((), {}, {"width": ("32", "16")}, (), {"model": "a"}).html()
    assert "the two cannot be run on the same tokens" in page
    assert "<svg" not in page
    folder = write_folder(tmp_path / "tiny", BERT)
    for path, says in [("report.pdf", "use one of the extensions .html"), ("no/where/report.html", "no/where")]:
        result = run("parity", folder, "-o", path)
        assert (result.code, result.out) == (2, "")  # told before the work
        assert says in result.err
    same = tmp_path / "report.html"
    assert "--json" in run("parity", folder, "-o", same, "--json", same).err


def test_json_to_standard_output(run: Callable[..., Result], tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiny", BERT)
    result = run("parity", folder, "--json", "-")
    assert result.code == 0, result
    assert json.loads(result.out)["passed"] is True
    assert "PASS" in result.err


def test_bfloat16_passes() -> None:
    found = check(minilm(), texts=TEXTS, dtype="bfloat16")
    assert found.passed, found.verdict()
    assert found.facts["dtype"] == "bfloat16"
    assert found.worst.max_abs > 1e-3  # it was bfloat16


def test_a_perturbed_weight(run: Callable[..., Result], copy: Path, texts: Path, tmp_path: Path) -> None:
    def perturb(tensors: dict[str, torch.Tensor]) -> None:
        tensors[VALUE][17, 5] += 1e-3

    change(copy, perturb)
    result = run("parity", copy, "--against", MINILM_ID, "--texts", texts, "--plot", tmp_path / "p.png")
    assert result.code == 1
    assert "the first operation that diverges is layers.3.attn.v" in result.out
    assert "weights differ: layers.3.attn.v.weight by up to 1.0e-03" in result.out
    assert "layers.2" in result.out
    assert (tmp_path / "p.png").stat().st_size > 1000
    assert run("parity", copy, "--texts", texts).code == 0  # against itself it is the same model


def test_query_and_key_swapped(run: Callable[..., Result], copy: Path, texts: Path) -> None:
    def swap(tensors: dict[str, torch.Tensor]) -> None:
        for leaf in ("weight", "bias"):
            q, k = (name.replace("weight", leaf) for name in (QUERY, KEY))
            tensors[q], tensors[k] = tensors[k], tensors[q]

    change(copy, swap)
    result = run("parity", copy, "--against", MINILM_ID, "--texts", texts)
    assert result.code == 1
    assert "the first operation that diverges is layers.3.attn.q" in result.out
    assert "weights differ: layers.3.attn.k.weight" in result.out


def test_another_eps_in_the_config(run: Callable[..., Result], copy: Path, texts: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-5}))
    result = run("parity", copy, "--against", MINILM_ID, "--texts", texts)
    assert result.code == 1
    assert "the first operation that diverges is embed.norm" in result.out
    assert "settings differ: norm_eps is 1e-05, in the reference 1e-12" in result.out


def _eps(model: Any) -> None:
    model.layers[4].mlp_norm.eps = 1e-5


def _gelu(model: Any) -> None:
    model.layers[2].mlp.act = lambda x: torch.nn.functional.gelu(x, approximate="tanh")


def _weight(model: Any) -> None:
    with torch.no_grad():
        model.layers[3].mlp.up.weight[100, 100] += 1e-3


def _swap(model: Any) -> None:
    attn = model.layers[1].attn
    attn.q, attn.k = attn.k, attn.q


@pytest.mark.parametrize(
    ("fault", "first", "named"),
    [
        (_eps, "layers.4.mlp_norm", "layers.4.mlp_norm.eps is 1e-05, in the reference 1e-12"),
        (_gelu, "layers.2.mlp.down", "layers.2.mlp.down"),  # what comes into it is already wrong
        (_weight, "layers.3.mlp.up", "layers.3.mlp.up.weight by up to 1.0e-03"),
        (_swap, "layers.1.attn.q", "layers.1.attn.q.weight"),
    ],
)
def test_faults_in_memory(fault: Callable[[Any], None], first: str, named: str) -> None:
    model = nb.load(minilm())
    fault(model)
    found = check(model, texts=TEXTS)
    assert not found.passed
    assert found.first is not None
    assert found.first.name == first
    assert named in found.verdict()


def _act(model: Any) -> None:
    model.layers[0].mlp.act = (
        torch.nn.functional.silu if "gelu" in model.config.layers[0].activation else torch.nn.functional.gelu
    )


def _later_eps(model: Any) -> None:
    model.layers[1].mlp_norm.eps = 1e-3


def _one_number(name: str) -> Callable[[Any], None]:
    def fault(model: Any) -> None:
        with torch.no_grad():
            model.get_parameter(name)[-1] += 1e-2 * torch.arange(model.get_parameter(name).shape[-1])

    return fault


# what is done -> the first operation that diverges, and what the verdict names beside it
FAULTS: dict[str, tuple[Callable[[Any], None], str, str]] = {
    "q and k swapped": (_swap, "layers.1.attn.q", "weights differ: layers.1.attn.k.weight"),
    "eps": (_later_eps, "layers.1.mlp_norm", "settings differ: layers.1.mlp_norm.eps is 0.001, in the reference 1e-"),
    "activation": (_act, "layers.0.mlp.down", "layers.0.mlp.down"),  # what comes into it is already wrong
    "up": (_one_number("layers.1.mlp.up.weight"), "layers.1.mlp.up", "weights differ: layers.1.mlp.up.weight by up to"),
    "down": (_one_number("layers.1.mlp.down.weight"), "layers.1.mlp.down", "weights differ: layers.1.mlp.down.weight by up to"),
    "v": (_one_number("layers.2.attn.v.weight"), "layers.2.attn.v", "weights differ: layers.2.attn.v.weight by up to"),
    "o": (_one_number("layers.2.attn.o.weight"), "layers.2.attn.o", "weights differ: layers.2.attn.o.weight by up to"),
}
GATED = {
    "gate": (_one_number("layers.2.mlp.gate.weight"), "layers.2.mlp.gate", "weights differ: layers.2.mlp.gate.weight by up to")
}
# where the scores of positions take the same projections twice, and are not recorded
IN_DEBERTA = {"q and k swapped": "layers.1.attn.o"}


@pytest.fixture(scope="module", params=["mpnet", "modernbert", "nomic_bert", "gte", "deberta-v2", "jina_embeddings_v3"])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A family, and a folder of a tiny model of it that transformers saved."""
    folder = tmp_path_factory.mktemp("other") / "m"
    with one_thread():
        Made(request.param, "Model").model(vocab_size=len(VOCAB), max_position_embeddings=64).save_pretrained(folder)
    plain_tokenizer(folder)
    return request.param, folder


@pytest.mark.parametrize("fault", [*FAULTS, *GATED])
def test_faults_in_other_families(fault: str, other: tuple[str, Path]) -> None:
    family, folder = other
    change, first, named = (FAULTS | GATED)[fault]
    first = IN_DEBERTA.get(fault, first) if family == "deberta-v2" else first
    with one_thread():
        model = nb.load(folder)
        if fault in GATED and not model.config.gated:
            pytest.skip(f"{family} is not gated")
        clean = check(model, texts=TEXTS)
        assert clean.passed, clean.verdict()
        assert {first, "embed.norm"} <= {step.name for step in clean.steps}
        change(model)
        found = check(model, texts=TEXTS)
    assert not found.passed
    assert found.first is not None
    assert found.first.name == first, found.verdict()
    assert named in found.verdict()


def test_another_vocabulary(run: Callable[..., Result], tmp_path: Path) -> None:
    a, b = (write_folder(tmp_path / name, BERT) for name in "ab")
    changed = [*VOCAB]
    one, two = changed.index("cat"), changed.index("dog")
    changed[one], changed[two] = changed[two], changed[one]
    (a / "vocab.txt").write_text("\n".join(changed) + "\n")
    (tmp_path / "t.txt").write_text("the cat sat\nthe mat\n")
    result = run("parity", a, "--against", b, "--texts", tmp_path / "t.txt")
    assert result.code == 1
    assert "token ids differ: 'the cat sat'" in result.out
    assert "the mat" not in result.out


def test_a_smaller_reference_is_a_verdict_and_no_crash(run: Callable[..., Result], tmp_path: Path) -> None:
    a = write_folder(tmp_path / "a", BERT)
    b = write_folder(tmp_path / "b", BERT | {"vocab_size": 20})
    (b / "vocab.txt").write_text("\n".join(VOCAB[:20]) + "\n")
    result = run("parity", a, "--against", b)
    assert result.code == 1
    assert "settings differ: vocab_size" in result.out
    c = write_folder(tmp_path / "c", BERT | {"hidden_size": 16, "num_attention_heads": 2})
    result = run("parity", a, "--against", c)
    assert result.code == 1
    assert "settings differ: width is 32, in the reference 16" in result.out


def _families() -> list[tuple[str, str, dict[str, Any]]]:
    common = {
        "vocab_size": len(VOCAB),
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    }
    common |= {"max_position_embeddings": 60}
    special = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    return [
        ("Bert", "Model", common),
        ("Bert", "ForSequenceClassification", common | {"num_labels": 5}),
        ("Bert", "ForPreTraining", common),
        ("Roberta", "ForTokenClassification", common | {"pad_token_id": 1, "type_vocab_size": 1}),
        ("Electra", "ForMaskedLM", common | {"embedding_size": 24}),
        ("Albert", "ForQuestionAnswering", common | {"embedding_size": 24, "num_hidden_groups": 2, "inner_group_num": 2}),
        ("MPNet", "Model", common),
        ("EuroBert", "ForMaskedLM", common | special | {"num_key_value_heads": 2, "pad_token_id": 0, "mask_token_id": 4}),
        ("Ernie", "ForMaskedLM", common | {"use_task_id": True}),
        ("GPT2", "Model", {"vocab_size": len(VOCAB), "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 60}),
        ("ModernBert", "ForSequenceClassification", common | special | {"local_attention": 6, "pad_token_id": 0}),
        (
            "DistilBert",
            "ForMultipleChoice",
            {"vocab_size": len(VOCAB), "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48},
        ),
    ]


@pytest.mark.parametrize(("family", "kind", "config"), _families(), ids=lambda v: v if isinstance(v, str) else "")
def test_clean_models_of_every_family_pass(family: str, kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    """With no false alarm in any operation."""
    import transformers

    with one_thread():
        model = getattr(transformers, family + kind)(getattr(transformers, f"{family}Config")(**config))
        unlike(model, seed=3)
        model.tie_weights()
        model.save_pretrained(tmp_path)
        plain_tokenizer(tmp_path)
        found = check(tmp_path)
    assert found.passed, found.verdict()
    assert found.first is None
    assert "token ids" not in found.facts
    logits = [step.name for step in found.steps if step.name.startswith("logits.")]
    assert len(logits) == {"Model": 0, "ForPreTraining": 2}.get(kind, 1)
    assert any(step.kind == "operation" for step in found.steps) or kind == "ForMultipleChoice"


def test_extras_that_are_missing(run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "tiny", BERT)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "transformers", None)
        result = run("parity", folder)
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert "pip install 'nativebert[parity]'" in result.err
    found = check(folder)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(NativeBertError, match=r"nativebert\[plot\]"):
            plot(found.steps, "tiny", tmp_path / "x.png")
    with pytest.raises(BadInputError, match="unknown format of"):
        plot(found.steps, "tiny", tmp_path / "x.nothing")


def test_the_former_names_of_the_comparison() -> None:
    assert report.check is check
    with pytest.raises(AttributeError, match="'plod'"):
        report.plod  # noqa: B018
