"""2D hand-pose estimation in PyTorch: the library behind the course in `notebooks/`."""

__version__ = "0.1.0"
