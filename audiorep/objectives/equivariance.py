"""Equivariance: the call shall be recognised in another view, and it shall show by how much it was transformed."""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.augment.base import Augment, Params
from audiorep.distributed import gather
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.losses.precision import in_full, wide
from audiorep.objectives.base import HeldOut, Objective, Setting
from audiorep.objectives.joint import Head, PairLoss
from audiorep.types import Batch, Spec, Views

MEASURED_DRAWS = 4
"""Transformations of every held-out window from which `measure` learns to read them."""


class Displacement(nn.Module):
    """Each prediction must find its own transformed embedding among those of the batch, and not where it came from.

    ``L = -mean over draws m and samples i of log( exp(s(p_mi, z_mi)) / (sum over all m', i' of exp(s(p_mi, z_m'i')) +
    exp(s(p_mi, z_0i))) )``, s the cosine over tau, p the predictions, z the transformed and z_0 the untransformed
    embeddings. Other draws of the same sample are negatives too: only who knows the parameters tells them apart.

    Source: Devillers and Lefort 2022 (EquiMod), arXiv:2211.01244; z_0 among the negatives is ours: it rules
    out the trivial equivariance in which nothing moves.
    """

    def __init__(self, tau: float = 0.2) -> None:
        super().__init__()
        self.tau = tau

    @in_full
    def forward(
        self, prediction: Float[Tensor, "m b d"], moved: Float[Tensor, "m b d"], still: Float[Tensor, "b d"]
    ) -> Tensor:
        p, z = F.normalize(wide(prediction), dim=2), F.normalize(wide(moved), dim=2)
        origin = (p * F.normalize(wide(still))).sum(2).flatten()
        logits = torch.cat([p.flatten(0, 1) @ z.flatten(0, 1).T, origin[:, None]], 1) / self.tau
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


class Equivariance(Objective):
    """``L = loss(g(x_1), g(x_2)) + weight displacement( u([h(x), a]), h(T_a x), h(x) )``.

    x_1, x_2 are two augmented views, compared as in SimCLR; x is the window as it is, T_a a known transformation with
    parameters a in [-1, 1], drawn anew at each step. g and h are two projectors on one encoder, so that the encoder
    has to keep both; u predicts from an embedding and the parameters where the transformed window lies.

    Args:
        encoder: the encoder to train.
        projector: built on the encoder's width: g.
        loss: of two projections, named terms.
        place: built on the encoder's width: h.
        predictor: u, built on the width of h plus the number of parameters, and told `outputs`, the width of h.
        displacement: compares predictions with what they predict.
        transforms: done one after the other; each draws one or several parameters in [-1, 1].
        draws: transformations of each window a step; from 2 on they are told apart from each other.
        weight: of the equivariance.
        view: the kind of view for the invariance; still: the kind that is transformed.

    Raises:
        AudiorepError: no transformation.

    Source: Devillers and Lefort 2022 (EquiMod), arXiv:2211.01244; that some transformations are better kept
    than forgotten: Dangovski et al. 2022 (E-SSL), arXiv:2111.00899.
    """

    def __init__(
        self,
        encoder: Encoder,
        projector: Head,
        loss: PairLoss,
        place: Head,
        predictor: Callable[..., nn.Module],
        displacement: Displacement,
        transforms: Sequence[Augment],
        draws: int = 2,
        weight: float = 1.0,
        view: str = "global",
        still: str = "clean",
    ) -> None:
        super().__init__(encoder)
        if not transforms or draws < 1:
            raise AudiorepError(
                f"objective.transforms has {len(transforms)} entries and objective.draws={draws}: at least one of each"
            )
        self.projector, self.place = projector(encoder.dim), place(encoder.dim)
        self.transforms = nn.ModuleList(transforms)
        example = torch.zeros(2, 1, 8, 8)
        self.names = [name for each in transforms for name in each.sample(example, torch.Generator())]
        width = int(self.place.dim)  # type: ignore[arg-type]
        self.predictor = predictor(width + len(self.names), outputs=width)
        self.loss, self.displacement = loss, displacement
        self.draws, self.weight, self.view, self.still = draws, weight, view, still

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, 2)
        setting.wants_views(self.still, 1)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        seen = [gather(self.projector(self.encoder(spec).pooled)) for spec in views[self.view][:2]]
        terms = self.loss(*seen)
        still = views[self.still][0]
        moved, parameters = zip(*(transformed(still, self.transforms, rng) for _ in range(self.draws)), strict=True)
        pooled = self.encoder(torch.cat([still, *moved])).pooled
        origin, *places = self.place(pooled).chunk(self.draws + 1)
        known = F.normalize(origin.float())
        predictions = [gather(self.predictor(torch.cat([known, a], 1))) for a in parameters]
        targets = torch.stack([gather(z) for z in places])
        lost = self.displacement(torch.stack(predictions), targets, gather(origin))
        return terms | {"equivariance": self.weight * lost}

    def embeddings(self, spec: Spec) -> dict[str, Float[Tensor, "b d"]]:
        pooled = self.encoder(spec).pooled
        return {"backbone": pooled, "projection": self.projector(pooled), "place": self.place(pooled)}

    def measure(self, held_out: HeldOut, rng: torch.Generator) -> dict[str, float]:
        """Returns {"r2", "r2_PARAMETER" of each}: how well the transformation is read from pairs of embeddings."""
        windows = ((views[self.still][0], batch["group"]) for views, batch in held_out)
        return readable(self.encoder, self.transforms, self.names, windows, rng)


def transformed(x: Spec, transforms: Iterable[nn.Module], rng: torch.Generator) -> tuple[Spec, Float[Tensor, "b k"]]:
    """Draw all transformations and apply them in turn: the result, and the parameters."""
    drawn: list[Tensor] = []
    for transform in transforms:
        params: Params = transform.sample(x, rng)  # type: ignore[operator]
        x = transform.apply_to(x, **params)  # type: ignore[operator]
        drawn += params.values()
    return x, torch.stack(drawn, 1)


@torch.no_grad()
def readable(
    encoder: Encoder,
    transforms: Iterable[nn.Module],
    names: Sequence[str],
    windows: Iterable[tuple[Spec, Tensor]],
    rng: torch.Generator,
) -> dict[str, float]:
    """How well a ridge regression reads the parameters of known transformations from ``z(T_a x) - z(x)``.

    It is fitted on one half of the windows and scored on the other, no group on both sides where there are several.

    Args:
        windows: spectrograms [b 1 f n], and the group of each.

    Returns:
        The coefficient of determination R^2 of each parameter on the second half ("r2_NAME"), and their mean ("r2"); 1:
        read without error, 0: no better than the mean. Empty where there are fewer than four windows.
    """
    differences, wanted, groups, numbers, count = [], [], [], [], 0
    for spec, group in windows:
        still = encoder(spec).pooled.float()
        for _ in range(MEASURED_DRAWS):
            moved, parameters = transformed(spec, transforms, rng)
            differences.append(encoder(moved).pooled.float() - still)
            wanted.append(parameters.float())
            groups.append(group.cpu())
            numbers.append(count + torch.arange(len(spec)))
        count += len(spec)
    if count < 4:
        return {}
    x, y = torch.cat(differences).cpu().double().numpy(), torch.cat(wanted).cpu().double().numpy()
    group = torch.cat(groups)
    first = half(group if len(group.unique()) > 1 else torch.cat(numbers)).numpy()
    x /= max(
        1e-12, x[first].std()
    )  # one scale for all: dimensions that hardly ever move shall not count as much as others
    reader = RidgeCV(alphas=[10.0**power for power in range(-1, 6)]).fit(x[first], y[first])
    scores = r2_score(y[~first], reader.predict(x[~first]).reshape(-1, len(names)), multioutput="raw_values")
    return {"r2": float(scores.mean())} | {f"r2_{n}": float(r2) for n, r2 in zip(names, scores, strict=True)}


def half(group: Tensor) -> Tensor:
    """True for about half of the rows [m], whole groups, the largest dealt out first."""
    kinds, sizes = group.unique(return_counts=True)
    chosen, balance = [], 0
    for i in sizes.argsort(descending=True, stable=True).tolist():
        if balance <= 0:
            chosen.append(int(kinds[i]))
        balance += int(sizes[i]) if balance <= 0 else -int(sizes[i])
    return torch.isin(group, torch.tensor(chosen))
