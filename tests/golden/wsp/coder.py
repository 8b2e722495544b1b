"""The range coder and the models of its decisions: docs/format.md, sections 5 to 8."""

import math
import struct


# Section 5.
class RangeDecoder:
    M = (1 << 64) - 1

    def __init__(self, data):
        data = data + bytes(-len(data) % 4)
        self.words = iter(struct.unpack(f"<{len(data) // 4}I", data))
        self.lower, self.range = 0, self.M
        self.point = self.next() << 32 | self.next()

    def next(self):
        return next(self.words, 0)

    def renormalise(self):
        if self.range < 1 << 32:
            self.lower = self.lower << 32 & self.M
            self.range = self.range << 32 & self.M
            self.point = (self.point << 32 | self.next()) & self.M

    def quantile(self):
        scale = self.range >> 16
        quantile = ((self.point - self.lower) & self.M) // scale
        assert quantile < 1 << 16
        return scale, quantile

    def decide(self, p):
        scale, quantile = self.quantile()
        if quantile < p:
            self.range = scale * p
        else:
            self.lower = (self.lower + scale * p) & self.M
            self.range = scale * ((1 << 16) - p)
        self.renormalise()
        return quantile < p

    def uniform(self, k):
        if k > 16:
            high = self.uniform(16)
            return high << (k - 16) | self.uniform(k - 16)
        scale, quantile = self.quantile()
        v = quantile >> (16 - k)
        self.lower = (self.lower + scale * (v << (16 - k))) & self.M
        self.range = scale << (16 - k)
        self.renormalise()
        return v

    def uniform_bit(self):
        return self.uniform(1)


# Section 6.
SQUASH = [round(65536 / (1 + math.exp((16 - k) / 2))) for k in range(33)]
clamp = lambda x, low, high: max(low, min(high, x))


def squash(x):
    i, f = (x + 2048) >> 7, (x + 2048) & 127
    return (SQUASH[i] * (128 - f) + SQUASH[i + 1] * f) >> 7


STRETCH = [next((x for x in range(-2047, 2048) if squash(x) >> 4 >= p), 2047) for p in range(4096)]


class Mixture:
    def __init__(self, nodes, contexts):
        self.kinds = len(contexts)
        self.counters = {}
        self.weights = [[81920 // self.kinds] * self.kinds for _ in range(nodes)]

    def decide(self, coder, node, contexts):
        keys = [(kind, context, node) for kind, context in enumerate(contexts)]
        counters = [self.counters.setdefault(key, [1 << 21, 0]) for key in keys]
        weights = self.weights[node]
        x = [STRETCH[p << 10 >> 20] for p, _ in counters]
        p = squash(clamp(sum(a * b for a, b in zip(x, weights)) >> 16, -2047, 2047))
        b = coder.decide(p)
        e = (65536 if b else 0) - p
        for i, counter in enumerate(counters):
            step = (x[i] * e * 14 + (1 << 19)) >> 20
            weights[i] = clamp(weights[i] + step, -(1 << 20), 1 << 20)
            rate = (1 << 17) // (2 * counter[1] + 3)
            counter[0] += ((((1 << 22) - 1 if b else 0) - counter[0]) * rate) >> 16
            counter[1] = min(counter[1] + 1, 255)
        return int(b)

    def magnitude(self, coder, contexts, origin):
        """A magnitude below 2^24, with 117 nodes."""
        at = origin
        while at < 24 and self.decide(coder, 2 * at, contexts):
            at += 1
        if at == origin:
            while at > 0 and self.decide(coder, 2 * at - 1, contexts):
                at -= 1
        if at < 2:
            return at
        m = 2 | self.decide(coder, 48 + at, contexts)
        if at >= 3:
            m = 2 * m + self.decide(coder, 67 + 2 * at + (m & 1), contexts)
        return m << (at - 3) | coder.uniform(at - 3) if at > 3 else m


# Section 8, levels.
def level(x, origin=0):
    n = x.bit_length()
    return clamp(2 * n + (x >> (n - 2) & 1 if n >= 2 else 0) - 2 * origin, 0, 23)


def fine(x, origin=0):
    n = x.bit_length()
    return clamp(4 * n + (x >> (n - 3) & 3 if n >= 3 else 0) - 4 * origin, 0, 47)


class Mean:
    """Section 7."""

    def __init__(self, value, observations):
        self.v, self.n = value << 16, observations

    @property
    def value(self):
        return self.v >> 16

    def observe(self, target, limit):
        self.v += ((target << 16) - self.v) * ((1 << 17) // (2 * self.n + 3)) >> 16
        self.n = min(self.n + 1, limit)


class Exponents:
    """Section 7."""

    def __init__(self):
        self.magnitudes, self.signs = Mixture(117, [1, 25]), Mixture(1, [1])
        self.mean, self.last = Mean(0, 0), 0

    def decode(self, coder):
        expected = (self.mean.value + 128) >> 8
        m = self.magnitudes.magnitude(coder, [0, self.last], 3)
        negative = m > 0 and self.signs.decide(coder, 0, [0])
        exponent = expected - m if negative else expected + m
        assert 0 <= exponent <= 255
        self.last = m.bit_length()
        self.mean.observe(exponent * 256, 30)
        return exponent


LARGEST = (1 << 20) - 1


class Values:
    """Section 8."""

    def __init__(self):
        self.magnitudes = Mixture(117, [1, 576, 576, 48, 768, 625, 384, 600])
        self.signs = Mixture(1, [27, 32, 512])
        self.filter = [[0] * 24 for _ in range(32)]

    def decode(self, coder, shape, origin, first, count):
        """Values `first` to `first + count - 1` of a tensor."""
        columns, area, width = (shape[0] if shape else 1), 1, 1
        if len(shape) >= 2:
            columns, area = math.prod(shape[1:]), math.prod(shape[2:])
        if len(shape) >= 3:
            width = shape[-1]
        limited = lambda q: clamp(q, -LARGEST, LARGEST)
        short = lambda q: clamp(abs(q).bit_length() + 2 - origin, 0, 4)
        tensor, row = Mean(128 << origin, 4), Mean(128 << origin, 4)
        by_column, by_input, by_position = {}, {}, {}
        out = []
        at = lambda distance: out[-distance] if distance <= len(out) else 0
        for j in range(first, first + count):
            c = j % columns
            k = c % area
            position = min(k, 31)
            if c == 0:
                row = Mean(tensor.value, 4)
            input_mean = by_input.setdefault(c // area % 65536, Mean(tensor.value, 1))
            position_mean = by_position.setdefault(position, Mean(tensor.value, 1))
            start = (input_mean.value + position_mean.value) >> 1
            column_mean = by_column.setdefault(c % 65536, Mean(start, 1))
            t, r, col, i, p = (m.value for m in (tensor, row, column_mean, input_mean, position_mean))

            g = min(k, 24, len(out))
            kernel = [limited(out[-d]) for d in range(1, g + 1)]
            weights = self.filter[position]
            y = sum(q * f for q, f in zip(kernel, weights)) >> 8
            neighbours = [at(1), at(2), at(area) if c >= area else 0, at(width) if k >= width else 0]
            of_kernel = level(sum(256 * abs(q) for q in kernel) // g, origin) if g else 23
            product = min(r * ((col + i) // 2) // max(t, 1), 1 << 28)
            contexts = [
                0,
                24 * level(col, origin) + level(i, origin),
                24 * level(r, origin) + level(i, origin),
                fine(product, origin),
                24 * position + level(p, origin),
                sum(5 ** (3 - n) * short(q) for n, q in enumerate(neighbours)),
                24 * min(abs(y) >> (4 + origin), 15) + level((r + col + i + p) // 4, origin),
                24 * min(k, 24) + of_kernel,
            ]
            m = q = self.magnitudes.magnitude(coder, contexts, origin)
            if m:
                expected = -1 if y < 0 else 1
                z = min((3 * abs(y) * min(m, LARGEST)) >> (4 + 2 * origin), 31)
                left = at(1) if k % width else 0
                agree = lambda q: 1 if q == 0 else 2 if (q < 0) == (expected < 0) else 0
                around = 9 * agree(left) + 3 * agree(neighbours[3]) + agree(neighbours[2])
                opposite = self.signs.decide(coder, 0, [around, z, 16 * position + min(z, 15)])
                q = -expected * m if opposite else expected * m
            out.append(q)
            if g:
                error = clamp((2 * (256 * limited(q) - y)) >> origin, -4095, 4095)
                gain = (200 * error) >> origin
                for d, value in enumerate(kernel):
                    weights[d] = clamp(weights[d] + ((gain * value) >> 8), -(1 << 20), 1 << 20)
            target = 256 * min(m, LARGEST)
            means = [(tensor, 1000), (row, 255), (input_mean, 100), (position_mean, 1000), (column_mean, 20)]
            for mean, limit in means:
                mean.observe(target, limit)
        return out
