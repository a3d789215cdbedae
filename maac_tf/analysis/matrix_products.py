"""The matrix products of a function, and a function that does these and nothing else: its floor."""

import collections
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

# Names that operations use for "take the operand transposed".
_TRANSPOSES = {
  "MatMul": ("transpose_a", "transpose_b"),
  "BatchMatMulV2": ("adj_x", "adj_y"),
  "BatchMatMulV3": ("adj_x", "adj_y"),
}
_NOT_COUNTED = ("While", "If", "Case", "PartitionedCall", "Einsum", "Conv", "Sparse")


class Product(NamedTuple):
  """A product of two tensors of matrices.

  Attributes:
    operands: what is multiplied, by name: products with the same weights share an operand.
  """

  operands: tuple[str, str]
  shapes: tuple[tuple[int, ...], tuple[int, ...]]
  transposed: tuple[bool, bool]
  dtype: tf.DType

  @property
  def flop(self) -> int:
    """Floating-point operations: a multiplication and an addition for each pair."""
    first, second = self.shapes
    batch = np.prod(np.broadcast_shapes(first[:-2], second[:-2]), dtype=np.int64)
    return 2 * int(batch) * first[-2] * first[-1] * second[-2 if self.transposed[1] else -1]


def products_of(function: Callable[..., Any], *args: Any) -> list[Product]:
  """Every matrix product that a call of `function`, traced without XLA, has to do.

  What nothing needs (gradients that nobody asked for, say) is not done, and not counted; what is
  asked for twice is done once.

  Raises:
    ValueError: for a loop, a call, another kind of product, or a shape that is only known at run
      time: these could not be counted.
  """
  graph = tf.function(function, autograph=False).get_concrete_function(*args).graph
  needed = collections.deque([t.op for t in graph.outputs] + list(graph.control_outputs))
  seen = set(needed)
  products: dict[Product, None] = {}  # in order
  while needed:
    op = needed.popleft()
    if op.type in _TRANSPOSES:
      a, b = op.inputs
      shapes = tuple(a.shape.as_list()), tuple(b.shape.as_list())
      if None in [size for shape in shapes for size in shape]:
        raise ValueError(f"{op.name} has the shapes {shapes}, which are not static.")
      transpose_a, transpose_b = map(op.get_attr, _TRANSPOSES[op.type])
      operands, transposed = (_source(a), _source(b)), (transpose_a, transpose_b)
      products[Product(operands, shapes, transposed, a.dtype)] = None
    elif any(word in op.type for word in _NOT_COUNTED):
      raise ValueError(f"Products inside of {op.name} ({op.type}) are not counted.")
    for before in [t.op for t in op.inputs] + list(op.control_inputs):
      if before not in seen:
        seen.add(before)
        needed.append(before)
  return list(products)


def _source(tensor: tf.Tensor) -> str:
  """The name of a tensor; of a variable's value, that of the variable."""
  while tensor.op.type in ("Identity", "ReadVariableOp"):
    tensor = tensor.op.inputs[0]
  return tensor.name


def floor(
  products: Sequence[Product], jit_compile: bool | None = None
) -> Callable[[tf.Tensor], list[tf.Tensor]]:
  """A compiled function that does these products, on random matrices, `passes` times."""
  matrices = {}
  for product in products:
    for operand, shape in zip(product.operands, product.shapes, strict=True):
      if (operand, shape) not in matrices:
        matrices[operand, shape] = tf.Variable(tf.random.normal(shape, dtype=product.dtype))

  # Every result is returned: a product that nothing needs would not be done.
  @tf.function(jit_compile=jit_compile, autograph=False)
  def multiply() -> list[tf.Tensor]:
    results = []
    for product in products:
      first, second = (matrices[key] for key in zip(product.operands, product.shapes, strict=True))
      a, b = product.transposed
      results.append(tf.matmul(first, second, transpose_a=a, transpose_b=b))
    return results

  @tf.function
  def passes(count: tf.Tensor) -> list[tf.Tensor]:
    results = multiply()
    for _ in tf.range(count - 1):
      results = multiply()
    return results

  return passes
