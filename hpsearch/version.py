"""Which hpsearch this is: alone in a file, so that any room can say so."""

__version__ = "0.1.0"
