"""Sampling along velocities whose paths are known."""

import pytest
import torch

from transvae.generation.sampling import Guidance, dopri5, euler, guided, times


def test_times_of_the_reference():
    assert times(3) == [0.0, 0.5, 1.0]
    shifted = times(250, 0.3)
    assert (len(shifted), shifted[0], shifted[-1]) == (250, 0.0, 1.0)
    assert shifted[124] == pytest.approx(0.3 * (124 / 249) / (1 - 0.7 * 124 / 249))
    with pytest.raises(ValueError, match="at least 2 times and a positive shift"):
        times(1)


def test_euler_is_exact_on_straight_paths_and_of_first_order_on_others():
    noise, data = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(euler(lambda x, t: data - noise, noise, times(5)), data)
    growth = [float(euler(lambda x, t: x, torch.ones(1, 1, 1, 1), times(n + 1))) for n in (10, 20)]
    assert growth == pytest.approx([(1 + 1 / n) ** n for n in (10, 20)], rel=1e-5)


def test_euler_evaluates_once_per_interval_at_its_begin():
    asked = []

    def velocity(x, t):
        asked.append(t.tolist())
        return torch.zeros_like(x)

    euler(velocity, torch.zeros(2, 1, 1, 1), [0.0, 0.25, 1.0])
    assert asked == [[0.0, 0.0], [0.25, 0.25]]


def test_dopri5_follows_a_curved_path_within_its_tolerance():
    end, evaluations = dopri5(lambda x, t: x, torch.ones(2, 1, 1, 1))
    assert end.flatten().tolist() == pytest.approx([2.718281828] * 2, rel=2e-4)
    assert 6 < evaluations < 60


class Network:
    """v = label for a label, -1 for none; remembers its batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, x, t, y):
        self.batches.append(len(x))
        value = torch.where(y == 10, -1.0, y.float())
        return value[:, None, None, None].expand_as(x)


def test_guidance_moves_the_first_channels_away_from_no_label():
    network, labels = Network(), torch.tensor([2, 3])
    velocity = guided(network, labels, 10, Guidance(scale=3.0, start=0.1, channels=3))
    answer = velocity(torch.zeros(2, 5, 1, 1), torch.tensor([0.5, 0.5]))
    assert answer[:, 0, 0, 0].tolist() == [-1 + 3 * 3, -1 + 3 * 4]
    assert answer[:, 2, 0, 0].tolist() == answer[:, 0, 0, 0].tolist()
    assert answer[:, 3, 0, 0].tolist() == [2, 3]
    early = velocity(torch.zeros(2, 5, 1, 1), torch.tensor([0.05, 0.05]))
    assert early[:, 0, 0, 0].tolist() == [2, 3]
    assert network.batches == [4, 2], "both branches are one batch, and before the start there is one branch"


def test_all_channels_can_be_guided_and_none():
    labels, x, t = torch.tensor([2]), torch.zeros(1, 5, 1, 1), torch.tensor([0.5])
    everywhere = guided(Network(), labels, 10, Guidance(scale=2.0, channels=None))(x, t)
    assert everywhere.flatten().tolist() == [5.0] * 5
    for none in (None, Guidance(scale=1.0)):
        network = Network()
        assert guided(network, labels, 10, none)(x, t).flatten().tolist() == [2.0] * 5
        assert network.batches == [1]
