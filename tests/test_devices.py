import subprocess
import sys

import pytest
import torch

from handpose_lib.devices import half_precision, keep_freed_memory, pick_device


def test_a_device_that_is_not_there_is_refused_with_what_to_try():
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"device 'nonsense' can't be used .*try cuda, mps or cpu"):
        pick_device("nonsense")


def test_half_precision_is_a_choice_on_a_processor():
    processor = torch.device("cpu")
    assert half_precision(processor) is None and half_precision(processor, "float32") is None
    assert half_precision(processor, "bfloat16") is torch.bfloat16


def test_memory_that_was_freed_is_used_again_without_page_faults():
    # In a process of its own, as it is for good.
    code = (
        "import resource, torch; from handpose_lib.devices import keep_freed_memory\n"
        "def faults(count):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(count): torch.empty(2**24).fill_(1)\n"  # 64 MB each
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "faults(20); given_back = faults(10)\n"
        "told = keep_freed_memory(); faults(20); print(told, given_back, faults(10))"
    )
    if not keep_freed_memory():
        pytest.skip("no glibc, whose allocator this is about")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told, given_back, kept = result.stdout.split()
    assert told == "True" and int(given_back) > 100_000 and int(kept) < 20_000
