"""CTR-GCN-Lite and ST-GCN++ in PyTorch, written as their papers' code computes them, to compare speeds with.

Layers have the names of ``paddlevideo_skel.models``, so that its weights fit: see ``fit``.
"""
import torch
from torch import nn

CHANNELS = (64, 64, 64, 64, 128, 128, 128, 256, 256, 256)


class Time(nn.Module):
    """Convolution over time and, with ``norm``, its BatchNorm."""

    def __init__(self, source, target, kernel, stride=1, dilation=1, norm=True):
        super().__init__()
        self.conv = nn.Conv2d(source, target, (kernel, 1), (stride, 1), ((kernel - 1) * dilation // 2, 0),
                              (dilation, 1))
        self.bn = nn.BatchNorm2d(target) if norm else nn.Identity()

    def forward(self, x):
        return self.bn(self.conv(x))


def entry(source, target):
    return [nn.Conv2d(source, target, 1), nn.BatchNorm2d(target), nn.ReLU()]


class CTRGC(nn.Module):
    def __init__(self, source, target):
        super().__init__()
        middle = 8 if source == 3 else source // 8
        self.conv1, self.conv2 = nn.Conv2d(source, middle, 1), nn.Conv2d(source, middle, 1)
        self.conv3, self.conv4 = nn.Conv2d(source, target, 1), nn.Conv2d(middle, target, 1)

    def forward(self, x, A, alpha):
        query, key = self.conv1(x).mean(-2), self.conv2(x).mean(-2)
        topology = self.conv4(torch.tanh(query.unsqueeze(-1) - key.unsqueeze(-2))) * alpha + A
        return torch.einsum("ncuv,nctv->nctu", topology, self.conv3(x))


class RefinedGraph(nn.Module):
    def __init__(self, source, target, joints):
        super().__init__()
        self.convs = nn.ModuleList(CTRGC(source, target) for _ in range(3))
        self.down = nn.Sequential(*entry(source, target)[:2]) if source != target else nn.Identity()
        self.PA, self.alpha = nn.Parameter(torch.zeros(3, joints, joints)), nn.Parameter(torch.zeros(1))
        self.bn = nn.BatchNorm2d(target)

    def forward(self, x):
        y = sum(conv(x, A, self.alpha) for conv, A in zip(self.convs, self.PA))
        return torch.relu(self.bn(y) + self.down(x))


class FourBranches(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        width = channels // 4
        self.branches = nn.ModuleList(
            [nn.Sequential(*entry(channels, width), Time(width, width, 5, stride, d)) for d in (1, 2)] +
            [nn.Sequential(*entry(channels, width), nn.MaxPool2d((3, 1), (stride, 1), (1, 0)), nn.BatchNorm2d(width)),
             nn.Sequential(nn.Conv2d(channels, width, 1, (stride, 1)), nn.BatchNorm2d(width))])

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


class LearnedGraph(nn.Module):
    def __init__(self, source, target, joints):
        super().__init__()
        self.A = nn.Parameter(torch.zeros(3, joints, joints))
        self.conv, self.bn = nn.Conv2d(source, 3 * target, 1), nn.BatchNorm2d(target)
        self.down = nn.Sequential(*entry(source, target)[:2]) if source != target else nn.Identity()

    def forward(self, x):
        y = self.conv(x)
        y = torch.einsum("nkctv,kvw->nctw", y.view(len(y), 3, -1, *y.shape[2:]), self.A)
        return torch.relu(self.bn(y.contiguous()) + self.down(x))


class SixBranches(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        width = channels // 6
        first = channels - 5 * width
        outs = (first, width, width, width)
        self.branches = nn.ModuleList(
            [nn.Sequential(*entry(channels, out), Time(out, out, 3, stride, d + 1, norm=False))
             for d, out in enumerate(outs)] +
            [nn.Sequential(*entry(channels, width), nn.MaxPool2d((3, 1), (stride, 1), (1, 0))),
             nn.Conv2d(channels, width, 1, (stride, 1))])
        self.transform = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 1))
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.bn(self.transform(torch.cat([branch(x) for branch in self.branches], 1)))


class Unit(nn.Module):
    def __init__(self, number, names, graph, time, joints):
        super().__init__()
        source, target = CHANNELS[number - 1] if number else 3, CHANNELS[number]
        stride = 2 if number in (4, 7) else 1
        self.names = names
        setattr(self, names[0], graph(source, target, joints))
        setattr(self, names[1], time(target, stride))
        self.identity = number > 0 and source == target and stride == 1
        if number > 0 and not self.identity:
            self.residual = Time(source, target, 1, stride)

    def forward(self, x):
        y = getattr(self, self.names[1])(getattr(self, self.names[0])(x))
        if self.identity:
            y = y + x
        elif hasattr(self, "residual"):
            y = y + self.residual(x)
        return torch.relu(y)


class CTRGCNLite(nn.Module):
    """``(N, 3, T, 25, M) → (N, classes)``."""

    def __init__(self, classes=60, joints=25, persons=2):
        super().__init__()
        self.data_bn = nn.BatchNorm1d(persons * 3 * joints)
        for i in range(9):
            setattr(self, f"l{i + 1}", Unit(i, ("gcn1", "tcn1"), RefinedGraph, FourBranches, joints))
        self.fc = nn.Linear(256, classes)

    def forward(self, x):
        n, c, t, v, m = x.shape
        x = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(n, m * v * c, t))
        x = x.view(n * m, v, c, t).permute(0, 2, 3, 1).contiguous()
        for i in range(9):
            x = getattr(self, f"l{i + 1}")(x)
        return self.fc(x.mean((2, 3)).view(n, m, -1).mean(1))


class STGCNPlusPlus(nn.Module):
    """``(N, 1, M, T, 17, 3) → (N, classes)``."""

    def __init__(self, classes=60, joints=17):
        super().__init__()
        self.data_bn = nn.BatchNorm1d(3 * joints)
        self.gcn = nn.ModuleList(Unit(i, ("gcn", "tcn"), LearnedGraph, SixBranches, joints) for i in range(10))
        self.fc_cls = nn.Linear(256, classes)

    def forward(self, x):
        n, _, m, t, v, c = x.shape
        x = self.data_bn(x.view(n * m, t, v, c).permute(0, 2, 3, 1).reshape(n * m, v * c, t))
        x = x.view(n * m, v, c, t).permute(0, 2, 3, 1).contiguous()
        for unit in self.gcn:
            x = unit(x)
        return self.fc_cls(x.mean((2, 3)).view(n, m, -1).mean(1))


def fit(model, state):
    """Give ``model`` a Paddle state dict's arrays (name → NumPy array); every tensor must find its place."""
    names = {"_mean": "running_mean", "_variance": "running_var"}
    made = {}
    for name, value in state.items():
        path = name.split(".")[1:]
        made[".".join(path[:-1] + [names.get(path[-1], path[-1])])] = torch.tensor(
            value.T if path[0] in ("fc", "fc_cls") else value)
    missing = set(model.state_dict()) - set(made)
    if any(not name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"no weights for {sorted(missing)}")
    unknown = model.load_state_dict(made, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"no place for {unknown}")
    return model
