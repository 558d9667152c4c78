"""Annotation words as a set: order, padding and unknown words change nothing; rows with the same words are told."""

import pytest
import torch
from torch.nn import functional as F

from audiorep.data.words import MASK, UNKNOWN
from audiorep.encoders.text import CrossAttention, WordEncoder, attend_to_known, visible, with_whole, word_sets
from audiorep.errors import AudiorepError


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return WordEncoder(9, dim=16, depth=2, heads=2).eval()


def test_attention_to_what_is_known_equals_torch():
    q, k, v = torch.randn(3, 2, 4, 8), torch.randn(3, 2, 5, 8), torch.randn(3, 2, 5, 8)
    known = torch.tensor([[1, 1, 0, 0, 1], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=known[:, None, None].expand(-1, 2, 4, -1))
    torch.testing.assert_close(attend_to_known(q, k, v, known), wanted)
    torch.testing.assert_close(attend_to_known(q, k, v, None), F.scaled_dot_product_attention(q, k, v))


def test_cross_attention_equals_torch_multihead():
    ours, theirs = CrossAttention(16, 4), torch.nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.q.weight, ours.kv.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.q.bias, ours.kv.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    x, other = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    known = torch.tensor([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    wanted = theirs(x, other, other, key_padding_mask=~known, need_weights=False)[0]
    torch.testing.assert_close(ours(x, other, known), wanted, rtol=1e-4, atol=1e-6)


def test_order_padding_and_unknown_words_change_nothing(encoder):
    rows = [[3, 5, 8, 0], [8, 3, 5, 0], [0, 5, 3, 8], [3, UNKNOWN, 5, 8]]
    found = encoder(torch.tensor(rows)).pooled
    torch.testing.assert_close(found, found[:1].expand(4, -1))
    longer = encoder(torch.tensor([[3, 5, 8, 0, 0, 0, 0]]))
    torch.testing.assert_close(longer.pooled, found[:1])
    assert longer.tokens.shape == (1, 8, 16) and torch.equal(longer.tokens[:, 0], longer.pooled)


def test_other_words_and_hidden_words_change_something(encoder):
    found = encoder(torch.tensor([[3, 5, 8], [3, 5, 7], [3, 5, MASK], [3, 5, 0], [0, 0, 0], [UNKNOWN, 0, 0]])).pooled
    assert found.isfinite().all() and torch.equal(found[4], found[5])
    assert torch.pdist(found[:5]).min() > 1e-2


def test_what_is_looked_at():
    words = torch.tensor([[3, MASK, UNKNOWN, 0]])
    assert visible(words).tolist() == [[True, True, False, False]]
    assert with_whole(visible(words)).tolist() == [[True, True, True, False, False]]


def test_rows_with_the_same_known_words_have_the_same_number():
    rows = [[3, 4, 0], [0, 0, 0], [4, 3, 0], [4, 0, 0], [4, UNKNOWN, 0], [UNKNOWN, 0, 0], [3, 4, 5], [MASK, 0, 0]]
    number = word_sets(torch.tensor(rows)).tolist()
    assert [n == -1 for n in number] == [False, True, False, False, False, True, False, True]
    assert number[0] == number[2] and number[3] == number[4]
    assert sorted({number[0], number[3], number[6]}) == [0, 1, 2]
    assert word_sets(torch.zeros(2, 3, dtype=torch.int64)).tolist() == [-1, -1]


def test_a_width_that_the_heads_cannot_share_is_refused():
    with pytest.raises(AudiorepError, match=r"objective\.text\.dim=10 must be a multiple of the attention heads"):
        WordEncoder(9, dim=10, heads=4)
