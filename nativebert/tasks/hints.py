"""What to say of names that tasks do not have: those of other libraries, and misspelt ones."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

ARGUMENTS = {
    **dict.fromkeys(("batch_size", "per_device_eval_batch_size"), "a batch is as many tokens as batch_tokens= says, and the results do not depend on it"),
    **dict.fromkeys(("show_progress_bar", "verbose", "disable_tqdm"), "it is called progress"),
    **dict.fromkeys(("max_length", "max_seq_length", "max_len", "model_max_length"), "it is called max_tokens"),
    **dict.fromkeys(("dtype", "torch_dtype", "compute_dtype"), "it is called precision"),
    **dict.fromkeys(("convert_to_tensor", "return_tensors"), "it is called as_tensor"),
    "convert_to_numpy": "results are numpy arrays, unless as_tensor=True",
    "truncation": "it is called too_long: 'truncate', 'window' or 'error'",
    "padding": "nothing is padded: texts of any length stand in one batch",
    "normalize_embeddings": "it is called normalize, and belongs to the constructor of the task",
    **dict.fromkeys(("return_all_scores", "topk"), "it is called top_k; None for all"),
    "aggregation_strategy": "it is called aggregation",
    "candidate_labels": "it is called labels",
    "hypothesis_template": "it is called hypothesis",
    **dict.fromkeys(("handle_impossible_answer",), "it is called no_answer"),
    **dict.fromkeys(("max_answer_len", "max_answer_length"), "it is called max_answer_tokens"),
    **dict.fromkeys(("cache_folder", "cache_dir"), "set the environment variable HF_HOME"),
    "local_files_only": "it is called offline",
    "trust_remote_code": "no code of a model's files is ever run",
    "use_auth_token": "it is called token",
    "model_name_or_path": "the model is the first argument",
}  # fmt: skip

CALL = "call the task itself"
ATTRIBUTES = {
    **dict.fromkeys(("encode", "embed", "encode_query", "encode_document", "predict", "classify", "tag", "answer", "forward", "pipe", "embed_documents"), CALL),
    "fit": "nativebert.train fine-tunes a model; nativebert.integrations.sklearn has a transformer with fit",
    "to": "pass device= when the task is made",
    "eval": "a task is always in evaluation mode",
    "max_seq_length": "it is called max_tokens, and is set when the task is made or called",
    "save": "nativebert.load(folder).save(other) writes a model",
    "save_pretrained": "nativebert.load(folder).save(other) writes a model",
}  # fmt: skip


def of_argument(name: str, known: Iterable[str]) -> str:
    """What to add to an error about an argument: what stands for it here, or the name that is nearest; nothing for neither."""
    known = set(known)
    said = ARGUMENTS.get(name, "")
    if said.startswith("it is called ") and said.removeprefix("it is called ").split(":")[0].split(";")[0] not in known:
        said = ""  # of another task
    near = get_close_matches(name, known, 1, 0.75)
    return f": {said}" if said else f": did you mean {near[0]}?" if near else ""
