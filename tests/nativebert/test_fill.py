"""Filling masks, against the fill-mask pipeline of transformers, for every family; and what that pipeline does not promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import Made
from models import VOCAB, one_thread, write_folder
from questions import byte_level, sentence_pieces, write_tokenizer
from tokenizers import Tokenizer

import nativebert as nb
from nativebert.errors import BadInputError, TooLongError, Truncated
from nativebert.tasks.base import Call
from nativebert.tasks.fill import MaskFiller

# Family -> how its texts become tokens
VOCABULARY = {
    "bert": "wordpiece", "distilbert": "wordpiece", "electra": "wordpiece", "mpnet": "wordpiece", "modernbert": "bytes",
    "roberta": "bytes", "camembert": "pieces", "xlm-roberta": "pieces", "albert": "pieces",
}  # fmt: skip
TOKENS = list(dict.fromkeys(VOCAB))
TEXTS = [
    "the cat sat on the {}.", "{} is powerful", "deep {} is {} , is it?", "{}", "the {} {} {} of the winter island", "a{}b the dog",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _quick() -> Any:
    with one_thread():
        yield


def core(kind: str) -> Tokenizer:
    return byte_level() if kind == "bytes" else sentence_pieces()


def made(folder: Path, family: str, end: str = "ForMaskedLM", **changes: Any) -> tuple[Path, Any]:
    """A folder with a tiny masked language model, and the model in transformers."""
    kind = VOCABULARY[family]
    size = len(TOKENS) if kind == "wordpiece" else core(kind).get_vocab_size()
    pad = {"pad_token_id": 0 if kind == "wordpiece" and family != "mpnet" else 1}
    given = {"vocab_size": size, "max_position_embeddings": 64} | pad
    model = Made(family, end).model(**given | changes)
    folder.mkdir(parents=True)
    if kind == "wordpiece":
        write_folder(folder, {}, {"nothing": torch.zeros(1)})
        (folder / "model.safetensors").unlink()
        (folder / "vocab.txt").write_text("\n".join(TOKENS))
    else:
        write_tokenizer(folder, core(kind), "PreTrainedTokenizerFast")
    model.save_pretrained(folder)
    return folder, model


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> MaskFiller:
    return MaskFiller(made(tmp_path_factory.mktemp("fill") / "bert", "bert")[0], device="cpu")


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> MaskFiller:
    return MaskFiller(made(tmp_path_factory.mktemp("fill") / "roberta", "roberta")[0], device="cpu")


@pytest.fixture(scope="module")
def xlm(tmp_path_factory: pytest.TempPathFactory) -> MaskFiller:
    return MaskFiller(made(tmp_path_factory.mktemp("fill") / "xlm", "xlm-roberta")[0], device="cpu")


@pytest.mark.reference
@pytest.mark.parametrize(("family", "end"), [*((name, "ForMaskedLM") for name in VOCABULARY), ("bert", "ForPreTraining")])
def test_equals_transformers(tmp_path: Path, family: str, end: str) -> None:
    import transformers

    folder, model = made(tmp_path / "m", family, end)
    if end == "ForPreTraining":
        model = transformers.BertForMaskedLM.from_pretrained(folder)
    kind = VOCABULARY[family]
    if kind == "wordpiece":
        tokenizer = transformers.BertTokenizerFast.from_pretrained(folder)
    else:
        named = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=core(kind), **{f"{name}_token": token for name, token in named.items()}
        )
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    pipeline = transformers.FillMaskPipeline(model=model, tokenizer=tokenizer, device="cpu")
    fill = MaskFiller(folder, device="cpu")
    texts = [text.replace("{}", fill.mask_token) for text in TEXTS]
    ours = fill(texts, top_k=7)
    spread = []
    for text, masks in zip(texts, ours, strict=True):
        theirs = pipeline(text, top_k=7)
        theirs = [theirs] if isinstance(theirs[0], dict) else theirs
        assert len(masks) == len(theirs) == text.count(fill.mask_token)
        for mine, other in zip(masks, theirs, strict=True):
            assert [one["id"] for one in mine] == [one["token"] for one in other]
            assert [one["token"] for one in mine] == [one["token_str"] for one in other]
            assert np.abs(np.array([a["score"] - b["score"] for a, b in zip(mine, other)])).max() <= 1e-5
            spread += [one["score"] for one in mine]
            if len(masks) == 1:
                special = [tokenizer.unk_token, *tokenizer.all_special_tokens]
                plain = [(a, b) for a, b in zip(mine, other) if a["token"] not in special]
                for a, b in plain:
                    # (the reference leaves the mark of a token that begins the text)
                    assert "".join(a["text"].lower().split()) == "".join(b["sequence"].lower().split()).removeprefix("##")
    assert np.ptp(spread) > 0.01


@pytest.mark.reference
def test_targets_as_in_transformers(bert: MaskFiller, roberta: MaskFiller) -> None:
    import transformers

    assert bert.snapshot is not None
    folder = bert.snapshot.folder
    model = transformers.BertForMaskedLM.from_pretrained(folder)
    pipeline = transformers.FillMaskPipeline(
        model=model, tokenizer=transformers.BertTokenizerFast.from_pretrained(folder), device="cpu"
    )
    words = ["mat", "dog", "##ing", "?"]
    (mine,) = bert("the cat sat on the [MASK]", targets=[*words, "dog"])[0]
    other = pipeline("the cat sat on the [MASK]", targets=words)
    assert [one["id"] for one in mine] == [one["token"] for one in other]
    assert np.allclose([one["score"] for one in mine], [one["score"] for one in other], atol=1e-6)


def test_only_the_mask_is_replaced(bert: MaskFiller, roberta: MaskFiller, xlm: MaskFiller) -> None:
    def texts(fill: MaskFiller, text: str, *tokens: str) -> dict[str, str]:
        (mask,) = fill(text, top_k=1000)[0]
        found = {fill.tokenizer.id_to_token(one["id"]): one["text"] for one in mask}
        return {token: found[token] for token in tokens}

    assert texts(bert, "The  Café's [MASK],\nOK", "mat", "##ing") == {
        "mat": "The  Café's mat,\nOK", "##ing": "The  Café'sing,\nOK",
    }  # fmt: skip
    assert texts(bert, "([MASK])", "dog") == {"dog": "(dog)"}
    # where a space is part of the token, it is not doubled, and left out with the tokens that continue a word
    assert texts(roberta, "The  Café\n<mask>!", "Ġdog", "ful") == {"Ġdog": "The  Café\ndog!", "ful": "The  Caféful!"}
    assert texts(roberta, "(<mask>)", "Ġdog", "ful") == {"Ġdog": "( dog)", "ful": "(ful)"}
    assert texts(roberta, "<mask>", "Ġdog", "ful") == {"Ġdog": "dog", "ful": "ful"}
    assert texts(xlm, "The  Café\n<mask>!", "▁dog", "s") == {"▁dog": "The  Café\ndog!", "s": "The  Cafés!"}
    assert texts(xlm, "cat<mask>", "▁dog", "s", "dog") == {"▁dog": "cat dog", "s": "cats", "dog": "catdog"}


def test_several_masks_are_filled_one_by_one(bert: MaskFiller) -> None:
    masks = bert("[MASK] a [MASK][MASK]", targets=["mat", "##s"])[0]
    assert [len(mask) for mask in masks] == [2, 2, 2]
    for place, mask in enumerate(masks):
        for one in mask:
            assert one["text"].count("[MASK]") == 2
            parts = ["[MASK]"] * 3
            parts[place] = one["token"].removeprefix("##")
            assert one["text"].replace(" ", "") == "{}a{}{}".format(*parts)


def test_a_target_is_what_the_text_would_have_there(roberta: MaskFiller, xlm: MaskFiller) -> None:
    """A word after a space is another token than the same word within one."""
    word = roberta.tokenizer.token_to_id
    (after,), (within,) = (roberta(text, targets="cat")[0][0] for text in ("a <mask> sat", "(<mask>) sat"))
    assert (after["id"], after["token"], within["id"], within["token"]) == (word("Ġcat"), " cat", word("cat"), "cat")
    assert roberta("<mask> sat", targets="cat")[0][0][0]["id"] == word("cat")
    with pytest.raises(BadInputError, match=r"the target 'ful' is not a single token of .* but 3: Ġ"):
        roberta("a <mask>", targets=["cat", "ful"])
    assert roberta("a<mask>", targets=["ful"])[0][0][0]["text"] == "aful"
    assert xlm("a <mask>", targets="dog")[0][0][0]["id"] == xlm.tokenizer.token_to_id("▁dog")
    assert xlm("a.<mask>", targets="dog")[0][0][0]["id"] == xlm.tokenizer.token_to_id("dog")
    assert xlm("<mask>", targets="dog")[0][0][0]["id"] == xlm.tokenizer.token_to_id("▁dog")


def test_targets(bert: MaskFiller) -> None:
    (whole,) = bert("the [MASK]", top_k=len(TOKENS))[0]
    assert len(whole) == len(TOKENS)
    assert sum(one["score"] for one in whole) == pytest.approx(1, abs=1e-5)
    (some,) = bert("the [MASK]", targets=["mat", "Dog", "##s"])[0]
    assert some == [one for one in whole if one["token"] in ("mat", "dog", "##s")]
    assert bert("the [MASK]", targets=["mat", "dog", "##s"], top_k=1)[0][0] == some[:1]
    for targets, message in [
        (["mat", "zzz"], r"the target 'zzz' is not a single token of .* but 3: z ##z ##z\. Leave it out"),
        (["猫"], "the target '猫' is not a single token"),
        ([], "targets is empty"),
        ([3], "a target must be a word, not 3"),
    ]:
        with pytest.raises(BadInputError, match=message):
            bert("the [MASK]", targets=targets)


def test_bits_do_not_depend_on_order_or_company(bert: MaskFiller) -> None:
    texts = [text.replace("{}", "[MASK]") for text in TEXTS] * 3 + ["[MASK] " * 40]
    base = bert(texts)
    assert list(bert(texts[::-1]))[::-1] == base
    small = MaskFiller(nb.load(bert.snapshot, head="lm"), device="cpu", batch_tokens=20)
    assert small(texts) == base
    assert [bert(text)[0] for text in texts] == base


def test_equal_scores_are_ordered_by_id(tmp_path: Path) -> None:
    folder, _ = made(tmp_path / "m", "bert")
    model = nb.load(folder, head="lm")
    with torch.no_grad():
        model.embed.token.weight[10:].zero_()  # the output is tied to it
        for name, p in model.named_parameters():
            if name == "head.lm.out.bias":
                p.zero_()
                p[10:] = 1
    fill = MaskFiller(model, device="cpu")
    (mask,) = fill("[MASK]", top_k=30)[0]
    equal = [one["id"] for one in mask if one["score"] == mask[-1]["score"]]
    assert len(equal) > 20
    assert equal == list(range(10, 10 + len(equal)))


def test_outputs_without_a_token_are_left_out(tmp_path: Path) -> None:
    fill = MaskFiller(made(tmp_path / "m", "bert", vocab_size=128)[0], device="cpu")
    (mask,) = fill("[MASK]", top_k=128)[0]
    assert sorted(one["id"] for one in mask) == list(range(len(TOKENS)))
    assert sum(one["score"] for one in mask) < 0.99


def test_tokens_without_an_output_are_left_out(tmp_path: Path) -> None:
    fill = MaskFiller(made(tmp_path / "m", "bert", vocab_size=60)[0], device="cpu")
    (mask,) = fill("a [MASK]", top_k=128)[0]
    assert sorted(one["id"] for one in mask) == list(range(60))
    with pytest.raises(BadInputError, match="the target 'powerful' is not a single token"):
        fill("a [MASK]", targets=["powerful"])
    with pytest.raises(BadInputError, match="the target 'mat' is not a single token"):
        fill("a [MASK]", targets=["mat"])


def test_long_texts(bert: MaskFiller) -> None:
    words = ["cat"] * 300
    words[10] = words[200] = "[MASK]"
    text, early = " ".join(words), " ".join(words[:190])
    with pytest.raises(
        TooLongError, match=r"text 1 has a mask beyond its first 64 tokens, where it is cut: pass too_long='window'"
    ):
        bert(["[MASK]", text])
    with pytest.warns(Truncated, match=r"1 of 1 texts is longer .* was cut: 128 of 192 tokens"):
        (one,) = bert(early)
    assert len(one) == 1
    model = nb.load(bert.snapshot, head="lm")
    found, report = MaskFiller(model, device="cpu", too_long="window", stride=31)([text, "a [MASK]"], return_report=True)
    # two windows hold a mask, and no other is read
    assert report.windows.tolist() == [2, 1]
    assert report.tokens.tolist() == [2 + 62 + 62, 4]
    assert not report.cut.any()
    near = " ".join(["cat"] * 10 + ["[MASK]"] + ["cat"] * 49 + ["[MASK]"] + ["cat"] * 100)
    _, counts = MaskFiller(model, device="cpu", too_long="window", stride=31)(near, return_report=True)
    assert (counts.windows.tolist(), counts.tokens.tolist()) == ([2], [2 + 93])  # of 0 to 62 and 31 to 93
    # each mask as if the text were its window
    first, second = (bert(" ".join(words[start : start + 62]))[0][0] for start in (0, 155))
    assert [one["id"] for one in found[0][0]] == [one["id"] for one in first]
    assert [one["score"] for one in found[0][0]] == [one["score"] for one in first]
    assert [one["score"] for one in found[0][1]] == [one["score"] for one in second]
    assert found[0][1][0]["text"] == text[: text.rindex("[MASK]")] + found[0][1][0]["token"] + text[text.rindex("[MASK]") + 6 :]
    assert found[1] == bert("a [MASK]")[0]
    with pytest.raises(TooLongError, match="text 0 has 302 tokens"):
        MaskFiller(model, device="cpu", too_long="error")(text)


def test_the_head_runs_on_masks_alone(bert: MaskFiller, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    head = bert.plan.heads["lm"]
    run = head.logits
    monkeypatch.setattr(head, "logits", lambda hidden: seen.append(len(hidden)) or run(hidden))
    bert(["the cat sat on the [MASK]", "a [MASK] [MASK]"] * 50)
    assert sum(seen) == 150
    assert max(seen) <= 32


def test_what_is_wrong_is_told(bert: MaskFiller, tmp_path: Path) -> None:
    for texts, message in [
        (["[MASK]", "a <mask>"], r"text 1 has no mask: write \[MASK\] where a token is to be found \('a <mask>'\)"),
        ([None], "text 0 must be a string, not NoneType"),
        ([("a", "[MASK]")], "text 0 must be a string, not tuple"),
        (7, "texts must be a list of strings"),
    ]:
        with pytest.raises(BadInputError, match=message):
            bert(texts)  # type: ignore[arg-type]
    for top_k in (0, -1, True, 2.5):
        with pytest.raises(BadInputError, match="top_k must be a whole number, 1 or more"):
            bert("[MASK]", top_k=top_k)  # type: ignore[arg-type]
    assert bert("a [MASK]", top_k=2.0) == bert("a [MASK]", top_k=2)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="needs a model with the head 'lm'"):
        MaskFiller(nb.load(bert.snapshot, head=None), device="cpu")
    assert bert([]) == []
    with pytest.raises(BadInputError, match="half a character"):
        bert(f"a {bert.mask_token}", targets=["\ud800"])


def test_results_as_a_table(bert: MaskFiller) -> None:
    rows = bert(["[MASK] [MASK]", "a [MASK]"], top_k=2).rows()
    assert [(row["item"], row["mask"], row["rank"]) for row in rows] == [
        (0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1),
    ]  # fmt: skip
    assert set(rows[0]) == {"item", "mask", "rank", "token", "id", "score", "text"}


@pytest.mark.parametrize("sizes", [[], [1], [2**21, 1], [1, 2**21, 1], [2**22] * 3, [1000] * 5000])
def test_texts_are_worked_on_in_stretches(bert: MaskFiller, sizes: list[int]) -> None:
    with Call(bert, ["a" * size for size in sizes], False) as call:
        stretches = list(call.chunks())
    assert [n for here in stretches for n in range(len(sizes))[here]] == list(range(len(sizes)))
    assert all(sum(sizes[here]) <= 2**21 or here.stop - here.start == 1 for here in stretches)
    assert len(stretches) <= 1 + 2 * sum(sizes) // 2**21
