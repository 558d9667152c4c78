"""The report: honest in its first line, safe with any string, complete in one file, and tolerant of missing parts."""

import base64
import io
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from audiorep.errors import AudiorepError
from audiorep.evaluate import figures, pictures
from audiorep.evaluate.calibrate import reliability
from audiorep.evaluate.report import Picture, Report, render, write_report
from audiorep.evaluate.results import Answers, Results, results
from audiorep.evaluate.score_table import score_table, shortcut_table
from audiorep.evaluate.standing import verdict
from audiorep.evaluate.words import CURVES, sentence_case
from audiorep.shown import shown_names, shown_only

HOSTILE = "<script>alert('x')</script>\" onerror=\"alert(1)"
EMPTY = Report(
    title="byol on nothing",
    facts={},
    warnings=[],
    windows=[],
    views=[],
    curves=None,
    embedding=None,
    label=[],
    group=[],
    metrics={},
    next_steps=[],
)


def measured(ours: float, mel: float, random: float, half_width: float | None = 0.01) -> dict[str, float]:
    """kNN accuracy of the three encoders, each with an interval of twice `half_width`, or without one."""
    metrics = {}
    for prefix, value in (("", ours), ("mel/", mel), ("random/", random)):
        key = f"{prefix}knn/accuracy"
        metrics[key] = value
        if half_width is not None:
            metrics |= {f"{key}/low": value - half_width, f"{key}/high": value + half_width}
    return metrics


def shortcut(column: str) -> dict[str, float]:
    """What the three encoders tell of a column."""
    key = f"shortcut/{column}"
    scores = {"": 0.93, "mel/": 0.61, "random/": 0.7}
    told = {f"{prefix}{key}/balanced_accuracy{end}": value + offset for prefix, value in scores.items()
            for end, offset in (("", 0.0), ("/low", -0.02), ("/high", 0.02))}  # fmt: skip
    return told | {f"{prefix}{key}/chance": 1 / 3 for prefix in scores} | {f"{key}/confounding": 0.8}


def picture(title: str, bands: int = 16, frames: int = 24) -> Picture:
    """A picture that rises from the lowest band to the highest."""
    image = np.linspace(-60.0, 0.0, bands)[:, None] + np.zeros((1, frames))
    return Picture(image, title, seconds=0.5, low_hz=50.0, high_hz=8000.0)


def classified(classes: list[str], multilabel: bool = False, rows: int = 240) -> Results:
    """The results of a classifier that is mostly right, and sometimes takes a call for the next class."""
    rng, c = np.random.default_rng(0), len(classes)

    def answers() -> Answers:
        number, quiet = rng.integers(0, c, rows), np.arange(rows) % 6 == 0
        logits = rng.normal(size=(rows, c)) + 4.0 * np.eye(c)[number] + 2.0 * np.eye(c)[(number + 1) % c] - 2.0
        truth = np.eye(c)[number] * ~quiet[:, None] if multilabel else np.where(quiet, -1, number)
        logits[quiet] = rng.normal(size=(int(quiet.sum()), c)) - 2.0
        return Answers(logits, truth, np.arange(rows) % 9, np.full(rows, 3.0), quiet)

    return results(answers(), answers(), classes, 0.8, 20)


@pytest.fixture(autouse=True)
def without_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps by PCA, whether or not UMAP (and the minute it takes to compile) is installed."""
    monkeypatch.setitem(sys.modules, "umap", None)


@pytest.fixture
def full() -> Report:
    """A report with every part, and a hostile string wherever a string may stand."""
    rng = np.random.default_rng(0)
    step = np.arange(100)
    curves = pd.DataFrame({"step": step, "loss": rng.normal(3, 0.1, 100), "lr": np.linspace(1, 0, 100)})
    curves["backbone/rankme"] = np.where(step % 10 == 0, 20.0 + step, np.nan)
    curves["never_logged"] = np.nan
    curves[HOSTILE] = step * 2.0
    return Report(
        title=HOSTILE,
        facts={"corpus": HOSTILE, HOSTILE: "fsdd", "command": "audiorep pretrain " + "corpus=birds " * 9},
        warnings=[HOSTILE],
        windows=[picture(HOSTILE)],
        views=[[picture("owl"), picture(HOSTILE), picture("view 2")]],
        curves=curves,
        embedding=rng.normal(size=(60, 8)).astype(np.float32),
        label=[HOSTILE, "owl", ""] * 20,
        group=[HOSTILE, "site b"] * 30,
        metrics=measured(0.961, 0.887, 0.702) | {"rankme": 87.3, "mel/rankme": 21.0, HOSTILE: 2.0} | shortcut(HOSTILE),
        next_steps=[(HOSTILE, HOSTILE)],
        shortcut_notes=[HOSTILE],
    )


class Page(HTMLParser):
    """What a browser would see: every start tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def pixels(src: str) -> np.ndarray:
    """The picture of a data URI, [rows columns channels] in [0, 1]."""
    return matplotlib.image.imread(io.BytesIO(base64.b64decode(src.partition(",")[2])), format="png")


def test_no_string_becomes_markup(full: Report) -> None:
    text = render(full)
    page = Page(text)
    assert page.of("script") == []
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "&lt;script&gt;alert" in text


def test_page_needs_nothing_else(full: Report) -> None:
    text = render(full)
    page = Page(text)
    sources = [attributes[name] for _, attributes in page.tags for name in ("src", "href") if name in attributes]
    assert sources and all(str(source).startswith("data:image/png;base64,") for source in sources)
    assert page.of("link", "iframe", "object") == [] and "@import" not in text and "url(" not in text
    assert re.search(r"https?://", text) is None


def test_page_is_accessible(full: Report) -> None:
    page = Page(render(full))
    assert all(image["alt"] for image in page.of("img"))
    assert all(header["scope"] in ("col", "row", "rowgroup") for header in page.of("th"))
    assert all("aria-label" in svg or svg.get("aria-hidden") == "true" for svg in page.of("svg"))
    assert len(page.of("h1")) == 1 and len(page.of("h2")) == 9
    labels = {section["aria-labelledby"] for section in page.of("section")}
    assert labels == {heading["id"] for heading in page.of("h2")}


@pytest.mark.parametrize(
    ("part", "nothing", "section"),
    [
        ("facts", {}, "facts"),
        ("warnings", [], "warnings"),
        ("windows", [], "windows"),
        ("views", [], "views"),
        ("curves", None, "curves"),
        ("curves", pd.DataFrame({"step": [0, 1], "loss": [np.nan, np.nan]}), "curves"),
        ("metrics", shortcut("recorder"), "scores"),
        ("metrics", measured(0.961, 0.887, 0.702), "shortcut"),
        ("next_steps", [], "next"),
    ],
)
def test_missing_part_is_left_out(full: Report, part: str, nothing: object, section: str) -> None:
    shown = {heading["id"] for heading in Page(render(replace(full, **{part: nothing}))).of("h2")}
    sections = {"facts", "warnings", "scores", "shortcut", "windows", "views", "curves", "map", "next"}
    assert shown == sections - {section}


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_classifier_has_a_section_before_the_map(full: Report, multilabel: bool) -> None:
    found = classified([HOSTILE, "owl", "robin", "wren"], multilabel)
    text = render(replace(full, classifier=found))
    page = Page(text)
    order = [heading["id"] for heading in page.of("h2")]
    assert order.index("classifier") + 1 == order.index("map")
    assert (
        page.of("script") == []
        and "&lt;script&gt;alert" in text.partition('id="classifier"')[2].partition('id="map"')[0]
    )
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all(header["scope"] in ("col", "row", "rowgroup") for header in page.of("th"))
    assert all("aria-label" in svg or svg.get("aria-hidden") == "true" for svg in page.of("svg"))
    assert ("What is taken for what" in text) is not multilabel
    assert all(note in text for note in found.notes) and found.notes
    for name in ("ap", "auroc", "recall", "precision_at_threshold", "recall_at_threshold"):
        assert f">{found.metrics[f'test/{name}/robin']:.3f}<".replace(">0", ">") in text
    assert f"before: {found.metrics['test/ece_uncalibrated']:.3f}".replace(" 0", " ") in text
    assert "False per hour" in text


def test_a_report_without_a_classifier_is_as_it_was(full: Report) -> None:
    text = render(full)
    assert 'id="classifier"' not in text and "Do probabilities come true" not in text


def test_what_a_classifier_lacks_is_left_out_of_its_section() -> None:
    found = classified(["owl", "robin"])
    bare = {name: value for name, value in found.metrics.items() if not name.startswith("test/false_positives")}
    assert "False per hour" not in render(replace(EMPTY, classifier=replace(found, metrics=bare)))
    nothing = reliability(np.zeros((0, 2)), np.zeros(0, int))
    text = render(replace(EMPTY, classifier=replace(found, calibrated=nothing, uncalibrated=nothing, notes=[])))
    assert "Do probabilities come true" not in text and "Class by class" in text and 'role="note"' not in text


def test_the_confusion_matrix_shows_parts_of_each_row_and_its_worst_errors() -> None:
    counts = np.array([[6, 3, 0, 1], [0, 5, 0, 0], [0, 0, 0, 0], [4, 0, 0, 4]])
    found = pictures.confusion_matrix(counts, ["a", "b", "never", "c"])
    assert found is not None and found.names == ("a", "b", "c") and found.calls == (10, 5, 8)
    assert [[cell.count for cell in row] for row in found.rows] == [[6, 3, 1], [0, 5, 0], [4, 0, 4]]
    assert [cell.percent for cell in found.rows[0]] == [60, 30, 10] and found.rows[2][0].share == 0.5
    assert [(m.truth, m.said, m.count, m.of) for m in found.mix_ups] == [
        ("c", "a", 4, 8),
        ("a", "b", 3, 10),
        ("a", "c", 1, 10),
    ]
    assert pictures.confusion_matrix(np.zeros((2, 2), int), ["a", "b"]) is None


def test_a_large_confusion_matrix_keeps_the_classes_of_the_most_errors() -> None:
    most = pictures.MAX_CLASSES
    counts = np.diag(np.full(most + 5, 9))
    counts[3, most + 4] = 2
    found = pictures.confusion_matrix(counts, [f"class {i}" for i in range(most + 5)])
    assert found is not None and len(found.names) == most and found.left_out == 5
    assert {"class 3", f"class {most + 4}"} <= set(found.names) and "class 63" not in found.names


def test_long_names_number_the_columns() -> None:
    names = ["owl", "x" * (pictures.LONG_NAME + 1)]
    text = render(replace(EMPTY, classifier=classified(names)))
    assert '<div class="number">2</div>' in text and f">2 {names[1]}<" in text
    assert 'class="number"' not in render(replace(EMPTY, classifier=classified(["owl", "robin"])))


def test_the_reliability_line_leaves_out_bins_of_few() -> None:
    p = np.array([[0.9, 0.1]] * 16 + [[0.35, 0.65]] * 3)
    line = pictures.reliability_line(reliability(p, np.array([0] * 12 + [1] * 4 + [1] * 3), bins=10))
    assert line is not None and line.path == "M90.00 25.00"
    assert [(x, y) for x, y, _ in line.dots] == [pytest.approx((65.0, 0.0)), pytest.approx((90.0, 25.0))]
    assert line.dots[1][2] / line.dots[0][2] == pytest.approx(np.sqrt(16 / 3))
    assert pictures.reliability_line(reliability(np.zeros((0, 2)), np.zeros(0, int))) is None


def test_the_learning_curve_draws_means_and_intervals(tmp_path: Path) -> None:
    series = {"BYOL": [(0.5, 0.4, 0.6), (np.nan, np.nan, np.nan), (0.9, 0.8, 0.95)], "mel": [(0.3, 0.2, 0.4)] * 3}
    axes = pictures.learning_figure(["1", "5", "all"], series, "cmAP").axes[0]
    assert [line.get_label() for line in axes.lines] == ["BYOL", "mel"] and axes.get_ylabel() == "cmAP"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [0.5, np.nan, 0.9])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "5", "all"]
    assert axes.get_xlabel() == "labelled calls of each class"
    parts = pictures.learning_figure(["1%", "5%"], {"mel": [(0.3, 0.2, 0.4)] * 2}, known="part of the labels")
    assert parts.axes[0].get_xlabel() == "part of the labels"
    bars = axes.collections[0].get_segments()
    assert bars[0][:, 1].tolist() == [0.4, 0.6] and bars[-1][:, 1].tolist() == [0.8, 0.95]
    pictures.learning_curve(["1", "5", "all"], series, tmp_path / "curve.png")
    assert matplotlib.image.imread(tmp_path / "curve.png").shape[0] > 300
    with pytest.raises(ValueError, match="mel has 3 scores for 2 budgets"):
        pictures.learning_figure(["1", "5"], {"mel": [(0.3, 0.2, 0.4)] * 3})


def test_the_first_letter_is_raised_except_in_a_name_with_a_case_of_its_own() -> None:
    assert [sentence_case(name) for name in ("kNN accuracy", "cmAP", "linear probe cmAP", "")] == [
        "kNN accuracy",
        "cmAP",
        "Linear probe cmAP",
        "",
    ]


def test_an_empty_report_has_no_sections() -> None:
    page = Page(render(EMPTY))
    assert page.of("section", "img") == []


def test_map_says_what_it_lacks(full: Report) -> None:
    text = render(replace(full, label=[""] * 60, group=["site"] * 60))
    assert "no map by label" in text and "no map by group" in text
    assert "fewer than three" in render(replace(full, embedding=np.full((60, 8), np.nan, np.float32)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("embedding", [np.zeros((5, 4)), np.arange(5.0)[:, None], np.eye(5)[:, :2]])
def test_map_of_degenerate_embeddings(embedding: np.ndarray) -> None:
    layout = figures.plane(embedding)
    assert layout is not None and layout.xy.shape == (5, 2) and np.isfinite(layout.xy).all()


def test_map_by_pca_is_exact_in_two_dimensions() -> None:
    embedding = np.random.default_rng(0).normal(size=(30, 2))
    layout = figures.plane(embedding)
    assert layout is not None and layout.method == "PCA; its two axes hold 100 % of the variance"
    distances = [np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (layout.xy, embedding)]
    np.testing.assert_allclose(*distances)
    assert layout.xy[:, 0].var() >= layout.xy[:, 1].var()


def test_map_by_umap_where_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class FirstTwo:
        def __init__(self, **settings: object) -> None:
            assert settings["random_state"] == 0 and settings["metric"] == "cosine"

        def fit_transform(self, rows: np.ndarray) -> np.ndarray:
            return rows[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=FirstTwo))
    embedding = np.random.default_rng(0).normal(size=(figures.MIN_UMAP_POINTS, 4))
    layout, few = figures.plane(embedding), figures.plane(embedding[:-1])
    assert layout is not None and layout.method == "UMAP" and np.array_equal(layout.xy, embedding[:, :2])
    assert few is not None and few.method.startswith("PCA")


def test_map_leaves_out_what_is_not_finite_and_samples_the_rest() -> None:
    embedding = np.random.default_rng(0).normal(size=(figures.MAX_MAP_POINTS + 10, 3))
    embedding[7] = np.nan
    layout = figures.plane(embedding)
    assert layout is not None and len(layout.kept) == figures.MAX_MAP_POINTS and 7 not in layout.kept


@pytest.mark.parametrize(
    ("metrics", "tone", "sentence"),
    [
        (
            measured(0.961, 0.887, 0.702),
            "ahead",
            "The encoder beats the mel baseline on kNN accuracy: .961 against .887 (random encoder .702).",
        ),
        (
            measured(0.85, 0.887, 0.702),
            "behind",
            "The encoder does not beat the mel baseline on kNN accuracy: .850 against .887 (random encoder .702).",
        ),
        (
            measured(0.9, 0.887, 0.702),
            "level",
            "The encoder scores higher than the mel baseline on kNN accuracy, .900 against .887 "
            "(random encoder .702), but their 95 % intervals overlap.",
        ),
        (
            measured(0.88, 0.887, 0.702),
            "level",
            "The encoder does not beat the mel baseline on kNN accuracy, .880 against .887 "
            "(random encoder .702), and their 95 % intervals overlap.",
        ),
        (
            measured(0.95, 0.887, 0.99),
            "behind",
            "The encoder beats the mel baseline on kNN accuracy: .950 against .887 (random encoder .990). "
            "The random encoder scores higher: training has not helped here.",
        ),
        (
            measured(0.95, 0.887, 0.94),
            "level",
            "The encoder beats the mel baseline on kNN accuracy: .950 against .887 (random encoder .940). "
            "It cannot be told apart from the random encoder: training has not clearly helped.",
        ),
        (
            measured(0.95, 0.887, 0.702, None),
            "ahead",
            "The encoder beats the mel baseline on kNN accuracy: .950 against .887 (random encoder .702). "
            "No 95 % intervals were computed, so chance is not ruled out.",
        ),
        (
            measured(0.9, 0.9, 0.7, None),
            "level",
            "The encoder equals the mel baseline on kNN accuracy: .900 against .900 (random encoder .700).",
        ),
        (
            {"linear/cmap": 0.5, "random/linear/cmap": 0.6},
            "behind",
            "The encoder does not beat the random encoder on linear probe cmAP: .500 against .600.",
        ),
        (
            {"knn/accuracy": 0.95, "mel/knn/accuracy": float("nan")},
            "unknown",
            "The encoder reaches kNN accuracy .950; without a baseline that says little.",
        ),
        (
            {"rankme": 80.0},
            "unknown",
            "No score was computed on labelled calls, so it is open whether the encoder is of use.",
        ),
    ],
)
def test_the_verdict_names_the_worse_comparison_and_its_numbers(
    metrics: dict[str, float], tone: str, sentence: str
) -> None:
    found = verdict(metrics)
    assert (found.tone, found.sentence) == (tone, sentence)


def test_the_score_table_marks_the_best_only_where_more_is_better() -> None:
    metrics = measured(0.9, 0.8, 0.7) | {"rankme": 50.0, "mel/rankme": 60.0, "linear@5/macro_f1": 1.0, "ece": 0.02}
    table = score_table({"health": float("nan")} | metrics)
    assert table.columns == ("this encoder", "mel baseline", "random encoder")
    assert [row.name for row in table.rows] == ["kNN accuracy", "linear probe (5 per class) macro F1", "RankMe", "ece"]
    knn, probe, rankme, _ = table.rows
    assert knn.best == ".900" and probe.best == "" and rankme.best == ""  # nothing to compare; more is not better
    assert knn.scores[0] is not None and knn.scores[0].span == ".890 to .910"
    assert probe.scores[0] is not None and probe.scores[0].text == "1.000" and probe.scores[1:] == (None, None)


def test_shortcuts_have_a_table_of_their_own() -> None:
    metrics = measured(0.9, 0.8, 0.7) | shortcut("recorder") | {"shortcut/a/b/confounding": 0.1}
    recorder, rest = shortcut_table(metrics)
    assert (recorder.column, recorder.chance, recorder.confounding) == ("recorder", ".333", ".800")
    assert [score.text for score in recorder.scores if score] == [".930", ".610", ".700"]
    assert recorder.scores[0] is not None and recorder.scores[0].span == ".910 to .950"
    assert (rest.column, rest.scores, rest.chance, rest.confounding) == ("a/b", (None, None, None), "", ".100")
    assert [row.name for row in score_table(metrics).rows] == ["kNN accuracy"]
    assert verdict(shortcut("recorder")).tone == "unknown"
    text = render(replace(EMPTY, metrics=shortcut("recorder"), shortcut_notes=["recorder: folds by row"]))
    assert "Does it hear the recorder?" in text and "Recorder: folds by row." in text and ">.930 " in text


def test_health_figures_are_drawn_before_other_quantities() -> None:
    names = ["loss/invariance", "windows_per_s", "prototypes/teacher_entropy", "prototypes/conditional_entropy",
             "prototypes/marginal_entropy", "backbone/raw_std", "projection/raw_std", "lr"]  # fmt: skip
    names += [f"{where}/{figure}" for where in ("backbone", "projection")
              for figure in ("uniformity", "mean_cosine", "std", "rankme")] + ["loss"]  # fmt: skip
    curves = pd.DataFrame({"step": [0, 1]} | {name: [0.0, 1.0] for name in names})
    drawn = [curve.column for curve in figures.training_curves(curves, tuple(CURVES))]
    assert len(drawn) == figures.MAX_CURVES and drawn[0] == "loss" and drawn.index("lr") == 12
    assert {name.rpartition("/")[2] for name in drawn[:13]} == set(CURVES)
    text = render(replace(EMPTY, curves=curves))
    assert "Mean cosine, backbone" in text and "Marginal entropy, prototypes" in text and "clear of 1" in text
    plain = render(replace(EMPTY, curves=curves[["step", "loss"]]))
    assert "clear of 1" not in plain and "prototypes are in use" not in plain


def test_spectrogram_png_stands_upright() -> None:
    image = np.full((4, 6), -80.0)
    image[0, 5] = 0.0  # lowest band, last frame
    image[3, 0] = -np.inf
    seen = pixels(figures.spectrogram(image, -80.0, 0.0))
    assert seen.shape[:2] == (4, 6)
    assert np.unravel_index(seen[..., :3].sum(-1).argmax(), (4, 6)) == (3, 5)
    assert np.array_equal(seen[0, 0], seen[0, 1])


def test_large_spectrogram_keeps_short_calls() -> None:
    image = np.full((300, 5000), -80.0)
    image[150, 2501] = 0.0
    seen = pixels(figures.spectrogram(image, -80.0, 0.0))
    assert seen.shape[:2] == (figures.MAX_BANDS, figures.MAX_FRAMES) and seen.max() > 0.9


def test_colour_range_without_finite_values() -> None:
    assert figures.colour_range([np.full((2, 3), -np.inf)]) == (0.0, 1.0)


def test_curve_spans_all_steps_and_counts_infinities() -> None:
    curves = pd.DataFrame({"step": [0, 50, 100], "loss": [2.0, 1.0, np.inf]})
    curve = figures.training_curve(curves, "loss")
    assert curve is not None
    assert (curve.first_step, curve.last_step, curve.last, curve.infinite) == (0, 100, 1.0, 1)
    assert curve.logged.startswith("M0.00") and "L50.00" in curve.logged and curve.smooth == ""


def test_legend_names_the_most_frequent() -> None:
    names = [f"species {i:02d}" for i in range(30) for _ in range(30 - i)] + [""] * 3
    keys = figures.legend(names, "other labels", "unlabelled")
    assert [key.name for key in keys[:2]] == ["species 00", "species 01"]
    assert [key.name for key in keys[figures.MAX_NAMED :]] == ["other labels (10)", "unlabelled"]
    assert sum(key.count for key in keys) == len(names)
    assert len({(key.colour, key.square) for key in keys}) == len(keys)


def test_many_groups_get_a_ramp() -> None:
    embedding = np.random.default_rng(0).normal(size=(40, 3))
    maps = figures.embedding_maps(embedding, [""] * 40, [f"site {i}" for i in range(40)])
    assert maps is not None and maps.by_label is None
    assert maps.by_group is not None and maps.by_group.keys == () and maps.by_group.names == 40


def test_write_leaves_only_the_report(full: Report, tmp_path: Path) -> None:
    path = tmp_path / "run" / "report.html"
    write_report(EMPTY, path)
    write_report(full, path)
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8").endswith("</html>")


def test_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(AudiorepError, match="disk full"):
        write_report(EMPTY, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == "old"


def test_lengths_must_agree(full: Report) -> None:
    with pytest.raises(ValueError, match="60 embeddings, 1 labels"):
        replace(full, label=["owl"])
    with pytest.raises(ValueError, match="step"):
        replace(full, curves=pd.DataFrame({"loss": [1.0]}))


@pytest.mark.parametrize(
    ("metrics", "tone", "sentence"),
    [
        (
            {"test/balanced_accuracy": 0.9, "mel/test/balanced_accuracy": 0.6, "test/cmap": 0.1, "mel/test/cmap": 0.2},
            "ahead",
            "The classifier beats the mel baseline on test balanced accuracy: .900 against .600.",
        ),
        (
            {"test/cmap": 0.4, "mel/test/cmap": 0.6},  # several labels a row
            "behind",
            "The classifier does not beat the mel baseline on test cmAP: .400 against .600.",
        ),
        ({"test/rows": 12.0, "test/ece": 0.1}, "unknown", "No score was computed on labelled calls"),
    ],
)
def test_a_classifier_is_judged_by_its_test_scores(metrics: dict[str, float], tone: str, sentence: str) -> None:
    found = verdict(metrics)
    assert found.tone == tone and found.sentence.startswith(sentence)


def test_few_shot_scores_are_shown_whatever_their_settings_are_called() -> None:
    metrics = {"fewshot@5-way-5-shot/accuracy": 0.8, "fewshot@5-way-5-shot/accuracy/low": 0.7, "knn/ece": 0.1,
               "fewshot@5-way-5-shot/accuracy/high": 0.9, "mel/fewshot@5-way-5-shot/accuracy": 0.6}  # fmt: skip
    assert shown_names(metrics) == ["fewshot@5-way-5-shot/accuracy"]
    assert shown_only(metrics) == {name: value for name, value in metrics.items() if name != "knn/ece"}
    (row,) = score_table(shown_only(metrics)).rows
    assert row.name == "few-shot (5-way-5-shot) accuracy"
