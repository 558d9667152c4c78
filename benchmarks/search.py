"""How fast and in how little memory many queries are searched for, beside scikit-learn's brute force.

    python -m benchmarks.search [rows, 1000000] [width, 512] [queries, 100] [top, 50] [threads, 1] [repeats, 3]

A folder as `audiorep embed` leaves it, of random embeddings; its file of rows is made once, then searched from the disk
(warm: the system keeps in free memory what it has read). scikit-learn's NearestNeighbors (cosine, brute) is given the same
rows as float32 in memory, as it takes no float16, and brings them to length 1 once more: near the last place the answers may
differ. Each side runs in processes of its own, in turns,
and tells its peak; what a file maps counts as its process's.
"""

import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from sklearn.neighbors import NearestNeighbors

from audiorep.apply.embed import EMBEDDINGS
from audiorep.apply.index import TOLD, open_embedded
from audiorep.apply.search import find
from audiorep.rehearsal import memory_bytes, size
from benchmarks.harness import Case

GROUP = 4096


def cases(quick: bool) -> Iterator[Case]:
    """Both sides in this process; `main` gives each a process of its own, and tells its whole memory."""
    count, width, queries, top = (20_000, 128, 20, 10) if quick else (1_000_000, 512, 100, 50)
    with tempfile.TemporaryDirectory() as name:
        embeddings(Path(name), count, width)
        rows = open_embedded(Path(name)).rows
        asked = questions(queries, width)
        x = np.concatenate([part.astype(np.float32) for _, part in rows.chunks()])

        def by_audiorep() -> np.ndarray:
            return np.stack([one.rows for one in find(rows, list(asked[:, None]), top)])

        def by_scikit_learn() -> np.ndarray:
            peer = NearestNeighbors(n_neighbors=top, metric="cosine", algorithm="brute", n_jobs=1).fit(x)
            return np.asarray(peer.kneighbors(asked, return_distance=False))

        work = f"search of {count:,} x {width} for {queries} queries, the {top} nearest"
        yield Case(work, "queries", queries, by_audiorep, {"scikit-learn": by_scikit_learn}, 3.0, agree=alike)


def alike(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether the rows found are the same, but for some near the last place."""
    return common(ours, theirs) > 0.99


def common(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The part of the rows found that both have."""
    return float(np.mean([len(set(x) & set(y)) / len(x) for x, y in zip(ours, theirs, strict=True)]))


def embeddings(folder: Path, rows: int, width: int) -> None:
    """Random embeddings, a group at a time."""
    schema = pa.schema({"path": pa.string(), "start_s": pa.float64(), "end_s": pa.float64()})
    schema = schema.append(pa.field("embedding", pa.list_(pa.float32(), width)))
    with pq.ParquetWriter(folder / EMBEDDINGS, schema, compression="none", use_dictionary=["path"]) as writer:
        for first in range(0, rows, GROUP):
            count = min(GROUP, rows - first)
            x = np.random.default_rng([1, first]).standard_normal((count, width), dtype=np.float32)
            start = np.arange(first, first + count, dtype=float)
            listed = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), width)
            writer.write_table(pa.table([[f"/{first}.wav"] * count, start, start + 1.0, listed], schema=schema))
    about = {"model": "", "fingerprint": "", "sample_rate_hz": 1, "window_samples": 1, "hop_samples": 1}
    (folder / TOLD).write_text(json.dumps(about))


def questions(queries: int, width: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((queries, width), dtype=np.float32)


class Clock:
    """Seconds since it was made: those that passed, and those that the cores worked, which a loaded machine bends less."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


def ours(folder: Path, queries: int, top: int, threads: int, told: Any) -> None:
    torch.set_num_threads(threads)
    rows = open_embedded(folder).rows
    vectors = list(questions(queries, rows.width)[:, None])
    libraries, clock = memory_bytes(), Clock()
    found = find(rows, vectors, top)
    told.put((*clock.read(), libraries, memory_bytes(), np.stack([one.rows for one in found])))


def theirs(folder: Path, queries: int, top: int, threads: int, told: Any) -> None:
    rows = open_embedded(folder).rows
    x = np.concatenate([part.astype(np.float32) for _, part in rows.chunks()])
    asked, libraries, clock = questions(queries, rows.width), memory_bytes(), Clock()
    peer = NearestNeighbors(n_neighbors=top, metric="cosine", algorithm="brute", n_jobs=threads).fit(x)
    found = peer.kneighbors(asked, return_distance=False)
    told.put((*clock.read(), libraries, memory_bytes(), found))


def alone(side: Any, *given: Any) -> tuple[float, float, int, int, np.ndarray]:
    """A side in a fresh process: seconds, seconds of the cores, bytes before, bytes at most, rows found."""
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    process = context.Process(target=side, args=(*given, told))
    process.start()
    answer = told.get()
    process.join()
    return answer


def main(
    rows: int = 1_000_000, width: int = 512, queries: int = 100, top: int = 50, threads: int = 1, repeats: int = 3
) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)  # of the processes that are started
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        embeddings(folder, rows, width)
        began = time.perf_counter()
        made = open_embedded(folder).rows
        told = f"{time.perf_counter() - began:.1f} s, {size(made.path.stat().st_size)}, peak {size(memory_bytes())}"
        print(f"file of rows, made once      {told}", flush=True)
        runs = [[alone(side, folder, queries, top, threads) for side in (ours, theirs)] for _ in range(repeats)]
    wall, cpu = (np.array([[side[which] for side in run] for run in runs]) for which in (0, 1))
    for side, label in enumerate(("audiorep", "scikit-learn, brute, cosine")):
        peak, before = (size(max(int(run[side][which]) for run in runs)) for which in (3, 2))
        spent = f"median {np.median(wall[:, side]):.2f} s, of the cores {np.median(cpu[:, side]):.2f} s"
        print(f"{label:28s} {spent}, peak {peak}, before {before}; all {wall[:, side].round(2).tolist()}")
    ratio, worked = (np.median(one[:, 1]) / np.median(one[:, 0]) for one in (wall, cpu))
    same = common(runs[0][0][4], runs[0][1][4])
    print(f"ratio of medians             {ratio:.2f}, of the cores {worked:.2f}; hits in common {same:.4f}")
    print(f"load, 1, 5 and 15 minutes    {' '.join(f'{one:.2f}' for one in os.getloadavg())}")


if __name__ == "__main__":
    if len(sys.argv) > 7:
        sys.exit(__doc__)
    main(*map(int, sys.argv[1:]))
