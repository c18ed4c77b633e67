"""Tokenise without the model's weights. (R: tok::tokenizer_from_pretrained)"""

from nativebert import Tokenizer
from nativebert.hub import resolve

tokenizer = Tokenizer.from_folder(resolve("bert-base-uncased", weights=False).folder)

encoded = tokenizer.encode("Deep learning is powerful.")
print(encoded.ids)
print(encoded.tokens)
