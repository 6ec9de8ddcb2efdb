#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: long serial timeout=1500
"""The large runs of the models."""

import models

models.main("large")
