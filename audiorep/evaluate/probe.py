"""Linear probe: standardise, then logistic regression on frozen embeddings; with all labels or a few of each class."""

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float, Int


def linear_scores(
    train: Float[np.ndarray, "n d"],
    truth: np.ndarray,
    test: Float[np.ndarray, "m d"],
    classes: int,
    strength: float = 0.1,
) -> Float[np.ndarray, "m c"]:
    """Class probabilities of the test embeddings; 0 for classes that the training side lacks.

    Args:
        train, test: embeddings, standardised by the training side.
        truth: [n] class numbers, or [n, c] multi-hot with NaN: then one regression a class on the rows that know it.
        strength: inverse regularisation C of scikit-learn's LogisticRegression (L2).
    """
    scaler = standardise(train)
    x, y = scaler.transform(train), scaler.transform(test)
    out = np.zeros((len(test), classes))
    if truth.ndim == 1:
        present = np.unique(truth)
        if len(present) == 1:
            out[:, present[0]] = 1.0
        else:
            out[:, present] = regress(x, truth, strength).predict_proba(y)
        return out
    for c in range(classes):
        known = ~np.isnan(truth[:, c])
        if len(np.unique(truth[known, c])) == 2:
            out[:, c] = regress(x[known], truth[known, c], strength).predict_proba(y)[:, 1]
    return out


def linear_layer(
    train: Float[np.ndarray, "n d"], truth: Int[np.ndarray, " n"], classes: int, strength: float = 0.1
) -> tuple[Float[np.ndarray, "c d"], Float[np.ndarray, " c"]]:
    """The probe of `linear_scores` as one linear layer on embeddings as they are, ``logits = x W^T + b``.

    With two classes the regression's one logit is that of the second. A class that the training side lacks has a logit
    far below all others.
    """
    scaler = standardise(train)
    model = regress(scaler.transform(train), truth, strength)
    coefficients, intercept = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        coefficients, intercept = np.vstack([0.0 * coefficients, coefficients]), np.append(0.0, intercept)
    weight, bias = np.zeros((classes, train.shape[1])), np.full(classes, -1e4)
    weight[model.classes_] = coefficients / scaler.scale_
    bias[model.classes_] = intercept - weight[model.classes_] @ scaler.mean_
    return weight, bias


def standardise(x: Float[np.ndarray, "n d"]) -> Any:
    """Mean and deviation of each dimension, as scikit-learn keeps them."""
    from sklearn.preprocessing import StandardScaler  # most of a second, which commands without a probe do not need

    return StandardScaler().fit(x)


def regress(x: Float[np.ndarray, "n d"], truth: np.ndarray, strength: float) -> Any:
    """A fitted logistic regression; where it did not converge within a thousand iterations, what it had by then."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=1000).fit(x, truth)


def few_labels(truth: Int[np.ndarray, " n"], per_class: int, seed: int) -> Int[np.ndarray, " k"]:
    """Rows of a draw of `per_class` labels of each class (all of a class that has fewer)."""
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(truth == c))[:per_class] for c in np.unique(truth)]
    return np.sort(np.concatenate(chosen))
