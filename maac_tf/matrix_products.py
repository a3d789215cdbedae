"""The matrix products of a function, and a function that does these and nothing else: its floor."""

import collections
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Names that operations use for "take the operand transposed".
_TRANSPOSES = {
  "MatMul": ("transpose_a", "transpose_b"),
  "BatchMatMulV2": ("adj_x", "adj_y"),
  "BatchMatMulV3": ("adj_x", "adj_y"),
}


class Product(NamedTuple):
  """A product of two tensors of matrices."""

  shapes: tuple[tuple[int, ...], tuple[int, ...]]
  transposed: tuple[bool, bool]
  dtype: tf.DType

  @property
  def flop(self) -> int:
    """Floating-point operations: a multiplication and an addition for each pair."""
    first, second = self.shapes
    return 2 * int(np.prod(first)) * second[-2 if self.transposed[1] else -1]


def products_of(function, *args) -> list[Product]:
  """Every matrix product that a call of `function`, traced without XLA, has to do.

  What nothing needs (gradients that nobody asked for, say) is not counted, as it is not done.

  Raises:
    ValueError: for a loop, a call or a shape that is only known at run time: their products could
      not be counted.
  """
  graph = tf.function(function, autograph=False).get_concrete_function(*args).graph
  needed = collections.deque([t.op for t in graph.outputs] + list(graph.control_outputs))
  seen, products = set(needed), []
  while needed:
    op = needed.popleft()
    if op.type in _TRANSPOSES:
      shapes = tuple(tuple(t.shape.as_list()) for t in op.inputs)
      if None in [size for shape in shapes for size in shape]:
        raise ValueError(f"{op.name} has the shapes {shapes}, which are not static.")
      transposed = tuple(op.get_attr(name) for name in _TRANSPOSES[op.type])
      products.append(Product(shapes, transposed, op.inputs[0].dtype))
    elif any(word in op.type for word in ("While", "If", "PartitionedCall")):
      raise ValueError(f"Products inside of {op.name} ({op.type}) are not counted.")
    for before in [t.op for t in op.inputs] + list(op.control_inputs):
      if before not in seen:
        seen.add(before)
        needed.append(before)
  return products


def floor(products, jit_compile=None):
  """A compiled function without arguments that does these products, on random matrices."""
  matrices = [
    [tf.Variable(tf.random.normal(shape, dtype=product.dtype)) for shape in product.shapes]
    for product in products
  ]

  # Every result is returned: a product that nothing needs would not be done.
  @tf.function(jit_compile=jit_compile, autograph=False)
  def multiply():
    return [
      tf.matmul(*pair, transpose_a=product.transposed[0], transpose_b=product.transposed[1])
      for pair, product in zip(matrices, products, strict=True)
    ]

  return multiply
