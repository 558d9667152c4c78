"""A finished model over many windows, and what is made ahead of time."""

import threading

import numpy as np
import pytest
import torch
from toy import model_of, tone

from audiorep.encoders.cnn import SmallCnn
from audiorep.errors import AudiorepError
from audiorep.running import ahead, runner


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return model_of(SmallCnn(width=8, dim=32))


def test_it_says_what_the_model_says_however_many_windows(model, monkeypatch):
    waves = np.stack([tone(k % 4, k) for k in range(7)])
    with torch.no_grad():
        wanted = model(torch.from_numpy(waves))[0].numpy()
    for samples in (1, 2 * waves.shape[1], 2**20):
        monkeypatch.setattr("audiorep.model.PIECE_SAMPLES", samples)
        (said,) = runner(model)(waves)
        np.testing.assert_allclose(said, wanted, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_near_and_another_precision_is_refused(model):
    waves = np.stack([tone(k % 4, k) for k in range(4)])
    plain, rough = runner(model)(waves)[0], runner(model, precision="bf16-mixed")(waves)[0]
    assert rough.dtype == np.float32 and not np.array_equal(plain, rough)
    cosine = (plain * rough).sum(1) / np.linalg.norm(plain, axis=1) / np.linalg.norm(rough, axis=1)
    assert cosine.min() > 0.999
    with pytest.raises(AudiorepError, match="precision=fast: say one of 32-true, bf16-mixed"):
        runner(model, precision="fast")


def test_items_come_in_order_and_one_is_made_while_another_is_used():
    making = threading.Event()

    def items():
        for number in range(5):
            if number == 2:
                making.set()
            yield number

    got = []
    for item in ahead(items()):
        if item == 1:
            assert making.wait(10)  # the next is begun before we ask for it
        got.append(item)
    assert got == list(range(5)) and list(ahead([])) == []


def test_an_error_comes_where_it_belongs_and_leaving_early_ends_the_thread():
    def broken():
        yield 1
        raise AudiorepError("the second is broken")

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(AudiorepError, match="second"):
        next(items)
    before = threading.active_count()
    endless = ahead(iter(int, 1))
    assert next(endless) == 0
    endless.close()
    assert threading.active_count() == before
