"""SynthHAND: rendered hands in FreiHAND's layout on disk, for when the real set is not at hand.

Read in this order: asset (mesh and bones) -> hand (skinning) -> pose -> gestures -> props -> held -> scene (camera,
labels) -> render (raster) -> skin -> shading -> backdrop -> picture -> dataset (files) -> sample (the set that comes
with the project); and clip (films).
"""

import importlib

_HOME = {
    "sample_root": "sample",
    "bundled_zip": "sample",
    "make_sample": "sample",
    "write_dataset": "dataset",
    "render_hand": "dataset",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    """The public functions, imported when first asked for: `python -m` can then run any module of the package."""
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
