"""``nativebert.hf``'s models and configs: what transformers returns for the same folder and arguments, on every cell."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from families import EVERY, RENAMED, STEM, VARIANTS, Batch, Made, their_state
from models import ELSEWHERE, TINY, masks, minilm, one_thread, write_folder

import nativebert
import nativebert.hf as hf
from nativebert.errors import BadInputError, NativeBertError, RefusedError, TooLongError

pytestmark = pytest.mark.reference
TOLERANCE = 2e-5  # both are float32, each within 1e-5 of the truth
CASES = [
    (made, mask)
    for made in EVERY
    for mask in ("short", "right", "left", "holes", "none")
    if (str(made), mask) != ("modernbert_biased-ForMultipleChoice", "none")  # transformers itself fails there: it wants a mask
]
HEADS = [made for made in EVERY if made.end != "Model"]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folders that transformers saved, and the model they were saved from; each made once."""
    root, known = tmp_path_factory.mktemp("hf"), {}

    def get(made: Made) -> tuple[Path, Any]:
        if made not in known:
            two = {"num_labels": 2} if made.end == "ForPreTraining" else {}  # else ALBERT's loss fails in transformers
            known[made] = root / str(made), made.model(**two)
            known[made][1].save_pretrained(known[made][0])
        return known[made]

    return get


def named(made: Made) -> str:
    return STEM[made.family] + made.end


def close(ours: Any, theirs: Any, what: str) -> None:
    if isinstance(theirs, tuple):
        assert len(ours) == len(theirs), what
        for number, (a, b) in enumerate(zip(ours, theirs)):
            close(a, b, f"{what}[{number}]")
        return
    assert ours.shape == theirs.shape, what
    assert ours.dtype == theirs.dtype, what
    known = ~theirs.isnan()  # ModernBERT, padding cells that see padding only
    assert not ours[known].isnan().any(), what
    worst = float((ours - theirs)[known].abs().max()) if bool(known.any()) else 0.0
    assert worst <= TOLERANCE * max(1.0, float(theirs[known].abs().max()) if bool(known.any()) else 1.0), f"{what}: {worst}"


def given(made: Made, mask: str) -> dict[str, torch.Tensor]:
    batch = Batch.of(made)
    arguments = batch.given()
    if mask == "none":
        arguments.pop("attention_mask")
    elif mask != "short":
        arguments["attention_mask"] = masks(*batch.ids.shape)[mask]
    if made.tasks == ("choose",):
        arguments = {name: value.view(-1, 2, value.shape[-1]) for name, value in arguments.items()}
    return arguments


@pytest.mark.parametrize(("made", "mask"), CASES, ids=str)
def test_outputs_are_those_of_transformers_on_every_cell(made: Made, mask: str, folder_of: Any) -> None:
    folder, theirs = folder_of(made)
    ours = getattr(hf, named(made)).from_pretrained(folder)
    assert not ours.training
    arguments = given(made, mask)
    for steps in (True, False):
        if made.family != "mpnet":  # it has eager attention alone
            theirs.set_attn_implementation("eager" if steps else "sdpa")
        with torch.no_grad():
            a = ours(**arguments, output_hidden_states=steps, output_attentions=steps)
            b = theirs(**arguments, output_hidden_states=steps, output_attentions=steps)
        assert type(a).__name__ == type(b).__name__
        assert list(a.keys()) == list(b.keys())
        for name in b:
            close(a[name], b[name], name)
            assert a[name] is getattr(a, name)
        assert len(a.to_tuple()) == len(b.to_tuple()) == len(a[:])
        assert a[0] is a[next(iter(a))]
        assert a.hidden_states is None or steps
    with torch.no_grad():  # sdpa, as transformers loads a model
        c, d = ours(**arguments, return_dict=False), theirs(**arguments, return_dict=False)
    close(c, d, "tuple")


def targets(made: Made, arguments: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    ids = arguments["input_ids"]
    rows, length = ids.shape[0], ids.shape[-1]
    tokens = torch.randint(0, 5, ids.shape, generator=g)
    tokens[:, ::3] = -100
    classes = torch.randint(0, 5 if made.end == "ForSequenceClassification" else 2, (rows,), generator=g)
    if made.end == "ForQuestionAnswering":
        starts = torch.tensor([1, length + 5, 0, 3])[:rows, None]  # one beyond the tokens, and the shape with a last 1
        return {"start_positions": starts, "end_positions": torch.tensor([2, 4, length, 3])[:rows]}
    if made.end == "ForPreTraining":
        sentences = dict.fromkeys(("bert", "ernie"), "next_sentence_label") | {"albert": "sentence_order_label"}
        second = sentences.get(made.family)
        labels = (ids % 2) if made.family == "electra" else tokens
        return {"labels": labels} | ({second: classes} if second else {})
    return {"labels": tokens if made.end in ("ForMaskedLM", "ForTokenClassification") else classes}


@pytest.mark.parametrize("made", HEADS, ids=str)
def test_losses_and_their_gradients(made: Made, folder_of: Any) -> None:
    folder, theirs = folder_of(made)
    theirs = copy.deepcopy(theirs)
    if made.family != "mpnet":
        theirs.set_attn_implementation("sdpa")
    ours = getattr(hf, named(made)).from_pretrained(folder)
    arguments = given(made, "short")
    wanted = targets(made, arguments)
    a, b = ours(**arguments, **wanted), theirs(**arguments, **wanted)
    assert list(a.keys()) == list(b.keys())
    assert next(iter(a)) == "loss"
    torch.testing.assert_close(a.loss, b.loss, rtol=1e-5, atol=1e-5)
    a.loss.backward()
    b.loss.backward()
    found: dict[str, list[torch.Tensor | None]] = {}
    pieces = {name for name in dict(ours.named_parameters()) if name.rpartition(".")[2].isdigit()}
    for name, parameter in sorted(ours.named_parameters()):  # pieces of one tensor in their order
        found.setdefault(name.rpartition(".")[0] if name in pieces else name, []).append(parameter.grad)
    assert set(found) <= set(their_state(theirs))  # of tied ones, XLM-RoBERTa lists the other
    reference = their_state(theirs, gradients=True)
    assert made.family in RENAMED or len(found) == len(dict(theirs.named_parameters()))
    for name, grads in found.items():
        if name not in reference:
            assert all(grad is None or not grad.any() for grad in grads), name
            continue
        joined = torch.cat([grad for grad in grads if grad is not None])
        torch.testing.assert_close(joined, reference[name], rtol=1e-3, atol=3e-5, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize(
    ("count", "problem", "dtype"),
    [(5, None, torch.long), (5, None, torch.int), (5, None, torch.float), (1, None, torch.float), (5, "regression", torch.float),
     (5, "multi_label_classification", torch.float), (5, "single_label_classification", torch.long)],
)  # fmt: skip
def test_the_problem_is_told_by_the_labels(count: int, problem: str | None, dtype: torch.dtype, tmp_path: Path) -> None:
    made = Made("bert", "ForSequenceClassification")
    theirs = made.model(num_labels=count, problem_type=problem)
    theirs.save_pretrained(tmp_path)
    ours = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    arguments = given(made, "short")
    rows = arguments["input_ids"].shape[0]
    labels = torch.tensor([1, 0, 2, 1])[:rows]
    if dtype == torch.float and count > 1:
        labels = torch.rand(rows, count, generator=torch.Generator().manual_seed(0))
    wanted = labels.to(dtype).long() if dtype == torch.int else labels.to(dtype)
    a, b = ours(**arguments, labels=wanted), theirs(**arguments, labels=wanted)
    torch.testing.assert_close(a.loss, b.loss, rtol=1e-5, atol=1e-6)
    assert ours.config.problem_type == theirs.config.problem_type
    a.loss.backward()


@pytest.mark.parametrize("family", sorted(TINY.keys() - ELSEWHERE))
def test_configs_have_the_values_of_transformers(family: str, tmp_path: Path) -> None:
    settings = dict(TINY[family])
    settings.pop("architectures")
    for extra in (
        {},
        {"id2label": {"0": "A", "1": "B", "2": "C"}, "label2id": {"A": 0, "B": 1, "C": 2}, "problem_type": "regression"},
    ):
        (tmp_path / "config.json").write_text(json.dumps(settings | extra | {"something_else": 3, "torch_dtype": "float32"}))
        ours, theirs = hf.AutoConfig.from_pretrained(tmp_path), transformers.AutoConfig.from_pretrained(tmp_path)
        assert type(ours).__name__ == type(theirs).__name__
        for key, value in theirs.to_dict().items():
            if key not in ("transformers_version", "_name_or_path", "dtype", "use_bidirectional_attention"):
                assert getattr(ours, key) == value, key
        for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_labels", "model_type", "use_return_dict"):
            assert getattr(ours, key) == getattr(theirs, key), key
        assert str(ours.dtype).endswith("float32")
        (tmp_path / "again").mkdir(exist_ok=True)
        ours.save_pretrained(tmp_path / "again")
        again = transformers.AutoConfig.from_pretrained(tmp_path / "again").to_dict()
        assert {k: v for k, v in again.items() if k != "_name_or_path"} == {
            k: v for k, v in theirs.to_dict().items() if k != "_name_or_path"
        }
    kind = type(hf.AutoConfig.from_pretrained(tmp_path)).__name__
    assert {k: v for k, v in getattr(hf, kind)().to_dict().items() if k != "dtype"}.items() <= {
        **getattr(transformers, kind)().to_dict()
    }.items() or family in ("modernbert", "nomic_bert")


def test_config_changes_what_it_may(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    Made("distilbert", "ForSequenceClassification").model().save_pretrained(folder)
    config = hf.DistilBertConfig.from_pretrained(folder, output_hidden_states=True)
    assert (config.hidden_size, config.dim, config.num_labels) == (32, 32, 5)
    config.id2label = dict(enumerate("abcde"))
    config.label2id = {name: number for number, name in config.id2label.items()}
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder, config=config)
    assert model.config.id2label[4] == "e"
    assert len(model(torch.tensor([[2, 5, 3]])).hidden_states) == 4
    model.save_pretrained(tmp_path / "saved")
    assert transformers.AutoConfig.from_pretrained(tmp_path / "saved").id2label[4] == "e"
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    relabelled = hf.AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=5.0, id2label=dict(enumerate("vwxyz"))
    )
    assert relabelled.config.id2label[0] == "v"
    config.n_layers = 1
    with pytest.raises(RefusedError, match="n_layers=1"):
        hf.AutoModel.from_pretrained(folder, config=config)
    small = hf.DistilBertConfig(vocab_size=60, dim=32, n_heads=4, hidden_dim=48, max_position_embeddings=30)
    with pytest.raises(RefusedError, match="n_layers=6"):
        hf.AutoModel.from_pretrained(folder, config=small)
    with pytest.raises(BadInputError, match="AutoConfig"):
        hf.AutoModel.from_pretrained(folder, config={"n_layers": 3})
    assert hf.AutoModel.from_pretrained(folder, config=model.config).config.id2label[4] == "e"
    with pytest.raises(AttributeError, match="hiden_size"):
        _ = config.hiden_size
    with pytest.raises(BadInputError, match="DistilBertConfig"):
        hf.BertConfig.from_pretrained(folder)
    with pytest.raises(BadInputError, match="has no 'n_layer'"):
        hf.AutoConfig.from_pretrained(folder, n_layer=3)
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config  # what a test may do


@pytest.mark.parametrize("made", [Made("bert", "ForMaskedLM"), Made("modernbert biased", "ForTokenClassification"),
                                  Made("albert", "ForPreTraining"), Made("roberta", "Model")], ids=str)  # fmt: skip
def test_weights_have_the_names_of_transformers(made: Made, folder_of: Any, tmp_path: Path) -> None:
    folder, theirs = folder_of(made)
    ours = getattr(hf, named(made)).from_pretrained(folder)
    state, reference = ours.state_dict(), theirs.state_dict()
    assert set(state) == set(reference)
    assert all(torch.equal(state[name], reference[name]) for name in reference)
    assert ours.num_parameters() == theirs.num_parameters()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    other = getattr(hf, named(made)).from_pretrained(folder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    theirs = copy.deepcopy(theirs)
    theirs.load_state_dict(other.state_dict())
    assert not ours.load_state_dict(other.state_dict()).missing_keys
    arguments = given(made, "none")
    close(ours(**arguments)[0], theirs(**arguments)[0], "after loading")
    with pytest.raises(RuntimeError, match="unknown \\['x'\\]"):
        ours.load_state_dict({**state, "x": torch.zeros(1)})
    ours.save_pretrained(tmp_path)
    again = type(theirs).from_pretrained(tmp_path)
    close(ours(**arguments)[0], again(**arguments)[0], "after saving")


@pytest.mark.parametrize("made", [Made("bert", "ForSequenceClassification"), Made("modernbert biased", "Model")], ids=str)
def test_a_module_that_holds_a_model_loads_by_the_names_of_transformers(made: Made, folder_of: Any) -> None:
    folder, theirs = folder_of(made)
    model = getattr(hf, named(made)).from_pretrained(folder)
    ours, reference = torch.nn.ModuleDict({"encoder": model}), torch.nn.ModuleDict({"encoder": copy.deepcopy(theirs)})
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.mul_(1.5)
    state = reference.state_dict()
    assert set(ours.state_dict()) == set(state)
    if made.family == "bert":  # ModernBERT's Wqkv is three parts
        assert [n for n, _ in ours.named_parameters()] == [f"encoder.{n}" for n, _ in model.named_parameters()]
        assert {n for n, _ in ours.named_parameters()} == {n for n, _ in reference.named_parameters()}
    else:
        assert len(dict(ours.named_parameters())) == len(list(model.parameters()))
    ours.load_state_dict(state)
    assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())
    gone = next(iter(state))
    changed = {name: value * 2 for name, value in state.items() if name != gone} | {"encoder.x": torch.zeros(1)}
    with pytest.raises(RuntimeError, match=f"Missing key.*{gone}"):
        ours.load_state_dict(changed)
    found = ours.load_state_dict(changed, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == ([gone], ["encoder.x"])
    after = ours.state_dict()
    assert all(torch.equal(value, state[name] if name == gone else changed[name]) for name, value in after.items())
    assert torch.nn.Dropout in {type(part) for part in model.modules()}


def test_a_part_of_a_checkpoint_is_the_part_that_transformers_takes(folder_of: Any) -> None:
    folder, _ = folder_of(Made("bert", "ForPreTraining"))
    for end in ("ForMaskedLM", "ForNextSentencePrediction", "Model"):
        ours = getattr(hf, "Bert" + end).from_pretrained(folder)
        theirs = getattr(transformers, "Bert" + end).from_pretrained(folder)
        assert set(ours.state_dict()) == set(theirs.state_dict())
        assert ours.num_parameters() == theirs.num_parameters()
        arguments = given(Made("bert", end), "right")
        close(ours(**arguments).to_tuple(), theirs(**arguments).to_tuple(), end)


def test_a_loop_written_by_hand_trains_as_with_transformers(tmp_path: Path) -> None:
    made = Made("bert", "ForSequenceClassification")
    theirs = made.model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    theirs.save_pretrained(tmp_path)
    ours = hf.BertForSequenceClassification.from_pretrained(tmp_path)
    arguments = given(made, "short") | {"labels": torch.tensor([1, 0, 2, 1])}
    for model in (ours, theirs):
        model.train()
        kept = [p for n, p in model.named_parameters() if not any(k in n for k in ("bias", "LayerNorm.weight"))]
        rest = [p for n, p in model.named_parameters() if any(k in n for k in ("bias", "LayerNorm.weight"))]
        for parameter in model.bert.embeddings.parameters() if model is theirs else ours.native.embed.parameters():
            parameter.requires_grad = False
        optimizer = torch.optim.SGD(
            [{"params": kept, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-2, momentum=0.9
        )
        for _ in range(3):
            optimizer.zero_grad()
            model(**arguments).loss.backward()
            optimizer.step()
        model.eval()
    state, reference = ours.state_dict(), theirs.state_dict()
    for name in reference:
        torch.testing.assert_close(state[name], reference[name], rtol=1e-3, atol=1e-4, msg=name)
    assert ours.training is False
    ours.train()
    assert ours.native.training


def test_the_encoder_beside_a_head(folder_of: Any) -> None:
    folder, theirs = folder_of(Made("bert", "ForSequenceClassification"))
    ours = hf.AutoModelForSequenceClassification.from_pretrained(folder)
    arguments = given(Made("bert", "Model"), "right")
    close(ours.bert(**arguments).to_tuple(), theirs.bert(**arguments).to_tuple(), "bert")
    for parameter in ours.base_model.parameters():
        parameter.requires_grad = False
    assert {n for n, p in ours.named_parameters() if p.requires_grad} == {"classifier.weight", "classifier.bias"}
    with pytest.raises(AttributeError, match="roberta"):
        _ = ours.roberta
    with pytest.raises(RefusedError, match="classifier"):
        ours.classifier = torch.nn.Linear(32, 2)
    assert ours.get_input_embeddings().weight.shape == (60, 32)


def test_an_encoder_of_a_checkpoint_with_a_head_has_no_invented_pooler(folder_of: Any) -> None:
    folder, _ = folder_of(Made("bert", "ForMaskedLM"))
    output = hf.AutoModel.from_pretrained(folder)(torch.tensor([[2, 5, 3]]))
    assert output.pooler_output is None
    assert list(output.keys()) == ["last_hidden_state"]
    whole, theirs = folder_of(Made("bert", "Model"))
    bare = hf.BertModel.from_pretrained(whole, add_pooling_layer=False)
    assert bare(torch.tensor([[2, 5, 3]])).pooler_output is None
    close(bare(torch.tensor([[2, 5, 3]]))[0], theirs(torch.tensor([[2, 5, 3]]))[0], "without pooler")


@pytest.mark.parametrize("stored", ["float16", "bfloat16", "float32"])
def test_dtype_is_the_files_own_unless_told(stored: str, tmp_path: Path) -> None:
    made = Made("bert", "Model")
    made.model().to(getattr(torch, stored)).save_pretrained(tmp_path)
    for options, expected in (
        ({}, stored),
        ({"dtype": "auto"}, stored),
        ({"torch_dtype": torch.float32}, "float32"),
        ({"dtype": None}, stored),
    ):
        ours = hf.AutoModel.from_pretrained(tmp_path, **options)
        theirs = transformers.AutoModel.from_pretrained(tmp_path, **options)
        assert ours.dtype == theirs.dtype == ours.config.dtype == getattr(torch, expected), options
    settings = json.loads((tmp_path / "config.json").read_text())
    settings.pop("dtype", None)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert hf.AutoModel.from_pretrained(tmp_path).dtype == getattr(torch, stored)
    assert hf.AutoModel.from_pretrained(tmp_path).half().dtype == torch.float16
    assert hf.AutoModel.from_pretrained(tmp_path, device_map="cpu").to("cpu").float().device.type == "cpu"


def test_minilm() -> None:
    ours, theirs = hf.AutoModel.from_pretrained(minilm()), transformers.AutoModel.from_pretrained(minilm())
    tokenizer = hf.AutoTokenizer.from_pretrained(minilm())
    inputs = tokenizer(
        ["This is a positive sentence.", "Negative.", "unbelievable " * 40], padding=True, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        a, b = ours(**inputs, output_hidden_states=True), theirs(**inputs, output_hidden_states=True)
    close(a.to_tuple(), b.to_tuple(), "minilm")
    close(a.last_hidden_state.mean(dim=1), b.last_hidden_state.mean(dim=1), "mean with padding")
    theirs.set_attn_implementation("eager")
    with torch.no_grad():
        a, b = ours(**inputs, output_attentions=True), theirs(**inputs, output_attentions=True)
    close(a.attentions, b.attentions, "attentions")


def test_the_classification_script(folder_of: Any, tmp_path: Path) -> None:
    """A tokenizer that returns segments and a model without them: what `model(**tokens)` meets with DistilBERT."""
    folder, theirs = folder_of(Made("distilbert", "ForSequenceClassification"))
    write_folder(tmp_path, TINY["distilbert"])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path)
    inputs = tokenizer(["the cat sat", "a dog"], ["on a mat", "is deep"], padding=True, return_tensors="pt")
    inputs["input_ids"] %= 60
    assert bool(inputs["token_type_ids"].any())
    ours = hf.AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        logits = ours(**inputs).logits
        close(logits, theirs(**inputs).logits, "logits")
    assert int(logits.argmax(dim=1)[0]) in range(5)
    assert ours.config.id2label[0] == "LABEL_0"


# ---- what is refused, and how


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"labels": torch.tensor([1])}, "no argument 'labels'"),
        ({"inputs_embeds": torch.zeros(1, 3, 32)}, "token table"),
        ({"head_mask": torch.ones(3)}, "head_mask"),
        ({"input_idz": 1}, "no argument 'input_idz'"),
    ],
)
def test_arguments_of_a_call_are_refused_by_name(call: dict[str, Any], says: str, folder_of: Any) -> None:
    model = hf.AutoModel.from_pretrained(folder_of(Made("bert", "Model"))[0])
    with pytest.raises(NativeBertError, match=says):
        model(torch.tensor([[2, 5, 3]]), **call)
    with pytest.raises(BadInputError, match="return_tensors='pt'"):
        model([[2, 5, 3]])
    with pytest.raises(TooLongError, match="position 30"):
        model(torch.full((1, 31), 5))


def test_positions_of_arguments(folder_of: Any) -> None:
    folder, theirs = folder_of(Made("bert", "Model"))
    ids, mask, segments = torch.tensor([[2, 5, 3]]), torch.ones(1, 3), torch.tensor([[0, 1, 1]])
    places = torch.tensor([[4, 5, 6]])
    ours = hf.AutoModel.from_pretrained(folder)
    close(ours(ids, mask, segments, places)[0], theirs(ids, mask, segments, places)[0], "by position")
    for made in (Made("mpnet", "Model"), Made("roberta", "ForMultipleChoice")):
        model = getattr(hf, named(made)).from_pretrained(folder_of(made)[0])
        with pytest.raises(BadInputError, match="by name"):
            model(ids, mask, segments)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_labels": 3}, "another size.*ignore_mismatched_sizes"),
        ({"id2label": {0: "x"}}, "another size"),
        ({"id2label": {1: "x"}}, "0, 1, 2"),
        ({"id2label": {0: "x"}, "num_labels": 2}, "names 1"),
        ({"attn_implementation": "flash_attention_2"}, "'eager' or 'sdpa'"),
        ({"load_in_8bit": True}, "bfloat16"),
        ({"cache_dir": "/x"}, "HF_HOME"),
        ({"dtype": "int8"}, "float32"),
        ({"device_map": {"bert": 0}}, "one device"),
        ({"hidden_act": "relu"}, "config.json"),
        ({"seq_classif_dropout": 0.5}, "config.json"),
        ({"state_dict": {}}, "load_state_dict"),
    ],
)
def test_options_are_refused_by_name(options: dict[str, Any], says: str, folder_of: Any) -> None:
    folder, _ = folder_of(Made("bert", "ForSequenceClassification"))
    with pytest.raises(NativeBertError, match=says):
        hf.AutoModelForSequenceClassification.from_pretrained(folder, **options)
    harmless = {
        "low_cpu_mem_usage": True,
        "trust_remote_code": False,
        "use_safetensors": True,
        "cache_dir": None,
        "local_files_only": True,
    }
    assert hf.AutoModelForSequenceClassification.from_pretrained(folder, **harmless, attn_implementation="eager", num_labels=5)


def test_a_class_that_does_not_fit_names_the_one_that_does(folder_of: Any) -> None:
    folder, _ = folder_of(Made("distilbert", "ForSequenceClassification"))
    with pytest.raises(RefusedError, match="DistilBertModel"):
        hf.BertModel.from_pretrained(folder)
    with pytest.raises(RefusedError, match="no ForNextSentencePrediction"):
        hf.AutoModelForNextSentencePrediction.from_pretrained(folder)
    encoder, _ = folder_of(Made("bert", "Model"))
    with pytest.raises(BadInputError, match=r"use AutoModel\.from_config"):
        hf.AutoModel(hf.BertConfig())
    with pytest.raises(BadInputError, match="use DistilBertModel"):
        hf.BertModel(hf.DistilBertConfig())
    with pytest.raises(BadInputError, match="from_pretrained"):
        hf.BertModel(encoder)
    with pytest.raises(RefusedError, match="DistilBertModel"):
        hf.BertModel.from_config(hf.DistilBertConfig())
    with pytest.raises(AttributeError, match="encoders only"):
        _ = hf.AutoModel.from_pretrained(encoder).generate


def test_names_that_are_not_here_say_what_to_use() -> None:
    for name, says in (
        ("Seq2SeqTrainer", "loop"), ("AdamW", "torch.optim"), ("TFBertModel", "without TF"), ("FlaxBertModel", "Flax"),
        ("AutoModelForCausalLM", "generation"), ("AutoModelForSeq2SeqLM", "generation"), ("GPT2LMHeadModel", "generation"),
        ("DataCollatorForSeq2Seq", "DataCollatorWithPadding"), ("AutoImageProcessor", "images"), ("BitsAndBytesConfig", "bfloat16"),
        ("LongformerModel", "the families Albert, Bert, .*, XLMRoberta; dir"), ("AutoTokenizers", "nearest names are AutoTokenizer"),
    ):  # fmt: skip
        with pytest.raises(ImportError, match=says) as caught:
            getattr(hf, name)
        assert isinstance(caught.value, RefusedError), name
    with pytest.raises(ImportError, match="is not in this version"):
        from nativebert.hf import SentencesDataset  # noqa: F401
    with pytest.raises(AttributeError):
        _ = hf.no_such_thing
    assert {"AutoModel", "pipeline", "SentenceTransformer"} <= set(dir(hf))
    assert hf.__version__ == nativebert.__version__


def test_every_class_is_supported_under_its_name() -> None:
    for made in EVERY:
        kind = getattr(hf, named(made))
        assert (kind.__name__, kind.family) == (named(made), made.family)
    for variant in VARIANTS:
        assert getattr(hf, STEM[variant.split()[0]] + "Config").model_type == variant.split()[0]


def test_save_and_copy(folder_of: Any, tmp_path: Path) -> None:
    source, theirs = folder_of(Made("bert", "ForMaskedLM"))
    folder = tmp_path / "model"
    shutil.copytree(source, folder)
    model = hf.AutoModelForMaskedLM.from_pretrained(folder)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        next(twin.parameters()).add_(1)
    model.save_pretrained(tmp_path / "same", safe_serialization=True, max_shard_size="5GB")
    assert (tmp_path / "same" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert (tmp_path / "same" / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    with pytest.raises(RefusedError, match="safetensors only"):
        model.save_pretrained(tmp_path / "other", safe_serialization=False)
    with pytest.raises(RefusedError, match="push_to_hub"):
        model.save_pretrained(tmp_path / "other", push_to_hub=True)
    output = model(torch.tensor([[2, 5, 3]]))
    again = pickle.loads(pickle.dumps(output))
    assert type(again) is type(output)
    close(again.logits, theirs(torch.tensor([[2, 5, 3]])).logits, "pickled")
    with pytest.raises(TypeError, match="cannot lose"):
        output.pop("logits")


def test_seeds() -> None:
    hf.set_seed(3.0)  # type: ignore[arg-type]  # as R has it
    first = torch.rand(2)
    hf.set_seed(3)
    assert torch.equal(first, torch.rand(2))
