import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn
from torchdistill.losses.mid_level import CRDLoss
from two_processes import on_two_processes

from kdcam.errors import DataError
from kdcam.losses import crd as crd_file
from kdcam.losses.crd import Crd, CrdConfig, densities, noise_contrast
from kdcam.losses.loss import Shapes, Step
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths

IMAGES, NEGATIVES, WIDTH = 16, 5, 8  # torchdistill's loss can be built for a power of 2 alone
LABELS = torch.arange(IMAGES) % 3
SHAPES = Shapes("single-label", 3, LABELS, Widths(4, 4, 1, 1), Widths(6, 6, 1, 1))
CONFIG = CrdConfig(negatives=NEGATIVES, embedding_width=WIDTH)


class Fixed(nn.Module):
    """Stands in for the drawing of negatives."""

    def forward(self, targets: Tensor, number: int) -> Tensor:
        return (torch.arange(number) + 7 * targets[:, None] + 1) % IMAGES


def built(seed: int = 0) -> Crd:
    torch.manual_seed(seed)
    module = CONFIG.build(SHAPES)
    assert isinstance(module, Crd)
    return module


def steps(number: int = 3, dtype: torch.dtype = torch.float32) -> list[Step]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(number):
        student = torch.randn(4, 4, generator=generator).to(dtype).requires_grad_()
        teacher = TeacherOutputs(embedding=torch.randn(4, 6, generator=generator).to(dtype))
        indices = torch.randperm(IMAGES, generator=generator)[:4]
        outputs = Outputs(student, student, None, None, None)
        found.append(Step(outputs, teacher, LABELS[indices], indices, 0.5))
    return found


def chosen_of(step: Step) -> Tensor:
    return torch.cat([step.indices[:, None], Fixed()(step.targets, NEGATIVES)], 1)


def embedded(module: Crd, step: Step) -> tuple[Tensor, Tensor]:
    assert step.teacher is not None
    return (
        F.normalize(module.student_layer(step.student.embedding)),
        F.normalize(module.teacher_layer(step.teacher.embedding)),
    )


def test_hand_worked_cost() -> None:
    # Two images, one negative: noise 1/2. -log(1/2 / 1) - log(1/2 / (3/2)), a half each of the other image's.
    probabilities = torch.tensor([[0.5, 1.0], [1.5, 0.5]], dtype=torch.float64)
    expected = (math.log(2) + math.log(3) + math.log(4 / 3) + math.log(2)) / 2
    assert noise_contrast(probabilities, 2).item() == pytest.approx(expected, rel=1e-5)


def test_hand_worked_densities() -> None:
    embedding, bank = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
    found = densities(embedding, bank, torch.tensor([[1, 2, 0]]), temperature=0.5)
    torch.testing.assert_close(found, torch.tensor([[1.2, -2.0, 0.0]]).exp())


def looped(anchor: Tensor, bank: Tensor, chosen: Tensor, normalizer: float | None) -> tuple[float, float]:
    """One side of the loss as HobbitLong/RepDistiller writes it, number by number; and its Z."""
    n, m = len(bank), chosen.shape[1] - 1
    scores = [
        [math.exp(float(anchor[i] @ bank[j]) / 0.07) for j in row] for i, row in enumerate(chosen.tolist())
    ]
    if normalizer is None:
        normalizer = sum(map(sum, scores)) / (len(scores) * (m + 1)) * n
    total = 0.0
    for own, *others in scores:
        p = own / normalizer
        total -= math.log(p / (p + m / n + 1e-7))
        for other in others:
            total -= math.log((m / n) / (other / normalizer + m / n + 1e-7))
    return total / len(scores), normalizer


def test_three_steps_equal_loops_over_images_and_negatives() -> None:
    module = built().double()
    module.other_classes = Fixed()
    banks = [module.student_bank.values.clone(), module.teacher_bank.values.clone()]
    normalizers: list[float | None] = [None, None]
    for step in steps(dtype=torch.float64):
        student, teacher = (tensor.detach() for tensor in embedded(module, step))
        of_student, normalizers[0] = looped(student, banks[1], chosen_of(step), normalizers[0])
        of_teacher, normalizers[1] = looped(teacher, banks[0], chosen_of(step), normalizers[1])
        assert module(step).item() == pytest.approx(of_student + of_teacher, rel=1e-9)
        for bank, rows in zip(banks, (student, teacher), strict=True):
            for place, row in zip(step.indices.tolist(), rows, strict=True):
                moved = 0.5 * bank[place] + 0.5 * row
                bank[place] = moved / moved.norm()
    torch.testing.assert_close(module.student_bank.values, banks[0])
    torch.testing.assert_close(module.teacher_bank.values, banks[1])
    assert module.normalizers.tolist() == pytest.approx(normalizers)


def test_three_steps_equal_torchdistill_in_value_gradient_and_banks() -> None:
    module = built().double()
    module.other_classes = Fixed()
    reference = CRDLoss("norm", "empty", "norm", WIDTH, IMAGES, NEGATIVES, IMAGES).double()
    reference.memory_v1.copy_(module.student_bank.values)
    reference.memory_v2.copy_(module.teacher_bank.values)
    for step in steps(dtype=torch.float64):
        student, teacher = embedded(module, step)
        indices = {"pos_idx": step.indices, "contrast_idx": chosen_of(step)}
        taught = {"norm": {"output": student}, "empty": {"input": indices}}
        expected = reference(taught, {"norm": {"output": teacher}}).squeeze()
        found = module(step)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
        gradients = [torch.autograd.grad(loss, step.student.embedding)[0] for loss in (found, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(module.student_bank.values, reference.memory_v1, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(module.teacher_bank.values, reference.memory_v2, rtol=1e-6, atol=1e-9)


def test_both_ways_of_looking_up_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    embedding = F.normalize(torch.randn(3, 4, dtype=torch.float64)).requires_grad_()
    bank, chosen = torch.randn(20, 4, dtype=torch.float64), torch.randint(20, (3, 9))
    found = []
    for gain in (0, 32):
        monkeypatch.setattr(crd_file, "_PRODUCT_GAIN", gain)
        values = densities(embedding, bank, chosen, temperature=0.5)
        found.append((values, *torch.autograd.grad(values.square().sum(), embedding)))
    for by_gather, by_product in zip(*found, strict=True):
        torch.testing.assert_close(by_gather, by_product)


@pytest.mark.parametrize("images", [20, 2000])
def test_the_bank_may_move_before_the_backward_pass(images: int) -> None:
    torch.manual_seed(0)
    embedding, bank = torch.randn(3, 4, requires_grad=True), torch.randn(images, 4)
    chosen = torch.randint(images, (3, 9))
    expected = torch.autograd.grad(densities(embedding, bank, chosen, temperature=1.0).sum(), embedding)
    loss = densities(embedding, bank, chosen, temperature=1.0).sum()
    bank.zero_()
    torch.testing.assert_close(torch.autograd.grad(loss, embedding), expected)


def test_gradient_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    embedding = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    bank, chosen = torch.randn(10, 4, dtype=torch.float64), torch.randint(10, (3, 6))

    def cost(rows: Tensor) -> Tensor:
        return noise_contrast(densities(rows, bank, chosen, temperature=0.7) / 10, 10)

    assert torch.autograd.gradcheck(cost, embedding)


def test_gradient_reaches_student_and_both_layers_and_never_the_teacher() -> None:
    module, step = built(), steps(1)[0]
    module(step).backward()
    assert step.teacher is not None
    assert step.teacher.embedding is not None
    assert step.teacher.embedding.grad is None
    learnt = [step.student.embedding, module.student_layer.weight, module.teacher_layer.weight]
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in learnt)


def test_gradient_survives_later_steps() -> None:
    module, batches = built(), steps(2)
    losses = [module(step) for step in batches]
    sum(losses, torch.zeros(())).backward()  # banks have moved meanwhile
    assert batches[0].student.embedding.grad is not None


def test_only_the_batchs_images_move_and_have_length_1() -> None:
    module, step = built(), steps(1)[0]
    before = module.teacher_bank.values.clone()
    module(step)
    moved = (module.teacher_bank.values != before).any(1)
    assert moved.nonzero().flatten().tolist() == sorted(step.indices.tolist())
    torch.testing.assert_close(module.teacher_bank.values[step.indices].norm(dim=1), torch.ones(4))


def test_a_resumed_run_goes_on_as_it_was() -> None:
    whole, batches = built(), steps()
    for step in batches[:2]:
        whole(step)
    after = built(seed=5)
    after.load_state_dict({name: value.clone() for name, value in whole.state_dict().items()})
    assert set(whole.state_dict()) >= {"student_bank.values", "teacher_bank.values", "normalizers"}
    assert not any("other_classes" in name for name in whole.state_dict())
    found = []
    for module in (whole, after):
        torch.manual_seed(7)  # the negatives, as the run's own resume restores the generator
        found.append(module(batches[2]))
    assert torch.equal(*found)
    assert all(torch.equal(value, after.state_dict()[name]) for name, value in whole.state_dict().items())


def _three_steps(rank: int | None) -> dict[str, Tensor]:
    """Return the losses and the state after all batches, or after a process's half of each."""
    module = built()
    module.other_classes = Fixed()
    part = slice(None) if rank is None else slice(rank, None, 2)
    losses = []
    for step in steps():
        assert step.teacher is not None
        assert step.teacher.embedding is not None
        student = step.student.embedding[part]
        teacher = TeacherOutputs(embedding=step.teacher.embedding[part])
        outputs = Outputs(student, student, None, None, None)
        losses.append(module(Step(outputs, teacher, step.targets[part], step.indices[part], 0.5)).detach())
    return {"losses": torch.stack(losses), **module.state_dict()}


def test_two_processes_do_as_one_with_the_doubled_batch() -> None:
    alone = _three_steps(None)
    one, other = on_two_processes(_three_steps)
    torch.testing.assert_close((one["losses"] + other["losses"]) / 2, alone["losses"])
    for name in alone.keys() - {"losses"}:
        assert torch.equal(one[name], other[name])
        torch.testing.assert_close(one[name], alone[name])


def test_bfloat16_outputs_under_autocast() -> None:
    exact, rough = built(), built()
    exact.other_classes = rough.other_classes = Fixed()
    with torch.autocast("cpu", torch.bfloat16):
        found = rough(steps(1, torch.bfloat16)[0])
    assert found.dtype == rough.student_bank.values.dtype == torch.float32
    torch.testing.assert_close(found, exact(steps(1)[0]), rtol=0.05, atol=0.02)


def test_as_many_negatives_as_published_of_few_images() -> None:
    torch.manual_seed(0)
    loss = CrdConfig().build(SHAPES)(steps(1)[0])
    assert torch.isfinite(loss)


def test_the_product_makes_no_row_for_each_negative() -> None:
    module, step = CrdConfig().build(SHAPES), steps(1)[0]
    largest = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(step)
    assert largest == 4 * (CrdConfig().negatives + 1)


def test_one_class_alone_is_refused() -> None:
    shapes = SHAPES._replace(train_targets=torch.full((9,), 2))
    with pytest.raises(DataError, match="all 9 training images are of class 2"):
        CONFIG.build(shapes)


def test_published_constants_are_the_defaults() -> None:
    config = CrdConfig()
    assert (config.weight, config.negatives, config.temperature) == (0.8, 16384, 0.07)
    assert (config.momentum, config.embedding_width, config.takes) == (0.5, 128, {"labels"})


@pytest.mark.parametrize("keys", [{"temperature": 0.01}, {"momentum": 1.0}, {"negatives": 0}])
def test_keys_out_of_range_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(keys))):
        CrdConfig(**keys)
