"""The figures of the report, one family per file: what is drawn as plain values, then how it looks."""
