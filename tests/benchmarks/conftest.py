import sys
from pathlib import Path

# The benchmarks are run from the repository's root and are not installed; this folder's own name must not hide them.
sys.path.insert(0, str(Path(__file__).parents[2]))
