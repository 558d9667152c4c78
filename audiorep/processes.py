"""One training on several processes: each runs the whole verb on its part of every batch, and the first of them writes.

They are started here, on one machine, or by torchrun, on one or several. What makes them train as one is
audiorep/distributed.py; Lightning sees one device in each process, because its own strategies expect one backward pass a
step, and an objective with an adversary has several.
"""

import logging
import os
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from omegaconf import DictConfig

from audiorep.build import device_of
from audiorep.console import console, set_up_logging
from audiorep.distributed import rank, world
from audiorep.errors import AudiorepError
from audiorep.files import output_folder, remove

log = logging.getLogger(__name__)

Verb = Callable[[DictConfig], dict[str, float]]

PATIENCE_S = 60.0
"""How long processes may take to write their checkpoint when they are interrupted."""

AFTERMATH_S = 2.0
"""How long the others are listened to after the first failure, which may be the consequence of another."""

HERE = "127.0.0.1"


def together(verb: Verb) -> Verb:
    """Let a verb that trains run on `trainer.devices` processes of each of `trainer.nodes` machines.

    Returns:
        what the first process returns; nothing in the others.
    """

    @wraps(verb)
    def joined(cfg: DictConfig) -> dict[str, float]:
        wanted = wanted_processes(cfg)
        if world() > 1:
            return verb(cfg)
        if under_torchrun():
            return join_torchrun(verb, cfg, wanted)
        if cfg.trainer.nodes > 1:
            raise AudiorepError(
                f"trainer.nodes={cfg.trainer.nodes}: start the processes of several machines with torchrun on each: "
                f"torchrun --nnodes {cfg.trainer.nodes} --nproc-per-node {cfg.trainer.devices} ... -m audiorep ..."
            )
        return verb(cfg) if wanted == 1 else start(joined, cfg, wanted)

    return joined


def wanted_processes(cfg: DictConfig) -> int:
    """How many processes the config asks for.

    Raises:
        AudiorepError: fewer than one, more than the GPUs, or a batch that they cannot share.
    """
    for name in ("devices", "nodes"):
        if not isinstance(cfg.trainer[name], int) or cfg.trainer[name] < 1:
            raise AudiorepError(f"trainer.{name}={cfg.trainer[name]}: a whole number from 1 is needed")
    count = cfg.trainer.devices * cfg.trainer.nodes
    if cfg.data.batch_size != "auto" and cfg.data.batch_size % count:
        raise AudiorepError(
            f"data.batch_size={cfg.data.batch_size} must be a multiple of the {count} processes that share it"
        )
    gpus = torch.cuda.device_count()
    if device_of(cfg.trainer.accelerator).type == "cuda" and cfg.trainer.devices > gpus:
        raise AudiorepError(
            f"trainer.devices={cfg.trainer.devices}, and this machine has {gpus} GPU(s); or set trainer.accelerator=cpu"
        )
    return int(count)


def under_torchrun() -> bool:
    """Whether torchrun started this process, together with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def join_torchrun(verb: Verb, cfg: DictConfig, wanted: int) -> dict[str, float]:
    """Run the verb as one of the processes that torchrun started."""
    found = int(os.environ["WORLD_SIZE"])
    if found != wanted:
        raise AudiorepError(
            f"torchrun started {found} processes, and trainer.devices={cfg.trainer.devices} "
            f"trainer.nodes={cfg.trainer.nodes} make {wanted}: say the same twice"
        )
    join(cfg, int(os.environ["LOCAL_RANK"]))
    try:
        return verb(cfg)
    finally:
        part()


def join(cfg: DictConfig, local_rank: int, **meeting: Any) -> None:
    """Meet the other processes, take the GPU of this one, agree on `out`; all but the first fall silent."""
    cuda = device_of(cfg.trainer.accelerator).type == "cuda"
    if cuda:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", **meeting)
    agreed = [str(cfg.out)]
    dist.broadcast_object_list(agreed, 0)
    cfg.out = agreed[0]
    if rank():
        console.quiet = True
        logging.getLogger("audiorep").setLevel(logging.ERROR)


def part() -> bool:
    """Part from the other processes, where there are some; returns whether this one goes on alone, being the first."""
    first = rank() == 0
    if dist.is_initialized():
        dist.destroy_process_group()
    return first


def start(verb: Verb, cfg: DictConfig, count: int) -> dict[str, float]:
    """Run a verb in `count` processes of this machine; where one fails or dies, all end.

    Raises:
        AudiorepError: what one of them raised, or that it died.
    """
    store = dist.TCPStore(HERE, 0, is_master=True, wait_for_workers=False)
    context = get_context("spawn")
    links: list[Connection] = []
    processes = []
    for number in range(count):
        link, theirs = context.Pipe(duplex=False)
        links.append(link)
        given = (verb, cfg, number, count, store.port, theirs)
        processes.append(context.Process(target=run_one, args=given, daemon=True))
        processes[-1].start()
        theirs.close()
    try:
        try:
            answers = listen(links, None)
        except KeyboardInterrupt:  # it reaches every process of a terminal: the first of them saves
            answers = listen(links, PATIENCE_S)
            if not any(isinstance(answer, BaseException) for answer in answers.values()):
                raise
    finally:
        for process in processes:
            process.kill()
            process.join()
    return verdict(answers)


def listen(links: list[Connection], patience_s: float | None) -> dict[int, Any]:
    """What each process returned or raised: of all, or, once one has failed, of those that answer a moment later."""
    answers: dict[int, Any] = {}
    end = None if patience_s is None else time.monotonic() + patience_s
    while len(answers) < len(links):
        open_links = [link for number, link in enumerate(links) if number not in answers]
        ready = wait(open_links, None if end is None else max(0.0, end - time.monotonic()))
        if not ready:
            break
        for link in open_links:
            if link in ready:
                number = links.index(link)
                try:
                    answers[number] = link.recv()
                except (EOFError, OSError):
                    answers[number] = AudiorepError(
                        f"process {number} of {len(links)} died (out of memory?); go on with resume=true"
                    )
                if isinstance(answers[number], BaseException) and end is None:
                    end = time.monotonic() + AFTERMATH_S
    return answers


def verdict(answers: dict[int, Any]) -> dict[str, float]:
    """What the first process returned; raises what one of them raised."""
    failed = {number: answer for number, answer in answers.items() if isinstance(answer, BaseException)}
    if failed:  # our own word first: that the others lost a connection is only its consequence
        raise min(failed.items(), key=lambda item: (not isinstance(item[1], AudiorepError), item[0]))[1]
    found: dict[str, float] = answers[0]
    return found


def run_one(verb: Verb, cfg: DictConfig, number: int, count: int, port: int, link: Connection) -> None:
    """Run the verb as process `number` of `count`, and send what it returns or raises."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    set_up_logging()
    try:
        store = dist.TCPStore(HERE, port, is_master=False)
        join(cfg, number, store=store, rank=number, world_size=count)
        answer: Any = verb(cfg)
    except BaseException as error:  # Ctrl-C too: the parent decides
        error.add_note(traceback.format_exc())
        answer = error
    with suppress(BrokenPipeError):
        link.send(answer)


def own_folder(cfg: DictConfig, left_behind: tuple[str, ...]) -> Path:
    """The folder `out`, made, and cleared if it may be, by the first process while the others wait."""
    if not rank():
        out = output_folder(cfg.out, resume=cfg.resume, overwrite=cfg.overwrite)
        if cfg.overwrite and not cfg.resume:
            remove(out, left_behind)
    if world() > 1:
        dist.barrier()
    return Path(cfg.out)
