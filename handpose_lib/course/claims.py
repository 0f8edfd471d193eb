"""Numbers that the prose quotes are claims: named, with bounds, and checked where they are measured.

The bounds are per preset and data set, since a number that was measured on rendered hands says nothing about FreiHAND.
"""

import json
from pathlib import Path

from handpose_lib.course.session import preset_name
from handpose_lib.datasets import data_name

CLAIMS_FILE = Path(__file__).with_name("claims.json")


def load_claims() -> dict[str, dict]:
    """All claims: name -> {"says", "unit", "notebook", "bounds": {preset: {data set: [lowest, highest]}}}."""
    return json.loads(CLAIMS_FILE.read_text(encoding="utf-8"))


def check_claim(name: str, value: float) -> None:
    """Print one fixed sentence when `value` lies within the claim's bounds; AssertionError when it does not.

    The bounds are those of the preset and the data set in force. Where there are none, nothing is claimed, and the
    number is printed as it was measured.
    """
    claims = load_claims()
    if name not in claims:
        raise KeyError(f"no claim {name!r} in {CLAIMS_FILE.name}: there are {', '.join(sorted(claims))}")
    claim, preset = claims[name], preset_name()
    data = data_name(preset)
    bounds = claim["bounds"].get(preset, {}).get(data)
    if bounds is None:
        measured = f"{claim['says']} {float(value):.3g} {claim['unit']}".rstrip()
        print(f"{measured} here. Nothing is claimed about it for preset {preset} on {data}.")
        return
    low, high = bounds
    sentence = f"{claim['says']} between {low:g} and {high:g} {claim['unit']}".rstrip()
    if not low <= float(value) <= high:  # NaN is out of bounds too
        raise AssertionError(f"claim '{name}' fails: measured {float(value):.4g}, but it says: {sentence}")
    print(f"Claim '{name}' holds. {sentence}.")
