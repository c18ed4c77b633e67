"""Pictures: the right numbers in them, nothing of a stranger's text run, nothing fetched, and files that open."""

import base64
import html
import json
import math
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from models import TINY, one_thread, write_folder

import nativebert as nb
from nativebert.errors import BadInputError, NativeBertError, NotFoundError, TooLongError
from nativebert.io.vectors import read_vectors
from nativebert.io.write import write_vectors
from nativebert.nn.model import Model
from nativebert.pictures import AttentionPicture, attention, map
from nativebert.pictures.differences import check_plot, plot

HOSTILE = "</script><img src=x onerror=alert(1)>"
STARTS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.fixture(autouse=True)
def _quickly():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return nb.load(write_folder(tmp_path_factory.mktemp("models") / "bert", TINY["bert"]))


class Page(HTMLParser):
    """What a page holds: its elements with their attributes, and the content of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.scripts:
            self.scripts[-1] += data

    def check(self) -> None:
        """That nothing comes from elsewhere, and could not if it wanted to."""
        policy = [a["content"] for tag, a in self.elements if a.get("http-equiv") == "Content-Security-Policy"]
        assert len(policy) == 1
        assert policy[0].startswith("default-src ")
        assert "http" not in policy[0]
        assert "*" not in policy[0]
        assert not [(tag, a) for tag, a in self.elements if {"src", "href", "onerror", "onload"} & a.keys()]
        assert "img" not in [tag for tag, _ in self.elements]


def data_of(page: str) -> dict:
    return json.loads(Page(page).scripts[0])


# ---- attention


@pytest.mark.parametrize("family", sorted(TINY))
def test_attention_is_the_model_s(family: str, tmp_path: Path) -> None:
    model = nb.load(write_folder(tmp_path / family, TINY[family]))
    picture = attention(model, "the cat sat", "on a mat")
    encoding = model.tokenizer.encode("the cat sat", "on a mat")
    segments = torch.tensor([encoding.type_ids]) if model.config.segments > 1 else None
    with torch.no_grad():
        expected = model(torch.tensor([encoding.ids]), None, segments, output_attentions=True).attentions
    assert picture.tokens == tuple(encoding.tokens)
    assert picture.weights.dtype == np.float32
    assert np.array_equal(picture.weights, torch.stack(expected)[:, 0].numpy())
    assert np.allclose(picture.weights.sum(-1), 1, atol=1e-6)
    assert np.allclose(picture.received.sum(-1), 1, atol=1e-6)
    assert np.allclose(picture.received[1, 2], expected[1][0, 2].mean(0).numpy(), atol=1e-7)
    assert np.allclose(picture.mean, picture.weights.mean((0, 1)), atol=1e-7)


def test_layers_and_heads_are_chosen(model: Model) -> None:
    whole = attention(model, "a dog")
    some = attention(model, "a dog", layers=-1, heads=[3, 0])
    assert (some.layers, some.heads) == ((1,), (3, 0))
    assert np.array_equal(some.weights, whole.weights[1:, [3, 0]])
    assert attention(model, "a dog", layers=-1.0, heads=np.array([3, 0])).heads == (3, 0)  # type: ignore[arg-type]
    for given in ({"layers": 2}, {"heads": [0, 4]}, {"heads": -5}, {"layers": []}, {"layers": 0.5}, {"heads": True}):
        with pytest.raises(BadInputError, match=r"(layer|head) .* does not exist|no layers selected"):
            attention(model, "a dog", **given)


def test_a_folder_does_and_the_model_keeps_its_mode(model: Model) -> None:
    assert np.array_equal(attention(model.snapshot.folder, "a dog").weights, attention(model, "a dog").weights)
    model.train()
    model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    try:
        assert np.array_equal(attention(model, "a dog").weights, attention(model, "a dog").weights)  # no dropout
        assert [module.training for module in model.modules()] == modes
    finally:
        model.eval()


def test_a_text_beyond_the_model_is_refused(model: Model) -> None:
    with pytest.raises(TooLongError, match=r"42 tokens, and the maximum length of .* is 40: use a shorter text"):
        attention(model, "cat " * 40)


def test_the_page_holds_every_weight(model: Model) -> None:
    picture = attention(model, "the cat sat")
    page = picture.html()
    Page(page).check()
    data = data_of(page)
    n = len(picture.tokens)
    assert data["tokens"] == list(picture.tokens)
    assert (data["layers"], data["heads"]) == ([0, 1], [0, 1, 2, 3])
    weights = np.frombuffer(base64.b64decode(data["weights"]), "<u2").reshape(2, 4, n, n) / 65535
    assert np.abs(weights - picture.weights).max() <= 0.5001 / 65535


def picture_of(tokens: list[str], layers: int = 1, heads: int = 1) -> AttentionPicture:
    n = len(tokens)
    weights = np.full((layers, heads, n, n), 1 / n, np.float32)
    return AttentionPicture(tuple(tokens), weights, tuple(range(layers)), tuple(range(heads)), HOSTILE)


def test_tokens_of_strangers_are_only_shown() -> None:
    tokens = [HOSTILE, "<!--<script>", "\u2028", "&lt;", "日本", "\u202eabc", '"']
    page = picture_of(tokens).html()
    parsed = Page(page)
    parsed.check()
    assert len(parsed.scripts) == 2
    assert data_of(page)["tokens"] == tokens
    assert data_of(page)["model"] == HOSTILE
    assert "innerHTML" not in page


def test_too_many_weights_for_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[AttentionPicture.__module__], "MOST_IN_PAGE", 8)
    assert picture_of(["a", "b"], heads=2).html()
    with pytest.raises(BadInputError, match="select layers= or heads="):
        picture_of(["a", "b"], heads=3).html()


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node to read JavaScript")
def test_the_script_is_javascript(tmp_path: Path) -> None:
    script = tmp_path / "page.js"
    script.write_text(Page(picture_of(["a"]).html()).scripts[1])
    subprocess.run(["node", "--check", str(script)], check=True)


@pytest.mark.parametrize("ending", sorted(STARTS))
@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (1, 3)])
@pytest.mark.slow
def test_drawings_of_attention(ending: str, layers: int, heads: int, tmp_path: Path) -> None:
    picture, path = picture_of(["$x^2$", "$\\frac{$", "$", "<b>"], layers, heads), tmp_path / f"attention{ending}"
    picture.save(path)
    first = path.read_bytes()
    assert first.startswith(STARTS[ending])
    picture.save(path)
    assert path.read_bytes() == first


def test_tokens_are_named_where_there_is_room() -> None:
    def labels(picture: AttentionPicture) -> list[str]:
        figure = picture._figure()
        return [label.get_text() for axes in figure.axes[:-1] for label in axes.get_yticklabels()]

    assert labels(picture_of(["a", "$b$"])) == ["a", "$b$"]
    assert labels(picture_of(["a"] * 200)) == []
    assert labels(picture_of(["a", "b"] * 8, heads=5)) == []


@pytest.mark.parametrize(("tokens", "layers", "heads"), [(13, 5, 5), (6, 6, 1)])
def test_no_name_is_cut_by_the_edge_of_a_drawing(tokens: int, layers: int, heads: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    picture = replace(picture_of(["token"] * tokens, layers, heads), model="a-long-name/" * 6)
    figure = picture._figure()
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    for axes in figure.axes:
        for text in (axes.yaxis.label, axes.title, *axes.get_yticklabels(), figure._suptitle):
            box = text.get_window_extent(canvas.get_renderer())
            assert text.get_text() == "" or (box.x0 >= 1 and box.x1 <= figure.bbox.width - 1), text.get_text()


def test_a_grid_ends_with_the_means() -> None:
    picture = picture_of(["a", "b"], layers=2, heads=3)
    picture.weights[0, 0] = [[1, 0], [0, 1]]
    axes = picture._figure().axes
    assert [a.get_title() for a in axes[:4]] == ["head 0", "head 1", "head 2", "mean"]
    assert [a.get_ylabel() for a in axes[:12:4]] == ["layer 0", "layer 1", "mean"]
    assert np.allclose(axes[3].images[0].get_array(), picture.weights[0].mean(0))
    assert np.allclose(axes[8].images[0].get_array(), picture.weights[:, 0].mean(0))
    assert np.allclose(axes[11].images[0].get_array(), picture.mean)


@pytest.mark.parametrize(
    ("path", "message"),
    [("a.gif", "one of the extensions"), ("no/a.png", "does not exist"), ("a", "one of the extensions"), (".", "extensions")],
)
def test_where_no_picture_can_be_written(path: str, message: str, tmp_path: Path) -> None:
    for picture in (picture_of(["a"]), map(np.eye(3))):
        with pytest.raises(BadInputError, match=message):
            picture.save(tmp_path / path)


def test_the_page_is_in_the_wheel() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert "pictures/*.html" in project["tool"]["setuptools"]["package-data"]["nativebert"]


def test_pictures_are_imported_without_torch_and_matplotlib() -> None:
    code = "import sys, nativebert.pictures; sys.exit(bool({'torch', 'matplotlib', 'plotly', 'umap'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("missing", "extra"), [("matplotlib", "nativebert[plot]"), ("plotly", "nativebert[plot]"), ("umap", "umap-learn")]
)
def test_what_is_not_installed_is_named(missing: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for name in [name for name in sys.modules if name.startswith(f"{missing}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NativeBertError, match=re.escape(f"pip install {chr(39) * (missing != 'umap')}{extra}")):
        map(np.eye(9), method="umap" if missing == "umap" else "pca").save(
            tmp_path / ("a.html" if missing == "plotly" else "a.png")
        )


# ---- maps


def cloud(n: int = 40, width: int = 7) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, width)) * np.arange(1, width + 1) + 5


def test_principal_components() -> None:
    x = cloud()
    picture = map(x, dimensions=3)
    centred = x - x.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    assert picture.explained == pytest.approx((values / values.sum())[::-1][:3].tolist())
    for axis in range(3):
        direction = vectors[:, -1 - axis]
        direction = direction * np.sign(direction[np.abs(direction).argmax()])
        assert np.allclose(picture.points[:, axis], centred @ direction)


def test_a_map_is_always_the_same_way_round() -> None:
    x = cloud()
    assert np.allclose(map(x).points, map(x + 3).points)
    assert np.allclose(map(x).points[::-1], map(x[::-1]).points)
    assert map(np.ones((5, 3))).explained == (0.0, 0.0)
    assert map(np.ones((5, 3))).points.tolist() == [[0.0, 0.0]] * 5


@pytest.mark.reference
def test_as_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    x, reference = cloud(), PCA(2)
    assert np.allclose(map(x).points, reference.fit_transform(x))
    assert map(x).explained == pytest.approx(reference.explained_variance_ratio_.tolist())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vectors": cloud()[0]}, "at least 2 vectors"),
        ({"vectors": cloud()[:1]}, "at least 2 vectors"),
        ({"vectors": cloud()[:, :2], "dimensions": 3}, "of dimension 3 or more"),
        ({"vectors": [["a", "b"]] * 3}, "not a numeric array"),
        ({"vectors": np.where(np.eye(4) > 0, np.nan, 1.0)}, "row 0 .* contains NaN"),
        ({"labels": ["a"]}, "1 labels for 40 vectors"),
        ({"texts": ["a"] * 41}, "41 texts for 40 vectors"),
        ({"method": "tsne"}, "'pca' or 'umap'"),
        ({"dimensions": 4}, "2 or 3 dimensions"),
    ],
)
def test_what_cannot_be_mapped(given: dict, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        map(**{"vectors": cloud(), **given})


def test_labels_are_groups_or_a_scale() -> None:
    x = cloud(4)
    assert map(x, [1, 2.5, None, np.float32(3)]).continuous
    assert map(x, np.array([1.0, 2, 3, 4])).continuous
    assert map(x, np.array([1, 2, 3, 4]), scale=True).continuous
    assert not map(x, np.array([1, 2, 3, None])).continuous  # numbers of clusters
    assert not map(x, [0.5, 0.5, 1.5, 2.5], scale=False).continuous
    with pytest.raises(BadInputError, match="labels that are numbers"):
        map(x, ["a", "b", "c", "d"], scale=True)
    for labels in (["1", "2", "3", "4"], [True, False, True, False], [1, "a", 2, 3], [None] * 4, None):
        assert not map(x, labels).continuous
    groups = map(x, ["b 10", None, "b 9", "b 10"]).groups()
    assert [(name, at.tolist(), colour) for name, at, colour, _ in groups] == [
        ("b 9", [2], "#0072B2"),
        ("b 10", [0, 3], "#E69F00"),
        ("no label", [1], "#b0b0b0"),
    ]


def test_every_look_is_another_and_the_rarest_are_grey() -> None:
    labels = [f"l{i}" for i in range(35)] + [f"l{i}" for i in range(2, 35)]  # l0 and l1 are the rarest
    *named, rest = map(cloud(68), labels).groups()
    assert len({(colour, shape) for _, _, colour, shape in named}) == len(named) == 28
    assert rest[0] == "7 other labels"
    assert {0, 1} < set(rest[1].tolist())
    assert sorted(i for _, at, _, _ in [*named, rest] for i in at.tolist()) == list(range(68))


def test_the_page_of_a_map_shows_strangers_texts_only(tmp_path: Path) -> None:
    texts = [HOSTILE, "<a href='javascript:alert(1)'>b</a>", "two\nlines", "日本"] * 2
    path = tmp_path / "map.html"
    map(cloud(8), [HOSTILE, "b"] * 4, texts).save(path)
    page = path.read_text("utf-8")
    Page(page).check()
    drawn = json.JSONDecoder().raw_decode(page[re.search(r'newPlot\(\s*"map",\s*', page).end() :])[0]
    shown = {text for trace in drawn for text in trace["hovertext"]}
    assert f"<b>{html.escape(HOSTILE)}</b><br>{html.escape(HOSTILE)}" in shown
    assert not any("<" in re.sub(r"</?b>|<br>", "", text) for text in shown)
    assert {html.unescape(trace["name"]) for trace in drawn} == {HOSTILE, "b"}
    assert '"showSendToCloud": false' in page


@pytest.mark.parametrize("ending", [".html", ".png", ".pdf", ".svg"])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("labels", [None, ["a", "$b$", None, "_c"] * 10, [1.5, 2, None, float("nan")] * 10])
@pytest.mark.slow
def test_maps_are_written(ending: str, dimensions: int, labels: list | None, tmp_path: Path) -> None:
    path = tmp_path / f"map{ending}"
    map(cloud(), labels, [f"${i}$" for i in range(40)], dimensions=dimensions).save(path)
    assert path.read_bytes().startswith(STARTS.get(ending, b"<!doctype html>"))


def test_names_cover_no_point_and_no_other_name() -> None:
    from matplotlib.text import Annotation

    figure = map(cloud(30), None, [f"text number {i}" for i in range(30)])._figure()
    notes = [child for child in figure.axes[0].get_children() if isinstance(child, Annotation)]
    boxes = [note.get_window_extent() for note in notes]
    assert len(notes) > 10
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    places = figure.axes[0].transData.transform(map(cloud(30)).points)
    assert not any(box.contains(*place) for box in boxes for place in places)


def test_umap_is_asked_with_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    class UMAP:
        def __init__(self, **given: object) -> None:
            asked.update(given)

        def fit_transform(self, x: np.ndarray) -> np.ndarray:
            return x[:, : asked["n_components"]].astype(np.float32)

    monkeypatch.setitem(sys.modules, "umap", type("umap", (), {"UMAP": UMAP}))
    picture = map(cloud(9), method="umap", seed=7, dimensions=3)
    assert picture.points.shape == (9, 3)
    assert picture.explained is None
    assert picture.axes == ["UMAP 1", "UMAP 2", "UMAP 3"]
    assert (asked["random_state"], asked["n_neighbors"], asked["metric"]) == (7, 8, "cosine")
    with pytest.raises(BadInputError, match="needs at least 5"):
        map(cloud(4), method="umap")


# ---- vectors from files


@pytest.mark.parametrize("ending", [".npy", ".csv", ".jsonl"])
def test_vectors_come_back_as_they_were_written(ending: str, tmp_path: Path) -> None:
    vectors = cloud(5).astype(np.float32)
    texts = ["a", 'b, "c"', "d\ne", "", "日本\u2028"]
    path = str(tmp_path / f"vectors{ending}")
    write_vectors(path, vectors, texts)
    found = read_vectors(path)
    assert found.vectors.dtype == np.float32
    assert np.array_equal(found.vectors, vectors)
    assert found.texts == (None if ending == ".npy" else texts)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "unknown format"),
        ("a.npy", b"nothing", "not a numeric .npy file"),
        ("a.npy", b"", "not a numeric .npy file"),
        ("a.csv", b"text,d1\na,1\nb\n", "line 3: 1 fields"),
        ("a.csv", b"text,d1\na,x\n", "line 2: .*must be numbers"),
        ("a.csv", b"text,d1\n", "no vectors"),
        ("a.csv", b"", "no vectors"),
        ("a.csv", b"\xff\xfe", "not UTF-8"),
        ("a.jsonl", b"", "no vectors"),
        ("a.jsonl", b"{}\n", "line 1: not in the form"),
        ("a.jsonl", b'{"text": "a", "embedding": [1, "b"]}\n', "line 1: not in the form"),
        ("a.jsonl", b'{"text": "a", "embedding": [1]}\n\n{"text": "a", "embedding": [1, 2]}\n', "line 3: 2 numbers"),
    ],
)
def test_files_that_hold_no_vectors(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        read_vectors(str(tmp_path / name))


def test_a_file_that_is_not_there_or_is_pickled(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_vectors(str(tmp_path / "none.csv"))
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.ones(3))
    for name in ("objects.npy", "flat.npy"):
        with pytest.raises(BadInputError):
            read_vectors(str(tmp_path / name))


# ---- differences between models


class Step(NamedTuple):
    name: str
    max_abs: float
    allowed: float = 1e-5
    own: float = 1e-6

    @property
    def passed(self) -> bool:
        return self.max_abs <= self.allowed


@pytest.mark.parametrize("ending", STARTS)
def test_differences_are_drawn_even_where_they_are_infinite(ending: str, tmp_path: Path) -> None:
    steps = [Step("embeddings", 1e-6), Step("layers.0", 2e-3), Step("layers.1", math.inf), Step("pooler", math.nan)]
    path = tmp_path / f"differences{ending}"
    check_plot(path)
    plot(steps, "a $x_1$ model: fail", path)
    assert path.read_bytes().startswith(STARTS[ending])
    if ending == ".svg":
        svg = path.read_text()
        assert all(
            text in svg for text in ("embeddings", "layers.1", "a $x_1$ model: fail", "nativebert, too far off", "allowed")
        )


def test_differences_that_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="nothing to draw"):
        plot([], "title", tmp_path / "a.png")
    for name in ("a.html", "a", "no/a.png"):
        with pytest.raises(BadInputError):
            check_plot(tmp_path / name)
    assert not list(tmp_path.iterdir())
