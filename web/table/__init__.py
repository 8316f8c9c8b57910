"""The table: what each route of the API takes and answers with. Requests are checked by it, and OpenAPI is made of it.

May touch: the floors below, requests; not the routes themselves.
"""
