"""Install the folders engine/ and kernels/ under one import name, alttrain.

The bare name `kernels` belongs to a Hugging Face package that transformers imports when it finds one.
"""

from setuptools import setup

PACKAGES = {"alttrain.engine": "engine", "alttrain.kernels": "kernels"}

setup(
    name="alttrain",
    version="0.1.0",
    description="A distributed SFT engine that changes the reasoning structure of large reasoning models",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=list(PACKAGES),
    package_dir=PACKAGES,
    package_data={name: ["py.typed"] for name in PACKAGES},
    install_requires=[
        "torch>=2.11,<2.14",
        "triton>=3.6; platform_system == 'Linux'",
        "deepspeed>=0.19.8,<0.20",
        "transformers>=5.17,<5.24",
        "safetensors>=0.5",
        "datasets>=4",
        "tyro>=1.0",
        "scipy",
        "statsmodels>=0.14",
        "tqdm",
        "matplotlib",
    ],
    extras_require={"dev": ["pytest", "pytest-xdist", "hypothesis", "ruff", "mypy"]},
)
