"""Knowledge distillation: written-out terms, what takes part when, and that the teacher is never trained nor kept."""

import json
import math

import numpy as np
import pytest
import torch
from onnxes import fixed
from safetensors.torch import load_file
from small import NAMED, Finished, batch, views
from test_cli import refused, run

from audiorep import composing, verdict
from audiorep.encoders.cnn import SmallCnn
from audiorep.errors import AudiorepError
from audiorep.frozen import FrozenTeacher, Told
from audiorep.losses.agreement import Divergence
from audiorep.losses.answers import LabelLoss
from audiorep.objectives.base import Setting
from audiorep.objectives.distill import Distill
from audiorep.types import generator

TOLD = {"labelled": 200, "classes": 4, "outputs": 4, "names": NAMED, "rate_hz": 8000}


class Teacher(Finished):
    """Finished, with something changed."""

    def __init__(self, **changed: object) -> None:
        for name, value in changed.items():
            setattr(self, name, value)

    def __call__(self, wave: torch.Tensor) -> Told:
        told = super().__call__(wave)
        return Told(None if self.dim is None else told.embedding, 40.0 * told.logits)


def objective(told: dict | None = None, network: Finished | None = None, **weights: float) -> Distill:
    torch.manual_seed(0)
    made = Distill(
        SmallCnn(8, 64), FrozenTeacher(network or Teacher(), "finished"), LabelLoss(), Divergence(2.0),
        **{"labels": 1.0, "soft": 1.0, "features": 1.0, **weights},
    )  # fmt: skip
    made.prepare(Setting(256, 16, {"global": 2}, **(TOLD | (told or {}))))
    return made.train()


def softmax(logits: list[float], temperature: float = 1.0) -> list[float]:
    top = max(logits)
    parts = [math.exp((logit - top) / temperature) for logit in logits]
    return [part / sum(parts) for part in parts]


def test_all_three_terms_equal_loops():
    made, told, seen = objective(labels=0.5, soft=2.0, features=3.0), batch(), views(0)
    terms = made(seen, told, generator(0))
    assert set(terms) == {"labels", "soft", "features"}
    made.eval()  # batch norm of the encoder saw the batch; so does what follows
    fresh = objective()
    said = fresh.teacher(told, 8000)
    wanted = {"labels": 0.0, "soft": 0.0, "features": 0.0}
    target = said.embedding
    target = (target - target.mean(0)) / (target.var(0, unbiased=False) + 1e-5).sqrt()
    for spec in seen["global"]:
        pooled = fresh.encoder(spec).pooled
        logits = fresh.student.head(pooled)
        labels, soft = [], []
        for i in range(16):
            ours, theirs = logits[i].tolist(), said.logits[i].tolist()
            if told["label"][i] >= 0:
                labels.append(-math.log(softmax(ours)[int(told["label"][i])]))
            p, t = softmax(ours, 2.0), softmax(theirs, 2.0)
            soft.append(4.0 * sum(b * (math.log(b) - math.log(a)) for a, b in zip(p, t, strict=True)))
        wanted["labels"] += 0.5 * np.mean(labels) / 2
        wanted["soft"] += 2.0 * np.mean(soft) / 2
        projected = fresh.project(pooled).detach()
        gap = [(float(projected[i, j]) - float(target[i, j])) ** 2 for i in range(16) for j in range(6)]
        wanted["features"] += 3.0 * np.mean(gap) / 2
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(wanted, rel=1e-4)


def test_a_student_that_says_the_same_has_nothing_to_learn_from_the_answers():
    made, told, seen = objective(labels=0.0, features=0.0), batch(), views(0)
    said = made.teacher(told, 8000).logits
    made.student.head.forward = lambda pooled: said + 3.0  # a constant tells nothing
    assert float(made(seen, told, generator(0))["soft"]) == pytest.approx(0.0, abs=1e-5)
    made.student.head.forward = lambda pooled: -said
    assert float(made(seen, told, generator(0))["soft"]) > 0.1


def test_classes_in_another_order_are_taken_by_name():
    swapped = objective({"names": NAMED[::-1]})
    assert swapped.columns == [3, 2, 1, 0]
    fewer = objective({"names": ("c", "a"), "classes": 2, "outputs": 2})
    assert fewer.columns == [2, 0]
    told = batch()
    told["label"] = torch.where(told["label"] < 2, told["label"], -1)
    assert float(fewer(views(0), told, generator(0))["soft"]) >= 0.0


@pytest.mark.parametrize(
    "told, network, wanted",
    [
        ({}, {}, {"labels", "soft", "features"}),
        ({"labelled": 0, "classes": 0}, {}, {"soft", "features"}),
        ({"names": ()}, {}, {"labels", "features"}),
        ({}, {"classes": ()}, {"labels", "features"}),
        ({}, {"dim": None}, {"labels", "soft"}),
        ({"labelled": 0, "classes": 0, "names": ()}, {}, {"features"}),
    ],
)
def test_a_term_for_which_there_is_nothing_is_not_there(told, network, wanted):
    made = objective(told, Teacher(**network))
    assert set(made(views(0), batch(), generator(0))) == wanted
    assert (made.classifier is None) == (wanted == {"features"})
    assert made.uses_labels == ("labels" in wanted)


@pytest.mark.parametrize("name", ["labels", "soft", "features"])
def test_a_term_of_weight_nothing_is_not_there(name):
    made = objective(**{name: 0.0})
    assert set(made(views(0), batch(), generator(0))) == {"labels", "soft", "features"} - {name}


def test_one_class_with_several_labels_teaches_what_is_present_and_absent():
    counts = [[100, 100]]
    told = {"classes": 1, "outputs": 1, "counts": counts, "names": ("a",)}
    made = objective(told, Teacher(multilabel=True))
    given = batch()
    given["label"] = (torch.arange(16)[:, None] % 2).float()
    assert made.several and set(made(views(0), given, generator(0))) == {"labels", "soft", "features"}
    assert "labels" not in objective(told | {"absences": False}, Teacher(multilabel=True))(
        views(0), given, generator(0)
    )


@pytest.mark.parametrize(
    "told, network, weights, words",
    [
        ({"names": ("a", "e", "f")}, {}, {}, r"does not know the class 'e' \(2 such\); it knows: a, b, c, d"),
        ({}, {"multilabel": True}, {}, "several labels, and this corpus one label.*labels.multilabel=true"),
        ({"counts": [[9, 9]] * 4}, {}, {}, "one label, and this corpus several labels.*labels.multilabel=false"),
        ({"labelled": 0, "names": ()}, {"dim": None}, {}, "there is nothing to learn; label some rows"),
        ({}, {}, {"labels": 0.0, "soft": 0.0, "features": 0.0}, "there is nothing to learn"),
        ({"views": {"weak": 2}}, {}, {}, r"needs 1 view\(s\) of the kind 'global'"),
    ],
)
def test_what_cannot_be_learned_is_refused_with_the_remedy(told, network, weights, words):
    made = Distill(
        SmallCnn(8, 64), FrozenTeacher(Teacher(**network), "finished"), LabelLoss(), Divergence(2.0), **weights
    )
    kinds = told.pop("views", {"global": 1})
    with pytest.raises(AudiorepError, match=words):
        made.prepare(Setting(256, 16, kinds, **(TOLD | told)))


def test_with_the_answers_left_out_other_classes_do_not_matter():
    made = objective({"names": ("x", "y", "z", "w")}, soft=0.0)
    assert set(made(views(0), batch(), generator(0))) == {"labels", "features"}


# ------------------------------------------------------------ as a user meets it

SMALL = [
    "encoder.width=8", "encoder.dim=32", "trainer.max_steps=3", "trainer.precision=32-true", "data.batch_size=16",
    "data.workers=0", "logger=none", "evaluation.settings.resamples=5", "calibration.least=5", "objective=distill",
]  # fmt: skip


def train(corpus, out, *keys, small=SMALL) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(composing, "check_types", lambda *_: None)
        patched.setattr(verdict, "make_report", lambda *_: None)
        patched.setattr(verdict, "write_report", lambda *_: None)
        assert run("train", f"corpus={corpus}", f"out={out}", *small, *keys) == 0


def test_a_student_learns_from_a_folder_and_the_teacher_stays_outside(toy_corpus, tmp_path, capsys):
    teacher = tmp_path / "teacher"
    train(toy_corpus, teacher, small=[*SMALL[:-1], "frontend.sample_rate_hz=4000"])  # another rate than the student
    config = json.loads((teacher / "config.json").read_text())
    config["training"]["licence"] = "cc-by-nc-4.0"
    (teacher / "config.json").write_text(json.dumps(config))
    before = (teacher / "model.safetensors").read_bytes()
    out = tmp_path / "student"
    train(toy_corpus, out, f"teacher.model={teacher}", "encoder.dim=16")
    facts = json.loads((out / "config.json").read_text())["training"]
    assert facts["teacher"] == str(teacher) and facts["teacher_licence"] == "cc-by-nc-4.0"
    assert (teacher / "model.safetensors").read_bytes() == before
    theirs = load_file(teacher / "model.safetensors")
    state = torch.load(out / "last.ckpt", weights_only=False)["state"]["weights"]
    shapes = {(tuple(value.shape), float(value.double().sum())) for value in state.values()}
    for name, value in theirs.items():
        if value.numel() > 16:
            assert (tuple(value.shape), float(value.double().sum())) not in shapes, name
    assert not any("teacher" in name for name in state) and state["objective.project.weight"].shape == (32, 16)
    assert load_file(out / "model.safetensors")["encoder.mix.0.weight"].shape[0] == 16
    # and it hands the condition on to what is trained on it
    train(toy_corpus, tmp_path / "next", f"init={out}", small=list(SMALL[2:-1]))
    facts = json.loads((tmp_path / "next" / "config.json").read_text())["training"]
    assert facts["teacher_licence"] == "cc-by-nc-4.0" and "teacher" not in facts
    # a class that the teacher does not know
    keys = [f"corpus={toy_corpus}", f"out={tmp_path / 'no'}", *SMALL, f"teacher.model={teacher}"]
    config["classes"] = ["down", "flat", "trill", "song"]
    (teacher / "config.json").write_text(json.dumps(config))
    assert "does not know the class 'up' (1 such)" in refused(capsys, "train", *keys)


def test_an_onnx_of_another_maker_teaches_its_embedding_without_any_label(toy_corpus, tmp_path):
    model = fixed(tmp_path / "m.onnx", 1000, facts={"license": "cc0-1.0"})
    keys = ["objective=distill", f"teacher.model={model}", "teacher.rate_hz=16000", "evaluation.protocol=[knn]"]
    small = [key for key in SMALL[:-1] if not key.startswith("calibration")]
    out = tmp_path / "run"
    corpus = [f"corpus={toy_corpus.parent}", "format=recordings"]
    assert run("pretrain", *corpus, f"out={out}", *small, *keys) == 0
    facts = json.loads((out / "config.json").read_text())["training"]
    assert facts["labels_used"] is False and facts["teacher_licence"] == "cc0-1.0"


def test_no_gradient_reaches_the_teacher():
    network = SmallCnn(4, 6)

    class Trainable(Teacher):
        def __call__(self, wave):
            spec = wave[:, :400].reshape(len(wave), 1, 20, 20)
            return Told(network(spec).pooled, network(spec).pooled[:, :4])

    made = objective(network=Trainable())
    sum(made(views(0), batch(), generator(0)).values()).backward()
    assert made.project.weight.grad.abs().sum() > 0 and made.encoder.stem[0].weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())
