"""Install engine/, kernels/ and recipes/nano/ under one import name, alttrain.

The bare name `kernels` belongs to a Hugging Face package that transformers imports when it finds one. Every room of
engine/ that holds a Python file is a package of its own, without an `__init__.py`.
"""

from pathlib import Path

from setuptools import setup

FOLDERS = {"alttrain.engine": "engine", "alttrain.kernels": "kernels", "alttrain.nano": "recipes/nano"}
PACKAGES = [
    ".".join((name, *room.relative_to(folder).parts))
    for name, folder in FOLDERS.items()
    for room in sorted((Path(folder), *Path(folder).rglob("*/")))
    if any(room.glob("*.py"))
]

setup(
    name="alttrain",
    version="0.1.0",
    description="A distributed SFT engine that changes the reasoning structure of large reasoning models",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=PACKAGES,
    package_dir=FOLDERS,
    package_data={"alttrain.engine": ["py.typed"], "alttrain.kernels": ["py.typed"], "alttrain.nano": ["base.*"]},
    install_requires=[
        "torch>=2.11,<2.14",
        "triton>=3.6; platform_system == 'Linux'",
        "deepspeed>=0.19.8,<0.20",
        "transformers>=5.17,<5.24",
        "safetensors>=0.5",
        "datasets>=4",
        "tyro>=1.0",
        "scipy",
        "tqdm",
        "matplotlib",
    ],
    extras_require={"dev": ["pytest", "pytest-xdist", "hypothesis", "ruff", "mypy"]},
)
