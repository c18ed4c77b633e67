"""Coverage-guided fuzzing of what reads a model's files, with atheris (extra ``fuzz``): ``make fuzz``.

Each case is a tiny model folder in which one file is replaced by the fuzzer's bytes, or has a piece of them written into it. What comes
of it must be a model or an error of ours; anything else, a case that takes over five seconds, or over 1 GB of memory, stops the run.
"""

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
with atheris.instrument_imports(include=["nativebert", "weights_map"]):
    import nativebert.config
    import nativebert.hub
    import nativebert.inspect
    import nativebert.loading
    import nativebert.sentence
    import nativebert.text.tokenizer

from models import BERT, write_folder

from nativebert.errors import NativeBertError
from weights_map import WeightsMapError

FILES = ("model.safetensors", "config.json", "tokenizer_config.json", "vocab.txt")
CONFIG = BERT | {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 24}
ROOM = tempfile.TemporaryDirectory()
FOLDER = Path(ROOM.name) / "model"
PRISTINE = write_folder(Path(ROOM.name) / "pristine", CONFIG)


def one_case(data: bytes) -> None:
    """One model folder with one file spoilt, through everything that reads it."""
    given = atheris.FuzzedDataProvider(data)
    name = FILES[given.ConsumeIntInRange(0, len(FILES) - 1)]
    content = bytearray((PRISTINE / name).read_bytes())
    if given.ConsumeBool():
        piece = given.ConsumeBytes(64)
        at = given.ConsumeIntInRange(0, len(content))
        content[at : at + len(piece)] = piece
    else:
        content = bytearray(given.ConsumeBytes(4096))
    shutil.rmtree(FOLDER, ignore_errors=True)
    shutil.copytree(PRISTINE, FOLDER)
    (FOLDER / name).write_bytes(content)
    with contextlib.suppress(NativeBertError, WeightsMapError):
        snapshot = nativebert.hub.resolve(str(FOLDER))
        nativebert.sentence.read(snapshot)
        nativebert.inspect.inspect(snapshot)
        model = nativebert.loading.load(snapshot)
        _ = model.tokenizer.encode("the cat")


if __name__ == "__main__":
    atheris.Setup([*sys.argv, "-timeout=5", "-rss_limit_mb=2048"], one_case)
    atheris.Fuzz()
