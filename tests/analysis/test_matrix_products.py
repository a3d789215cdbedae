"""Counting matrix products, and doing nothing else."""

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.analysis import matrix_products
from maac_tf.analysis.matrix_products import Product


def test_products_with_shapes_transposes_and_flop():
  a, b = tf.ones([2, 3, 4]), tf.ones([2, 5, 4])
  (product,) = matrix_products.products_of(lambda x, y: tf.matmul(x, y, transpose_b=True), a, b)
  assert product[1:] == (((2, 3, 4), (2, 5, 4)), (False, True), tf.float32)
  # NumPy's loop: 2 * 3 * 5 results of 4 multiplications and additions each.
  assert product.flop == 2 * (2 * 3 * 5) * 4
  (product,) = matrix_products.products_of(lambda x, y: tf.matmul(x, y), a[0], b[0, :4])
  assert product[1:] == (((3, 4), (4, 4)), (False, False), tf.float32)
  assert product.flop == 2 * (3 * 4) * 4
  (product,) = matrix_products.products_of(tf.matmul, a[:1], tf.transpose(b, [0, 2, 1]))
  assert product.flop == 2 * (2 * 3 * 5) * 4  # one batch of rows for two matrices


def test_shared_weights_and_repeated_products():
  x, w = tf.ones([8, 4]), tf.Variable(tf.ones([4, 4]))

  def twice(x):
    return x @ w, x @ w, tf.tanh(x) @ w

  first, second = matrix_products.products_of(twice, x)  # one of the equal ones
  assert first.operands[1] == second.operands[1]  # the weights
  assert first.operands[0] != second.operands[0]


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
    Product(("a", "b"), ((2, 3, 4), (2, 5, 4)), (False, True), tf.float32),
    Product(("c", "d"), ((6, 3), (6, 2)), (True, False), tf.float32),
  ]
  floor = matrix_products.floor(products, jit_compile)
  for count in (1, 3):
    results = floor(tf.constant(count))
    assert [result.shape for result in results] == [(2, 3, 5), (3, 2)]
    # Random matrices, not zeros that a processor could be quick with.
    assert all(np.std(result) > 0.1 for result in results)


def test_what_could_not_be_counted_is_refused():
  def loop(x):
    return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y @ y), (0, x))

  with pytest.raises(ValueError, match="not counted"):
    matrix_products.products_of(loop, tf.ones([2, 2]))
  with pytest.raises(ValueError, match="not counted"):
    matrix_products.products_of(lambda x: tf.einsum("ij,jk->ik", x, x), tf.ones([2, 2]))
  with pytest.raises(ValueError, match="not static"):
    matrix_products.products_of(lambda n: tf.ones([n, 4]) @ tf.ones([4, 4]), tf.constant(3))
