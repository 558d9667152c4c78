"""Annotation words: from columns to numbers, and never from a row of the test side into training."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from test_cli import TINY, refused, run

from audiorep import build
from audiorep.composing import compose
from audiorep.data.words import (
    FIRST,
    LONGEST,
    PADDING,
    UNKNOWN,
    annotation_texts,
    count_texts,
    learn_vocabulary,
    words_of,
)
from audiorep.errors import AudiorepError
from audiorep.verbs import pretrain as verb

SMALL = [item for item in TINY if "projector" not in item]
SMALL += ["logger=none", "evaluation.protocol=[health]", "objective=audio_text", "trainer.max_steps=2"]


def test_a_text_becomes_its_different_words_in_lower_case():
    assert words_of("Contact_call, loud: CONTACT (2 birds)") == ["contact", "call", "loud", "2", "birds"]
    assert words_of("Gr\u00fcnfink") == words_of("gru\u0308nfink") == ["gr\u00fcnfink"]
    assert words_of(" ?! -_- ") == []
    assert len(words_of(" ".join(map(str, range(100))))) == LONGEST


def test_words_are_numbered_in_alphabetical_order_and_rows_are_padded():
    vocabulary = learn_vocabulary(["wren song", "", "owl"])
    assert vocabulary.words == ("owl", "song", "wren") and vocabulary.size == FIRST + 3
    wanted = [[FIRST + 2, FIRST + 1, PADDING], [PADDING] * 3, [FIRST, UNKNOWN, FIRST + 1]]
    found = vocabulary.encode(["wren song", "", "owl crow song"])
    assert found.tolist() == wanted and found.dtype == np.int64
    assert learn_vocabulary(["", "?"]).size == 0 and vocabulary.encode([""]).tolist() == [[PADDING]]


def test_sets_of_words_are_counted_whatever_their_order():
    rows = [[3, 4, 0], [4, 3, 0], [4, 0, 3], [3, 0, 0], [0, UNKNOWN, 3], [UNKNOWN, 0, 0], [0, 0, 0], [5, 3, 4]]
    assert count_texts(np.array(rows)) == 3
    assert count_texts(np.zeros((4, 2), np.int64)) == 0


def test_the_usual_columns_are_joined_and_others_can_be_named():
    frame = pd.DataFrame({"context": ["dawn", ""], "site": ["a", "b"], "label": ["wren", np.nan], "note": ["x", "y"]})
    assert [words_of(text) for text in annotation_texts(frame)] == [["wren", "dawn"], []]
    assert [words_of(text) for text in annotation_texts(frame, "site")] == [["a"], ["b"]]
    assert [words_of(text) for text in annotation_texts(frame, ["note", "label"])] == [["x", "wren"], ["y"]]
    assert annotation_texts(frame, None) == ["", ""] and annotation_texts(frame[["site"]]) == ["", ""]
    with pytest.raises(AudiorepError, match=r"data\.words=colour: the corpus has no such column; there are: context"):
        annotation_texts(frame, ["label", "colour"])


def test_what_is_known_to_be_absent_says_no_word_where_labels_are_several():
    frame = pd.DataFrame({"label": ["wren|-owl", "-crow", "-"], "context": ["-2 degrees", "", ""]})
    several = [words_of(text) for text in annotation_texts(frame, multilabel=True)]
    assert several == [["wren", "2", "degrees"], [], []]
    assert words_of(annotation_texts(frame)[1]) == ["crow"]  # a single label may begin with a minus


@pytest.fixture(scope="module")
def spoken(toy_corpus, tmp_path_factory):
    """Writes a corpus whose rows of either side say what is asked for."""

    def write(train: str, test: str) -> Path:
        frame = pd.read_csv(toy_corpus)
        frame["path"] = [str(toy_corpus.parent / name) for name in frame["path"]]
        frame["side"] = np.where(frame["group"].isin(["g0", "g1"]), "test", "train")
        says = np.where(frame["side"] == "test", test, train)
        frame["call"] = [f"{label} {word}" if word else "" for label, word in zip(frame["label"], says, strict=True)]
        manifest = tmp_path_factory.mktemp("spoken") / "rows.csv"
        frame.to_csv(manifest, index=False)
        return manifest

    return write


def keys(manifest: Path) -> list[str]:
    return [f"corpus={manifest}", "split.column=side", "data.words=[call]"]


def test_words_of_the_test_side_are_not_in_the_vocabulary_and_travel_with_their_rows(spoken):
    cfg = compose("pretrain", [*keys(spoken("tone", "secret")), "out=x", "window.length_s=0.5"])
    cfg.frontend.sample_rate_hz = 8000
    corpus = build.open_corpus(cfg)
    tokens, vocabulary = build.annotation_words(cfg, corpus)
    assert vocabulary.words == ("down", "flat", "tone", "trill", "up")
    windows = build.make_windows(cfg, corpus)
    windows.tokens = tokens
    rows = [int(corpus.split.test[3]), int(corpus.split.train[5])]
    told = windows.batch([(row, 0, 1, -1) for row in rows])["tokens"]
    names = [vocabulary.words.index(corpus.manifest.frame["label"][row]) + FIRST for row in rows]
    assert told.tolist() == [[names[0], UNKNOWN], [names[1], FIRST + 2]]


@pytest.fixture
def unscored(monkeypatch):
    """Runs end with training: what the scores are is not asked here."""
    monkeypatch.setattr(verb, "report_and_score", lambda *rest: {})


def weights(manifest: Path, out: Path, *more: str) -> dict[str, torch.Tensor]:
    assert run("pretrain", *keys(manifest), f"out={out}", *SMALL, *more) == 0
    return load_file(out / "model.safetensors")


@pytest.mark.usefixtures("unscored")
@pytest.mark.parametrize("transductive", [False, True])
def test_words_of_the_test_side_are_never_used_in_training(spoken, tmp_path, transductive):
    more = f"transductive={transductive}"
    one, other = spoken("tone", "tone"), spoken("tone", "secret")
    a, b = (weights(corpus, tmp_path / str(i), more) for i, corpus in enumerate((one, other)))
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    if not transductive:  # while those of the training side are
        c = weights(spoken("tone of four", "tone"), tmp_path / "c", more)
        assert any(not torch.equal(value, c[name]) for name, value in a.items())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.words=null"], "on the training side no row has any: label more rows, name the columns that hold words"),
        (["data.words=[group]"], "the training side all rows that have words have the same"),
        (["data.words=[song]"], "data.words=song: the corpus has no such column"),
    ],
)
def test_a_corpus_without_words_to_tell_apart_is_refused_before_training(settings, words, toy_corpus, tmp_path, capsys):
    frame = pd.read_csv(toy_corpus)
    frame["path"] = [str(toy_corpus.parent / name) for name in frame["path"]]
    frame["side"], frame["group"] = np.where(frame["group"] == "g0", "test", "train"), "pond"
    frame.to_csv(tmp_path / "rows.csv", index=False)
    out = tmp_path / "run"
    message = refused(
        capsys, "pretrain", f"corpus={tmp_path / 'rows.csv'}", "split.column=side", f"out={out}", *SMALL, *settings
    )
    assert words in message and not (out / "model.safetensors").exists()
