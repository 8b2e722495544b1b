"""Writes what PyTorch's optimisers, schedules, clipping and averages do, step by step.

    pip install torch safetensors numpy
    python tests/golden/optim/generate.py tests/golden/optim

`optim.safetensors` has the weights before the first step (`weights`, [N]), the gradients of every step
(`gradients`, [STEPS, N]) and per case the weights after every step (`CASE`, [STEPS, N]; with clipping also
`CASE.norms`, [STEPS]; with an average `CASE.average`, [STEPS, N]). `optim.json` has the shapes, the settings
of every case as `OptimizerConfig` reads them, and the values of the schedules.

Lookahead (Zhang et al. 2019) and gradient centralisation (Yong et al. 2020) are not in PyTorch: they are
written here from their papers. Muon's Newton-Schulz iteration runs in f32 here, not in bfloat16.
"""

import json
import sys
from pathlib import Path

import numpy
import torch
from safetensors.numpy import save_file
from torch.optim import lr_scheduler, swa_utils

STEPS = 30
SHAPES = {"conv": [3, 2, 2, 2], "tall": [6, 2], "wide": [3, 5], "bias": [4]}

CASES = {
    "sgd": {"optimizer": {"name": "sgd", "learning_rate": 0.1}},
    "sgd-decay": {"optimizer": {"name": "sgd", "learning_rate": 0.1, "weight_decay": 0.02}},
    "sgd-momentum": {"optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}},
    "sgd-dampening": {
        "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.8, "dampening": 0.3}
    },
    "sgd-nesterov-decay-average": {
        "optimizer": {
            "name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01
        },
        "vectors_decay": False,
        "average": 0.9,
    },
    "sgd-one-cycle-clip": {
        "optimizer": {"name": "sgd", "learning_rate": 0.2, "momentum": 0.9, "weight_decay": 5e-3},
        "schedule": {"name": "one-cycle", "momentum": {"lowest": 0.85, "highest": 0.95}},
        "clip": 1.5,
    },
    "sgd-lookahead": {
        "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9},
        "lookahead": {"steps": 5, "alpha": 0.8},
    },
    "sgd-centralised": {
        "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.01},
        "centralise": True,
    },
    "adam": {"optimizer": {"name": "adam", "learning_rate": 0.01}},
    "adam-decay": {
        "optimizer": {
            "name": "adam", "learning_rate": 0.02, "betas": [0.5, 0.99], "epsilon": 1e-5, "weight_decay": 0.1
        }
    },
    "adam-one-cycle": {
        "optimizer": {"name": "adam", "learning_rate": 0.05},
        "schedule": {"name": "one-cycle", "momentum": {"lowest": 0.85, "highest": 0.95}},
    },
    "adamw": {"optimizer": {"name": "adamw", "learning_rate": 0.01}},
    "adamw-decay-scaled-clip": {
        "optimizer": {"name": "adamw", "learning_rate": 0.02, "weight_decay": 0.3},
        "learning_rate_scales": [1.0, 0.25, 2.0, 0.5],
        "vectors_decay": False,
        "clip": 0.5,
    },
    "radam": {"optimizer": {"name": "radam", "learning_rate": 0.02}},
    "radam-decay": {
        "optimizer": {"name": "radam", "learning_rate": 0.02, "betas": [0.8, 0.95], "weight_decay": 0.05}
    },
    "radam-decoupled": {
        "optimizer": {
            "name": "radam", "learning_rate": 0.02, "weight_decay": 0.2, "decoupled_weight_decay": True
        }
    },
    "ranger": {"optimizer": {"name": "ranger", "learning_rate": 0.02, "weight_decay": 0.1}},
    "muon": {"optimizer": {"name": "muon", "learning_rate": 0.02}},
    "muon-match-rms-adamw": {
        "optimizer": {
            "name": "muon", "learning_rate": 0.01, "momentum": 0.9, "nesterov": False, "weight_decay": 0.05,
            "scale": "match-rms-adamw", "adamw": {"learning_rate": 0.03, "weight_decay": 0.1},
        }
    },
}

SCHEDULES = [
    ({"name": "constant"}, 100, 10),
    ({"name": "constant", "warmup": {"length": {"epochs": 2}, "start_factor": 0.25}}, 50, 10),
    ({"name": "step", "every": {"epochs": 3}, "gamma": 0.5}, 100, 10),
    ({"name": "step", "every": {"steps": 7}, "gamma": 0.9}, 100, 10),
    ({"name": "multi-step", "milestones": {"epochs": [3, 7, 9]}, "gamma": 0.1}, 100, 10),
    ({"name": "multi-step", "milestones": {"steps": [13, 14, 60]}}, 100, 10),
    ({"name": "cosine"}, 77, 10),
    ({"name": "cosine", "minimum": 1e-6}, 100, 10),
    ({"name": "cosine", "minimum": 1e-3, "warmup": {"length": {"steps": 12}}}, 100, 10),
    ({"name": "one-cycle"}, 100, 10),
    ({"name": "one-cycle", "anneal": "linear", "rise": 0.25, "divisor": 10, "final_divisor": 100}, 83, 10),
    ({"name": "one-cycle", "rise": 0.4, "momentum": {"lowest": 0.8, "highest": 0.9}}, 50, 10),
]


def zeroth_power_f32(gradient, coefficients, steps, epsilon):
    """What torch.optim.Muon does in bfloat16, in f32."""
    a, b, c = coefficients
    x = gradient.T if gradient.size(0) > gradient.size(1) else gradient
    x = x / x.norm().clamp(min=epsilon)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if gradient.size(0) > gradient.size(1) else x


class Lookahead:
    """After every k steps the slow weights move by alpha towards the fast ones, which then start from there."""

    def __init__(self, parameters, steps, alpha):
        self.parameters, self.steps, self.alpha = parameters, steps, alpha
        self.slow = [p.detach().clone() for p in parameters]
        self.count = 0

    @torch.no_grad()
    def step(self):
        self.count += 1
        if self.count % self.steps == 0:
            for parameter, slow in zip(self.parameters, self.slow):
                slow += self.alpha * (parameter - slow)
                parameter.copy_(slow)


def centralised(gradient):
    """Every output unit's gradient without its mean; vectors stay as they are."""
    if gradient.dim() < 2:
        return gradient
    return gradient - gradient.mean(dim=tuple(range(1, gradient.dim())), keepdim=True)


def optimisers(settings, parameters, case):
    """PyTorch's optimisers for one case; two for Muon, of which the second takes the vectors."""
    settings = dict(settings)
    name, rate = settings.pop("name"), settings.pop("learning_rate")
    if "epsilon" in settings:
        settings["eps"] = settings.pop("epsilon")
    scales = case.get("learning_rate_scales", [1.0] * len(parameters))
    groups = []
    for parameter, scale in zip(parameters, scales):
        group = {"params": [parameter], "lr": rate * scale}
        if not case.get("vectors_decay", True) and parameter.dim() < 2:
            group["weight_decay"] = 0.0
        groups.append(group)
    common = {"lr": rate, **settings, "foreach": False}
    if name == "ranger":
        ranger = {"betas": (0.5, 0.999), "eps": 1e-5, "decoupled_weight_decay": True, **common}
        return [torch.optim.RAdam(groups, **ranger)]
    if name == "muon":
        scale = common.pop("scale", "original").replace("-", "_")
        adamw = {"learning_rate": 1e-3, "weight_decay": 1e-2, **common.pop("adamw", {})}
        del common["foreach"]
        matrices = [p for p in parameters if p.dim() >= 2]
        vectors = [p for p in parameters if p.dim() < 2]
        return [
            torch.optim.Muon(matrices, adjust_lr_fn=scale, **common),
            torch.optim.AdamW(vectors, lr=adamw["learning_rate"], weight_decay=adamw["weight_decay"]),
        ]
    kind = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "radam": "RAdam"}[name]
    return [getattr(torch.optim, kind)(groups, **common)]


def one_cycle(optimiser, settings, rate, total):
    momentum = settings.get("momentum")
    return lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=total, pct_start=settings.get("rise", 0.3),
        anneal_strategy={"cosine": "cos", "linear": "linear"}[settings.get("anneal", "cosine")],
        div_factor=settings.get("divisor", 25.0), final_div_factor=settings.get("final_divisor", 1e4),
        cycle_momentum=momentum is not None,
        base_momentum=momentum["lowest"] if momentum else 0.85,
        max_momentum=momentum["highest"] if momentum else 0.95,
    )


def flat(parameters):
    return torch.cat([p.detach().reshape(-1) for p in parameters]).numpy().copy()


def run(case, weights, gradients):
    """The tensors of one case, by what follows its name."""
    muon = case["optimizer"]["name"] == "muon"
    parameters, offset = [], 0
    for shape in SHAPES.values():
        count = int(numpy.prod(shape))
        # Muon takes matrices only: a convolution's filters become [out, rest].
        view = [shape[0], count // shape[0]] if muon and len(shape) > 1 else shape
        values = torch.tensor(weights[offset : offset + count]).reshape(view)
        parameters.append(torch.nn.Parameter(values.clone()))
        offset += count
    used = optimisers(case["optimizer"], parameters, case)
    schedule = None
    if "schedule" in case:
        schedule = one_cycle(used[0], case["schedule"], case["optimizer"]["learning_rate"], STEPS)
    ranger = case["optimizer"]["name"] == "ranger"
    lookahead = {"steps": 6, "alpha": 0.5} if ranger else case.get("lookahead")
    lookahead = lookahead and Lookahead(parameters, **lookahead)
    holder = torch.nn.ParameterList(parameters)
    average = "average" in case and swa_utils.AveragedModel(
        holder, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(case["average"])
    )
    result = {"": [], ".norms": [], ".average": []}
    for gradient in gradients:
        offset = 0
        for parameter in parameters:
            values = torch.tensor(gradient[offset : offset + parameter.numel()])
            parameter.grad = values.reshape(parameter.shape).clone()
            offset += parameter.numel()
        if "clip" in case:
            result[".norms"].append(torch.nn.utils.clip_grad_norm_(parameters, case["clip"]).item())
        if ranger or case.get("centralise"):
            for parameter in parameters:
                parameter.grad = centralised(parameter.grad)
        for optimiser in used:
            optimiser.step()
        if lookahead:
            lookahead.step()
        if schedule:
            schedule.step() if len(result[""]) + 1 < STEPS else None
        if average:
            average.update_parameters(holder)
            result[".average"].append(flat(average.module.parameters()))
        result[""].append(flat(parameters))
    return {key: numpy.array(rows, dtype=numpy.float32) for key, rows in result.items() if rows}


def schedule_values(settings, total, steps_per_epoch, rate=0.3):
    """The learning rate (and momentum) of every step."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate, momentum=0.9)

    def steps(unit):
        [(name, length)] = unit.items()
        factor = steps_per_epoch if name == "epochs" else 1
        return [v * factor for v in length] if isinstance(length, list) else length * factor

    name, gamma = settings["name"], settings.get("gamma", 0.1)
    warmup = settings.get("warmup")
    rise = steps(warmup["length"]) if warmup else 0
    if name == "constant":
        schedule = lr_scheduler.ConstantLR(optimiser, 1.0)
    elif name == "step":
        schedule = lr_scheduler.StepLR(optimiser, steps(settings["every"]), gamma)
    elif name == "multi-step":
        schedule = lr_scheduler.MultiStepLR(optimiser, steps(settings["milestones"]), gamma)
    elif name == "cosine":
        schedule = lr_scheduler.CosineAnnealingLR(optimiser, total - rise, settings.get("minimum", 0.0))
    else:
        schedule = one_cycle(optimiser, settings, rate, total)
    if warmup:
        start = warmup.get("start_factor", 0.01)
        linear = lr_scheduler.LinearLR(optimiser, start_factor=start, total_iters=rise)
        schedule = lr_scheduler.SequentialLR(optimiser, [linear, schedule], [rise])
    rates, momenta = [], []
    for step in range(total):
        rates.append(optimiser.param_groups[0]["lr"])
        momenta.append(optimiser.param_groups[0]["momentum"])
        optimiser.step()
        if step + 1 < total:
            schedule.step()
    result = {
        "schedule": settings, "base": rate, "total_steps": total, "steps_per_epoch": steps_per_epoch,
        "learning_rates": rates,
    }
    return {**result, "momenta": momenta} if "momentum" in settings else result


def main() -> None:
    target = Path(sys.argv[1])
    torch.optim._muon._zeropower_via_newtonschulz = zeroth_power_f32
    generator = numpy.random.default_rng(20)
    count = sum(int(numpy.prod(shape)) for shape in SHAPES.values())
    weights = generator.normal(0, 0.5, count).astype(numpy.float32)
    gradients = generator.normal(0, 0.3, (STEPS, count)) * generator.uniform(0.1, 1.5, (STEPS, 1))
    # One value that never has a gradient, one that is almost nothing.
    gradients[:, 1] = 0
    gradients[:, 2] *= 1e-7
    gradients = gradients.astype(numpy.float32)
    tensors = {"weights": weights, "gradients": gradients}
    for name, case in CASES.items():
        tensors.update({name + key: rows for key, rows in run(case, weights, gradients).items()})
    save_file(tensors, target / "optim.safetensors")
    cases = [{"name": name, **case} for name, case in CASES.items()]
    schedules = [schedule_values(*each) for each in SCHEDULES]
    document = {"shapes": list(SHAPES.items()), "cases": cases, "schedules": schedules}
    (target / "optim.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
