"""Rendered hands: the layout, the labels against the picture, and the bundled sample."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from handpose_lib import storage
from handpose_lib.keypoints import BONES
from handpose_lib.synthhand import claim, dataset, sample
from handpose_lib.synthhand.asset import ASSET_PATH, FINGER_BONES, load_asset
from handpose_lib.synthhand.hand import Pose, pose_hand
from handpose_lib.synthhand.pose import FLESH, KINDS, bone_radii, capsules_of, overlaps, sample_pose, untangle
from handpose_lib.synthhand.props import box
from handpose_lib.synthhand.render import cast_shadows, first_surface, lit_fraction, project_points, rasterize
from handpose_lib.synthhand.scene import PROP, own_segments, sample_scene

SCENES = 40


@pytest.fixture(scope="module")
def scenes():
    return [sample_scene(np.random.default_rng([7, i])) for i in range(SCENES)]


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    """Six hands and two for evaluation, made by one process."""
    out = tmp_path_factory.mktemp("synth") / "one"
    return dataset.write_dataset(out, 6, seed=3, workers=1, evaluation_hands=2, quality=90, progress=False)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def read(folder: Path, name: str) -> np.ndarray:
    return np.array(json.loads((folder / name).read_text()))


# --- the files -------------------------------------------------------------------------------------------------------


def test_two_workers_render_the_same_hands_as_one(small_set, tmp_path):
    other = dataset.write_dataset(
        tmp_path / "two", 6, seed=3, workers=2, evaluation_hands=2, quality=90, progress=False
    )
    assert contents(other) == contents(small_set)


@pytest.mark.parametrize("hands", [3, 6000])  # their jobs fit into a pipe, or don't
def test_a_worker_that_dies_before_it_has_read_its_jobs_is_told_as_any_that_fails(hands, tmp_path, monkeypatch):
    start, children = subprocess.Popen, []

    def dies(command: list[str], **options) -> subprocess.Popen:
        children.append(start([sys.executable, "-c", "raise SystemExit(1)"], **options))
        children[-1].wait()
        return children[-1]

    monkeypatch.setattr(dataset.subprocess, "Popen", dies)
    with pytest.raises(OSError, match=r"a worker failed .*run the same command again"):
        dataset.write_dataset(tmp_path, hands, workers=2, progress=False)
    assert len(children) == 2 and all(child.stdin.closed for child in children)


def test_a_render_that_was_stopped_goes_on_to_identical_files(small_set, tmp_path, monkeypatch):
    out, render, calls = tmp_path / "stopped", dataset.render_hand, []

    def stops_after_four(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return render(*arguments, **options)

    monkeypatch.setattr(dataset, "render_hand", stops_after_four)
    arguments = {"seed": 3, "workers": 1, "evaluation_hands": 2, "quality": 90, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        dataset.write_dataset(out, 6, **arguments)
    assert not (out / "training_K.json").exists()
    (out / "training" / "rgb" / f"{5:08d}.jpg").write_bytes(b"half an image")  # of a hand that has no label yet
    dataset.write_dataset(out, 6, **arguments)
    assert len(calls) == 5 + 4, "hands that were complete are rendered again"
    assert contents(out) == contents(small_set)


@pytest.mark.parametrize("content", ["", "null", "[1]", "{", "\0"])
def test_a_damaged_settings_file_is_written_anew_with_the_set(small_set, tmp_path, content):
    out = Path(shutil.copytree(small_set, tmp_path / "set"))
    (out / dataset.SETTINGS_FILE).write_text(content)
    (out / "training_K.json").write_text("[]")
    with pytest.warns(UserWarning, match=r"synthhand\.json was damaged"):
        dataset.write_dataset(out, 6, seed=3, workers=1, evaluation_hands=2, quality=90, progress=False)
    assert contents(out) == contents(small_set)


@pytest.mark.filterwarnings("ignore:.*was damaged")
def test_a_set_of_unknown_settings_is_made_of_the_ones_that_are_asked_for(tmp_path):
    options = {"workers": 1, "progress": False}
    dataset.write_dataset(tmp_path / "a", 1, seed=5, **options)
    dataset.write_dataset(tmp_path / "b", 1, seed=6, **options)
    (tmp_path / "a" / dataset.SETTINGS_FILE).write_text("")
    dataset.write_dataset(tmp_path / "a", 1, seed=6, **options)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(
    "name",
    ["training/rgb/00000007.jpg", "training/mask/00000003.jpg", "evaluation/rgb/00000001.jpg", "training_xyz.json"],
)
@pytest.mark.parametrize("harm", ["gone", "empty", "one bit", "another picture"])
def test_what_is_damaged_of_a_finished_set_is_made_again(small_set, tmp_path, monkeypatch, name, harm):
    out = Path(shutil.copytree(small_set, tmp_path / "set"))
    path = out / name
    data = path.read_bytes()
    match harm:
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "one bit":
            path.write_bytes(data[:500] + bytes([data[500] ^ 4]) + data[501:])
        case _:
            path.write_bytes((out / "training/rgb/00000000.jpg").read_bytes())
    rendered, real = [], dataset.render_hand
    monkeypatch.setattr(dataset, "render_hand", lambda *a, **k: (rendered.append(a[0]), real(*a, **k))[1])
    with pytest.warns(UserWarning, match=rf"{name}: missing or damaged, and made again"):
        dataset.write_dataset(out, 6, seed=3, workers=1, evaluation_hands=2, quality=90, progress=False)
    assert contents(out) == contents(small_set)
    assert len(rendered) == (0 if name.endswith("json") else 1)


def test_a_picture_that_was_lost_while_rendering_is_made_when_it_goes_on(small_set, tmp_path, monkeypatch):
    out, render, calls = tmp_path / "stopped", dataset.render_hand, []

    def stops_after_four(*given, **options):
        calls.append(given)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return render(*given, **options)

    monkeypatch.setattr(dataset, "render_hand", stops_after_four)
    options = {"seed": 3, "workers": 1, "evaluation_hands": 2, "quality": 90, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        dataset.write_dataset(out, 6, **options)
    (out / "training/rgb/00000001.jpg").write_bytes(b"")  # as after a power cut
    (out / ".labels/training/00000002.json").write_text("{")
    dataset.write_dataset(out, 6, **options)
    assert contents(out) == contents(small_set)


def test_nothing_is_written_beside_a_sets_folder(tmp_path):
    dataset.write_dataset(tmp_path / "parent" / "set", 1, workers=1, progress=False)
    assert [path.name for path in (tmp_path / "parent").iterdir()] == ["set"]


def test_layout_is_that_of_freihand(small_set):
    names = {path for path in contents(small_set)}
    images = {f"training/rgb/{i:08d}.jpg" for i in range(24)} | {f"evaluation/rgb/{i:08d}.jpg" for i in range(2)}
    masks = {f"training/mask/{i:08d}.jpg" for i in range(6)}
    labels = {
        f"{split}_{name}.json" for split in ("training", "evaluation") for name in ("K", "xyz", "scale", "occluded")
    }
    assert names == images | masks | labels | {"synthhand.json"}
    for name in images:
        assert cv2.imread(str(small_set / name)).shape == (224, 224, 3)
    for split, count in (("training", 6), ("evaluation", 2)):
        K, xyz = read(small_set, f"{split}_K.json"), read(small_set, f"{split}_xyz.json")
        assert K.shape == (count, 3, 3) and xyz.shape == (count, 21, 3)
        assert read(small_set, f"{split}_scale.json") == pytest.approx(np.linalg.norm(xyz[:, 10] - xyz[:, 9], axis=1))
        occluded = read(small_set, f"{split}_occluded.json")
        assert occluded.shape == (count, 21) and set(np.unique(occluded)) <= {0, 1}


def test_a_disk_that_is_too_small_is_said_before_anything_is_rendered(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10**8)
    monkeypatch.setattr("handpose_lib.storage.shutil.disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"a set of 100,000 hands needs 2\.0 GB in .*, where 100\.0 MB are free"):
        dataset.write_dataset(tmp_path / "set", 100_000)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_other_settings_is_refused(small_set, tmp_path):
    with pytest.raises(ValueError, match="other settings: hands=6"):
        dataset.write_dataset(small_set, 7, seed=3, evaluation_hands=2, quality=90, progress=False)
    (tmp_path / "mine.txt").write_text("something else")
    with pytest.raises(ValueError, match="not empty"):
        dataset.write_dataset(tmp_path, 2, progress=False)


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini"])
def test_what_a_file_manager_leaves_in_an_empty_folder_is_no_content(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    settings = claim.Settings(2)
    claim.claim(tmp_path, settings)
    assert json.loads((tmp_path / "synthhand.json").read_text()) == settings.to_json()


def test_versions_share_the_geometry_and_differ_in_colour(small_set):
    def load(number):
        return cv2.imread(str(small_set / "training" / "rgb" / f"{number:08d}.jpg")).astype(float)

    xyz, K = read(small_set, "training_xyz.json"), read(small_set, "training_K.json")
    uv = [project_points(*hand) for hand in zip(xyz, K, strict=True)]
    correlations = []
    for hand in range(6):
        mask = cv2.imread(str(small_set / "training" / "mask" / f"{hand:08d}.jpg"), 0) > 200
        # Without the arm, which fades in some; as coarse as the coarsest picture.
        hull = cv2.fillConvexPoly(np.zeros((224, 224)), cv2.convexHull(np.round(uv[hand]).astype(np.int32)), 1) > 0
        gray = np.array([cv2.GaussianBlur(load(hand + 6 * k).mean(2), (0, 0), 3)[mask & hull] for k in range(4)])
        correlations.append(np.corrcoef(gray)[0, 1:])
        outside = [load(hand + 6 * k)[~mask] for k in range(4)]
        assert min(np.abs(outside[0] - other).mean() for other in outside[1:]) > 10, "the background is another"
    assert np.median(correlations) > 0.8, "the hand itself is the same in all versions"
    assert np.mean(np.array(correlations) > 0.4) > 0.9


# --- the labels ------------------------------------------------------------------------------------------------------


def test_camera_and_framing_are_freihands(scenes):
    uv = np.array([s.uv for s in scenes])
    assert uv.min() >= 3 and uv.max() <= 220
    focal, depth = np.array([s.K[0, 0] for s in scenes]), np.array([s.xyz[:, 2].mean() for s in scenes])
    assert np.mean((focal > 373) & (focal < 493)) > 0.8
    assert depth.min() > 0.3 and depth.max() < 1.6
    share = np.ptp(uv, axis=1).max(1) / 224
    assert np.mean((share > 0.19) & (share < 0.68)) > 0.95 and np.mean(share < 0.33) > 0.15
    for s in scenes:
        np.testing.assert_allclose(s.uv, project_points(s.xyz, s.K))


def test_hands_are_human_in_size(scenes):
    for s in scenes:
        assert 0.022 < np.linalg.norm(s.xyz[10] - s.xyz[9]) < 0.045
        assert 0.065 < np.linalg.norm(s.xyz[9] - s.xyz[0]) < 0.125
        assert all(0.008 < np.linalg.norm(s.xyz[a] - s.xyz[b]) < 0.13 for a, b in BONES)


def test_hands_are_right_hands(scenes):
    """Seen from the back with the fingers up, a right hand has its thumb on the left; so the triple product of
    index knuckle, pinky knuckle and the direction in which fingers bend has one sign, whatever the view."""
    asset = load_asset()
    flat = Pose(np.zeros((4, 4)), np.zeros(5), np.zeros(3), np.zeros(2))
    bent = Pose(np.full((4, 4), 40.0) * [1, 1, 1, 0], np.zeros(5), np.zeros(3), np.zeros(2))
    at_rest, curled = (pose_hand(asset, np.zeros(12), p).keypoints for p in (flat, bent))
    bending = (curled - at_rest)[[8, 12, 16, 20]].mean(0)
    # x right, y up, z towards the viewer who looks at the back: fingers bend away from the viewer (-z).
    assert np.linalg.det([at_rest[5], at_rest[17], bending]) > 0
    for s in scenes:
        points = s.xyz - s.xyz[0]
        assert np.linalg.det([points[5], points[17], _palm_normal(s)]) > 0


def _palm_normal(scene):
    """From the skin of the back to that of the palm, in the scene's own mesh."""
    asset = load_asset()
    palmar = (asset.palmar > 0.95) & (asset.weights[:, 3:7].sum(1) > 0.8)
    back = (asset.palmar < 0.05) & (asset.weights[:, 3:7].sum(1) > 0.8)
    return scene.vertices[: scene.hand_vertices][palmar].mean(0) - scene.vertices[: scene.hand_vertices][back].mean(0)


def test_no_keypoint_leaves_the_hands_silhouette(scenes):
    for s in scenes:
        mesh = s.face_segment != PROP
        seen = rasterize(project_points(s.vertices, s.K), s.vertices[:, 2], s.faces[mesh], (224, 224))
        outside = np.full((224, 224), 255, np.uint8)
        outside[seen.rows, seen.columns] = 0
        distance = cv2.distanceTransform(outside, cv2.DIST_L2, 5)
        columns, rows = np.round(s.uv).astype(int).T
        assert distance[rows, columns].max() <= 3


def moller_trumbore(directions: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Distance (R, F) along rays from the origin to triangles, inf where they miss (Möller and Trumbore 1997)."""
    e1, e2 = b - a, c - a
    p = np.cross(directions[:, None], e2[None])
    determinant = (p * e1).sum(-1)
    safe = np.where(np.abs(determinant) < 1e-14, 1, determinant)
    u = -(p * a).sum(-1) / safe
    q = np.cross(-a, e1)
    v = (directions @ q.T) / safe
    t = (q * e2).sum(-1) / safe
    hit = (determinant > 1e-14) & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
    return np.where(hit, t, np.inf)


def test_occlusion_agrees_with_an_independent_ray_cast(scenes):
    agree, total, hidden = 0, 0, 0
    for s in scenes[:30]:
        rays = np.column_stack([s.uv, np.ones(21)]) @ np.linalg.inv(s.K).T
        distance = moller_trumbore(rays, *(s.vertices[s.faces[:, k]] for k in range(3)))
        first = distance.argmin(1)
        for k, own in enumerate(own_segments()):
            hit = np.isfinite(distance[k, first[k]])
            expected = bool(hit and s.face_segment[first[k]] not in own)
            agree += expected == s.occluded[k]
            hidden += expected
            total += 1
    assert agree / total >= 0.99
    assert 0.1 < hidden / total < 0.5


def test_a_vertex_at_a_whole_number_lands_on_that_pixel():
    triangle = np.array([[9.8, 19.8], [9.8, 20.3], [10.5, 19.8]])
    seen = rasterize(triangle, np.ones(3), np.array([[0, 1, 2]]), (40, 40))
    assert (seen.columns.tolist(), seen.rows.tolist()) == ([10], [20])


def test_raster_shows_the_nearest_surface_as_a_ray_cast_does(scenes):
    for s in scenes[:3]:
        uv, z = project_points(s.vertices, s.K), s.vertices[:, 2]
        seen = rasterize(uv, z, s.faces, (224, 224))
        some = np.random.default_rng(0).choice(len(seen.rows), 60, replace=False)
        points = np.column_stack([seen.columns, seen.rows])[some]
        rays = np.column_stack([points, np.ones(60)]) @ np.linalg.inv(s.K).T
        distance = moller_trumbore(rays, *(s.vertices[s.faces[:, k]] for k in range(3)))
        np.testing.assert_allclose(seen.depth[some], distance.min(1), rtol=1e-4)
        assert np.mean(first_surface(uv, z, s.faces, points) == seen.faces[some]) > 0.98


def test_shadow_falls_behind_what_casts_it():
    vertices, faces = box(np.array([0, 0, 0.5]), np.eye(3), np.array([0.02, 0.02, 0.005]))
    shadows = cast_shadows(vertices, faces, np.array([0, 0, -1.0]), np.array([0, 0, 0.5]), 0.1)  # from the camera
    points = np.array([[0, 0, 0.55], [0.05, 0, 0.55], [0, 0, 0.495], [0, 0, 0.45]])
    np.testing.assert_array_equal(lit_fraction(shadows, points), [0, 1, 1, 1])


# --- the hand --------------------------------------------------------------------------------------------------------


def test_fingers_do_not_pass_through_each_other():
    asset = load_asset()
    solved = 0
    for i in range(60):
        rng = np.random.default_rng([1, i])
        pose = untangle(asset, np.zeros(12), sample_pose(rng, list(KINDS)[i % len(KINDS)]))
        if pose is None:
            continue
        solved += 1
        keypoints = pose_hand(asset, np.zeros(12), pose).keypoints
        assert overlaps(capsules_of(keypoints, asset.palm_normal, bone_radii())).max() <= FLESH
    assert solved >= 55


def test_bones_keep_their_length_in_every_pose():
    asset, shape = load_asset(), np.linspace(-1, 1, 12)
    flat = pose_hand(asset, shape, Pose(np.zeros((4, 4)), np.zeros(5), np.zeros(3), np.zeros(2))).keypoints
    other = pose_hand(asset, shape, sample_pose(np.random.default_rng(0), "fist")).keypoints
    for a, b in BONES:
        # A fingertip is a point on the skin, which gives a little, and some roots are points of the palm.
        if b % 4 != 0 and not (b % 4 == 2 and asset.root_offsets[b // 4].any()):
            assert np.linalg.norm(flat[a] - flat[b]) == pytest.approx(np.linalg.norm(other[a] - other[b]))


def test_asset_is_small_and_whole():
    assert ASSET_PATH.stat().st_size <= 1_000_000
    assert (ASSET_PATH.parent / "ASSET_LICENSE.md").is_file()
    asset = load_asset()
    np.testing.assert_allclose(asset.weights.sum(1), 1, atol=1e-5)
    assert FINGER_BONES.max() < asset.weights.shape[1] and asset.faces.max() == len(asset.vertices) - 1


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"quality": 101}, {"without": "elbows"}, {"without": ["forearm", "elbows"]}]
)
def test_arguments_that_can_not_work_claim_no_folder(tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        dataset.write_dataset(tmp_path / "set", 1, **wrong)
    assert not (tmp_path / "set").exists()


# --- the sample ------------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A library that is installed, not run from a checkout, with its own cache."""
    for module in (sample, storage):
        monkeypatch.setattr(module, "checkout_root", lambda: None)
    monkeypatch.setenv("HANDPOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(storage, "INSTALLED", tmp_path / "site")
    return tmp_path / "site" / "synthhand.zip"


def test_bundled_zip_has_the_expected_hash_and_size():
    path = sample.bundled_zip()
    assert sample.sha256(path) == sample.SAMPLE_SHA256
    assert path.stat().st_size <= 16_000_000


def test_a_cache_that_takes_no_files_is_named_with_the_way_out(elsewhere, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HANDPOSE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match=r"file/cache can't be made \(.*\): set HANDPOSE_CACHE to a folder that can be"):
        sample.sample_root()
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("HANDPOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sample.os, "access", lambda *_: False)
    with pytest.raises(OSError, match=r"cache can't be written: set HANDPOSE_CACHE to a folder that can be"):
        sample.sample_root()


def test_sample_unpacks_from_an_installed_package(elsewhere):
    archive = Path(__file__).parent.parent / "data" / "synthhand.zip"
    elsewhere.parent.mkdir(parents=True)
    shutil.copy(archive, elsewhere)
    root = sample.sample_root()
    assert root.name == f"synthhand-{sample.SAMPLE_SHA256[:8]}" and "cache" in str(root)
    assert read(root, "training_xyz.json").shape == (sample.SAMPLE_HANDS, 21, 3)
    assert len(list((root / "training" / "rgb").iterdir())) == 4 * sample.SAMPLE_HANDS
    elsewhere.unlink()
    assert sample.sample_root() == root, "an unpacked sample needs the zip no more"


def test_a_sample_that_was_damaged_is_unpacked_anew(elsewhere, monkeypatch):
    elsewhere.parent.mkdir(parents=True)
    shutil.copy(Path(__file__).parent.parent / "data" / "synthhand.zip", elsewhere)
    root = sample.sample_root()
    path = root / "training" / "rgb" / "00000007.jpg"
    whole = path.read_bytes()
    for content in (None, b"", whole[:-1], bytes(len(whole))):
        path.unlink() if content is None else path.write_bytes(content)
        monkeypatch.setattr(sample, "_found_whole", set())
        assert sample.sample_root() == root and path.read_bytes() == whole


def test_sample_is_found_in_a_checkout(tmp_path, monkeypatch):
    for module in (sample, storage):
        monkeypatch.setattr(module, "checkout_root", lambda: tmp_path)
    monkeypatch.setattr(storage, "INSTALLED", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="reinstall"):
        sample.bundled_zip()
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / "synthhand.zip", "w") as archive:
        archive.writestr("training_K.json", "[]")
    monkeypatch.setattr(sample, "SAMPLE_SHA256", sample.sha256(tmp_path / "data" / "synthhand.zip"))
    root = sample.sample_root()
    assert root.parent == tmp_path / "runs" and (root / "training_K.json").read_text() == "[]"


def test_a_corrupt_zip_is_named_with_the_remedy(elsewhere):
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=r"synthhand\.zip is damaged .*git checkout"):
        sample.sample_root()


def test_the_sample_is_made_of_the_same_bytes_each_time(tmp_path, small_set):
    sample.pack(small_set, tmp_path / "a.zip")
    sample.pack(small_set, tmp_path / "b.zip")
    assert sample.sha256(tmp_path / "a.zip") == sample.sha256(tmp_path / "b.zip")
