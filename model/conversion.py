"""A torch network into a graph that OpenVINO runs, without what tracing says on the way. Imports torch."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import torch

from model.engines.openvino_import import openvino
from model.errors import NotExportable


def convert(name: str, network: torch.nn.Module, example: torch.Tensor) -> openvino.Model:
    """Return a network's graph, for inputs of the shape of ``example``. Raises NotExportable."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation that OpenVINO does not know
    try:
        with quiet(name):
            from openvino.tools.ovc import convert_model

            return convert_model(network, example_input=example, input=list(example.shape))
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Tracing and quantising warn of what they are meant to do, draw bars on stdout, and raise nearly anything."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise NotExportable(f"{name} cannot be exported to OpenVINO ({reason}); choose another model") from None
    finally:
        logging.disable(before)
