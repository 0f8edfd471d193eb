"""The checks of the exercises: one module a chapter, one `check_…` an exercise.

check_project(my_project)      prints "not yet", "right", or the mistake that the answer looks like
"""
