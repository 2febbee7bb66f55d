"""Tests of kdcam.attacks.gradient_steps: hand-worked steps, restarts, and images that drop out."""

from typing import Any

import pytest
import torch
from small_attacks import ALPHA, EPS, Linear, fooled, loss
from torch import Tensor, nn

from kdcam.attacks import CountedClassifier, bim, cw_margin, fgsm, input_gradient, mim, pgd
from kdcam.attacks.norm_ball import NormBall


def test_fgsm_by_hand() -> None:
    model = Linear(torch.tensor([[[2.0, -0.5, 0.0, 3.0]]]))
    images = torch.tensor([[[[0.5, 0.5, 0.5, 0.05]]]])
    found = fgsm(model, images, torch.tensor([1]), eps=0.1)
    torch.testing.assert_close(found, torch.tensor([[[[0.4, 0.6, 0.5, 0.0]]]]))


def test_l2_step_by_hand() -> None:
    model = Linear(torch.tensor([[[3.0, -4.0]]]))
    found = fgsm(model, torch.full((1, 1, 1, 2), 0.5), torch.tensor([1]), eps=0.1, norm="l2")
    torch.testing.assert_close(found, torch.tensor([[[[0.5 - 0.06, 0.5 + 0.08]]]]))


def test_mim_sums_gradients() -> None:
    class Bent(nn.Module):
        """A loss that rises to the right at first and to the left beyond 0.55, less steeply."""

        def forward(self, images: Tensor) -> Tensor:
            x = images.sum((1, 2, 3))
            score = torch.where(x < 0.55, x, 0.55 - 0.5 * (x - 0.55))
            return torch.stack([score, torch.zeros_like(score)], dim=1)

    images, targets = torch.full((1, 1, 1, 1), 0.5), torch.tensor([1])
    # Gradients over their mean size are +1, -1: the running sums 1, 0.5 step right twice, then -0.75 left.
    steps = [mim(Bent(), images, targets, eps=0.5, alpha=0.1, steps=n, decay=0.5).item() for n in (1, 2, 3)]
    assert steps == pytest.approx([0.6, 0.5, 0.6])
    # With decay 2 the sums are 1, 2 - 1 = 1, 2 - 1 = 1.
    kept = [mim(Bent(), images, targets, eps=0.5, alpha=0.1, steps=n, decay=2.0).item() for n in (1, 2, 3)]
    assert kept == pytest.approx([0.6, 0.7, 0.8])


def test_mim_without_memory_is_bim(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    plain = bim(model, *batch, eps=EPS, alpha=ALPHA, steps=4)
    assert torch.equal(mim(model, *batch, eps=EPS, alpha=ALPHA, steps=4, decay=0.0), plain)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("scale", [1.0, 1e-13, 1e-20])
def test_tiny_gradients_are_followed_as_large_ones(
    norm: Any, scale: float, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    images, labels = batch
    budget = {"eps": 0.3, "alpha": 0.1, "steps": 1, "norm": norm}

    class Scaled(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return scale * model(images)

    network = Scaled()
    expected = images + 0.1 * NormBall(norm, 0.3).direction(input_gradient(network, images, labels) / scale)
    found = bim(network, images, labels, **budget)
    torch.testing.assert_close(found, expected.clamp(0, 1))
    assert (found - images).flatten(1).norm(dim=1).min() > 0.09
    budget["steps"] = 4
    plain = bim(network, images, labels, **budget)
    torch.testing.assert_close(mim(network, images, labels, decay=0.0, **budget), plain)


def test_random_starts_follow_from_seed_and_index(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    images, targets = batch
    indices = torch.arange(100, 124)
    settings = {"eps": EPS, "alpha": ALPHA, "steps": 3}
    whole = pgd(model, images, targets, indices=indices, **settings)
    chosen = torch.tensor([20, 3, 11])
    part = pgd(model, images[chosen], targets[chosen], indices=indices[chosen], **settings)
    torch.testing.assert_close(part, whole[chosen], rtol=0, atol=1e-6)
    assert torch.equal(pgd(model, images, targets, indices=indices, **settings), whole)
    assert not torch.equal(pgd(model, images, targets, indices=indices + 1, **settings), whole)
    assert not torch.equal(pgd(model, images, targets, indices=indices, seed=1, **settings), whole)


def test_restarts_never_hurt_and_keep_what_fooled(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    images, targets = batch
    settings = {"eps": 2 / 255, "alpha": 1 / 255, "steps": 1}
    tries = [pgd(model, images, targets, restarts=n, **settings) for n in (1, 2, 6)]
    losses = [loss(model, found, targets) for found in tries]
    with torch.no_grad():
        fooled = [model(found).argmax(1) != targets for found in tries]
    for less, more in ((0, 1), (1, 2)):
        assert (fooled[more] | ~fooled[less]).all()
        still_right = ~fooled[more]
        assert (losses[more][still_right] >= losses[less][still_right] - 1e-6).all()
        assert torch.equal(tries[more][fooled[less]], tries[less][fooled[less]])


def test_more_budget_and_more_steps_are_not_worse(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    means = [
        loss(model, bim(model, *batch, eps=eps, alpha=eps / 4, steps=10), batch[1]).mean()
        for eps in (0.01, 0.1, 1)
    ]
    assert means == sorted(means)
    with torch.no_grad():
        assert (
            model(bim(model, *batch, eps=1.0, alpha=0.1, steps=20)).argmax(1) == batch[1]
        ).float().mean() < 0.2


def test_a_budget_of_zero_and_an_empty_batch(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(fgsm(model, *batch, eps=0.0), batch[0])
    empty = pgd(model, batch[0][:0], batch[1][:0], eps=EPS, alpha=ALPHA, steps=2)
    assert empty.shape == (0, 3, 8, 8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"eps": 8.0}, "eps is 8.0"),
        ({"eps": -0.1}, "eps is -0.1"),
        ({"eps": float("nan")}, "eps is nan"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"steps": 0}, "steps is 0"),
        ({"norm": "l1"}, "norm is 'l1'"),
        ({"restarts": 0}, "restarts is 0"),
        ({"restarts": 2, "random_start": False}, "restarts is 2"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    wrong: dict[str, Any], message: str, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    with pytest.raises(ValueError, match=message):
        pgd(model, *batch, **{"eps": EPS, "alpha": ALPHA, "steps": 2, **wrong})


def test_decay_below_zero_is_refused(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="decay is -1"):
        mim(model, *batch, eps=EPS, alpha=ALPHA, steps=2, decay=-1.0)


def test_fgsm_on_rows_equals_the_sign_of_a_gradient_by_hand(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    images, _ = batch
    rows = torch.zeros(24, 4)
    rows[::2, 1] = rows[::3, 3] = 1
    leaf = images.clone().requires_grad_()
    probabilities = model(leaf).sigmoid()
    (-(rows * probabilities.log() + (1 - rows) * (1 - probabilities).log())).sum().backward()
    expected = (images + EPS * leaf.grad.sign()).clamp(0, 1)
    torch.testing.assert_close(fgsm(model, images, rows, eps=EPS), expected)
    torch.testing.assert_close(input_gradient(model, images, rows), leaf.grad, rtol=1e-4, atol=1e-6)


def test_the_restart_with_the_highest_loss_counts_for_rows(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    images, _ = batch
    rows = (model(images) > 0).float()

    def loss_of(found: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(model(found), rows, reduction="none").sum(1)

    one = pgd(model, images, rows, eps=EPS, alpha=ALPHA, steps=2)
    three = pgd(model, images, rows, eps=EPS, alpha=ALPHA, steps=2, restarts=3)
    assert bool((loss_of(three) >= loss_of(one) - 1e-6).all())
    assert bool((loss_of(three) > loss_of(one) + 1e-6).any())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_that_drop_out_cost_less_and_as_many_are_fooled(
    norm: Any, trained: nn.Module, attacked: tuple[Tensor, Tensor]
) -> None:
    budget = {"norm": norm, "eps": 0.15 if norm == "linf" else 0.8}
    settings = {**budget, "alpha": budget["eps"] / 4, "steps": 10, "restarts": 2}
    passes, results = [], []
    for stop in (False, True):
        counted = CountedClassifier(trained)
        found = pgd(counted, *attacked, stop_when_fooled=stop, **settings)
        results.append(fooled(trained, found, attacked[1]))
        passes.append(counted.backwards)
    without, stopped = results
    assert (stopped | ~without).all()
    assert 0.2 < stopped.float().mean() < 0.8
    assert passes[1] < 0.8 * passes[0]


def test_an_image_is_kept_where_it_is_fooled_first() -> None:
    model = Linear(torch.ones(1, 1, 1))
    images = torch.tensor([0.2, 0.4, 0.9]).view(3, 1, 1, 1)
    shifted = nn.Sequential(nn.Conv2d(1, 1, 1), model)
    nn.init.ones_(shifted[0].weight)
    nn.init.constant_(shifted[0].bias, -0.15)  # class 1 above 0.15
    settings = {"eps": 0.5, "alpha": 0.1, "steps": 4}
    found = bim(shifted, images, torch.ones(3, dtype=torch.int64), stop_when_fooled=True, **settings)
    torch.testing.assert_close(found.flatten(), torch.tensor([0.1, 0.1, 0.5]))
    last = bim(shifted, images, torch.ones(3, dtype=torch.int64), **settings)
    torch.testing.assert_close(last.flatten(), torch.tensor([0.0, 0.0, 0.5]))


def test_cw_margin_moves_an_image_whose_cross_entropy_is_flat() -> None:
    model = Linear(torch.full((1, 2, 2), 500.0))
    images, labels = torch.full((1, 1, 2, 2), 0.25), torch.tensor([1])
    settings = {"eps": 0.3, "alpha": 0.1, "steps": 5, "random_start": False}
    assert torch.equal(pgd(model, images, labels, **settings), images)
    assert fooled(model, cw_margin(model, images, labels, **settings), labels).all()
