"""Paths that no file system takes, and names that are no UTF-8, in every place where a command takes a path."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

LONG = "x" * 300
BYTES = "caf\udce9"  # as Python has a name whose bytes are no UTF-8
NUL = "a\0b"  # no argument can have it, and the text of a recipe or a caller of the library can
NAMES = {"long": LONG, "bytes": BYTES, "nul": NUL, "homeless": "~nobody-of-that-name/x"}

# P: the path; R: a finished run; F: a folder of pictures with a folder a class; I: a picture.
INPUTS = (
    "train P",
    "train P.toml",
    "train digits --set data.name=image-folder --set data.root=P",
    "train digits --set data.name=image-labels --set data.root=F --set data.labels=P --set task=multi-label",
    "train digits --set data.name=yolo-labels --set data.root=F --set data.names=P.yaml --set task=multi-label",
    "train digits --set model.weights=P",
    "train digits --set data.noise.kind=file --set data.noise.file=P --set data.noise.column=x",
    "train digits --set data.class_split.file=P",
    "distill digits --teacher P",
    "distill digits --teacher R --set teacher.cache=logits --set teacher.cache_folder=P --set loss.0.name=kd",
    "finetune digits --from P",
    "compare P --seeds 0",
    "compare --base P --methods kd",
    "compare digits --seeds 0 --teacher P",
    "evaluate P",
    "evaluate-robustness P",
    "evaluate-robustness R --attacks fgsm --source P",
    "evaluate-robustness R --corruptions noise --base P",
    "evaluate-robustness R --corrupted-set P",
    "evaluate-robustness R --ood P",
    "predict P I",
    "predict R P",
    "explain P I",
    "explain R P",
    "explain R I --run P",
    "few-shot P",
    "few-shot R --root P",
    "few-shot R --omniglot-runs P",
    "localize P",
    "localize R --boxes P --root F",
    "localize R --boxes P.csv --root F",
    "localize R --boxes F --root P",
    "verify P --pairs I --root F",
    "verify R --pairs P --root F",
    "verify R --pairs P.csv --root F",
    "verify R --pairs I --root P",
    "make-pairs P",
    "make-pairs F --not-in P",
    "report P",
    "export P --format timm --output out",
    "recipes show P",
    "recipes new P",
)
OUTPUTS = (
    "train digits --set epochs=1 --output P",
    "distill digits --teacher R --output P --set epochs=1",
    "finetune digits --from R --output P --set epochs=1",
    "compare digits --seeds 0 --set epochs=1 --output P",
    "explain R I --output P",
    "make-pairs F --folds 2 --per-fold 1 --output P",
    "report R --output P",
    "export R --format timm --output P",
    "export R --format onnx --output P.onnx",
    "quickstart --output P",
    "recipes new F --output P",
)


@pytest.fixture
def arguments(photos: Path, digits_run: Path) -> Callable[[str, str], list[str]]:
    def made(line: str, path: str) -> list[str]:
        words = {"R": str(digits_run), "F": str(photos), "I": str(photos / "cat" / "00.png")}
        found = (words.get(word, word) for word in line.split())
        return [word.replace("P", path) if word.split("=")[-1].startswith("P") else word for word in found]

    return made


def assert_one_line(found, line: Sequence[str]) -> None:
    assert found.code in (1, 2), (line, found)
    assert "Traceback" not in found.err
    said = found.err.strip()
    assert said.count("error: ") + said.count("Error: ") == 1, (line, found)
    if found.code == 1 and "problems:" not in said:
        assert said.split("\n")[-1].startswith("kdcam: error: "), (line, found)


@pytest.mark.parametrize(
    ("line", "kind"), [(line, kind) for line in INPUTS for kind in NAMES if kind != "nul" or "=P" in line]
)
def test_what_is_read(kdcam, arguments, line: str, kind: str) -> None:
    assert_one_line(kdcam(*arguments(line, NAMES[kind])), line)


@pytest.mark.parametrize("line", OUTPUTS)
def test_what_is_written(kdcam, arguments, line: str) -> None:
    assert_one_line(kdcam(*arguments(line, LONG)), line)


@pytest.mark.parametrize("line", OUTPUTS)
def test_an_output_whose_name_is_no_utf8(kdcam, arguments, line: str) -> None:
    found = kdcam(*arguments(line, BYTES))
    assert "Traceback" not in found.err
    assert found.code == 0 or found.err.count("error: ") == 1


def test_callers_of_the_library_are_refused_in_its_words(photos: Path, digits_run: Path) -> None:
    import kdcam as library
    from kdcam.report.html_report import write_report

    picture = photos / "cat" / "00.png"
    recipe = library.load_recipe("digits", ["epochs=1"])
    for path in (NUL, LONG):
        for call in (
            lambda path=path: library.load_recipe(path),
            lambda path=path: library.train(recipe, output=path),
            lambda path=path: library.evaluate(path),
            lambda path=path: library.predict(path, [picture]),
            lambda path=path: library.predict(digits_run, [path]),
            lambda path=path: library.explain(digits_run, [path]),
            lambda path=path: library.explain(digits_run, [picture], output=path),
            lambda path=path: write_report([path]),
            lambda path=path: write_report([digits_run], path),
        ):
            with pytest.raises(library.KdcamError):
                call()


def test_pictures_and_recipes_whose_names_are_no_utf8(kdcam, photos: Path, photo_recipe: Path) -> None:
    (photos / "cat" / "00.png").rename(photos / "cat" / f"{BYTES}.png")
    recipe = photo_recipe.rename(photo_recipe.with_name(f"{BYTES}.toml"))
    assert_one_line(kdcam("train", recipe, "--quiet"), "train")  # its folder would be called so, too
    found = kdcam("train", recipe, "--quiet", "--output", "run")
    assert (found.code, found.err) == (0, "")
    for line in (("evaluate", "run"), ("predict", "run", photos / "cat"), ("report", "run")):
        for extra in ((), ("--json",)):
            found = kdcam(*line, *extra)
            assert found.code == 0, found
