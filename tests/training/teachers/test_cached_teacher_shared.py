"""One cache for many runs, stopped and killed ones and ones at the same time among them."""

import multiprocessing
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from cached_runs import (
    AUGMENTED,
    EVERY_NEED,
    KD,
    arrays,
    assert_read_equals_live,
    cached_plan,
    cached_recipe,
    prepared,
    told,
)
from small_runs import SCENES, Watcher, kept_files

import kdcam
from kdcam.errors import Interrupted
from kdcam.files.folder_lock import FolderLock
from kdcam.training.teachers.cached_teacher import cache_teachers

# --- Resuming, and one cache for many runs -----------------------------------------------------------------


def test_resumed_within_an_epoch_it_ends_bit_for_bit_like_an_uninterrupted_run(
    teachers: list[str], tmp_path: Path
) -> None:
    recipe = cached_recipe(teachers[0], tmp_path / "kept", loss=[*KD, {"name": "caam_cam"}])
    kdcam.distill(recipe, output=tmp_path / "whole", device="cpu")
    for stop in (2, 4):
        output = tmp_path / f"cut-{stop}"
        with pytest.raises(Interrupted, match=r"stopped in epoch"):
            kdcam.distill(recipe, output=output, device="cpu", progress=Watcher(stop_after=stop))
        kdcam.distill(recipe, output=output, device="cpu")
        assert kept_files(output) == kept_files(tmp_path / "whole")


def test_the_generators_stay_as_they_are(teachers: list[str]) -> None:
    checked, parts, plan = prepared(cached_recipe(teachers[0]))
    before = torch.get_rng_state()
    cache_teachers(checked, parts, plan, Watcher())
    assert torch.equal(before, torch.get_rng_state())


def test_another_method_adds_only_what_is_missing_and_another_seed_nothing(
    teachers: list[str], tmp_path: Path
) -> None:
    folder, first, second, third = tmp_path / "kept", Watcher(), Watcher(), Watcher()
    cached_plan(cached_recipe(teachers[0], folder), first)
    before = (folder / "logits.npy").stat()
    cached_plan(cached_recipe(teachers[0], folder, loss=[*KD, {"name": "caam_cam"}]), second)
    cached_plan(cached_recipe(teachers[0], folder, seed=5, model={"name": "kdcam:resnet14"}), third)
    after = (folder / "logits.npy").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert re.search(r"\(logits\) for 4 views of 45 images", told(first)[0])
    assert re.search(r"\(label_cam-[0-9a-f]{12}\) for", told(second)[0])
    assert told(third) == []


def test_maps_of_labels_of_other_targets_lie_beside_each_other(teachers: list[str], tmp_path: Path) -> None:
    folder, loss = tmp_path / "kept", [*KD, {"name": "caam_cam"}]
    for rate in (0.0, 0.5):
        noisy = {**AUGMENTED, "noise": {"rate": rate}}
        assert_read_equals_live(cached_recipe(teachers[0], folder, loss=loss, data=noisy))
    assert len(list(folder.glob("label_cam-*.npy"))) == 2
    assert len(list(folder.glob("*.npy"))) == 3


def test_without_a_folder_each_key_has_its_own(teachers: list[str], tmp_path: Path) -> None:
    for teacher, seed in ((teachers[0], 0), (teachers[0], 0), (teachers[1], 0), (teachers[1], 3)):
        cached_plan(cached_recipe(teacher, keys={"views_seed": seed}))
    assert len(list((tmp_path / "cache-home" / "kdcam" / "teachers").iterdir())) == 3


def test_where_nothing_is_augmented_all_seeds_of_views_share_a_cache(teachers: list[str]) -> None:
    first, second = Watcher(), Watcher()
    cached_plan(cached_recipe(teachers[0], data=SCENES), first)
    cached_plan(cached_recipe(teachers[0], data=SCENES, keys={"views_seed": 3, "views": 2}), second)
    assert (len(told(first)), told(second)) == (1, [])


# --- Kills, stops, two processes ---------------------------------------------------------------------------


def test_stopped_between_views_it_goes_on_and_ends_equal(teachers: list[str], tmp_path: Path) -> None:
    recipe = partial(cached_recipe, teachers[0], loss=[*KD, {"name": "caam_cam"}])
    cached_plan(recipe(tmp_path / "whole"))
    watcher = Watcher()
    with pytest.raises(
        Interrupted, match=r"stopped in view 3 of 4 of the teacher's outputs.*the same command goes on"
    ):
        cached_plan(recipe(tmp_path / "cut"), Watcher(stop_after=3))
    assert arrays(tmp_path / "cut") == {}
    cached_plan(recipe(tmp_path / "cut"), watcher)
    assert "going on after view 2" in told(watcher)[0]
    assert arrays(tmp_path / "cut") == arrays(tmp_path / "whole")
    assert not list((tmp_path / "cut").glob(".*.partial"))


def test_a_stopped_fill_of_another_method_is_not_gone_on_with(teachers: list[str], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        cached_plan(cached_recipe(teachers[0], tmp_path / "kept", loss=EVERY_NEED), Watcher(stop_after=3))
    watcher = Watcher()
    cached_plan(cached_recipe(teachers[0], tmp_path / "kept"), watcher)
    assert "going on" not in told(watcher)[0]
    assert list(arrays(tmp_path / "kept")) == ["logits.npy"]
    assert not list((tmp_path / "kept").glob(".*.partial"))


@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_file_that_is_cut_off_or_gone_is_made_again(teachers: list[str], tmp_path: Path, harm: str) -> None:
    recipe = cached_recipe(teachers[0], tmp_path / "kept", loss=[*KD, {"name": "caam_cam"}])
    cached_plan(recipe)
    before = arrays(tmp_path / "kept")
    file = tmp_path / "kept" / "logits.npy"
    file.write_bytes(file.read_bytes()[:-2]) if harm == "cut" else file.unlink()
    watcher = Watcher()
    cached_plan(recipe, watcher)
    assert "(logits)" in told(watcher)[0]
    assert arrays(tmp_path / "kept") == before


def test_a_run_stopped_while_it_fills_goes_on(teachers: list[str], tmp_path: Path) -> None:
    recipe = cached_recipe(teachers[0], tmp_path / "kept")
    with pytest.raises(Interrupted, match="stopped in view 2 of 4"):
        kdcam.distill(recipe, output=tmp_path / "run", device="cpu", progress=Watcher(stop_after=2))
    kdcam.distill(recipe, output=tmp_path / "run", device="cpu")
    kdcam.distill(recipe, output=tmp_path / "whole", device="cpu")
    assert kept_files(tmp_path / "run") == kept_files(tmp_path / "whole")


class Releasing(Watcher):
    """Lets go of a lock when it is told that one waits for it."""

    def __init__(self, release: Callable[[], None]) -> None:
        super().__init__()
        self.release = release

    def message(self, text: str) -> None:
        super().message(text)
        if "another process fills this teacher cache" in text:
            self.release()


def test_while_another_process_fills_the_cache_it_waits(teachers: list[str], tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    watcher = Releasing(FolderLock(tmp_path / "kept").release)
    cached_plan(cached_recipe(teachers[0], tmp_path / "kept"), watcher)
    assert sum("waiting for it" in text for text in watcher.messages) == 1
    lock = FolderLock(tmp_path / "kept")
    cached_plan(cached_recipe(teachers[0], tmp_path / "kept"))  # a whole cache is read without the lock
    with pytest.raises(Interrupted, match="stopped while another process fills this cache"):
        cached_plan(cached_recipe(teachers[0], tmp_path / "kept", loss=EVERY_NEED), Watcher(stop_after=1))
    lock.release()


def distil_in_child(teacher: str, folder: Path, output: Path) -> None:
    torch.set_num_threads(1)
    kdcam.distill(cached_recipe(teacher, folder), output=output, device="cpu")


def distil_at_once(teacher: str, folder: Path, *outputs: Path) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=distil_in_child, args=(teacher, folder, output)) for output in outputs]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * len(outputs)


def test_two_processes_at_once_end_like_one(teachers: list[str], tmp_path: Path) -> None:
    # The one is a child too: sums of another number of threads differ in their last bits.
    distil_at_once(teachers[0], tmp_path / "kept", tmp_path / "alone")
    wanted = arrays(tmp_path / "kept")
    shutil.rmtree(tmp_path / "kept")
    outputs = [tmp_path / "one", tmp_path / "two"]
    distil_at_once(teachers[0], tmp_path / "kept", *outputs)
    assert arrays(tmp_path / "kept") == wanted
    for output in outputs:
        weights = (output / "model.safetensors").read_bytes()
        assert weights == (tmp_path / "alone" / "model.safetensors").read_bytes()
