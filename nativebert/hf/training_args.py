"""Names of training options under the module names of transformers and sentence-transformers, whose scripts import from here."""

from nativebert.hf.sentence_trainer import BatchSamplers, SentenceTransformerTrainingArguments
from nativebert.hf.training_arguments import TrainingArguments

__all__ = ["BatchSamplers", "SentenceTransformerTrainingArguments", "TrainingArguments"]
