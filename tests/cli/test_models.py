import json


def test_list_says_whether_an_exact_cam_exists(kdcam) -> None:
    found = kdcam("models", "list", "resnet20")
    assert found.code == 0
    assert "kdcam:resnet20" in found.out
    entries = {entry["name"]: entry for entry in json.loads(kdcam("models", "list", "*vgg11*", "--json").out)}
    assert entries["torchvision:vgg11"]["exact_cam"] is False


def test_one_source(kdcam) -> None:
    entries = json.loads(kdcam("models", "list", "--source", "kdcam", "--json").out)
    assert {entry["source"] for entry in entries} == {"kdcam"}
    assert all(entry["exact_cam"] is True for entry in entries)


def test_no_match_is_an_empty_list(kdcam) -> None:
    assert json.loads(kdcam("models", "list", "nosuchnetwork", "--json").out) == []
    found = kdcam("models", "list", "nosuchnetwork")
    assert (found.code, found.out) == (0, "")
    assert "no network has such a name" in found.err
