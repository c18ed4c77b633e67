"""Look at the names of a checkpoint's weights, read from the file's header. (R: safetensors::safe_load_file)"""

from nativebert.hub import resolve
from weights_map import Checkpoint

weights = Checkpoint.open(resolve("distilbert-base-uncased").folder)
names = sorted(weights.tensors)
print(names[:5])

# The mapping onto the architecture that the text leaves to the reader: one row for each tensor, with what became of it.
import nativebert as nb  # noqa: E402

print(nb.load("distilbert-base-uncased").ledger)
