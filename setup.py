"""Packages: the code, and ``configs/`` installed beside it as ``paddlevideo_skel/configs``."""
from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["paddlevideo_skel", "paddlevideo_skel.*"]), "paddlevideo_skel.configs"],
    package_dir={"paddlevideo_skel.configs": "configs"},
    package_data={"paddlevideo_skel.configs": ["**/*.yaml", "**/*.txt"], "paddlevideo_skel.ascend": ["*.json"]},
)
