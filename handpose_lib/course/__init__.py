"""What the notebooks need beyond the library: the session, claims, and the set-up line."""

from handpose_lib.course.choices import choose, get_data
from handpose_lib.course.claims import check_claim
from handpose_lib.course.colab import show_machine
from handpose_lib.course.session import Course, start
from handpose_lib.settings import PRESETS

__all__ = ["PRESETS", "Course", "check_claim", "choose", "get_data", "show_machine", "start"]
