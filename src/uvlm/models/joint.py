"""Task 2 and 3 at once: a class head and a decoder over one encoder.

Shapes: B batch, D H W voxels along z y x.
"""

from __future__ import annotations

import copy

from torch import nn

from uvlm.models.config import JointConfig
from uvlm.models.encoder import Encoder
from uvlm.models.uvlm import ClassificationModel, ReportModel

__all__ = ["JointModel"]


class JointModel(nn.Module):
    """One encoder, whose stages both parts take.

    Attributes:
        encoder: the only one; registered here alone, so that a state dict holds its weights once
        classification, report: the parts; their `encoder` is the same module
    """

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        self.config = config
        self.classification = ClassificationModel(config.classification)
        self.report = ReportModel(config.report)
        self.encoder: Encoder = self.classification.encoder
        for part in (self.classification, self.report):
            # Seen by the part as before, but no longer among its modules.
            part._modules.pop("encoder")
            vars(part)["encoder"] = self.encoder

    def parts(self) -> dict[str, nn.Module]:
        """The two models as a bundle stores them, each with the encoder among its modules. They
        share all weights with this one."""
        return {
            "classification": self._complete(self.classification),
            "report": self._complete(self.report),
        }

    def _complete(self, part: nn.Module) -> nn.Module:
        twin = copy.copy(part)
        twin._modules = {"encoder": self.encoder, **part._modules}
        del vars(twin)["encoder"]
        return twin
