"""Model-Augmented Actor-Critic in TensorFlow 2 / Keras."""

import pathlib
import re

from setuptools import find_packages, setup

package = pathlib.Path(__file__).with_name("maac_tf")
version = re.search(r'__version__ = "(.*)"', (package / "__init__.py").read_text())[1]
commands = sorted(path.stem for path in package.glob("[a-z]*.py") if path.stem != "checks")

setup(
  name="maac_tf",
  version=version,
  description="Model-Augmented Actor-Critic (MAAC) in TensorFlow 2 / Keras",
  license="Apache-2.0",
  # The folder gin/ becomes maac_tf/gin: site-packages/gin is gin-config's.
  packages=[*find_packages(include=["maac_tf", "maac_tf.*"]), "maac_tf.gin"],
  package_dir={"maac_tf.gin": "gin"},
  package_data={
    "maac_tf": ["policies/*/*.pb", "policies/*/variables/*"],
    "maac_tf.gin": ["*.gin", "*/*.gin"],
  },
  entry_points={
    "console_scripts": [  # maac-train is python -m maac_tf.train
      f"maac-{name.replace('_', '-')} = maac_tf.runs.command_line:console_script"
      for name in commands
    ]
  },
  python_requires=">=3.11,<3.14",
  install_requires=[
    "tensorflow>=2.19,<2.22",
    "tensorflow-probability>=0.25,<0.26",
    "tf_keras>=2.19,<2.22",  # not used here: TFP imports it
    "gymnasium[mujoco]>=1.2,<2",  # MuJoCo with Gymnasium's v5 models
    "mujoco>=3.3,<4",  # dm_control, through shimmy, does not work with 4.0.0
    "gin-config>=0.5",
    "absl-py>=2",
    "numpy>=2.1",
    "filelock>=3.12",  # one process a run directory
    "matplotlib>=3.8",  # curves
    "scipy>=1.15",  # intervals over seeds
    "tqdm>=4.60",  # the progress bar
  ],
  extras_require={
    "gpu": ["tensorflow[and-cuda]>=2.19,<2.22"],
    "dm_control": ["shimmy[dm-control]>=2"],  # tasks shimmy:dm_control/DOMAIN-TASK-v0
    "litert": ["ai-edge-litert>=2.1"],  # export --format=litert
    "onnx": ["onnx>=1.17", "onnxruntime>=1.20", "tf2onnx>=1.17"],  # export --format=onnx
    "video": ["imageio-ffmpeg>=0.5"],  # evaluate --video
    "minari": ["minari[hdf5]>=0.5"],  # train --dataset=minari:NAME, export --format=minari
    "ray": ["ray>=2.40"],  # launch/sweep.py; without Ray's tune, which nothing here needs
    "tensorboard": ["tensorboard>=2.19"],
    "dev": ["pytest>=8", "pytest-xdist>=3.5", "ruff>=0.9", "mypy>=1.15"]
    + ["nbclient>=0.10", "ipykernel>=6.29"],  # a test runs examples/tutorial.ipynb
    "docs": ["sphinx>=8", "myst-parser>=4", "furo>=2024.8"],
  },
)
