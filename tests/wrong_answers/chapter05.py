"""Chapter 05: for each hint of each exercise an answer, as a learner would write it, that must earn it."""

WRONG = {
    "check_constants": {
        "divided by ω where ε belongs": """
def my_constants(y, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    p, r = alpha - y, theta / omega
    A = omega / (1 + r**p) * p * r ** (p - 1) / epsilon
    return A, theta * A - omega * math.log1p(r**p)
""",
        "A lacks a factor: δ/ε differentiated by δ leaves 1/ε": """
def my_constants(y, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    p, r = alpha - y, theta / epsilon
    A = omega / (1 + r**p) * p * r ** (p - 1)
    return A, theta * A - omega * math.log1p(r**p)
""",
        "the exponent does not depend on the target": """
def my_constants(y, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    r = theta / epsilon
    A = omega / (1 + r**alpha) * alpha * r ** (alpha - 1) / epsilon
    return A, theta * A - omega * math.log1p(r**alpha)
""",
        "A is right; C has the wrong sign": """
def my_constants(y, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    p, r = alpha - y, theta / epsilon
    A = omega / (1 + r**p) * p * r ** (p - 1) / epsilon
    return A, omega * math.log1p(r**p) - theta * A
""",
        "A is right; C lacks the logarithm, so line and curve do not meet at θ": """
def my_constants(y, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    p, r = alpha - y, theta / epsilon
    A = omega / (1 + r**p) * p * r ** (p - 1) / epsilon
    return A, theta * A
""",
        "A lacks a factor: a power p differentiated leaves p": """
def my_constants(y, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    p, r = alpha - y, theta / epsilon
    A = omega / (1 + r**p) * r ** (p - 1) / epsilon
    return A, theta * A - omega * math.log1p(r**p)
""",
        "in A, the power that is left after differentiating is p − 1": """
def my_constants(y, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    p, r = alpha - y, theta / epsilon
    A = omega / (1 + r**p) * p * r**p / epsilon
    return A, theta * A - omega * math.log1p(r**p)
""",
        "A is right; the 1 is in C twice: log1p adds one of its own": """
def my_constants(y, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    p, r = alpha - y, theta / epsilon
    A = omega / (1 + r**p) * p * r ** (p - 1) / epsilon
    return A, theta * A - omega * math.log1p(1 + r**p)
""",
        "A is right; the 1 is missing in C's logarithm": """
def my_constants(y, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    p, r = alpha - y, theta / epsilon
    A = omega / (1 + r**p) * p * r ** (p - 1) / epsilon
    return A, theta * A - omega * math.log(r**p)
""",
        "two numbers are wanted: return A, C": """
def my_constants(y, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    p, r = alpha - y, theta / epsilon
    A = omega / (1 + r**p) * p * r ** (p - 1) / epsilon
    return [A, theta * A - omega * math.log1p(r**p)]
""",
        "A and C are swapped": """
def my_constants(y, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    p, r = alpha - y, theta / epsilon
    A = omega / (1 + r**p) * p * r ** (p - 1) / epsilon
    C = theta * A - omega * math.log1p(r**p)
    return C, A
""",
    },
    "check_awing": {
        "below θ, δ is divided by ω instead of ε: the loss jumps there": """
def my_awing(pred, target, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    delta, p = (target - pred).abs(), alpha - target
    A, C = adaptive_wing_constants(target, alpha, omega, epsilon, theta)
    return torch.where(delta < theta, omega * torch.log1p((delta / omega) ** p), A * delta - C)
""",
        "the curve goes on beyond θ, where the straight line should take over": """
def my_awing(pred, target, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    delta = (target - pred).abs()
    return omega * torch.log(1 + (delta / epsilon) ** (alpha - target))
""",
        "the straight line is used everywhere, below θ too": """
def my_awing(pred, target, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    A, C = adaptive_wing_constants(target, alpha, omega, epsilon, theta)
    return A * (target - pred).abs() - C
""",
        "the exponent is α alone, so peak and background are treated alike": """
def my_awing(pred, target, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    delta = (target - pred).abs()
    A, C = adaptive_wing_constants(torch.zeros_like(target), alpha, omega, epsilon, theta)
    return torch.where(delta < theta, omega * torch.log1p((delta / epsilon) ** alpha), A * delta - C)
""",
        "the exponent has the wrong sign: it is α minus the target": """
def my_awing(pred, target, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    delta, p, r = (target - pred).abs(), target - alpha, theta / epsilon
    A = omega / (1 + r**p) * p * r ** (p - 1) / epsilon
    C = theta * A - omega * torch.log1p(r**p)
    return torch.where(delta < theta, omega * torch.log1p((delta / epsilon) ** p), A * delta - C)
""",
        "the error has kept its sign; answers above the target count differently": """
def my_awing(pred, target, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    delta, p = target - pred, alpha - target
    A, C = adaptive_wing_constants(target, alpha, omega, epsilon, theta)
    return torch.where(delta < theta, omega * torch.log1p((delta / epsilon) ** p), A * delta - C)
""",
        "the error has kept its sign; answers below the target count differently": """
def my_awing(pred, target, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    delta, p = pred - target, alpha - target
    A, C = adaptive_wing_constants(target, alpha, omega, epsilon, theta)
    return torch.where(delta < theta, omega * torch.log1p((delta / epsilon) ** p), A * delta - C)
""",
        "with other α, ω, ε and θ it is wrong: use the arguments": """
def my_awing(pred, target, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    delta = (target - pred).abs()
    A, C = adaptive_wing_constants(target, 2.1, 14.0, 1.0, 0.5)
    return torch.where(delta < 0.5, 14 * torch.log1p(delta ** (2.1 - target)), A * delta - C)
""",
        "with another ε it is wrong: both δ and θ are divided by it": """
def my_awing(pred, target, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    delta, p = (target - pred).abs(), alpha - target
    A = omega / (1 + theta**p) * p * theta ** (p - 1)
    C = theta * A - omega * torch.log1p(theta**p)
    return torch.where(delta < theta, omega * torch.log1p(delta**p), A * delta - C)
""",
        "C is added where it should be subtracted": """
def my_awing(pred, target, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    delta, p = (target - pred).abs(), alpha - target
    A, C = adaptive_wing_constants(target, alpha, omega, epsilon, theta)
    return torch.where(delta < theta, omega * torch.log1p((delta / epsilon) ** p), A * delta + C)
""",
        "each pixel's loss is wanted, not their mean": """
def my_awing(pred, target, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    return AdaptiveWingLoss(alpha, omega, epsilon, theta)(pred, target)
""",
    },
    "check_weights": {
        "the dilation is missing: the rim around the peak counts as well": """
def my_weights(target, w=10.0):
    return 1 + w * (target > 0.2)
""",
        "the map has shrunk: the 3×3 window needs a padding of 1": """
def my_weights(target, w=10.0):
    return 1 + w * (max_pool2d(target, kernel_size=3, stride=1) > 0.2)
""",
        "near a peak a pixel counts w + 1 times, not w": """
def my_weights(target, w=10.0):
    near = max_pool2d(target, kernel_size=3, stride=1, padding=1) > 0.2
    return torch.where(near, w, 1.0)
""",
        "far from any peak a pixel counts 0 times; it should count once": """
def my_weights(target, w=10.0):
    return w * (max_pool2d(target, kernel_size=3, stride=1, padding=1) > 0.2)
""",
        "the window is wider than 3×3": """
def my_weights(target, w=10.0):
    return 1 + w * (max_pool2d(target, kernel_size=5, stride=1, padding=2) > 0.2)
""",
        "that is a minimum over the window, so the peak shrinks instead of growing": """
def my_weights(target, w=10.0):
    far = max_pool2d((target <= 0.2).float(), kernel_size=3, stride=1, padding=1)
    return 1 + w * (1 - far)
""",
        "you use the dilated target itself as the weight; ask where it exceeds 0.2": """
def my_weights(target, w=10.0):
    return 1 + w * max_pool2d(target, kernel_size=3, stride=1, padding=1)
""",
        "it does not depend on w": """
def my_weights(target, w=10.0):
    return 1 + 10 * (max_pool2d(target, kernel_size=3, stride=1, padding=1) > 0.2)
""",
    },
    "check_mean": {
        "the mask is ignored": """
def my_mean(values, visible):
    return values.mean()
""",
        "hidden maps are out of the sum, but still in the number of pixels": """
def my_mean(values, visible):
    return (values * visible[:, :, None, None]).mean()
""",
        "divided by the number of maps, not of their pixels": """
def my_mean(values, visible):
    return (values * visible[:, :, None, None]).sum() / visible.sum()
""",
        "the mask is upside down: these are the maps to leave out": """
def my_mean(values, visible):
    return values.masked_select(~visible[:, :, None, None]).mean()
""",
        "one number for each map is left; take their mean too": """
def my_mean(values, visible):
    return values[visible].mean(dim=(1, 2))
""",
        "averaged over each hand first, so a hand with few visible keypoints counts too much": """
def my_mean(values, visible):
    hands = [one[seen].mean() for one, seen in zip(values, visible)]
    return torch.stack(hands).mean()
""",
    },
}
