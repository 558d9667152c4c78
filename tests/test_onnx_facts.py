"""What is known of an ONNX: settings before the JSON beside it before its metadata before what names suggest."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from audiorep.errors import AudiorepError
from audiorep.onnx_facts import Facts, read_facts, read_labels

OUTPUTS = {"spectrogram": ["b", 5, 9], "embedding": ["b", 4], "label": ["b", 3]}


def facts(path: Path, metadata: dict[str, str] | None = None, outputs: Any = OUTPUTS, **given: Any) -> Facts:
    return read_facts(path / "m.onnx", {"sample_rate": "8000"} | (metadata or {}), outputs, "model", **given)


def beside(path: Path, **told: Any) -> None:
    (path / "m.onnx.json").write_text(json.dumps(told))


def test_outputs_are_recognised_by_their_usual_names_and_else_by_order(tmp_path):
    found = facts(tmp_path)
    assert found == Facts(8000, None, "embedding", "label", (), False, None, None)
    assert facts(tmp_path, outputs={"a": [1], "b": [1]}).embedding == "a"
    swapped = facts(tmp_path, outputs={"logits": ["b", 3], "features": ["b", 9]})
    assert (swapped.embedding, swapped.logits) == ("features", "logits")
    only = facts(tmp_path, {"class_outputs_key": "output"}, {"output": ["b", 3]})
    assert only.embedding == only.logits == "output"
    assert facts(tmp_path, {"class_outputs_key": ""}).logits is None
    assert facts(tmp_path, outputs={"a": [1], "b": [1]}, logits="b").embedding is None  # nothing else was asked for


def test_a_setting_goes_before_the_file_beside_it_and_that_before_the_metadata(tmp_path):
    metadata = {"embedding_outputs_key": "label", "license": "mit", "multilabel": "true", "sample_duration": "5.0"}
    assert facts(tmp_path, metadata) == Facts(8000, 5.0, "label", "label", (), True, None, "mit")
    beside(tmp_path, sample_rate=32000, embedding_outputs_key="spectrogram", license="apache-2.0", multilabel=False)
    assert facts(tmp_path, metadata) == Facts(32000, 5.0, "spectrogram", "label", (), False, None, "apache-2.0")
    found = facts(tmp_path, metadata, rate_hz=48000, embedding="embedding")
    assert (found.rate_hz, found.embedding, found.licence) == (48000, "embedding", "apache-2.0")


@pytest.mark.parametrize(
    "name, text",
    [
        ("m.labels.txt", "a\nb\n\nc\n"),
        ("labels.txt", "\ufeffa\nb\nc"),
        ("labels.txt", "inat2024\na\nb\nc\n"),
        ("m.labels.csv", "code,label\n1,a\n2,b\n3,c\n"),
        ("labels.csv", "ebird\na\nb\nc\n"),
        ("labels.csv", "a,1\nb,2\nc,3\n"),
    ],
)
def test_class_names_are_found_beside_the_model(name, text, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert facts(tmp_path).classes == ("a", "b", "c")


def test_class_names_that_are_told_go_before_those_of_files(tmp_path):
    for name, text in (("labels.txt", "a\nb\nc\n"), ("m.labels.txt", "d\ne\nf\n"), ("other.txt", "g\nh\ni\n")):
        (tmp_path / name).write_text(text)
    assert facts(tmp_path).classes == ("d", "e", "f")
    beside(tmp_path, labels="other.txt")
    assert facts(tmp_path).classes == ("g", "h", "i")
    assert facts(tmp_path, {"classes": '["j", "k", "l"]'}).classes == ("j", "k", "l")
    assert facts(tmp_path, {"class_outputs_key": ""}).classes == ()  # nothing to name


def test_where_the_number_of_logits_is_open_a_csv_has_a_header(tmp_path):
    (tmp_path / "x.csv").write_text("id,label\n1,a b\n2,c\n")
    assert read_labels(tmp_path / "x.csv", None) == ["a b", "c"]


def test_moments_have_a_distance(tmp_path):
    assert facts(tmp_path, {"framewise": "true", "step_samples": "32"}).step_samples == 32
    assert facts(tmp_path, {"framewise": "false", "step_samples": "0"}).step_samples is None
    with pytest.raises(AudiorepError, match="step_samples is missing"):
        facts(tmp_path, {"framewise": "true"})


@pytest.mark.parametrize(
    "metadata, told, given, words",
    [
        ({}, {}, {"embedding": "x"}, "has no output 'x'; there are: spectrogram, embedding, label"),
        ({"embedding_outputs_key": "y"}, {}, {}, "has no output 'y'"),
        ({"sample_rate": "fast"}, {}, {}, "its metadata say sample_rate=fast: a number above 0 is needed"),
        ({"sample_rate": "0"}, {}, {}, "sample_rate=0: a number above 0 is needed"),
        ({"multilabel": "1"}, {}, {}, "multilabel=1: true or false is needed"),
        ({}, {"sample_rat": 1}, {}, r"m\.onnx\.json: 'sample_rat' is not known; there are: sample_rate"),
        ({}, {"sample_rate": "8000"}, {}, r"m\.onnx\.json: sample_rate=8000: a number above 0 is needed"),
        ({}, {"classes": "a"}, {}, r"m\.onnx\.json: classes=a: a list of names is needed"),
        ({}, {"labels": 3}, {}, "labels=3: the name of a file beside it is needed"),
        ({}, {"labels": "none.txt"}, {}, r"none\.txt: cannot be read as a list of class names"),
        ({"classes": '["a", "b"]'}, {}, {}, r"2 class name\(s\) for the 3 logits of m\.onnx"),
        ({"classes": '["a", "b", "a"]'}, {}, {}, "names the class 'a' twice"),
        ({}, {}, {"rate_hz": -1}, "a sample rate of -1: a number above 0 is needed"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(metadata, told, given, words, tmp_path):
    beside(tmp_path, **told)
    with pytest.raises(AudiorepError, match=words) as error:
        facts(tmp_path, metadata, **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text, words", [("[]", "an object is needed"), ("{", "cannot read")])
def test_a_file_beside_it_that_is_no_object_is_refused(text, words, tmp_path):
    (tmp_path / "m.onnx.json").write_text(text)
    with pytest.raises(AudiorepError, match=words):
        facts(tmp_path)


@pytest.mark.parametrize(
    "key, words",
    [("model", 'write it into m.onnx.json: {"sample_rate"'), ("teacher.model", "teacher.rate_hz=, or write")],
)
def test_without_a_sample_rate_it_is_said_where_to_give_it(key, words, tmp_path):
    with pytest.raises(AudiorepError, match=re.escape(words)):
        read_facts(tmp_path / "m.onnx", {}, OUTPUTS, key)
