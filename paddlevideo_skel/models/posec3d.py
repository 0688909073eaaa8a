"""PoseC3D's network: SlowOnly-R50 on heatmaps (Duan et al., "Revisiting Skeleton-based Action Recognition", CVPR 2022).

A ResNet of 3D convolutions whose early stages process each frame separately. Layers and arguments have PaddleVideo's
names.
"""
from paddle import nn
from paddle.nn.initializer import Constant

from ..skeleton import get_layout
from .layers import BACKBONES, init_conv_bn

EXPANSION = 4
STAGE_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
INFLATE_STYLES = ("3x1x1", "3x3x3")


class ConvBN(nn.Layer):
    """Convolution without bias, BatchNorm, and with ``relu`` a ReLU: ``(N, C, T, H, W) → (N, C', T', H', W')``.

    Padded by half its kernel, whose sizes are odd; ``dilation`` applies to height and width.
    """

    def __init__(self, in_channels, out_channels, kernel=(1, 1, 1), stride=(1, 1, 1), dilation=1, relu=True):
        super().__init__()
        time, height, width = (size // 2 for size in kernel)
        self._conv = nn.Conv3D(in_channels, out_channels, kernel, stride, (time, height * dilation, width * dilation),
                               (1, dilation, dilation), bias_attr=False)
        self._batch_norm = nn.BatchNorm3D(out_channels)
        self.relu = relu

    def forward(self, x):
        x = self._batch_norm(self._conv(x))
        return nn.functional.relu(x) if self.relu else x


class Bottleneck(nn.Layer):
    """Three convolutions and a residual. The second strides; one of the first two may see neighbouring frames.

    Args:
        channels: width inside; the result is four times as wide.
        stride: ``(time, height, width)``.
        inflate: which convolution sees neighbouring frames: the first (``3x1x1``), the second (``3x3x3``), or None.
        project: the residual is a convolution, as in the first block of every stage.
    """

    def __init__(self, in_channels, channels, stride, dilation, inflate, project):
        super().__init__()
        first, second = (3 if inflate == style else 1 for style in INFLATE_STYLES)
        out_channels = channels * EXPANSION
        self.conv1 = ConvBN(in_channels, channels, (first, 1, 1))
        self.conv2 = ConvBN(channels, channels, (second, 3, 3), stride, dilation)
        self.conv3 = ConvBN(channels, out_channels, relu=False)
        self.downsample = ConvBN(in_channels, out_channels, stride=stride, relu=False) if project else None

    def forward(self, x):
        y = self.conv3(self.conv2(self.conv1(x)))
        return nn.functional.relu(y + (x if self.downsample is None else self.downsample(x)))


@BACKBONES.register
class ResNet3dSlowOnly(nn.Layer):
    """SlowOnly backbone: ``(N, clips, C, T, H, W) → (N, clips, C', T', H', W')``, or both without the axis of clips.

    Args:
        depth: 50, 101 or 152; it only decides the default of ``stage_blocks``.
        in_channels: heatmaps per frame: joints, limbs, or both.
        base_channels: width of the first convolution and inside the first stage; each further stage doubles it.
        conv1_kernel: kernel of the first convolution, ``(time, height, width)``. ``conv1_stride_t`` and ``_s`` are its
            strides in time and in height and width; ``pool1_stride_*`` are those of the 1×3×3 max pooling after it.
        with_pool1: keep that pooling. with_pool2: max pooling over pairs of frames after the first stage.
        num_stages: 1 to 4; ``out_indices`` names the last of them, from 0.
        stage_blocks, spatial_strides, temporal_strides, dilations: one number per stage.
        inflate: the same, or one number for all stages, or a list per stage with one number per block: 1 sees
            neighbouring frames, in the convolution given by ``inflate_style`` (``3x1x1`` or ``3x3x3``).
        zero_init_residual: each block starts as its residual.
        layout: the skeleton behind the heatmaps, for pre-processing and exports; the network does not depend on it.
    """

    recognizer = "Recognizer3D"
    num_person = 2  # in a synthetic sample; all persons of a frame share its heatmaps

    def __init__(self, depth=50, in_channels=17, base_channels=32, conv1_kernel=(1, 7, 7), conv1_stride_t=1,
                 conv1_stride_s=1, pool1_stride_t=1, pool1_stride_s=1, with_pool1=True, with_pool2=False, num_stages=3,
                 out_indices=(2,), stage_blocks=None, spatial_strides=(2, 2, 2), temporal_strides=(1, 1, 2),
                 dilations=(1, 1, 1), inflate=(0, 1, 1), inflate_style="3x1x1", style="pytorch", lateral=False,
                 frozen_stages=-1, norm_eval=False, zero_init_residual=True, pretrained=None, layout="coco"):
        super().__init__()
        if depth not in STAGE_BLOCKS:
            raise ValueError(f"depth is {depth!r}, expected {', '.join(map(str, STAGE_BLOCKS))}")
        if inflate_style not in INFLATE_STYLES:
            raise ValueError(f"inflate_style is {inflate_style!r}, expected {' or '.join(INFLATE_STYLES)}")
        if pretrained:
            raise ValueError("pretrained is not read from the config; pass the checkpoint with -w")
        for name, value, only in (("style", style, "pytorch"), ("lateral", lateral, False),
                                  ("frozen_stages", frozen_stages, -1), ("norm_eval", norm_eval, False)):
            if value != only:
                raise ValueError(f"{name} is {value!r}, expected {only!r}: nothing else is implemented")
        check_number("num_stages", num_stages, most=len(STAGE_BLOCKS[depth]))
        if as_tuple(out_indices) != (num_stages - 1,):
            raise ValueError(f"out_indices is {out_indices!r}, but the head needs the last of {num_stages} stages: "
                             f"[{num_stages - 1}]")
        for name, value in (("in_channels", in_channels), ("base_channels", base_channels),
                            ("conv1_stride_t", conv1_stride_t), ("conv1_stride_s", conv1_stride_s),
                            ("pool1_stride_t", pool1_stride_t), ("pool1_stride_s", pool1_stride_s)):
            check_number(name, value)
        if any(size % 2 == 0 for size in check_whole_numbers("conv1_kernel", conv1_kernel, 3)):
            raise ValueError(f"conv1_kernel is {conv1_kernel!r}, expected three odd numbers")
        self.layout, self.in_channels = get_layout(layout), in_channels
        stage_blocks = STAGE_BLOCKS[depth][:num_stages] if stage_blocks is None else stage_blocks
        blocks = check_whole_numbers("stage_blocks", stage_blocks, num_stages)
        strides = zip(check_whole_numbers("temporal_strides", temporal_strides, num_stages),
                      check_whole_numbers("spatial_strides", spatial_strides, num_stages))
        dilations = check_whole_numbers("dilations", dilations, num_stages)

        self.conv1 = ConvBN(in_channels, base_channels, conv1_kernel,
                            (conv1_stride_t, conv1_stride_s, conv1_stride_s))
        self.pool1 = self.pool2 = None
        if with_pool1:
            self.pool1 = nn.MaxPool3D((1, 3, 3), (pool1_stride_t, pool1_stride_s, pool1_stride_s), (0, 1, 1))
        if with_pool2:
            self.pool2 = nn.MaxPool3D((2, 1, 1), (2, 1, 1), (0, 0, 0))
        self.num_stages, self.out_channels = num_stages, base_channels
        inflations = parse_inflate(inflate, blocks)
        for i, ((time, space), dilation) in enumerate(zip(strides, dilations)):
            styles = [inflate_style if inflated else None for inflated in inflations[i]]
            stage = self.stage(base_channels * 2 ** i, (time, space, space), dilation, styles)
            setattr(self, f"layer{i + 1}", stage)
        self.init_weights(zero_init_residual)

    def stage(self, channels, stride, dilation, styles):
        """Blocks of one width; the first one strides."""
        blocks = [Bottleneck(self.out_channels, channels, stride, dilation, styles[0], project=True)]
        self.out_channels = channels * EXPANSION
        blocks += [Bottleneck(self.out_channels, channels, (1, 1, 1), dilation, style, project=False)
                   for style in styles[1:]]
        return nn.Sequential(*blocks)

    def init_weights(self, zero_init_residual):
        """He initialisation for convolutions; with ``zero_init_residual`` the last BatchNorm scale of a block is 0, as
        in pyskl.
        """
        init_conv_bn(self)
        if zero_init_residual:
            for layer in self.sublayers():
                if isinstance(layer, Bottleneck):
                    Constant(0.0)(layer.conv3._batch_norm.weight)

    @property
    def expects(self):
        """The shape of a sample, in words, for error messages."""
        return (f"({self.in_channels} heatmaps, frames, height, width), or (clips, {self.in_channels} heatmaps, "
                f"frames, height, width)")

    def takes(self, shape):
        """Whether the model accepts a sample of this shape."""
        return len(shape) in (4, 5) and shape[-4] == self.in_channels

    def forward(self, x):
        clips = x.shape[1:-4]
        if clips:
            x = x.reshape([-1, *x.shape[2:]])
        x = self.conv1(x)
        if self.pool1 is not None:
            x = self.pool1(x)
        for i in range(self.num_stages):
            x = getattr(self, f"layer{i + 1}")(x)
            if i == 0 and self.pool2 is not None:
                x = self.pool2(x)
        return x.reshape([-1, *clips, *x.shape[1:]]) if clips else x


def check_number(name, value, most=None):
    """Raise ``ValueError`` unless the argument ``name`` is a positive integer, at most ``most``."""
    if type(value) is not int or value < 1 or (most and value > most):
        raise ValueError(f"{name} is {value!r}, expected {f'1 to {most}' if most else 'a positive integer'}")


def as_tuple(value):
    """A list as a tuple; anything else unchanged."""
    return tuple(value) if isinstance(value, (list, tuple)) else value


def check_whole_numbers(name, value, count):
    """The argument ``name`` as a tuple; raise ``ValueError`` unless it holds ``count`` positive integers."""
    value = as_tuple(value)
    if not isinstance(value, tuple) or len(value) != count or any(type(n) is not int or n < 1 for n in value):
        raise ValueError(f"{name} is {value!r}, expected {count} positive integers")
    return value


def parse_inflate(inflate, blocks):
    """``inflate`` as a list of tuples, one per stage, with 0 or 1 per block."""
    stages = as_tuple(inflate)
    stages = stages if isinstance(stages, tuple) else (stages,) * len(blocks)
    made = [as_tuple(stage) if isinstance(stage, (list, tuple)) else (stage,) * count
            for stage, count in zip(stages, blocks)]
    if [len(stage) for stage in made] != list(blocks) or len(stages) != len(blocks) or any(
            n not in (0, 1) for stage in made for n in stage):
        raise ValueError(f"inflate is {inflate!r}, expected 0 or 1 per stage or block, for {len(blocks)} stages")
    return made
