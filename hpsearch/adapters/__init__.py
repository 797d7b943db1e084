"""Between an objective and the library that trains in it: thin, each behind an extra; examples: docs/adapters.md.

Imported by the user's code alone. Each module needs its library as it is imported, so nothing is re-exported here.
"""
