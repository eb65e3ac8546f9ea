"""Packaging of a2mim_mm.

`a2mim_mm/.mim/{configs,tools}` are links to the folders of the same name, and copies in a wheel. openmim
looks for them there when it is asked for `mim train a2mim_mm CONFIG`.
"""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent


class EditableWheel(editable_wheel):
    """Tells openmim and mmengine where the package is after `pip install -e`.

    They look in site-packages, and then in the folder that the first line of `top_level.txt` names.
    """

    def _ensure_dist_info(self):
        super()._ensure_dist_info()
        (Path(self.dist_info_dir) / 'top_level.txt').write_text(f'{ROOT / "a2mim_mm"}\na2mim_mm\n')


def requirements(*names):
    """The text of `requirements/<name>.txt`; setuptools drops the comments."""
    return '\n'.join((ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8') for name in names)


def version():
    """The version, read without importing the package: an isolated build has no torch."""
    scope = {}
    exec((ROOT / 'a2mim_mm' / 'version.py').read_text(encoding='utf-8'), scope)
    return scope['__version__']


readme = ROOT / 'README.md'
setup(
    name='a2mim_mm',
    version=version(),
    description='A2MIM masked image modeling for mmengine, mmpretrain, mmdet and mmseg',
    long_description=readme.read_text(encoding='utf-8') if readme.exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    cmdclass={'editable_wheel': EditableWheel},
    packages=find_packages(include=['a2mim_mm', 'a2mim_mm.*']),
    package_data={'a2mim_mm': ['.mim/configs/**/*', '.mim/tools/**/*']},
    exclude_package_data={'': ['*.pyc', '.mim/tools/dev/*', '.mim/**/__pycache__/*']},
    include_package_data=False,
    install_requires=requirements('runtime', 'mminstall'),
    extras_require={
        'all': requirements('optional', 'channels', 'convert', 'tests'),
        'channels': requirements('channels'),
        'convert': requirements('convert'),
        'optional': requirements('optional'),
        'tests': requirements('tests'),
        'mim': requirements('mminstall'),
    },
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    entry_points={'console_scripts': ['a2mim = a2mim_mm.commands:main']},
    zip_safe=False,
)
