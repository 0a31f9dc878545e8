# SPDX-License-Identifier: Apache-2.0
"""`python -m vharm`: the command line, also for launchers such as torchrun."""

from .cli import main

if __name__ == "__main__":
    main()
