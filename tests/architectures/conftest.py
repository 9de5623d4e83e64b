"""What the proofs share: `proof`, the folder beside this file, is importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
