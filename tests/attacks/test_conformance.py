"""What every attack keeps to: the ball, the pixel range, the network's state, an image's independence."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from small_attacks import EPS, loss
from torch import Tensor, nn

from kdcam.attacks import apgd, apgd_targeted, bim, cw_margin, fgsm, mim, pgd, square

Attack = Callable[..., Tensor]


def _steps(attack: Attack, *, indexed: bool = True, **settings: Any) -> Attack:
    def run(*batch: Any, norm: str = "linf", eps: float = EPS, indices: Tensor | None = None) -> Tensor:
        more = {"indices": indices} if indexed else {}
        return attack(*batch, norm=norm, eps=eps, alpha=eps / 4, **more, **settings)

    return run


def _adaptive(attack: Attack, **settings: Any) -> Attack:
    def run(*batch: Any, norm: str = "linf", eps: float = EPS, indices: Tensor | None = None) -> Tensor:
        return attack(*batch, norm=norm, eps=eps, indices=indices, **settings)

    return run


ATTACKS: dict[str, Attack] = {
    "fgsm": lambda *batch, norm="linf", eps=EPS, indices=None: fgsm(*batch, eps=eps, norm=norm),
    "bim": _steps(bim, steps=5, indexed=False),
    "pgd": _steps(pgd, steps=5),
    "pgd-restarts": _steps(pgd, steps=2, restarts=3),
    "pgd-stop": _steps(pgd, steps=5, restarts=2, stop_when_fooled=True),
    "mim": _steps(mim, steps=5, indexed=False),
    "mim-stop": _steps(mim, steps=5, indexed=False, stop_when_fooled=True),
    "cw-margin": _steps(cw_margin, steps=5),
    "apgd-ce": _adaptive(apgd, steps=10, restarts=2),
    "apgd-ce-end": _adaptive(apgd, steps=10, restarts=2, stop_when_fooled=False),
    "apgd-dlr": _adaptive(apgd, steps=10, loss="dlr"),
    "apgd-t": _adaptive(apgd_targeted, steps=5, n_target_classes=2, restarts=2),
    "apgd-t-end": _adaptive(apgd_targeted, steps=5, n_target_classes=2, stop_when_fooled=False),
    "square": _adaptive(square, n_queries=40),
}
ROWS = ("fgsm", "bim", "pgd", "pgd-restarts", "pgd-stop", "mim", "mim-stop", "apgd-ce", "apgd-ce-end")
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


@every_attack
@pytest.mark.parametrize(("norm", "eps"), [("linf", EPS), ("l2", 0.5)])
def test_result_stays_in_the_ball_and_raises_the_loss(
    attack: Callable[..., Tensor], norm: str, eps: float, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    images, targets = batch
    found = attack(model, images, targets, norm=norm, eps=eps)
    change = (found - images).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert size.max() <= eps + 1e-6
    assert size.max() > 0.9 * eps
    assert found.min() >= 0
    assert found.max() <= 1
    assert loss(model, found, targets).mean() > loss(model, images, targets).mean()


@every_attack
def test_nothing_else_is_touched(
    attack: Callable[..., Tensor], model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    model.train()
    model.norm.eval()
    model.convolution.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images, random_state = batch[0].clone(), torch.get_rng_state()
    found = attack(model, *batch)
    assert (model.training, model.norm.training, model.dropout.training) == (True, False, True)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.convolution.weight.requires_grad
    assert model.head.weight.requires_grad
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(batch[0], images)
    assert not found.requires_grad
    assert found.data_ptr() != batch[0].data_ptr()


@every_attack
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_the_caller_turned_gradients_off(
    attack: Callable[..., Tensor], context: Any, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    expected = attack(model, *batch)
    with context():
        images, targets = batch[0].clone(), batch[1].clone()  # inference tensors under inference_mode
        assert torch.equal(attack(model, images, targets), expected)


@every_attack
def test_autocast_is_off_inside(
    attack: Callable[..., Tensor], model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    expected = attack(model, *batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attack(model, *batch)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@every_attack
@pytest.mark.parametrize(("norm", "eps"), [("linf", EPS), ("l2", 0.5)])
def test_an_image_depends_neither_on_its_neighbours_nor_on_the_batch_size(
    attack: Callable[..., Tensor], norm: str, eps: float, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    # In float64: a convolution rounds otherwise for another batch size, and signs of tiny gradients may follow.
    model, images, targets = model.double(), batch[0].double(), batch[1]
    indices = torch.arange(100, 124)
    whole = attack(model, images, targets, norm=norm, eps=eps, indices=indices)
    shuffled = torch.randperm(24, generator=torch.Generator().manual_seed(3))
    for size in (1, 5, 24):
        for chosen in shuffled.split(size)[:4]:
            part = attack(model, images[chosen], targets[chosen], norm=norm, eps=eps, indices=indices[chosen])
            torch.testing.assert_close(part, whole[chosen], rtol=0, atol=1e-9)


@every_attack
def test_zero_gradients_give_no_nan(attack: Callable[..., Tensor], batch: tuple[Tensor, Tensor]) -> None:
    class Flat(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 0 * images.mean((2, 3)) @ torch.ones(3, 4)

    for norm in ("linf", "l2"):
        found = attack(Flat(), batch[0], batch[1], norm=norm)
        assert found.isfinite().all()
        assert (found - batch[0]).flatten(1).norm(dim=1).max() <= EPS * (14 if norm == "linf" else 1.001)


@pytest.mark.parametrize(
    "attack",
    [
        partial(pgd, alpha=0.002, steps=10, stop_when_fooled=True),
        partial(mim, alpha=0.0005, steps=20, stop_when_fooled=True),
        partial(square, n_queries=200),
    ],
)
def test_images_drop_out_only_when_they_are_fooled_beyond_rounding(attack: Attack) -> None:
    class Offset(nn.Module):
        """Logits from 0 to 1,000, where a difference of 0.1 is a ten-thousandth of their range."""

        def forward(self, images: Tensor) -> Tensor:
            score = 1000 * images.mean((1, 2, 3)) + 503
            return torch.stack([torch.full_like(score, 1000.0), score, 0 * score], dim=1)

    # They lead by 3 to 3.6; the budget takes 4.
    images = 0.5 + torch.linspace(0, 0.0006, 256).view(256, 1, 1, 1).expand(256, 1, 4, 4)
    found = attack(Offset(), images, torch.ones(256, dtype=torch.int64), eps=0.004)
    margins = 497 - 1000 * found.mean((1, 2, 3))
    assert (margins > 0).float().mean() > 0.9
    assert ((margins > 0.1) | (margins <= 0)).all()


@pytest.mark.parametrize("attack", [ATTACKS[name] for name in ROWS], ids=ROWS)
def test_rows_raise_the_summed_binary_cross_entropy(
    model: nn.Module, batch: tuple[Tensor, Tensor], attack: Callable[..., Tensor]
) -> None:
    model, images = model.double(), batch[0].double()
    rows = (model(images) > 0).double()
    found = attack(model, images, rows)
    assert float((found - images).abs().max()) <= EPS + 1e-6
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    losses = [
        nn.functional.binary_cross_entropy_with_logits(model(x), rows, reduction="none").sum(1)
        for x in (images, found)
    ]
    assert bool((losses[1] > losses[0]).all())
    one_by_one = torch.cat([attack(model, images[:1], rows[:1]), found[1:]])
    torch.testing.assert_close(one_by_one[:1], found[:1])


@pytest.mark.parametrize("attack", [ATTACKS[name] for name in ATTACKS if name not in ROWS])
def test_rows_are_refused_where_a_loss_needs_one_label(
    attack: Attack, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    with pytest.raises(ValueError, match=r"targets are rows \(N, K\).* needs one label an image"):
        attack(model, batch[0], torch.zeros(24, 4))


@every_attack
def test_an_empty_batch_stays_empty(attack: Attack, model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    assert attack(model, batch[0][:0], batch[1][:0]).shape == (0, 3, 8, 8)
