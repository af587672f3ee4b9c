"""`python -m benchmarks` (or `kindred bench`): every benchmark in turn; each runs by itself too."""

from __future__ import annotations

import argparse
import subprocess
import sys

PARTS = {
    "encoder": "Kindred's encoder against SentenceTransformer.encode as it comes",
    "store": "saving, loading and following the feed; bytes a user in Redis",
    "update": "decode and update, in CPU time",
    "transfer": "top-k at 10k to 1M donors, transfer and answer per newcomer, bytes a donor",
    "swap": "gaps between answers while releases are exchanged; throughput while another space is filled",
    "delivery": "exactly once against at least once, on Apache Kafka (Java 17)",
    "worker": "end to end against the encoder alone; with the dummy encoder; memory at a million users",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="; ".join(f"{n}: {t}" for n, t in PARTS.items()))
    parser.add_argument("--json", action="store_true", help="figures as JSON, one document a part")
    chosen = parser.parse_args()
    for part in chosen.parts or PARTS:
        arguments = ["--json"] if chosen.json else []
        ended = subprocess.run([sys.executable, "-m", f"benchmarks.{part}", *arguments], check=False).returncode
        if ended:
            return ended
    return 0


if __name__ == "__main__":
    sys.exit(main())
