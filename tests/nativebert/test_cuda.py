"""The kernels for NVIDIA cards against torch: on this machine's card, or on its CPU in Triton's interpreter."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models import TINY, one_thread, unlike
from test_golden import HEADS, with_head
from triton_device import CARD, DEVICE, needs_triton

import nativebert as nb
from nativebert.arch import read_config
from nativebert.engine import prepare
from nativebert.engine.cuda import why_not
from nativebert.engine.cuda.tiles import LONGEST, AttentionTile, ProductTile, attention_tiles, product_tile
from nativebert.engine.plan import ExecutionPlan
from nativebert.nn.activation import ACTIVATION
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed, pack
from nativebert.nn.pool import POOLS, pool

pytestmark = [needs_triton, pytest.mark.filterwarnings("ignore:overflow encountered in exp2:RuntimeWarning")]
FLOAT, HALVES = torch.float32, (torch.float16, torch.bfloat16)
SMALL = ProductTile(16, 16, 16, 1, 2)
needs_descriptors = pytest.mark.skipif(
    CARD and torch.cuda.get_device_capability() < (9, 0), reason="needs the tensor memory accelerator"
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = FLOAT) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def close(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    """Within a tolerance, as a share of the largest number where that is above 1."""
    expected = expected.float()
    assert found.shape == expected.shape
    most = float((found.float() - expected).abs().max()) if found.numel() else 0.0
    assert most <= atol * max(1.0, float(expected.abs().max()) if expected.numel() else 0.0), most


# ---------------------------------------------------------------- products


@pytest.mark.parametrize(("M", "N", "K"), [(1, 1, 1), (5, 30, 40), (70, 96, 64)])
def test_product(M: int, N: int, K: int) -> None:
    from nativebert.engine.cuda import kernels

    x, w, b = drawn(M, K), drawn(N, K, seed=1), drawn(N, seed=2)
    close(kernels.product(x, w, b, "linear", SMALL), F.linear(x.double(), w.double(), b.double()))


@pytest.mark.parametrize("dtype", HALVES)
def test_product_in_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    from nativebert.engine.cuda import kernels

    x, w, b = drawn(33, 72, dtype=dtype), drawn(40, 72, seed=1, dtype=dtype), drawn(40, seed=2)
    y = kernels.product(x, w, b, "linear", SMALL)
    exact = F.linear(x.float(), w.float(), b)
    assert y.dtype == dtype
    close(y, exact, atol=torch.finfo(dtype).eps)


@pytest.mark.parametrize("name", ACTIVATION)
def test_every_activation(name: str) -> None:
    from nativebert.engine.cuda import kernels

    x = torch.linspace(-15, 15, 481, device=DEVICE)[:, None]
    one, zero = torch.ones(1, 1, device=DEVICE), torch.zeros(1, device=DEVICE)
    exact = ACTIVATION[name](x.double()).float()
    for dtype, atol in ((FLOAT, 1e-6), (torch.float16, 4e-6)):  # as in the end of a product that is stored so; here it is not
        y = kernels.product(x, one, zero, kernels.activation(name, dtype), ProductTile(128, 16, 16, 4, 1))
        # on a card tf32x3 drops some 2^-22 of its factors
        torch.testing.assert_close(y, exact, rtol=2e-6, atol=atol)


def test_the_fitted_gelu_is_within_its_bound() -> None:
    """4e-6 of x Phi(x) everywhere, as the kernel's comment says."""
    from nativebert.engine.cuda import kernels

    grid = torch.linspace(-12, 12, 20001)
    found = torch.empty(len(grid))
    for number, part in enumerate(grid.split(2048)):
        x = part.to(DEVICE)[None, :].expand(16, -1).contiguous()
        # the bias carries the grid: what the product adds is zero
        zero = torch.zeros(len(part), 16, device=DEVICE)
        y = kernels.product(
            torch.zeros(16, 16, device=DEVICE), zero, x[0].contiguous(), "erf_fit", ProductTile(16, 256, 16, 4, 1)
        )
        found[number * 2048 : number * 2048 + len(part)] = y[0].cpu()
    error = (found.double() - F.gelu(grid.double())).abs().max()
    assert 2.5e-6 < error < 4e-6
    assert float((F.gelu(grid.double(), approximate="tanh") - F.gelu(grid.double())).abs().max()) > 4e-4  # what it is not


@pytest.mark.parametrize(
    "tile",
    [SMALL, ProductTile(64, 64, 32, 4, 2, 7), ProductTile(128, 128, 32, 8, 2, 7, True)],
    ids=["pointers", "described", "halves"],
)
@pytest.mark.parametrize("dtype", [FLOAT, torch.bfloat16])
@needs_descriptors
def test_product_plus_residual(tile: ProductTile, dtype: torch.dtype) -> None:
    """Rounded once, with the same bits from every kernel."""
    from nativebert.engine.cuda import kernels

    x, w, b = drawn(70, 64, dtype=dtype), drawn(96, 64, seed=1, dtype=dtype), drawn(96, seed=2)
    residual = 9 * drawn(70, 96, seed=3, dtype=dtype)
    y = kernels.product(x, w, b, "linear", tile, residual=residual)
    close(
        y,
        F.linear(x.double(), w.double(), b.double()) + residual.double(),
        atol=torch.finfo(dtype).eps if dtype != FLOAT else 1e-6,
    )
    assert torch.equal(y, kernels.product(x, w, b, "linear", ProductTile(16, 32, tile.depth, 2, 2), residual=residual))


def test_gated_product() -> None:
    from nativebert.engine.cuda import kernels

    x, up, gate, b, c = drawn(19, 24), drawn(30, 24, seed=1), drawn(30, 24, seed=2), drawn(30, seed=3), drawn(30, seed=4)
    w, bias = torch.stack([up, gate], 1).flatten(0, 1), torch.stack([b, c], 1).flatten()
    y = kernels.product(x, w, bias, "erf", SMALL, gated=True)
    x, up, gate, b, c = (t.double() for t in (x, up, gate, b, c))
    close(y, F.gelu(F.linear(x, up, b)) * F.linear(x, gate, c))


@needs_descriptors
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, FLOAT])
def test_bits_of_a_product_do_not_depend_on_the_tile(dtype: torch.dtype, gated: bool) -> None:
    from nativebert.engine.cuda import kernels

    M, N, K = (300, 512, 256) if CARD else (70, 96, 64)
    depths = (32,) if dtype == FLOAT else (32, 64)
    x, w, b = drawn(M, K, dtype=dtype), drawn(N, K, seed=1, dtype=dtype), drawn(N, seed=2)
    act = kernels.activation("gelu", dtype)
    first = kernels.product(x, w, b, act, ProductTile(16, 32, 32, 2, 2), gated=gated)
    for depth in depths:
        for tile in (ProductTile(64, 64, depth, 4, 2), ProductTile(128, 64, depth, 4, 3), ProductTile(64, 64, depth, 4, 2, 7),
                     ProductTile(128, 128, depth, 8, 2, 7, True)):  # fmt: skip
            assert torch.equal(kernels.product(x, w, b, act, tile, gated=gated), first), tile
    some = torch.cat([x[5:9], x[:1], x[40:61]])
    of_some = kernels.product(some, w, b, act, ProductTile(16, 32, 32, 2, 2), gated=gated)
    assert torch.equal(of_some, torch.cat([first[5:9], first[:1], first[40:61]]))


# ---------------------------------------------------------------- embeddings, norms, rotary positions


@pytest.mark.parametrize("H", [24, 384])
def test_norm(H: int) -> None:
    from nativebert.engine.cuda import kernels

    x, w, b = 5 + 2 * drawn(7, H), drawn(H, seed=2), drawn(H, seed=3)
    close(kernels.norm(x, (w, b, 1e-5)), F.layer_norm(x.double(), (H,), w.double(), b.double(), 1e-5))


@pytest.mark.parametrize("tables", ["token", "token position", "token position segment"])
def test_embed(tables: str) -> None:
    from nativebert.engine.cuda import kernels

    H, g = 40, torch.Generator().manual_seed(0)
    token, position, segment, w, b = drawn(50, H), drawn(12, H, seed=1), drawn(2, H, seed=2), drawn(H, seed=3), drawn(H, seed=4)
    ids, places, kinds = (torch.randint(0, n, (9,), generator=g).to(DEVICE, torch.int32) for n in (50, 12, 2))
    have = token, position if "position" in tables else None, segment if "segment" in tables else None
    for given in (None, kinds):
        x = token[ids.long()].double()
        if have[2] is not None:
            x = x + (segment[0] if given is None else segment[given.long()])
        if have[1] is not None:
            x = x + position[places.long()]
        close(kernels.embed(ids, places, given, have, (w, b, 1e-12)), F.layer_norm(x, (H,), w.double(), b.double(), 1e-12))


def test_rotate() -> None:
    from nativebert.engine.cuda import kernels
    from nativebert.nn.positions import apply_rotary, cos_sin

    T, heads, D = 37, 3, 12
    qkv, positions = drawn(T, 3 * heads * D), torch.arange(T) % 20
    cos, sin = cos_sin(positions, 1000.0, D)
    qk = apply_rotary(qkv[:, : 2 * heads * D].view(T, 2 * heads, D).cpu(), (cos, sin)).flatten(1)
    expected = torch.cat([qk, qkv[:, 2 * heads * D :].cpu()], 1)
    table = [t[:, : D // 2].contiguous().to(DEVICE) for t in cos_sin(torch.arange(20), 1000.0, D)]
    kernels.rotate(qkv, positions.to(DEVICE, torch.int32), *table, heads)
    close(qkv.cpu(), expected, atol=1e-6)


# ---------------------------------------------------------------- attention


def tables(lengths: list[int], attention: tuple[AttentionTile, ...]) -> list[tuple[torch.Tensor, AttentionTile]]:
    from nativebert.engine.cuda.inputs import layout, stage

    batch = Packed.of([[0] * n for n in lengths])
    return stage(batch, layout(batch, attention, columns=False), DEVICE, attention).blocks


LENGTHS = [1, 40, 0, 17, 33, 16, 0]
TILES = (AttentionTile(16, 16, 16, 1, 1), AttentionTile(LONGEST, 32, 16, 2, 1))


@pytest.mark.parametrize("what", ["plain", "bias", "window", "attended", "bias attended", "window attended"])
@pytest.mark.parametrize("D", [16, 12])
def test_attention(what: str, D: int) -> None:
    from nativebert.engine.cuda import kernels

    heads, T, P = 2, sum(LENGTHS), 48
    qkv = drawn(T, 3 * heads * D)
    columns = torch.cat([torch.arange(n) for n in LENGTHS])
    attended = torch.rand(T, generator=torch.Generator().manual_seed(3)) > 0.3
    attended[0] = False  # a text whose only token may not be attended
    bias = drawn(heads, 2 * P - 1, seed=5)
    window = 5 if "window" in what else None
    expected = []
    for part, column, see in zip(
        qkv.double().split(LENGTHS), columns.to(DEVICE).split(LENGTHS), attended.to(DEVICE).split(LENGTHS)
    ):
        n = len(part)
        q, k, v = part.view(n, 3, heads, D).permute(1, 2, 0, 3)
        scores = q @ k.transpose(1, 2) * D**-0.5
        distance = column[None, :] - column[:, None]
        if "bias" in what:
            scores = scores + bias.double()[:, distance + P - 1]
        if "attended" in what:
            scores = scores.masked_fill(~see, torch.finfo(FLOAT).min if "bias" in what else -math.inf)
        if window is not None:
            scores = scores.masked_fill(distance.abs() > window, -math.inf)
        weights = torch.softmax(scores, -1).nan_to_num(0.0)
        expected.append((weights @ v).transpose(0, 1).reshape(n, heads * D))
    found = kernels.attend(
        qkv, tables(LENGTHS, TILES), heads, columns=columns.to(DEVICE, torch.int32), attended=attended.to(DEVICE, torch.int32) if "attended" in what else None,
        bias=bias * kernels.LOG2_E if "bias" in what else None, window=window,
    )  # fmt: skip
    close(found, torch.cat(expected))


@pytest.mark.parametrize("times", [1, 5])  # few sequences, and many
def test_a_block_table_names_every_query_once(times: int) -> None:
    lengths = LENGTHS * times
    (short, _), (long, _) = ((t.cpu(), tile) for t, tile in tables(lengths, TILES))
    starts = np.cumsum([0, *lengths])[:-1]
    queries = [
        (int(lo), int(first) + r)
        for table, rows in ((short, 16), (long, 32))
        for lo, n, first, _ in table
        for r in range(min(rows, int(n - first)))
    ]
    assert sorted(queries) == [(int(lo), r) for lo, n in zip(starts, lengths) for r in range(n)]
    # the longest first
    assert short[:, 1].tolist() == sorted([16, 1] * times, reverse=True)
    assert long[:, 1].tolist() == sorted([40, 40, 33, 33, 17] * times, reverse=True)


# ---------------------------------------------------------------- pooling


@pytest.mark.parametrize("skip", [0, 2, 50])
def test_pooling(skip: int) -> None:
    from nativebert.engine.cuda import kernels

    hidden, batch = drawn(sum(LENGTHS), 40), Packed.of([[0] * n for n in LENGTHS])
    cu_seqlens = torch.tensor([0, *LENGTHS]).cumsum(0).to(DEVICE, torch.int32)
    modes = tuple(POOLS)
    close(kernels.pool(hidden, cu_seqlens, modes, skip), pool(hidden, batch, modes, skip), atol=1e-6)


def test_pooling_shows_what_is_not_finite() -> None:
    from nativebert.engine.cuda import kernels

    hidden = drawn(6, 8)
    hidden[2, 3] = float("nan")
    cu_seqlens = torch.tensor([0, 6], device=DEVICE, dtype=torch.int32)
    for mode in ("max", "mean", "weightedmean"):
        assert not kernels.pool(hidden, cu_seqlens, (mode,)).isfinite().all(), mode


def test_the_mean_of_attended_tokens() -> None:
    from nativebert.engine.cuda import kernels

    x, attended = drawn(5, 8), torch.tensor([1, 0, 1, 0, 0], device=DEVICE, dtype=torch.int32)
    cu_seqlens = torch.tensor([0, 3, 5], device=DEVICE, dtype=torch.int32)
    found = kernels.pool(x, cu_seqlens, ("mean",), attended=attended)
    close(found, torch.stack([(x[0] + x[2]) / 2, torch.zeros(8, device=DEVICE)]), atol=1e-6)


# ---------------------------------------------------------------- whole models


def plan(model: Model, precision: str = "float32") -> ExecutionPlan:
    from nativebert.engine.cuda.plan import CudaPlan

    return CudaPlan(model, DEVICE, precision, model.tasks)


REFUSED = ("deberta-v2", "eurobert", "gpt2")  # which torch computes


@pytest.mark.parametrize("family", REFUSED)
def test_families_that_the_kernels_refuse(family: str) -> None:
    assert why_not(tiny(family), DEVICE) == f"they do not compute the layers of {family}"


@pytest.mark.parametrize("made", [made for made in HEADS if made.family not in REFUSED], ids=str)
def test_every_family_and_head_against_the_golden_data(made: nb.Model) -> None:
    folder, batch, truth = with_head(made)
    model = nb.load(folder)
    assert why_not(model, DEVICE) == ""
    rows = [ids[mask > 0].tolist() for ids, mask in zip(batch.ids, batch.mask)]
    kinds = None if batch.segments is None else [s[mask > 0].tolist() for s, mask in zip(batch.segments, batch.mask)]
    packed = Packed.of(rows, kinds, position_pad_id=model.config.position_pad_id)
    ours = plan(model)
    states = ours.states(packed)
    last = truth[max(name for name in truth if name.startswith("layers.") and not name.endswith("attention"))]
    close(states[-1].cpu(), last[batch.mask > 0])
    assert torch.equal(ours.hidden(packed), states[-1])
    with torch.no_grad():
        reference = model.encode(packed, states=True).states
    assert reference is not None
    assert len(states) == len(reference)
    for mine, theirs in zip(states, reference):
        close(mine.cpu(), theirs)
    for task in made.tasks:
        logits = prepare(model, "cpu").logits(packed, task)
        close(ours.logits(packed, task).cpu(), logits)
        if len(logits) == len(packed.ids):
            most = torch.stack([part.amax(0) for part in logits.split(list(packed.lengths))])
            close(ours.logits(packed, task, reduce="max").cpu(), most)
        else:
            with pytest.raises(ValueError, match="on tokens"):
                ours.logits(packed, task, reduce="max")


def tiny(family: str, **changes: object) -> Model:
    config = {**TINY[family], "max_position_embeddings": 140, **changes}
    return unlike(Model(read_config(config)[1]), 1).eval()  # type: ignore[return-value]


FAMILIES = ["bert", "distilbert", "roberta", "electra", "albert", "mpnet", "modernbert", "nomic_bert", "gte", "jina_bert", "ernie"]  # fmt: skip
ROUNDED = {"float32": 1e-5, "float16": 2e-2, "bfloat16": 2e-1}


def test_rotary_positions_that_are_stretched() -> None:
    model = tiny("gte", rope_scaling={"type": "ntk", "factor": 8.0})
    assert {layer.rope_scale for layer in model.config.layers} != {1.0}
    batch = Packed.of([list(range(5, 5 + n)) for n in (40, 7, 1)], position_pad_id=model.config.position_pad_id)
    with torch.no_grad():
        close(plan(model).hidden(batch).cpu(), model.encode(batch).hidden)


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert"])
def test_padding_that_is_kept_is_not_attended_to(family: str) -> None:
    model = tiny(family)
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 6:] = mask[1, :2] = mask[2, ::2] = 0
    for keep in (True, False):  # without, the columns have holes
        batch, _ = pack(ids, mask, None, position_pad_id=model.config.position_pad_id, keep_padding=keep)
        with torch.no_grad():
            expected = model.encode(batch).hidden
        close(plan(model).hidden(batch).cpu(), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_has_the_same_bits_in_any_company(family: str) -> None:
    r, model = random.Random(0), tiny(family, num_hidden_layers=1, n_layers=1)
    rows = [[r.randrange(5, 60) for _ in range(n)] for n in (40, 1, 17, 17, 0, 33, 5)]
    for precision, atol in ROUNDED.items() if CARD or family == "bert" else [("float32", 1e-5)]:
        ours = plan(model, precision)

        def batch(some: list[int]) -> Packed:
            return Packed.of([rows[n] for n in some], position_pad_id=model.config.position_pad_id)

        everyone = list(range(len(rows)))
        together = batch(everyone)
        parts = dict(enumerate(ours.hidden(together).split(list(together.lengths))))
        vectors = ours.pooled(together, ("mean", "max"))
        with torch.no_grad():
            close(ours.hidden(together).cpu(), model.encode(together).hidden, atol=atol)
        for some in ([6], [0], [4, 5, 2], everyone[::-1]):
            for _ in range(3 if CARD else 1):  # on a card the third is a graph
                y, v = ours.hidden(batch(some)), ours.pooled(batch(some), ("mean", "max"))
            for n, mine, vector in zip(some, y.split([len(rows[n]) for n in some]), v):
                assert torch.equal(mine, parts[n]), (precision, some, n)
                assert torch.equal(vector, vectors[n]), (precision, some, n)


def test_an_empty_batch() -> None:
    ours = plan(tiny("bert", num_hidden_layers=1))
    assert ours.hidden(Packed.of([])).shape == (0, 32)
    assert ours.pooled(Packed.of([[], []]), ("mean",)).tolist() == [[0.0] * 32] * 2


def test_the_plan_keeps_its_weights_when_the_model_is_trained() -> None:
    model, batch = tiny("bert", num_hidden_layers=1), Packed.of([[5, 6, 7]])
    ours = plan(model)
    before = ours.hidden(batch)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert torch.equal(ours.hidden(batch), before)


def test_an_id_beyond_the_table_is_refused() -> None:
    with pytest.raises(nb.errors.BadInputError, match="token id 1000"):
        plan(tiny("bert", num_hidden_layers=1)).hidden(Packed.of([[1000]]))


# ---------------------------------------------------------------- choosing


def test_why_not() -> None:
    # scores that depend on a query, a key and their distance: torch computes them
    assert why_not(tiny("deberta-v2"), DEVICE) == "they do not compute the layers of deberta-v2"
    assert why_not(tiny("bert"), DEVICE) == ""
    assert "1,024" not in why_not(tiny("bert", hidden_size=1024, num_attention_heads=8), DEVICE)
    wide = tiny("bert", hidden_size=1024, num_attention_heads=2, num_hidden_layers=1)
    assert "heads of 512 numbers" in why_not(wide, DEVICE)


def test_what_decides_the_order_of_a_sum_does_not_follow_the_batch() -> None:
    for capability in ((8, 0), (8, 9), (9, 0), (12, 0)):
        depths = {
            product_tile(M, N, 768, FLOAT, capability, 132).depth
            for M in (1, 16, 100, 1000, 5000, 10**6)
            for N in (1, 384, 3072)
        }
        assert len(depths) == 1
    for D in (16, 64, 128, 256):
        for dtype in (FLOAT, torch.bfloat16):
            assert attention_tiles(D, dtype)[-1].longest == LONGEST


def test_measured_tiles_are_kept_for_later_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nativebert.engine.cuda.tiles import ROWS, candidates
    from nativebert.engine.cuda.tuning import Kind, Tiles

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    model, batch = tiny("bert", num_hidden_layers=1), Packed.of([[5, 6, 7], [8]])
    timed: list[ProductTile] = []

    def largest_is_fastest(self: Tiles, run: partial[object]) -> float:
        timed.append(run.args[1])
        return -run.args[1].rows * run.args[1].columns

    monkeypatch.setattr(Tiles, "_milliseconds", largest_is_fastest)
    before = plan(model).hidden(batch)
    kind = Kind(96, 32, FLOAT, False)
    default = Tiles(DEVICE).tile(5, kind)
    plan(model).warm_up()
    count = len(timed)
    assert count > 0
    plan(model).warm_up()
    assert len(timed) == count  # all is known
    measured = Tiles(DEVICE)
    for rows in ROWS:
        tile = measured.tile(rows, kind)
        assert tile.rows * tile.columns == max(t.rows * t.columns for t in candidates(rows, FLOAT, *measured._card))
    assert measured.tile(5, kind) != default
    assert torch.equal(plan(model).hidden(batch), before)
    (file,) = tmp_path.glob("*.json")
    spoiled = json.loads(file.read_text())
    for content in (
        "{",
        "[]",
        '{"a": 1}',
        json.dumps({name: {key: [16, 16, 16, 1, 2, 0, False] for key in of} for name, of in spoiled.items()}),
    ):
        file.write_text(content)
        assert Tiles(DEVICE).tile(5, kind) == default


def test_the_room_of_a_graph_holds_its_batch_and_there_are_few() -> None:
    from nativebert.engine.cuda.inputs import Staging, layout

    r, attention = random.Random(0), attention_tiles(32, torch.bfloat16)
    rooms = set()
    for _ in range(1000):
        lengths = [r.randint(0, r.choice((3, 40, 200))) for _ in range(r.randint(1, r.choice((1, 20, 60))))]
        batch = Packed.of([[5] * n for n in lengths])
        of = layout(batch, attention, columns=False)
        assert all(have >= needed for have, needed in zip(of.room[:2] + of.room.blocks, of.shape[:2] + of.shape.blocks))
        assert of.room.tokens <= max(16, 1.5 * of.shape.tokens)
        rooms.add(of.room)
        Staging(of.room, torch.device("cpu")).fill(batch, of)
    assert len(rooms) < 130


def test_a_buffer_holds_the_batch_written_last() -> None:
    """Also where batches of other lengths, or of the same, were written before."""
    from nativebert.engine.cuda.inputs import Staging, layout

    attention, r = attention_tiles(32, torch.bfloat16), random.Random(0)
    lengths = [[7], [12], [12], [3, 2], [7], [7], [1] * 16, [2, 3], []]
    buffer = None
    for some in lengths:
        batch = Packed.of([[r.randrange(50) for _ in range(n)] for n in some])
        of = layout(batch, attention, columns=True)
        buffer = buffer or Staging(of.room, torch.device("cpu"))
        buffer.fill(batch, of)
        fresh = Staging(layout(Packed.of([[1] * 7]), attention, columns=True).room, torch.device("cpu"))
        fresh.fill(batch, of)
        T, ends = sum(some), fresh._parts[5:]
        for part, other in zip(buffer._parts[:5], fresh._parts[:5]):
            assert part[:T].tolist() == other[:T].tolist()
        for part, other in zip(buffer._parts[5:], ends):
            assert part.tolist() == other.tolist()


# ---------------------------------------------------------------- on a card


@pytest.mark.cuda
@pytest.mark.skipif(not CARD, reason="needs an NVIDIA card")
def test_a_graph_gives_the_bits_of_its_kernels() -> None:
    model = tiny("bert")
    eager, ours = plan(model), plan(model)
    r = random.Random(0)
    for _ in range(12):
        batch = Packed.of([[r.randrange(5, 60) for _ in range(r.randint(0, 60))] for _ in range(r.randint(1, 30))])
        expected = eager.states(batch)[-1]
        for _ in range(3):
            assert torch.equal(ours.hidden(batch), expected)
    assert len(ours._graphs) > 0
    ours.clear_cache()
    assert torch.equal(ours.hidden(batch), expected)


@pytest.mark.cuda
@pytest.mark.skipif(not CARD, reason="needs an NVIDIA card")
def test_graphs_of_several_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    ours = plan(tiny("bert"))
    batches = [Packed.of([[5 + n % 50] * (n % 7 + 1)] * (n % 3 + 1)) for n in range(24)]
    expected = [ours.hidden(batch).cpu() for batch in batches]

    def run(n: int) -> bool:
        with torch.cuda.stream(torch.cuda.Stream()):
            return torch.equal(ours.hidden(batches[n % 24]).cpu(), expected[n % 24])

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(run, range(400)))


@pytest.mark.cuda
@pytest.mark.skipif(not CARD, reason="needs an NVIDIA card")
def test_a_result_that_is_fetched_is_the_one_computed() -> None:
    from nativebert.engine.fetch import Fetch

    big = torch.randn(4000, 4000, device=DEVICE)
    fetched = []
    for n in range(5):
        x = (big @ big)[:100] + n
        fetched.append((Fetch(x), x.sum(dtype=torch.float64)))
        del x
    for fetch, total in fetched:
        assert fetch.result().device.type == "cpu"
        assert float((fetch.result().double().sum() - total.cpu()).abs()) < 1e-3
