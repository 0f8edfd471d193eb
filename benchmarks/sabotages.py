"""Sabotages: behaviour that the project promises is broken on purpose, one at a time, and a named test must fail.

    python benchmarks/sabotages.py            tries all of them, and stores which were noticed in sabotages.csv

Where `mutants.py` draws small faults by chance, these are chosen: what a hurried change could break without a crash.
A change of the code may ask for a new wording here; `tests/test_tried.py` says so.
"""

import csv
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mutants import HEAVY, Copy, _watch, read

RESULTS = Path(__file__).with_suffix(".csv")
COLUMNS = ("what", "module", "test", "outcome")


@dataclass(frozen=True)
class Sabotage:
    """What is broken, in which module, how its text changes, and the test that must notice."""

    what: str
    module: str
    before: str
    after: str
    test: str


SABOTAGES = (
    # --- training
    Sabotage(
        "the best weights are overwritten in every epoch", "train",
        'better = row["val_epe_px128"] < self.best_error or math.isinf(self.best_error)', "better = True",
        "test_train.py::test_the_best_weights_are_those_of_the_epoch_with_the_lowest_error",
    ),
    Sabotage(
        "the average has no warm-up", "train",
        "min(self.settings.ema_decay, (1 + self.step) / (10 + self.step))", "self.settings.ema_decay",
        "test_train.py::test_a_young_average_forgets_fast_and_an_old_one_slowly",
    ),
    Sabotage(
        "batch normalisation decays", "runs",
        '"weight_decay": 0.0}', '"weight_decay": settings.weight_decay}',
        "test_train.py::test_weights_of_convolutions_decay_and_nothing_else",
    ),
    Sabotage(
        "no checkpoint by the clock", "train",
        "if number or self._is_due() or (last", "if number or (last",
        "test_train.py::test_there_are_checkpoints_by_the_clock",
    ),
    Sabotage(
        "float16 without a scaler", "train",
        "enabled=self.precision == torch.float16", "enabled=False",
        "test_train.py::test_gradients_are_scaled_where_float16_is_used",
    ),
    Sabotage(
        "a resumed run forgets its optimiser", "train",
        'self.optimizer.load_state_dict(state["optimizer"])', "pass",
        "test_train.py::test_a_run_can_be_asked_for_up_to_a_step",
    ),
    Sabotage(
        "a T4 is given bfloat16", "devices", "< (8, 0)", "< (7, 0)", "test_placement.py",
    ),
    # --- data
    Sabotage(
        "streamed images are flipped", "loader",
        "index_select(0, index).pin_memory()", "index_select(0, index).flip(-1).pin_memory()",
        "test_loader.py::test_streamed_batches_are_those_of_images_that_live_on_the_device",
    ),
    Sabotage(
        "the EXIF orientation of a photograph is ignored", "pictures",
        "turned = ImageOps.exif_transpose(image)", "turned = image",
        "test_pictures.py::test_a_turned_picture_of_any_kind_is_read_as_viewers_show_it",
    ),
    Sabotage(
        "the EXIF orientation of a data set's image is ignored", "freihand", "if turn != 1:", "if False:",
        "test_pictures.py::test_an_image_of_a_data_set_that_viewers_would_turn_is_refused",
    ),
    Sabotage(
        "validation hands are trained on", "freihand", "(27_440, 30_000)", "(30_000, 30_000)", "test_freihand.py",
    ),
    Sabotage(
        "half a pixel is lost in a resize", "framing",
        "[[sx, 0.0, 0.5 * sx - 0.5]", "[[sx, 0.0, 0.0]", "test_framing.py",
    ),
    Sabotage(
        "groups are split in the order of the alphabet", "keypoint_folder",
        "key=lambda name: hashlib.sha256(Path(name).name.encode()).hexdigest()", "key=str",
        "test_keypoint_folder.py::test_groups_are_not_split_in_the_order_of_their_names",
    ),
    Sabotage(
        "keypoints off the picture are trained on", "keypoint_folder",
        "return np.where(on[:, None], hand.keypoints, np.nan)", "return hand.keypoints",
        "test_keypoint_folder.py::test_missing_keypoints_and_those_off_the_picture_are_nan_and_invisible",
    ),
    Sabotage(
        "keypoints of visibility 0 are trained on", "label_parts",
        "(len(values) == 3 and not values[2])", "False",
        "test_keypoint_folder.py::test_visibility_0_is_not_labelled_and_1_is",
    ),
    # --- scores
    Sabotage(
        "px of 128 and of 224 are swapped in by_version", "evaluate",
        "float(error) * 128 / IMAGE_SIZE, float(error),", "float(error), float(error) * 128 / IMAGE_SIZE,",
        "test_evaluate.py::test_errors_by_version_are_in_pixels_of_the_side_that_their_column_names",
    ),
    Sabotage(
        "keypoints off the image are scored", "evaluate",
        "visible=on_image(targets, (IMAGE_SIZE, IMAGE_SIZE))", "visible=targets.isfinite().all(-1)",
        "test_evaluate.py::test_a_keypoint_off_the_image_counts_nowhere",
    ),
    Sabotage(
        "hidden joints count as seen", "evaluate", '("seen", ~hidden)', '("seen", hidden | ~hidden)',
        "test_evaluate.py::test_hidden_joints_are_scored_apart_where_the_set_knows_them",
    ),
    Sabotage(
        "an error on the threshold counts as within", "metrics",
        "errors <= bound if inclusive else errors < bound", "errors <= bound", "test_metrics.py",
    ),
    # --- prediction
    Sabotage(
        "the predictor never falls back to the whole picture", "predict", "if unsure.any():", "if False:",
        "test_predict.py::test_where_the_finder_saw_no_hand_the_whole_picture_is_looked_at",
    ),
    Sabotage(
        "the finder's answer is never doubted", "predict",
        "unsure = confidence.mean(1) < LOST", "unsure = confidence.mean(1) < 0",
        "test_predict.py::test_where_the_finder_saw_no_hand_the_whole_picture_is_looked_at",
    ),
    Sabotage(
        "the finder is ignored", "predict", "if self.finder is None or corners is not None:", "if True:",
        "test_predict.py::test_a_finder_takes_over_the_first_look",
    ),
    Sabotage(
        "only one quarter turn is looked at", "predict",
        "for up in TURNS if self.turned else TURNS[:1]:", "for up in TURNS[:1]:",
        "test_predict.py::test_all_four_quarter_turns_are_looked_at",
    ),
    Sabotage(
        "the mirror image's heatmaps are not mirrored back", "predict",
        "(seen.flip(-1) if flipped else seen)", "seen",
        "test_predict.py::test_a_point_is_found_in_pixels_of_a_picture_of_any_size",
    ),
    Sabotage(
        "a closer look that sees nothing is taken", "predict",
        "> CLOSER * confidence.mean(1)", ">= 0 * confidence.mean(1)",
        "test_predict.py::test_a_closer_look_that_sees_much_less_is_not_taken",
    ),
    Sabotage(
        "given boxes are ignored", "predict",
        "self._all_looks(pictures, own)", "self._all_looks(pictures, None)",
        "test_predict.py::test_boxes_say_where_to_look",
    ),
    Sabotage(
        "confidence forgets how well the whole hand is seen", "calibration",
        " + hand * peaks.mean(1, keepdim=True))", ")",
        "test_calibration.py::test_the_formula_is_a_logistic_function_of_both_heights",
    ),
    Sabotage(
        "earlier drawings are taken for photographs", "answers",
        "if pictures.is_drawing(file) or _is_film(file)", "if False",
        "test_meant.py::test_drawings_of_an_earlier_answer_are_left_out_wherever_they_lie",
    ),
    # --- videos
    Sabotage(
        "a hand that is lost is followed on", "track",
        "self._expected(time))\n        if not float(confidence.mean()) >= self.threshold:",
        "self._expected(time))\n        if False:",
        "test_track.py::test_a_hand_that_is_lost_is_searched_in_the_same_frame_and_said_to_be_gone",
    ),
    Sabotage(
        "two trackers follow one hand", "track", "            self._drop_doubles(hands)\n", "",
        "test_track.py::test_two_trackers_never_follow_one_hand",
    ),
    Sabotage(
        "the next look is taken around the filtered hand", "track",
        "        return TrackedHand(keypoints, confidence, time, searched)",
        "        self._last = keypoints\n        return TrackedHand(keypoints, confidence, time, searched)",
        "test_track.py::test_the_next_look_follows_the_answers_and_not_the_filtered_ones",
    ),
    Sabotage(
        "smoothing depends on the size of the picture", "smoothing",
        "/ max(length, 1e-6) / step", "/ 100 / step",
        "test_smoothing.py::test_the_size_of_the_hand_in_the_picture_changes_nothing",
    ),
    Sabotage(
        "the filter's cutoff does not rise with speed", "smoothing",
        "self.min_cutoff + self.beta * speed", "self.min_cutoff + 0 * speed", "test_smoothing.py",
    ),
    # --- files
    Sabotage(
        "an exported file is not compared with PyTorch", "export",
        "if not (difference <= LARGEST_DIFFERENCE and less_sure <= 1e-3):", "if False:",
        "test_export.py::test_a_file_that_answers_otherwise_is_refused_and_not_written",
    ),
    Sabotage(
        "what killed processes left stays", "storage",
        "        remove_leftovers(path.parent, path.stem)\n", "        pass\n",
        "test_storage.py::test_what_a_killed_process_left_is_removed_by_the_next_write",
    ),
    Sabotage(
        "a film that a full disk cuts short passes for whole", "video",
        "if found < self._written:", "if False:", "test_full_disk.py",
    ),
)  # fmt: skip


def outcome(sabotage: Sabotage, copy: Copy, timeout: float = 240.0) -> str:
    """Whether the test fails on the broken library; that it passes on the whole one, `make test` says."""
    path, log = copy.path(sabotage.module), copy.folder / "sabotage.log"
    text = path.read_text()
    if text.count(sabotage.before) != 1:
        return "not applied"
    path.write_text(text.replace(sabotage.before, sabotage.after))
    for cached in path.parent.glob(f"__pycache__/{path.stem}.*"):
        cached.unlink()
    found = _watch(copy.start([f"tests/{sabotage.test}"], log), timeout)
    path.write_text(text)
    return "not noticed" if found == "survived" else "noticed"


def store(rows: list[dict]) -> None:
    """Puts rows in the place of the former ones of the same sabotages."""
    tried = {row["what"]: row for row in [*read(RESULTS), *rows]}
    with open(RESULTS, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(tried[each.what] for each in SABOTAGES if each.what in tried)


def main() -> None:
    """Tries all, or those whose words are given as arguments."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in HEAVY:
        __import__(name)
    with tempfile.TemporaryDirectory(prefix="sabotages.") as folder:
        copy = Copy(Path(folder))
        for each in SABOTAGES:
            if sys.argv[1:] and not any(word in each.what for word in sys.argv[1:]):
                continue
            values = (each.what, each.module, each.test, outcome(each, copy))
            print(f"{values[3]}: {each.what} ({each.test})", flush=True)
            store([dict(zip(COLUMNS, values, strict=True))])


if __name__ == "__main__":
    main()
