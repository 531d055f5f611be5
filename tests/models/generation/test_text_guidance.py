"""Dropping and following conditions, on a network that answers what it was told."""

import pytest
import torch

from transvae.generation.text import Text
from transvae.generation.text_guidance import TextGuidance, drop_for_editing, drop_text, guided_by_text

NOTHING = -1.0


class Network:
    """Answers 10 x the first number of its text + the mean of its source; remembers its batches."""

    def __init__(self):
        self.batches = []

    def without(self, text, dropped):
        return Text(torch.where(dropped[:, None, None], NOTHING, text.tokens), text.mask)

    def __call__(self, x, t, text, source=None):
        self.batches.append(len(x))
        value = 10 * text.tokens[:, 0, 0] + (0 if source is None else source.flatten(1).mean(1))
        return value[:, None, None, None].expand_as(x)


X, T = torch.zeros(2, 3, 2, 2), torch.full((2,), 0.5)
TEXT = Text(torch.tensor([[[2.0]], [[3.0]]]), torch.ones(2, 1, dtype=torch.bool))
SOURCE = torch.stack([torch.full((3, 2, 2), 0.5), torch.full((3, 2, 2), 0.25)])


def test_text_is_followed_in_all_channels():
    network = Network()
    answer = guided_by_text(network, TEXT, TextGuidance(7.5))(X, T)
    for row, word in enumerate((2, 3)):
        assert answer[row].flatten().tolist() == pytest.approx([-10 + 7.5 * (10 * word + 10)] * 12)
    assert network.batches == [4]


def test_an_edit_follows_source_and_text_by_two_scales():
    network = Network()
    answer = guided_by_text(network, TEXT, TextGuidance(text=7.5, source=1.5), SOURCE)(X, T)
    for row, (word, source) in enumerate(((2, 0.5), (3, 0.25))):
        none, image, both = -10, -10 + source, 10 * word + source
        assert float(answer[row, 0, 0, 0]) == pytest.approx(none + 1.5 * (image - none) + 7.5 * (both - image))
    assert network.batches == [6]


@pytest.mark.parametrize("source", [None, SOURCE])
def test_no_guidance_is_one_branch(source):
    for guidance in (None, TextGuidance(text=1.0, source=1.0)):
        network = Network()
        answer = guided_by_text(network, TEXT, guidance, source)(X, T)
        assert float(answer[0, 0, 0, 0]) == 20 + (0 if source is None else 0.5)
        assert network.batches == [2]


def test_scales_of_one_give_the_full_answer_in_three_branches_too():
    by_two = guided_by_text(Network(), TEXT, TextGuidance(text=1.0 + 1e-9, source=1.0), SOURCE)(X, T)
    assert float(by_two[0, 0, 0, 0]) == pytest.approx(20.5)


def test_dropping_happens_at_its_rates():
    uniform = torch.rand(200_000)
    assert float(drop_text(uniform).float().mean()) == pytest.approx(0.1, abs=0.005)
    text, source = drop_for_editing(uniform)
    rates = {"text alone": text & ~source, "both": text & source, "source alone": source & ~text}
    for dropped in rates.values():
        assert float(dropped.float().mean()) == pytest.approx(0.05, abs=0.003)
    assert not drop_text(uniform, 0.0).any()


def test_impossible_values_are_refused():
    with pytest.raises(ValueError, match=r"a probability below 1, not 1.5"):
        drop_text(torch.zeros(1), 1.5)
    with pytest.raises(ValueError, match=r"it is 0 to 1/3, not 0.4"):
        drop_for_editing(torch.zeros(1), 0.4)
    with pytest.raises(ValueError, match=r"scales of guidance are not negative: text=-1.0"):
        TextGuidance(text=-1.0)
