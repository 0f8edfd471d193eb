"""The checks of the exercises: one module per chapter, one `check_…` per exercise.

check_project(my_project)      prints "not yet", "right", or the mistake that the answer looks like
"""
