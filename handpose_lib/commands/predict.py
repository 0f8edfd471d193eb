"""`handpose predict`: keypoints of the hands in photographs and videos, as files and drawn."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from handpose_lib.answers import answer_files, answer_video, files_of
from handpose_lib.commands.network import add_network_options, add_tracking_options, tracker_of
from handpose_lib.fields import counted
from handpose_lib.inputs import corners_of
from handpose_lib.reading import sentence_of
from handpose_lib.track import HandsTracker
from handpose_lib.video import CODECS, is_video

EXAMPLES = """examples:
  handpose predict holiday.jpg scans/ --out answers
  handpose predict waving.mp4 --out answers --max-hands 2
  handpose predict waving.webm --out answers --film .webm --no-smooth
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `handpose predict`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    parser.add_argument("files", type=Path, nargs="+", help="pictures, videos, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder for keypoints, drawings and films")
    add_network_options(parser)
    videos = parser.add_argument_group("videos")
    add_tracking_options(videos)
    videos.add_argument("--film", choices=CODECS, default=".mp4", help="its ending (default: .mp4; browsers: .webm)")
    videos.add_argument(
        "--box", type=float, nargs=4, action="append", metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"),
        help="where a hand is in the first frame, px; once per hand",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Find and draw the hands; what can't be read is left out and said at the end."""
    out = options.out
    files = files_of(options.files, out)
    pictures, videos = [f for f in files if not is_video(f)], [f for f in files if is_video(f)]
    if options.box and len(videos) != 1:
        raise ValueError(f"--box says where hands are in one video's first frame, and {len(videos)} were given")
    if options.box:
        corners_of(options.box, len(options.box))  # refuses what is no box, before anything is written
    if options.max_hands > 1 and not videos:
        raise ValueError(f"--max-hands is {options.max_hands} and is for videos: in a picture, one hand is looked for")
    tracker = tracker_of(options)
    failures: list[str] = []
    if pictures:
        count, failures = answer_files(pictures, tracker.predictor, out)
        if count:
            print(f"{counted(count, 'picture')}: keypoints.json (px of each picture) and drawings in {out}")
    done = _answer_videos(videos, tracker, options, failures)
    if failures:
        kind = "picture" if not videos else "video" if not pictures else "file"
        raise ValueError(f"{counted(len(failures), kind)} left out: {'; '.join(failures)}")
    silent = [str(file) for file, found in done.items() if not found]
    if silent:
        raise ValueError(
            f"no hand was found in {', '.join(silent)}: is one in the picture, not too small and not too dark? "
            f"Otherwise try a --threshold below {options.threshold:g}, or say where it is with --box"
        )


def _answer_videos(
    videos: Sequence[Path], tracker: HandsTracker, options: argparse.Namespace, failures: list[str]
) -> dict[Path, int]:
    """In how many frames of each video a hand was found; adds what can't be read to `failures`."""
    done = {}
    for file in videos:
        try:
            name, done[file] = answer_video(file, tracker, options.out, options.film, options.box)
        except (OSError, ValueError) as error:
            failures.append(sentence_of(error))
            continue
        print(
            f"{file}: a hand in {counted(done[file], 'frame')}; keypoints in {name}.csv and {name}.json "
            f"(px of the video), film {name}_hands{options.film} in {options.out}"
        )
    return done
