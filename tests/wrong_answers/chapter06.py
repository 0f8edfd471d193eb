"""Chapter 06: for each hint of each exercise an answer, as a learner would write it, that must earn it."""

WRONG = {
    "check_rate": {
        "the rate should start at 0 and rise; yours starts at its peak": """
def my_rate(share, peak, warmup):
    return peak * (1 + np.cos(np.pi * share)) / 2
""",
        "does your cosine start where the warm-up ends? The rate must not jump there": """
def my_rate(share, peak, warmup):
    if share < warmup:
        return peak * share / warmup
    return peak * (1 + np.cos(np.pi * share)) / 2
""",
        "your rate becomes negative: a cosine runs from 1 to -1, the rate from its peak to 0": """
def my_rate(share, peak, warmup):
    if share < warmup:
        return peak * share / warmup
    return peak * np.cos(np.pi * (share - warmup) / (1 - warmup))
""",
        "the rise is right, but the fall is a straight line": """
def my_rate(share, peak, warmup):
    return min(peak * share / warmup, peak * (1 - share) / (1 - warmup))
""",
        "the rise is too slow: at the end of the warm-up the rate should be at its peak": """
def my_rate(share, peak, warmup):
    if share < warmup:
        return share * peak
    rest = (share - warmup) / (1 - warmup)
    return peak * 0.5 * (1 + np.cos(np.pi * rest))
""",
    },
    "check_steps": {
        "you count the incomplete last batch of an epoch, which is left out": """
def my_steps(samples, batch, epochs):
    return -(-samples // batch) * epochs
""",
        "an incomplete batch is left out in every epoch, not once at the end": """
def my_steps(samples, batch, epochs):
    return samples * epochs // batch
""",
        "a step is a whole batch: your number has a fraction": """
def my_steps(samples, batch, epochs):
    return samples / batch * epochs
""",
        "these are the steps of one epoch": """
def my_steps(samples, batch, epochs):
    return samples // batch
""",
    },
    "check_epoch_loss": {
        "that is the loss of the last batch, and shows its luck": """
def my_epoch_loss(losses, counts):
    for loss in losses:
        epoch = loss
    return epoch
""",
        "a small batch must not weigh as much as a large one": """
def my_epoch_loss(losses, counts):
    return losses.mean()
""",
        "that is a sum: it would grow with the size of the data set": """
def my_epoch_loss(losses, counts):
    return losses @ counts
""",
        "divide by the number of samples, not of batches": """
def my_epoch_loss(losses, counts):
    return (losses * counts).sum() / len(losses)
""",
    },
    "check_average": {
        "the roles are swapped: your average forgets nearly everything in one step": """
def my_average(average, weights, decay):
    return average + decay * (weights - average)
""",
        "your average grows without end: the two shares must add up to 1": """
def my_average(average, weights, decay):
    return decay * average + weights
""",
        "that weighs old and new alike, whatever decay says": """
def my_average(average, weights, decay):
    return torch.stack([average, weights]).mean(0)
""",
    },
}
