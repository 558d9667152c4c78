"""Fewer rows of frequent classes, or more of rare ones, chosen in the space of embeddings; imbalanced-learn selects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from audiorep.errors import AudiorepError


@dataclass(frozen=True)
class Resampled:
    """What a resampler made of n given rows.

    rows: numbers of the given rows, one as often as it was chosen; None where samples are interpolated and exist only as
    embeddings. x, y: embeddings and class numbers.
    """

    rows: Int[np.ndarray, " m"] | None
    x: Float[np.ndarray, "m d"]
    y: Int[np.ndarray, " m"]


Resample = Callable[[Float[np.ndarray, "n d"], Int[np.ndarray, " n"], int, Sequence[str]], Resampled]
"""(embeddings, class numbers, seed, names of the classes for messages) to `Resampled`; equal seeds give equal results."""


def unchanged(
    x: Float[np.ndarray, "n d"], y: Int[np.ndarray, " n"], seed: int, classes: Sequence[str] = ()
) -> Resampled:
    """Every row once."""
    return Resampled(np.arange(len(y)), x, y)


class Resampler:
    """A resampler of imbalanced-learn as a `Resample`.

    Args:
        method: makes it: a class of imbalanced-learn, or a partial of one.
        interpolates: whether it makes samples between a row and its `k_neighbors` nearest of the same class (SMOTE). Then
            `k_neighbors` is lowered, where need be, to the other members of the smallest class below the largest.

    Raises:
        AudiorepError: when called: a row without a label or with several, fewer than two classes, a class of one example
            to interpolate from, a class that would be left without any row, or settings that do not fit the data.

    Source: Lemaître et al. 2017, JMLR 18(17); Hart 1968, doi:10.1109/TIT.1968.1054155 (condensed); Wilson 1972,
    doi:10.1109/TSMC.1972.4309137 (edited); Tomek 1976, doi:10.1109/TSMC.1976.4309452 (links); Chawla et al. 2002,
    arXiv:1106.1813 (SMOTE).
    """

    def __init__(self, method: Callable[..., Any], interpolates: bool = False) -> None:
        self.method, self.interpolates = method, interpolates

    def __call__(self, x: Float[np.ndarray, "n d"], y: np.ndarray, seed: int, classes: Sequence[str] = ()) -> Resampled:
        """Resampled; messages call the classes by their names, or by their numbers where `classes` is empty."""
        present, count = check_labels(y)
        sampler = self.method()
        settings = sampler.get_params()
        if "random_state" in settings:  # the others draw nothing
            sampler.set_params(random_state=seed)
        if self.interpolates:
            sampler.set_params(k_neighbors=min(settings["k_neighbors"], neighbours(present, count, classes)))
        try:
            made_x, made_y = sampler.fit_resample(x, y)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise AudiorepError(
                f"resampler: {type(sampler).__name__} cannot resample {len(y)} rows: {reason}"
            ) from error
        lost = [called(int(c), classes) for c in present if c not in made_y]
        if lost:
            raise AudiorepError(
                f"resampler: {type(sampler).__name__} leaves no row of {', '.join(lost)}: lower its n_neighbors, choose "
                "resampler=tomek, which removes least, or one that adds rows (random_over, smote)"
            )
        if self.interpolates:
            return Resampled(None, made_x.astype(x.dtype), made_y)
        rows = np.asarray(sampler.sample_indices_)
        return Resampled(rows, x[rows], y[rows])


def neighbours(present: Int[np.ndarray, " c"], count: Int[np.ndarray, " c"], classes: Sequence[str]) -> int:
    """How many neighbours every class that is to grow has within itself."""
    grows = count < count.max()
    if (alone := grows & (count == 1)).any():
        names = ", ".join(called(int(c), classes) for c in present[alone])
        raise AudiorepError(
            f"resampler: {names} has a single example, and there is nothing to interpolate between: label another, "
            "leave the class out, or choose resampler=random_over, which repeats rows"
        )
    return max(1, int(count[grows].min(initial=count.max())) - 1)


def called(number: int, classes: Sequence[str]) -> str:
    """A class as messages call it."""
    return f"class '{classes[number]}'" if classes else f"class {number}"


def check_labels(y: np.ndarray) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " c"]]:
    """The class numbers that occur, and how often each."""
    if y.ndim != 1:
        raise AudiorepError("resampler: rows with several labels cannot be resampled by class: choose resampler=none")
    if unlabelled := int((y < 0).sum()):
        raise AudiorepError(
            f"resampler: {unlabelled} of {len(y)} rows have no label: resample the labelled rows alone, or resampler=none"
        )
    present, count = np.unique(y, return_counts=True)
    if len(present) < 2:
        raise AudiorepError(f"resampler: {len(present)} class(es) among {len(y)} rows: at least two are needed")
    return present, count


def multiplicity(resampled: Resampled, of: Int[np.ndarray, " n"], rows: int) -> Int[np.ndarray, " r"]:
    """How often each of a manifest's rows is to be drawn: ``out[r] = #{j: of[resampled.rows[j]] = r}``.

    Args:
        of: the manifest row of each row that the resampler was given.
        rows: how many rows the manifest has.

    Raises:
        AudiorepError: interpolated samples are no rows.
    """
    if resampled.rows is None:
        raise AudiorepError(
            "resampler: interpolated samples exist only as embeddings and cannot be drawn as rows: use them for a "
            "classifier of embeddings, or choose resampler=random_over"
        )
    return np.bincount(of[resampled.rows], minlength=rows)
