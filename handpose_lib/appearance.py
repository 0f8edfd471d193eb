"""Appearance: disturbances that make rendered hands serve for photographs, on whole batches and any device.

The amplitude spectrum is perturbed, phases kept, the more the higher the frequency (Chattopadhyay et al., "PASTA:
Proportional Amplitude Spectrum Training Augmentation", ICCV 2023); pictures are blurred, bleached, darkened and made
noisy; and things of any colour lie in front. Each sample's numbers come from its own row of `uniform`, so they depend
on neither the batch nor the device.
"""

import functools

import torch
from torch import Tensor

from handpose_lib.augment import NORMALIZED_LIMITS, Augmentation

SHEET = 512  # px; side of the sheet of noise of which every sample takes its own part; it repeats on larger pictures
OCCLUDERS = 3  # things in front of a hand at most
DRAWS = 13 + 8 * OCCLUDERS  # uniform numbers that one sample needs
PASTA = (3.0, 2.0, 0.25)  # alpha, k and beta of the paper


def disturb(images: Tensor, uniform: Tensor, settings: Augmentation) -> Tensor:
    """Images (B, 3, S, S), normalised, with some of them changed in spectrum, sharpness, tone and by things in front.

    Args:
        images: within `NORMALIZED_LIMITS`.
        uniform: (B, DRAWS) in [0, 1), as `keyed_uniform` gives them.
        settings: its `spectrum`, `wear`, `occluders` and `untouched`.

    Returns:
        (B, 3, S, S), a new tensor.
    """
    uniform = uniform.to(images.device)
    kept = uniform[:, 0] < settings.untouched
    changed = _spectrum(images, uniform[:, 1:7], settings)
    changed = _tone(changed, uniform[:, 6:13], settings.wear)
    for k in range(OCCLUDERS):
        changed = _occlude(changed, uniform[:, 13 + 8 * k : 21 + 8 * k], settings.occluders)
    return torch.where(kept[:, None, None, None], images, changed.clamp(*NORMALIZED_LIMITS))


@functools.cache
def _sheet(device: torch.device) -> Tensor:
    """Normal noise (3, SHEET, SHEET), always the same."""
    return torch.randn(3, SHEET, SHEET, generator=torch.Generator().manual_seed(7)).to(device)


def _noise(place: Tensor, size: tuple[int, int], device: torch.device) -> Tensor:
    """Each sample's part of the sheet: place (B, 2) in [0, 1) -> (B, 3, H, W)."""
    corner = (place * max(SHEET - max(size), 0)).long()
    rows = (corner[:, 0, None] + torch.arange(size[0], device=device)) % SHEET  # (B, H)
    columns = (corner[:, 1, None] + torch.arange(size[1], device=device)) % SHEET  # (B, W)
    return _sheet(device)[:, rows[:, :, None], columns[:, None, :]].transpose(0, 1)


def _spectrum(images: Tensor, uniform: Tensor, settings: Augmentation) -> Tensor:
    """Amplitudes times 1 + noise that grows with the frequency, and for worn pictures high frequencies damped."""
    if not settings.spectrum and not settings.wear:
        return images.clone()
    height, width = images.shape[-2:]
    vertical = 2 * torch.fft.fftfreq(height, device=images.device).abs()
    horizontal = 2 * torch.fft.rfftfreq(width, device=images.device)
    square = (vertical[:, None].square() + horizontal.square()) / 2  # of the frequency's share of the highest one
    alpha, power, beta = PASTA
    spread = (alpha * square.sqrt()) ** power + beta  # (H, W // 2 + 1)
    # Half of the pictures, and of those each with a strength of its own; every second one alike in all channels.
    strength = settings.spectrum * (2 * uniform[:, 0] - 1).clamp(min=0)
    noise = _noise(uniform[:, 1:3], (height, width // 2 + 1), images.device)
    noise = torch.where(uniform[:, 3, None, None, None] < 0.5, noise, noise[:, :1])
    gain = (1 + strength[:, None, None, None] * spread * noise).clamp(0, 3)
    blurred = uniform[:, 4] < 0.3 * settings.wear
    width_of_blur = torch.where(blurred, 1 + 12 * uniform[:, 5], 0)
    gain = gain * torch.exp(-width_of_blur[:, None, None, None] * square)
    gain[..., 0, 0] = 1  # the mean stays
    return torch.fft.irfft2(torch.fft.rfft2(images) * gain, s=(height, width))


def _tone(images: Tensor, uniform: Tensor, wear: float) -> Tensor:
    """Some in grey, some brighter or darker in their middle tones, some noisy."""
    if not wear:
        return images
    low, high = NORMALIZED_LIMITS
    shape = (-1, 1, 1, 1)
    grey = (uniform[:, 0] < 0.15 * wear).view(shape)
    images = torch.where(grey, images.mean(1, keepdim=True), images)
    exponent = torch.where(uniform[:, 1] < 0.3 * wear, torch.exp(1.2 * uniform[:, 2] - 0.6), 1).view(shape)
    images = low + (high - low) * ((images - low) / (high - low)).clamp(1e-6, 1) ** exponent
    amount = torch.where(uniform[:, 3] < 0.25 * wear, 0.12 * uniform[:, 4], 0).view(shape)
    return images + amount * _noise(uniform[:, 5:7], images.shape[-2:], images.device)


def _occlude(images: Tensor, uniform: Tensor, share: float) -> Tensor:
    """One rectangle or ellipse of any colour in front of some of the images; uniform (B, 8)."""
    if not share:
        return images
    height, width = images.shape[-2:]
    x = torch.linspace(0, 1, width, device=images.device)
    y = torch.linspace(0, 1, height, device=images.device)[:, None]
    centre_x, centre_y = uniform[:, 1, None, None], uniform[:, 2, None, None]
    radius_x, radius_y = (0.03 + 0.15 * uniform[:, k, None, None].square() for k in (3, 4))
    across, down = (x - centre_x) / radius_x, (y - centre_y) / radius_y  # (B, 1, W), (B, H, 1)
    round_ones = (uniform[:, 0] < share / 2)[:, None, None]
    inside = torch.where(round_ones, across.square() + down.square(), torch.maximum(across.abs(), down.abs())) < 1
    inside &= (uniform[:, 0] < share)[:, None, None]
    low, high = NORMALIZED_LIMITS
    colour = low + (high - low) * uniform[:, 5:8, None, None]
    return torch.where(inside[:, None], colour, images)
