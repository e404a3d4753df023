"""`python -m tests.truth <file.json> [--json]`: every case of a file, what was expected and what the product answers.

Exit status 1 where an answer differs, 2 where the file has no cases.
"""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path

from tests.truth.answers import verdicts


def main() -> int:
    """Print a line for each case and the total."""
    parser = ArgumentParser(prog="python -m tests.truth", description="Cases with known answers, and what the product answers.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args()
    try:
        found = list(verdicts(options.file))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    right = sum(verdict.ok for verdict in found)
    if options.json:
        whole = {"file": str(options.file), "cases": [verdict._asdict() for verdict in found], "ok": right, "count": len(found)}
        print(json.dumps(whole, indent=1, default=str))
    else:
        for verdict in found:
            expected, got = (json.dumps(value, default=str) for value in (verdict.expected, verdict.got))
            print(f"{verdict.id}  expected {expected}  got {got}  {'ok' if verdict.ok else 'DIFFERS'}")
        print(f"{right} of {len(found)} ok")
    return 0 if right == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
