"""Losses and their gradients of PyTorch, in double precision, for the tests of weightspace-nn.

    pip install torch
    python tests/golden/losses/generate.py

Writes losses.json beside this file: for every case the loss's settings, what the outputs are compared
with, the outputs [5, 7], the loss and its gradient with respect to the outputs. All inputs are single
precision numbers. The third sample's logits are large.
"""

import json
import pathlib

import torch
from torch.nn import functional as F

SAMPLES, WIDTH = 5, 7


def random(*shape):
    return torch.randn(*shape, dtype=torch.float32).double()


def unit(features):
    """Feature maps as the reference implementation of NeRN normalises them."""
    return features / (features.norm(dim=1, keepdim=True) + 1e-3)


def cases():
    labels = torch.tensor([3, 0, 6, 6, 2])
    logits, teacher = random(SAMPLES, WIDTH) * 3, random(SAMPLES, WIDTH) * 2
    logits[2] *= 30
    teacher[1] *= 20
    for smoothing in (0.0, 0.1):
        settings = {"labels": labels.tolist(), "label_smoothing": smoothing}
        yield "cross_entropy", settings, logits, lambda x, e=smoothing: F.cross_entropy(x, labels, label_smoothing=e)
    log_probabilities = logits.log_softmax(1).float().double()
    settings = {"labels": labels.tolist()}
    yield "negative_log_likelihood", settings, log_probabilities, lambda x: F.nll_loss(x, labels)

    def divergence(x, temperature):
        x, y = (x / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
        return temperature**2 * F.kl_div(x, y, log_target=True, reduction="batchmean")

    for temperature, alpha in ((1.0, 0.01), (4.0, 1.0)):
        settings = {"teacher": teacher.flatten().tolist(), "temperature": temperature, "alpha": alpha}
        yield "distillation", settings, logits, lambda x, t=temperature, a=alpha: a * divergence(x, t)
    settings = {"teacher": teacher.flatten().tolist(), "temperature": 3.0, "alpha": 0.75, "labels": labels.tolist()}
    yield "distillation", settings, logits, lambda x: 0.75 * divergence(x, 3.0) + 0.25 * F.cross_entropy(x, labels)

    outputs, target = random(SAMPLES, WIDTH), random(SAMPLES, WIDTH)
    mask = (torch.rand(SAMPLES, WIDTH) < 0.6).double()
    settings = {"target": target.flatten().tolist()}
    yield "squared_error", settings, outputs, lambda x: F.mse_loss(x, target)
    settings = settings | {"mask": mask.flatten().tolist()}
    yield "squared_error", settings, outputs, lambda x: (mask * (x - target) ** 2).sum() / mask.sum()
    settings = settings | {"normaliser": 35.0}
    yield "squared_error", settings, outputs, lambda x: (mask * (x - target) ** 2).sum() / 35

    near = (target + 0.01 * outputs).float().double()
    for features in (outputs, near):
        settings = {"target": target.flatten().tolist(), "distance": "squared", "weight": 1.0}
        yield "feature_distillation", settings, features, lambda x: (unit(x) - unit(target)).square().sum(1).mean()
        settings = {"target": target.flatten().tolist(), "distance": "norm", "weight": 0.5}
        yield "feature_distillation", settings, features, lambda x: 0.5 * (unit(x) - unit(target)).norm(dim=1).mean()


def main():
    torch.manual_seed(0)
    described = []
    for name, settings, outputs, loss in cases():
        outputs = outputs.clone().requires_grad_()
        value = loss(outputs)
        value.backward()
        described.append(
            {"loss": name}
            | settings
            | {
                "outputs": outputs.flatten().tolist(),
                "value": value.item(),
                "gradient": outputs.grad.flatten().tolist(),
            }
        )
    lines = ",\n".join(json.dumps(case) for case in described)
    path = pathlib.Path(__file__).parent / "losses.json"
    path.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
