"""Where the file of real preferences lies that the bands are measured on; run as a script, it prints the path if it is there.

It is the first 400 rows of instruction-data-with-preference.json, rasbt/LLMs-from-scratch; not shipped with this project.
"""

from pathlib import Path

PREFERENCE = Path(__file__).resolve().parents[3] / "shared" / "data" / "instruction" / "preference.json"

if __name__ == "__main__" and PREFERENCE.is_file():
    print(PREFERENCE)  # noqa: T201
