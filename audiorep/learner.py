"""The Lightning module: one training step, for every objective."""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from audiorep.checkpoint import Checkpoint
from audiorep.data.loader import StepSampler, to_device
from audiorep.distributed import (
    average_gradients,
    broadcast,
    gather,
    gather_lists,
    least,
    mean_over_ranks,
    rank,
    synchronise_norms,
    world,
)
from audiorep.encoders.base import Encoder, split_batches
from audiorep.errors import AudiorepError, CollapseError
from audiorep.evaluate.health import CollapseRule, entropies, figures
from audiorep.groups import group_of, only_these, terms_of
from audiorep.objectives.base import Embed, Objective
from audiorep.optim import decay_groups, scale_rates, warmup_cosine
from audiorep.sharding import Ask, ask, load_optimizer, load_whole, local, shard, whole
from audiorep.types import Batch, generator
from audiorep.views import Views

MakeOptimizer = Callable[[list[dict[str, Any]]], Optimizer]
Report = Callable[[int, str], None]

NO_GRADIENT = 5
"""Looks in a row, one every `log_every` steps, at which there may be no gradient at all before training stops."""


class Learner(L.LightningModule):
    """Views, objective, optimisers, schedule, health, checkpoints.

    For each parameter group of the objective in turn: forward, sum of the group's terms, backward into the group's
    parameters only, clip, step. All random draws of step s come from a generator made of (seed, s).

    Args:
        objective, views: what is trained (its `prepare` has been called), on what.
        optimizer: makes an optimiser from parameter groups.
        weight_decay: for weights; biases and norms have none.
        max_steps, warmup: length of the schedule in steps, and the part of it that rises.
        clip_norm: largest norm of the gradient; None: not clipped.
        seed: of all draws.
        sampler: tells epochs, and where to start after a resume.
        checkpoint: where the state goes; None: nowhere.
        resume: load the state before the first step.
        setting: what must be the same on resume.
        health_every, log_every: steps between checks and between log lines.
        collapse: when to stop.
        channels_last: memory layout of encoder and views.
        compiler: backend of torch.compile for the encoders; None: they are not compiled.
        on_failed: called with rows that could not be decoded.
        embed: embeds the training side, for objectives that cluster it.
        rates: factors of the learning rate, 1 where none is given.
        accumulate: pieces in which encoders take a batch, for memory's sake; losses and gradients stay those of the batch.
        sharded: whether each of several processes keeps only a part of the weights.
    """

    def __init__(
        self,
        objective: Objective,
        views: Views,
        optimizer: MakeOptimizer,
        sampler: StepSampler,
        weight_decay: float = 1e-4,
        warmup: float = 0.1,
        clip_norm: float | None = None,
        seed: int = 0,
        checkpoint: Checkpoint | None = None,
        resume: bool = False,
        setting: dict[str, Any] | None = None,
        health_every: int = 50,
        log_every: int = 10,
        collapse: CollapseRule | None = None,
        channels_last: bool = True,
        compiler: str | None = None,
        on_failed: Report = lambda row, reason: None,
        embed: Embed | None = None,
        accumulate: int = 1,
        rates: Mapping[nn.Parameter, float] | None = None,
        sharded: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.objective, self.views = objective, views
        self.ask: Ask = partial(ask, objective)
        self.make_optimizer, self.weight_decay = optimizer, weight_decay
        self.sampler, self.max_steps, self.warmup = sampler, sampler.max_steps, warmup
        self.clip_norm, self.seed = clip_norm, seed
        self.checkpoint, self.setting = checkpoint, setting or {}
        self.health_every, self.log_every, self.collapse = health_every, log_every, collapse or CollapseRule()
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.on_failed, self.embed, self.rates, self.sharded = on_failed, embed, rates, sharded
        self.step = 0
        self.strikes: dict[str, int] = {}
        self.began, self.earlier = now(), (0.0, 0.0)
        self.shown: dict[str, float] = {}
        self.clock = (0, time.monotonic())
        split_batches(objective, accumulate)
        self.groups = objective.parameter_groups()
        first = next(iter(self.groups.values()))
        first += [parameter for parameter in views.parameters() if parameter.requires_grad]
        self.resting = False
        self.loaded: dict[str, Any] | None = None
        if resume and checkpoint is not None and checkpoint.path.exists():
            step, self.loaded = checkpoint.load(setting or {})
            self.step = sampler.first_step = step
        self.to(memory_format=self.layout)
        for part in objective.modules() if compiler else []:
            if isinstance(part, Encoder):
                part.compile(backend=compiler)

    # ------------------------------------------------------------ Lightning

    def setup(self, stage: str) -> None:
        if world() > 1:
            synchronise_norms(self.objective)
            broadcast(self)
        if world() > 1 and self.sharded:
            self.share()

    def share(self) -> None:
        """Keep a part of the objective's parameters in this process, and train that."""
        names = {parameter: name for name, parameter in self.objective.named_parameters()}
        others = [parameter for parameter in self.views.parameters() if parameter.requires_grad]
        self.ask = shard(self.objective, others, self.trainer.strategy.root_device)
        parts = dict(self.objective.named_parameters())
        self.groups = self.objective.parameter_groups()
        self.rates = {parts[names[parameter]]: rate for parameter, rate in (self.rates or {}).items()}

    def configure_optimizers(self) -> Any:
        optimizers = [
            scale_rates(self.make_optimizer(decay_groups(p, self.weight_decay, self.rates)))
            for p in self.groups.values()
        ]
        return optimizers, [warmup_cosine(o, self.max_steps, self.warmup) for o in optimizers]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Batch:
        return to_device(batch, device) if len(batch["index"]) else batch  # empty: `training_step` says why

    def on_fit_start(self) -> None:
        if self.loaded is not None:
            self.restore(self.loaded)
            self.loaded = None
        if least(self.step, -self.step, device=self.device) != [self.step, -self.step]:
            raise AudiorepError("the processes begin at different steps: out= must be a folder that all machines see")
        self.clock = (self.step, time.monotonic())
        self.train()  # a loaded encoder comes in evaluation mode, and Lightning leaves modes as they are
        self.begin_epoch()

    def on_train_epoch_start(self) -> None:
        if self.trainer.current_epoch > 0:  # the first began before Lightning made its iterator
            self.begin_epoch()

    def begin_epoch(self) -> None:
        """Let the objective look at the whole corpus, if an epoch begins here; tell the sampler where to go on."""
        self.sampler.first_step = self.step
        if self.step >= self.max_steps:
            return
        epoch, done = divmod(self.step, self.sampler.steps_per_epoch)
        if not done and self.embed is not None:
            self.resting = False
            self.eval()
            self.objective.before_epoch(epoch, self.embed, generator(self.seed, self.step, 1))
            if not self.sharded:
                broadcast(self.objective)
            self.train()
        partition = self.objective.partition()
        self.sampler.partition = None if partition is None else partition.cpu().numpy()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.resting = False
        wanted = self.checkpoint is not None and self.checkpoint.due
        failed = batch.get("failed", [])
        count, well, unwanted = least(len(batch["index"]), not failed, bool(rank()) or not wanted, device=self.device)
        failed = failed if well else gather_lists(failed)
        for row, reason in failed:
            self.on_failed(row, reason)
        if count * world() < 2:
            reasons = "; ".join(reason for _, reason in failed[:3])
            raise AudiorepError(
                f"{count * world()} window(s) of the batch at step {self.step} could be decoded, two are needed: "
                f"{reasons}; run audiorep check, or raise data.batch_size"
            )
        batch = shortened(batch, count)
        terms = self.update(batch)
        self.step += 1
        self.objective.after_step(self.step / self.max_steps)
        last = self.step == self.max_steps
        due = self.checkpoint is not None and (last or not unwanted)
        if self.step % self.log_every == 0 or last or due:
            self.record(terms, batch)
        if self.step % self.health_every == 0 or last:
            self.check_health(batch)
        self.resting = True
        if due:
            self.save()

    # ------------------------------------------------------------ the step

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One update of every parameter group in turn; returns all named terms."""
        optimizers, schedules = as_list(self.optimizers()), as_list(self.lr_schedulers())
        reported: dict[str, Tensor] = {}
        for (name, parameters), optimizer, schedule in zip(self.groups.items(), optimizers, schedules, strict=True):
            with only_these(self.groups, name):
                terms = terms_of(name, self.terms(batch))
                loss = torch.stack([term.float() for term in terms.values()]).sum()
                optimizer.zero_grad()
                self.manual_backward(loss)
            average_gradients(parameters)
            if self.clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, self.clip_norm)
            optimizer.step()
            schedule.step()
            reported |= {term: value.detach() for term, value in terms.items()}
        return reported

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Views of the batch and the objective's terms, with the draws of this step.

        Raises:
            AudiorepError: a term that belongs to no parameter group: nothing would train it.
        """
        rng = generator(self.seed, self.step, device=batch["wave"].device)
        with torch.autocast(batch["wave"].device.type, enabled=False):
            views = self.views(batch["wave"], rng)
        views = {name: [v.contiguous(memory_format=self.layout) for v in made] for name, made in views.items()}
        terms: dict[str, Tensor] = self.ask("__call__", views, batch, rng)
        for name in terms:
            if group_of(name) not in self.groups:
                raise AudiorepError(
                    f"the term '{name}' belongs to no parameter group of the objective: {list(self.groups)}"
                )
        return terms

    # --------------------------------------------------- health and records

    @torch.no_grad()
    def check_health(self, batch: Batch) -> None:
        """Measure the embeddings of a clean batch; stop when they have collapsed."""
        self.eval()
        clean = self.views.clean(batch["wave"])
        measured_of = {name: figures(gather(z).float().cpu()) for name, z in self.ask("embeddings", clean).items()}
        for name, p in self.ask("distributions", clean).items():
            measured_of[name] = entropies(gather(p).float().cpu())
        self.train()
        for name, measured in measured_of.items():
            self.shown |= {f"{name}/{figure}": value for figure, value in measured.items()}
            broken = self.collapse.broken(measured)
            self.strikes[name] = self.strikes.get(name, 0) + 1 if broken else 0
            if broken and self.strikes[name] >= self.collapse.patience:
                raise CollapseError(
                    f"the representation collapsed: {broken} for the {name} at step {self.step}. "
                    "Lower optimizer.lr, look at the views (are two views of a clip still alike, of two clips still "
                    "different?), or choose another objective; collapse.patience sets how soon to stop"
                )

    def record(self, terms: dict[str, Tensor], batch: Batch) -> None:
        """Log the terms; refuse to go on from a loss that is no number."""
        values = {name: float(mean_over_ranks(value)) for name, value in terms.items()}
        loss = sum(values.values())
        if not math.isfinite(loss):
            raise AudiorepError(
                f"the loss became {loss} at step {self.step} ({', '.join(f'{k}={v:g}' for k, v in values.items())}): "
                "lower optimizer.lr, set trainer.clip_norm=1, or trainer.precision=32-true"
            )
        trained = [parameter for group in self.groups.values() for parameter in group]
        (still,) = least(not any(p.grad is not None and local(p.grad).any() for p in trained), device=self.device)
        self.strikes["gradient"] = self.strikes.get("gradient", 0) + 1 if still else 0
        if self.strikes["gradient"] >= NO_GRADIENT:
            raise AudiorepError(
                f"no trained parameter had a gradient at {NO_GRADIENT} looks in a row up to step {self.step}: nothing is "
                "trained; the loss may be satisfied already (mining=, margins), or its terms do not depend on what is trained"
            )
        step, then = self.clock
        now = time.monotonic()
        speed = (self.step - step) * world() * len(batch["wave"]) / max(1e-9, now - then)
        self.clock = (self.step, now)
        rate = as_list(self.optimizers())[0].param_groups[0]["lr"]
        self.shown |= {"loss": loss, **{f"loss/{k}": v for k, v in values.items()}, "lr": rate, "windows_per_s": speed}
        self.shown |= self.objective.watched()
        for logger in self.loggers:
            logger.log_metrics(self.shown, step=self.step)

    # ------------------------------------------------------------ the state

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "weights": whole(self.state_dict()),
            "optimizers": [whole(optimizer.optimizer.state_dict()) for optimizer in as_list(self.optimizers())],
            "schedules": [schedule.state_dict() for schedule in as_list(self.lr_schedulers())],
            "strikes": dict(self.strikes),
            "spent": tuple(a + b - c for a, b, c in zip(self.earlier, now(), self.began, strict=True)),
        }

    def save(self) -> None:
        """Write the checkpoint, if there is one to write and no step is half done."""
        if self.checkpoint is not None and self.resting:
            state = self.state()  # by all: each may hold a part
            if not rank():
                self.checkpoint.save(self.step, state, self.setting)

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        load_whole(self, state["weights"])
        for optimizer, content in zip(as_list(self.optimizers()), state["optimizers"], strict=True):
            load_optimizer(optimizer.optimizer, content)
        for schedule, content in zip(as_list(self.lr_schedulers()), state["schedules"], strict=True):
            schedule.load_state_dict(content)
        self.strikes = dict(state["strikes"])
        self.earlier = tuple(state.get("spent", self.earlier))


def now() -> tuple[float, float]:
    """Seconds by the wall's clock and by the processor's."""
    return time.monotonic(), time.process_time()


def shortened(batch: Batch, count: int) -> Batch:
    """The first rows of a batch: where another process could not decode some, none may hold more."""
    if count == len(batch["index"]):
        return batch
    kept: Any = {name: value[:count] if isinstance(value, Tensor) else value for name, value in batch.items()}
    return kept


def as_list(value: Any) -> list[Any]:
    """Lightning hands back one thing alone, several as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]
