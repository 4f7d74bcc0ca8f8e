"""Packaging. ops/, projectors/ and pretrained/ lie at the top of the checkout and are installed inside stylegan_invert."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "stylegan_invert" / "__init__.py").read_text())[1]
AT_THE_TOP = ("ops", "projectors", "pretrained")

setup(
    name="stylegan-invert",
    version=VERSION,
    description="GAN inversion for official StyleGAN2 network files: a safe reader, and projection into W and W+",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: C++",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["stylegan_invert", "stylegan_invert.*"])
    + [f"stylegan_invert.{name}" for name in AT_THE_TOP],
    package_dir={f"stylegan_invert.{name}": name for name in AT_THE_TOP},
    package_data={
        "stylegan_invert": ["py.typed"],
        "stylegan_invert.ops": ["csrc/*"],
        "stylegan_invert.analysis": ["report.html", "report.js"],
        "stylegan_invert.pretrained": [
            "*.pkl",
            "*.pt",
            "*.png",
            "*.safetensors",
            "*.md",
            "licenses/*",
            "directions/*/*",
        ],
    },
    install_requires=[
        "torch>=2.4",  # files of torch.save are not read by torch, so its holes in torch.load do not matter
        "numpy",
        "scipy",
        "pillow>=12.3",  # the first without the known holes in its decoders, of 2023 to July 2026
        "click>=8.0",
        "ninja",
        "requests",
        "tqdm",
        "safetensors",
        "imageio-ffmpeg",
    ],
    extras_require={
        "report": ["matplotlib"],
        "heic": ["pillow-heif"],
        "align": ["face-alignment>=1.5"],
        "audio": ["soundfile"],
        "app": ["gradio>=6,<7", "starlette"],  # starlette is the web server under Gradio
        "hub": ["huggingface-hub>=1.2"],  # the first whose downloads can be limited in size
        "docs": ["sphinx>=8", "furo", "myst-parser", "sphinx-click"],
        "test": [
            "matplotlib",
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "mypy>=1.14",
            "ruff",
            "types-requests",
            "types-tqdm",
            "setuptools",
            "wheel",
            "packaging",
            "torchmetrics>=1.0",
            "huggingface-hub>=1.2",
        ],
    },
    entry_points={"console_scripts": ["stylegan-invert = stylegan_invert.cli.main:main"]},
)
