"""What decides the outcome of a training run: one object, each field with its reason, and the two schedules."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from handpose_lib.augment import Augmentation
from handpose_lib.fields import check_fields, is_whole
from handpose_lib.framing import LARGEST_INPUT, Framing
from handpose_lib.unet import MOST_CHANNELS

LATER = ("spectrum", "wear", "occluders", "untouched")  # settings of the augmentation that older runs lack
# Beyond these, no machine has the memory, or a number is no longer one.
LARGEST = {"width": 4096, "depth": 12, "source_size": LARGEST_INPUT, "sigma_start": 1000, "sigma_end": 1000}
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides what a training run learns; the defaults are for FreiHAND on a GPU."""

    # Whole pictures at 128 px, as the rebuilt system had them: 1.6 GB for FreiHAND's 32,560 hands.
    framing: Framing = field(default_factory=Framing)
    source_size: int = 0  # px of the decoded images, of which crops are taken; 0: the framing's image_size
    width: int = 64  # channels at full resolution: 7.8 M parameters
    depth: int = 3  # poolings; the receptive field then spans a hand
    # Channels of a light decoder and of a second stage, see `StackedUNet`, which halves its input before the first
    # pooling; no decoder: the course's U-Net.
    decoder: tuple[int, ...] = ()
    refine: tuple[int, ...] = ()
    batch_size: int = 128  # large enough to fill a GPU, small enough for thousands of steps
    epochs: int = 100
    one_version: bool = False  # an epoch shows each hand in one version, drawn at random, instead of in all four
    learning_rate: float = 2e-3  # AdamW with batch normalisation bears this at batch 128
    weight_decay: float = 1e-2  # on convolution weights only
    warmup: float = 0.03  # share of the steps in which the rate rises from 0; Adam's first steps are noisy
    sigma_start: float = 5.0  # px of the network's image: a wide target is found from anywhere ...
    sigma_end: float = 2.0  # ... and a narrow one is precise
    sigma_until: float = 0.7  # share of the steps after which sigma stays at its end
    foreground_weight: float = 10.0  # the paper's weight map: heatmaps are 99.8 % background
    ema_decay: float = 0.999  # of the averaged weights that are scored and kept
    precision: str = "auto"  # of the convolutions: 16 bits on a GPU, float32 elsewhere; or "float32", "bfloat16"
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        for name, kind in (("framing", Framing), ("augmentation", Augmentation), ("decoder", tuple), ("refine", tuple)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name} is {getattr(self, name)!r}, it must be a {kind.__name__}")
        if not all(map(is_whole, (*self.decoder, *self.refine))):
            raise ValueError(f"decoder and refine must be positive whole numbers, not {self.decoder} and {self.refine}")
        for name, most in LARGEST.items():
            if getattr(self, name) > most:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at most {most}")
        for name in ("width", "depth", "batch_size", "epochs", "learning_rate", "sigma_start", "sigma_end"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be positive")
        if self.width * 2**self.depth > MOST_CHANNELS:
            raise ValueError(
                f"width {self.width} and depth {self.depth} make {self.width * 2**self.depth:,} channels, more than "
                f"any machine has memory for: at most {MOST_CHANNELS:,}"
            )
        if not 0 <= self.source_size < math.inf:
            raise ValueError(f"source_size is {self.source_size}, it must not be negative")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed is {self.seed}, it must be from 0 to 2**31 - 1")
        if not (0 <= self.weight_decay < math.inf and 0 <= self.foreground_weight < math.inf):
            raise ValueError(
                f"weight_decay and foreground_weight must not be negative, not {self.weight_decay} and "
                f"{self.foreground_weight}"
            )
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}, it must be one of {', '.join(PRECISIONS)}")
        multiple = 2 ** (self.depth + bool(self.decoder))
        if self.framing.image_size % multiple:
            raise ValueError(
                f"image_size is {self.framing.image_size}, it must be a multiple of {multiple} ({self.depth} poolings)"
            )
        if (self.decoder and len(self.decoder) != self.depth - 1) or (self.refine and not self.decoder):
            raise ValueError(
                f"decoder must have one entry fewer than depth, and refine needs a decoder, not {self.decoder} and "
                f"{self.refine} at depth {self.depth}"
            )
        if not (0 <= self.warmup < 1 and 0 < self.sigma_until <= 1 and 0 <= self.ema_decay < 1):
            raise ValueError(
                f"warmup and ema_decay must be in [0, 1) and sigma_until in (0, 1], "
                f"not {self.warmup}, {self.ema_decay} and {self.sigma_until}"
            )

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values, those of the framing among them: checkpoints and run names rest on it.

        What came to be a setting later is left out where it has its default, so that older runs go on.
        """
        values = dataclasses.asdict(self)
        for name in ("decoder", "refine"):
            values[name] = list(values[name])
        for name in [name for name in ("decoder", "refine") if not values[name]]:
            del values[name]
        for option in dataclasses.fields(Augmentation):
            if option.name in LATER and values["augmentation"][option.name] == option.default:
                del values["augmentation"][option.name]
        return values.pop("framing") | values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TrainSettings":
        """The settings that `to_json` wrote; ValueError for other values."""
        if not isinstance(values, dict) or not isinstance(values.get("augmentation"), dict):
            raise ValueError(f"these are no settings that to_json wrote: {values!r:.60}")
        framing = Framing.from_json(values)
        others = {name: value for name, value in values.items() if name not in framing.to_json()}
        for kind, names in ((cls, others), (Augmentation, values["augmentation"])):
            if strange := names.keys() - {option.name for option in dataclasses.fields(kind)}:
                raise ValueError(f"{min(strange)} is no setting of {kind.__name__}: was it written by a later version?")
        others |= {name: tuple(others.get(name, ())) for name in ("decoder", "refine")}
        return cls(**others | {"framing": framing, "augmentation": Augmentation(**values["augmentation"])})


def learning_rate_at(progress: float, settings: TrainSettings) -> float:
    """Warm-up, then half a cosine down to zero; progress from 0 to 1 over all steps."""
    if progress < settings.warmup:
        return settings.learning_rate * progress / settings.warmup
    rest = (progress - settings.warmup) / (1 - settings.warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * rest))


def sigma_at(progress: float, settings: TrainSettings) -> float:
    """Geometrically from sigma_start to sigma_end, px of the network's image; progress from 0 to 1."""
    share = min(1.0, progress / settings.sigma_until)
    return settings.sigma_start * (settings.sigma_end / settings.sigma_start) ** share


# Settings to start from; `course` and the command line know them by these names.
PRESETS: dict[str, TrainSettings] = {
    # About two minutes on two cores: upright crops and a light network in two stages, so that so short a training ends
    # with hands that look like hands.
    "quick": TrainSettings(
        framing=Framing(64, crop=0.55, upright=True), source_size=112, width=16, depth=3, decoder=(32, 48),
        refine=(32, 48), batch_size=16, epochs=22, learning_rate=3e-3, sigma_start=6.0, sigma_end=4.0, ema_decay=0.99,
        augmentation=Augmentation(rotation=30.0, scale=1.2, shift=0.06),
    ),
    # Rendered hands, cropped as the predictor crops them, on processors that multiply bfloat16. Small images and four
    # poolings make a network that sees the whole hand at once and can be trained without a GPU.
    "weights": TrainSettings(
        framing=Framing(64, crop=0.55, upright=True), source_size=112, width=24, depth=4, batch_size=32, epochs=8,
        learning_rate=2.5e-3, sigma_start=4.5, sigma_end=1.75, sigma_until=0.6, ema_decay=0.999, precision="bfloat16",
        augmentation=Augmentation(rotation_focus=2.0, scale=1.5, brightness=0.35, saturation=0.5),
    ),
    # The bundled weights: a light network in two stages on crops of 128 px, for a tracker on a processor; its encoder
    # may begin as that of `weights`. The pictures are disturbed, so that what it learns from renders holds for
    # photographs.
    "stacked": TrainSettings(
        framing=Framing(128, crop=0.55, upright=True), source_size=160, width=24, depth=4, decoder=(64, 80, 128),
        refine=(48, 80, 112), batch_size=32, epochs=8, learning_rate=2e-3, sigma_start=8.8, sigma_end=5.0,
        sigma_until=0.5, augmentation=Augmentation(
            rotation_focus=2.0, scale=1.5, brightness=0.4, contrast=0.4, saturation=0.6, tint=0.15,
            spectrum=0.8, wear=1.0, occluders=0.15,
        ),
    ),
    # A small network that says roughly where in a whole picture the hand is and where it points, in any turn.
    "finder": TrainSettings(
        framing=Framing(96), source_size=160, width=16, depth=3, decoder=(32, 48), batch_size=32, epochs=8,
        learning_rate=3e-3, sigma_start=8.0, sigma_end=4.0, sigma_until=0.5, augmentation=Augmentation(
            rotation=180.0, scale=1.6, shift=0.18, brightness=0.4, contrast=0.4, saturation=0.6, tint=0.15,
            spectrum=0.8, wear=1.0, occluders=0.15,
        ),
    ),
    # FreiHAND at 128 px, as the rebuilt system had it. The four versions of a hand differ in the background only, so an
    # epoch shows each hand in one of them, drawn at random: as many poses as all four would show, at a quarter of the
    # cost, and the schedule is counted in passes over the poses. 100 epochs of 27,440 hands are 21,400 steps.
    "full": TrainSettings(one_version=True),
}  # fmt: skip
NOTEBOOK_PRESETS = ("quick", "full")  # those that a notebook can run on


def rehearsal(settings: TrainSettings) -> TrainSettings:
    """The settings cut short, so that a processor walks all the way in minutes; what they score means nothing."""
    return dataclasses.replace(settings, framing=Framing(48), width=8, batch_size=16, epochs=2)
