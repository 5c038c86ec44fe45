"""Parts of scripts/mutants.py: small faults, the tests that are nearest to a file, and a run of these tests on a fault."""
