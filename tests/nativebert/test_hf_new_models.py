"""Models of ``nativebert.hf`` for training: new heads, models of a config, resized tables, parts, training mode; beside transformers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from families import EVERY, WITH_HEADS, Made, their_state
from models import BERT, VARIANTS, one_thread, write_folder
from test_hf_models import given, named, targets

import nativebert as nb
import nativebert.hf as hf
from nativebert.errors import BadInputError, NewlyInitialized, RefusedError

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore::nativebert.errors.NewlyInitialized")]
HEADS = [made for made in EVERY if made.end != "Model"]
BERTS = [made for made in HEADS if made.variant == "bert"]
OF_EACH = [Made(variant, "ForSequenceClassification") for variant in WITH_HEADS if " " not in variant and variant != "bert"]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    with one_thread():
        yield


def assert_same_weights(ours: Any, theirs: Any) -> None:
    a, b = ours.state_dict(), their_state(theirs)
    assert set(a) == set(b)
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def assert_saved(ours: Any, folder: Path) -> Any:
    """Both libraries load what was saved, whole; returns transformers' model."""
    ours.save_pretrained(folder)
    theirs, info = getattr(transformers, type(ours).__name__).from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    with warnings.catch_warnings():
        warnings.simplefilter("error", NewlyInitialized)
        again = type(ours).from_pretrained(folder)
    assert_same_weights(again, theirs)
    assert_same_weights(ours, theirs)
    assert again.config.num_labels == theirs.config.num_labels == ours.config.num_labels
    assert again.config.id2label == theirs.config.id2label == ours.config.id2label
    assert again.config.problem_type == theirs.config.problem_type
    return theirs


@pytest.mark.parametrize("made", BERTS + OF_EACH, ids=str)
def test_a_new_head_of_a_checkpoint_without_one(made: Made, tmp_path: Path) -> None:
    Made(made.variant, "Model").model().save_pretrained(tmp_path / "encoder")
    # the encoder's config names 5 labels, of which transformers would make 5 outputs for an answer's start and end
    options = {"num_labels": 2} if made.end == "ForQuestionAnswering" else {"num_labels": 4, "problem_type": "regression"}
    auto = f"AutoModel{made.end}"
    torch.manual_seed(0)
    theirs = getattr(transformers, auto).from_pretrained(tmp_path / "encoder", **options)
    torch.manual_seed(0)
    with pytest.warns(NewlyInitialized, match=rf"(?s){named(made)} .*TRAIN"):
        ours = getattr(hf, auto).from_pretrained(tmp_path / "encoder", **options)
    assert_same_weights(ours, theirs)
    assert not ours.training
    assert_saved(ours, tmp_path / "saved")


@pytest.mark.parametrize("made", [made for made in EVERY if made.variant in ("bert", "distilbert", "modernbert")], ids=str)
def test_a_model_of_a_config(made: Made, tmp_path: Path) -> None:
    values = VARIANTS[made.variant] | {"num_labels": 2, "initializer_range": 0.1}
    theirs_config, our_config = made.kind.config_class(**values), getattr(hf, made.kind.config_class.__name__)(**values)
    torch.manual_seed(1)
    theirs = made.kind(theirs_config)
    torch.manual_seed(1)
    ours = getattr(hf, named(made))(our_config)
    assert_same_weights(ours, theirs)
    assert ours.training
    assert_saved(ours, tmp_path / "saved")
    torch.manual_seed(1)
    assert_same_weights(getattr(hf, f"AutoModel{made.end.removeprefix('Model')}").from_config(our_config), theirs)


def test_configs_are_made_from_their_keys() -> None:
    for name in ("Bert", "DistilBert", "Roberta", "XLMRoberta", "Camembert", "Electra", "Albert", "MPNet", "ModernBert"):
        ours, theirs = getattr(hf, f"{name}Config")(), getattr(transformers, f"{name}Config")()
        for key in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "vocab_size",
            "max_position_embeddings",
            "pad_token_id",
        ):
            assert getattr(ours, key) == getattr(theirs, key), (name, key)
    small = hf.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=60, num_labels=7
    )
    model = hf.BertForTokenClassification(small)
    assert model.classifier.weight.shape == (7, 32)
    half = hf.AutoModelForTokenClassification.from_config(small, dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    with pytest.raises(BadInputError, match=r"config of nativebert\.hf"):
        hf.AutoModel.from_config({"model_type": "bert"})
    with pytest.raises(BadInputError, match="no argument 'layers'"):
        hf.AutoModel.from_config(small, layers=3)


def test_labels_and_other_sizes(tmp_path: Path) -> None:
    made = Made("distilbert", "ForSequenceClassification")
    theirs = made.model()
    theirs.save_pretrained(tmp_path / "five")
    names = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    with pytest.raises(RefusedError, match="ignore_mismatched_sizes=True"):
        hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "five", **names)
    torch.manual_seed(2)
    expected = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "five", ignore_mismatched_sizes=True, **names
    )
    torch.manual_seed(2)
    with pytest.warns(NewlyInitialized, match=r"\['classifier.weight', 'classifier.bias'\]"):
        ours = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "five", ignore_mismatched_sizes=True, **names)
    assert_same_weights(ours, expected)
    assert torch.equal(ours.pre_classifier.weight, theirs.pre_classifier.weight)
    saved = assert_saved(ours, tmp_path / "two")
    assert saved.config.label2id == ours.config.label2id == {"no": 0, "yes": 1}
    # other names of as many classes are no new head
    with warnings.catch_warnings():
        warnings.simplefilter("error", NewlyInitialized)
        five = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "five", id2label=dict(enumerate("abcde")))
        same = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "five", ignore_mismatched_sizes=True)
    assert torch.equal(five.classifier.weight, theirs.classifier.weight)
    assert torch.equal(same.classifier.weight, theirs.classifier.weight)
    five.save_pretrained(tmp_path / "named")
    assert transformers.AutoConfig.from_pretrained(tmp_path / "named").id2label == dict(enumerate("abcde"))
    again = (tmp_path / "named" / "model.safetensors").read_bytes()
    assert again == (tmp_path / "five" / "model.safetensors").read_bytes()


def test_a_config_with_labels_is_passed_to_the_model(tmp_path: Path) -> None:
    """The flow of transformers' examples: AutoConfig with the labels, then the model, then names of the labels."""
    Made("bert", "Model").model().save_pretrained(tmp_path / "m")
    models = []
    for library in (transformers, hf):
        config = library.AutoConfig.from_pretrained(tmp_path / "m", num_labels=4)
        torch.manual_seed(0)
        model = library.AutoModelForSequenceClassification.from_pretrained(tmp_path / "m", config=config)
        model.config.id2label = dict(enumerate("abcd"))
        model.config.label2id = {name: number for number, name in enumerate("abcd")}
        models.append(model)
    assert_same_weights(models[1], models[0])
    saved = assert_saved(models[1], tmp_path / "saved")
    assert saved.config.label2id == {"a": 0, "b": 1, "c": 2, "d": 3}
    models[1].bert.save_pretrained(tmp_path / "encoder")
    encoder, info = transformers.AutoModel.from_pretrained(tmp_path / "encoder", output_loading_info=True)
    assert type(encoder).__name__ == "BertModel"
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def dropouts(made: Made, value: float) -> dict[str, float]:
    return {name: value for name in made.kind.config_class(**VARIANTS[made.variant]).to_dict() if "dropout" in name}


@pytest.mark.parametrize("made", HEADS, ids=str)
@pytest.mark.parametrize("ignored", [True, False], ids=["ignored", "padding_counts"])
def test_losses_in_training(made: Made, ignored: bool, tmp_path: Path) -> None:
    """Dropout off: the loss and every gradient, whether or not the labels of padding are -100."""
    theirs = made.model(**({"num_labels": 2} if made.end == "ForPreTraining" else {}))
    theirs.save_pretrained(tmp_path)
    off = dropouts(made, 0.0)
    theirs = made.kind.from_pretrained(tmp_path, **off).train()
    ours = getattr(hf, named(made)).from_pretrained(tmp_path, **off).train()
    arguments = given(made, "short")
    wanted = targets(made, arguments)
    if ignored and "labels" in wanted and wanted["labels"].shape == arguments["input_ids"].shape and made.family != "electra":
        wanted["labels"] = wanted["labels"].masked_fill(arguments["attention_mask"] == 0, -100)
    a, b = ours(**arguments, **wanted).loss, theirs(**arguments, **wanted).loss
    if b.isnan():  # transformers' ModernBERT has NaN at padding
        pytest.skip("NaN in transformers")
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    a.backward()
    b.backward()
    gradients: dict[str, list[torch.Tensor]] = {}
    for name, parameter in sorted(ours.named_parameters()):  # pieces of one tensor in their order
        name = name.rpartition(".")[0] if name.rpartition(".")[2].isdigit() else name
        if parameter.grad is not None:
            gradients.setdefault(name, []).append(parameter.grad)
    reference = their_state(theirs, gradients=True)
    largest = max(float(gradient.abs().max()) for gradient in reference.values())
    for name, gradient in reference.items():
        if name in gradients:
            difference = float((torch.cat(gradients[name]) - gradient).abs().max())
            assert difference <= (1e-5 if made.family == "modernbert" else 2e-6) * max(1.0, largest), name


def test_padding_is_not_computed_in_training_where_labels_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made("bert", "ForTokenClassification")
    made.model().save_pretrained(tmp_path)
    model = hf.AutoModelForTokenClassification.from_pretrained(tmp_path)
    kept: list[bool] = []
    forward = type(model.native).forward
    monkeypatch.setattr(type(model.native), "forward", lambda *a, **k: (kept.append(k["keep_padding"]), forward(*a, **k))[1])
    arguments = given(made, "short")
    labels = targets(made, arguments)["labels"]
    ignored = labels.masked_fill(arguments["attention_mask"] == 0, -100)
    for training, chosen in ((False, ignored), (True, ignored), (True, labels), (True, None)):
        model.train(training)(**arguments, labels=chosen)
    assert kept == [True, False, True, True]


def test_the_number_of_items(tmp_path: Path) -> None:
    """The sum of the losses over another number of items, as ModernBERT's in transformers; BERT's there do not look at it."""
    for made, items in ((Made("modernbert", "ForMaskedLM"), 50), (Made("modernbert", "ForQuestionAnswering"), torch.tensor(7))):
        theirs = made.model()
        theirs.save_pretrained(tmp_path / str(made))
        ours = getattr(hf, named(made)).from_pretrained(tmp_path / str(made))
        arguments = {"input_ids": torch.tensor([[2, 5, 9, 7, 3], [2, 8, 8, 5, 3]])}
        wanted = targets(made, arguments)
        a, b = (model(**arguments, **wanted, num_items_in_batch=items).loss for model in (ours, theirs))
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    made = Made("bert", "ForTokenClassification")
    made.model().save_pretrained(tmp_path / "tag")
    ours = hf.AutoModelForTokenClassification.from_pretrained(tmp_path / "tag")
    labels = torch.tensor([[1, 2, -100, 3, -100], [0, -100, -100, -100, 4]])
    whole = ours(**arguments, labels=labels).loss
    parts = [
        ours(arguments["input_ids"][row : row + 1], labels=labels[row : row + 1], num_items_in_batch=5).loss for row in (0, 1)
    ]
    torch.testing.assert_close(sum(parts), whole)


@pytest.mark.parametrize(
    "made", [Made(variant, end) for variant in WITH_HEADS if " " not in variant for end in ("Model", "ForMaskedLM")], ids=str
)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_resized_token_tables(made: Made, tied: bool, tmp_path: Path) -> None:
    broken = (
        not tied and made.end == "ForMaskedLM" and made.family in ("roberta", "xlm-roberta", "camembert", "jina_embeddings_v3")
    )  # its bias keeps its size there
    theirs = made.model(tie_word_embeddings=tied)
    theirs.save_pretrained(tmp_path / "m")
    for rows, options in ((70, {}), (55, {}), (61, {"pad_to_multiple_of": 8}), (70, {"mean_resizing": False})):
        theirs, ours = made.kind.from_pretrained(tmp_path / "m"), getattr(hf, named(made)).from_pretrained(tmp_path / "m")
        torch.manual_seed(4)
        table = theirs.resize_token_embeddings(rows, **options)
        torch.manual_seed(4)
        ours.get_input_embeddings().requires_grad_(False)
        resized = ours.resize_token_embeddings(rows, **options)
        assert resized.num_embeddings == table.num_embeddings == ours.config.vocab_size == theirs.config.vocab_size
        assert not resized.weight.requires_grad
        a, b = ours.state_dict(), their_state(theirs)
        for name, value in a.items():
            if not broken or "bias" not in name:
                torch.testing.assert_close(
                    value, b[name], rtol=0, atol=1e-9 if options else 1e-6, msg=lambda text, n=name: f"{n}: {text}"
                )
        if broken:
            continue
        folder = tmp_path / f"saved{rows}{len(options)}"
        loaded = assert_saved(ours, folder)
        ids = torch.tensor([[2, rows - 1, 9, 3]])
        with torch.no_grad():
            torch.testing.assert_close(ours(ids)[0], loaded.eval()(ids)[0], rtol=0, atol=2e-5)
    assert ours.resize_token_embeddings() is ours.get_input_embeddings()
    with pytest.raises(BadInputError, match="new_num_tokens"):
        ours.resize_token_embeddings(0)


def test_new_rows_around_the_mean(tmp_path: Path) -> None:
    """A table of more rows than columns has a covariance: the new rows are drawn with it."""
    made = Made("bert", "ForMaskedLM")
    values = VARIANTS["bert"] | {"vocab_size": 600}
    torch.manual_seed(0)
    theirs = made.kind(made.kind.config_class(**values))
    theirs.get_input_embeddings().weight.data.normal_(std=1000.0)  # so that a billionth of the covariance is above rounding
    theirs.save_pretrained(tmp_path / "m")
    ours = hf.BertForMaskedLM.from_pretrained(tmp_path / "m")
    rows = []
    for model in (ours, theirs):
        torch.manual_seed(4)
        rows.append(model.resize_token_embeddings(603).weight[-3:].detach())
    torch.testing.assert_close(rows[0], rows[1])
    assert not torch.equal(rows[0][0], rows[0][1])


def test_parts_by_their_names(tmp_path: Path) -> None:
    for made in (Made("bert", "ForSequenceClassification"), Made("roberta", "ForSequenceClassification"), Made("modernbert", "ForMaskedLM"),
                 Made("albert groups", "ForTokenClassification")):  # fmt: skip
        theirs = made.model()
        theirs.save_pretrained(tmp_path / str(made))
        ours = getattr(hf, named(made)).from_pretrained(tmp_path / str(made))
        for model in (ours, theirs):
            for parameter in model.base_model.parameters():
                parameter.requires_grad = False
        left = {name for name, parameter in ours.named_parameters() if parameter.requires_grad}
        assert left == {name for name, parameter in theirs.named_parameters() if parameter.requires_grad}
    bert = hf.BertForSequenceClassification.from_pretrained(tmp_path / "bert-ForSequenceClassification")
    theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "bert-ForSequenceClassification")
    for model in (bert, theirs):
        for part in (model.bert.embeddings, *model.bert.encoder.layer[:2], model.bert.pooler):
            for parameter in part.parameters():
                parameter.requires_grad = False
        model.bert.encoder.layer[2].attention.self.query.requires_grad_(False)
    frozen = {name for name, parameter in bert.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, parameter in theirs.named_parameters() if not parameter.requires_grad}
    assert len(bert.bert.encoder.layer) == 3
    assert bert.classifier.in_features == 32
    assert bert.classifier is bert.native.head["classifier"].out
    roberta = hf.RobertaForSequenceClassification.from_pretrained(tmp_path / "roberta-ForSequenceClassification")
    assert roberta.classifier.out_proj.out_features == 5
    modern = hf.ModernBertForMaskedLM.from_pretrained(tmp_path / "modernbert-ForMaskedLM")
    assert len(modern.model.layers[0].attn.Wqkv) == 3
    with pytest.raises(AttributeError, match="other"):
        _ = bert.other
    with pytest.raises(RefusedError, match="num_labels= to from_pretrained"):
        bert.classifier = torch.nn.Linear(32, 3)
    optimizer = torch.optim.AdamW([parameter for parameter in bert.parameters() if parameter.requires_grad], lr=0.1)
    before = {name: parameter.clone() for name, parameter in bert.named_parameters()}
    bert.train()(torch.tensor([[2, 5, 3]]), labels=torch.tensor([1])).loss.backward()
    optimizer.step()
    assert {name for name, parameter in bert.named_parameters() if torch.equal(parameter, before[name])} >= frozen


def test_activation_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    for made in (Made("bert", "ForSequenceClassification"), Made("modernbert", "ForSequenceClassification")):
        made.model().save_pretrained(tmp_path / str(made))
        gradients = []
        for how in (False, True):
            model = getattr(hf, named(made)).from_pretrained(tmp_path / str(made), **dropouts(made, 0.3)).train()
            if how:
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            assert model.is_gradient_checkpointing is how
            ran = []
            model.native.blocks()[0].register_forward_pre_hook(lambda *_, ran=ran: ran.append(1))
            torch.manual_seed(0)
            model(**given(made, "short"), labels=torch.tensor([1, 0, 2, 1])).loss.backward()
            assert len(ran) == 1 + how
            gradients.append([parameter.grad for parameter in model.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*gradients))
        model.gradient_checkpointing_disable()
        assert not model.is_gradient_checkpointing


def test_dropout_is_that_of_the_call(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", BERT)
    model = hf.AutoModel.from_pretrained(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.25)
    assert model.config.hidden_dropout_prob == 0.0
    assert {part.p for part in model.native.modules() if isinstance(part, torch.nn.Dropout)} == {0.0}
    assert {block.attn.dropout for block in model.native.blocks()} == {0.25}
    model.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert (config["hidden_dropout_prob"], config["attention_probs_dropout_prob"]) == (0.0, 0.25)
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    changed = hf.AutoConfig.from_pretrained(folder, hidden_dropout_prob=0.5)
    passed = hf.AutoModel.from_pretrained(folder, config=changed)
    assert {part.p for part in passed.native.modules() if isinstance(part, torch.nn.Dropout)} == {0.5}
    nb.load(folder, settings={"hidden_dropout_prob": 0.75}).save(tmp_path / "native")
    assert nb.load(tmp_path / "native").config.dropout == 0.75
