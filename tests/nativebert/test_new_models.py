"""Models with parameters that no file holds: new heads, models of a config alone; the numbers they begin with, and how they are saved."""

from __future__ import annotations

import errno
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from families import EVERY, Batch, Made, as_saved, ours, theirs
from models import BERT, VARIANTS, bert_tensors, minilm, write_folder
from safetensors.torch import load_file

import nativebert as nb
from nativebert import NewHead
from nativebert.arch import family, read_config
from nativebert.errors import BadInputError, DiskFullError, NewlyInitialized, NotFoundError, RefusedError
from nativebert.loading import LoadedModel, from_config
from nativebert.nn.model import Model
from weights_map.torch import pack

TASK = {
    "ForMaskedLM": "lm", "ForNextSentencePrediction": "nsp", "ForSequenceClassification": "classify", "ForTokenClassification": "tag",
    "ForQuestionAnswering": "answer", "ForMultipleChoice": "choose", "ForPreTraining": "pretrain", "Model": None,
}  # fmt: skip
HEADS = [made for made in EVERY if made.end != "Model"]
POOLED = [
    variant for variant, config in VARIANTS.items() if family(variant.split()[0]).config({"model_type": variant.split()[0], **config}).pooler
]  # fmt: skip
new = pytest.mark.filterwarnings("ignore::nativebert.errors.NewlyInitialized")


def checkpoint(model: Model) -> dict[str, torch.Tensor]:
    """The parameters as a checkpoint of transformers holds them."""
    names = family(model.config.family).map
    return pack(names, model.state_dict(), None if model.tasks else "")


def assert_equal(model: Model, reference: Any) -> None:
    expected, actual = as_saved(reference), checkpoint(model)
    outputs = ("decoder.weight", "vocab_projector.weight", "lm_head.weight")
    tied = {name for name in actual if name.endswith(outputs)} - expected.keys()  # to the token table
    assert actual.keys() - tied == expected.keys()
    for name in expected:
        assert torch.equal(actual[name], expected[name]), name
    for name in tied:
        assert any(torch.equal(actual[name], value) for other, value in expected.items() if "embed" in other), name


def assert_loads(made: Made, folder: Path, model: Model) -> None:
    """transformers' class takes exactly what was saved, and computes the same; so does nativebert."""
    reference, info = made.kind.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    batch = Batch.of(made)
    expected = theirs(reference.eval(), made, batch)
    for mine in (model, nb.load(folder)):
        actual = ours(mine, made, batch)
        for name in actual:
            torch.testing.assert_close(actual[name], expected[name], rtol=0, atol=2e-5 if "hidden" in name else 2e-6)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folder of a variant's encoder without a head, of transformers' own weights, with and without a pooler."""
    folders: dict[tuple[str, bool], Path] = {}

    def of(variant: str, pooler: bool = True) -> Path:
        if (variant, pooler) not in folders:
            folder = folders[variant, pooler] = tmp_path_factory.mktemp("encoder")
            kind = Made(variant, "Model").kind
            torch.manual_seed(7)
            options = {} if pooler else {"add_pooling_layer": False}
            kind(kind.config_class(**VARIANTS[variant]), **options).save_pretrained(folder)
        return folders[variant, pooler]

    return of


@pytest.mark.reference
@pytest.mark.parametrize(
    "made",
    # DeBERTa's newer masked-LM head has no output of its own to draw
    [made for made in EVERY if made.end != "ForMaskedLM" or VARIANTS[made.variant].get("legacy", True)],
    ids=str,
)
def test_a_model_of_a_config_begins_with_the_numbers_of_transformers(made: Made, tmp_path: Path) -> None:
    config = made.kind.config_class(**VARIANTS[made.variant] | {"num_labels": 2 if made.end == "ForQuestionAnswering" else 3})
    torch.manual_seed(3)
    reference = made.kind(config)
    torch.manual_seed(3)
    model = from_config(config.to_dict(), head=TASK[made.end])
    assert_equal(model, reference)
    model.save(tmp_path / "saved")
    assert_loads(made, tmp_path / "saved", model)


@new
@pytest.mark.reference
@pytest.mark.parametrize(
    ("made", "pooler"),
    [(made, pooler) for made in HEADS for pooler in (True, False) if pooler or made.variant in POOLED],
    ids=lambda value: {True: "pooler", False: "no_pooler"}.get(value, str(value)) if isinstance(value, bool) else str(value),
)
def test_a_new_head_begins_with_the_numbers_of_transformers(made: Made, pooler: bool, encoder: Any, tmp_path: Path) -> None:
    labels = None if made.end == "ForQuestionAnswering" else 3
    folder = encoder(made.variant, pooler)
    torch.manual_seed(5)
    reference = made.kind.from_pretrained(folder, **({} if labels is None else {"num_labels": labels}))
    torch.manual_seed(5)
    model = nb.load(folder, head=NewHead(TASK[made.end] or "", labels))
    assert_equal(model, reference)
    assert model.config.architecture == type(reference).__name__
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    model.save(tmp_path / "saved")
    assert_loads(made, tmp_path / "saved", model)


@new
@pytest.mark.reference
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_numbers_of_other_precisions(encoder: Any, dtype: str) -> None:
    import transformers

    for variant in ("bert", "modernbert"):
        folder = encoder(variant)
        torch.manual_seed(5)
        reference = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype)
        torch.manual_seed(5)
        assert_equal(nb.load(folder, head=NewHead("classify"), precision=dtype), reference)


def test_the_warning_names_what_is_new(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", BERT)
    with pytest.warns(
        NewlyInitialized, match=r"BertForSequenceClassification .*\['classifier.weight', 'classifier.bias'\]\n.*TRAIN"
    ) as caught:
        model = nb.load(folder, head=NewHead("classify", ["no", "yes", "maybe"], "multi_label_classification"))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert model.config.labels == ("no", "yes", "maybe")
    assert not model.training
    bare = write_folder(tmp_path / "b", BERT, bert_tensors(BERT, pooler=False))
    with pytest.warns(NewlyInitialized, match=r"bert\.pooler\.dense\.weight"):
        nb.load(bare, head=NewHead("classify"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "saved")
        again = nb.load(tmp_path / "saved")  # as strict as ever, and nothing is new
    assert again.config.problem_type == "multi_label_classification"
    assert again.tasks == ("classify",)
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "no", "1": "yes", "2": "maybe"}
    assert config["label2id"] == {"no": 0, "yes": 1, "maybe": 2}
    assert nb.Classifier(tmp_path / "saved")(["the cat"])


def test_load_stays_strict(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", BERT)
    with pytest.raises(NotFoundError, match=r"no head for 'classify'.*NewHead"):
        nb.load(folder, head="classify")
    damaged = bert_tensors(BERT)
    del damaged["encoder.layer.1.output.dense.bias"]
    with pytest.raises(Exception, match=r"encoder\.layer\.1\.output\.dense\.bias"):  # of the encoder nothing may be new
        nb.load(write_folder(tmp_path / "d", BERT, damaged), head=NewHead("classify"))
    for head, message in (
        (NewHead("sum"), "no head 'sum'"), (NewHead("pretrain", 3), None), (NewHead("classify", []), "one class or more"),
        (NewHead("classify", ["a", "a"]), "twice"), (NewHead("classify", "ab"), "list of names"), (NewHead("classify", 0), "one class"),
    ):  # fmt: skip
        if message is not None:
            with pytest.raises(BadInputError, match=message):
                nb.load(folder, head=head)
    with pytest.raises(RefusedError, match="problem_type"):
        nb.load(folder, head=NewHead("classify", 2, "ordinal"))


@new
def test_a_head_of_another_size_is_replaced_where_asked(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", BERT)
    two = nb.load(folder, head=NewHead("classify", 2))
    two.save(tmp_path / "two")
    with pytest.raises(RefusedError, match=r"classifier\.\w+ is of another size.*replace=True"):
        nb.load(tmp_path / "two", head=NewHead("classify", 3))
    with pytest.warns(NewlyInitialized, match=r"classifier\.weight.*left unread"):
        three = nb.load(tmp_path / "two", head=NewHead("classify", 3, replace=True))
    assert three.head["classifier"].out.weight.shape == (3, 32)
    # the same size: its weights are the file's, and the labels may have other names
    renamed = nb.load(tmp_path / "two", head=NewHead("classify", ["no", "yes"]))
    assert torch.equal(renamed.head["classifier"].out.weight, two.head["classifier"].out.weight)
    assert torch.equal(renamed.pool.dense.weight, two.pool.dense.weight)
    # a head for another task under the same names is not taken for this one's, whatever its size
    tagger = nb.load(tmp_path / "two", head=NewHead("tag", 2))
    assert not torch.equal(tagger.head["classifier"].out.weight, two.head["classifier"].out.weight)
    tagger.save(tmp_path / "tagger")
    assert sorted(load_file(tmp_path / "tagger" / "model.safetensors")) == sorted(
        name for name in load_file(tmp_path / "two" / "model.safetensors") if "pooler" not in name
    )


@new
@pytest.mark.reference
def test_minilm_with_a_new_head(tmp_path: Path) -> None:
    import sentence_transformers
    import transformers

    torch.manual_seed(0)
    reference = transformers.AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=3)
    torch.manual_seed(0)
    model = nb.load(minilm(), head=NewHead("classify", 3))
    assert_equal(model, reference)
    model.save(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "vocab.txt",
    }
    assert not (tmp_path / "saved" / "modules.json").exists()  # it says that the model is one of embeddings
    pairs = [("a cat", "the cat sat"), ("deep", "learning")]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    inputs = tokenizer(*zip(*pairs), padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()(**inputs).logits
        mine = nb.load(tmp_path / "saved")(**inputs).logits
    torch.testing.assert_close(mine, logits, rtol=0, atol=1e-6)
    scores = sentence_transformers.CrossEncoder(str(tmp_path / "saved")).predict(pairs, convert_to_tensor=True)
    torch.testing.assert_close(scores.cpu(), logits, rtol=0, atol=1e-6)


@new
def test_what_a_saved_model_has_been(tmp_path: Path) -> None:
    """Copies and pickles of a new model are saved like it; a plain model's pickle still is not."""
    import copy
    import pickle

    folder = write_folder(tmp_path / "m", BERT)
    model = nb.load(folder, head=NewHead("classify", 3))
    model.save(tmp_path / "a")
    copy.deepcopy(model).save(tmp_path / "b")
    twin = pickle.loads(pickle.dumps(model))
    twin.save(tmp_path / "c")
    nb.load(tmp_path / "a").save(tmp_path / "d")
    for name in "bcd":
        for file in ("config.json", "model.safetensors", "vocab.txt"):
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "a" / file).read_bytes(), (name, file)
    with pytest.raises(RefusedError, match="pickle"):
        pickle.loads(pickle.dumps(nb.load(folder))).save(tmp_path / "e")
    with pytest.raises(RefusedError, match="save it without precision"):
        model.save(tmp_path / "f", precision="int8")
    nb.load(tmp_path / "a").save(tmp_path / "g", precision="int8")
    assert nb.load(tmp_path / "g").tasks == ("classify",)
    classifier = pickle.loads(pickle.dumps(nb.Classifier(model)))
    assert classifier(["the cat"]) == nb.Classifier(model)(["the cat"])


def test_names_of_a_config_alone(tmp_path: Path) -> None:
    model = from_config(BERT, head="classify")
    assert isinstance(model, LoadedModel)
    with pytest.raises(NotFoundError, match="tokenizer"):
        _ = model.tokenizer
    model.tokenizer = nb.Tokenizer.from_folder(write_folder(tmp_path / "m", BERT))
    model.save(tmp_path / "saved")
    assert nb.Classifier(tmp_path / "saved")(["the cat"])
    with pytest.raises(BadInputError, match="no head 'rtd'"):
        from_config(BERT, head="rtd")
    with pytest.raises(BadInputError, match="precision"):
        from_config(BERT, precision="int8")
    with pytest.raises(RefusedError, match="sinusoidal"):
        from_config({"model_type": "distilbert", "sinusoidal_pos_embds": True})


@new
def test_models_whose_files_say_otherwise(tmp_path: Path) -> None:
    """A model of modules alone, one out of eight bits, and a part of a new one: each is saved as what it is."""
    config = read_config({**BERT, "architectures": ["BertModel"]})[1]
    LoadedModel.of(Model(config, tasks=("tag",))).save(tmp_path / "tag")
    assert nb.load(tmp_path / "tag").tasks == ("tag",)
    folder = write_folder(tmp_path / "m", BERT)
    nb.load(folder).save(tmp_path / "small", precision="int8")
    model = nb.load(tmp_path / "small", head=NewHead("classify"))
    model.save(tmp_path / "large")
    assert "quantization_config" not in json.loads((tmp_path / "large" / "config.json").read_text())
    assert nb.load(tmp_path / "large").ledger is not None
    assert torch.equal(nb.load(tmp_path / "large").embed.token.weight, model.embed.token.weight)


@new
@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept_layout"])
@pytest.mark.parametrize("at", ["copyfile", "fsync"])
def test_a_full_disk_leaves_nothing_that_looks_like_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool, at: str
) -> None:
    folder = write_folder(tmp_path / "m", BERT)
    model = nb.load(folder, head=None if kept else NewHead("classify"))
    model.save(tmp_path / "before")
    before = {path.name: path.read_bytes() for path in (tmp_path / "before").iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with torch.no_grad():
        model.embed.token.weight.add_(1.0)
    monkeypatch.setattr(shutil if at == "copyfile" else os, at, full)
    for name in ("fresh/deep", "before"):
        with pytest.raises(DiskFullError, match="nothing was written"):
            model.save(tmp_path / name)
    assert not (tmp_path / "fresh").exists()
    assert {path.name: path.read_bytes() for path in (tmp_path / "before").iterdir()} == before
    monkeypatch.undo()
    model.save(tmp_path / "before")
    assert torch.equal(nb.load(tmp_path / "before").embed.token.weight, model.embed.token.weight)
    assert {path.name for path in (tmp_path / "before").iterdir()} == before.keys()


@new
def test_another_models_files_are_not_mixed_in(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", BERT)
    model = nb.load(folder, head=NewHead("classify"))
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "modules.json").write_text("[]")
    with pytest.raises(RefusedError, match=r"modules\.json of another model"):
        model.save(tmp_path / "to")
    (tmp_path / "to" / "modules.json").unlink()
    (tmp_path / "to" / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(RefusedError, match=r"index\.json of another model"):
        model.save(tmp_path / "to")
