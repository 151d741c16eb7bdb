"""TensorFlow operations that tf2onnx 1.17 converts to ONNX wrongly, converted rightly.

DepthwiseConv2dNative: TERN applies a filter of its own to every frame, by a depthwise convolution whose channels are
the frames. ONNX has the number of channels of such a convolution as a constant, and the number of frames is not one, so
tf2onnx would write a file that cannot be loaded. Here it becomes a sum of shifted products: twenty-five for 5x5.

FloorDiv: of whole numbers tf2onnx rounds towards zero, so that -12 // 8 gives -1, and sizes computed so are wrong.
"""

from collections.abc import Callable

import numpy as np
from onnx import TensorProto
from tf2onnx.graph import Graph, Node
from tf2onnx.onnx_opset.math import FloorDiv
from tf2onnx.onnx_opset.nn import DepthwiseConv2d
from tf2onnx.utils import make_name


def convert_floor_division(graph: Graph, node: Node, name: str, args: list) -> None:
    """Convert a floor division; the signature is that of tf2onnx's `custom_op_handlers`.

    Args:
        graph: being converted, and changed in place.
        node: with the dividend and the divisor as inputs.
        name: of the node.
        args: none.
    """
    if graph.get_dtype(node.output[0]) not in (TensorProto.INT32, TensorProto.INT64):
        FloorDiv.version_6(graph, node)
        return
    dividend, divisor = node.input
    # ONNX's Mod has the divisor's sign, as Python's: what is left is a multiple of the divisor.
    rest = graph.make_node("Mod", [dividend, divisor], name=make_name(name))
    multiple = graph.make_node("Sub", [dividend, rest.output[0]], name=make_name(name))
    _replace(graph, node, "Div", [multiple.output[0], divisor])


def convert_depthwise(graph: Graph, node: Node, name: str, args: list) -> None:
    """Convert a depthwise convolution; the signature is that of tf2onnx's `custom_op_handlers`.

    Args:
        graph: being converted, and changed in place.
        node: with the inputs x (batch, height, width, channels) and filters (side, side, channels, 1).
        name: of the node.
        args: none.

    Raises:
        ValueError: for filters of unknown channels with a stride, a dilation, no zero padding or an even side.
    """
    rows, columns, channels, multiplier = graph.get_shape(node.input[1])
    if channels > 0:
        DepthwiseConv2d.version_1(graph, node)
        return
    stepped = {*node.get_attr_value("strides"), *node.get_attr_value("dilations", [1])} != {1}
    if stepped or node.get_attr_str("padding") != "SAME" or not rows % 2 == columns % 2 == multiplier == 1:
        raise ValueError(f"{name}: only stride 1, zero padding and odd sides are converted for unknown channels")
    x, filters = node.input

    def constant(values):
        return graph.make_const(make_name(name), np.array(values, np.int64)).output[0]

    def apply(operation, *inputs, **options):
        return graph.make_node(operation, list(inputs), name=make_name(name), **options).output[0]

    margins = [0, rows // 2, columns // 2, 0]
    padded = apply("Pad", x, constant([*margins, *margins]))
    size = apply("Slice", apply("Shape", x), constant([1]), constant([3]))
    # One row for each place of a filter, with a factor for each channel.
    factors = apply("Reshape", filters, constant([rows * columns, -1]))
    axes = constant([1, 2])
    products = []
    for place in range(rows * columns):
        start = constant(divmod(place, columns))
        shifted = apply("Slice", padded, start, apply("Add", size, start), axes)
        products.append(apply("Mul", shifted, apply("Gather", factors, constant(place))))
    _replace(graph, node, "Sum", products)


def _replace(graph: Graph, node: Node, operation: str, inputs: list[str]) -> None:
    output = node.output[0]
    shape, dtype = graph.get_shape(output), graph.get_dtype(output)
    graph.remove_node(node.name)
    graph.make_node(operation, inputs, outputs=[output], name=node.name, shapes=[shape], dtypes=[dtype])


HANDLERS: dict[str, tuple[Callable[[Graph, Node, str, list], None], list]] = {
    "DepthwiseConv2dNative": (convert_depthwise, []),
    "FloorDiv": (convert_floor_division, []),
}
