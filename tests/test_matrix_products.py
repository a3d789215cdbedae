"""Counting matrix products, and doing nothing else."""

import numpy as np
import pytest
import tensorflow as tf

from maac_tf import matrix_products
from maac_tf.matrix_products import Product


def test_products_with_shapes_transposes_and_flop():
  a, b = tf.ones([2, 3, 4]), tf.ones([2, 5, 4])
  (product,) = matrix_products.products_of(lambda x, y: tf.matmul(x, y, transpose_b=True), a, b)
  assert product == Product(((2, 3, 4), (2, 5, 4)), (False, True), tf.float32)
  # NumPy's loop: 2 * 3 * 5 results of 4 multiplications and additions each.
  assert product.flop == 2 * (2 * 3 * 5) * 4
  (product,) = matrix_products.products_of(lambda x, y: tf.matmul(x, y), a[0], b[0, :4])
  assert product == Product(((3, 4), (4, 4)), (False, False), tf.float32)
  assert product.flop == 2 * (3 * 4) * 4


def test_a_gradient_that_nobody_asked_for_is_not_counted():
  x, w, v = tf.ones([8, 4]), tf.Variable(tf.ones([4, 4])), tf.Variable(tf.ones([4, 1]))

  def gradient(x):
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(tf.tanh(x @ w) @ v)
    return loss, tape.gradient(loss, v)

  # Two forward; backward that of v alone: nothing goes through w, or to x.
  assert len(matrix_products.products_of(gradient, x)) == 3


def test_products_that_only_assignments_need_are_counted():
  x, w = tf.ones([8, 4]), tf.Variable(tf.ones([8, 4]))

  def assign(x):
    w.assign(x @ tf.ones([4, 4]))
    return 0.0

  assert len(matrix_products.products_of(assign, x)) == 1


@pytest.mark.parametrize("jit_compile", [None, True])
def test_the_floor_does_these_products(jit_compile):
  products = [
    Product(((2, 3, 4), (2, 5, 4)), (False, True), tf.float32),
    Product(((6, 3), (6, 2)), (True, False), tf.float32),
  ]
  floor = matrix_products.floor(products, jit_compile)
  assert [result.shape for result in floor()] == [(2, 3, 5), (3, 2)]
  (graph,) = [f.graph for f in floor._list_all_concrete_functions()]
  first, second = [op for op in graph.get_operations() if "MatMul" in op.type]
  assert first.get_attr("adj_y") and second.get_attr("transpose_a")
  # Random matrices, not zeros that a processor could be quick with.
  assert all(np.std(result) > 0.1 for result in floor())


def test_what_could_not_be_counted_is_refused():
  def loop(x):
    return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y @ y), (0, x))

  with pytest.raises(ValueError, match="not counted"):
    matrix_products.products_of(loop, tf.ones([2, 2]))
  with pytest.raises(ValueError, match="not static"):
    matrix_products.products_of(lambda n: tf.ones([n, 4]) @ tf.ones([4, 4]), tf.constant(3))
