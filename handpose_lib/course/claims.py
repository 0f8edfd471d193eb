"""Numbers that the prose quotes are claims: named, bounded for each preset, and checked where they are measured."""

import json
from pathlib import Path

from handpose_lib.course.session import preset_name

CLAIMS_FILE = Path(__file__).with_name("claims.json")


def load_claims() -> dict[str, dict]:
    """All claims: name -> {"says", "unit", "notebook", "bounds": {preset: [lowest, highest]}}."""
    return json.loads(CLAIMS_FILE.read_text(encoding="utf-8"))


def check_claim(name: str, value: float) -> None:
    """Print one fixed sentence when `value` lies within the claim's bounds; AssertionError when it does not."""
    claims = load_claims()
    if name not in claims:
        raise KeyError(f"no claim {name!r} in {CLAIMS_FILE.name}: there are {', '.join(sorted(claims))}")
    claim, preset = claims[name], preset_name()
    if preset not in claim["bounds"]:
        print(f"Claim '{name}' is made for {', '.join(claim['bounds'])} only.")
        return
    low, high = claim["bounds"][preset]
    sentence = f"{claim['says']} between {low:g} and {high:g} {claim['unit']}".rstrip()
    if not low <= float(value) <= high:  # NaN is out of bounds too
        raise AssertionError(f"claim '{name}' fails: measured {float(value):.4g}, but it says: {sentence}")
    print(f"Claim '{name}' holds. {sentence}.")
