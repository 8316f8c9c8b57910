"""The store of large results, outside of Redis: a folder, or a bucket by its URL. What is kept in it is a blob.

May touch: `environment`, `errors`, `values`.
"""
