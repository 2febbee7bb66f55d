import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from kdcam.errors import CheckpointError
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.model_config import ModelConfig
from kdcam.runs.checkpoint import ResumeState, load_classifier, load_resume, save_model, save_resume

CALLS = ("open", "write", "fsync", "close", "replace")

# A child process dies at each system call of a save of the second state in turn; what loads then must be one
# of the two states, whole, in tensors and record alike.
KILLS = """
import os, sys
from pathlib import Path
import torch
from kdcam.runs.checkpoint import ResumeState, load_resume, save_resume

folder = Path(sys.argv[1])
states = [ResumeState({"w": torch.full((500,), float(i))}, {"step": i}) for i in range(2)]
seen = set()
for point in range(100):
    save_resume(folder, states[0])
    child = os.fork()
    if child == 0:
        left = point
        def dying(real, half):
            def call(*args, **kwargs):
                global left
                if left == 0:
                    if half:
                        real(args[0], args[1][: len(args[1]) // 2])
                    os._exit(9)
                left -= 1
                return real(*args, **kwargs)
            return call
        for name in ("open", "write", "fsync", "close", "replace"):
            setattr(os, name, dying(getattr(os, name), name == "write"))
        save_resume(folder, states[1])
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found = load_resume(folder)
    assert torch.equal(found.tensors["w"], states[found.record["step"]].tensors["w"]), point
    seen.add(found.record["step"])
    if status == 0:
        break
    assert status == 9
assert seen == {0, 1}
print(point)
"""


def _classifier(name: str = "kdcam:resnet8_s2", *, seed: int = 0, classes: int = 4) -> Classifier:
    torch.manual_seed(seed)
    names = [f"class {index}" for index in range(classes)]
    return build_classifier(
        ModelConfig(name=name), num_classes=classes, in_channels=1, image_size=16, label_names=names
    ).eval()


def _logits(classifier: Classifier) -> torch.Tensor:
    with torch.no_grad():
        return classifier(torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)))


def _state(step: int) -> ResumeState:
    return ResumeState({"w": torch.full((500,), float(step))}, {"step": step})


def _step(folder: Path) -> int:
    found = load_resume(folder)
    assert found is not None
    assert torch.equal(found.tensors["w"], _state(found.record["step"]).tensors["w"])
    return int(found.record["step"])


@contextmanager
def _full_disk(call: str, number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Let the ``number``-th call of an ``os`` function find a full disk; yield the calls' numbers."""
    real, made = getattr(os, call), []

    def full(*args: Any, **kwargs: Any) -> Any:
        made.append(len(made))
        if made[-1] == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        yield made


def test_resume_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {
        "conv": torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last),
        "half": torch.randn(3).bfloat16(),
        "generator": torch.get_rng_state(),
        "number": torch.tensor(0.1, dtype=torch.float64),
    }
    record = {"best": 1 / 3, "none": None, "worst": float("-inf"), "list": [1, 2**63], "text": "Käfer"}
    save_resume(tmp_path, ResumeState(tensors, record))
    found = load_resume(tmp_path)
    assert found is not None
    assert found.record == record
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert found.tensors[name].stride() == tensor.stride()
        assert torch.equal(found.tensors[name], tensor)


def test_no_state_is_none(tmp_path: Path) -> None:
    assert load_resume(tmp_path) is None


def test_damaged_state_is_refused_with_the_way_out(tmp_path: Path) -> None:
    save_resume(tmp_path, _state(0))
    path = tmp_path / "resume" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"state\.safetensors: not a whole.*--resume never"):
        load_resume(tmp_path)


def test_another_file_in_the_place_of_the_state_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, _classifier())
    (tmp_path / "resume").mkdir()
    (tmp_path / "model.safetensors").rename(tmp_path / "resume" / "state.safetensors")
    with pytest.raises(CheckpointError, match=r"not a resume state; start over with --resume never"):
        load_resume(tmp_path)


def test_state_of_another_layout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("kdcam.runs.checkpoint._FORMATS", (3,))
        save_resume(tmp_path, _state(0))
    with pytest.raises(CheckpointError, match="of format 3, this kdcam reads up to 2"):
        load_resume(tmp_path)


def test_a_state_whose_checksum_is_gone_is_refused(tmp_path: Path) -> None:
    save_resume(tmp_path, _state(0))
    file = tmp_path / "resume" / "state.safetensors"
    file.write_bytes(file.read_bytes().replace(b"kdcam.sha256", b"kdcam.shb256"))
    with pytest.raises(CheckpointError, match=r"its checksum is gone\); start over with --resume never"):
        load_resume(tmp_path)


@pytest.mark.parametrize("call", CALLS)
def test_full_disk_at_each_call_of_a_resume_save_keeps_one_whole_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    save_resume(tmp_path, _state(0))
    with _full_disk(call, -1, monkeypatch) as made:
        save_resume(tmp_path, _state(0))
    for number in made:
        save_resume(tmp_path, _state(0))
        with _full_disk(call, number, monkeypatch), pytest.raises(CheckpointError, match="No space left"):
            save_resume(tmp_path, _state(1))
        assert _step(tmp_path) in (0, 1)
        assert [file.name for file in (tmp_path / "resume").iterdir()] == ["state.safetensors"]


@pytest.mark.parametrize("call", CALLS)
def test_full_disk_at_each_call_of_a_model_save_leaves_weights_that_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    old, new = _classifier(seed=0), _classifier(seed=1)
    allowed = [_logits(old), _logits(new)]
    save_model(tmp_path, old)
    with _full_disk(call, -1, monkeypatch) as made:
        save_model(tmp_path, old)
    for number in made:
        save_model(tmp_path, old)
        with _full_disk(call, number, monkeypatch), pytest.raises(CheckpointError, match="No space left"):
            save_model(tmp_path, new)
        found = _logits(load_classifier(tmp_path))
        assert any(torch.equal(found, logits) for logits in allowed)
        assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_at_each_call_of_a_resume_save_leaves_one_whole_state(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 7


@pytest.mark.parametrize("name", ["kdcam:resnet8x4_s2", "resnet10t", "torchvision:shufflenet_v2_x0_5"])
def test_saved_classifier_loads_with_equal_logits_and_facts(tmp_path: Path, name: str) -> None:
    saved = _classifier(name)
    save_model(tmp_path, saved)
    before = torch.get_rng_state()
    for path in (tmp_path, tmp_path / "model.safetensors"):
        loaded = load_classifier(path)
        assert torch.equal(_logits(loaded), _logits(saved))
        assert loaded.label_names == saved.label_names
        assert (loaded.num_classes, loaded.in_channels, loaded.image_size) == (4, 1, 16)
        assert not loaded.training
    assert torch.equal(torch.get_rng_state(), before)


def test_given_weights_are_written_in_place_of_the_classifiers_own(tmp_path: Path) -> None:
    own, given = _classifier(seed=0), _classifier(seed=1)
    wrapped = {f"_orig_mod.{name}": tensor for name, tensor in given.network.state_dict().items()}
    save_model(tmp_path, own, state=wrapped)
    assert torch.equal(_logits(load_classifier(tmp_path)), _logits(given))


def test_last_weights_come_from_the_resume_state(tmp_path: Path) -> None:
    selected, student, average = (_classifier(seed=seed) for seed in range(3))
    tensors = {f"student.{name}": tensor for name, tensor in student.state_dict().items()}
    save_model(tmp_path, selected)
    save_resume(tmp_path, ResumeState({**tensors, "objective.centre": torch.ones(1)}, {}))
    assert torch.equal(_logits(load_classifier(tmp_path)), _logits(selected))
    assert torch.equal(_logits(load_classifier(tmp_path, weights="last")), _logits(student))
    averaged = {f"ema.{name}": tensor for name, tensor in average.state_dict().items()}
    save_resume(tmp_path, ResumeState({**tensors, **averaged}, {}))
    assert torch.equal(_logits(load_classifier(tmp_path, weights="last")), _logits(average))


def test_last_weights_of_a_plain_folder_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path, _classifier())
    with pytest.raises(CheckpointError, match=r"has no resume/state\.safetensors.*--weights selected"):
        load_classifier(tmp_path, weights="last")


def test_weights_of_another_network_are_refused_in_one_line(tmp_path: Path) -> None:
    save_model(tmp_path / "a", _classifier())
    save_model(tmp_path / "b", _classifier("kdcam:resnet14_s2"))
    (tmp_path / "b" / "model.safetensors").replace(tmp_path / "a" / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"does not fit kdcam:resnet8_s2 with 4 classes.*'layer1\.1"
    ) as caught:
        load_classifier(tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_run_without_selected_weights_says_so(tmp_path: Path) -> None:
    save_model(tmp_path, _classifier())
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"has no model\.safetensors; a run has one after its first epoch"
    ):
        load_classifier(tmp_path)


def test_torn_weights_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path, _classifier())
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a whole safetensors file"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("name", ["teacher.pth", "teacher.pt", "pytorch_model.bin"])
def test_pickles_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"a pickle, which can run any code when it is read"):
        load_classifier(tmp_path / name)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"file/run: the folder cannot be made.*--output"):
        save_model(tmp_path / "file" / "run", _classifier())
