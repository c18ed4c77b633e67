"""Position ids that the caller gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from models import BERT, batch, write_folder

import nativebert as nb
from nativebert.errors import BadInputError, TooLongError


def test_given_positions_are_used(tmp_path: Path) -> None:
    model = nb.load(write_folder(tmp_path / "m", BERT))
    ids, mask = batch([7, 4], BERT["vocab_size"])
    with torch.no_grad():
        own = model(ids, mask).last_hidden_state
        same = model(ids, mask, position_ids=torch.arange(7)[None]).last_hidden_state
        moved = model(ids, mask, position_ids=torch.arange(7).expand(2, 7) + 3).last_hidden_state
        by_hand = (
            torch.cat([torch.zeros(2, 3, dtype=torch.long), ids], 1),
            torch.cat([torch.zeros(2, 3, dtype=torch.long), mask], 1),
        )
        shifted = model(*by_hand).last_hidden_state[:, 3:]  # left padding moves the columns by as many
    assert torch.equal(own, same)
    assert (own - moved).abs().max() > 1e-3
    assert (moved - shifted).abs().max() <= 1e-6


def test_wrong_positions_are_refused(tmp_path: Path) -> None:
    model = nb.load(write_folder(tmp_path / "m", BERT))
    ids, mask = batch([5], BERT["vocab_size"])
    with pytest.raises(BadInputError, match=r"position_ids must have the shape of input_ids, \(1, 5\), not \(1, 4\)"):
        model(ids, mask, position_ids=torch.arange(4)[None])
    with pytest.raises(TooLongError, match="position 40 is outside"):
        model(ids, mask, position_ids=torch.arange(5)[None] + 36)
