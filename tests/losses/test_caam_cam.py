import pytest
import torch
import torch.nn.functional as F

from kdcam.losses.caam_cam import caam_cam_loss


def test_hand_worked_value() -> None:
    # Student's CAAM = [0, 1, 4] -> [0, 1/4, 1]; teacher's CAM = [2, 0, 1] -> [1, 0, 1/2].
    feature_map = torch.tensor([[[[0.0, 0.5, 1.0]], [[0.0, 0.5, 3.0]]]])
    loss = caam_cam_loss(feature_map, torch.tensor([[[2.0, 0.0, 1.0]]]))
    assert loss.item() == pytest.approx((1 + 1 / 4 + 1 / 2) / 3)


def test_is_zero_when_the_student_responds_where_the_teacher_sees_the_label() -> None:
    feature_map = torch.rand(3, 4, 5, 5)
    assert caam_cam_loss(feature_map, 7 * feature_map.sum(1) - 2).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("student", "teacher"), [((8, 8), (4, 4)), ((3, 5), (6, 4)), ((7, 7), (1, 1))])
def test_larger_map_is_pooled_to_the_smaller(student: tuple[int, int], teacher: tuple[int, int]) -> None:
    first, second = torch.rand(2, *student), torch.rand(2, *teacher)
    size = (min(student[0], teacher[0]), min(student[1], teacher[1]))
    pooled = [F.adaptive_avg_pool2d(maps, size) for maps in (first, second)]
    loss = caam_cam_loss(first.unsqueeze(1), second)
    torch.testing.assert_close(loss, caam_cam_loss(pooled[0].unsqueeze(1), pooled[1]))


def test_gradient_reaches_the_student_only() -> None:
    feature_map = torch.rand(3, 4, 6, 6, requires_grad=True)
    teacher_map = torch.rand(3, 3, 3)
    caam_cam_loss(feature_map, teacher_map).backward()
    assert feature_map.grad is not None
    assert feature_map.grad.abs().sum() > 0


def test_images_without_any_label_are_left_out() -> None:
    feature_map, label_cam = torch.rand(3, 4, 5, 5), torch.randn(3, 5, 5)
    labelled = torch.tensor([True, False, True])
    expected = caam_cam_loss(feature_map[labelled], label_cam[labelled])
    torch.testing.assert_close(caam_cam_loss(feature_map, label_cam, labelled), expected)
    assert caam_cam_loss(feature_map, label_cam, ~labelled & labelled).item() == 0
