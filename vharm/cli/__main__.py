# SPDX-License-Identifier: Apache-2.0
"""`python -m vharm.cli`: the command where no entry point is installed."""

from . import main

if __name__ == "__main__":
    main()
