"""The reference model trains as transformers' does: the gradient of every parameter, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from families import EVERY, Batch, Made, as_saved, write
from models import one_thread, their_logits

import nativebert as nb
from nativebert.arch import family
from weights_map.torch import unpack

pytestmark = pytest.mark.reference

# The heads that have most parts; what is left of the others is one linear layer.
ENDS = ["ForMaskedLM", "ForSequenceClassification", "ForMultipleChoice"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def loss(hidden: torch.Tensor, logits: dict[str, torch.Tensor]) -> torch.Tensor:
    """Something that every number of the outputs matters to."""
    g = torch.Generator().manual_seed(0)
    parts = [hidden, *logits.values()]
    total = torch.stack([(part * torch.randn(part.shape, generator=g, dtype=part.dtype)).sum() for part in parts]).sum()
    assert isinstance(total, torch.Tensor)
    return total


@pytest.mark.parametrize("made", [made for made in EVERY if made.end in ENDS], ids=str)
def test_the_gradient_of_every_parameter(made: Made, tmp_path: Path) -> None:
    theirs: Any = write(made.model(), tmp_path, "float32").double()
    # without padding: what transformers computes in padded cells must not count
    batch = Batch.of(made, (16, 16, 16, 16))
    given = batch.given(2 if made.tasks == ("choose",) else 0)
    output = theirs(**given, output_hidden_states=True)
    expected = loss(output.hidden_states[-1], {task: their_logits(output, task) for task in made.tasks})
    expected.backward()

    model = nb.load(tmp_path, precision="float64")
    found = model(**given)
    mine = loss(found.last_hidden_state, found.all_logits)
    assert mine.item() == pytest.approx(expected.item(), rel=1e-5)
    mine.backward()

    weight_map, gradients = family(made.family).map, {}
    for name, gradient in as_saved(theirs, gradients=True).items():
        parts = unpack(weight_map, name, gradient)
        assert parts, name
        gradients |= {weight_map.ties.get(target, target): part for target, part in parts.items()}
    own = dict(model.named_parameters())
    largest = max(float(g.abs().max()) for g in gradients.values())
    assert len(own) >= 20
    # parameters that have none there have none here: a pooler that nothing reads
    for name, p in own.items():
        difference = gradients[name] - (torch.zeros_like(p) if p.grad is None else p.grad)
        # a gradient that is zero in exact arithmetic (the keys' biases: a softmax does not see them) is rounding in both
        scale = max(float(gradients[name].abs().max()), 1e-6 * largest)
        assert float(difference.abs().max()) <= 1e-5 * scale, name
    unused = {name for name in gradients if name not in own and float(gradients[name].abs().max()) > 0}
    assert not unused, unused
