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
    Sabotage(
        "the rate changes once per epoch", "train",
        "share = self.step / self.total_steps", "share = self.epoch / self.settings.epochs",
        "test_train.py::test_rate_and_sigma_change_from_step_to_step",
    ),
    Sabotage(
        "the rate has no warm-up", "settings",
        "if progress < settings.warmup:", "if False:",
        "test_train.py::test_schedules_start_rise_and_end_where_they_should",
    ),
    Sabotage(
        "the last weights are kept, and not their average", "train",
        "runs.copied(self.average.module), self.epoch", "runs.copied(self.model), self.epoch",
        "test_train.py::test_the_weights_that_are_kept_score_what_the_history_says",
    ),
    Sabotage(
        "the last weights are validated, and not their average", "train",
        "return predict_keypoints(self.average.module,", "return predict_keypoints(self.model,",
        "test_train.py::test_the_weights_that_are_kept_score_what_the_history_says",
    ),
    Sabotage(
        "a resumed run forgets its best error", "runs",
        '"seconds", "best_error", "best_epoch"', '"seconds", "best_epoch"',
        "test_train.py::test_the_best_epoch_is_remembered_by_a_run_that_goes_on",
    ),
    Sabotage(
        "the loss counts keypoints that are not there", "train",
        "self.criterion(each, self.targets, batch.visible, num_maps)", "self.criterion(each, self.targets)",
        "test_train.py::test_what_counts_and_its_weight_reach_the_loss",
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
        'key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()', "key=str",
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
    Sabotage(
        "every seed gives the same order", "loader",
        "(self.seed * SEED_STEP + epoch) % 2**32", "epoch",
        "test_loader.py::test_order_and_augmentation_depend_on_the_seed_and_on_the_epoch",
    ),
    Sabotage(
        "a sample is changed in the same way in each epoch", "loader",
        "keyed_uniform(self.seed, epoch, self", "keyed_uniform(self.seed, 0, self",
        "test_loader.py::test_order_and_augmentation_depend_on_the_seed_and_on_the_epoch",
    ),
    Sabotage(
        "a sample is changed by its place in the batch", "loader",
        "epoch, self.ids[index], count)", "epoch, torch.arange(len(index)), count)",
        "test_loader.py::test_a_samples_augmentation_depends_on_neither_batch_size_nor_place",
    ),
    Sabotage(
        "every process takes the first part of a batch", "loader",
        "begin = number * self.batch_size + self.rank * share", "begin = number * self.batch_size",
        "test_loader.py::test_the_parts_of_all_processes_in_order_are_the_whole",
    ),
    Sabotage(
        "an epoch of one version shows the first one always", "loader",
        "order = version * self.samples_per_epoch + order", "order = 0 * version + order",
        "test_loader.py::test_one_version_shows_each_hand_once_in_versions_that_change",
    ),
    Sabotage(
        "what is scored is augmented", "loader",
        "self.processes), None)", "self.processes), 0)",
        "test_loader.py::test_in_order_gives_every_item_once_unchanged",
    ),
    Sabotage(
        "images are resized without a filter", "loader",
        'mode="bilinear", antialias=True', 'mode="bilinear"',
        "test_loader.py::test_decoded_images_are_the_data_sets_own_resized",
    ),
    Sabotage(
        "decoded images of two sizes replace each other", "loader",
        "{'-'.join(dataset.versions)}_{image_size}.npy", "{'-'.join(dataset.versions)}.npy",
        "test_loader.py::test_images_of_two_sizes_are_kept_side_by_side",
    ),
    Sabotage(
        "a cache does not look at the size of a file", "cache",
        "{path.name} {stat.st_size} {stat.st_mtime_ns}", "{path.name} {stat.st_mtime_ns}",
        "test_storage.py::test_a_fingerprint_changes_with_file_facts_and_version",
    ),
    Sabotage(
        "keypoints and pictures are never mirrored", "augment",
        "(cos * flip, -sin), -1), torch.stack((sin * flip, cos)", "(cos, -sin), -1), torch.stack((sin, cos)",
        "test_augment.py::test_mirror_maps_x_to_width_minus_one_minus_x_and_swaps_no_index",
    ),
    Sabotage(
        "cameras of pictures of another size are taken", "freihand",
        "if off.mean() > 0.5:", "if False:",
        "test_meant_files.py::test_cameras_of_images_of_another_size_are_refused_and_single_hands_noted",
    ),
    Sabotage(
        "a folder that is linked into another is passed over", "pictures",
        "else links if entry.is_symlink() else folders", "else [] if entry.is_symlink() else folders",
        "test_meant_files.py::test_a_folder_that_is_linked_into_another_is_looked_into_once",
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
    Sabotage(
        "a confidence is that of another keypoint", "heatmaps",
        "torch.nan_to_num(value, nan=0.0).clamp(0, 1)", "torch.nan_to_num(value.roll(1, -1), nan=0.0).clamp(0, 1)",
        "test_heatmaps.py::test_each_map_is_decoded_on_its_own_whatever_its_memory_layout",
    ),
    Sabotage(
        "a prediction that is NaN is left out of the scores", "metrics",
        "    errors = torch.where(pred.isfinite().all(-1), errors, torch.inf)\n", "",
        "test_metrics.py::test_a_nan_prediction_is_wrong_and_its_distance_infinite",
    ),
    Sabotage(
        "the mean hand is the median one", "evaluate",
        ".nanmean(dim=0))", ".nanmedian(dim=0).values)",
        "test_evaluate.py::test_the_mean_hand_is_the_mean_of_what_is_labelled",
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
        "predict goes on to the end after Ctrl-C", "answers",
        "        if stopped:\n            break\n        hands = tracker", "        hands = tracker",
        "test_video.py::test_a_signal_to_stop_keeps_the_frames_so_far",
    ),
    Sabotage(
        "a run that is stopped replaces longer answers", "answers",
        "if stopped and len(rows) <= earlier:", "if False:",
        "test_video.py::test_a_run_that_is_stopped_keeps_longer_answers_of_an_earlier_one",
    ),
    Sabotage(
        "answers on another video of this name are replaced", "answers",
        '(theirs.get("video"), theirs.get("path", ours[1])) == ours', 'theirs.get("video") == ours[0]',
        "test_video.py::test_videos_of_two_folders_with_the_same_relative_name_keep_their_answers",
    ),
    Sabotage(
        "a film is asked for at a rate that MPEG-4 can't count", "video",
        "else 2 if fps < 655 else 1)", "else 3)",
        "test_video.py::test_a_film_is_written_at_any_rate_of_a_recording",
    ),
    Sabotage(
        "the second Ctrl-C is not heard", "stopping",
        "if len(received) > 1:", "if False:",
        "test_pictures.py::test_a_signal_ends_after_the_picture_and_a_second_one_at_once",
    ),
    Sabotage(
        "earlier drawings are taken for photographs", "answers",
        "if pictures.is_drawing(file) or _is_film(file)", "if False",
        "test_meant.py::test_drawings_of_an_earlier_answer_are_left_out_wherever_they_lie",
    ),
    Sabotage(
        "the predictor ignores the width of the peaks", "predict",
        "framing, self.method, **decoding)", "framing, self.method)",
        "test_predict.py::test_a_predictor_and_a_report_decode_with_the_width_that_the_network_was_trained_on",
    ),
    Sabotage(
        "squares of another size go to ONNX Runtime", "onnx_look",
        "squares.shape == (1, self.framing.image_size, self.framing.image_size, 3)", "len(squares) == 1",
        "test_onnx_look.py::test_squares_of_another_size_go_through_pytorch",
    ),
    Sabotage(
        "bones that were taken away are used by ONNX Runtime", "predict",
        'self.method == "local_peak" and decoding == onnx.decoding', 'self.method == "local_peak"',
        "test_onnx_look.py::test_a_look_without_a_network_to_decode_in_is_decoded_by_the_library",
    ),
    Sabotage(
        "an ONNX Runtime that can't be used is not told", "onnx_look",
        "warnings.warn(f\"{why}: PyTorch does. To leave this out, say engine='pytorch'\", stacklevel=3)", "pass",
        "test_onnx_look.py::test_an_onnx_runtime_that_can_not_be_used_is_told_and_pytorch_looks",
    ),
    Sabotage(
        "a film is smoothed over frames", "synthhand/clip",
        "SMOOTHING * fps)", "2.0)",
        "test_track.py::test_a_films_motion_is_smoothed_over_seconds_and_not_over_frames",
    ),
    Sabotage(
        "the predictor forgets the bones of its network", "decoding",
        'bones = getattr(model, "bones", ())', "bones = ()",
        "test_chains.py::test_the_predictor_decodes_with_its_networks_bones",
    ),
    Sabotage(
        "bones are asked of crops that are not upright", "decoding",
        "framing.upright != own.upright or ", "",
        "test_chains.py::test_bones_are_longer_in_closer_crops_and_say_nothing_in_other_ones",
    ),
    Sabotage(
        "a finger is led back along another finger's way", "chains",
        "way.gather(-1, chosen[0])", "way.gather(-1, chosen[0].flip(1))",
        "test_chains.py::test_no_other_chain_has_a_higher_merit",
    ),
    Sabotage(
        "a resumed run loses the bones that it began with", "train",
        'state.get("bones", ())', "()",
        "test_chains.py::test_a_run_that_starts_from_weights_keeps_their_bones",
    ),
    Sabotage(
        "a fine-tuning that goes on takes the settings of a preset", "commands/train",
        "if resumed and options.out and", "if False and",
        "test_cli.py::test_fine_tuning_that_was_stopped_goes_on",
    ),
    Sabotage(
        "a signal while a run validates is not heard", "train",
        "self._stop_if(self._look(stopped))  # while", "pass  # while",
        "test_train.py::test_a_signal_while_it_validates_stops_the_run_before_the_next_step",
    ),
    Sabotage(
        "following a hand takes two looks", "predict",
        "view, False, self.followed, self._quick", "view, True, self.followed, self._quick",
        "test_predict.py::test_to_follow_a_hand_is_one_look_of_the_network",
    ),
    Sabotage(
        "a hand is followed no closer than it is searched for", "predict",
        "max(own, min(FOLLOWED, ALIKE * own))", "own",
        "test_predict.py::test_a_hand_is_followed_closer_than_it_is_searched_for",
    ),
    Sabotage(
        "bones are asked of crops of quite another kind", "decoding",
        " or own.crop > ALIKE * framing.crop", "",
        "test_chains.py::test_the_predictor_decodes_with_its_networks_bones",
    ),
    Sabotage(
        "bones are no longer in closer crops", "decoding",
        "framing.crop / own.crop", "1.0",
        "test_chains.py::test_bones_are_longer_in_closer_crops_and_say_nothing_in_other_ones",
    ),
    Sabotage(
        "heatmaps of a mirror image are not mirrored back", "onnx_look",
        "both[len(squares) :].flip(-1)", "both[len(squares) :]",
        "test_onnx_look.py::test_looks_and_searches_answer_as_pytorch_does",
    ),
    Sabotage(
        "8 bits are used where bytes are not multiplied", "onnx_look",
        "if not multiplies_bytes() or any", "if any",
        "test_onnx_look.py::test_hands_are_followed_in_32_bits_elsewhere",
    ),
    Sabotage(
        "8 bits are used for other weights", "onnx_look",
        "    if eight_bit:\n        facts", "    if False:\n        facts",
        "test_onnx_look.py::test_a_graph_in_8_bits_belongs_to_its_weights",
    ),
    Sabotage(
        "who names an engine gets 8 bits", "predict",
        "predictor._asks_for_quick = engine is None and predictor._onnx is not None",
        "predictor._asks_for_quick = True",
        "test_onnx_look.py::test_hands_are_followed_in_32_bits_elsewhere",
    ),
    Sabotage(
        "pictures are searched in 8 bits", "predict",
        "return self._look(pictures, views, mirrored, framing or self.framing, self._onnx)",
        "return self._look(pictures, views, mirrored, framing or self.framing, self._quick or self._onnx)",
        "test_onnx_look.py::test_hands_are_followed_in_8_bits_where_bytes_are_multiplied",
    ),
    Sabotage(
        "answers on large pictures are in pixels of the reduced ones", "answers",
        "if factors != (1.0, 1.0) else keypoints", "if False else keypoints",
        "test_meant_files.py::test_answers_on_a_large_picture_are_in_its_own_pixels",
    ),
    Sabotage(
        "answers replace labels", "answers",
        "if path.is_file() and path.stat().st_size and not mine:", "if False:",
        "test_meant_files.py::test_answers_do_not_replace_a_file_that_is_none",
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
    Sabotage(
        "a second hand is searched for once", "track",
        "self._until_search = SEARCH_EVERY\n", "self._until_search = 10**9\n",
        "test_track.py::test_a_second_hand_that_comes_later_is_found_within_a_few_frames",
    ),
    Sabotage(
        "all hands go through one filter", "track",
        "deepcopy(smoothing)", "smoothing",
        "test_track.py::test_each_hand_has_a_filter_of_its_own",
    ),
    Sabotage(
        "the filter's two cutoffs are swapped", "smoothing",
        "_share(self.speed_cutoff, step)", "_share(self.min_cutoff, step)",
        "test_smoothing.py::test_it_does_what_the_paper_says",
    ),
    Sabotage(
        "a gap in a recording is filled with pictures", "video",
        "elif time - self._time > LONGEST:", "elif False:",
        "test_meant_files.py::test_a_gap_of_hours_in_a_recording_does_not_fill_the_disk",
    ),
    Sabotage(
        "a film that breaks off in the middle passes for whole", "video",
        "if count < WHOLE * stated < MOST_FRAMES:", "if False:",
        "test_meant_files.py::test_a_film_with_a_hole_is_said_to_be_damaged",
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
    Sabotage(
        "a flipped bit in the weights is not noticed", "trusted",
        "if checksum is not None and checksum != checksum_of(tensors):", "if False:",
        "test_unet.py::test_one_flipped_bit_in_the_weights_is_noticed",
    ),
    Sabotage(
        "a damaged file in a zip is unpacked", "zips",
        "            _check_members(archive, zip_path, progress)\n", "",
        "test_download.py::test_a_damaged_member_is_named_and_nothing_is_unpacked",
    ),
    Sabotage(
        "FreiHAND replaces another data set", "zips",
        "            _refuse_others(missing, len(targets) - len(missing), root)\n", "",
        "test_meant_files.py::test_another_data_set_is_not_replaced_by_freihand",
    ),
    Sabotage(
        "a training replaces the weights of another", "commands/train",
        "            _check_new(folder)\n", "            pass\n",
        "test_meant_files.py::test_a_training_does_not_begin_where_it_would_replace_weights_or_a_history",
    ),
    Sabotage(
        "a signal to stop costs what is done", "cli",
        "with stopping.handled(stop), warnings", "with warnings",
        "test_meant_files.py::test_a_signal_to_stop_lets_a_command_keep_what_is_done",
    ),
    Sabotage(
        "what a library makes of Ctrl-C is called an error", "cli",
        "        if received:  # what", "        if False:  # what",
        "test_meant_files.py::test_what_a_library_makes_of_ctrl_c_is_still_a_stop",
    ),
    Sabotage(
        "groups are split by the last part of their names", "keypoint_folder",
        'name.encode("utf-8", "surrogatepass")', "Path(name).name.encode()",
        "test_keypoint_folder.py::test_folders_that_end_alike_are_split_alike_in_every_process",
    ),
    Sabotage(
        "a hand with a missing keypoint has no misses in a drawing", "plots",
        "(np.nanmax(true, 0) - np.nanmin(true, 0)).max()", "np.ptp(true, axis=0).max()",
        "test_keypoint_folder.py::test_hands_with_missing_keypoints_are_drawn_and_their_errors_shown",
    ),
    Sabotage(
        "a folder of results that was chosen is forgotten by other chapters", "course/choices",
        "if runs is None and path.parent", "if False and path.parent",
        "test_choices.py::test_a_folder_that_was_chosen_is_found_by_a_kernel_that_is_not_told_of_it",
    ),
    Sabotage(
        "pages of other hosts may change labels", "annotate/server",
        "if origin is not None and", "if False and",
        "test_annotate.py::test_whoever_is_not_the_page_is_refused",
    ),
    Sabotage(
        "a label that was changed in another window is passed over", "annotate/store",
        "if version in (None, now) or", "if True or",
        "test_annotate.py::test_a_label_that_was_changed_elsewhere_is_not_passed_over",
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
