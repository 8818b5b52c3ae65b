"""Install engine/, kernels/ and two folders of recipes/ under one import name, alttrain, with the command `alttrain`.

The bare name `kernels` belongs to a Hugging Face package that transformers imports when it finds one. Every room of
engine/ that holds a Python file is a package of its own, without an `__init__.py`.
"""

import runpy
import sys
from pathlib import Path

from setuptools import setup

FOLDERS = {
    "alttrain.engine": "engine",
    "alttrain.kernels": "kernels",
    "alttrain.nano": "recipes/nano",
    "alttrain.command": "recipes/command",
}
PACKAGES = [
    ".".join((name, *room.relative_to(folder).parts))
    for name, folder in FOLDERS.items()
    for room in sorted((Path(folder), *Path(folder).rglob("*/")))
    if any(room.glob("*.py"))
]

if sys.platform != "linux":
    raise SystemExit(
        f"alttrain runs on Linux, and this is {sys.platform}: Triton has no build for it. On Windows, use WSL 2."
    )

setup(
    name="alttrain",
    version=runpy.run_path("engine/version.py")["__version__"],
    description="A distributed SFT engine that changes the reasoning structure of large reasoning models",
    license="Apache-2.0",
    python_requires=">=3.11",
    classifiers=["Operating System :: POSIX :: Linux"],
    packages=PACKAGES,
    package_dir=FOLDERS,
    package_data={
        "alttrain.engine": ["py.typed"],
        "alttrain.engine.report": ["*.jinja"],
        "alttrain.kernels": ["py.typed"],
        "alttrain.nano": ["base.*"],
    },
    entry_points={"console_scripts": ["alttrain = alttrain.command.__main__:main"]},
    install_requires=[
        "torch>=2.11,<2.14",
        "triton>=3.6",
        "deepspeed>=0.19.8,<0.20",
        "transformers>=5.17,<5.24",
        "safetensors>=0.5",
        "datasets>=4",
        "tyro>=1.0",
        "scipy",
        "scikit-learn>=1.5",
        "tqdm",
        "matplotlib",
        "jinja2>=3.1",
    ],
    extras_require={"dev": ["pytest", "pytest-xdist", "hypothesis", "ruff", "mypy"]},
)
