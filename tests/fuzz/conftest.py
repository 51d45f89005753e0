"""Lets tests here import their targets and mutations, which scripts/fuzz uses as well."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
