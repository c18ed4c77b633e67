"""``keep_padding``: the cells of a batch that hold no token, as transformers computes them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import ELSEWHERE, TINY, masks, one_thread, write_folder

import nativebert as nb

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("family", sorted(TINY.keys() - ELSEWHERE))
def test_every_cell_is_the_references(family: str, tmp_path: Path) -> None:
    import transformers

    folder = write_folder(tmp_path / family, TINY[family])
    reference = transformers.AutoModel.from_pretrained(folder).eval()
    model = nb.load(folder)
    g = torch.Generator().manual_seed(1)
    cases = {**masks(4, 9), "empty": torch.tensor([[1] * 9, [0] * 9, [1] * 4 + [0] * 5, [0] * 9])}
    for name, mask in cases.items():
        ids = torch.randint(5, TINY[family]["vocab_size"], (4, 9), generator=g)
        ids = torch.where(mask > 0, ids, TINY[family].get("pad_token_id", 0))
        args: dict[str, Any] = {"attention_mask": mask, "output_hidden_states": True}
        with one_thread(), torch.no_grad():
            theirs = reference(ids, **args)
            ours = model(ids, keep_padding=True, **args)
            dropped = model(ids, **args)
        for a, b, c in zip(theirs.hidden_states, ours.hidden_states, dropped.hidden_states, strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=1e-5, msg=lambda m: f"{name}: {m}")  # noqa: B023
            torch.testing.assert_close(c, b * mask[..., None], rtol=0, atol=1e-5)


def test_attention_goes_to_real_tokens_only(tmp_path: Path) -> None:
    model = nb.load(write_folder(tmp_path / "m", TINY["bert"]))
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    found = model(torch.full((2, 5), 7), attention_mask=mask, output_attentions=True, keep_padding=True)
    for weights in found.attentions:
        assert not weights[0, :, :, 3:].any()
        torch.testing.assert_close(weights[0].sum(-1), torch.ones(4, 5))
        torch.testing.assert_close(weights[1], torch.full((4, 5, 5), 0.2))  # nothing to see: all alike, and no NaN
