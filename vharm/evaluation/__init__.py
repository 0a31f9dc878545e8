# SPDX-License-Identifier: Apache-2.0
"""Metrics under the published protocols, tables, reports and rankings."""
