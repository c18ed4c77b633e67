"""From config.json to EncoderConfig: what is read, what is refused, and what nobody asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models import BERT, DISTILBERT, ELSEWHERE, TINY, minilm, write_folder

import nativebert as nb
from nativebert.arch import FAMILIES, NEAREST, OTHERS, family, read_config
from nativebert.config import ACTIVATIONS, WIDEST, EncoderConfig, Fields, Layer, check_sizes
from nativebert.errors import CorruptError, RefusedError
from nativebert.nn.activation import ACTIVATION
from nativebert.nn.model import Model

# name -> (segments, pooler, epsilon, most tokens, padding id, width of the embeddings, keys of dims) of the tiny configs
EXPECTED: dict[str, tuple[int, bool, float, int, int, int | None, str]] = {
    "albert": (2, True, 1e-12, 40, 0, 24, "VEHPSFA"),
    "bert": (2, True, 1e-12, 40, 0, None, "VEHPSFA"),
    "camembert": (1, True, 1e-5, 38, 1, None, "VEHPSFA"),
    "deberta-v2": (0, False, 1e-7, 40, 0, None, "VEHFAR"),
    "distilbert": (0, False, 1e-12, 40, 0, None, "VEHPFA"),
    "electra": (2, False, 1e-12, 40, 0, 24, "VEHPSFA"),
    "ernie": (2, True, 1e-12, 40, 0, None, "VEHPSYFA"),
    "eurobert": (0, False, 1e-5, 40, 0, None, "VEHFAG"),
    "gpt2": (0, False, 1e-5, 40, 0, None, "VEHPFA"),
    "gte": (1, False, 1e-12, 40, 1, None, "VEHSFA"),
    "jina_bert": (2, True, 1e-12, 40, 0, None, "VEHSFA"),
    "jina_embeddings_v3": (1, True, 1e-5, 40, 1, None, "VEHSFA"),
    "modernbert": (0, False, 1e-5, 40, 0, None, "VEHFA"),
    "mpnet": (0, True, 1e-12, 38, 1, None, "VEHPFKA"),
    "new": (1, False, 1e-12, 40, 1, None, "VEHSFA"),
    "nomic_bert": (2, False, 1e-12, 40, 0, None, "VEHSFA"),
    "roberta": (1, True, 1e-5, 38, 1, None, "VEHPSFA"),
    "xlm-roberta": (1, True, 1e-5, 38, 1, None, "VEHPSFA"),
}
# name -> (vocabulary, width, positions, layers, the first of them) of a config.json that says nothing
BARE = {
    "albert": (30000, 4096, 512, 12, Layer(64, 16384, "gelu_new", weight_index=(0, 0))),
    "bert": (30522, 768, 512, 12, Layer(12, 3072, "gelu")),
    "camembert": (30522, 768, 512, 12, Layer(12, 3072, "gelu")),
    "deberta-v2": (128100, 1536, 512, 24, Layer(24, 6144, "gelu")),
    "distilbert": (30522, 768, 512, 6, Layer(12, 3072, "gelu")),
    "electra": (30522, 256, 512, 12, Layer(4, 1024, "gelu")),
    "ernie": (30522, 768, 512, 12, Layer(12, 3072, "gelu")),
    "eurobert": (128256, 768, 8192, 12, Layer(12, 3072, "silu", rope_theta=10_000.0, key_heads=12)),
    "gpt2": (50257, 768, 1024, 12, Layer(12, 3072, "gelu_new")),
    "gte": (250048, 768, 8192, 12, Layer(12, 3072, "gelu", rope_theta=160_000.0)),
    "jina_embeddings_v3": (250002, 1024, 8194, 24, Layer(16, 4096, "gelu", rope_theta=20_000.0)),
    "modernbert": (50368, 768, 8192, 22, Layer(12, 1152, "gelu", rope_theta=160_000.0, attn_norm=False)),
    "mpnet": (30527, 768, 512, 12, Layer(12, 3072, "gelu")),
    "new": (30528, 768, 2048, 12, Layer(12, 3072, "gelu", rope_theta=10_000.0)),
    "nomic_bert": (30528, 768, 2048, 12, Layer(12, 3072, "silu", rope_theta=1000.0)),
    "roberta": (50265, 768, 512, 12, Layer(12, 3072, "gelu")),
    "xlm-roberta": (30522, 768, 512, 12, Layer(12, 3072, "gelu")),
}


def fields(**data: Any) -> Fields:
    return Fields(data, "bert")


# ---- Fields


def test_values_are_read_with_their_types() -> None:
    f = fields(n=3, x=0.5, whole=2, yes=True, name="gelu")
    assert f.integer("n") == 3
    assert f.number("x") == 0.5
    assert (f.number("whole"), type(f.number("whole"))) == (2.0, float)
    assert f.boolean("yes") is True
    assert f.text("name") == f.activation("name") == "gelu"


def test_absent_and_null_take_the_default_and_without_one_are_an_error() -> None:
    f = fields(null=None, hiden_size=3)
    for key in ("null", "absent"):
        assert f.integer(key, 7) == 7
        assert f.number(key, 0.5) == 0.5
        assert f.boolean(key, False) is False
        assert f.text(key, "x") == "x"
        with pytest.raises(CorruptError, match=rf"has no '{key}', and the model cannot be built without it"):
            f.integer(key)
    with pytest.raises(CorruptError, match="Did you mean 'hiden_size'"):
        f.integer("hidden_size")


@pytest.mark.parametrize(
    ("read", "value", "phrase"),
    [
        (Fields.integer, True, "a whole number, not True"),
        (Fields.integer, 1.0, "a whole number, not 1.0"),
        (Fields.integer, "1", "a whole number, not '1'"),
        (Fields.integer, 0, "between 1 and 2147483647, not 0"),
        (Fields.integer, 2**31, "between 1 and 2147483647"),
        (Fields.number, False, "a number, not False"),
        (Fields.number, "0.1", "a number, not '0.1'"),
        (Fields.number, float("nan"), "a finite number"),
        (Fields.number, float("-inf"), "a finite number"),
        (Fields.number, 10**400, "a finite number"),
        (Fields.number, -0.1, "a finite number between 0 and 1e\\+30"),
        (Fields.boolean, 1, "true or false, not 1"),
        (Fields.boolean, "true", "true or false, not 'true'"),
        (Fields.text, 3, "a string, not 3"),
        (Fields.activation, [], r"a string, not \[\]"),
        (Fields.text, list(range(99)), r"a string, not \[0, 1, 2, .{30,60}\.\.\.$"),
    ],
)
def test_wrong_types_and_sizes(read: Callable[[Fields, str], Any], value: object, phrase: str) -> None:
    with pytest.raises(CorruptError, match=rf"config.json \(bert\): 'key' must be {phrase}"):
        read(fields(key=value), "key")


def test_bounds_are_included() -> None:
    assert fields(n=5).integer("n", low=5, high=5) == 5
    assert fields(x=1.0).number("x", high=1.0) == 1.0
    assert fields(x=0).number("x") == 0.0


def test_only_lets_pass_what_is_listed_absent_or_null() -> None:
    f = fields(no=False, null=None, one=1, zero=0)
    for key in ("no", "null", "absent"):
        f.require_value(key, False, why="it matters")
    for key in ("one", "zero"):  # 0 equals False in Python, and is another word in JSON
        with pytest.raises(RefusedError, match=f"{key} is [01]: it matters"):
            f.require_value(key, False, why="it matters")


def test_unread_keys_are_what_nobody_asked_for_and_nobody_knows() -> None:
    f = fields(n=1, zebra=1, apple=2, use_cache=True, mine=3)
    f.integer("n")
    assert f.unread() == ("apple", "mine", "zebra")
    assert f.unread(harmless=["mine"]) == ("apple", "zebra")


def test_labels() -> None:
    assert fields(id2label={"1": "b", "0": "a"}).labels() == ("a", "b")
    assert fields(id2label={str(i): f"L{i}" for i in range(12)}).labels()[10] == "L10"  # by number, not by letter
    assert fields(num_labels=2).labels() == ("LABEL_0", "LABEL_1")
    assert fields().labels() == fields(id2label={}).labels() == fields(id2label=None).labels() == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(
    ("names", "phrase"),
    [
        ([], "an object of id: name"),
        ({"a": "b"}, "an object whose keys are whole numbers"),
        ({"0": "a", "2": "b"}, "no gap"),
        ({"1": "a"}, "no gap"),
        ({"-1": "a", "0": "b"}, "no gap"),
        ({"0": "a", "00": "b"}, "none twice"),
        ({"0": None}, "names for the ids"),
    ],
)
def test_labels_that_make_no_sense(names: object, phrase: str) -> None:
    with pytest.raises(CorruptError, match=f"'id2label' must be .*{phrase}"):
        fields(id2label=names).labels()


def test_architecture() -> None:
    assert fields(architectures=["BertForMaskedLM", "x"]).architecture() == "BertForMaskedLM"
    assert fields().architecture() == fields(architectures=[]).architecture() == ""
    with pytest.raises(CorruptError, match="a list of names"):
        fields(architectures="BertModel").architecture()


def test_heads_must_divide_the_width() -> None:
    layer = Layer(heads=5, intermediate_size=8, activation="gelu")
    config = EncoderConfig("bert", 10, 32, (layer,), 8, 2, 1e-12)
    with pytest.raises(CorruptError, match="width 32 is not a multiple of the 5 attention heads"):
        check_sizes(config)


# ---- activations


def test_every_activation_that_a_config_may_name_is_computed() -> None:
    assert set(ACTIVATION) == ACTIVATIONS
    x = torch.linspace(-9, 9, 61)
    for name, function in ACTIVATION.items():
        assert function(x).shape == x.shape, name
        assert function(x).isfinite().all(), name


@pytest.mark.reference
def test_activations_equal_those_of_transformers() -> None:
    from transformers.activations import ACT2FN

    x = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    for name, function in ACTIVATION.items():
        assert (function(x) - ACT2FN[name](x)).abs().max() <= 1e-9, name  # gelu_fast writes its constant with ten digits


# ---- families


@pytest.mark.parametrize("name", FAMILIES)
def test_the_tiny_config_of_each_family(name: str) -> None:
    found, config = read_config(TINY[name])
    assert (found.name, config.family) == (name, name)
    assert (config.vocab_size, config.width, len(config.layers), config.positions) == (len_of_vocab(), 32, 2, 40)
    assert [(layer.heads, layer.intermediate_size, layer.activation) for layer in config.layers] == [
        (4, 48, {"nomic_bert": "silu", "eurobert": "silu", "gpt2": "gelu_new"}.get(name, "gelu"))
    ] * 2
    sizes = config.segments, config.pooler, config.norm_eps, config.max_tokens, config.pad_id, config.embedding_width
    # ELECTRA and ALBERT name the width of their tables, the others have one width
    assert sizes == EXPECTED[name][:-1]
    assert config.unread == ()
    assert config.source == TINY[name]
    assert config.source is not TINY[name]


def len_of_vocab() -> int:
    return int(BERT["vocab_size"])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_bare_config_means_what_it_means_to_transformers(name: str) -> None:
    if name == "jina_bert":
        pytest.skip("its configs say model_type bert")
    _, config = read_config({"model_type": name})
    assert (config.vocab_size, config.width, config.positions, len(config.layers), config.layers[0]) == BARE[name]


@pytest.mark.reference
@pytest.mark.parametrize("name", FAMILIES)
def test_what_transformers_writes_is_what_a_bare_config_means_and_has_no_key_that_is_unread(name: str) -> None:
    from transformers import AutoConfig

    if name in ELSEWHERE:
        pytest.skip("transformers does not have it")
    assert read_config(AutoConfig.for_model(name).to_dict())[1] == read_config({"model_type": name})[1]
    _, config = read_config(AutoConfig.for_model(name, num_labels=3).to_dict())
    assert config.unread == ()
    assert config.labels == ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_key_that_nobody_knows_is_reported(name: str) -> None:
    _, config = read_config(TINY[name] | {"rope_decay": 1e4, "embedding_width": 16})
    assert config.unread == ("embedding_width", "rope_decay")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"is_decoder": True}, "earlier tokens only"),
        ({"add_cross_attention": True}, "another model's output"),
        ({"is_encoder_decoder": True}, "an encoder with a decoder"),
        ({"pruned_heads": {"1": [0]}}, "heads were removed"),
        ({"quantization_config": {"bits": 4}}, "stored quantised"),
    ],
)
def test_every_family_refuses(name: str, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        read_config(TINY[name] | changes)


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query", "rotary"])
def test_bert_refuses_other_positions(kind: str) -> None:
    with pytest.raises(RefusedError, match="position_embedding_type"):
        read_config(BERT | {"position_embedding_type": kind})
    assert read_config(BERT | {"position_embedding_type": "absolute"})[1].unread == ()


@pytest.mark.parametrize(("name", "key"), [("bert", "hidden_act"), ("distilbert", "activation")])
def test_an_unknown_activation_is_refused(name: str, key: str) -> None:
    with pytest.raises(RefusedError, match=f"{key} is 'laplace'"):
        read_config(TINY[name] | {key: "laplace"})


def test_distilbert_knows_no_eps_of_its_own() -> None:
    _, config = read_config(DISTILBERT | {"layer_norm_eps": 1e-5})
    assert config.norm_eps == 1e-12  # transformers has it fixed, whatever the config says
    assert config.unread == ("layer_norm_eps",)


@pytest.mark.parametrize(("name", "key"), [("bert", "hidden_size"), ("distilbert", "dim")])
def test_the_widest_config_overflows_nothing(name: str, key: str) -> None:
    most = {"vocab_size": 2**31 - 1, "max_position_embeddings": 2**31 - 1, key: WIDEST}
    most |= {"intermediate_size": 2**31 - 1, "type_vocab_size": 2**31 - 1} if name == "bert" else {"hidden_dim": 2**31 - 1}
    with torch.device("meta"):
        assert Model(read_config(TINY[name] | most)[1]).embed.token.weight.shape == (2**31 - 1, WIDEST)
    with pytest.raises(CorruptError, match=f"a width of {WIDEST + 1} .*is beyond any model"):
        read_config(TINY[name] | {key: WIDEST + 1})


def test_unknown_families() -> None:
    with pytest.raises(RefusedError, match="The nearest one it knows is 'distilbert'"):
        family("distilbret")
    with pytest.raises(RefusedError, match="It knows: albert, bert, camembert, deberta-v2, distilbert"):
        family("os")
    with pytest.raises(RefusedError, match=r"docs/adding-a-family\.md"):
        family("os")
    for wrong in (None, 3, ["bert"], {}):
        with pytest.raises(CorruptError, match="no usable 'model_type'"):
            read_config({"model_type": wrong})


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        (
            "deberta",
            "'deberta': .*projections of their own.*nearest one it knows is 'deberta-v2'.*Run this checkpoint with trans",
        ),
        ("llama", r"'llama': it is a decoder\. It knows"),  # nothing here is near it
        ("t5", r"'t5': it is an encoder with a decoder\. It knows"),
        ("longformer", "its attention is sparse.*nearest one it knows is 'roberta'"),
        ("big_bird", "its attention is sparse"),
        ("mobilebert", "bottlenecks.*nearest one it knows is 'bert'"),
        ("xlm-roberta-xl", "nearest one it knows is 'xlm-roberta'"),
    ],
)
def test_a_family_that_is_known_not_to_be_here_says_what_differs(name: str, phrase: str) -> None:
    with pytest.raises(RefusedError, match=phrase):
        read_config({"model_type": name})


def test_what_is_said_of_other_families_is_of_families_that_are_not_here() -> None:
    assert not set(OTHERS) & set(FAMILIES)
    assert set(NEAREST.values()) <= set(FAMILIES)


# ---- names of parameters: the map's and the model's


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_map_gives_exactly_what_the_model_has(name: str, depth: int) -> None:
    found, config = read_config(TINY[name] | {"num_hidden_layers": depth, "n_layers": depth})
    model = Model(config)
    names = found.parameters(config)
    assert len(names) == len(set(names))
    assert set(names) == {key for key in model.state_dict() if not key.startswith("pool.")}
    assert {key for key in model.state_dict() if key.startswith("pool.")} == (
        {"pool.dense.weight", "pool.dense.bias"} if EXPECTED[name][1] else set()
    )
    assert all(found.map.rule_of(key) for key in model.state_dict())


@pytest.mark.parametrize("name", FAMILIES)
def test_the_sizes_of_the_config_are_those_of_the_file(name: str, tmp_path: Path) -> None:
    model = nb.load(write_folder(tmp_path, TINY[name]))
    assert model.ledger is not None
    assert {k: v for k, v in model.ledger.dims.items() if k in model.config.dims} == model.config.dims
    assert set(model.config.dims) == set(EXPECTED[name][-1])
    assert not any(row.status in ("missing", "new", "unexpected") for row in model.ledger.rows)


def test_minilm() -> None:
    config = nb.load(minilm()).config
    assert (config.family, config.width, len(config.layers), config.positions) == ("bert", 384, 6, 512)
    assert (config.layers[0].heads, config.architecture, config.unread) == (12, "BertModel", ())
