"""Make `docs/demo.jpg`, the picture of the README, from what `make demo` has left in `runs/demo`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent
SOURCE = DOCS.parent / "runs" / "demo" / "comparison.png"
LARGEST = 300_000


def main() -> None:
    """Write the picture, 1200 pixels wide at most.

    Raises:
        SystemExit: If the demo has left no picture, or this one takes more than 300 kB.
    """
    if not SOURCE.exists():
        sys.exit(f"there is no {SOURCE}; run `make demo`, then this again")
    with Image.open(SOURCE) as picture:
        smaller = picture.convert("RGB")
    smaller.thumbnail((1200, 1200), Image.Resampling.LANCZOS)
    target = DOCS / "demo.jpg"
    smaller.save(target, quality=88, optimize=True)
    size = target.stat().st_size
    if size > LARGEST:
        sys.exit(f"{target} takes {size:,} bytes, and may take {LARGEST:,}; lower its quality in {__file__}")
    print(f"{target}: {size:,} bytes")


if __name__ == "__main__":
    main()
