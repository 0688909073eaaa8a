"""The networks of the other projects in PyTorch, written from their behaviour and their state dicts' names.

Only what a forward pass in evaluation mode needs. Random weights; BatchNorms get statistics too.
"""
import torch
from torch import nn
from torch.nn import functional


def randomise(model, seed=0):
    """Weights such that no layer is trivial and activations neither vanish nor explode."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor, low, high):
        tensor.data.copy_(torch.empty(tensor.shape).uniform_(low, high, generator=generator))

    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            draw(module.weight, 0.8, 1.2)
            draw(module.bias, -0.2, 0.2)
            draw(module.running_mean, -0.2, 0.2)
            draw(module.running_var, 0.5, 1.5)
        elif isinstance(module, (nn.Conv2d, nn.Conv3d, nn.Linear)):
            bound = (1.5 / module.weight[0].numel()) ** 0.5
            draw(module.weight, -bound, bound)
            if module.bias is not None:
                draw(module.bias, -0.1, 0.1)
    for name, parameter in model.named_parameters():
        if name.endswith("alpha"):
            draw(parameter, 0.3, 0.6)
        elif name.endswith((".A", "PA")) or "edge_importance" in name:
            parameter.data.add_(torch.empty(parameter.shape).uniform_(-0.05, 0.05, generator=generator))
    return model.eval()


def temporal(width, kernel, stride=1, dilation=1):
    return nn.Conv2d(width, width, (kernel, 1), (stride, 1), ((kernel - 1) * dilation // 2, 0), (dilation, 1))


class ConvBN(nn.Module):
    """``conv`` and ``bn``, without ``bn`` on request."""

    def __init__(self, conv, norm=True):
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(conv.out_channels) if norm else nn.Identity()

    def forward(self, x):
        return self.bn(self.conv(x))


def shortcut(source, target, stride, first):
    """The residual: nothing, the input, or a convolution."""
    if first:
        return None
    if source == target and stride == 1:
        return nn.Identity()
    return ConvBN(nn.Conv2d(source, target, 1, (stride, 1)))


def by_person(x, data_bn, axes, joined):
    """``x`` with its axes brought to (N, M, V, C, T), normalised, and as (N·M, C, T, V)."""
    x = x.permute(axes)
    n, m, v, c, t = x.shape
    x = data_bn(x.reshape((n, m * v * c, t) if joined else (n * m, v * c, t)))
    return x.reshape(n * m, v, c, t).permute(0, 2, 3, 1)


def pooled(x, persons):
    return x.mean((2, 3)).reshape(-1, persons, x.shape[1]).mean(1)


class STGCNUnit(nn.Module):
    """A unit of st-gcn: the BatchNorm only after the sum over subsets, and again after the convolution over time."""

    def __init__(self, source, target, subsets, stride, first):
        super().__init__()
        self.gcn = nn.Module()
        self.gcn.conv = nn.Conv2d(source, target * subsets, 1)
        self.tcn = nn.Sequential(nn.BatchNorm2d(target), nn.ReLU(), temporal(target, 9, stride),
                                 nn.BatchNorm2d(target), nn.Dropout(0.5))
        self.residual = None if first else nn.Identity() if source == target else nn.Sequential(
            nn.Conv2d(source, target, 1, (stride, 1)), nn.BatchNorm2d(target))

    def forward(self, x, A):
        y = self.gcn.conv(x)
        y = torch.einsum("nkctv,kvw->nctw", y.reshape(len(y), len(A), -1, *y.shape[2:]), A)
        y = self.tcn(y)
        return functional.relu(y if self.residual is None else y + self.residual(x))


class STGCN(nn.Module):
    """st-gcn: ``(N, C, T, V, M) → (N, classes)``."""

    def __init__(self, A, classes, channels=3, importance=True):
        super().__init__()
        self.register_buffer("A", torch.tensor(A))
        self.data_bn = nn.BatchNorm1d(channels * A.shape[1])
        widths = [channels] + [64] * 4 + [128] * 3 + [256] * 3
        self.st_gcn_networks = nn.ModuleList(
            STGCNUnit(widths[i], widths[i + 1], len(A), 2 if i in (4, 7) else 1, i == 0) for i in range(10))
        self.edge_importance = [1] * 10
        if importance:
            self.edge_importance = nn.ParameterList(nn.Parameter(torch.ones(A.shape)) for _ in range(10))
        self.fcn = nn.Conv2d(256, classes, 1)

    def forward(self, x):
        persons = x.shape[4]
        x = by_person(x, self.data_bn, (0, 4, 3, 1, 2), False)
        for unit, importance in zip(self.st_gcn_networks, self.edge_importance):
            x = unit(x, self.A * importance)
        return self.fcn(pooled(x, persons)[:, :, None, None]).flatten(1)


class UnitGCN(nn.Module):
    """pyskl's graph convolution with its four ways to learn the adjacency."""

    def __init__(self, source, target, A, adaptive, with_res):
        super().__init__()
        self.adaptive, self.with_res = adaptive, with_res
        if adaptive == "init":
            self.A = nn.Parameter(A.clone())
        else:
            self.register_buffer("A", A.clone())
        if adaptive in ("offset", "importance"):
            self.PA = nn.Parameter(torch.full_like(A, 1.0 if adaptive == "importance" else 0.0))
        self.conv = nn.Conv2d(source, target * len(A), 1)
        self.bn = nn.BatchNorm2d(target)
        if with_res and source != target:
            self.down = nn.Sequential(nn.Conv2d(source, target, 1), nn.BatchNorm2d(target))

    def forward(self, x):
        A = {"offset": lambda: self.A + self.PA, "importance": lambda: self.A * self.PA}.get(
            self.adaptive, lambda: self.A)()
        y = self.conv(x)
        y = self.bn(torch.einsum("nkctv,kvw->nctw", y.reshape(len(y), len(A), -1, *y.shape[2:]), A))
        if self.with_res:
            y = y + (self.down(x) if hasattr(self, "down") else x)
        return functional.relu(y)


class MultiScale(nn.Module):
    """ST-GCN++'s temporal block."""

    def __init__(self, width, stride):
        super().__init__()
        narrow = width // 6
        first = width - 5 * narrow

        def entry(to):
            return [nn.Conv2d(width, to, 1), nn.BatchNorm2d(to), nn.ReLU()]
        self.branches = nn.ModuleList(
            [nn.Sequential(*entry(w), ConvBN(temporal(w, 3, stride, d), norm=False))
             for w, d in ((first, 1), (narrow, 2), (narrow, 3), (narrow, 4))] +
            [nn.Sequential(*entry(narrow), nn.MaxPool2d((3, 1), (stride, 1), (1, 0))),
             nn.Conv2d(width, narrow, 1, (stride, 1))])
        self.transform = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 1))
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x):
        return self.bn(self.transform(torch.cat([branch(x) for branch in self.branches], 1)))


class Unit(nn.Module):
    """Graph, time, residual, under the names of pyskl or of CTR-GCN."""

    def __init__(self, names, graph, time, residual, act=False):
        super().__init__()
        self.names, self.act = names, act
        for name, module in zip(names, (graph, time)):
            setattr(self, name, module)
        self.residual = residual

    def forward(self, x):
        y = getattr(self, self.names[1])(getattr(self, self.names[0])(x))
        y = functional.relu(y) if self.act else y
        return functional.relu(y if self.residual is None else y + self.residual(x))


class PysklSTGCN(nn.Module):
    """pyskl's and mmaction2's ST-GCN and ST-GCN++: ``(N, M, T, V, C) → (N, classes)``."""

    def __init__(self, A, classes, head="fc_cls", adaptive="importance", with_res=False, multi_scale=False, channels=3,
                 base=64, stages=10, inflate=(5, 8), data_bn="VC", persons=2):
        super().__init__()
        A = torch.tensor(A)
        self.joined, self.head = data_bn == "MVC", head
        self.backbone, self.cls_head = nn.Module(), nn.Module()
        width = channels * A.shape[1]
        self.backbone.data_bn = {"VC": nn.BatchNorm1d(width), "MVC": nn.BatchNorm1d(width * persons)}.get(
            data_bn, nn.Identity())
        self.backbone.gcn, source = nn.ModuleList(), channels
        for stage in range(1, stages + 1):
            target, stride = base * 2 ** sum(i <= stage for i in inflate), 2 if stage in inflate else 1
            time = MultiScale(target, stride) if multi_scale else ConvBN(temporal(target, 9, stride))
            self.backbone.gcn.append(Unit(("gcn", "tcn"), UnitGCN(source, target, A, adaptive, with_res), time,
                                          shortcut(source, target, stride, stage == 1)))
            source = target
        setattr(self.cls_head, head, nn.Linear(source, classes))

    def forward(self, x):
        persons = x.shape[1]
        x = by_person(x, self.backbone.data_bn, (0, 1, 3, 4, 2), self.joined)
        for unit in self.backbone.gcn:
            x = unit(x)
        return getattr(self.cls_head, self.head)(pooled(x, persons))


class CTRGC(nn.Module):
    """A channel-wise refined graph; ``transposed`` as pyskl sends along it."""

    def __init__(self, source, target, transposed):
        super().__init__()
        self.transposed = transposed
        reduced = 8 if source in (2, 3, 9) else source // 8
        self.conv1, self.conv2 = nn.Conv2d(source, reduced, 1), nn.Conv2d(source, reduced, 1)
        self.conv3, self.conv4 = nn.Conv2d(source, target, 1), nn.Conv2d(reduced, target, 1)

    def forward(self, x, A, alpha):
        query, key = self.conv1(x).mean(2), self.conv2(x).mean(2)
        graph = self.conv4(torch.tanh(query[..., :, None] - key[..., None, :])) * alpha + A
        return torch.einsum("ncuv,nctu->nctv" if self.transposed else "ncuv,nctv->nctu", graph, self.conv3(x))


class CTRGraph(nn.Module):
    """CTR-GCN's graph convolution; the adjacency is called ``PA`` by its authors and ``A`` by pyskl."""

    def __init__(self, source, target, A, adjacency, transposed):
        super().__init__()
        self.convs = nn.ModuleList(CTRGC(source, target, transposed) for _ in A)
        self.adjacency = adjacency
        if adjacency:
            setattr(self, adjacency, nn.Parameter(A.clone()))
        self.register_buffer("fixed", A.clone(), persistent=False)
        self.alpha = nn.Parameter(torch.zeros(1))
        self.bn = nn.BatchNorm2d(target)
        self.down = nn.Identity() if source == target else nn.Sequential(nn.Conv2d(source, target, 1),
                                                                         nn.BatchNorm2d(target))

    def forward(self, x):
        A = getattr(self, self.adjacency) if self.adjacency else self.fixed
        y = sum(conv(x, A[i], self.alpha) for i, conv in enumerate(self.convs))
        return functional.relu(self.bn(y) + self.down(x))


class CTRTime(nn.Module):
    """CTR-GCN's temporal block."""

    def __init__(self, width, stride):
        super().__init__()
        w = width // 4

        def entry():
            return [nn.Conv2d(width, w, 1), nn.BatchNorm2d(w), nn.ReLU()]
        self.branches = nn.ModuleList(
            [nn.Sequential(*entry(), ConvBN(temporal(w, 5, stride, d))) for d in (1, 2)] +
            [nn.Sequential(*entry(), nn.MaxPool2d((3, 1), (stride, 1), (1, 0)), nn.BatchNorm2d(w)),
             nn.Sequential(nn.Conv2d(width, w, 1, (stride, 1)), nn.BatchNorm2d(w))])

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


def ctr_units(A, channels, base, units, adjacency, pyskl):
    source = channels
    for unit in range(1, units + 1):
        target, stride = base * (1 if unit < 5 else 2 if unit < 8 else 4), 2 if unit in (5, 8) else 1
        yield Unit(("gcn1", "tcn1"), CTRGraph(source, target, A, adjacency, pyskl), CTRTime(target, stride),
                   shortcut(source, target, stride, unit == 1), act=pyskl)
        source = target


class CTRGCN(nn.Module):
    """CTR-GCN of its authors: ``(N, C, T, V, M) → (N, classes)``."""

    def __init__(self, A, classes, channels=3, persons=2, base=64, units=10, adaptive=True):
        super().__init__()
        self.data_bn, self.units = nn.BatchNorm1d(persons * channels * A.shape[1]), units
        for i, unit in enumerate(ctr_units(torch.tensor(A), channels, base, units, adaptive and "PA", False), 1):
            setattr(self, f"l{i}", unit)
        self.fc = nn.Linear(base * 4, classes)

    def forward(self, x):
        persons = x.shape[4]
        x = by_person(x, self.data_bn, (0, 4, 3, 1, 2), True)
        for i in range(1, self.units + 1):
            x = getattr(self, f"l{i}")(x)
        return self.fc(pooled(x, persons))


class PysklCTRGCN(nn.Module):
    """CTR-GCN of pyskl and mmaction2: ``(N, M, T, V, C) → (N, classes)``."""

    def __init__(self, A, classes, head="fc_cls", channels=3, persons=2, base=64):
        super().__init__()
        self.head, self.backbone, self.cls_head = head, nn.Module(), nn.Module()
        self.backbone.register_buffer("A", torch.tensor(A))
        self.backbone.data_bn = nn.BatchNorm1d(persons * channels * A.shape[1])
        self.backbone.net = nn.ModuleList(ctr_units(torch.tensor(A), channels, base, 10, "A", True))
        setattr(self.cls_head, head, nn.Linear(base * 4, classes))

    def forward(self, x):
        persons = x.shape[1]
        x = by_person(x, self.backbone.data_bn, (0, 1, 3, 4, 2), True)
        for unit in self.backbone.net:
            x = unit(x)
        return getattr(self.cls_head, self.head)(pooled(x, persons))


class Conv3dBN(nn.Module):
    def __init__(self, source, target, kernel, stride=1):
        super().__init__()
        self.conv = nn.Conv3d(source, target, kernel, stride, tuple(k // 2 for k in kernel), bias=False)
        self.bn = nn.BatchNorm3d(target)

    def forward(self, x):
        return self.bn(self.conv(x))


class Bottleneck(nn.Module):
    def __init__(self, source, width, stride, frames):
        super().__init__()
        self.conv1 = Conv3dBN(source, width, (frames, 1, 1))
        self.conv2 = Conv3dBN(width, width, (1, 3, 3), stride)
        self.conv3 = Conv3dBN(width, width * 4, (1, 1, 1))
        self.downsample = None
        if source != width * 4:
            self.downsample = Conv3dBN(source, width * 4, (1, 1, 1), stride)

    def forward(self, x):
        y = self.conv3(functional.relu(self.conv2(functional.relu(self.conv1(x)))))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class PoseC3D(nn.Module):
    """SlowOnly on heatmaps: ``(N, joints, T, H, W) → (N, classes)``."""

    def __init__(self, classes, joints=17, base=32, blocks=(4, 6, 3)):
        super().__init__()
        self.backbone, self.cls_head = nn.Module(), nn.Module()
        self.backbone.conv1 = Conv3dBN(joints, base, (1, 7, 7))
        source = base
        for stage, count in enumerate(blocks):
            width, stride = base * 2 ** stage, (2 if stage == 2 else 1, 2, 2)
            layers = []
            for block in range(count):
                layers.append(Bottleneck(source, width, 1 if block else stride, 3 if stage else 1))
                source = width * 4
            setattr(self.backbone, f"layer{stage + 1}", nn.Sequential(*layers))
        self.cls_head.fc_cls = nn.Linear(source, classes)
        self.stages = len(blocks)

    def forward(self, x):
        x = functional.relu(self.backbone.conv1(x))
        x = functional.max_pool3d(x, (1, 3, 3), 1, (0, 1, 1))
        for stage in range(1, self.stages + 1):
            x = getattr(self.backbone, f"layer{stage}")(x)
        return self.cls_head.fc_cls(x.mean((2, 3, 4)))
