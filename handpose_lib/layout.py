"""FreiHAND's layout, which the loader reads and the renderer writes: defined once, and without any import."""

VERSIONS: tuple[str, ...] = ("gs", "hom", "sample", "auto")  # green screen, and three ways to swap the background
SPLITS: tuple[str, ...] = ("train", "val", "test", "evaluation")
IMAGE_SIZE = 224  # px, every image, both sides
