"""Networks in PyTorch that scripts share, with the module names of weightspace's architectures.

The CIFAR ResNets are in pytorch_eval.py.
"""

import torch
from torch import nn
from torch.nn import functional


class LeNet(nn.Module):
    """`lenet-mnist`: two 5x5 convolutions, each halved by a maximum, and three linear layers."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 4 * 4, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.fc1(x.flatten(1)))
        return self.fc3(functional.relu(self.fc2(x)))


def attention(stacked, heads):
    """Softmax attention without mask of [..., length, 3 d]: queries, keys, values; gives [..., d].

    Each of the three is `heads` consecutive slices.
    """
    queries, keys, values = (
        part.unflatten(-1, (heads, -1)).transpose(-3, -2) for part in stacked.chunk(3, -1)
    )
    mixed = functional.scaled_dot_product_attention(queries, keys, values)
    return mixed.transpose(-3, -2).flatten(-2)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width, bias=False)
        self.c_proj = nn.Linear(width, width, bias=False)

    def forward(self, x):
        return self.c_proj(attention(self.c_attn(x), self.heads))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width, bias=False)
        self.c_proj = nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        return self.c_proj(functional.gelu(self.c_fc(x)))


class Block(nn.Module):
    """Pre-norm transformer block: the norms have a scale only, no linear layer has a bias."""

    def __init__(self, width, heads):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, bias=False)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width, bias=False)
        self.mlp = Mlp(width)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of blocks, without embeddings and without a last norm."""

    def __init__(self, width, heads, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class WeightAutoencoder(nn.Module):
    """The transformer autoencoder of SANE (Schürholt et al. 2024) over tokens of weights.

    Without the projection head of its contrastive loss (token 289, width 1024, 8 blocks, latent
    128, positions 100, 10, 40: 202,292,641 parameters; the published 202,539,421 include the
    head's 246,780). `positions` [..., 3] are a token's index
    in the model, its layer and its index in the layer; encoder and decoder share their tables.
    """

    def __init__(self, token, width, heads, blocks, latent, positions):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(count, width // 2) for count in positions)
        self.encoder_in = nn.Linear(token, width)
        self.encoder = Transformer(width, heads, blocks)
        self.encoder_out = nn.Linear(width, latent)
        self.decoder_in = nn.Linear(latent, width)
        self.decoder = Transformer(width, heads, blocks)
        self.decoder_out = nn.Linear(width, token)

    def forward(self, tokens, positions):
        model, layer, within = (table(i) for table, i in zip(self.tables, positions.unbind(-1)))
        position = torch.cat((model + layer, within), -1)
        latent = self.encoder_out(self.encoder(self.encoder_in(tokens) + position))
        return self.decoder_out(self.decoder(self.decoder_in(latent) + position))
