"""The data structure of a sample on its way from the file to the model."""
from dataclasses import dataclass

import numpy as np


@dataclass
class Annotation:
    """One sequence of skeletons.

    Attributes:
        keypoint: coordinates ``(M, T, V, C)`` of M persons, T frames, V joints; pixels in 2D, metres in 3D.
        keypoint_score: confidence of each joint ``(M, T, V)``, or None.
        name: name of the sample in messages and results (``frame_dir`` of an annotation pickle).
        label: class number, or None if it is unknown.
        img_shape: ``(height, width)`` of the image that 2D coordinates refer to, or None.
        frame_inds: frames that a sampler chose, ``(num_clips * clip_len,)``; ``PoseDecode`` takes them.
        num_clips: number of clips in ``frame_inds``, or in the frames once ``PoseDecode`` has taken them.
        array: the model's input, once a formatting transform has made it.
    """
    keypoint: np.ndarray
    keypoint_score: np.ndarray = None
    name: str = ""
    label: int = None
    img_shape: tuple = None
    frame_inds: np.ndarray = None
    num_clips: int = 1
    array: np.ndarray = None

    @property
    def total_frames(self):
        return self.keypoint.shape[1]

    @property
    def data(self):
        """The coordinates as ``(C, T, V, M)``, the form of ``.npy`` data sets; a view."""
        return self.keypoint.transpose(3, 1, 2, 0)

    @data.setter
    def data(self, value):
        self.keypoint = value.transpose(3, 1, 2, 0)

    def copy(self):
        """A copy whose fields can be replaced. The arrays are shared: transforms never write into them."""
        return type(self)(**vars(self))  # dataclasses.replace takes ten times as long
