"""What differs on Google Colab: a machine that is lent for some hours, and a Google Drive that stays."""

import base64
import importlib
import os
import shutil
import sys
from pathlib import Path

import torch

from handpose_lib.devices import half_precision, pick_device
from handpose_lib.storage import base_folder, drive_folder

CHOOSE_GPU = (
    "On Colab: menu Runtime > Change runtime type > T4 GPU > Save. That starts another machine, so run this notebook "
    "again from the top. If no GPU is available, try again later, or go on with the preset quick."
)


# What the browser does: show the camera, wait for the button, give one picture back. It asks for permission first.
TAKE_PICTURE = """
(async () => {
  const box = document.createElement('div'), video = document.createElement('video');
  const button = document.createElement('button');
  const stream = await navigator.mediaDevices.getUserMedia({video: true});
  button.textContent = 'Take the picture';
  video.style.cssText = 'display: block; max-width: 480px; width: 100%';
  box.append(video, button);
  document.body.append(box);
  try {
    video.srcObject = stream;
    await video.play();
    google.colab.output.setIframeHeight(document.documentElement.scrollHeight, true);
    await new Promise((resolve) => { button.onclick = resolve; });
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext('2d').drawImage(video, 0, 0);
    return canvas.toDataURL('image/jpeg', 0.92);
  } finally {
    stream.getTracks().forEach((track) => track.stop());
    box.remove();
  }
})()
"""


def on_colab() -> bool:
    """Whether this notebook runs on Google Colab."""
    return "google.colab" in sys.modules


def mount_drive() -> Path:
    """The folder for results in your Google Drive; the Drive is mounted first, for which Colab asks your permission.

    Raises:
        OSError: there is no Drive here, or it was not mounted.
    """
    home = drive_folder() / "MyDrive"
    if not home.is_dir():
        if not on_colab():
            raise OSError(
                f"{home} is not there, and this is not Colab: give a folder for the results instead of 'drive'"
            )
        importlib.import_module("google.colab.drive").mount(str(drive_folder()))
    if not home.is_dir():
        raise OSError(f"{home} is not there: the Drive was not mounted. Run the cell again and allow the access")
    return home / "handpose"


def upload_pictures(folder: str | Path = "uploads") -> Path | str:
    """On Colab, a button that copies pictures from your computer or phone into `folder`; elsewhere, a hint.

    Returns:
        That folder, or "" when nothing was uploaded.
    """
    if not on_colab():
        print("An upload button is there on Colab only; here, give the picture's path.")
        return ""
    uploaded = importlib.import_module("google.colab.files").upload()  # {name: bytes}
    folder = base_folder() / folder
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / Path(name).name for name in uploaded]
    for path, content in zip(paths, uploaded.values(), strict=True):
        path.write_bytes(content)
    print(f"{len(paths)} uploaded to {folder}" if paths else "nothing was uploaded")
    return folder if paths else ""


def take_picture(folder: str | Path = "uploads") -> Path | str:
    """On Colab, a button that takes a picture with your computer's or phone's camera; elsewhere, a hint.

    Returns:
        The picture's file, in `folder`, or "" where there is no such button.

    Raises:
        OSError: the browser gave no picture.
    """
    if not on_colab():
        print("The camera's button is there on Colab only; here, `handpose camera` shows the live picture.")
        return ""
    try:
        answer = importlib.import_module("google.colab.output").eval_js(TAKE_PICTURE)  # data:image/jpeg;base64,...
        content = base64.b64decode(answer.partition(",")[2], validate=True)
    except Exception as error:  # whatever the browser refused: Colab's own class of error is private
        raise OSError(
            f"the camera gave no picture ({error}): allow the camera in the browser and run the cell again"
        ) from error
    path = base_folder() / folder / "camera.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def show_machine() -> None:
    """Print what this machine has: GPU or processor, memory, free disk."""
    device, lines = pick_device(), []
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        kind = str(half_precision(device)).removeprefix("torch.")
        lines.append(f"GPU: {properties.name}, {properties.total_memory / 1e9:.1f} GB, trains in {kind}")
    elif device.type == "mps":
        lines.append("GPU: the one of this Mac")
    else:
        lines.append(f"no GPU, {os.cpu_count()} processor cores: right for the preset quick, not for full")
        lines += [CHOOSE_GPU] if on_colab() else []
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        lines.append(f"memory: {memory / 1e9:.0f} GB")
    lines.append(f"free disk: {shutil.disk_usage(base_folder()).free / 1e9:.0f} GB")
    print("\n".join(lines))
