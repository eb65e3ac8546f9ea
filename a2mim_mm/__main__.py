"""``python -m a2mim_mm`` is the command ``a2mim``."""

from .commands import main

if __name__ == '__main__':
    main()
