"""What Regatta reads: cards of data sets, readers of their on-disk layouts, and miniature stand-ins for them.

Importing this package, or any module in it, opens no file and needs neither torch nor numpy.
"""
