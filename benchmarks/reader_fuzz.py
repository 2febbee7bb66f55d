"""docs/results/reader-fuzz.json: what every reader of files makes of hundreds of thousands of damaged documents.

    nice python benchmarks/reader_fuzz.py --count 20000 --out docs/results/reader-fuzz.json

The readers, their whole documents and what is right of a value they give stand in tests/damaged_readers.py, and how
documents are damaged in tests/mutated_bytes.py; the tests try the same with fewer. Right is a refusal by a
``KdcamError`` in short lines, or a value as another parser or the format itself has it; all else is counted as
unexpected.
"""

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from damaged_readers import READERS, try_reader

from kdcam.runtime.machine import describe_machine, package_versions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000, help="damaged documents for each reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="names of readers; all unless given")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    found = {}
    for name in arguments.only or READERS:
        with tempfile.TemporaryDirectory() as folder:
            counts = try_reader(READERS[name], Path(folder), count=arguments.count, seed=arguments.seed)
        found[name] = {**counts._asdict(), "unexpected": len(counts.unexpected)}
        print(name, found[name], flush=True)
        for line in counts.unexpected[:20]:
            print("  ", line, flush=True)
    total = {
        key: sum(one[key] for one in found.values()) for key in ("inputs", "refused", "read", "unexpected")
    }
    print("all", total)
    if arguments.out is not None:
        record = {
            "command": "python benchmarks/reader_fuzz.py " + " ".join(sys.argv[1:]),
            "machine": describe_machine(),
            "versions": package_versions(),
            "seed": arguments.seed,
            "readers": found,
            "total": total,
        }
        arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    sys.exit(bool(total["unexpected"]))


if __name__ == "__main__":
    main()
