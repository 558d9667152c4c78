"""A session with an annotator who is simulated, on calls and background: questions are not spent on what is surely noise."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from desks import A_FILE, CLASSES
from toy import RATE_HZ, tone

from audiorep.label.answer import Answer
from audiorep.label.desk import Desk
from audiorep.label.discover import clusters
from audiorep.label.lesson import NOISE
from audiorep.verbs.label import defaults, open_desk

N, ASKED, PART = 800, 160, 0.3
LENGTH = RATE_HZ // 2


def hiss(seed: int) -> np.ndarray:
    """Half a second of background, of its own loudness and colour."""
    rng = np.random.default_rng([seed, 99])
    white, last = rng.standard_normal(LENGTH) * 0.02 * 10 ** rng.uniform(-1, 0.3), rng.uniform(0.0, 0.8)
    return np.convolve(white, last ** np.arange(20))[:LENGTH].astype(np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """800 clips of which 30 % hold no call, and what they are: the number of a class, 4 where none."""
    folder = tmp_path_factory.mktemp("corpus")
    background = round(PART * N)
    kinds = np.random.default_rng(0).permutation([*([4] * background), *(i % 4 for i in range(N - background))])
    loud = 10 ** np.random.default_rng(1).uniform(-1, 0, N)
    sounds = [hiss(i) + (loud[i] * tone(int(kind), i) if kind < 4 else 0.0) for i, kind in enumerate(kinds)]
    lines = ["path,start_s,end_s"]
    for first in range(0, N, A_FILE):
        name = f"{first // A_FILE:03d}.wav"
        wave = np.concatenate(sounds[first : first + A_FILE]).astype(np.float32)
        soundfile.write(folder / name, wave, RATE_HZ, subtype="PCM_16")
        lines += [f"{name},{i / 2},{i / 2 + 0.5}" for i in range(A_FILE)]
    (folder / "corpus.csv").write_text("\n".join(lines) + "\n")
    return folder / "corpus.csv", kinds


def session(desk: Desk, kinds: np.ndarray) -> np.ndarray:
    """Answer what is asked, rightly, learning after each batch: whether each question was about noise."""
    asked: list[bool] = []
    desk.learn()
    while len(asked) < ASKED:
        for one in desk.next("ann", desk.settings.batch):
            kind = int(kinds[one.row])
            said = ("noise", {}) if kind == 4 else ("label", {CLASSES[kind]: True})
            desk.answer(Answer(f"k{len(asked)}", desk.told.clips[one.row].id, "ann", *said))
            asked.append(kind == 4)
        desk.learn()
    return np.array(asked[:ASKED])


def test_noise_is_asked_about_no_more_often_late_in_a_session_than_there_is(corpus, tmp_path):
    path, kinds = corpus
    cfg = defaults(f"corpus={path}", f"out={tmp_path}", "open=false", f"classes=[{','.join(CLASSES)}]")
    desk, _ = open_desk(cfg, tmp_path)
    late = session(desk, kinds)[ASKED // 2 :]
    assert late.mean() <= PART  # 0.71 where noise taught nothing
    left = np.flatnonzero(~desk.record.answered & (kinds == 4)).tolist()
    assert np.mean([desk.round.guess(row, 1)[0][0] == NOISE for row in left]) > 0.9
    assert (kinds[clusters(desk)[0].rows] < 4).all()  # what is most unlike all answers is no group of hiss
    desk.close()
