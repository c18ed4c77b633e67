"""What transformers and sentence-transformers have and nativebert.hf does not: name -> what to do instead."""

from __future__ import annotations

# Names that scripts import: pattern of the name -> what to do.
NAMES = {
    r".*Trainer": "it has Trainer, for models of your own classes write a loop with model.train() and torch.optim",
    r"Seq2Seq.*Arguments": "text generation is not supported: nativebert has encoders only",
    r"DataCollator.*": "it has DataCollatorWithPadding, DataCollatorForTokenClassification, DataCollatorForLanguageModeling and DefaultDataCollator",
    r"(AdamW|Adafactor)": "use torch.optim.AdamW",
    r"(readers|SentencesDataset|ParallelSentencesDataset|mine_hard_negatives)": (
        "training of sentence-transformers is not in this version: train there, save, and load the folder here"
    ),
    r"MultiVectorEncoder": "it is nativebert.MultiVectorEmbedder, by calls of its own",
    r"(quantize_embeddings|export_.*)": "quantisation is not supported: keep vectors in float16 with vectors.astype('float16')",
    r"TF.*": "TensorFlow models are not supported: use the PyTorch class, the same name without TF",
    r"Flax.*": "Flax models are not supported: use the PyTorch class, the same name without Flax",
    r".*(ForCausalLM|LMHeadModel|ForSeq2SeqLM|ForConditionalGeneration|Seq2Seq.*|WithLMHead|Generation.*|Streamer.*|LogitsProcessor.*|StoppingCriteria.*)": (
        "text generation is not supported: nativebert has encoders only; use transformers for it, or AutoModelForMaskedLM to fill in masks"
    ),
    r".*(Processor|FeatureExtractor|ImageProcessor.*|Vision.*|Audio.*|Speech.*|ForImage.*|ForCTC|ForObjectDetection)": (
        "images and sound are not supported: nativebert reads text; use transformers for it"
    ),
    r"(BitsAndBytes|GPTQ|Awq|Quanto|Torchao|TorchAo).*": "quantisation is not supported: load the model with dtype='bfloat16'",
}

ARGUMENTS = {
    "cache_dir": "set the environment variable HF_HOME to choose where models are kept",
    "force_download": "delete the model from the cache to download it again",
    "proxies": "set the environment variable HTTPS_PROXY",
    "subfolder": "pass the subfolder as a folder of its own",
    "use_auth_token": "pass token= instead",
    "code_revision": "code that comes with a model is never run",
    "from_tf": "convert the checkpoint to safetensors first",
    "from_flax": "convert the checkpoint to safetensors first",
    "gguf_file": "only safetensors are read",
    "variant": "copy that variant's file into a folder as model.safetensors",
    "push_to_hub": "save to a folder, then upload the folder with huggingface_hub",
    "state_dict": "load the model, then call model.load_state_dict(...)",
    "quantization_config": "use dtype='bfloat16' for a smaller model",
    "load_in_8bit": "use dtype='bfloat16' for a smaller model",
    "load_in_4bit": "use dtype='bfloat16' for a smaller model",
    "max_memory": "choose one device with device_map='cuda'",
    "inputs_embeds": "pass input_ids; nativebert reads its own token table",
    "head_mask": "zero the head's columns in the weights of the layer that follows",
    "encoder_hidden_states": "nativebert has encoders only",
    "encoder_attention_mask": "nativebert has encoders only",
    "past_key_values": "nativebert has encoders only",
    "task_type_ids": "leave it out: every token is of task 0, as it is by default",
}
"""Arguments that are not supported, and what to do in their place. None, False and "" ask for nothing and pass."""

# Attributes of a model.
MODEL = {
    "generate": "nativebert has encoders only; use transformers to generate text",
    "push_to_hub": "save_pretrained(folder), then upload the folder with huggingface_hub",
    "set_input_embeddings": "copy the values instead: model.get_input_embeddings().weight.data.copy_(...)",
}

# Attributes of a tokenizer, and arguments of its calls.
TOKENIZER = {
    "train_new_from_iterator": "train one with the tokenizers library, and pass it as tokenizer_object=",
    "apply_chat_template": "nativebert has encoders only",
    "push_to_hub": "save_pretrained(folder), then upload the folder with huggingface_hub",
    "prepare_for_model": "call the tokenizer with the text",
    "build_inputs_with_special_tokens": "call the tokenizer with the text",
}
TOKENIZER_ARGUMENTS = dict.fromkeys(
    ("text_target", "text_pair_target"), 'tokenise the targets in a call of their own: labels = tokenizer(targets)["input_ids"]'
)

# Attributes of a SentenceTransformer and a CrossEncoder.
LATER = "fine-tune with SentenceTransformerTrainer, nativebert.train.embed or, for cross-encoders, nativebert.train.rank"
ONE_PROCESS = "one process uses every core; for several GPUs start one process for each, with its share of the texts"
SENTENCE_TRANSFORMERS = {
    **dict.fromkeys(("fit", "train", "old_fit", "smart_batching_collate", "gradient_checkpointing_enable"), LATER),
    **dict.fromkeys(("start_multi_process_pool", "stop_multi_process_pool", "encode_multi_process"), ONE_PROCESS),
    **dict.fromkeys(("push_to_hub", "save_to_hub"), "save_pretrained(folder), then upload the folder with huggingface_hub"),
    "evaluate": "compute scores of what encode or predict returns, with scikit-learn or scipy",
    "compile": "it does nothing for the native engine: leave it out",
    "forward": "call encode or predict; nativebert.load(folder) gives the encoder as a torch module",
    **dict.fromkeys(
        ("parameters", "named_parameters", "state_dict", "load_state_dict", "modules", "children", "named_modules", "transformers_model", "model",
         "auto_model", "_first_module", "_last_module"),
        "nativebert.load(folder) gives the encoder as a torch module, and nativebert.hf.AutoModel by the names of transformers",
    ),
    "processor": "use tokenizer",
    "merge": LATER,
}  # fmt: skip
PROMPTS = "put the prompt before the texts yourself"

# Names of sentence_transformers.util.
UTIL = {
    "http_get": "download with urllib.request.urlretrieve(url, path)",
    "community_detection": "clustering is not supported: scikit-learn's AgglomerativeClustering takes the vectors of encode",
    "quantize_embeddings": "quantisation is not supported: keep vectors in float16 with vectors.astype('float16')",
    "information_retrieval": "use semantic_search, its new name",
    "mine_hard_negatives": "it is for training, which is not in this version: semantic_search finds the nearest texts",
    **dict.fromkeys(
        ("maxsim", "maxsim_pairwise", "mean_maxsim", "mean_maxsim_pairwise"), "multi-vector models are not supported"
    ),
}

# Tasks of pipeline.
_GENERATION = "nativebert has encoders only, which write no text; use transformers for it"
OTHER_MEDIA = "nativebert reads text only; use transformers for it"
TASKS = {
    **dict.fromkeys(("text-generation", "text2text-generation", "summarization", "translation", "conversational", "any-to-any"), _GENERATION),
    "decision": _GENERATION,
    "table-question-answering": "models of tables are not supported; use transformers for it",
    **dict.fromkeys(
        "document-question-answering visual-question-answering vqa image-to-text image-text-to-text image-to-image image-classification "
        "image-feature-extraction image-segmentation object-detection keypoint-matching depth-estimation video-classification mask-generation "
        "audio-classification automatic-speech-recognition text-to-audio text-to-speech zero-shot-image-classification "
        "zero-shot-audio-classification zero-shot-object-detection".split(),
        OTHER_MEDIA,
    ),
}  # fmt: skip
