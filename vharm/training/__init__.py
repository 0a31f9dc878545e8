# SPDX-License-Identifier: Apache-2.0
"""One trainer for every method, and the recipes."""
