"""The service that one would write in an hour from the documents of BentoML, timm and hnswlib: an honest peer.

It takes a picture, as ``list[PIL.Image]`` batched by BentoML, embeds it with eager torch in float32 as timm says, and asks
an hnswlib index in memory. NAIVE_MODEL, NAIVE_WEIGHTS and NAIVE_INDEX say which.
"""

from __future__ import annotations

import os

import bentoml
import hnswlib
import timm
import torch
from PIL import Image

K, EF = 10, 128


@bentoml.service(name="NaiveSearch", workers=1)
class NaiveSearch:
    """Reverse image search in one class."""

    def __init__(self) -> None:
        self.model = timm.create_model(
            os.environ["NAIVE_MODEL"],
            pretrained=True,
            num_classes=0,
            pretrained_cfg_overlay={"file": os.environ["NAIVE_WEIGHTS"], "custom_load": False},
        ).eval()
        self.transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=self.model))
        self.index = hnswlib.Index(space="cosine", dim=self.model.num_features)
        self.index.load_index(os.environ["NAIVE_INDEX"])
        self.index.set_ef(EF)

    @bentoml.api(batchable=True)
    def search(self, images: list[Image.Image]) -> list[dict]:  # type: ignore[type-arg]
        """The nearest items of each picture."""
        batch = torch.stack([self.transform(image.convert("RGB")) for image in images])
        with torch.inference_mode():
            vectors = self.model(batch)
        labels, distances = self.index.knn_query(vectors.numpy(), k=K)
        return [{"ids": ids.tolist(), "scores": (1 - far).tolist()} for ids, far in zip(labels, distances, strict=True)]
