"""The models that are timed, and the forms of them that other runtimes read: made once, kept in a cache folder."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
TITLES = {
    "minilm": "all-MiniLM-L6-v2",
    "distilbert": "DistilBERT-base size, random weights",
    "bert": "BERT-base size, random weights",
    "mpnet": "MPNet-base size, random weights",
    "modernbert": "ModernBERT-base size, random weights",
    "nomic": "nomic-embed-text-v1.5 size, random weights",
    "gte": "gte-base-en-v1.5 size, random weights",
    "deberta": "DeBERTa-v3-base size, random weights",
}

# model_type in transformers, and the settings in which the usual checkpoint of that name differs from its defaults. All have the
# vocabulary of all-MiniLM-L6-v2, which changes no work but that of reading a table.
_DEBERTA = {
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
    "layer_norm_eps": 1e-7,
}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "distilbert": ("distilbert", {}),
    # the type of positions is said although it is the usual one: the converter of CTranslate2 asks for it
    "bert": ("bert", {"position_embedding_type": "absolute"}),
    "mpnet": ("mpnet", {"max_position_embeddings": 514, "pad_token_id": 1}),
    "modernbert": ("modernbert", {"bos_token_id": 101, "eos_token_id": 102, "cls_token_id": 101, "sep_token_id": 102}),
    "nomic": (
        "nomic_bert",
        {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    ),
    "gte": ("gte", {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}),
    "deberta": (
        "deberta-v2",
        {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, **_DEBERTA},
    ),
}

# Mixed texts that are timed, by default: the larger the model, the fewer.
COUNTS = {"minilm": 600, "distilbert": 300} | dict.fromkeys(list(ARCHITECTURES)[1:], 200)


@dataclass(frozen=True)
class ModelFiles:
    """A model folder, and the folder for what is made of it.

    Attributes:
        name: one of :data:`TITLES`.
        folder: what transformers, sentence-transformers and nativebert open.
        cache: where exports for other runtimes go.
    """

    name: str
    folder: Path
    cache: Path

    @property
    def config(self) -> dict[str, Any]:
        """config.json"""
        found: dict[str, Any] = json.loads((self.folder / "config.json").read_text())
        return found

    @property
    def size(self) -> tuple[int, int, int, int]:
        """Layers, width, feed-forward width, heads."""
        c = self.config
        if c["model_type"] == "distilbert":
            return c["n_layers"], c["dim"], c["hidden_dim"], c["n_heads"]
        return c["num_hidden_layers"], c["hidden_size"], c["intermediate_size"], c["num_attention_heads"]

    @property
    def limit(self) -> int:
        """Most tokens of a text in the text-to-vector form."""
        found: int = json.loads((self.folder / "sentence_bert_config.json").read_text())["max_seq_length"]
        return found

    @property
    def segments(self) -> bool:
        """Whether the model has token types."""
        return bool(self.config.get("type_vocab_size"))

    def flops(self, lengths: list[int]) -> float:
        """Operations of the matrix products for sequences of these lengths, real tokens only; a multiply-add counts as two."""
        layers, width, inner, _ = self.size
        matrices = (
            3 if self.config["model_type"] in ("modernbert", "nomic_bert", "gte") else 2
        )  # of the feed-forward part, gate included
        products = layers * sum(lengths) * 2 * (4 * width**2 + matrices * width * inner)
        near = self.config.get("layer_types", []).count("sliding_attention")
        everywhere, nearby = layers - near, near and near * sum(n * min(n, self.config["local_attention"] + 1) for n in lengths)
        return float(products + (everywhere * sum(n * n for n in lengths) + nearby) * 4 * width)


def default_folder() -> Path:
    """A folder of the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nativebert-benchmarks"


def get(name: str, folder: Path) -> ModelFiles:
    """Find all-MiniLM-L6-v2, or make a model of the usual size with random weights: they are as much work as trained ones.

    Args:
        name: one of :data:`TITLES`.
        folder: where what is made is kept.
    """
    from nativebert.hub import resolve

    cache = folder / name
    cache.mkdir(parents=True, exist_ok=True)
    minilm = Path(resolve(MINILM).folder)
    if name == "minilm":
        return ModelFiles(name, minilm, cache)
    return ModelFiles(name, once(cache / "model", lambda path: _make(name, path, minilm)), cache)


def once(path: Path, make: Any) -> Path:
    """Let ``make`` write a file or folder unless it is there; what is left half made never counts."""
    if not path.exists():
        part = path.with_name(f"making-{os.getpid()}-{path.name}")
        try:
            make(part)
            part.rename(path)
        finally:
            shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
    return path


_TOKENIZERS = {"distilbert": "DistilBertTokenizer", "bert": "BertTokenizer"}


def _make(name: str, folder: Path, tokenizer: Path) -> None:
    """A model in the layout of sentence-transformers: mean pooling, normalised, 512 tokens, the vocabulary of all-MiniLM-L6-v2."""
    import torch
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    kind, settings = ARCHITECTURES[name]
    model = AutoModel.from_config(AutoConfig.for_model(kind, **{"vocab_size": 30522, "pad_token_id": 0} | settings))
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(tokenizer / file, folder)
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    parts = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    written: dict[str, Any] = {
        "tokenizer_config.json": {
            "tokenizer_class": _TOKENIZERS.get(kind, "PreTrainedTokenizerFast"),
            "do_lower_case": True,
            "model_max_length": 512,
            **special,
        },
        "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False},
        "modules.json": [
            {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{part}"}
            for n, (part, path) in enumerate(parts)
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": model.config.hidden_size, "pooling_mode_mean_tokens": True},
    }
    for file, content in written.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(json.dumps(content, indent=2) + "\n")
    (folder / "2_Normalize").mkdir()


# -- ONNX


def onnx(model: ModelFiles, graph: str) -> Path:
    """The model as an ONNX file whose output is the last hidden states.

    Args:
        model: which.
        graph: ``plain`` as exported, ``fused`` by the transformer optimiser of ONNX Runtime, ``plain-int8`` and ``fused-int8`` after
            its dynamic quantisation.
    """
    make = {"plain": _export, "fused": _fuse}.get(graph, _quantise)
    return once(model.cache / f"{graph}.onnx", lambda path: make(model, path, graph.removesuffix("-int8")))


def _export(model: ModelFiles, path: Path, graph: str) -> None:
    import torch
    from transformers import AutoModel

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # the optimiser of ONNX Runtime knows attention in this form
            self.model = AutoModel.from_pretrained(model.folder, attn_implementation="eager")

        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.model(**dict(zip(names, given))).last_hidden_state
            return out

    names = inputs(model)
    ids = torch.arange(2000, 2018).reshape(2, 9)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    with torch.no_grad():
        torch.onnx.export(
            Hidden().eval(),
            tuple(given[name] for name in names),
            str(path),
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in [*names, "last_hidden_state"]},
            opset_version=17,
            dynamo=False,  # the other exporter writes graphs in which attention is not recognised and not fused
        )


def _fuse(model: ModelFiles, path: Path, graph: str) -> None:
    from onnxruntime.transformers import optimizer

    _, width, _, heads = model.size
    fused = optimizer.optimize_model(
        str(onnx(model, "plain")), model_type="bert", num_heads=heads, hidden_size=width, opt_level=0, use_gpu=False
    )
    fused.save_model_to_file(str(path))


def _quantise(model: ModelFiles, path: Path, graph: str) -> None:
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # the type stands in for what cannot be inferred behind the fused operators
    quantize_dynamic(
        str(onnx(model, graph)),
        str(path),
        weight_type=QuantType.QInt8,
        per_channel=True,
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )


def inputs(model: ModelFiles) -> list[str]:
    """Names of what the ONNX files take in."""
    return ["input_ids", "attention_mask"] + (["token_type_ids"] if model.segments else [])
