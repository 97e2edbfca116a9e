"""Writes a generator of plain torch (see `skin_gan.families.plain`) as an ONNX graph, for any batch size.

The exporter of torch.export is used, torch's default since 2.9. A family whose images take several equal
steps, such as a flow, has `step` and STEPS in its file: one step is exported, as the body of a loop, since
the exporter would unroll them all.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from skin_gan.errors import SkinGanError

INPUT, OUTPUT = "latents", "images"
OPSET = 18


class _Step(nn.Module):
    """One step as a module, which is what the exporter takes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        return self.net.step(x, step)  # type: ignore[operator, no-any-return]


def graph(plain: ModuleType, net: nn.Module) -> Any:
    """The ONNX model of `net`, the Generator of the module `plain`.

    Latents [N,LATENT] of N(0,1) give images [N,3,SIZE,SIZE] in [-1,1], float32. SkinGanError if the exporter
    cannot write it.
    """
    steps = getattr(plain, "STEPS", 0)
    if not steps:
        return _exported(net, {INPUT: torch.zeros(2, plain.LATENT)}, OUTPUT)
    x = torch.zeros(2, 3, plain.SIZE, plain.SIZE)
    return _looped(_exported(_Step(net).eval(), {"x": x, "step": torch.zeros(())}, "moved"), plain, steps)


def _exported(net: nn.Module, inputs: dict[str, Tensor], output: str) -> Any:
    """The ONNX model of a network; the first dimension of its first input and its output is open."""
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({0: batch} if tensor.dim() else None for tensor in inputs.values())
    try:
        program = torch.onnx.export(
            net,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=[output],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=shapes,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as e:
        why = str(e).strip().splitlines()[0]
        raise SkinGanError(
            f"the generator cannot be written as ONNX by torch {torch.__version__}: {why}; its template in "
            "skin_gan/families/templates may use only what torch.onnx.export knows"
        ) from e
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces, with this machine's paths
    return model


def _looped(step: Any, plain: ModuleType, steps: int) -> Any:
    """The model that applies the model `step`, of x and the step's number, `steps` times to the noise."""
    from onnx import TensorProto, helper, numpy_helper

    size = plain.SIZE
    image = ["batch", 3, size, size]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("Cast", ["number"], ["step"], to=TensorProto.FLOAT),
            *step.graph.node,
        ],
        "step",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, image),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("moved", TensorProto.FLOAT, image),
        ],
    )
    constants = {
        "shape": torch.tensor([-1, 3, size, size]), "steps": torch.tensor(steps), "yes": torch.tensor(True),
        "least": torch.tensor(-1.0), "most": torch.tensor(1.0),
    }  # fmt: skip
    whole = helper.make_graph(
        [
            helper.make_node("Reshape", [INPUT, "shape"], ["noise"]),
            helper.make_node("Loop", ["steps", "yes", "noise"], ["made"], body=body),
            helper.make_node("Clip", ["made", "least", "most"], [OUTPUT]),
        ],
        "generator",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", plain.LATENT])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, image)],
        [
            *(numpy_helper.from_array(value.numpy(), name) for name, value in constants.items()),
            *step.graph.initializer,
        ],
    )
    return helper.make_model(whole, opset_imports=step.opset_import, ir_version=step.ir_version)
