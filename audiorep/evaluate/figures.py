"""The figures of a report, without words: spectrograms as PNG, training curves as SVG paths, embedding maps.

Axes and legends are left to the page, which sets them in its own type and colours, light or dark. Nothing
here touches pyplot or any other global state.
"""

import base64
import io
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from audiorep.files import atomic

MAX_BANDS, MAX_FRAMES = 128, 256
"""A spectrogram is shrunk to this many pixels: sharp on a card, and small enough for thirty of them."""

MAX_CURVES, MAX_CURVE_POINTS = 15, 400
SMOOTH_FROM = 60  # points; a shorter curve is drawn as logged
MAX_MAP_POINTS = 5000
MIN_UMAP_POINTS = 50  # fewer points than this have no neighbourhoods for UMAP to keep
MAX_NAMED = 20

HUES = (
    "#3f78c9",
    "#e6842a",
    "#3f9b4b",
    "#cf4a4a",
    "#9270c4",
    "#8f6350",
    "#dc7fb8",
    "#2aaebb",
    "#a3a32f",
    "#e0b000",
)
"""Ten hues that hold on white and on near-black; circles carry the first ten names, squares the next ten."""

UNNAMED = "#a3abb4"
GRID = "#d5dade"
REST = "#66707a"


def encode_png(pixels: np.ndarray, palette: np.ndarray) -> bytes:
    """An indexed PNG of `pixels` [rows columns] uint8, top row first, and `palette` [up to 256, 3] uint8 RGB.

    A third of the size of an RGB file, which keeps a report small (PNG specification, W3C 2003, section 11.2).
    """
    rows, columns = pixels.shape
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)  # eight bits a pixel, indexed colour
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)  # every line starts with its filter: none
    chunks = (
        (b"IHDR", header),
        (b"PLTE", palette.tobytes()),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    framed = (struct.pack(">I", len(c)) + tag + c + struct.pack(">I", zlib.crc32(tag + c)) for tag, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def data_uri(png: bytes) -> str:
    """The bytes of a PNG as the `src` of an `<img>`."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def write_figure(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write a figure as a PNG, whole or not at all."""
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")


def plain_axes(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    """A faint grid across one axis, and no frame above and to the right."""
    axes.grid(axis=grid, linewidth=0.3, color=GRID)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def shrink(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The loudest value of each block of [f n], at most `rows` x `columns`; a mean would erase short calls."""
    for axis, most in enumerate((rows, columns)):
        size = image.shape[axis]
        starts = np.linspace(0, size, min(size, most), endpoint=False).astype(int)
        image = np.maximum.reduceat(image, starts, axis=axis)
    return image


def colour_range(images: Iterable[Float[np.ndarray, "f n"]]) -> tuple[float, float]:
    """The 2nd and 99.8th percentile of all finite values, which span the colours; (0, 1) if there is none."""
    values = np.concatenate([image[np.isfinite(image)] for image in images])
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, (2.0, 99.8))
    return float(low), float(max(high, low + 1e-6))


def spectrogram(image: Float[np.ndarray, "f n"], low: float, high: float) -> str:
    """[f n] (row 0 the lowest band) in magma between `low` and `high`, lowest band at the bottom, as a data URI.

    NaN and minus infinity (the decibels of silence) take the darkest colour.
    """
    finite = np.nan_to_num(image.astype(np.float64), nan=low, neginf=low, posinf=high)
    level = np.clip((shrink(finite, MAX_BANDS, MAX_FRAMES) - low) / (high - low), 0.0, 1.0)
    palette = (colormaps["magma"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    return data_uri(encode_png(np.flipud(level * 255).round().astype(np.uint8), palette))


@dataclass(frozen=True)
class Curve:
    """One quantity over training, as SVG paths in a box of 100 x 100 with y pointing down."""

    column: str
    logged: str  # path through the values as logged
    smooth: str  # path of the running mean; "" where the curve is short or smooth
    ticks: tuple[tuple[float, float], ...]  # (height in the box, value)
    first_step: int
    last_step: int
    last: float
    infinite: int  # values left out because they are infinite


def svg_path(x: np.ndarray, y: np.ndarray) -> str:
    """The polyline through (x, y), thinned to `MAX_CURVE_POINTS` with both ends kept."""
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), MAX_CURVE_POINTS)).round().astype(int))
    return "M" + "L".join(f"{a:.2f} {b:.2f}" for a, b in zip(x[kept], y[kept], strict=True))


def training_curve(curves: pd.DataFrame, column: str) -> Curve | None:
    """`column` over the whole range of `step`, or None with fewer than two finite values."""
    infinite = int(np.isinf(curves[column].to_numpy(np.float64)).sum())
    logged = curves[["step", column]].replace([np.inf, -np.inf], np.nan).dropna().sort_values("step")
    if len(logged) < 2:
        return None
    first, last = float(curves["step"].min()), float(curves["step"].max())
    x = 100.0 * (logged["step"].to_numpy(np.float64) - first) / max(last - first, 1.0)
    value = logged[column].to_numpy(np.float64)
    turns = np.diff(np.sign(np.diff(value))) != 0
    noisy = len(value) >= SMOOTH_FROM and float(turns.mean()) > 0.2  # a schedule seldom turns and is drawn as it is
    window = max(len(value) // 20, 1)
    mean = logged[column].rolling(window, center=True, min_periods=1).mean().to_numpy(np.float64)
    ticks = np.asarray(MaxNLocator(nbins=3).tick_values(value.min(), value.max()))

    def height(of: np.ndarray) -> np.ndarray:
        return 100.0 * (ticks[-1] - of) / (ticks[-1] - ticks[0])

    return Curve(
        column=column,
        logged=svg_path(x, height(value)),
        smooth=svg_path(x, height(mean)) if noisy else "",
        ticks=tuple(zip(height(ticks).tolist(), ticks.tolist(), strict=True)),
        first_step=int(first),
        last_step=int(last),
        last=float(value[-1]),
        infinite=infinite,
    )


def training_curves(curves: pd.DataFrame, first: Sequence[str]) -> list[Curve]:
    """Up to `MAX_CURVES` logged quantities: those whose last name is in `first`, in its order, then the others."""
    order = {quantity: place for place, quantity in enumerate(first)}
    columns = [str(column) for column in curves.select_dtypes("number") if column not in ("step", "epoch")]
    columns.sort(key=lambda column: order.get(column.rpartition("/")[2], len(order)))
    found = (training_curve(curves, column) for column in columns)
    return [curve for curve in found if curve is not None][:MAX_CURVES]


@dataclass(frozen=True)
class Plane:
    """An embedding laid out in two dimensions."""

    xy: Float[np.ndarray, "m 2"]
    kept: np.ndarray  # [m] rows of the embedding that are drawn: finite, at most `MAX_MAP_POINTS`
    method: str  # "UMAP", or "PCA" with the share of the variance that its two axes hold


def plane(embedding: Float[np.ndarray, "m d"]) -> Plane | None:
    """UMAP (McInnes et al. 2018, arXiv:1802.03426) where installed, else PCA; None with under 3 finite rows.

    UMAP compares rows by cosine, as kNN does. Both are seeded; of more than `MAX_MAP_POINTS` rows a fixed
    sample is drawn.
    """
    kept = np.flatnonzero(np.isfinite(embedding).all(axis=1))
    if len(kept) < 3:
        return None
    if len(kept) > MAX_MAP_POINTS:
        kept = np.sort(np.random.default_rng(0).choice(kept, MAX_MAP_POINTS, replace=False))
    rows = embedding[kept].astype(np.float64)
    if len(kept) >= MIN_UMAP_POINTS:
        try:
            from umap import UMAP
        except ImportError:
            pass
        else:
            layout = UMAP(n_components=2, metric="cosine", random_state=0, n_jobs=1).fit_transform(rows)
            return Plane(np.asarray(layout, np.float64), kept, "UMAP")
    centred = rows - rows.mean(axis=0)
    power, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    xy = centred @ axes[:, -2:][:, ::-1]
    share = power[-2:].sum() / power.sum() if power.sum() > 0 else 0.0
    method = f"PCA; its two axes hold {100 * share:.0f} % of the variance"
    return Plane(np.pad(xy, ((0, 0), (0, 2 - xy.shape[1]))), kept, method)


@dataclass(frozen=True)
class Key:
    """One entry of a legend."""

    name: str
    count: int
    colour: str
    square: bool = False


@dataclass(frozen=True)
class Map:
    """One colouring of a plane; `keys` is empty where a ramp stands for more names than a legend can hold."""

    src: str
    keys: tuple[Key, ...]
    names: int  # distinct names, without ""


def legend(names: Sequence[str], rest: str, unnamed: str) -> tuple[Key, ...]:
    """A key for each of the `MAX_NAMED` most frequent names, then one for the others and one for "", if any."""
    counts = Counter(names)
    without = counts.pop("", 0)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    keys = [
        Key(name, count, HUES[i % len(HUES)], square=i >= len(HUES))
        for i, (name, count) in enumerate(ordered[:MAX_NAMED])
    ]
    others = ordered[MAX_NAMED:]
    if others:
        keys.append(Key(f"{rest} ({len(others)})", sum(count for _, count in others), REST))
    if without:
        keys.append(Key(unnamed, without, UNNAMED))
    return tuple(keys)


def scatter(xy: Float[np.ndarray, "m 2"], colour: Sequence[str], square: np.ndarray, faint: np.ndarray) -> str:
    """Points on a transparent ground as a data URI: faint ones below, the others in a fixed random order.

    Random, so that no frequent name hides the rare ones. `square`, `faint`: [m] bool.
    """
    figure = Figure(figsize=(4.6, 4.6), dpi=170)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set_axis_off()
    axes.set_aspect("equal", adjustable="datalim")
    size = float(np.clip(12000 / len(xy), 6, 30))
    shuffled = np.random.default_rng(0).permutation(len(xy))
    colours = np.asarray(colour)
    for marker, alpha, chosen in (
        ("o", 0.35, faint),
        ("o", 0.8, ~faint & ~square),
        ("s", 0.8, ~faint & square),
    ):
        rows = shuffled[chosen[shuffled]]
        if len(rows):
            axes.scatter(
                xy[rows, 0],
                xy[rows, 1],
                s=size,
                c=colours[rows].tolist(),
                marker=marker,
                alpha=alpha,
                linewidths=0,
            )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True)
    return data_uri(buffer.getvalue())


def named_map(xy: Float[np.ndarray, "m 2"], names: Sequence[str], rest: str, unnamed: str) -> Map:
    """The plane coloured by name: the most frequent have a key each, `rest` the others, `unnamed` those with ""."""
    keys = legend(names, rest, unnamed)
    of_name = {key.name: key for key in keys if key.colour not in (REST, UNNAMED)}
    others = Key(rest, 0, REST)
    chosen = [of_name.get(name, others) if name else Key(unnamed, 0, UNNAMED) for name in names]
    square = np.array([key.square for key in chosen], dtype=bool)
    faint = np.array([name == "" for name in names], dtype=bool)
    return Map(scatter(xy, [key.colour for key in chosen], square, faint), keys, len(set(names) - {""}))


def ramp_map(xy: Float[np.ndarray, "m 2"], names: Sequence[str]) -> Map:
    """The plane coloured by the place of each name in the sorted list of names, one shade of viridis each."""
    ordered = sorted(set(names) - {""})
    places = np.linspace(0.15, 1.0, len(ordered))
    shade = {name: to_hex(colormaps["viridis"](place)) for name, place in zip(ordered, places, strict=True)}
    faint = np.array([name == "" for name in names], dtype=bool)
    colours = [shade.get(name, UNNAMED) for name in names]
    return Map(scatter(xy, colours, np.zeros(len(names), dtype=bool), faint), (), len(ordered))


@dataclass(frozen=True)
class Maps:
    """One embedding coloured twice; a map is None where it would show nothing."""

    method: str
    points: int  # drawn
    by_label: Map | None
    by_group: Map | None


def embedding_maps(embedding: Float[np.ndarray, "m d"], label: Sequence[str], group: Sequence[str]) -> Maps | None:
    """Lay [m d] out once and colour it by label and by group, "" meaning none; None with under 3 finite rows."""
    layout = plane(embedding)
    if layout is None:
        return None
    labels, groups = ([str(names[row]) for row in layout.kept] for names in (label, group))
    by_label = named_map(layout.xy, labels, "other labels", "unlabelled") if any(labels) else None
    by_group = None
    if len(set(groups) - {""}) > MAX_NAMED:
        by_group = ramp_map(layout.xy, groups)
    elif len(set(groups) - {""}) > 1:
        by_group = named_map(layout.xy, groups, "other groups", "no group")
    return Maps(layout.method, len(layout.xy), by_label, by_group)
