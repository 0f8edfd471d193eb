"""Chapter 00's choices: written once, found again by a process or a machine that knows nothing of them."""

import base64
import json
import os
import shutil
import sys
import types
from pathlib import Path

import pytest
from trees import make_tree

from handpose_lib import course, storage
from handpose_lib.course import choices, colab
from handpose_lib.course.choices import choose, get_data, recall
from handpose_lib.download import fetch_freihand

NAMES = ("HANDPOSE_PRESET", "HANDPOSE_FREIHAND_ROOT", "HANDPOSE_RUNS")


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch) -> Path:
    """A process without any variable set, in an empty folder that is no checkout."""
    for name in (*NAMES, "HANDPOSE_DRIVE"):
        monkeypatch.setenv(name, "")  # so that whatever is set later is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(choices, "_TAKEN", {})
    monkeypatch.setattr(storage, "checkout_root", lambda: None)
    (tmp_path / "content").mkdir()
    monkeypatch.chdir(tmp_path / "content")
    return tmp_path / "content"


@pytest.fixture
def on_colab(fresh: Path, monkeypatch) -> Path:
    """The same on Colab; the folder that is returned becomes the Drive once it is mounted."""
    drive = fresh.parent / "drive"
    monkeypatch.setenv("HANDPOSE_DRIVE", str(drive))
    mounts = types.ModuleType("google.colab.drive")
    mounts.mount = lambda place: (Path(place) / "MyDrive").mkdir(parents=True, exist_ok=True)
    files = types.ModuleType("google.colab.files")
    files.upload = lambda: {"my hand.jpg": b"picture", "../../b.jpg": b"other"}
    google = types.ModuleType("google.colab")
    for name, module in {"": google, ".drive": mounts, ".files": files}.items():
        monkeypatch.setitem(sys.modules, f"google.colab{name}", module)
    return drive / "MyDrive"


def forget(monkeypatch) -> None:
    """What another process would know: nothing."""
    for name in NAMES:
        os.environ.pop(name, None)
    monkeypatch.setattr(choices, "_TAKEN", {})


def test_what_was_chosen_is_found_by_a_new_process(fresh: Path, monkeypatch):
    assert recall() == {}
    chosen = choose("full", freihand=True, accept_terms=True)
    assert os.environ["HANDPOSE_PRESET"] == "full" and not (fresh / "data").exists()
    forget(monkeypatch)
    assert recall() == chosen and os.environ["HANDPOSE_FREIHAND_ROOT"] == str(fresh / "data" / "FreiHAND_pub_v2")
    choose("quick")  # another choice in the same process
    assert os.environ["HANDPOSE_PRESET"] == "quick" and "HANDPOSE_FREIHAND_ROOT" not in os.environ
    forget(monkeypatch)
    assert recall()["preset"] == "quick"


def test_a_preset_that_was_set_by_hand_stands_and_nothing_is_written(fresh: Path, monkeypatch, capsys):
    monkeypatch.setenv("HANDPOSE_PRESET", "quick")
    choose("full", runs="mine")
    assert "nothing was written" in capsys.readouterr().out and not (fresh / "mine").exists()
    assert os.environ["HANDPOSE_PRESET"] == "quick" and recall() == {}
    choose("quick")  # what is in force already: nothing to say
    assert capsys.readouterr().out == "" and not (fresh / "runs").exists()
    choose("quick", runs="mine")
    assert "nothing was written" in capsys.readouterr().out


def test_a_new_machine_comes_back_from_the_drive_in_one_line(on_colab: Path, fresh: Path, monkeypatch, capsys):
    tree = make_tree(fresh.parent / "t", hands=5)
    (fresh.parent / "served").mkdir()
    fetched = fresh / "data" / "FreiHAND_pub_v2"

    def fetch(root, **options):
        assert options["accept_terms"] and not options["keep_zip"]
        return tree.rename(root)

    monkeypatch.setattr(choices, "fetch_freihand", fetch)
    fetched.parent.mkdir()
    chosen = choose("full", freihand=True, accept_terms=True, runs="drive")
    get_data(chosen)
    assert chosen["runs"] == str(on_colab / "handpose") and (on_colab / "handpose" / "session.json").is_file()
    started = course.start(6)
    assert (started.preset, started.root, started.runs) == ("full", fetched, on_colab / "handpose")
    said = capsys.readouterr().out
    assert "FreiHAND, 5 hands" in said and "as chosen in chapter 00" in said and "Runtime > Change runtime" in said

    forget(monkeypatch)  # the machine is taken back; the Drive stays
    fetched.rename(tree)
    on_colab.rename(on_colab.parent.parent / "elsewhere")
    monkeypatch.setattr(colab, "drive_folder", lambda: on_colab.parent)
    sys.modules["google.colab.drive"].mount = lambda place: (on_colab.parent.parent / "elsewhere").rename(on_colab)
    assert recall() == {}
    started = course.start(6, runs="drive")
    assert started.root == fetched and started.runs == on_colab / "handpose" and len(started.dataset("train")) == 12


def test_freihand_that_is_gone_is_named_with_the_way_to_get_it(fresh: Path, monkeypatch):
    choose("full", freihand=True, accept_terms=True)
    with pytest.raises(FileNotFoundError, match=r"FreiHAND_pub_v2 on this machine: run chapter 00 again"):
        course.start(3)


def test_the_terms_are_asked_for_before_anything_is_written(fresh: Path):
    with pytest.raises(PermissionError, match="set accept_terms=True; nothing was downloaded"):
        choose("full", freihand=True)
    assert not list(fresh.iterdir())
    make_tree(fresh / "mine" / "deeper", hands=3)
    assert choose("full", freihand="mine")["freihand"] == str(fresh / "mine")  # it is there: nothing to accept
    assert course.start(1).root == fresh / "mine" / "deeper"


def test_freihand_does_not_belong_on_a_drive(on_colab: Path):
    with pytest.raises(ValueError, match="130,000 small files"):
        choose("full", freihand=on_colab / "FreiHAND", accept_terms=True)


def test_zips_on_the_drive_are_unpacked_on_the_machine_and_one_that_is_gone_is_named(on_colab, monkeypatch, capsys):
    asked = {}
    monkeypatch.setattr(choices, "fetch_freihand", lambda root, **options: asked.update(options))
    on_colab.mkdir(parents=True)
    (on_colab / "a.zip").write_bytes(b"")
    get_data(choose("full", freihand=True, accept_terms=True, zips=[on_colab / "a.zip", on_colab / "gone.zip"]))
    assert asked["zips"] == [str(on_colab / "a.zip")] and asked["keep_zip"]
    assert f"{on_colab / 'gone.zip'} is not there, the others are taken" in capsys.readouterr().out
    get_data(choose("full", freihand=True, accept_terms=True, zips=[on_colab / "gone.zip"]))
    assert asked["zips"] == [] and "gone.zip is not there, FreiHAND is downloaded instead" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[]", '{"preset": "full"}'])
def test_a_damaged_choice_is_named(fresh: Path, text: str):
    (fresh / "runs").mkdir()
    (fresh / "runs" / "session.json").write_text(text)
    with pytest.raises(ValueError, match=r"session\.json is damaged .*run chapter 00 again"):
        recall()


def test_a_place_without_a_choice_is_named(fresh: Path, on_colab: Path):
    with pytest.raises(FileNotFoundError, match=r"nowhere/session\.json is not there: choose first, in chapter 00"):
        course.start(2, runs="nowhere")
    sys.modules["google.colab.drive"].mount = lambda place: None
    with pytest.raises(OSError, match="the Drive was not mounted"):
        course.start(2, runs="drive")
    sys.modules.pop("google.colab")
    with pytest.raises(OSError, match="this is not Colab"):
        choose(runs="drive")


def test_an_unpacking_that_broke_off_is_not_taken_for_freihand(fresh: Path):
    root = make_tree(fresh / "d", hands=3)
    chosen = choose("full", freihand=root)
    (root / ".unpacked.json").touch()  # as `fetch_freihand` leaves it when it is killed
    with pytest.raises(PermissionError):
        get_data(chosen)


def test_an_evaluation_set_that_was_left_out_is_named_with_the_command_that_adds_it(fresh: Path, capsys):
    root = make_tree(fresh / "mine", hands=3)
    get_data(choose("full", freihand=root))
    assert capsys.readouterr().out == f"FreiHAND is there: {root}\n"  # put there by hand
    archive = shutil.make_archive(str(fresh / "training"), "zip", root)
    fetched = fetch_freihand(fresh / "fetched", accept_terms=True, zips=[archive], progress=False)
    capsys.readouterr()
    get_data(choose("full", freihand=fetched))
    said = capsys.readouterr().out
    assert f"FreiHAND is there: {fetched}\n" in said and f"`handpose data freihand --root {fetched}` adds it" in said


def test_a_fetch_that_broke_off_before_the_evaluation_set_goes_on(fresh: Path, monkeypatch):
    root, asked = make_tree(fresh / "d", hands=3), []
    monkeypatch.setattr(choices, "fetch_freihand", lambda root, **options: asked.append(root))
    note = {"FreiHAND_pub_v2.zip": {"training_K.json": 1}, "FreiHAND_pub_v2_eval.zip": None}
    (root / ".unpacked.json").write_text(json.dumps(note))
    get_data(choose("full", freihand=root, accept_terms=True))
    assert asked == [str(root)]


def test_on_colab_pictures_are_uploaded_into_a_folder(on_colab: Path, fresh: Path, capsys):
    assert colab.upload_pictures() == fresh / "uploads"
    assert sorted(path.name for path in (fresh / "uploads").iterdir()) == ["b.jpg", "my hand.jpg"]
    assert (fresh / "uploads" / "my hand.jpg").read_bytes() == b"picture" and "2 uploaded" in capsys.readouterr().out
    sys.modules.pop("google.colab")
    assert colab.upload_pictures() == "" and "on Colab only" in capsys.readouterr().out


def test_on_colab_the_camera_takes_a_picture_and_a_refusal_is_named(on_colab: Path, fresh: Path, monkeypatch, capsys):
    output = types.ModuleType("google.colab.output")
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    output.eval_js = lambda script: "data:image/jpeg;base64," + base64.b64encode(b"picture").decode()
    assert colab.take_picture() == fresh / "uploads" / "camera.jpg"
    assert (fresh / "uploads" / "camera.jpg").read_bytes() == b"picture"

    def refuse(script: str) -> str:
        raise RuntimeError("NotAllowedError: Permission denied")

    output.eval_js = refuse
    with pytest.raises(OSError, match=r"gave no picture \(NotAllowedError.*\): allow the camera in the browser"):
        colab.take_picture()
    sys.modules.pop("google.colab")
    assert colab.take_picture() == "" and "`handpose camera`" in capsys.readouterr().out


def test_a_rehearsal_is_short_and_says_so(monkeypatch, capsys):
    monkeypatch.setenv("HANDPOSE_REHEARSAL", "1")
    started = course.start(1)
    assert started.settings.width == 8 and "scores mean nothing" in capsys.readouterr().out
    monkeypatch.setenv("HANDPOSE_REHEARSAL", "0")
    assert course.start(1).settings.width == 16


def test_a_folder_that_was_chosen_is_found_by_a_kernel_that_is_not_told_of_it(fresh: Path, monkeypatch):
    choose("full", runs="practice")
    forget(monkeypatch)
    assert recall()["runs"] == str(fresh / "practice") == os.environ["HANDPOSE_RUNS"]
    assert os.environ["HANDPOSE_PRESET"] == "full"
    forget(monkeypatch)
    shutil.rmtree(fresh / "practice")
    assert recall()["runs"] == str(fresh / "runs"), "the folder is gone"
    forget(monkeypatch)
    choose("quick")
    forget(monkeypatch)
    assert recall()["preset"] == "quick"
