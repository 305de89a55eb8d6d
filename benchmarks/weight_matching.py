"""Weight matching beside the coordinate descent of 2022, written down as published; one thread, CPU seconds.

    python benchmarks/weight_matching.py --quick      # widths 512 and 1024, a minute
    python benchmarks/weight_matching.py              # and 4096, about ten minutes
    python benchmarks/weight_matching.py --recovery   # planted permutations where no axis is fixed
    python benchmarks/weight_matching.py --digits     # objective on trained networks, beside Frank-Wolfe
    python benchmarks/weight_matching.py --peers      # beside rebasin and sinkhorn-rebasin, where they are installed

Pairs are MLPs with 64 inputs, 10 outputs and three or four hidden layers: *independent* random networks (hard), or
one network and a permuted copy with 10 % noise (*planted*, easy). The published algorithm computes each cost matrix
anew from all its tensors, solves with scipy, and stops after a whole sweep without progress. Columns:

- published: its CPU seconds; ours: those of ``WeightMatching(identity)``, same start, same order of the layers;
- objective: inner product of the hidden layers' weights after both, ours divided by theirs;
- same: CPU seconds with ``incremental=False``, and whether it ends in the same permutations, entry by entry;
- chained: CPU seconds and relative objective of the default start, from the fixed axes on;
- peak: largest memory of the process beyond the two networks, in MB.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import io
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment

from symfield.weightspace import (
    FrankWolfe,
    ParameterSymmetry,
    Permutation,
    WeightMatching,
    align,
    from_axes,
    identity,
    sorted_entries,
)

Params = dict[str, torch.Tensor]


def shapes(width: int, hidden: int, inputs: int = 64, outputs: int = 10) -> dict[str, tuple[int, ...]]:
    sizes = [inputs, *[width] * hidden, outputs]
    return {
        name: shape
        for k in range(hidden + 1)
        for name, shape in ((f"{k}.weight", (sizes[k + 1], sizes[k])), (f"{k}.bias", (sizes[k + 1],)))
    }


def mlp_symmetry(width: int, hidden: int) -> ParameterSymmetry:
    names: list[str | None] = [None, *[f"P{k}" for k in range(hidden)], None]
    axes = {f"{k}.weight": (names[k + 1], names[k]) for k in range(hidden + 1)}
    axes |= {f"{k}.bias": (names[k + 1],) for k in range(hidden + 1)}
    return from_axes(axes, shapes(width, hidden))


def network(width: int, hidden: int, generator: torch.Generator) -> Params:
    drawn = {}
    for name, shape in shapes(width, hidden).items():
        bound = shape[-1] ** -0.5 if len(shape) == 2 else 0.1
        drawn[name] = bound * (2 * torch.rand(shape, generator=generator) - 1)
    return drawn


def published(a: Params, b: Params, symmetry: ParameterSymmetry, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Algorithm 1 of Git Re-Basin as its PyTorch version has it."""
    spaces = {f.name: f.size for f in symmetry.factors if isinstance(f, Permutation)}
    moves = {
        tensor: [axis.moves[0].factor if axis.moves else None for axis in axes]
        for tensor, axes in symmetry.layouts.items()
    }
    perms = {name: torch.arange(n) for name, n in spaces.items()}
    names = list(spaces)

    def permuted(tensor: str, skip: int) -> torch.Tensor:
        w = b[tensor]
        for axis, name in enumerate(moves[tensor]):
            if name and axis != skip:
                w = w.index_select(axis, perms[name])
        return w

    while True:
        progress = False
        for i in torch.randperm(len(names), generator=generator).tolist():
            name, n = names[i], spaces[names[i]]
            scores = torch.zeros(n, n)
            for tensor, axes in moves.items():
                for axis, moved in enumerate(axes):
                    if moved == name:
                        w_a = a[tensor].movedim(axis, 0).reshape(n, -1)
                        scores += w_a @ permuted(tensor, axis).movedim(axis, 0).reshape(n, -1).T
            columns = torch.as_tensor(linear_sum_assignment(scores.numpy(), maximize=True)[1])
            before = torch.einsum("ij,ij->i", scores, torch.eye(n)[perms[name]]).sum()
            after = torch.einsum("ij,ij->i", scores, torch.eye(n)[columns]).sum()
            perms[name] = columns
            progress = progress or bool(after > before + 1e-12)
        if not progress:
            return perms


class Peak:
    """Largest resident memory while a block runs, above what it was, sampled every few milliseconds."""

    def __enter__(self) -> Peak:
        gc.collect()
        self.base, self.most, self.over = self.now(), 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    @staticmethod
    def now() -> int:
        """Resident memory in bytes; 0 where it is not known."""
        try:
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
        except OSError:
            return 0

    def watch(self) -> None:
        """Keep the largest memory seen."""
        while not self.over.wait(0.005):
            self.most = max(self.most, self.now() - self.base)

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def timed(run: Callable[[], object]) -> tuple[object, float, float]:
    with Peak() as peak:
        start = time.process_time()
        result = run()
        seconds = time.process_time() - start
    return result, seconds, peak.most / 1e6


def speed(widths: list[int], hiddens: list[int], seeds: int, same: int) -> None:
    print("kind         width  h  published    ours  faster  objective   same (equal)  chained  objective  peak MB")
    for kind in ("independent", "planted"):
        for width in widths:
            for hidden in hiddens:
                for seed in range(1 if width >= 2048 else seeds):
                    row(kind, width, hidden, seed, width <= same)


def row(kind: str, width: int, hidden: int, seed: int, compare: bool) -> None:
    def order() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    draw = torch.Generator().manual_seed(100 + seed)
    symmetry = mlp_symmetry(width, hidden)
    a = network(width, hidden, draw)
    if kind == "independent":
        b = network(width, hidden, draw)
    else:
        b = symmetry.apply(a, symmetry.random_element(generator=draw))
        b = {name: t + 0.1 * t.std() * torch.randn(t.shape, generator=draw) for name, t in b.items()}
    theirs, seconds, peak = timed(lambda: published(a, b, symmetry, order()))
    target = align(a, b, symmetry, method=lambda _: identity(_)._replace(element=theirs)).after.inner
    ours, mine, own = timed(lambda: align(a, b, symmetry, method=WeightMatching(identity, generator=order())))
    chained, third, _ = timed(lambda: align(a, b, symmetry))
    text = ""
    if compare:
        exact = WeightMatching(identity, generator=order(), incremental=False)
        twin, again, _ = timed(lambda: align(a, b, symmetry, method=exact))
        equal = all(torch.equal(twin.element[name], theirs[name]) for name in theirs)
        text = f"{again:7.2f} ({'yes' if equal else 'no'})"
    print(
        f"{kind:11s} {width:6d} {hidden:2d} {seconds:10.3f} {mine:7.3f} {seconds / mine:6.1f}x "
        f"{ours.after.inner / target:10.4f} {text:>14s} {third:8.3f} {chained.after.inner / target:10.4f}"
        f"  {peak:.0f} / {own:.0f}",
        flush=True,
    )


def trunk(d: int, h: int, blocks: int = 2) -> ParameterSymmetry:
    """A residual trunk all of whose axes may be permuted: x + down relu(up x + bias)."""
    axes: dict[str, tuple[str, ...]] = {}
    sizes: dict[str, tuple[int, ...]] = {}
    for k in range(blocks):
        axes |= {f"{k}.up": (f"H{k}", "D"), f"{k}.bias": (f"H{k}",), f"{k}.down": ("D", f"H{k}")}
        sizes |= {f"{k}.up": (h, d), f"{k}.bias": (h,), f"{k}.down": (d, h)}
    return from_axes(axes, sizes)


def recovery(trials: int) -> None:
    print("planted permutations of a trunk without a fixed axis: recovered / trials, CPU seconds each")
    print("   d    h  noise   identity start    sorted entries")
    for d in (16, 64, 256):
        symmetry = trunk(d, 2 * d)
        for noise in (0.0, 0.1, 0.3):
            found, spent = [0, 0], [0.0, 0.0]
            for trial in range(trials):
                draw = torch.Generator().manual_seed(trial)
                a = {name: torch.randn(s, generator=draw) / s[-1] ** 0.5 for name, s in symmetry.shapes.items()}
                element = symmetry.random_element(generator=draw)
                b = symmetry.apply(a, element)
                b = {name: t + noise * t.std() * torch.randn(t.shape, generator=draw) for name, t in b.items()}
                back = symmetry.invert(element)
                for k, start in enumerate((identity, sorted_entries)):
                    result, seconds, _ = timed(partial(align, a, b, symmetry, method=WeightMatching(start)))
                    spent[k] += seconds / trials
                    found[k] += all(torch.equal(result.element[name], back[name]) for name in back)
            cells = [f"{n:3d}/{trials} {s:7.3f} s" for n, s in zip(found, spent, strict=True)]
            print(f"{d:4d} {2 * d:4d} {noise:6.1f}   {cells[0]:>15s}   {cells[1]:>15s}", flush=True)


def train(width: int, seed: int, epochs: int, x: torch.Tensor, y: torch.Tensor) -> torch.nn.Sequential:
    draw = torch.Generator().manual_seed(seed)
    layers: list[torch.nn.Module] = []
    for k, (o, i) in enumerate(((width, 64), (width, width), (width, width), (10, width))):
        layer = torch.nn.Linear(i, o)
        with torch.no_grad():
            layer.weight.copy_((2 * torch.rand(o, i, generator=draw) - 1) * i**-0.5)
            layer.bias.copy_((2 * torch.rand(o, generator=draw) - 1) * i**-0.5)
        layers += [layer] if k == 3 else [layer, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(x), generator=draw).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    return model


def digits(width: int, epochs: int) -> None:
    from sklearn.datasets import load_digits

    from symfield.weightspace import ActivationMatching

    data = load_digits()
    x = torch.tensor(data.data, dtype=torch.float32) / 16
    y = torch.tensor(data.target)
    x, y = x[:1297], y[:1297]
    models = [train(width, seed, epochs, x, y) for seed in range(3)]
    axes = {f"{2 * k}.weight": (f"P{k}" if k < 3 else None, f"P{k - 1}" if k else None) for k in range(4)}
    axes |= {f"{2 * k}.bias": (f"P{k}" if k < 3 else None,) for k in range(4)}
    states = [{name: t.detach() for name, t in m.state_dict().items()} for m in models]
    symmetry = from_axes(axes, {name: tuple(t.shape) for name, t in states[0].items()})
    methods = {
        "identity start": lambda i, j: WeightMatching(identity),
        "chained start": lambda i, j: WeightMatching(),
        "sorted entries": lambda i, j: WeightMatching(sorted_entries),
        "activation start": lambda i, j: WeightMatching(ActivationMatching(models[i], models[j], x)),
        "Frank-Wolfe, 4 steps": lambda i, j: FrankWolfe(iterations=4),
        "Frank-Wolfe": lambda i, j: FrankWolfe(),
        "Frank-Wolfe, half the identity": lambda i, j: FrankWolfe(identity, spread=0.5),
        "Frank-Wolfe from activations": lambda i, j: FrankWolfe(ActivationMatching(models[i], models[j], x)),
    }
    print(f"objective ⟨a, P b⟩ on digits, width {width}, mean of three pairs; CPU seconds of a pair, best of 5")
    for name, method in methods.items():
        value = spent = 0.0
        for i, j in ((0, 1), (0, 2), (1, 2)):
            run = partial(align, states[i], states[j], symmetry)
            tries = [timed(lambda i=i, j=j, m=method, run=run: run(method=m(i, j)))[:2] for _ in range(5)]
            value, spent = value + tries[0][0].after.inner / 3, spent + min(t for _, t in tries) / 3
        print(f"{name:30s} {value:9.3f} {spent:8.3f} s", flush=True)


def modules(width: int, hidden: int, params: Params) -> torch.nn.Sequential:
    """The MLP of :func:`shapes` as a module, which is what the peers take."""
    sizes = [64, *[width] * hidden, 10]
    layers: list[torch.nn.Module] = []
    for k in range(hidden + 1):
        layers += [torch.nn.Linear(sizes[k], sizes[k + 1])] + [torch.nn.ReLU()] * (k < hidden)
    model = torch.nn.Sequential(*layers)
    model.load_state_dict({f"{2 * int(name.split('.')[0])}.{name.split('.')[1]}": t for name, t in params.items()})
    return model


def by_rebasin(model_a: torch.nn.Module, model_b: torch.nn.Module, x: torch.Tensor) -> torch.nn.Module:
    """Coordinate descent of ``rebasin`` on two modules."""
    from rebasin import PermutationCoordinateDescent

    descent = PermutationCoordinateDescent(model_a, model_b, x)
    descent.rebasin()
    return model_b


def by_sinkhorn(model_a: torch.nn.Module, model_b: torch.nn.Module, x: torch.Tensor) -> torch.nn.Module:
    """``sinkhorn-rebasin`` with its L2 loss: 60 steps of Adam, rate 1, at which it does best here."""
    from rebasin.loss import DistL2Loss
    from rebasin.rebasinnet.symmnet import RebasinNet

    net = RebasinNet(model_b, x.shape)
    net.train()
    loss = DistL2Loss(model_a)
    optimizer = torch.optim.Adam(net.p.parameters(), lr=1.0)
    for _ in range(60):
        optimizer.zero_grad()
        loss(net()).backward()
        optimizer.step()
    net.eval()
    return net()


PEERS = {
    "rebasin": (by_rebasin, "rebasin.permutation_initializer"),
    "sinkhorn-rebasin": (by_sinkhorn, "rebasin.rebasinnet"),
}


def peers(widths: list[int], seeds: int) -> None:
    """Objective and time of pip-installable tools beside ours, three hidden layers; their tracing counts, ours not."""
    print("kind          width  tool                 objective        CPU s")
    for kind in ("independent", "planted"):
        for width in widths:
            found: dict[str, list[tuple[float, float]]] = {}
            for seed in range(seeds):
                draw = torch.Generator().manual_seed(100 + seed)
                symmetry = mlp_symmetry(width, 3)
                a = network(width, 3, draw)
                if kind == "independent":
                    b = network(width, 3, draw)
                else:
                    b = symmetry.apply(a, symmetry.random_element(generator=draw))
                    b = {name: t + 0.1 * t.std() * torch.randn(t.shape, generator=draw) for name, t in b.items()}
                for name, method in (("ours", None), ("ours, 2022 order", WeightMatching(identity))):
                    result, seconds, _ = timed(partial(align, a, b, symmetry, method=method))
                    found.setdefault(name, []).append((result.after.inner, seconds))
                for name, (run, module) in PEERS.items():
                    if not installed(module):
                        continue
                    pair = [modules(width, 3, side) for side in (a, b)]
                    moved, seconds, _ = timed(partial(quiet, run, *pair, torch.randn(2, 64, generator=draw)))
                    inner = sum(
                        float((p * q).sum())
                        for p, q in zip(modules(width, 3, a).parameters(), moved.parameters(), strict=True)
                    )
                    found.setdefault(name, []).append((inner, seconds))
            for name, rows in found.items():
                inner, seconds = (sum(column) / len(rows) for column in zip(*rows, strict=True))
                print(f"{kind:11s} {width:6d}  {name:18s} {inner:11.3f} {seconds:12.3f}", flush=True)
    for name, (_, module) in PEERS.items():
        if not installed(module):
            print(f"skipped: {name} is not installed; pip install {name}")


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def quiet(run: Callable[..., torch.nn.Module], *args: object) -> torch.nn.Module:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return run(*args)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="widths 512 and 1024 alone")
    parser.add_argument("--recovery", action="store_true", help="planted permutations without a fixed axis")
    parser.add_argument("--digits", action="store_true", help="trained networks")
    parser.add_argument("--peers", action="store_true", help="tools from the package index, where installed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--widths", type=int, nargs="*")
    parser.add_argument("--hidden", type=int, nargs="*", default=[3, 4])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=60)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.peers:
        peers(chosen.widths or [128, 256, 512, 1024], chosen.seeds)
    elif chosen.recovery:
        recovery(chosen.trials)
    elif chosen.digits:
        digits(512, chosen.epochs)
    else:
        widths = chosen.widths or ([512, 1024] if chosen.quick else [512, 1024, 2048, 4096])
        speed(widths, chosen.hidden, chosen.seeds, 1024)


if __name__ == "__main__":
    main()
