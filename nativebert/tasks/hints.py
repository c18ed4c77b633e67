"""What to say of names that tasks do not have: those of other libraries, and misspelt ones."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

# name elsewhere -> name here
NAMES = {
    **dict.fromkeys(("show_progress_bar", "verbose", "disable_tqdm"), "progress"),
    **dict.fromkeys(("max_length", "max_seq_length", "max_len", "model_max_length"), "max_tokens"),
    **dict.fromkeys(("dtype", "torch_dtype", "compute_dtype"), "precision"),
    **dict.fromkeys(("convert_to_tensor", "return_tensors"), "as_tensor"),
    **dict.fromkeys(("return_all_scores", "topk"), "top_k"),
    **dict.fromkeys(("max_answer_len", "max_answer_length"), "max_answer_tokens"),
    "device_map": "device",
    "normalize_embeddings": "normalize",
    "pooling_mode": "pooling",
    "doc_stride": "stride",
    "aggregation_strategy": "aggregation",
    "candidate_labels": "labels",
    "hypothesis_template": "hypothesis",
    "handle_impossible_answer": "no_answer",
    "local_files_only": "offline",
    "use_auth_token": "token",
}  # fmt: skip
SAYINGS = {
    **dict.fromkeys(("batch_size", "per_device_eval_batch_size"), "a batch is as many tokens as batch_tokens= says, and the results do not depend on it"),
    "convert_to_numpy": "results are numpy arrays",
    "truncation": "it is called too_long: 'truncate', 'window' or 'error'",
    "padding": "nothing is padded: texts of any length stand in one batch",
    **dict.fromkeys(("cache_folder", "cache_dir"), "set the environment variable HF_HOME"),
    "trust_remote_code": "no code of a model's files is ever run",
    "model_name_or_path": "the model is the first argument",
}  # fmt: skip

CALL = "call the task itself"
ATTRIBUTES = {
    **dict.fromkeys(("encode", "embed", "encode_query", "encode_document", "predict", "classify", "tag", "answer", "forward", "pipe", "embed_documents"), CALL),
    "fit": "nativebert.train fine-tunes a model; nativebert.integrations.sklearn has a transformer with fit",
    "to": "pass device= when the task is made",
    **dict.fromkeys(("cuda", "cpu"), "pass device= when the task is made"),
    **dict.fromkeys(("half", "bfloat16", "float", "double"), "pass precision= when the task is made"),
    **dict.fromkeys(("eval", "train"), "a task is always in evaluation mode; nativebert.load gives a model to train, nativebert.train trains one"),
    "max_seq_length": "it is called max_tokens, and is set when the task is made or called",
    "save": "nativebert.load(folder).save(other) writes a model",
    "save_pretrained": "nativebert.load(folder).save(other) writes a model",
}  # fmt: skip


MADE, CALLED = "when the task is made", "in the call"


def of_argument(name: str, known: Iterable[str], elsewhere: Iterable[str] = (), where: str = MADE) -> str:
    """What to add to an error about an argument: what stands for it here, or the name that is nearest; nothing for neither.

    Args:
        name: of the argument.
        known: those that there are.
        elsewhere: those of the task's other function, constructor or call.
        where: which that is, in words.
    """
    known, elsewhere = set(known), set(elsewhere)
    if name in SAYINGS:
        return f": {SAYINGS[name]}"
    ours = NAMES.get(name, name)
    if ours in known:
        return f": it is called {ours}"
    if ours in elsewhere:
        return f": it is called {ours}, and given {where}" if ours != name else f": {name} is given {where}"
    if ours != name:
        return f": other tasks have it, under the name {ours}"
    if near := get_close_matches(name, known, 1, 0.75):
        return f": did you mean {near[0]}?"
    near = get_close_matches(name, elsewhere, 1, 0.75)
    return f": did you mean {near[0]}, which is given {where}?" if near else ""


def of_attribute(name: str, known: Iterable[str]) -> str:
    """What to add to an error about an attribute."""
    if name in ATTRIBUTES:
        return f": {ATTRIBUTES[name]}"
    near = [] if name.startswith("_") else get_close_matches(name, [one for one in known if not one.startswith("_")], 1, 0.75)
    return f": did you mean {near[0]}?" if near else ""
