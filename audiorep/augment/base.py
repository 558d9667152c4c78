"""The one augmentation interface: `sample` draws parameters, one draw a sample; `apply` is deterministic.

What an objective does with it differs: be invariant to it (joint embedding), undo it (masking), name its parameters
(pretext tasks).
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from audiorep.distributed import rand
from audiorep.threads import one_thread

Params = dict[str, Tensor]
Draw = tuple[Params, Bool[Tensor, " b"] | None]
"""Parameters, and who is augmented at all; None: everybody."""

CACHED_BYTES = 2**20
"""Of samples that are augmented together: what an L2 cache holds."""


class Augment(nn.Module):
    """Batched, on the device of its input.

    Args:
        p: probability that a sample is augmented at all; the others pass unchanged.
    """

    wants_background = False
    """Whether `fill` must be called with background sounds before use."""

    local = True
    """Whether `sample` looks at nothing of x but its shape, and what comes out has that shape."""

    def __init__(self, p: float = 1.0) -> None:
        super().__init__()
        self.p = p

    def fill(self, bank: Float[Tensor, "m t"]) -> None:
        """Take a bank of background waves; most augmentations need none."""

    def sample(self, x: Tensor, rng: torch.Generator) -> Params:
        """Draw the parameters for a batch: tensors whose first axis is the batch."""
        raise NotImplementedError

    def apply_to(self, x: Tensor, **params: Tensor) -> Tensor:
        """Augment with given parameters; same parameters, same output. A new tensor: x is untouched."""
        raise NotImplementedError

    def apply_(self, x: Tensor, **params: Tensor) -> Tensor:
        """`apply_to` for an x that nobody else holds: it may be changed, and what is returned may be it."""
        return self.apply_to(x, **params)

    def draw(self, x: Tensor, rng: torch.Generator) -> Draw:
        """`sample`, and who is augmented at all."""
        return self.sample(x, rng), None if self.p >= 1.0 else uniform(x, rng) < self.p

    def apply_drawn(self, x: Tensor, draw: Draw, owned: bool = False) -> Tensor:
        """Augment those who are chosen; `owned`: nobody else holds x, and it may be changed."""
        params, chosen = draw
        apply = self.apply_ if owned else self.apply_to
        if chosen is None or (x.device.type == "cpu" and chosen.all()):
            return apply(x, **params)
        if x.device.type != "cpu":  # where asking who was chosen would wait for the device
            return torch.where(per_sample(chosen, x), self.apply_to(x, **params), x)
        out, rows = x if owned else x.clone(), chosen.nonzero()[:, 0]
        if len(rows):
            out[rows] = self.apply_(x[rows], **{name: value[rows] for name, value in params.items()})
        return out

    def forward(self, x: Tensor, rng: torch.Generator, owned: bool = False) -> Tensor:
        return self.apply_drawn(x, self.draw(x, rng), owned)


class InPlace(Augment):
    """An augmentation that is written as a change of x: only `apply_`."""

    def apply_to(self, x: Tensor, **params: Tensor) -> Tensor:
        return self.apply_(x.clone(), **params)

    def apply_(self, x: Tensor, **params: Tensor) -> Tensor:
        raise NotImplementedError


def apply_all(augments: Iterable[Augment], x: Tensor, rng: torch.Generator, owned: bool = False) -> Tensor:
    """Apply augmentations one after the other; `owned`: nobody else holds x, and it may be changed.

    On a CPU, where all are `local`, to a few samples at a time, which then stay in its cache: same draws, same output.
    """
    augments = list(augments)
    owned = owned and not x.requires_grad
    few = max(1, CACHED_BYTES // max(1, x[:1].nbytes))
    if x.device.type != "cpu" or x.requires_grad or len(x) <= few or not all(augment.local for augment in augments):
        for augment in augments:
            x, owned = augment(x, rng, owned), not x.requires_grad
        return x
    drawn = [augment.draw(x, rng) for augment in augments]
    out = x if owned or not augments else torch.empty_like(x)
    with one_thread():
        for first in range(0, len(x), few):
            here = slice(first, first + few)
            piece = out[here] if owned else out[here].copy_(x[here])
            for augment, (params, chosen) in zip(augments, drawn, strict=True):
                mine = {name: value[here] for name, value in params.items()}
                piece = augment.apply_drawn(piece, (mine, None if chosen is None else chosen[here]), owned=True)
            if piece.data_ptr() != out[here].data_ptr():
                out[here] = piece
    return out


def uniform(x: Tensor, rng: torch.Generator, low: float = 0.0, high: float = 1.0) -> Float[Tensor, " b"]:
    """One uniform draw a sample, on the device of `x`; several processes draw jointly for their joined batch."""
    return low + (high - low) * rand(len(x), rng=rng, device=x.device)


def per_sample(value: Tensor, x: Tensor) -> Tensor:
    """Reshape [b] so that it broadcasts over `x`."""
    return value.view(-1, *[1] * (x.ndim - 1))


def band_mask(start: Tensor, width: Tensor, length: int) -> Bool[Tensor, "b length"]:
    """True where ``start <= position < start + width``, for each sample."""
    position = torch.arange(length, device=start.device)
    return (position >= start[:, None]) & (position < (start + width)[:, None])


def fill_stretches(x: Tensor, start: Tensor, width: Tensor, axis: int, value: float) -> None:
    """Set ``start <= position < start + width`` along `axis` of each sample to `value`; starts and widths [b count]."""
    if x.device.type == "cpu":  # only what is filled is touched
        for row, (starts, widths) in enumerate(zip(start.tolist(), width.tolist(), strict=True)):
            for first, count in zip(starts, widths, strict=True):
                x[row].narrow(axis - 1, first, count).fill_(value)
        return
    mask = torch.stack([band_mask(s, w, x.shape[axis]) for s, w in zip(start.unbind(1), width.unbind(1), strict=True)])
    shape = [len(x), *[1] * (x.ndim - 1)]
    shape[axis] = x.shape[axis]
    x.masked_fill_(mask.any(0).view(shape), value)


def fill_boxes(x: Tensor, start_f: Tensor, width_f: Tensor, start_t: Tensor, width_t: Tensor, value: float) -> None:
    """Set boxes of bands and frames of x [b 1 f n] to `value`; starts and widths [b count]."""
    if x.device.type == "cpu":
        sides = (side.tolist() for side in (start_f, width_f, start_t, width_t))
        for row, boxes in enumerate(zip(*sides, strict=True)):
            for band, bands, frame, frames in zip(*boxes, strict=True):
                x[row, :, band : band + bands, frame : frame + frames].fill_(value)
        return
    for band, bands, frame, frames in zip(
        *(side.unbind(1) for side in (start_f, width_f, start_t, width_t)), strict=True
    ):
        box = band_mask(band, bands, x.shape[2])[:, :, None] & band_mask(frame, frames, x.shape[3])[:, None]
        x.masked_fill_(box[:, None], value)


def shift(x: Tensor, by: Tensor, axis: int) -> None:
    """Move each sample along `axis` by its number of places [b]; what comes in is zero."""
    length = x.shape[axis]
    if x.device.type == "cpu":
        for row, places in enumerate(by.tolist()):
            sample = x[row]
            kept = max(0, length - abs(places))
            moved = sample.narrow(axis - 1, max(0, -places) if kept else 0, kept).clone()
            sample.zero_()
            sample.narrow(axis - 1, max(0, places) if kept else 0, kept).copy_(moved)
        return
    source = torch.arange(length, device=x.device) - by[:, None]
    shape = [len(x), *[1] * (x.ndim - 1)]
    shape[axis] = length
    inside = ((source >= 0) & (source < length)).view(shape)
    x.copy_(x.gather(axis, source.clamp(0, length - 1).view(shape).expand_as(x)) * inside)
