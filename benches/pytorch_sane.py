#!/usr/bin/env python3
"""PyTorch's side of pretraining an autoencoder of weights: the same transformer, losses and batch, on windows that are
already in memory, beside `weightspace sane pretrain`, which reads and permutes its windows from the zoo.

    python pytorch_sane.py weightspace ZOO OUT [--preset cnn] [-n 3]

Both with one thread and AdamW, in turns. Processor time of a step: that of a run of more passes less that of a run of one,
so that reading, alignment and imports do not count. One JSON document.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tomllib

TOKENS, LAYERS, PLACES, HEAD = 48, 5, 20, 30


def network(torch, size, window, width, blocks, heads, latent):
    """Encoder, decoder and projection head as in SANE, section 3.2."""
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = (nn.LayerNorm(width, bias=False) for _ in range(2))
            self.queries = nn.Linear(width, 3 * width, bias=False)
            self.projection = nn.Linear(width, width, bias=False)
            self.expand = nn.Linear(width, 4 * width, bias=False)
            self.contract = nn.Linear(4 * width, width, bias=False)

        def forward(self, stream):
            batch = stream.shape[0]
            parts = self.queries(self.norm1(stream)).view(batch, window, 3, heads, width // heads)
            q, k, v = parts.permute(2, 0, 3, 1, 4)
            seen = functional.scaled_dot_product_attention(q, k, v)
            stream = stream + self.projection(seen.transpose(1, 2).reshape(batch, window, width))
            return stream + self.contract(functional.gelu(self.expand(self.norm2(stream))))

    class Autoencoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.tables = nn.ModuleList([nn.Embedding(n, width // 2) for n in (TOKENS, LAYERS, PLACES)])
            sides = [(size, latent), (latent, size)]
            self.inputs = nn.ModuleList([nn.Linear(a, width) for a, _ in sides])
            self.outputs = nn.ModuleList([nn.Linear(width, b) for _, b in sides])
            self.blocks = nn.ModuleList([nn.Sequential(*[Block() for _ in range(blocks)]) for _ in sides])
            self.head = nn.Sequential(
                nn.Linear(window * latent, HEAD), nn.LayerNorm(HEAD, bias=False), nn.ReLU(),
                nn.Linear(HEAD, HEAD), nn.LayerNorm(HEAD, bias=False), nn.ReLU(),
            )  # fmt: skip

        def side(self, index, values, positions):
            return self.outputs[index](self.blocks[index](self.inputs[index](values) + positions))

        def forward(self, tokens, places):
            first, second, third = (table(places[..., i]) for i, table in enumerate(self.tables))
            positions = torch.cat([first + second, third], dim=-1)
            latents = self.side(0, tokens, positions)
            return self.side(1, latents, positions), self.head(latents.flatten(1))

    return Autoencoder()


def contrast(torch, outputs, temperature=0.1):
    rows = torch.nn.functional.normalize(outputs, dim=1)
    alike = rows @ rows.T / temperature
    alike.fill_diagonal_(-1e9)
    partner = torch.arange(len(rows)) ^ 1
    return torch.nn.functional.cross_entropy(alike, partner)


def pytorch_steps(config, steps):
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, window, size = config["model"], config["model"]["window"], config["model"]["tokens"]["size"]
    net = network(torch, size, window, *(model[key] for key in ("width", "blocks", "heads", "latent")))
    count = 2 * config["training"]["batch"]
    tokens = torch.randn(count, window, size)
    mask = (torch.rand(count, window, size) < 0.25).float()
    limits = torch.tensor([TOKENS, LAYERS, PLACES])
    places = (torch.rand(count, window, 3) * limits).long()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        found, head = net(tokens, places)
        error = (mask * (found - tokens).square()).sum() / mask.sum()
        (0.95 * error + 0.05 * contrast(torch, head)).backward()
        optimizer.step()


def processor_time(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("zoo", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--preset", default="cnn")
    parser.add_argument("-n", type=int, default=3)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    pretrain = [options.program, "sane", "pretrain", options.zoo, "--threads", 1, "--quiet"]
    shown = subprocess.run(
        [str(word) for word in [*pretrain, "--preset", options.preset, "--print-config"]],
        check=True, stdout=subprocess.PIPE,
    ).stdout.decode()  # fmt: skip
    config = tomllib.loads(shown)
    if options.steps is not None:
        return pytorch_steps(config, options.steps)
    start = shown.index("[training.optimizer]")
    file = options.out / "config.toml"
    adamw = '[training.optimizer]\nname = "adamw"\nlearning_rate = 1e-4\n\n'
    file.write_text(shown[:start] + adamw + shown[shown.index("[training.schedule]") :])
    ours, theirs = [], []
    for _ in range(options.n):
        seconds, steps = [], []
        for passes in (1, 1 + options.passes):
            command = [*pretrain, "--config", file, "--epochs", passes, "-o", options.out / "run", "-f"]
            seconds.append(processor_time(command))
            lines = (options.out / "run/metrics.jsonl").read_text().splitlines()
            steps.append(json.loads(lines[-1])["step"])
        ours.append((seconds[1] - seconds[0]) / (steps[1] - steps[0]))
        own = [sys.executable, __file__, options.program, options.zoo, options.out, "--preset", options.preset]
        few, many = (processor_time([*own, "--steps", count]) for count in (2, 22))
        theirs.append((many - few) / 20)
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(json.dumps({"preset": options.preset, "weightspace": ours, "pytorch": theirs, "ratio": ratio}))


if __name__ == "__main__":
    main()
