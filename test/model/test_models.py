#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: serial timeout=600
"""The small runs of the models: what holds, searched to the end, and the mutants."""

import models

models.main("small")
