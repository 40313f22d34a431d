"""``python -m eflib.launcher``: the same as ``eflaunch``."""

import sys

from eflib.launcher.eflaunch import main

if __name__ == "__main__":
    sys.exit(main())
