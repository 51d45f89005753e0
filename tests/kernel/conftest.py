"""Makes the package of the differential tests importable, as bench/differential does."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
